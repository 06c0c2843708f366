"""Many recordings in several processes: results in the order of the sources, as they come."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoseg.analysis.analyzer import Analyzer
from emoseg.analysis.model_folder import DEFAULT_MODEL, ModelFolder
from emoseg.audio.find import find_recordings
from emoseg.audio.sources import Source, is_array, is_encoded, portable, source_name
from emoseg.errors import AudioError, ConfigError, EmosegError, ModelError
from emoseg.system.parallel import ONE_THREAD, Loss, Start, check_workers, run_parallel
from emoseg.types import Analysis, AnalysisFailure


@dataclass(frozen=True)
class _Job:
    """A source in a form that can go to another process, or the failure to bring it there."""

    source: Any
    name: str
    sample_rate_hz: int | None
    failure: AnalysisFailure | None = None


def analyze_many(
    sources: Iterable[Source] | str | os.PathLike[str],
    *,
    model: Analyzer | ModelFolder | str | os.PathLike[str] = DEFAULT_MODEL,
    hop_s: float | None = None,
    sample_rate_hz: int | None = None,
    workers: int = 1,
    on_progress: Callable[[int, int], object] | None = None,
) -> Generator[Analysis | AnalysisFailure, None, None]:
    """Return an iterator over the results of many recordings, in the order of `sources`, each as soon as possible.

    A recording that cannot be analysed gives an `AnalysisFailure`, and the analysis of the others continues. Nothing is
    analysed before the first result is requested. When the iterator is closed or its consumer raises an error, the
    processes end.

    Parameters
    ----------
    sources : iterable of sources, or path of a folder
        What `Analyzer.analyze` takes. Of a folder, all recordings below it are analysed, sorted by path.
    model : Analyzer, ModelFolder, path or str
        An analyzer brings its own `hop_s`.
    hop_s : float, optional
        As in `Analyzer`.
    sample_rate_hz : int, optional
        Sample rate of those sources that are arrays.
    workers : int
        Number of processes, at least 1. With 1, all is done in this process. The results do not depend on it. A script
        that asks for more must keep its own calls below ``if __name__ == "__main__":``, because every process imports
        the script.
    on_progress : callable, optional
        Called after each recording that is finished, with the number of finished recordings and of all recordings.

    Yields
    ------
    Analysis or AnalysisFailure

    Raises
    ------
    ConfigError
        `workers` is out of range, or `sources` is neither iterable nor a folder.
    AudioError
        The folder cannot be listed.
    ModelError
        The model cannot be loaded or run.

    Examples
    --------
    >>> for result in analyze_many(["a.mp3", "b.flac"], workers=2):  # doctest: +SKIP
    ...     print(result.path, getattr(result, "message", "ok"))
    a.mp3 ok
    b.flac ok
    """
    check_workers(workers)
    if isinstance(model, Analyzer) and hop_s is not None:
        raise ConfigError(f"hop_s {hop_s!r}: an Analyzer has its own")
    analyzer = model if isinstance(model, Analyzer) else Analyzer(model, hop_s=hop_s)
    return _results(_listed(sources), analyzer, sample_rate_hz, workers, on_progress)


def analysis_or_failure(
    analyzer: Analyzer,
    source: Source,
    *,
    sample_rate_hz: int | None = None,
    on_progress: Callable[[float], object] | None = None,
) -> Analysis | AnalysisFailure:
    """Return the analysis of a recording, or why there is none; one recording must not end a run over many.

    Parameters and results are those of `Analyzer.analyze`.

    Raises
    ------
    ModelError
        The model cannot be run, which concerns all recordings.
    """
    try:
        return analyzer.analyze(source, sample_rate_hz=sample_rate_hz, on_progress=on_progress)
    except ModelError:
        raise
    except Exception as error:  # libraries may raise anything on a damaged recording
        return _failure(source_name(source), error)


def _failure(name: str, error: Exception) -> AnalysisFailure:
    if isinstance(error, AudioError):
        return AnalysisFailure(name, error.kind, str(error))
    kind = type(error).__name__
    return AnalysisFailure(name, kind, str(error) if isinstance(error, EmosegError) else f"{name}: {kind}: {error}")


def _listed(sources: Iterable[Source] | str | os.PathLike[str]) -> list[Source]:
    if isinstance(sources, str | os.PathLike):
        if Path(sources).is_file():
            raise ConfigError(f"{os.fspath(sources)}: is one recording: use analyze, or give a list or a folder")
        return list(find_recordings(Path(sources)))
    if is_encoded(sources) or not isinstance(sources, Iterable):
        kind = type(sources).__name__
        raise ConfigError(
            f"sources must be a list of recordings or a folder, not {kind}: use analyze for one recording"
        )
    return list(sources)


def _results(
    sources: list[Source],
    analyzer: Analyzer,
    sample_rate_hz: int | None,
    workers: int,
    on_progress: Callable[[int, int], object] | None,
) -> Generator[Analysis | AnalysisFailure, None, None]:
    jobs = (_job(source, sample_rate_hz, move=workers > 1) for source in sources)
    start = Start(_set_up, (analyzer,), environment=ONE_THREAD)
    waiting: dict[int, Analysis | AnalysisFailure] = {}
    following = 0
    found = run_parallel(jobs, start, workers=min(workers, len(sources)) or 1, on_loss=_lost)
    for done, (index, result) in enumerate(found, start=1):
        waiting[index] = result
        if on_progress is not None:
            on_progress(done, len(sources))
        while following in waiting:
            yield waiting.pop(following)
            following += 1


def _job(source: Any, sample_rate_hz: int | None, *, move: bool) -> _Job:
    name = source_name(source)
    try:
        sound = portable(source) if move else source
    except Exception as error:  # a file object is a stranger's code
        return _Job(None, name, None, _failure(name, error))
    return _Job(sound, name, sample_rate_hz if is_array(source) else None)


def _set_up(analyzer: Analyzer) -> Callable[[_Job], Analysis | AnalysisFailure]:
    def work(job: _Job) -> Analysis | AnalysisFailure:
        return job.failure or analysis_or_failure(analyzer, job.source, sample_rate_hz=job.sample_rate_hz)

    return work


def _lost(job: _Job, loss: Loss) -> AnalysisFailure:
    return AnalysisFailure(job.name, loss.kind, f"{job.name}: {loss.words}")
