"""Confident learning: find label errors in out-of-fold predictions, leave these segments out, and learn again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from emoseg.learning.methods.base import Method, MethodFit, Run, average_frontends
from emoseg.learning.methods.inherit import MixupTrainer
from emoseg.learning.training_set import TrainingSet
from emoseg.types import UNLABELLED, Float64, Int64


class ConfidentLearning(Method):
    """Two cross-fits of plain training with mixup, the second without the segments whose labels cleanlab finds wrong.

    The out-of-fold probabilities of the first and the given labels go to cleanlab's ``find_label_issues``, segment by
    segment, with its default filter. The thresholds are the mean self-confidence of each label; segments above them
    give the joint distribution of given and true labels; and from each off-diagonal cell as many segments are pruned as
    it predicts, by largest margin. The clean probability of a label is its self-confidence, pruned segments are the
    flagged ones, and the noise rate is their share.

    References
    ----------
    C. Northcutt, L. Jiang, I. Chuang. Confident learning: estimating uncertainty in dataset labels. JAIR 70, 2021.
    """

    version = 1
    extra: ClassVar[tuple[str, str] | None] = ("cleanlab", "cleanlab")

    def fit(self, data: TrainingSet, run: Run) -> MethodFit:
        """Return what the method learns from a training set."""
        first = {name: run.cross_fit(data, name, MixupTrainer, name=f"{name}-first") for name in data.features}
        out_of_fold = np.mean([fit.out_of_fold for fit in first.values()], axis=0)
        labelled = np.flatnonzero(data.given != UNLABELLED)
        flagged = np.zeros(len(data.given), dtype=bool)
        flagged[labelled] = find_errors(data.given[labelled], out_of_fold[labelled])
        rows = np.flatnonzero(~flagged)
        second = {
            name: run.cross_fit(data, name, MixupTrainer, name=f"{name}-second", rows=rows) for name in data.features
        }
        clean = np.full(len(data.given), np.nan)
        clean[labelled] = out_of_fold[labelled, data.given[labelled]]
        return replace(
            average_frontends(second, data, run.config),
            clean=clean,
            flagged=flagged,
            guesses=out_of_fold,
            noise_rate=float(flagged[labelled].mean()),
        )

    def passes(self, epochs: Mapping[str, int], members: int) -> int:
        """Return the number of passes, for the progress display."""
        return 2 * super().passes(epochs, members)


def find_errors(given: Int64, probabilities: Float64) -> NDArray[np.bool_]:
    """Return which given labels cleanlab considers wrong, by its default filter (prune by noise rate), shape (S,).

    Parameters
    ----------
    given : array of int, shape (S,)
    probabilities : array, shape (S, K)
        Out-of-fold probabilities.
    """
    from cleanlab.filter import find_label_issues

    # One process: results must not depend on the number of cores.
    return np.asarray(find_label_issues(given, probabilities, filter_by="prune_by_noise_rate", n_jobs=1))
