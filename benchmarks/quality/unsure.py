"""How often the answer is "unsure" on held-out songs, and how often the best guess is right then and otherwise.

Usage: python unsure.py CORPUS (5 artist-grouped folds, seed 0, the default method and settings).
"""

from __future__ import annotations

import json
import sys

import numpy as np

from emoseg.config import TimelineConfig, TrainConfig
from emoseg.corpora import load_corpus
from emoseg.corpora.segments import load_segments
from emoseg.evaluation.jobs import Trial, run_all
from emoseg.evaluation.protocol import Protocol


def main() -> None:
    corpus, config = load_corpus(sys.argv[1]), TrainConfig()
    protocol = Protocol((config.method,), folds=5, seeds=1)
    segments = load_segments(corpus, config)
    jobs = [Trial(config.method, 0, fold, protocol, config) for fold in range(protocol.folds)]
    classes = len(corpus.space.labels)
    outcomes = [outcome for _, outcome in run_all(jobs, segments, classes, workers=2)]
    songs = np.concatenate([outcome.test for outcome in outcomes])
    probabilities = np.concatenate([outcome.song for outcome in outcomes])
    unsure = probabilities.max(axis=1) < TimelineConfig().unsure_threshold(classes)
    right = probabilities.argmax(axis=1) == segments.song_labels[songs]
    result = {
        "songs": len(songs),
        "unsure": float(unsure.mean()),
        "right_where_unsure": float(right[unsure].mean()),
        "right_elsewhere": float(right[~unsure].mean()),
    }
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
