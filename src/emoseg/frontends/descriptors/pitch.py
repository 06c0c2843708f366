"""Pitch: spectral peaks, tuning, notes, register, and the dissonance between peaks.

Pitches are MIDI numbers (A4 = 69). Spectral peaks are two arrays of shape (T, K): frequencies in Hz, and amplitudes.
If a frame has fewer than K peaks, the others have amplitude 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoseg.frontends.descriptors.summaries import Blocks, trajectory
from emoseg.types import Float32, Float64

Peaks = tuple[NDArray[Any], NDArray[Any]]

LOWEST_NOTE, NOTES = 24, 84
_RANGE_HZ = (50.0, 5000.0)


def spectral_peaks(power: Float32, bin_hz: float, *, count: int = 30, range_db: float = 50.0) -> Peaks:
    """Return the frequency in Hz and the amplitude of the strongest local maxima of power spectra.

    Parameters
    ----------
    power : array, shape (T, F)
    bin_hz : float
        Distance between bins in Hz.
    count : int
        Number of peaks per frame.
    range_db : float
        Peaks more than this many dB below the strongest of the frame, or below -90 dB, are left out.

    Returns
    -------
    (frequency_hz, amplitude), shape (T, count) each, in no order. Frequencies are refined by a parabola through the
    logarithm of the power at three bins.

    References
    ----------
    Smith, J. O. and Serra, X. (1987). PARSHL: an analysis/synthesis program for non-harmonic sounds based on a
    sinusoidal representation. ICMC: parabolic interpolation.
    """
    first = max(1, int(_RANGE_HZ[0] / bin_hz))
    last = min(power.shape[1] - 1, int(_RANGE_HZ[1] / bin_hz))
    middle = power[:, first:last]
    threshold = np.maximum(middle.max(axis=1, keepdims=True) * np.float32(10 ** (-range_db / 10)), np.float32(1e-9))
    left, right = power[:, first - 1 : last - 1], power[:, first + 1 : last + 1]
    ranked = np.where((middle > left) & (middle >= right) & (middle > threshold), middle, np.float32(0))
    place = np.argpartition(ranked, -count, axis=1)[:, -count:]
    found = np.take_along_axis(ranked, place, axis=1)
    a, b, c = (np.log(np.take_along_axis(x, place, axis=1) + np.float32(1e-12)) for x in (left, middle, right))
    curvature = np.minimum(a - 2 * b + c, np.float32(-1e-6))
    offset = np.clip((a - c) / (2 * curvature), -0.5, 0.5)
    frequency = (place + first + np.where(found > 0, offset, 0)) * bin_hz
    return frequency, np.where(found > 0, np.sqrt(found), 0)


def tuning(peaks: Peaks) -> tuple[float, float]:
    """Return the deviation of the tuning from A4 = 440 Hz in semitones, and how well it is defined.

    They are the angle and the length of the circular mean of the peaks' distances from the nearest note, weighted by
    amplitude.

    Parameters
    ----------
    peaks : pair of arrays, shape (T, K)
        From `spectral_peaks`.

    Returns
    -------
    (deviation, clarity), in [-0.5, 0.5] and in [0, 1]

    References
    ----------
    Dressler, K. and Streich, S. (2007). Tuning frequency estimation using circular statistics. ISMIR.
    """
    frequency, amplitude = peaks
    vector = (amplitude * np.exp(2j * np.pi * 12 * np.log2(frequency / 440))).sum()
    return float(np.angle(vector) / (2 * np.pi)), float(np.abs(vector) / (amplitude.sum() + 1e-6))


def note_spectrum(peaks: Peaks, deviation: float) -> Float64:
    """Return the amplitude of every note from `LOWEST_NOTE` upwards, shape (T, NOTES).

    The amplitude of each peak is divided between the two nearest notes, by the squared cosine of its distance.

    Parameters
    ----------
    peaks : pair of arrays, shape (T, K)
        From `spectral_peaks`.
    deviation : float
        Deviation of the tuning in semitones, from `tuning`.

    References
    ----------
    Gómez, E. (2006). Tonal description of polyphonic audio for music content processing. INFORMS Journal on Computing
    18(3): the weighting by distance.
    """
    frequency, amplitude = peaks
    pitch = 69 + 12 * np.log2(frequency / 440) - deviation - LOWEST_NOTE
    low = np.floor(pitch).astype(np.int64)
    part = pitch - low
    upper = np.square(np.sin(np.pi / 2 * part))
    rows = np.arange(len(frequency))[:, None] * NOTES
    notes = np.zeros(len(frequency) * NOTES)
    for index, weight in ((low, 1 - upper), (low + 1, upper)):
        valid = (index >= 0) & (index < NOTES) & (amplitude > 0)
        notes += np.bincount((rows + index)[valid], (weight * amplitude)[valid], minlength=len(notes))
    return notes.reshape(-1, NOTES)


def salience(notes: Float64, *, harmonics: int = 6, decay: float = 0.7) -> Float64:
    """Return the strength of every note as a fundamental, shape (T, NOTES): the weighted sum over its harmonics.

    Parameters
    ----------
    notes : array, shape (T, NOTES)
        From `note_spectrum`.
    harmonics : int
        Number of harmonics, including the fundamental.
    decay : float
        Weight of a harmonic relative to the one below it.

    References
    ----------
    Klapuri, A. (2006). Multiple fundamental frequency estimation by summing harmonic amplitudes. ISMIR.
    """
    result = notes.copy()
    for h in range(2, harmonics + 1):
        shift = round(12 * np.log2(h))
        result[:, : NOTES - shift] += decay ** (h - 1) * notes[:, shift:]
    return result


def roughness(peaks: Peaks, *, strongest: int = 20) -> Float64:
    """Return the sensory dissonance between the peaks of each frame, relative to their total amplitude, shape (T,).

    Parameters
    ----------
    peaks : pair of arrays, shape (T, K)
        From `spectral_peaks`.
    strongest : int
        Number of peaks per frame that are compared.

    References
    ----------
    Plomp, R. and Levelt, W. (1965). Tonal consonance and critical bandwidth. JASA 38(4).
    Sethares, W. (1993). Local consonance and the relationship between timbre and scale. JASA 94(3): the curve.
    """
    order = np.argsort(-peaks[1], axis=1, kind="stable")[:, :strongest]
    frequency, amplitude = (np.take_along_axis(x, order, axis=1).astype(np.float32) for x in peaks)
    lower = np.minimum(frequency[:, :, None], frequency[:, None, :])
    gap = np.abs(frequency[:, :, None] - frequency[:, None, :]) * (0.24 / (0.0207 * lower + 18.96))
    curve = np.exp(-3.51 * gap) - np.exp(-5.75 * gap)
    pairs = np.minimum(amplitude[:, :, None], amplitude[:, None, :]) * curve
    return np.asarray(pairs.sum(axis=(1, 2)) / (amplitude.sum(axis=1) + 1e-6), dtype=np.float64)


def _describe_register(notes: Float64) -> Blocks:
    strength = salience(notes)
    total = strength.sum(axis=1) + 1e-6
    pitch = np.arange(NOTES)
    blocks: Blocks = {}
    for name, low, high in (("bass", 4, 30), ("melody", 30, 66), ("all", 0, NOTES)):
        part = strength[:, low:high]
        best = np.argmax(part, axis=1) + low + LOWEST_NOTE
        blocks |= trajectory(f"pitch.{name}.pitch", best / 12, "mean sd delta")
        blocks |= trajectory(f"pitch.{name}.salience", part.max(axis=1) / total, "mean sd")
        blocks[f"pitch.{name}.held"] = (np.diff(best) == 0).mean()
    centre = (notes * pitch).sum(axis=1) / (notes.sum(axis=1) + 1e-6) / 12
    blocks |= trajectory("pitch.centre", centre, "mean sd")
    voices = (strength > 0.4 * strength.max(axis=1, keepdims=True) + 1e-6).sum(axis=1)
    blocks |= trajectory("pitch.voices", np.log2(1.0 + voices), "mean sd")
    octaves = notes.reshape(len(notes), -1, 12).sum(axis=2)
    blocks |= trajectory("pitch.octave", (octaves / (octaves.sum(axis=1, keepdims=True) + 1e-6)).T, "mean")
    return blocks


def describe_pitch(peaks: Peaks, notes: Float64, tuned: tuple[float, float], power: Float32) -> Blocks:
    """Return the descriptors of register, voices, dissonance and tuning, whose names begin with ``pitch.``.

    Parameters
    ----------
    peaks : pair of arrays, shape (T, K)
        From `spectral_peaks`.
    notes : array, shape (T, NOTES)
        From `note_spectrum`.
    tuned : pair of float
        From `tuning`.
    power : array, shape (T, F)
        The spectra from which the peaks were taken.
    """
    blocks: Blocks = {"pitch.tuning": np.array([abs(tuned[0]), tuned[1]])}
    blocks |= trajectory("pitch.roughness", roughness(peaks), "mean sd p10 p90")
    peak_share = np.square(peaks[1]).sum(axis=1) / (power.sum(axis=1) + 1e-9)
    blocks |= trajectory("pitch.tonal_share", peak_share, "mean sd")
    blocks |= trajectory("pitch.peak_count", np.log2(1.0 + (peaks[1] > 0).sum(axis=1)), "mean sd")
    return blocks | _describe_register(notes)
