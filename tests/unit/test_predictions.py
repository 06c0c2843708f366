"""Files of predictions: test songs, test segments, and the labels of training segments."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from trials import KNOWN, LABELS, PROTOCOL, SONG_LABELS, TRUE, corpus, trials

from emoseg.errors import ConfigError
from emoseg.evaluation.injected_noise import InjectedNoise
from emoseg.evaluation.predictions import require_predictions, write_predictions
from emoseg.evaluation.protocol import make_fold

PARTS = np.arange(6) % 2  # the fold that tests each song


@pytest.fixture(autouse=True)
def planted_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the protocol cut the folds that the made-up trials have."""
    monkeypatch.setattr("emoseg.evaluation.protocol.song_folds", lambda *_, **__: PARTS)


def read(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def test_every_test_song_has_a_row_per_method_and_seed(tmp_path: Path) -> None:
    files = write_predictions(trials(), corpus()[1], PROTOCOL, LABELS, tmp_path / "p.csv")
    assert files == (tmp_path / "p.csv", tmp_path / "p.segments.csv", tmp_path / "p.training.csv")
    rows = read(files[0])
    assert len(rows) == 3 * 2 * 6
    assert list(rows[0]) == [*("method", "seed", "fold", "song", "label", "estimate", "p_calm", "p_glad", "p_sad")]
    wrong = [row for row in rows if row["label"] != row["estimate"]]
    assert [tuple(row.values()) for row in wrong] == [
        ("inherit", "1", "1", "song 1", "calm", "glad", "0.1", "0.8", "0.1"),
        ("mixup", "0", "1", "song 5", "sad", "calm", "0.8", "0.1", "0.1"),
        ("mixup", "1", "1", "song 1", "calm", "glad", "0.1", "0.8", "0.1"),
    ]
    assert [row["fold"] for row in rows if row["song"] == "song 2"] == ["0"] * 6


def test_test_segments_have_times_and_the_truth_where_it_is_known(tmp_path: Path) -> None:
    _, file, _ = write_predictions(trials(), corpus()[1], PROTOCOL, LABELS, tmp_path / "p.csv")
    rows = [row for row in read(file) if (row["method"], row["seed"]) == ("mixup", "1")]
    assert len(rows) == 12
    assert list(rows[0])[4:8] == ["start_s", "end_s", "label", "true"]
    values = {(row["song"], row["start_s"]): row for row in rows}
    for i, (label, true, known) in enumerate(zip(np.repeat(SONG_LABELS, 2), TRUE, KNOWN, strict=True)):
        row = values[f"song {i // 2}", "0" if i % 2 == 0 else "3"]
        assert row["end_s"] == ("3" if i % 2 == 0 else "6")
        assert (row["label"], row["true"]) == (LABELS[label], LABELS[true] if known else "")
        assert [row[f"p_{x}"] for x in LABELS] == ["0.7" if x == LABELS[label] else "0.15" for x in LABELS]
    _, file, _ = write_predictions(trials(), corpus(truth=False)[1], PROTOCOL, LABELS, tmp_path / "q.csv")
    assert {row["true"] for row in read(file)} == {""}


def test_training_segments_have_given_and_true_labels_and_clean_probabilities(tmp_path: Path) -> None:
    _, _, file = write_predictions(trials(), corpus()[1], PROTOCOL, LABELS, tmp_path / "p.csv")
    rows = read(file)
    assert len(rows) == 3 * 4 * 6
    assert list(rows[0])[4:] == ["start_s", "end_s", "label", "given", "true", "clean"]
    own = [row for row in rows if (row["method"], row["seed"], row["fold"]) == ("emoseg", "0", "0")]
    assert [row["song"] for row in own] == ["song 1"] * 2 + ["song 3"] * 2 + ["song 5"] * 2
    assert [row["clean"] for row in own] == ["0.91", "0.91", "0.13", "0.93", "0.95", "0.95"]
    assert [row["true"] for row in own] == ["calm", "calm", "sad", "glad", "", ""]
    assert all(row["given"] == row["label"] for row in rows)


def test_injected_noise_shows_in_the_given_labels(tmp_path: Path) -> None:
    protocol = replace(PROTOCOL, noise=InjectedNoise("segment", 0.5))
    segments = corpus(truth=False)[1]
    _, _, file = write_predictions(trials(), segments, protocol, LABELS, tmp_path / "p.csv")
    rows = [row for row in read(file) if (row["method"], row["seed"], row["fold"]) == ("mixup", "1", "0")]
    fold = make_fold(segments, protocol, classes=3, seed=1, fold=0)
    assert [row["given"] for row in rows] == [LABELS[k] for k in fold.given]
    assert sum(row["given"] != row["true"] for row in rows) == 3
    assert [row["true"] for row in rows] == [row["label"] for row in rows]


def test_parquet_has_the_same_rows_with_types(tmp_path: Path) -> None:
    made = corpus()[1]
    texts = write_predictions(trials(), made, PROTOCOL, LABELS, tmp_path / "p.csv")
    tables = write_predictions(trials(), made, PROTOCOL, LABELS, tmp_path / "p.parquet")
    for text, file in zip(texts, tables, strict=True):
        table = pq.read_table(file)
        rows: list[dict[str, Any]] = table.to_pylist()
        expected = read(text)
        assert len(rows) == len(expected)
        assert table.num_columns == len(expected[0])
        for row, strings in zip(rows, expected, strict=True):
            shown = {k: "" if v is None else v if isinstance(v, str) else f"{v:.6g}" for k, v in row.items()}
            assert shown == strings
    assert str(pq.read_table(tables[0]).schema.field("p_sad").type) == "double"
    assert str(pq.read_table(tables[1]).schema.field("p_sad").type) == "float"


def test_names_that_a_spreadsheet_would_run_are_text(tmp_path: Path) -> None:
    segments = corpus()[1]
    names = ("=cmd()", "\udcff.wav")
    songs = tuple(replace(song, id=name) for song, name in zip(segments.songs, names, strict=False))
    named = replace(segments, songs=(*songs, *segments.songs[2:]))
    first, *_ = write_predictions(trials(), named, PROTOCOL, LABELS, tmp_path / "p.csv")
    assert {row["song"] for row in read(first)} >= {"'=cmd()", "\\udcff.wav"}
    first, *_ = write_predictions(trials(), named, PROTOCOL, LABELS, tmp_path / "p.parquet")
    assert set(pq.read_table(first)["song"].to_pylist()) >= {"=cmd()", "\\udcff.wav"}


def test_a_file_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"p\.json: a file of predictions must end in \.csv or \.parquet"):
        require_predictions(tmp_path / "p.json")
    with pytest.raises(ConfigError, match=r"p\.csv: its folder does not exist"):
        require_predictions(tmp_path / "no" / "p.csv")
    require_predictions(tmp_path / "p.PARQUET")
