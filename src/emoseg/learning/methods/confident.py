"""Confident learning: find label errors out of fold, leave them out, learn again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from emoseg.learning.methods.base import Method, MethodFit, Run, TrainingSet, joined
from emoseg.learning.methods.inherit import Mixup
from emoseg.types import UNLABELLED, Float64, Int64


class ConfidentLearning(Method):
    """Two cross-fits of the plain method with mixup, the second without the segments that cleanlab finds wrong.

    The first one's out-of-fold probabilities and the given labels go to cleanlab's ``find_label_issues``, segment by
    segment, with its default filter: per-class mean self-confidence as thresholds, the joint of given and true labels
    from what lies above them, and from each off-diagonal cell as many segments as it says, by largest margin. The
    score of a label is its self-confidence, what is flagged is what is pruned, and the noise rate is the pruned share.

    References
    ----------
    C. Northcutt, L. Jiang, I. Chuang. Confident learning: estimating uncertainty in dataset labels. JAIR 70, 2021.
    """

    extra: ClassVar[tuple[str, str] | None] = ("cleanlab", "cleanlab")

    def fit(self, data: TrainingSet, run: Run) -> MethodFit:
        """Learn from a training set."""
        first = {name: run.cross_fit(data.of(name), Mixup, name=f"{name}-first") for name in data.features}
        out_of_fold = np.mean([fit.out_of_fold for fit in first.values()], axis=0)
        labelled = np.flatnonzero(data.given != UNLABELLED)
        flagged = np.zeros(len(data.given), dtype=bool)
        flagged[labelled] = find_errors(data.given[labelled], out_of_fold[labelled])
        rows = np.flatnonzero(~flagged)
        second = {name: run.cross_fit(data.of(name), Mixup, name=f"{name}-second", rows=rows) for name in data.features}
        clean = np.full(len(data.given), np.nan)
        clean[labelled] = out_of_fold[labelled, data.given[labelled]]
        return replace(
            joined(second, data, run.config),
            clean=clean,
            flagged=flagged,
            guesses=out_of_fold,
            noise_rate=float(flagged[labelled].mean()),
        )

    def passes(self, epochs: Mapping[str, int], members: int) -> int:
        """Return how many passes progress should count on."""
        return 2 * super().passes(epochs, members)


def find_errors(given: Int64, probabilities: Float64) -> NDArray[np.bool_]:
    """Return which given labels cleanlab takes to be wrong, by its default filter (prune by noise rate).

    Parameters
    ----------
    given : array of int, shape (S,)
    probabilities : array, shape (S, K)
        Out of fold.
    """
    from cleanlab.filter import find_label_issues

    # One process: results must not depend on the number of cores.
    return np.asarray(find_label_issues(given, probabilities, filter_by="prune_by_noise_rate", n_jobs=1))
