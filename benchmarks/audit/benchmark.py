"""Measure the audit on 4Q with labels that are made wrong at random.

Usage: python benchmarks/audit/benchmark.py FIGURE CORPUS [--seeds FIRST END] [--cache DIR] [--out FILE.json]

FIGURE is one of

    songs      20 % of all songs wrong: AUROC of the ranking, precision among the first 10 %
    hundred    100 songs, 10 of them wrong: AUROC, and how many of the ten are among the first 20
    coverage   0, 10, 20 and 40 % wrong, of all songs and of 100: how often the interval of the rate has the true rate

and CORPUS is such as 4q:MER_audio_taffc_dataset. cleanlab's rankings are computed from the same held-out probabilities.
The formulas of the audit were chosen with seeds from 100 on, so figures to publish use seeds below 100. Intervals
(95 %) are by bootstrap over the seeds. Set OMP_NUM_THREADS=1 where other programs run.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoseg.auditing.judgement import LabelLearner, LabelledSongs
from emoseg.auditing.rate import estimate_rate
from emoseg.auditing.suspicion import held_out_scores, means_of_songs
from emoseg.config import TrainConfig
from emoseg.corpora import load_corpus
from emoseg.corpora.segments import CorpusSegments, load_segments
from emoseg.metrics import auroc
from emoseg.song.statistics import song_summaries
from emoseg.types import Float64, Int64

CONFIG = TrainConfig()
CLEANLAB = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=("songs", "hundred", "coverage"))
    parser.add_argument("corpus")
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 20))
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    segments = load_segments(load_corpus(given.corpus), CONFIG, cache=given.cache, workers=1)
    seeds = range(*given.seeds)
    figures = coverage(segments, seeds) if given.figure == "coverage" else ranking(segments, seeds, given.figure)
    result = {"figure": given.figure, "corpus": segments.hash, "seeds": list(given.seeds), "figures": figures}
    print(json.dumps(result, indent=1))
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n")


def artists_of(segments: CorpusSegments) -> Int64:
    return np.asarray(np.unique(segments.groups(), return_inverse=True)[1])


def some_songs(segments: CorpusSegments, chosen: Int64, labels: Int64) -> LabelledSongs:
    """Return some of the songs, with other labels than the corpus gives."""
    rows = np.flatnonzero(np.isin(segments.song, chosen))
    features = np.asarray(segments.table.features["descriptors"][rows])
    song, each = np.searchsorted(chosen, segments.song[rows]), np.arange(len(chosen))
    return LabelledSongs(
        features, song, labels, int(segments.song_labels.max()) + 1, each, artists_of(segments)[chosen]
    )


def flipped(labels: Int64, count: int, rng: np.random.Generator) -> Int64:
    """Give so many random songs another label than the right one."""
    classes, given = int(labels.max()) + 1, labels.copy()
    wrong = rng.permutation(len(labels))[:count]
    given[wrong] = (labels[wrong] + rng.integers(1, classes, count)) % classes
    return given


def balanced_draw(labels: Int64, artists: Int64, rng: np.random.Generator, songs: int) -> Int64:
    """Draw whole artists until there are so many songs, equally many per label."""
    classes = int(labels.max()) + 1
    counts, chosen = np.zeros(classes, dtype=int), []
    for artist in rng.permutation(np.unique(artists)):
        rows = np.flatnonzero(artists == artist)
        found = np.bincount(labels[rows], minlength=classes)
        if (counts + found <= songs // classes).all():
            counts += found
            chosen.extend(rows.tolist())
    return np.sort(np.array(chosen))


def ranking(segments: CorpusSegments, seeds: range, figure: str) -> dict[str, Any]:
    """Return the AUROC of each ranking, and how its beginning does."""
    table = defaultdict(list)
    for seed in seeds:
        true, chosen, rng = segments.song_labels, np.arange(len(segments.songs)), np.random.default_rng([seed, 11])
        if figure == "hundred":
            chosen = balanced_draw(true, artists_of(segments), rng, 100)
        true = true[chosen]
        labels = flipped(true, 10 if figure == "hundred" else round(0.2 * len(true)), rng)
        wrong = labels != true
        for name, suspicion in rankings(some_songs(segments, chosen, labels), seed):
            first = np.argsort(-suspicion, kind="stable")[: 20 if figure == "hundred" else round(0.1 * len(true))]
            begins = float(wrong[first].sum()) if figure == "hundred" else float(wrong[first].mean())
            table[name].append((auroc(wrong, suspicion), begins))
    second = "of 10 in the first 20" if figure == "hundred" else "precision in the first 10 %"
    return {
        name: {"AUROC": interval([a for a, _ in rows]), second: interval([b for _, b in rows])}
        for name, rows in table.items()
    }


def rankings(songs: LabelledSongs, seed: int) -> Iterator[tuple[str, Float64]]:
    """Yield the name and the suspicions of each ranking."""
    from cleanlab.rank import get_label_quality_scores

    learned = LabelLearner(songs, CONFIG.learning).learn(songs.labels, seed)
    yield "audit", learned.suspicion
    yield "kernel machine alone", -learned.scores[np.arange(len(songs.labels)), songs.labels]
    held_out = means_of_songs(learned.held_out, songs.song)
    for method in CLEANLAB:
        yield f"cleanlab {method}", -get_label_quality_scores(songs.labels, held_out, method=method)


def coverage(segments: CorpusSegments, seeds: range) -> list[dict[str, Any]]:
    """Return how often the interval of the rate has the true rate, and how often it is narrow enough."""
    true, artists = segments.song_labels, artists_of(segments)
    summaries = song_summaries(segments.table.features["descriptors"], segments.song)
    rows = []
    for size in (len(true), 100):
        for rate in (0.0, 0.1, 0.2, 0.4):
            found: list[tuple[float, float, float, bool]] = []
            for seed in seeds:
                rng = np.random.default_rng([seed, 13])
                chosen = np.arange(size) if size == len(true) else balanced_draw(true, artists, rng, size)
                labels = flipped(true[chosen], round(rate * len(chosen)), rng)
                scores = held_out_scores(summaries[chosen], labels, artists[chosen], int(true.max()) + 1)
                estimate = estimate_rate(scores, labels)
                found.append((estimate.rate, estimate.low, estimate.high, estimate.conclusive))
            rows.append({"songs": size, "wrong": rate, **_summary(np.array(found), rate)})
            print(rows[-1], flush=True)
    return rows


def _summary(found: NDArray[np.float64], rate: float) -> dict[str, Any]:
    estimates, low, high, conclusive = found.T
    covered, told = (low <= rate) & (rate <= high), conclusive > 0
    return {
        "draws": len(found),
        "mean estimate": round(float(estimates.mean()), 3),
        "deviation": round(float(estimates.std()), 3),
        "mean interval": [round(float(low.mean()), 3), round(float(high.mean()), 3)],
        "covered": int(covered.sum()),
        "conclusive": int(told.sum()),
        "covered or inconclusive": int((covered | ~told).sum()),
    }


def interval(values: list[float]) -> dict[str, float]:
    """Return the mean, and a 95 % interval by bootstrap over the seeds."""
    array, rng = np.array(values), np.random.default_rng(0)
    means = [rng.choice(array, len(array)).mean() for _ in range(2000)]
    low, high = np.percentile(means, [2.5, 97.5])
    return {"mean": round(float(array.mean()), 3), "low": round(float(low), 3), "high": round(float(high), 3)}


if __name__ == "__main__":
    main()
