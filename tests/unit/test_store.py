from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from emoseg.audio.reader import SegmentReader
from emoseg.config import DescriptorsConfig, LogMelConfig, SegmentConfig
from emoseg.errors import AudioError, ConfigError, EmosegError, EmosegWarning
from emoseg.frontends import build_frontend, compute_features
from emoseg.frontends.descriptors.frontend import Descriptors
from emoseg.frontends.store import FeatureTable, default_cache, load_features
from emoseg.types import Float32

SEGMENT = SegmentConfig(sample_rate_hz=8000, length_s=1.0, hop_s=1.0, min_duration_s=0.5)
LOGMEL = LogMelConfig(bands=8, fft=512, hop=256, fmax_hz=4000)
DESCRIPTORS = DescriptorsConfig(fft=512, hop=128)
SHAPE = (8, 30)


def song(path: Path, *, seed: int, seconds: float = 2.0) -> Path:
    samples = 0.1 * np.random.default_rng(seed).standard_normal(round(8000 * seconds))
    soundfile.write(path, samples.astype(np.float32), 8000, subtype="FLOAT", format="WAV")
    return path


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [song(tmp_path / f"{i}.wav", seed=i, seconds=2.0 + i) for i in range(3)]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def load(paths: list[Path], cache: Path, **changes: Any) -> FeatureTable:
    settings: dict[str, Any] = {"segment": SEGMENT, "frontends": [LOGMEL], "labels": ["noise"]}
    settings |= {"workers": 1, "quiet": True}
    return load_features(paths, cache=cache, **(settings | changes))


def files(cache: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()}


def same(a: FeatureTable, b: FeatureTable) -> bool:
    return (
        a.features.keys() == b.features.keys()
        and all(np.array_equal(a.features[name], b.features[name]) for name in a.features)
        and all(np.array_equal(getattr(a, key), getattr(b, key)) for key in ("recording", "start_s", "end_s"))
        and a.failures == b.failures
    )


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the recordings decoded since the last `clear`."""
    seen: list[str] = []

    def reader(path: Path, *, segment: SegmentConfig) -> Any:
        seen.append(path.name)
        return SegmentReader(path, segment=segment)

    monkeypatch.setattr("emoseg.frontends.store.SegmentReader", reader)
    return seen


def test_the_table_holds_every_segment_of_every_recording(paths: list[Path], cache: Path) -> None:
    table = load(paths, cache, frontends=[LOGMEL, DESCRIPTORS])
    assert table.recording.tolist() == [0] * 2 + [1] * 3 + [2] * 4
    assert table.start_s.tolist() == [0, 1, 0, 1, 2, 0, 1, 2, 3]
    assert table.end_s.tolist() == [1, 2, 1, 2, 3, 1, 2, 3, 4]
    assert table.failures == {}
    samples = soundfile.read(paths[1], dtype="float32")[0]
    for config in (LOGMEL, DESCRIPTORS):
        expected = build_frontend(config, SEGMENT)(samples.reshape(3, 8000))
        kept = table.features[config.name][2:5]
        assert kept.dtype == np.float32
        assert np.array_equal(kept, expected)


def test_the_second_call_computes_nothing(paths: list[Path], cache: Path, decoded: list[str]) -> None:
    first = load(paths, cache)
    assert decoded == ["0.wav", "1.wav", "2.wav"]
    before = files(cache)
    decoded.clear()
    assert same(load(paths, cache), first)
    assert decoded == []
    assert files(cache) == before


def test_only_changed_content_is_computed_again(paths: list[Path], cache: Path, decoded: list[str]) -> None:
    first = load(paths, cache)
    decoded.clear()
    song(paths[1], seed=99, seconds=3.0)
    second = load(paths, cache)
    assert decoded == ["1.wav"]
    changed = (first.features["logmel"] != second.features["logmel"]).any(axis=(1, 2))
    assert changed.tolist() == [False] * 2 + [True] * 3 + [False] * 4


def test_a_moved_or_copied_recording_is_known_by_its_content(
    paths: list[Path], cache: Path, decoded: list[str], tmp_path: Path
) -> None:
    load(paths, cache)
    decoded.clear()
    table = load([paths[0].rename(tmp_path / "moved.flac"), paths[2]], cache)
    assert decoded == []
    assert table.recording.tolist() == [0] * 2 + [1] * 4


@pytest.mark.parametrize(
    "changes",
    [
        {"segment": SEGMENT.model_copy(update={"hop_s": 0.5})},
        {"segment": SEGMENT.model_copy(update={"last": "drop"})},
        {"segment": SEGMENT.model_copy(update={"min_duration_s": 0.6})},
        {"frontends": [LOGMEL.model_copy(update={"bands": 9})]},
        {"frontends": [DESCRIPTORS]},
    ],
)
def test_every_setting_has_features_of_its_own(
    paths: list[Path], cache: Path, decoded: list[str], changes: dict[str, Any]
) -> None:
    first = load(paths, cache)
    decoded.clear()
    load(paths, cache, **changes)
    assert len(decoded) == 3
    decoded.clear()
    assert same(load(paths, cache), first), "the features of the first settings are still there"
    assert decoded == []


def test_a_new_version_of_a_frontend_computes_again(
    paths: list[Path], cache: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load(paths, cache)
    decoded.clear()
    monkeypatch.setattr("emoseg.frontends.logmel.LogMel.version", 10**6)
    load(paths, cache)
    assert len(decoded) == 3


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _with_header(header: bytes) -> bytes:
    """Return a store file whose features have such a header of the .npy format and no numbers."""
    file = io.BytesIO()
    np.savez(file, start_s=np.zeros(2), end_s=np.zeros(2))
    with zipfile.ZipFile(file, "a") as archive:
        padded = header.ljust(118) + b"\n"
        archive.writestr("values.npy", b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded)
    return file.getvalue()


def _with(**arrays: Any) -> bytes:
    """Return a whole store file of two segments, with some arrays other than they should be."""
    file = io.BytesIO()
    whole = {"values": np.zeros((2, *SHAPE), np.float32), "start_s": np.arange(2.0), "end_s": np.arange(2.0) + 1}
    np.savez(file, **(whole | arrays))
    return file.getvalue()


def _deflated() -> bytes:
    """Return a small file that unpacks to a large one."""
    file = io.BytesIO()
    np.savez_compressed(file, values=np.zeros((10**6, *SHAPE), np.float32), start_s=np.zeros(1), end_s=np.zeros(1))
    return file.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        _flip,
        lambda _: b"",
        lambda _: b"no archive",
        lambda _: b"PK\x03\x04",
        lambda data: data[:-1],
        lambda _: _with_header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000000, 8, 30)}"),
        lambda _: _with_header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 8, 30)}"),
        lambda _: _with_header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"9" * 90),
        lambda _: _with_header(b"(" * 110),
        lambda _: _with_header(b"\xff\x00"),
        lambda _: _with_header(b"{'descr': '|O', 'fortran_order': False, 'shape': ()}"),
        lambda _: _with(values=np.array([{"a": 1}, {}], dtype=object)),
        lambda _: _with(values=np.zeros((2, *SHAPE), np.float16)),
        lambda _: _with(values=np.zeros((3, *SHAPE), np.float32)),
        lambda _: _with(values=np.zeros((2, 3), np.float32)),
        lambda _: _with(values=np.full((2, *SHAPE), np.inf, np.float32)),
        lambda _: _with(start_s=np.zeros(())),
        lambda _: _with(start_s=np.full(2, np.nan)),
        lambda _: _with(more=np.zeros(1)),
        lambda _: _deflated(),
    ],
    ids=[
        *("cut", "one bit", "empty", "other", "start only", "last byte", "claims 4 PB", "negative", "token", "nested"),
        *("not text", "object", "pickled", "other type", "more segments", "fewer dimensions", "infinite"),
        *("no times", "not a number", "more arrays", "deflated"),
    ],
)
def test_a_damaged_file_is_reported_and_computed_again(
    paths: list[Path], cache: Path, decoded: list[str], damage: Any
) -> None:
    first = load(paths, cache)
    spectrograms = [file for file in files(cache) if np.load(file)["values"].ndim == 3]
    for file in spectrograms:
        file.write_bytes(damage(file.read_bytes()))
    decoded.clear()
    with pytest.warns(EmosegWarning) as reported:
        assert same(load(paths, cache), first)
    assert sorted(str(w.message) for w in reported) == sorted(
        f"{f}: is damaged; it is computed again" for f in spectrograms
    )
    assert len(decoded) == 3
    decoded.clear()
    assert same(load(paths, cache), first)
    assert decoded == [], "the damaged files were replaced"


@pytest.mark.parametrize("damage", [_cut, lambda _: _with(values=np.zeros((2, 4), np.float32))])
def test_damaged_evidence_is_computed_again(paths: list[Path], cache: Path, damage: Any) -> None:
    first = load(paths, cache)
    for file in files(cache):
        if np.load(file)["values"].ndim == 2:
            file.write_bytes(damage(file.read_bytes()))
    with pytest.warns(EmosegWarning, match="is damaged; it is computed again"):
        assert same(load(paths, cache), first)


# --- segments that are not music -------------------------------------------------------------------------------------


def mixed(path: Path, music: list[bool]) -> Path:
    """Write a recording with a second of chirps where `music` is true and a second of noise elsewhere."""
    t = np.arange(8000) / 8000
    chirp = (0.2 * np.sin(2 * np.pi * (300 * t + 400 * t**2)) * np.exp(-2 * t)).astype(np.float32)
    hiss = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    soundfile.write(path, np.concatenate([chirp if here else hiss for here in music]), 8000, subtype="FLOAT")
    return path


def test_only_segments_of_music_are_returned(cache: Path, tmp_path: Path) -> None:
    pattern = [True, False, True, True, False]
    paths = [mixed(tmp_path / "a.wav", pattern), mixed(tmp_path / "b.wav", [True, True])]
    table = load(paths, cache, labels=["happy", "sad"])
    assert table.recording.tolist() == [0, 0, 0, 1, 1]
    assert table.start_s.tolist() == [0, 2, 3, 0, 1]
    assert table.end_s.tolist() == [1, 3, 4, 1, 2]
    samples = soundfile.read(paths[0], dtype="float32")[0].reshape(5, 8000)
    expected = build_frontend(LOGMEL, SEGMENT)(samples[[0, 2, 3]])
    assert np.array_equal(table.features["logmel"][:3], expected)


def test_a_label_named_like_a_kind_of_sound_keeps_its_segments(cache: Path, tmp_path: Path) -> None:
    paths = [mixed(tmp_path / "a.wav", [True, False, False])]
    assert load(paths, cache, labels=["noise", "calm"]).start_s.tolist() == [0, 1, 2]
    assert load(paths, cache, labels=["calm"]).start_s.tolist() == [0], "of the same stored features"


def test_a_recording_that_is_hardly_music_is_left_out_with_a_line(cache: Path, tmp_path: Path) -> None:
    quarter = mixed(tmp_path / "quarter.wav", [True, False, False, False])
    less = mixed(tmp_path / "less.wav", [True, False, False, False, False])
    table = load([less, quarter], cache, labels=["calm"])
    assert table.recording.tolist() == [1]
    assert table.failures == {0: f"{less}: is mostly noise: less than a quarter of its segments are music"}


def test_frontends_that_tell_other_times_are_computed_again(paths: list[Path], cache: Path) -> None:
    both = [LOGMEL, DESCRIPTORS]
    first = load(paths[:1], cache, frontends=both)
    [file] = [file for file in files(cache) if np.load(file)["values"].shape[1:] == (608,)]
    with np.load(file) as data:
        np.savez(file, values=data["values"], start_s=data["start_s"] + 1, end_s=data["end_s"])
    with pytest.warns(EmosegWarning, match="is damaged; it is computed again"):
        assert same(load(paths[:1], cache, frontends=both), first)


def test_a_recording_that_changes_while_it_is_read_is_refused(
    paths: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its features are of the old content, and must not be found under the new one."""
    swaps = iter([True])

    def reader(path: Path, *, segment: SegmentConfig) -> Any:
        yield from SegmentReader(path, segment=segment)
        if path == paths[1] and next(swaps, False):
            song(paths[1], seed=99, seconds=3.0)

    monkeypatch.setattr("emoseg.frontends.store.SegmentReader", reader)
    table = load(paths, cache)
    assert table.failures == {1: f"{paths[1]}: changed while it was read"}
    assert set(table.recording.tolist()) == {0, 2}
    assert len(files(cache)) == 4, "features and evidence of two recordings"
    assert same(load(paths, cache), load(paths, cache.with_name("other")))


def test_a_recording_that_is_only_touched_while_it_is_read_is_refused(
    paths: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reader(path: Path, *, segment: SegmentConfig) -> Any:
        yield from SegmentReader(path, segment=segment)
        os.utime(path, ns=(1, 1))

    monkeypatch.setattr("emoseg.frontends.store.SegmentReader", reader)
    with pytest.raises(AudioError, match=r"0\.wav: changed while it was read"):
        load(paths[:1], cache)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(
    paths: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    compute = Descriptors.__call__

    def sometimes(self: Descriptors, segments: Float32) -> Float32:
        found = compute(self, segments)
        if len(segments) == 3:
            found[1, 7] = value
        return found

    monkeypatch.setattr(Descriptors, "__call__", sometimes)
    table = load(paths, cache, frontends=[LOGMEL, DESCRIPTORS])
    name = (build_frontend(DESCRIPTORS, SEGMENT).feature_names or ())[7]
    message = f"{paths[1]}: the frontend descriptors gives a number that is not finite: {name}"
    assert table.failures == {1: message}
    assert set(table.recording.tolist()) == {0, 2}
    assert len(files(cache)) == 6
    with pytest.raises(AudioError, match="the frontend descriptors") as caught:
        compute_features([build_frontend(DESCRIPTORS, SEGMENT)], np.zeros((3, 8000), dtype=np.float32))
    assert caught.value.kind == "nonfinite"


def test_sound_that_is_too_loud_is_one_line(cache: Path, tmp_path: Path) -> None:
    loud = tmp_path / "loud.wav"
    soundfile.write(loud, np.full(16000, 1e38, dtype=np.float32), 8000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"loud\.wav: "):
        load([loud], cache, frontends=[DESCRIPTORS])


def test_a_pipe_is_refused_without_waiting_for_its_writer(paths: list[Path], cache: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    table = load([*paths, tmp_path / "pipe.wav", tmp_path], cache)
    assert table.failures == {
        3: f"{tmp_path / 'pipe.wav'}: is not a regular file",
        4: f"{tmp_path}: is a folder, not a file",
    }


def test_half_written_files_of_a_killed_run_go(paths: list[Path], cache: Path) -> None:
    load(paths, cache)
    file = next(iter(files(cache)))
    left = file.with_name(".emoseg-0123456789abcdef.tmp")
    left.write_bytes(b"half")
    load(paths, cache)
    assert left.exists(), "nothing had to be computed"
    file.unlink()
    load(paths, cache)
    assert not left.exists()
    assert len(files(cache)) == 6


@pytest.mark.parametrize("at", ["folder", "table"])
def test_a_full_disk_is_one_line(paths: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    if at == "folder":
        cache.mkdir()
        (cache / "features").write_text("a file where the folder of the store should be")
        with pytest.raises(EmosegError, match=r"features/.*: cannot be made: Not a directory"):
            load(paths, cache)
        return

    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(28, "No space left on device")

    load(paths, cache)
    monkeypatch.setattr("emoseg.frontends.store.tempfile.TemporaryFile", lambda **_: Full())
    with pytest.raises(EmosegError, match="features: cannot be written: No space left on device"):
        load(paths, cache)


def test_failures_are_reported_and_stop_nothing(paths: list[Path], cache: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"not sound")
    short = song(tmp_path / "short.wav", seed=1, seconds=0.2)
    absent = tmp_path / "absent.wav"
    table = load([absent, paths[0], tmp_path / "bad.wav", short, paths[1]], cache)
    assert table.recording.tolist() == [1, 1, 4, 4, 4]
    assert list(table.failures) == [0, 2, 3]
    assert table.failures[0] == f"{absent}: no such file"
    assert "bad.wav: cannot be decoded" in table.failures[2]
    assert table.failures[3] == f"{short}: lasts 0.2 s, shorter than the minimum of 0.5 s"
    assert len(files(cache)) == 4, "features and evidence of two recordings"


def test_nothing_usable_is_an_error_with_the_first_cause(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"absent\.wav: no such file"):
        load([tmp_path / "absent.wav", tmp_path / "other.wav"], cache)
    with pytest.raises(AudioError, match="no recordings given"):
        load([], cache)


def test_settings_that_do_not_fit_are_reported_before_any_decoding(
    paths: list[Path], cache: Path, decoded: list[str]
) -> None:
    with pytest.raises(ConfigError, match="fmax_hz"):
        load(paths, cache, frontends=[LogMelConfig(fmax_hz=11025)])
    assert decoded == []


def test_no_temporary_file_stays(paths: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(paths, cache)
    assert {path.suffix for path in files(cache)} == {".npz"}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(EmosegError, match=r"\.npz: cannot be written: No space left"):
        load(paths, cache, frontends=[DESCRIPTORS])
    assert {path.suffix for path in files(cache)} == {".npz"}
    assert len(files(cache)) == 6


def test_two_processes_give_the_same_as_one(tmp_path: Path) -> None:
    paths = [song(tmp_path / f"{i}.wav", seed=i) for i in range(5)]
    (tmp_path / "1.wav").write_bytes(b"not sound")
    one = load(paths, tmp_path / "one", workers=1)
    two = load(paths, tmp_path / "two", workers=2)
    assert same(one, two)
    assert list(one.failures) == [1]

    def contents(root: Path) -> dict[str, bytes]:
        return {str(file.relative_to(root)): file.read_bytes() for file in files(root)}

    assert contents(tmp_path / "one").keys() == contents(tmp_path / "two").keys()


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EMOSEG_CACHE", str(tmp_path / "mine"))
    assert default_cache() == tmp_path / "mine"
    monkeypatch.setenv("EMOSEG_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg" / "emoseg"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert default_cache() == tmp_path / ".cache" / "emoseg"
