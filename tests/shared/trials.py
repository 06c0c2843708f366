"""An evaluation whose trials were made up: every figure of its result can be computed by hand.

Six songs with three labels, two segments each. Fold 0 tests the songs 0, 2 and 4, fold 1 the others, in two seeds. The
second segment of song 0 has really another label, and so has the first of song 3; the truth of song 5 is not known.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from emoseg.config import TrainConfig
from emoseg.corpora import Corpus, Song
from emoseg.corpora.segments import CorpusSegments
from emoseg.emotion import EmotionSpace
from emoseg.evaluation.jobs import TrialResult
from emoseg.evaluation.measures import make_result
from emoseg.evaluation.protocol import Fold, Protocol
from emoseg.frontends.store import FeatureTable
from emoseg.learning.methods.base import MethodFit, Prediction
from emoseg.types import Float64, Int64

LABELS = ("calm", "glad", "sad")
SONG_LABELS = np.array([0, 0, 1, 1, 2, 2])
SONG = np.repeat(np.arange(6), 2)
TRUE = np.array([0, 1, 0, 0, 1, 1, 2, 1, 2, 2, 2, 2])
KNOWN = np.array([True] * 10 + [False] * 2)
METHODS: tuple[str, ...] = ("inherit", "mixup", "emoseg")
PROTOCOL = Protocol(METHODS, folds=2, seeds=2, group="none")
CONFIG = TrainConfig()

ESTIMATES = {
    "inherit": ([0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 2, 2]),
    "mixup": ([0, 0, 1, 1, 2, 0], [0, 1, 1, 1, 2, 2]),
    "emoseg": ([0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2]),
}
"""Estimated labels of the songs, by method and seed."""


def probabilities(labels: Any, sure: float) -> Float64:
    """Return a table with probability `sure` on each label, and the rest on the other two."""
    return np.where(np.eye(3)[np.asarray(labels)] == 1, sure, (1 - sure) / 2)


def corpus(*, truth: bool = True, works: bool = False) -> tuple[Corpus, CorpusSegments]:
    """Return the corpus and its segments; with `works` the songs 0 and 1, 2 and 3, 4 and 5 are clips of one song."""
    songs = tuple(
        Song(f"song {i}", Path(f"{i}.wav"), LABELS[label], artist=f"artist {i}", work=f"w{i // 2}" if works else None)
        for i, label in enumerate(SONG_LABELS)
    )
    space = EmotionSpace.from_labels(list(LABELS))
    table = FeatureTable({}, SONG, np.tile([0.0, 3.0], 6), np.tile([3.0, 6.0], 6), {})
    known = KNOWN if truth else None
    margin = np.where(KNOWN, np.inf, 0.0) if truth else None
    segments = CorpusSegments(songs, table, SONG, SONG_LABELS, TRUE if truth else None, (), known, margin)
    return Corpus("made", Path("made"), space, songs), segments


def trials() -> dict[tuple[str, int, int], TrialResult]:
    """Return the results of all trials; `emoseg` flags a label in three of its four trainings, the others in all."""
    results: dict[tuple[str, int, int], TrialResult] = {}
    for method in METHODS:
        for seed in range(2):
            for fold in range(2):
                results[method, seed, fold] = _trial(method, seed, fold)
    return results


def _trial(method: str, seed: int, fold: int) -> TrialResult:
    test = np.arange(fold, 6, 2)
    test_rows, rows = np.flatnonzero(fold == SONG % 2), np.flatnonzero(fold != SONG % 2)
    estimate = np.array(ESTIMATES[method][seed])[test]
    # `emoseg` ranks the two wrong labels first; `inherit` ranks the segments from the last to the first.
    clean = np.where(SONG_LABELS[SONG] != TRUE, 0.1, 0.9) + SONG / 100 if method == "emoseg" else 1 - np.arange(12) / 20
    flagged = 0.0 if (method, seed, fold) == ("emoseg", 1, 1) else 0.5
    detection = {"true_rate": 0.25, "estimated_rate": 0.125 * (seed + 1)}
    detection |= {"flagged": flagged, "flagged_count": 6 * flagged}
    detection |= {"flagged_0": 0.5, "auroc": 0.75 + seed / 8, "average_precision": 0.5, "lift": 2.0, "recall": 0.5}
    detection |= {"wrong": 2.0, "hits": 1.0}
    if fold == 0:
        detection["flagged_2"] = 0.25  # not in every training: left out of the mean
    if flagged:
        detection |= {"precision": 0.25 * (1 + seed + fold), "corrected_accuracy": 0.5}
    return TrialResult(
        test=test,
        song=probabilities(estimate, 0.8),
        mean=probabilities(SONG_LABELS[test], 0.6),
        uncalibrated=probabilities(estimate, 0.9),
        test_rows=test_rows,
        segments=probabilities(SONG_LABELS[SONG[test_rows]], 0.7),
        clean_rows=rows,
        clean=clean[rows],
        detection=detection,
        seconds=10.0 * (seed + 1),
    )


@cache
def result(*, truth: bool = True, works: bool = False) -> dict[str, Any]:
    """Return the content of the result file; it is computed once, and must not be changed."""
    made, segments = corpus(truth=truth, works=works)
    return make_result(made, segments, PROTOCOL, CONFIG, trials())


def planted_fit(given: Int64, true: Int64, clean: list[float], guesses: list[int]) -> tuple[MethodFit, Fold]:
    """Return a fit of a method with these clean probabilities and guessed labels of three, and its fold."""
    table = np.asarray(clean)
    none = np.zeros((len(given), 3))
    fit = MethodFit(
        predictor=None,  # type: ignore[arg-type]
        out_of_fold=Prediction(none),
        clean=table,
        flagged=table < 0.5,
        guesses=np.eye(3)[guesses],
        noise_rate=0.25,
        ensemble=None,
        history={},
    )
    rows = np.arange(len(given))
    return fit, Fold(rows, rows, rows, rows, given, true, np.ones(len(given), dtype=bool), rows)
