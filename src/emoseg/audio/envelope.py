"""The outline of a sound: minimum and maximum in equal stretches."""

from __future__ import annotations

import numpy as np

from emoseg.types import Float32


class Envelope:
    """Minimum and maximum in at most `limit` (even) equal stretches of a stream of unknown length.

    A stretch begins as one sample; each time `limit` of them are full, neighbours are joined in pairs. The result
    depends on the samples alone, not on the blocks they came in.
    """

    def __init__(self, limit: int) -> None:
        self._rows: Float32 = np.empty((limit, 2), dtype=np.float32)
        self._count, self._size = 0, 1
        self._open: Float32 = np.empty(0, dtype=np.float32)  # minimum and maximum of the stretch that is not full
        self._filled = 0

    def add(self, block: Float32) -> None:
        """Take the next samples, of shape (n,)."""
        while len(block):
            if self._filled or len(block) < self._size:
                part, block = np.split(block, [self._size - self._filled])
                extremes = np.concatenate([self._open, part])
                self._open = np.array([extremes.min(), extremes.max()], dtype=np.float32)
                self._filled += len(part)
                if self._filled == self._size:
                    self._push(self._open[None])
                    self._open, self._filled = self._open[:0], 0
            else:
                stretches = min(len(block) // self._size, len(self._rows) - self._count)
                whole, block = np.split(block, [stretches * self._size])
                grid = whole.reshape(stretches, self._size)
                self._push(np.stack([grid.min(axis=1), grid.max(axis=1)], axis=1))

    def _push(self, rows: Float32) -> None:
        self._rows[self._count : self._count + len(rows)] = rows
        self._count += len(rows)
        if self._count == len(self._rows):
            self._count //= 2
            self._size *= 2
            low, high = self._rows[:, 0].reshape(-1, 2), self._rows[:, 1].reshape(-1, 2)
            self._rows[: self._count] = np.stack([low.min(axis=1), high.max(axis=1)], axis=1)

    def rows(self) -> Float32:
        """Return the envelope so far, shape (P, 2)."""
        return np.concatenate([self._rows[: self._count], self._open.reshape(-1, 2)])
