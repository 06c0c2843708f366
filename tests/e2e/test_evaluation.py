"""The protocol on a tiny corpus with planted truth: same folds and noise for all, every song tested once."""

from __future__ import annotations

import csv
import io
import json
import pickle
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from rich.console import Console
from trials import planted_fit
from typer.testing import CliRunner

from emoseg import metrics
from emoseg.cli.app import app
from emoseg.config import LearningConfig, TrainConfig
from emoseg.corpora import Corpus, load_corpus
from emoseg.corpora.segments import CorpusSegments, load_segments
from emoseg.corpora.splits import song_folds
from emoseg.errors import ConfigError, CorpusError, EmosegError, EmosegWarning, MissingExtraError
from emoseg.evaluation import Protocol, evaluate, jobs, print_result, unfinished_folder, write_result
from emoseg.evaluation.detection import auroc_differences, detection_figures
from emoseg.evaluation.figure import require_figure, write_figure
from emoseg.evaluation.injected_noise import InjectedNoise
from emoseg.evaluation.measures import make_result
from emoseg.evaluation.protocol import make_fold, soft_targets, split_report
from emoseg.frontends.descriptors.frontend import Descriptors
from emoseg.learning.methods import METHODS, resolve_settings
from emoseg.learning.methods.base import Method, MethodFit
from emoseg.learning.methods.base import Run as MethodRun
from emoseg.learning.training_set import TrainingSet
from emoseg.synthesis.corpus import write_corpus
from emoseg.system.unfinished import unfinished
from emoseg.types import UNLABELLED, Float64, Int64

PLAIN, OWN = "recorded-plain", "recorded-own"
CONFIG = TrainConfig(learning=LearningConfig(epochs=3, members=2), methods={OWN: {"warmup_epochs": 1}})
SOFT = CONFIG.learning.model_copy(update={"soft_labels": True})


class Learning(NamedTuple):
    """What one call of the learner was given."""

    method: str
    seed: int
    given: list[int]
    song: list[int]
    features: Float64
    soft: Float64 | None


LEARNINGS: list[Learning] = []


def recorded(name: str, method: type[Method]) -> type[Method]:
    """Return a method that learns like another one, and appends what it learns from to `LEARNINGS`."""

    class Recorded(method):  # type: ignore[misc, valid-type]
        def fit(self, data: TrainingSet, run: MethodRun) -> MethodFit:
            features = np.asarray(data.features["descriptors"], dtype=np.float64)
            LEARNINGS.append(Learning(name, run.seed, data.given.tolist(), data.song.tolist(), features, data.soft))
            return super().fit(data, run)

    return Recorded


# `mixup` and `sssl`, recorded. A protocol checks its methods, so they are registered before the first one is made.
METHODS.register(PLAIN, recorded(PLAIN, METHODS["mixup"]))
METHODS.register(OWN, recorded(OWN, METHODS["sssl"]))
BOTH = Protocol((PLAIN, OWN), folds=2, seeds=1, group="none")


class Run(NamedTuple):
    result: dict[str, Any]
    learnings: list[Learning]
    outcomes: list[tuple[str, int, int, Any]]

    def __repr__(self) -> str:
        return "Run"


class Lab(NamedTuple):
    corpus: Corpus
    segments: CorpusSegments
    cache: Path

    def run(self, protocol: Protocol, config: TrainConfig = CONFIG) -> Run:
        """Evaluate in this process, and keep what every method learnt from and the result of every trial."""
        outcomes: list[tuple[str, int, int, Any]] = []
        run = jobs.run_trial

        def kept_run(trial: Any, data: Any) -> Any:
            outcome = run(trial, data)
            outcomes.append((trial.method, trial.seed, trial.fold, outcome))
            return outcome

        LEARNINGS.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jobs, "run_trial", kept_run)
            result = evaluate(self.corpus, protocol, config=config, cache=self.cache, workers=1, quiet=True)
        return Run(result, list(LEARNINGS), outcomes)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    root = tmp_path_factory.mktemp("lab")
    write_corpus(root / "corpus", songs=16, seed=1, duration_s=12, workers=1, quiet=True)
    corpus = load_corpus(f"synth:{root / 'corpus'}")
    segments = load_segments(corpus, CONFIG, cache=root / "cache", workers=1, quiet=True)
    return Lab(corpus, segments, root / "cache")


@pytest.fixture(scope="module")
def plain(lab: Lab) -> Run:
    return lab.run(BOTH)


@pytest.fixture(scope="module")
def noisy(lab: Lab) -> Run:
    return lab.run(replace(BOTH, noise=InjectedNoise("segment", 0.4)))


def without_seconds(result: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(result))
    for method in data["methods"].values():
        assert method.pop("seconds") > 0
        for fold in method["folds"]:
            assert fold.pop("seconds") > 0
    return data


def test_the_result_says_everything(plain: Run, lab: Lab) -> None:
    result = plain.result
    assert list(result) == [
        "schema",
        "emoseg_version",
        "corpus",
        "protocol",
        "config",
        "methods",
        "fair_baseline",
        "differences",
    ]
    assert result["schema"] == "emoseg.evaluation/2"
    assert result["protocol"] == {"folds": 2, "seeds": [0], "group": "none", "noise": "none", "fraction": 1.0}
    assert result["corpus"]["songs"] == 16
    assert result["corpus"]["segments"] == 64
    assert result["corpus"]["counts"] == {"Q1": 4, "Q2": 4, "Q3": 4, "Q4": 4}
    assert result["corpus"]["left_out"] == []
    assert result["corpus"]["space"]["labels"] == ["Q1", "Q2", "Q3", "Q4"]
    assert result["config"]["learning"]["epochs"] == 3
    assert "method" not in result["config"]
    assert list(result["methods"]) == [PLAIN, OWN]
    for method in result["methods"].values():
        assert {
            "macro_f1",
            "macro_f1_mean_probability",
            "accuracy",
            "balanced_accuracy",
            "recall",
            "calibration_error",
            "calibration_error_before",
            "segment_macro_f1",
            "detection",
            "detection_real",
            "seconds",
            "folds",
        } == set(method)
        assert list(method["recall"]) == ["Q1", "Q2", "Q3", "Q4"]
        low, high = method["macro_f1"]["interval"]
        assert 0 <= low <= method["macro_f1"]["mean"] <= high <= 1
        assert [(row["seed"], row["fold"], row["songs"]) for row in method["folds"]] == [(0, 0, 8), (0, 1, 8)]
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_every_song_is_tested_once_a_seed(plain: Run, lab: Lab) -> None:
    for method in (PLAIN, OWN):
        tested = Counter(song for m, _, _, outcome in plain.outcomes if m == method for song in outcome.test.tolist())
        assert tested == Counter(range(16))
        rows = Counter(row for m, _, _, outcome in plain.outcomes if m == method for row in outcome.test_rows.tolist())
        assert rows == Counter(range(64))


def test_methods_are_given_the_same_folds_and_labels(plain: Run, noisy: Run, lab: Lab) -> None:
    for run in (plain, noisy):
        by_seed: dict[int, list[Learning]] = {}
        for learning in run.learnings:
            by_seed.setdefault(learning.seed, []).append(learning)
        assert len(by_seed) == 2
        for first, second in by_seed.values():
            assert {first.method, second.method} == {PLAIN, OWN}
            assert first.given == second.given
            assert first.song == second.song
            assert np.array_equal(first.features, second.features)
    assert [x.given for x in plain.learnings] != [x.given for x in noisy.learnings]


def test_no_test_song_is_learnt_from(plain: Run, lab: Lab) -> None:
    table = lab.segments.table.features["descriptors"]
    for method, _, fold, outcome in plain.outcomes:
        [learning] = [x for x in plain.learnings if x.method == method and x.seed == fold]
        train_rows = np.flatnonzero(~np.isin(lab.segments.song, outcome.test))
        assert np.array_equal(learning.features, table[train_rows])
        assert learning.given == lab.segments.inherited[train_rows].tolist()


def test_scores_are_those_of_the_probabilities(plain: Run, lab: Lab) -> None:
    reference = lab.segments.song_labels
    for method, found in plain.result["methods"].items():
        song, segment = np.zeros((16, 4)), np.zeros((64, 4))
        for name, _, _, outcome in plain.outcomes:
            if name == method:
                song[outcome.test] = outcome.song
                segment[outcome.test_rows] = outcome.segments
        estimate = song.argmax(axis=1)
        assert song.sum(axis=1) == pytest.approx(np.ones(16))
        assert found["macro_f1"]["mean"] == pytest.approx(metrics.macro_f1(reference, estimate, 4))
        assert found["macro_f1"]["by_seed"] == [found["macro_f1"]["mean"]]
        assert found["accuracy"] == pytest.approx((estimate == reference).mean())
        assert found["calibration_error"] == pytest.approx(metrics.calibration_error(reference, song))
        assert lab.segments.true is not None
        expected = metrics.macro_f1(lab.segments.true, segment.argmax(axis=1), 4)
        assert found["segment_macro_f1"] == pytest.approx(expected)


def test_without_noise_a_label_is_wrong_where_the_section_says_so(plain: Run, lab: Lab) -> None:
    assert lab.segments.true is not None
    wrong = np.not_equal(lab.segments.true, lab.segments.inherited)
    assert 0.1 < wrong.mean() < 0.6
    fold = song_folds(lab.segments.song_labels, lab.segments.groups("none"), folds=2, seed=0)[lab.segments.song]
    expected = np.mean([wrong[fold != f].mean() for f in range(2)])
    for method in plain.result["methods"].values():
        detection = method["detection"]
        assert detection["true_rate"] == pytest.approx(expected)
        assert detection["wrong"] == pytest.approx(np.mean([wrong[fold != f].sum() for f in range(2)]))
        assert 0 <= detection["hits"] <= min(detection["wrong"], detection["flagged_count"])


def test_injected_noise_is_the_truth_of_detection(plain: Run, noisy: Run, lab: Lab) -> None:
    fold = song_folds(lab.segments.song_labels, lab.segments.groups("none"), folds=2, seed=0)[lab.segments.song]
    sizes = [int((fold != f).sum()) for f in range(2)]
    for method in noisy.result["methods"].values():
        detection = method["detection"]
        assert detection["true_rate"] == pytest.approx(np.mean([round(0.4 * n) / n for n in sizes]))
        assert detection["true_rate"] == pytest.approx(0.4, abs=0.02)
    assert noisy.result["protocol"]["noise"] == "segment:0.4"
    for learning in noisy.learnings:
        rows = np.flatnonzero(fold != learning.seed)
        assert (np.array(learning.given) != lab.segments.inherited[rows]).sum() == round(0.4 * len(rows))
    # Test songs keep the corpus' own labels.
    assert noisy.result["corpus"]["test_labels_hash"] == plain.result["corpus"]["test_labels_hash"]


def test_two_processes_give_the_same_as_one(plain: Run, lab: Lab) -> None:
    # Worker processes do not know the recorded methods, only those that they are made from.
    protocol = replace(BOTH, methods=("mixup", "sssl"))
    config = CONFIG.model_copy(update={"methods": {"sssl": CONFIG.methods[OWN]}})
    two = without_seconds(evaluate(lab.corpus, protocol, config=config, cache=lab.cache, workers=2, quiet=True))
    one = without_seconds(plain.result)
    assert [two["methods"][name] for name in ("mixup", "sssl")] == [one["methods"][name] for name in (PLAIN, OWN)]
    assert [row["macro_f1"] for row in two["differences"]] == [row["macro_f1"] for row in one["differences"]]


def test_differences_are_paired_and_of_the_first_method(plain: Run) -> None:
    [found] = plain.result["differences"]
    methods = plain.result["methods"]
    assert (found["method"], found["minus"]) == (OWN, PLAIN)
    mean = methods[OWN]["macro_f1"]["mean"] - methods[PLAIN]["macro_f1"]["mean"]
    assert found["macro_f1"]["mean"] == pytest.approx(mean)
    assert found["macro_f1"]["by_seed"] == pytest.approx([mean])
    assert plain.result["fair_baseline"] is None


def test_clips_of_a_song_are_drawn_together(lab: Lab, plain: Run) -> None:
    outcomes = {(m, s, f): o for m, s, f, o in plain.outcomes}
    pairs = tuple(replace(s, work=f"song {i // 2}") for i, s in enumerate(lab.segments.songs))
    found = make_result(lab.corpus, replace(lab.segments, songs=pairs), BOTH, CONFIG, outcomes)
    reference = lab.segments.song_labels
    for name in (PLAIN, OWN):
        table = np.zeros((16, 4))
        for method, _, _, outcome in plain.outcomes:
            if method == name:
                table[outcome.test] = outcome.song
        estimate = table.argmax(axis=1)
        expected = metrics.paired_bootstrap(
            lambda i, e=estimate: metrics.macro_f1(reference[i], e[i], 4),  # type: ignore[misc]
            16,
            groups=np.arange(16) // 2,
        )
        assert found["methods"][name]["macro_f1"]["interval"] == pytest.approx(list(expected))
        assert found["methods"][name]["macro_f1"]["mean"] == plain.result["methods"][name]["macro_f1"]["mean"]
        assert found["methods"][name]["macro_f1"]["interval"] != plain.result["methods"][name]["macro_f1"]["interval"]


def test_artists_stay_together(lab: Lab) -> None:
    half = {"Q1": "a", "Q2": "a", "Q3": "b", "Q4": "b"}
    turn: Counter[str] = Counter()
    songs = []
    for song in lab.corpus.songs:  # eight artists, each with a song of two labels
        songs.append(replace(song, artist=f"{half[song.label]}{turn[song.label]}"))
        turn[song.label] += 1
    run = lab._replace(corpus=replace(lab.corpus, songs=tuple(songs))).run(
        Protocol((PLAIN,), folds=2, seeds=1, group="artist")
    )
    assert run.result["protocol"]["group"] == "artist"
    assert run.result["differences"] == []
    first, second = ({songs[i].artist for i in outcome.test} for _, _, _, outcome in run.outcomes)
    assert len(first) + len(second) == 8
    assert first.isdisjoint(second)


def test_too_few_artists_are_reported_before_anything_is_learnt(lab: Lab) -> None:
    # Four artists are too few to be split and split again.
    with pytest.raises(CorpusError, match=r"2 folds leave too little to learn from: label 'Q\d' occurs in"):
        evaluate(lab.corpus, replace(BOTH, group="artist"), config=CONFIG, cache=lab.cache, workers=1, quiet=True)
    with pytest.raises(CorpusError, match="5 folds need at least 5 different artists or songs; found 4"):
        evaluate(
            lab.corpus, replace(BOTH, group="artist", folds=5), config=CONFIG, cache=lab.cache, workers=1, quiet=True
        )


def test_noise_that_takes_a_label_away_is_reported_as_such(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def learn(*_: Any, **__: Any) -> None:
        raise CorpusError("label number 4 occurs in one artist or song only")

    monkeypatch.setattr("emoseg.learning.pipeline.learn", learn)
    protocol = replace(BOTH, noise=InjectedNoise("song", 0.5))
    with pytest.raises(CorpusError, match=r"noise song:0\.5 leaves too little to learn from: label number 4"):
        evaluate(lab.corpus, protocol, config=CONFIG, cache=lab.cache, workers=1, quiet=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("inherit", "best")}, "method 'best': must be one of inherit, mixup"),
        ({"methods": ("inherit", "inherit")}, "method 'inherit' is named twice"),
        ({"methods": ()}, "no method given; choose from inherit, mixup"),
        ({"seeds": 0}, "seeds 0: must be from 1 to 1000"),
        ({"seeds": 10**9}, "seeds 1000000000: must be from 1 to 1000"),
        ({"group": "album"}, "group 'album': must be artist or none"),
        ({"folds": 1}, "folds 1: must be 2 or more"),
        ({"test_split": "test"}, "folds 2: must be 1 with the test split 'test'"),
        ({"fraction": 0.0}, "fraction 0: must be above 0 and at most 1"),
        ({"fraction": 1.5}, "fraction 1.5: must be above 0 and at most 1"),
        ({"fraction": float("nan")}, "fraction nan: must be above 0 and at most 1"),
    ],
)
def test_a_protocol_is_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(BOTH, **changes)


# --- detection against what a corpus knows ---------------------------------------------------------------------------


def test_detection_is_measured_once_on_mean_ranks_over_trainings(lab: Lab) -> None:
    run = lab.run(replace(BOTH, folds=3, seeds=2, group="none"))
    means = {}
    for name, method in run.result["methods"].items():
        total, times = np.zeros(64), np.zeros(64)
        for m, _, _, outcome in run.outcomes:
            if m == name:
                assert np.array_equal(np.unique(lab.segments.song[outcome.clean_rows]), outcome_train(outcome))
                places = np.argsort(np.argsort(outcome.clean)) + 1  # ranks: no two are equal here
                assert len(np.unique(outcome.clean)) == len(outcome.clean)
                total[outcome.clean_rows] += places / len(outcome.clean)
                times[outcome.clean_rows] += 1
        assert (times == 4).all(), "two of three folds, of two seeds"
        means[name] = total / times
        [expected] = detection_figures(means[name], lab.segments)
        [found] = method["detection_real"]
        assert found == expected.to_json()
        assert found["unit"] == "segment"
        assert (found["units"], found["songs"]) == (64, 16)
        assert lab.segments.true is not None
        assert found["wrong"] == int(np.count_nonzero(lab.segments.true != lab.segments.inherited))
    [difference_of] = run.result["differences"]
    [paired] = auroc_differences(means[OWN], means[PLAIN], lab.segments)
    assert difference_of["detection_real"] == [paired.to_json()]
    screen = io.StringIO()
    print_result(run.result, Console(file=screen, width=100))
    text = screen.getvalue()
    assert f"wrong by the corpus' own truth: {found['wrong']} of 64 segments ({found['base_rate']:.1%}); " in text
    assert f"{found['mixed_songs']} of 16 songs have both kinds\n" in text
    low, high = found["interval"]
    assert f"{found['auroc']:.3f}  {low:.3f}-{high:.3f}  {found['average_precision']:.3f}" in text
    assert f"{100 * paired.to_json()['mean']:+.1f} (" in text
    assert max(map(len, text.splitlines())) <= 100


def outcome_train(outcome: Any) -> Int64:
    return np.setdiff1d(np.arange(16), outcome.test)


def test_injected_noise_has_no_figures_of_real_truth(noisy: Run) -> None:
    assert all("detection_real" not in method for method in noisy.result["methods"].values())
    assert "detection_real" not in noisy.result["differences"][0]


def test_a_corpus_that_knows_nothing_has_the_same_result_as_ever(lab: Lab, plain: Run) -> None:
    outcomes = {(m, s, f): o for m, s, f, o in plain.outcomes}
    bare = replace(lab.segments, true=None, known=None, margin=None)
    result = make_result(lab.corpus, bare, BOTH, CONFIG, outcomes)
    assert all("detection_real" not in method for method in result["methods"].values())
    assert list(result["differences"][0]) == ["method", "minus", "macro_f1"]
    assert list(result["protocol"]) == ["folds", "seeds", "group", "noise", "fraction"]


def test_only_what_is_known_counts(lab: Lab) -> None:
    assert lab.segments.true is not None
    assert lab.segments.known is not None
    known = lab.segments.known & (np.arange(64) % 4 > 1)
    partly = replace(lab.segments, known=known)
    fold = make_fold(partly, BOTH, classes=4, seed=0, fold=0)
    n = len(fold.rows)
    fit, _ = planted_fit(fold.given, fold.true, [0.9] * n, [0] * n)
    wrong = (lab.segments.true != lab.segments.inherited)[fold.rows]
    found = jobs.detection(fit, fold, lab.segments.song[fold.rows], 4, by_song=False)
    assert found["wrong"] == wrong[known[fold.rows]].sum() < wrong.sum()
    assert found["true_rate"] == pytest.approx(wrong[known[fold.rows]].mean())
    nothing = replace(fold, known=np.zeros(n, dtype=bool))
    assert "true_rate" not in jobs.detection(fit, nothing, lab.segments.song[fold.rows], 4, by_song=False)


# --- official parts --------------------------------------------------------------------------------------------------


def in_parts(lab: Lab, *, artists: bool = True) -> Lab:
    """Of the four songs of a label, one is in each of three parts, and the last in "test" or in none.

    The artist "both" has two songs in "test" and one in "train".
    """
    parts = {"Q1": "test", "Q2": "test", "Q3": None, "Q4": None}
    songs, seen = [], Counter[str]()
    for i, song in enumerate(lab.corpus.songs):
        part = ("test", "train", "val", parts[song.label])[seen[song.label]]
        both = (song.label, seen[song.label]) in (("Q1", 0), ("Q2", 0), ("Q1", 1))
        songs.append(replace(song, split=part, artist=("both" if both else f"artist {i}") if artists else None))
        seen[song.label] += 1
    return lab._replace(corpus=replace(lab.corpus, songs=tuple(songs)))


def test_an_official_part_is_tested_and_the_others_are_learnt_from(lab: Lab) -> None:
    protocol = Protocol((PLAIN, OWN), folds=1, seeds=2, group="none", test_split="test")
    message = r"2 of the 6 test songs \(33%\) share an artist"
    with (
        pytest.warns(UserWarning, match=message),
        pytest.warns(UserWarning, match="no official part, which are left out: 2"),
    ):
        run = in_parts(lab).run(protocol)
    parts = [song.split for song in in_parts(lab).corpus.songs]
    test = [i for i in range(16) if parts[i] == "test"]
    train = [i for i in range(16) if parts[i] in ("train", "val")]
    assert len(run.learnings) == 4
    for _, _, _, outcome in run.outcomes:
        assert outcome.test.tolist() == test
        assert np.unique(lab.segments.song[outcome.clean_rows]).tolist() == train
    assert len({learning.seed for learning in run.learnings}) == 2
    split = dict(run.result["protocol"]["test_split"])
    warnings = split.pop("warnings")
    assert split == {"parts": "test", "train_songs": 8, "test_songs": 6, "shared": 2, "unassigned": 2}
    assert len(warnings) == 2
    reference = lab.segments.song_labels[test]
    for name, method in run.result["methods"].items():
        estimates = [o.song.argmax(axis=1) for m, _, _, o in run.outcomes if m == name]
        scores = [metrics.macro_f1(reference, e, 4) for e in estimates]
        assert method["macro_f1"]["by_seed"] == pytest.approx(scores)
        assert method["accuracy"] == pytest.approx(np.mean([e == reference for e in estimates]))
        assert [(row["seed"], row["fold"], row["songs"]) for row in method["folds"]] == [(0, 0, 6), (1, 0, 6)]
        assert method["detection_real"][0]["songs"] == 8
    assert json.loads(json.dumps(run.result, allow_nan=False)) == run.result
    screen = io.StringIO()
    print_result(run.result, Console(file=screen, width=100))
    assert "learnt from 8, tested on 6 (test) x 2 seeds, grouped by none, noise none\n" in screen.getvalue()
    assert all(warning in screen.getvalue() for warning in warnings)


def test_a_label_that_the_test_part_lacks_has_no_recall(lab: Lab) -> None:
    songs = [
        replace(s, artist=None, split="test" if s.label in ("Q1", "Q2") and i % 2 else "train")
        for i, s in enumerate(lab.corpus.songs)
    ]
    protocol = Protocol((PLAIN,), folds=1, seeds=1, group="none", test_split="test")
    assert {songs[i].label for i in range(16) if songs[i].split == "test"} == {"Q1", "Q2"}
    result = lab._replace(corpus=replace(lab.corpus, songs=tuple(songs))).run(protocol).result
    assert set(result["methods"][PLAIN]["recall"]) == {"Q1", "Q2"}
    json.dumps(result, allow_nan=False)


def test_several_parts_and_parts_that_are_none(lab: Lab) -> None:
    segments = replace(lab.segments, songs=in_parts(lab, artists=False).corpus.songs)
    protocol = Protocol((PLAIN,), folds=1, test_split="test+val")
    report = split_report(segments, protocol)
    assert report is not None
    assert (report.train_songs, report.test_songs, report.shared, report.unassigned) == (4, 10, 0, 2)
    for wrong, message in (
        ("dev", "test split 'dev': no song is in 'dev'; the official parts with audio are test, train, val"),
        ("test+train+val", r"test split 'test\+train\+val': leaves no part to learn from"),
        ("", "test split '': no song is in ''"),
    ):
        with pytest.raises(CorpusError, match=message):
            make_fold(segments, replace(protocol, test_split=wrong), classes=4, seed=0, fold=0)
    with pytest.raises(CorpusError, match="no song is in 'test'; the official parts with audio are none"):
        make_fold(lab.segments, replace(protocol, test_split="test"), classes=4, seed=0, fold=0)


def test_a_part_that_is_none_is_reported_before_any_sound_is_read(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emoseg.evaluation.load_segments", lambda *_, **__: pytest.fail("sound was read"))
    with pytest.raises(CorpusError, match="test split 'dev': no song is in 'dev'"):
        in_parts(lab).run(Protocol((PLAIN,), folds=1, test_split="dev"))


def test_too_little_outside_the_test_part_is_reported(lab: Lab) -> None:
    protocol = Protocol((PLAIN,), folds=1, seeds=1, group="none", test_split="test+val")
    with pytest.raises(
        CorpusError, match=r"test split 'test\+val': the other parts leave too little to learn from: lab"
    ):
        in_parts(lab).run(protocol)


# --- soft labels -----------------------------------------------------------------------------------------------------


def softly(lab: Lab) -> Lab:
    """Give the label of each song a share of seven tenths, and the next label the rest."""
    soft = 0.7 * np.eye(4) + 0.3 * np.roll(np.eye(4), 1, axis=1)
    songs = (replace(s, soft=tuple(soft[lab.corpus.space.index(s.label)])) for s in lab.corpus.songs)
    return lab._replace(corpus=replace(lab.corpus, songs=tuple(songs)))


def test_soft_labels_are_learnt_from_only_if_asked_for(lab: Lab, plain: Run) -> None:
    given = softly(lab)
    off = given.run(BOTH)
    assert without_seconds(off.result) == without_seconds(plain.result)
    on = given.run(BOTH, CONFIG.model_copy(update={"learning": SOFT}))
    for learning in on.learnings:
        assert learning.soft is not None
        assert (learning.soft.argmax(axis=1) == learning.given).all()
        assert np.allclose(learning.soft.max(axis=1), 0.7)
        [without] = [x for x in plain.learnings if (x.method, x.seed) == (learning.method, learning.seed)]
        assert without.soft is None
        assert learning.given == without.given
    assert on.result["config"]["learning"]["soft_labels"]
    for (_, _, _, a), (_, _, _, b) in zip(on.outcomes, plain.outcomes, strict=True):
        assert a.uncalibrated.max(axis=1).mean() < b.uncalibrated.max(axis=1).mean(), "softer targets, softer answers"


@pytest.mark.parametrize("kind", ["segment", "song", "splice"])
def test_noise_makes_certain_what_it_changes(lab: Lab, kind: Any) -> None:
    soft = np.array([song.soft for song in softly(lab).corpus.songs])
    segments = replace(lab.segments, song_soft=soft)
    fold = make_fold(segments, replace(BOTH, noise=InjectedNoise(kind, 0.5), fraction=0.9), classes=4, seed=0, fold=0)
    targets = soft_targets(segments, fold)
    assert targets is not None
    changed = (fold.given != segments.inherited[fold.rows]) | (fold.source != np.arange(len(fold.rows)))
    changed &= fold.given != UNLABELLED
    assert 0 < changed.sum() < len(changed)
    assert np.array_equal(targets[changed], np.eye(4)[fold.given[changed]])
    assert np.array_equal(targets[~changed], soft[segments.song[fold.rows]][~changed])
    assert soft_targets(lab.segments, fold) is None


def test_soft_labels_that_a_corpus_has_not(lab: Lab) -> None:
    with pytest.raises(CorpusError, match="the corpus 'synth' has no soft labels to learn from"):
        lab.run(BOTH, CONFIG.model_copy(update={"learning": SOFT}))


# --- few labels ------------------------------------------------------------------------------------------------------


def test_a_fraction_leaves_the_same_whole_songs_unlabelled_for_every_method(lab: Lab) -> None:
    run = lab.run(replace(BOTH, fraction=0.6, noise=InjectedNoise("segment", 0.25)))
    assert run.result["protocol"]["fraction"] == 0.6
    by_fold: dict[int, list[Learning]] = {}
    for learning in run.learnings:
        by_fold.setdefault(learning.seed, []).append(learning)
        given, song = np.array(learning.given), np.array(learning.song)
        labelled = {int(s) for s in song[given != UNLABELLED]}
        assert labelled.isdisjoint(song[given == UNLABELLED])
        assert len(set(learning.song)) == 8
        assert len(labelled) == 8, "two songs per label, both of which are needed to be split again"
    for first, second in by_fold.values():
        assert first.given == second.given


def test_the_share_of_labelled_songs_is_that_asked_for(lab: Lab) -> None:
    """A larger corpus, cut out without learning."""
    table = replace(lab.segments.table, features={})
    many = replace(
        lab.segments,
        songs=tuple(replace(s, id=f"{i} {s.id}") for i in range(10) for s in lab.segments.songs),
        song=np.concatenate([lab.segments.song + 16 * i for i in range(10)]),
        song_labels=np.tile(lab.segments.song_labels, 10),
        true=np.tile(lab.segments.true, 10) if lab.segments.true is not None else None,
        table=table,
    )
    protocol = replace(BOTH, folds=5, fraction=0.25, noise=InjectedNoise("splice", 0.5))
    fold = make_fold(many, protocol, classes=4, seed=3, fold=1)
    kept = np.unique(many.song[fold.rows[fold.given != UNLABELLED]])
    counts = np.bincount(many.song_labels[kept], minlength=4)
    assert counts.tolist() == [8, 8, 8, 8], "a quarter of 32 songs of each label"
    assert not np.isin(kept, fold.test).any()
    moved = fold.source != np.arange(len(fold.rows))
    assert moved.any()
    assert (fold.given[moved] != UNLABELLED).all(), "noise goes into labelled songs"
    assert (fold.given[fold.source[moved]] != UNLABELLED).all()
    assert (fold.true[moved] == many.inherited[fold.rows[fold.source[moved]]]).all()
    again = make_fold(many, protocol, classes=4, seed=3, fold=1)
    assert np.array_equal(again.given, fold.given)
    assert not np.array_equal(make_fold(many, protocol, classes=4, seed=4, fold=1).given, fold.given)


# --- going on --------------------------------------------------------------------------------------------------------


class KilledError(Exception):
    """Stands for a killed process."""


def test_a_killed_evaluation_goes_on_and_gives_the_same(
    plain: Run, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "result.json"
    work = unfinished_folder(out)
    run = jobs.run_trial
    calls: list[Any] = []

    def killed(job: Any, data: Any) -> Any:
        if len(calls) == 3:
            raise KilledError
        calls.append(job)
        return run(job, data)

    def counted(job: Any, data: Any) -> Any:
        calls.append(job)
        return run(job, data)

    def start(protocol: Protocol = BOTH) -> dict[str, Any]:
        return evaluate(lab.corpus, protocol, config=CONFIG, cache=lab.cache, workers=1, work=work, quiet=True)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "run_trial", killed)
        with pytest.raises(KilledError):
            start()
    assert len(list(work.rglob("*.npz"))) == 3
    with pytest.raises(ConfigError, match="holds an unfinished evaluation with other settings or songs"):
        start(replace(BOTH, noise=InjectedNoise("song", 0.2)))
    damaged = work / OWN / "seed0-fold1.npz"
    damaged.write_bytes(damaged.read_bytes()[:100])
    calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "run_trial", counted)
        with pytest.warns(EmosegWarning, match=r"own/seed0-fold1\.npz: is damaged; this training is done again"):
            result = start()
    assert [(job.method, job.fold) for job in calls] == [(OWN, 1), (PLAIN, 1)]
    assert without_seconds(result) == without_seconds(plain.result)
    write_result(result, out)
    assert list(tmp_path.iterdir()) == [out]


def _npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _changed(data: bytes, **arrays: Any) -> bytes:
    with np.load(io.BytesIO(data)) as saved:
        return _npz(**{name: saved[name] for name in saved.files} | arrays)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[:200],
        lambda data: b"PK\x03\x04" + data[100:],
        lambda data: pickle.dumps({"test": [1, 2]}),
        lambda data: _npz(test=np.array([{"a": 1}], dtype=object)),
        lambda data: _npz(test=np.arange(3)),
        lambda data: _changed(data, figures=np.array("[" * 5000)),
        lambda data: _changed(data, figures=np.array('{"detection": {"auroc": NaN}, "seconds": 1}')),
        lambda data: _changed(data, figures=np.array('{"detection": {}, "seconds": "long"}')),
        lambda data: _changed(data, song=np.full((8, 4), np.nan)),
        lambda data: _changed(data, song=np.ones((3, 4))),
        lambda data: _changed(data, clean=np.zeros((2, 2))),
        lambda data: _changed(data, surprise=np.zeros(1)),
    ],
    ids=[
        *("empty", "last byte", "cut", "start", "pickled", "object", "other", "deep", "not finite", "no time"),
        *("not a number", "other songs", "other shape", "more"),
    ],
)
def test_a_damaged_outcome_is_reported_and_learnt_again(plain: Run, tmp_path: Path, damage: Any) -> None:
    work = tmp_path / ".result.json.unfinished"
    job = jobs.Trial(PLAIN, 0, 0, BOTH, CONFIG)
    outcome = next(o for m, s, f, o in plain.outcomes if (m, s, f) == (PLAIN, 0, 0))
    with unfinished(work):
        store = jobs.TrialStore(work, BOTH, resolve_settings(CONFIG, BOTH.methods), "0123456789abcdef")
        store.save(job, outcome)
        found = store.load(job)
        assert found is not None
        for name, value in vars(outcome).items():
            np.testing.assert_array_equal(getattr(found, name), value)
        [file] = work.rglob("*.npz")
        file.write_bytes(damage(file.read_bytes()))
        with pytest.warns(EmosegWarning) as reported:
            assert store.load(job) is None
        assert [str(w.message) for w in reported] == [f"{file}: is damaged; this training is done again"]
        assert not file.exists()
        assert store.load(job) is None


@pytest.mark.parametrize(("part", "kept"), [(OWN, [PLAIN]), ("descriptors", [])])
def test_results_of_another_version_are_not_mixed_with_new_ones(
    plain: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, kept: list[str]
) -> None:
    work = tmp_path / ".result.json.unfinished"
    config = resolve_settings(CONFIG, BOTH.methods)
    with unfinished(work):
        store = jobs.TrialStore(work, BOTH, config, "0123456789abcdef")
        for method, seed, fold, outcome in plain.outcomes:
            store.save(jobs.Trial(method, seed, fold, BOTH, config), outcome)
        monkeypatch.setattr(Descriptors if part == "descriptors" else METHODS[part], "version", 99)
        with pytest.warns(EmosegWarning) as reported:
            store = jobs.TrialStore(work, BOTH, config, "0123456789abcdef")
        assert len(reported) == 1
        assert re.search(rf"another version \(\w+ {part} \d+, now 99\); it starts again$", str(reported[0].message))
        loaded = {method for method in BOTH.methods if store.load(jobs.Trial(method, 0, 0, BOTH, config))}
        assert sorted(loaded) == kept
        if kept:
            other = config.model_copy(update={"methods": config.methods | {PLAIN: {"other": 1}}})
            with pytest.raises(ConfigError, match=rf"/{PLAIN}: holds an unfinished evaluation of the method '{PLAIN}'"):
                jobs.TrialStore(work, BOTH, other, "0123456789abcdef")


def test_a_result_with_a_nan_is_refused_and_what_was_learnt_stays(plain: Run, tmp_path: Path) -> None:
    work = tmp_path / ".result.json.unfinished"
    work.mkdir()
    with pytest.raises(EmosegError, match="not finite"):
        write_result({**plain.result, "seconds": float("nan")}, tmp_path / "result.json")
    assert list(tmp_path.iterdir()) == [work]


def test_control_characters_of_file_names_are_not_printed(noisy: Run) -> None:
    screen = io.StringIO()
    corpus = {**noisy.result["corpus"], "left_out": ["\x1b[31mred.wav: cannot be decoded"]}
    print_result({**noisy.result, "corpus": corpus}, Console(file=screen, width=100))
    assert "left out: \\x1b[31mred.wav: cannot be decoded" in screen.getvalue()
    assert "\x1b" not in screen.getvalue()


def test_a_figure_that_cannot_be_written_leaves_nothing(
    noisy: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(EmosegError, match=r"figure\.png: cannot be written: No space left on device"):
        write_figure(noisy.result, tmp_path / "figure.png")
    assert list(tmp_path.iterdir()) == []


# --- the result file -------------------------------------------------------------------------------------------------


def test_the_result_file_is_whole_or_the_one_before(
    plain: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "result.json"
    write_result(plain.result, out)
    assert json.loads(out.read_text()) == plain.result
    assert list(tmp_path.iterdir()) == [out]
    before = out.read_bytes()

    def half(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(EmosegError, match=r"result\.json: cannot be written: No space left"):
        write_result({**plain.result, "schema": "other"}, out)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == [out]
    assert out.read_bytes() == before


def test_the_printed_result_tells_the_figures(noisy: Run) -> None:
    screen = io.StringIO()
    line = f"song [1].wav: {'a long cause, ' * 12}which is not wrapped"
    result = {**noisy.result, "corpus": {**noisy.result["corpus"], "left_out": [line]}}
    print_result(result, Console(file=screen, width=100))
    text = screen.getvalue()
    assert f"left out: {line}\n" in text
    assert "synth: 16 songs, 64 segments; 2 folds x 1 seed, grouped by none, noise segment:0.4" in text
    for name, method in noisy.result["methods"].items():
        scores, detection = (line for line in text.splitlines() if line.strip().startswith(f"{name} "))
        assert f"{method['macro_f1']['mean']:.3f}" in scores
        assert f"{method['calibration_error']:.3f}" in scores
        assert f"{method['detection']['auroc']:.3f}" in detection
        assert f"{method['detection']['estimated_rate']:.1%}" in detection
    assert "wrong labels among the training segments: 40.6%" in text or "segments: 39.6%" in text or "40.0%" in text
    mean = noisy.result["differences"][0]["macro_f1"]["mean"]
    assert f"{100 * mean:+.1f} (" in text
    assert max(len(row) for row in text.splitlines() if not row.startswith("left out")) <= 100


def test_the_command_writes_the_same_result(plain: Run, lab: Lab, tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text(f"[learning]\nepochs = 3\nmembers = 2\n[methods.{OWN}]\nwarmup_epochs = 1\n")
    out = tmp_path / "result.json"
    options = [
        "--method",
        PLAIN,
        "--method",
        OWN,
        "--folds",
        "2",
        "--seeds",
        "1",
        "--group",
        "none",
        "--workers",
        "1",
        "--quiet",
    ]
    table = tmp_path / "songs.csv"
    files = ["--out", str(out), "--predictions", str(table), "--config", str(settings), "--cache", str(lab.cache)]
    done = CliRunner().invoke(app, ["evaluate", f"synth:{lab.corpus.root}", *options, *files])
    assert done.exit_code == 0, done.output
    assert f"- {PLAIN}" in done.stdout
    assert done.stderr == ""
    assert without_seconds(json.loads(out.read_text())) == without_seconds(plain.result)
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert len(rows) == 2 * 16
    right = [row["label"] == row["estimate"] for row in rows if row["method"] == OWN]
    assert sum(right) / 16 == plain.result["methods"][OWN]["accuracy"]
    names = [path.name for path in sorted(tmp_path.iterdir())]
    assert names == ["result.json", "settings.toml", "songs.csv", "songs.segments.csv", "songs.training.csv"]


# --- the figure ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf"])
def test_the_figure_is_drawn(noisy: Run, tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"figure{ending}"
    write_figure(noisy.result, file)
    assert file.read_bytes().startswith({".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[ending])
    assert list(tmp_path.iterdir()) == [file]


def test_the_figure_says_what_the_result_says(noisy: Run, tmp_path: Path) -> None:
    result = json.loads(json.dumps(noisy.result))
    result["fair_baseline"] = PLAIN
    write_figure(result, tmp_path / "figure.svg")
    with_texts = (tmp_path / "figure.svg").read_text()
    for text in (
        "synth, 16 songs, 2 folds x 1 seed by none",
        "song macro-F1",
        f"dotted: fair baseline ({PLAIN})",
        "truly wrong",
    ):
        assert f"<!-- {text}" in with_texts or text in with_texts, text


def test_a_figure_that_cannot_be_written_is_reported_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"figure.bmp: a figure must end in .png, .svg, .pdf"):
        require_figure(tmp_path / "figure.bmp")
    with pytest.raises(ConfigError, match="its folder does not exist"):
        require_figure(tmp_path / "no" / "figure.png")
    monkeypatch.setattr("emoseg.evaluation.figure.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="pip install matplotlib"):
        require_figure(tmp_path / "figure.png")
