"""The result of an evaluation whose trials were made up, against figures computed by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from trials import CONFIG, METHODS, PROTOCOL, SONG_LABELS, corpus, result, trials

import emoseg
from emoseg import metrics
from emoseg.evaluation.measures import difference, fair_baseline, make_result

# Macro-F1 where song 1 (calm) is taken for glad, and where song 5 (sad) is taken for calm.
CALM_AS_GLAD = (2 / 3 + 4 / 5 + 1) / 3
SAD_AS_CALM = (4 / 5 + 1 + 2 / 3) / 3


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let intervals, which the test does not look at, come from a few resamplings."""
    monkeypatch.setattr(metrics, "paired_bootstrap", partial(metrics.paired_bootstrap, draws=5))


def test_scores_are_means_over_seeds_of_measures_on_all_songs() -> None:
    methods = result()["methods"]
    assert list(methods) == list(METHODS)
    inherit, mixup, own = (methods[name] for name in METHODS)
    assert inherit["macro_f1"]["by_seed"] == pytest.approx([1.0, CALM_AS_GLAD])
    assert inherit["macro_f1"]["mean"] == pytest.approx((1 + CALM_AS_GLAD) / 2)
    assert mixup["macro_f1"]["by_seed"] == pytest.approx([SAD_AS_CALM, CALM_AS_GLAD])
    assert own["macro_f1"] == {"mean": 1.0, "interval": [1.0, 1.0], "by_seed": [1.0, 1.0]}
    assert inherit["macro_f1_mean_probability"] == 1.0
    assert inherit["accuracy"] == pytest.approx(11 / 12)
    assert inherit["balanced_accuracy"] == pytest.approx((1 + (1 / 2 + 1 + 1) / 3) / 2)
    assert inherit["recall"] == pytest.approx({"calm": 0.75, "glad": 1.0, "sad": 1.0})
    assert mixup["recall"] == pytest.approx({"calm": 0.75, "glad": 1.0, "sad": 0.75})
    assert inherit["seconds"] == 15.0


def test_calibration_is_measured_per_seed_after_and_before() -> None:
    methods = result()["methods"]
    # All songs have one confidence, so they share a bin: .8 against a share of right ones of 1 and of 5/6.
    assert methods["inherit"]["calibration_error"] == pytest.approx((0.2 + 5 / 6 - 0.8) / 2)
    assert methods["inherit"]["calibration_error_before"] == pytest.approx((0.1 + 0.9 - 5 / 6) / 2)
    assert methods["emoseg"]["calibration_error"] == pytest.approx(0.2)
    assert methods["emoseg"]["calibration_error_before"] == pytest.approx(0.1)


def test_segments_are_scored_where_their_truth_is_known() -> None:
    # Of ten known segments song 0 has one that is really glad, and song 3 one that is really sad.
    calm, glad, sad = 2 * 3 / 7, 2 * 3 / 8, 2 * 2 / 5
    assert result()["methods"]["inherit"]["segment_macro_f1"] == pytest.approx((calm + glad + sad) / 3)
    assert result(truth=False)["methods"]["inherit"]["segment_macro_f1"] is None
    made, segments = corpus()
    nothing = replace(segments, known=np.zeros(12, dtype=bool))
    assert make_result(made, nothing, PROTOCOL, CONFIG, trials())["methods"]["mixup"]["segment_macro_f1"] is None


def test_intervals_resample_songs_with_the_predictions_of_all_seeds() -> None:
    estimates = np.array([[0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 2, 2]])
    rng = np.random.default_rng(0)
    values = []
    for _ in range(2000):
        drawn = rng.integers(0, 6, 6)
        values.append(np.mean([metrics.macro_f1(SONG_LABELS[drawn], e[drawn], 3) for e in estimates]))
    expected = np.percentile(values, [2.5, 97.5])
    assert result()["methods"]["inherit"]["macro_f1"]["interval"] == pytest.approx(expected.tolist())
    pairs = result(works=True)["methods"]["inherit"]["macro_f1"]["interval"]
    rng = np.random.default_rng(0)
    values = []
    for _ in range(2000):
        drawn = np.concatenate([[2 * g, 2 * g + 1] for g in rng.integers(0, 3, 3)])
        values.append(np.mean([metrics.macro_f1(SONG_LABELS[drawn], e[drawn], 3) for e in estimates]))
    assert pairs == pytest.approx(np.percentile(values, [2.5, 97.5]).tolist())


def test_differences_are_to_the_first_method_and_to_the_fair_baseline() -> None:
    data = result()
    assert data["fair_baseline"] == "inherit"
    assert [row["method"] for row in data["differences"]] == ["mixup", "emoseg"]
    assert [row["minus"] for row in data["differences"]] == ["inherit", "inherit"]
    mixup, own = (row["macro_f1"] for row in data["differences"])
    assert mixup["by_seed"] == pytest.approx([SAD_AS_CALM - 1, 0])
    assert mixup["mean"] == pytest.approx((SAD_AS_CALM - 1) / 2)
    assert own["by_seed"] == pytest.approx([0, 1 - CALM_AS_GLAD])
    assert own["mean"] == pytest.approx((1 - CALM_AS_GLAD) / 2)
    assert own["interval"][0] == 0.0
    assert own["interval"][1] > own["mean"]
    first = replace(PROTOCOL, methods=("emoseg", "mixup", "inherit"))
    rows = make_result(*corpus(), first, CONFIG, trials())["differences"]
    assert [(row["method"], row["minus"]) for row in rows] == [
        ("mixup", "emoseg"),
        ("inherit", "emoseg"),
        ("emoseg", "inherit"),
        ("mixup", "inherit"),
    ]
    alone = make_result(*corpus(), replace(PROTOCOL, methods=("emoseg", "mixup")), CONFIG, trials())
    assert alone["fair_baseline"] is None
    assert [(row["method"], row["minus"]) for row in alone["differences"]] == [("mixup", "emoseg")]


def test_the_fair_baseline_is_the_better_of_the_two_plain_ones() -> None:
    reference = np.array([0, 1, 0, 1])
    good, bad = np.array([[0, 1, 0, 1]]), np.array([[0, 1, 1, 0]])
    assert fair_baseline(reference, {"inherit": good, "mixup": bad}, 2) == "inherit"
    assert fair_baseline(reference, {"inherit": bad, "mixup": good}, 2) == "mixup"
    assert fair_baseline(reference, {"mixup": good, "sssl": good}, 2) is None


def test_a_method_differs_from_itself_by_exactly_nothing() -> None:
    rng = np.random.default_rng(0)
    reference, table = np.repeat(np.arange(4), 4), rng.integers(0, 4, (3, 16))
    assert difference(reference, table, table, 4) == {"mean": 0.0, "interval": [0.0, 0.0], "by_seed": [0.0] * 3}
    # A better and a worse one differ for certain, in that order.
    sure = np.stack([reference] * 3)
    low, high = difference(reference, sure, table, 4)["interval"]
    assert 0 < low < high
    low, high = difference(reference, table, sure, 4)["interval"]
    assert low < high < 0


def test_detection_is_the_mean_over_trainings_of_what_all_of_them_have() -> None:
    inherit, own = (result()["methods"][name]["detection"] for name in ("inherit", "emoseg"))
    shared = {
        "true_rate": 0.25,
        "estimated_rate": 0.1875,
        "auroc": 0.8125,
        "average_precision": 0.5,
        "lift": 2.0,
        "recall": 0.5,
        "wrong": 2.0,
        "hits": 1.0,
        "corrected_accuracy": 0.5,
        "flagged_by_class": {"calm": 0.5},
    }
    assert inherit == {**shared, "flagged": 0.5, "flagged_count": 3.0, "precision": 0.5, "trainings_without_flags": 0}
    # Three of four trainings flag a label: .25, .5 and .5.
    expected = {"flagged": 0.375, "flagged_count": 2.25, "precision": pytest.approx(1.25 / 3)}
    assert own == {**shared, **expected, "trainings_without_flags": 1}


@pytest.mark.usefixtures("quick")
def test_a_method_that_never_flags_a_label_has_no_precision() -> None:
    results = trials()
    for (method, seed, fold), trial in results.items():
        if method == "mixup":
            kept = {k: v for k, v in trial.detection.items() if k not in ("precision", "corrected_accuracy")}
            results[method, seed, fold] = replace(trial, detection={**kept, "flagged": 0.0, "flagged_count": 0.0})
    found = make_result(*corpus(), PROTOCOL, CONFIG, results)["methods"]["mixup"]["detection"]
    assert "precision" not in found
    assert "corrected_accuracy" not in found
    assert (found["recall"], found["trainings_without_flags"]) == (0.5, 4)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("where", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_training_without_wrong_labels_leaves_only_what_it_has(where: tuple[int, int]) -> None:
    results = trials()
    bare = {"true_rate": 0.0, "flagged": 0.25, "flagged_count": 3.0, "estimated_rate": 0.0}
    results["emoseg", *where] = replace(results["emoseg", *where], detection=bare)
    others = [r.detection for k, r in results.items() if k[0] == "emoseg" and k[1:] != where]
    found = make_result(*corpus(), PROTOCOL, CONFIG, results)["methods"]["emoseg"]["detection"]
    assert found == {
        "true_rate": pytest.approx(0.1875),
        "flagged": pytest.approx((sum(d["flagged"] for d in others) + 0.25) / 4),
        "flagged_count": pytest.approx((sum(d["flagged_count"] for d in others) + 3) / 4),
        "estimated_rate": pytest.approx(sum(d["estimated_rate"] for d in others) / 4),
        "flagged_by_class": {},
        "trainings_without_flags": int(where != (1, 1)),
    }


def test_folds_have_their_own_values() -> None:
    rows = result()["methods"]["inherit"]["folds"]
    assert [(row["seed"], row["fold"], row["songs"], row["seconds"]) for row in rows] == [
        (0, 0, 3, 10.0),
        (0, 1, 3, 10.0),
        (1, 0, 3, 20.0),
        (1, 1, 3, 20.0),
    ]
    assert [row["accuracy"] for row in rows] == pytest.approx([1, 1, 1, 2 / 3])
    assert rows[3]["macro_f1"] == pytest.approx((0 + 2 / 3 + 1) / 3)
    assert rows[3]["recall"] == {"calm": 0.0, "glad": 1.0, "sad": 1.0}
    assert rows[0]["detection"]["flagged_by_class"] == {"calm": 0.5, "sad": 0.25}
    assert "flagged_0" not in rows[0]["detection"]
    assert rows[2]["detection"]["precision"] == 0.5


@pytest.mark.usefixtures("quick")
def test_labels_that_no_test_song_has_have_no_recall() -> None:
    made, segments = corpus()
    labels = np.where(segments.song_labels == 2, 0, segments.song_labels)
    data = make_result(made, replace(segments, song_labels=labels), PROTOCOL, CONFIG, trials())
    assert list(data["methods"]["inherit"]["recall"]) == ["calm", "glad"]
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_real_detection_ranks_every_segment_once() -> None:
    data = result()
    inherit, _, own = (m["detection_real"] for m in data["methods"].values())
    [row] = own
    assert (row["margin"], row["unit"], row["units"], row["wrong"], row["songs"]) == (0.0, "segment", 10, 2, 5)
    assert (row["auroc"], row["average_precision"], row["mixed_songs"], row["within_song"]) == (1.0, 1.0, 2, 1.0)
    # `inherit` trusts the first segments most. Ranks within a training: songs 0, 2, 4 and songs 1, 3, 5 (six segments
    # each), so segment 1 of song 0 has rank 5/6 and segment 0 of song 3 has 4/6. Of the eight right segments those of
    # ranks 6/6 (two) and 5/6 (one) are above 5/6 or tied with it.
    ranks = np.array([6, 5, 6, 5, 4, 3, 4, 3, 2, 1]) / 6
    wrong = np.array([0, 1, 0, 0, 0, 0, 1, 0, 0, 0], dtype=bool)
    assert inherit[0]["auroc"] == pytest.approx(metrics.auroc(wrong, -ranks))
    assert inherit[0]["auroc"] == pytest.approx((2 + 0.5 + 3 + 0.5) / 16)
    by_method = {row["method"]: row["detection_real"] for row in data["differences"]}
    assert by_method["mixup"][0]["mean"] == 0.0
    assert by_method["emoseg"][0]["mean"] == pytest.approx(1 - 6 / 16)


def test_without_truth_or_with_injected_noise_there_is_no_real_detection() -> None:
    data = result(truth=False)
    assert all("detection_real" not in method for method in data["methods"].values())
    assert list(data["differences"][0]) == ["method", "minus", "macro_f1"]


def test_the_result_says_what_was_run() -> None:
    data = result()
    assert list(data) == [
        *("schema", "emoseg_version", "corpus", "protocol", "config", "methods", "fair_baseline", "differences"),
    ]
    assert (data["schema"], data["emoseg_version"]) == ("emoseg.evaluation/2", emoseg.__version__)
    assert data["protocol"] == {"folds": 2, "seeds": [0, 1], "group": "none", "noise": "none", "fraction": 1.0}
    described = dict(data["corpus"])
    assert described.pop("space")["labels"] == ["calm", "glad", "sad"]
    assert described.pop("hash") == corpus()[1].hash
    assert len(described.pop("test_labels_hash")) == 16
    assert described == {
        "name": "made",
        "songs": 6,
        "segments": 12,
        "counts": {"calm": 2, "glad": 2, "sad": 2},
        "left_out": [],
    }
    assert "method" not in data["config"]
    assert data["config"]["learning"]["members"] == CONFIG.learning.members
    assert json.loads(json.dumps(data, allow_nan=False)) == data
