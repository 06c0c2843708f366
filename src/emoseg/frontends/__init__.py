"""Features of segments, computed by the same code in training and analysis.

`build_frontend` returns the frontend that settings name: `logmel` for the convolutional network, `descriptors` and
`compare` (openSMILE, an extra) for the multilayer perceptron, or one from another package. `FRONTENDS` is their
registry; docs/frontends.md shows how to add one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from emoseg.config import FRONTENDS, FrontendSettings, SegmentConfig
from emoseg.errors import AudioError
from emoseg.types import Float32

__all__ = ["FRONTENDS", "Frontend", "build_frontend", "compute_features", "require_finite"]


class Frontend(Protocol):
    """Computes the features of segments.

    A frontend is a class with a class attribute `settings_class`, a subclass of `emoseg.config.FrontendSettings`. It is
    called with these settings and a `SegmentConfig`.

    Attributes
    ----------
    name : str
        As in the settings.
    version : int
        Rises whenever numbers change. It is part of the key of the feature store, and a model folder is refused by
        another version.
    feature_names : tuple of str, or None
        One name per feature where features are a vector.
    """

    name: str
    version: int
    feature_names: tuple[str, ...] | None

    def shape(self) -> tuple[int, ...]:
        """Return the shape of one segment's features: (F,) for the perceptron, (bands, T) for the convolutional net."""
        ...

    def __call__(self, segments: Float32) -> Float32:
        """Return the features of segments of shape (B, n): an array of shape (B, *shape()), float32, finite.

        The features of a segment must not depend on the other segments of its batch.
        """
        ...


def build_frontend(config: FrontendSettings, segment: SegmentConfig) -> Frontend:
    """Return the frontend that settings name.

    Parameters
    ----------
    config : FrontendSettings
        Settings of one frontend, such as `LogMelConfig`.
    segment : SegmentConfig
        Sample rate and length of the segments that it will be given.

    Raises
    ------
    ConfigError
        No frontend has the name, or its settings do not fit the sample rate or the length.
    MissingExtraError
        The package that the frontend needs is not installed.
    """
    frontend: Frontend = FRONTENDS[config.name](config, segment)
    return frontend


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
