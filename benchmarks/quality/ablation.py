"""What each part of the method `emoseg` is worth: the whole, and the whole without one part at a time.

Usage: python ablation.py CORPUS [SEEDS] (5 artist-grouped folds, descriptors). Each part is turned off by a setting of
the method. Differences are in points, paired, with 95 % intervals by bootstrap over songs.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from emoseg import metrics
from emoseg.config import TrainConfig, replace_settings
from emoseg.corpora import load_corpus
from emoseg.corpora.segments import load_segments
from emoseg.evaluation import jobs
from emoseg.evaluation.injected_noise import InjectedNoise
from emoseg.evaluation.protocol import Protocol
from emoseg.learning.methods import resolve_settings
from emoseg.types import Float64, Int64

FOLDS = 5
CONDITIONS = {
    "clean": ("none", 1.0),
    "segment:0.4": ("segment:0.4", 1.0),
    "splice:0.5": ("splice:0.5", 1.0),
    "song:0.2": ("song:0.2", 1.0),
    "song:0.4": ("song:0.4", 1.0),
    "fraction 0.25": ("none", 0.25),
    "fraction 0.1": ("none", 0.1),
}


PARTS: dict[str, dict[str, Any]] = {
    "the whole": {},
    "relearning of suspects": {"relearn": False},
    "smoothing over time": {"smoothing_width": 0.0},
    "labels of the song's other segments": {"consensus_disagreement": 1.0},
    "machines (votes of whole songs)": {"song_votes": False},
    "atypical segments kept from machines": {"drop_atypical_below": 0.0},
    "weights of summaries": {"weigh_summaries": False},
    "second round on unlabelled songs": {"guessed_share": 0.0},
    "wrong song labels in blend and song model": {"allow_for_wrong_songs": False},
}
"""Each part of the method, and the settings without it."""


def run_fold(corpus: str, condition: str, seed: int, fold: int) -> dict[str, tuple[Int64, Float64, float]]:
    """Return for each variant the test songs, their probabilities, and the detection AUROC."""
    config = TrainConfig()
    loaded = load_corpus(corpus)
    segments = load_segments(loaded, config, workers=1, quiet=True)
    features = {name: np.asarray(table) for name, table in segments.table.features.items()}
    data = jobs.TrialData(features, segments, len(loaded.space.labels))
    noise, fraction = CONDITIONS[condition]
    protocol = Protocol(("emoseg",), FOLDS, 1, noise=InjectedNoise.parse(noise), fraction=fraction)
    found = {}
    for name, changes in PARTS.items():
        variant = resolve_settings(replace_settings(config, methods={"emoseg": changes}), ["emoseg"])
        outcome = jobs.run_trial(jobs.Trial("emoseg", seed, fold, protocol, variant), data)
        found[name] = outcome.test, outcome.song, outcome.detection.get("auroc", float("nan"))
    return found


def main() -> None:
    corpus, seeds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
    loaded = load_corpus(corpus)
    reference = load_segments(loaded, TrainConfig(), quiet=True).song_labels
    classes = len(loaded.space.labels)
    result: dict[str, Any] = {"folds": FOLDS, "seeds": list(range(seeds)), "conditions": {}}
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        for condition in CONDITIONS:
            asked = {(s, f): pool.submit(run_fold, corpus, condition, s, f) for s in range(seeds) for f in range(FOLDS)}
            votes = {name: np.zeros((seeds, len(reference)), dtype=np.int64) for name in PARTS}
            areas: dict[str, list[float]] = {name: [] for name in PARTS}
            for (seed, _), future in asked.items():
                for name, (test, song, area) in future.result().items():
                    votes[name][seed, test] = song.argmax(axis=1)
                    areas[name].append(area)
            rows = result["conditions"][condition] = {}
            for name in PARTS:
                difference = _points(reference, votes["the whole"], votes[name], classes)
                score = _score(reference, votes[name], classes)
                rows[name] = {"macro_f1": score, "auroc": float(np.mean(areas[name])), "gain": difference}
            sys.stderr.write(f"{condition}: {json.dumps(rows)}\n")
    sys.stdout.write(json.dumps(result, indent=1).replace("NaN", "null") + "\n")


def _score(reference: Int64, votes: Int64, classes: int, drawn: Int64 | None = None) -> float:
    songs = np.arange(len(reference)) if drawn is None else drawn
    return float(np.mean([metrics.macro_f1(reference[songs], vote[songs], classes) for vote in votes]))


def _points(reference: Int64, whole: Int64, without: Int64, classes: int) -> dict[str, Any]:
    def gain(drawn: Int64 | None = None) -> float:
        return _score(reference, whole, classes, drawn) - _score(reference, without, classes, drawn)

    return {"mean": gain(), "interval": metrics.paired_bootstrap(gain, len(reference))}


if __name__ == "__main__":
    main()
