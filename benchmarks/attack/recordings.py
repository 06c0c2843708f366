"""Damaged recordings and odd names against `emoseg analyze` and `emoseg batch`."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile
from damaged_audio import RATE, damaged, encode_all
from harness import Tally, Yard

_AT_ONCE = 100


def attack_audio(yard: Yard, seed: int, count: int) -> Tally:
    """Analyse damaged files of every format, a hundred in a run; each gives finite numbers or one line."""
    tally = Tally("damaged audio")
    sources = yard.folder / "sources"
    sources.mkdir()
    whole = encode_all(sources)
    names = sorted(whole)
    for first in range(0, count, _AT_ONCE):
        folder = yard.folder / f"damaged-{first}"
        folder.mkdir()
        for i in range(first, min(first + _AT_ONCE, count)):
            rng = np.random.default_rng([seed, i])
            name = names[i % len(names)]
            other = whole[names[rng.integers(len(names))]]
            (folder / f"{i:06d}-{name}").write_bytes(damaged(whole[name], other, rng))
        _judge(yard, folder, tally)
        shutil.rmtree(folder)
    return tally


def _judge(yard: Yard, folder: Path, tally: Tally) -> None:
    paths = sorted(folder.iterdir())
    ended = yard.run("analyze", *paths, "--json", "--quiet", limit_s=1200)
    whole_run = ended.faults(as_json=True)
    answers = {}
    if not any(fault.startswith("JSON") for fault in whole_run):
        answers = {answer["path"]: answer for answer in map(json.loads, ended.out.splitlines())}
    for path in paths:
        answer = answers.get(str(path))
        tally.add(path.name, _answer_faults(answer))
    if whole_run:
        tally.add(folder.name, whole_run)


def _answer_faults(answer: dict[str, object] | None) -> list[str]:
    if answer is None:
        return ["no answer"]
    error = answer.get("error")
    if isinstance(error, dict):
        message = error["message"]
        return [f"message {message[:200]!r}"] if "\n" in message or len(message) > 4000 else []
    song = answer["song"]
    assert isinstance(song, dict)
    p = list(song["probabilities"].values())
    well = all(math.isfinite(x) and 0 <= x <= 1 for x in p) and (not p or abs(sum(p) - 1) < 1e-3)
    return [] if well else [f"probabilities {p}"]


def attack_names(yard: Yard) -> Tally:
    """Analyse and batch folders with odd names, special files, closed folders and links; all good ones are done."""
    tally = Tally("names and special files")
    sound = 0.2 * np.random.default_rng(0).standard_normal(4 * RATE)
    good = yard.folder / "good.flac"
    soundfile.write(good, sound, RATE)
    for name, odd in _odd_folders(good):
        folder = yard.folder / "odd"
        outside = yard.folder / "outside"
        outside.mkdir()
        (outside / "precious.txt").write_text("precious")
        folder.mkdir()
        shutil.copy(good, folder / "plain.flac")
        try:
            odd(folder)
        except OSError as error:
            tally.add(name, [f"could not be made: {error}"])
        formats = [f"--format={f}" for f in ("json", "csv", "html", "audacity", "jsonl", "parquet")]
        runs = {
            "analyze": yard.run("analyze", folder, "--quiet", *formats, "--out", yard.folder / "written"),
            "json": yard.run("analyze", folder, "--quiet", "--json"),
            "batch": yard.run("batch", folder, "--quiet", "--out", yard.folder / "library"),
            "again": yard.run("batch", folder, "--quiet", "--out", yard.folder / "library"),
            "tag": yard.run("tag", folder),
        }
        for command, ended in runs.items():
            faults = ended.faults(as_json=command == "json")
            if (outside / "precious.txt").read_text() != "precious":
                faults.append("changed something outside")
            if command == "analyze" and not list((yard.folder / "written").rglob("plain.flac.json")):
                faults.append("the plain recording was not written")
            if command == "again" and "analysed 0" not in ended.out:
                faults.append(f"did something again: {ended.out!r}")
            tally.add(f"{name} ({command})", faults)
        for made in (folder, outside, yard.folder / "written", yard.folder / "library"):
            shutil.rmtree(made, ignore_errors=True)
    return tally


def _odd_folders(good: Path) -> Iterator[tuple[str, Callable[[Path], object]]]:
    def named(name: bytes) -> Callable[[Path], object]:
        return lambda folder: shutil.copy(good, folder / os.fsdecode(name))

    names = {
        "control characters": b"a\x1b]0;t\x07\x9b31m\r.flac", "line feed": b"a\nb.flac", "not UTF-8": b"\xff\xfe.flac",
        "255 bytes": b"n" * 250 + b".flac", "255 bytes of é": "é".encode() * 125 + b".flac", "minus": b"-o.flac",
        "formula": b"=HYPERLINK(1).flac", "percent": b"%s%n.flac", "markup": b"<script>alert(1)<.flac",
        "quotes": b"';--\".flac", "right to left": "\u202egpj.flac".encode(), "space": b" .flac", "dots": b"...flac",
        "emoji": "🎵.flac".encode(), "bracket": b"[red]x[bold].flac", "dollar": b"$HOME`id`.flac", "tab": b"a\tb.flac",
    }  # fmt: skip
    for name, raw in names.items():
        yield name, named(raw)
    yield "pipe", lambda folder: os.mkfifo(folder / "pipe.mp3")
    yield "link to nothing", lambda folder: (folder / "a.mp3").symlink_to("nowhere")
    yield "link to itself", lambda folder: (folder / "a.mp3").symlink_to("a.mp3")
    yield "link to the folder", lambda folder: (folder / "again").symlink_to(".")
    yield "device", lambda folder: (folder / "zero.mp3").symlink_to("/dev/zero")
    yield "folder with a suffix", lambda folder: (folder / "folder.mp3").mkdir()
    yield "empty file", lambda folder: (folder / "empty.mp3").touch()
    yield "year 2400", lambda folder: os.utime(folder / "plain.flac", (13_569_465_600, 13_569_465_600))
    yield "before 1970", lambda folder: os.utime(folder / "plain.flac", (-1_000_000, -1_000_000))
    yield "not a number", lambda folder: _spoilt(folder / "nan.wav", np.nan)
    yield "1e20", lambda folder: _spoilt(folder / "loud.wav", 1e20)
    yield "minus infinity", lambda folder: _spoilt(folder / "inf.wav", -np.inf)
    yield "junk", lambda folder: (folder / "junk.mp3").write_bytes(np.random.default_rng(1).bytes(50_000_000))
    yield "sparse", lambda folder: _sparse(folder / "sparse.wav")
    yield "deep folders", lambda folder: _deep(folder, good)


def _spoilt(path: Path, value: float) -> None:
    sound = 0.1 * np.random.default_rng(2).standard_normal(4 * RATE)
    sound[5000] = value
    soundfile.write(path, sound, RATE, subtype="FLOAT")


def _sparse(path: Path) -> None:
    soundfile.write(path, np.zeros(RATE), RATE)
    raw = bytearray(path.read_bytes())
    raw[4:8] = raw[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(raw)
    os.truncate(path, 1 << 31)


def _deep(folder: Path, good: Path) -> None:
    here = os.open(folder, os.O_RDONLY)
    for _ in range(200):  # beyond what one path can name
        os.mkdir("d" * 100, dir_fd=here)
        inner = os.open("d" * 100, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    descriptor = os.open("song.flac", os.O_CREAT | os.O_WRONLY, dir_fd=here)
    os.write(descriptor, good.read_bytes())
    os.close(descriptor)
    os.close(here)
