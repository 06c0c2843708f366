"""Any recording as segments or as a whole, decoded in one stream of bounded memory.

Whole files, files of many hours and arrays in memory take the same path, and neither the size of the blocks nor that of
the batches changes a single bit of the result.
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
    """The segments of one recording, decoded as they are asked for.

    Each iteration starts again at the beginning of the recording. Nothing is decoded before the first one.

    Parameters
    ----------
    source : path or Recording
        A file, or decoded mono sound of any sample rate.
    segment : SegmentConfig
        Sample rate, segment length and hop, the rule for the last segment, the shortest duration.
    batch : int
        Segments in a `SegmentBatch`, at least 1; the last batch may hold fewer.
    excerpt : Excerpt, optional
        The part of the recording to read, as if it were a recording of its own; by default all of it.

    Yields
    ------
    SegmentBatch
        `samples` of shape (B, `segment.length`), B at most `batch`. Segment k starts at sample k times `segment.hop`.
        A last segment that is not full follows `SegmentConfig.last`; it is filled by repeating its own sound.

    Attributes
    ----------
    path : str
    duration_s : float
        Duration at the resampled rate; 0.0 until an iteration has ended.
    peaks : array, shape (P, 2)
        Minimum and maximum of the mono, resampled sound in P equal stretches (the last may be shorter). P is at most
        2000, and is the number of samples for recordings shorter than that; (0, 2) until an iteration has ended.
    decoder : str
        ``"soundfile"``, ``"pyav"``, ``"ffmpeg"`` or ``"array"``; empty until an iteration has ended.

    Raises
    ------
    AudioError
        While iterating. `kind` is ``"missing"``, ``"directory"``, ``"unreadable"``, ``"empty"``, ``"decode"``,
        ``"rate"``, ``"nonfinite"``, ``"level"`` (far above full scale), ``"long"`` (more than 24 hours), ``"short"``,
        ``"silent"`` (peak below -80 dBFS), or for a `Recording` ``"rank"`` or ``"dtype"``. In recordings of more than
        `_LOOKAHEAD` samples the error may come after the first batches.
    ConfigError
        If `batch` is below 1.
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
    """Decode a whole recording at once, through the same stream as `SegmentReader`.

    Parameters
    ----------
    source : path or Recording
        A file, or decoded mono sound of any sample rate.
    sample_rate_hz : int
        Rate of the result, at least 1.

    Returns
    -------
    Recording
        Mono samples of shape (n,) at `sample_rate_hz`; any duration above zero will do.

    Raises
    ------
    AudioError
        As in `SegmentReader`, except that nothing is too short.
    ConfigError
        If `sample_rate_hz` is below 1.
    """
    if sample_rate_hz < 1:
        raise ConfigError(f"sample_rate_hz {sample_rate_hz} must be at least 1")
    sound = SoundStream(source, sample_rate_hz=sample_rate_hz, min_duration_s=0.0)
    return Recording(np.concatenate(list(sound.blocks())), sample_rate_hz, sound.path)
