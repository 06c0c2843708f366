"""Texture: roughness and attacks of band envelopes, and the correlation between bands."""

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
    """Return the amplitude envelopes of the eight bands between `BAND_EDGES_HZ`, about 340 frames per second.

    Parameters
    ----------
    samples : array, shape (n,)
        Nominally in [-1, 1].
    sample_rate_hz : int

    Returns
    -------
    (envelopes, frames_per_s)
        The envelopes have shape (8, T). Bands above half the sample rate have an amplitude of 1e-5 (-100 dB).
    """
    length = max(64, 2 ** round(np.log2(sample_rate_hz * 0.0116)))
    hop = length // 4
    power = spectral.power_spectrogram(samples, spectral.hann(length), hop)
    edges = np.searchsorted(np.arange(power.shape[1]) * (sample_rate_hz / length), BAND_EDGES_HZ)
    bands = [power[:, start:stop].sum(axis=1) for start, stop in itertools.pairwise(edges)]
    return np.sqrt(np.stack(bands)) + np.float32(1e-5), sample_rate_hz / hop


def envelope_roughness(envelopes: Float32, frames_per_s: float) -> Float64:
    """Return log10 of the power of the fast modulation of envelopes in four ranges of its frequency, shape (bands, 4).

    The power is relative to that of the mean envelope. The ranges are those between `ROUGH_EDGES_HZ`; they contain
    beating, distortion and growling.

    Parameters
    ----------
    envelopes : array, shape (bands, T)
    frames_per_s : float

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
    """Return log10 of the 99th percentile of rises over two frames, relative to the mean envelope, shape (bands,).

    Parameters
    ----------
    envelopes : array, shape (bands, T)
    """
    rises = np.sort(np.diff(envelopes[:, ::2], axis=1), axis=1)
    steep = rises[:, round(0.99 * (rises.shape[1] - 1))]
    return np.log10(np.maximum(steep, 0) / envelopes.mean(axis=1) + 1e-2)


def band_correlation(mel_db: Float32, *, groups: int = 8) -> Float64:
    """Return the correlations between the levels of groups of bands, and between the changes of these levels.

    The changes are strongly correlated in drums and weakly in melodies.

    Parameters
    ----------
    mel_db : array, shape (bands, T)
        Band levels in dB.
    groups : int

    Returns
    -------
    array, shape (groups * (groups - 1),), in [-1, 1]
        First all pairs of levels, then all pairs of changes.
    """
    grouped = np.stack([g.mean(axis=0) for g in np.array_split(mel_db, groups)])
    upper = np.triu_indices(groups, 1)
    result = []
    for x in (grouped, np.diff(grouped, axis=1)):
        centred = x - x.mean(axis=1, keepdims=True)
        # 1 dB^2 is added so that the correlation of constant bands is 0.
        norm = np.sqrt(np.square(centred).sum(axis=1) + 1.0)
        result.append((centred @ centred.T / norm / norm[:, None])[upper])
    return np.concatenate(result)


def describe_texture(
    samples: Float32, sample_rate_hz: int, mel_db: Float32, long_power: Float32, long_frequency_hz: Float64
) -> Blocks:
    """Return the descriptors of texture, whose names begin with ``texture.``.

    Parameters
    ----------
    samples : array, shape (n,)
        Nominally in [-1, 1].
    sample_rate_hz : int
    mel_db : array, shape (bands, T)
        Band levels in dB.
    long_power : array, shape (T, F)
        Power spectra of a long window.
    long_frequency_hz : array, shape (F,)
        Frequencies of their bins.
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
