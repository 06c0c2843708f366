"""Statistics that turn trajectories over frames, shape (D, T), into numbers of a segment.

Descriptors travel as blocks: a mapping from a name to an array of any size; `flatten` names and joins them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoseg.types import Float32

Blocks = dict[str, NDArray[Any]]

_TINY = 1e-9


def skewness_kurtosis(x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Skewness and excess kurtosis along the last axis, compressed by the inverse hyperbolic sine.

    Constant rows give 0 and 0. Both are heavy-tailed on short stretches of sound, hence the compression.
    """
    deviation = x - x.mean(axis=-1, keepdims=True)
    square = np.square(deviation)
    variance = square.mean(axis=-1)
    scale = np.maximum(variance, _TINY)
    skew = (square * deviation).mean(axis=-1) / scale**1.5
    kurtosis = np.square(square).mean(axis=-1) / scale**2 - 3
    return np.arcsinh(skew), np.where(variance > _TINY, np.arcsinh(kurtosis), 0)


def percentiles(x: NDArray[Any], ranks: tuple[float, ...]) -> NDArray[Any]:
    """Percentiles along the last axis, in 0-100, linearly interpolated; shape (..., len(ranks))."""
    ordered = np.sort(x, axis=-1)
    position = np.asarray(ranks) / 100 * (x.shape[-1] - 1)
    low = position.astype(int)
    high = np.minimum(low + 1, x.shape[-1] - 1)
    result: NDArray[Any] = ordered[..., low] + (ordered[..., high] - ordered[..., low]) * (position - low)
    return result


def trajectory(name: str, x: NDArray[Any], statistics: str) -> Blocks:
    """Summarise trajectories.

    Parameters
    ----------
    name : str
        First part of the blocks' names.
    x : array, shape (D, T) or (T,)
    statistics : str
        Words out of ``mean sd skew kurtosis p10 p50 p90 delta delta2 slope``: `delta` and `delta2` are the standard
        deviations of the first and second difference, `slope` the change per segment of the straight line of least
        squares.

    Returns
    -------
    dict of arrays, shape (D,) each
    """
    x = np.atleast_2d(x)
    wanted = statistics.split()
    found: Blocks = {"mean": x.mean(axis=1), "sd": x.std(axis=1)}
    if "skew" in wanted or "kurtosis" in wanted:
        found["skew"], found["kurtosis"] = skewness_kurtosis(x)
    if not {"p10", "p50", "p90"}.isdisjoint(wanted):
        found["p10"], found["p50"], found["p90"] = percentiles(x, (10, 50, 90)).T
    if "delta" in wanted:
        found["delta"] = np.diff(x, axis=1).std(axis=1)
    if "delta2" in wanted:
        found["delta2"] = np.diff(x, n=2, axis=1).std(axis=1)
    if "slope" in wanted:
        time = np.linspace(-0.5, 0.5, x.shape[1], dtype=np.float32)
        found["slope"] = (x * time).sum(axis=1) / np.square(time).sum()
    return {f"{name}.{word}": found[word] for word in wanted}


def flatten(blocks: Mapping[str, NDArray[Any]]) -> tuple[tuple[str, ...], Float32]:
    """Join blocks into one vector of float32 and name every number of it."""
    names: list[str] = []
    for name, values in blocks.items():
        size = np.size(values)
        names += [name] if size == 1 else [f"{name}.{i}" for i in range(size)]
    return tuple(names), np.concatenate([np.ravel(v) for v in blocks.values()]).astype(np.float32)
