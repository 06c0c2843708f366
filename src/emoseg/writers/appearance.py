"""The look of emotions for people: colours, one-character marks, plain words, and clock times.

Terminal table, figure and HTML report share it, so that a label has the same colour and words everywhere. Colours and
words depend on the emotion space alone, not on the recording.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emoseg.emotion import EmotionSpace, mood_at
from emoseg.system.names import one_line
from emoseg.types import STATES, UNSURE, Analysis


@dataclass(frozen=True)
class Swatch:
    """The colour of one label on a light and on a dark page, as ``#rrggbb``."""

    light: str
    dark: str


# Chosen by the smallest CIE76 difference of any pair under normal vision and simulated protan, deutan and tritan
# vision (Machado, Oliveira and Fernandes 2009, severity 1): above 20 for the quadrants, 13 for the first eight others.
QUADRANT_SWATCHES = {
    "Q1": Swatch("#DDA22E", "#E9B94E"),
    "Q2": Swatch("#C04A5A", "#D4606F"),
    "Q3": Swatch("#2F5FA8", "#5C8AE0"),
    "Q4": Swatch("#4FA893", "#7FD4BC"),
}
OTHER_SWATCHES = tuple(
    Swatch(light, dark)
    for light, dark in (
        ("#882255", "#E0808F"),
        ("#8FB339", "#B9B94A"),
        ("#332288", "#6F8AF0"),
        ("#E58FA0", "#7C6A9E"),
        ("#117733", "#A9784C"),
        ("#5AA9D6", "#9AD8F5"),
        ("#4F6BC9", "#F2B8C6"),
        ("#AA4499", "#E6D68A"),
        ("#CC6677", "#CF74C2"),
        ("#7A4A21", "#B8487F"),
        ("#999933", "#4FBFAB"),
        ("#44AA99", "#3E9E5C"),
    )
)

# States are grey, because none of them is an emotion.
STATE_SWATCHES = {
    "unsure": Swatch("#B9B6AE", "#85868E"),
    "speech": Swatch("#8A8982", "#A9AAB2"),
    "noise": Swatch("#6A6963", "#5F616A"),
    "tone": Swatch("#A09C90", "#8D8F98"),
    "silence": Swatch("#E2DFD7", "#3A3C44"),
}
STATE_MARKS = {"unsure": "?", "speech": ":", "noise": "~", "tone": "-", "silence": "."}


def answers(analysis: Analysis) -> tuple[str, ...]:
    """Return the labels of the space, then the states (unsure, speech, ...) that occur in the analysis."""
    labels = analysis.space.labels
    given = {analysis.song.label, *(s.label for s in analysis.spans), *(s.label for s in analysis.segments)}
    return (*labels, *(state for state in STATES if state in given and state not in labels))


def label_with_rule(analysis: Analysis, label: str) -> str:
    """Return an answer for formats that have no room for the rules: "unsure" carries its own."""
    if label != UNSURE or UNSURE in analysis.space.labels:
        return label
    return f"{UNSURE} (p < {analysis.unsure_below:.2f})"


def swatches(labels: Sequence[str]) -> tuple[Swatch, ...]:
    """Return a colour per label: fixed for the quadrants, by position for all others (repeating after twelve)."""
    return tuple(
        QUADRANT_SWATCHES.get(label, OTHER_SWATCHES[i % len(OTHER_SWATCHES)]) for i, label in enumerate(labels)
    )


def answer_swatches(names: Sequence[str], space: EmotionSpace) -> tuple[Swatch, ...]:
    """Return a colour per answer: `swatches` of the labels, and greys for the states."""
    return (*swatches(space.labels), *(STATE_SWATCHES[name] for name in names[len(space.labels) :]))


def answer_marks(names: Sequence[str], space: EmotionSpace) -> tuple[str, ...]:
    """Return one character per answer: `marks` of the labels, and signs for the states."""
    return (*marks(space.labels), *(STATE_MARKS[name] for name in names[len(space.labels) :]))


def marks(labels: Sequence[str]) -> tuple[str, ...]:
    """Return one distinct character per label, such as ``1 2 3 4`` for the quadrants.

    It is the first letter or digit that no other label has, after the part that all labels begin with; ``#`` when none
    is left.
    """
    first, last = min(labels), max(labels)
    shared = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    chosen: list[str] = []
    for label in labels:
        candidates = label[shared:] + label[:shared] + "123456789abcdefghijklmnopqrstuvwxyz"
        free = (c for c in candidates if c.isalnum() and c not in chosen)
        chosen.append(next(free, "#"))
    return tuple(chosen)


def words(space: EmotionSpace, label: str) -> tuple[str, ...]:
    """Return plain words for a label, such as ``("happy", "excited")`` for Q1; empty where the label is the word."""
    if label not in space.labels:
        return ()
    if label not in QUADRANT_SWATCHES and space.name not in ("valence", "arousal"):
        return ()
    mood = mood_at(space.axes[space.index(label)])
    return mood.caption if mood else ()


def caption(space: EmotionSpace, label: str) -> str:
    """Return the label with its words, such as ``"Q1 happy/excited"``."""
    return " ".join([one_line(label), "/".join(words(space, label))]).strip()


def on_colour(colour: str) -> str:
    """Return black or white text, whichever stands out more on `colour`.

    References
    ----------
    W3C, Web Content Accessibility Guidelines 2.2, "relative luminance" and "contrast ratio".
    """
    red, green, blue = (_linear(int(colour[i : i + 2], 16) / 255) for i in (1, 3, 5))
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#000000" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "#ffffff"


def clock(seconds: float, *, decimals: int = 0) -> str:
    """Return a time as ``m:ss``, or ``h:mm:ss`` from one hour on, with `decimals` digits after the seconds."""
    ticks = round(max(seconds, 0.0) * 10**decimals)
    whole, fraction = divmod(ticks, 10**decimals)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    tail = f".{fraction:0{decimals}d}" if decimals else ""
    return f"{hours}:{minute:02d}:{second:02d}{tail}" if hours else f"{minute}:{second:02d}{tail}"


def file_name(path: str) -> str:
    """Return a recording's file name without its folders."""
    return one_line(Path(path).name or path)


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else float(((channel + 0.055) / 1.055) ** 2.4)
