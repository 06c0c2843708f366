"""How well clean probabilities find wrong labels, against the truth of a corpus."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from trials import planted_fit

from emoseg.corpora.base import Song
from emoseg.corpora.segments import CorpusSegments
from emoseg.emotion import QUADRANTS
from emoseg.errors import ConfigError
from emoseg.evaluation import jobs
from emoseg.evaluation.detection import auroc_differences, detection_figures
from emoseg.frontends.store import FeatureTable
from emoseg.metrics import auroc


def segments_of(
    song: list[int], inherited: list[int], true: list[int], margin: list[float], known: list[bool] | None = None
) -> CorpusSegments:
    n = len(song)
    labels = np.array([inherited[song.index(s)] for s in range(max(song) + 1)])
    songs = tuple(Song(str(s), Path(str(s)), QUADRANTS.labels[labels[s]]) for s in range(len(labels)))
    table = FeatureTable({}, np.array(song), np.arange(n, dtype=np.float64), np.arange(n, dtype=np.float64) + 1, {})
    found = np.ones(n, dtype=bool) if known is None else np.array(known)
    return CorpusSegments(songs, table, np.array(song), labels, np.array(true), (), found, np.array(margin))


def test_detection_by_margin_and_within_songs() -> None:
    segments = segments_of(
        song=[0, 0, 0, 1, 1, 2, 2, 2],
        inherited=[0, 0, 0, 1, 1, 2, 2, 2],
        true=[0, 0, 3, 1, 1, 2, 0, 2],
        margin=[0.3, 0.05, 0.3, 0.3, 0.3, 0.3, 0.02, 0.3],
        known=[True] * 7 + [False],
    )
    clean = np.array([0.9, 0.2, 0.4, 0.8, 0.7, 0.95, 0.1, 0.0])
    every, far = detection_figures(clean, segments, margins=(0.0, 0.1), draws=200)
    assert (every.units, every.wrong, every.songs, every.mixed_songs) == (7, 2, 3, 2)
    assert every.base_rate == pytest.approx(2 / 7)
    # wrong ones are at .4 and .1; of the five right ones .2 alone lies between: 9 of 10 pairs are in order
    assert every.auroc == pytest.approx(0.9)
    assert every.within_song == pytest.approx((0.5 + 1.0) / 2)
    assert every.interval is not None
    assert every.interval[0] <= 0.9 <= every.interval[1]
    assert every.interval[0] < every.interval[1]
    assert (far.units, far.wrong, far.auroc, far.mixed_songs, far.within_song) == (5, 1, 1.0, 1, 1.0)
    assert json.loads(json.dumps(far.to_json()))["base_rate"] == 0.2


def test_detection_of_some_segments_with_other_labels() -> None:
    segments = segments_of([0, 0, 1, 1], [0, 0, 1, 1], [0, 1, 1, 1], [1.0] * 4)
    [figures] = detection_figures(
        np.array([0.1, 0.9]), segments, rows=np.array([2, 3]), given=np.array([0, 1]), margins=(0.0,), draws=10
    )
    assert (figures.units, figures.wrong, figures.auroc) == (2, 1, 1.0)


def test_detection_without_wrong_labels_has_no_ranking() -> None:
    segments = segments_of([0, 0, 1], [0, 0, 1], [0, 0, 1], [1.0] * 3)
    [figures] = detection_figures(np.full(3, 0.5), segments, margins=(0.0,))
    assert (figures.base_rate, figures.auroc, figures.interval, figures.within_song) == (0.0, None, None, None)
    [none] = detection_figures(np.full(3, 0.5), segments, margins=(2.0,))
    assert (none.units, none.base_rate) == (0, None)
    assert detection_figures(np.full(3, 0.5), replace(segments, true=None, known=None, margin=None)) == []


def test_detection_intervals_come_from_songs_not_segments() -> None:
    """Copies of all segments of a song contain no new information: the interval must not shrink."""
    rng = np.random.default_rng(0)
    song = np.repeat(np.arange(30), 4)
    true = (rng.random(120) < 0.3).astype(int)
    clean = np.where(true == 0, rng.normal(0.7, 0.3, 120), rng.normal(0.5, 0.3, 120))
    few = segments_of(song.tolist(), [0] * 120, true.tolist(), [1.0] * 120)
    many = segments_of(np.repeat(song, 10).tolist(), [0] * 1200, np.repeat(true, 10).tolist(), [1.0] * 1200)
    [a] = detection_figures(clean, few, margins=(0.0,), draws=300)
    [b] = detection_figures(np.repeat(clean, 10), many, margins=(0.0,), draws=300)
    assert a.interval is not None
    assert b.interval is not None
    assert a.auroc == pytest.approx(b.auroc)
    assert a.interval == pytest.approx(b.interval, abs=1e-9)


def test_detection_refuses_arrays_that_do_not_fit() -> None:
    segments = segments_of([0, 1], [0, 1], [0, 0], [1.0, 1.0])
    with pytest.raises(ConfigError, match="3 clean probabilities for 2 segments"):
        detection_figures(np.zeros(3), segments)
    with pytest.raises(ConfigError, match="not a number"):
        detection_figures(np.array([0.1, np.nan]), segments)


def clips_of(works: list[str], wrong: list[int], lengths: list[int]) -> CorpusSegments:
    """Return clips that inherit label 0, some of them wrongly, each with so many segments."""
    song = np.repeat(np.arange(len(works)), lengths)
    segments = segments_of(song.tolist(), [0] * len(song), np.repeat(wrong, lengths).tolist(), [math.inf] * len(song))
    songs = tuple(replace(s, work=work) for s, work in zip(segments.songs, works, strict=True))
    return replace(segments, songs=songs)


def test_clips_are_ranked_as_a_whole_and_within_their_song() -> None:
    segments = clips_of(["b", "a", "b", "a", "c"], wrong=[0, 1, 1, 0, 0], lengths=[2, 1, 3, 1, 2])
    # means: b .7, a .6, b .5, a .4, c .45; segments alone would be in another order
    clean = np.array([0.9, 0.5, 0.6, 0.1, 0.5, 0.9, 0.4, 0.4, 0.5])
    [found] = detection_figures(clean, segments, margins=(0.0,), draws=50)
    assert (found.unit, found.units, found.wrong, found.songs, found.mixed_songs) == ("clip", 5, 2, 3, 2)
    # wrong .6 and .5 against right .7, .4 and .45: each lies below .7 alone
    assert found.auroc == pytest.approx(2 / 6)
    # in b the wrong clip (.5) lies below the right one (.7), in a (.6 and .4) not
    assert found.within_song == pytest.approx(0.5)


def test_clips_of_one_song_are_drawn_together() -> None:
    """Five copies of every clip in the same song contain no new information; as songs of their own they seem to."""
    rng = np.random.default_rng(1)
    wrong = (rng.random(40) < 0.4).astype(int)
    clean = rng.normal(0.6 - 0.15 * wrong, 0.2)
    one = clips_of([f"s{i}" for i in range(40)], wrong.tolist(), [1] * 40)
    copies = clips_of([f"s{i}" for i in range(40) for _ in range(5)], np.repeat(wrong, 5).tolist(), [1] * 200)
    [a] = detection_figures(clean, one, margins=(0.0,), draws=200)
    [b] = detection_figures(np.repeat(clean, 5), copies, margins=(0.0,), draws=200)
    assert a.interval == pytest.approx(b.interval)


def test_resampling_by_weights_is_that_of_rows() -> None:
    rng = np.random.default_rng(2)
    song = np.repeat(np.arange(12), rng.integers(1, 5, 12))
    true = (rng.random(len(song)) < 0.3).astype(int)
    clean = rng.integers(0, 6, len(song)) / 5  # with ties
    segments = segments_of(song.tolist(), [0] * len(song), true.tolist(), [1.0] * len(song))
    [found] = detection_figures(clean, segments, margins=(0.0,), draws=100, seed=3)
    drawn = np.random.default_rng(3)
    values = []
    for _ in range(100):
        rows = np.concatenate([np.flatnonzero(song == s) for s in drawn.integers(0, 12, 12)])
        values.append(auroc(true[rows] == 1, -clean[rows]))
    assert found.interval == pytest.approx(tuple(np.nanpercentile(values, [2.5, 97.5])))


def test_differences_of_detection_are_paired() -> None:
    rng = np.random.default_rng(4)
    song = np.repeat(np.arange(25), 4)
    true = (rng.random(100) < 0.3).astype(int)
    segments = segments_of(song.tolist(), [0] * 100, true.tolist(), [1.0] * 100)
    theirs = rng.random(100)
    ours = theirs - 0.3 * true
    [same] = auroc_differences(theirs, theirs, segments, margins=(0.0,), draws=50)
    assert (same.mean, same.interval) == (0.0, (0.0, 0.0))
    [found] = auroc_differences(ours, theirs, segments, margins=(0.0,), draws=300)
    [a], [b] = (detection_figures(x, segments, margins=(0.0,), draws=300) for x in (ours, theirs))
    assert a.auroc is not None
    assert b.auroc is not None
    assert found.mean == pytest.approx(a.auroc - b.auroc)
    assert found.interval is not None
    assert found.mean is not None
    assert 0 < found.interval[0] < found.mean < found.interval[1], "paired: clearly better on the same songs"
    [none] = auroc_differences(ours, theirs, segments, margins=(2.0,), draws=10)
    assert (none.mean, none.interval) == (None, None)


# --- of the labels that a training was given ---------------------------------------------------------------------


def test_detection_of_planted_errors() -> None:
    given = np.array([0, 0, 1, 1, 1, 1, -1])
    true = np.array([1, 0, 2, 1, 1, 1, 0])
    fit, fold = planted_fit(given, true, [0.1, 0.9, 0.6, 0.4, 0.8, 0.7, np.nan], [1, 0, 0, 0, 1, 1, 2])
    song = np.array([0, 0, 1, 1, 2, 2, 3])
    assert jobs.detection(fit, fold, song, 3, by_song=False) == pytest.approx(
        {
            "true_rate": 1 / 3,
            "estimated_rate": 0.25,
            "flagged": 1 / 3,
            "flagged_count": 2,
            "flagged_0": 1 / 2,
            "flagged_1": 1 / 4,
            "auroc": 7 / 8,
            "average_precision": (1 + 2 / 3) / 2,
            "lift": (1 / 2) / (1 / 3),
            "precision": 1 / 2,
            "recall": 1 / 2,
            "wrong": 2,
            "hits": 1,
            "corrected_accuracy": 1 / 2,
        }
    )
    right, fold = planted_fit(given, given, [0.9] * 7, [0] * 7)
    assert "auroc" not in jobs.detection(right, fold, song, 3, by_song=False)


def test_whole_wrong_songs_are_ranked_as_songs() -> None:
    given, song = np.repeat([0, 1, 2], 2), np.repeat([0, 1, 2], 2)
    true = np.array([1, 1, 1, 1, 2, 2])
    # The wrong song has the lowest mean, though not the lowest segment.
    fit, fold = planted_fit(given, true, [0.3, 0.3, 0.2, 0.9, 0.8, 0.9], [0] * 6)
    found = jobs.detection(fit, fold, song, 3, by_song=True)
    assert found["song_auroc"] == 1.0
    assert found["auroc"] < 1.0


def test_an_undefined_figure_is_left_out_and_not_a_nan() -> None:
    """All songs wrong: nothing is there to rank them against."""
    given, song = np.repeat([0, 1, 2], 2), np.repeat([0, 1, 2], 2)
    fit, fold = planted_fit(given, (given + 1) % 3, [0.3, 0.4] * 3, [0] * 6)
    found = jobs.detection(fit, fold, song, 3, by_song=True)
    assert "song_auroc" not in found
    assert "auroc" not in found
    assert found["wrong"] == 6
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_training_without_flags_has_neither_precision_nor_corrected_accuracy() -> None:
    given, true = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    fit, fold = planted_fit(given, true, [0.9, 0.6, 0.8, 0.7], [0, 1, 1, 1])
    found = jobs.detection(fit, fold, np.arange(4), 3, by_song=False)
    assert "precision" not in found
    assert "corrected_accuracy" not in found
    assert (found["recall"], found["hits"], found["flagged"], found["flagged_count"]) == (0.0, 0.0, 0.0, 0.0)
    assert (found["auroc"], found["lift"]) == (1.0, 4.0)


def test_only_labelled_segments_whose_truth_is_known_are_measured() -> None:
    given, true = np.array([0, 0, 1, 1, -1]), np.array([1, 0, 2, 1, 0])
    fit, fold = planted_fit(given, true, [0.1, 0.9, 0.2, 0.8, 0.5], [1, 0, 2, 1, 0])
    known = np.array([True, True, False, True, True])
    found = jobs.detection(fit, replace(fold, known=known), np.arange(5), 3, by_song=False)
    assert found["wrong"] == 1.0
    assert found["true_rate"] == pytest.approx(1 / 3)
    assert (found["flagged_count"], found["flagged_0"], found["flagged_1"]) == (2.0, 0.5, 0.5)
    assert (found["precision"], found["recall"], found["corrected_accuracy"]) == (1.0, 1.0, 1.0)
    nothing = jobs.detection(fit, replace(fold, known=np.zeros(5, dtype=bool)), np.arange(5), 3, by_song=False)
    assert sorted(nothing) == ["estimated_rate", "flagged", "flagged_0", "flagged_1", "flagged_count"]


def test_figures_for_a_result_file_are_complete() -> None:
    segments = segments_of([0, 0, 1, 1], [0, 0, 1, 1], [0, 1, 1, 1], [0.3, 0.15, 0.3, 0.07])
    rows = [figures.to_json() for figures in detection_figures(np.array([0.9, 0.1, 0.8, 0.7]), segments)]
    assert [row["margin"] for row in rows] == [0.0, 0.05, 0.1, 0.2]
    assert [row["units"] for row in rows] == [4, 4, 3, 2]
    assert rows[0] == {
        "margin": 0.0,
        "unit": "segment",
        "units": 4,
        "wrong": 1,
        "songs": 2,
        "base_rate": 0.25,
        "auroc": 1.0,
        "interval": [1.0, 1.0],
        "average_precision": 1.0,
        "mixed_songs": 1,
        "within_song": 1.0,
        "within_interval": None,
    }
    assert (rows[3]["wrong"], rows[3]["base_rate"], rows[3]["auroc"], rows[3]["average_precision"]) == (
        0,
        0,
        None,
        None,
    )
    whole = replace(segments, margin=np.full(4, np.inf))
    assert [figures.margin for figures in detection_figures(np.zeros(4), whole)] == [0.0]
    assert [difference.margin for difference in auroc_differences(np.zeros(4), np.ones(4), whole)] == [0.0]


def test_the_interval_within_songs_resamples_the_songs_that_have_both_kinds() -> None:
    rng = np.random.default_rng(5)
    song = np.repeat(np.arange(10), 4)
    true = np.tile([0, 0, 1, 1], 10)
    true[:4] = 0  # song 0 has right labels only
    clean = rng.random(40)
    segments = segments_of(song.tolist(), [0] * 40, true.tolist(), [1.0] * 40)
    [found] = detection_figures(clean, segments, margins=(0.0,), draws=200, seed=7)
    inside = np.array([auroc(true[song == s] == 1, -clean[song == s]) for s in range(1, 10)])
    assert found.mixed_songs == 9
    assert found.within_song == pytest.approx(inside.mean())
    drawn = np.random.default_rng([7, 1])
    means = [drawn.choice(inside, 9).mean() for _ in range(200)]
    assert found.within_interval == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))
