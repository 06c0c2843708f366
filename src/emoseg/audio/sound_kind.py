"""Distinguish speech, noise, test tones and silence from music, so that none of them is given an emotion.

The rules are conservative: what is not clearly one of the four counts as music. Noise and speech are measured between
100 Hz and 4 kHz, the band that a telephone transmits too.

- Silence: a segment whose level is below `SILENCE_DB`.
- Tone: one sinusoid that neither moves nor fades through the whole segment. No instrument plays one for 3 s without
  partials, decay or vibrato; generators do.
- Noise: stationary and without tones. The level of no band moves much, the long-term spectrum has no peaks, and the
  fine structure of the spectrum does not last for 35 ms.
- Speech: a logistic regression on seven measures of the kind that Scheirer and Slaney (1997) introduced: pauses
  between syllables (share of frames of low energy, spread of level), modulation at the rate of syllables (around
  4 Hz), spectral change, and the movement of partials, which stand still in played notes. Evidence is averaged over
  the neighbours within 3 s, because speech rarely lasts for one segment only. ``benchmarks/quality/sound_kind.py``
  fits the weights and measures the errors.

References
----------
E. Scheirer, M. Slaney. Construction and evaluation of a robust multifeature speech/music discriminator. ICASSP 1997.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise

import numpy as np

from emoseg.types import Float32, Float64

SILENCE_DB = -60.0
SPEECH_ODDS = 1.5
LEAST_MUSIC = 0.25
"""Share of music in the segments of a recording below which the recording gets no emotion."""
VERSION = 1
"""Rises whenever the numbers of `sound_evidence` change; part of the key of the feature store."""
MEASURES = ("pauses", "syllables", "level_spread", "standing_partials", "flux", "agreement", "centroid_spread")
"""Columns of `speech_measures`."""

_WEIGHTS = np.array([10.4, 7.1, 0.408, -4.42, 4.35, -4.20, -11.4])
_BIAS = -10.15
_STANDING = 0.55  # median persistence of partials that no voice reaches and plucked notes do
_NOISE_LEVEL_SPREAD_DB, _NOISE_PEAK_DB, _NOISE_PERSISTENCE = 1.7, 2.4, 0.04  # distorted guitars begin just above
_TONE_BLOCKS, _TONE_LEVEL_SPREAD_DB, _TONE_WIDTH_HZ, _TONE_SHARE = 12, 0.5, 2.0, 0.999
_MIN_SPEECH_S = 2.0  # shorter segments hold too few syllables
_NEIGHBOURS_S = 3.0
_ODDS_LIMIT = 8.0
_LOW_HZ, _HIGH_HZ = 100.0, 4000.0
_BANDS = 8
_TINY = 1e-14


def sound_evidence(segments: Float32, sample_rate_hz: int) -> Float64:
    """Return the evidence for each kind of sound, segment by segment, as `sound_kinds` needs it.

    Parameters
    ----------
    segments : array, shape (B, n)
    sample_rate_hz : int
        At least 8000.

    Returns
    -------
    array, shape (B, 4)
        Log odds of speech (limited to ±8), whether it is noise, whether it is silence, whether it is a tone (0 or 1).
    """
    return np.array([_evidence(samples, sample_rate_hz) for samples in segments]).reshape(-1, 4)


def sound_kinds(evidence: Float64, start_s: Float64, *, labels: Collection[str] = ()) -> tuple[str, ...]:
    """Return ``"music"``, ``"speech"``, ``"noise"``, ``"tone"`` or ``"silence"`` for each segment of one recording.

    Training, evaluation and analysis all use this function, so that they drop the same segments.

    Parameters
    ----------
    evidence : array, shape (S, 4)
        From `sound_evidence`, all segments in order.
    start_s : array, shape (S,)
        Starts of the segments in seconds, ascending.
    labels : collection of str
        Labels of the emotion space. A kind that is also a label counts as music: the model decides about it.
    """
    first = np.searchsorted(start_s, start_s - _NEIGHBOURS_S - 1e-9)
    last = np.searchsorted(start_s, start_s + _NEIGHBOURS_S + 1e-9, side="right")
    speech = np.array([evidence[a:b, 0].mean() for a, b in zip(first, last, strict=True)]) > SPEECH_ODDS
    kinds = np.where(speech, "speech", "music")
    kinds = np.where(evidence[:, 1] > 0, "noise", kinds)
    kinds = np.where(evidence[:, 3] > 0, "tone", kinds)
    kinds = np.where(evidence[:, 2] > 0, "silence", kinds)
    return tuple("music" if kind in labels else kind for kind in kinds.tolist())


def recording_kind(kinds: Sequence[str]) -> str:
    """Return ``"music"`` where at least a quarter of the segments are music, else the most frequent other kind.

    Parameters
    ----------
    kinds : sequence of str, length S
        From `sound_kinds`; S is at least 1.
    """
    others = Counter(kind for kind in kinds if kind != "music")
    if len(kinds) - others.total() >= LEAST_MUSIC * len(kinds):
        return "music"
    return others.most_common(1)[0][0]


def _evidence(samples: Float32, rate: int) -> tuple[float, bool, bool, bool]:
    level_db = 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + _TINY)
    if level_db < SILENCE_DB:
        return -_ODDS_LIMIT, False, True, False
    if _is_tone(samples, rate):
        return -_ODDS_LIMIT, False, False, True
    power, hz, frame_rate = _spectra(samples, rate)
    loudness = power.sum(axis=1) + _TINY
    persistence = _persistence(power, loudness, round(0.035 * frame_rate))
    if _is_noise(power, persistence):
        return -_ODDS_LIMIT, True, False, False
    if len(samples) < _MIN_SPEECH_S * rate or persistence > _STANDING:
        return -_ODDS_LIMIT, False, False, False
    odds = float(_measures(power, hz, frame_rate, loudness, persistence) @ _WEIGHTS + _BIAS)
    return float(np.clip(odds, -_ODDS_LIMIT, _ODDS_LIMIT)), False, False, False


def speech_measures(samples: Float32, sample_rate_hz: int) -> Float64:
    """Return the seven `MEASURES` of one segment that is not silent, of shape (n,)."""
    power, hz, frame_rate = _spectra(samples, sample_rate_hz)
    loudness = power.sum(axis=1) + _TINY
    return _measures(power, hz, frame_rate, loudness, _persistence(power, loudness, round(0.035 * frame_rate)))


def _spectra(samples: Float32, rate: int) -> tuple[Float64, Float64, float]:
    """Return power of shape (T, F) in windows of 46 ms, the frequencies, and the number of frames per second."""
    length, hop = round(0.0464 * rate), round(0.0116 * rate)
    if len(samples) < 5 * length:
        samples = np.resize(samples, 5 * length)
    frames = np.lib.stride_tricks.sliding_window_view(samples, length)[::hop]
    hz = np.arange(length // 2 + 1) * rate / length
    used = (hz >= _LOW_HZ) & (hz <= _HIGH_HZ)
    spectrum = np.fft.rfft(frames * np.hanning(length), axis=1)[:, used]
    return np.square(np.abs(spectrum)), hz[used], rate / hop


def _smoothed(values: Float64, width: int) -> Float64:
    """Return the running mean over `width` (odd) neighbours along the last axis, the ends repeated."""
    pad = [(0, 0)] * (values.ndim - 1) + [(width // 2 + 1, width // 2)]
    total = np.cumsum(np.pad(values, pad, mode="edge"), axis=-1)
    return (total[..., width:] - total[..., :-width]) / width


def _persistence(power: Float64, loudness: Float64, lag: int) -> float:
    """Return how much of the fine structure of the spectrum is still there `lag` frames later.

    It is the median correlation over loud frames: 1 for partials that stand still, near 0 for noise.
    """
    lag = max(1, lag)
    logs = np.log(power + 1e-6 * power.mean() + _TINY)
    fine = logs - _smoothed(logs, 9)
    before, after = fine[:-lag], fine[lag:]
    norm = np.sqrt((before**2).sum(axis=1) * (after**2).sum(axis=1)) + 1e-9
    loud = loudness > 0.1 * loudness.mean()
    both = loud[:-lag] & loud[lag:]
    return float(np.median(((before * after).sum(axis=1) / norm)[both])) if both.any() else 0.0


def _is_tone(samples: Float32, rate: int) -> bool:
    blocks = samples[: len(samples) // _TONE_BLOCKS * _TONE_BLOCKS].reshape(_TONE_BLOCKS, -1).astype(np.float64)
    if (10 * np.log10(np.square(blocks).mean(axis=1) + _TINY)).std() > _TONE_LEVEL_SPREAD_DB:
        return False
    power = np.square(np.abs(np.fft.rfft(np.hanning(len(samples)) * (samples - samples.mean(dtype=np.float64)))))
    peak, reach = int(power.argmax()), max(3, round(_TONE_WIDTH_HZ * len(samples) / rate))
    return bool(power[max(0, peak - reach) : peak + reach + 1].sum() > _TONE_SHARE * power.sum())


def _is_noise(power: Float64, persistence: float) -> bool:
    if persistence >= _NOISE_PERSISTENCE:
        return False
    bands = np.stack([part.mean(axis=1) for part in np.array_split(power, 6, axis=1)], axis=1)
    audible = bands.mean(axis=0) > 1e-5 * bands.mean()
    spread = np.median((10 * np.log10(bands + _TINY)).std(axis=0)[audible])
    if spread >= _NOISE_LEVEL_SPREAD_DB:
        return False
    long_term = 10 * np.log10(power.mean(axis=0) + _TINY)
    peaks = (long_term - _smoothed(long_term, 31))[long_term > long_term.max() - 60]
    return float(np.quantile(peaks, 0.99)) < _NOISE_PEAK_DB


def _measures(power: Float64, hz: Float64, frame_rate: float, loudness: Float64, persistence: float) -> Float64:
    root = np.sqrt(loudness)
    edges = np.geomspace(_LOW_HZ, _HIGH_HZ * 1.001, _BANDS + 1)
    bands = np.stack([power[:, (hz >= a) & (hz < b)].sum(axis=1) for a, b in pairwise(edges)], axis=1)
    levels = 10 * np.log10(bands + 1e-7 * bands.mean() + _TINY)
    level = 10 * np.log10(loudness + 1e-4 * loudness.mean())
    loud = loudness > 0.1 * loudness.mean()
    centroid = (power * hz).sum(axis=1) / loudness
    low, high = levels[:, :5].mean(axis=1), levels[:, 6:].mean(axis=1)
    together = np.corrcoef(low, high)[0, 1] if low.std() * high.std() > 0 else 1.0
    return np.array(
        [
            (root < 0.5 * root.mean()).mean(),
            _syllable_share(np.sqrt(bands), frame_rate),
            level.std(),
            persistence,
            np.abs(np.diff(levels, axis=0)).mean(),
            together,
            np.log(np.maximum(centroid[loud], _LOW_HZ)).std(),
        ]
    )


def _syllable_share(envelopes: Float64, frame_rate: float) -> float:
    """Return the share of modulation between 0.6 and 25 Hz that lies between 2.5 and 8 Hz, all bands together."""
    centred = (envelopes - envelopes.mean(axis=0)) * np.hanning(len(envelopes))[:, None]
    energy = np.square(np.abs(np.fft.rfft(centred, axis=0))).sum(axis=1)
    hz = np.arange(len(energy)) * frame_rate / len(envelopes)
    whole = energy[(hz >= 0.6) & (hz < 25)].sum()
    return float(energy[(hz >= 2.5) & (hz < 8)].sum() / (whole + _TINY))
