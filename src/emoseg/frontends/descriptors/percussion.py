"""Percussion: the balance between sustained tones and percussive strokes."""

from __future__ import annotations

import numpy as np

from emoseg.frontends.descriptors.summaries import Blocks, trajectory
from emoseg.types import Float32, Float64

_EDGES_HZ = (0.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0)


def median(x: Float32, *, length: int, axis: int) -> Float32:
    """Return the running median along an axis of a matrix; the shape stays.

    Parameters
    ----------
    x : array, shape (T, F)
    length : int
        Number of values per median, odd. Values beyond the edges repeat the values at the edges.
    axis : {0, 1}
    """
    half = length // 2
    padded = np.pad(x, [(half, half) if i == axis else (0, 0) for i in range(2)], mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, length, axis=axis)
    middle: Float32 = np.partition(windows, half, axis=-1)[..., half]
    return middle


def harmonic_share(magnitude: Float32, *, frames: int = 9, bins: int = 13) -> Float32:
    """Return the share of sustained tones in each bin, in [0, 1], shape (T, F).

    Tones are continuous in time and strokes are broad in frequency, so the share is a Wiener mask made of the medians
    of the magnitude along time and along frequency.

    Parameters
    ----------
    magnitude : array, shape (T, F)
    frames, bins : int
        Lengths of the two medians, odd.

    References
    ----------
    FitzGerald, D. (2010). Harmonic/percussive separation using median filtering. DAFx.
    """
    tones = np.square(median(magnitude, length=frames, axis=0))
    strokes = np.square(median(magnitude, length=bins, axis=1))
    return np.asarray((tones + 1e-20) / (tones + strokes + 2e-20), dtype=np.float32)


def describe_percussion(power: Float32, frequency_hz: Float64) -> Blocks:
    """Return the balance of sustained tones and strokes in dB, as descriptors that begin with ``percussion.``.

    Parameters
    ----------
    power : array, shape (T, F)
        Power spectra.
    frequency_hz : array, shape (F,)
        Frequencies of the bins.
    """
    edges = np.searchsorted(frequency_hz, _EDGES_HZ)
    # Every second frame is enough for the balance, and halves the cost of the medians.
    thin = power[::2, : edges[-1]]
    magnitude = np.sqrt(thin)
    share = harmonic_share(magnitude)
    tones = np.stack([p.sum(axis=1) for p in np.split(thin * share, edges[1:-1], axis=1)])
    every = np.stack([p.sum(axis=1) for p in np.split(thin, edges[1:-1], axis=1)])
    ratio = 10 * np.log10((tones + 1e-9) / (every - tones + 1e-9))
    blocks = trajectory("percussion.band", np.clip(ratio, -40, 40), "mean sd")
    whole = 10 * np.log10((tones.sum(axis=0) + 1e-9) / ((every - tones).sum(axis=0) + 1e-9))
    blocks |= trajectory("percussion.all", np.clip(whole, -40, 40), "mean sd p10 p90 delta")
    return blocks
