"""A batch analyses every recording once, and its tables do not depend on how it was run."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from batches import KINDS, analyses, in_process, listed, tables
from made import RATE, Call, Outcome, make_model, make_songs, refused, tone

from emoseg.analysis.analyzer import Analyzer
from emoseg.emotion import EmotionSpace
from emoseg.errors import ConfigError, EmosegError
from emoseg.library import Shard, merge
from emoseg.library.manifest import MANIFEST_FILE
from emoseg.library.tables import probability_columns, song_id
from emoseg.system.files import folder_locked

pytest_plugins = ["batch_fixtures"]

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
    assert len({song["label"] for song in songs}) > 1, "the model gives these songs different labels"


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
    reported = {song["path"]: (song["artist"], song["title"]) for song in songs}
    assert reported.pop("b.wav") == (None, None)
    assert set(reported.values()) == {("Björk", "Jóga")}
    assert len(reported) == 3


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


# --- refusals --------------------------------------------------------------------------------------------------------


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
        refused(call("batch", music, "--out", out, "--model", model), f"{out}: another emoseg process uses it")
        refused(call("batch", "--merge", tmp_path / "m", out), f"{out}: another emoseg process uses it")
    assert tables(out) == before
    assert in_process(music, out, model).analysed == 0, "the lock is free again"


def test_a_manifest_of_another_version_is_refused(whole: Path, music: Path, model: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    with sqlite3.connect(out / MANIFEST_FILE) as db:
        db.execute("UPDATE meta SET value = 'emoseg.batch/0' WHERE key = 'format'")
    db.close()
    with pytest.raises(
        EmosegError, match=r"has the format 'emoseg.batch/0'; this version of emoseg reads 'emoseg.batch/2'"
    ):
        in_process(music, out, model)


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
    refused(call("batch", "--merge", out, *shards, "--out", out), "none of --out, --model and --shard")
    assert list(tmp_path.glob("*merged*")) == []
    assert list(tmp_path.glob(".*")) == []


def test_failures_and_unfinished_songs_survive_a_merge(broken: Path, model: Path, tmp_path: Path) -> None:
    for i in (1, 2):
        in_process(broken, tmp_path / str(i), model, shard=Shard(i, 2))
    report = merge(tmp_path / "merged", [tmp_path / "1", tmp_path / "2"])
    assert (report.songs, report.failed, report.todo) == (1, 6, 0)
    assert {row["path"]: row["type"] for row in listed(tmp_path / "merged")} == KINDS
