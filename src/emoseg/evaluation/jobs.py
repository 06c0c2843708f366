"""One method on one fold: learn, predict the test songs once, and keep what came out until the result is written."""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from emoseg import metrics
from emoseg.config import MethodName, TrainConfig
from emoseg.corpora.segments import CorpusSegments
from emoseg.errors import ConfigError
from emoseg.evaluation.protocol import Fold, Protocol, make_fold, soft_targets
from emoseg.types import UNLABELLED, Float64, Int64

if TYPE_CHECKING:
    from emoseg.learning.methods.base import MethodFit


@dataclass(frozen=True)
class Job:
    """One method on one fold of one seed."""

    method: MethodName
    seed: int
    fold: int
    protocol: Protocol
    config: TrainConfig


@dataclass(frozen=True)
class Outcome:
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


class OutcomeStore:
    """Finished jobs on disk, so that a long evaluation that was killed goes on; no folder, nothing kept.

    Parameters
    ----------
    folder : Path or None
    settings : str
        A fingerprint of all that decides an outcome but method, seed and fold.

    Raises
    ------
    ConfigError
        The folder holds outcomes of other settings.
    """

    def __init__(self, folder: Path | None, settings: str) -> None:
        self.folder, self.settings = folder, settings
        if folder is None or not folder.exists():
            return
        marker = folder / "settings"
        if not marker.is_file() or marker.read_text() != settings:
            raise ConfigError(
                f"{folder}: holds an unfinished evaluation with other settings or songs; delete it or change --out"
            )

    def load(self, job: Job) -> Outcome | None:
        """Return the outcome of a finished job."""
        if self.folder is None or not (file := self._file(job)).exists():
            return None
        try:
            with file.open("rb") as opened, np.load(opened) as saved:
                arrays = {name: saved[name] for name in saved.files}
        except (OSError, ValueError, zipfile.BadZipFile):
            return None  # damaged from outside: learn it again
        return Outcome(**json.loads(str(arrays.pop("figures"))), **arrays)

    def save(self, job: Job, outcome: Outcome) -> None:
        """Keep the outcome of a finished job."""
        if self.folder is None:
            return
        if not self.folder.exists():
            self.folder.mkdir()
            (self.folder / "settings").write_text(self.settings)
        arrays = {name: value for name, value in vars(outcome).items() if isinstance(value, np.ndarray)}
        figures = np.array(json.dumps({"detection": outcome.detection, "seconds": outcome.seconds}))
        part = self._file(job).with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, **arrays, figures=figures)  # type: ignore[arg-type]
        part.replace(self._file(job))

    def _file(self, job: Job) -> Path:
        assert self.folder is not None
        return self.folder / f"{job.method}-seed{job.seed}-fold{job.fold}.npz"


_shared: dict[str, Any] = {}


def _share(features: dict[str, Path], segments: CorpusSegments, classes: int) -> None:
    """Give a worker process the corpus; features are mapped from disk, one copy for all processes."""
    _shared["features"] = {name: np.load(path, mmap_mode="r") for name, path in features.items()}
    _shared["segments"], _shared["classes"] = segments, classes


def run_all(jobs: list[Job], segments: CorpusSegments, classes: int, workers: int) -> Iterator[tuple[Job, Outcome]]:
    """Yield jobs with their outcomes as they finish; the outcomes do not depend on the number of workers."""
    from emoseg.learning.learner import kept_heap

    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.npy" for name in segments.table.features}
        for name, file in files.items():
            np.save(file, segments.table.features[name])
        bare = replace(segments, table=replace(segments.table, features={}))
        if workers == 1:
            _share(files, bare, classes)
            for job in jobs:
                yield job, run_job(job)
            return
        context = multiprocessing.get_context("spawn")
        with kept_heap(), ProcessPoolExecutor(min(workers, len(jobs)), context, _share, (files, bare, classes)) as pool:
            pending = {pool.submit(run_job, job): job for job in jobs}
            try:
                for future in as_completed(pending):
                    yield pending[future], future.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def run_job(job: Job) -> Outcome:
    """Learn one method on one fold and predict its test songs, once."""
    from emoseg.learning.methods import METHODS
    from emoseg.learning.methods.base import Run, TrainingSet
    from emoseg.learning.pipeline import learn

    segments, classes = cast(CorpusSegments, _shared["segments"]), _shared["classes"]
    fold = make_fold(segments, job.protocol, classes=classes, seed=job.seed, fold=job.fold)
    own = METHODS[job.method].frontends or job.config.frontends
    tables: Mapping[str, Any] = {frontend.name: _shared["features"][frontend.name] for frontend in own}
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
    learned = learn(data, method=job.method, run=Run(job.config.learning, seed=job.seed * 100 + job.fold))
    seconds = time.process_time() - started
    labelled = fold.given != UNLABELLED
    predicted = learned.predict(
        {name: table[fold.test_rows] for name, table in tables.items()},
        np.searchsorted(fold.test, segments.song[fold.test_rows]),
    )
    return Outcome(
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
        the truth where that is not known.
    """
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
        "precision": hits / max(1.0, float(flagged.sum())),
        "recall": hits / float(wrong.sum()),
        "wrong": float(wrong.sum()),
        "hits": hits,
    }
    if flagged.any():
        guessed = fit.guesses[labelled].argmax(axis=1)
        found["corrected_accuracy"] = float((guessed == true)[flagged].mean())
    if by_song:
        _, index = np.unique(song[labelled], return_inverse=True)
        size = np.bincount(index)
        wrong_songs = np.bincount(index, wrong) > size / 2
        found["song_auroc"] = metrics.auroc(wrong_songs, -np.bincount(index, clean) / size)
    return found
