"""Timbre: the envelope and the shape of the spectrum, and their changes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from emoseg.frontends.descriptors.summaries import Blocks, skewness_kurtosis, trajectory
from emoseg.types import Float32, Float64

OCTAVES_HZ = (0.0, 200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0, 25600.0)
_EPSILON = np.float32(1e-6)


def cepstrum(mel_db: Float32, *, coefficients: int = 20) -> Float32:
    """Return mel-frequency cepstral coefficients, shape (coefficients, T): the orthonormal DCT-II of band levels.

    Parameters
    ----------
    mel_db : array, shape (bands, T)
        Band levels in dB.
    coefficients : int

    References
    ----------
    Davis, S. and Mermelstein, P. (1980). Comparison of parametric representations for monosyllabic word recognition.
    IEEE Transactions on Acoustics, Speech and Signal Processing 28(4).
    """
    transformed: Float32 = scipy.fft.dct(mel_db, axis=0, type=2, norm="ortho", workers=1)[:coefficients]
    return transformed


def rolloff(cumulative: NDArray[Any], frequency_hz: Float64, fraction: float) -> Float64:
    """Return the frequency in Hz below which a fraction of each frame's magnitude lies, shape (T,).

    Parameters
    ----------
    cumulative : array, shape (T, F)
        Cumulative sum of each frame's magnitudes, divided by their total.
    frequency_hz : array, shape (F,)
        Frequencies of the bins.
    fraction : float
        In (0, 1).

    References
    ----------
    Peeters, G. (2004). A large set of audio features for sound description. CUIDADO project report, IRCAM.
    """
    index = (cumulative < fraction).sum(axis=1)
    return np.asarray(frequency_hz[np.minimum(index, len(frequency_hz) - 1)])


def spectral_shape(magnitude: Float32, frequency_hz: Float64) -> dict[str, NDArray[Any]]:
    """Return moments and other measures of the shape of magnitude spectra, by name.

    Parameters
    ----------
    magnitude : array, shape (T, F)
    frequency_hz : array, shape (F,)
        Frequencies of the bins.

    Returns
    -------
    dict of arrays, shape (T,)
        ``centroid`` and ``bandwidth`` in Hz; ``skewness`` (compressed by the inverse hyperbolic sine) and ``kurtosis``
        (its natural logarithm) of the spectrum as a distribution over frequency; ``rolloff25``, ``rolloff50``,
        ``rolloff85`` and ``rolloff95`` in Hz; ``entropy`` in [0, 1]; ``flatness`` (of the power) and ``crest`` in dB.

    References
    ----------
    Peeters, G. (2004). A large set of audio features for sound description. CUIDADO project report, IRCAM.
    """
    share = magnitude + _EPSILON / np.float32(len(frequency_hz))
    share = share / share.sum(axis=1, keepdims=True)
    position = (frequency_hz / frequency_hz[-1]).astype(np.float32)
    centroid = (share * position).sum(axis=1)
    deviation = position - centroid[:, None]
    weighted = share * deviation * deviation
    variance = np.maximum(weighted.sum(axis=1), 1e-8)
    weighted *= deviation
    third = weighted.sum(axis=1)
    weighted *= deviation
    cumulative = np.cumsum(share, axis=1)
    logarithm = np.log(share)
    shape: dict[str, NDArray[Any]] = {
        "centroid": centroid * frequency_hz[-1],
        "bandwidth": np.sqrt(variance) * frequency_hz[-1],
        "skewness": np.arcsinh(third / variance**1.5),
        "kurtosis": np.log(np.maximum(weighted.sum(axis=1) / variance**2, 1e-3)),
        "entropy": -(share * logarithm).sum(axis=1) / np.log(len(frequency_hz)),
        "flatness": 20 * (logarithm.mean(axis=1) - 0.5 * np.log(np.square(share).mean(axis=1))) / np.log(10),
        "crest": 20 * np.log10(share.max(axis=1) * len(frequency_hz)),
    }
    for fraction in (0.25, 0.5, 0.85, 0.95):
        shape[f"rolloff{100 * fraction:.0f}"] = rolloff(cumulative, frequency_hz, fraction)
    return shape


def octave_contrast(
    magnitude: Float32, frequency_hz: Float64, *, quantile: float = 0.02
) -> tuple[Float32, Float32, Float32]:
    """Return the peaks, valleys and flatness in dB of the seven bands between `OCTAVES_HZ`, shape (7, T) each.

    The difference between peaks and valleys is the octave-based spectral contrast. Bands above half the sample rate
    have peaks and valleys of -100 dB.

    Parameters
    ----------
    magnitude : array, shape (T, F)
    frequency_hz : array, shape (F,)
        Frequencies of the bins.
    quantile : float
        The peak is the mean of this share of a band's bins with the largest magnitude, the valley that of as many bins
        with the smallest.

    References
    ----------
    Jiang, D.-N. et al. (2002). Music type classification by spectral contrast feature. ICME.
    """
    peaks = np.full((len(OCTAVES_HZ) - 1, len(magnitude)), 1e-5, dtype=np.float32)
    valleys, flatness = peaks.copy(), np.zeros_like(peaks)
    for band, (low, high) in enumerate(itertools.pairwise(OCTAVES_HZ)):
        start, stop = np.searchsorted(frequency_hz, (low, high))
        if stop - start < 2:
            continue
        ordered = np.sort(magnitude[:, start:stop], axis=1) + 1e-5
        count = max(1, round(quantile * (stop - start)))
        peaks[band] = ordered[:, -count:].mean(axis=1)
        valleys[band] = ordered[:, :count].mean(axis=1)
        flatness[band] = np.log10(ordered).mean(axis=1) - np.log10(ordered.mean(axis=1))
    return 20 * np.log10(peaks), 20 * np.log10(valleys), 20 * flatness


def zero_crossing_rate(framed: Float32) -> Float32:
    """Return the share of neighbouring samples with different signs, in [0, 1], shape (T,).

    Parameters
    ----------
    framed : array, shape (T, length)

    References
    ----------
    Peeters, G. (2004). A large set of audio features for sound description. CUIDADO project report, IRCAM.
    """
    negative = np.signbit(framed)
    crossings: Float32 = (negative[:, 1:] != negative[:, :-1]).mean(axis=1, dtype=np.float32)
    return crossings


def describe_timbre(framed: Float32, power: Float32, mel_db: Float32, frequency_hz: Float64) -> Blocks:
    """Return the descriptors of timbre, whose names begin with ``timbre.``.

    Parameters
    ----------
    framed : array, shape (T, length)
        Frames of the samples.
    power : array, shape (T, F)
        Power spectra of the frames.
    mel_db : array, shape (bands, T)
        Band levels in dB.
    frequency_hz : array, shape (F,)
        Frequencies of the bins.
    """
    magnitude = np.sqrt(power)
    blocks: Blocks = trajectory("timbre.mfcc", cepstrum(mel_db), "mean sd skew delta delta2")
    shape = spectral_shape(magnitude, frequency_hz)
    for key in ("centroid", "bandwidth", "rolloff25", "rolloff50", "rolloff85", "rolloff95"):
        # Listeners perceive ratios of frequencies, so logarithms are taken.
        shape[key] = np.log2(np.maximum(shape[key], 20.0) / 1000)
    for key, values in shape.items():
        blocks |= trajectory(f"timbre.{key}", values, "mean sd skew p10 p90 delta")
    peaks, valleys, flatness = octave_contrast(magnitude, frequency_hz)
    blocks |= trajectory("timbre.contrast", peaks - valleys, "mean sd")
    blocks |= trajectory("timbre.valley", valleys, "mean sd")
    blocks |= trajectory("timbre.peak", peaks, "mean")
    blocks |= trajectory("timbre.band_flatness", flatness, "mean sd delta")
    crossings = np.log10(zero_crossing_rate(framed) + 1e-3)
    blocks |= trajectory("timbre.zero_crossings", crossings, "mean sd skew p10 p90 delta")
    # Of the mean spectrum: its tilt, and its shape, which differs between tones and noise.
    mean_level = mel_db.mean(axis=1)
    place = np.linspace(-0.5, 0.5, len(mean_level), dtype=np.float32)
    tilt = (mean_level * place).sum() / np.square(place).sum()
    blocks["timbre.tilt"] = np.array([tilt, *np.ravel(skewness_kurtosis(mean_level)), mean_level.std()])
    return blocks
