"""Damaged and odd recordings for ``emoseg tag --write`` and ``--undo``.

Whatever the file: it is tagged and sounds the same, and undoing restores every byte; or it is left alone with one line.
"""

from __future__ import annotations

import os
import socket
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
from damaged_audio import damaged, encode_all

Write = Callable[[Path], None]


def trials(seed: int, count: int) -> Iterator[tuple[str, Write]]:
    """Yield a file name and a function that writes that file: first each odd file, then damaged ones."""
    odd = _odd_files()
    yield from odd[:count]
    whole = _encoded()
    names = sorted(whole)
    for i in range(count - len(odd)):
        random = np.random.default_rng([seed, i])
        name = names[i % len(names)]
        other = whole[names[random.integers(len(names))]]
        yield f"damaged-{i}-{name}", partial(_write, damaged(whole[name], other, random))


@cache
def _encoded() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        return encode_all(Path(folder))


def _write(data: bytes, path: Path) -> None:
    path.write_bytes(data)


def _odd_files() -> list[tuple[str, Write]]:
    whole = _encoded()
    bare = whole["a.mp3"]
    cut = {f"cut-{name}": data[: len(data) * 2 // 3] for name, data in whole.items()}
    contents = {
        **{f"whole-{name}": data for name, data in whole.items()},
        **cut,
        "empty.mp3": b"",
        "zeros.wav": bytes(10_000),
        "piped.wav": whole["s16.wav"][:4] + b"\xff" * 4 + _with_unknown_length(whole["s16.wav"])[8:],
        "compressed-bomb.mp3": _id3(_frame(b"TXXX", _bomb(1 << 30), flags=0x0009)) + bare,
        "many-frames.mp3": _id3(_frame(b"TPE1", b"\3x") * 200_000) + bare,
        "long-mood.mp3": _id3(_frame(b"TMOO", b"\3" + b"x" * (8 << 20))) + bare,
        "claims-256-mb.mp3": b"ID3\4\0\0\x7f\x7f\x7f\x7f" + bare,
        "two-tags.mp3": _id3(_frame(b"TMOO", b"\3Sad")) + _id3(_frame(b"TMOO", b"\3Gay")) + bare,
        "escape.mp3": _id3(_frame(b"TMOO", b"\3\x1b[2J\n\r\x07")) + bare,
        "ape-bomb.wv": whole["a.wv"] + b"APETAGEX" + struct.pack("<4I8x", 2000, 2**31, 2**31, 1 << 31),
        "comments.flac": _flac_comments(whole["a.flac"], 2**32 - 1),
        "nested.m4a": whole["aac.m4a"] + struct.pack(">I4s", 8, b"moov") * 20_000,
        "deep.m4a": _deep_atoms(3000) + whole["aac.m4a"],
        "chunks.wav": whole["s16.wav"] + b"LIST\4\0\0\0INFO" * 50_000,
        "x" * 251 + ".mp3": bare,
        "new\nline\x1b[31m.mp3": bare,
        os.fsdecode(b"not utf-8 \xff.flac"): whole["a.flac"],
        "-.mp3": bare,
        "a:b.mp3": bare,
        "UPPER.MP3": bare,
        "no-recording.txt": bare,
    }
    files: list[tuple[str, Write]] = [(name, partial(_write, data)) for name, data in contents.items()]
    return [
        *files,
        ("pipe.mp3", lambda path: os.mkfifo(path)),
        ("folder.mp3", lambda path: path.mkdir()),
        ("socket.mp3", _bind),
        ("null.mp3", lambda path: path.symlink_to("/dev/null")),
        ("zero.mp3", lambda path: path.symlink_to("/dev/zero")),
        ("loop.mp3", lambda path: path.symlink_to(path.name)),
        ("nowhere.mp3", lambda path: path.symlink_to("no such file.mp3")),
        ("linked.mp3", partial(_write_linked, bare)),
        ("two-names.mp3", partial(_write_two_names, bare)),
        ("read-only.mp3", partial(_write_read_only, bare)),
        ("sparse.wav", partial(_write_sparse, whole["s16.wav"])),
    ]


def _with_unknown_length(wav: bytes) -> bytes:
    at = wav.index(b"data") + 4
    return wav[:at] + b"\xff" * 4 + wav[at + 4 :]


def _id3(frames: bytes) -> bytes:
    return b"ID3\4\0\0" + _synchsafe(len(frames)) + frames


def _frame(name: bytes, data: bytes, *, flags: int = 0) -> bytes:
    return name + _synchsafe(len(data)) + struct.pack(">H", flags) + data


def _synchsafe(size: int) -> bytes:
    return bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))


def _bomb(size: int) -> bytes:
    """Return zeros compressed, behind the length that ID3 states in front of them."""
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    return _synchsafe(size % (1 << 28)) + b"".join(packer.compress(block) for _ in range(size >> 20)) + packer.flush()


def _flac_comments(flac: bytes, count: int) -> bytes:
    """Insert a comment block that claims `count` comments after the first block."""
    comments = struct.pack("<I", 0) + struct.pack("<I", count)
    return flac[:42] + b"\4" + len(comments).to_bytes(3, "big") + comments + flac[42:]


def _deep_atoms(depth: int) -> bytes:
    atom = b""
    for _ in range(depth):
        atom = struct.pack(">I4s", len(atom) + 8, b"moov") + atom
    return atom


def _bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        before = Path.cwd()
        os.chdir(path.parent)  # the name of a socket may have 108 bytes
        try:
            server.bind(path.name)
        finally:
            os.chdir(before)


def _write_linked(data: bytes, path: Path) -> None:
    real = path.with_name(f"real-{path.name}")
    real.write_bytes(data)
    path.symlink_to(real.name)


def _write_two_names(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    path.with_name(f"other-{path.name}").hardlink_to(path)


def _write_read_only(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    path.chmod(0o444)


def _write_sparse(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    with path.open("rb+") as file:
        file.truncate(1 << 30)
