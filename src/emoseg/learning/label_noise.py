"""From how a segment is learnt to the probability that its label is right.

`clean_probability` fits a two-component Gaussian mixture to per-segment losses and returns the posterior of the
component with the smaller mean, as DivideMix does, with guards: a mixture always finds two groups, whether or not there
are two. Every fallback is named in the result, so that a report can say when labels were trusted for want of evidence.

References
----------
J. Li, R. Socher, S. Hoi. DivideMix: learning with noisy labels as semi-supervised learning. ICLR 2020.
Y. Sun, X. Zhang, M. Zhou, W. Li. Semi-supervised self-learning enhanced music emotion recognition. arXiv 2410.21897.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from emoseg.song.machine import standardised

# Nats for each unit of the temperature's logarithm: decides where the likelihood does not, and changes an
# estimated rate by no more than a few hundredths elsewhere.
TIE_BREAK = 0.003
SIGNIFICANT = 1.92  # half the 95 % point of chi-squared with one degree of freedom

Fallback = Literal["few segments", "equal losses", "not converged", "minor component", "overlap", "agreement"]


@dataclass(frozen=True)
class CleanProbability:
    """Clean probability of each segment, and what the guards did.

    Parameters
    ----------
    probability : array, shape (S,), in [0, 1]
    fallback : str or None
        Why the mixture was not used and all labels were trusted; None where it was used.
    rescued_classes : tuple of int
        Labels that had no clean segment by the mixture and kept their smallest losses.
    """

    probability: NDArray[np.float64]
    fallback: Fallback | None = None
    rescued_classes: tuple[int, ...] = ()


def clean_probability(
    losses: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    threshold: float = 0.5,
    min_segments: int = 20,
    min_separation: float = 1.0,
    min_weight: float = 0.02,
    rescue_share: float = 0.2,
    seed: int = 0,
) -> CleanProbability:
    """Return how probable it is that each segment's label is right, from its loss.

    Parameters
    ----------
    losses : array, shape (S,)
        Cross-entropy of the given label, in evaluation mode, natural logarithm; finite. Where even the component of
        large losses lies on average below that of chance, log K, the network agrees with the labels: all clean.
    labels : array of int, shape (S,)
        Given labels.
    threshold : float
        Clean probability above which a label is trusted; used for the guard on classes.
    min_segments : int
        With fewer segments all are clean.
    min_separation : float
        Distance of the component means in pooled standard deviations below which the two are one group: all clean.
    min_weight : float
        Weight of the smaller component below which there is one group: all clean.
    rescue_share : float
        Share of a class, by smallest loss, that stays clean where the mixture leaves it nothing.
    seed : int
        Of the mixture's starting point.

    Returns
    -------
    CleanProbability
        Non-increasing in the loss within the set (except for rescued classes).

    Raises
    ------
    ValueError
        A loss is not finite, or the shapes differ.
    """
    if losses.shape != labels.shape or losses.ndim != 1:
        raise ValueError(f"losses {losses.shape} and labels {labels.shape} must have the same shape (S,)")
    if not np.isfinite(losses).all():
        raise ValueError("losses must be finite")
    posterior, fallback = _mixture_posterior(
        losses, float(np.log(len(np.unique(labels)))), min_segments, min_separation, min_weight, seed
    )
    if fallback is not None:
        return CleanProbability(np.ones(len(losses)), fallback)
    rescued = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if not (posterior[members] > threshold).any():
            kept = members[np.argsort(losses[members], kind="stable")[: max(1, round(rescue_share * len(members)))]]
            # Just above the threshold: trusted enough to be learnt from, not more than the evidence supports.
            posterior[kept] = threshold + 0.5 * (1 - threshold)
            rescued.append(int(label))
    return CleanProbability(posterior, None, tuple(rescued))


def estimate_noise_rate(
    probabilities: NDArray[np.float64], given: NDArray[np.int64], song: NDArray[np.int64] | None = None
) -> float:
    """Estimate the share of wrong labels, in [0, (K - 1) / K], from predictions of items that were not learnt from.

    A given label y is the true one with probability 1 - e and any other with probability e / (K - 1) (symmetric noise).
    For held-out predictions p the likelihood of the given labels is ``(1 - e) q_y + e (1 - q_y) / (K - 1)``, where q is
    p with a temperature; both are fitted. A predictor that is merely weak is so all over and is explained by the
    temperature; wrong labels are what it is sure against, and explained by e. Nothing else is known about the noise.
    Where all predictions are equally sure the two cannot be told apart, and disagreement is taken for noise. A rate
    that the likelihood does not prefer to 0 by a ratio test at the 5 % level is 0. Segments of a song are no
    independent witnesses: the ratio is divided by their design effect, the variance of its sum over songs in units of
    what independent segments would give.

    Parameters
    ----------
    probabilities : array, shape (n, K)
        Out-of-fold; predictions of items that were learnt from hide the noise.
    given : array of int, shape (n,)
    song : array of int, shape (n,), optional
        Song of each item; None: each is one of its own.

    References
    ----------
    G. Patrini et al. Making deep neural networks robust to label noise: a loss correction approach. CVPR 2017. (the
    noise model; here its rate is estimated together with the calibration, and held out)
    J. Rao, A. Scott. On chi-squared tests for multiway contingency tables with cell proportions estimated from survey
    data. Annals of Statistics 12, 1984. (the design effect)
    """
    from scipy.optimize import minimize
    from scipy.special import expit, logit, softmax

    classes = probabilities.shape[1]
    most = (classes - 1) / classes
    logs = np.log(np.clip(probabilities, 1e-4, 1))
    rows = np.arange(len(given))

    def unpack(x: NDArray[np.float64]) -> tuple[float, float]:
        return float(np.exp(np.clip(x[0], -3, 3))), float(most * expit(x[1]))

    def log_likelihood(x: NDArray[np.float64]) -> NDArray[np.float64]:
        temperature, rate = unpack(x)
        q = softmax(logs / temperature, axis=1)[rows, given]
        return np.log((1 - rate) * q + rate / (classes - 1) * (1 - q) + 1e-12) - TIE_BREAK * np.log(temperature)

    def loss(x: NDArray[np.float64]) -> float:
        return float(-log_likelihood(x).mean())

    def noiseless(x: NDArray[np.float64]) -> float:
        return loss(np.array([x[0], -np.inf]))

    starts = [np.array([log_t, logit(rate / most)]) for log_t in (-0.5, 0.5) for rate in (0.05, 0.3)]
    best = min((minimize(loss, start, method="Nelder-Mead") for start in starts), key=lambda found: float(found.fun))
    without = minimize(noiseless, np.zeros(1), method="Nelder-Mead")
    none = np.array([without.x[0], -np.inf])
    ratio = log_likelihood(best.x) - log_likelihood(none)
    significant = ratio.sum() >= SIGNIFICANT * (1 if song is None else _design_effect(ratio, song))
    return unpack(best.x)[1] if significant else 0.0


def _design_effect(values: NDArray[np.float64], song: NDArray[np.int64]) -> float:
    """Return how much more the sum over all segments varies than if they were independent; at least 1."""
    centred = values - values.mean()
    by_song = np.bincount(song, centred)
    return max(1.0, float((by_song**2).sum() / max((centred**2).sum(), 1e-12)))


def smoothed(
    values: NDArray[np.float64],
    song: NDArray[np.int64],
    features: NDArray[np.floating] | None = None,
    *,
    width: float = 1.5,
    likeness: float = 0.5,
) -> NDArray[np.float64]:
    """Return values of segments averaged over their neighbours in time within the song, shape (S,).

    A label inherited from the song is wrong for a stretch of segments, not here and there. With features neighbours
    count by how alike they sound too, as in a bilateral filter: where the sound changes a stretch may end.

    Parameters
    ----------
    values : array, shape (S,)
    song : array of int, shape (S,)
        Ascending; the segments of a song in the order of time.
    features : array, shape (S, F) or (S, F, T), optional
        What the segments sound like; frames are averaged.
    width : float
        Deviation of the Gaussian weights in time, in segments; beyond six deviations they are 0.
    likeness : float
        Squared distance at which a weight falls to 1 / e, in medians over the song's pairs within that reach.

    References
    ----------
    C. Tomasi, R. Manduchi. Bilateral filtering for gray and color images. ICCV 1998.
    """
    sound = None
    if features is not None:
        sound = (features if features.ndim == 2 else features.mean(axis=2)).astype(np.float64)
        sound = standardised(sound, sound.mean(axis=0), np.maximum(sound.std(axis=0), 1e-9))
    result = np.empty_like(values)
    for rows in np.split(np.arange(len(values)), np.flatnonzero(np.diff(song)) + 1):
        own = values[rows]
        total, weight = own.copy(), np.ones(len(rows))
        reach = range(1, min(math.ceil(6 * width), len(rows) - 1) + 1)
        unlike = _unlike(sound[rows], reach, likeness) if sound is not None else [0.0] * len(reach)
        for step, distance in zip(reach, unlike, strict=True):
            pull = np.exp(-(step**2) / (2 * width**2) - distance)
            total[step:] += pull * own[:-step]
            total[:-step] += pull * own[step:]
            weight[step:] += pull
            weight[:-step] += pull
        result[rows] = total / weight
    return result


def _unlike(sound: NDArray[np.float64], reach: range, likeness: float) -> list[NDArray[np.float64] | float]:
    """Return for each step how unlike segments that many apart are, squared, in units of `likeness` medians."""
    squares = [((sound[step:] - sound[:-step]) ** 2).sum(axis=1) for step in reach]
    usual = np.median(np.concatenate(squares)) if squares else 0.0
    return [values / (likeness * usual) if usual > 0 else 0.0 for values in squares]


def song_consensus(
    given: NDArray[np.int64],
    song: NDArray[np.int64],
    classes: int,
    *,
    min_disagreement: float = 0.02,
    floor: float = 0.02,
) -> NDArray[np.float64] | None:
    """Return what the labels of a segment's sister segments say about its label.

    Where the segments of a song were labelled one by one, their labels are separate judgements of what is mostly one
    emotion: each votes, with the rate at which labels differ from their song's majority as its chance of error. Labels
    inherited from the song are copies of one judgement; they never differ, and have no vote.

    Parameters
    ----------
    given : array of int, shape (S,)
        Given labels.
    song : array of int, shape (S,)
        Song of each segment.
    classes : int
        Number of labels K.
    min_disagreement : float
        Share of labels that differ from their song's majority below which labels count as copies.
    floor : float
        Smallest probability of a label: an odd segment in a unanimous song stays possible.

    Returns
    -------
    array, shape (S, K), or None where labels are copies.
        Posterior of each label from the other segments of the song alone, under a symmetric error rate.
    """
    _, index = np.unique(song, return_inverse=True)
    votes = np.zeros((index.max() + 1, classes))
    np.add.at(votes, (index, given), 1)
    error = float(np.mean(votes.argmax(axis=1)[index] != given))
    if error < min_disagreement:
        return None
    others = votes[index]
    others[np.arange(len(given)), given] -= 1
    # The log-likelihood ratio of one vote; none where votes are no better than chance.
    weight = max(0.0, float(np.log((1 - error) * (classes - 1) / error)))
    posterior = np.exp(weight * (others - others.max(axis=1, keepdims=True)))
    posterior = np.maximum(posterior / posterior.sum(axis=1, keepdims=True), floor)
    return np.asarray(posterior / posterior.sum(axis=1, keepdims=True))


def with_consensus(
    divided: CleanProbability, consensus: NDArray[np.float64], given: NDArray[np.int64]
) -> CleanProbability:
    """Join the clean probability from losses with that from sister segments: their odds multiply.

    Where the mixture was not used it says nothing either way, and the sister segments decide.
    """
    own = np.clip(divided.probability, 1e-3, 1 - 1e-3) if divided.fallback is None else np.full(len(given), 0.5)
    others = consensus[np.arange(len(given)), given]
    # Against the odds of a label that the sisters say nothing about, 1 to K - 1: a song of one segment changes nothing.
    right, wrong = own * others, (1 - own) * (1 - others) / (consensus.shape[1] - 1)
    return CleanProbability(right / (right + wrong), divided.fallback, divided.rescued_classes)


def _mixture_posterior(
    losses: NDArray[np.float64],
    chance: float,
    min_segments: int,
    min_separation: float,
    min_weight: float,
    seed: int,
) -> tuple[NDArray[np.float64], Fallback | None]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    ones = np.ones(len(losses))
    if len(losses) < min_segments:
        return ones, "few segments"
    # Percentiles rather than the extremes: one huge loss must not squeeze all others into a point. Rounded inwards, so
    # that in small sets too they are never the extremes themselves.
    low, high = np.percentile(losses, 0.5, method="higher"), np.percentile(losses, 99.5, method="lower")
    if high - low < 1e-8:
        return ones, "equal losses"
    scaled = np.clip((losses - low) / (high - low), 0, 1)
    mixture = GaussianMixture(2, max_iter=200, tol=1e-4, reg_covar=5e-4, random_state=seed, n_init=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            mixture.fit(scaled[:, None])
        except ConvergenceWarning:
            return ones, "not converged"
    means, sds, weights = mixture.means_.ravel(), np.sqrt(mixture.covariances_.ravel()), mixture.weights_
    clean = int(np.argmin(means))
    if weights.min() < min_weight:
        return ones, "minor component"
    pooled = float(np.sqrt(np.sum(weights * sds**2)))
    if abs(means[0] - means[1]) < min_separation * pooled:
        return ones, "overlap"
    # Losses of right labels are skewed, and two Gaussians fit that better than one: separation alone is no proof.
    if low + means[1 - clean] * (high - low) < chance:
        return ones, "agreement"
    return _monotone(scaled, mixture.predict_proba(scaled[:, None])[:, clean], float(means[clean])), None


def _monotone(losses: NDArray[np.float64], posterior: NDArray[np.float64], clean_mean: float) -> NDArray[np.float64]:
    """Make the posterior non-increasing in the loss.

    Where the component of small losses is the wider one, its tails win at both ends: the smallest losses would be
    called noisy and the largest clean. Below the clean mean the posterior is that at the mean; above, it never rises.
    """
    order = np.argsort(losses, kind="stable")
    ordered = posterior[order]
    above = int(np.searchsorted(losses[order], clean_mean))
    if above < len(ordered):
        ordered[:above] = ordered[:above].max(initial=ordered[above])
    ordered[above:] = np.minimum.accumulate(ordered[above:])
    result = np.empty_like(posterior)
    result[order] = ordered
    return result
