"""Measures of agreement, calibration and detection, and bootstrap intervals.

Every function takes the reference first and the estimate second, and computes its measure from all items at once: a
mean over batches would be another number. K is the number of labels, N the number of items.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from emoseg.types import Float64, Int64

Bool = NDArray[np.bool_]


def confusion(reference: Int64, estimate: Int64, classes: int) -> Int64:
    """Return the confusion matrix, shape (K, K): rows are labels of the reference, columns labels of the estimate.

    Parameters
    ----------
    reference, estimate : array of int, shape (N,)
        Labels from 0 to K - 1.
    classes : int
        Number of labels K.

    Raises
    ------
    IndexError
        A label is not less than `classes`.
    """
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (reference, estimate), 1)
    return table


def macro_f1(reference: Int64, estimate: Int64, classes: int) -> float:
    """Return the unweighted mean of the F1 scores of all labels that occur in either array, in [0, 1].

    The parameters are those of `confusion`.
    """
    table = confusion(reference, estimate, classes)
    both = table.sum(axis=0) + table.sum(axis=1)
    present = both > 0
    return float(np.mean(2 * np.diag(table)[present] / both[present]))


def recalls(reference: Int64, estimate: Int64, classes: int) -> Float64:
    """Return the recall of each label, shape (K,), in [0, 1]; NaN for labels that are not in the reference.

    The parameters are those of `confusion`.
    """
    table = confusion(reference, estimate, classes)
    with np.errstate(invalid="ignore"):
        return np.diag(table) / table.sum(axis=1)


def balanced_accuracy(reference: Int64, estimate: Int64, classes: int) -> float:
    """Return the mean recall over the labels that occur in the reference, in [0, 1].

    The parameters are those of `confusion`.
    """
    return float(np.nanmean(recalls(reference, estimate, classes)))


def calibration_error(reference: Int64, probabilities: Float64, *, bins: int = 10) -> float:
    """Return the expected calibration error over bins of equal size, in [0, 1].

    It is the mean over items of the gap between confidence (the largest probability) and accuracy in an item's bin.

    Parameters
    ----------
    reference : array of int, shape (N,)
        Labels from 0 to K - 1.
    probabilities : array, shape (N, K), in [0, 1]
    bins : int
        Number of bins. Bins hold equally many items, because bins of equal width would be mostly empty on small sets.
        Items with the same confidence share a bin, so the order of the items does not matter.

    References
    ----------
    Guo, C. et al. (2017). On calibration of modern neural networks. ICML. Equation 3, there with bins of equal width.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == reference
    order = np.argsort(confidence, kind="stable")
    cuts = np.searchsorted(confidence[order], confidence[order][np.arange(1, bins) * len(order) // bins])
    parts = [part for part in np.split(order, cuts) if len(part)]
    gaps = [abs(confidence[part].mean() - right[part].mean()) * len(part) for part in parts]
    return float(np.sum(gaps) / len(reference))


def auroc(positive: Bool, score: Float64) -> float:
    """Return the area under the ROC curve, in [0, 1]; NaN if all items are positive or none is.

    It is the probability that a positive item has a higher score than a negative one, ties counted as one half: the
    Mann-Whitney statistic U, with mean ranks for ties, divided by the number of pairs.

    Parameters
    ----------
    positive : array of bool, shape (N,)
    score : array, shape (N,)
        Larger for items that are more likely positive.

    References
    ----------
    Hanley, J. A. and McNeil, B. J. (1982). The meaning and use of the area under a receiver operating characteristic
    (ROC) curve. Radiology 143(1).
    """
    from scipy.stats import rankdata

    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    ranks = rankdata(score)
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def average_precision(positive: Bool, score: Float64) -> float:
    """Return the average precision, in [0, 1]; NaN if no item is positive.

    It is the mean over positive items of the precision among all items that score at least as high.

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
    """Return the lower and upper end of a bootstrap percentile interval of a statistic over songs.

    To compare two estimates, let the statistic return their difference on the songs that it is given: the comparison is
    then paired.

    Parameters
    ----------
    statistic : callable
        Takes the indices of the drawn songs, an array of int with repetitions, and returns a number.
    songs : int
        Number of songs N.
    groups : array of int, shape (N,), optional
        Group of each song, from 0 to G - 1. Songs of one group are drawn together, as clips of one song must be. By
        default each song is a group.
    draws : int
        Number of resamplings.
    level : float
        Coverage of the interval, in (0, 1).
    seed : int
        The same seed gives the same interval.

    References
    ----------
    Efron, B. and Tibshirani, R. J. (1993). An Introduction to the Bootstrap, chapter 13. Chapman & Hall.
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
    """Return how many times more positive items the top scores hold than chance; NaN if no item is positive.

    It is the precision among the P items with the highest scores, where P is the number of positive items, divided by
    the share of positive items. If several items tie at the cut, each counts with the probability that it is taken.

    Parameters
    ----------
    positive : array of bool, shape (N,)
    score : array, shape (N,)
        Larger for items that are more likely positive.
    """
    wanted = int(positive.sum())
    if not wanted:
        return float("nan")
    cut = np.sort(score)[-wanted]
    above, at = score > cut, score == cut
    hits = positive[above].sum() + positive[at].mean() * (wanted - above.sum())
    return float(hits / wanted / positive.mean())
