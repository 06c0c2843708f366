"""Short-time spectra and mel bands, shared by the frontends.

Conventions: spectra have shape (T, F), so that every frame is contiguous; band levels have shape (bands, T). Spectra
are scaled so that a sine of amplitude 1 has power 1 (0 dB) at its bin. Frames lie wholly inside the sound and nothing
is padded, so n samples have ``T = 1 + (n - length) // hop`` frames.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.fft
import scipy.sparse
from numpy.typing import NDArray

from emoseg.errors import AudioError, ConfigError
from emoseg.types import Float32, Float64

SparseFilters = scipy.sparse.csr_array[np.float32, tuple[int, int]]

FLOOR_DB = -100.0
"""Level of silence in dB. The rounding noise of 16-bit sound lies near it in every band."""


def hann(length: int) -> Float32:
    """Return the periodic Hann window, shape (length,), in [0, 1].

    References
    ----------
    Harris, F. J. (1978). On the use of windows for harmonic analysis with the discrete Fourier transform. Proceedings
    of the IEEE 66(1).
    """
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


def frame_count(samples: int, length: int, hop: int) -> int:
    """Return the number of frames of `length` samples, `hop` samples apart, that fit into a number of samples."""
    return 1 + (samples - length) // hop if samples >= length else 0


def frames(samples: Float32, length: int, hop: int) -> Float32:
    """Return overlapping frames of `length` samples, `hop` samples apart, shape (T, length).

    The result is a read-only view of `samples`, an array of shape (n,) with n at least `length`.
    """
    return np.lib.stride_tricks.sliding_window_view(samples, length)[::hop]


def power_spectrogram(samples: Float32, window: Float32, hop: int) -> Float32:
    """Return the power of the short-time Fourier transform, shape (T, length // 2 + 1).

    A sine of amplitude 1 at the frequency of a bin has power 1 there.

    Parameters
    ----------
    samples : array, shape (n,)
    window : array, shape (length,)
        Such as from `hann`.
    hop : int
        Samples between the starts of neighbouring frames.
    """
    spectrum = scipy.fft.rfft(frames(samples, len(window), hop) * (window * (2 / window.sum())), axis=1, workers=1)
    return np.asarray(np.square(spectrum.real) + np.square(spectrum.imag), dtype=np.float32)


def hz_to_mel(frequency_hz: Float64) -> Float64:
    """Return frequencies in mel: linear below 1 kHz, logarithmic above; the shape stays.

    References
    ----------
    Slaney, M. (1998). Auditory Toolbox, version 2. Technical report 1998-010, Interval Research Corporation.
    """
    linear = 3 * frequency_hz / 200
    logarithmic = 15 + 27 * np.log(np.maximum(frequency_hz, 1000.0) / 1000) / np.log(6.4)
    return np.where(frequency_hz < 1000, linear, logarithmic)


def mel_to_hz(mel: Float64) -> Float64:
    """Return mel values in Hz, the inverse of `hz_to_mel`; the shape stays."""
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


def mel_edges(bands: int, fmin_hz: float, fmax_hz: float) -> Float64:
    """Return the edges of triangular mel bands in Hz, shape (bands + 2,), equally spaced in mel.

    Band b rises from edge b to its centre, edge b + 1, and falls to edge b + 2.

    Parameters
    ----------
    bands : int
    fmin_hz, fmax_hz : float
        Lower edge of the first band and upper edge of the last one.
    """
    low, high = hz_to_mel(np.array([fmin_hz, fmax_hz]))
    return mel_to_hz(np.linspace(low, high, bands + 2))


def mel_filters(sample_rate_hz: int, fft: int, edges_hz: Float64, *, equal_area: bool = False) -> SparseFilters:
    """Return triangular mel filters as a sparse array, shape (bands, fft // 2 + 1).

    A product with a sparse array is fast, and its order of summation does not depend on the number of threads.

    Parameters
    ----------
    sample_rate_hz : int
    fft : int
        Length of the Fourier transform in samples.
    edges_hz : array, shape (bands + 2,)
        From `mel_edges`.
    equal_area : bool
        Whether each filter has an area of 1 Hz, as in Slaney's toolbox. By default the height is 1, so that the power
        of a band is that of the sines in it.

    References
    ----------
    Slaney, M. (1998). Auditory Toolbox, version 2. Technical report 1998-010, Interval Research Corporation.
    """
    bins = np.arange(fft // 2 + 1) * (sample_rate_hz / fft)
    low, centre, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    triangles = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    weights = np.maximum(triangles, 0) * (2 / (high - low) if equal_area else 1.0)
    return scipy.sparse.csr_array(weights.astype(np.float32))


def mel_bands(power: Float32, filters: SparseFilters) -> Float32:
    """Return the power in each band, shape (bands, T).

    Parameters
    ----------
    power : array, shape (T, F)
        From `power_spectrogram`.
    filters : sparse array, shape (bands, F)
        From `mel_filters`.
    """
    product: NDArray[np.float32] = filters @ np.ascontiguousarray(power.T)
    return product


def decibel(power: Float32, *, floor_db: float = FLOOR_DB) -> Float32:
    """Return power in dB relative to 1, at least `floor_db`; the shape stays."""
    return np.float32(10) * np.log10(np.maximum(power, np.float32(10 ** (floor_db / 10))))


def check_segments(segments: Float32, length: int, *, frontend: str) -> None:
    """Check that segments are finite and have shape (B, length).

    Parameters
    ----------
    segments : array
    length : int
        Samples per segment.
    frontend : str
        Name of the frontend, for messages.

    Raises
    ------
    ConfigError
        The segments have another shape.
    AudioError
        A sample is not finite (``"nonfinite"``).
    """
    if segments.ndim != 2 or segments.shape[1] != length:
        raise ConfigError(f"{frontend}: segments must have shape (B, {length}), got {segments.shape}")
    if not np.isfinite(segments).all():
        raise AudioError(f"{frontend}: a segment has a sample that is not finite", kind="nonfinite")


def compute_each(
    segments: Float32, length: int, shape: tuple[int, ...], compute: Callable[[Float32], Float32], *, frontend: str
) -> Float32:
    """Return the features of segments, float32, shape (B, ...), each computed by itself.

    Features must not depend on the other segments of a batch.

    Parameters
    ----------
    segments : array, shape (B, length)
    length : int
        Samples per segment.
    shape : tuple of int
        Shape of one segment's features.
    compute : callable
        From the contiguous samples of one segment, shape (length,), to its features.
    frontend : str
        Name of the frontend, for messages.

    Raises
    ------
    ConfigError, AudioError
        As in `check_segments`.
    """
    check_segments(segments, length, frontend=frontend)
    result = np.empty((len(segments), *shape), dtype=np.float32)
    for i, samples in enumerate(segments):
        result[i] = compute(np.ascontiguousarray(samples, dtype=np.float32))
    return result
