"""Processes that analyse recordings: one song each at a time, killed and replaced when a decoder hangs.

Every process decodes and infers, so no core waits for another; the operating system is told of the songs that come
next, so that a slow disk reads ahead. Processes are spawned, never forked, and each uses one thread. They hold nothing
that matters: only the parent writes results.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import stat
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from emoseg.batch.manifest import Job, Outcome
from emoseg.batch.names import read_names
from emoseg.batch.tables import legible_path, to_rows
from emoseg.errors import AudioError, EmosegError
from emoseg.model import file_checksum

if TYPE_CHECKING:
    from emoseg.analyzer import Analyzer

_START_S = 300.0  # a process that is not ready by then never will be
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_AHEAD = 2  # songs a process that are read from the disk before their turn


@dataclass(frozen=True)
class Setup:
    """What every process needs: the root of the library, the model folder, the hop."""

    root: Path
    model: Path
    hop_s: float | None


@dataclass(frozen=True)
class TimeLimit:
    """Seconds after which a song is given up: a fixed number, or by default one that grows with the file."""

    fixed_s: float | None = None

    def __call__(self, size: int) -> float:
        """Return the limit for a file of `size` bytes."""
        # A megabyte is at most about ten minutes of sound, which take a slow core under half a minute.
        return self.fixed_s if self.fixed_s is not None else 300 + 30e-6 * size


# --- the parent's side -----------------------------------------------------------------------------------------------


def analyse_all(jobs: Iterable[Job], setup: Setup, *, workers: int, limit: TimeLimit) -> Iterator[list[Outcome]]:
    """Yield what becomes of each job, in the order in which they end.

    Parameters
    ----------
    jobs : iterable of Job
    setup : Setup
    workers : int
        Number of processes.
    limit : TimeLimit
        A job that takes longer fails as ``"timeout"``. One whose process dies is tried once more, then fails as
        ``"crashed"``.

    Raises
    ------
    EmosegError
        A process cannot be started.
    """
    crew = _Crew(deque(jobs), setup, limit)
    try:
        crew.hire(workers)
        while crew.workers:
            if outcomes := crew.step():
                yield outcomes
    finally:
        crew.dismiss()


class _Worker:
    """One process, and what it is doing."""

    def __init__(self, setup: Setup) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, setup), daemon=True)
        with _single_threaded():
            self.process.start()
        theirs.close()
        self.job: Job | None = None
        self.deadline = time.monotonic() + _START_S

    def give(self, job: Job, limit_s: float) -> None:
        self.job, self.deadline = job, time.monotonic() + limit_s
        with suppress(OSError):  # it died meanwhile: the next look at it says so
            self.pipe.send(job)

    def kill(self) -> None:
        """End the process, and the decoder that it may have started."""
        self.pipe.close()
        if os.name == "posix" and self.process.pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()


class _Crew:
    """All processes of a run, and the jobs that wait."""

    def __init__(self, jobs: deque[Job], setup: Setup, limit: TimeLimit) -> None:
        self.jobs, self.setup, self.limit = jobs, setup, limit
        self.workers: list[_Worker] = []
        self._crashed: set[str] = set()
        self._ahead = _ReadAhead(setup.root)

    def hire(self, count: int) -> None:
        for _ in range(min(count, len(self.jobs))):
            self.workers.append(_Worker(self.setup))

    def dismiss(self) -> None:
        self._ahead.stop()
        for worker in self.workers:
            worker.kill()
        self.workers.clear()

    def step(self) -> list[Outcome]:
        """Wait until something happens, and see to every process."""
        soonest = min(worker.deadline for worker in self.workers)
        wait([worker.pipe for worker in self.workers], timeout=max(0.0, soonest - time.monotonic()))
        return [outcome for worker in list(self.workers) if (outcome := self._see_to(worker))]

    def _see_to(self, worker: _Worker) -> Outcome | None:
        try:
            if worker.pipe.poll():
                return self._hear(worker, worker.pipe.recv())
        except (EOFError, OSError):
            return self._died(worker)
        if time.monotonic() < worker.deadline:
            return None
        job = worker.job
        if job is None:
            raise EmosegError(f"a worker process was not ready after {_START_S:.0f} s")
        self._replace(worker)
        return _failed(job, "timeout", f"{self.setup.root / job.path}: given up after {self.limit(job.size):g} s")

    def _hear(self, worker: _Worker, said: Outcome | str | None) -> Outcome | None:
        if isinstance(said, str):
            raise EmosegError(f"a worker process could not start: {said}")
        if self.jobs:
            job = self.jobs.popleft()
            worker.give(job, self.limit(job.size))
            self._ahead.expect(next_job.path for next_job in islice(self.jobs, _AHEAD * len(self.workers)))
        else:
            self.workers.remove(worker)
            worker.kill()
        return said

    def _died(self, worker: _Worker) -> Outcome | None:
        job = worker.job
        worker.process.join(timeout=5)
        status = worker.process.exitcode
        if job is None:
            raise EmosegError(f"a worker process ended before it was ready (status {status})")
        again = job.song_id not in self._crashed
        if again:
            self._crashed.add(job.song_id)
            self.jobs.append(job)
        self._replace(worker)
        if again:
            return None
        how = f"signal {-status}" if status and status < 0 else f"status {status}"
        return _failed(job, "crashed", f"{self.setup.root / job.path}: ended its process twice ({how})")

    def _replace(self, worker: _Worker) -> None:
        self.workers.remove(worker)
        worker.kill()
        if len(self.jobs) > sum(other.job is None for other in self.workers):
            self.workers.append(_Worker(self.setup))


def _failed(job: Job, error_type: str, message: str) -> Outcome:
    told = legible_path(message)
    return Outcome(job.song_id, "failed", job.size, job.mtime_ns, error_type=error_type, message=told)


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Let processes that are started meanwhile use one thread each in their linear algebra."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _ReadAhead:
    """Asks the operating system to read files before they are wanted, in a thread that a slow disk may hold up."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._asked: set[str] = set()
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        if hasattr(os, "posix_fadvise"):
            threading.Thread(target=self._run, daemon=True).start()

    def expect(self, paths: Iterable[str]) -> None:
        """Say which files come next."""
        coming = set(paths)
        for path in sorted(coming - self._asked):
            self._queue.put(path)
        self._asked = coming

    def stop(self) -> None:
        self._queue.put(None)

    def _run(self) -> None:
        while (path := self._queue.get()) is not None:
            with suppress(OSError):  # what is wrong with a file is said when its turn comes
                descriptor = os.open(self._root / path, os.O_RDONLY | os.O_NONBLOCK)
                try:
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
                finally:
                    os.close(descriptor)


# --- the process's side ----------------------------------------------------------------------------------------------


def _work(pipe: Connection, setup: Setup) -> None:
    """Say that the process is ready (None) or why not (text); then answer jobs until the parent is gone."""
    if os.name == "posix":
        os.setpgrp()  # so that a kill reaches a decoder's process as well, and an interrupt only the parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from emoseg.analyzer import Analyzer

    try:
        analyzer = Analyzer(setup.model, hop_s=setup.hop_s)
    except EmosegError as error:
        pipe.send(str(error))
        return
    pipe.send(None)
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        pipe.send(_analyse(job, setup.root / job.path, analyzer))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _analyse(job: Job, path: Path, analyzer: Analyzer) -> Outcome:
    """Analyse a recording; every failure becomes an outcome."""
    size, mtime_ns, content = job.size, job.mtime_ns, None
    try:
        # The state of the file is taken before its sound: a file that changes meanwhile is seen as changed next time.
        status = path.stat()
        size, mtime_ns = status.st_size, status.st_mtime_ns
        content = _checksum(path, status.st_mode)
        if content is not None and content == job.content:
            return Outcome(job.song_id, "same", size, mtime_ns, content)
        analysis = analyzer.analyze(path)
        artist, title = read_names(path)
        rows = to_rows(analysis, path=job.path, artist=artist, title=title, content=content or "")
        return Outcome(job.song_id, "done", size, mtime_ns, content, analysis.duration_s, rows=rows)
    except FileNotFoundError:
        if not os.path.lexists(path):
            return Outcome(job.song_id, "gone", size, mtime_ns)
        failure = ("missing", f"{path}: is a link to nothing")
    except AudioError as error:
        failure = (error.kind, str(error))
    except OSError as error:
        failure = ("unreadable", f"{path}: cannot be read: {error.strerror or error}")
    except Exception as error:  # one recording must not end the batch, whatever it does to a decoder
        failure = (type(error).__name__, f"{path}: {type(error).__name__}: {error}")
    error_type, message = failure
    told = legible_path(message.replace("\n", " "))
    return Outcome(job.song_id, "failed", size, mtime_ns, content, error_type=error_type, message=told)


def _checksum(path: Path, mode: int) -> str | None:
    """Return the checksum of a regular file; None for anything else, which the analysis refuses."""
    if not stat.S_ISREG(mode):
        return None
    return file_checksum(path)
