"""Work in several processes that end with the one that started them, however it ends.

Processes are spawned, never forked: a forked child of a process with threads can hang. They do not see an interrupt
(Ctrl-C), which is for the process that waits for them, and nothing that a library prints there reaches the user.

Inside: `WorkerProcess`, one process that answers requests one at a time; `run_parallel`, a function on many items;
`start_module`, a module of emoseg as a program.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.spawn import get_executable
from pathlib import Path
from typing import Any, Generic, TypeVar

from emoseg.errors import EmosegError

_REMOVALS = 100

In = TypeVar("In")
Out = TypeVar("Out")

ONE_THREAD: Mapping[str, str] = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
"""Environment of a process whose linear algebra uses one thread: sums in another order have other last digits."""


@dataclass(frozen=True)
class Start:
    """What a process needs to begin.

    Parameters
    ----------
    setup : callable
        Called once in the process with `arguments`; returns the function that answers each request.
    arguments : tuple
    environment : mapping of str to str
        Variables that the process has beside those of this one.
    folder : Path, optional
        A temporary folder that the process removes when the one that started it was killed.
    """

    setup: Callable[..., Callable[[Any], Any]]
    arguments: tuple[Any, ...] = ()
    environment: Mapping[str, str] | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class Answer(Generic[Out]):
    """What a process says: that it is ready (neither part), a result, or the error that took its place."""

    value: Out | None = None
    error: Exception | None = None


class WorkerProcess:
    """One process that answers requests one at a time.

    Attributes
    ----------
    pipe : Connection
        Where its answers come from: the first says that it is ready, or why it is not.
    """

    def __init__(self, start: Start) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, start), daemon=True)
        with _interrupts_blocked(), _environment(start.environment or {}):
            self._process.start()
        theirs.close()

    def ask(self, request: object) -> None:
        """Send a request; that the process died meanwhile shows in `answer`."""
        with suppress(OSError):
            self.pipe.send(request)

    def answer(self) -> Answer[Any] | None:
        """Return the next answer, after `pipe` has something to read; None where the process has died."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            return None

    def status(self) -> int | None:
        """Return the exit status of a process that has died, negative for a signal."""
        self._process.join(timeout=5)
        return self._process.exitcode

    def kill(self) -> None:
        """End the process, and those that it started."""
        self.pipe.close()
        if os.name == "posix" and self._process.pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self._process.close()


def run_parallel(
    items: Iterable[In],
    start: Start,
    *,
    workers: int,
    on_wait: Callable[[], object] | None = None,
    on_death: Callable[[In, str], object] | None = None,
) -> Generator[tuple[int, Any], None, None]:
    """Yield the index of each item and the result of the work on it, in the order in which they are finished.

    Parameters
    ----------
    items : iterable
        Taken one by one, as processes become free. All of them, and all results, can be pickled.
    start : Start
    workers : int
        Number of processes. With one, everything is done in this process.
    on_wait : callable, optional
        Called after each result, and twice a second between them.
    on_death : callable, optional
        Called with an item and the cause when the item has ended its process twice; returns the item's result. Without
        it, the first such death is an error.

    Raises
    ------
    EmosegError
        A process ended suddenly, or before it was ready.
    Exception
        What the work on an item raised.
    """
    if workers == 1 or (isinstance(items, Sized) and not len(items)):
        work = start.setup(*start.arguments)
        for i, item in enumerate(items):
            yield i, work(item)
        return
    pool = _Pool(items, start, on_death)
    try:
        pool.hire(min(workers, len(items)) if isinstance(items, Sized) else workers)
        while pool.workers:
            yield from pool.step(timeout_s=0.5 if on_wait else None)
            if on_wait:
                on_wait()
    finally:
        for worker in pool.workers.values():
            worker.kill()


class _Pool(Generic[In]):
    """The processes of a run by their pipes, the items that they work on, and the items that wait."""

    def __init__(self, items: Iterable[In], start: Start, on_death: Callable[[In, str], object] | None) -> None:
        self.workers: dict[Connection, WorkerProcess] = {}
        self._start, self._on_death = start, on_death
        self._waiting = enumerate(items)
        self._doing: dict[Connection, tuple[int, In]] = {}
        self._again: deque[tuple[int, In]] = deque()  # of processes that died
        self._died: set[int] = set()

    def hire(self, count: int) -> None:
        """Start processes; each asks for an item when it is ready."""
        for _ in range(count):
            worker = WorkerProcess(self._start)
            self.workers[worker.pipe] = worker

    def step(self, *, timeout_s: float | None) -> Iterator[tuple[int, Any]]:
        """Wait for at most `timeout_s`, see to every process that has an answer, and yield the results."""
        for pipe in wait(list(self.workers), timeout=timeout_s):
            assert isinstance(pipe, Connection)
            answer = self.workers[pipe].answer()
            if answer is None:
                yield from self._replace(pipe)
                continue
            if answer.error is not None:
                raise answer.error
            done = self._doing.pop(pipe, None)
            self._give(pipe)
            if done is not None:
                yield done[0], answer.value

    def _give(self, pipe: Connection) -> None:
        following = self._again.popleft() if self._again else next(self._waiting, None)
        if following is None:
            self.workers.pop(pipe).kill()
        else:
            self._doing[pipe] = following
            self.workers[pipe].ask(following[1])

    def _replace(self, pipe: Connection) -> Iterator[tuple[int, Any]]:
        """Start a process in the place of one that died; yield the result of an item that it died of twice."""
        cause = _cause(self.workers[pipe].status())
        if pipe not in self._doing:
            guard = "a script that starts processes needs 'if __name__ == \"__main__\":' before its calls"
            raise EmosegError(f"a process ended before it was ready ({cause}); {guard}")
        if self._on_death is None:
            raise EmosegError(f"a process ended suddenly ({cause})")
        index, item = self._doing.pop(pipe)
        self.workers.pop(pipe).kill()
        self.hire(1)
        if index in self._died:
            yield index, self._on_death(item, cause)
        else:
            self._died.add(index)
            self._again.append((index, item))


def _cause(status: int | None) -> str:
    if status == -signal.SIGKILL:
        return "killed; perhaps the memory was full"
    return f"signal {-status}" if status and status < 0 else f"status {status}"


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Start processes with interrupts blocked: one that is still starting would print a traceback."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def start_module(module: str) -> subprocess.Popen[bytes]:
    """Start a module of emoseg as a program that is talked to through pipes, its remarks going nowhere.

    For work of a few C libraries that must not harm this process. Unlike a `WorkerProcess` it needs no guard in the
    script of a host, because it does not import it.
    """
    return subprocess.Popen(
        # Python's own folder of the moment is no place for modules (-P).
        [os.fsdecode(get_executable()), "-P", "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | ONE_THREAD | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,  # which keeps interrupts away
        bufsize=0,  # a buffer has a lock, which a thread may hold for ever in a forked child
    )


# --- the process's side ----------------------------------------------------------------------------------------------


def _serve(pipe: Connection, start: Start) -> None:
    if os.name == "posix":
        os.setpgrp()  # so that a kill reaches the processes that this one starts
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    watch = threading.Thread(target=_end_with_parent, args=(start.folder,), daemon=True)
    watch.start()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    warnings.simplefilter("ignore")
    work = None
    request: Any = None
    while True:
        try:
            if work is None:
                work, answer = start.setup(*start.arguments), Answer[Any]()
            else:
                answer = Answer(work(request))
        except Exception as error:
            answer = Answer(error=_portable(error))
        try:
            pipe.send(answer)
            request = pipe.recv()
        except (EOFError, OSError):
            # The parent has ended, or is about to kill this process. To return would cut short the
            # removal of the folder, because the thread that removes it is a daemon.
            watch.join()
            return


def _portable(error: Exception) -> Exception:
    """Return an error that can go to another process; one that cannot becomes its words."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return EmosegError(f"{type(error).__name__}: {error}")
    return error


def _end_with_parent(folder: Path | None) -> None:
    """End this process when the one that started it has ended, and remove what both used."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    for _ in range(_REMOVALS):
        if folder is None or not folder.exists():
            break
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.01)  # the other processes, which end in the same moment, may still have written into it
    if os.name == "posix":
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
