"""Odd files: every rate, channel count and sample format gives the same segments; lossless formats the same bytes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emoseg.audio.arrays import as_recording
from emoseg.audio.decoding import stated_duration_s
from emoseg.audio.reader import SegmentReader
from emoseg.config import DescriptorsConfig, SegmentConfig
from emoseg.errors import AudioError, ConfigError, EmosegError
from emoseg.frontends import build_frontend
from emoseg.synthesis.sound import compose
from emoseg.types import Float32, Recording, SegmentBatch

RATE = 22050
SEGMENT = SegmentConfig()
FFMPEG = shutil.which("ffmpeg")


@pytest.fixture(scope="module")
def song() -> Float32:
    return compose(np.random.default_rng(3), label="Q1", duration_s=10.6, sample_rate_hz=RATE)[0]


def cut(source: Path | Recording, *, batch: int = 64) -> SegmentBatch:
    batches = list(SegmentReader(source, segment=SEGMENT, batch=batch))
    return SegmentBatch(*(np.concatenate([getattr(b, k) for b in batches]) for k in ("start_s", "end_s", "samples")))


def resampled(song: Float32, rate: int) -> np.ndarray:
    import soxr

    return np.asarray(soxr.resample(song, RATE, rate, quality="VHQ"))


@pytest.mark.parametrize("rate", [8000, 11025, 32000, 44100, 48000, 96000, 192000])
def test_every_sample_rate_gives_the_same_segment_times(tmp_path: Path, song: Float32, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", resampled(song, rate), rate, subtype="FLOAT")
    got, expected = cut(tmp_path / "a.wav"), cut(Recording(song, RATE))
    np.testing.assert_array_equal(got.start_s, expected.start_s)
    np.testing.assert_allclose(got.end_s, expected.end_s, atol=2 / rate)
    if rate > RATE:  # nothing was lost on the way there
        # Not equal: on the way there and back the filters take a little near half the rate.
        assert np.corrcoef(got.samples[:3].ravel(), expected.samples[:3].ravel())[0, 1] > 0.999


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8])
def test_channels_up_to_7_1_are_averaged(tmp_path: Path, song: Float32, channels: int) -> None:
    gains = np.linspace(0.2, 1.0, channels)
    soundfile.write(tmp_path / "a.wav", song[:, None] * gains, RATE, subtype="FLOAT")
    expected = cut(Recording(np.asarray(song * gains.mean(), dtype=np.float32), RATE))
    np.testing.assert_allclose(cut(tmp_path / "a.wav").samples, expected.samples, atol=1e-6)


@pytest.mark.parametrize(
    ("subtype", "step"),
    [("PCM_U8", 2**-7), ("PCM_16", 2**-15), ("PCM_24", 2**-23), ("PCM_32", 2**-23), ("FLOAT", 0), ("DOUBLE", 0)],
)
def test_every_depth_is_as_exact_as_it_can_be(tmp_path: Path, song: Float32, subtype: str, step: float) -> None:
    soundfile.write(tmp_path / "a.wav", song, RATE, subtype=subtype)
    np.testing.assert_allclose(cut(tmp_path / "a.wav").samples, cut(Recording(song, RATE)).samples, atol=step)


NAMES = ["-dash.wav", "--help.wav", "a b  c.wav", "日本語 é ü.wav", "‏עברית.wav", "😀.wav", "a'\"$`;&|.wav", "x\ny.wav"]


@pytest.mark.parametrize("name", [*NAMES, "caf\udce9.wav", "n" * 200 + ".wav"])
def test_any_name_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, song: Float32, name: str) -> None:
    try:
        (tmp_path / name).touch()
    except OSError:
        pytest.skip("this file system refuses the name")
    soundfile.write(tmp_path / "plain.wav", song, RATE)
    shutil.move(tmp_path / "plain.wav", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(cut(Path(name)).start_s) == 4


# The same sound in other files


@pytest.mark.parametrize("batch", [1, 3])
def test_wav_flac_array_and_batches_agree_exactly(tmp_path: Path, song: Float32, batch: int) -> None:
    stereo = np.round(np.stack([song, song[::-1]], axis=1) * 32767).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", stereo, RATE)
    soundfile.write(tmp_path / "a.flac", stereo, RATE)
    frontend = build_frontend(DescriptorsConfig(), SEGMENT)
    expected = cut(tmp_path / "a.wav")
    array = as_recording(stereo, RATE)
    assert isinstance(array, Recording)
    for source in (tmp_path / "a.flac", array):
        got = cut(source, batch=batch)
        assert got.start_s.tobytes() == expected.start_s.tobytes()
        assert got.samples.tobytes() == expected.samples.tobytes()
    parts = [frontend(b.samples) for b in SegmentReader(tmp_path / "a.flac", segment=SEGMENT, batch=batch)]
    assert np.concatenate(parts).tobytes() == frontend(expected.samples).tobytes()


@pytest.mark.skipif(FFMPEG is None, reason="the ffmpeg program is not on PATH")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp3", ["-c:a", "libmp3lame", "-b:a", "192k"]),
        ("a.opus", ["-c:a", "libopus", "-b:a", "128k"]),
        ("a.ogg", ["-c:a", "libvorbis", "-q:a", "6"]),
        ("a.m4a", ["-c:a", "aac", "-b:a", "192k"]),
        ("alac.m4a", ["-c:a", "alac"]),
    ],
)
def test_lossy_formats_keep_the_segment_times_and_the_sound(
    tmp_path: Path, song: Float32, name: str, options: list[str]
) -> None:
    assert FFMPEG is not None
    soundfile.write(tmp_path / "source.wav", resampled(song, 44100), 44100, subtype="PCM_16")
    command = [FFMPEG, "-v", "error", "-i", str(tmp_path / "source.wav"), *options, str(tmp_path / name)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    got, expected = cut(tmp_path / name), cut(tmp_path / "source.wav")
    np.testing.assert_array_equal(got.start_s, expected.start_s)
    np.testing.assert_allclose(got.end_s, expected.end_s, atol=0.025)  # AAC fills its last packet
    for a, b in zip(got.samples[:3], expected.samples[:3], strict=True):
        # In step within a sample: shifted by three, the likeness is worse.
        assert np.corrcoef(a, b)[0, 1] > 0.98
        assert np.corrcoef(a[3:], b[:-3])[0, 1] < np.corrcoef(a, b)[0, 1]


def test_the_header_tells_the_duration_where_it_can(tmp_path: Path, song: Float32) -> None:
    soundfile.write(tmp_path / "a.flac", song, RATE)
    assert stated_duration_s(tmp_path / "a.flac") == pytest.approx(10.6)
    (tmp_path / "text.mp3").write_text("no sound")
    assert stated_duration_s(tmp_path / "text.mp3") is None
    assert stated_duration_s(tmp_path / "absent.wav") is None


def test_minus_zero_is_zero(song: Float32) -> None:
    plus, minus = (np.where(np.abs(song) < 1e-3, zero, song).astype(np.float32) for zero in (0.0, -0.0))
    assert cut(Recording(minus, RATE)).samples.tobytes() == cut(Recording(plus, RATE)).samples.tobytes()


# Arrays


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([0.5, -0.5], dtype=np.float64), [0.5, -0.5]),
        (np.array([16384, -32768], dtype=np.int16), [0.5, -1.0]),
        (np.array([192, 0], dtype=np.uint8), [0.5, -1.0]),
        (np.array([[0.5, 0.0], [1.0, -1.0]], dtype=np.float32), [0.25, 0.0]),
        (np.array([2**30, 0], dtype=np.int32), [0.5, 0.0]),
    ],
)
def test_arrays_are_scaled_and_averaged(values: np.ndarray, expected: list[float]) -> None:
    recording = as_recording(values, 8000)
    assert isinstance(recording, Recording)
    assert recording.samples.dtype == np.float32
    assert recording.samples.tolist() == expected


@pytest.mark.parametrize(
    ("source", "rate", "error", "message"),
    [
        (np.zeros(10), None, ConfigError, "needs its sample rate"),
        ("a.wav", 8000, ConfigError, "goes with an array"),
        (np.zeros((2, 3, 4)), 8000, AudioError, r"shape \(n,\) or \(n, C\), got \(2, 3, 4\)"),
        (np.zeros((2, 50000)), 8000, AudioError, "the wrong way round"),
        (np.zeros((10, 0)), 8000, AudioError, "no channel"),
        (np.zeros(10, dtype=complex), 8000, AudioError, "must be real numbers, got complex128"),
        ([0.0, 1.0], 8000, ConfigError, "a path, a Recording or a numpy array, not list"),
    ],
)
def test_arrays_that_cannot_be_used(
    source: np.ndarray, rate: int | None, error: type[EmosegError], message: str
) -> None:
    with pytest.raises(error, match=message):
        as_recording(source, rate)
