"""Conversion of samples to the form that emoseg uses: float32, one channel, full scale 1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoseg.errors import AudioError
from emoseg.types import Float32


def mono(frames: Float32) -> Float32:
    """Return the mean of the channels, shape (n,).

    Parameters
    ----------
    frames : array of float32, shape (n, C)
    """
    if frames.shape[1] == 1:
        return frames[:, 0]
    # Channels are added one by one, so that the order of summation does not depend on the number of samples.
    total = frames[:, 0].copy()
    with np.errstate(all="ignore"):  # samples that overflow are refused later as not finite
        for channel in range(1, frames.shape[1]):
            total += frames[:, channel]
    total /= np.float32(frames.shape[1])
    return total


def scaled(values: NDArray[Any]) -> Float32:
    """Return samples of any real type as float32 with full scale 1.

    Parameters
    ----------
    values : array of any shape
        Floating-point samples are only converted. Signed integers are divided by the full scale of their type; unsigned
        integers are first shifted by half of their range.

    Returns
    -------
    array of float32, of the same shape

    Raises
    ------
    AudioError
        The samples are not real numbers (``"dtype"``).
    """
    if values.dtype.kind == "u":
        half = np.float64(2.0 ** (8 * values.dtype.itemsize - 1))
        return np.asarray((values - half) / half, dtype=np.float32)
    if values.dtype.kind == "i":
        return np.asarray(values / 2.0 ** (8 * values.dtype.itemsize - 1), dtype=np.float32)
    if values.dtype.kind != "f":
        raise AudioError(f"<array>: samples must be real numbers, got {values.dtype}", kind="dtype")
    with np.errstate(all="ignore"):  # samples beyond the range of float32 are refused later as not finite
        return np.asarray(values, dtype=np.float32)
