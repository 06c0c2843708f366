"""The frontend ``logmel``: log-mel spectrograms, for the convolutional network.

The steps are a short-time Fourier transform with a Hann window, without centring or padding; the power; Slaney's mel
bands of equal area; and ``10 * log10`` with a floor at 1e-10. Segments are not normalised, because loudness is
informative of arousal.
"""

from __future__ import annotations

import numpy as np

from emoseg.config import LogMelConfig, SegmentConfig
from emoseg.errors import ConfigError
from emoseg.frontends import spectral
from emoseg.types import Float32


class LogMel:
    """Computes log-mel spectrograms of segments.

    Parameters
    ----------
    config : LogMelConfig
        Transform, hop and bands.
    segment : SegmentConfig
        Sample rate and length of the segments.

    Raises
    ------
    ConfigError
        The highest band ends above half the sample rate, a band is so narrow that it has no bin of the transform, or a
        segment is shorter than the window.

    References
    ----------
    Slaney, M. (1998). Auditory Toolbox, version 2. Technical report 1998-010, Interval Research Corporation.
    """

    name = "logmel"
    version = 1
    settings_class = LogMelConfig
    feature_names: tuple[str, ...] | None = None

    def __init__(self, config: LogMelConfig, segment: SegmentConfig) -> None:
        nyquist_hz = segment.sample_rate_hz / 2
        if config.fmax_hz > nyquist_hz:
            raise ConfigError(f"logmel: fmax_hz {config.fmax_hz} is above half the sample rate, {nyquist_hz} Hz")
        if segment.length < config.fft:
            raise ConfigError(f"logmel: a segment of {segment.length} samples is shorter than fft {config.fft}")
        edges_hz = spectral.mel_edges(config.bands, config.fmin_hz, config.fmax_hz)
        self._filters = spectral.mel_filters(segment.sample_rate_hz, config.fft, edges_hz, equal_area=True)
        if (np.diff(self._filters.indptr) == 0).any():
            raise ConfigError(f"logmel: {config.bands} bands are too many for fft {config.fft}: a band has no bin")
        self._window = spectral.hann(config.fft)
        # Undoes the scaling by the window, because log-mel spectrograms usually have the power of the plain transform.
        self._gain = np.float32((self._window.sum() / 2) ** 2)
        self._hop = config.hop
        self._length = segment.length
        self._shape = (config.bands, spectral.frame_count(segment.length, config.fft, config.hop))

    def shape(self) -> tuple[int, ...]:
        """Return (bands, T), the shape of one segment's features."""
        return self._shape

    def __call__(self, segments: Float32) -> Float32:
        """Return log-mel spectrograms of segments in dB, at least -100, float32, shape (B, bands, T).

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
        power = spectral.power_spectrogram(samples, self._window, self._hop)
        return spectral.decibel(spectral.mel_bands(power, self._filters) * self._gain)
