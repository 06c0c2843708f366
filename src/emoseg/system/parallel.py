"""Work in several processes, which end with the process that started them, however that ends.

Processes are spawned, never forked, because a forked child of a process with threads can hang. They ignore interrupts
(Ctrl-C), which concern the process that waits for them, and nothing that a library prints in them reaches the user.

`run_parallel` applies a function to many items in a pool of processes. `WorkerProcess` is one process that answers
requests one at a time. `start_module` runs a module of emoseg as a program.
"""

from __future__ import annotations

import math
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
from typing import Any, Generic, Literal, TypeVar

from emoseg.errors import ConfigError, EmosegError

_REMOVALS = 100
_START_S = 300.0  # a process that is not ready by then never will be
_MOST_FAILED_STARTS = 3  # in a row, before a run gives up
_GUARD = "a script that uses several processes must make its calls below 'if __name__ == \"__main__\":'"

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
        Variables that the process has in addition to those of this one.
    folder : Path, optional
        A temporary folder that the process removes if the process that started it was killed.
    """

    setup: Callable[..., Callable[[Any], Any]]
    arguments: tuple[Any, ...] = ()
    environment: Mapping[str, str] | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class Answer(Generic[Out]):
    """An answer of a process: that it is ready (neither part), a result, or the error of the work."""

    value: Out | None = None
    error: Exception | None = None


class WorkerProcess:
    """One process that answers requests one at a time.

    Attributes
    ----------
    pipe : Connection
        Its answers. The first says that the process is ready, or why it is not.
    """

    def __init__(self, start: Start) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, start), daemon=True)
        with _interrupts_blocked(), _environment(start.environment or {}):
            self._process.start()
        theirs.close()

    def ask(self, request: object) -> None:
        """Send a request; if the process has died, `answer` returns None."""
        with suppress(OSError):
            self.pipe.send(request)

    def answer(self) -> Answer[Any] | None:
        """Return the next answer, once `pipe` has something to read; None if the process has died."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            return None

    def status(self) -> int | None:
        """Return the exit status of a process that has died, or the negative number of its signal."""
        self._process.join(timeout=5)
        return self._process.exitcode

    def kill(self) -> None:
        """End the process and all processes that it started."""
        self.pipe.close()
        if os.name == "posix" and self._process.pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self._process.close()


def check_workers(workers: object) -> None:
    """Raise `ConfigError` unless `workers` is a number of processes: a whole number, at least 1."""
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ConfigError(f"workers {workers!r}: must be a whole number, at least 1")


def run_parallel(
    items: Iterable[In],
    start: Start,
    *,
    workers: int,
    on_wait: Callable[[], object] | None = None,
    on_loss: Callable[[In, Loss], object] | None = None,
    limit_s: Callable[[In], float] | None = None,
) -> Generator[tuple[int, Any], None, None]:
    """Yield the index of each item and the result of the work on it, in the order in which they are finished.

    Parameters
    ----------
    items : iterable
        Taken one by one, as processes become free. All of them, and all results, can be pickled.
    start : Start
    workers : int
        Number of processes. With one, everything is done in this process, unless there is a `limit_s`.
    on_wait : callable, optional
        Called after each result, and twice a second between them.
    on_loss : callable, optional
        Called with an item that the pool gave up, and why; returns the item's result. An item that ends its process is
        tried once more before that. Without `on_loss`, the first process that ends is an error.
    limit_s : callable, optional
        Returns the seconds after which the work on an item is given up; needs `on_loss`.

    Raises
    ------
    EmosegError
        A process ended suddenly, or three processes in a row could not be started.
    Exception
        What the work on an item raised, or one of emoseg's errors that `start.setup` raised.
    """
    if limit_s is None and (workers == 1 or (isinstance(items, Sized) and not len(items))):
        work = start.setup(*start.arguments)
        for i, item in enumerate(items):
            yield i, work(item)
        return
    pool = _Pool(items, start, on_loss, limit_s)
    try:
        pool.start(min(workers, len(items)) if isinstance(items, Sized) else workers)
        while pool.processes:
            yield from pool.step(timeout_s=0.5 if on_wait else None)
            if on_wait:
                on_wait()
    finally:
        for process in pool.processes:
            process.worker.kill()


@dataclass(frozen=True)
class Loss:
    """Why the pool gave an item up: its kind, and a few words that go after the name of the item."""

    kind: Literal["crashed", "timeout"]
    words: str


class _Process(Generic[In]):
    """A process of a pool and the item that it works on; without an item it is still starting."""

    def __init__(self, start: Start) -> None:
        self.worker = WorkerProcess(start)
        self.item: tuple[int, In] | None = None
        self.deadline = time.monotonic() + _START_S

    def give(self, item: tuple[int, In], limit_s: float) -> None:
        self.item, self.deadline = item, time.monotonic() + limit_s
        self.worker.ask(item[1])


class _Pool(Generic[In]):
    """The processes of a run, and the items that wait."""

    def __init__(
        self,
        items: Iterable[In],
        start: Start,
        on_loss: Callable[[In, Loss], object] | None,
        limit_s: Callable[[In], float] | None,
    ) -> None:
        self.processes: list[_Process[In]] = []
        self._start, self._on_loss, self._limit_s = start, on_loss, limit_s
        self._items = enumerate(items)
        self._waiting: deque[tuple[int, In]] = deque()  # items to be tried once more, or looked at ahead of their turn
        self._crashed: set[int] = set()
        self._failed_starts = 0

    def start(self, count: int) -> None:
        """Start processes, as far as the system lets; each takes an item when it is ready."""
        for _ in range(count):
            self._start_one()

    def step(self, *, timeout_s: float | None) -> Iterator[tuple[int, Any]]:
        """Wait for at most `timeout_s`, see to every process that has an answer or is late, and yield the results."""
        left_s = max(0.0, min(process.deadline for process in self.processes) - time.monotonic())
        limits = [limit for limit in (left_s, timeout_s) if limit is not None and math.isfinite(limit)]
        ready = wait([process.worker.pipe for process in self.processes], timeout=min(limits, default=None))
        now = time.monotonic()  # the caller may take its time between two results
        for process in list(self.processes):
            if process.worker.pipe in ready:
                yield from self._answered(process, process.worker.answer())
            elif now >= process.deadline:
                yield from self._late(process)

    def _answered(self, process: _Process[In], answer: Answer[Any] | None) -> Iterator[tuple[int, Any]]:
        done = process.item
        if done is None and (answer is None or answer.error is not None):
            self._not_started(process, answer.error if answer else None)
            return
        if answer is None:
            yield from self._died(process)
            return
        if answer.error is not None:
            raise answer.error
        self._failed_starts = 0
        if (following := self._next()) is None:
            self._remove(process)
        else:
            process.give(following, self._limit_s(following[1]) if self._limit_s else math.inf)
        if done is not None:
            yield done[0], answer.value

    def _late(self, process: _Process[In]) -> Iterator[tuple[int, Any]]:
        """Replace a process that is past its deadline."""
        if process.item is None:
            self._replace(process, failed_start=f"it was not ready after {_START_S:g} s")
            return
        index, item = process.item
        self._replace(process)
        if self._limit_s and self._on_loss:
            yield index, self._on_loss(item, Loss("timeout", f"given up after {self._limit_s(item):g} s"))

    def _not_started(self, process: _Process[In], error: Exception | None) -> None:
        if isinstance(error, EmosegError):  # such as a model that another process could not load either
            raise error
        if error is not None:
            self._replace(process, failed_start=f"{type(error).__name__}: {error}")
            return
        status = process.worker.status()
        # The status of a Python program that ended with an error: most likely, the script of the host called emoseg
        # again when the new process imported it.
        hint = f"; {_GUARD}" if status == 1 else ""
        self._replace(process, failed_start=f"it ended before it was ready ({_cause(status)}){hint}")

    def _died(self, process: _Process[In]) -> Iterator[tuple[int, Any]]:
        """Replace a process that ended; try its item once more, or give it up."""
        cause = _cause(process.worker.status())
        if self._on_loss is None or process.item is None:
            raise EmosegError(f"a process ended suddenly ({cause})")
        index, item = process.item
        given_up = index in self._crashed
        if not given_up:
            self._crashed.add(index)
            self._waiting.appendleft((index, item))
        self._replace(process)
        if given_up:
            yield index, self._on_loss(item, Loss("crashed", f"ended its process twice ({cause})"))

    def _replace(self, process: _Process[In], *, failed_start: str = "") -> None:
        """Remove a process, and start another one if there are items for which no process is starting."""
        self._remove(process)
        if failed_start:
            self._count_failed_start(failed_start)
        starting = sum(other.item is None for other in self.processes)
        while len(self._waiting) <= starting and (following := next(self._items, None)) is not None:
            self._waiting.append(following)
        if len(self._waiting) > starting:
            self._start_one()

    def _remove(self, process: _Process[In]) -> None:
        self.processes.remove(process)
        process.worker.kill()

    def _next(self) -> tuple[int, In] | None:
        return self._waiting.popleft() if self._waiting else next(self._items, None)

    def _start_one(self) -> None:
        while True:
            try:
                self.processes.append(_Process(self._start))
                return
            except OSError as error:  # such as too many processes
                if self.processes:
                    return  # those that there are do the work
                self._count_failed_start(error.strerror or str(error))

    def _count_failed_start(self, cause: str) -> None:
        self._failed_starts += 1
        if self._failed_starts == _MOST_FAILED_STARTS:
            raise EmosegError(f"{_MOST_FAILED_STARTS} processes in a row could not be started; the last one: {cause}")


def _cause(status: int | None) -> str:
    if status == -signal.SIGKILL:
        return "killed; perhaps the memory was full"
    return f"signal {-status}" if status and status < 0 else f"status {status}"


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block interrupts for the processes that start in the block, which would print a traceback while starting."""
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
    """Start a module of emoseg as a program with pipes for its input and output; its standard error is discarded.

    It serves for the work of C libraries that must not harm this process. Unlike a `WorkerProcess` it does not import
    the script of the host, so the script needs no guard.
    """
    return subprocess.Popen(
        # -P: Python does not look for modules in the current folder.
        [os.fsdecode(get_executable()), "-P", "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | ONE_THREAD | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,  # so that it gets no interrupts
        bufsize=0,  # a buffer has a lock, which may stay locked for ever in a forked child
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
