"""Log-mel spectrograms, for the convolutional network.

Hann-windowed short-time Fourier transform without centring or padding, power, Slaney mel bands of equal area,
``10 * log10`` with a floor at 1e-10. The level is kept: nothing is normalised per segment, because loudness tells
arousal.
"""

from __future__ import annotations

import numpy as np

from emoseg.config import LogMelConfig, SegmentConfig
from emoseg.errors import ConfigError
from emoseg.frontends import spectral
from emoseg.types import Float32


class LogMel:
    """Segments of shape (B, n) to log-mel spectrograms of shape (B, bands, T), in dB.

    Parameters
    ----------
    config : LogMelConfig
    segment : SegmentConfig

    Raises
    ------
    ConfigError
        When the highest band lies above half the sample rate, a band is narrower than a bin of the transform, or a
        segment is shorter than one analysis window.

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
        # Power as the transform gives it, not relative to a sine: the usual scale of log-mel spectrograms.
        self._gain = np.float32((self._window.sum() / 2) ** 2)
        self._hop = config.hop
        self._length = segment.length
        self._shape = (config.bands, spectral.frame_count(segment.length, config.fft, config.hop))

    def shape(self) -> tuple[int, ...]:
        """Return (bands, T) of one segment."""
        return self._shape

    def __call__(self, segments: Float32) -> Float32:
        """Compute log-mel spectrograms.

        Parameters
        ----------
        segments : array, shape (B, n)
            Samples; n is the configured segment length.

        Returns
        -------
        array, shape (B, bands, T), float32, in dB; not below -100.

        Raises
        ------
        ConfigError
            When the segments have another length.
        """
        spectral.check_segments(segments, self._length, frontend=self.name)
        result = np.empty((len(segments), *self._shape), dtype=np.float32)
        # One segment at a time: what a segment gives cannot depend on its neighbours in the batch.
        for i, samples in enumerate(segments):
            power = spectral.power_spectrogram(np.ascontiguousarray(samples), self._window, self._hop)
            result[i] = spectral.decibel(spectral.mel_bands(power, self._filters) * self._gain)
        return result
