"""Decoding, the gate, cutting: every format agrees, no size of block or batch shows, every bad file has its error."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from emoseg.audio import arrays, decoders, stream
from emoseg.audio.envelope import Envelope
from emoseg.audio.find import find_recordings
from emoseg.audio.reader import SegmentReader, read
from emoseg.config import SegmentConfig
from emoseg.errors import AudioError, ConfigError
from emoseg.types import Float32, Recording, SegmentBatch

RATE = 22050
ONSET_S = 0.5
FFMPEG = shutil.which("ffmpeg")
needs_ffmpeg = pytest.mark.skipif(FFMPEG is None, reason="the ffmpeg program is not on PATH")


def burst(rate: int, *, duration_s: float = 2.5) -> Float32:
    """Silence, then from `ONSET_S` on a tone."""
    t = np.arange(round(duration_s * rate)) / rate
    return np.asarray(0.5 * np.sin(2 * np.pi * 440 * t) * (t >= ONSET_S), dtype=np.float32)


def cut(**settings: Any) -> SegmentConfig:
    return SegmentConfig(**settings)


def noise(n: int, *channels: int, seed: int = 0) -> Float32:
    return np.asarray(np.random.default_rng(seed).uniform(-0.5, 0.5, (n, *channels)), dtype=np.float32)


def encode(path: Path, samples: Float32, rate: int, *options: str) -> Path:
    assert FFMPEG is not None
    raw = path.with_suffix(".source.wav")
    soundfile.write(raw, samples, rate, subtype="FLOAT")
    subprocess.run([FFMPEG, "-v", "error", "-i", str(raw), *options, str(path)], check=True, stdin=subprocess.DEVNULL)
    raw.unlink()
    return path


def hide_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)


def hide_ffmpeg(monkeypatch: pytest.MonkeyPatch, empty: Path) -> None:
    monkeypatch.setenv("PATH", str(empty))


def collect(reader: SegmentReader) -> SegmentBatch:
    batches = list(reader)
    return SegmentBatch(*(np.concatenate([getattr(b, k) for b in batches]) for k in ("start_s", "end_s", "samples")))


def as_bytes(reader: SegmentReader) -> tuple[bytes, ...]:
    got = collect(reader)
    return got.samples.tobytes(), got.start_s.tobytes(), got.end_s.tobytes(), reader.peaks.tobytes()


# --- formats ---------------------------------------------------------------------------------------------------------


def check_burst(recording: Recording, *, duration_tol_s: float) -> None:
    level = np.abs(recording.samples)
    assert np.argmax(level > 0.2) / RATE == pytest.approx(ONSET_S, abs=0.004)
    assert len(level) / RATE == pytest.approx(2.5, abs=duration_tol_s)
    steady = recording.samples[RATE : 2 * RATE]
    assert np.sqrt(np.mean(steady**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.03)


@pytest.mark.parametrize(
    ("name", "kind", "subtype"),
    [
        ("a.wav", "WAV", "PCM_U8"),
        ("a.wav", "WAV", "PCM_16"),
        ("a.wav", "WAV", "PCM_24"),
        ("a.wav", "WAV", "FLOAT"),
        ("a.wav", "WAV", "DOUBLE"),
        ("a.aiff", "AIFF", "PCM_16"),
        ("a.flac", "FLAC", "PCM_16"),
        ("a.ogg", "OGG", "VORBIS"),
        ("a.opus", "OGG", "OPUS"),
        ("a.mp3", "MP3", "MPEG_LAYER_III"),
    ],
)
def test_soundfile_formats_agree_in_onset_duration_and_level(
    tmp_path: Path, name: str, kind: str, subtype: str
) -> None:
    rate = 48000 if subtype == "OPUS" else 44100
    soundfile.write(tmp_path / name, burst(rate), rate, format=kind, subtype=subtype)
    check_burst(read(tmp_path / name, sample_rate_hz=RATE), duration_tol_s=1 / RATE)


@needs_ffmpeg
@pytest.mark.parametrize("decoder", ["pyav", "ffmpeg"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.m4a", ["-c:a", "aac", "-b:a", "128k"]),
        ("a.m4a", ["-c:a", "alac"]),
        ("a.mka", ["-c:a", "libopus"]),
        ("a.mka", ["-c:a", "pcm_u8"]),
        ("a.mka", ["-c:a", "pcm_s24le"]),
        ("a.mka", ["-c:a", "pcm_f64le"]),
    ],
)
def test_formats_of_the_fallbacks_agree_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder: str, name: str, options: list[str]
) -> None:
    if decoder == "pyav":
        pytest.importorskip("av", reason="needs the extra av")
    path = encode(tmp_path / name, burst(44100), 44100, *options)
    if decoder == "ffmpeg":
        hide_pyav(monkeypatch)
    reader = SegmentReader(path, segment=cut(length_s=1, hop_s=1))
    collect(reader)
    assert reader.decoder == decoder
    # AAC fills its last packet: less than 1024 samples more.
    check_burst(read(path, sample_rate_hz=RATE), duration_tol_s=0.024)


@needs_ffmpeg
@pytest.mark.parametrize("decoder", ["pyav", "ffmpeg"])
def test_fallbacks_mix_and_scale_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder: str) -> None:
    if decoder == "pyav":
        pytest.importorskip("av", reason="needs the extra av")
    stereo = np.round(noise(70001, 2) * 32768) / 32768
    path = encode(tmp_path / "a.m4a", np.asarray(stereo, dtype=np.float32), RATE, "-c:a", "alac")
    if decoder == "ffmpeg":
        hide_pyav(monkeypatch)
    np.testing.assert_allclose(read(path, sample_rate_hz=RATE).samples, stereo.mean(axis=1), atol=1e-7)


@needs_ffmpeg
@pytest.mark.parametrize(("channels", "codec"), [(8, "alac"), (8, "aac"), (16, "pcm_f32le"), (16, "aac")])
def test_many_channels_are_all_channels_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int, codec: str
) -> None:
    pytest.importorskip("av", reason="needs the extra av")
    sound = noise(RATE, channels) * np.linspace(0, 1, channels, dtype=np.float32)
    path = encode(tmp_path / ("a.mka" if codec.startswith("pcm") else "a.m4a"), sound, RATE, "-c:a", codec)
    found = {}
    for decoder in ("pyav", "ffmpeg"):
        reader = SegmentReader(path, segment=cut(length_s=0.5, hop_s=0.5, min_duration_s=0.1))
        found[decoder] = collect(reader).samples
        assert reader.decoder == decoder
        hide_pyav(monkeypatch)
    np.testing.assert_allclose(found["pyav"], found["ffmpeg"], atol=1e-6)
    assert found["pyav"].std() > 0.01


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000, 96000])
def test_any_rate_is_resampled_to_the_same_sound(tmp_path: Path, rate: int) -> None:
    t = np.arange(2 * rate) / rate
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 1000 * t), rate, subtype="FLOAT")
    got = read(tmp_path / "a.wav", sample_rate_hz=RATE).samples
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(2 * RATE) / RATE)
    assert len(got) == 2 * RATE
    np.testing.assert_allclose(got[2000:-2000], expected[2000:-2000], atol=1e-4)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_mono_is_the_mean_of_the_channels(tmp_path: Path, channels: int) -> None:
    samples = noise(30000, channels)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    np.testing.assert_allclose(read(tmp_path / "a.wav", sample_rate_hz=RATE).samples, samples.mean(axis=1), atol=1e-7)


def test_sound_at_the_right_rate_is_not_touched(tmp_path: Path) -> None:
    samples = noise(30000)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read(tmp_path / "a.wav", sample_rate_hz=RATE).samples, samples)
    np.testing.assert_array_equal(read(Recording(samples, RATE), sample_rate_hz=RATE).samples, samples)


# --- one stream ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 44100, 96000])
def test_streamed_resampling_equals_resampling_at_once(rate: int) -> None:
    samples = noise(150001)
    got = read(Recording(samples, rate), sample_rate_hz=RATE).samples
    np.testing.assert_array_equal(got, soxr.resample(samples, rate, RATE, quality="HQ"))


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3", "array"])
def test_neither_block_nor_batch_size_changes_a_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    rate = 48000
    samples = noise(5 * rate + 123, 2)
    path = tmp_path / f"a.{suffix}"
    source: Path | Recording = path
    if suffix == "array":
        source = Recording(samples[:, 0], rate)
    elif suffix == "opus":
        soundfile.write(path, samples, rate, format="OGG", subtype="OPUS")
    else:
        soundfile.write(path, samples, rate)
    segment = cut(length_s=0.7, hop_s=0.31)
    expected = as_bytes(SegmentReader(source, segment=segment))
    decoded = b"" if suffix == "array" else frames(path, "soundfile")
    for block, batch in ((1000, 64), (4096, 1), (77777, 3), (1 << 24, 5)):
        monkeypatch.setattr(arrays, "_BLOCK", block)
        monkeypatch.setattr(decoders, "_BLOCK", block)
        assert as_bytes(SegmentReader(source, segment=segment, batch=batch)) == expected
        assert suffix == "array" or frames(path, "soundfile") == decoded


def frames(path: Path, decoder: str) -> bytes:
    """Decode in this process, where the size of blocks can be set."""
    return b"".join(block.tobytes() for _, block in decoders.DECODERS[decoder](str(path)))


@needs_ffmpeg
@pytest.mark.parametrize("decoder", ["pyav", "ffmpeg"])
def test_block_size_does_not_show_in_the_fallbacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder: str
) -> None:
    if decoder == "pyav":
        pytest.importorskip("av", reason="needs the extra av")
    path = encode(tmp_path / "a.m4a", noise(3 * 44100, 2), 44100, "-c:a", "aac")
    expected = frames(path, decoder)
    monkeypatch.setattr(decoders, "_BLOCK", 999)
    assert frames(path, decoder) == expected


def test_batches_are_full_but_the_last() -> None:
    reader = SegmentReader(Recording(noise(10 * RATE), RATE), segment=cut(length_s=1, hop_s=1), batch=4)
    assert [len(b.start_s) for b in reader] == [4, 4, 2]


def test_a_reader_can_be_iterated_again_even_after_an_early_end() -> None:
    reader = SegmentReader(Recording(noise(9 * RATE + 5000), RATE), segment=cut(length_s=1, hop_s=1), batch=2)
    first = as_bytes(reader)
    assert reader.duration_s == pytest.approx(9 + 5000 / RATE)
    for _ in reader:
        break
    assert (reader.duration_s, reader.decoder, reader.peaks.shape) == (0.0, "", (0, 2))
    assert as_bytes(reader) == first
    assert reader.decoder == "array"


def test_a_batch_holds_at_least_one_segment() -> None:
    with pytest.raises(ConfigError, match="batch 0 must be at least 1"):
        SegmentReader("a.wav", segment=cut(), batch=0)


@pytest.mark.parametrize("n", [1, 1999, 2000, 2001, 50000, 131072, 262143])
def test_peaks_are_the_extremes_of_equal_stretches(n: int) -> None:
    samples = noise(n)
    envelope = Envelope(2000)
    for part in np.split(samples, sorted(np.random.default_rng(1).integers(0, n, 20))):
        envelope.add(part)
    rows = envelope.rows()
    size = next(2**k for k in range(20) if n < 2000 * 2**k)  # the first at which 2000 stretches are not all full
    assert len(rows) == -(-n // size) <= 2000
    stretches = [samples[i : i + size] for i in range(0, n, size)]
    np.testing.assert_array_equal(rows, [[s.min(), s.max()] for s in stretches])


# --- cutting ---------------------------------------------------------------------------------------------------------


def reference_starts(n: int, length: int, hop: int, last: str) -> list[int]:
    starts = [s for s in range(0, n, hop) if s + length <= n]
    following = starts[-1] + hop if starts else 0
    if not starts or (last == "pad" and n - following >= length / 2):
        starts.append(following)
    return starts


def check_cut(n: int, length: int, hop: int, last: Any) -> SegmentBatch:
    rate = 8000
    segment = cut(sample_rate_hz=rate, length_s=length / rate, hop_s=hop / rate, last=last, min_duration_s=0.01)
    assert (segment.length, segment.hop) == (length, hop)
    samples = noise(n)
    got = collect(SegmentReader(Recording(samples, rate), segment=segment, batch=3))
    starts = reference_starts(n, length, hop, last)
    np.testing.assert_array_equal(got.start_s, np.array(starts) / rate)
    np.testing.assert_array_equal(got.end_s, np.array([min(s + length, n) for s in starts]) / rate)
    for start, row in zip(starts, got.samples, strict=True):
        np.testing.assert_array_equal(row, np.resize(samples[start : start + length], length))
    return got


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(100, 200_000),
    length=st.integers(1601, 9000),
    hop=st.integers(401, 12000),
    last=st.sampled_from(["pad", "drop"]),
)
def test_segments_of_the_stream_are_those_of_the_whole_array(n: int, length: int, hop: int, last: str) -> None:
    check_cut(n, length, hop, last)


@pytest.mark.parametrize(
    ("n", "length", "hop", "last", "count"),
    [
        (6000, 2000, 2000, "pad", 3),  # exactly full
        (6999, 2000, 2000, "pad", 3),  # one sample short of half
        (7000, 2000, 2000, "pad", 4),  # exactly half
        (7999, 2000, 2000, "drop", 3),
        (8000, 2000, 2000, "drop", 4),
        (2000, 2000, 2000, "pad", 1),
        (1999, 2000, 2000, "drop", 1),  # shorter than one segment: always one
        (500, 2000, 2000, "pad", 1),  # even with less than half
        (4000, 2001, 1000, "pad", 3),  # 0, 1000 and a last one of exactly 2000 samples out of 2001
        (3499, 2000, 500, "pad", 4),  # one last segment, however small the hop
        (9000, 2000, 3000, "pad", 3),  # gaps between segments
        (10000, 2000, 3000, "pad", 4),
        (8500, 2000, 9000, "pad", 1),  # the next start lies behind the end
    ],
)
def test_boundaries_of_the_last_segment(n: int, length: int, hop: int, last: str, count: int) -> None:
    assert len(check_cut(n, length, hop, last).start_s) == count


def test_an_odd_length_needs_half_rounded_up() -> None:
    assert len(check_cut(2001 + 1000, 2001, 2001, "pad").start_s) == 1
    assert len(check_cut(2001 + 1001, 2001, 2001, "pad").start_s) == 2


# --- the gate --------------------------------------------------------------------------------------------------------


def refused(source: Any, kind: str, match: str, **settings: Any) -> AudioError:
    with pytest.raises(AudioError, match=match) as caught:
        list(SegmentReader(source, segment=cut(**settings)))
    assert caught.value.kind == kind
    name = source.path if isinstance(source, Recording) else str(source)
    assert str(caught.value).startswith(f"{name}: ")
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.skipif(sys.platform == "win32", reason="the words are those of a POSIX system")
def test_missing_file_and_folder(tmp_path: Path) -> None:
    refused(tmp_path / "no.wav", "missing", "no such file")
    refused(tmp_path, "directory", "is a folder")
    (tmp_path / "a.wav").touch()
    refused(tmp_path / "a.wav" / "b.wav", "missing", "no such file")
    refused("a\0b.wav", "missing", "no such file")
    refused(tmp_path / ("long" * 200), "unreadable", "cannot be read: .*too long")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    refused(tmp_path / "a.wav", "unreadable", "not a regular file")


def test_empty_file_and_header_without_samples(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    refused(tmp_path / "a.wav", "empty", "is an empty file")
    soundfile.write(tmp_path / "b.wav", noise(0), RATE)
    refused(tmp_path / "b.wav", "empty", "has no samples")
    refused(Recording(noise(0), RATE), "empty", "has no samples")


def test_text_named_mp3(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.mp3"
    path.write_text("this is not sound\n" * 500)
    error = refused(path, "decode", r"cannot be decoded \(soundfile: Format not recognised")
    assert error.__cause__ is not None
    assert capfd.readouterr().err == ""


def test_headerless_suffix_is_an_error_of_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(b"\x01\x02" * 5000)
    refused(tmp_path / "a.raw", "decode", "soundfile: .*samplerate")


@needs_ffmpeg
@pytest.mark.parametrize("name", ["a.mp3", "a.m3u8"])
def test_a_playlist_cannot_open_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    soundfile.write(tmp_path / "other.mp3", burst(RATE), RATE)
    path = tmp_path / name
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2,\nfile://{tmp_path}/other.mp3\n#EXT-X-ENDLIST\n")
    refused(path, "decode", "cannot be decoded")
    hide_pyav(monkeypatch)
    refused(path, "decode", "ffmpeg: .*not on whitelist")


def test_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.m4a"
    path.write_bytes(b"\x00\x00\x00\x1cftypM4A " + bytes(2000))
    hide_pyav(monkeypatch)
    hide_ffmpeg(monkeypatch, tmp_path)
    refused(path, "decode", r"soundfile: Format not recognised.*pip install av")


def test_shorter_than_the_minimum(tmp_path: Path) -> None:
    refused(Recording(noise(RATE - 1), RATE), "short", r"lasts 0\.999955 s, shorter than the minimum of 1 s")
    soundfile.write(tmp_path / "a.wav", noise(12000), 60000)
    refused(tmp_path / "a.wav", "short", r"lasts 0\.2 s, shorter than the minimum of 0\.5 s", min_duration_s=0.5)
    reader = SegmentReader(Recording(noise(RATE), RATE), segment=cut())
    assert collect(reader).end_s.tolist() == [1.0]
    soundfile.write(tmp_path / "b.wav", noise(44100), 44100)
    assert len(collect(SegmentReader(tmp_path / "b.wav", segment=cut())).start_s) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite(tmp_path: Path, bad: float) -> None:
    samples = noise(10 * RATE, 2)
    samples[7 * RATE, 1] = bad
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    refused(tmp_path / "a.wav", "nonfinite", r"has a sample at 7\.000 s that is not a finite number")


def test_float64_beyond_float32_is_not_finite(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full((2 * RATE, 2), 1e300), RATE, subtype="DOUBLE")
    refused(tmp_path / "a.wav", "nonfinite", r"at 0\.000 s")


@pytest.mark.parametrize("bad", [1e20, -3e38, 100.5])
def test_a_sample_far_above_full_scale(tmp_path: Path, bad: float) -> None:
    samples = noise(10 * RATE)
    samples[5 * RATE] = bad
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    refused(tmp_path / "a.wav", "level", r"has a sample of .* at 5\.000 s: full scale is 1, and samples above 100")
    refused(Recording(samples, RATE), "level", r"full scale is 1")


def test_mixes_above_full_scale_are_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", 40 * noise(4 * RATE), RATE, subtype="FLOAT")
    assert len(collect(SegmentReader(tmp_path / "a.wav", segment=cut())).start_s) == 1


def test_recordings_of_more_than_a_day_are_refused() -> None:
    day = Recording(np.broadcast_to(np.float32(0.1), 24 * 3600 * 2000 + 1), 2000)
    with pytest.raises(AudioError, match=r"<array>: lasts more than 24 hours: cut it into parts") as caught:
        for _ in SegmentReader(day, segment=cut(length_s=60, hop_s=60)):
            pass
    assert caught.value.kind == "long"


def test_silence_is_below_minus_80_dbfs() -> None:
    quiet = np.full(4 * RATE, 0.99e-4, dtype=np.float32)
    refused(Recording(quiet, RATE, "song.wav"), "silent", "is silent: .*below -80 dBFS")
    quiet[-1] = -1.01e-4  # one sample of the whole recording is enough
    assert len(collect(SegmentReader(Recording(quiet, RATE), segment=cut())).start_s) == 1


def test_arrays_that_are_not_mono_float32() -> None:
    refused(Recording(noise(RATE, 2), RATE), "rank", r"must be mono, of shape \(n,\), got \(22050, 2\): .*mean")
    as_list: Any = [0.1] * RATE
    refused(Recording(as_list, RATE), "rank", "got list")
    doubled: Any = noise(RATE).astype(np.float64)
    refused(Recording(doubled, RATE), "dtype", "must be float32 .*, got float64")
    refused(Recording(noise(RATE), 0), "rate", "sample_rate_hz must be above 0, got 0")
    refused(Recording(noise(RATE), 7), "rate", "7 Hz is outside 2000 to 1000000 Hz")


def test_read_takes_a_positive_rate_and_any_length() -> None:
    with pytest.raises(ConfigError, match="sample_rate_hz 0 must be at least 1"):
        read(Recording(noise(10), RATE), sample_rate_hz=0)
    assert len(read(Recording(noise(10), RATE), sample_rate_hz=RATE).samples) == 10


# --- damaged files ---------------------------------------------------------------------------------------------------


def damaged_flac(path: Path) -> Path:
    """Eight seconds whose middle is overwritten: libsndfile loses sync there."""
    soundfile.write(path, noise(8 * 44100), 44100)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(content)
    return path


def test_truncated_mp3_is_a_shorter_recording(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise(8 * 44100), 44100)
    whole = read(path, sample_rate_hz=RATE).samples
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    reader = SegmentReader(path, segment=cut(length_s=1, hop_s=1))
    got = collect(reader)
    assert reader.decoder == "soundfile"
    assert reader.duration_s == pytest.approx(4, abs=0.3)
    np.testing.assert_array_equal(got.samples[:3].ravel(), whole[: 3 * RATE])
    assert capfd.readouterr().err == ""  # libmpg123 warns about the length


def test_damaged_mp3_says_how_far_it_got(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise(8 * 44100), 44100)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 5000] = bytes(5000)
    path.write_bytes(content)
    hide_pyav(monkeypatch)
    hide_ffmpeg(monkeypatch, tmp_path)
    refused(path, "decode", r"cannot be decoded \(soundfile stopped after 2\.\d s: ")
    assert capfd.readouterr().err == ""


def test_another_decoder_takes_a_damaged_file_from_its_beginning(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs the extra av")
    path = damaged_flac(tmp_path / "a.flac")
    reader = SegmentReader(path, segment=cut(length_s=1, hop_s=1), batch=1)
    got = collect(reader)
    assert reader.decoder == "pyav"
    assert reader.duration_s == pytest.approx(8, abs=0.5)  # the damaged packets are left out
    expected = soxr.resample(noise(8 * 44100), 44100, RATE)
    np.testing.assert_allclose(got.samples[:3].ravel(), expected[: 3 * RATE], atol=1e-3)


def test_no_other_decoder_once_sound_was_handed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_LOOKAHEAD", RATE)
    path = damaged_flac(tmp_path / "a.flac")
    batches = iter(SegmentReader(path, segment=cut(length_s=1, hop_s=1), batch=1))
    assert [next(batches).start_s.item() for _ in range(2)] == [0.0, 1.0]
    with pytest.raises(AudioError, match=r"is damaged: soundfile stopped after 2\.\d s: .*lost sync") as caught:
        next(batches)
    assert caught.value.kind == "decode"


def test_a_file_with_much_broken_sound_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av", reason="needs the extra av")
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(8 * 44100), 44100)
    content = bytearray(path.read_bytes())
    for at in range(20000, len(content), 5000):
        content[at : at + 40] = np.random.default_rng(at).bytes(40)
    path.write_bytes(content)
    hide_ffmpeg(monkeypatch, tmp_path)
    refused(path, "decode", r"pyav stopped after \d\.\d s: 3\.\d s of 7\.\d s are missing or broken")


@needs_ffmpeg
def test_ffmpeg_is_ended_when_the_reader_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.m4a", noise(60 * 44100), 44100, "-c:a", "alac")
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def record(*args: Any, **kwargs: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*args, **kwargs))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", record)
    blocks = decoders.DECODERS["ffmpeg"](str(path))
    assert next(blocks)[0] == 44100
    assert started[0].poll() is None
    blocks.close()
    assert started[0].returncode not in (None, 0)


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["-i.wav", "-", "файл émotion 音楽.wav", "a:b.wav", "http:x.wav", "with space %d.wav"])
def test_odd_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    samples = noise(RATE)
    with Path(name).open("wb") as file:
        soundfile.write(file, samples, RATE, format="WAV", subtype="FLOAT")
    assert read(name, sample_rate_hz=RATE).path == name
    np.testing.assert_array_equal(read(name, sample_rate_hz=RATE).samples, samples)


@needs_ffmpeg
@pytest.mark.parametrize("name", ["-i.m4a", "музыка.m4a", "a:b.m4a"])
@pytest.mark.parametrize("decoder", ["pyav", "ffmpeg"])
def test_odd_names_in_the_fallbacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, decoder: str) -> None:
    if decoder == "pyav":
        pytest.importorskip("av", reason="needs the extra av")
    encode(tmp_path / "plain.m4a", burst(44100), 44100, "-c:a", "alac").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    if decoder == "ffmpeg":
        hide_pyav(monkeypatch)
    check_burst(read(name, sample_rate_hz=RATE), duration_tol_s=1 / RATE)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that are not valid text")
def test_a_name_that_is_not_valid_text(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xe9t\xe9.wav")
    with path.open("wb") as file:
        soundfile.write(file, noise(RATE), RATE, format="WAV")
    assert len(read(path, sample_rate_hz=RATE).samples) == RATE


def test_find_recordings_lists_sorted_and_leaves_out_hidden_and_other_files(tmp_path: Path) -> None:
    for name in ("b/2.MP3", "b/1.wav", "a.flac", "z.m4a", "notes.txt", ".hidden.mp3", ".cache/x.wav", "b/._1.wav"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_recordings(tmp_path)]
    assert found == ["a.flac", "b/1.wav", "b/2.MP3", "z.m4a"]
    with pytest.raises(AudioError, match="no such folder"):
        find_recordings(tmp_path / "nowhere")


# --- memory ----------------------------------------------------------------------------------------------------------


def traced_peak_mb(source: Path, segment: SegmentConfig) -> tuple[float, int, SegmentReader]:
    reader = SegmentReader(source, segment=segment)
    tracemalloc.start()
    try:
        count = sum(len(batch.start_s) for batch in reader)
        return tracemalloc.get_traced_memory()[1] / 2**20, count, reader
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_LOOKAHEAD", 1 << 20)  # 4 MiB; as shipped, 64 MiB
    minute = noise(60 * 8000)
    with soundfile.SoundFile(tmp_path / "a.wav", "w", 8000, 1, "PCM_16") as file:
        for _ in range(30):
            file.write(minute)
    peak_mb, count, reader = traced_peak_mb(tmp_path / "a.wav", cut(sample_rate_hz=8000))
    assert (count, reader.duration_s) == (600, 1800.0)
    assert 1000 <= len(reader.peaks) <= 2000
    assert peak_mb < 40  # the samples alone are 55 MiB


def test_a_header_that_claims_too_much_allocates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(2 * RATE), RATE, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = struct.pack("<I", 0xFFFFFF00)
    path.write_bytes(content)
    peak_mb, count, reader = traced_peak_mb(path, cut())
    assert (count, reader.duration_s) == (1, 2.0)
    assert peak_mb < 5
