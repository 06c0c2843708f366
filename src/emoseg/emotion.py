"""Emotion spaces, and the table of mood words with their positions in the valence-arousal plane.

An emotion space is a closed set of labels in a fixed order. `QUADRANTS`, `VALENCE` and `AROUSAL` are built in;
`EmotionSpace.from_labels` makes a space of other labels. Valence and arousal are in [-1, 1] and are always named, never
passed as a bare pair.

`MOODS` has the words of Russell's circumplex. They are used in the captions of reports, in the mood field of tags, and
in questions to a library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoseg.errors import ConfigError


@dataclass(frozen=True)
class Axis:
    """The position of a label or word in the valence-arousal plane; None on an axis where it has no position."""

    valence: float | None = None
    arousal: float | None = None


@dataclass(frozen=True)
class EmotionSpace:
    """A closed set of emotion labels in a fixed order, and the place of each in the valence-arousal plane.

    Parameters
    ----------
    name : str
        ``"4q"``, ``"valence"``, ``"arousal"`` or the user's own.
    labels : tuple of str
        At least two distinct labels; the order of every probability vector.
    axes : tuple of Axis
        One per label, in the same order. Labels of a user's own have empty axes.
    rule : str
        How labels were made from ratings (thresholds and scale); printed with every result.

    Raises
    ------
    ConfigError
        There are fewer than two distinct labels, a label occurs twice, or `axes` has another length than `labels`.
    """

    name: str
    labels: tuple[str, ...]
    axes: tuple[Axis, ...]
    rule: str = ""

    def __post_init__(self) -> None:
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise ConfigError(f"emotion space {self.name!r}: needs two or more distinct labels, got {self.labels}")
        if len(self.axes) != len(self.labels):
            raise ConfigError(f"emotion space {self.name!r}: {len(self.labels)} labels but {len(self.axes)} axes")

    @classmethod
    def from_labels(cls, labels: Sequence[str], *, name: str = "labels") -> EmotionSpace:
        """Return the space of a user's own labels, sorted, each once; the quadrants keep their places and order.

        Raises
        ------
        ConfigError
            There are fewer than two distinct labels.
        """
        ordered = tuple(sorted(set(labels)))
        if set(ordered) <= set(QUADRANTS.labels) and len(ordered) >= 2:
            picked = [i for i, label in enumerate(QUADRANTS.labels) if label in ordered]
            if len(picked) == len(QUADRANTS.labels):
                return QUADRANTS
            return cls("4q", tuple(QUADRANTS.labels[i] for i in picked), tuple(QUADRANTS.axes[i] for i in picked))
        return cls(name, ordered, tuple(Axis() for _ in ordered))

    def index(self, label: str) -> int:
        """Return the position of `label` in every probability vector of this space.

        Raises
        ------
        ValueError
            The space has no such label.
        """
        return self.labels.index(label)

    def derived(self, probabilities: NDArray[Any], axis: str) -> NDArray[np.float64] | None:
        """Return valence or arousal derived from probabilities: the mean of the labels' positions on that axis.

        Parameters
        ----------
        probabilities : array, shape (..., K)
        axis : {"valence", "arousal"}

        Returns
        -------
        array, shape (...), in [-1, 1], or None where a label has no position on the axis.
        """
        positions = [getattr(a, axis) for a in self.axes]
        if any(p is None for p in positions):
            return None
        return np.asarray(np.asarray(probabilities, dtype=np.float64) @ np.asarray(positions, dtype=np.float64))

    def spread(self, probabilities: NDArray[Any], axis: str) -> NDArray[np.float64] | None:
        """Return the standard deviation of the labels' positions on an axis.

        Arguments and shape are those of `derived`. The result is in [0, 1].
        """
        mean = self.derived(probabilities, axis)
        if mean is None:
            return None
        positions = np.array([getattr(a, axis) for a in self.axes], dtype=np.float64)
        square = np.asarray(probabilities, dtype=np.float64) @ positions**2
        return np.asarray(np.sqrt(np.maximum(square - mean**2, 0.0)))

    def to_json(self) -> dict[str, Any]:
        """Return the space as in the analysis schema."""
        axes = {
            label: {"valence": a.valence, "arousal": a.arousal} for label, a in zip(self.labels, self.axes, strict=True)
        }
        return {"name": self.name, "labels": list(self.labels), "axes": axes, "rule": self.rule}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EmotionSpace:
        """Return the space that `to_json` described."""
        labels = tuple(data["labels"])
        axes = tuple(Axis(**data["axes"][label]) for label in labels)
        return cls(data["name"], labels, axes, data.get("rule", ""))


QUADRANTS = EmotionSpace(
    "4q",
    ("Q1", "Q2", "Q3", "Q4"),
    (Axis(1.0, 1.0), Axis(-1.0, 1.0), Axis(-1.0, -1.0), Axis(1.0, -1.0)),
    "Russell's quadrants: Q1 high valence high arousal, Q2 low valence high arousal, "
    "Q3 low valence low arousal, Q4 high valence low arousal",
)

VALENCE = EmotionSpace("valence", ("low valence", "high valence"), (Axis(valence=-1.0), Axis(valence=1.0)))
AROUSAL = EmotionSpace("arousal", ("low arousal", "high arousal"), (Axis(arousal=-1.0), Axis(arousal=1.0)))


@dataclass(frozen=True)
class Mood:
    """The words for one place in the valence-arousal plane.

    Parameters
    ----------
    axis : Axis
        The place: -1, 0 or 1 on each axis.
    words : tuple of str
        Lower case, the most telling first. The first two caption the place in reports.
    tag : str
        The one of `words` that goes into the mood field of a file's tags, which players show without any comment.
    """

    axis: Axis
    words: tuple[str, ...]
    tag: str

    @property
    def caption(self) -> tuple[str, ...]:
        """The words that reports show beside a label."""
        return self.words[:2]


MOODS: tuple[Mood, ...] = (
    Mood(Axis(1, 1), ("happy", "excited"), "happy"),
    Mood(Axis(-1, 1), ("angry", "tense"), "tense"),
    Mood(Axis(-1, -1), ("sad", "gloomy"), "sad"),
    Mood(Axis(1, -1), ("calm", "content", "relaxed"), "calm"),
    Mood(Axis(1, 0), ("pleasant",), "pleasant"),
    Mood(Axis(-1, 0), ("unpleasant",), "unpleasant"),
    Mood(Axis(0, 1), ("energetic",), "energetic"),
    Mood(Axis(0, -1), ("quiet",), "quiet"),
)
"""All mood words, from Russell (1980), "A circumplex model of affect", and close synonyms."""

MOOD_PLACES: Mapping[str, Axis] = MappingProxyType({word: mood.axis for mood in MOODS for word in mood.words})
"""The place of each mood word in the valence-arousal plane."""


def mood_at(axis: Axis) -> Mood | None:
    """Return the mood words for the signs of a place; None for the middle of the plane.

    An unknown valence or arousal counts as 0.
    """
    place = Axis(_sign(axis.valence), _sign(axis.arousal))
    return next((mood for mood in MOODS if mood.axis == place), None)


def _sign(value: float | None) -> int:
    return 0 if not value else (1 if value > 0 else -1)
