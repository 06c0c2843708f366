"""A kill or a full disk at any moment loses nothing."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import soundfile
from batches import Small, analyses, fake_ffmpeg, in_process, listed, tables
from made import RATE, command, make_songs, spawn, tone

from emoseg.errors import EmosegError
from emoseg.library import Manifest, merge
from emoseg.system.files import PREFIX

# --- full disks ------------------------------------------------------------------------------------------------------


FULL = """
import resource, sys
from emoseg.cli.app import main

pytest_plugins = ["batch_fixtures"]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
sys.argv[0] = "emoseg"
main()
"""


def run_with_limit(limit: int, *args: str | Path) -> None:
    """Run the command where no file may be larger than a limit, and see that it says so in one line."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(limit), *map(str, args)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done
    assert done.stderr.startswith("emoseg: ")
    assert done.stderr.count("\n") == 1
    assert "cannot be written" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs limits of file size")
@pytest.mark.parametrize("limit", [0, 9000, 50000, 60000])
def test_a_full_disk_is_one_line_and_nothing_half_written(
    music: Path, whole: Path, model: Path, tmp_path: Path, limit: int
) -> None:
    out = tmp_path / "out"
    args = ["batch", str(music), "--out", str(out), "--model", str(model), "--workers", "1", "-q"]
    run_with_limit(limit, *args)
    assert not list(out.rglob("*.parquet"))
    assert not list(out.rglob("*.tmp"))
    assert spawn(*args).status == 0
    assert tables(out) == tables(whole)
    assert set(analyses(out).values()) == {1}


@pytest.mark.skipif(os.name != "posix", reason="needs limits of file size")
@pytest.mark.parametrize("limit", [0, 2000, 9000])
def test_a_full_disk_while_merging_is_one_line_and_leaves_nothing(
    small: Small, out: Path, tmp_path: Path, limit: int
) -> None:
    sizes = [file.stat().st_size for file in out.rglob("*") if file.name != "lock"]
    assert max(sizes) > limit, "something does not fit"
    run_with_limit(limit, "batch", "--merge", tmp_path / "merged", out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert tables(out) == tables(small.library)
    assert spawn("batch", "--merge", tmp_path / "merged", out).status == 0
    assert tables(tmp_path / "merged") == tables(small.library)


class FullDisk:
    """Makes each write fail after a number of them that succeeded."""

    def __init__(self, patch: pytest.MonkeyPatch, successes: int) -> None:
        self.left, self.failed = successes, False
        for owner, name in (
            (Path, "mkdir"),
            (Path, "replace"),
            (Path, "write_bytes"),
            (os, "fsync"),
            (pq, "write_table"),
        ):
            patch.setattr(owner, name, self._failing(getattr(owner, name), OSError(errno.ENOSPC, "No space left")))
        full = sqlite3.OperationalError("database or disk is full")
        patch.setattr(Manifest, "transaction", self._failing(Manifest.transaction, full))

    def _failing(self, real: Callable[..., Any], error: Exception) -> Callable[..., Any]:
        def write(*args: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                self.failed = True
                raise error
            return real(*args, **options)

        return write


def full_disk_at_every_write(
    action: Callable[[], object],
    monkeypatch: pytest.MonkeyPatch,
    restore: Callable[[], None],
    check: Callable[[], None],
) -> int:
    """Run an action with a disk that is full after 0, 1, 2, ... writes; return the number of writes."""
    for successes in range(100):
        restore()
        with monkeypatch.context() as patch:
            disk = FullDisk(patch, successes)
            try:
                action()
            except EmosegError as error:
                reported = str(error)
        if not disk.failed:
            return successes
        assert "cannot be written: " in reported
        assert "\n" not in reported
        check()
    raise AssertionError("more writes than anyone expects")


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_write_of_an_update(
    model: Path, tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in sorted(own.rglob("*.*"))[3:]:
        file.unlink()
    (own / "silent.mp3").touch()
    start, out = tmp_path / "start", tmp_path / "out"
    in_process(own, start, model)
    # A song goes, and the part with its rows is replaced; nothing is analysed, so that no process is needed.
    next(own.glob("artist*/*/*.*")).unlink()
    in_process(own, Path(shutil.copytree(start, tmp_path / "done")), model)
    wanted = tables(tmp_path / "done")
    assert len(wanted[0]) == 2

    def restore() -> None:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(start, out)

    def check() -> None:
        assert not list(out.rglob(f"{PREFIX}*"))
        assert in_process(own, out, model).analysed == 0
        assert tables(out) == wanted
        assert [row["path"] for row in listed(out)] == ["silent.mp3"]

    writes = full_disk_at_every_write(lambda: in_process(own, out, model), monkeypatch, restore, check)
    assert writes >= 12, "two files, the list of failures, and four changes of the manifest"


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_write_of_a_merge(
    small: Small, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged = tmp_path / "merged"

    def restore() -> None:
        shutil.rmtree(merged, ignore_errors=True)

    def check() -> None:
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        merge(merged, [out])
        assert tables(merged) == tables(small.library)

    writes = full_disk_at_every_write(lambda: merge(merged, [out]), monkeypatch, restore, check)
    assert writes >= 9, "folders, two files, their names, and the manifest"


# --- kill -9 ---------------------------------------------------------------------------------------------------------

CRASH = """
import os, sys
from pathlib import Path
from emoseg.library.manifest import Manifest
from emoseg.cli.app import main

if __name__ == "__main__":
    steps = int(sys.argv.pop(1))

    def die_after(owner, name):
        real = getattr(owner, name)

        def step(*args, **options):
            global steps
            steps -= 1
            if steps == 0:
                os._exit(77)
            result = real(*args, **options)
            steps -= 1
            if steps == 0:
                os._exit(77)
            return result

        setattr(owner, name, step)

    die_after(Path, "replace")
    die_after(Path, "unlink")
    die_after(Manifest, "record")
    die_after(Manifest, "update")
    die_after(Manifest, "add_part")
    sys.argv[0] = "emoseg"
    main()
"""


def steps_until_done(script: Path, args: list[str]) -> Iterator[int]:
    """Run again and again, dying one step later each time a run dies; yield the status of each run."""
    for steps in range(1, 200):
        done = subprocess.run(
            [sys.executable, str(script), str(steps), *args], capture_output=True, text=True, check=False
        )
        assert done.returncode in (0, 77), done
        yield done.returncode
        if done.returncode == 0:
            return


@pytest.mark.slow
def test_death_at_every_step_of_writing_loses_nothing(own: Path, model: Path, tmp_path: Path, whole: Path) -> None:
    script = tmp_path / "crash.py"
    script.write_text(CRASH)
    out = tmp_path / "out"
    for file in sorted(own.rglob("*.*"))[5:]:
        file.unlink()
    args = ["batch", str(own), "--out", str(out), "--model", str(model), "--workers", "1", "-q"]
    in_process(own, out, model)
    # One song changes and one goes: the part is written anew, with every step that a batch knows.
    changed, gone = sorted(own.rglob("*.*"))[:2]
    soundfile.write(changed, tone(50), RATE)
    gone.unlink()
    statuses = list(steps_until_done(script, args))
    assert statuses.count(77) >= 6, "there are that many steps to die at"
    in_process(own, tmp_path / "fresh", model)
    assert tables(out) == tables(tmp_path / "fresh")
    assert sorted(analyses(out).values()) == [1, 1, 1, 1, 2]
    assert not list(out.rglob(f"{PREFIX}*"))


@pytest.mark.slow
def test_death_at_every_step_of_merging_leaves_nothing(small: Small, out: Path, tmp_path: Path) -> None:
    script, folder = tmp_path / "crash.py", tmp_path / "new"
    script.write_text(CRASH)
    args = ["batch", "--merge", str(folder / "merged"), str(out)]
    deaths = 0
    for status in steps_until_done(script, args):
        deaths += status == 77
        if (folder / "merged").exists():  # it appears whole
            assert tables(folder / "merged") == tables(small.library)
            shutil.rmtree(folder / "merged")
    assert deaths >= 6, "there are that many steps to die at"
    assert list(folder.iterdir()) == [], "what a killed merge left is removed by the next"
    merge(folder / "merged", [out])
    assert tables(folder / "merged") == tables(small.library)
    assert tables(out) == tables(small.library)


HOLD = """
import sys, time
import emoseg.library.parts
from emoseg.library.manifest import Manifest
from emoseg.cli.app import main

if __name__ == "__main__":
    moment, songs = sys.argv.pop(1), int(sys.argv.pop(1))
    emoseg.library.parts.PART_SONGS = 8

    def hold(name, before):
        real = getattr(Manifest, name)

        def step(first, *args):
            result = None if before else real(first, *args)
            database = first._db if isinstance(first, Manifest) else first
            (done,) = database.execute("SELECT count(*) FROM songs WHERE state = 'done'").fetchone()
            if done >= songs:
                print("held", flush=True)
                time.sleep(1000)
            return real(first, *args) if before else result

        setattr(Manifest, name, staticmethod(step) if name == "_record" else step)

    hold(*{"between": ("record", False), "inside": ("_record", False), "part": ("add_part", True)}[moment])
    sys.argv[0] = "emoseg"
    main()
"""


@pytest.mark.skipif(os.name != "posix", reason="needs kill -9")
@pytest.mark.slow
def test_kill_9_while_processes_work_changes_nothing(model: Path, tmp_path: Path) -> None:
    root, out, script = tmp_path / "music", tmp_path / "out", tmp_path / "hold.py"
    make_songs(root, 40, seconds=4)
    (root / "broken.mp3").write_text("no sound")
    script.write_text(HOLD)
    args = ["batch", str(root), "--out", str(out), "--model", str(model), "--workers", "2", "-q"]
    # Between two changes of the manifest, in the middle of one, and while a part is written that does not count yet.
    for moment, songs in (("between", 1), ("inside", 9), ("part", 16), ("between", 23), ("part", 28)):
        command = [sys.executable, str(script), moment, str(songs), *args]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            process.kill()
        assert songs - 2 <= done_so_far(out) < 40
    assert spawn(*args).status == 1, "the broken file remains"
    assert sorted(set(analyses(out).values())) == [1]
    assert len(analyses(out)) == 41
    in_process(root, tmp_path / "fresh", model, workers=2)
    assert tables(out) == tables(tmp_path / "fresh")
    assert len(tables(out)[0]) == 40


def done_so_far(out: Path) -> int:
    try:
        manifest = Manifest.open(out)
    except (EmosegError, sqlite3.Error):
        return 0
    try:
        return manifest.counts()["done"]
    finally:
        manifest.close()


def test_workers_end_with_their_parent(model: Path, tmp_path: Path) -> None:
    if not Path("/proc").is_dir():
        pytest.skip("needs /proc")
    root = tmp_path / "music"
    make_songs(root, 4)
    (root / "bad.wav").write_text("no sound\n" * 100)
    mark = os.fsencode(tmp_path)
    environment = {**os.environ, **fake_ffmpeg(tmp_path / "bin", "exec sleep 1000"), "MARK": str(tmp_path)}
    args = command("batch", root, "--out", tmp_path / "out", "--model", model, "--workers", "2", "-q")
    process = subprocess.Popen(args, env=environment)
    deadline = time.monotonic() + 60
    while done_so_far(tmp_path / "out") < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers_of(mark), "one of them waits for its decoder"
    process.kill()
    process.wait()
    while workers_of(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers_of(mark) == []


def workers_of(mark: bytes) -> list[int]:
    """Return the spawned processes that have a mark in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                spawned = b"spawn_main" in (folder / "cmdline").read_bytes()
                if spawned and b"MARK=" + mark in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:  # it ended meanwhile
                continue
    return found
