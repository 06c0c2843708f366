"""Silence, noise and speech against music: synthesised sounds of each, and real songs where they are at hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import lfilter

from emoseg.audio.reader import SegmentReader
from emoseg.audio.sound_kind import MEASURES, recording_kind, sound_evidence, sound_kinds, speech_measures
from emoseg.config import SegmentConfig
from emoseg.synthesis.sound import compose
from emoseg.types import Float32, Float64, Recording

RATE = 22050


def kinds(samples: Float32, rate: int = RATE, *, hop_s: float = 3.0) -> tuple[str, ...]:
    segment = SegmentConfig(sample_rate_hz=rate, hop_s=hop_s, min_duration_s=0.1)
    batches = list(SegmentReader(Recording(samples, rate), segment=segment, batch=5))
    evidence = np.concatenate([sound_evidence(batch.samples, rate) for batch in batches])
    return sound_kinds(evidence, np.concatenate([batch.start_s for batch in batches]))


def noise(seconds: float, *, slope: float = 0.0, rate: int = RATE, level: float = 0.05, seed: int = 0) -> Float32:
    """Stationary noise whose power falls with frequency to the power of `slope`."""
    n = round(seconds * rate)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(n))
    sound = np.fft.irfft(spectrum * np.maximum(np.arange(len(spectrum)), 20) ** (-slope / 2), n)
    return np.asarray(level * sound / sound.std(), dtype=np.float32)


# Resonances of vowels (Peterson and Barney 1952, men).
VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410))


def speech(seconds: float, *, seed: int = 0, rate: int = RATE, pitch_hz: float = 115.0) -> Float32:
    """Syllables of formant synthesis: a gliding glottal pulse train through three resonances, hisses, and pauses."""
    rng = np.random.default_rng(seed)
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < seconds * rate:
        for _ in range(int(rng.integers(5, 9))):
            n = int(rng.uniform(0.1, 0.2) * rate)
            start, stop = rng.uniform(-0.25, 0.25, 2)
            glide = pitch_hz * np.exp(np.linspace(start, stop, n))
            phase = np.cumsum(glide) / rate
            sound = np.diff(np.floor(phase), prepend=0) + 0.01 * rng.standard_normal(n)
            first, last = VOWELS[rng.integers(5)], VOWELS[rng.integers(5)]
            for low, high, width in zip(first, last, (80, 100, 120), strict=True):
                # The resonance moves half way: a diphthong.
                sound = np.concatenate(
                    [
                        _resonate(part, hz, width, rate)
                        for part, hz in zip(np.array_split(sound, 2), (low, high), strict=True)
                    ]
                )
            parts.append(np.hanning(n) * sound / np.abs(sound).max())
            hiss = rng.standard_normal(int(rng.uniform(0.04, 0.09) * rate))
            parts.append(0.06 * np.hanning(len(hiss)) * np.diff(hiss, prepend=0))
            parts.append(np.zeros(int(rng.uniform(0.02, 0.06) * rate)))
        parts.append(np.zeros(int(rng.uniform(0.25, 0.5) * rate)))
    sound = np.concatenate(parts)[: round(seconds * rate)]
    return np.asarray(0.4 * sound + 1e-4 * rng.standard_normal(len(sound)), dtype=np.float32)


def _resonate(sound: np.ndarray, hz: float, width_hz: float, rate: int) -> np.ndarray:
    radius = np.exp(-np.pi * width_hz / rate)
    return np.asarray(lfilter([1 - radius], [1, -2 * radius * np.cos(2 * np.pi * hz / rate), radius**2], sound))


@pytest.mark.parametrize("level", [0.0, 1e-5, 5e-4])
def test_silence_is_what_is_below_60_db(level: float) -> None:
    hush = noise(6, level=level) if level else np.zeros(6 * RATE, dtype=np.float32)
    sound = np.concatenate([noise(3, level=0.05), hush])
    assert kinds(sound) == ("noise", "silence", "silence")


def test_quiet_music_is_not_silence() -> None:
    song, _ = compose(np.random.default_rng(1), label="Q3", duration_s=9)
    quiet = np.asarray(song * (0.003 / song.std()), dtype=np.float32)  # -50 dBFS
    assert set(kinds(quiet)) == {"music"}


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("rate", [8000, 22050, 44100])
def test_stationary_noise_of_any_colour_is_noise(slope: float, rate: int) -> None:
    assert set(kinds(noise(9, slope=slope, rate=rate), rate)) == {"noise"}


def test_noise_with_a_tone_is_not_noise() -> None:
    tone = 0.02 * np.sin(2 * np.pi * 440 * np.arange(9 * RATE) / RATE)
    assert "noise" not in kinds(np.asarray(noise(9) + tone, dtype=np.float32))


@pytest.mark.parametrize("hz", [50.0, 440.0, 3000.0])
def test_a_sinusoid_that_never_moves_is_a_tone(hz: float) -> None:
    t = np.arange(10 * RATE) / RATE
    assert set(kinds(np.asarray(0.1 * np.sin(2 * np.pi * hz * t) + 0.2, dtype=np.float32))) == {"tone"}


@pytest.mark.parametrize(
    "change",
    [
        lambda tone, t: tone + 0.05 * np.sin(2 * np.pi * 880 * t),  # a partial
        lambda tone, t: tone * np.exp(-t),  # decay
        lambda tone, t: tone * (1 + 0.3 * np.sin(2 * np.pi * 5 * t)),  # tremolo
        lambda tone, t: np.sin(2 * np.pi * 440 * t + 5 * np.sin(2 * np.pi * 5 * t)),  # vibrato
        lambda tone, t: np.where(t % 0.5 < 0.45, tone, 0),  # notes
        lambda tone, t: np.where(t % 2 < 1, tone, np.sin(2 * np.pi * 550 * t)),  # a melody
    ],
    ids=["partial", "decay", "tremolo", "vibrato", "notes", "melody"],
)
def test_what_moves_is_no_tone(change: Callable[[Float64, Float64], Float64]) -> None:
    t = np.arange(3 * RATE) / RATE
    sound = change(np.sin(2 * np.pi * 440 * t), t)
    assert "tone" not in kinds(np.asarray(0.3 * sound, dtype=np.float32))


@pytest.mark.parametrize(("pitch_hz", "rate"), [(115.0, 8000), (115.0, 22050), (100.0, 16000)])
def test_speech_is_speech(pitch_hz: float, rate: int) -> None:
    assert set(kinds(speech(18, rate=rate, pitch_hz=pitch_hz, seed=1), rate)) == {"speech"}


def test_speech_is_distinguished_from_the_music_that_follows_and_at_a_finer_hop() -> None:
    song, _ = compose(np.random.default_rng(4), label="Q1", duration_s=18)
    sound = np.concatenate([speech(18), song])
    found = kinds(sound)
    assert found[:5] == ("speech",) * 5
    assert found[7:] == ("music",) * 5
    fine = kinds(sound, hop_s=1.0)
    assert set(fine[:14]) == {"speech"}
    assert set(fine[22:]) == {"music"}


@pytest.mark.parametrize("label", ["Q1", "Q2", "Q3", "Q4"])
def test_composed_songs_are_music(label: str) -> None:
    for seed in range(3):
        song, _ = compose(np.random.default_rng(seed), label=label, duration_s=15)
        assert set(kinds(song)) == {"music"}


def test_fast_plucked_notes_are_music() -> None:
    """A solo of short notes has the pauses of speech, but its partials stand still."""
    rng, parts = np.random.default_rng(2), []
    for _ in range(120):
        n = int(0.15 * RATE)
        t = np.arange(n) / RATE
        hz = 196 * 2 ** (rng.integers(0, 24) / 12)
        parts.append(sum(np.sin(2 * np.pi * hz * h * t) / h for h in range(1, 7)) * np.exp(-18 * t))
    assert set(kinds(np.asarray(0.2 * np.concatenate(parts), dtype=np.float32))) == {"music"}


def test_a_very_short_segment_is_never_called_speech() -> None:
    evidence = sound_evidence(speech(9).reshape(-1, RATE), RATE)
    assert set(sound_kinds(evidence, np.arange(9.0))) == {"music"}


def test_evidence_does_not_depend_on_the_batch() -> None:
    segments = np.concatenate([speech(6), noise(6)]).reshape(4, -1)
    together = sound_evidence(segments, RATE)
    assert together.shape == (4, 4)
    np.testing.assert_array_equal(together, np.concatenate([sound_evidence(s[None], RATE) for s in segments]))


def test_measures_have_their_names() -> None:
    values = dict(zip(MEASURES, speech_measures(speech(3), RATE), strict=True))
    steady = dict(zip(MEASURES, speech_measures(noise(3), RATE), strict=True))
    assert values["pauses"] > 0.2 > steady["pauses"] == 0
    assert values["syllables"] > steady["syllables"]
    assert values["level_spread"] > 8 > 2 > steady["level_spread"]
    assert abs(steady["standing_partials"]) < 0.05


@pytest.mark.data
@pytest.mark.skipif("EMOSEG_DATA" not in os.environ, reason="EMOSEG_DATA is not set")
def test_real_music_is_music() -> None:
    songs = sorted(Path(os.environ["EMOSEG_DATA"], "MER_audio_taffc_dataset").glob("Q?/*.mp3"))[::24]
    found: list[str] = []
    for song in songs:
        batches = list(SegmentReader(song, segment=SegmentConfig()))
        evidence = np.concatenate([sound_evidence(batch.samples, RATE) for batch in batches])
        found += sound_kinds(evidence, np.concatenate([batch.start_s for batch in batches]))
    assert len(found) > 250
    assert sum(kind != "music" for kind in found) < 0.02 * len(found)


# --- from evidence to kinds, and from kinds to the recording ----------------------------------------------------------


def times(*starts_s: float) -> Float64:
    return np.array(starts_s, dtype=np.float64)


def evidence_of(odds: list[float], **flags: list[int]) -> Float64:
    """Return evidence with such log odds of speech, and flags at the segments that are listed."""
    evidence = np.zeros((len(odds), 4))
    evidence[:, 0] = odds
    for column, name in enumerate(("noise", "silence", "tone"), start=1):
        evidence[flags.get(name, []), column] = 1
    return evidence


def test_speech_is_decided_by_the_mean_odds_within_three_seconds() -> None:
    start_s = times(0, 3, 6, 9, 12)
    assert sound_kinds(evidence_of([0, 0, 4.6, 0, 0]), start_s) == ("music", "speech", "speech", "speech", "music")
    assert sound_kinds(evidence_of([0, 0, 4.5, 0, 0]), start_s) == ("music",) * 5, "1.5 is not above 1.5"
    assert sound_kinds(evidence_of([0, 0, 4.6, 0, 0]), np.linspace(0, 12.4, 5)) == (
        "music",
        "music",
        "speech",
        "music",
        "music",
    )
    assert sound_kinds(evidence_of([1.6, 1.4]), times(0, 3.5)) == ("speech", "music")


def test_silence_comes_before_tone_tone_before_noise_and_noise_before_speech() -> None:
    evidence = evidence_of([8, 8, 8, 8], noise=[1, 2, 3], tone=[2, 3], silence=[3])
    assert sound_kinds(evidence, times(0, 3, 6, 9)) == ("speech", "noise", "tone", "silence")
    assert sound_kinds(evidence, times(0, 3, 6, 9), labels=("tone", "speech")) == (
        "music",
        "noise",
        "music",
        "silence",
    )


@pytest.mark.parametrize(
    ("kinds", "kind"),
    [
        (["music"], "music"),
        (["speech"], "speech"),
        (["music", "speech", "speech", "speech"], "music"),
        (["music", "speech", "speech", "speech", "noise"], "speech"),
        (["music", "noise", "speech", "noise", "tone"], "noise"),
        (["silence"] * 7 + ["music"] * 2, "silence"),
    ],
)
def test_a_recording_is_music_where_a_quarter_of_it_is(kinds: list[str], kind: str) -> None:
    assert recording_kind(kinds) == kind
