"""Segments to features, in numpy and scipy (or openSMILE), so that training and analysis cannot drift apart.

`build_frontend` makes the frontend that a configuration names: `logmel` for the convolutional network, `descriptors`
and `compare` (openSMILE, an extra) for the multilayer perceptron.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from emoseg.config import CompareConfig, FrontendConfig, LogMelConfig, SegmentConfig
from emoseg.errors import AudioError
from emoseg.frontends.compare import Compare
from emoseg.frontends.descriptors.frontend import Descriptors
from emoseg.frontends.logmel import LogMel
from emoseg.types import Float32

__all__ = ["Compare", "Descriptors", "Frontend", "LogMel", "build_frontend", "compute_features"]


class Frontend(Protocol):
    """What turns segments into features.

    Attributes
    ----------
    name : str
        As in the configuration.
    version : int
        Rises whenever numbers change; part of the key of the feature store.
    feature_names : tuple of str, or None
        One name per feature where features are a vector.
    """

    name: str
    version: int
    feature_names: tuple[str, ...] | None

    def shape(self) -> tuple[int, ...]:
        """Return the shape of one segment's features."""
        ...

    def __call__(self, segments: Float32) -> Float32:
        """Compute features, (B, n) samples to (B, *shape()), float32, always finite.

        A segment's features are the same bytes in whatever batch it comes.
        """
        ...


def build_frontend(config: FrontendConfig, segment: SegmentConfig) -> Frontend:
    """Make the frontend of a configuration.

    Parameters
    ----------
    config : LogMelConfig, DescriptorsConfig or CompareConfig
    segment : SegmentConfig
        Sample rate and length of the segments that it will be given.

    Raises
    ------
    ConfigError
        When the frontend's settings do not fit the sample rate or the length.
    MissingExtraError
        When the package that the frontend needs is not installed.
    """
    if isinstance(config, LogMelConfig):
        return LogMel(config, segment)
    return Compare(config, segment) if isinstance(config, CompareConfig) else Descriptors(config, segment)


def compute_features(frontends: Sequence[Frontend], samples: Float32) -> dict[str, Float32]:
    """Return the features of a batch of segments by the name of the frontend, each of shape (B, ...), all finite.

    Parameters
    ----------
    frontends : sequence of Frontend
    samples : array, shape (B, n)

    Raises
    ------
    AudioError
        A frontend gives a number that is not finite (``"nonfinite"``), as of sound that is far too loud.
    """
    found = {}
    for frontend in frontends:
        with np.errstate(all="ignore"):  # what overflows shows in the result
            features = frontend(samples)
        require_finite(features, frontend)
        found[frontend.name] = features
    return found


def require_finite(features: NDArray[np.floating], frontend: Frontend) -> None:
    """Raise `AudioError` (``"nonfinite"``) where features, shape (B, ...), hold a number that is not finite."""
    finite = np.isfinite(features)
    if finite.all():
        return
    names = frontend.feature_names
    which = f": {names[int(np.argwhere(~finite)[0, 1])]}" if names and features.ndim == 2 else ""
    raise AudioError(f"the frontend {frontend.name} gives a number that is not finite{which}", kind="nonfinite")
