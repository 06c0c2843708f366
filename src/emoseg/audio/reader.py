"""Recordings as segments, or as a whole, decoded as a stream in limited memory.

Short files, files of many hours and arrays in memory are read by the same code. The result is bit-identical for every
size of blocks and batches.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from itertools import islice

import numpy as np

from emoseg.audio.segments import Excerpt, cut
from emoseg.audio.stream import SoundStream
from emoseg.config import SegmentConfig
from emoseg.errors import ConfigError
from emoseg.types import Float32, Recording, SegmentBatch


class SegmentReader:
    """The segments of one recording, decoded while they are iterated over.

    Each iteration starts at the beginning of the recording. Nothing is decoded before the first iteration.

    Parameters
    ----------
    source : path or Recording
        A file, or decoded mono sound of any sample rate.
    segment : SegmentConfig
        Sample rate, segment length and hop, the rule for the last segment, and the shortest duration.
    batch : int
        Number of segments per `SegmentBatch`, at least 1; the last batch may have fewer.
    excerpt : Excerpt, optional
        The part to read, as if it were a whole recording; by default all of it.

    Yields
    ------
    SegmentBatch
        Its `samples` have shape (B, `segment.length`), with B at most `batch`. Segment k starts at sample k times
        `segment.hop`. If the last segment is shorter than the others, `SegmentConfig.last` decides whether it is
        dropped, or filled by repeating its own sound.

    Attributes
    ----------
    path : str
    duration_s : float
        Duration in seconds after resampling; 0.0 until an iteration has ended.
    peaks : array of float32, shape (P, 2)
        Minimum and maximum of the resampled mono sound in P equal stretches; the last may be shorter. P is at most
        2000, and at most the number of samples. The shape is (0, 2) until an iteration has ended.
    decoder : str
        ``"soundfile"``, ``"pyav"``, ``"ffmpeg"`` or ``"array"``; empty until an iteration has ended.

    Raises
    ------
    AudioError
        While iterating. `kind` is ``"missing"``, ``"directory"``, ``"unreadable"``, ``"empty"``, ``"decode"``,
        ``"rate"``, ``"nonfinite"``, ``"level"`` (far above full scale), ``"long"`` (more than 24 hours), ``"short"``,
        ``"silent"`` (peak below -80 dBFS), or for a `Recording` ``"rank"`` or ``"dtype"``. In recordings of more than
        twelve minutes (at 22.05 kHz) the error may be raised after the first batches.
    ConfigError
        `batch` is below 1.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Recording,
        *,
        segment: SegmentConfig,
        batch: int = 64,
        excerpt: Excerpt | None = None,
    ) -> None:
        if batch < 1:
            raise ConfigError(f"batch {batch} must be at least 1 segment")
        self._source, self._segment, self._batch, self._excerpt = source, segment, batch, excerpt
        self.path = source.path if isinstance(source, Recording) else os.fspath(source)
        self._reset()

    def _reset(self) -> None:
        self.duration_s = 0.0
        self.peaks: Float32 = np.empty((0, 2), dtype=np.float32)
        self.decoder = ""

    def __iter__(self) -> Iterator[SegmentBatch]:
        self._reset()
        rate = self._segment.sample_rate_hz
        least_s = self._segment.min_duration_s
        sound = SoundStream(self._source, sample_rate_hz=rate, min_duration_s=least_s, excerpt=self._excerpt)
        with closing(sound.blocks()) as blocks:
            segments = cut(blocks, segment=self._segment)
            while rows := list(islice(segments, self._batch)):
                starts, ends, samples = zip(*rows, strict=True)
                yield SegmentBatch(
                    np.array(starts, dtype=np.float64) / rate,
                    np.array(ends, dtype=np.float64) / rate,
                    np.stack(samples),
                )
        self.duration_s = sound.count / rate
        self.peaks = sound.envelope.rows()
        self.decoder = sound.decoder


def read(source: str | os.PathLike[str] | Recording, *, sample_rate_hz: int) -> Recording:
    """Return the sound of a whole recording, decoded and checked by the same code as in `SegmentReader`.

    Parameters
    ----------
    source : path or Recording
        A file, or decoded mono sound of any sample rate.
    sample_rate_hz : int
        Sample rate of the result, at least 1.

    Returns
    -------
    Recording
        Mono samples of shape (n,) at `sample_rate_hz`.

    Raises
    ------
    AudioError
        As in `SegmentReader`, except ``"short"``: there is no shortest duration.
    ConfigError
        `sample_rate_hz` is below 1.
    """
    if sample_rate_hz < 1:
        raise ConfigError(f"sample_rate_hz {sample_rate_hz} must be at least 1")
    sound = SoundStream(source, sample_rate_hz=sample_rate_hz, min_duration_s=0.0)
    return Recording(np.concatenate(list(sound.blocks())), sample_rate_hz, sound.path)
