"""Processes that analyse recordings, each one song at a time; a process whose decoder hangs is killed and replaced.

Every process decodes and infers, so no core waits for another. The operating system learns which songs come next, so
that a slow disk reads them ahead. Each process uses one thread. Only the parent writes results, so a process can be
killed at any moment.
"""

from __future__ import annotations

import math
import os
import queue
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emoseg.audio.decoding import stated_tags
from emoseg.errors import AudioError, ConfigError, EmosegError
from emoseg.library.records import AnalysisJob, AnalysisOutcome
from emoseg.library.tables import to_rows
from emoseg.system.files import file_checksum, modified_ns
from emoseg.system.names import valid_text
from emoseg.system.parallel import ONE_THREAD, Loss, Start, run_parallel

if TYPE_CHECKING:
    from emoseg.analysis.analyzer import Analyzer

_AHEAD = 2  # songs per process that are read from the disk before their turn


class StartError(EmosegError):
    """The processes that analyse recordings cannot be started."""


@dataclass(frozen=True)
class Setup:
    """What every process needs: the root of the library, the model folder and the hop."""

    root: Path
    model: Path
    hop_s: float | None


@dataclass(frozen=True)
class TimeLimit:
    """Seconds after which a song is given up: a fixed number, or by default 300 s and 30 s per megabyte.

    Raises
    ------
    ConfigError
        `fixed_s` is not a finite number above 0.
    """

    fixed_s: float | None = None

    def __post_init__(self) -> None:
        if self.fixed_s is not None and not 0 < self.fixed_s < math.inf:
            raise ConfigError(f"timeout {self.fixed_s} s: must be a finite number above 0")

    def __call__(self, size: int) -> float:
        """Return the limit for a file of `size` bytes."""
        # A megabyte holds at most about ten minutes of sound, which take a slow core less than half a minute.
        return self.fixed_s if self.fixed_s is not None else 300 + 30e-6 * size


# --- in the parent ---------------------------------------------------------------------------------------------------


def analyse_all(
    jobs: Sequence[AnalysisJob], setup: Setup, *, workers: int, limit: TimeLimit
) -> Iterator[AnalysisOutcome]:
    """Yield the outcome of each job, in the order in which they end.

    Parameters
    ----------
    jobs : sequence of AnalysisJob
    setup : Setup
    workers : int
        Number of processes.
    limit : TimeLimit
        A job that takes longer fails as ``"timeout"``. A job whose process ends is tried once more; then it fails as
        ``"crashed"``.

    Raises
    ------
    StartError
        The model cannot be loaded, or three processes in a row could not be started.
    """

    def lost(job: AnalysisJob, loss: Loss) -> AnalysisOutcome:
        return _failed(job, loss.kind, f"{setup.root / job.path}: {loss.words}")

    workers = min(workers, len(jobs))
    ahead = _ReadAhead(setup.root)
    start = Start(set_up, (setup,), environment=ONE_THREAD)
    outcomes = run_parallel(
        ahead.announced(jobs, _AHEAD * workers), start, workers=workers, on_loss=lost, limit_s=lambda j: limit(j.size)
    )
    try:
        with closing(outcomes):
            for _, outcome in outcomes:
                yield outcome
    except EmosegError as error:  # of starting alone, because every failure of a recording is an outcome
        raise StartError(str(error)) from error
    finally:
        ahead.stop()


def _failed(job: AnalysisJob, error_type: str, message: str) -> AnalysisOutcome:
    text = valid_text(message)
    return AnalysisOutcome(job.song_id, "failed", job.size, job.mtime_ns, error_type=error_type, message=text)


class _ReadAhead:
    """Asks the operating system to read files before their turn, in a thread that a slow disk may delay."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        if hasattr(os, "posix_fadvise"):
            threading.Thread(target=self._run, daemon=True).start()

    def announced(self, jobs: Sequence[AnalysisJob], count: int) -> Iterator[AnalysisJob]:
        """Yield the jobs; before each, the files of the `count` jobs that follow it are announced."""
        announced = 0
        for i, job in enumerate(jobs, start=1):
            for following in jobs[max(announced, i) : i + count]:
                self._queue.put(following.path)
            announced = i + count
            yield job

    def stop(self) -> None:
        self._queue.put(None)

    def _run(self) -> None:
        while (path := self._queue.get()) is not None:
            with suppress(OSError):  # the analysis reports what is wrong with a file
                descriptor = os.open(self._root / path, os.O_RDONLY | os.O_NONBLOCK)
                try:
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
                finally:
                    os.close(descriptor)


# --- in a process ----------------------------------------------------------------------------------------------------


def set_up(setup: Setup) -> Callable[[AnalysisJob], AnalysisOutcome]:
    """Load the model, and return the function that analyses a recording."""
    from emoseg.analysis.analyzer import Analyzer

    analyzer = Analyzer(setup.model, hop_s=setup.hop_s)
    return lambda job: _analyse(job, setup.root / job.path, analyzer)


def _analyse(job: AnalysisJob, path: Path, analyzer: Analyzer) -> AnalysisOutcome:
    """Return the outcome of a job; every failure is an outcome, too."""
    size, mtime_ns, content = job.size, job.mtime_ns, None
    try:
        # The state of the file is read before its sound, so a file that changes meanwhile is analysed again next time.
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
    except Exception as error:  # libraries may raise anything on a damaged recording; the batch must continue
        failure = (type(error).__name__, f"{path}: {type(error).__name__}: {error}")
    error_type, message = failure
    text = valid_text(message.replace("\n", " "))
    return AnalysisOutcome(job.song_id, "failed", size, mtime_ns, content, error_type=error_type, message=text)


def _stated_names(path: Path) -> tuple[str | None, str | None]:
    """Return artist and title of a recording from its own tags; None for a name that it does not state."""
    tags = stated_tags(path)
    return _shown(tags.get("artist")), _shown(tags.get("title"))


def _shown(name: str | None) -> str | None:
    """Return a name without control characters; None if nothing is left."""
    kept = "".join(c for c in name or "" if c.isprintable()).strip()
    return kept.encode("utf-8", "replace").decode() or None


def _checksum(path: Path, mode: int) -> str | None:
    """Return the checksum of a regular file; None for any other, which the analysis refuses."""
    if not stat.S_ISREG(mode):
        return None
    return file_checksum(path)
