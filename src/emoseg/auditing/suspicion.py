"""How suspect each given label is, from networks and from a kernel machine on whole songs; higher is more suspect.

All functions are pure functions of arrays. The evidence on a label is

- how well networks learnt it: its probability by the members that learnt from it, averaged over the earlier passes
  (`emoseg.learning.cross_fit.SegmentFit.early_clean`). Later, a network has memorised wrong labels too;
- its probability by the members that did not learn from the song (`SegmentFit.out_of_fold`);
- its score by a kernel machine on whole songs that did not learn from the song or its artist (`held_out_scores`).
"""

from __future__ import annotations

import numpy as np
from scipy.special import logit

from emoseg.learning.label_noise import smoothed
from emoseg.learning.methods.emoseg.song_machine import relevance
from emoseg.metrics import Bool
from emoseg.song.machine import gaussian_kernel, standardised
from emoseg.types import Float64, Int64

MOST_SONGS = 3000
"""Songs that one kernel machine learns from at most, because its time grows with the cube of their number."""

# Gamma of the kernel, times the mean squared norm of the weighted summaries.
_KERNEL_WIDTH = 0.25
# Weights of the summaries are their `relevance` to this power; deviations within songs count half as much as means.
_RELEVANCE_POWER = 1.5
_DEVIATION_WEIGHT = 0.5
# Variance of the noise on the indicators of the labels.
_NOISE_VARIANCE = 0.5
# In the second round this share of all songs, the most suspect ones, has noise of this variance.
_DOUBTED_SHARE = 0.1
_DOUBTED_VARIANCE = 5.0
# Additional similarity of two songs of one artist, where it helps to predict labels.
_ARTIST_WEIGHT = 0.2
# Weight of the networks' held-out probabilities, relative to the other two kinds of evidence.
_HELD_OUT_WEIGHT = 0.5
# Share of the song's mean that is subtracted from the evidence on a segment.
_CONTRAST = 0.5
# Standard deviation, in segments, of the average over a segment's neighbours in time.
_SMOOTHING = 3.0


def means_of_songs(values: Float64, song: Int64) -> Float64:
    """Return the mean of the segments' values per song, shape (N,) or (N, K).

    Parameters
    ----------
    values : array, shape (S,) or (S, K)
    song : array of int, shape (S,)
        Song of each segment, from 0 to N - 1; every song has a segment.
    """
    size = np.bincount(song)
    if values.ndim == 1:
        return np.bincount(song, values) / size
    return np.stack([np.bincount(song, column) / size for column in values.T], axis=1)


def song_kernel(summaries: Float64, labels: Int64, classes: int, trusted: Bool | None = None) -> Float64:
    """Return the similarity of all pairs of songs: a Gaussian kernel on weighted summaries.

    Parameters
    ----------
    summaries : array, shape (N, F)
        Per song the means over its segments in the first half of the columns, and the standard deviations in the second
        (`emoseg.song.statistics.song_summaries`).
    labels : array of int, shape (N,)
        Given labels, from 0 to K - 1. A column counts by the share of its variance that lies between labels.
    classes : int
        Number of labels K.
    trusted : array of bool, shape (N,), optional
        Songs whose labels decide how much a column counts; default all.

    Returns
    -------
    array, shape (N, N), in (0, 1]
    """
    trusted = np.ones(len(labels), dtype=bool) if trusted is None else trusted
    deviation = summaries.std(axis=0)
    z = standardised(summaries, summaries.mean(axis=0), np.where(deviation > 1e-9, deviation, np.inf))
    weight = relevance(z[trusted], labels[trusted], classes) ** _RELEVANCE_POWER
    weight[summaries.shape[1] // 2 :] *= _DEVIATION_WEIGHT
    weighted = z * weight
    gamma = _KERNEL_WIDTH / max(float((weighted**2).sum(axis=1).mean()), 1e-9)
    return gaussian_kernel(weighted, weighted, gamma)


def leave_group_out(
    kernel: Float64, labels: Int64, groups: Int64, classes: int, variance: Float64 | float = _NOISE_VARIANCE
) -> Float64:
    """Return a score of every label for every song, by kernel ridge regression without the song's group.

    The regression is on the indicators of the labels. One inverse gives all predictions: with A = (K + diag v)^-1, the
    prediction for the rows r of a group by a regression on all other rows is ``y_r - (A_rr)^-1 (A y)_r``.

    Parameters
    ----------
    kernel : array, shape (N, N)
    labels : array of int, shape (N,)
    groups : array of int, shape (N,)
        Artist (or other group) of each song.
    classes : int
        Number of labels K.
    variance : float or array, shape (N,)
        Variance v of the noise on the indicators of each song.

    Returns
    -------
    array, shape (N, K)
        About 1 for a label that fits and about 0 for one that does not. Scores are no probabilities.

    References
    ----------
    C. E. Rasmussen, C. K. I. Williams. Gaussian processes for machine learning, 2006, section 5.4.2. (leave-one-out)
    """
    indicators = np.eye(classes)[labels]
    share = indicators.mean(axis=0)
    centred = indicators - share
    inverse = np.linalg.inv(kernel + np.diag(np.broadcast_to(variance, len(labels))))
    dual = inverse @ centred
    predicted = np.empty_like(centred)
    order = np.argsort(groups, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        predicted[rows] = centred[rows] - np.linalg.solve(inverse[np.ix_(rows, rows)], dual[rows])
    return np.asarray(predicted + share)


def held_out_scores(
    summaries: Float64,
    labels: Int64,
    groups: Int64,
    classes: int,
    *,
    doubted: Bool | None = None,
    artists: Int64 | None = None,
) -> Float64:
    """Return a score of every label for every song, by a kernel machine that did not learn from the song's group.

    Parameters
    ----------
    summaries, labels, groups, classes
        As in `song_kernel` and `leave_group_out`. Recordings that inherit one label must be in one group.
    doubted : array of bool, shape (N,), optional
        Songs that a first round found suspect, whose labels count little; default none.
    artists : array of int, shape (N,), optional
        If given, the labels of the artist's other songs are evidence too: songs of one artist are more similar by a
        constant, if that predicts held-out labels better. The groups must then be the songs themselves, because songs
        of one group are no evidence on each other. An error that all songs of an artist share cannot be found so.

    Returns
    -------
    array, shape (N, K)
    """
    doubted = np.zeros(len(labels), dtype=bool) if doubted is None else doubted
    kernel = song_kernel(summaries, labels, classes, ~doubted)
    variance = np.where(doubted, _DOUBTED_VARIANCE, _NOISE_VARIANCE)
    scores = leave_group_out(kernel, labels, groups, classes, variance)
    if artists is None:
        return scores
    same = (artists[:, None] == artists[None, :]).astype(np.float64)
    with_artists = leave_group_out(kernel + _ARTIST_WEIGHT * same, labels, groups, classes, variance)
    indicators = np.eye(classes)[labels]
    return min(scores, with_artists, key=lambda table: float(((table - indicators)[~doubted] ** 2).sum()))


def most_suspect(suspicion: Float64, share: float = _DOUBTED_SHARE) -> Bool:
    """Return whether each song is among the given share of the most suspect ones, shape (N,)."""
    chosen = np.zeros(len(suspicion), dtype=bool)
    chosen[np.argsort(-suspicion, kind="stable")[: round(share * len(suspicion))]] = True
    return chosen


def song_suspicion(learnt: Float64, held_out: Float64, scores: Float64, labels: Int64) -> Float64:
    """Return how suspect the given label of each song is: three kinds of evidence, each in standard deviations.

    Parameters
    ----------
    learnt : array, shape (N,), in [0, 1]
        Mean over the song's segments of `SegmentFit.early_clean`.
    held_out : array, shape (N, K), in [0, 1]
        Mean over the song's segments of `SegmentFit.out_of_fold`.
    scores : array, shape (N, K)
        From `held_out_scores`.
    labels : array of int, shape (N,)

    Returns
    -------
    array, shape (N,)
        Mean 0.
    """
    each = np.arange(len(labels))
    return -(
        standard(log_odds(learnt))
        + _HELD_OUT_WEIGHT * standard(log_odds(held_out[each, labels]))
        + standard(scores[each, labels])
    )


def best_other_label(held_out: Float64, scores: Float64, labels: Int64) -> Int64:
    """Return the label that each song most probably has if the given one is wrong, shape (N,).

    Parameters
    ----------
    held_out, scores, labels
        As in `song_suspicion`.
    """
    fit = _HELD_OUT_WEIGHT * standard(log_odds(held_out)) + standard(scores)
    fit[np.arange(len(labels)), labels] = -np.inf
    return np.asarray(fit.argmax(axis=1))


def segment_suspicion(
    learnt: Float64, held_out: Float64, labels: Int64, song: Int64, *, smoothing: float = _SMOOTHING
) -> Float64:
    """Return how suspect the inherited label of each segment is, compared with the rest of its song.

    The evidence is that of `song_suspicion` without the kernel machine. In a song that is hard to learn as a whole,
    evidence against a segment says little. Half of the song's mean is therefore subtracted.

    Parameters
    ----------
    learnt : array, shape (S,), in [0, 1]
        `SegmentFit.early_clean`.
    held_out : array, shape (S, K), in [0, 1]
        `SegmentFit.out_of_fold`.
    labels : array of int, shape (S,)
    song : array of int, shape (S,)
        Song of each segment, from 0 to N - 1, ascending; the segments of a song in the order of time.
    smoothing : float
        Standard deviation, in segments, of the Gaussian average over neighbours in time; 0 for none.
    """
    each = np.arange(len(labels))
    trust = standard(log_odds(learnt)) + _HELD_OUT_WEIGHT * standard(log_odds(held_out[each, labels]))
    trust = smoothed(trust, song, width=smoothing)
    return np.asarray(_CONTRAST * means_of_songs(trust, song)[song] - trust)


def log_odds(probability: Float64) -> Float64:
    """Return the log odds of probabilities, which are limited to [0.001, 0.999] first."""
    return np.asarray(logit(np.clip(probability, 1e-3, 1 - 1e-3)))


def standard(values: Float64) -> Float64:
    """Return values with mean 0 and standard deviation 1, both taken over the whole array."""
    return np.asarray((values - values.mean()) / max(float(values.std()), 1e-9))
