"""Statistics of trajectories over the frames of a segment.

A trajectory has shape (D, T). A family of descriptors is a dict of blocks, arrays of any shape by their name; `flatten`
joins blocks into one vector.
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
    """Return the skewness and the excess kurtosis along the last axis, shape (...) each; 0 for constant rows.

    Both have heavy tails in short segments, so they are compressed by the inverse hyperbolic sine.

    Parameters
    ----------
    x : array, shape (..., T)
    """
    deviation = x - x.mean(axis=-1, keepdims=True)
    square = np.square(deviation)
    variance = square.mean(axis=-1)
    scale = np.maximum(variance, _TINY)
    skew = (square * deviation).mean(axis=-1) / scale**1.5
    kurtosis = np.square(square).mean(axis=-1) / scale**2 - 3
    return np.arcsinh(skew), np.where(variance > _TINY, np.arcsinh(kurtosis), 0)


def percentiles(x: NDArray[Any], ranks: tuple[float, ...]) -> NDArray[Any]:
    """Return linearly interpolated percentiles along the last axis, shape (..., len(ranks)).

    Parameters
    ----------
    x : array, shape (..., T)
    ranks : tuple of float
        In [0, 100].

    References
    ----------
    Hyndman, R. J. and Fan, Y. (1996). Sample quantiles in statistical packages. The American Statistician 50(4):
    definition 7.
    """
    ordered = np.sort(x, axis=-1)
    position = np.asarray(ranks) / 100 * (x.shape[-1] - 1)
    low = position.astype(int)
    high = np.minimum(low + 1, x.shape[-1] - 1)
    result: NDArray[Any] = ordered[..., low] + (ordered[..., high] - ordered[..., low]) * (position - low)
    return result


def trajectory(name: str, x: NDArray[Any], statistics: str) -> Blocks:
    """Return statistics of trajectories, one block of shape (D,) per statistic, named ``<name>.<statistic>``.

    Parameters
    ----------
    name : str
        First part of the blocks' names.
    x : array, shape (D, T) or (T,)
    statistics : str
        Some of the words ``mean sd skew kurtosis p10 p50 p90 delta delta2 slope``. `delta` and `delta2` are the
        standard deviations of the first and the second difference. `slope` is the rise of the least-squares line from
        the start to the end of the segment.

    Raises
    ------
    KeyError
        A word of `statistics` is none of these.
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
    """Return the names of all numbers in blocks, and the numbers as one vector of float32, shape (D,).

    The name of a number is that of its block, followed by its index if the block has several numbers.
    """
    names: list[str] = []
    for name, values in blocks.items():
        size = np.size(values)
        names += [name] if size == 1 else [f"{name}.{i}" for i in range(size)]
    return tuple(names), np.concatenate([np.ravel(v) for v in blocks.values()]).astype(np.float32)
