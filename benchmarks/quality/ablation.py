"""What each part of the method `emoseg` is worth: the whole, and the whole without one part at a time.

Usage: python ablation.py CORPUS [SEEDS] (5 artist-grouped folds, descriptors). The first cross-fit is the same for all
variants and is learnt once a fold. Differences are in points, paired, with 95 % intervals by bootstrap over songs.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np

from emoseg import metrics
from emoseg.config import TrainConfig
from emoseg.corpora import load_corpus
from emoseg.corpora.segments import load_segments
from emoseg.evaluation import jobs
from emoseg.evaluation.injected_noise import InjectedNoise
from emoseg.evaluation.protocol import Protocol
from emoseg.learning.cross_fit import SegmentFit
from emoseg.learning.methods.base import Run
from emoseg.learning.methods.emoseg import method as evidence
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


def _instead(name: str, value: Any) -> Callable[[ExitStack], None]:
    return lambda stack: stack.enter_context(patch.object(evidence, name, value))


def _without_rate(stack: ExitStack) -> None:
    join = evidence._Jury.join
    stack.enter_context(patch.object(evidence._Jury, "join", lambda jury, learnt, song_rate: join(jury, learnt, 0.0)))
    fit = evidence.EvidenceLearner.fit
    told = patch.object(
        evidence.EvidenceLearner, "fit", lambda own, data, run: replace(fit(own, data, run), song_rate=0.0)
    )
    stack.enter_context(told)


def _weigh_with(**changes: Any) -> Callable[[ExitStack], None]:
    weigh = evidence.weigh_labels

    def weighed(*args: Any) -> Any:
        return replace(weigh(*args), **changes)

    return _instead("weigh_labels", weighed)


PARTS: dict[str, Callable[[ExitStack], Any]] = {
    "the whole": lambda stack: None,
    "relearning of suspects": _weigh_with(changed=False),
    "smoothing over time": _instead("smoothed", lambda values, song, features=None: values),
    "sister segments": _instead("song_consensus", lambda given, song, classes: None),
    "machines (votes of whole songs)": _instead("_Jury", lambda data, run, vectors: None),
    "odd segments kept from machines": lambda stack: stack.enter_context(
        patch.object(evidence._Jury, "taught_by", lambda jury, odd: jury)
    ),
    "weights of what a summary tells": _instead("relevance", lambda x, labels, classes: np.ones(x.shape[1])),
    "second round on unlabelled songs": _instead("GUESSED_SHARE", 0.0),
    "wrong song labels in blend and song model": _without_rate,
}


@contextmanager
def first_learnt_once(known: dict[str, SegmentFit]) -> Iterator[None]:
    """Let the first cross-fit of a fold be learnt by the variant that asks for it first."""
    cross_fit = Run.cross_fit

    def remembered(run: Run, *args: Any, name: str, **options: Any) -> SegmentFit:
        if not name.endswith("-first"):
            return cross_fit(run, *args, name=name, **options)
        if name not in known:
            known[name] = cross_fit(run, *args, name=name, **options)
        return known[name]

    with patch.object(Run, "cross_fit", remembered):
        yield


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
    with first_learnt_once({}):
        for name, leave_out in PARTS.items():
            with ExitStack() as stack:
                leave_out(stack)
                outcome = jobs.run_trial(jobs.Trial("emoseg", seed, fold, protocol, config), data)
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
