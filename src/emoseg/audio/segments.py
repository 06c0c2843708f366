"""A stream of sound cut into segments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from emoseg.config import SegmentConfig
from emoseg.types import Float32


def cut(blocks: Iterable[Float32], *, segment: SegmentConfig) -> Iterator[tuple[int, int, Float32]]:
    """Yield (first sample, end of real sound, samples) of each segment."""
    length, hop = segment.length, segment.hop
    buffer: Float32 = np.empty(0, dtype=np.float32)
    base = start = 0  # positions in the recording: of the buffer, of the next segment
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
