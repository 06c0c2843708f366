"""Measures of agreement, calibration and detection, and paired intervals. Reference first, estimate second.

All work on whole arrays, never on averages over batches. Label-wise measures count labels that occur in either array.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from emoseg.types import Float64, Int64

Bool = NDArray[np.bool_]


def confusion(reference: Int64, estimate: Int64, classes: int) -> Int64:
    """Return how often each label of the reference meets each estimate, shape (K, K): rows are the reference.

    Parameters
    ----------
    reference, estimate : array of int, shape (N,)
        Labels from 0 to K - 1.
    classes : int
        Number of labels K.
    """
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (reference, estimate), 1)
    return table


def macro_f1(reference: Int64, estimate: Int64, classes: int) -> float:
    """Return the mean of F1 over the labels that occur in either array, in [0, 1]; parameters as in `confusion`."""
    table = confusion(reference, estimate, classes)
    both = table.sum(axis=0) + table.sum(axis=1)
    present = both > 0
    return float(np.mean(2 * np.diag(table)[present] / both[present]))


def recalls(reference: Int64, estimate: Int64, classes: int) -> Float64:
    """Return the recall of each label, shape (K,); NaN for labels that are not in the reference."""
    table = confusion(reference, estimate, classes)
    with np.errstate(invalid="ignore"):
        return np.diag(table) / table.sum(axis=1)


def balanced_accuracy(reference: Int64, estimate: Int64, classes: int) -> float:
    """Return the mean recall over the labels of the reference, in [0, 1]."""
    return float(np.nanmean(recalls(reference, estimate, classes)))


def calibration_error(reference: Int64, probabilities: Float64, *, bins: int = 10) -> float:
    """Return the expected calibration error, in [0, 1] (Guo et al., ICML 2017, eq. 3), over equal-mass bins.

    Parameters
    ----------
    reference : array of int, shape (N,)
    probabilities : array, shape (N, K)
    bins : int
        Bins of equal size by confidence: equal widths leave most bins empty on small sets. Items of one confidence
        share a bin, so the order of items does not matter.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == reference
    order = np.argsort(confidence, kind="stable")
    cuts = np.searchsorted(confidence[order], confidence[order][np.arange(1, bins) * len(order) // bins])
    parts = [part for part in np.split(order, cuts) if len(part)]
    gaps = [abs(confidence[part].mean() - right[part].mean()) * len(part) for part in parts]
    return float(np.sum(gaps) / len(reference))


def auroc(positive: Bool, score: Float64) -> float:
    """Return the area under the ROC curve of `score` for `positive` items; NaN where only one kind occurs.

    It is the Mann-Whitney statistic with mid-ranks for ties.

    Parameters
    ----------
    positive : array of bool, shape (N,)
    score : array, shape (N,)
        Larger for items that are more likely positive.
    """
    from scipy.stats import rankdata

    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    ranks = rankdata(score)
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def average_precision(positive: Bool, score: Float64) -> float:
    """Return the average precision of `score` for `positive` items; NaN where there are none.

    It is the mean over positive items of the precision among all items of at least their score.

    Parameters
    ----------
    positive : array of bool, shape (N,)
    score : array, shape (N,)
        Larger for items that are more likely positive.
    """
    if not positive.any():
        return float("nan")
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(positive[order])
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    found, seen = hits[last_of_tie], np.flatnonzero(last_of_tie) + 1
    return float(np.sum(np.diff(found, prepend=0) * found / seen) / positive.sum())


def paired_bootstrap(
    statistic: Callable[[Int64], float],
    songs: int,
    *,
    groups: Int64 | None = None,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile interval of a statistic under resampling of songs.

    Comparisons are paired by the statistic: it receives the drawn songs and computes every compared value on them.

    Parameters
    ----------
    statistic : callable
        Maps drawn song indices, shape (N,), to a number.
    songs : int
        Number of songs N.
    groups : array of int, shape (N,), optional
        From 0 to G - 1: songs of one group are drawn together, as clips of one song must be. Default: each alone.
    draws : int
    level : float
        Coverage of the interval.
    seed : int
    """
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(groups == g) for g in range(int(groups.max()) + 1)] if groups is not None else None
    values = []
    for _ in range(draws):
        if members is None:
            drawn = rng.integers(0, songs, songs)
        else:
            drawn = np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))])
        values.append(statistic(drawn))
    low, high = np.percentile(values, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def lift(positive: Bool, score: Float64) -> float:
    """Return the precision among as many items of highest `score` as there are positive ones, over the base rate.

    1 is chance. Where items at the cut have one score, each counts with the chance that it is taken.
    """
    wanted = int(positive.sum())
    if not wanted:
        return float("nan")
    cut = np.sort(score)[-wanted]
    above, at = score > cut, score == cut
    hits = positive[above].sum() + positive[at].mean() * (wanted - above.sum())
    return float(hits / wanted / positive.mean())
