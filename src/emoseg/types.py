"""The data classes of an analysis: recordings, batches of segments, and results.

Conventions: times are seconds from the start of the recording; probabilities are in the order of
`EmotionSpace.labels`; valence and arousal are in [-1, 1] and are always named, never passed as a bare pair.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from emoseg.emotion import EmotionSpace
from emoseg.errors import ConfigError

if TYPE_CHECKING:
    import os
    from pathlib import Path
    from types import ModuleType

    import pandas
    from matplotlib.figure import Figure

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

UNLABELLED = -1
"""Stands for the given label of the segments of songs that have none."""


@dataclass(frozen=True)
class Recording:
    """Decoded mono sound.

    Parameters
    ----------
    samples : array of float32, shape (n,)
        Nominally in [-1, 1].
    sample_rate_hz : int
    path : str
        The file that the samples came from.
    """

    samples: Float32
    sample_rate_hz: int
    path: str = "<array>"


@dataclass(frozen=True)
class SegmentBatch:
    """Consecutive segments of one recording.

    Parameters
    ----------
    start_s, end_s : array, shape (B,)
        In seconds. The last segment of a recording may be padded; its `end_s` is the end of the recording, before
        ``start_s + n / sample_rate_hz``.
    samples : array of float32, shape (B, n)
        Mono sound, nominally in [-1, 1].
    """

    start_s: Float64
    end_s: Float64
    samples: Float32


@dataclass(frozen=True)
class Section:
    """A stretch of a song with one true label; times are in seconds."""

    start_s: float
    end_s: float
    label: str


AXES = ("valence", "arousal", "valence_sd", "arousal_sd")
"""The attributes of an emotion that place it in the valence-arousal plane."""

UNSURE = "unsure"
SOUNDS = ("speech", "noise", "tone", "silence")
STATES = (UNSURE, *SOUNDS)
"""Answers that are not labels of the space. A state with the same name as a label of the space is not used."""


class _Probabilities:
    """Access to probabilities by label, for segments and songs."""

    probabilities: tuple[float, ...]
    labels: tuple[str, ...]

    def probability(self, label: str) -> float | None:
        """Return the probability of a label, in [0, 1]; None if the sound is not music.

        Raises
        ------
        ConfigError
            The emotion space has no such label.
        """
        if label not in self.labels:
            raise ConfigError(f"label {label!r}: must be one of {', '.join(self.labels) or 'none'}")
        return self.probabilities[self.labels.index(label)] if self.probabilities else None


@dataclass(frozen=True)
class SegmentEmotion(_Probabilities):
    """The emotion of one segment.

    Parameters
    ----------
    start_s, end_s : float
        Seconds from the start of the recording.
    label : str
        The answer for this segment alone: a label of the space, or one of `STATES`.
    probabilities : tuple of float
        In the order of the space, in [0, 1]; empty if the sound is not music. `probability` returns that of one label.
    valence, arousal : float or None
        Mean position of the labels on the axis, weighted by the probabilities, in [-1, 1]; None if the sound is not
        music or the space has no such axis.
    valence_sd, arousal_sd : float or None
        Standard deviation of the label's position on the axis under the probabilities, in [0, 1]: 0 if all probable
        labels have the same position, 1 if both ends of the axis are equally probable.
    sound : str
        ``"music"`` or one of `SOUNDS`.
    labels : tuple of str
        The labels of the space, in the order of `probabilities`.
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
    labels: tuple[str, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class SongEmotion(_Probabilities):
    """The emotion of a whole recording, computed from those of its segments that are music.

    Parameters
    ----------
    label : str
        The answer: a label of the space, or ``"unsure"``. If less than a quarter of the recording is music, it is the
        most frequent other kind of sound.
    probabilities : tuple of float
        Calibrated, in the order of the space, in [0, 1]; empty if the recording is not music. `probability` returns
        that of one label.
    confidence : float
        The largest of the probabilities, in [0, 1]; 0 if there are none.
    valence, arousal, valence_sd, arousal_sd : float or None
        As in `SegmentEmotion`.
    labels : tuple of str
        The labels of the space, in the order of `probabilities`.
    """

    label: str
    probabilities: tuple[float, ...]
    confidence: float
    valence: float | None
    arousal: float | None
    valence_sd: float | None = None
    arousal_sd: float | None = None
    labels: tuple[str, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class Span:
    """A stretch with one answer, a label of the space or one of `STATES`, smoothed over segments; times in seconds."""

    start_s: float
    end_s: float
    label: str


@dataclass(frozen=True)
class Change:
    """A change point: the time in seconds where one span ends and the next begins, and the labels of both."""

    time_s: float
    before: str
    after: str


@dataclass(frozen=True, repr=False)
class Analysis:
    """The emotion of one recording over time; it can be shown as JSON, a data frame, a file or a figure.

    Parameters
    ----------
    path : str
        The recording's path or name.
    duration_s : float
        Duration in seconds.
    model_name, model_version : str
        The model that analysed the recording.
    space : EmotionSpace
    song : SongEmotion
        The recording as a whole.
    segments : tuple of SegmentEmotion
    spans : tuple of Span
        Without gaps, from the start of the first segment to the end of the last.
    peaks : array, shape (P, 2)
        The waveform's envelope for figures: minimum and maximum of each of P equal stretches.
    unsure_below : float
        The answer is "unsure" if the largest probability is below this one, in [0, 1].
    mean_span_s : float
        How many seconds one emotion lasts on average, as assumed when the spans are smoothed.

    Notes
    -----
    The methods from `to_dict` to `plot` are implemented in `emoseg.writers`, which imports this module. They load that
    package when they are called, so that the two modules do not import each other.
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
        """Return for each segment the span that contains its middle, in the order of the segments."""
        ends = np.array([span.end_s for span in self.spans])
        middles = np.array([(segment.start_s + segment.end_s) / 2 for segment in self.segments])
        return tuple(self.spans[i] for i in np.minimum(np.searchsorted(ends, middles, side="right"), len(ends) - 1))

    @property
    def rules(self) -> dict[str, str]:
        """The rules behind the answers in words, by what they explain; they are printed with every result."""
        return {
            UNSURE: f"the most probable label has a probability below {self.unsure_below:.2f}",
            "spans": "the most probable course of the segments' labels where one emotion lasts "
            f"{self.mean_span_s:g} s on average",
            "sound": "speech, noise, test tones and silence are found in the sound itself and are given no emotion",
        }

    def __repr__(self) -> str:
        confidence = f" ({self.song.confidence:.0%})" if self.song.probabilities else ""
        spans = "1 span" if len(self.spans) == 1 else f"{len(self.spans)} spans"
        counts = f"{len(self.segments)} segments, {spans}"
        return f"<Analysis {self.path!r}: {self.duration_s:.1f} s, {self.song.label}{confidence}, {counts}>"

    def _repr_html_(self) -> str:
        """Return a short report as HTML for notebooks; it has no scripts and loads nothing from the network."""
        return str(_presentation("report.snippet").render_snippet(self))

    def to_dict(self) -> dict[str, Any]:
        """Return the analysis as plain dicts, lists, strings, floats and None, in the schema ``emoseg.analysis/1``.

        Probabilities are dicts by label. Times are in seconds, probabilities in [0, 1], valence and arousal in [-1, 1];
        all numbers are rounded to six decimals.

        Raises
        ------
        EmosegError
            A number is not finite.
        """
        return dict(_presentation("json_lines").to_json(self))

    def to_json(self) -> str:
        """Return `to_dict` as one line of strict JSON, as ``emoseg analyze --json`` prints it.

        Raises
        ------
        EmosegError
            A number is not finite.
        """
        return str(_presentation("json_lines").dumps(self))

    def to_dataframe(self) -> pandas.DataFrame:
        """Return a pandas data frame with one row per segment.

        Columns: ``start_s``, ``end_s`` (seconds), ``label``, one ``p_<label>`` per label of the space, ``valence``,
        ``arousal``, ``valence_sd``, ``arousal_sd``, ``sound``, and ``span`` (the smoothed answer at the segment's
        middle). Numbers are not rounded; unknown ones are NaN.

        Raises
        ------
        MissingExtraError
            pandas is not installed.
        EmosegError
            A number is not finite.
        """
        return _presentation("table").data_frame(self)

    def save(self, path: str | os.PathLike[str], format: str | None = None) -> Path:
        """Write the analysis to a file and return its path.

        Parameters
        ----------
        path : path
            Its folders are made when they do not exist. An earlier file is replaced.
        format : str, optional
            ``"json"``, ``"csv"``, ``"jams"``, ``"audacity"``, ``"sonic-visualiser"``, ``"html"``, ``"png"``,
            ``"jsonl"``, ``"parquet"``, or the format of another package. By default the suffix of the path decides.

        Raises
        ------
        ConfigError
            The format is unknown, or no format has the path's suffix.
        MissingExtraError
            The format needs a package that is not installed.
        EmosegError
            A number is not finite, or the file cannot be written.
        """
        saved: Path = _presentation("").save(self, path, format=format)
        return saved

    def plot(self) -> Figure:
        """Return a matplotlib figure of the spans on the waveform, the probabilities, valence and arousal over time.

        Raises
        ------
        MissingExtraError
            matplotlib is not installed.
        EmosegError
            A number is not finite.
        """
        return _presentation("figure").draw(self)


@dataclass(frozen=True)
class AnalysisFailure:
    """A recording that could not be analysed, and the reason.

    Parameters
    ----------
    path : str
        The recording's path or name.
    error_type : str
        The `kind` of an `AudioError`, such as ``"decode"``, or the class name of another error.
    message : str
        One line that says what happened.
    """

    path: str
    error_type: str
    message: str

    def to_dict(self) -> dict[str, Any]:
        """Return the failure as plain dicts and strings, in the schema ``emoseg.analysis/1``."""
        return dict(_presentation("json_lines").to_json(self))

    def to_json(self) -> str:
        """Return `to_dict` as one line of strict JSON, as ``emoseg analyze --json`` prints it."""
        return str(_presentation("json_lines").dumps(self))


def _presentation(module: str) -> ModuleType:
    """Import `emoseg.writers`, or a module of it, and return it."""
    return import_module(f"emoseg.writers.{module}" if module else "emoseg.writers")
