"""`emoseg audit` on a small corpus in which it is known what is wrong: the files, the decisions, and bad input."""

from __future__ import annotations

import csv
import json
import shutil
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from made import RATE, Call, song

import emoseg
from emoseg.config import load_train_config

pytestmark = pytest.mark.skipif(find_spec("torch") is None, reason="needs the extra train")

SETTINGS = "[learning]\nepochs = 8\nmembers = 2\nbatch = 8\nlearning_rate = 3e-3\n"
COLUMNS = ["path", "given", "suggested", "p_wrong", "kind", "evidence"]
SONGS = 16
WRONG = 5  # the song with a wrong label


class Lab(NamedTuple):
    table: Path
    settings: Path
    out: Path
    cache: Path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    root = tmp_path_factory.mktemp("audit")
    lines = ["path,label,artist"]
    for i in range(SONGS):
        soundfile.write(root / f"{i}.wav", song(i, happy=bool(i % 2)), RATE)
        label = ("sad", "happy")[(i % 2) ^ (i == WRONG)]
        lines.append(f"{i}.wav,{label},artist {i // 4}")
    shutil.copy(root / "2.wav", root / "copy.wav")
    soundfile.write(root / "noise.wav", 0.1 * np.random.default_rng(0).uniform(-1, 1, 6 * RATE), RATE)
    (root / "broken.wav").write_bytes(b"RIFF nothing")
    lines += ["copy.wav,happy,artist 9", "noise.wav,happy,artist 1", "broken.wav,sad,artist 2"]
    (root / "songs.csv").write_text("\n".join(lines) + "\n")
    (root / "settings.toml").write_text(SETTINGS)
    found = Lab(root / "songs.csv", root / "settings.toml", root / "out", root / "cache")
    corpus = emoseg.load_corpus(f"csv:{found.table}")
    config = load_train_config(found.settings)
    emoseg.audit(corpus, found.out, config=config, workers=1, cache=found.cache, quiet=True)
    return found


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def test_every_song_is_ranked_and_what_is_wrong_comes_first(lab: Lab) -> None:
    songs = rows(lab.out / "songs.csv")
    assert list(songs[0]) == ["rank", *COLUMNS]
    assert [row["rank"] for row in songs] == [str(i + 1) for i in range(SONGS + 3)]
    names = [Path(row["path"]).name for row in songs]
    by_name = dict(zip(names, songs, strict=True))
    assert names[0] == "noise.wav"
    assert names[-1] == "broken.wav"
    assert set(names[1:3]) == {f"{WRONG}.wav", "copy.wav"}
    assert by_name["noise.wav"]["kind"] == "not music"
    assert "is mostly noise" in by_name["noise.wav"]["evidence"]
    assert by_name["broken.wav"]["kind"] == "unreadable"
    assert by_name["copy.wav"]["kind"] == by_name["2.wav"]["kind"] == "duplicate"
    assert "same recording as 2.wav, which is labelled sad" in by_name["copy.wav"]["evidence"]
    assert float(by_name["copy.wav"]["p_wrong"]) > float(by_name["2.wav"]["p_wrong"])
    wrong = by_name[f"{WRONG}.wav"]
    assert (wrong["given"], wrong["suggested"]) == ("sad", "happy")
    assert "none of 5 held-out networks agrees" in wrong["evidence"]
    assert "the five most similar songs are happy, happy, happy, happy, happy" in wrong["evidence"]
    judged = [float(row["p_wrong"]) for row in songs[:-1]]
    assert judged == sorted(judged, reverse=True)


def test_segments_are_ranked_with_their_times(lab: Lab) -> None:
    segments = rows(lab.out / "segments.csv")
    assert list(segments[0]) == ["rank", "path", "start_s", "end_s", *COLUMNS[1:]]
    assert len(segments) == 2 * (SONGS + 1)
    assert {(row["start_s"], row["end_s"]) for row in segments} == {("0.0", "3.0"), ("3.0", "6.0")}
    assert {Path(row["path"]).name for row in segments[:4]} == {f"{WRONG}.wav", "copy.wav"}


def test_json_and_parquet_hold_the_same_rows(lab: Lab) -> None:
    for name in ("songs", "segments"):
        table = rows(lab.out / f"{name}.csv")
        of_json = json.loads((lab.out / f"{name}.json").read_text(encoding="utf-8"))
        assert pq.read_table(lab.out / f"{name}.parquet").to_pylist() == of_json
        assert [{key: str(value) for key, value in row.items()} for row in of_json] == table
    facts = json.loads((lab.out / "audit.json").read_text(encoding="utf-8"))
    assert facts["schema"] == "emoseg.audit/1"
    assert facts["kinds"]["duplicate"] == 2
    assert not facts["rate"]["conclusive"]
    assert 0 <= facts["rate"]["low"] <= facts["rate"]["rate"] <= facts["rate"]["high"]


def test_decisions_are_kept_and_correct_the_corpus(lab: Lab, tmp_path: Path, call: Call) -> None:
    out = tmp_path / "out"
    shutil.copytree(lab.out, out)
    given = rows(out / "corrected.csv")
    assert list(given[0]) == ["path", "label", "artist"]
    before = [row["label"] for row in sorted(rows(lab.table), key=lambda row: row["path"])]
    assert [row["label"] for row in given] == before, "without decisions every song keeps its label"
    folder = lab.table.parent
    decisions = f"path,decision\n{folder / f'{WRONG}.wav'},happy\n{folder / '2.wav'},ok\n{folder / 'copy.wav'},skip\n"
    (out / "decisions.csv").write_text(decisions + f"{folder / 'gone.wav'},ok\n")
    arguments = ("--config", lab.settings, "--cache", lab.cache, "--workers", "1", "--quiet")
    outcome = call("audit", f"csv:{lab.table}", "--out", out, *arguments)
    assert outcome.status == 0, outcome.err
    assert outcome.err == ""
    assert outcome.out.startswith("too few songs to tell how many labels are wrong (90% interval ")
    assert "1 paths are not in the corpus" in outcome.out
    assert outcome.out.count(" held-out networks ") == 9  # of the first ten, one is not music
    assert outcome.out.rstrip().splitlines()[-1].startswith(f"{out}: songs and segments")
    assert (out / "decisions.csv").read_text().startswith(decisions)
    assert (out / "songs.csv").read_bytes() == (lab.out / "songs.csv").read_bytes()
    corrected = emoseg.load_corpus(f"csv:{out / 'corrected.csv'}")
    changed = {s.path.name for s, old in zip(corrected.songs, before, strict=True) if s.label != old}
    assert changed == {f"{WRONG}.wav"}
    assert {song.artist for song in corrected.songs} >= {"artist 0", "artist 9"}
    assert not any(path.name.startswith(".emoseg-") for path in out.iterdir())


@pytest.mark.parametrize(
    ("decision", "part"), [("Q9", "decisions.csv: row 2: decision 'Q9': must be one of happy, sad, ok, skip")]
)
def test_an_unknown_decision_is_refused(lab: Lab, tmp_path: Path, call: Call, decision: str, part: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "decisions.csv").write_text(f"path,decision\n0.wav,{decision}\n")
    outcome = call("audit", f"csv:{lab.table}", "--out", out)
    assert (outcome.status, outcome.out) == (2, "")
    assert part in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_folder_with_other_files_is_refused(lab: Lab, tmp_path: Path, call: Call) -> None:
    (tmp_path / "songs.csv").write_text("path,label\n")
    (tmp_path / "audit.json").write_text('{"schema": "another"}')
    for out in (tmp_path, lab.settings, Path()):
        outcome = call("audit", f"csv:{lab.table}", "--out", out)
        assert (outcome.status, outcome.out) == (2, "")
        assert "--out" in outcome.err
        assert outcome.err.count("\n") == 1
    assert (tmp_path / "songs.csv").read_text() == "path,label\n"


def test_bad_arguments_are_refused(lab: Lab, tmp_path: Path) -> None:
    corpus = emoseg.load_corpus(f"csv:{lab.table}")
    with pytest.raises(emoseg.ConfigError, match="must be a Corpus"):
        emoseg.audit("csv:songs.csv")  # type: ignore[arg-type]
    with pytest.raises(emoseg.ConfigError, match="seed -1"):
        emoseg.audit(corpus, seed=-1)
    many = emoseg.TrainConfig.model_validate(tomllib.loads("[learning]\nmembers = 9"))
    with pytest.raises(emoseg.CorpusError, match="9 folds need at least 9 different artists"):
        emoseg.audit(corpus, tmp_path / "out", config=many, workers=1, cache=lab.cache, quiet=True)
    assert not (tmp_path / "out").exists()
