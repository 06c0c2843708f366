"""Methods: from a labelled training set to a segment model and to estimates of which labels are right.

A *trainer* (`emoseg.learning.trainer.Trainer`) is what one pass does for one member of a cross-fit. A *method* decides
how many cross-fits there are, on which segments and features, and whether there are networks at all. Most methods are
one cross-fit of a trainer: subclasses of `CrossFitted`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from emoseg.config import FrontendConfig, LearningConfig, MethodSettings
from emoseg.errors import MissingExtraError
from emoseg.learning.cross_fit import SegmentFit, cross_fit
from emoseg.learning.ensemble import SegmentEnsemble, build_ensemble
from emoseg.learning.trainer import NO_SETTINGS, Trainer, evaluation_batches
from emoseg.learning.training_set import TrainingSet
from emoseg.song.blend import SongBase
from emoseg.types import UNLABELLED, Float64, Int64


@dataclass(frozen=True)
class Run:
    """How a method is run. The result depends on `config` and `seed` only.

    Parameters
    ----------
    config : LearningConfig
    seed : int
    workers : int
        Number of processes.
    work : Path, optional
        Folder for finished passes; a run that finds some there continues after them.
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
        data: TrainingSet,
        frontend: str,
        trainer: type[Trainer],
        *,
        name: str,
        settings: MethodSettings = NO_SETTINGS,
        rows: Int64 | None = None,
        targets: Float64 | None = None,
        early_share: float = 2 / 3,
        config: LearningConfig | None = None,
    ) -> SegmentFit:
        """Return what `emoseg.learning.cross_fit.cross_fit` learns, with the options of this run.

        Parameters
        ----------
        data : TrainingSet
        frontend : str
            Name of the features to learn from.
        trainer : type of Trainer
        name : str
            Distinguishes this cross-fit from the others of the same method; its passes are kept in a folder of that
            name.
        settings : MethodSettings
            Settings of the method, for the trainer.
        rows, targets, early_share
            As of `emoseg.learning.cross_fit.cross_fit`.
        config : LearningConfig, optional
            Replaces the configuration of the run.
        """
        return cross_fit(
            data,
            frontend,
            trainer=trainer,
            config=config or self.config,
            seed=self.seed,
            settings=settings,
            rows=rows,
            targets=targets,
            early_share=early_share,
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
        For each segment the probabilities of its song. A method whose `MethodFit` has a `song_base` leaves them out of
        predictions for new songs, where the song model computes them.
    """

    segments: Float64
    songs: Float64 | None = None

    def of(self, rows: Int64 | slice) -> Prediction:
        """Return the prediction for some of the segments."""
        return Prediction(self.segments[rows], None if self.songs is None else self.songs[rows])


class Predictor(Protocol):
    """What a method learnt, ready to predict songs that it did not learn from."""

    def predict(self, features: Mapping[str, NDArray[np.floating]], song: Int64) -> Prediction:
        """Return probabilities of the segments of whole songs.

        Parameters
        ----------
        features : mapping of str to array, shape (S, ...)
            Features of all segments, by the name of the frontend.
        song : array of int, shape (S,)
            Song of each segment, ascending.
        """
        ...


class EnsemblePredictor:
    """Predicts the mean of all networks; a song's probabilities are the mean over its segments."""

    def __init__(self, ensemble: SegmentEnsemble) -> None:
        self.ensemble = ensemble

    def predict(self, features: Mapping[str, NDArray[np.floating]], song: Int64) -> Prediction:
        """Return probabilities of the segments of whole songs."""
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
    """What a method learnt from a training set.

    Parameters
    ----------
    predictor : Predictor
    out_of_fold : Prediction
        Probabilities of the training segments and their songs, from models that did not learn from them; NaN where
        unlabelled.
    clean : array, shape (S,), in [0, 1]
        Clean probability of each given label; NaN where unlabelled.
    flagged : array of bool, shape (S,)
        Labels that the method considers wrong.
    guesses : array, shape (S, K)
        Estimated probabilities of the true labels.
    noise_rate : float
        Estimated share of wrong labels, in [0, 1].
    ensemble : SegmentEnsemble or None
        The segment model as networks, for a model folder; None where the method has no such model.
    history : dict of str to list
        For each cross-fit and each member, one record per pass.
    song_base : SongBase or None
        What the song model starts from instead of the mean over segments; a model folder holds it.
    song_rate : float
        Estimated share of songs whose label is wrong as a whole, in [0, 1]; the song model accounts for it.
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
    """A method of learning: from a `TrainingSet` to a `MethodFit`.

    Parameters
    ----------
    settings : MethodSettings, optional
        An instance of `settings_class`; default its defaults.

    Attributes
    ----------
    version : int
        To be raised whenever the method learns something else from the same data and settings, so that an interrupted
        training does not continue with passes of an older version.
    settings_class : type of MethodSettings
        Class of the method's own settings. The subclass narrows the type of `settings` with an annotation.
    not_in_folder : str or None
        Why a model folder cannot contain what the method learns, in a few words; None where it can.
    extra : tuple of str, or None
        A package that the method needs, and the extra of emoseg that installs it.
    frontends : tuple of FrontendConfig, or None
        The frontends that the method requires; None for those that the settings name.
    """

    version: ClassVar[int]
    settings_class: ClassVar[type[MethodSettings]] = MethodSettings
    not_in_folder: ClassVar[str | None] = None
    extra: ClassVar[tuple[str, str] | None] = None
    frontends: ClassVar[tuple[FrontendConfig, ...] | None] = None

    settings: MethodSettings

    def __init__(self, settings: MethodSettings | None = None) -> None:
        self.settings = self.settings_class() if settings is None else settings

    @classmethod
    def require_extra(cls) -> None:
        """Raise `MissingExtraError` unless the package that the method needs is installed."""
        if cls.extra and find_spec(cls.extra[0]) is None:
            raise MissingExtraError("this method", cls.extra[1])

    @abstractmethod
    def fit(self, data: TrainingSet, run: Run) -> MethodFit:
        """Return what the method learns from a training set."""

    def passes(self, epochs: Mapping[str, int], members: int) -> int:
        """Return the largest number of passes that `fit` can take, for the progress display.

        Parameters
        ----------
        epochs : mapping of str to int
            Passes per member for each frontend.
        members : int
        """
        return members * sum(epochs.values())


class CrossFitted(Method):
    """A method that is one cross-fit of a trainer per frontend; probabilities are averaged over frontends.

    Attributes
    ----------
    trainer : type of Trainer
        Class attribute of the subclass.
    """

    trainer: ClassVar[type[Trainer]]

    def fit(self, data: TrainingSet, run: Run) -> MethodFit:
        """Return what the method learns from a training set."""
        fits = {
            name: run.cross_fit(data, name, self.trainer, name=name, settings=self.settings) for name in data.features
        }
        return average_frontends(fits, data, run.config)


def average_frontends(fits: Mapping[str, SegmentFit], data: TrainingSet, config: LearningConfig) -> MethodFit:
    """Return one fit from those of several frontends: the mean of their probabilities, rates and guesses."""
    ensemble = build_ensemble(fits, classes=data.classes, config=config)
    out_of_fold = np.mean([fit.out_of_fold for fit in fits.values()], axis=0)
    clean = np.mean([fit.clean for fit in fits.values()], axis=0)
    guesses = [fit.guesses for fit in fits.values() if fit.guesses is not None]
    rates = [fit.noise_rate for fit in fits.values() if fit.noise_rate is not None]
    labelled = data.given != UNLABELLED
    return MethodFit(
        predictor=EnsemblePredictor(ensemble),
        out_of_fold=Prediction(out_of_fold),
        clean=clean,
        flagged=clean < 0.5,
        guesses=np.mean(guesses, axis=0) if guesses else out_of_fold,
        noise_rate=float(np.mean(rates) if rates else np.mean(1 - clean[labelled])),
        ensemble=ensemble,
        history={name: fit.history for name, fit in fits.items()},
    )


def song_level_fit(
    data: TrainingSet,
    predictor: Predictor,
    out_of_fold: Float64,
    history: dict[str, list[list[dict[str, Any]]]],
) -> MethodFit:
    """Return the fit of a method that judges songs as a whole: it has no segment model.

    The clean probability of a given label is its out-of-fold probability.

    Parameters
    ----------
    data : TrainingSet
    predictor : Predictor
    out_of_fold : array, shape (N, K)
        Out-of-fold probabilities of the songs; NaN where unlabelled.
    history : dict of str to list
        As of `MethodFit`.
    """
    segments = out_of_fold[data.song]
    labelled = data.given != UNLABELLED
    clean = np.where(labelled, segments[np.arange(len(data.given)), data.given], np.nan)
    return MethodFit(
        predictor=predictor,
        out_of_fold=Prediction(segments),
        clean=clean,
        flagged=clean < 0.5,
        guesses=segments,
        noise_rate=float(np.nanmean(1 - clean)),
        ensemble=None,
        history=history,
    )
