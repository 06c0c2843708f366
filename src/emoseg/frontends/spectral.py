"""Short-time spectra and mel bands that the frontends share.

Conventions: matrices of frames have time first, shape (T, F) or (T, bands), so that every frame is contiguous. A
spectrum is scaled so that a sine of amplitude 1 has power 1 (0 dB) at its bin. Only whole frames of real sound are
used: nothing is padded, hence ``T = 1 + (n - length) // hop``.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
import scipy.sparse
from numpy.typing import NDArray

from emoseg.errors import AudioError, ConfigError
from emoseg.types import Float32, Float64

SparseFilters = scipy.sparse.csr_array[np.float32, tuple[int, int]]

FLOOR_DB = -100.0
"""Level given to silence; 16-bit rounding noise lies near it in every band."""


def hann(length: int) -> Float32:
    """Return the periodic Hann window of `length` samples."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


def frame_count(samples: int, length: int, hop: int) -> int:
    """Return how many whole frames fit into `samples`."""
    return 1 + (samples - length) // hop if samples >= length else 0


def frames(samples: Float32, length: int, hop: int) -> Float32:
    """Return overlapping frames of a signal of shape (n,) as a view of shape (T, length)."""
    return np.lib.stride_tricks.sliding_window_view(samples, length)[::hop]


def power_spectrogram(samples: Float32, window: Float32, hop: int) -> Float32:
    """Power of the short-time Fourier transform.

    Parameters
    ----------
    samples : array, shape (n,)
    window : array, shape (length,)
    hop : int

    Returns
    -------
    array, shape (T, length // 2 + 1); a sine of amplitude 1 at a bin has power 1 there.
    """
    spectrum = scipy.fft.rfft(frames(samples, len(window), hop) * (window * (2 / window.sum())), axis=1, workers=1)
    return np.asarray(np.square(spectrum.real) + np.square(spectrum.imag), dtype=np.float32)


def hz_to_mel(frequency_hz: Float64) -> Float64:
    """Mel scale of Slaney's Auditory Toolbox (1998): linear below 1 kHz, logarithmic above."""
    linear = 3 * frequency_hz / 200
    logarithmic = 15 + 27 * np.log(np.maximum(frequency_hz, 1000.0) / 1000) / np.log(6.4)
    return np.where(frequency_hz < 1000, linear, logarithmic)


def mel_to_hz(mel: Float64) -> Float64:
    """Inverse of `hz_to_mel`."""
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


def mel_edges(bands: int, fmin_hz: float, fmax_hz: float) -> Float64:
    """Edges and centres of mel bands in Hz, shape (bands + 2,): band b rises from b to b + 1 and falls to b + 2."""
    low, high = hz_to_mel(np.array([fmin_hz, fmax_hz]))
    return mel_to_hz(np.linspace(low, high, bands + 2))


def mel_filters(sample_rate_hz: int, fft: int, edges_hz: Float64, *, equal_area: bool = False) -> SparseFilters:
    """Triangular mel filters (Slaney, Auditory Toolbox, 1998).

    Parameters
    ----------
    sample_rate_hz, fft : int
        Rate of the sound and length of the transform, in samples.
    edges_hz : array, shape (bands + 2,)
        From `mel_edges`.
    equal_area : bool
        Slaney's filters have an area of 1 Hz; without it their height is 1, and a band holds its sines' power.

    Returns
    -------
    sparse array, shape (bands, fft // 2 + 1). Sparse, because its product is exact in a fixed order of summation
    whatever the threads of the linear algebra library, and fast.
    """
    bins = np.arange(fft // 2 + 1) * (sample_rate_hz / fft)
    low, centre, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    triangles = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    weights = np.maximum(triangles, 0) * (2 / (high - low) if equal_area else 1.0)
    return scipy.sparse.csr_array(weights.astype(np.float32))


def mel_bands(power: Float32, filters: SparseFilters) -> Float32:
    """Power in each band: spectra of shape (T, F) to shape (bands, T)."""
    product: NDArray[np.float32] = filters @ np.ascontiguousarray(power.T)
    return product


def decibel(power: Float32, *, floor_db: float = FLOOR_DB) -> Float32:
    """Power in dB relative to 1, not below `floor_db`."""
    return np.float32(10) * np.log10(np.maximum(power, np.float32(10 ** (floor_db / 10))))


def check_segments(segments: Float32, length: int, *, frontend: str) -> None:
    """Refuse segments that are not finite or not of shape (B, length)."""
    if segments.ndim != 2 or segments.shape[1] != length:
        raise ConfigError(f"{frontend}: segments must have shape (B, {length}), got {segments.shape}")
    if not np.isfinite(segments).all():
        raise AudioError(f"{frontend}: segments hold samples that are not finite", kind="nonfinite")
