"""The commands as users run them, from analysis to tags, with whatever extras are installed.

Each command is a process of its own: what one module or test imports must not hide what another fails to import. `make
test-installs` runs these tests with no extra, and with each documented set of extras.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import soundfile
from made import RATE, make_songs, spawn, tone

from emoseg.errors import install_command

SONGS = 6
SECONDS = 4.0
Rows = list[dict[str, Any]]


def needs(extra: str, package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason=f"needs the extra {extra}")


def lacks(extra: str, package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        find_spec(package) is not None, reason=f"tests the message about the missing extra {extra}"
    )


def run(*args: str | Path) -> str:
    """Run a command that must succeed; return what it prints."""
    outcome = spawn(*args)
    assert outcome.status == 0, outcome
    assert "Traceback" not in outcome.err
    return outcome.out


def refused(extra: str, *args: str | Path) -> None:
    """Run a command that must say in one line which packages it needs."""
    outcome = spawn(*args)
    assert outcome.status == 2, outcome
    assert outcome.err.startswith("emoseg: ")
    assert outcome.err.count("\n") == 1
    assert install_command(extra) in outcome.err


def rows(out: Path, table: str) -> Rows:
    parts = [pq.ParquetFile(file).read().to_pylist() for file in (out / table).glob("*.parquet")]
    return sorted((row for part in parts for row in part), key=lambda row: (row["path"], row.get("segment", 0)))


def tables(out: Path) -> tuple[Rows, Rows]:
    return rows(out, "songs"), rows(out, "segments")


def digests(root: Path) -> dict[Path, str]:
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*.*")}


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("music")
    make_songs(root, SONGS, seconds=SECONDS)
    return root


@pytest.fixture
def own(music: Path, tmp_path: Path) -> Path:
    """Return a copy of `music` to be changed."""
    return Path(shutil.copytree(music, tmp_path / "own"))


@pytest.fixture(scope="module")
def mood(music: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of `music`."""
    out = tmp_path_factory.mktemp("library") / "mood"
    run("batch", music, "--out", out, "--quiet")
    return out


# --- analyze ---------------------------------------------------------------------------------------------------------


def test_analyze_tells_each_recording(music: Path) -> None:
    analyses = [json.loads(line) for line in run("analyze", music, "--json").splitlines()]
    assert {analysis["path"] for analysis in analyses} == set(map(str, music.rglob("*.*")))
    assert len(analyses) == SONGS
    for analysis in analyses:
        assert analysis["duration_s"] == pytest.approx(SECONDS, abs=0.1)
        p = analysis["song"]["probabilities"]
        best = max(p, key=lambda label: p[label])
        assert analysis["song"]["label"] == (best if p[best] >= 0.5 else "unsure")


def test_every_format_that_needs_no_extra(music: Path, tmp_path: Path) -> None:
    song = next(music.rglob("*.flac"))
    formats = ("json", "csv", "jsonl", "parquet", "jams", "audacity", "sonic-visualiser", "html")
    options = [option for name in formats for option in ("--format", name)]
    run("analyze", song, *options, "--out", tmp_path / "out")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) == len(formats)
    segments = json.loads((tmp_path / "out" / f"{song.name}.json").read_text())["segments"]
    (table,) = (pq.ParquetFile(file).read().to_pylist() for file in files if file.suffix == ".parquet")
    assert [row["start_s"] for row in table] == [segment["start_s"] for segment in segments]


@needs("plot", "matplotlib")
def test_a_figure(music: Path, tmp_path: Path) -> None:
    run("analyze", next(music.rglob("*.flac")), "--format", "png", "--out", tmp_path / "out")
    (file,) = (tmp_path / "out").iterdir()
    assert file.read_bytes().startswith(b"\x89PNG")


@lacks("plot", "matplotlib")
def test_a_figure_without_its_extra(music: Path, tmp_path: Path) -> None:
    refused("plot", "analyze", next(music.rglob("*.flac")), "--format", "png", "--out", tmp_path / "out")


@needs("av", "av")
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the file of this test is made by ffmpeg")
def test_m4a_without_the_ffmpeg_program(tmp_path: Path) -> None:
    source, song = tmp_path / "sound.wav", tmp_path / "music" / "song.m4a"
    song.parent.mkdir()
    soundfile.write(source, tone(1, seconds=SECONDS), RATE)
    subprocess.run(["ffmpeg", "-v", "error", "-i", source, "-c:a", "aac", song], check=True, stdin=subprocess.DEVNULL)
    (tmp_path / "empty").mkdir()
    nothing = {"PATH": str(tmp_path / "empty")}
    outcome = spawn("analyze", song, "--json", **nothing)
    assert outcome.status == 0, outcome
    assert json.loads(outcome.out)["duration_s"] == pytest.approx(SECONDS, abs=0.1)
    outcome = spawn("batch", song.parent, "--out", tmp_path / "out", "--quiet", **nothing)
    assert outcome.status == 0, outcome
    assert [row["path"] for row in rows(tmp_path / "out", "songs")] == ["song.m4a"]


# --- batch -----------------------------------------------------------------------------------------------------------


def test_a_library_follows_its_folder(own: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("batch", own, "--out", out, "--quiet")
    changed, gone = sorted(own.rglob("*.*"))[:2]
    soundfile.write(changed, tone(50, seconds=SECONDS), RATE)
    gone.unlink()
    soundfile.write(own / "new.flac", tone(51, seconds=SECONDS), RATE)
    report = json.loads(run("batch", own, "--out", out, "--quiet", "--json"))
    assert (report["analysed"], report["new"], report["changed"]) == (2, 1, 1)
    run("batch", own, "--out", tmp_path / "fresh", "--quiet")
    songs, segments = tables(out)
    assert (songs, segments) == tables(tmp_path / "fresh")
    assert [song["path"] for song in songs] == sorted(path.relative_to(own).as_posix() for path in own.rglob("*.*"))


def test_merged_shards_are_the_whole_library(music: Path, mood: Path, tmp_path: Path) -> None:
    shards = [tmp_path / "1", tmp_path / "2"]
    for shard in shards:
        run("batch", music, "--out", shard, "--shard", f"{shard.name}/2", "--quiet")
    run("batch", "--merge", tmp_path / "merged", *shards)
    assert len(tables(mood)[0]) == SONGS
    assert tables(tmp_path / "merged") == tables(mood)


# --- library ---------------------------------------------------------------------------------------------------------


def ask(mood: Path, *question: str) -> Rows:
    answer: Rows = json.loads(run("library", mood, *question, "--json"))
    return answer


@needs("library", "duckdb")
def test_a_library_answers(mood: Path) -> None:
    songs = rows(mood, "songs")
    assert ask(mood, "--sql", "SELECT path, label FROM songs ORDER BY path") == [
        {"path": song["path"], "label": song["label"]} for song in songs
    ]
    assert sum(row["songs"] for row in ask(mood)) == SONGS
    calm = sorted((song["p_Q4"] for song in songs if song["p_Q4"] is not None), reverse=True)
    assert [row["fit"] for row in ask(mood, "--most", "calm", "--count", "3")] == pytest.approx(calm[:3], abs=1e-6)
    assert len(ask(mood, "--like", songs[0]["path"], "--count", "3")) == 3
    assert ask(mood, "--changing") == [], "songs of fewer than four segments are left out"


@needs("library", "duckdb")
def test_a_playlist(music: Path, mood: Path, tmp_path: Path) -> None:
    file = tmp_path / "list.m3u8"
    run("library", mood, "--playlist", "sad:happy", "--count", "3", "--out", file)
    listed = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert len(set(listed)) == 3
    assert set(map(Path, listed)) <= set(music.rglob("*.*"))


@lacks("library", "duckdb")
def test_questions_without_their_extra(mood: Path) -> None:
    refused("library", "library", mood)
    refused("library", "library", mood, "--most", "calm")


# --- tag -------------------------------------------------------------------------------------------------------------


@needs("tags", "mutagen")
def test_tags_are_written_and_undone(own: Path, tmp_path: Path) -> None:
    out, undo = tmp_path / "out", tmp_path / "undo.jsonl"
    run("batch", own, "--out", out, "--quiet")
    before = digests(own)
    assert run("tag", "--library", out).count("EMOSEG_LABEL=") == SONGS
    assert digests(own) == before, "a dry run changes nothing"
    run("tag", "--library", out, "--write", "--undo-file", undo)
    assert all(digest != before[path] for path, digest in digests(own).items())
    assert run("tag", "--library", out).count(": up to date\n") == SONGS
    run("tag", "--undo", undo)
    assert digests(own) == before
    assert run("tag", own).count("EMOSEG_LABEL=") == SONGS, "without a library, by the bundled model"


@lacks("tags", "mutagen")
def test_tags_without_their_extra(own: Path, mood: Path, tmp_path: Path) -> None:
    before = digests(own)
    refused("tags", "tag", own)
    refused("tags", "tag", "--library", mood)
    refused("tags", "tag", own, "--write", "--undo-file", tmp_path / "undo.jsonl")
    assert digests(own) == before
    assert list(tmp_path.iterdir()) == [own]


# --- train -----------------------------------------------------------------------------------------------------------


@lacks("train", "torch")
def test_learning_without_its_extra(own: Path, tmp_path: Path) -> None:
    refused("train", "train", f"folder:{own}", "--out", tmp_path / "model")
    refused("train", "evaluate", f"folder:{own}", "--out", tmp_path / "result.json")
    assert list(tmp_path.iterdir()) == [own]
