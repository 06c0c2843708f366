"""Fitting support vector machines on summaries of whole songs, one for each pair of labels."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from emoseg.learning.methods.emoseg.settings import EmosegSettings
from emoseg.song.machine import VOTE_SHARPNESS, SongMachine, gaussian_kernel, standardised
from emoseg.types import UNLABELLED, Float64, Int64


def fit_song_machine(x: Float64, labels: Int64, classes: int, cost: float, settings: EmosegSettings) -> SongMachine:
    """Return support vector machines, one for each pair of labels, fitted on summaries of songs.

    Summaries are weighted by their `relevance`, and deviations within the song count less than means. Where there are
    unlabelled songs, there is a second round: those with the clearest votes are added, with the label that was voted
    for and a small weight. Votes of pairs predict better than one machine per label against all others
    (`benchmarks/quality/log.md`).

    Parameters
    ----------
    x : array, shape (N, F)
        Summaries; the first half of the columns are means, the second half deviations.
    labels : array of int, shape (N,)
        `UNLABELLED` where not known.
    classes : int
        Number of labels K.
    cost : float
        Cost C of every machine.
    settings : EmosegSettings

    References
    ----------
    C. Cortes, V. Vapnik. Support-vector networks. Machine Learning 20, 1995.
    U. Kressel. Pairwise classification and support vector machines. Advances in Kernel Methods, 1999.
    """
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    scale = np.where(deviation > 1e-9, deviation, np.inf)  # a summary that never varies must not count
    z = standardised(x, mean, scale)
    labelled = labels != UNLABELLED
    weight = relevance(z[labelled], labels[labelled], classes) if settings.weigh_summaries else np.ones(x.shape[1])
    weight[x.shape[1] // 2 :] *= settings.deviation_weight
    # In the precision of a model folder, so that the machine that is measured is the one that is saved.
    support = (z * weight).astype(np.float32).astype(np.float64)
    gamma = settings.kernel_width / max(float((support**2).sum(axis=1).mean()), 1e-9)
    kernel = gaussian_kernel(support, support, gamma)

    def fitted(targets: Int64, song_weight: Float64) -> SongMachine:
        weights, bias = _fit_pairs(kernel, targets, song_weight, classes, cost)
        sharpness = settings.vote_sharpness / VOTE_SHARPNESS
        used = weights.any(axis=1)
        return SongMachine(mean, scale, weight, gamma, support[used], weights[used] * sharpness, bias * sharpness)

    machine = fitted(labels, np.ones(len(labels)))
    unlabelled = np.flatnonzero(labels == UNLABELLED)
    if not len(unlabelled):
        return machine
    counts = np.bincount(labels[labels >= 0], minlength=classes)
    targets = labels.copy()
    targets[unlabelled] = _clearest(machine.votes(x[unlabelled]), counts, settings.guessed_share)
    return fitted(targets, np.where(labels == UNLABELLED, settings.guessed_weight, 1.0))


def relevance(x: Float64, labels: Int64, classes: int) -> Float64:
    """Return the weight of each column, shape (F,), in (0, 1]: the root of the share of its variance between labels.

    The share that chance gives is subtracted and then added to all, so that a column unrelated to the labels has a
    small weight, and all weights are nearly equal where labels are few. Wrong labels lower the shares of all columns by
    the same factor, so their order stays.

    Parameters
    ----------
    x : array, shape (N, F)
    labels : array of int, shape (N,)
    classes : int

    References
    ----------
    R. A. Fisher. Statistical methods for research workers, 1925. (correlation ratio eta squared)
    """
    one_hot = np.eye(classes)[labels]
    counts = np.maximum(one_hot.sum(axis=0), 1)
    centred = x - x.mean(axis=0)
    between = (((one_hot.T @ centred) ** 2) / counts[:, None]).sum(axis=0)
    share = between / np.maximum((centred**2).sum(axis=0), 1e-9)
    chance = min(1.0, (classes - 1) / max(1, len(x) - 1))
    return np.asarray(np.sqrt(np.maximum(share - chance, 0) + chance))


def _fit_pairs(
    kernel: Float64, labels: Int64, song_weight: Float64, classes: int, cost: float
) -> tuple[Float64, Float64]:
    """Return weights (N, P) and bias (P,) of one machine for each pair of labels."""
    from sklearn.svm import SVC

    pairs = list(combinations(range(classes), 2))
    weights, bias = np.zeros((len(labels), len(pairs))), np.zeros(len(pairs))
    for p, (i, j) in enumerate(pairs):
        rows = np.flatnonzero((labels == i) | (labels == j))
        if len(np.unique(labels[rows])) < 2:
            bias[p] = 1.0 if (labels[rows] == i).any() else -1.0
            continue
        machine = SVC(C=cost, kernel="precomputed")
        machine.fit(kernel[np.ix_(rows, rows)], labels[rows] == i, song_weight[rows])
        weights[rows[machine.support_], p] = machine.dual_coef_[0]
        bias[p] = machine.intercept_[0]
    return weights, bias


def _clearest(votes: Float64, counts: Int64, share: float) -> Int64:
    """Return the voted label of the songs with the clearest votes, `UNLABELLED` for the others, shape (N,).

    Parameters
    ----------
    votes : array, shape (N, K)
    counts : array of int, shape (K,)
        Number of labelled songs per label. The labels that are returned are in this proportion at most.
    share : float
        Share of the songs that get a label at most.
    """
    guess = votes.argmax(axis=1)
    ordered = np.sort(votes, axis=1)
    lead = ordered[:, -1] - ordered[:, -2]
    chosen = np.full(len(votes), UNLABELLED)
    for k, label_share in enumerate(counts / counts.sum()):
        rows = np.flatnonzero(guess == k)
        rows = rows[np.argsort(-lead[rows], kind="stable")][: round(share * label_share * len(votes))]
        chosen[rows] = k
    return chosen
