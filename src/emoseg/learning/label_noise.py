"""Estimates of label noise: which labels are wrong, and how many.

`clean_probability` fits a two-component Gaussian mixture to the losses of segments and returns the posterior of the
component with the smaller mean, as DivideMix does. A mixture always finds two groups, whether or not there are two, so
it has guards; the result names the guard that applied. `estimate_noise_rate` estimates the share of wrong labels from
held-out predictions. `smoothed` averages values over neighbouring segments. `song_consensus` and `with_consensus` use
the labels of a song's other segments.

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

Fallback = Literal["few segments", "equal losses", "not converged", "minor component", "overlap", "agreement"]


@dataclass(frozen=True)
class CleanProbability:
    """Clean probability of each segment, and which guards applied.

    Parameters
    ----------
    probability : array, shape (S,), in [0, 1]
    fallback : str or None
        Why the mixture was not used and all labels are trusted; None where it was used.
    rescued_classes : tuple of int
        Labels without any clean segment according to the mixture; their segments of smallest loss are trusted.
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
    """Return the probability that each segment's label is right, from its loss.

    Parameters
    ----------
    losses : array, shape (S,)
        Cross-entropy of the given label in nats, in evaluation mode; finite. Where the mean of the component of large
        losses is below that of chance, log K, the network agrees with the labels and all are clean.
    labels : array of int, shape (S,)
        Given labels.
    threshold : float
        Clean probability above which a label is trusted; used for the guard on classes.
    min_segments : int
        With fewer segments all are clean.
    min_separation : float
        Distance of the component means, in pooled standard deviations, below which the two are one group: all clean.
    min_weight : float
        Weight of the smaller component below which there is one group: all clean.
    rescue_share : float
        Share of a class, by smallest loss, that is clean where the mixture leaves the class without clean segments.
    seed : int
        Seed of the mixture's starting point.

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
            # Half-way from the threshold to 1: trusted enough to be learnt from, but without the mixture's support.
            posterior[kept] = threshold + 0.5 * (1 - threshold)
            rescued.append(int(label))
    return CleanProbability(posterior, None, tuple(rescued))


def estimate_noise_rate(
    probabilities: NDArray[np.float64],
    given: NDArray[np.int64],
    song: NDArray[np.int64] | None = None,
    *,
    significance: float = 1.92,
    tie_break: float = 0.003,
) -> float:
    """Return the estimated share of wrong labels, in [0, (K - 1) / K], from predictions of items not learnt from.

    Under symmetric noise a given label y is the true one with probability 1 - e, and each other label with probability
    e / (K - 1). For held-out predictions p the likelihood of the given labels is
    ``(1 - e) q_y + e (1 - q_y) / (K - 1)``, where q is p with a temperature. Temperature and e are fitted together. A
    weak predictor is unsure of all items, which the temperature explains; wrong labels are items that the predictor is
    sure against, which e explains. Where all predictions are equally sure the two cannot be distinguished, and
    disagreement counts as noise.

    The estimate is 0 unless a likelihood-ratio test prefers it to 0. The segments of a song are not independent, so the
    ratio is divided by their design effect: the variance of its sum over songs, relative to independent segments.

    Parameters
    ----------
    probabilities : array, shape (n, K)
        Out-of-fold probabilities. Predictions of items that were learnt from would hide the noise.
    given : array of int, shape (n,)
        Given labels.
    song : array of int, shape (n,), optional
        Song of each item; None if every item is independent.
    significance : float
        Smallest log-likelihood ratio, in nats, that counts as evidence of noise. The default is half the 95 % point of
        chi-squared with one degree of freedom.
    tie_break : float
        Penalty in nats per unit of the temperature's logarithm. It decides for noise and against a high temperature
        where both explain disagreement equally well, and changes an estimate by a few hundredths at most elsewhere.

    References
    ----------
    G. Patrini et al. Making deep neural networks robust to label noise: a loss correction approach. CVPR 2017. (the
    noise model; here its rate is estimated together with the calibration, and held out)
    J. Rao, A. Scott. On chi-squared tests for multiway contingency tables with cell proportions estimated from survey
    data. Annals of Statistics 12, 1984. (the design effect)
    """
    from scipy.optimize import minimize
    from scipy.special import logit

    model = _NoiseModel(np.log(np.clip(probabilities, 1e-4, 1)), given, tie_break)

    def noiseless(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([x[0], -np.inf])

    def loss_without_noise(x: NDArray[np.float64]) -> float:
        return model.loss(noiseless(x))

    log_temperatures, rates = (-0.5, 0.5), (0.05, 0.3)
    starts = [np.array([t, logit(rate / model.largest_rate)]) for t in log_temperatures for rate in rates]
    fits = [minimize(model.loss, start, method="Nelder-Mead") for start in starts]
    best = min(fits, key=lambda fit: float(fit.fun))
    without_noise = minimize(loss_without_noise, np.zeros(1), method="Nelder-Mead")
    ratio = model.log_likelihood(best.x) - model.log_likelihood(noiseless(without_noise.x))
    design_effect = 1 if song is None else _design_effect(ratio, song)
    return model.temperature_and_rate(best.x)[1] if ratio.sum() >= significance * design_effect else 0.0


@dataclass(frozen=True)
class _NoiseModel:
    """The likelihood of given labels under symmetric noise; its parameters are unbounded numbers (2,)."""

    log_probabilities: NDArray[np.float64]
    given: NDArray[np.int64]
    tie_break: float

    @property
    def classes(self) -> int:
        return self.log_probabilities.shape[1]

    @property
    def largest_rate(self) -> float:
        return (self.classes - 1) / self.classes

    def temperature_and_rate(self, x: NDArray[np.float64]) -> tuple[float, float]:
        from scipy.special import expit

        return float(np.exp(np.clip(x[0], -3, 3))), float(self.largest_rate * expit(x[1]))

    def log_likelihood(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the log-likelihood of each given label, minus the tie-breaking penalty, shape (n,)."""
        from scipy.special import softmax

        temperature, rate = self.temperature_and_rate(x)
        q = softmax(self.log_probabilities / temperature, axis=1)[np.arange(len(self.given)), self.given]
        likelihood = (1 - rate) * q + rate / (self.classes - 1) * (1 - q) + 1e-12
        return np.asarray(np.log(likelihood) - self.tie_break * np.log(temperature))

    def loss(self, x: NDArray[np.float64]) -> float:
        return float(-self.log_likelihood(x).mean())


def _design_effect(values: NDArray[np.float64], song: NDArray[np.int64]) -> float:
    """Return the variance of the sum of `values`, relative to that of independent values; at least 1."""
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
    """Return values of segments, averaged over their neighbours in time within the song, shape (S,).

    Labels that are inherited from the song are wrong for stretches of segments rather than for single ones. With
    features, the weight of a neighbour also depends on how similar it sounds, as in a bilateral filter, because a
    stretch may end where the sound changes.

    Parameters
    ----------
    values : array, shape (S,)
    song : array of int, shape (S,)
        Ascending; the segments of a song in the order of time.
    features : array, shape (S, F) or (S, F, T), optional
        Features of the segments; frames are averaged.
    width : float
        Standard deviation of the Gaussian weights in time, in segments, at least 0; beyond six deviations they are 0.
        With 0 the values are returned unchanged.
    likeness : float
        Squared distance of features at which a weight is multiplied by 1 / e, relative to the median over all pairs of
        the song's segments within that reach; above 0.

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
        if sound is None:
            distances: list[NDArray[np.float64] | float] = [0.0] * len(reach)
        else:
            distances = _scaled_distances(sound[rows], reach, likeness)
        for step, distance in zip(reach, distances, strict=True):
            neighbour = np.exp(-(step**2) / (2 * width**2) - distance)
            total[step:] += neighbour * own[:-step]
            total[:-step] += neighbour * own[step:]
            weight[step:] += neighbour
            weight[:-step] += neighbour
        result[rows] = total / weight
    return result


def _scaled_distances(sound: NDArray[np.float64], reach: range, likeness: float) -> list[NDArray[np.float64] | float]:
    """Return, for each step in `reach`, squared distances of the segments that many apart, over `likeness` medians."""
    squares = [((sound[step:] - sound[:-step]) ** 2).sum(axis=1) for step in reach]
    median = np.median(np.concatenate(squares)) if squares else 0.0
    return [values / (likeness * median) if median > 0 else 0.0 for values in squares]


def song_consensus(
    given: NDArray[np.int64],
    song: NDArray[np.int64],
    classes: int,
    *,
    min_disagreement: float = 0.02,
    floor: float = 0.02,
) -> NDArray[np.float64] | None:
    """Return the probability of each label of each segment, from the given labels of the song's other segments.

    Where the segments of a song were labelled one by one, their labels are separate judgements of mostly one emotion.
    Each label counts as a vote, whose error rate is the share of labels that differ from their song's majority. Labels
    that are inherited from the song are copies of one judgement. They never differ, and do not count.

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
        Smallest probability of a label before normalisation: a segment can differ in a unanimous song.

    Returns
    -------
    array, shape (S, K), or None where labels are copies.
        Posterior of each label from the other segments of the song, under a symmetric error rate.
    """
    _, index = np.unique(song, return_inverse=True)
    votes = np.zeros((index.max() + 1, classes))
    np.add.at(votes, (index, given), 1)
    error = float(np.mean(votes.argmax(axis=1)[index] != given))
    if error < min_disagreement:
        return None
    others = votes[index]
    others[np.arange(len(given)), given] -= 1
    # The log-likelihood ratio of one vote. It is never negative: a majority has at least one label in K.
    weight = float(np.log((1 - error) * (classes - 1) / error))
    posterior = np.exp(weight * (others - others.max(axis=1, keepdims=True)))
    posterior = np.maximum(posterior / posterior.sum(axis=1, keepdims=True), floor)
    return np.asarray(posterior / posterior.sum(axis=1, keepdims=True))


def with_consensus(
    divided: CleanProbability, consensus: NDArray[np.float64], given: NDArray[np.int64]
) -> CleanProbability:
    """Return clean probabilities from losses combined with those from the song's other segments: the odds multiply.

    Where the mixture was not used, the other segments alone decide.

    Parameters
    ----------
    divided : CleanProbability
        Clean probabilities from losses, shape (S,).
    consensus : array, shape (S, K)
        From `song_consensus`.
    given : array of int, shape (S,)
        Given labels.
    """
    own = np.clip(divided.probability, 1e-3, 1 - 1e-3) if divided.fallback is None else np.full(len(given), 0.5)
    others = consensus[np.arange(len(given)), given]
    # Relative to the odds of a label without any vote, 1 to K - 1, so that a song of one segment changes nothing.
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
    # Percentiles rather than extremes, because one huge loss would compress all others into a point. They are rounded
    # inwards, so that even in small sets they are not the extremes themselves.
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
    # Losses of right labels are skewed, and two Gaussians fit them better than one, so separation alone proves nothing.
    if low + means[1 - clean] * (high - low) < chance:
        return ones, "agreement"
    return _monotone(scaled, mixture.predict_proba(scaled[:, None])[:, clean], float(means[clean])), None


def _monotone(losses: NDArray[np.float64], posterior: NDArray[np.float64], clean_mean: float) -> NDArray[np.float64]:
    """Return the posterior made non-increasing in the loss.

    Where one component is much wider than the other, its tails dominate at both ends, and the largest losses would be
    called clean or the smallest noisy. Below the mean of the clean component the posterior is its largest value there;
    above, it never rises.
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
