"""Learning from whole songs, without segments: what cutting songs up is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from emoseg.learning.methods.base import Method, MethodFit, Prediction, Predictor, Run, TrainingSet, joined
from emoseg.learning.methods.inherit import Mixup
from emoseg.song.statistics import song_mean, song_summaries
from emoseg.types import UNLABELLED, Float64, Int64


class SongPredictor:
    """A predictor of songs from their summaries; all segments of a song have the song's probabilities."""

    def __init__(self, of_summaries: Predictor) -> None:
        self.of_summaries = of_summaries

    def predict(self, features: Mapping[str, NDArray[np.floating]], song: Int64) -> Prediction:
        """Return probabilities for whole songs."""
        _, index = np.unique(song, return_inverse=True)
        summaries = {name: song_summaries(table, song) for name, table in features.items()}
        found = self.of_summaries.predict(summaries, np.arange(int(index[-1]) + 1))
        return Prediction(found.segments[index])


def clean_of_songs(out_of_fold: Float64, given: Int64) -> Float64:
    """Return the clean probability of each segment's given label where songs are judged as a whole, shape (S,).

    It is the out-of-fold probability of that label, which need not be that of the song; NaN where unlabelled.
    """
    return np.where(given == UNLABELLED, np.nan, out_of_fold[np.arange(len(given)), given])


class WholeSong(Method):
    """Plain training with mixup on one row a song: mean and deviation of its segments' features.

    A step takes the share of the songs that it takes of the segments elsewhere, so that there are as many steps.
    """

    not_in_folder: ClassVar[str | None] = "it has no segment model"

    def fit(self, data: TrainingSet, run: Run) -> MethodFit:
        """Learn from a training set."""
        labels = data.song_labels()
        songs = TrainingSet(
            {name: song_summaries(table, data.song) for name, table in data.features.items()},
            labels,
            np.arange(len(labels)),
            data.groups,
            data.classes,
            None if data.soft is None else song_mean(data.soft, data.song)[np.unique(data.song, return_index=True)[1]],
        )
        batch = max(4, round(run.config.batch * len(labels) / len(data.song)))
        config = run.config.model_copy(update={"batch": batch})
        fits = {name: run.cross_fit(songs.of(name), Mixup, name=name, config=config) for name in songs.features}
        learnt = joined(fits, songs, run.config)
        segments = learnt.out_of_fold.of(data.song).segments
        clean = clean_of_songs(segments, data.given)
        return replace(
            learnt,
            predictor=SongPredictor(learnt.predictor),
            out_of_fold=Prediction(segments),
            clean=clean,
            flagged=clean < 0.5,
            guesses=segments,
            noise_rate=float(np.nanmean(1 - clean)),
            ensemble=None,
        )
