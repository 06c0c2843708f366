"""From labelled segments to a whole model: the segment model of every frontend, then the song model.

`learn` is what both training and evaluation call, so what is measured is what is shipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from emoseg.config import LearningConfig
from emoseg.corpora.splits import song_folds
from emoseg.learning.ensemble import SegmentEnsemble, build_ensemble
from emoseg.learning.learner import LearningSet, SegmentFit, cross_fit
from emoseg.song import SongModel, fit_mean_model, fit_song_model, statistics_table
from emoseg.types import Float64, Int64


@dataclass(frozen=True)
class Learned:
    """What was learnt, and what the training set looks like to it.

    Parameters
    ----------
    fits : dict of str to SegmentFit
        For each frontend.
    ensemble : SegmentEnsemble
        The segment model.
    song_model, mean_model : SongModel
        The song model, and the calibrated mean probability for comparison.
    out_of_fold : array, shape (S, K)
        Probabilities of the training segments from members that never saw their songs.
    song_held_out : array, shape (N, K)
        Probabilities of the training songs, each held out of the members and of the song model.
    clean : array, shape (S,), in [0, 1]
        Clean probability of each given label.
    """

    fits: dict[str, SegmentFit]
    ensemble: SegmentEnsemble
    song_model: SongModel
    mean_model: SongModel
    out_of_fold: Float64
    song_held_out: Float64
    clean: Float64

    def segment_probabilities(self, features: Mapping[str, NDArray[np.floating]]) -> Float64:
        """Return probabilities of shape (S, K) for features of every frontend."""
        arrays = [features[name] for name in self.ensemble.frontends]
        size = len(arrays[0])
        with torch.no_grad():
            parts = [
                self.ensemble(*(torch.from_numpy(a[rows].astype(np.float32)) for a in arrays)).double().numpy()
                for rows in np.array_split(np.arange(size), max(1, size // 512))
            ]
        return np.concatenate(parts)


def learn(
    features: Mapping[str, NDArray[np.floating]],
    given: Int64,
    song: Int64,
    groups: Sequence[str],
    *,
    classes: int,
    method: str,
    config: LearningConfig,
    seed: int,
    workers: int = 1,
    work: Path | None = None,
    on_progress: Callable[[], Any] | None = None,
) -> Learned:
    """Learn the segment model on every frontend, and the song model on out-of-fold probabilities.

    Parameters
    ----------
    features : mapping of str to array
        For each frontend, shape (S, ...).
    given : array of int, shape (S,)
        Given segment labels.
    song : array of int, shape (S,)
        Song of each segment, 0 to N - 1, ascending.
    groups : sequence of str, length N
        Artist (or other group) of each song.
    classes : int
        Number of labels K.
    method, config, seed, workers, work
        As for `cross_fit`.
    on_progress : callable, optional
        Called after each pass of each member.
    """
    fits = {}
    for name, table in features.items():
        data = LearningSet(table, given, song, groups, classes)
        folder = work / name if work else None
        fits[name] = cross_fit(
            data, method=method, config=config, seed=seed, workers=workers, work=folder, on_epoch=on_progress
        )
    out_of_fold = np.mean([fit.out_of_fold for fit in fits.values()], axis=0)
    labels = LearningSet(np.empty((0, 0)), given, song, groups, classes).song_labels()
    statistics = statistics_table(out_of_fold, song, len(groups))
    folds = song_folds(labels, groups, folds=config.members, seed=seed)
    song_fit = fit_song_model(statistics, labels, classes=classes, folds=folds)
    return Learned(
        fits=fits,
        ensemble=build_ensemble(fits, classes=classes, config=config),
        song_model=song_fit.model,
        mean_model=fit_mean_model(statistics, labels, classes=classes),
        out_of_fold=out_of_fold,
        song_held_out=song_fit.held_out,
        clean=np.mean([fit.clean for fit in fits.values()], axis=0),
    )
