"""Samples in memory: they are checked, mixed to mono, and read in blocks like those of a file."""

from __future__ import annotations

import operator
import os
from collections.abc import Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoseg.audio.samples import mono, scaled
from emoseg.errors import AudioError, ConfigError
from emoseg.types import Float32, Recording

_BLOCK = 1 << 16  # samples of an array that are taken at a time


def as_recording(
    source: str | os.PathLike[str] | Recording | NDArray[Any], sample_rate_hz: int | None
) -> str | os.PathLike[str] | Recording:
    """Return an array of samples as a mono `Recording`; a path or a `Recording` as it is.

    Parameters
    ----------
    source : path, Recording or array
        An array has shape (n,), or (n, C) with C channels, which are averaged. Floating-point samples are nominally in
        [-1, 1]; the full scale of integers counts as 1 (unsigned ones are centred first).
    sample_rate_hz : int or None
        Of an array; None for everything else.

    Raises
    ------
    ConfigError
        An array without a sample rate, or a sample rate with something else.
    AudioError
        The array has another shape (``"rank"``) or type (``"dtype"``).
    """
    if not isinstance(source, np.ndarray):
        if isinstance(source, Recording | str | os.PathLike):
            if sample_rate_hz is not None:
                raise ConfigError("sample_rate_hz goes with an array; a file or a Recording has its own")
            return source
        raise ConfigError(f"a recording is a path, a Recording or a numpy array, not {type(source).__name__}")
    if sample_rate_hz is None:
        raise ConfigError("an array of samples needs its sample rate: sample_rate_hz=...")
    if isinstance(sample_rate_hz, bool) or not hasattr(sample_rate_hz, "__index__"):
        raise ConfigError(f"sample_rate_hz {sample_rate_hz!r}: must be a whole number")
    if source.ndim not in (1, 2):
        raise AudioError(f"<array>: samples must have shape (n,) or (n, C), got {source.shape}", kind="rank")
    if source.ndim == 2 and source.shape[1] > max(32, source.shape[0]):
        raise AudioError(f"<array>: {source.shape} is shape (n, C) the wrong way round: transpose it", kind="rank")
    frames = scaled(source if source.ndim == 2 else source[:, None])
    if not frames.shape[1]:
        raise AudioError(f"<array>: samples of shape {source.shape} have no channel", kind="empty")
    return Recording(np.ascontiguousarray(mono(frames)), operator.index(sample_rate_hz))


def check_recording(recording: Recording) -> None:
    """Raise `AudioError` where the samples or the sample rate of a `Recording` cannot be used."""
    samples: Any = recording.samples
    if getattr(samples, "ndim", None) != 1:
        shape = getattr(samples, "shape", type(samples).__name__)
        how = "mix channels with samples.mean(axis=...)"
        raise AudioError(f"{recording.path}: samples must be mono, of shape (n,), got {shape}: {how}", kind="rank")
    if samples.dtype != np.float32:
        message = f"samples must be float32 in [-1, 1], got {samples.dtype}"
        raise AudioError(f"{recording.path}: {message}", kind="dtype")
    if recording.sample_rate_hz <= 0:
        message = f"sample_rate_hz must be above 0, got {recording.sample_rate_hz}"
        raise AudioError(f"{recording.path}: {message}", kind="rate")


def array_blocks(recording: Recording) -> Generator[tuple[int, Float32], None, None]:
    """Yield the sample rate and the next samples, until the recording ends."""
    for start in range(0, len(recording.samples), _BLOCK):
        yield recording.sample_rate_hz, np.ascontiguousarray(recording.samples[start : start + _BLOCK])
