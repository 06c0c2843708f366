"""From the results of all trials to the result file: scores, calibration, detection, and paired differences.

A score of a method is the mean over seeds of a measure on all songs (each is tested once per seed), never a mean over
folds. Intervals come from resampling songs; the predictions of all seeds of a drawn song are drawn together. They show
how much the choice of songs matters, given these seeds. The values per seed show how much the seeds matter.
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
PLAIN = ("inherit", "mixup")
"""Plain training without and with mixup; the fair baseline is the better of them."""
_OF_FLAGGED = ("precision", "corrected_accuracy")  # not defined for a training that flags no label

TrialResults = Mapping[tuple[str, int, int], TrialResult]
"""Results by method, seed and fold."""


def make_result(
    corpus: Corpus, segments: CorpusSegments, protocol: Protocol, config: TrainConfig, results: TrialResults
) -> dict[str, Any]:
    """Return the content of a result file, as docs/evaluation.md describes it.

    Parameters
    ----------
    corpus : Corpus
    segments : CorpusSegments
        Of this corpus.
    protocol : Protocol
    config : TrainConfig
    results : mapping of (str, int, int) to TrialResult
        One for every method, seed and fold of the protocol.
    """
    labels = corpus.space.labels
    by_method: dict[str, list[TrialResult]] = {
        m: [results[m, s, f] for s in range(protocol.seeds) for f in range(protocol.folds)] for m in protocol.methods
    }
    tested = np.unique(np.concatenate([result.test for result in by_method[protocol.methods[0]]]))
    tables = {m: _by_seed(trials, protocol, len(segments.songs), len(labels)) for m, trials in by_method.items()}
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
    """Return the name of the better of the two plain methods; None unless both were evaluated.

    It is chosen by its macro-F1 on the test songs, which favours the baseline.

    Parameters
    ----------
    reference : array of int, shape (N,)
        Labels of the test songs.
    estimates : mapping of str to array of int, shape (seeds, N)
        Estimated labels by method.
    classes : int
        Number of labels K.
    """
    if not all(name in estimates for name in PLAIN):
        return None
    return max(PLAIN, key=lambda name: _mean_macro_f1(reference, estimates[name], classes))


def _by_seed(results: Sequence[TrialResult], protocol: Protocol, songs: int, classes: int) -> dict[str, Float64]:
    """Return the probabilities of all songs, arrays of shape (seeds, N, K): the folds of a seed put together."""
    tables = {kind: np.zeros((protocol.seeds, songs, classes)) for kind in ("song", "mean", "uncalibrated")}
    for i, result in enumerate(results):
        for kind, table in tables.items():
            table[i // protocol.folds, result.test] = getattr(result, kind)
    return tables


def _mean_macro_f1(reference: Int64, estimates: Int64, classes: int, drawn: Int64 | None = None) -> float:
    """Return the mean over seeds of the macro-F1 of `estimates`, shape (seeds, N), on all songs or on drawn ones."""
    rows = np.arange(len(reference)) if drawn is None else drawn
    return float(np.mean([metrics.macro_f1(reference[rows], e[rows], classes) for e in estimates]))


def _clips(segments: CorpusSegments, tested: Int64) -> Int64 | None:
    """Return the number of the song that each tested recording is a clip of; None if recordings are whole songs."""
    if not any(song.work for song in segments.songs):
        return None
    groups = segments.groups("none")
    number = {name: i for i, name in enumerate(dict.fromkeys(groups[i] for i in tested))}
    return np.array([number[groups[i]] for i in tested], dtype=np.int64)


def difference(
    reference: Int64, ours: Int64, theirs: Int64, classes: int, clips: Int64 | None = None
) -> dict[str, Any]:
    """Return by how much the macro-F1 of one method is higher than that of another, paired by seed and song.

    Parameters
    ----------
    reference : array of int, shape (N,)
    ours, theirs : array of int, shape (seeds, N)
        Estimated labels.
    classes : int
        Number of labels K.
    clips : array of int, shape (N,), optional
        Song that each recording is a clip of, numbered from 0; clips of one song are drawn together.

    Returns
    -------
    dict
        ``"mean"`` over seeds, its 95 % ``"interval"`` under resampling of songs, and the difference ``"by_seed"``.
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
    results: Sequence[TrialResult],
) -> dict[str, Any]:
    """Return everything about one method."""
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
        "segment_macro_f1": _segment_macro_f1(segments, results, classes),
        "detection": _detection(results, labels),
        **_detection_real(segments, protocol, results),
        "seconds": float(np.mean([result.seconds for result in results])),
        "folds": [_fold_values(r, i, protocol, segments.song_labels, labels) for i, r in enumerate(results)],
    }


def _calibration(reference: Int64, table: Float64) -> float:
    return float(np.mean([metrics.calibration_error(reference, p) for p in table]))


def _detection(results: Sequence[TrialResult], labels: Sequence[str]) -> dict[str, Any]:
    """Return the means over all trainings of what every training has.

    Precision and corrected accuracy are not defined for a training that flags no label. They are means over the
    other trainings, and `trainings_without_flags` says how many were left out.
    """
    values: dict[str, list[float]] = {}
    for result in results:
        for key, value in result.detection.items():
            values.setdefault(key, []).append(value)
    complete = {key for key, numbers in values.items() if len(numbers) == len(results)}
    if "recall" in complete:
        complete |= values.keys() & set(_OF_FLAGGED)
    means = {key: float(np.mean(numbers)) for key, numbers in values.items() if key in complete}
    without = sum(not result.detection["flagged"] for result in results)
    return {**_nested(means, labels), "trainings_without_flags": without}


def _nested(detection: Mapping[str, float], labels: Sequence[str]) -> dict[str, Any]:
    """Return the figures with the shares of flagged labels per label in a dictionary of their own."""
    by_class = {f"flagged_{k}": label for k, label in enumerate(labels)}
    nested: dict[str, Any] = {key: value for key, value in detection.items() if key not in by_class}
    nested["flagged_by_class"] = {label: detection[key] for key, label in by_class.items() if key in detection}
    return nested


def _fold_values(
    result: TrialResult, i: int, protocol: Protocol, reference: Int64, labels: Sequence[str]
) -> dict[str, Any]:
    tested, estimate = reference[result.test], result.song.argmax(axis=1)
    return {
        "seed": i // protocol.folds,
        "fold": i % protocol.folds,
        "songs": len(tested),
        "macro_f1": metrics.macro_f1(tested, estimate, len(labels)),
        "accuracy": float(np.mean(estimate == tested)),
        "recall": _known(labels, metrics.recalls(tested, estimate, len(labels))),
        "detection": _nested(result.detection, labels),
        "seconds": result.seconds,
    }


def _known(labels: Sequence[str], recalls: Float64) -> dict[str, float]:
    """Return the recall by label, without the labels that no test song has."""
    return {label: r for label, r in zip(labels, recalls.tolist(), strict=True) if not np.isnan(r)}


def _detection_real(segments: CorpusSegments, protocol: Protocol, results: Sequence[TrialResult]) -> dict[str, Any]:
    """Return figures of detection against the true labels of the corpus; none if it has none or noise was injected."""
    if segments.true is None or protocol.noise.kind != "none":
        return {}
    rows, clean = _mean_clean(results, len(segments.song))
    return {"detection_real": [figures.to_json() for figures in detection_figures(clean, segments, rows=rows)]}


def _detection_difference(
    segments: CorpusSegments, protocol: Protocol, ours: Sequence[TrialResult], theirs: Sequence[TrialResult]
) -> dict[str, Any]:
    if segments.true is None or protocol.noise.kind != "none":
        return {}
    rows, our_clean = _mean_clean(ours, len(segments.song))
    _, their_clean = _mean_clean(theirs, len(segments.song))
    differences = auroc_differences(our_clean, their_clean, segments, rows=rows)
    return {"detection_real": [one.to_json() for one in differences]}


def _mean_clean(results: Sequence[TrialResult], size: int) -> tuple[Int64, Float64]:
    """Return the segments that some training learnt from with a label, and the mean rank of their clean probability.

    Ranks within a training, from 0 to 1, are averaged instead of probabilities, because clean probabilities of
    different trainings are not on one scale and segments are not in the same trainings.
    """
    total, trainings = np.zeros(size), np.zeros(size)
    for result in results:
        total[result.clean_rows] += rankdata(result.clean) / len(result.clean)
        trainings[result.clean_rows] += 1
    rows = np.flatnonzero(trainings)
    return rows, total[rows] / trainings[rows]


def _segment_macro_f1(segments: CorpusSegments, results: Sequence[TrialResult], classes: int) -> float | None:
    """Return the macro-F1 of the test segments that have a true label in the corpus; None if none has one."""
    if segments.true is None or segments.known is None:
        return None
    rows = np.concatenate([result.test_rows for result in results])
    known = segments.known[rows]
    if not known.any():
        return None
    estimate = np.concatenate([result.segments for result in results]).argmax(axis=1)
    return metrics.macro_f1(segments.true[rows][known], estimate[known], classes)
