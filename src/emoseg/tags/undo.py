"""Undoing changes of tags exactly, byte for byte.

Before a file is replaced, a line that can bring it back goes to the undo file (JSON Lines, ``emoseg.tag-undo/1``). It
has what people want to know (the fields before) and a difference from the new file to the old one: stretches of the
new file, with the bytes in between. Sound that only moved is a stretch, so a line is about as long as the tags.
"""

from __future__ import annotations

import base64
import json
import os
import time
import zlib
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoseg.errors import ConfigError

SCHEMA = "emoseg.tag-undo/1"
_KEYS = {"path", "library", "before", "old", "new", "difference"}
_BLOCK = 1 << 16
_JOIN = 32  # equal bytes between two differences that are not worth a stretch of their own

Bytes = NDArray[np.uint8]
Delta = list[list[int] | str]


def difference(new: bytes, old: bytes) -> Delta:
    """Return how to make `old` out of `new`.

    Returns
    -------
    list
        ``[start, length]`` is a stretch of `new`; a string is bytes (zlib, base64). In the order of `old`.
    """
    source, target = np.frombuffer(new, np.uint8), np.frombuffer(old, np.uint8)
    delta: Delta = []
    literal = bytearray()
    for start in range(0, len(target), _BLOCK):
        block = target[start : start + _BLOCK]
        # What a tag editor leaves alone keeps its distance from the file's beginning or from its end.
        shift = max((0, len(source) - len(target)), key=lambda s: int(_equal(source, block, start + s).sum()))
        _append(delta, literal, block, start + shift, _equal(source, block, start + shift))
    _flush(delta, literal)
    return delta


def _equal(source: Bytes, block: Bytes, start: int) -> NDArray[np.bool_]:
    """Tell where `block` equals the bytes of `source` from `start` on; what lies outside equals nothing."""
    same = np.zeros(len(block), dtype=bool)
    first, last = max(start, 0), min(start + len(block), len(source))
    if first < last:
        same[first - start : last - start] = source[first:last] == block[first - start : last - start]
    return same


def _append(delta: Delta, literal: bytearray, block: Bytes, start: int, same: NDArray[np.bool_]) -> None:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    position = 0
    for first, last in edges.reshape(-1, 2).tolist():
        if last - first < _JOIN:
            continue
        literal += block[position:first].tobytes()
        _flush(delta, literal)
        previous = delta[-1] if delta else ""
        if isinstance(previous, list) and sum(previous) == start + first:
            previous[1] += last - first
        else:
            delta.append([start + first, last - first])
        position = last
    literal += block[position:].tobytes()


def _flush(delta: Delta, literal: bytearray) -> None:
    if literal:
        delta.append(base64.b64encode(zlib.compress(bytes(literal), 9)).decode())
        literal.clear()


def apply_difference(new: bytes, delta: Delta) -> bytes:
    """Inverse of `difference`: return `old`."""
    return b"".join(
        new[part[0] : part[0] + part[1]] if isinstance(part, list) else zlib.decompress(base64.b64decode(part))
        for part in delta
    )


def checksum(data: bytes) -> str:
    """Return the BLAKE2b checksum of a file's bytes, as in libraries and model folders."""
    return blake2b(data, digest_size=16).hexdigest()


class UndoFile:
    """The undo file of one run; made with the first line, never over an earlier file."""

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise ConfigError(f"{path}: exists already; an undo file is never overwritten")
        self.path = path

    @staticmethod
    def default_path() -> Path:
        """Return a name in the current folder that tells the time."""
        return Path(f"emoseg-undo-{time.strftime('%Y%m%d-%H%M%S')}.jsonl")

    def add(self, entry: dict[str, Any]) -> None:
        """Append a line, and see that it is on the disk."""
        line = json.dumps({"schema": SCHEMA, **entry}) + "\n"
        with self.path.open("a", encoding="ascii") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def read_undo(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of an undo file, the latest first. A last line cut off by a crash changed nothing.

    Raises
    ------
    ConfigError
        It cannot be read, or a line is none of emoseg's.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines(keepends=True)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not an undo file of emoseg") from error
    entries = []
    for number, line in enumerate(lines, 1):
        if number == len(lines) and not line.endswith("\n"):
            continue
        try:
            entry = json.loads(line)
            known = entry["schema"] == SCHEMA and entry.keys() >= _KEYS
        except (ValueError, KeyError, TypeError, AttributeError):
            known = False
        if not known:
            raise ConfigError(f"{path}: line {number} is not one of an undo file of emoseg ({SCHEMA})")
        entries.append(entry)
    return reversed(entries)
