"""The model that comes with the package: whole, at hand by name, and what its card says was measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emoseg
from emoseg.analysis.model_folder import BUNDLED, DEFAULT_MODEL, bundled_models, export_model, find_model, load_model
from emoseg.cli.app import main
from emoseg.errors import ConfigError, ModelError
from emoseg.synthesis.corpus import write_corpus
from emoseg.writers.json_lines import to_json

REPOSITORY = Path(__file__).parents[2]
RESULT = REPOSITORY / "benchmarks" / "quality" / "4q-descriptors-clean.json"
RATE = 22050


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    corpus = tmp_path_factory.mktemp("bundled") / "corpus"
    write_corpus(corpus, songs=8, seed=3, duration_s=12, workers=1, quiet=True)
    return next((corpus / "audio").iterdir())


def emoseg_command(*args: str | Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["emoseg", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code


def test_the_default_is_there_and_small() -> None:
    assert DEFAULT_MODEL in bundled_models()
    folder = BUNDLED / DEFAULT_MODEL
    assert find_model() == folder
    assert sum(file.stat().st_size for file in folder.iterdir()) < 12e6
    assert load_model().config.name == "4q"
    assert load_model().space.labels == ("Q1", "Q2", "Q3", "Q4")


def test_no_model_need_be_named(song: Path, capsys: pytest.CaptureFixture[str]) -> None:
    analysis = emoseg.Analyzer().analyze(song)
    assert analysis.model_name == "4q"
    emoseg_command("analyze", song, "--json")
    reported = json.loads(capsys.readouterr().out)
    assert reported["model"]["name"] == "4q"
    assert sum(reported["song"]["probabilities"].values()) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["noise", "tone", "silence"])
def test_sound_that_is_no_music_gets_no_emotion(kind: str) -> None:
    t = np.arange(12 * RATE) / RATE
    hiss = np.random.default_rng(0).normal(size=len(t))
    sound = {"noise": 0.1 * hiss, "tone": 0.2 * np.sin(2 * np.pi * 440 * t), "silence": 2e-4 * hiss}[kind]
    analysis = emoseg.Analyzer().analyze(sound.astype(np.float32), sample_rate_hz=RATE)
    assert (analysis.song.label, analysis.song.probabilities) == (kind, ())
    assert {segment.label for segment in analysis.segments} == {kind}


def test_what_the_card_says_of_such_sounds_was_measured() -> None:
    answers = json.loads((REPOSITORY / "benchmarks" / "model" / "sounds.json").read_text(encoding="utf-8"))
    card = (BUNDLED / "4q" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert {row["answer"] for row in answers} == {"noise", "tone", "silence", "speech", "refused (silent)"}
    for row in answers:
        segments = ", ".join(f"{label} {n}" for label, n in row["segments"].items())
        assert f"| {row['sound']} | {row['answer']} | {segments} |" in card


def test_a_folder_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "4q").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_model("4q") == Path("4q")
    with pytest.raises(
        ModelError, match=r"5q: is not a model folder, and no bundled model has that name \(there is 4q\)"
    ):
        find_model("5q")


def test_a_copy_is_the_same_model(tmp_path: Path, song: Path) -> None:
    export_model("4q", tmp_path / "mine")
    copy, own = emoseg.Analyzer(tmp_path / "mine"), emoseg.Analyzer()
    assert copy.analyze(song) == own.analyze(song)
    with pytest.raises(ConfigError, match="mine: exists already"):
        export_model("4q", tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_weights_stay_behind_where_asked(tmp_path: Path) -> None:
    export_model("4q", tmp_path / "full")
    weights = tmp_path / "full" / "segment.safetensors"
    assert not weights.exists()
    weights.write_bytes(b"other")
    with pytest.raises(ModelError, match=r"segment\.safetensors: was altered"):
        load_model(tmp_path / "full")


def test_models_are_listed_shown_and_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    emoseg_command("model", "list")
    assert "4q: Q1, Q2, Q3, Q4; learnt from 4q (720 songs)" in capsys.readouterr().out
    emoseg_command("model", "list", "--json")
    assert json.loads(capsys.readouterr().out)["songs"] == 720
    emoseg_command("model", "show", "4q")
    assert capsys.readouterr().out == (BUNDLED / "4q" / "MODEL_CARD.md").read_text(encoding="utf-8")
    emoseg_command("model", "show", "4q", "--json")
    assert json.loads(capsys.readouterr().out)["training"]["corpus"] == "4q"
    emoseg_command("model", "export", "4q", tmp_path / "mine")
    assert load_model(tmp_path / "mine").config == load_model().config


def test_the_card_says_what_was_measured() -> None:
    """The figures in the card are those of the result file, and that was measured with the model's own settings."""
    config = load_model().config
    result = json.loads(RESULT.read_text())
    figures = result["methods"][config.training["method"]]
    card = (BUNDLED / "4q" / "MODEL_CARD.md").read_text(encoding="utf-8")
    low, high = figures["macro_f1"]["interval"]
    assert f"Song macro-F1 {figures['macro_f1']['mean']:.3f} (95 % interval over songs {low:.3f} to {high:.3f})" in card
    assert f"calibration error of song probabilities: {figures['calibration_error']:.3f}" in card
    assert figures["calibration_error"] <= 0.05
    assert result["corpus"]["hash"] == config.training["hash"]
    # Only settings that both versions had: the model may be older or newer than the figures.
    measured, learnt = result["config"]["learning"], config.training["learning"]
    assert {k: measured[k] for k in measured.keys() & learnt} == {k: learnt[k] for k in measured.keys() & learnt}
    assert "research" in card


def installed(site: Path, song: Path, cwd: Path) -> Any:
    """Analyse with the package at `site`, in a new process that cannot learn, from another folder."""
    code = (
        "import sys; sys.modules['torch'] = sys.modules['sklearn'] = sys.modules['onnx'] = None\n"
        "import emoseg, pathlib; assert pathlib.Path(emoseg.__file__).is_relative_to(sys.argv[1])\n"
        "sys.argv = ['emoseg', 'analyze', sys.argv[2], '--json']\n"
        "from emoseg.cli.app import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(site), str(song)],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(site)},
    )
    return json.loads(done.stdout)


def test_an_installed_wheel_gives_the_same_analysis(song: Path, tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="building a wheel needs hatchling")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path / "wheel")],
        capture_output=True,
        check=True,
        cwd=REPOSITORY,
    )
    (wheel,) = (tmp_path / "wheel").iterdir()
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    installed_model = load_model(tmp_path / "site" / "emoseg" / "analysis" / "bundled" / DEFAULT_MODEL)
    assert installed_model.config == load_model().config
    assert installed(tmp_path / "site", song, tmp_path) == to_json(emoseg.Analyzer().analyze(song))
