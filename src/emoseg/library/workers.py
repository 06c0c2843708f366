"""Processes that analyse recordings: one song each at a time, killed and replaced when a decoder hangs.

Every process decodes and infers, so no core waits for another; the operating system is told of the songs that come
next, so that a slow disk reads ahead. Each process uses one thread. They hold nothing that matters: only the parent
writes results.
"""

from __future__ import annotations

import math
import os
import queue
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

from emoseg.audio.decoding import stated_tags
from emoseg.errors import AudioError, ConfigError, EmosegError
from emoseg.library.records import AnalysisJob, AnalysisOutcome
from emoseg.library.tables import to_rows
from emoseg.system.files import file_checksum, modified_ns
from emoseg.system.names import valid_text
from emoseg.system.parallel import ONE_THREAD, Answer, Start, WorkerProcess

if TYPE_CHECKING:
    from emoseg.analysis.analyzer import Analyzer

_START_S = 300.0  # a process that is not ready by then never will be
_MOST_STARTS = 3  # that fail one after the other before a run gives up
_AHEAD = 2  # songs per process that are read from the disk before their turn


class StartError(EmosegError):
    """No process can be started that analyses recordings."""


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

    def __post_init__(self) -> None:
        if self.fixed_s is not None and not 0 < self.fixed_s < math.inf:
            raise ConfigError(f"timeout {self.fixed_s} s: must be a finite number above 0")

    def __call__(self, size: int) -> float:
        """Return the limit for a file of `size` bytes."""
        # A megabyte is at most about ten minutes of sound, which take a slow core under half a minute.
        return self.fixed_s if self.fixed_s is not None else 300 + 30e-6 * size


# --- the parent's side -----------------------------------------------------------------------------------------------


def analyse_all(
    jobs: Iterable[AnalysisJob], setup: Setup, *, workers: int, limit: TimeLimit
) -> Iterator[list[AnalysisOutcome]]:
    """Yield what becomes of each job, in the order in which they end.

    Parameters
    ----------
    jobs : iterable of AnalysisJob
    setup : Setup
    workers : int
        Number of processes.
    limit : TimeLimit
        A job that takes longer fails as ``"timeout"``. One whose process dies is tried once more, then fails as
        ``"crashed"``.

    Raises
    ------
    StartError
        The model cannot be loaded, or three processes in a row failed to start while none did anything.
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
    """One process, and what it is doing; one without a job is still starting."""

    def __init__(self, setup: Setup) -> None:
        self.process = WorkerProcess(Start(set_up, (setup,), environment=ONE_THREAD))
        self.job: AnalysisJob | None = None
        self.deadline = time.monotonic() + _START_S

    def give(self, job: AnalysisJob, limit_s: float) -> None:
        self.job, self.deadline = job, time.monotonic() + limit_s
        self.process.ask(job)


class _Crew:
    """All processes of a run, and the jobs that wait."""

    def __init__(self, jobs: deque[AnalysisJob], setup: Setup, limit: TimeLimit) -> None:
        self.jobs, self.setup, self.limit = jobs, setup, limit
        self.workers: list[_Worker] = []
        self._failed_starts = 0
        self._crashed: set[str] = set()
        self._ahead = _ReadAhead(setup.root)

    def hire(self, count: int) -> None:
        """Start processes, at most as many as there are jobs."""
        for _ in range(min(count, len(self.jobs))):
            self._start()

    def dismiss(self) -> None:
        self._ahead.stop()
        for worker in self.workers:
            worker.process.kill()
        self.workers.clear()

    def step(self) -> list[AnalysisOutcome]:
        """Wait until something happens, and see to every process."""
        soonest = min(worker.deadline for worker in self.workers)
        pipes = [worker.process.pipe for worker in self.workers]
        ready = wait(pipes, timeout=max(0.0, soonest - time.monotonic()))
        outcomes = []
        for worker in list(self.workers):
            if worker.process.pipe in ready:
                outcome = self._hear(worker, worker.process.answer())
            elif time.monotonic() >= worker.deadline:
                outcome = self._out_of_time(worker)
            else:
                continue
            outcomes += [outcome] if outcome else []
        return outcomes

    def _hear(self, worker: _Worker, answer: Answer[AnalysisOutcome] | None) -> AnalysisOutcome | None:
        if worker.job is None and (answer is None or answer.error is not None):
            self._not_started(worker, answer)
            return None
        if answer is None:
            return self._died(worker, worker.job)
        self._failed_starts = 0
        if self.jobs:
            job = self.jobs.popleft()
            worker.give(job, self.limit(job.size))
            self._ahead.expect(next_job.path for next_job in islice(self.jobs, _AHEAD * len(self.workers)))
        else:
            self.workers.remove(worker)
            worker.process.kill()
        return answer.value

    def _out_of_time(self, worker: _Worker) -> AnalysisOutcome | None:
        if (job := worker.job) is None:
            self._replace(worker, failed_start=f"was not ready after {_START_S:g} s")
            return None
        self._replace(worker)
        return _failed(job, "timeout", f"{self.setup.root / job.path}: given up after {self.limit(job.size):g} s")

    def _not_started(self, worker: _Worker, answer: Answer[AnalysisOutcome] | None) -> None:
        error = answer.error if answer else None
        if isinstance(error, EmosegError):  # of the model, which another process could not load either
            raise StartError(str(error)) from error
        how = f"{type(error).__name__}: {error}" if error else f"ended with {_words(worker.process.status())}"
        self._replace(worker, failed_start=how)

    def _died(self, worker: _Worker, job: AnalysisJob | None) -> AnalysisOutcome | None:
        assert job is not None  # seen to by _not_started
        status = worker.process.status()
        again = job.song_id not in self._crashed
        if again:
            self._crashed.add(job.song_id)
            self.jobs.append(job)
        self._replace(worker)
        if again:
            return None
        return _failed(job, "crashed", f"{self.setup.root / job.path}: ended its process twice ({_words(status)})")

    def _replace(self, worker: _Worker, *, failed_start: str = "") -> None:
        self.workers.remove(worker)
        worker.process.kill()
        if failed_start:
            self._count_failed_start(failed_start)
        if len(self.jobs) > sum(other.job is None for other in self.workers):
            self._start()

    def _start(self) -> None:
        while True:
            try:
                self.workers.append(_Worker(self.setup))
                return
            except OSError as error:  # such as too many processes
                if self.workers:
                    return  # those that there are do the work
                self._count_failed_start(error.strerror or str(error))

    def _count_failed_start(self, how: str) -> None:
        self._failed_starts += 1
        if self._failed_starts == _MOST_STARTS:
            raise StartError(f"{_MOST_STARTS} processes in a row failed to start; the last one: {how}")


def _failed(job: AnalysisJob, error_type: str, message: str) -> AnalysisOutcome:
    told = valid_text(message)
    return AnalysisOutcome(job.song_id, "failed", job.size, job.mtime_ns, error_type=error_type, message=told)


def _words(status: int | None) -> str:
    return f"signal {-status}" if status and status < 0 else f"status {status}"


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


def set_up(setup: Setup) -> Callable[[AnalysisJob], AnalysisOutcome]:
    """Load the model, and return the function that analyses a recording."""
    from emoseg.analysis.analyzer import Analyzer

    analyzer = Analyzer(setup.model, hop_s=setup.hop_s)
    return lambda job: _analyse(job, setup.root / job.path, analyzer)


def _analyse(job: AnalysisJob, path: Path, analyzer: Analyzer) -> AnalysisOutcome:
    """Analyse a recording; every failure becomes an outcome."""
    size, mtime_ns, content = job.size, job.mtime_ns, None
    try:
        # The state of the file is taken before its sound: a file that changes meanwhile is seen as changed next time.
        status = path.stat()
        size, mtime_ns = status.st_size, modified_ns(status)
        content = _checksum(path, status.st_mode)
        if content is not None and content == job.content:
            return AnalysisOutcome(job.song_id, "same", size, mtime_ns, content)
        analysis = analyzer.analyze(path)
        artist, title = _stated_names(path)
        rows = to_rows(analysis, path=job.path, artist=artist, title=title, content=content or "")
        return AnalysisOutcome(job.song_id, "done", size, mtime_ns, content, analysis.duration_s, rows=rows)
    except FileNotFoundError:
        if not os.path.lexists(path):
            return AnalysisOutcome(job.song_id, "gone", size, mtime_ns)
        failure = ("missing", f"{path}: is a link to nothing")
    except AudioError as error:
        failure = (error.kind, str(error))
    except OSError as error:
        failure = ("unreadable", f"{path}: cannot be read: {error.strerror or error}")
    except Exception as error:  # one recording must not end the batch, whatever it does to a decoder
        failure = (type(error).__name__, f"{path}: {type(error).__name__}: {error}")
    error_type, message = failure
    told = valid_text(message.replace("\n", " "))
    return AnalysisOutcome(job.song_id, "failed", size, mtime_ns, content, error_type=error_type, message=told)


def _stated_names(path: Path) -> tuple[str | None, str | None]:
    """Return artist and title of a recording from its own tags; None for a name that it does not state."""
    tags = stated_tags(path)
    return _shown(tags.get("artist")), _shown(tags.get("title"))


def _shown(name: str | None) -> str | None:
    """Return a name without control characters; None if nothing is left."""
    kept = "".join(c for c in name or "" if c.isprintable()).strip()
    return kept.encode("utf-8", "replace").decode() or None


def _checksum(path: Path, mode: int) -> str | None:
    """Return the checksum of a regular file; None for anything else, which the analysis refuses."""
    if not stat.S_ISREG(mode):
        return None
    return file_checksum(path)
