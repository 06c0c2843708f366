"""One method on one fold: learn, predict the test songs once, and keep what came out until the result is written."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from emoseg import metrics
from emoseg.config import TrainConfig, config_hash
from emoseg.corpora.segments import CorpusSegments
from emoseg.errors import EmosegWarning
from emoseg.evaluation.protocol import Fold, Protocol, make_fold, soft_targets
from emoseg.frontends.store import default_cache
from emoseg.learning.methods import build_method, code_versions
from emoseg.system.array_files import load_arrays, save_arrays
from emoseg.system.parallel import Start, run_parallel
from emoseg.system.unfinished import claim, remove
from emoseg.types import UNLABELLED, Float64, Int64

if TYPE_CHECKING:
    from emoseg.learning.methods.base import MethodFit


@dataclass(frozen=True)
class Trial:
    """One method on one fold of one seed."""

    method: str
    seed: int
    fold: int
    protocol: Protocol
    config: TrainConfig


@dataclass(frozen=True)
class TrialResult:
    """What a method made of one fold.

    Parameters
    ----------
    test : array of int, shape (N,)
        Test songs.
    song, mean, uncalibrated : array, shape (N, K)
        Their probabilities: by the song model, by the calibrated mean probability, and by that before calibration.
    test_rows : array of int, shape (S,)
        Their segments.
    segments : array, shape (S, K)
        Probabilities of these.
    clean_rows : array of int, shape (R,)
        Training segments with a label.
    clean : array, shape (R,)
        Clean probability of each.
    detection : dict of str to float
        See `detection`.
    seconds : float
        Processor time of learning: it does not depend on what else the machine does.
    """

    test: Int64
    song: Float64
    mean: Float64
    uncalibrated: Float64
    test_rows: Int64
    segments: Float64
    clean_rows: Int64
    clean: Float64
    detection: dict[str, float]
    seconds: float


class TrialStore:
    """Finished jobs on disk, so that a long evaluation that was killed continues; without a folder nothing is kept.

    There is one folder per method, so that methods can be added from one call to the next.

    Parameters
    ----------
    folder : Path or None
        Held by `emoseg.system.unfinished.unfinished`.
    protocol : Protocol
    config : TrainConfig
        With complete settings of all methods of the protocol, as `resolve_settings` returns.
    songs : str
        Hash of the songs and their labels.

    Raises
    ------
    ConfigError
        The folder has outcomes of other settings.

    Warns
    -----
    EmosegWarning
        The folder has outcomes of another version of emoseg, a frontend or a method, which are removed.
    """

    def __init__(self, folder: Path | None, protocol: Protocol, config: TrainConfig, songs: str) -> None:
        self.folder = folder
        if folder is None:
            return
        # What all methods share, without the number of seeds, which may also grow.
        parted = f"{protocol.folds} folds" if protocol.test_split is None else f"test split {protocol.test_split}"
        shared = f"{parted}, {protocol.group}, {protocol.noise}, {protocol.fraction}"
        settings = config.model_dump_json(exclude={"method", "methods"})
        claim(folder, config_hash(settings, shared, songs), what="evaluation", versions=code_versions(config))
        for name in protocol.methods:
            table, versions = json.dumps(config.methods[name]), code_versions(config, [name])
            claim(folder / name, config_hash(table), what=f"evaluation of the method {name!r}", versions=versions)

    def load(self, job: Trial) -> TrialResult | None:
        """Return the outcome of a finished job; one that is damaged is removed, with a warning."""
        if self.folder is None or not (file := self._file(job)).exists():
            return None
        try:
            return _outcome(load_arrays(file))
        except ValueError:
            warnings.warn(f"{file}: is damaged; this training is done again", EmosegWarning, stacklevel=2)
            remove(file)
            return None

    def save(self, job: Trial, outcome: TrialResult) -> None:
        """Keep the outcome of a finished job."""
        if self.folder is None:
            return
        arrays = {name: value for name, value in vars(outcome).items() if isinstance(value, np.ndarray)}
        figures = json.dumps({"detection": outcome.detection, "seconds": outcome.seconds})
        save_arrays(self._file(job), arrays | {"figures": np.array(figures)})

    def _file(self, job: Trial) -> Path:
        assert self.folder is not None
        return self.folder / job.method / f"seed{job.seed}-fold{job.fold}.npz"


def _outcome(arrays: dict[str, NDArray[Any]]) -> TrialResult:
    """Return the outcome that was kept as arrays.

    Raises
    ------
    ValueError
        They are those of no outcome.
    """
    try:
        figures: Any = json.loads(str(arrays.pop("figures")))
        outcome = TrialResult(**(arrays | figures))
        numbers = [float(outcome.seconds), *(float(value) for value in outcome.detection.values())]
        tables = [outcome.song, outcome.mean, outcome.uncalibrated]
        whole = (
            all(map(math.isfinite, numbers))
            and all(np.isfinite(array).all() for array in arrays.values())
            and all(array.ndim == 1 for array in (outcome.test, outcome.test_rows, outcome.clean_rows, outcome.clean))
            and all(table.shape == (len(outcome.test), outcome.song.shape[1]) for table in tables)
            and outcome.segments.shape == (len(outcome.test_rows), outcome.song.shape[1])
            and len(outcome.clean) == len(outcome.clean_rows)
        )
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(f"is not an outcome: {error}") from error
    if not whole:
        raise ValueError("is not an outcome: its arrays do not fit together")
    return outcome


@dataclass(frozen=True)
class TrialData:
    """What all jobs learn from: the segments of a corpus, whose features may be mapped from disk, and K labels."""

    features: Mapping[str, NDArray[Any]]
    segments: CorpusSegments
    classes: int


def run_all(
    jobs: list[Trial], segments: CorpusSegments, classes: int, workers: int, *, folder: Path | None = None
) -> Generator[tuple[Trial, TrialResult], None, None]:
    """Yield jobs with their outcomes as they finish; the outcomes do not depend on the number of workers.

    Parameters
    ----------
    jobs : list of Trial
    segments : CorpusSegments
    classes : int
    workers : int
        Processes.
    folder : Path, optional
        Where processes find the features meanwhile; default the cache.
    """
    from emoseg.learning.processes import arrays_on_disk, process_environment

    if min(workers, len(jobs)) <= 1:
        data = TrialData(segments.table.features, segments, classes)
        for job in jobs:
            yield job, run_trial(job, data)
        return
    with arrays_on_disk(segments.table.features, folder or default_cache()) as (shared, files):
        bare = replace(segments, table=replace(segments.table, features={}))
        start = Start(_running, (files, bare, classes), environment=process_environment(), folder=shared)
        with closing(run_parallel(jobs, start, workers=workers)) as done:
            for i, outcome in done:
                yield jobs[i], outcome


def _running(files: Mapping[str, Path], segments: CorpusSegments, classes: int) -> Callable[[Trial], TrialResult]:
    """Return in a process what runs a job; features are mapped from disk, one copy for all processes."""
    data = TrialData({name: np.load(file, mmap_mode="r") for name, file in files.items()}, segments, classes)
    return lambda job: run_trial(job, data)


def run_trial(job: Trial, data: TrialData) -> TrialResult:
    """Learn one method on one fold and predict its test songs, once."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # as in processes of their own: what is predicted must not depend on cores either
        return _run_trial(job, data.features, data.segments, data.classes)


def _run_trial(job: Trial, features: Mapping[str, NDArray[Any]], segments: CorpusSegments, classes: int) -> TrialResult:
    from emoseg.learning.methods.base import Run
    from emoseg.learning.pipeline import learn
    from emoseg.learning.training_set import TrainingSet

    fold = make_fold(segments, job.protocol, classes=classes, seed=job.seed, fold=job.fold)
    method = build_method(job.config, job.method)
    own = method.frontends or job.config.frontends
    tables = {frontend.name: features[frontend.name] for frontend in own}
    groups = segments.groups(job.protocol.group)
    data = TrainingSet(
        {name: table[fold.rows][fold.source] for name, table in tables.items()},
        fold.given,
        np.searchsorted(fold.train, segments.song[fold.rows]),
        [groups[i] for i in fold.train],
        classes,
        soft_targets(segments, fold) if job.config.learning.soft_labels else None,
    )
    started = time.process_time()
    learned = learn(data, method=method, run=Run(job.config.learning, seed=job.seed * 100 + job.fold))
    seconds = time.process_time() - started
    labelled = fold.given != UNLABELLED
    predicted = learned.predict(
        {name: table[fold.test_rows] for name, table in tables.items()},
        np.searchsorted(fold.test, segments.song[fold.test_rows]),
    )
    return TrialResult(
        test=fold.test,
        song=predicted.song,
        mean=predicted.mean,
        uncalibrated=predicted.uncalibrated,
        test_rows=fold.test_rows,
        segments=predicted.segments,
        clean_rows=fold.rows[labelled],
        clean=learned.fit.clean[labelled],
        detection=detection(learned.fit, fold, data.song, classes, by_song=job.protocol.noise.kind == "song"),
        seconds=seconds,
    )


def detection(fit: MethodFit, fold: Fold, song: Int64, classes: int, *, by_song: bool) -> dict[str, float]:
    """Say how well a method finds the wrong labels of the training segments that have one.

    Parameters
    ----------
    fit : MethodFit
    fold : Fold
    song : array of int, shape (S,)
        Song of each training segment.
    classes : int
    by_song : bool
        Whether whole songs are wrong, so that songs are ranked too.

    Returns
    -------
    dict of str to float
        As documented in docs/evaluation.md; what needs a wrong label is missing where there is none, and what needs
        the truth where that is not known. All values are finite.
    """
    found = _detection(fit, fold, song, classes, by_song=by_song)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _detection(fit: MethodFit, fold: Fold, song: Int64, classes: int, *, by_song: bool) -> dict[str, float]:
    labelled = fold.given != UNLABELLED
    given, flagged = fold.given[labelled], fit.flagged[labelled]
    found = {
        "estimated_rate": fit.noise_rate,
        "flagged": float(flagged.mean()),
        "flagged_count": float(flagged.sum()),
    }
    found |= {f"flagged_{k}": float(flagged[given == k].mean()) for k in range(classes) if (given == k).any()}
    labelled &= fold.known
    if not labelled.any():
        return found
    given, true, clean, flagged = (x[labelled] for x in (fold.given, fold.true, fit.clean, fit.flagged))
    wrong = given != true
    found = {"true_rate": float(wrong.mean()), **found}
    if not wrong.any():
        return found
    hits = float((flagged & wrong).sum())
    found |= {
        "auroc": metrics.auroc(wrong, -clean),
        "average_precision": metrics.average_precision(wrong, -clean),
        "lift": metrics.lift(wrong, -clean),
        "recall": hits / float(wrong.sum()),
        "wrong": float(wrong.sum()),
        "hits": hits,
    }
    if flagged.any():
        found["precision"] = hits / float(flagged.sum())
        guessed = fit.guesses[labelled].argmax(axis=1)
        found["corrected_accuracy"] = float((guessed == true)[flagged].mean())
    if by_song:
        _, index = np.unique(song[labelled], return_inverse=True)
        size = np.bincount(index)
        wrong_songs = np.bincount(index, wrong) > size / 2
        found["song_auroc"] = metrics.auroc(wrong_songs, -np.bincount(index, clean) / size)
    return found
