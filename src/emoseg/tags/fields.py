"""The tag fields that describe the emotion of a song.

The mood field, which players show, gets one plain word, and only if it is empty or was written by emoseg. Everything
else goes into fields that begin with ``EMOSEG_``. Numbers have three digits, from 000 to 100, because players sort and
compare tags as text; 050 is neutral in valence and arousal.
"""

from __future__ import annotations

from dataclasses import dataclass

from emoseg.emotion import EmotionSpace, mood_at
from emoseg.types import Analysis

PREFIX = "EMOSEG_"
MOOD_FIELD = f"{PREFIX}MOOD"
SCALE = "000-100; valence and arousal: 050 is neutral"


@dataclass(frozen=True)
class SongFacts:
    """The facts that tags hold: label, confidence in [0, 1], valence and arousal in [-1, 1] or None, and model."""

    label: str
    confidence: float
    valence: float | None
    arousal: float | None
    model: str

    @classmethod
    def of(cls, analysis: Analysis) -> SongFacts:
        """Return the facts of an analysis."""
        song = analysis.song
        model = f"{analysis.model_name} {analysis.model_version}"
        return cls(song.label, song.confidence, song.valence, song.arousal, model)


def mood_word(label: str, space: EmotionSpace) -> str | None:
    """Return one word for a label: its mood, or the label itself if it has no place in the valence-arousal plane.

    The result is None for an answer that is not a label of the space, such as ``"unsure"``.
    """
    if label not in space.labels:
        return None
    mood = mood_at(space.axes[space.index(label)])
    return mood.tag.capitalize() if mood else label


def own_fields(facts: SongFacts, space: EmotionSpace) -> dict[str, str]:
    """Return emoseg's own fields for a song by their names, which begin with `PREFIX`."""
    mood = mood_word(facts.label, space)
    fields = {
        "MOOD": mood,
        "LABEL": facts.label,
        "CONFIDENCE": _percent(facts.confidence),
        "VALENCE": None if facts.valence is None else _percent((facts.valence + 1) / 2),
        "AROUSAL": None if facts.arousal is None else _percent((facts.arousal + 1) / 2),
        "SCALE": SCALE,
        "MODEL": facts.model,
    }
    return {PREFIX + name: value for name, value in fields.items() if value is not None}


def _percent(share: float) -> str:
    return f"{round(100 * min(max(share, 0.0), 1.0)):03d}"
