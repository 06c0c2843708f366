"""Frontends against librosa where it has a counterpart, and by what must hold of known sounds elsewhere."""

from __future__ import annotations

from typing import Any

import librosa
import numpy as np
import pytest
from librosa.onset import onset_strength
from numpy.typing import NDArray

from emoseg.config import DescriptorsConfig, LogMelConfig, SegmentConfig
from emoseg.errors import AudioError, ConfigError
from emoseg.frontends import build_frontend, spectral
from emoseg.frontends.descriptors import dynamics, harmony, percussion, pitch, rhythm, texture, timbre
from emoseg.types import Float32

RATE = 22050
SEGMENT = SegmentConfig()
FREQUENCY_HZ = np.arange(1025, dtype=np.float64) * RATE / 2048


def tone(midi: float, *, seconds: float = 3.0, partials: int = 6) -> Float32:
    time = np.arange(round(seconds * RATE)) / RATE
    base = 440 * 2 ** ((midi - 69) / 12)
    return sum(np.sin(2 * np.pi * base * h * time + h) / h for h in range(1, partials + 1)).astype(np.float32)  # type: ignore[union-attr]


def chord(*notes: float) -> Float32:
    return np.asarray(0.1 * np.sum([tone(n) for n in notes], axis=0), dtype=np.float32)


def clicks(bpm: float) -> Float32:
    x = np.zeros(SEGMENT.length, dtype=np.float32)
    burst = np.random.default_rng(0).standard_normal(800) * np.exp(-np.arange(800) / 150)
    for start in np.arange(0.1, 2.9, 60 / bpm):
        x[round(start * RATE) :][:800] += (0.3 * burst).astype(np.float32)
    return x


def music(seed: int = 0) -> Float32:
    """A melody over chords with noise strokes: every descriptor has something to measure."""
    rng = np.random.default_rng(seed)
    x = chord(48, 55, 60, 64) * np.linspace(1, 0.3, SEGMENT.length)
    for i, note in enumerate(rng.choice([60, 62, 64, 65, 67, 69, 71], 12)):
        start, length = round(i * 0.25 * RATE), round(0.22 * RATE)
        x[start : start + length] += 0.15 * tone(note)[:length] * np.exp(-np.arange(length) / 3000)
    return (x + clicks(120) * 0.5 + 1e-3 * rng.standard_normal(len(x))).astype(np.float32)


@pytest.fixture(scope="module")
def descriptors() -> Any:
    return build_frontend(DescriptorsConfig(), SEGMENT)


def named(frontend: Any, samples: Float32) -> dict[str, float]:
    return dict(zip(frontend.feature_names, frontend(samples[None])[0].tolist(), strict=True))


def framed(samples: Float32) -> tuple[Float32, Float32]:
    power = spectral.power_spectrogram(samples, spectral.hann(2048), 512)
    return spectral.frames(samples, 2048, 512), power


def notes_of(samples: Float32) -> tuple[pitch.Peaks, NDArray[np.float64]]:
    peaks = pitch.spectral_peaks(spectral.power_spectrogram(samples, spectral.hann(8192), 2048), RATE / 8192)
    return peaks, pitch.note_spectrum(peaks, pitch.tuning(peaks)[0])


def classes_of(samples: Float32) -> NDArray[np.float64]:
    return np.asarray(harmony.pitch_classes(np.sqrt(notes_of(samples)[1])).mean(axis=0))


# Log-mel


@pytest.mark.parametrize(("bands", "fft", "hop"), [(64, 1024, 512), (96, 2048, 441)])
def test_logmel_equals_librosa(bands: int, fft: int, hop: int) -> None:
    samples = music()
    frontend = build_frontend(LogMelConfig(bands=bands, fft=fft, hop=hop), SEGMENT)
    mel = librosa.feature.melspectrogram(
        y=samples,
        sr=RATE,
        n_fft=fft,
        hop_length=hop,
        n_mels=bands,
        fmin=30,
        fmax=11025,
        htk=False,
        norm="slaney",
        center=False,
        power=2,
    )
    reference = librosa.power_to_db(mel, ref=1.0, amin=1e-10, top_db=None)
    estimate = frontend(samples[None])[0]
    assert estimate.shape == frontend.shape() == reference.shape
    np.testing.assert_allclose(estimate, reference, atol=1e-3)


def test_logmel_keeps_the_level() -> None:
    frontend = build_frontend(LogMelConfig(), SEGMENT)
    loud, soft = frontend(np.stack([music(), music() * np.float32(0.5)]))
    np.testing.assert_allclose(loud - soft, 20 * np.log10(2), atol=1e-3)


def test_logmel_of_silence_is_the_floor() -> None:
    silence = build_frontend(LogMelConfig(), SEGMENT)(np.zeros((1, SEGMENT.length), np.float32))
    np.testing.assert_allclose(silence, -100, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "segment", "message"),
    [
        (LogMelConfig(), SegmentConfig(sample_rate_hz=16000), "fmax_hz 11025.0 is above half the sample rate"),
        (LogMelConfig(fft=8192), SegmentConfig(length_s=0.25), "5512 samples is shorter than fft 8192"),
        (LogMelConfig(bands=256, fft=256), SEGMENT, "256 bands are too many for fft 256"),
        (DescriptorsConfig(), SegmentConfig(length_s=0.3), "gives 9 frames"),
        (DescriptorsConfig(hop=64), SegmentConfig(length_s=0.21), "over 0.3 s are needed"),
        (DescriptorsConfig(hop=4096), SEGMENT, "hop 4096 is 0.186 s"),
    ],
)
def test_settings_that_do_not_fit_are_refused(config: Any, segment: SegmentConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_frontend(config, segment)


# Both frontends


@pytest.mark.parametrize("config", [LogMelConfig(), DescriptorsConfig()])
def test_features_do_not_depend_on_the_batch(config: LogMelConfig | DescriptorsConfig) -> None:
    frontend = build_frontend(config, SEGMENT)
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((61, SEGMENT.length)).astype(np.float32) * 0.1
    segments = np.concatenate([[music(0), music(1), clicks(90)], noise])
    together = frontend(segments)
    alone = np.concatenate([frontend(segments[i : i + 1]) for i in range(len(segments))])
    assert together.tobytes() == alone.tobytes()
    assert together[:5].tobytes() == frontend(np.asfortranarray(segments[:5])).tobytes()
    assert frontend(segments[:0]).shape == (0, *frontend.shape())


@pytest.mark.parametrize("config", [LogMelConfig(), DescriptorsConfig()])
def test_wrong_segments_are_refused(config: LogMelConfig | DescriptorsConfig) -> None:
    frontend = build_frontend(config, SEGMENT)
    with pytest.raises(ConfigError, match=r"must have shape \(B, 66150\), got \(1, 66149\)"):
        frontend(np.zeros((1, SEGMENT.length - 1), np.float32))
    with pytest.raises(AudioError, match="not finite"):
        frontend(np.full((1, SEGMENT.length), np.nan, np.float32))


# Descriptors as a whole


@pytest.mark.parametrize("seconds", [0.5, 3.0])
@pytest.mark.parametrize("rate", [8000, 22050, 48000, 192000])
def test_degenerate_sounds_give_finite_features(rate: int, seconds: float, descriptors: Any) -> None:
    segment = SegmentConfig(sample_rate_hz=rate, length_s=seconds)
    config = DescriptorsConfig(fft=2048 if rate > 8000 else 1024, hop=512 if rate > 8000 else 128)
    frontend = build_frontend(config, segment)
    n = segment.length
    impulse = np.eye(1, n, n // 2)[0]
    noise = np.random.default_rng(0).standard_normal(n)
    segments = np.stack([np.zeros(n), np.ones(n), impulse, -impulse * 1e-7, np.sign(noise), np.resize([1, -1], n)])
    features = frontend(segments.astype(np.float32))
    assert np.isfinite(features).all()
    assert frontend.feature_names == descriptors.feature_names


def test_names_are_distinct_and_belong_to_a_family(descriptors: Any) -> None:
    names = descriptors.feature_names
    assert len(set(names)) == len(names) == descriptors.shape()[0]
    families = {"timbre", "dynamics", "rhythm", "percussion", "texture", "pitch", "harmony"}
    assert {name.split(".")[0] for name in names} == families


def test_every_descriptor_varies_between_sounds(descriptors: Any) -> None:
    noise = np.random.default_rng(0).standard_normal(SEGMENT.length).astype(np.float32) * 0.1
    features = descriptors(np.stack([music(0), music(1), noise, clicks(100), chord(40, 47)]))
    still = [n for n, v in zip(descriptors.feature_names, features.T, strict=True) if np.ptp(v) == 0]
    assert still == []


def test_gain_moves_levels_alone(descriptors: Any) -> None:
    noise = np.random.default_rng(3).standard_normal(SEGMENT.length) * 0.05
    sound = (music() + noise).astype(np.float32)
    loud, soft = named(descriptors, sound), named(descriptors, sound * np.float32(0.5))
    level = ("level.mean", "level.p", "overall", "peak.mean", "valley.mean", "mfcc.mean.0")
    drop = 20 * np.log10(2)
    for name in ("dynamics.level.mean", "dynamics.a_level.p10", "dynamics.overall"):
        assert loud[name] - soft[name] == pytest.approx(drop, abs=0.05)
    # The floors leave a trace in the quietest bins; nothing else may follow the gain.
    moved = {n: abs(loud[n] - soft[n]) for n in loud if not any(part in n for part in level)}
    assert max(moved.values()) < 0.5, max(moved, key=lambda n: moved[n])
    assert np.median(list(moved.values())) < 1e-3


def test_transposition_leaves_harmony_alone(descriptors: Any) -> None:
    low, high = named(descriptors, chord(60, 64, 67)), named(descriptors, chord(61, 65, 68))
    for name in low:
        if name.startswith("harmony."):
            assert low[name] == pytest.approx(high[name], abs=0.04), name
    assert high["pitch.melody.pitch.mean"] - low["pitch.melody.pitch.mean"] == pytest.approx(1 / 12, abs=1e-5)


# Timbre


def test_cepstrum_equals_librosa() -> None:
    mel_db = build_frontend(LogMelConfig(bands=40, fft=2048), SEGMENT)(music()[None])[0]
    reference = librosa.feature.mfcc(S=mel_db, n_mfcc=20)
    np.testing.assert_allclose(timbre.cepstrum(mel_db), reference, rtol=1e-5, atol=1e-3)


def test_spectral_shape_equals_librosa() -> None:
    _, power = framed(music())
    magnitude = np.sqrt(power)
    shape = timbre.spectral_shape(magnitude, FREQUENCY_HZ)
    args: dict[str, Any] = {"S": magnitude.T, "sr": RATE}
    np.testing.assert_allclose(shape["centroid"], librosa.feature.spectral_centroid(**args)[0], rtol=1e-3)
    np.testing.assert_allclose(shape["bandwidth"], librosa.feature.spectral_bandwidth(**args)[0], rtol=1e-3)
    bin_hz = RATE / 2048
    for percent in (25, 85):
        reference = librosa.feature.spectral_rolloff(**args, roll_percent=percent / 100)[0]
        np.testing.assert_allclose(shape[f"rolloff{percent}"], reference, atol=1.01 * bin_hz)
    flatness = 10 * np.log10(librosa.feature.spectral_flatness(S=magnitude.T, amin=1e-20)[0])
    np.testing.assert_allclose(shape["flatness"], flatness, atol=0.1)


def test_octave_contrast_follows_librosa() -> None:
    _, power = framed(music())
    magnitude = np.sqrt(power)
    peaks, valleys, _ = timbre.octave_contrast(magnitude, FREQUENCY_HZ)
    # librosa takes 10 * log10 of what it is given; the floor is ours.
    reference = librosa.feature.spectral_contrast(S=np.square(magnitude.T + 1e-5), sr=RATE, fmin=200.0, n_bands=6)
    # librosa shares a bin between neighbouring octaves, hence a correlation and not equality.
    for band in range(1, 6):
        assert np.corrcoef((peaks - valleys)[band], reference[band])[0, 1] > 0.95, band
    assert (peaks - valleys).mean() == pytest.approx(reference.mean(), rel=0.1)


def test_noise_is_flatter_than_a_tone() -> None:
    noise = np.random.default_rng(0).standard_normal(SEGMENT.length).astype(np.float32) * 0.1
    flat, peaked = (timbre.spectral_shape(np.sqrt(framed(x)[1]), FREQUENCY_HZ) for x in (noise, tone(69)))
    assert flat["flatness"].mean() > peaked["flatness"].mean() + 20
    assert flat["entropy"].mean() > 0.9 > 0.6 > peaked["entropy"].mean()


def test_zero_crossing_rate_equals_librosa() -> None:
    frames, _ = framed(music())
    reference = librosa.feature.zero_crossing_rate(music(), frame_length=2048, hop_length=512, center=False)[0]
    np.testing.assert_allclose(timbre.zero_crossing_rate(frames), reference, atol=1.01 / 2048)


# Dynamics


def test_root_mean_square_equals_librosa() -> None:
    frames, _ = framed(music())
    reference = librosa.feature.rms(y=music(), frame_length=2048, hop_length=512, center=False)[0]
    np.testing.assert_allclose(dynamics.root_mean_square(frames), reference, rtol=1e-5)


def test_a_weighting_equals_librosa() -> None:
    frequency_hz = np.array([50.0, 200.0, 1000.0, 4000.0, 10000.0])
    estimate = 10 * np.log10(dynamics.a_weighting(frequency_hz))
    np.testing.assert_allclose(estimate, librosa.A_weighting(frequency_hz), atol=0.02)


def test_level_of_a_full_scale_sine(descriptors: Any) -> None:
    found = named(descriptors, tone(69, partials=1))
    assert found["dynamics.overall"] == pytest.approx(-3.01, abs=0.02)
    assert found["dynamics.crest"] == pytest.approx(3.01, abs=0.02)


def test_staccato_has_gaps_and_steep_attacks(descriptors: Any) -> None:
    long, short = named(descriptors, chord(60, 64, 67)), named(descriptors, clicks(240))
    assert short["dynamics.articulation.6"] > 0.5 > 0.01 > long["dynamics.articulation.6"]
    assert short["dynamics.articulation.3"] > long["dynamics.articulation.3"] + 0.5


# Rhythm


def test_onset_strength_follows_librosa() -> None:
    mel = librosa.feature.melspectrogram(y=music(), sr=RATE, n_fft=2048, hop_length=512, n_mels=40, center=False)
    mel_db = librosa.power_to_db(mel, amin=1e-10, top_db=None)
    reference = onset_strength(S=mel_db, sr=RATE, center=False)[1:]
    np.testing.assert_allclose(rhythm.onset_strength(mel_db), reference, atol=1e-4)


def test_autocorrelation_equals_librosa() -> None:
    x = np.random.default_rng(0).standard_normal(128)
    reference = librosa.autocorrelate(x - x.mean())
    np.testing.assert_allclose(
        rhythm.autocorrelation(x), reference / reference[0] / (1 - np.arange(128) / 128), atol=1e-9
    )


@pytest.mark.parametrize("bpm", [75, 100, 120, 150])
def test_clicks_have_their_tempo_and_a_clear_pulse(bpm: float, descriptors: Any) -> None:
    found = named(descriptors, clicks(bpm))
    assert 100 * 2 ** found["rhythm.pulse.all.tempo"] == pytest.approx(bpm, rel=0.04)
    noise = np.random.default_rng(0).standard_normal(SEGMENT.length).astype(np.float32) * 0.1
    assert found["rhythm.pulse.all.clarity"] > named(descriptors, noise)["rhythm.pulse.all.clarity"] + 0.3
    assert found["rhythm.pattern.0"] == pytest.approx(len(np.arange(0.1, 2.9, 60 / bpm)) / 3, rel=0.1)
    assert 2 ** found["rhythm.pattern.1"] == pytest.approx(60 / bpm, rel=0.04)


def test_tremolo_shows_at_its_rate() -> None:
    time = np.arange(128) * 512 / RATE
    bands = np.stack([5 * np.sin(2 * np.pi * rate * time) for rate in (0.7, 1.4, 3.0, 6.0, 12.0)]).astype(np.float32)
    modulation = rhythm.modulation_spectrum(bands, RATE / 512)
    np.testing.assert_array_equal(modulation.argmax(axis=1), np.arange(5))


# Percussion and texture


def test_running_median_equals_scipy() -> None:
    from scipy.ndimage import median_filter

    x = np.random.default_rng(0).standard_normal((30, 40)).astype(np.float32)
    np.testing.assert_array_equal(percussion.median(x, length=9, axis=0), median_filter(x, (9, 1), mode="nearest"))
    np.testing.assert_array_equal(percussion.median(x, length=13, axis=1), median_filter(x, (1, 13), mode="nearest"))


def test_chords_are_sustained_and_clicks_are_struck(descriptors: Any) -> None:
    sustained, struck = named(descriptors, chord(48, 55, 64)), named(descriptors, clicks(120))
    assert sustained["percussion.all.mean"] > 6 > 0 > struck["percussion.all.p10"]


def test_beating_is_rough_at_its_rate() -> None:
    time = np.arange(SEGMENT.length) / RATE
    for band, rate_hz in enumerate((20.0, 32.0, 55.0, 100.0)):
        sound = 0.3 * (1 + np.sin(2 * np.pi * rate_hz * time)) * np.sin(2 * np.pi * 750 * time)
        rough = texture.envelope_roughness(*texture.band_envelopes(sound.astype(np.float32), RATE))
        assert rough[2].argmax() == band
        # Full modulation has (1/2)^2 at its line, the modulation's window adds half of that to the neighbours, and the
        # 256 samples of the analysis window smooth the envelope.
        smoothing = abs(np.exp(-2j * np.pi * rate_hz * time[:256]) @ spectral.hann(256)) / spectral.hann(256).sum()
        assert 10 ** rough[2, band] == pytest.approx(0.25 * 1.5 * smoothing**2, rel=0.3)


def test_strokes_move_all_bands_together() -> None:
    common = np.random.default_rng(0).standard_normal(128) * 10
    together = texture.band_correlation(np.tile(common, (40, 1)).astype(np.float32))
    np.testing.assert_allclose(together, 1, atol=1e-3)
    assert (texture.band_correlation(np.zeros((40, 128), np.float32)) == 0).all()


# Pitch and harmony


@pytest.mark.parametrize("cents", [-30, 0, 20])
def test_peaks_and_tuning_are_found(cents: float) -> None:
    samples = chord(*(n + cents / 100 for n in (57, 61, 64)))
    peaks = pitch.spectral_peaks(spectral.power_spectrogram(samples, spectral.hann(8192), 2048), RATE / 8192)
    expected = 440 * 2 ** ((57 + cents / 100 - 69) / 12)
    assert np.abs(peaks[0][peaks[1] > 0] - expected).min() < 0.5
    assert pitch.tuning(peaks)[0] == pytest.approx(cents / 100, abs=0.04)
    reference = librosa.estimate_tuning(y=samples, sr=RATE, n_fft=8192)
    assert pitch.tuning(peaks)[0] == pytest.approx(reference, abs=0.06)


def test_pitch_classes_follow_librosa() -> None:
    for notes in ((60, 64, 67), (50, 57, 65), (56, 63, 72)):
        estimate = classes_of(chord(*notes))
        reference = librosa.feature.chroma_stft(y=chord(*notes), sr=RATE, n_fft=8192, hop_length=2048).mean(axis=1)
        assert np.corrcoef(estimate, reference)[0, 1] > 0.85
        assert set(np.argsort(estimate)[-3:]) == {n % 12 for n in notes}


def test_tonal_centroid_equals_librosa() -> None:
    chroma = np.random.default_rng(0).random((5, 12))
    reference = librosa.feature.tonnetz(chroma=chroma.T, sr=RATE)
    np.testing.assert_allclose(harmony.tonal_centroid(chroma), reference.T, atol=1e-5)


@pytest.mark.parametrize("profile", ["krumhansl", "temperley", "triad"])
@pytest.mark.parametrize("tonic", [0, 3, 8])
def test_mode_of_a_triad_has_the_right_sign(profile: str, tonic: int, descriptors: Any) -> None:
    root = 60 + tonic
    major, minor = (harmony.key_strengths(classes_of(chord(root, root + t, root + 7)), profile) for t in (4, 3))
    assert major[0].argmax() == tonic == minor[1].argmax()
    bright, dark = (
        named(descriptors, chord(root, root + 4, root + 7)),
        named(descriptors, chord(root, root + 3, root + 7)),
    )
    for scope in ("whole.mode", "whole.parallel", "frame.mode.mean"):
        assert bright[f"harmony.{profile}.{scope}"] > 0 > dark[f"harmony.{profile}.{scope}"]


def test_chord_templates_name_the_chord(descriptors: Any) -> None:
    for index, notes in enumerate([(60, 64, 67), (60, 63, 67), (60, 63, 66), (60, 64, 68), (60, 65, 67)]):
        assert named(descriptors, chord(*notes))[f"harmony.chord.share.{index}"] > 0.9, notes


def test_dissonance_orders_the_intervals() -> None:
    semitone, tritone, fifth, octave = (pitch.roughness(notes_of(chord(60, 60 + i))[0]).mean() for i in (1, 6, 7, 12))
    assert semitone > 1.3 * tritone > 1.3 * fifth > octave


def test_harmonic_change_is_heard(descriptors: Any) -> None:
    still = chord(60, 64, 67)
    moving = still.copy()
    moving[SEGMENT.length // 2 :] = chord(54, 58, 61)[SEGMENT.length // 2 :]
    assert named(descriptors, moving)["harmony.change.mean"] > 5 * named(descriptors, still)["harmony.change.mean"]


def test_melody_register_is_the_pitch(descriptors: Any) -> None:
    assert named(descriptors, chord(64))["pitch.melody.pitch.mean"] == pytest.approx(64 / 12, abs=1e-4)
    assert named(descriptors, chord(40, 64))["pitch.bass.pitch.mean"] == pytest.approx(40 / 12, abs=1e-4)
