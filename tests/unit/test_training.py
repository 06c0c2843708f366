"""What goes into a model card from files of a user's, and what training reports about itself."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from layouts import make_folder

from emoseg.config import TrainConfig
from emoseg.corpora import Corpus, load_corpus
from emoseg.corpora.segments import CorpusSegments
from emoseg.errors import ConfigError
from emoseg.frontends.store import FeatureTable
from emoseg.training import _fallback_counts, _measured_section, _read_result, train


def test_guards_are_counted_over_members_networks_and_passes() -> None:
    member = [
        {"loss": 1.0},  # warm-up
        {"fallback": ["agreement", None], "rescued_classes": [[], [2]]},
        {"fallback": ["agreement", "overlap"], "rescued_classes": [[], []]},
    ]
    learned = SimpleNamespace(fit=SimpleNamespace(history={"descriptors": [member, member[:2]]}))
    assert _fallback_counts(learned) == {"agreement": 3, "overlap": 1, "rescued class": 2}
    assert _fallback_counts(SimpleNamespace(fit=SimpleNamespace(history={"descriptors": [[{"loss": 1.0}]]}))) == {}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return load_corpus(f"folder:{make_folder(tmp_path / 'songs')}")


@pytest.fixture
def segments(corpus: Corpus) -> CorpusSegments:
    rows = np.arange(len(corpus.songs))
    table = FeatureTable({}, rows, np.zeros(len(rows)), np.ones(len(rows)), {})
    labels = np.array([corpus.space.index(song.label) for song in corpus.songs])
    return CorpusSegments(corpus.songs, table, rows, labels, None, ())


def measured(segments: CorpusSegments) -> dict[str, Any]:
    """Return as much of a result file as the model card needs."""
    figures = {
        "macro_f1": {"mean": 0.7, "interval": [0.65, 0.75]},
        "accuracy": 0.71,
        "recall": {"happy": 0.8, "sad": 0.6},
        "calibration_error": 0.05,
    }
    return {
        "config": TrainConfig().model_dump(mode="json", exclude={"method"}),
        "protocol": {"noise": "none", "fraction": 1.0, "group": "artist", "folds": 5, "seeds": [0, 1]},
        "corpus": {"hash": segments.hash, "space": {"labels": ["happy", "sad"]}},
        "methods": {"emoseg": figures},
    }


def section(file: Path, content: Any, segments: CorpusSegments) -> str:
    file.write_text(json.dumps(content))
    return _measured_section(file, _read_result(file), TrainConfig(), segments)


def test_figures_of_a_result_file_go_into_the_card(tmp_path: Path, segments: CorpusSegments) -> None:
    text = section(tmp_path / "result.json", measured(segments), segments)
    assert "5 folds (no artist in two folds) x 2 seeds" in text
    assert "Song macro-F1 0.700 (95 % interval over songs 0.650 to 0.750), accuracy 0.710; chance is 0.50." in text
    assert "Recall by label: happy 0.80, sad 0.60." in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["methods"]["emoseg"].update(accuracy=float("nan")), "is not a result file .*: nan is not from 0"),
        (lambda r: r["methods"]["emoseg"].update(accuracy=1e999), "inf is not from 0 to 1"),
        (lambda r: r["methods"]["emoseg"].update(accuracy="high"), "'high' is not from 0 to 1"),
        (lambda r: r["methods"]["emoseg"]["macro_f1"].update(interval=[0.1]), "not enough values"),
        (lambda r: r["methods"]["emoseg"]["macro_f1"].update(interval=3), "is not a result file"),
        (lambda r: r["methods"]["emoseg"].update(macro_f1=None), "is not a result file"),
        (lambda r: r["methods"]["emoseg"]["recall"].pop("sad"), "is not a result file .*: 'sad'"),
        (lambda r: r.update(methods=[]), "is not a result file"),
        (lambda r: r.update(methods={}), "has no figures for the method 'emoseg'"),
        (lambda r: r.update(config=3), "is not a result file"),
        (
            lambda r: r["config"].update(surprise=1),
            "its settings are not valid in this version: unknown key 'surprise'",
        ),
        (lambda r: r["config"]["learning"].update(epochs=99), "was measured with other settings"),
        (lambda r: r["corpus"].update(hash="other"), "was measured on other songs or labels"),
        (lambda r: r["corpus"].update(space=None), "is not a result file"),
        (lambda r: r["protocol"].update(noise="song:0.2"), "was measured on other songs or labels"),
        (lambda r: r["protocol"].update(test_split={"parts": "test"}), "on the official part test, not on all songs"),
        (lambda r: r["protocol"].update(test_split=1), "is not a result file"),
        (lambda r: r["protocol"].update(seeds=None), "is not a result file"),
    ],
)
def test_a_result_file_of_something_else_is_one_line(
    tmp_path: Path, segments: CorpusSegments, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    result = measured(segments)
    change(result)
    with pytest.raises(ConfigError, match=f"result\\.json: .*{message}") as caught:
        section(tmp_path / "result.json", result, segments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 200_000, "is not a result file of 'emoseg evaluate': maximum recursion depth"),
        (b"{", "is not a result file of 'emoseg evaluate': "),
        (b"", "is not a result file of 'emoseg evaluate': "),
        (b'{"config": "\xff"}', r"is not UTF-8 text \(byte 12\)"),
        (b'{"methods": ' + b"9" * 5000 + b"}", "is not a result file of 'emoseg evaluate': Exceeds the limit"),
    ],
    ids=["deep", "cut", "empty", "not UTF-8", "long number"],
)
def test_a_damaged_result_file_is_reported_before_anything_is_read(
    tmp_path: Path, corpus: Corpus, content: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emoseg.training.load_segments", lambda *_, **__: pytest.fail("sound was read"))
    file = tmp_path / "result.json"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=f"result\\.json: {message}"):
        train(corpus, tmp_path / "model", config=TrainConfig(), measured=file, quiet=True)
    assert {path.name for path in tmp_path.iterdir()} == {"songs", "result.json"}


@pytest.mark.parametrize("kind", ["notes", "measured"])
def test_files_for_the_card_are_bounded_and_regular(
    tmp_path: Path, corpus: Corpus, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emoseg.training._MOST_NOTES", 10)
    monkeypatch.setattr("emoseg.training._MOST_RESULT", 10)
    file = tmp_path / "file"

    def refused(message: str) -> None:
        files: dict[str, Any] = {kind: file}
        with pytest.raises(ConfigError, match=message):
            train(corpus, tmp_path / "model", config=TrainConfig(), quiet=True, **files)

    refused("file: no such file")
    file.write_bytes(b"x" * 11)
    refused("file: has 0.0 MB; at most 1e-05 MB are read")
    file.unlink()
    os.mkfifo(file)
    refused("file: is not a regular file")
    file.unlink()
    file.mkdir()
    refused("file: is a folder, not a file")


def test_an_output_that_cannot_be_named_or_searched_is_one_line(tmp_path: Path, corpus: Corpus) -> None:
    for out, message in (
        (Path("/"), "--out must name a new folder"),
        (tmp_path / ("x" * 300), "cannot be read: File name too long"),
        (tmp_path / "songs" / "happy", "exists already; choose another --out"),
    ):
        with pytest.raises(ConfigError, match=message):
            train(corpus, out, config=TrainConfig(), quiet=True)


def test_the_hash_is_of_songs_labels_and_artists(segments: CorpusSegments) -> None:
    first, *others = segments.songs
    changed = [replace(first, id="x"), replace(first, label="sad"), replace(first, artist="x")]
    found = {replace(segments, songs=(song, *others)).hash for song in (first, *changed)}
    assert len(found) == 4
