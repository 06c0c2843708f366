"""Trials: one method trained on one fold, its predictions for the test songs, and the store that saves them."""

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
    """One method, to be trained and tested on one fold of one seed."""

    method: str
    seed: int
    fold: int
    protocol: Protocol
    config: TrainConfig


@dataclass(frozen=True)
class TrialResult:
    """Predictions of one method for the test songs of one fold, and how well it found wrong labels.

    Parameters
    ----------
    test : array of int, shape (N,)
        Indices of the test songs in the corpus.
    song, mean, uncalibrated : array, shape (N, K), in [0, 1]
        Probabilities of the test songs: from the song model, from the calibrated mean over segments, and from the mean
        before calibration.
    test_rows : array of int, shape (S,)
        Indices of the test songs' segments among all segments.
    segments : array, shape (S, K), in [0, 1]
        Probabilities of the segments in `test_rows`.
    clean_rows : array of int, shape (R,)
        Indices of the training segments with a label among all segments.
    clean : array, shape (R,), in [0, 1]
        Clean probability of each segment in `clean_rows`.
    detection : dict of str to float
        As `detection` returns.
    seconds : float
        Processor time of training in seconds. Unlike the elapsed time it hardly depends on other programs.
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
    """Results of finished trials on disk, so that an interrupted evaluation continues where it stopped.

    There is one subfolder per method, so that a later call can add methods.

    Parameters
    ----------
    folder : Path or None
        A folder that the caller has locked with `emoseg.system.unfinished.unfinished`. With None nothing is saved.
    protocol : Protocol
    config : TrainConfig
        Must have the complete settings of all methods of the protocol, as `resolve_settings` returns them.
    songs : str
        Hash of the songs and their labels.

    Raises
    ------
    ConfigError
        The folder has results of a run with other settings.

    Warns
    -----
    EmosegWarning
        The folder has results from another version of emoseg, a frontend or a method; they are removed.
    """

    def __init__(self, folder: Path | None, protocol: Protocol, config: TrainConfig, songs: str) -> None:
        self.folder = folder
        if folder is None:
            return
        # The number of seeds is left out, so that a later call can add seeds.
        parted = f"{protocol.folds} folds" if protocol.test_split is None else f"test split {protocol.test_split}"
        shared = f"{parted}, {protocol.group}, {protocol.noise}, {protocol.fraction}"
        settings = config.model_dump_json(exclude={"method", "methods"})
        claim(folder, config_hash(settings, shared, songs), what="evaluation", versions=code_versions(config))
        for name in protocol.methods:
            table, versions = json.dumps(config.methods[name]), code_versions(config, [name])
            claim(folder / name, config_hash(table), what=f"evaluation of the method {name!r}", versions=versions)

    def load(self, trial: Trial) -> TrialResult | None:
        """Return the saved result of a trial, or None if there is none.

        Warns
        -----
        EmosegWarning
            The saved result is damaged; it is removed.
        """
        if self.folder is None or not (file := self._file(trial)).exists():
            return None
        try:
            return _result_from_arrays(load_arrays(file))
        except ValueError:
            warnings.warn(f"{file}: is damaged; this training is done again", EmosegWarning, stacklevel=2)
            remove(file)
            return None

    def save(self, trial: Trial, result: TrialResult) -> None:
        """Save the result of a finished trial."""
        if self.folder is None:
            return
        arrays = {name: value for name, value in vars(result).items() if isinstance(value, np.ndarray)}
        figures = json.dumps({"detection": result.detection, "seconds": result.seconds})
        save_arrays(self._file(trial), arrays | {"figures": np.array(figures)})

    def _file(self, trial: Trial) -> Path:
        assert self.folder is not None
        return self.folder / trial.method / f"seed{trial.seed}-fold{trial.fold}.npz"


def _result_from_arrays(arrays: dict[str, NDArray[Any]]) -> TrialResult:
    """Return the result that `TrialStore.save` wrote as arrays.

    Raises
    ------
    ValueError
        The arrays are not those of a result.
    """
    try:
        figures: Any = json.loads(str(arrays.pop("figures")))
        result = TrialResult(**(arrays | figures))
        numbers = [float(result.seconds), *(float(value) for value in result.detection.values())]
        tables = [result.song, result.mean, result.uncalibrated]
        whole = (
            all(map(math.isfinite, numbers))
            and all(np.isfinite(array).all() for array in arrays.values())
            and all(array.ndim == 1 for array in (result.test, result.test_rows, result.clean_rows, result.clean))
            and all(table.shape == (len(result.test), result.song.shape[1]) for table in tables)
            and result.segments.shape == (len(result.test_rows), result.song.shape[1])
            and len(result.clean) == len(result.clean_rows)
        )
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(f"is not a trial's result: {error}") from error
    if not whole:
        raise ValueError("is not a trial's result: it has arrays of inconsistent shapes or numbers that are not finite")
    return result


@dataclass(frozen=True)
class TrialData:
    """The data that all trials share.

    Parameters
    ----------
    features : mapping of str to array, shape (S, ...)
        Features of all segments of the corpus by the name of the frontend; arrays may be mapped from disk.
    segments : CorpusSegments
    classes : int
        Number of labels K.
    """

    features: Mapping[str, NDArray[Any]]
    segments: CorpusSegments
    classes: int


def run_all(
    trials: list[Trial], segments: CorpusSegments, classes: int, workers: int, *, folder: Path | None = None
) -> Generator[tuple[Trial, TrialResult], None, None]:
    """Yield each trial with its result, in the order in which they finish.

    The results do not depend on the number of workers.

    Parameters
    ----------
    trials : list of Trial
    segments : CorpusSegments
    classes : int
        Number of labels K.
    workers : int
        Number of processes. With 1 the trials run in this process.
    folder : Path, optional
        Folder for temporary copies of the features, which worker processes map; by default the feature store's.

    Raises
    ------
    EmosegError
        A process ended unexpectedly, or the disk is full.
    """
    from emoseg.learning.processes import arrays_on_disk, process_environment

    if min(workers, len(trials)) <= 1:
        data = TrialData(segments.table.features, segments, classes)
        for trial in trials:
            yield trial, run_trial(trial, data)
        return
    with arrays_on_disk(segments.table.features, folder or default_cache()) as (shared, files):
        bare = replace(segments, table=replace(segments.table, features={}))
        start = Start(_trial_runner, (files, bare, classes), environment=process_environment(), folder=shared)
        with closing(run_parallel(trials, start, workers=workers)) as done:
            for i, result in done:
                yield trials[i], result


def _trial_runner(files: Mapping[str, Path], segments: CorpusSegments, classes: int) -> Callable[[Trial], TrialResult]:
    """Return the function that runs one trial in a worker process.

    The features are mapped from disk, so all processes share one copy.
    """
    data = TrialData({name: np.load(file, mmap_mode="r") for name, file in files.items()}, segments, classes)
    return lambda trial: run_trial(trial, data)


def run_trial(trial: Trial, data: TrialData) -> TrialResult:
    """Train one method on one fold, and return its predictions for the test songs.

    Parameters
    ----------
    trial : Trial
        Its settings must be complete for its method, as `resolve_settings` returns them.
    data : TrialData
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # sums on several threads have another order: results would depend on the cores
        return _run_single_threaded(trial, data.features, data.segments, data.classes)


def _run_single_threaded(
    trial: Trial, features: Mapping[str, NDArray[Any]], segments: CorpusSegments, classes: int
) -> TrialResult:
    from emoseg.learning.methods.base import Run
    from emoseg.learning.pipeline import learn
    from emoseg.learning.training_set import TrainingSet

    fold = make_fold(segments, trial.protocol, classes=classes, seed=trial.seed, fold=trial.fold)
    method = build_method(trial.config, trial.method)
    own = method.frontends or trial.config.frontends
    tables = {frontend.name: features[frontend.name] for frontend in own}
    groups = segments.groups(trial.protocol.group)
    data = TrainingSet(
        {name: table[fold.rows][fold.source] for name, table in tables.items()},
        fold.given,
        np.searchsorted(fold.train, segments.song[fold.rows]),
        [groups[i] for i in fold.train],
        classes,
        soft_targets(segments, fold) if trial.config.learning.soft_labels else None,
    )
    started = time.process_time()
    learned = learn(data, method=method, run=Run(trial.config.learning, seed=trial.seed * 100 + trial.fold))
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
        detection=detection(learned.fit, fold, data.song, classes, by_song=trial.protocol.noise.kind == "song"),
        seconds=seconds,
    )


def detection(fit: MethodFit, fold: Fold, song: Int64, classes: int, *, by_song: bool) -> dict[str, float]:
    """Return measures of how well a method finds the wrong labels among the labelled training segments.

    Parameters
    ----------
    fit : MethodFit
        Its arrays have one row per training segment, shape (S, ...).
    fold : Fold
    song : array of int, shape (S,)
        Index of the song of each training segment.
    classes : int
        Number of labels K.
    by_song : bool
        Whether the wrong labels belong to whole songs. If so, songs are ranked as well.

    Returns
    -------
    dict of str to float
        The measures of docs/evaluation.md. Those that need a wrong label are missing if there is none, and those that
        need the true labels are missing if these are unknown. All values are finite.
    """
    found = _all_detection_measures(fit, fold, song, classes, by_song=by_song)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _all_detection_measures(
    fit: MethodFit, fold: Fold, song: Int64, classes: int, *, by_song: bool
) -> dict[str, float]:
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
