"""Cutting a stream of sound into segments, and selecting an excerpt of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from emoseg.config import SegmentConfig
from emoseg.errors import ConfigError
from emoseg.types import Float32


def cut(blocks: Iterable[Float32], *, segment: SegmentConfig) -> Iterator[tuple[int, int, Float32]]:
    """Yield each segment as (index of its first sample, end of its sound, samples).

    Parameters
    ----------
    blocks : iterable of arrays, shape (n,)
        The sound of a recording; n may vary and does not change the segments.
    segment : SegmentConfig

    Yields
    ------
    (int, int, array of float32, shape (`segment.length`,))
        If the last segment was filled by repeating its sound, the end lies before the end of its samples.
    """
    length, hop = segment.length, segment.hop
    buffer: Float32 = np.empty(0, dtype=np.float32)
    base = start = 0  # indices in the recording: of the first sample in the buffer, and of the next segment
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        while start + length <= base + len(buffer):
            yield start, start + length, buffer[start - base : start - base + length]
            start += hop
        passed = min(start - base, len(buffer))
        buffer, base = buffer[passed:], base + passed
    rest = buffer[start - base :]
    if start == 0 or (segment.last == "pad" and 2 * len(rest) >= length):
        yield start, base + len(buffer), np.resize(rest, length)


@dataclass(frozen=True)
class Excerpt:
    """A part of a recording, by its start and duration.

    Parameters
    ----------
    offset_s : float
        Seconds from the start of the recording, at least 0.
    duration_s : float, optional
        Seconds, above 0; by default up to the end. An excerpt that goes beyond the end is shorter.

    Raises
    ------
    ConfigError
        A value is not a number, or is out of range.
    """

    offset_s: float = 0.0
    duration_s: float | None = None

    def __post_init__(self) -> None:
        if not (_is_finite(self.offset_s) and self.offset_s >= 0):
            raise ConfigError(f"offset_s {self.offset_s!r}: must be a number of seconds, at least 0")
        if self.duration_s is not None and not (_is_finite(self.duration_s) and self.duration_s > 0):
            raise ConfigError(f"duration_s {self.duration_s!r}: must be a number of seconds above 0, or None")

    @property
    def fragment(self) -> str:
        """The suffix of the path that names the excerpt, such as ``"#t=30,60"``; empty for the whole recording.

        References
        ----------
        W3C, Media Fragments URI 1.0, "Temporal Dimension".
        """
        if self == Excerpt():
            return ""
        end = "" if self.duration_s is None else f",{self.offset_s + self.duration_s:g}"
        return f"#t={self.offset_s:g}{end}"

    def of(self, blocks: Iterable[Float32], sample_rate_hz: int) -> Iterator[Float32]:
        """Yield the parts of blocks of samples that lie in the excerpt. No block after its end is read.

        Parameters
        ----------
        blocks : iterable of arrays, shape (n,)
            The sound of the whole recording.
        sample_rate_hz : int
        """
        first = round(self.offset_s * sample_rate_hz)
        end = math.inf if self.duration_s is None else first + round(self.duration_s * sample_rate_hz)
        position = 0
        for block in blocks:
            part = block[max(0, first - position) : int(min(len(block), end - position))]
            position += len(block)
            if len(part):
                yield part
            if position >= end:
                return


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and math.isfinite(value)
