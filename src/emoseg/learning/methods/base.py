"""What a method is: from a labelled training set to a segment model, and what it thinks of the labels.

A *trainer* (`emoseg.learning.trainer.Trainer`) is what one pass does for one member of a cross-fit. A *method* decides
how many cross-fits there are, on which rows and features, and whether there are any networks at all. Most methods are
one cross-fit of a trainer: `CrossFitted`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from emoseg.config import FrontendConfig, LearningConfig
from emoseg.errors import MissingExtraError
from emoseg.learning.cross_fit import LearningSet, SegmentFit, cross_fit
from emoseg.learning.ensemble import SegmentEnsemble, build_ensemble
from emoseg.learning.trainer import Trainer, evaluation_batches
from emoseg.song.blend import SongBase
from emoseg.types import UNLABELLED, Float64, Int64


@dataclass(frozen=True)
class TrainingSet:
    """Training songs as a method gets them.

    Parameters
    ----------
    features : mapping of str to array, shape (S, ...)
        For each frontend.
    given : array of int, shape (S,)
        Given label of each segment; `UNLABELLED` for all segments of a song without one.
    song : array of int, shape (S,)
        Song of each segment, from 0 to N - 1, ascending.
    groups : sequence of str, length N
        Artist (or other group) of each song.
    classes : int
        Number of labels K.
    soft : array, shape (S, K), or None
        What plain learning takes for the labels where these are soft; None: the one-hot given ones.
    """

    features: Mapping[str, NDArray[np.floating]]
    given: Int64
    song: Int64
    groups: Sequence[str]
    classes: int
    soft: Float64 | None = None

    def of(self, frontend: str) -> LearningSet:
        """Return the set with the features of one frontend."""
        return LearningSet(self.features[frontend], self.given, self.song, self.groups, self.classes, self.soft)

    def song_labels(self) -> Int64:
        """Return each song's given label, shape (N,): that of most of its segments, or `UNLABELLED`."""
        return LearningSet(np.empty((0, 0)), self.given, self.song, self.groups, self.classes).song_labels()


@dataclass(frozen=True)
class Run:
    """How a method is to run; the result depends on `config` and `seed` alone.

    Parameters
    ----------
    config : LearningConfig
    seed : int
    workers : int
        Processes.
    work : Path, optional
        Folder for finished passes; a run that finds some there goes on after them.
    on_pass : callable, optional
        Called after each pass of each member.
    """

    config: LearningConfig
    seed: int
    workers: int = 1
    work: Path | None = None
    on_pass: Callable[[], Any] | None = None

    def cross_fit(
        self,
        data: LearningSet,
        trainer: type[Trainer],
        *,
        name: str,
        rows: Int64 | None = None,
        targets: Float64 | None = None,
        config: LearningConfig | None = None,
    ) -> SegmentFit:
        """Run `cross_fit`; `name` tells this cross-fit from the method's others."""
        return cross_fit(
            data,
            trainer=trainer,
            config=config or self.config,
            seed=self.seed,
            rows=rows,
            targets=targets,
            workers=self.workers,
            work=self.work / name if self.work else None,
            on_epoch=self.on_pass,
        )


@dataclass(frozen=True)
class Prediction:
    """Probabilities of segments, and of songs where these are not the mean of their segments.

    Parameters
    ----------
    segments : array, shape (S, K)
    songs : array, shape (S, K), or None
        For each segment the probabilities of its song.
    """

    segments: Float64
    songs: Float64 | None = None

    def of(self, rows: Int64) -> Prediction:
        """Return the prediction for some of the segments."""
        return Prediction(self.segments[rows], None if self.songs is None else self.songs[rows])


class Predictor(Protocol):
    """What a method learnt: probabilities for songs that it never saw."""

    def predict(self, features: Mapping[str, NDArray[np.floating]], song: Int64) -> Prediction:
        """Return probabilities for whole songs.

        Parameters
        ----------
        features : mapping of str to array, shape (S, ...)
        song : array of int, shape (S,)
            Song of each segment, ascending.
        """
        ...


class EnsemblePredictor:
    """The mean over all networks; a song is the mean of its segments."""

    def __init__(self, ensemble: SegmentEnsemble) -> None:
        self.ensemble = ensemble

    def predict(self, features: Mapping[str, NDArray[np.floating]], song: Int64) -> Prediction:
        """Return probabilities for whole songs."""
        arrays = [features[name] for name in self.ensemble.frontends]
        size, largest = len(arrays[0]), max((a.shape[1:] for a in arrays), key=math.prod)
        with torch.no_grad():
            parts = [
                self.ensemble(*(torch.from_numpy(a[rows].astype(np.float32)) for a in arrays)).double().numpy()
                for rows in np.split(np.arange(size), evaluation_batches(largest, size))
            ]
        return Prediction(np.concatenate(parts))


@dataclass(frozen=True)
class MethodFit:
    """What a method made of a training set.

    Parameters
    ----------
    predictor : Predictor
    out_of_fold : Prediction
        Probabilities of the training segments and their songs from models that never saw them; NaN where unlabelled.
    clean : array, shape (S,), in [0, 1]
        Clean probability of each given label; NaN where unlabelled.
    flagged : array of bool, shape (S,)
        Labels that the method does not trust.
    guesses : array, shape (S, K)
        What the method takes the true labels to be.
    noise_rate : float
        Share of the given labels that the method thinks are wrong.
    ensemble : SegmentEnsemble or None
        The segment model as networks, for a model folder; None where the method has no such thing.
    history : dict of str to list
        For each cross-fit, each member's records, one a pass.
    song_base : SongBase or None
        Where the predictor's songs are more than the mean of their segments: what a model folder needs for that.
    song_rate : float
        Share of songs whose label the method thinks is wrong as a whole: the song model takes account of it.
    """

    predictor: Predictor
    out_of_fold: Prediction
    clean: Float64
    flagged: NDArray[np.bool_]
    guesses: Float64
    noise_rate: float
    ensemble: SegmentEnsemble | None
    history: dict[str, list[list[dict[str, Any]]]]
    song_base: SongBase | None = None
    song_rate: float = 0.0


class Method(ABC):
    """From a training set to a `MethodFit`.

    Attributes
    ----------
    not_in_folder : str or None
        Why a model folder cannot hold what the method learns, in a few words; None where it can.
    extra : tuple of str, or None
        A package that the method needs and the extra that brings it.
    frontends : tuple of FrontendConfig, or None
        The method's own features; None: those that the settings name.
    """

    not_in_folder: ClassVar[str | None] = None
    extra: ClassVar[tuple[str, str] | None] = None
    frontends: ClassVar[tuple[FrontendConfig, ...] | None] = None

    def require_extra(self) -> None:
        """Raise `MissingExtraError` unless the package that the method needs is installed."""
        if self.extra and find_spec(self.extra[0]) is None:
            raise MissingExtraError("this method", self.extra[1])

    @abstractmethod
    def fit(self, data: TrainingSet, run: Run) -> MethodFit:
        """Learn from a training set."""

    def passes(self, epochs: Mapping[str, int], members: int) -> int:
        """Return how many passes progress should count on at most, from each frontend's passes a member."""
        return members * sum(epochs.values())


class CrossFitted(Method):
    """One cross-fit of a trainer on every frontend; probabilities are averaged over frontends."""

    def __init__(self, trainer: type[Trainer]) -> None:
        self.trainer = trainer

    def fit(self, data: TrainingSet, run: Run) -> MethodFit:
        """Learn from a training set."""
        fits = {name: run.cross_fit(data.of(name), self.trainer, name=name) for name in data.features}
        return joined(fits, data, run.config)


def joined(fits: Mapping[str, SegmentFit], data: TrainingSet, config: LearningConfig) -> MethodFit:
    """Return what cross-fits, one a frontend, learnt together: the mean of what each says."""
    ensemble = build_ensemble(fits, classes=data.classes, config=config)
    out_of_fold = np.mean([fit.out_of_fold for fit in fits.values()], axis=0)
    clean = np.mean([fit.clean for fit in fits.values()], axis=0)
    opinions = [fit.guesses for fit in fits.values() if fit.guesses is not None]
    rates = [fit.noise_rate for fit in fits.values() if fit.noise_rate is not None]
    labelled = data.given != UNLABELLED
    return MethodFit(
        predictor=EnsemblePredictor(ensemble),
        out_of_fold=Prediction(out_of_fold),
        clean=clean,
        flagged=clean < 0.5,
        guesses=np.mean(opinions, axis=0) if opinions else out_of_fold,
        noise_rate=float(np.mean(rates) if rates else np.mean(1 - clean[labelled])),
        ensemble=ensemble,
        history={name: fit.history for name, fit in fits.items()},
    )
