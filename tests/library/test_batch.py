"""A batch: every recording once, whatever happens, and the same tables in the end."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import errno
import json
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from made import RATE, Call, Outcome, command, make_model, make_songs, spawn, tone

import emoseg
from emoseg.analysis.analyzer import Analyzer
from emoseg.audio.find import scan_folder
from emoseg.emotion import EmotionSpace
from emoseg.errors import ConfigError, EmosegError, EmosegWarning, ModelError
from emoseg.library import Manifest, Shard, merge, run_batch
from emoseg.library.contents import read_contents
from emoseg.library.manifest import MANIFEST_FILE
from emoseg.library.records import AnalysisJob, AnalysisOutcome
from emoseg.library.tables import probability_columns, song_id
from emoseg.library.workers import Setup, _analyse, set_up
from emoseg.system.files import PREFIX, folder_locked

Rows = list[dict[str, Any]]


def rows(out: Path, table: str) -> Rows:
    """Return all rows of a table, sorted."""
    found = [row for file in sorted((out / table).glob("*.parquet")) for row in pq.ParquetFile(file).read().to_pylist()]
    return sorted(found, key=lambda row: (row["path"], row.get("segment", 0)))


def tables(out: Path) -> tuple[Rows, Rows]:
    return rows(out, "songs"), rows(out, "segments")


def listed(out: Path) -> list[dict[str, str]]:
    """Return the rows of failures.csv."""
    with (out / "failures.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def analyses(out: Path) -> dict[str, int]:
    """How often each recording was analysed to the end."""
    with sqlite3.connect(out / MANIFEST_FILE) as db:
        return {os.fsdecode(path): n for path, n in db.execute("SELECT path, analyses FROM songs")}


def in_process(root: Path, out: Path, model: Path, **options: Any) -> Any:
    return run_batch(root, out, model=model, quiet=True, **{"workers": 1, **options})


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("music")
    make_songs(root, 8)
    return root


@pytest.fixture(scope="module")
def whole(music: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of `music`, made without interruption."""
    out = tmp_path_factory.mktemp("whole") / "library"
    in_process(music, out, model)
    return out


@dataclasses.dataclass(frozen=True)
class Small:
    """Two recordings and their library, which tests copy."""

    root: Path
    library: Path


@pytest.fixture(scope="module")
def small(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Small:
    folder = tmp_path_factory.mktemp("small")
    make_songs(folder / "music", 2, seconds=4)
    in_process(folder / "music", folder / "library", model)
    return Small(folder / "music", folder / "library")


@pytest.fixture
def out(small: Small, tmp_path: Path) -> Path:
    """Return a copy of the small library, to be damaged."""
    return Path(shutil.copytree(small.library, tmp_path / "out"))


def warned(action: Callable[[], Any], words: str) -> Any:
    """Return what an action returns that warns once."""
    with pytest.warns(EmosegWarning) as told:
        result = action()
    assert len(told) == 1
    assert words in str(told[0].message)
    assert "\n" not in str(told[0].message)
    return result


@pytest.fixture
def own(music: Path, tmp_path: Path) -> Path:
    """Return a copy of `music` to be changed."""
    return Path(shutil.copytree(music, tmp_path / "own", copy_function=shutil.copy2))


# --- what is in the tables -------------------------------------------------------------------------------------------


def test_tables_hold_what_the_analyzer_says(music: Path, whole: Path, model: Path) -> None:
    songs, segments = tables(whole)
    paths = sorted(path.relative_to(music).as_posix() for path in music.rglob("*.*"))
    assert [song["path"] for song in songs] == paths
    analyzer = Analyzer(model)
    for song in songs:
        analysis = analyzer.analyze(music / song["path"])
        assert song["song_id"] == song_id(song["path"])
        assert song["label"] == analysis.song.label
        assert song["duration_s"] == analysis.duration_s
        assert [song[f"p_{label}"] for label in analysis.space.labels] == pytest.approx(
            analysis.song.probabilities, abs=1e-6
        )
        assert song["valence"] == pytest.approx(analysis.song.valence, abs=1e-6)
        assert song["model"] == "tiny 1"
        own = [segment for segment in segments if segment["song_id"] == song["song_id"]]
        assert song["segments"] == len(own) == len(analysis.segments)
        for row, segment in zip(own, analysis.segments, strict=True):
            assert (row["start_s"], row["end_s"], row["label"]) == (segment.start_s, segment.end_s, segment.label)
            assert row["arousal"] == pytest.approx(segment.arousal, abs=1e-6)
    assert len({song["label"] for song in songs}) > 1, "the model tells these songs apart"


def test_sound_that_is_no_music_has_no_numbers(model: Path, tmp_path: Path) -> None:
    hiss = np.random.default_rng(0).normal(0, 0.1, 6 * RATE).astype(np.float32)
    (tmp_path / "music").mkdir()
    soundfile.write(tmp_path / "music" / "hiss.wav", hiss, RATE)
    pause = np.zeros(6 * RATE, dtype=np.float32)
    soundfile.write(tmp_path / "music" / "pause.wav", np.concatenate([tone(1), pause, tone(2)]), RATE)
    report = in_process(tmp_path / "music", tmp_path / "out", model)
    assert report.failures == ()
    songs, segments = tables(tmp_path / "out")
    numbers = ("p_Q1", "p_Q2", "p_Q3", "p_Q4", "valence", "arousal")
    assert [song["path"] for song in songs] == ["hiss.wav", "pause.wav"]
    assert (songs[0]["label"], songs[0]["confidence"]) == ("noise", 0)
    assert [songs[0][name] for name in numbers] == [None] * 6
    assert None not in [songs[1][name] for name in numbers]
    quiet = [row for row in segments if row["label"] == "silence"]
    assert [row["path"] for row in quiet] == ["pause.wav"]
    assert [quiet[0][name] for name in numbers] == [None] * 6


def test_tables_carry_their_schema(whole: Path) -> None:
    for name in ("songs", "segments"):
        (file,) = (whole / name).iterdir()
        metadata = pq.read_schema(file).metadata
        assert metadata[b"emoseg.schema"] == f"emoseg.library.{name}/1".encode()
        assert json.loads(metadata[b"emoseg.space"])["labels"] == ["Q1", "Q2", "Q3", "Q4"]


def test_artist_and_title_come_from_the_file(model: Path, tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    for suffix in (".flac", ".mp3", ".ogg"):
        with soundfile.SoundFile(tmp_path / "music" / f"a{suffix}", "w", RATE, 1) as file:
            file.artist, file.title = "Björk", "Jóga"
            file.write(tone(1))
    soundfile.write(tmp_path / "music" / "b.wav", tone(2), RATE)
    in_process(tmp_path / "music", tmp_path / "out", model)
    songs, _ = tables(tmp_path / "out")
    told = {song["path"]: (song["artist"], song["title"]) for song in songs}
    assert told.pop("b.wav") == (None, None)
    assert set(told.values()) == {("Björk", "Jóga")}
    assert len(told) == 3


def test_columns_of_labels_that_differ_by_case() -> None:
    space = EmotionSpace.from_labels(["Sad", "sad", "happy song"])
    assert probability_columns(space) == ("p_Sad", "p_happy song", "p_sad_2")


# --- what is done again, and what is not -----------------------------------------------------------------------------


def test_nothing_is_done_twice(own: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = in_process(own, out, model)
    assert (first.analysed, first.done, first.changes.new) == (8, 8, 8)
    before = tables(out)
    files = {file: file.stat().st_mtime_ns for file in out.rglob("*.parquet")}
    again = in_process(own, out, model)
    assert (again.analysed, again.done, again.changes.new, again.changes.changed) == (0, 8, 0, 0)
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*.parquet")} == files, "no table is written again"

    touched = next(own.rglob("0001*"))
    os.utime(touched, (1, 1))
    again = in_process(own, out, model)
    assert (again.analysed, again.changes.changed) == (0, 1), "a new date alone is no new song"
    assert set(analyses(out).values()) == {1}
    assert tables(out) == before
    assert in_process(own, out, model).changes.changed == 0


def test_a_changed_file_is_done_again(own: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    in_process(own, out, model)
    before, _ = tables(out)
    changed = next(own.rglob("0002*"))
    soundfile.write(changed, tone(99), RATE)
    assert in_process(own, out, model).analysed == 1
    songs, segments = tables(out)
    key = changed.relative_to(own).as_posix()
    assert [song["path"] for song in songs] == [song["path"] for song in before]
    assert [song["path"] for song, old in zip(songs, before, strict=True) if song != old] == [key]
    assert sum(song["segments"] for song in songs) == len(segments)
    assert {path: n for path, n in analyses(out).items() if n != 1} == {key: 2}


def test_a_song_that_vanished_leaves_the_tables_and_may_come_back(own: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    in_process(own, out, model)
    before = tables(out)
    file = next(own.rglob("0003*"))
    shutil.move(file, tmp_path / "elsewhere")
    report = in_process(own, out, model)
    assert (report.done, report.gone, report.changes.gone, report.complete) == (7, 1, 1, True)
    key = file.relative_to(own).as_posix()
    assert tables(out)[0] == [song for song in before[0] if song["path"] != key]
    shutil.move(tmp_path / "elsewhere", file)
    report = in_process(own, out, model)
    assert (report.done, report.gone, report.analysed, report.changes.back) == (8, 0, 0, 1)
    assert tables(out) == before


def test_a_drive_that_is_not_there_costs_nothing(own: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    in_process(own, out, model)
    before = tables(out)
    shutil.move(own, tmp_path / "drive")
    own.mkdir()
    with pytest.raises(ConfigError, match="holds no recordings, but the library does: is the drive connected"):
        in_process(own, out, model)
    assert tables(out) == before


@pytest.mark.skipif(sys.platform == "win32", reason="dates of that kind cannot be set")
def test_a_file_of_the_year_2400_is_like_any_other(model: Path, tmp_path: Path) -> None:
    (file,) = make_songs(tmp_path / "music", 1, seconds=4)
    os.utime(file, (13_570_000_000,) * 2)
    out = tmp_path / "out"
    assert in_process(tmp_path / "music", out, model).analysed == 1
    again = in_process(tmp_path / "music", out, model)
    assert (again.analysed, again.changes.changed, again.done) == (0, 0, 1)


def part_sizes(out: Path) -> list[int]:
    return sorted(pq.ParquetFile(file).metadata.num_rows for file in (out / "songs").iterdir())


def test_small_parts_are_joined_and_large_ones_bounded(
    own: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path
) -> None:
    monkeypatch.setattr("emoseg.library.parts.PART_SONGS", 8)
    out = tmp_path / "out"
    hidden = sorted(own.rglob("*.*"))[3:]
    for file in hidden:
        file.rename(file.with_suffix(f"{file.suffix}.off"))
    in_process(own, out, model)
    assert part_sizes(out) == [3]
    for file in hidden:
        file.with_suffix(f"{file.suffix}.off").rename(file)
    in_process(own, out, model)
    assert part_sizes(out) == [8]
    assert tables(out) == tables(whole)

    monkeypatch.setattr("emoseg.library.parts.PART_SONGS", 3)
    in_process(own, tmp_path / "other", model)
    assert part_sizes(tmp_path / "other") == [2, 3, 3]
    assert tables(tmp_path / "other") == tables(whole)


# --- damage ----------------------------------------------------------------------------------------------------------


def flip(file: Path, *, at: float) -> None:
    """Change one bit of a file."""
    data = bytearray(file.read_bytes())
    data[int(len(data) * at)] ^= 1
    file.write_bytes(data)


def folder_instead(file: Path) -> None:
    file.unlink()
    file.mkdir()


PART_DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "no such file"),
    "a folder": (folder_instead, "is a folder, not a file"),
    "empty": (lambda file: file.write_bytes(b""), "is damaged: its checksum is not the one in the manifest"),
    "cut off": (lambda file: file.write_bytes(file.read_bytes()[:-1]), "is damaged"),
    "no Parquet": (lambda file: file.write_bytes(b"PAR1" * 1000), "is damaged"),
    "one bit": (lambda file: flip(file, at=0.3), "is damaged"),
}


@pytest.mark.parametrize("damage", PART_DAMAGE)
@pytest.mark.parametrize("table", ["songs", "segments"])
def test_a_damaged_part_is_told_and_made_again(
    small: Small, model: Path, out: Path, tmp_path: Path, table: str, damage: str
) -> None:
    hurt, words = PART_DAMAGE[damage]
    (file,) = (out / table).iterdir()
    hurt(file)
    told = f"{file}: {words}"
    with pytest.raises(EmosegError) as refusal:
        read_contents(out).table(table)
    assert str(refusal.value).startswith(told)
    assert str(refusal.value).endswith("; 'emoseg batch' repairs it")
    with pytest.raises(EmosegError) as refusal:
        merge(tmp_path / "merged", [out])
    assert str(refusal.value).startswith(told)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    report = warned(lambda: in_process(small.root, out, model), f"{told}")
    assert (report.analysed, report.done) == (2, 2)
    if file.is_dir():
        file.rmdir()
    assert tables(out) == tables(small.library)
    read_contents(out).require_parts()


def in_database(statement: str) -> Callable[[Path], None]:
    def run(file: Path) -> None:
        with contextlib.closing(sqlite3.connect(file)) as db, db:
            db.execute("PRAGMA writable_schema = ON")
            db.execute("PRAGMA ignore_check_constraints = ON")
            db.execute(statement)

    return run


def with_settings(**changed: object) -> Callable[[Path], None]:
    def run(file: Path) -> None:
        with contextlib.closing(sqlite3.connect(file)) as db, db:
            (text,) = db.execute("SELECT value FROM meta WHERE key = 'settings'").fetchone()
            settings = json.dumps({**json.loads(text), **changed})
            db.execute("UPDATE meta SET value = ? WHERE key = 'settings'", (settings,))

    return run


def leaf_page_damaged(file: Path) -> None:
    """Overwrite the beginning of every page but the first: the file opens, and its tables cannot be read."""
    data = bytearray(file.read_bytes())
    size = int.from_bytes(data[16:18], "big")
    for start in range(size, len(data), size):
        data[start : start + 8] = b"\xff" * 8
    file.write_bytes(data)


def another_database(file: Path) -> None:
    file.unlink()
    in_database("CREATE TABLE t (a)")(file)


MANIFEST_DAMAGE: dict[str, Callable[[Path], object]] = {
    "no database": lambda file: file.write_text("no database, but long enough to look like one\n" * 20),
    "cut off": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "pages": leaf_page_damaged,
    "no tables of ours": another_database,
    "a table is missing": in_database("DROP TABLE pending"),
    "a column is missing": in_database("ALTER TABLE songs DROP COLUMN message"),
    "no format": in_database("DELETE FROM meta WHERE key = 'format'"),
    "no settings": in_database("DELETE FROM meta WHERE key = 'settings'"),
    "settings are no JSON": in_database("UPDATE meta SET value = '{' WHERE key = 'settings'"),
    "settings of another kind": in_database("UPDATE meta SET value = '[[[]]]' WHERE key = 'settings'"),
    "hop": with_settings(hop_s=float("nan")),
    "shard": with_settings(shard="x/y"),
    "space": with_settings(space={"name": "a", "labels": ["b"], "axes": {"b": {}}}),
    "root": with_settings(root=5),
    "unknown setting": with_settings(colour="blue"),
    "a number is text": in_database("UPDATE songs SET size = 'large'"),
    "text is not UTF-8": in_database("UPDATE songs SET content = CAST(x'ff' AS TEXT)"),
    "a path is another one": in_database("UPDATE songs SET path = x'61'"),
    "a size is no number": in_database("UPDATE parts SET songs_size = 'x'"),
}


@pytest.mark.parametrize("damage", MANIFEST_DAMAGE)
def test_a_damaged_manifest_is_refused_by_readers(out: Path, tmp_path: Path, damage: str) -> None:
    MANIFEST_DAMAGE[damage](out / MANIFEST_FILE)
    readers: list[Callable[[], object]] = [lambda: read_contents(out), lambda: merge(tmp_path / "merged", [out])]
    for read in readers:
        with pytest.raises(EmosegError) as refusal:
            read()
        assert str(refusal.value).startswith(f"{out / MANIFEST_FILE}: is damaged (")
        assert str(refusal.value).endswith("); 'emoseg batch' repairs it")
        assert "\n" not in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("damage", ["no database", "pages", "settings are no JSON", "text is not UTF-8"])
def test_a_damaged_manifest_is_set_aside_and_the_library_made_again(
    small: Small, model: Path, out: Path, damage: str
) -> None:
    file = out / MANIFEST_FILE
    MANIFEST_DAMAGE[damage](file)
    damaged = file.read_bytes()
    (out / f"{MANIFEST_FILE}.damaged").write_text("an earlier one")
    report = warned(lambda: in_process(small.root, out, model), f"{file}: is damaged (")
    assert (report.analysed, report.done) == (2, 2)
    assert tables(out) == tables(small.library)
    assert (out / f"{MANIFEST_FILE}.damaged").read_text() == "an earlier one"
    assert (out / f"{MANIFEST_FILE}.damaged-2").read_bytes() == damaged
    assert in_process(small.root, out, model).analysed == 0


def test_a_damaged_manifest_and_a_drive_that_is_not_there_cost_nothing(
    small: Small, model: Path, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (out / MANIFEST_FILE).write_bytes(b"x" * 5000)
    with pytest.warns(EmosegWarning, match="is damaged"), pytest.raises(ConfigError, match="is the drive connected"):
        in_process(tmp_path / "empty", out, model)
    assert tables(out) == tables(small.library)


def test_the_command_tells_of_damage_in_one_line(small: Small, model: Path, out: Path) -> None:
    file = out / MANIFEST_FILE
    file.write_bytes(b"x" * 5000)
    outcome = spawn("batch", small.root, "--out", out, "--model", model, "--workers", "1", "-q")
    again = "was renamed to manifest.sqlite.damaged; the library is made again from the recordings"
    assert outcome.err == f"emoseg: {file}: is damaged (file is not a database) and {again}\n"
    assert outcome.status == 0
    assert outcome.out.startswith(f"{out}: 2 songs; analysed 2 ")


@pytest.mark.parametrize("lost", [Path.unlink, lambda file: file.write_bytes(b"")], ids=["missing", "empty"])
def test_a_lost_manifest_is_told(small: Small, model: Path, out: Path, lost: Callable[[Path], object]) -> None:
    lost(out / MANIFEST_FILE)
    told = f"{out / MANIFEST_FILE}: is missing or empty; the library is made again from the recordings"
    assert warned(lambda: in_process(small.root, out, model), told).analysed == 2
    assert tables(out) == tables(small.library)
    assert len(list(out.rglob("*.parquet"))) == 2, "the files of the lost library are gone"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize(
    ("instead", "words"),
    [(Path.mkdir, "is a folder, not a file"), (os.mkfifo, "is not a regular file")],
    ids=["folder", "pipe"],
)
def test_a_manifest_that_is_no_file_is_one_line(
    small: Small, model: Path, out: Path, call: Call, instead: Callable[[Path], object], words: str
) -> None:
    file = out / MANIFEST_FILE
    file.unlink()
    instead(file)
    refused(call("batch", small.root, "--out", out, "--model", model), f"{file}: {words}")
    with pytest.raises(EmosegError, match=words):
        read_contents(out)


def test_a_journal_that_was_left_behind(small: Small, model: Path, out: Path) -> None:
    journal = out / f"{MANIFEST_FILE}-journal"
    journal.write_bytes(os.urandom(5000))
    assert read_contents(out).counts["done"] == 2
    assert in_process(small.root, out, model).analysed == 0, "SQLite ignores what is no journal"

    # A journal of another moment, which SQLite plays back, because the process that began it is dead.
    script = (
        "import os, sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('PRAGMA cache_size = 1');"
        "db.execute('BEGIN'); db.execute('UPDATE songs SET message = hex(zeroblob(20000))');"
        "db.execute('CREATE TABLE t AS SELECT randomblob(20000) FROM songs'); os.kill(os.getpid(), 9)"
    )
    other = Path(shutil.copytree(out, out.parent / "other"))
    subprocess.run([sys.executable, "-c", script, str(other / MANIFEST_FILE)], check=False)
    hot = (other / f"{MANIFEST_FILE}-journal").read_bytes()
    assert hot[:8].hex() == "d9d505f920a163d7", "the mark of a journal that is to be played back"
    with contextlib.closing(sqlite3.connect(out / MANIFEST_FILE)) as db, db:
        db.execute("UPDATE songs SET message = hex(zeroblob(9000))")
    journal.write_bytes(hot)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmosegWarning)  # that the manifest was set aside, where playing back damaged it
        in_process(small.root, out, model)
    assert tables(out) == tables(small.library)
    assert not journal.exists()


@pytest.mark.skipif(os.name != "posix", reason="needs a folder in which nothing can be opened")
def test_a_journal_that_cannot_be_opened_is_one_line(small: Small, model: Path, out: Path, call: Call) -> None:
    (out / f"{MANIFEST_FILE}-journal").mkdir()
    start = ("batch", small.root, "--out", out, "--model", model)
    refused(call(*start), f"{out / MANIFEST_FILE}: cannot be read: ")
    (out / f"{MANIFEST_FILE}-journal").rmdir()
    assert call(*start, "-q").status == 0


def unfinished(small: Small, out: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a library whose songs are done and not yet in the tables."""
    with monkeypatch.context() as patch:
        patch.setattr("emoseg.library.run.update_tables", lambda *_, **__: None)
        in_process(small.root, out, model)
    assert len(read_contents(out).failures) == 0
    assert read_contents(out).waiting == 2


ROW_DAMAGE: dict[str, str] = {
    "no stream": "UPDATE pending SET songs = x'00'",
    "cut off": "UPDATE pending SET segments = substr(segments, 1, length(segments) / 2)",
    "another table": "UPDATE pending SET songs = segments",
    "another song": "UPDATE pending SET songs = (SELECT p.songs FROM pending AS p WHERE p.song_id != pending.song_id), "
    "segments = (SELECT p.segments FROM pending AS p WHERE p.song_id != pending.song_id)",
    "lost": "DELETE FROM pending",
}


@pytest.mark.parametrize("damage", ROW_DAMAGE)
def test_damaged_rows_are_done_again(
    small: Small, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    out = tmp_path / "out"
    unfinished(small, out, model, monkeypatch)
    in_database(f"{ROW_DAMAGE[damage]} WHERE song_id = (SELECT min(song_id) FROM songs)")(out / MANIFEST_FILE)
    if damage == "lost":
        report = in_process(small.root, out, model)
    else:
        told = f"{out / MANIFEST_FILE}: the results of 1 songs in it are damaged"
        with pytest.raises(EmosegError, match="the results of 1 songs in it are damaged; 'emoseg batch' repairs it"):
            merge(tmp_path / "merged", [out])
        report = warned(lambda: in_process(small.root, out, model), told)
    assert (report.analysed, report.done) == (1, 2)
    assert tables(out) == tables(small.library)


def test_a_song_whose_result_was_lost_while_it_was_gone_is_done_again(model: Path, tmp_path: Path, own: Path) -> None:
    out = tmp_path / "out"
    for file in sorted(own.rglob("*.*"))[2:]:
        file.unlink()
    in_process(own, out, model)
    before = tables(out)
    file = next(own.rglob("*.*"))
    file.rename(tmp_path / "elsewhere")
    in_process(own, out, model)
    in_database("UPDATE pending SET songs = x'00'")(out / MANIFEST_FILE)
    warned(lambda: in_process(own, out, model), "the results of 1 songs in it are damaged")
    (tmp_path / "elsewhere").rename(file)
    report = in_process(own, out, model)
    assert (report.analysed, report.changes.back) == (1, 1)
    assert tables(out) == before


def test_failures_csv_that_is_a_folder_is_one_line(small: Small, model: Path, out: Path, call: Call) -> None:
    (out / "failures.csv").mkdir()
    start = ("batch", small.root, "--out", out, "--model", model, "-q")
    refused(call(*start), f"{out / 'failures.csv'}: cannot be written: ")
    (out / "failures.csv").rmdir()
    assert call(*start).status == 0


IMPORTS = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"pandas", "duckdb", "torch", "sklearn", "mutagen", "matplotlib"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
from emoseg.cli.app import main
sys.argv[0] = "emoseg"
main()
"""


def test_a_library_is_updated_and_merged_where_nothing_else_imports_pyarrow(
    own: Path, model: Path, tmp_path: Path
) -> None:
    """pyarrow's parts are modules of their own: each must be imported by who uses it."""

    def run(*args: str | Path) -> None:
        done = subprocess.run(
            [sys.executable, "-c", IMPORTS, *map(str, args)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")

    files = sorted(own.rglob("*.*"))
    for file in files[4:]:
        file.unlink()
    files[3].rename(tmp_path / "later")
    out = tmp_path / "out"
    run("batch", own, "--out", out, "--model", model, "--workers", "1", "-q")
    (tmp_path / "later").rename(files[3])
    soundfile.write(files[0], tone(50), RATE)
    files[1].unlink()
    run("batch", own, "--out", out, "--model", model, "--workers", "1", "-q")
    in_process(own, tmp_path / "fresh", model)
    assert tables(out) == tables(tmp_path / "fresh")
    run("batch", "--merge", tmp_path / "merged", out)
    assert tables(tmp_path / "merged") == tables(out)


def test_every_module_imports_the_parts_of_pyarrow_that_it_uses() -> None:
    """Another package may import them too, or may not."""
    used = set()
    for file in Path(emoseg.__file__).parent.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        for part in ("compute", "dataset", "ipc", "parquet"):
            if re.search(rf"\b(pa|pyarrow)\.{part}\.", text):
                used.add(part)
                assert re.search(rf"^\s*import pyarrow\.{part}\b", text, re.MULTILINE), f"{file} uses pyarrow.{part}"
    assert used >= {"dataset", "ipc"}


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Return a folder with one good recording and several that fail."""
    root = tmp_path / "music"
    root.mkdir()
    soundfile.write(root / "good.wav", tone(1), RATE)
    soundfile.write(root / "silent.wav", np.zeros(3 * RATE, dtype=np.float32), RATE)
    soundfile.write(root / "short.wav", tone(1)[:2000], RATE)
    (root / "empty.mp3").touch()
    (root / "text.wav").write_text("These are the lyrics.\n" * 50)
    (root / "nowhere.mp3").symlink_to(root / "absent.mp3")
    if hasattr(os, "mkfifo"):
        os.mkfifo(root / "pipe.wav")
    return root


KINDS = {
    "silent.wav": "silent",
    "short.wav": "short",
    "empty.mp3": "empty",
    "text.wav": "decode",
    "nowhere.mp3": "missing",
    "pipe.wav": "unreadable",
}


def test_every_failure_is_listed_with_its_class_and_words(
    broken: Path, model: Path, tmp_path: Path, call: Call
) -> None:
    out = tmp_path / "out"
    start = ("batch", broken, "--out", out, "--model", model, "--workers", "1", "--quiet")
    outcome = call(*start)
    assert outcome.status == 1
    assert outcome.out.startswith(f"{out}: 1 songs, 6 failed; analysed 1 ")
    failed = listed(out)
    assert {row["path"]: row["type"] for row in failed} == KINDS
    assert outcome.err.splitlines() == [f"emoseg: {row['message']}" for row in failed]
    words = {row["path"]: row["message"] for row in failed}
    assert "soundfile: Format not recognised" in words["text.wav"]
    assert all(str(broken) in message and "\n" not in message for message in words.values())

    again = call(*start, "--json")
    assert again.status == 1, "failures stay failures"
    report = json.loads(again.out)
    assert (report["schema"], report["analysed"], report["done"]) == ("emoseg.batch/1", 0, 1)
    assert {f["path"]: f["error"]["type"] for f in report["failures"]} == KINDS
    assert set(analyses(out).values()) == {1}, "what failed and has not changed is not tried again"

    call(*start, "--retry")
    assert {path: n for path, n in analyses(out).items() if n != 1} == dict.fromkeys(KINDS, 2)

    for name in KINDS:
        (broken / name).unlink()
    soundfile.write(broken / "text.wav", tone(2), RATE)
    outcome = call(*start)
    assert outcome.status == 0
    assert outcome.out.startswith(f"{out}: 2 songs, 5 gone; analysed 1 ")
    assert not (out / "failures.csv").exists()


def test_many_failures_are_counted_on_the_terminal(model: Path, tmp_path: Path, call: Call) -> None:
    (tmp_path / "music").mkdir()
    for i in range(25):
        (tmp_path / "music" / f"{i}.mp3").touch()
    out = tmp_path / "out"
    outcome = call("batch", tmp_path / "music", "--out", out, "--model", model, "--workers", "1", "-q")
    assert outcome.err.count("\n") == 21
    assert outcome.err.endswith(f"... and 5 more: {out / 'failures.csv'} lists all\n")
    assert len((out / "failures.csv").read_text().splitlines()) == 26


def fake_ffmpeg(folder: Path, script: str) -> dict[str, str]:
    """Return an environment in which the decoder of last resort is a shell script."""
    folder.mkdir()
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.skipif(os.name != "posix", reason="the decoder is a shell script")
def test_a_decoder_that_never_ends_costs_its_own_song_alone(music: Path, model: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(music, tmp_path / "music"))
    (root / os.fsdecode(b"b\xffd.wav")).write_text("no sound\n" * 100)
    environment = fake_ffmpeg(tmp_path / "bin", "exec sleep 1000")
    out = tmp_path / "out"
    start = ("batch", root, "--out", out, "--model", model, "--workers", "2", "-q", "--timeout", "9")
    outcome = spawn(*start, **environment)
    assert outcome.status == 1, outcome
    assert outcome.err == f"emoseg: {root}/b\\xffd.wav: given up after 9 s\n"
    assert len(rows(out, "songs")) == 8
    assert [row["type"] for row in listed(out)] == ["timeout"]


# What the processes of a run do instead of analysing; each finds these functions by the name of this module.


def dies_at_some_songs(setup: Setup) -> Callable[[AnalysisJob], AnalysisOutcome]:
    analyse = set_up(setup)
    return lambda job: os._exit(9) if "deadly" in job.path else analyse(job)


def hears_what_is_not_finite(setup: Setup) -> Callable[[AnalysisJob], AnalysisOutcome]:
    analyzer = Analyzer(setup.model)

    class Deaf:
        def analyze(self, path: Path) -> Any:
            heard = analyzer.analyze(path)
            if "odd" not in path.name:
                return heard
            return dataclasses.replace(heard, song=dataclasses.replace(heard.song, valence=float("nan")))

    return lambda job: _analyse(job, setup.root / job.path, Deaf())  # type: ignore[arg-type]


def starts(setup: Setup) -> int:
    """Count the starts of processes in a file beside the folder of recordings."""
    with (setup.root.parent / "starts").open("a+") as file:
        file.write("x")
        file.flush()
        return file.tell()


def dies_at_its_first_two_starts(setup: Setup) -> Callable[[AnalysisJob], AnalysisOutcome]:
    if starts(setup) <= 2:
        os._exit(3)
    return set_up(setup)


def fails_at_its_first_two_starts(setup: Setup) -> Callable[[AnalysisJob], AnalysisOutcome]:
    if starts(setup) <= 2:
        raise MemoryError("no room")
    return set_up(setup)


def one_song(setup: Setup) -> Callable[[AnalysisJob], AnalysisOutcome]:
    analyse, done = set_up(setup), list[AnalysisJob]()

    def work(job: AnalysisJob) -> AnalysisOutcome:
        if done:
            os._exit(3)
        done.append(job)
        return analyse(job)

    return work


def does_one_song_and_never_starts_again(setup: Setup) -> Callable[[AnalysisJob], AnalysisOutcome]:
    if starts(setup) > 1:
        raise MemoryError("no room")
    return one_song(setup)


def has_no_model_after_one_song(setup: Setup) -> Callable[[AnalysisJob], AnalysisOutcome]:
    if starts(setup) > 1:
        raise ModelError("model: was altered")
    return one_song(setup)


def test_a_song_that_ends_its_process_costs_itself_alone(
    small: Small, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(small.root, tmp_path / "music"))
    soundfile.write(root / "a deadly song.wav", tone(5, seconds=2), RATE)
    monkeypatch.setattr("emoseg.library.workers.set_up", dies_at_some_songs)
    report = in_process(root, tmp_path / "out", model)
    (failure,) = report.failures
    assert failure.error_type == "crashed"
    assert failure.message == f"{root}/a deadly song.wav: ended its process twice (status 9)"
    assert tables(tmp_path / "out") == tables(small.library)


def test_a_song_with_a_number_that_is_not_finite_fails(
    small: Small, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(small.root, tmp_path / "music"))
    soundfile.write(root / "odd.wav", tone(5, seconds=4), RATE)
    monkeypatch.setattr("emoseg.library.workers.set_up", hears_what_is_not_finite)
    (failure,) = in_process(root, tmp_path / "out", model).failures
    assert failure.error_type == "nonfinite"
    assert failure.message == f"{root}/odd.wav: the analysis holds a number that is not finite (valence)"
    assert tables(tmp_path / "out") == tables(small.library)


@pytest.mark.parametrize("start", [dies_at_its_first_two_starts, fails_at_its_first_two_starts])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_process_that_does_not_start_is_replaced(
    small: Small,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    start: Callable[[Setup], Callable[[AnalysisJob], AnalysisOutcome]],
    workers: int,
) -> None:
    root = Path(shutil.copytree(small.root, tmp_path / "music"))
    monkeypatch.setattr("emoseg.library.workers.set_up", start)
    report = in_process(root, tmp_path / "out", model, workers=workers)
    assert (report.done, report.failures) == (2, ())
    assert tables(tmp_path / "out") == tables(small.library)


@pytest.mark.parametrize(
    ("start", "starts", "words"),
    [
        (
            does_one_song_and_never_starts_again,
            4,
            "3 processes in a row could not be started; the last one: MemoryError: no room",
        ),
        (has_no_model_after_one_song, 2, "model: was altered"),
    ],
)
def test_a_run_without_processes_ends_and_keeps_what_is_done(
    small: Small,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Call,
    start: Callable[[Setup], Callable[[AnalysisJob], AnalysisOutcome]],
    starts: int,
    words: str,
) -> None:
    root, out = Path(shutil.copytree(small.root, tmp_path / "music")), tmp_path / "out"
    command = ("batch", root, "--out", out, "--model", model, "--workers", "1", "-q")
    with monkeypatch.context() as patch:
        patch.setattr("emoseg.library.workers.set_up", start)
        refused(call(*command), words)
    assert len((tmp_path / "starts").read_text()) == starts
    assert rows(out, "songs") == rows(small.library, "songs")[:1], "one song is done, and in the tables"
    assert call(*command).status == 0
    assert tables(out) == tables(small.library)
    assert set(analyses(out).values()) == {1}


def test_failures_csv_holds_no_formulas(model: Path, tmp_path: Path) -> None:
    root = tmp_path / "music"
    root.mkdir()
    names = ["=HYPERLINK(1).mp3", "+1.mp3", "-rf.mp3", "@a.mp3", "a=1.mp3"]
    for name in names:
        (root / name).touch()
    in_process(root, tmp_path / "out", model)
    told = {row["path"] for row in listed(tmp_path / "out")}
    assert told == {"'=HYPERLINK(1).mp3", "'+1.mp3", "'-rf.mp3", "'@a.mp3", "a=1.mp3"}


# --- folders ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def removable(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that is removed by a program that folders of any depth do not trouble."""
    yield tmp_path
    subprocess.run(["rm", "-rf", tmp_path], check=True)


@pytest.mark.skipif(os.name != "posix", reason="needs links and names of any bytes")
def test_folders_of_any_depth_and_names_of_any_bytes(model: Path, removable: Path) -> None:
    root = removable / "music"
    current = os.getcwd()  # noqa: PTH109  (deeper than one call can make)
    root.mkdir()
    os.chdir(root)
    for _ in range(1200):
        os.mkdir("d")  # noqa: PTH102
        os.chdir("d")
    soundfile.write("deep.wav", tone(1, seconds=2), RATE)
    os.chdir(current)
    names = [os.fsdecode(b"Bj\xf6rk.wav"), "Björk.wav", "-rf.wav", " a\nb .wav", "音楽.WAV"]
    for i, name in enumerate(names):
        soundfile.write(os.fspath(removable / "x.wav"), tone(i, seconds=2), RATE)
        (removable / "x.wav").rename(root / name)
    (root / ".hidden.wav").touch()
    (root / "._resource.wav").touch()
    (root / "cover.jpg").touch()
    (root / "loop").symlink_to(root)
    (root / "d" / "loop").symlink_to("..")
    report = in_process(root, removable / "out", model)
    assert report.complete
    songs, _ = tables(removable / "out")
    relative = "/".join(["d"] * 1200) + "/deep.wav"
    assert {song["path"] for song in songs} == {r"Bj\xf6rk.wav", *names[1:], relative}
    assert in_process(root, removable / "out", model).analysed == 0


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_a_linked_folder_is_visited_once(tmp_path: Path) -> None:
    (tmp_path / "drive" / "album").mkdir(parents=True)
    (tmp_path / "drive" / "album" / "a.mp3").touch()
    root = tmp_path / "music"
    root.mkdir()
    (root / "b link").symlink_to(tmp_path / "drive")
    (root / "a link").symlink_to(tmp_path / "drive")
    (root / "c.mp3").touch()
    assert [file.path for file in scan_folder(root).files] == ["a link/album/a.mp3", "c.mp3"]
    shutil.copytree(tmp_path / "drive" / "album", root / "z real")
    (root / "0 link").symlink_to(root / "z real")
    found = [file.path for file in scan_folder(root).files]
    assert found == ["a link/album/a.mp3", "c.mp3", "z real/a.mp3"], "a real folder goes before links to it"


@pytest.mark.skipif(os.name != "posix", reason="needs a path that is too long")
def test_a_folder_that_cannot_be_listed_is_told_and_loses_nothing(model: Path, removable: Path, call: Call) -> None:
    root = removable / "music"
    (root / "a").mkdir(parents=True)
    soundfile.write(root / "a" / "x.wav", tone(1, seconds=2), RATE)
    out = removable / "out"
    start = ("batch", root, "--out", out, "--model", model, "--workers", "1", "-q")
    assert call(*start).status == 0
    # A name that is as long as names may be, nested until the path is longer than the system takes.
    (root / "a").rename(root / "b")
    long = root / "a"
    long.mkdir()
    current = os.getcwd()  # noqa: PTH109
    os.chdir(long)
    for _ in range(20):
        os.mkdir("n" * 250)  # noqa: PTH102
        os.chdir("n" * 250)
    os.chdir(current)
    outcome = call(*start)
    assert outcome.status == 1
    assert "cannot be listed: File name too long" in outcome.err
    assert outcome.out.startswith(f"{out}: 1 songs, 1 gone; analysed 1 ")


# --- refusals --------------------------------------------------------------------------------------------------------


def refused(outcome: Outcome, *parts: str) -> None:
    assert outcome.status == 2, outcome
    assert outcome.out == ""
    assert outcome.err.startswith("emoseg: ")
    assert outcome.err.count("\n") == 1
    for part in parts:
        assert part in outcome.err


def test_a_library_is_of_one_folder_model_and_hop(
    music: Path, whole: Path, model: Path, tmp_path: Path, call: Call
) -> None:
    start = ("batch", music, "--out", whole, "--model")
    other = make_model(tmp_path / "other", seed=1)
    refused(call(*start, other), "was made with the model tiny 1, and this model (tiny 1) is not the same")
    refused(call(*start, model, "--hop", "1"), "was made with the hop of the model, not 1.0")
    refused(call(*start, model, "--shard", "1/2"), "was made with all shards, not the shard 1/2")
    elsewhere = Path(shutil.copytree(music, tmp_path / "elsewhere"))
    refused(call("batch", elsewhere, "--out", whole, "--model", model), f"was made from the folder {music.resolve()}")


def test_what_is_wrong_with_the_command_is_one_line(music: Path, model: Path, tmp_path: Path, call: Call) -> None:
    out = tmp_path / "out"
    start = ("batch", music, "--out", out, "--model", model)
    refused(call("batch", music, "--model", model), "no library given: --out DIR")
    refused(call("batch", music, "--out", out, "--model", "5q"), "5q: is not a model folder, and no bundled model has")
    refused(call("batch", music, music, "--out", out, "--model", model), "2 were given")
    refused(call("batch", tmp_path / "absent", "--out", out, "--model", model), "absent: no such folder")
    for shard in ("0/2", "3/2", "1", "a/b", "1/0"):
        refused(call(*start, "--shard", shard), f"shard '{shard}': must be I/N with I from 1 to N")
    refused(call(*start, "--timeout", "0"), "timeout 0.0 s: must be a finite number above 0")
    assert not out.exists()
    (tmp_path / "file").touch()
    refused(call("batch", music, "--out", tmp_path / "file", "--model", model), "file: cannot be written")
    refused(call("batch", music, "--out", tmp_path / "file" / "x", "--model", model), "cannot be written")


def test_a_second_process_is_refused(music: Path, model: Path, tmp_path: Path, call: Call) -> None:
    out = tmp_path / "out"
    in_process(music, out, model)
    before = tables(out)
    with folder_locked(out):
        refused(call("batch", music, "--out", out, "--model", model), f"{out}: another emoseg is at work on it")
        refused(call("batch", "--merge", tmp_path / "m", out), f"{out}: another emoseg is at work on it")
    assert tables(out) == before
    assert in_process(music, out, model).analysed == 0, "the lock is free again"


def test_a_manifest_of_another_version_is_refused(whole: Path, music: Path, model: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    with sqlite3.connect(out / MANIFEST_FILE) as db:
        db.execute("UPDATE meta SET value = 'emoseg.batch/0' WHERE key = 'format'")
    db.close()
    with pytest.raises(EmosegError, match=r"has the format 'emoseg.batch/0'; this emoseg reads 'emoseg.batch/2'"):
        in_process(music, out, model)


FULL = """
import resource, sys
from emoseg.cli.app import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
sys.argv[0] = "emoseg"
main()
"""


def run_with_limit(limit: int, *args: str | Path) -> None:
    """Run the command where no file may be larger than a limit, and see that it says so in one line."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(limit), *map(str, args)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done
    assert done.stderr.startswith("emoseg: ")
    assert done.stderr.count("\n") == 1
    assert "cannot be written" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs limits of file size")
@pytest.mark.parametrize("limit", [0, 9000, 50000, 60000])
def test_a_full_disk_is_one_line_and_nothing_half_written(
    music: Path, whole: Path, model: Path, tmp_path: Path, limit: int
) -> None:
    out = tmp_path / "out"
    args = ["batch", str(music), "--out", str(out), "--model", str(model), "--workers", "1", "-q"]
    run_with_limit(limit, *args)
    assert not list(out.rglob("*.parquet"))
    assert not list(out.rglob("*.tmp"))
    assert spawn(*args).status == 0
    assert tables(out) == tables(whole)
    assert set(analyses(out).values()) == {1}


@pytest.mark.skipif(os.name != "posix", reason="needs limits of file size")
@pytest.mark.parametrize("limit", [0, 2000, 9000])
def test_a_full_disk_while_merging_is_one_line_and_leaves_nothing(
    small: Small, out: Path, tmp_path: Path, limit: int
) -> None:
    sizes = [file.stat().st_size for file in out.rglob("*") if file.name != "lock"]
    assert max(sizes) > limit, "something does not fit"
    run_with_limit(limit, "batch", "--merge", tmp_path / "merged", out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert tables(out) == tables(small.library)
    assert spawn("batch", "--merge", tmp_path / "merged", out).status == 0
    assert tables(tmp_path / "merged") == tables(small.library)


class FullDisk:
    """Makes each write fail after a number of them that succeeded."""

    def __init__(self, patch: pytest.MonkeyPatch, successes: int) -> None:
        self.left, self.failed = successes, False
        for owner, name in (
            (Path, "mkdir"),
            (Path, "replace"),
            (Path, "write_bytes"),
            (os, "fsync"),
            (pq, "write_table"),
        ):
            patch.setattr(owner, name, self._failing(getattr(owner, name), OSError(errno.ENOSPC, "No space left")))
        full = sqlite3.OperationalError("database or disk is full")
        patch.setattr(Manifest, "transaction", self._failing(Manifest.transaction, full))

    def _failing(self, real: Callable[..., Any], error: Exception) -> Callable[..., Any]:
        def write(*args: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                self.failed = True
                raise error
            return real(*args, **options)

        return write


def full_disk_at_every_write(
    action: Callable[[], object],
    monkeypatch: pytest.MonkeyPatch,
    restore: Callable[[], None],
    check: Callable[[], None],
) -> int:
    """Run an action with a disk that is full after 0, 1, 2, ... writes; return the number of writes."""
    for successes in range(100):
        restore()
        with monkeypatch.context() as patch:
            disk = FullDisk(patch, successes)
            try:
                action()
            except EmosegError as error:
                told = str(error)
        if not disk.failed:
            return successes
        assert "cannot be written: " in told
        assert "\n" not in told
        check()
    raise AssertionError("more writes than anyone expects")


def test_a_disk_that_is_full_at_any_write_of_an_update(
    model: Path, tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in sorted(own.rglob("*.*"))[3:]:
        file.unlink()
    (own / "silent.mp3").touch()
    start, out = tmp_path / "start", tmp_path / "out"
    in_process(own, start, model)
    # A song goes, and the part with its rows is replaced; nothing is analysed, so that no process is needed.
    next(own.glob("artist*/*/*.*")).unlink()
    in_process(own, Path(shutil.copytree(start, tmp_path / "done")), model)
    wanted = tables(tmp_path / "done")
    assert len(wanted[0]) == 2

    def restore() -> None:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(start, out)

    def check() -> None:
        assert not list(out.rglob(f"{PREFIX}*"))
        assert in_process(own, out, model).analysed == 0
        assert tables(out) == wanted
        assert [row["path"] for row in listed(out)] == ["silent.mp3"]

    writes = full_disk_at_every_write(lambda: in_process(own, out, model), monkeypatch, restore, check)
    assert writes >= 12, "two files, the list of failures, and four changes of the manifest"


def test_a_disk_that_is_full_at_any_write_of_a_merge(
    small: Small, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged = tmp_path / "merged"

    def restore() -> None:
        shutil.rmtree(merged, ignore_errors=True)

    def check() -> None:
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        merge(merged, [out])
        assert tables(merged) == tables(small.library)

    writes = full_disk_at_every_write(lambda: merge(merged, [out]), monkeypatch, restore, check)
    assert writes >= 9, "folders, two files, their names, and the manifest"


# --- workers, shards, merging ----------------------------------------------------------------------------------------


def test_results_do_not_depend_on_workers(music: Path, whole: Path, model: Path, tmp_path: Path) -> None:
    in_process(music, tmp_path / "out", model, workers=3)
    assert tables(tmp_path / "out") == tables(whole)


def test_shards_partition_by_path_alone() -> None:
    paths = [f"artist {i % 7}/{i}.mp3" for i in range(2000)]
    shards = [Shard(i, 4) for i in range(1, 5)]
    held = [[path for path in paths if path in shard] for shard in shards]
    assert sorted(path for part in held for path in part) == sorted(paths)
    assert all(400 < len(part) < 600 for part in held)


@pytest.fixture(scope="module")
def shards(music: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("shards")
    for i in (1, 2, 3):
        in_process(music, root / str(i), model, shard=Shard(i, 3))
    return [root / str(i) for i in (1, 2, 3)]


def test_merged_shards_are_the_whole_library(
    music: Path, whole: Path, model: Path, shards: list[Path], tmp_path: Path, call: Call
) -> None:
    before = [tables(shard) for shard in shards]
    out = tmp_path / "merged"
    outcome = call("batch", "--merge", out, *shards)
    assert outcome == Outcome(0, f"{out}: 8 songs, 0 failed, 0 to do\n", "")
    assert tables(out) == tables(whole)
    assert [tables(shard) for shard in shards] == before
    assert set(analyses(out).values()) == {1}
    assert in_process(music, out, model).analysed == 0, "a merged library can be gone on with"
    refused(call("batch", "--merge", out, *shards), "exists already; --merge makes a new library")


def test_merging_tells_what_is_missing(
    shards: list[Path], music: Path, model: Path, tmp_path: Path, call: Call
) -> None:
    out = tmp_path / "merged"
    outcome = call("batch", "--merge", out, shards[0], shards[2], "--json")
    assert outcome.status == 1
    assert outcome.err == "emoseg: the shard 2/3 was not given\n"
    held = json.loads(outcome.out)["songs"]
    assert held == len(tables(shards[0])[0]) + len(tables(shards[2])[0])
    assert in_process(music, out, model).analysed == 8 - held


def test_merging_refuses_overlaps_and_strangers(
    shards: list[Path], whole: Path, music: Path, tmp_path: Path, call: Call
) -> None:
    out = tmp_path / "merged"
    refused(call("batch", "--merge", out, shards[0], shards[0]), f"{shards[0]}: was given twice")
    refused(call("batch", "--merge", out, *shards, whole), "both hold artist ", "without a recording in common")
    other = tmp_path / "other"
    in_process(music, other, make_model(tmp_path / "model", name="other"), shard=Shard(2, 3))
    refused(call("batch", "--merge", out, shards[0], other), "cannot be merged: the first was made with the model tiny")
    refused(call("batch", "--merge", out, music), f"{music}: is not a library: manifest.sqlite is missing")
    refused(call("batch", "--merge", out, *shards, "--out", out), "none of --out, --model, --shard")
    assert list(tmp_path.glob("*merged*")) == []
    assert list(tmp_path.glob(".*")) == []


def test_failures_and_unfinished_songs_survive_a_merge(broken: Path, model: Path, tmp_path: Path) -> None:
    for i in (1, 2):
        in_process(broken, tmp_path / str(i), model, shard=Shard(i, 2))
    report = merge(tmp_path / "merged", [tmp_path / "1", tmp_path / "2"])
    assert (report.songs, report.failed, report.todo) == (1, 6, 0)
    assert {row["path"]: row["type"] for row in listed(tmp_path / "merged")} == KINDS


# --- kill -9 ---------------------------------------------------------------------------------------------------------

CRASH = """
import os, sys
from pathlib import Path
from emoseg.library.manifest import Manifest
from emoseg.cli.app import main

if __name__ == "__main__":
    steps = int(sys.argv.pop(1))

    def die_after(owner, name):
        real = getattr(owner, name)

        def step(*args, **options):
            global steps
            steps -= 1
            if steps == 0:
                os._exit(77)
            result = real(*args, **options)
            steps -= 1
            if steps == 0:
                os._exit(77)
            return result

        setattr(owner, name, step)

    die_after(Path, "replace")
    die_after(Path, "unlink")
    die_after(Manifest, "record")
    die_after(Manifest, "update")
    die_after(Manifest, "add_part")
    sys.argv[0] = "emoseg"
    main()
"""


def steps_until_done(script: Path, args: list[str]) -> Iterator[int]:
    """Run again and again, dying one step later each time a run dies; yield the status of each run."""
    for steps in range(1, 200):
        done = subprocess.run(
            [sys.executable, str(script), str(steps), *args], capture_output=True, text=True, check=False
        )
        assert done.returncode in (0, 77), done
        yield done.returncode
        if done.returncode == 0:
            return


def test_death_at_every_step_of_writing_loses_nothing(own: Path, model: Path, tmp_path: Path, whole: Path) -> None:
    script = tmp_path / "crash.py"
    script.write_text(CRASH)
    out = tmp_path / "out"
    for file in sorted(own.rglob("*.*"))[5:]:
        file.unlink()
    args = ["batch", str(own), "--out", str(out), "--model", str(model), "--workers", "1", "-q"]
    in_process(own, out, model)
    # One song changes and one goes: the part is written anew, with every step that a batch knows.
    changed, gone = sorted(own.rglob("*.*"))[:2]
    soundfile.write(changed, tone(50), RATE)
    gone.unlink()
    statuses = list(steps_until_done(script, args))
    assert statuses.count(77) >= 6, "there are that many steps to die at"
    in_process(own, tmp_path / "fresh", model)
    assert tables(out) == tables(tmp_path / "fresh")
    assert sorted(analyses(out).values()) == [1, 1, 1, 1, 2]
    assert not list(out.rglob(f"{PREFIX}*"))


def test_death_at_every_step_of_merging_leaves_nothing(small: Small, out: Path, tmp_path: Path) -> None:
    script, folder = tmp_path / "crash.py", tmp_path / "new"
    script.write_text(CRASH)
    args = ["batch", "--merge", str(folder / "merged"), str(out)]
    deaths = 0
    for status in steps_until_done(script, args):
        deaths += status == 77
        if (folder / "merged").exists():  # it appears whole
            assert tables(folder / "merged") == tables(small.library)
            shutil.rmtree(folder / "merged")
    assert deaths >= 6, "there are that many steps to die at"
    assert list(folder.iterdir()) == [], "what a killed merge left is removed by the next"
    merge(folder / "merged", [out])
    assert tables(folder / "merged") == tables(small.library)
    assert tables(out) == tables(small.library)


HOLD = """
import sys, time
import emoseg.library.parts
from emoseg.library.manifest import Manifest
from emoseg.cli.app import main

if __name__ == "__main__":
    moment, songs = sys.argv.pop(1), int(sys.argv.pop(1))
    emoseg.library.parts.PART_SONGS = 8

    def hold(name, before):
        real = getattr(Manifest, name)

        def step(first, *args):
            result = None if before else real(first, *args)
            database = first._db if isinstance(first, Manifest) else first
            (done,) = database.execute("SELECT count(*) FROM songs WHERE state = 'done'").fetchone()
            if done >= songs:
                print("held", flush=True)
                time.sleep(1000)
            return real(first, *args) if before else result

        setattr(Manifest, name, staticmethod(step) if name == "_record" else step)

    hold(*{"between": ("record", False), "inside": ("_record", False), "part": ("add_part", True)}[moment])
    sys.argv[0] = "emoseg"
    main()
"""


@pytest.mark.skipif(os.name != "posix", reason="needs kill -9")
def test_kill_9_while_processes_work_changes_nothing(model: Path, tmp_path: Path) -> None:
    root, out, script = tmp_path / "music", tmp_path / "out", tmp_path / "hold.py"
    make_songs(root, 40, seconds=4)
    (root / "broken.mp3").write_text("no sound")
    script.write_text(HOLD)
    args = ["batch", str(root), "--out", str(out), "--model", str(model), "--workers", "2", "-q"]
    # Between two changes of the manifest, in the middle of one, and while a part is written that does not count yet.
    for moment, songs in (("between", 1), ("inside", 9), ("part", 16), ("between", 23), ("part", 28)):
        command = [sys.executable, str(script), moment, str(songs), *args]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            process.kill()
        assert songs - 2 <= done_so_far(out) < 40
    assert spawn(*args).status == 1, "the broken file remains"
    assert sorted(set(analyses(out).values())) == [1]
    assert len(analyses(out)) == 41
    in_process(root, tmp_path / "fresh", model, workers=2)
    assert tables(out) == tables(tmp_path / "fresh")
    assert len(tables(out)[0]) == 40


def done_so_far(out: Path) -> int:
    try:
        manifest = Manifest.open(out)
    except (EmosegError, sqlite3.Error):
        return 0
    try:
        return manifest.counts()["done"]
    finally:
        manifest.close()


def test_workers_end_with_their_parent(model: Path, tmp_path: Path) -> None:
    if not Path("/proc").is_dir():
        pytest.skip("needs /proc")
    root = tmp_path / "music"
    make_songs(root, 4)
    (root / "bad.wav").write_text("no sound\n" * 100)
    mark = os.fsencode(tmp_path)
    environment = {**os.environ, **fake_ffmpeg(tmp_path / "bin", "exec sleep 1000"), "MARK": str(tmp_path)}
    args = command("batch", root, "--out", tmp_path / "out", "--model", model, "--workers", "2", "-q")
    process = subprocess.Popen(args, env=environment)
    deadline = time.monotonic() + 60
    while done_so_far(tmp_path / "out") < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers_of(mark), "one of them waits for its decoder"
    process.kill()
    process.wait()
    while workers_of(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers_of(mark) == []


def workers_of(mark: bytes) -> list[int]:
    """Return the spawned processes that have a mark in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                spawned = b"spawn_main" in (folder / "cmdline").read_bytes()
                if spawned and b"MARK=" + mark in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:  # it ended meanwhile
                continue
    return found
