"""Fitting a song model: a regression with a penalty on departing from the mean probability, and a temperature.

References
----------
C. Guo, G. Pleiss, Y. Sun, K. Weinberger. On calibration of modern neural networks. ICML 2017. (temperature scaling)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import log_softmax, softmax

from emoseg.song.model import SongModel, mean_model
from emoseg.types import Float64, Int64

# Candidates for the strength of the penalty, in songs: so many songs are needed to outweigh it.
PENALTIES = (6.0, 20.0, 60.0, 200.0, 600.0, 2000.0, 6000.0)


@dataclass(frozen=True)
class SongFit:
    """A fitted song model, and held-out probabilities of the training songs, shape (N, K)."""

    model: SongModel
    held_out: Float64


def fit_song_model(
    statistics: Float64, labels: Int64, *, classes: int, folds: Int64, song_rate: float = 0.0
) -> SongFit:
    """Return the song model fitted on statistics of out-of-fold segment probabilities.

    The strength of the penalty and the temperature come from cross-validation over `folds`: both are fitted on songs
    that the regression did not learn from.

    Parameters
    ----------
    statistics : array, shape (N, 7 * K)
        Statistics of out-of-fold segment probabilities: those of training segments are over-confident.
    labels : array of int, shape (N,)
        Given song labels.
    classes : int
    folds : array of int, shape (N,)
        Part of each song; no artist is in two parts.
    song_rate : float
        Estimated share of wrong labels, in [0, 1]. The likelihood allows for it (symmetric noise); otherwise the model
        would learn to be as unsure as its labels are unreliable.
    """
    held_out = {
        penalty: _cross_validated(statistics, labels, classes, folds, penalty, song_rate) for penalty in PENALTIES
    }
    fitted = {penalty: fit_temperature(logits, labels, song_rate) for penalty, logits in held_out.items()}
    best = min(PENALTIES, key=lambda penalty: fitted[penalty][1])
    model = _fit(statistics, labels, classes, best, song_rate)
    temperature = fitted[best][0]
    held_out_probabilities = np.asarray(softmax(held_out[best] / temperature, axis=1))
    return SongFit(replace(model, temperature=temperature), held_out_probabilities)


def fit_mean_model(statistics: Float64, labels: Int64, *, classes: int, song_rate: float = 0.0) -> SongModel:
    """Return the mean probability with a fitted temperature, for comparison; parameters as in `fit_song_model`."""
    temperature, _ = fit_temperature(statistics[:, :classes], labels, song_rate)
    return mean_model(classes, temperature=temperature)


def _cross_validated(
    statistics: Float64, labels: Int64, classes: int, folds: Int64, penalty: float, song_rate: float
) -> Float64:
    logits = np.zeros((len(labels), classes))
    for fold in np.unique(folds):
        held_out = folds == fold
        model = _fit(statistics[~held_out], labels[~held_out], classes, penalty, song_rate)
        logits[held_out] = model.logits(statistics[held_out])
    return logits


def _fit(statistics: Float64, labels: Int64, classes: int, penalty: float, song_rate: float) -> SongModel:
    from scipy.optimize import minimize  # slow to import, and analysis never fits

    base, rest = statistics[:, :classes], statistics[:, classes:]
    mean, scale = rest.mean(axis=0), np.maximum(rest.std(axis=0), 1e-6)
    x = (rest - mean) / scale
    one_hot = np.eye(classes)[labels]

    def loss(flat: Float64) -> tuple[float, Float64]:
        weights, bias = flat[:-classes].reshape(-1, classes), flat[-classes:]
        log_p = log_softmax(base + x @ weights + bias, axis=1)
        log_given, trust = given_likelihood(log_p, labels, song_rate)
        error = trust[:, None] * (np.exp(log_p) - one_hot) / len(labels)
        value = -log_given.mean() + penalty / len(labels) * (flat**2).sum() / 2
        gradient = np.concatenate([(x.T @ error).ravel(), error.sum(axis=0)]) + penalty / len(labels) * flat
        return float(value), gradient

    start = np.zeros(x.shape[1] * classes + classes)
    flat = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    return SongModel(mean, scale, flat[:-classes].reshape(-1, classes), flat[-classes:], 1.0)


def given_likelihood(log_p: Float64, labels: Int64, rate: float) -> tuple[Float64, Float64]:
    """Return the log-likelihood of each given label, a share of which is wrong, and the probability that it is right.

    With q the probability of the given label, the likelihood is ``(1 - e) q + e / (K - 1) (1 - q)``. The second array
    is also the factor by which wrong labels reduce the gradient of the log-likelihood.

    Parameters
    ----------
    log_p : array, shape (N, K)
        Logarithms of probabilities.
    labels : array of int, shape (N,)
    rate : float
        Share e of wrong labels, in [0, 1].
    """
    log_q = log_p[np.arange(len(labels)), labels]
    if rate == 0:
        return log_q, np.ones(len(labels))
    other = rate / (log_p.shape[1] - 1)
    likelihood = other + (1 - rate - other) * np.exp(log_q)
    return np.log(likelihood), (1 - rate - other) * np.exp(log_q) / likelihood


def fit_temperature(logits: Float64, labels: Int64, song_rate: float = 0.0) -> tuple[float, float]:
    """Return the temperature that makes the softmax of `logits`, shape (N, K), fit held-out `labels` best.

    Returns
    -------
    float, float
        The temperature, in [0.05, 20], and the mean negative log-likelihood per label.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_t: float) -> float:
        log_p = log_softmax(logits / np.exp(log_t), axis=1)
        return float(-given_likelihood(log_p, labels, song_rate)[0].mean())

    best = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(best.x)), float(best.fun)
