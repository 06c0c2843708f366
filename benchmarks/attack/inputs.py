"""Hostile model folders, undo files, tables, settings and options against the commands that read them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import models
import numpy as np
import soundfile
import tagged_audio
import undo_files
from damaged_audio import RATE
from harness import Tally, Yard, changed, snapshot


def attack_models(yard: Yard, seed: int, count: int) -> Tally:
    """Analyse with, show and export hostile model folders; nothing outside the export's folder changes."""
    tally = Tally("model folders")
    song = _song(yard.folder / "song.flac")
    inside = yard.folder / "inside"
    for name, write in models.trials(seed, count):
        inside.mkdir()
        (inside / ".bashrc").write_text("mine")
        write(inside / "model")
        before = snapshot(inside)
        ended = [
            yard.run("analyze", song, "--model", inside / "model", "--json", "--quiet", limit_s=60),
            yard.run("model", "show", inside / "model", limit_s=60),
            yard.run("model", "export", inside / "model", yard.folder / "exported", limit_s=60),
        ]
        faults = [fault for one in ended for fault in one.faults()]
        tally.add(name, [*faults, *changed(before, snapshot(inside))])
        for folder in (inside, yard.folder / "exported"):
            shutil.rmtree(folder, ignore_errors=True)
    return tally


def attack_undo_files(yard: Yard, seed: int, count: int) -> Tally:
    """Undo by hostile undo files; files that no honest line names stay as they were."""
    tally = Tally("undo files")
    for name, write in undo_files.trials(seed, count):
        folder = yard.folder / "undo"
        folder.mkdir()
        precious = yard.folder / "precious.txt"
        precious.write_text("precious")
        write(folder / "undo.jsonl")
        faults = yard.run("tag", "--undo", folder / "undo.jsonl", limit_s=60).faults()
        if precious.read_text() != "precious":
            faults.append("changed something outside")
        tally.add(name, faults)
        shutil.rmtree(folder, ignore_errors=True)
    return tally


def attack_tagging(yard: Yard, seed: int, count: int) -> Tally:
    """Tag odd and damaged files, then undo: sound stays the same while tagged, and every byte comes back."""
    from emoseg.audio.decoding import sound_digests

    tally = Tally("tagging")
    for name, write in tagged_audio.trials(seed, count):
        folder = yard.folder / "music"
        folder.mkdir()
        path = folder / name.replace("/", "-").rpartition(" ")[2]
        write(path)
        before = snapshot(folder)
        sounds = {found: sound_digests(found) for found in map(Path, before)}
        undo = yard.folder / "undo.jsonl"
        faults = yard.run("tag", folder, "--write", "--undo-file", undo).faults()
        for found, sound in sounds.items():
            now = sound_digests(found)
            if any(now.get(decoder) != digest for decoder, digest in sound.items()):
                faults.append(f"sounds different: {found.name}")
        if undo.exists():
            ended = yard.run("tag", "--undo", undo)
            faults += ended.faults(statuses=(0,))
            undo.unlink()
        tally.add(name, [*faults, *changed(before, snapshot(folder))])
        shutil.rmtree(folder, ignore_errors=True)
    return tally


def attack_tables(yard: Yard, seed: int) -> Tally:
    """Check and train on hostile tables and settings."""
    tally = Tally("tables and settings")
    music = yard.folder / "music"
    music.mkdir()
    for i in range(4):
        _song(music / f"{i}.flac", i)
    for name, write in _tables(music, np.random.default_rng(seed)):
        table = yard.folder / "table.csv"
        write(table)
        tally.add(name, yard.run("corpus", "check", f"csv:{table}", "--workers", "1").faults())
        _remove(table)
    good = yard.folder / "good.csv"
    good.write_text("path,label\n" + "".join(f"{music / f'{i}.flac'},{'ab'[i % 2]}\n" for i in range(4)))
    for name, write in _settings():
        settings = yard.folder / "settings.toml"
        write(settings)
        out = yard.folder / "model"
        command = ("train", f"csv:{good}", "--config", settings, "--out", out, "--workers", "1", "--quiet")
        tally.add(name, yard.run(*command).faults())
        _remove(settings)
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(yard.folder / ".model.unfinished", ignore_errors=True)
    return tally


def attack_options(yard: Yard) -> Tally:
    """Give every command values that are no numbers, no moods, no paths."""
    tally = Tally("options")
    music, library = yard.folder / "songs", yard.folder / "library"
    music.mkdir()
    for i in range(3):
        _song(music / f"{i}.flac", i)
    yard.run("batch", music, "--out", library, "--quiet")
    odd = [
        "nan",
        "inf",
        "-inf",
        "1e999",
        "1e-300",
        "-1",
        "0",
        "",
        ",",
        "0.5,nan",
        "x" * 5000,
        "\x1b[31m",
        "null\n",
        "é",
    ]
    song = music / "0.flac"
    commands: list[tuple[str | Path, ...]] = [
        *(("library", library, "--most", value) for value in odd),
        *(("library", library, "--playlist", value) for value in (*odd, "sad:nan", ":", "sad:happy:calm")),
        *(("library", library, "--playlist", "sad:happy", "--minutes", value) for value in odd),
        *(("library", library, "--like", value) for value in odd),
        *(("library", library, "--sql", value) for value in (*odd, *_SQL)),
        *(("analyze", song, "--hop", value) for value in odd),
        *(("analyze", song, "--model", value) for value in odd),
        *(("analyze", song, "--format", value, "--out", yard.folder / "o") for value in odd),
        *(("batch", music, "--out", library, "--timeout", value) for value in odd),
        *(("batch", music, "--out", library, "--shard", value) for value in odd),
        *(("corpus", "noise", f"folder:{music}", "--segment", value) for value in odd),
        *(("corpus", "check", f"folder:{music}", option, v) for option in ("--margin", "--threshold") for v in odd),
        *(("evaluate", f"folder:{music}", "--out", "r.json", option, value) for option in _EVALUATE for value in odd),
        *((command, value) for command in ("analyze", "tag") for value in odd if value),
    ]
    for command in commands:
        faults = yard.run(*(str(part).replace("\0", "") for part in command)).faults()
        tally.add(" ".join(str(part)[:40] for part in command[1:]), faults)
    return tally


_EVALUATE = ("--noise", "--fraction", "--method", "--folds", "--test-split")
_SQL = (
    "select 1/0, 'nan'::double, 'inf'::double", "select * from nothing", "copy songs to 'stolen.csv'",
    "select * from read_csv('/etc/passwd')", "install httpfs", "attach 'x.db'", "select repeat('x', 1000000)",
    "set enable_external_access = true", "drop table songs", "select unnest(range(100))", ";", "select 'a' || chr(27)",
)  # fmt: skip


def _tables(music: Path, random: np.random.Generator) -> Iterator[tuple[str, Callable[[Path], object]]]:
    rows = [f"{music / f'{i}.flac'},{'ab'[i % 2]}" for i in range(4)]
    good = "path,label\n" + "\n".join(rows) + "\n"
    contents = {
        "empty table": b"",
        "header alone": b"path,label\n",
        "no such column": b"a,b\n1,2\n",
        "twice the same column": b"path,path,label\n1,2,3\n",
        "not UTF-8": b"path,label\n\xff\xfe,a\n",
        "UTF-16": good.encode("utf-16"),
        "null characters": good.replace("a", "\0").encode(),
        "a cell of 10 MB": (good + "x" * 10_000_000 + ",a\n").encode(),
        "an open quotation mark": (good + '"' + "x\n" * 1000).encode(),
        "a million empty lines": (good + "\n" * 1_000_000).encode(),
        "formulas": (good + "=cmd()|x,@SUM(1)\n").encode(),
        "control characters": (good + "a\x1b[31m.flac,b\x9b\n").encode(),
        "a folder and a pipe": (good + f"{music},a\n{music / 'pipe.mp3'},b\n").encode(),
        "paths outside": (good + "../../../etc/passwd,a\n/dev/zero,b\n").encode(),
        "one label": good.replace(",b", ",a").encode(),
        "a thousand columns": ("path,label" + ",x" * 1000 + "\n" + rows[0] + ",1" * 1000 + "\n").encode(),
        "a path of 5000": (good + "y" * 5000 + ",a\n").encode(),
    }
    for name, content in contents.items():
        yield name, lambda path, content=content: path.write_bytes(content)  # type: ignore[misc]
    yield "a folder", lambda path: path.mkdir()
    yield "a pipe", lambda path: os.mkfifo(path)
    yield "a sparse table of 1 GB", _write_sparse
    yield "a link to itself", lambda path: path.symlink_to(path)
    for i in range(20):
        raw = bytearray(good.encode())
        for at in random.integers(0, len(raw), 5):
            raw[at] = int(random.integers(256))
        yield f"flipped bytes {i}", lambda path, raw=raw: path.write_bytes(raw)  # type: ignore[misc]


def _settings() -> Iterator[tuple[str, Callable[[Path], object]]]:
    contents = {
        "nested": "a = " + "[" * 100_000, "nested tables": "[" + ".".join("a" * 3000) + "]",
        "a huge number": "seed = " + "9" * 100_000, "not a number": "[learning]\nepochs = nan",
        "infinity": "[learning]\nlearning_rate = inf", "negative": "[learning]\nepochs = -1",
        "a huge network": "[learning.network]\nhidden = [1000000000]", "text": "[learning]\nepochs = 'many'",
        "an unknown key": "[learning]\nepoch = 1", "no TOML": "}{",
        "a segment of an hour": "[segment]\nlength_s = 3600",
        "no length": "[segment]\nlength_s = 0", "a rate of a billion": "[segment]\nsample_rate_hz = 1000000000",
        "a list": "segment = [1]", "control characters": "[learning]\nepochs = '\\u001b[31m'",
        "a date": "a = 1979-05-27",
    }  # fmt: skip
    for name, content in contents.items():
        yield name, lambda path, content=content: path.write_text(content)  # type: ignore[misc]
    yield "settings: not UTF-8", lambda path: path.write_bytes(b"\xff\xfe")
    yield "settings: a folder", lambda path: path.mkdir()
    yield "settings: a pipe", lambda path: os.mkfifo(path)
    yield "settings: 1 GB", _write_sparse


def _write_sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 30)


def _song(path: Path, number: int = 0) -> Path:
    random = np.random.default_rng(number)
    times = np.arange(5 * RATE) / RATE
    sound = 0.3 * np.sin(2 * np.pi * random.uniform(100, 900) * times * (1 + 0.1 * np.sin(times)))
    soundfile.write(path, sound + 0.02 * random.standard_normal(len(times)), RATE)
    return path


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
