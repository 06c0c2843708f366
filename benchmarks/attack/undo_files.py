"""Hostile undo files for ``emoseg tag --undo``.

Whatever the file: each recording is restored to the byte or left alone, no other file is written, and every problem is
one line. Beside an undo file lie the recording that it is about (``song.wav``, with tags) and files that must stay.
"""

from __future__ import annotations

import base64
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

Write = Callable[[Path], None]
RATE = 8000
SECRET = b"not to be written\n"


def trials(seed: int, count: int) -> Iterator[tuple[str, Write]]:
    """Yield a name and a function that writes a hostile undo file: first each known trick, then damaged lines."""
    known = 0
    for trick in islice(_tricks(), count):
        known += 1
        yield trick
    for i in range(count - known):
        random = np.random.default_rng([seed, i])
        kind = (_flipped, _cut, _changed_value, _changed_difference, _shuffled)[i % 5]
        yield f"{kind.__name__[1:]}-{i}", partial(_write_random, kind, random)


# --- the recording and an honest line about it -----------------------------------------------------------------------


def old_and_new() -> tuple[bytes, bytes]:
    """Return a recording without and with tags."""
    noise = np.random.default_rng(1).normal(0, 3000, 3 * RATE).astype("<i2").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    data = b"WAVE" + form + struct.pack("<4sI", b"data", len(noise)) + noise
    tag = b"ID3\4\0\0\0\0\0\x14" + b"TMOO\0\0\0\5\0\0\3Calm" + bytes(5)
    tagged = data + struct.pack("<4sI", b"id3 ", len(tag)) + tag
    return tuple(struct.pack("<4sI", b"RIFF", len(body)) + body for body in (data, tagged))  # type: ignore[return-value]


def honest(path: Path) -> dict[str, Any]:
    """Return the entry that restores the recording beside an undo file."""
    old, new = old_and_new()
    return {
        "schema": "emoseg.tag-undo/2",
        "path": str(path.absolute().with_name("song.wav")),
        "library": None,
        "before": {"mood": [], "fields": {}},
        "old": {"checksum": _checksum(old), "size": len(old), "mtime_ns": 1_600_000_000_000_000_000},
        "new": {"checksum": _checksum(new), "size": len(new)},
        "stretches": _packed(struct.pack("<3Q", 8, 8, len(old) - 8)),
        "rest": _packed(old[:8]),
    }


def line(entry: dict[str, Any], **changes: Any) -> bytes:
    """Return the line of an entry, with its checksum."""
    content = json.dumps({**entry, **changes}).encode()[:-1]
    return content + f', "checksum": "{_checksum(content)}"}}\n'.encode()


def _checksum(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()


def _packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


def _bomb(megabytes: int) -> str:
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    return base64.b64encode(b"".join(packer.compress(block) for _ in range(megabytes)) + packer.flush()).decode()


def _surroundings(path: Path) -> None:
    """Write the recording, and files and folders that an undo file may aim at."""
    path.with_name("song.wav").write_bytes(old_and_new()[1])
    for name in ("secret", "secret.mp3"):
        path.with_name(name).write_bytes(SECRET)
    path.with_name("folder.mp3").mkdir(exist_ok=True)
    if not path.with_name("pipe.mp3").exists():
        os.mkfifo(path.with_name("pipe.mp3"))


# --- known tricks ----------------------------------------------------------------------------------------------------


def _tricks() -> Iterator[tuple[str, Write]]:
    values = _values()
    for name, value in values.items():
        for field in ("path", "library", "before", "old", "new", "stretches", "rest"):
            yield f"{field}-{name}", partial(_write_line, {field: value})
    for name in ("secret", "secret.mp3", "folder.mp3", "pipe.mp3", "/dev/zero", "/proc/self/mem", "/etc/passwd", "..",
                 "no such.mp3", "x" * 300 + ".mp3", "/".join(["a"] * 3000) + ".mp3"):  # fmt: skip
        yield f"aims-at-{name[:20].replace('/', '_')}", partial(_write_aimed, name)
    yield "other-sound", _write_other_sound
    yield "library-that-is-none", partial(_write_line, {"library": "/tmp"})
    yield "unknown-key", partial(_write_line, {"command": "rm"})
    yield "without-key", _write_without_key
    yield "restored-twice", _write_twice
    for name, content in _CONTENTS.items():
        yield name, partial(_write_content, content)
    for name, content in _AFTER_AN_HONEST_LINE.items():
        yield f"honest-and-{name}", partial(_write_after, content)
    yield "gigabyte-of-zeros", _write_sparse
    yield "pipe", lambda path: os.mkfifo(path)
    yield "folder", lambda path: path.mkdir()
    yield "device", lambda path: path.symlink_to("/dev/zero")
    yield "link-loop", lambda path: path.symlink_to(path.name)


def _values() -> dict[str, Any]:
    deep: list[Any] = []
    for _ in range(500):
        deep = [deep]
    return {
        "null": None, "true": True, "minus": -1, "float": 0.5, "huge": 10**4000, "not-a-number": float("nan"),
        "infinite": float("inf"), "empty": "", "text": "x" * 100_000, "null-character": "a\0b", "surrogate": "\ud800",
        "list": [1] * 10_000, "deep": deep, "keys": {str(i): i for i in range(10_000)},
        "bomb": _bomb(200), "no-base64": "###", "number": 7,
    }  # fmt: skip


_START = b'{"schema": "emoseg.tag-undo/2", '


def _with_checksum(start: bytes) -> bytes:
    return start + f', "checksum": "{_checksum(start)}"}}\n'.encode()


# Made when they are written, as some are large.
_CONTENTS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "newlines": lambda: b"\n" * 3_000_000,
    "too-many-lines": lambda: b"\n" * 20_000_000,
    "binary": lambda: np.random.default_rng(0).bytes(100_000),
    "nesting": lambda: b"[" * 20_000_000,
    "nesting-lines": lambda: _START + b'"path": ' + b"[" * 20_000_000 + b"\n",
    "old-schema": lambda: b'{"schema": "emoseg.tag-undo/1", "path": "x"}\n',
    "start": lambda: _START,
    "half-a-start": lambda: _START[:9],
    "text": lambda: "Some text, and an umlaut: ö\n".encode() * 1000,
}
_AFTER_AN_HONEST_LINE: dict[str, Callable[[], bytes]] = {
    "nested": lambda: _with_checksum(_START + b'"path": ' + b"[" * 5_000_000),
    "nested-deep": lambda: _with_checksum(_START + b'"path": ' + b"[" * 100_000),
    "many-values": lambda: _with_checksum(_START + b'"path": [' + b"[]," * 5_000_000 + b"0]"),
    "many-keys": lambda: _with_checksum(_START + b",".join(b'"%d": 0' % i for i in range(500_000))),
    "long-text": lambda: _with_checksum(_START + b'"path": "' + b"x" * 20_000_000 + b'"'),
    "long-number": lambda: _with_checksum(_START + b'"path": ' + b"9" * 20_000_000),
    "torn-line": lambda: _START,
    "zeros": lambda: bytes(5000),
    "zeros-and-line-end": lambda: bytes(5000) + b"\n",
}


def _write_content(content: Callable[[], bytes], path: Path) -> None:
    _write_bytes(content(), path)


def _write_bytes(data: bytes, path: Path) -> None:
    _surroundings(path)
    path.write_bytes(data)


def _write_line(changes: dict[str, Any], path: Path) -> None:
    _write_bytes(line(honest(path), **changes), path)


def _write_after(content: Callable[[], bytes], path: Path) -> None:
    _write_bytes(line(honest(path)) + content(), path)


def _write_aimed(name: str, path: Path) -> None:
    """Aim at another file, with its own size and checksum, and the difference that would overwrite it."""
    target = path.absolute().parent / name
    found = {"checksum": _checksum(SECRET), "size": len(SECRET)}
    old = {"checksum": _checksum(b"taken over"), "size": 10, "mtime_ns": 0}
    entry = {**honest(path), "path": str(target), "old": old, "new": found, "stretches": _packed(b"")}
    _write_bytes(line(entry, rest=_packed(b"taken over")), path)


def _write_other_sound(path: Path) -> None:
    old, _ = old_and_new()
    other = bytearray(old)
    other[5000] ^= 1
    old_file = {"checksum": _checksum(bytes(other)), "size": len(other), "mtime_ns": 0}
    _write_bytes(line(honest(path), old=old_file, stretches=_packed(b""), rest=_packed(bytes(other))), path)


def _write_without_key(path: Path) -> None:
    entry = honest(path)
    del entry["before"]
    _write_bytes(line(entry), path)


def _write_twice(path: Path) -> None:
    _write_bytes(2 * line(honest(path)), path)


def _write_sparse(path: Path) -> None:
    _write_after(bytes, path)
    with path.open("rb+") as file:
        file.truncate(1 << 30)


# --- damaged lines ---------------------------------------------------------------------------------------------------


def _write_random(kind: Callable[[dict[str, Any], np.random.Generator], bytes], random: Any, path: Path) -> None:
    _write_bytes(kind(honest(path), random), path)


def _flipped(entry: dict[str, Any], random: np.random.Generator) -> bytes:
    data = bytearray(3 * line(entry))
    for at in random.integers(0, len(data), int(random.integers(1, 9))):
        data[at] = int(random.integers(256))
    return bytes(data)


def _cut(entry: dict[str, Any], random: np.random.Generator) -> bytes:
    data = 2 * line(entry)
    return data[: int(random.integers(0, len(data)))]


def _changed_value(entry: dict[str, Any], random: np.random.Generator) -> bytes:
    """Change a number or a part of a text somewhere, with the right checksum."""
    fields = [(entry, "stretches"), (entry, "rest"), (entry["old"], "checksum"), (entry["old"], "size"),
              (entry["old"], "mtime_ns"), (entry["new"], "checksum"), (entry["new"], "size")]  # fmt: skip
    holder, field = fields[random.integers(len(fields))]
    if isinstance(holder[field], int):
        numbers = (0, -1, 2**31, 2**63, 2**64, 10**30, holder[field] + 1, holder[field] - 1)
        holder[field] = numbers[random.integers(len(numbers))]
    else:
        at = int(random.integers(len(holder[field])))
        holder[field] = holder[field][:at] + chr(int(random.integers(48, 123))) + holder[field][at + 1 :]
    return line(entry)


def _changed_difference(entry: dict[str, Any], random: np.random.Generator) -> bytes:
    """Give stretches at random, some of them huge, and sizes that go with them or not."""
    count = int(random.integers(0, 50))
    numbers = [int(2 ** random.uniform(0, random.choice([4, 16, 64]))) % 2**64 for _ in range(3 * count)]
    rest = bytes(int(2 ** random.uniform(0, 16)))
    size = sum(numbers[2::3]) + len(rest)
    old = {**entry["old"], "size": size if random.integers(2) else entry["old"]["size"]}
    stretches = struct.pack(f"<{3 * count}Q", *numbers)[: 24 * count - int(random.integers(2))]
    return line(entry, old=old, stretches=_packed(stretches), rest=_packed(rest))


def _shuffled(entry: dict[str, Any], random: np.random.Generator) -> bytes:
    """Give lines in which stretches of bytes were moved, doubled or left out."""
    data = bytearray(4 * line(entry))
    for _ in range(int(random.integers(1, 5))):
        first, last = sorted(random.integers(0, len(data), 2).tolist())
        piece = data[first:last]
        if random.integers(2):
            del data[first:last]
        at = int(random.integers(0, len(data) + 1))
        data[at:at] = piece
    return bytes(data)
