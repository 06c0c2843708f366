"""The command line as its users meet it: what goes to stdout and stderr, and the exit status.

`call` runs a command in this process through `emoseg.cli.app.main`, as the installed command does; `spawn` runs the
installed command itself. Analysis uses the bundled model; learning (extra ``train``) makes one tiny model for the
whole file.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
from made import Call, Outcome, refused, spawn
from typer.testing import CliRunner

import emoseg
from emoseg.analysis.model_folder import (
    CARD_FILE,
    CONFIG_FILE,
    DEFAULT_MODEL,
    SEGMENT_FILE,
    SONG_FILE,
    WEIGHTS_FILE,
    export_model,
)
from emoseg.cli.app import app
from emoseg.cli.options import CORPUS_OPTIONS
from emoseg.config import LearningConfig, load_train_config
from emoseg.corpora import CORPORA, CorpusOptions
from emoseg.evaluation import Protocol
from emoseg.synthesis.corpus import write_corpus

RATE = 22050
SETTINGS = "[learning]\nepochs = 3\nmembers = 2\n[methods.sssl]\nwarmup_epochs = 1\n"
COMMANDS = [
    ("analyze",),
    ("train",),
    ("audit",),
    ("evaluate",),
    ("config",),
    ("corpus",),
    ("corpus", "check"),
    ("corpus", "noise"),
    ("corpus", "synth"),
    ("model", "list"),
    ("model", "show"),
    ("model", "export"),
]
QUADRANTS = ["Q1", "Q2", "Q3", "Q4"]


class Lab(NamedTuple):
    corpus: Path
    settings: Path
    cache: Path
    model: Path
    trained: Outcome


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny synthesised corpus."""
    root = tmp_path_factory.mktemp("synth") / "corpus"
    write_corpus(root, songs=16, seed=1, duration_s=10, workers=1, quiet=True)
    return root


@pytest.fixture(scope="module")
def songs(corpus: Path) -> list[Path]:
    return sorted((corpus / "audio").iterdir())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the bundled model, so that analysis is tested where nothing can be learnt."""
    folder = tmp_path_factory.mktemp("bundled") / "model"
    export_model(DEFAULT_MODEL, folder)
    return folder


@pytest.fixture(scope="module")
def lab(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A model learnt from the corpus by the installed command."""
    pytest.importorskip("torch", reason="needs the extra train")
    root = tmp_path_factory.mktemp("lab")
    settings, cache, model = root / "settings.toml", root / "cache", root / "model"
    settings.write_text(SETTINGS)
    options: list[str | Path] = ["--config", settings, "--cache", cache, "--workers", "1", "--out", model]
    return Lab(corpus, settings, cache, model, spawn("train", f"synth:{corpus}", *options))


def tone(seconds: float) -> Any:
    return (0.2 * np.sin(2 * np.pi * 330 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of recordings that cannot be analysed, each named after its trouble."""
    root = tmp_path_factory.mktemp("bad")
    (root / "empty.mp3").touch()
    (root / "text.mp3").write_text("These are the lyrics, not the song.\n" * 40)
    soundfile.write(root / "short.wav", tone(0.2), RATE)
    soundfile.write(root / "silent.wav", np.zeros(3 * RATE, dtype=np.float32), RATE)
    samples = tone(3)
    samples[RATE] = np.nan
    soundfile.write(root / "nan.wav", samples, RATE, subtype="FLOAT")
    soundfile.write(root / "cut.mp3", tone(3), RATE)
    (root / "cut.mp3").write_bytes((root / "cut.mp3").read_bytes()[:80])
    return root


# --- help, version, usage --------------------------------------------------------------------------------------------


def test_help_lists_every_command() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    for name in ("analyze", "train", "evaluate", "corpus"):
        assert f" {name} " in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (("analyze",), ["--model", "--out", "--format", "--json", "--hop", "--quiet"]),
        (("train",), ["--out", "--method", "--frontend", "--config", "--seed", "--workers", "--cache", "--quiet"]),
        (("evaluate",), ["--out", "--method", "--frontend", "--config", "--folds", "--seeds", "--group", "--noise"]),
        (("corpus",), ["list", "check", "noise", "synth"]),
        (("corpus", "check"), ["--json", "--workers", "--space", "--threshold", "--margin", "--split", "--audio"]),
        (("corpus", "noise"), ["--segment", "--figure", "--json", "--space", "--threshold"]),
        (("corpus", "synth"), ["--songs", "--seed"]),
    ],
)
def test_help_of_a_command_lists_its_options(command: tuple[str, ...], options: list[str]) -> None:
    assert command in COMMANDS
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    for option in options:
        assert option in result.stdout


def test_each_option_of_a_corpus_is_on_the_command_line() -> None:
    assert set(CORPUS_OPTIONS) == {field.name for field in fields(CorpusOptions)}


def test_help_of_evaluate_tells_the_defaults_of_the_protocol() -> None:
    reported = " ".join(CliRunner().invoke(app, ["evaluate", "--help"]).stdout.replace("│", " ").split())
    default = Protocol()
    assert f"default: {' and '.join(default.methods)}." in reported
    for stated in (f"default: {default.folds}.", f"default: {default.seeds}.", f"default: {default.fraction:g}."):
        assert stated in reported
    assert f"{default.group} (default)" in reported


def test_every_kind_of_corpus_is_listed_with_its_options(call: Call) -> None:
    outcome = call("corpus", "list")
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(CORPORA)
    assert "emopia: --audio, --labels, --space, --split" in lines
    assert "folder: no options" in lines
    listed = [json.loads(line) for line in call("corpus", "list", "--json").out.splitlines()]
    assert {"name": "csv", "options": ["--audio", "--split"]} in listed


def test_version() -> None:
    assert spawn("--version") == Outcome(0, f"emoseg {emoseg.__version__}\n", "")


@pytest.mark.parametrize(
    "args",
    [
        ("nonsense",),
        ("analyze",),
        ("train", "folder:x"),
        ("analyze", "x.wav", "--loud"),
        ("train", "folder:x", "--out", "m", "--seed", "-1"),
        ("evaluate", "folder:x", "--out", "r.json", "--folds", "1"),
        ("evaluate", "folder:x", "--out", "r.json", "--group", "album"),
        ("corpus", "synth", "x", "--songs", "7"),
    ],
)
def test_wrong_usage_is_status_2_and_says_how(call: Call, args: tuple[str, ...]) -> None:
    command = "emoseg corpus synth" if args[0] == "corpus" else f"emoseg {args[0]}"
    refused(call(*args), f"(try '{'emoseg' if args[0] == 'nonsense' else command} --help')")


def test_a_file_name_with_a_leading_dash(call: Call, model: Path, songs: list[Path], tmp_path: Path) -> None:
    name = "-q 日本 é.flac"
    shutil.copy(songs[0], tmp_path / name)
    refused(call("analyze", "-x.flac", "--model", model), "goes after '--'")
    with contextlib.chdir(tmp_path):
        outcome = call("analyze", "--model", model, "--json", "--", name)
    assert outcome.status == 0, outcome
    assert json.loads(outcome.out)["path"] == name


@pytest.mark.parametrize("args", [(), ("corpus",)])
def test_a_bare_command_prints_its_help(call: Call, args: tuple[str, ...]) -> None:
    outcome = call(*args)
    assert outcome.status == 2
    assert "Usage: emoseg" in outcome.out + outcome.err
    assert "--help" in outcome.out + outcome.err


# --- train -----------------------------------------------------------------------------------------------------------


def test_train_writes_a_model_folder_and_says_so(lab: Lab) -> None:
    assert lab.trained.status == 0, lab.trained
    assert lab.trained.out.startswith(f"{lab.model}: 16 songs, held-out macro-F1 0.")
    assert lab.trained.out.count("\n") == 1
    assert "Traceback" not in lab.trained.err
    names = {path.name for path in lab.model.iterdir()}
    assert names == {CONFIG_FILE, SEGMENT_FILE, SONG_FILE, WEIGHTS_FILE, CARD_FILE}
    left = {path.name for path in lab.model.parent.iterdir()} - {"settings.toml", "cache", "model"}
    assert left == set(), "no unfinished run stays behind"


def test_train_takes_its_settings_from_the_file(lab: Lab) -> None:
    config = json.loads((lab.model / CONFIG_FILE).read_text())
    assert config["training"]["learning"]["epochs"] == 3
    assert config["training"]["learning"]["members"] == 2
    assert config["training"]["method"] == "emoseg"
    assert config["training"]["corpus"] == "synth"
    assert [frontend["name"] for frontend in config["frontends"]] == ["descriptors"]
    assert config["space"]["labels"] == QUADRANTS


def test_train_overwrites_nothing(lab: Lab, call: Call, tmp_path: Path) -> None:
    before = (lab.model / CONFIG_FILE).read_bytes()
    refused(call("train", f"synth:{lab.corpus}", "--out", lab.model), f"{lab.model}: exists already")
    assert (lab.model / CONFIG_FILE).read_bytes() == before
    refused(call("train", f"synth:{lab.corpus}", "--out", lab.settings), "exists already")


def test_train_into_the_current_folder_is_refused(
    lab: Lab, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(call("train", f"synth:{lab.corpus}", "--out", "."), "--out must name a new folder")


def test_train_on_one_label(lab: Lab, songs: list[Path], call: Call, tmp_path: Path) -> None:
    (tmp_path / "corpus" / "happy").mkdir(parents=True)
    for song in songs[:3]:
        shutil.copy(song, tmp_path / "corpus" / "happy")
    outcome = call("train", f"folder:{tmp_path / 'corpus'}", "--out", tmp_path / "m")
    refused(outcome, "all 3 songs have the label 'happy'; two or more labels are needed")
    assert not (tmp_path / "m").exists()


def test_train_on_a_label_of_one_song_names_the_label(lab: Lab, songs: list[Path], call: Call, tmp_path: Path) -> None:
    for i, song in enumerate(songs[:4]):
        folder = tmp_path / "corpus" / ("sad" if i == 0 else "happy")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(song, folder)
    corpus = f"folder:{tmp_path / 'corpus'}"
    outcome = call("train", corpus, "--out", tmp_path / "m", "--config", lab.settings, "--cache", lab.cache, "-q")
    refused(outcome, "label 'sad' occurs in one artist or song only")
    assert list(tmp_path.iterdir()) == [tmp_path / "corpus"]


def test_train_with_a_label_for_a_missing_file(songs: list[Path], call: Call, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra train")
    table = tmp_path / "songs.csv"
    table.write_text(f"path,label\n{songs[0]},happy\nabsent.wav,sad\n{songs[1]},sad\n")
    outcome = call("train", f"csv:{table}", "--out", tmp_path / "m")
    refused(outcome, f"{table}: row 3 gives a label to a missing file: {tmp_path / 'absent.wav'}")


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ("[learning]\nepoch = 3\n", "settings.toml: unknown key 'learning.epoch'"),
        ("[learning]\nepochs = 1\n", "settings.toml: learning.epochs: Input should be greater than or equal to 2"),
        ("[learning\n", "settings.toml: is not TOML"),
        (None, "settings.toml: no such file"),
    ],
)
def test_train_with_bad_settings(lab: Lab, call: Call, tmp_path: Path, settings: str | None, part: str) -> None:
    file = tmp_path / "settings.toml"
    if settings:
        file.write_text(settings)
    refused(call("train", f"synth:{lab.corpus}", "--out", tmp_path / "m", "--config", file), part)


def test_train_with_unknown_names(lab: Lab, call: Call, tmp_path: Path) -> None:
    start = ("train", f"synth:{lab.corpus}", "--out", tmp_path / "m")
    refused(call(*start, "--method", "mixpu"), "method 'mixpu': must be one of inherit, ", "did you mean 'mixup'?")
    for method in ("attention-mil", "whole-song", "svm-compare"):
        refused(call(*start, "--method", method), f"method '{method}' cannot be trained into a model folder: ")
    refused(call(*start, "--frontend", "mfcc"), "frontend 'mfcc': must be one of logmel, descriptors")
    refused(call(*start, "--frontend", "logmel+logmel"), "frontends must be distinct")


@pytest.mark.parametrize("command", [("train", "--out", "m"), ("evaluate", "--out", "r.json"), ("corpus", "check")])
@pytest.mark.parametrize(
    ("corpus", "part"),
    [
        ("songs", "corpus 'songs': must be NAME:PATH with NAME one of 4q, pmemo, emomusic"),
        ("deezer:songs", "corpus 'deezer': must be one of 4q, pmemo, emomusic"),
        ("folder:absent", "absent: does not exist"),
        ("4q:.", "is not the 4q folder"),
    ],
)
def test_a_bad_corpus_is_one_line(
    call: Call,
    command: tuple[str, ...],
    corpus: str,
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(call(*command, corpus), part)


def test_what_the_system_refuses_is_one_line(lab: Lab, call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = tmp_path / "file" / "cache"
    options = ("--out", tmp_path / "m", "--workers", "1", "--config", lab.settings)
    refused(call("train", f"synth:{lab.corpus}", "--cache", cache, *options, "-q"), f"{tmp_path / 'file'}")


# --- analyze ---------------------------------------------------------------------------------------------------------

SPACE_KEYS = ["name", "labels", "axes", "rule"]
AXES = ["valence", "arousal", "valence_sd", "arousal_sd"]
SONG_KEYS = ["label", "probabilities", "confidence", *AXES]
SEGMENT_KEYS = ["start_s", "end_s", "label", "probabilities", *AXES, "sound"]


def check_analysis(result: dict[str, Any], path: Path, duration_s: float, *, model: str = DEFAULT_MODEL) -> None:
    reported = ["schema", "path", "duration_s", "model", "space", "song", "segments", "spans", "changes", "rules"]
    assert list(result) == reported
    assert result["rules"]["unsure_below"] == 0.5
    assert result["rules"]["unsure"] == "the most probable label has a probability below 0.50"
    assert [c["time_s"] for c in result["changes"]] == [span["start_s"] for span in result["spans"][1:]]
    assert result["schema"] == "emoseg.analysis/1"
    assert result["path"] == str(path)
    assert result["duration_s"] == pytest.approx(duration_s, abs=0.1)
    assert result["model"] == {"name": model, "version": "1"}
    assert list(result["space"]) == SPACE_KEYS
    assert result["space"]["labels"] == QUADRANTS
    song = result["song"]
    assert list(song) == SONG_KEYS
    assert song["confidence"] == max(song["probabilities"].values())
    for part in [song, *result["segments"]]:
        p = part["probabilities"]
        assert list(p) == QUADRANTS
        assert sum(p.values()) == pytest.approx(1, abs=1e-5)
        best = max(p, key=lambda label: p[label])
        assert part["label"] == (best if p[best] >= 0.5 else "unsure")
        assert part["valence"] == pytest.approx(p["Q1"] + p["Q4"] - p["Q2"] - p["Q3"], abs=1e-5)
        assert part["arousal"] == pytest.approx(p["Q1"] + p["Q2"] - p["Q3"] - p["Q4"], abs=1e-5)
    starts = [segment["start_s"] for segment in result["segments"]]
    assert all(list(segment) == SEGMENT_KEYS for segment in result["segments"])
    assert starts == [3.0 * i for i in range(len(starts))]
    assert all(list(span) == ["start_s", "end_s", "label"] for span in result["spans"])
    assert result["spans"][0]["start_s"] == 0
    assert result["spans"][-1]["end_s"] == result["segments"][-1]["end_s"]


def test_analyze_prints_a_table(model: Path, songs: list[Path], call: Call) -> None:
    outcome = call("analyze", songs[0], songs[1], "--model", model)
    assert outcome.status == 0
    assert songs[0].name in outcome.out
    assert songs[1].name in outcome.out
    assert "0:10" in outcome.out
    assert "model 4q 1" in outcome.out
    assert outcome.err == ""


def test_analyze_json_is_one_object_a_line(model: Path, songs: list[Path]) -> None:
    outcome = spawn("analyze", *songs[:3], "--model", model, "--json")
    assert outcome.status == 0
    assert outcome.err == ""
    lines = outcome.out.splitlines()
    assert len(lines) == 3
    for line, song in zip(lines, songs, strict=False):
        check_analysis(json.loads(line), song, 10.0)


def test_analyze_with_a_model_of_ones_own(lab: Lab, songs: list[Path], call: Call) -> None:
    outcome = call("analyze", songs[0], "--model", lab.model, "--json")
    assert outcome.status == 0
    check_analysis(json.loads(outcome.out), songs[0], 10.0, model="model")


def test_analyze_twice_is_the_same_byte_for_byte(model: Path, songs: list[Path], call: Call) -> None:
    assert call("analyze", *songs[:2], "--model", model, "--json") == call(
        "analyze", *songs[:2], "--model", model, "--json"
    )


def test_analyze_a_folder_stands_for_its_recordings(model: Path, corpus: Path, songs: list[Path], call: Call) -> None:
    outcome = call("analyze", corpus, "--model", model, "--json")
    assert outcome.status == 0
    assert [json.loads(line)["path"] for line in outcome.out.splitlines()] == [str(song) for song in songs]


def test_analyze_hop(model: Path, songs: list[Path], call: Call) -> None:
    outcome = call("analyze", songs[0], "--model", model, "--json", "--hop", "1.5")
    assert outcome.status == 0
    starts = [segment["start_s"] for segment in json.loads(outcome.out)["segments"]]
    assert starts == [1.5 * i for i in range(len(starts))]
    assert len(starts) > 4
    refused(call("analyze", songs[0], "--model", model, "--hop", "0"), "hop 0.0 s: must be above 0.05")


ERRORS = [
    ("absent.mp3", "missing", "no such file"),
    ("empty.mp3", "empty", "is an empty file"),
    ("text.mp3", "decode", "cannot be decoded"),
    ("cut.mp3", "decode", "cannot be decoded"),
    ("short.wav", "short", "lasts 0.2 s, shorter than the minimum of 1 s"),
    ("silent.wav", "silent", "is silent"),
    ("nan.wav", "nonfinite", "has a sample at 1.000 s that is not a finite number"),
]


@pytest.mark.parametrize(("name", "kind", "part"), ERRORS)
def test_analyze_what_cannot_be_analysed(model: Path, bad: Path, call: Call, name: str, kind: str, part: str) -> None:
    path = bad / name
    outcome = call("analyze", path, "--model", model)
    assert outcome.status == 1
    assert outcome.out == ""
    assert outcome.err.startswith(f"emoseg: {path}: ")
    assert part in outcome.err
    assert outcome.err.count("\n") == 1

    outcome = call("analyze", path, "--model", model, "--json")
    assert outcome.status == 1
    assert outcome.err == ""
    result = json.loads(outcome.out)
    assert list(result) == ["schema", "path", "error"]
    assert (result["schema"], result["path"]) == ("emoseg.analysis/1", str(path))
    assert list(result["error"]) == ["type", "message"]
    assert result["error"]["type"] == kind
    assert part in result["error"]["message"]


def test_analyze_an_mp3_that_ends_early_is_a_shorter_recording(model: Path, call: Call, tmp_path: Path) -> None:
    path = tmp_path / "half.mp3"
    soundfile.write(path, tone(10), RATE)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    outcome = call("analyze", path, "--model", model, "--json")
    assert outcome.status == 0
    assert json.loads(outcome.out)["duration_s"] == pytest.approx(5, abs=0.5)


def test_analyze_goes_on_after_failures(model: Path, bad: Path, songs: list[Path], tmp_path: Path) -> None:
    options: list[str | Path] = ["--model", model, "--format", "json", "--format", "csv", "--out", tmp_path / "out"]
    outcome = spawn("analyze", songs[0], bad / "text.mp3", bad / "absent.mp3", songs[1], *options)
    assert outcome.status == 1
    assert songs[0].name in outcome.out
    assert songs[1].name in outcome.out
    first, second = outcome.err.splitlines()
    assert first.startswith(f"emoseg: {bad / 'text.mp3'}: cannot be decoded")
    assert second == f"emoseg: {bad / 'absent.mp3'}: no such file"
    written = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert written == {f"{song.name}.{suffix}" for song in songs[:2] for suffix in ("json", "csv")}
    [file] = (tmp_path / "out").rglob(f"{songs[1].name}.json")
    check_analysis(json.loads(file.read_text()), songs[1], 10.0)


def test_analyze_json_keeps_the_order_of_good_and_bad(model: Path, bad: Path, songs: list[Path], call: Call) -> None:
    asked = [bad / "silent.wav", songs[0], bad / "absent.mp3", songs[1]]
    outcome = call("analyze", *asked, "--model", model, "--json")
    assert outcome.status == 1
    results = [json.loads(line) for line in outcome.out.splitlines()]
    assert [result["path"] for result in results] == list(map(str, asked))
    assert ["error" in result for result in results] == [True, False, True, False]


def test_analyze_folders_without_audio(model: Path, songs: list[Path], call: Call, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").touch()
    outcome = call("analyze", tmp_path / "a", tmp_path / "b", "--model", model)
    lines = [f"emoseg: {tmp_path / name}: holds no recordings" for name in ("a", "b")]
    assert outcome == Outcome(1, "", "\n".join(lines) + "\n")
    out = tmp_path / "out"
    options = ("--model", model, "--format", "json", "--out", out, "--json")
    outcome = call("analyze", tmp_path / "a", tmp_path / "b", *options)
    assert outcome.status == 1
    assert [json.loads(line)["error"]["type"] for line in outcome.out.splitlines()] == ["empty", "empty"]
    assert not out.exists()


def test_figures_and_notes_go_into_the_card(lab: Lab, call: Call, tmp_path: Path) -> None:
    result, notes = tmp_path / "r.json", tmp_path / "notes.md"
    spec, setting = f"synth:{lab.corpus}", ("--config", lab.settings, "--cache", lab.cache, "--workers", "1", "--quiet")
    folds = ("--folds", "2", "--seeds", "1", "--group", "none", "--method", "mixup")
    assert call("evaluate", spec, *folds, *setting, "--out", result).status == 0
    notes.write_text("## Notes\n\nOnly tunes.\n")
    card = ("--measured", result, "--notes", notes)
    assert call("train", spec, "--method", "mixup", *setting, *card, "--out", tmp_path / "model").status == 0
    text = (tmp_path / "model" / CARD_FILE).read_text()
    figures = json.loads(result.read_text())["methods"]["mixup"]
    assert f"Song macro-F1 {figures['macro_f1']['mean']:.3f}" in text
    assert f"Q3 {figures['recall']['Q3']:.2f}" in text
    assert text.endswith("Only tunes.\n")
    other = ("train", spec, *setting, "--out", tmp_path / "other")
    refused(call(*other, *card), "r.json: has no figures for the method 'emoseg'")
    refused(
        call("train", spec, "--method", "mixup", "--cache", lab.cache, "--quiet", *card, "--out", tmp_path / "o"),
        "r.json: was measured with other settings",
    )
    refused(call(*other, "--measured", notes), "notes.md: is not a result file of 'emoseg evaluate'")
    refused(call(*other, "--notes", tmp_path / "none.md"), "none.md: no such file")
    altered = json.loads(result.read_text())
    altered["protocol"]["test_split"] = {"parts": "test"}
    result.write_text(json.dumps(altered))
    refused(call(*other, "--method", "mixup", "--measured", result), "was measured on the official part test, not on")
    altered["config"]["learning"]["newer"] = 1
    result.write_text(json.dumps(altered))
    refused(
        call(*other, "--method", "mixup", "--measured", result),
        "not valid in this version: unknown key 'learning.newer'",
    )
    del altered["config"]["learning"]["newer"]
    # A file from before there were soft labels was measured without.
    del altered["config"]["learning"]["soft_labels"], altered["protocol"]["test_split"]
    altered["corpus"]["hash"] = "0"
    result.write_text(json.dumps(altered))
    refused(call(*other, "--method", "mixup", "--measured", result), "r.json: was measured on other songs or labels")
    assert not (tmp_path / "other").exists()


def test_analyze_options_that_do_not_fit(model: Path, songs: list[Path], call: Call, tmp_path: Path) -> None:
    start = ("analyze", songs[0], "--model", model)
    refused(call(*start, "--format", "midi", "--out", tmp_path), "format 'midi' is unknown; choose from json, csv")
    refused(call(*start, "--format", "json"), "--format and --out go together")
    refused(call(*start, "--out", tmp_path), "--format and --out go together")
    refused(call("analyze", songs[0], "--model", "5q"), "no bundled model has that name (there is 4q)")
    (tmp_path / "file").touch()
    outcome = call(*start, "--format", "json", "--out", tmp_path / "file")
    assert outcome.status == 2
    assert "file: is a file; --out is the folder to write to" in outcome.err


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda m: shutil.rmtree(m), "model: is not a model folder"),
        (lambda m: (m / CONFIG_FILE).unlink(), "config.json: is missing from the model folder"),
        (lambda m: (m / SEGMENT_FILE).unlink(), "segment.onnx: is missing from the model folder"),
        (lambda m: (m / SONG_FILE).write_bytes(b"x"), "song.safetensors: was altered"),
        (lambda m: (m / CONFIG_FILE).write_text("{"), "config.json: is not JSON"),
    ],
    ids=["no folder", "no config", "no segment model", "other song model", "other config"],
)
def test_analyze_with_a_model_that_is_not_whole(
    model: Path, songs: list[Path], call: Call, tmp_path: Path, harm: Callable[[Path], Any], message: str
) -> None:
    harmed = tmp_path / "model"
    shutil.copytree(model, harmed)
    harm(harmed)
    refused(call("analyze", songs[0], "--model", harmed), message)
    refused(call("analyze", songs[0], "--model", harmed, "--json"), message)


def test_analyze_loads_no_learning_package(model: Path, songs: list[Path]) -> None:
    code = (
        "import sys; from emoseg.analysis.analyzer import Analyzer; Analyzer(sys.argv[1]).analyze(sys.argv[2]);"
        "print(sorted({'torch', 'sklearn', 'onnx', 'librosa', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(model), str(songs[0])], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.skipif(os.name != "posix", reason="needs pipes that break")
def test_a_reader_that_goes_away_is_no_traceback(model: Path, songs: list[Path]) -> None:
    command = shutil.which("emoseg", path=str(Path(sys.executable).parent))
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [str(command), "analyze", str(songs[0]), "--model", str(model), "--json"],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        os.close(writer)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


# --- evaluate --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", ["segment", "segment:2", "white:0.1", "song:-1"])
def test_evaluate_with_bad_noise(lab: Lab, call: Call, tmp_path: Path, noise: str) -> None:
    outcome = call("evaluate", f"synth:{lab.corpus}", "--out", tmp_path / "r.json", "--noise", noise)
    refused(outcome, f"noise '{noise}': must be none, segment:R, song:R or splice:R with R from 0 to 0.9")


def test_evaluate_says_early_what_is_wrong(lab: Lab, call: Call, tmp_path: Path) -> None:
    start = ("evaluate", f"synth:{lab.corpus}", "--cache", lab.cache, "--quiet", "--workers", "1")
    out = tmp_path / "r.json"
    refused(call(*start, "--out", tmp_path / "no" / "r.json"), "r.json: its folder does not exist")
    refused(call(*start, "--out", tmp_path), f"{tmp_path}: is a folder; --out is the result file to write")
    refused(call(*start, "--out", out, "--method", "best"), "method 'best': must be one of inherit, mixup")
    refused(call(*start, "--out", out, "--method", "sssl", "--method", "sssl"), "method 'sssl' is named twice")
    refused(call(*start, "--out", out, "--fraction", "0"), "fraction 0: must be above 0 and at most 1")
    refused(call(*start, "--out", out, "--figure", tmp_path / "f.gif"), "a figure must end in .png, .svg, .pdf")
    refused(call(*start, "--out", out), "10 folds need at least 10 different artists or songs; found 4")
    refused(call(*start, "--out", out, "--group", "none", "--folds", "17"), "17 folds need at least 17", "found 16")
    split = ("--out", out, "--test-split", "test")
    refused(call(*start, *split, "--folds", "10"), "--folds and --test-split: give only one of them")
    refused(call(*start, *split), "test split 'test': no song is in 'test'; the official parts", "are none")
    refused(call(*start, "--out", out, "--soft-labels"), "the corpus 'synth' has no soft labels to learn from")
    assert list(tmp_path.iterdir()) == []


# --- corpus ----------------------------------------------------------------------------------------------------------


def test_train_with_soft_labels_that_are_not_there(lab: Lab, call: Call, tmp_path: Path) -> None:
    outcome = call("train", f"synth:{lab.corpus}", "--out", tmp_path / "m", "--soft-labels", "--cache", lab.cache)
    refused(outcome, f"{lab.corpus}: the corpus 'synth' has no soft labels to learn from")
    assert list(tmp_path.iterdir()) == []


def test_corpus_check_of_a_good_corpus(corpus: Path, call: Call) -> None:
    outcome = call("corpus", "check", f"synth:{corpus}", "--workers", "1")
    assert outcome.status == 0
    assert "songs     16 (Q1 4, Q2 4, Q3 4, Q4 4), 2.7 minutes" in outcome.out
    assert outcome.out.endswith("  0 errors, 0 warnings\n")
    assert outcome.err == ""


def test_corpus_check_of_a_corpus_with_errors(songs: list[Path], bad: Path, call: Call, tmp_path: Path) -> None:
    table = tmp_path / "songs.csv"
    rows = [(songs[0], "happy"), (songs[1], "sad"), ("absent.wav", "sad"), (bad / "text.mp3", "sad")]
    table.write_text("path,label\n" + "".join(f"{path},{label}\n" for path, label in rows))
    outcome = call("corpus", "check", f"csv:{table}", "--workers", "1")
    assert outcome.status == 1
    assert f"  error     {table}: row 4 gives a label to a missing file: {tmp_path / 'absent.wav'}" in outcome.out
    assert f"  error     {bad / 'text.mp3'}: cannot be decoded" in outcome.out
    assert f"  warning   {table}: no artist column: folds go by song only" in outcome.out
    assert outcome.out.endswith("  2 errors, 1 warning\n")

    outcome = call("corpus", "check", f"csv:{table}", "--workers", "1", "--json")
    assert outcome.status == 1
    report = json.loads(outcome.out)
    assert report["schema"] == "emoseg.corpus-check/1"
    assert report["errors"] == 2
    assert report["counts"] == {"happy": 1, "sad": 2}
    assert len(report["problems"]) == 3


@pytest.mark.skipif(os.name != "posix", reason="needs names of any bytes")
def test_corpus_check_prints_names_that_the_terminal_cannot(songs: list[Path], tmp_path: Path) -> None:
    for folder, name in (("happy", "Björk.flac"), ("sad", os.fsdecode(b"Bj\xf6rk.flac"))):
        (tmp_path / folder).mkdir()
        shutil.copy(songs[0], tmp_path / folder / name)
        (tmp_path / folder / f"bad {name}").touch()
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for environment in ({}, plain):
        outcome = spawn("corpus", "check", f"folder:{tmp_path}", "--workers", "1", **environment)
        assert outcome.status == 1
        assert "Traceback" not in outcome.err
        assert "3 errors" in outcome.out  # two that are no audio, and one recording under two labels
        outcome = spawn("corpus", "check", f"folder:{tmp_path}", "--workers", "1", "--json", **environment)
        assert len([p for p in json.loads(outcome.out)["problems"] if p["severity"] == "error"]) == 3


def test_corpus_noise_counts_the_planted_changes(corpus: Path, call: Call) -> None:
    outcome = call("corpus", "noise", f"synth:{corpus}", "--segment", "2")
    assert outcome.status == 0
    assert outcome.err == ""
    assert "of windows of 2 s have another emotion than their song's label" in outcome.out
    outcome = call("corpus", "noise", f"synth:{corpus}", "--segment", "2", "--json")
    noise = json.loads(outcome.out)
    assert noise["overall"]["windows"] == 16 * 5
    assert 0 < noise["overall"]["wrong"] == sum(row["wrong"] for row in noise["by_class"])


def test_corpus_noise_draws_a_figure(corpus: Path, call: Call, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    outcome = call("corpus", "noise", f"synth:{corpus}", "--figure", tmp_path / "noise.svg")
    assert outcome.status == 0
    assert "<svg" in (tmp_path / "noise.svg").read_text()


def test_corpus_noise_of_a_corpus_that_does_not_know(songs: list[Path], call: Call, tmp_path: Path) -> None:
    table = tmp_path / "songs.csv"
    table.write_text(f"path,label\n{songs[0]},a\n{songs[1]},b\n")
    refused(call("corpus", "noise", f"csv:{table}"), "csv has no ratings over time")
    refused(call("corpus", "check", f"csv:{table}", "--space", "valence"), "space: does not apply to the corpus 'csv'")
    refused(call("corpus", "check", f"csv:{table}", "--split", "test"), "no part 'test'; it has no official parts")


def test_corpus_synth_writes_what_the_other_commands_read(call: Call, tmp_path: Path) -> None:
    out = tmp_path / "planted"
    outcome = call("corpus", "synth", out, "--songs", "8", "--seed", "3", "--workers", "1", "--quiet")
    assert outcome == Outcome(0, f"synth:{out}: 8 songs\n", "")
    outcome = call("corpus", "check", f"synth:{out}", "--workers", "1")
    assert outcome.status == 0
    assert "songs     8 (Q1 2, Q2 2, Q3 2, Q4 2), 4.0 minutes" in outcome.out
    refused(call("corpus", "synth", out, "--songs", "8"), f"{out}: is not empty")


@pytest.mark.skipif(find_spec("torch") is not None, reason="needs an installation without the extra train")
def test_config_names_the_packages_that_it_needs(call: Call) -> None:
    refused(call("config"), "needs packages that are not installed: pip install torch")


def test_config_writes_all_settings_to_a_file_that_is_accepted(call: Call, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra train")
    file = tmp_path / "settings.toml"
    assert call("config", "--out", file) == Outcome(0, "", "")
    text = file.read_text(encoding="utf-8")
    assert load_train_config(file).learning == LearningConfig()
    assert "[methods.emoseg]" in text
    printed = call("config")
    assert (printed.status, printed.out) == (0, text)
    refused(call("config", "--out", file), f"{file}: exists already; choose another --out")
    refused(call("config", "--out", tmp_path / "no" / "x.toml"), "its folder does not exist")
