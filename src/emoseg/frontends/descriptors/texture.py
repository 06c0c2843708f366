"""Texture: beats and roughness of the envelopes, and how the bands move together."""

from __future__ import annotations

import itertools

import numpy as np
import scipy.fft

from emoseg.frontends import spectral
from emoseg.frontends.descriptors.summaries import Blocks
from emoseg.frontends.descriptors.timbre import octave_contrast
from emoseg.types import Float32, Float64

ROUGH_EDGES_HZ = (15.0, 25.0, 40.0, 70.0, 150.0)
BAND_EDGES_HZ = (0.0, 260.0, 520.0, 1050.0, 1800.0, 2700.0, 3800.0, 5500.0, 8000.0)


def band_envelopes(samples: Float32, sample_rate_hz: int) -> tuple[Float32, float]:
    """Amplitude of the eight bands of `BAND_EDGES_HZ` some 340 times a second.

    Returns
    -------
    (envelopes, frames_per_s), shape (8, T); bands above half the sample rate stay at the floor of -100 dB.
    """
    length = max(64, 2 ** round(np.log2(sample_rate_hz * 0.0116)))
    hop = length // 4
    power = spectral.power_spectrogram(samples, spectral.hann(length), hop)
    edges = np.searchsorted(np.arange(power.shape[1]) * (sample_rate_hz / length), BAND_EDGES_HZ)
    bands = [power[:, start:stop].sum(axis=1) for start, stop in itertools.pairwise(edges)]
    return np.sqrt(np.stack(bands)) + np.float32(1e-5), sample_rate_hz / hop


def envelope_roughness(envelopes: Float32, frames_per_s: float) -> Float64:
    """Fast modulation of envelopes, (bands, T) to (bands, 4): beating, distortion, growl.

    log10 of the modulation's power, relative to the mean envelope's, in the ranges of `ROUGH_EDGES_HZ`.

    References
    ----------
    Daniel, P. and Weber, R. (1997). Psychoacoustical roughness. Acustica 83(1): modulation of bands at 15-150 Hz.
    """
    frames = envelopes.shape[1]
    window = np.hanning(frames + 2)[1:-1].astype(np.float32)
    relative = envelopes / envelopes.mean(axis=1, keepdims=True) - 1
    power = np.square(np.abs(scipy.fft.rfft(relative * window, axis=1, workers=1))) / np.square(window.sum())
    edges = np.round(np.array(ROUGH_EDGES_HZ) * frames / frames_per_s).astype(int)
    summed = [power[:, start:stop].sum(axis=1) for start, stop in itertools.pairwise(edges)]
    return np.asarray(np.log10(np.stack(summed, axis=1) + 1e-6))


def attack_strength(envelopes: Float32) -> Float64:
    """Height of the steepest hundredth of rises over two frames against the mean, log10, (bands, T) to (bands,)."""
    rises = np.sort(np.diff(envelopes[:, ::2], axis=1), axis=1)
    steep = rises[:, round(0.99 * (rises.shape[1] - 1))]
    return np.log10(np.maximum(steep, 0) / envelopes.mean(axis=1) + 1e-2)


def band_correlation(mel_db: Float32, *, groups: int = 8) -> Float64:
    """Correlation between the levels of groups of bands, then between their changes; shape (groups * (groups - 1),).

    Drums move all bands together, a melody does not.
    """
    grouped = np.stack([g.mean(axis=0) for g in np.array_split(mel_db, groups)])
    upper = np.triu_indices(groups, 1)
    result = []
    for x in (grouped, np.diff(grouped, axis=1)):
        centred = x - x.mean(axis=1, keepdims=True)
        # The added 1 dB^2 keeps the correlation of bands that do not move at 0.
        norm = np.sqrt(np.square(centred).sum(axis=1) + 1.0)
        result.append((centred @ centred.T / norm / norm[:, None])[upper])
    return np.concatenate(result)


def describe_texture(
    samples: Float32, sample_rate_hz: int, mel_db: Float32, long_power: Float32, long_frequency_hz: Float64
) -> Blocks:
    """Describe texture.

    Parameters
    ----------
    samples : array, shape (n,)
    sample_rate_hz : int
    mel_db : array, shape (bands, T)
    long_power : array, shape (T, F)
        Spectra of a long window, with their bins' frequencies in `long_frequency_hz`, shape (F,).

    Returns
    -------
    Blocks whose names begin with ``texture.``
    """
    envelopes, frames_per_s = band_envelopes(samples, sample_rate_hz)
    long_term = np.sqrt(long_power).mean(axis=0, keepdims=True)
    peaks, valleys, _ = octave_contrast(long_term, long_frequency_hz)
    return {
        "texture.rough": envelope_roughness(envelopes, frames_per_s),
        "texture.attack": attack_strength(envelopes),
        "texture.correlation": band_correlation(mel_db),
        "texture.contrast": peaks - valleys,
    }
