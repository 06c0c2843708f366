"""The frontend ``descriptors``: statistics of timbre, dynamics, rhythm and harmony, for the multilayer perceptron.

All families are computed from two short-time Fourier transforms: one of ``fft`` samples for timbre and rhythm, and one
four times as long for pitch and harmony, which separates neighbouring notes. Logarithms are taken of quantities that
span decades, and heavy tails are compressed, so that the network only needs to standardise its inputs. Segments are not
normalised in level, because loudness is informative of arousal.
"""

from __future__ import annotations

import numpy as np

from emoseg.config import DescriptorsConfig, SegmentConfig
from emoseg.errors import ConfigError
from emoseg.frontends import spectral
from emoseg.frontends.descriptors import pitch
from emoseg.frontends.descriptors.dynamics import describe_dynamics
from emoseg.frontends.descriptors.harmony import describe_harmony
from emoseg.frontends.descriptors.percussion import describe_percussion
from emoseg.frontends.descriptors.rhythm import describe_rhythm
from emoseg.frontends.descriptors.summaries import Blocks, flatten
from emoseg.frontends.descriptors.texture import describe_texture
from emoseg.frontends.descriptors.timbre import describe_timbre
from emoseg.types import Float32

_BANDS = 40
_LOWEST_HZ, _HIGHEST_HZ = 30.0, 11025.0
_FRAMES_AT_LEAST = 16
_SPAN_AT_LEAST_S = 0.3
_HOP_AT_MOST_S = 0.1
_RHYTHM_FLOOR_DB = -70.0


class Descriptors:
    """Computes the D descriptors of segments; `feature_names` has their names.

    Parameters
    ----------
    config : DescriptorsConfig
        Transform and hop.
    segment : SegmentConfig
        Sample rate and length of the segments.

    Raises
    ------
    ConfigError
        A segment has fewer than 16 frames or its frames cover less than 0.3 s, or the hop is longer than 0.1 s.
    """

    name = "descriptors"
    version = 1
    settings_class = DescriptorsConfig

    def __init__(self, config: DescriptorsConfig, segment: SegmentConfig) -> None:
        _check_frames(config, segment)
        rate, fft, hop = segment.sample_rate_hz, config.fft, config.hop
        self._rate, self._fft, self._hop, self._length = rate, fft, hop, segment.length
        self._window = spectral.hann(fft)
        self._frequency_hz = np.arange(fft // 2 + 1, dtype=np.float64) * (rate / fft)
        edges_hz = spectral.mel_edges(_BANDS, _LOWEST_HZ, min(_HIGHEST_HZ, rate / 2))
        self._filters = spectral.mel_filters(rate, fft, edges_hz)
        # The long window is shortened for short segments, so that there are at least three frames.
        self._long_hop = 4 * hop
        self._long_window = spectral.hann(min(4 * fft, segment.length - 2 * self._long_hop))
        bins = len(self._long_window) // 2 + 1
        self._long_frequency_hz = np.arange(bins, dtype=np.float64) * (rate / len(self._long_window))
        names, _ = flatten(self._describe(np.zeros(segment.length, dtype=np.float32)))
        self.feature_names: tuple[str, ...] | None = names
        self._shape = (len(names),)

    def shape(self) -> tuple[int, ...]:
        """Return (D,), the shape of one segment's features."""
        return self._shape

    def __call__(self, segments: Float32) -> Float32:
        """Return the descriptors of segments, float32, shape (B, D), in the order of `feature_names`.

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
        return spectral.compute_each(
            segments, self._length, self._shape, lambda samples: flatten(self._describe(samples))[1], frontend=self.name
        )

    def _describe(self, samples: Float32) -> Blocks:
        framed = spectral.frames(samples, self._fft, self._hop)
        power = spectral.power_spectrogram(samples, self._window, self._hop)
        mel_db = spectral.decibel(spectral.mel_bands(power, self._filters))
        audible_db = np.maximum(mel_db, np.float32(_RHYTHM_FLOOR_DB))
        long_power = spectral.power_spectrogram(samples, self._long_window, self._long_hop)
        peaks = pitch.spectral_peaks(long_power, self._rate / len(self._long_window))
        tuned = pitch.tuning(peaks)
        notes = pitch.note_spectrum(peaks, tuned[0])
        return {
            **describe_timbre(framed, power, mel_db, self._frequency_hz),
            **describe_dynamics(samples, framed, power, self._frequency_hz, self._rate),
            **describe_rhythm(audible_db, self._rate / self._hop),
            **describe_percussion(power, self._frequency_hz),
            **describe_texture(samples, self._rate, audible_db, long_power, self._long_frequency_hz),
            **pitch.describe_pitch(peaks, notes, tuned, long_power),
            **describe_harmony(notes),
        }


def _check_frames(config: DescriptorsConfig, segment: SegmentConfig) -> None:
    hop_s = config.hop / segment.sample_rate_hz
    if hop_s > _HOP_AT_MOST_S:
        raise ConfigError(f"descriptors: hop {config.hop} is {hop_s:.3f} s; at most {_HOP_AT_MOST_S} s follow a rhythm")
    count = spectral.frame_count(segment.length, config.fft, config.hop)
    if count < _FRAMES_AT_LEAST or (count - 1) * hop_s < _SPAN_AT_LEAST_S:
        raise ConfigError(
            f"descriptors: a segment of {segment.length_s} s gives {count} frames of fft {config.fft} and hop "
            f"{config.hop}; at least {_FRAMES_AT_LEAST} frames over {_SPAN_AT_LEAST_S} s are needed"
        )
