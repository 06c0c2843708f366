"""From outcomes to the result: scores, calibration, detection, and paired differences, with intervals.

Scores of a method are means over seeds of a measure on all songs (each a test song once a seed), never means over
folds. Intervals resample songs; all seeds' predictions of a drawn song are drawn with it. They say how much the choice
of songs matters, given these seeds; what the seeds matter is told by the values of each seed beside them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.stats import rankdata

from emoseg import metrics
from emoseg.config import TrainConfig
from emoseg.corpora.base import Corpus
from emoseg.corpora.segments import CorpusSegments
from emoseg.evaluation.detection import auroc_differences, detection_figures
from emoseg.evaluation.jobs import TrialResult
from emoseg.evaluation.protocol import Protocol, split_report
from emoseg.types import Float64, Int64
from emoseg.version import VERSION

SCHEMA = "emoseg.evaluation/2"
PLAIN = ("inherit", "mixup")  # the fair baseline is the better of them

TrialResults = Mapping[tuple[str, int, int], TrialResult]


def make_result(
    corpus: Corpus, segments: CorpusSegments, protocol: Protocol, config: TrainConfig, outcomes: TrialResults
) -> dict[str, Any]:
    """Return the result of a protocol, as in a result file; docs/evaluation.md describes it."""
    labels = corpus.space.labels
    by_method: dict[str, list[TrialResult]] = {
        m: [outcomes[m, s, f] for s in range(protocol.seeds) for f in range(protocol.folds)] for m in protocol.methods
    }
    tested = np.unique(np.concatenate([outcome.test for outcome in by_method[protocol.methods[0]]]))
    tables = {m: _by_seed(found, protocol, len(segments.songs), len(labels)) for m, found in by_method.items()}
    tables = {m: {kind: table[:, tested] for kind, table in kinds.items()} for m, kinds in tables.items()}
    estimates = {m: table["song"].argmax(axis=2) for m, table in tables.items()}
    reference = segments.song_labels[tested]
    clips = _clips(segments, tested)
    fair = fair_baseline(reference, estimates, len(labels))
    return {
        "schema": SCHEMA,
        "emoseg_version": VERSION,
        "corpus": _describe(corpus, segments, reference),
        "protocol": {
            "folds": protocol.folds,
            "seeds": list(range(protocol.seeds)),
            "group": protocol.group,
            "noise": str(protocol.noise),
            "fraction": protocol.fraction,
            **_describe_split(segments, protocol),
        },
        "config": config.model_dump(mode="json", exclude={"method"}),
        "methods": {
            m: _summary(segments, reference, clips, protocol, labels, tables[m], by_method[m]) for m in protocol.methods
        },
        "fair_baseline": fair,
        "differences": [
            {
                "method": m,
                "minus": base,
                "macro_f1": difference(reference, estimates[m], estimates[base], len(labels), clips),
                **_detection_difference(segments, protocol, by_method[m], by_method[base]),
            }
            for base in dict.fromkeys([protocol.methods[0], *([fair] if fair else [])])
            for m in protocol.methods
            if m != base
        ],
    }


def _describe(corpus: Corpus, segments: CorpusSegments, reference: Int64) -> dict[str, Any]:
    return {
        "name": corpus.name,
        "hash": segments.hash,
        "songs": len(segments.songs),
        "segments": len(segments.song),
        "counts": corpus.counts(),
        "space": corpus.space.to_json(),
        "left_out": list(segments.left_out),
        "test_labels_hash": hashlib.blake2b(reference.tobytes(), digest_size=8).hexdigest(),
    }


def _describe_split(segments: CorpusSegments, protocol: Protocol) -> dict[str, Any]:
    report = split_report(segments, protocol)
    return {"test_split": asdict(report) | {"warnings": report.warnings()}} if report else {}


def fair_baseline(reference: Int64, estimates: Mapping[str, Int64], classes: int) -> str | None:
    """Return the better of plain training with and without mixup, where both ran.

    It is chosen by its score on the test songs, which favours the baseline.
    """
    if not all(name in estimates for name in PLAIN):
        return None
    return max(PLAIN, key=lambda name: _mean_macro_f1(reference, estimates[name], classes))


def _by_seed(outcomes: Sequence[TrialResult], protocol: Protocol, songs: int, classes: int) -> dict[str, Float64]:
    """Put the folds together: for each seed every tested song has been so once. Arrays (seeds, N, K)."""
    tables = {kind: np.zeros((protocol.seeds, songs, classes)) for kind in ("song", "mean", "uncalibrated")}
    for i, outcome in enumerate(outcomes):
        for kind, table in tables.items():
            table[i // protocol.folds, outcome.test] = getattr(outcome, kind)
    return tables


def _mean_macro_f1(reference: Int64, estimates: Int64, classes: int, drawn: Int64 | None = None) -> float:
    """Return the mean over seeds of macro-F1 of `estimates`, shape (seeds, N), on all songs or on those drawn."""
    rows = np.arange(len(reference)) if drawn is None else drawn
    return float(np.mean([metrics.macro_f1(reference[rows], e[rows], classes) for e in estimates]))


def _clips(segments: CorpusSegments, tested: Int64) -> Int64 | None:
    """Return a number for the song that each tested recording is a clip of; None where recordings are whole songs."""
    if not any(song.work for song in segments.songs):
        return None
    groups = segments.groups("none")
    number = {name: i for i, name in enumerate(dict.fromkeys(groups[i] for i in tested))}
    return np.array([number[groups[i]] for i in tested], dtype=np.int64)


def difference(
    reference: Int64, ours: Int64, theirs: Int64, classes: int, clips: Int64 | None = None
) -> dict[str, Any]:
    """Return the difference of macro-F1 of two methods, paired by seed and song.

    Parameters
    ----------
    reference : array of int, shape (N,)
    ours, theirs : array of int, shape (seeds, N)
        Estimated labels.
    classes : int
    clips : array of int, shape (N,), optional
        Song that each is a clip of; clips of one song are drawn together.
    """

    def statistic(drawn: Int64 | None = None) -> float:
        mine = _mean_macro_f1(reference, ours, classes, drawn)
        return mine - _mean_macro_f1(reference, theirs, classes, drawn)

    low, high = metrics.paired_bootstrap(statistic, len(reference), groups=clips)
    by_seed = [
        metrics.macro_f1(reference, a, classes) - metrics.macro_f1(reference, b, classes)
        for a, b in zip(ours, theirs, strict=True)
    ]
    return {"mean": statistic(), "interval": [low, high], "by_seed": by_seed}


def _summary(
    segments: CorpusSegments,
    reference: Int64,
    clips: Int64 | None,
    protocol: Protocol,
    labels: Sequence[str],
    tables: dict[str, Float64],
    outcomes: Sequence[TrialResult],
) -> dict[str, Any]:
    classes = len(labels)
    estimates = tables["song"].argmax(axis=2)
    low, high = metrics.paired_bootstrap(
        lambda drawn: _mean_macro_f1(reference, estimates, classes, drawn), len(reference), groups=clips
    )
    recalls = np.mean([metrics.recalls(reference, e, classes) for e in estimates], axis=0)
    return {
        "macro_f1": {
            "mean": _mean_macro_f1(reference, estimates, classes),
            "interval": [low, high],
            "by_seed": [metrics.macro_f1(reference, e, classes) for e in estimates],
        },
        "macro_f1_mean_probability": _mean_macro_f1(reference, tables["mean"].argmax(axis=2), classes),
        "accuracy": float(np.mean(estimates == reference)),
        "balanced_accuracy": float(np.mean([metrics.balanced_accuracy(reference, e, classes) for e in estimates])),
        "recall": _known(labels, recalls),
        "calibration_error": _calibration(reference, tables["song"]),
        "calibration_error_before": _calibration(reference, tables["uncalibrated"]),
        "segment_macro_f1": _segment_macro_f1(segments, outcomes, classes),
        "detection": _detection(outcomes, labels),
        **_detection_real(segments, protocol, outcomes),
        "seconds": float(np.mean([o.seconds for o in outcomes])),
        "folds": [_fold_values(o, i, protocol, segments.song_labels, labels) for i, o in enumerate(outcomes)],
    }


def _calibration(reference: Int64, table: Float64) -> float:
    return float(np.mean([metrics.calibration_error(reference, p) for p in table]))


def _detection(outcomes: Sequence[TrialResult], labels: Sequence[str]) -> dict[str, Any]:
    """Return means over all trainings; what some training lacks, such as recall without a wrong label, is left out."""
    everywhere = [key for key in outcomes[0].detection if all(key in o.detection for o in outcomes)]
    return _nested({key: float(np.mean([o.detection[key] for o in outcomes])) for key in everywhere}, labels)


def _nested(detection: Mapping[str, float], labels: Sequence[str]) -> dict[str, Any]:
    """Put the flagged rates of labels into a table of their own."""
    by_class = {f"flagged_{k}": label for k, label in enumerate(labels)}
    found: dict[str, Any] = {key: value for key, value in detection.items() if key not in by_class}
    found["flagged_by_class"] = {label: detection[key] for key, label in by_class.items() if key in detection}
    return found


def _fold_values(
    outcome: TrialResult, i: int, protocol: Protocol, reference: Int64, labels: Sequence[str]
) -> dict[str, Any]:
    mine, estimate = reference[outcome.test], outcome.song.argmax(axis=1)
    return {
        "seed": i // protocol.folds,
        "fold": i % protocol.folds,
        "songs": len(mine),
        "macro_f1": metrics.macro_f1(mine, estimate, len(labels)),
        "accuracy": float(np.mean(estimate == mine)),
        "recall": _known(labels, metrics.recalls(mine, estimate, len(labels))),
        "detection": _nested(outcome.detection, labels),
        "seconds": outcome.seconds,
    }


def _known(labels: Sequence[str], recalls: Float64) -> dict[str, float]:
    """Return recall by label, without labels that no test song has."""
    return {label: r for label, r in zip(labels, recalls.tolist(), strict=True) if not np.isnan(r)}


def _detection_real(segments: CorpusSegments, protocol: Protocol, outcomes: Sequence[TrialResult]) -> dict[str, Any]:
    """Measure detection against what the corpus knows; nothing where it knows nothing, or noise was injected."""
    if segments.true is None or protocol.noise.kind != "none":
        return {}
    rows, clean = _mean_clean(outcomes, len(segments.song))
    return {"detection_real": [figures.to_json() for figures in detection_figures(clean, segments, rows=rows)]}


def _detection_difference(
    segments: CorpusSegments, protocol: Protocol, ours: Sequence[TrialResult], theirs: Sequence[TrialResult]
) -> dict[str, Any]:
    if segments.true is None or protocol.noise.kind != "none":
        return {}
    rows, mine = _mean_clean(ours, len(segments.song))
    _, other = _mean_clean(theirs, len(segments.song))
    return {"detection_real": [found.to_json() for found in auroc_differences(mine, other, segments, rows=rows)]}


def _mean_clean(outcomes: Sequence[TrialResult], size: int) -> tuple[Int64, Float64]:
    """Return the segments that some training had with a label, and their clean probability, averaged over these.

    What is averaged is its rank in the training, from 0 to 1: where a method draws the line between clean and wrong
    differs from one training to the next, and segments are not in the same ones.
    """
    total, trainings = np.zeros(size), np.zeros(size)
    for outcome in outcomes:
        total[outcome.clean_rows] += rankdata(outcome.clean) / len(outcome.clean)
        trainings[outcome.clean_rows] += 1
    rows = np.flatnonzero(trainings)
    return rows, total[rows] / trainings[rows]


def _segment_macro_f1(segments: CorpusSegments, outcomes: Sequence[TrialResult], classes: int) -> float | None:
    """Return macro-F1 of the test segments whose true emotion a corpus knows; None where it knows none."""
    if segments.true is None or segments.known is None:
        return None
    rows = np.concatenate([o.test_rows for o in outcomes])
    known = segments.known[rows]
    if not known.any():
        return None
    estimate = np.concatenate([o.segments for o in outcomes]).argmax(axis=1)
    return metrics.macro_f1(segments.true[rows][known], estimate[known], classes)
