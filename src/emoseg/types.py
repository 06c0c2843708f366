"""What travels between the stages: recordings, segments, emotion spaces and their results.

Conventions: times are seconds from the start of the recording; probabilities are in the order of
`EmotionSpace.labels`; valence and arousal are in [-1, 1] and never travel as a bare pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoseg.errors import ConfigError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

UNLABELLED = -1  # the given label of the segments of a song that has none


@dataclass(frozen=True)
class Axis:
    """Where a label lies in the valence-arousal plane; `None` on an axis that the label says nothing about."""

    valence: float | None = None
    arousal: float | None = None


@dataclass(frozen=True)
class EmotionSpace:
    """A closed set of emotion labels, in a fixed order, and what each means in valence and arousal.

    Parameters
    ----------
    name : str
        ``"4q"``, ``"valence"``, ``"arousal"`` or the user's own.
    labels : tuple of str
        At least two distinct labels; the order of every probability vector.
    axes : tuple of Axis
        One per label, in the same order. Labels of a user's own have empty axes.
    rule : str
        How labels were made from ratings (thresholds and scale), printed with every result.
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
        """Build the space of a user's own labels; known sets (the quadrants) keep their axes."""
        ordered = tuple(sorted(set(labels)))
        if set(ordered) <= set(QUADRANTS.labels) and len(ordered) >= 2:
            picked = [i for i, label in enumerate(QUADRANTS.labels) if label in ordered]
            if len(picked) == len(QUADRANTS.labels):
                return QUADRANTS
            return cls("4q", tuple(QUADRANTS.labels[i] for i in picked), tuple(QUADRANTS.axes[i] for i in picked))
        return cls(name, ordered, tuple(Axis() for _ in ordered))

    def index(self, label: str) -> int:
        """Return the position of `label` in every probability vector of this space."""
        return self.labels.index(label)

    def derived(self, probabilities: NDArray[Any], axis: str) -> Float64 | None:
        """Valence or arousal derived from probabilities: the mean of the labels' positions on that axis.

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

    def spread(self, probabilities: NDArray[Any], axis: str) -> Float64 | None:
        """Return the standard deviation of the labels' positions on an axis; arguments and shape as for `derived`."""
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
        """Inverse of `to_json`."""
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
class Recording:
    """Decoded sound: mono float32 samples of shape (n,), nominally in [-1, 1], and where they came from."""

    samples: Float32
    sample_rate_hz: int
    path: str = "<array>"


@dataclass(frozen=True)
class SegmentBatch:
    """Consecutive segments of one recording.

    `samples` has shape (B, n); `start_s` and `end_s` have shape (B,). `end_s` is the end of real sound: the last
    segment may be padded, and then its end lies before ``start_s + n / sample_rate_hz``.
    """

    start_s: Float64
    end_s: Float64
    samples: Float32


@dataclass(frozen=True)
class Section:
    """A stretch of a song with one true label."""

    start_s: float
    end_s: float
    label: str


UNSURE = "unsure"
SOUNDS = ("speech", "noise", "tone", "silence")
STATES = (UNSURE, *SOUNDS)
"""What an answer may say instead of a label of the space; a state that is itself a label of the space is not used."""


@dataclass(frozen=True)
class SegmentEmotion:
    """The emotion of one segment.

    Parameters
    ----------
    start_s, end_s : float
    label : str
        The answer for this segment alone: a label of the space, or one of `STATES`.
    probabilities : tuple of float
        In the order of the space; empty where the sound is not music.
    valence, arousal : float or None
        Derived from the probabilities; None without music or without the axis.
    valence_sd, arousal_sd : float or None
        Standard deviation of the label's place on the axis under the probabilities: 0 where all labels with any
        probability lie at one place, 1 where both ends are equally probable.
    sound : str
        ``"music"`` or one of `SOUNDS`.
    """

    start_s: float
    end_s: float
    label: str
    probabilities: tuple[float, ...]
    valence: float | None
    arousal: float | None
    valence_sd: float | None = None
    arousal_sd: float | None = None
    sound: str = "music"


@dataclass(frozen=True)
class SongEmotion:
    """The emotion of a whole recording, from the segments of it that are music.

    Parameters
    ----------
    label : str
        The answer: a label of the space, ``"unsure"``, or what the recording is where hardly any of it is music.
    probabilities : tuple of float
        Calibrated, in the order of the space; empty where the recording is not music.
    confidence : float
        The largest of the probabilities; 0 where there are none.
    valence, arousal, valence_sd, arousal_sd : float or None
        As in `SegmentEmotion`.
    """

    label: str
    probabilities: tuple[float, ...]
    confidence: float
    valence: float | None
    arousal: float | None
    valence_sd: float | None = None
    arousal_sd: float | None = None


@dataclass(frozen=True)
class Span:
    """A stretch of one answer: a label of the space, or one of `STATES`; spans are the smoothed segments."""

    start_s: float
    end_s: float
    label: str


@dataclass(frozen=True)
class Change:
    """A change point: where one span ends and the next begins."""

    time_s: float
    before: str
    after: str


@dataclass(frozen=True)
class Analysis:
    """The emotion of one recording over time; what every writer writes.

    `peaks` is the waveform's envelope for pictures, shape (P, 2), minimum and maximum of each of P equal stretches.
    `unsure_below` and `mean_span_s` are the settings of the rules that `rules` tells in words.
    """

    path: str
    duration_s: float
    model_name: str
    model_version: str
    space: EmotionSpace
    song: SongEmotion
    segments: tuple[SegmentEmotion, ...]
    spans: tuple[Span, ...]
    peaks: Float32 = field(repr=False, compare=False)
    unsure_below: float = 0.0
    mean_span_s: float = 10.0

    @property
    def changes(self) -> tuple[Change, ...]:
        """The change points, in order."""
        return tuple(Change(b.start_s, a.label, b.label) for a, b in pairwise(self.spans))

    def spans_of_segments(self) -> tuple[Span, ...]:
        """Return for each segment the span that its middle lies in."""
        ends = np.array([span.end_s for span in self.spans])
        middles = np.array([(segment.start_s + segment.end_s) / 2 for segment in self.segments])
        return tuple(self.spans[i] for i in np.minimum(np.searchsorted(ends, middles, side="right"), len(ends) - 1))

    @property
    def rules(self) -> dict[str, str]:
        """How the answers were made, in words, to be printed with every result."""
        return {
            UNSURE: f"the most probable label has a probability below {self.unsure_below:.2f}",
            "spans": "the most probable course of the segments' labels where one emotion lasts "
            f"{self.mean_span_s:g} s on average",
            "sound": "speech, noise, test tones and silence are found in the sound itself and are given no emotion",
        }


@dataclass(frozen=True)
class AnalysisFailure:
    """A recording that could not be analysed, and why."""

    path: str
    error_type: str
    message: str
