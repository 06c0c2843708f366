"""What the stages of an analysis pass on: recordings, segments, and results.

Conventions: times are seconds from the start of the recording; probabilities are in the order of
`EmotionSpace.labels`; valence and arousal are in [-1, 1] and never travel as a bare pair.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from emoseg.emotion import EmotionSpace

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

UNLABELLED = -1  # the given label of the segments of a song that has none


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


AXES = ("valence", "arousal", "valence_sd", "arousal_sd")
"""The attributes of an emotion that place it in the valence-arousal plane."""

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
