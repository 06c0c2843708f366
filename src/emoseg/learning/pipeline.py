"""From labelled segments to a whole model: the segment model of a method, then the song model.

Training and evaluation both call `learn`, and `Learned.predict` scores songs with the functions that analysis uses
(`emoseg.song.scoring`): what is measured is what is shipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from emoseg.errors import EmosegError
from emoseg.learning.methods.base import Method, MethodFit, Prediction, Run
from emoseg.learning.training_set import TrainingSet, song_parts
from emoseg.song.model import SongModel
from emoseg.song.regression import fit_mean_model, fit_song_model
from emoseg.song.scoring import rows_of_songs, score_song, song_summary
from emoseg.song.statistics import statistics_table, with_base
from emoseg.types import UNLABELLED, Float64, Int64


@dataclass(frozen=True)
class SongPrediction:
    """Probabilities of songs, each of shape (N, K), and of their segments, shape (S, K)."""

    song: Float64  # by the song model
    mean: Float64  # by the method's own song probabilities, calibrated
    uncalibrated: Float64
    segments: Float64


@dataclass(frozen=True)
class Learned:
    """What was learnt.

    Parameters
    ----------
    fit : MethodFit
        The segment model, and what the training set looks like to it.
    song_model, mean_model : SongModel
        The song model, and the calibrated mean probability for comparison.
    song_held_out : array, shape (n, K)
        Probabilities of the labelled training songs, each held out of the members and of the song model.
    """

    fit: MethodFit
    song_model: SongModel
    mean_model: SongModel
    song_held_out: Float64

    def predict(self, features: Mapping[str, NDArray[np.floating]], song: Int64) -> SongPrediction:
        """Return the emotion of whole songs.

        Parameters
        ----------
        features : mapping of str to array, shape (S, ...)
            Of every frontend.
        song : array of int, shape (S,)
            Song of each segment, from 0 to N - 1, ascending.

        Raises
        ------
        EmosegError
            A probability is not finite.
        """
        predicted = self.fit.predictor.predict(features, song)
        scored = [self._score(predicted.of(rows), features, rows) for rows in rows_of_songs(song)]
        song_table, mean, uncalibrated = (np.stack(rows) for rows in zip(*scored, strict=True))
        found = SongPrediction(song_table, mean, uncalibrated, predicted.segments)
        _require_finite("what is predicted for new songs", *vars(found).values())
        return found

    def _score(
        self, predicted: Prediction, features: Mapping[str, NDArray[np.floating]], rows: slice
    ) -> tuple[Float64, Float64, Float64]:
        """Return the probabilities of one song: by the song model, by the mean, and by the mean before calibration."""
        own = None if predicted.songs is None else predicted.songs[0]
        of_song = {name: table[rows] for name, table in features.items()}
        song, mean = (score_song(m, predicted.segments, of_song, own=own) for m in (self.song_model, self.mean_model))
        base = self.mean_model.statistics(predicted.segments, song_summary(self.mean_model, of_song), own=own)
        return song, mean, np.exp(base[: len(song)])


def learn(data: TrainingSet, *, method: Method, run: Run) -> Learned:
    """Learn the segment model by a method, and the song model on its out-of-fold probabilities.

    Parameters
    ----------
    data : TrainingSet
        Songs are labelled as a whole or not at all. The song model and its calibration use labelled songs alone.
    method : Method
    run : Run

    Raises
    ------
    ValueError
        Some segments of a song have a label and others none.
    EmosegError
        A loss or a probability is not finite.
    """
    labels = data.song_labels()
    if ((data.given == UNLABELLED) != (labels[data.song] == UNLABELLED)).any():
        raise ValueError("the segments of a song must all have a label, or none of them")
    with threadpool_limits(1):  # sums of other lengths have other last digits, and cores must not decide them
        return _learn(data, labels, method, run)


def _learn(data: TrainingSet, labels: Int64, method: Method, run: Run) -> Learned:
    fit = method.fit(data, run)
    songs = np.flatnonzero(labels != UNLABELLED)
    rows = np.flatnonzero(data.given != UNLABELLED)
    statistics = _statistics(fit.out_of_fold.of(rows), np.searchsorted(songs, data.song[rows]))
    folds = song_parts(labels, data.groups, parts=run.config.members, seed=run.seed)[songs]
    rate = fit.song_rate
    _require_finite("what the segment model predicts for songs that it never saw", statistics)
    song_fit = fit_song_model(statistics, labels[songs], classes=data.classes, folds=folds, song_rate=rate)
    model, mean_model = song_fit.model, fit_mean_model(statistics, labels[songs], classes=data.classes, song_rate=rate)
    weights = [model.mean, model.scale, model.weights, model.bias]
    _require_finite("the song model", song_fit.held_out, *weights, model.temperature, mean_model.temperature)
    return Learned(
        fit=fit,
        song_model=replace(model, base=fit.song_base),
        mean_model=replace(mean_model, base=fit.song_base),
        song_held_out=song_fit.held_out,
    )


def _statistics(predicted: Prediction, song: Int64) -> Float64:
    """Return song statistics, shape (N, 7 * K), with the song probabilities of a method, if it has any, as the base."""
    songs = int(song[-1]) + 1
    table = statistics_table(predicted.segments, song, songs)
    if predicted.songs is not None:
        return with_base(table, predicted.songs[np.searchsorted(song, np.arange(songs))])
    return table


def _require_finite(what: str, *arrays: NDArray[np.floating] | float) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise EmosegError(f"{what} holds a number that is not finite; nothing can be learnt from it")
