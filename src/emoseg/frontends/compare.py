"""The frontend ``compare``: the ComParE 2016 functionals of openSMILE, a standard set of acoustic features.

openSMILE is free for research only; building the frontend warns of this. It needs the extra ``opensmile``.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec

import numpy as np

from emoseg.config import CompareConfig, SegmentConfig
from emoseg.errors import ConfigError, EmosegWarning, MissingExtraError
from emoseg.frontends import spectral
from emoseg.types import Float32

TERMS = "openSMILE (frontend compare) is for research and private use; commercial use needs a licence of audEERING"
_SHORTEST_S = 0.5


class LicenceWarning(EmosegWarning):
    """The licence of a package in use restricts what it may be used for."""


class Compare:
    """Computes the 6,373 ComParE 2016 functionals of segments.

    Parameters
    ----------
    config : CompareConfig
    segment : SegmentConfig
        Sample rate and length of the segments.

    Raises
    ------
    MissingExtraError
        The package opensmile is not installed.
    ConfigError
        A segment is shorter than half a second.

    Warns
    -----
    LicenceWarning
        openSMILE is for research and private use only.

    References
    ----------
    B. Schuller et al. The INTERSPEECH 2016 computational paralinguistics challenge. Interspeech 2016.
    F. Eyben, M. Wöllmer, B. Schuller. openSMILE. ACM Multimedia 2010.
    """

    name = "compare"
    version = 1
    settings_class = CompareConfig

    def __init__(self, config: CompareConfig, segment: SegmentConfig) -> None:
        if find_spec("opensmile") is None:
            raise MissingExtraError("the frontend compare", "opensmile")
        if segment.length_s < _SHORTEST_S:
            raise ConfigError(f"compare: a segment of {segment.length_s} s is too short; at least {_SHORTEST_S} s")
        import opensmile

        warnings.warn(TERMS, LicenceWarning, stacklevel=2)
        self._smile = opensmile.Smile(
            feature_set=opensmile.FeatureSet.ComParE_2016, feature_level=opensmile.FeatureLevel.Functionals
        )
        self._rate, self._length = segment.sample_rate_hz, segment.length
        self.feature_names: tuple[str, ...] | None = tuple(self._smile.feature_names)
        self._shape = (len(self.feature_names),)

    def shape(self) -> tuple[int, ...]:
        """Return (6373,), the shape of one segment's features."""
        return self._shape

    def __call__(self, segments: Float32) -> Float32:
        """Return the functionals of segments, float32, shape (B, 6373).

        Those that openSMILE cannot compute, such as the pitch of silence, are 0.

        Parameters
        ----------
        segments : array, shape (B, n)
            Samples; n is the configured segment length.

        Raises
        ------
        ConfigError
            The segments have another length.
        AudioError
            A sample is not finite.
        """
        return spectral.compute_each(segments, self._length, self._shape, self._compute, frontend=self.name)

    def _compute(self, samples: Float32) -> Float32:
        table = self._smile.process_signal(samples, self._rate)
        return np.nan_to_num(table.to_numpy(dtype=np.float32)[0], nan=0.0, posinf=0.0, neginf=0.0)
