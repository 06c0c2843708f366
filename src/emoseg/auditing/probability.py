"""From suspicion to the probability that a label is wrong, by means of wrong labels that are planted on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit

from emoseg.metrics import Bool
from emoseg.types import Float64, Int64


def plant_labels(labels: Int64, classes: int, rng: np.random.Generator, *, share: float = 0.125) -> tuple[Int64, Bool]:
    """Give a random share of the songs another label than the given one.

    Returns
    -------
    array of int, shape (N,)
        The new labels.
    array of bool, shape (N,)
        Whether each label was changed.
    """
    planted = np.zeros(len(labels), dtype=bool)
    planted[rng.permutation(len(labels))[: max(1, round(share * len(labels)))]] = True
    shifted = (labels + rng.integers(1, classes, len(labels))) % classes
    return np.where(planted, shifted, labels), planted


def planted_runs(songs: int) -> int:
    """Return how many runs with planted labels a corpus needs: 25 planted labels in all, and at most four runs."""
    return int(np.clip(-(-200 // songs), 1, 4))


@dataclass(frozen=True)
class PlantedRun:
    """The suspicion of all labels, shape (N,), after learning with planted wrong labels, and which those were."""

    suspicion: Float64
    planted: Bool


def wrong_probability(suspicion: Float64, runs: Sequence[PlantedRun], rate: float, classes: int) -> Float64:
    """Return the probability that each label is wrong: a logistic function of the suspicion, with the mean `rate`.

    The slope is learnt from planted labels. Let s(z) be the probability that a label with the suspicion z is wrong, and
    u(z) the density of the suspicion over the labels that were not planted. By Bayes' rule the density over wrong
    labels is ``u s / rate``, and over right ones ``u (1 - s) / (1 - rate)``. The suspicion of a planted label is drawn
    from the first. The exception is a label that happens to be right because the given one was wrong, with probability
    ``rate / (K - 1)``. The slope maximises the likelihood of the planted labels; the offset follows from the rate.

    Parameters
    ----------
    suspicion : array, shape (N,)
        Of the given labels.
    runs : sequence of PlantedRun
        Without any, the slope is 1.
    rate : float
        Estimated share of wrong labels, in [0, 1].
    classes : int
        Number of labels K.

    Returns
    -------
    array, shape (N,), in [0, 1]
        Non-decreasing in the suspicion.
    """
    rate = float(np.clip(rate, 1e-3, 0.999))
    slope = _slope(runs, rate, rate / (classes - 1)) if runs else 1.0
    return np.asarray(expit(slope * suspicion + _offset(slope * suspicion, rate)))


def _slope(runs: Sequence[PlantedRun], rate: float, right_by_chance: float) -> float:
    def loss(log_slope: float) -> float:
        total = 0.0
        for run in runs:
            slope = float(np.exp(log_slope))
            offset = _offset(slope * run.suspicion[~run.planted], rate)
            s = expit(slope * run.suspicion[run.planted] + offset)
            total += np.log((1 - right_by_chance) * s / rate + right_by_chance * (1 - s) / (1 - rate) + 1e-300).sum()
        return -total

    best = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(best.x))


def _offset(values: Float64, mean: float) -> float:
    """Return what must be added to `values` so that the mean of their logistic function is `mean`."""
    reach = float(np.abs(values).max()) + 50
    return float(brentq(lambda offset: expit(values + offset).mean() - mean, -reach, reach))
