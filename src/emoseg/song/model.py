"""The song model: from segment probabilities to the emotion of the song, calibrated.

Statistics of the segment probabilities over a song (Han 2014 and a few more) go through a multinomial logistic
regression whose starting point, and what its penalty pulls it back to, is the mean probability: where songs are few or
labels bad, the song model is the mean probability, and it departs from it only as far as evidence carries. A last
temperature, fitted on songs that the regression had not seen, makes the probabilities honest.

References
----------
K. Han, D. Yu, I. Tashev. Speech emotion recognition using deep neural network and extreme learning machine.
Interspeech 2014. (the statistics)
C. Guo, G. Pleiss, Y. Sun, K. Weinberger. On calibration of modern neural networks. ICML 2017. (temperature scaling)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from emoseg.types import Float32, Float64, Int64

HAN_THRESHOLD = 0.2
_LARGEST = 1e30  # of a model's numbers: their products stay far inside double precision
_RANGES = {
    "scale": (1 / _LARGEST, np.inf),  # infinite where a summary never varied in training
    "temperature": (1 / _LARGEST, _LARGEST),
    "gamma": (0.0, _LARGEST),
}
# How strongly the song model is held to the mean probability, in songs: so many of them outweigh it.
PENALTIES = (6.0, 20.0, 60.0, 200.0, 600.0, 2000.0, 6000.0)


def song_mean(values: Float64, song: Int64) -> Float64:
    """Return for each segment the mean over all segments of its song, shape (S, K)."""
    _, index = np.unique(song, return_inverse=True)
    total = np.zeros((index.max() + 1, values.shape[1]))
    np.add.at(total, index, values)
    return (total / np.bincount(index)[:, None])[index]


def song_statistics(probabilities: Float64) -> Float64:
    """Summarise one song's segment probabilities.

    Parameters
    ----------
    probabilities : array, shape (S, K)

    Returns
    -------
    array, shape (7 * K,)
        For each label: the log of the mean (the base), then mean, maximum, minimum, share of segments above 0.2
        (Han 2014), standard deviation, and mean of the logs.
    """
    p = np.clip(probabilities, 1e-4, 1.0)
    return np.concatenate(
        [
            np.log(p.mean(axis=0)),
            p.mean(axis=0),
            p.max(axis=0),
            p.min(axis=0),
            (p > HAN_THRESHOLD).mean(axis=0),
            p.std(axis=0),
            np.log(p).mean(axis=0),
        ]
    )


def statistics_table(probabilities: Float64, song: Int64, songs: int) -> Float64:
    """Return `song_statistics` of every song, shape (N, 7 * K); each song has at least one segment."""
    return np.stack([song_statistics(probabilities[song == i]) for i in range(songs)])


def song_summaries(table: NDArray[np.floating], song: Int64) -> Float64:
    """Return mean and standard deviation over each song's segments (and frames), shape (N, 2 F).

    Parameters
    ----------
    table : array, shape (S, F) or (S, F, T)
    song : array of int, shape (S,)
        Ascending.
    """
    rows = []
    for values in np.split(table, np.flatnonzero(np.diff(song)) + 1):
        flat = values.astype(np.float64)
        flat = flat if flat.ndim == 2 else np.moveaxis(flat, 1, 2).reshape(-1, flat.shape[1])
        rows.append(np.concatenate([flat.mean(axis=0), flat.std(axis=0)]))
    return np.asarray(rows)


def with_base(statistics: Float64, own: Float64) -> Float64:
    """Return statistics (N, 7 * K) whose base are the songs' own probabilities (N, K) instead of the mean's."""
    return np.concatenate([np.log(np.clip(own, 1e-4, 1.0)), statistics[:, own.shape[1] :]], axis=1)


@dataclass(frozen=True)
class SongMachine:
    """Support vector machines on summaries of whole songs, one for each pair of labels, that vote.

    Parameters
    ----------
    mean, scale : array, shape (F,)
        Standardisation of the summaries.
    relevance : array, shape (F,)
        What each standardised summary is multiplied by.
    gamma : float
        Of the kernel ``exp(-gamma |x - y|^2)`` on weighted summaries.
    support : array, shape (M, F)
        Weighted summaries of the training songs that bear on a vote.
    weights : array, shape (M, P)
        Of each support vector in each pair's machine; pairs in the order of `itertools.combinations`.
    bias : array, shape (P,)
    """

    mean: Float64
    scale: Float64
    relevance: Float64
    gamma: float
    support: Float64
    weights: Float64
    bias: Float64

    def votes(self, summaries: Float64) -> Float64:
        """Return for each label the sum of the votes of its pairs, each in (-1, 1): shape (N, K).

        A vote is ``tanh(3 d)`` of the decision d: nearly a hard vote outside the margin, and none on the border.
        """
        x = standardised(summaries, self.mean, self.scale) * self.relevance
        decisions = np.tanh(3 * (gaussian_kernel(x, self.support, self.gamma) @ self.weights + self.bias))
        classes = round((1 + np.sqrt(1 + 8 * len(self.bias))) / 2)
        votes = np.zeros((len(x), classes))
        for p, (i, j) in enumerate(combinations(range(classes), 2)):
            votes[:, i] += decisions[:, p]
            votes[:, j] -= decisions[:, p]
        return votes


@dataclass(frozen=True)
class SongBlend:
    """How much the mean over segments and the votes of a song machine count."""

    of_mean: float
    of_votes: float

    def probabilities(self, means: Float64, votes: Float64) -> Float64:
        """Return probabilities of songs, (N, K): the softmax of weighted log-means and votes."""
        return np.asarray(softmax(self.of_mean * np.log(np.clip(means, 1e-4, 1)) + self.of_votes * votes, axis=1))


@dataclass(frozen=True)
class SongBase:
    """What the song model starts from where whole songs have a vote: their votes blended with their segments' mean."""

    machine: SongMachine
    blend: SongBlend

    def probabilities(self, means: Float64, summaries: Float64) -> Float64:
        """Return probabilities of songs, (N, K), from mean probabilities (N, K) and `song_summaries` (N, F)."""
        return self.blend.probabilities(means, self.machine.votes(summaries))


def standardised(summaries: Float64, mean: Float64, scale: Float64) -> Float64:
    """Return ``(summaries - mean) / scale``, cut at +-5: a song unlike any other must not be unlike all the same."""
    return np.clip((summaries - mean) / scale, -5, 5)


def gaussian_kernel(first: Float64, second: Float64, gamma: float) -> Float64:
    """Return ``exp(-gamma |x - y|^2)`` for all pairs of rows, shape (N, M)."""
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2 * first @ second.T
    return np.exp(-gamma * np.maximum(squares, 0))


@dataclass(frozen=True)
class SongModel:
    """A fitted song model.

    Parameters
    ----------
    mean, scale : array, shape (F,)
        Standardisation of the statistics after the base.
    weights : array, shape (F, K)
    bias : array, shape (K,)
    temperature : float
        Divides the logits.
    base : SongBase, optional
        What replaces the mean probability as the base.
    """

    mean: Float64
    scale: Float64
    weights: Float64
    bias: Float64
    temperature: float
    base: SongBase | None = None

    def logits(self, statistics: Float64) -> Float64:
        """Return logits before the temperature, shape (N, K), of statistics of shape (N, 7 * K)."""
        classes = len(self.bias)
        base, rest = statistics[:, :classes], statistics[:, classes:]
        return base + ((rest - self.mean) / self.scale) @ self.weights + self.bias

    def predict(self, probabilities: Float64, summary: Float64 | None = None) -> Float64:
        """Return the calibrated probabilities of one song, shape (K,), from its segments' (S, K).

        Parameters
        ----------
        probabilities : array, shape (S, K)
        summary : array, shape (F,), optional
            The song's `song_summaries`; a model with a base needs it.

        Raises
        ------
        ValueError
            The model has a base and there is no summary, or something is not finite.
        """
        statistics = song_statistics(probabilities)[None]
        if self.base is not None:
            if summary is None:
                raise ValueError("this song model needs the song's summary")
            own = self.base.probabilities(probabilities.mean(axis=0)[None], summary[None])
            statistics = with_base(statistics, own)
        predicted = self.predict_table(statistics)[0]
        if not np.isfinite(predicted).all():
            raise ValueError("the song's probabilities are not finite")
        return predicted

    def predict_table(self, statistics: Float64) -> Float64:
        """Return the calibrated probabilities of many songs, shape (N, K)."""
        return np.asarray(softmax(self.logits(statistics) / self.temperature, axis=1))


def mean_model(classes: int, *, temperature: float = 1.0) -> SongModel:
    """Return the song model that is the mean probability: no weights."""
    size = 6 * classes
    return SongModel(np.zeros(size), np.ones(size), np.zeros((size, classes)), np.zeros(classes), temperature)


@dataclass(frozen=True)
class SongFit:
    """A fitted song model, and the probabilities (N, K) that it gives training songs when they are held out of it."""

    model: SongModel
    held_out: Float64


def fit_song_model(
    statistics: Float64, labels: Int64, *, classes: int, folds: Int64, song_rate: float = 0.0
) -> SongFit:
    """Fit the song model on statistics of out-of-fold segment probabilities.

    The strength of the penalty and the temperature come from cross-validation over `folds`: neither is fitted on a
    song that the regression saw.

    Parameters
    ----------
    statistics : array, shape (N, 7 * K)
        Of out-of-fold segment probabilities: in-sample ones are over-confident.
    labels : array of int, shape (N,)
        Given song labels.
    classes : int
    folds : array of int, shape (N,)
        Parts that do not split an artist.
    song_rate : float
        Share of the labels that is wrong, as far as it is known: the likelihood takes account of it (symmetric noise),
        or else the model would learn to be as unsure as its labels are unreliable.
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
    """Fit the comparison: the mean probability with a temperature; parameters as of `fit_song_model`."""
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
    """Return the log-likelihood of given labels, a share of which is wrong, and the probability that each is right.

    With q the probability of the given label it is ``log((1 - e) q + e / (K - 1) (1 - q))``. The second is also what
    the gradient of the first is, relative to that without wrong labels.
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
        The temperature, in [0.05, 20], and the negative log-likelihood of a label.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_t: float) -> float:
        log_p = log_softmax(logits / np.exp(log_t), axis=1)
        return float(-given_likelihood(log_p, labels, song_rate)[0].mean())

    best = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(best.x)), float(best.fun)


def song_model_arrays(model: SongModel) -> dict[str, Float64 | Float32]:
    """Return the model as named arrays, for the model folder."""
    arrays: dict[str, Float64 | Float32] = {
        "mean": model.mean,
        "scale": model.scale,
        "weights": model.weights,
        "bias": model.bias,
        "temperature": np.array([model.temperature]),
    }
    if model.base is not None:
        machine, blend = model.base.machine, model.base.blend
        arrays |= {
            f"machine/{name}": getattr(machine, name) for name in ("mean", "scale", "relevance", "weights", "bias")
        }
        arrays["machine/gamma"] = np.array([machine.gamma])
        arrays["machine/support"] = machine.support.astype(np.float32)
        arrays["blend"] = np.array([blend.of_mean, blend.of_votes])
    return arrays


def song_model_from_arrays(arrays: Mapping[str, NDArray[Any]]) -> SongModel:
    """Inverse of `song_model_arrays`.

    Raises
    ------
    ValueError
        An array is missing, unknown, not of floats, of a wrong shape, or holds numbers that no fit gives.
    """
    with_machine = "blend" in arrays
    _check_names(arrays, with_machine)
    shapes = _array_shapes(arrays, with_machine)
    table = {name: _checked_array(name, arrays[name], shape) for name, shape in shapes.items()}
    base = None
    if with_machine:
        names = ("mean", "scale", "relevance", "support", "weights", "bias")
        gamma = float(table["machine/gamma"][0])
        machine = SongMachine(**{name: table[f"machine/{name}"] for name in names}, gamma=gamma)
        base = SongBase(machine, SongBlend(*table["blend"].tolist()))
    return SongModel(
        table["mean"], table["scale"], table["weights"], table["bias"], float(table["temperature"][0]), base
    )


def _check_names(arrays: Mapping[str, NDArray[Any]], with_machine: bool) -> None:
    known = {"mean", "scale", "weights", "bias", "temperature"}
    if with_machine:
        parts = ("mean", "scale", "relevance", "gamma", "support", "weights", "bias")
        known |= {"blend", *(f"machine/{part}" for part in parts)}
    if missing := sorted(known - set(arrays)):
        raise ValueError(f"has no array {missing[0]!r}")
    if unknown := sorted(set(arrays) - known):
        raise ValueError(f"has an unknown array {unknown[0]!r}")


def _array_shapes(arrays: Mapping[str, NDArray[Any]], with_machine: bool) -> dict[str, tuple[int, ...]]:
    """Return the shape that each array must have; numbers of labels, summaries and support vectors are free."""
    classes = arrays["bias"].size
    if classes < 2:
        raise ValueError(f"array 'bias' must have two or more labels, has {classes}")
    size = 6 * classes
    shapes: dict[str, tuple[int, ...]] = {
        "mean": (size,),
        "scale": (size,),
        "weights": (size, classes),
        "bias": (classes,),
        "temperature": (1,),
    }
    if with_machine:
        summary, pairs = arrays["machine/mean"].size, classes * (classes - 1) // 2
        vectors = len(arrays["machine/support"]) if arrays["machine/support"].ndim else 0
        if not summary or not vectors:
            raise ValueError("arrays 'machine/mean' and 'machine/support' must not be empty")
        shapes |= {f"machine/{name}": (summary,) for name in ("mean", "scale", "relevance")}
        shapes |= {"machine/support": (vectors, summary), "machine/weights": (vectors, pairs)}
        shapes |= {"machine/bias": (pairs,), "machine/gamma": (1,), "blend": (2,)}
    return shapes


def _checked_array(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> Float64:
    """Return an array in double precision, from which probabilities can be computed without overflow."""
    if array.dtype not in (np.float32, np.float64):
        raise ValueError(f"array {name!r} must be of 32-bit or 64-bit floats, is of {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"array {name!r} must have the shape {shape}, has {array.shape}")
    least, most = _RANGES.get(name.removeprefix("machine/"), (-_LARGEST, _LARGEST))
    if not (array.min() >= least and array.max() <= most):  # neither holds where one is not a number
        raise ValueError(f"array {name!r} must hold numbers from {least:g} to {most:g}")
    return np.asarray(array, dtype=np.float64)
