"""Processes end with the process that started them, and what goes wrong in one of them is one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from emoseg.errors import AudioError, ConfigError, EmosegError, MissingExtraError
from emoseg.system.parallel import Loss, Start, run_parallel


def doubling(offset: int) -> Callable[[int], int]:
    return lambda number: 2 * number + offset


def failing(kind: str) -> Callable[[int], int]:
    def fail(number: int) -> int:
        if number < 3:
            return number
        if kind == "audio":
            raise AudioError("a.mp3: is silent", kind="silent")
        if kind == "extra":
            raise MissingExtraError("reading", "av")
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    return fail


def refusing() -> Callable[[int], int]:
    raise ConfigError("model: is not a model folder")


@pytest.mark.parametrize("workers", [1, 2])
def test_every_item_is_answered_once(workers: int) -> None:
    found = dict(run_parallel(range(7), Start(doubling, (1,)), workers=workers))
    assert found == {i: 2 * i + 1 for i in range(7)}


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_arrive_as_they_were_raised(workers: int) -> None:
    with pytest.raises(AudioError, match=r"a\.mp3: is silent") as caught:
        list(run_parallel(range(5), Start(failing, ("audio",)), workers=workers))
    assert caught.value.kind == "silent"
    with pytest.raises(MissingExtraError, match=r"reading needs packages .*: pip install av") as missing:
        list(run_parallel(range(5), Start(failing, ("extra",)), workers=workers))
    assert missing.value.extra == "av"
    with pytest.raises(ConfigError, match="is not a model folder"):
        list(run_parallel(range(5), Start(refusing), workers=workers))


def test_a_killed_process_is_one_line() -> None:
    with pytest.raises(EmosegError, match=r"a process ended suddenly \(killed"):
        list(run_parallel(range(5), Start(failing, ("kill",)), workers=2))


def troubled() -> Callable[[int], int]:
    def work(number: int) -> int:
        if number == 2:
            os._exit(7)
        if number == 3:
            time.sleep(600)
        return number

    return work


def lost(item: object, loss: Loss) -> str:
    return f"{item} {loss.kind}: {loss.words}"


@pytest.mark.parametrize("workers", [1, 2])
def test_an_item_that_ends_its_process_or_takes_too_long_is_given_up(workers: int) -> None:
    def limit_s(item: int) -> float:
        return 1.0 if item == 3 else 60.0

    found = dict(run_parallel(range(6), Start(troubled), workers=workers, on_loss=lost, limit_s=limit_s))
    assert found == {
        0: 0,
        1: 1,
        2: "2 crashed: ended its process twice (status 7)",
        3: "3 timeout: given up after 1 s",
        4: 4,
        5: 5,
    }


def test_items_are_taken_as_processes_become_free() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    with closing(run_parallel(items(), Start(doubling, (0,)), workers=2)) as found:
        next(found)
    assert len(taken) < 10


SCRIPT = """
import operator
from emoseg.system.parallel import Start, run_parallel
print(sorted(run_parallel(["ab", "cd"], Start(operator.itemgetter, (0,)), workers=2)))
"""


def test_a_script_without_a_guard_gets_the_reason_of_its_failure(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    words = "a script that uses several processes must make its calls below 'if __name__ == \"__main__\":'"
    last = done.stderr.splitlines()[-1]
    assert last.startswith("emoseg.errors.EmosegError: 3 processes in a row could not be started; the last one: ")
    assert last.endswith(words)
    imports, call = SCRIPT.rsplit("\n", 2)[:2]
    script.write_text(f'{imports}\nif __name__ == "__main__":\n    {call}\n')
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "[(0, 'a'), (1, 'c')]\n"


def napping(folder: Path) -> Callable[[int], int]:
    (folder / str(os.getpid())).touch()

    def nap(number: int) -> int:
        time.sleep(600)
        return number

    return nap


PARENT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_parallel import napping
from emoseg.system.parallel import Start, run_parallel
if __name__ == "__main__":
    folder = Path(sys.argv[2])
    list(run_parallel(range(4), Start(napping, (folder,), folder=folder / "data"), workers=2))
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_processes_and_their_files_go_when_their_parent_is_killed(tmp_path: Path, how: signal.Signals) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    folder = tmp_path / "work"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "features.npy").write_bytes(b"x")
    with subprocess.Popen([sys.executable, str(script), str(Path(__file__).parent), str(folder)]) as parent:
        wait_until(lambda: len(list(folder.glob("[0-9]*"))) == 2)
        os.kill(parent.pid, how)
    pids = [int(p.name) for p in folder.glob("[0-9]*")]
    wait_until(lambda: not any(map(alive, pids)))
    wait_until(lambda: not (folder / "data").exists())


def wait_until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds; fail after a minute."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "this never happened"
        time.sleep(0.05)


def dying(folder: str) -> Callable[[str], str]:
    """Return work that ends its process on "twice", and on "once" the first time."""

    def work(item: str) -> str:
        seen = Path(folder, item)
        if item == "twice" or (item == "once" and not seen.exists()):
            seen.touch()
            os._exit(7)
        return item.upper()

    return work


def test_an_item_that_ends_its_process_is_tried_once_more_and_then_has_the_callers_result(tmp_path: Path) -> None:
    items = ["a", "once", "twice", "b", "c"]
    start = Start(dying, (str(tmp_path),))
    found = dict(run_parallel(iter(items), start, workers=2, on_loss=lambda item, loss: f"{item}: {loss.words}"))
    assert found == {0: "A", 1: "ONCE", 2: "twice: ended its process twice (status 7)", 3: "B", 4: "C"}


def test_without_a_result_for_it_a_death_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EmosegError, match=r"a process ended suddenly \(status 7\)"):
        list(run_parallel(["a", "twice"], Start(dying, (str(tmp_path),)), workers=2))


def test_processes_that_never_become_ready_end_the_run() -> None:
    words = r"3 processes in a row could not be started; .* it ended before it was ready \(status 5\)$"
    with pytest.raises(EmosegError, match=words):
        list(run_parallel(["a", "b"], Start(os._exit, (5,)), workers=2, on_loss=lost))
