"""How many given labels are wrong, with an interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax
from scipy.stats import chi2

from emoseg.types import Float64, Int64

WIDEST_INTERVAL = 0.35
"""An interval that is wider than this means that there are too few songs to tell how many labels are wrong."""

# Number of pairs of song and label, those that fit least, among which given labels are counted (`_lowest_pairs`), in
# units of the number of wrong pairs, N (K - 1).
_LOWEST_SHARE = 4 / 15
# Half the 90 % point of chi-squared with one degree of freedom.
_LIKELIHOOD_DROP = 1.353
_RATES = np.concatenate([np.arange(0, 0.1, 0.005), np.arange(0.1, 1.0, 0.01)])
_SHARPNESS = np.exp(np.linspace(np.log(0.5), np.log(60.0), 40))


@dataclass(frozen=True)
class RateEstimate:
    """An estimate of the share of wrong labels, in [0, (K - 1) / K], with the ends of a 90 % interval.

    Parameters
    ----------
    rate, low, high : float
    """

    rate: float
    low: float
    high: float

    @property
    def conclusive(self) -> bool:
        """Whether the interval is narrow enough; otherwise there are too few songs to tell."""
        return self.high - self.low <= WIDEST_INTERVAL


def estimate_rate(scores: Float64, labels: Int64) -> RateEstimate:
    """Return an estimate of the share of wrong labels, with a 90 % interval.

    The estimate is the mean of two, which err in opposite directions. The likelihood with a free sharpness
    (`_likelihood`) explains as much disagreement as it can by songs that are hard, so it is too low. Counting given
    labels among the pairs of song and label that fit least (`_lowest_pairs`) takes hard songs for wrong ones, so it is
    too high. The lower end of the interval is the mean of both lower ends, or 0 where the likelihood does not rule out
    0. The upper end is the larger of both. Both estimates presume that a wrong label is any of the others with equal
    probability. Errors that are less visible than random ones are therefore counted in part only.

    Parameters
    ----------
    scores : array, shape (N, K)
        A score of every label for every song, by a model that did not learn from the song or its artist
        (`emoseg.auditing.suspicion.held_out_scores`).
    labels : array of int, shape (N,)
        Given labels.
    """
    below, low, high = _likelihood(scores, labels)
    above, lowest, highest = _lowest_pairs(scores, labels)
    most = (scores.shape[1] - 1) / scores.shape[1]
    rate = min((below + above) / 2, most)
    low = (low + lowest) / 2 if low > 0 else 0.0
    return RateEstimate(rate, min(low, rate), min(max(high, highest, rate), most))


def _likelihood(scores: Float64, labels: Int64) -> tuple[float, float, float]:
    """Return the posterior mean of the rate, and the ends of its 90 % likelihood-ratio interval.

    With probability 1 - e a given label y is the true one, otherwise any other one. Its likelihood is ``(1 - e) q_y + e
    (1 - q_y) / (K - 1)``, where q is the softmax of b times the scores. For the mean, e and log b have flat priors; for
    the interval, b is profiled out.
    """
    classes = scores.shape[1]
    rates = _RATES[classes * _RATES < classes - 1]
    each = np.arange(len(labels))
    q = np.stack([np.exp(log_softmax(b * scores, axis=1))[each, labels] for b in _SHARPNESS])
    log_likelihood = np.stack([np.log((1 - e) * q + e / (classes - 1) * (1 - q) + 1e-300).sum(axis=1) for e in rates])
    posterior = np.exp(log_likelihood - log_likelihood.max()).sum(axis=1) * np.gradient(rates)
    profile = log_likelihood.max(axis=1)
    inside = rates[profile >= profile.max() - _LIKELIHOOD_DROP]
    return float(posterior @ rates / posterior.sum()), float(inside[0]), float(inside[-1])


def _lowest_pairs(scores: Float64, labels: Int64) -> tuple[float, float, float]:
    """Return the rate among the pairs of song and label that fit least, and the ends of its 90 % interval.

    Among these pairs no label is the true one. A given label is there by mistake, as often as each of the K - 1 wrong
    labels. This is mixture proportion estimation by the best bin, in which the labels that were not given are the known
    positives. The size of the bin is fixed, so that nothing is chosen by the result. The interval is the exact one of a
    Poisson count.

    References
    ----------
    S. Garg, Y. Wu, A. Smola, S. Balakrishnan, Z. Lipton. Mixture proportion estimation and PU learning: a modern
    approach. NeurIPS 2021.
    """
    n, classes = scores.shape
    lead = np.stack([scores[:, k] - np.delete(scores, k, axis=1).max(axis=1) for k in range(classes)], axis=1)
    given = np.zeros((n, classes), dtype=bool)
    given[np.arange(n), labels] = True
    size = max(1, round(_LOWEST_SHARE * n * (classes - 1)))
    count = int(given.ravel()[np.argsort(lead.ravel(), kind="stable")[:size]].sum())
    unit = (classes - 1) / size
    low = float(chi2.ppf(0.05, 2 * count)) / 2 if count else 0.0
    high = float(chi2.ppf(0.95, 2 * (count + 1))) / 2
    return count * unit, low * unit, high * unit
