"""Learning from whole songs, without segments: the baseline that shows what cutting songs into segments is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from emoseg.learning.methods.base import (
    Method,
    MethodFit,
    Prediction,
    Predictor,
    Run,
    average_frontends,
    song_level_fit,
)
from emoseg.learning.methods.inherit import MixupTrainer
from emoseg.learning.training_set import TrainingSet
from emoseg.song.statistics import song_mean, song_summaries
from emoseg.types import Int64


class SummaryPredictor:
    """Predicts songs from their summaries; all segments of a song get the song's probabilities."""

    def __init__(self, of_summaries: Predictor) -> None:
        self.of_summaries = of_summaries

    def predict(self, features: Mapping[str, NDArray[np.floating]], song: Int64) -> Prediction:
        """Return probabilities of the segments of whole songs."""
        _, index = np.unique(song, return_inverse=True)
        summaries = {name: song_summaries(table, song) for name, table in features.items()}
        songs = self.of_summaries.predict(summaries, np.arange(int(index[-1]) + 1))
        return Prediction(songs.segments[index])


class WholeSong(Method):
    """Plain training with mixup on one row per song: mean and deviation of its segments' features.

    The batch is smaller than with segments, so that there are as many steps per pass.
    """

    version = 1
    not_in_folder: ClassVar[str | None] = "it has no segment model"

    def fit(self, data: TrainingSet, run: Run) -> MethodFit:
        """Return what the method learns from a training set."""
        songs = _one_row_per_song(data)
        batch = max(4, round(run.config.batch * len(songs.given) / len(data.song)))
        config = run.config.model_copy(update={"batch": batch})
        fits = {name: run.cross_fit(songs, name, MixupTrainer, name=name, config=config) for name in songs.features}
        learnt = average_frontends(fits, songs, run.config)
        return song_level_fit(data, SummaryPredictor(learnt.predictor), learnt.out_of_fold.segments, learnt.history)


def _one_row_per_song(data: TrainingSet) -> TrainingSet:
    """Return a training set whose segments are whole songs, with the mean of their segments' soft labels."""
    labels = data.song_labels()
    first_segments = np.unique(data.song, return_index=True)[1]
    return TrainingSet(
        features={name: song_summaries(table, data.song) for name, table in data.features.items()},
        given=labels,
        song=np.arange(len(labels)),
        groups=data.groups,
        classes=data.classes,
        soft=None if data.soft is None else song_mean(data.soft, data.song)[first_segments],
    )
