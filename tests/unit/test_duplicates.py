"""The same recording under another name, in another encoding, at another level, cut otherwise; kept readings."""

from __future__ import annotations

import io
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from layouts import make_folder, make_fourq, make_pmemo, put, wav

from emoseg.checking.check import check_corpus
from emoseg.checking.fingerprint import HOP_S, SAMPLE_RATE_HZ, Words, fingerprint, near_duplicates
from emoseg.checking.readings import Reading
from emoseg.corpora import load_corpus
from emoseg.errors import EmosegError, EmosegWarning
from emoseg.types import Float32

RATE = 22050


def music(seed: int, seconds: float = 12.0) -> Float32:
    """Return notes of decaying partials at random times and pitches, over a little noise."""
    rng = np.random.default_rng(seed)
    n = round(seconds * RATE)
    sound = 1e-3 * rng.standard_normal(n)
    for _ in range(round(6 * seconds)):
        at, pitch = int(rng.integers(0, n)), 110 * 2 ** (rng.integers(0, 36) / 12)
        t = np.arange(min(n - at, RATE)) / RATE
        partials = np.sum([np.sin(2 * np.pi * pitch * k * t) / k for k in range(1, 8)], axis=0)
        sound[at : at + len(t)] += rng.uniform(0.2, 1) * partials * np.exp(-4 * t)
    return np.asarray(0.5 * sound / np.abs(sound).max(), dtype=np.float32)


def save(path: Path, sound: Float32, *, rate: int = RATE, **settings: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate, **settings)
    return path


def prints(*sounds: Float32) -> list[Words]:
    return [fingerprint(np.asarray(soxr.resample(sound, 4, 1), dtype=np.float32)) for sound in sounds]


def test_copies_are_found_and_others_are_not() -> None:
    a, b, c = music(1), music(2), music(3)
    found = near_duplicates(prints(a, b, c, 0.05 * b, a[round(1.3 * RATE) :]))
    assert [(pair.first, pair.second) for pair in found] == [(0, 4), (1, 3)]
    assert found[0].offset_s == pytest.approx(-1.3, abs=HOP_S)  # the whole begins 1.3 s before the part
    assert found[0].error < 0.15
    assert found[1].offset_s == 0.0
    assert found[1].error < 0.02


def test_noise_and_a_dull_copy_are_found() -> None:
    sounds = [music(seed) for seed in range(6)]
    dull = np.asarray(soxr.resample(soxr.resample(sounds[2], RATE, 6000), 6000, RATE), dtype=np.float32)
    noisy = sounds[4] + np.float32(0.01) * np.random.default_rng(0).standard_normal(len(sounds[4])).astype(np.float32)
    found = near_duplicates(prints(*sounds, dull, noisy))
    assert [(pair.first, pair.second) for pair in found] == [(2, 6), (4, 7)]


def test_silence_and_steady_tones_are_no_duplicates() -> None:
    t = np.arange(12 * RATE) / RATE
    tones = [0.1 * np.sin(2 * np.pi * f * t).astype(np.float32) for f in (220, 221, 440, 883)]
    silence = np.zeros(12 * RATE, dtype=np.float32)
    ends = [np.concatenate([music(seed, 6.0), silence]) for seed in (1, 2)]
    assert near_duplicates(prints(*tones, silence, silence, *ends)) == []


def test_short_recordings_have_no_fingerprint() -> None:
    assert len(fingerprint(np.zeros(1000, dtype=np.float32))) == 0
    assert near_duplicates([]) == []
    assert near_duplicates([np.empty(0, dtype=np.uint32)] * 3) == []


def test_a_fingerprint_has_a_word_a_hop() -> None:
    words = fingerprint(np.random.default_rng(0).standard_normal(round(10 * SAMPLE_RATE_HZ)).astype(np.float32))
    assert len(words) == pytest.approx(10 / HOP_S, abs=20)
    assert words.dtype == np.uint32
    assert np.bitwise_count(words).mean() == pytest.approx(16, abs=1)


def test_many_recordings_are_not_compared_pair_by_pair() -> None:
    """Words of 20,000 recordings; a comparison of all pairs would take hours."""
    rng = np.random.default_rng(0)
    words = list(rng.integers(1, 2**32 - 1, (20_000, 250), dtype=np.uint32))
    words[19_000] = words[77] ^ np.where(rng.random(250) < 0.3, np.uint32(1 << 7), np.uint32(0))
    assert [(pair.first, pair.second) for pair in near_duplicates(words)] == [(77, 19_000)]


# --- corpus check ----------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_check_names_the_same_recording_twice(tmp_path: Path, cache: Path) -> None:
    for i in range(4):
        save(tmp_path / ("happy", "sad")[i % 2] / f"{i}.wav", music(i))
    save(tmp_path / "sad" / "again.ogg", 0.3 * music(0)[RATE // 2 :])
    put(tmp_path / "happy" / "copy.wav", (tmp_path / "happy" / "2.wav").read_bytes())
    corpus = load_corpus(f"folder:{tmp_path}")
    report = check_corpus(corpus, cache=cache, workers=1, quiet=True)
    assert report.duplicates == ((str(Path("happy", "0.wav")), str(Path("sad", "again.ogg"))),
                                 (str(Path("happy", "2.wav")), str(Path("happy", "copy.wav"))))  # fmt: skip
    near, exact = [p for p in report.problems if p.severity == "error"]
    assert f"{Path('sad', 'again.ogg')}: is the same recording (" in near.message
    assert "begins 0.5 s later" in near.message
    assert near.message.endswith("0.wav; labels happy and sad; a split can have it on both sides")
    assert f"{Path('happy', 'copy.wav')}: is the same file as" in exact.message
    assert exact.message.endswith("2.wav; a split can have it on both sides")
    assert report.to_json()["duplicates"] == [list(pair) for pair in report.duplicates]


def test_a_duplicate_by_the_same_artist_cannot_leak(tmp_path: Path, cache: Path) -> None:
    for i in range(3):
        save(tmp_path / f"{i}.wav", music(i))
    save(tmp_path / "3.flac", music(0))
    table = "path,label,artist\n0.wav,a,x\n1.wav,b,y\n2.wav,b,z\n3.flac,a,x\n"
    put(tmp_path / "songs.csv", table.encode())
    report = check_corpus(load_corpus(f"csv:{tmp_path / 'songs.csv'}"), cache=cache, workers=1, quiet=True)
    assert report.errors == 0
    [warning] = report.problems
    assert warning.message.endswith("0.wav")


def test_a_second_check_decodes_nothing(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder(tmp_path)
    corpus = load_corpus(f"folder:{root}")
    first = check_corpus(corpus, cache=cache, workers=1, quiet=True)
    decoded: list[Path] = []
    from emoseg.checking import readings

    decode = readings._decode
    monkeypatch.setattr(readings, "_decode", lambda path: decoded.append(path) or decode(path))  # type: ignore[func-returns-value]
    assert check_corpus(corpus, cache=cache, workers=1, quiet=True) == first
    assert decoded == []
    changed = put(root / "happy" / "album 0" / "0.wav", wav(3.0, seed=1))
    os.utime(changed, ns=(1, 1))
    again = check_corpus(corpus, cache=cache, workers=1, quiet=True)
    assert decoded == [changed]
    assert again.duration_s == pytest.approx(first.duration_s + 1, abs=0.01)


def test_failures_are_tried_again(tmp_path: Path, cache: Path) -> None:
    root = make_folder(tmp_path)
    bad = put(root / "sad" / "album 0" / "1.wav", b"no sound")
    report = check_corpus(load_corpus(f"folder:{root}"), cache=cache, workers=1, quiet=True)
    assert report.unreadable == (str(bad.relative_to(root)),)
    with sqlite3.connect(cache / "readings.sqlite") as table:
        assert table.execute("SELECT COUNT(*) FROM reading").fetchone() == (7,)
    table.close()


def _replaced(file: Path, *statements: str) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as table:
        for statement in statements:
            table.execute(statement)
        table.commit()


def _overwritten(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[100:] = b"\xa5" * (len(data) - 100)
    file.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b"this is no database, but text of some length " * 100),
        lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
        _overwritten,
        lambda file: _replaced(file, "CREATE TABLE reading (key TEXT PRIMARY KEY, duration REAL)"),
        lambda file: _replaced(file, "CREATE VIEW reading AS SELECT 'a' AS key, 1.0 AS duration_s"),
        lambda file: _replaced(
            file,
            "CREATE TABLE reading (key TEXT PRIMARY KEY, duration_s REAL, content TEXT, words BLOB, more TEXT)",
        ),
    ],
    ids=["no database", "cut", "overwritten", "missing columns", "a view", "more columns"],
)
def test_a_damaged_table_of_readings_is_replaced(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    corpus, cache = load_corpus(f"folder:{make_folder(tmp_path / 'songs')}"), tmp_path / "cache"
    first = check_corpus(corpus, cache=cache, workers=1, quiet=True)
    file = cache / "readings.sqlite"
    damage(file)
    with pytest.warns(EmosegWarning) as reported:
        assert check_corpus(corpus, cache=cache, workers=1, quiet=True) == first
    [line] = {str(warning.message) for warning in reported}
    assert line.startswith(f"{file}: is damaged (")
    assert line.endswith("it is replaced, and recordings are read again")
    with closing(sqlite3.connect(file)) as table:
        assert table.execute("SELECT COUNT(*) FROM reading").fetchone() == (8,)
    assert check_corpus(corpus, cache=cache, workers=1, quiet=True) == first
    assert [path.name for path in cache.iterdir()] == ["readings.sqlite"]


@pytest.mark.parametrize(
    "change",
    [
        "duration_s = 'long'",
        "duration_s = NULL",
        "duration_s = 9e999",
        "content = 7",
        "words = x'010203'",
        "words = 'a'",
    ],
)
def test_a_damaged_row_is_read_again(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    corpus = load_corpus(f"folder:{make_folder(tmp_path)}")
    first = check_corpus(corpus, cache=cache, workers=1, quiet=True)
    with closing(sqlite3.connect(cache / "readings.sqlite")) as table:
        table.execute(f"UPDATE reading SET {change} WHERE rowid <= 3")
        table.commit()
    from emoseg.checking import readings

    decoded: list[Path] = []
    decode = readings._decode
    monkeypatch.setattr(readings, "_decode", lambda path: decoded.append(path) or decode(path))  # type: ignore[func-returns-value]
    assert check_corpus(corpus, cache=cache, workers=1, quiet=True) == first
    assert len(decoded) == 3
    assert check_corpus(corpus, cache=cache, workers=1, quiet=True) == first
    assert len(decoded) == 3


def test_a_table_that_another_process_has_is_not_used(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emoseg.checking.readings._TIMEOUT_S", 0.01)
    corpus = load_corpus(f"folder:{make_folder(tmp_path)}")
    first = check_corpus(corpus, cache=cache, workers=1, quiet=True)
    with closing(sqlite3.connect(cache / "readings.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.warns(EmosegWarning, match=r"readings\.sqlite: is in use by another process; nothing is kept"):
            assert check_corpus(corpus, cache=cache, workers=1, quiet=True) == first


def test_a_full_disk_for_readings_is_one_line(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite has words of its own for it, here those of a table that must not grow."""
    corpus = load_corpus(f"folder:{make_folder(tmp_path)}")
    connect = sqlite3.connect

    def small(*args: object, **options: object) -> sqlite3.Connection:
        connection = connect(*args, **options)  # type: ignore[call-overload]
        connection.execute("PRAGMA max_page_count = 2")
        return connection

    long = np.zeros(4000, dtype=np.uint32)
    reading = Reading(1.0, "0" * 32, long)
    monkeypatch.setattr("emoseg.checking.readings._decode", lambda path: reading)
    monkeypatch.setattr("emoseg.checking.readings.sqlite3.connect", small)
    with pytest.raises(EmosegError, match=r"readings\.sqlite: cannot be written: database or disk is full"):
        check_corpus(corpus, cache=cache, workers=1, quiet=True)


def test_a_full_disk_for_fingerprints_is_one_line(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("emoseg.checking.check.tempfile.TemporaryFile", lambda **_: Full())
    with pytest.raises(EmosegError, match=f"^{cache}: cannot be written: No space left on device$"):
        check_corpus(load_corpus(f"folder:{make_folder(tmp_path)}"), cache=cache, workers=1, quiet=True)


def test_a_table_of_readings_that_is_no_file(tmp_path: Path) -> None:
    corpus, cache = load_corpus(f"folder:{make_folder(tmp_path / 'songs')}"), tmp_path / "cache"
    (cache / "readings.sqlite").mkdir(parents=True)
    with pytest.raises(EmosegError, match=r"readings\.sqlite: is a folder, not a file"):
        check_corpus(corpus, cache=cache, workers=1, quiet=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(EmosegError, match="file: cannot be written: File exists"):
        check_corpus(corpus, cache=tmp_path / "file", workers=1, quiet=True)


def test_a_recording_that_changes_while_it_is_read_is_reported(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder(tmp_path)
    from emoseg.checking import readings

    decode = readings._decode

    def changing(path: Path) -> Reading:
        found = decode(path)
        if path.name == "0.wav":
            put(path, wav(3.0, seed=99))
        return found

    monkeypatch.setattr(readings, "_decode", changing)
    report = check_corpus(load_corpus(f"folder:{root}"), cache=cache, workers=1, quiet=True)
    name = "happy/album 0/0.wav"
    assert report.unreadable == (name,)
    assert f"{root / name}: changed while it was read" in [problem.message for problem in report.problems]


def test_processes_read_the_same_as_one(tmp_path: Path) -> None:
    for i in range(24):
        put(tmp_path / "songs" / ("a", "b")[i % 2] / f"{i}.wav", b"no sound" if i == 5 else wav(2.0, seed=i))
    corpus = load_corpus(f"folder:{tmp_path / 'songs'}")
    one, two = (
        check_corpus(corpus, cache=tmp_path / f"cache {workers}", workers=workers, quiet=True) for workers in (1, 2)
    )
    assert one == two
    assert one.unreadable == ("b/5.wav",)


def test_a_recording_that_is_cut_off_is_reported(tmp_path: Path, cache: Path) -> None:
    root = make_pmemo(tmp_path)  # two seconds each, as its metadata says
    for i, clip in enumerate(sorted((root / "chorus").iterdir())):
        put(clip, wav(2.0 if i else 1.0, seed=i))
    report = check_corpus(load_corpus(f"pmemo:{root}"), cache=cache, workers=1, quiet=True)
    assert not [p for p in report.problems if "cut off" in p.message]  # one second less may be rounding
    metadata = root / "metadata.csv"
    metadata.write_text(metadata.read_text().replace(",,2.0", ",,2.5"))
    report = check_corpus(load_corpus(f"pmemo:{root}"), cache=cache, workers=1, quiet=True)
    [cut] = [p.message for p in report.problems if "cut off" in p.message]
    assert cut.endswith("10.mp3: lasts 1.0 s of the published 2.5 s: is it cut off?")


def test_the_report_of_a_large_mess_stays_readable(tmp_path: Path, cache: Path) -> None:
    for i in range(130):
        put(tmp_path / ("a", "b")[i % 2] / f"{i}.wav", b"nothing")
    report = check_corpus(load_corpus(f"folder:{tmp_path}"), cache=cache, workers=1, quiet=True)
    lines = report.lines()
    assert sum(line.startswith("  error") for line in lines) == 101
    assert any(line.endswith("... and 30 more; --json has them all") for line in lines)
    assert len(report.to_json()["problems"]) == report.errors + 1 == 131


@pytest.mark.data
def test_the_one_real_duplicate_in_4q_and_no_false_alarm(tmp_path: Path) -> None:
    """Two names of one band: "Trav'lin' Light", cut half a second apart. Its neighbours here are all different."""
    data = os.environ.get("EMOSEG_DATA")
    if not data:
        pytest.skip("EMOSEG_DATA is not set")
    root = Path(data) / "MER_audio_taffc_dataset"
    clips = sorted((root / "Q3").glob("*.mp3"))
    i = clips.index(root / "Q3" / "MT0000523076.mp3")
    for clip in [*clips[i - 4 : i + 1], root / "Q3" / "MT0000941301.mp3", *clips[-4:]]:
        (tmp_path / ("a", "b")[int(clip.stem[-1]) % 2]).mkdir(exist_ok=True)
        (tmp_path / ("a", "b")[int(clip.stem[-1]) % 2] / clip.name).symlink_to(clip)
    report = check_corpus(load_corpus(f"folder:{tmp_path}"), cache=tmp_path / "c", workers=1, quiet=True)
    assert [{Path(x).stem for x in pair} for pair in report.duplicates] == [{"MT0000523076", "MT0000941301"}]


def test_a_fault_of_each_kind_in_one_folder(tmp_path: Path, cache: Path) -> None:
    """The summary is true: what is counted, left out and reported adds up to what is there."""
    root = make_fourq(tmp_path)
    clips = sorted(root.rglob("*.mp3"))
    for i, clip in enumerate(clips):
        save(clip, music(i, 4.0), format="MP3")
    put(clips[0], clips[0].read_bytes()[: clips[0].stat().st_size // 2])  # truncated
    put(clips[1], b"\0" * 2000)  # not audio
    clips[2].unlink()  # a label without song
    put(root / "Q1" / "MT99.mp3", clips[3].read_bytes())  # a song without label
    put(clips[4].with_suffix(".wav"), b"RIFF")  # two files of one song
    report = check_corpus(load_corpus(f"4q:{root}"), cache=cache, workers=1, quiet=True)
    data = report.to_json()
    assert data["songs"] == 15
    assert sum(data["counts"].values()) == 15
    assert data["excluded"] == {"no audio": [clips[2].stem]}
    assert data["unannotated"] == [str(root / "Q1" / "MT99.mp3")]
    assert data["unreadable"] == [clips[1].stem]
    lasts = [message for message in (p["message"] for p in data["problems"]) if "cut off" in message]
    assert len(lasts) == 14  # four seconds are less than the published thirty; the first has two
    assert f"{clips[0]}: lasts 1.9 s of the published 30.0 s" in lasts[0]
    text = "\n".join(report.lines())
    assert f"{clips[4].stem}.wav: is the same song as {clips[4]}; only one may stay" in text
    assert data["errors"] == sum(p["severity"] == "error" for p in data["problems"]) == 2
