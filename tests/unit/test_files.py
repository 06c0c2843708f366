"""Files appear whole or not at all; what a kill left is removed, and what lives stays."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from emoseg.errors import ConfigError, EmosegError
from emoseg.system.files import (
    NAME_BYTES,
    fitting_name,
    folder_locked,
    modified_ns,
    read_text,
    remove_leftovers,
    require_regular,
    work_folder,
    write_whole,
    written_whole,
)


def test_a_file_that_fails_half_way_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "result.txt"
    target.write_text("old")

    def fail() -> None:
        with written_whole(target) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["result.txt"]


def test_a_full_disk_is_one_line_that_names_the_target(tmp_path: Path) -> None:
    def fill() -> None:
        with written_whole(tmp_path / "result.txt"):
            raise OSError(28, "No space left on device")

    with pytest.raises(EmosegError, match=r"result\.txt: cannot be written: No space left"):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_one_line_that_names_the_target(tmp_path: Path) -> None:
    with pytest.raises(EmosegError, match=r"none/result\.txt: cannot be written: No such file"):
        write_whole(tmp_path / "none" / "result.txt", "text")


@pytest.mark.skipif(sys.platform == "win32", reason="needs file locks of POSIX")
def test_leftovers_of_a_kill_go_and_files_of_the_living_stay(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from emoseg.system.files import written_whole, work_folder\n"
        "with written_whole(Path(sys.argv[1]) / 'a') as file, work_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'b').write_text('half'); print('ready', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (tmp_path / "mine.txt").write_text("kept")
        remove_leftovers(tmp_path)
        assert len(list(tmp_path.iterdir())) == 3  # the living process' file and folder
        os.kill(process.pid, signal.SIGKILL)
    assert len(list(tmp_path.iterdir())) == 3
    remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_leftovers_below_go_where_asked(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (inner / ".emoseg-1.tmp").touch()
    (inner / "song.json").touch()
    remove_leftovers(tmp_path)
    assert (inner / ".emoseg-1.tmp").exists()
    remove_leftovers(tmp_path, below=True)
    assert [p.name for p in inner.iterdir()] == ["song.json"]
    remove_leftovers(tmp_path / "missing")


def test_work_folders_go_with_their_content(tmp_path: Path) -> None:
    with work_folder(tmp_path) as folder:
        (folder / "a").write_text("x")
        remove_leftovers(tmp_path)
        assert (folder / "a").exists()
    assert list(tmp_path.iterdir()) == []


def _hold(folder: Path, ready: object, done: object) -> None:
    with folder_locked(folder):
        ready.set()  # type: ignore[attr-defined]
        done.wait()  # type: ignore[attr-defined]


def test_a_folder_is_locked_for_one_process_at_a_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, ready, done))
    other.start()
    ready.wait()
    with pytest.raises(EmosegError, match="another emoseg process uses it"), folder_locked(tmp_path):
        pass
    done.set()
    other.join()
    with folder_locked(tmp_path):
        assert (tmp_path / "lock").exists()


def test_a_pipe_is_refused_without_being_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="pipe: is not a regular file"):
        require_regular(tmp_path / "pipe", error=ConfigError)
    with pytest.raises(ConfigError, match="is a folder"):
        require_regular(tmp_path, error=ConfigError)
    with pytest.raises(ConfigError, match="File name too long"):
        require_regular("x" * 5000, error=ConfigError)
    with pytest.raises(ConfigError, match="no such file"):
        require_regular("null\0character", error=ConfigError)


def test_text_is_bounded_and_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbfabc")
    assert read_text(file, most_bytes=6) == "abc"
    with pytest.raises(EmosegError, match=r"a\.txt: has 0\.0 MB; at most 5e-06 MB"):
        read_text(file, most_bytes=5)
    file.write_bytes(b"ab\xff")
    with pytest.raises(EmosegError, match=r"is not UTF-8 text \(byte 2\)"):
        read_text(file, most_bytes=100)


def test_times_after_2262_fit_in_64_bits_and_stay_different(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.touch()
    times = []
    for year in (2400, 2401):
        os.utime(file, ((year - 1970) * 31556952, (year - 1970) * 31556952))
        times.append(modified_ns(file.stat()))
    assert all(-(2**63) <= t < 2**63 for t in times)
    assert times[0] != times[1]
    os.utime(file, ns=(5, 7))
    assert modified_ns(file.stat()) == 7


def test_long_names_are_shortened_and_stay_different() -> None:
    assert fitting_name("song.mp3", ".json") == "song.mp3.json"
    names = {fitting_name("é" * 124 + end, ".json") for end in ("aaaa", "bbbb")}
    assert len(names) == 2
    assert all(len(os.fsencode(name)) <= NAME_BYTES and name.endswith(".json") for name in names)


def test_a_lock_that_is_something_else_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(b"no database" * 1000)
    match = "lock: cannot be used as a lock: file is not a database"
    with pytest.raises(EmosegError, match=match), folder_locked(tmp_path):
        pass
    (tmp_path / "lock").unlink()
    (tmp_path / "lock").mkdir()
    with pytest.raises(EmosegError, match="lock: cannot be written: unable to open"), folder_locked(tmp_path):
        pass
