"""The difference from a new file to the old one, from which the old file can be restored byte for byte.

Sound that only moved is a stretch of the new file, so a difference is about as long as the tags. Files are read in
blocks, so recordings of gigabytes need no more memory than others.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

MOST_STRETCHES = 1 << 20
MOST_REST_BYTES = 16 << 20  # pictures that a tag editor moves are the largest bytes that are kept
STRETCH = struct.Struct("<3Q")
_BLOCK = 1 << 16
_JOIN = 32  # equal bytes between two differences that are not worth a stretch of their own

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Difference:
    """The difference that turns a new file into the old one.

    Parameters
    ----------
    stretches : bytes
        Three unsigned numbers per stretch that both files have, in the order of both files: the number of bytes before
        it that only the old file has, the number of bytes before it that only the new file has, and its length. So
        stretches cannot overlap.
    rest : bytes
        The bytes that only the old file has, in order.
    """

    stretches: bytes
    rest: bytes

    def fits(self, *, new_size: int, old_size: int) -> bool:
        """Return whether this difference turns a file of the new size into one of the old size."""
        position = copied = gaps = 0
        for gap, passed, length in STRETCH.iter_unpack(self.stretches):
            position += passed + length
            copied += length
            gaps += gap
        return position <= new_size and gaps <= len(self.rest) and copied + len(self.rest) == old_size

    def apply(self, new: BinaryIO, old: BinaryIO) -> None:
        """Read the new file and write the old one."""
        position = taken = 0
        for gap, passed, length in STRETCH.iter_unpack(self.stretches):
            old.write(self.rest[taken : taken + gap])
            taken += gap
            new.seek(position + passed)
            position += passed + length
            for start in range(0, length, _BLOCK):
                old.write(new.read(min(_BLOCK, length - start)))
        old.write(self.rest[taken:])


def difference(new: Path, old: Path) -> Difference | None:
    """Return the difference that turns `new` into `old`; None if it is larger than an undo file may hold."""
    parts = _Parts()
    with new.open("rb") as source, old.open("rb") as target:
        # What a tag editor leaves alone keeps its distance from the file's beginning or from its end.
        shifts = [0, new.stat().st_size - old.stat().st_size]
        for start, block in _blocks(target):
            same = {shift: _equal(source, block, start + shift) for shift in shifts}
            shift = max(shifts, key=lambda shift: int(same[shift].sum()))
            shifts.sort(key=lambda other: other != shift)  # of two that fit equally well, the last one goes first
            parts.append(block, start + shift, same[shift])
            if parts.too_many:
                return None
    return Difference(bytes(parts.stretches), bytes(parts.rest))


def _blocks(file: BinaryIO) -> Iterator[tuple[int, Bytes]]:
    start = 0
    while data := file.read(_BLOCK):
        yield start, np.frombuffer(data, np.uint8)
        start += len(data)


def _equal(source: BinaryIO, block: Bytes, start: int) -> NDArray[np.bool_]:
    """Return where `block` equals the bytes of `source` from `start` on; False outside of `source`."""
    same = np.zeros(len(block), dtype=bool)
    first = max(start, 0)
    if first < start + len(block):
        source.seek(first)
        found = np.frombuffer(source.read(start + len(block) - first), np.uint8)
        at = first - start
        same[at : at + len(found)] = found == block[at : at + len(found)]
    return same


class _Parts:
    """Builds a difference block by block."""

    def __init__(self) -> None:
        self.stretches, self.rest = bytearray(), bytearray()
        self._gap = 0  # bytes of the rest since the last stretch
        self._end = 0  # of the last stretch, in the new file

    @property
    def too_many(self) -> bool:
        return len(self.rest) > MOST_REST_BYTES or len(self.stretches) > MOST_STRETCHES * STRETCH.size

    def append(self, block: Bytes, start: int, same: NDArray[np.bool_]) -> None:
        """Add a block of the old file; where `same`, it equals the new file from `start` on."""
        same[: max(0, self._end - start)] = False  # stretches keep the order of the new file
        edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
        position = 0
        for first, last in edges.reshape(-1, 2).tolist():
            if last - first >= _JOIN:
                self._keep(block[position:first])
                self._stretch(start + first, last - first)
                position = last
        self._keep(block[position:])

    def _keep(self, values: Bytes) -> None:
        self.rest += values.tobytes()
        self._gap += len(values)

    def _stretch(self, start: int, length: int) -> None:
        if self.stretches and start == self._end and not self._gap:
            *before, shorter = STRETCH.unpack_from(self.stretches, len(self.stretches) - STRETCH.size)
            STRETCH.pack_into(self.stretches, len(self.stretches) - STRETCH.size, *before, shorter + length)
        else:
            self.stretches += STRETCH.pack(self._gap, start - self._end, length)
        self._end, self._gap = start + length, 0
