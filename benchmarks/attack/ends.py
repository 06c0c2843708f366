"""Kills and full disks: nothing is lost, nothing is left, and the same command goes on to the same result."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import Tally, Yard, changed, snapshot
from inputs import _song

_SMALL = """
[learning]
members = 2
epochs = 3
[methods.sssl]
warmup_epochs = 2
[learning.network]
hidden = [16]
"""


@dataclass(frozen=True)
class Command:
    """A command to be ended early.

    Parameters
    ----------
    name : str
    arguments : callable
        From the folder of a trial to the command's arguments.
    prepare : callable
        Puts into the folder what the command needs.
    result : callable
        From the folder to what must be the same in the end, whatever happened on the way.
    """

    name: str
    arguments: Callable[[Path], tuple[str | Path, ...]]
    prepare: Callable[[Path, Path], object]
    result: Callable[[Path], object]


def commands() -> list[Command]:
    """Return every command that writes."""
    return [
        Command("analyze", _analyze, _music, lambda folder: _whole_files(folder / "out")),
        Command("batch", _batch, _music, _tables),
        Command("tag --write", _tag, _music, _sounds),
        Command("tag --undo", _undo, _tagged, lambda folder: _contents(folder / "music")),
        Command("corpus synth", _synth, lambda folder, music: None, lambda folder: _contents(folder / "corpus")),
        Command("corpus check", _check, _music, lambda folder: None),
        Command("train", _train, _labelled, lambda folder: _contents(folder / "model")),
        Command("evaluate", _evaluate, _labelled, _figures),
    ]


def attack_by_kills(yard: Yard, seed: int, count: int) -> Tally:
    """Kill every command `count` times at random moments, by three signals; then run it to its end."""
    tally = Tally("kills")
    music = _make_music(yard)
    for command in commands():
        reference, took_s = _reference(yard, command, music)
        for i in range(count):
            rng = np.random.default_rng([seed, i])
            how = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)[i % 3]
            name = f"{command.name}, {how.name} {i}"
            with _folder(yard, command, music) as folder:
                environment = yard.environment()
                process = yard.start(*command.arguments(folder), environment=environment)
                time.sleep(float(rng.uniform(0.05, took_s)))
                process.send_signal(how)
                status = process.wait()
                faults = yard.ended(environment, status, 0).faults(statuses=(0, 1, 2, 130, 143, -9))
                if how == signal.SIGKILL:  # its temporary files are for the next run to remove
                    faults = [fault for fault in faults if not fault.startswith("left behind: temporary")]
                again = yard.run(*command.arguments(folder))
                faults += again.faults(statuses=(0,) if status else (0, 2))  # 2: it was done, and its output is there
                faults += _differences(reference, command.result(folder))
                faults += [f"left behind: {path.name}" for path in folder.rglob(".emoseg-*")]
                tally.add(name, faults)
    return tally


def attack_by_full_disks(yard: Yard, seed: int, count: int) -> Tally:
    """Run every command on a disk that is full after some bytes, then with room: the result is the same."""
    tally = Tally("full disks")
    music = _make_music(yard)
    for command in commands():
        reference, _ = _reference(yard, command, music)
        need = sum(path.stat().st_size for path in (yard.folder / "trial-size").rglob("*") if path.is_file())
        for i in range(count):
            rng = np.random.default_rng([seed, i])
            with _small_disk(yard, need) as disk:
                if disk is None:
                    return tally
                command.prepare(disk, music)
                room = shutil.disk_usage(disk).free
                filler = disk / "filler"
                keep = int(rng.uniform(0, min(room, 400_000)))
                filler.write_bytes(b"x" * max(0, room - keep))
                ended = yard.run(*command.arguments(disk))
                faults = ended.faults(statuses=(0, 1, 2))
                filler.unlink()
                faults += yard.run(*command.arguments(disk)).faults(statuses=(0,) if ended.status else (0, 2))
                faults += _differences(reference, command.result(disk))
                tally.add(f"{command.name}, {keep} bytes left", faults)
    return tally


def _reference(yard: Yard, command: Command, music: Path) -> tuple[object, float]:
    with _folder(yard, command, music) as folder:
        started = time.monotonic()
        ended = yard.run(*command.arguments(folder), limit_s=600)
        took_s = time.monotonic() - started
        if ended.status != 0:
            raise SystemExit(f"{command.name}: status {ended.status}: {ended.err}")
        size = yard.folder / "trial-size"
        shutil.rmtree(size, ignore_errors=True)
        shutil.copytree(folder, size, symlinks=True)
        return command.result(folder), took_s


@contextmanager
def _folder(yard: Yard, command: Command, music: Path) -> Iterator[Path]:
    # The same path each time: it is part of some results.
    folder = yard.folder / "trial"
    folder.mkdir()
    command.prepare(folder, music)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def _small_disk(yard: Yard, need: int) -> Iterator[Path | None]:
    folder = yard.folder / "trial"
    folder.mkdir()
    size = 3 * need + 8_000_000
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    try:
        yield folder if mounted.returncode == 0 else None
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def _differences(reference: object, found: object) -> list[str]:
    if isinstance(reference, dict) and isinstance(found, dict):
        return changed(reference, found)
    return [] if reference == found else [f"another result: {str(found)[:200]}"]


def _make_music(yard: Yard) -> Path:
    music = yard.folder / "songs"
    if not music.exists():
        for i in range(8):
            (music / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
            _song(music / "ab"[i % 2] / f"{i}{('.flac', '.wav', '.ogg', '.mp3')[i // 2]}", i)
    return music


def _music(folder: Path, music: Path) -> None:
    shutil.copytree(music, folder / "music")


def _labelled(folder: Path, music: Path) -> None:
    _music(folder, music)
    (folder / "settings.toml").write_text(_SMALL)


def _tagged(folder: Path, music: Path) -> None:
    from harness import program

    _music(folder, music)
    where = [str(folder / "music"), "--undo-file", str(folder / "undo.jsonl")]
    command = [program(), "tag", *where, "--write", "--keep-mtime"]
    subprocess.run(command, capture_output=True, check=True)


def _analyze(folder: Path) -> tuple[str | Path, ...]:
    formats = [f"--format={name}" for name in ("json", "csv", "html", "jsonl", "parquet")]
    return "analyze", folder / "music", "--quiet", *formats, "--out", folder / "out"


def _batch(folder: Path) -> tuple[str | Path, ...]:
    return "batch", folder / "music", "--out", folder / "library", "--quiet", "--workers", "2"


def _tag(folder: Path) -> tuple[str | Path, ...]:
    count = len(list(folder.glob("undo-*")))
    return "tag", folder / "music", "--write", "--undo-file", folder / f"undo-{count}.jsonl"


def _undo(folder: Path) -> tuple[str | Path, ...]:
    return "tag", "--undo", folder / "undo.jsonl"


def _synth(folder: Path) -> tuple[str | Path, ...]:
    return "corpus", "synth", folder / "corpus", "--songs", "8", "--seed", "3", "--quiet", "--workers", "2"


def _check(folder: Path) -> tuple[str | Path, ...]:
    return "corpus", "check", f"folder:{folder / 'music'}", "--cache", folder / "cache", "--quiet", "--workers", "2"


def _train(folder: Path) -> tuple[str | Path, ...]:
    where = ("--out", folder / "model", "--cache", folder / "cache", "--config", folder / "settings.toml")
    return "train", f"folder:{folder / 'music'}", "--method", "mixup", *where, "--quiet", "--workers", "2"


def _evaluate(folder: Path) -> tuple[str | Path, ...]:
    where = ("--out", folder / "result.json", "--cache", folder / "cache", "--config", folder / "settings.toml")
    folds = ("--method", "mixup", "--folds", "2", "--seeds", "1", "--group", "none")
    return "evaluate", f"folder:{folder / 'music'}", *folds, *where, "--quiet", "--workers", "2"


def _contents(folder: Path) -> dict[str, str]:
    return snapshot(folder)


def _whole_files(folder: Path) -> dict[str, str]:
    # A killed run has no Parquet file, as docs/safety.md says, and the bytes of one are not compared.
    return {name: value for name, value in snapshot(folder).items() if not name.endswith(".parquet")}


def _tables(folder: Path) -> object:
    import pyarrow.parquet as pq

    rows = []
    for name in ("songs", "segments"):
        parts = sorted((folder / "library" / name).glob("*.parquet"))
        table = sorted((row for part in parts for row in pq.read_table(part).to_pylist()), key=str)
        rows.append([{key: value for key, value in row.items() if key != "model"} for row in table])
    return str(rows)


def _sounds(folder: Path) -> dict[str, str]:
    from emoseg.audio.decoding import sound_digests

    return {str(path): str(sound_digests(path)) for path in sorted((folder / "music").rglob("*")) if path.is_file()}


def _figures(folder: Path) -> object:
    import json

    return json.loads((folder / "result.json").read_text())["methods"]["mixup"]["macro_f1"]
