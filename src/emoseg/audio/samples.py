"""Samples as emoseg computes with them: float32, full scale 1, one channel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoseg.errors import AudioError
from emoseg.types import Float32


def mono(frames: Float32) -> Float32:
    """Return the mean of the channels, shape (n,), of samples of shape (n, C)."""
    if frames.shape[1] == 1:
        return frames[:, 0]
    # Added one by one, so that the sum never depends on the number of samples.
    total = frames[:, 0].copy()
    with np.errstate(all="ignore"):  # what overflows is caught as not finite
        for channel in range(1, frames.shape[1]):
            total += frames[:, channel]
    total /= np.float32(frames.shape[1])
    return total


def scaled(values: NDArray[Any]) -> Float32:
    """Return samples of any numeric type as float32; the full scale of integers becomes 1.

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
    with np.errstate(all="ignore"):  # float64 beyond float32 is caught as not finite
        return np.asarray(values, dtype=np.float32)
