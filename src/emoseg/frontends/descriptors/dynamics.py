"""Dynamics: how loud the sound is, how its level moves and how notes begin and end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoseg.frontends.descriptors.summaries import Blocks, percentiles, skewness_kurtosis, trajectory
from emoseg.frontends.spectral import decibel
from emoseg.types import Float32, Float64


def root_mean_square(framed: Float32) -> Float32:
    """Root mean square of frames, shape (T, length) to (T,)."""
    return np.asarray(np.sqrt(np.square(framed).mean(axis=1)))


def a_weighting(frequency_hz: Float64) -> Float64:
    """A-weighting of IEC 61672-1 as a factor on power, 1 at 1 kHz."""
    square = np.square(frequency_hz)
    response = 12194.0**2 * np.square(square) / ((square + 20.6**2) * (square + 12194.0**2))
    response = response / np.sqrt((square + 107.7**2) * (square + 737.9**2))
    return np.asarray(np.square(response * 10 ** (2.0 / 20)))


def envelope_db(samples: Float32, *, block: int) -> Float32:
    """Level of consecutive blocks in dB, smoothed over three; shape (n // block,)."""
    blocks = samples[: len(samples) // block * block].reshape(-1, block)
    power = np.square(blocks).mean(axis=1)
    smooth = np.convolve(power, np.full(3, 1 / 3, dtype=np.float32), mode="same")
    return decibel(smooth, floor_db=-80.0)


def articulation(envelope: Float32, blocks_per_s: float) -> NDArray[Any]:
    """Steepness of attacks and decays and the share of silence between notes, shape (7,).

    `envelope` is in dB. The numbers: 90th and 98th percentile of the rise and of the fall (dB a second, compressed),
    share of blocks more than 6, 12 and 20 dB below the 95th percentile of the level (staccato has many).
    """
    rise = np.diff(envelope) * np.float32(blocks_per_s)
    steepness = np.log10(1 + np.maximum(percentiles(rise, (2, 10, 90, 98)) * (-1, -1, 1, 1), 0) / 10)
    loud = percentiles(envelope, (95,))
    gaps = [(envelope < loud - depth).mean() for depth in (6, 12, 20)]
    return np.concatenate([steepness, gaps])


def describe_dynamics(
    samples: Float32, framed: Float32, power: Float32, frequency_hz: Float64, sample_rate_hz: int
) -> Blocks:
    """Describe dynamics.

    Parameters
    ----------
    samples : array, shape (n,)
    framed : array, shape (T, length)
    power : array, shape (T, F)
    frequency_hz : array, shape (F,)
    sample_rate_hz : int

    Returns
    -------
    Blocks whose names begin with ``dynamics.``
    """
    level = decibel(np.square(root_mean_square(framed)))
    weighted = decibel(power @ a_weighting(frequency_hz).astype(np.float32))
    blocks: Blocks = trajectory("dynamics.level", level, "mean sd skew kurtosis p10 p50 p90 delta slope")
    blocks |= trajectory("dynamics.a_level", weighted, "mean sd skew p10 p90 delta slope")
    blocks["dynamics.a_share"] = weighted.mean() - level.mean()
    mean_power = np.square(samples).mean()
    overall = decibel(mean_power)
    blocks["dynamics.overall"] = overall
    blocks["dynamics.crest"] = np.clip(decibel(np.square(samples).max()) - overall, 0, 40)
    blocks["dynamics.distribution"] = np.array(skewness_kurtosis(samples / np.sqrt(mean_power + 1e-10)))
    energy = np.square(framed).mean(axis=1)
    blocks["dynamics.low_energy"] = np.array([(energy < f * energy.mean()).mean() for f in (0.25, 0.5, 1.0)])
    block = max(1, sample_rate_hz // 200)
    envelope = envelope_db(samples, block=block)
    blocks["dynamics.articulation"] = articulation(envelope, sample_rate_hz / block)
    blocks["dynamics.range"] = np.diff(percentiles(envelope, (5, 50, 95)))
    return blocks
