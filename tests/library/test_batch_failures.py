"""A recording that fails costs itself alone; folders and names of all kinds."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import soundfile
from batches import KINDS, Small, analyses, fake_ffmpeg, in_process, listed, rows, tables
from made import RATE, Call, refused, spawn, tone

from emoseg.analysis.analyzer import Analyzer
from emoseg.audio.find import scan_folder
from emoseg.errors import ModelError
from emoseg.library.records import AnalysisJob, AnalysisOutcome
from emoseg.library.workers import Setup, set_up
from emoseg.types import Analysis

pytest_plugins = ["batch_fixtures"]

# --- failures --------------------------------------------------------------------------------------------------------


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


@pytest.mark.skipif(os.name != "posix", reason="the decoder is a shell script")
@pytest.mark.slow
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
    analyze = Analyzer.analyze

    def analyze_oddly(self: Analyzer, path: Path) -> Analysis:
        analysis = analyze(self, path)
        if "odd" not in path.name:
            return analysis
        return dataclasses.replace(analysis, song=dataclasses.replace(analysis.song, valence=float("nan")))

    patch.object(Analyzer, "analyze", analyze_oddly).start()  # in this process alone, which ends with the run
    return set_up(setup)


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
    reported = {row["path"] for row in listed(tmp_path / "out")}
    assert reported == {"'=HYPERLINK(1).mp3", "'+1.mp3", "'-rf.mp3", "'@a.mp3", "a=1.mp3"}


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
def test_analyze_and_batch_find_the_same_recordings(small: Small, model: Path, tmp_path: Path, call: Call) -> None:
    root = tmp_path / "music"
    shutil.copytree(small.root, root / "album" / "disc")
    shutil.copytree(small.root, tmp_path / "drive")
    (root / "link").symlink_to(tmp_path / "drive")
    (root / "again").symlink_to(root / "album")
    (root / "itself").symlink_to(root)
    (root / ".hidden.wav").touch()
    (root / "cover.jpg").touch()
    reported = [json.loads(line)["path"] for line in call("analyze", root, "--model", model, "--json").out.splitlines()]
    in_process(root, tmp_path / "out", model)
    batched = [str(root / row["path"]) for row in rows(tmp_path / "out", "songs")]
    assert reported == batched
    assert len(reported) == 4


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
def test_a_folder_that_cannot_be_listed_is_reported_and_loses_nothing(model: Path, removable: Path, call: Call) -> None:
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
