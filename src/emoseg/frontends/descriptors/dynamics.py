"""Dynamics: the level of the sound, its changes, and how notes begin and end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoseg.frontends.descriptors.summaries import Blocks, percentiles, skewness_kurtosis, trajectory
from emoseg.frontends.spectral import decibel
from emoseg.types import Float32, Float64


def root_mean_square(framed: Float32) -> Float32:
    """Return the root mean square of each frame, shape (T,).

    Parameters
    ----------
    framed : array, shape (T, length)
        From `emoseg.frontends.spectral.frames`.
    """
    return np.asarray(np.sqrt(np.square(framed).mean(axis=1)))


def a_weighting(frequency_hz: Float64) -> Float64:
    """Return the A-weighting of frequencies as a factor on power, 1 at 1 kHz, shape (F,).

    Parameters
    ----------
    frequency_hz : array, shape (F,)

    References
    ----------
    IEC 61672-1:2013. Electroacoustics - Sound level meters - Part 1: Specifications. Annex E.
    """
    square = np.square(frequency_hz)
    response = 12194.0**2 * np.square(square) / ((square + 20.6**2) * (square + 12194.0**2))
    response = response / np.sqrt((square + 107.7**2) * (square + 737.9**2))
    return np.asarray(np.square(response * 10 ** (2.0 / 20)))


def envelope_db(samples: Float32, *, block: int) -> Float32:
    """Return the level of consecutive blocks in dB, at least -80, shape (n // block,).

    The power is smoothed over three blocks.

    Parameters
    ----------
    samples : array, shape (n,)
    block : int
        Samples per block.
    """
    blocks = samples[: len(samples) // block * block].reshape(-1, block)
    power = np.square(blocks).mean(axis=1)
    smooth = np.convolve(power, np.full(3, 1 / 3, dtype=np.float32), mode="same")
    return decibel(smooth, floor_db=-80.0)


def articulation(envelope: Float32, blocks_per_s: float) -> NDArray[Any]:
    """Return the steepness of decays and attacks, and the share of pauses between notes, shape (7,).

    The first four numbers are the 98th and 90th percentile of the fall and the 90th and 98th percentile of the rise per
    second, as ``log10(1 + steepness / 10)`` with the steepness in dB/s. The other three are the shares of blocks more
    than 6, 12 and 20 dB below the 95th percentile of the level, which are large in staccato.

    Parameters
    ----------
    envelope : array, shape (T,)
        Level in dB, from `envelope_db`.
    blocks_per_s : float
    """
    rise = np.diff(envelope) * np.float32(blocks_per_s)
    steepness = np.log10(1 + np.maximum(percentiles(rise, (2, 10, 90, 98)) * (-1, -1, 1, 1), 0) / 10)
    loud = percentiles(envelope, (95,))
    gaps = [(envelope < loud - depth).mean() for depth in (6, 12, 20)]
    return np.concatenate([steepness, gaps])


def describe_dynamics(
    samples: Float32, framed: Float32, power: Float32, frequency_hz: Float64, sample_rate_hz: int
) -> Blocks:
    """Return the descriptors of dynamics, whose names begin with ``dynamics.``.

    Parameters
    ----------
    samples : array, shape (n,)
        Nominally in [-1, 1].
    framed : array, shape (T, length)
        Frames of the samples.
    power : array, shape (T, F)
        Power spectra of the frames.
    frequency_hz : array, shape (F,)
        Frequencies of the bins.
    sample_rate_hz : int

    References
    ----------
    Tzanetakis, G. and Cook, P. (2002). Musical genre classification of audio signals. IEEE Transactions on Speech and
    Audio Processing 10(5): the share of frames of low energy (``dynamics.low_energy``).
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
