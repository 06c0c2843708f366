"""What the emotion of a song is called in a file's tags.

The field that players show (mood) gets one plain word, and only where it is empty or emoseg's own. Everything else goes
into fields that begin with ``EMOSEG_``. Numbers are three digits from 000 to 100, because players sort and compare tags
as text: 050 is neutral in valence and arousal.
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
    """What there is to say of a song; probabilities of labels are in [0, 1], valence and arousal in [-1, 1]."""

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
    """Return the mood of a label in one word: the label itself where it has no place in the plane.

    None where the label is not one of the space's, such as an answer that leaves the emotion open.
    """
    if label not in space.labels:
        return None
    mood = mood_at(space.axes[space.index(label)])
    return mood.tag.capitalize() if mood else label


def own_fields(facts: SongFacts, space: EmotionSpace) -> dict[str, str]:
    """Return emoseg's own fields for a song, all with the prefix."""
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
