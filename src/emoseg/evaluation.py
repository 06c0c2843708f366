"""`emoseg evaluate`: methods compared on the same folds of a corpus, with intervals.

The protocol: songs are cut into folds, no artist in two; noise, where asked for, goes into the training songs only; the
methods learn from the same labels, with the same budget and seeds; test songs are predicted once. What is measured on
test songs uses the corpus' own labels. Differences are paired, and intervals come from resampling songs.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np

import emoseg
from emoseg import metrics
from emoseg.config import MethodName, TrainConfig
from emoseg.corpora.base import Corpus
from emoseg.corpora.noise import NoiseSpec, inject_noise
from emoseg.corpora.segments import CorpusSegments, load_segments
from emoseg.corpora.splits import song_folds
from emoseg.errors import ConfigError, CorpusError
from emoseg.progress import progress
from emoseg.song import statistics_table
from emoseg.training import corpus_hash, require_train_extra
from emoseg.types import Float64, Int64

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = "emoseg.evaluation/1"


@dataclass(frozen=True)
class Protocol:
    """How methods are compared.

    Parameters
    ----------
    methods : tuple of str
        Names in `emoseg.learning.methods.METHODS`; the first is what the others are compared with.
    folds : int
    seeds : int
        Seeds 0, 1, ...; each has folds, noise and starting weights of its own.
    group : {"artist", "none"}
    noise : NoiseSpec
    """

    methods: tuple[str, ...]
    folds: int = 10
    seeds: int = 3
    group: str = "artist"
    noise: NoiseSpec = field(default_factory=NoiseSpec)


@dataclass(frozen=True)
class _Job:
    method: str
    seed: int
    fold: int
    protocol: Protocol
    config: TrainConfig


@dataclass(frozen=True)
class _Outcome:
    """What one method made of one fold; test songs in the order of `test`."""

    test: Int64
    song: Float64  # by the song model
    mean: Float64  # by the mean probability, calibrated
    uncalibrated: Float64
    segments: tuple[Int64, Float64]  # test segments and their probabilities
    detection: dict[str, float]
    seconds: float


def evaluate(
    corpus: Corpus,
    protocol: Protocol,
    *,
    config: TrainConfig,
    cache: Path | None = None,
    workers: int | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Run the protocol; return the result as in a result file.

    Parameters
    ----------
    corpus : Corpus
    protocol : Protocol
    config : TrainConfig
        Its method is not used.
    cache : Path, optional
        Folder of the feature store.
    workers : int, optional
        Processes; default the number of cores. The result does not depend on it, apart from times.
    quiet : bool
        No progress bars.

    Raises
    ------
    ConfigError
        A method is unknown or named twice.
    CorpusError
        The corpus has errors, or too few songs or artists for the protocol.
    """
    require_train_extra()
    _check_methods(protocol.methods)
    segments = load_segments(corpus, config, cache=cache, workers=workers, quiet=quiet)
    _check_splits(segments, protocol, corpus.space.labels, members=config.learning.members)
    # The slowest method first: the last jobs to finish are then short, and no core waits long.
    jobs = [
        _Job(method, seed, fold, protocol, config)
        for method in reversed(protocol.methods)
        for seed in range(protocol.seeds)
        for fold in range(protocol.folds)
    ]
    outcomes: dict[tuple[str, int, int], _Outcome] = {}
    with progress("evaluating", len(jobs), unit="trainings", quiet=quiet) as bar:
        try:
            for job, outcome in _run_all(jobs, segments, len(corpus.space.labels), workers or os.cpu_count() or 1):
                outcomes[job.method, job.seed, job.fold] = outcome
                bar.advance()
        except CorpusError as error:  # the songs' own labels can be split, as was checked
            raise CorpusError(f"noise {protocol.noise} leaves too little to learn from: {error}") from error
    return _result(corpus, segments, protocol, config, outcomes)


def _check_methods(methods: Sequence[str]) -> None:
    known = get_args(MethodName)
    for i, method in enumerate(methods):
        if method not in known:
            raise ConfigError(f"method {method!r} is unknown; choose from {', '.join(known)}")
        if method in methods[:i]:
            raise ConfigError(f"method {method!r} is named twice")


def _check_splits(segments: CorpusSegments, protocol: Protocol, labels: Sequence[str], *, members: int) -> None:
    """Say before any learning what cannot be split: into folds, and what is left for training into members' parts."""
    groups = segments.groups(protocol.group)
    for seed in range(protocol.seeds):
        fold = song_folds(segments.song_labels, groups, folds=protocol.folds, seed=seed, label_names=labels)
        for test in range(protocol.folds):
            train = np.flatnonzero(fold != test)
            rest, names = segments.song_labels[train], [groups[i] for i in train]
            try:
                song_folds(rest, names, folds=members, seed=seed, label_names=labels)
            except CorpusError as error:
                raise CorpusError(f"{protocol.folds} folds leave too little to learn from: {error}") from error


_shared: dict[str, Any] = {}


def _share(features: dict[str, Path], segments: CorpusSegments, classes: int) -> None:
    """Give a worker process the corpus; features are mapped from disk, one copy for all processes."""
    _shared["features"] = {name: np.load(path, mmap_mode="r") for name, path in features.items()}
    _shared["segments"], _shared["classes"] = segments, classes


def _run_all(jobs: list[_Job], segments: CorpusSegments, classes: int, workers: int) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.npy" for name in segments.table.features}
        for name, file in files.items():
            np.save(file, segments.table.features[name])
        bare = replace(segments, table=replace(segments.table, features={}))
        if workers == 1:
            _share(files, bare, classes)
            for job in jobs:
                yield job, _run(job)
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, len(jobs)), context, _share, (files, bare, classes)) as pool:
            pending = {pool.submit(_run, job): job for job in jobs}
            try:
                for future in as_completed(pending):
                    yield pending[future], future.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def _run(job: _Job) -> _Outcome:
    """Learn one method on one fold and predict its test songs, once."""
    from emoseg.learning.pipeline import learn

    segments, classes = cast(CorpusSegments, _shared["segments"]), _shared["classes"]
    groups = segments.groups(job.protocol.group)
    fold = song_folds(segments.song_labels, groups, folds=job.protocol.folds, seed=job.seed)
    train, test = np.flatnonzero(fold != job.fold), np.flatnonzero(fold == job.fold)
    rows, test_rows = np.flatnonzero(fold[segments.song] != job.fold), np.flatnonzero(fold[segments.song] == job.fold)
    # The noise depends on seed and fold alone: every method is given the same wrong labels.
    noisy = inject_noise(
        segments.inherited[rows],
        segments.song[rows],
        job.protocol.noise,
        classes=classes,
        rng=np.random.default_rng([job.seed, job.fold]),
    )
    started = time.perf_counter()
    learned = learn(
        {name: table[rows][noisy.source] for name, table in _shared["features"].items()},
        noisy.given,
        np.searchsorted(train, segments.song[rows]),
        [groups[i] for i in train],
        classes=classes,
        method=job.method,
        config=job.config.learning,
        seed=job.seed * 100 + job.fold,
    )
    seconds = time.perf_counter() - started
    probabilities = learned.segment_probabilities({n: table[test_rows] for n, table in _shared["features"].items()})
    statistics = statistics_table(probabilities, np.searchsorted(test, segments.song[test_rows]), len(test))
    wrong = noisy.wrong
    if job.protocol.noise.kind == "none" and segments.true is not None:
        wrong = segments.true[rows] != noisy.given
    return _Outcome(
        test,
        learned.song_model.predict_table(statistics),
        learned.mean_model.predict_table(statistics),
        np.exp(statistics[:, :classes]),
        (test_rows, probabilities),
        _detection(wrong, learned.clean, noisy.given, classes),
        seconds,
    )


def _detection(wrong: metrics.Bool, clean: Float64, given: Int64, classes: int) -> dict[str, float]:
    """Say how well the clean probability finds the wrong labels of the training segments."""
    flagged = clean < 0.5
    found = {"true_rate": float(wrong.mean()), "flagged": float(flagged.mean())}
    found |= {f"flagged_{k}": float(flagged[given == k].mean()) for k in range(classes) if (given == k).any()}
    if wrong.any():
        hits = float((flagged & wrong).sum())
        found |= {
            "auroc": metrics.auroc(wrong, -clean),
            "average_precision": metrics.average_precision(wrong, -clean),
            "precision": hits / max(1.0, float(flagged.sum())),
            "recall": hits / float(wrong.sum()),
            "wrong": float(wrong.sum()),
            "hits": hits,
            "flagged_count": float(flagged.sum()),
        }
    return found


def _result(
    corpus: Corpus,
    segments: CorpusSegments,
    protocol: Protocol,
    config: TrainConfig,
    outcomes: dict[tuple[str, int, int], _Outcome],
) -> dict[str, Any]:
    tables = {method: _by_seed(method, segments, protocol, outcomes) for method in protocol.methods}
    classes = len(corpus.space.labels)
    first = protocol.methods[0]
    return {
        "schema": SCHEMA,
        "emoseg_version": emoseg.__version__,
        "corpus": {
            "name": corpus.name,
            "hash": corpus_hash(segments),
            "songs": len(segments.songs),
            "segments": len(segments.song),
            "counts": corpus.counts(),
            "space": corpus.space.to_json(),
            "left_out": list(segments.left_out),
            "test_labels_hash": hashlib.blake2b(segments.song_labels.tobytes(), digest_size=8).hexdigest(),
        },
        "protocol": {
            "folds": protocol.folds,
            "seeds": list(range(protocol.seeds)),
            "group": protocol.group,
            "noise": str(protocol.noise),
        },
        "config": config.model_dump(mode="json", exclude={"method"}),
        "methods": {m: _summary(m, segments, protocol, classes, tables[m], outcomes) for m in protocol.methods},
        "differences": [
            {"method": m, "minus": first, "macro_f1": _difference(segments, classes, tables[m], tables[first])}
            for m in protocol.methods[1:]
        ],
    }


def _by_seed(
    method: str,
    segments: CorpusSegments,
    protocol: Protocol,
    outcomes: dict[tuple[str, int, int], _Outcome],
) -> dict[str, Float64]:
    """Put the folds together: for each seed every song has been a test song once. Arrays (seeds, N, K)."""
    some = next(iter(outcomes.values()))
    tables = {
        kind: np.zeros((protocol.seeds, len(segments.songs), some.song.shape[1]))
        for kind in ("song", "mean", "uncalibrated")
    }
    for (name, seed, _), outcome in outcomes.items():
        if name == method:
            for kind, table in tables.items():
                table[seed, outcome.test] = getattr(outcome, kind)
    return tables


def _mean_macro_f1(reference: Int64, table: Float64, classes: int, drawn: Int64 | None = None) -> float:
    rows = np.arange(len(reference)) if drawn is None else drawn
    return float(np.mean([metrics.macro_f1(reference[rows], p[rows].argmax(axis=1), classes) for p in table]))


def _difference(
    segments: CorpusSegments, classes: int, ours: dict[str, Float64], theirs: dict[str, Float64]
) -> dict[str, Any]:
    reference = segments.song_labels

    def difference(drawn: Int64 | None = None) -> float:
        return _mean_macro_f1(reference, ours["song"], classes, drawn) - _mean_macro_f1(
            reference, theirs["song"], classes, drawn
        )

    low, high = metrics.paired_bootstrap(difference, len(reference))
    by_seed = [
        _mean_macro_f1(reference, ours["song"][[s]], classes) - _mean_macro_f1(reference, theirs["song"][[s]], classes)
        for s in range(len(ours["song"]))
    ]
    return {"mean": difference(), "interval": [low, high], "by_seed": by_seed}


def _summary(
    method: str,
    segments: CorpusSegments,
    protocol: Protocol,
    classes: int,
    tables: dict[str, Float64],
    outcomes: dict[tuple[str, int, int], _Outcome],
) -> dict[str, Any]:
    reference = segments.song_labels
    mine = [outcomes[method, s, f] for s in range(protocol.seeds) for f in range(protocol.folds)]
    low, high = metrics.paired_bootstrap(
        lambda drawn: _mean_macro_f1(reference, tables["song"], classes, drawn), len(reference)
    )
    estimates = [p.argmax(axis=1) for p in tables["song"]]
    # A fold without a wrong label has no recall: what some fold lacks is left out.
    everywhere = [key for key in mine[0].detection if all(key in o.detection for o in mine)]
    detection = {key: float(np.mean([o.detection[key] for o in mine])) for key in everywhere}
    return {
        "macro_f1": {"mean": _mean_macro_f1(reference, tables["song"], classes), "interval": [low, high]},
        "macro_f1_mean_probability": _mean_macro_f1(reference, tables["mean"], classes),
        "macro_f1_by_seed": [metrics.macro_f1(reference, e, classes) for e in estimates],
        "macro_f1_by_fold": [
            {
                "seed": i // protocol.folds,
                "fold": i % protocol.folds,
                "macro_f1": metrics.macro_f1(reference[o.test], o.song.argmax(axis=1), classes),
            }
            for i, o in enumerate(mine)
        ],
        "accuracy": float(np.mean([(e == reference).mean() for e in estimates])),
        "balanced_accuracy": float(np.mean([metrics.balanced_accuracy(reference, e, classes) for e in estimates])),
        "recall": np.mean([metrics.recalls(reference, e, classes) for e in estimates], axis=0).tolist(),
        "calibration_error": float(np.mean([metrics.calibration_error(reference, p) for p in tables["song"]])),
        "calibration_error_before": float(
            np.mean([metrics.calibration_error(reference, p) for p in tables["uncalibrated"]])
        ),
        "segment_macro_f1": _segment_macro_f1(segments, mine, classes),
        "detection": detection,
        "seconds": float(np.mean([o.seconds for o in mine])),
    }


def _segment_macro_f1(segments: CorpusSegments, outcomes: Sequence[_Outcome], classes: int) -> float | None:
    """Return macro-F1 of test segments against the true emotion of their section, where a corpus knows it."""
    if segments.true is None:
        return None
    rows = np.concatenate([o.segments[0] for o in outcomes])
    estimate = np.concatenate([o.segments[1] for o in outcomes]).argmax(axis=1)
    return metrics.macro_f1(segments.true[rows], estimate, classes)


def print_result(result: dict[str, Any], console: Console) -> None:
    """Print a result file's content as tables."""
    from rich.table import Table

    corpus, protocol = result["corpus"], result["protocol"]
    seeds = len(protocol["seeds"])
    console.print(
        f"{corpus['name']}: {corpus['songs']} songs, {corpus['segments']} segments; {protocol['folds']} folds x "
        f"{seeds} seed{'s' * (seeds != 1)}, grouped by {protocol['group']}, noise {protocol['noise']}",
        highlight=False,
    )
    for line in corpus["left_out"]:
        console.print(f"left out: {line}", highlight=False, markup=False, soft_wrap=True)
    table = Table("method", "macro-F1", "95 %", "segments", "ECE", "AUROC", "flagged", "s", box=None)
    for name, m in result["methods"].items():
        found, truth = m["detection"], m["segment_macro_f1"]
        table.add_row(
            name,
            f"{m['macro_f1']['mean']:.3f}",
            "{:.3f}-{:.3f}".format(*m["macro_f1"]["interval"]),
            "" if truth is None else f"{truth:.3f}",
            f"{m['calibration_error']:.3f}",
            f"{found['auroc']:.3f}" if "auroc" in found else "",
            f"{found['flagged']:.1%}",
            f"{m['seconds']:.0f}",
        )
    console.print(table)
    for name, m in result["methods"].items():
        found = m["detection"]
        if "hits" in found:
            console.print(
                f"{name} found {found['hits']:.0f} of {found['wrong']:.0f} wrong segment labels (recall "
                f"{found['recall']:.0%}) among the {found['flagged_count']:.0f} it flagged (precision "
                f"{found['precision']:.0%}); mean of {protocol['folds'] * seeds} trainings",
                highlight=False,
            )
    for row in result["differences"]:
        mean, (low, high) = row["macro_f1"]["mean"], row["macro_f1"]["interval"]
        console.print(
            f"{row['method']} - {row['minus']}: {mean:+.3f} (95 % {low:+.3f} to {high:+.3f}, paired)",
            highlight=False,
        )


def write_result(result: dict[str, Any], out: Path) -> None:
    """Write a result file, whole or not at all."""
    part = out.with_name(f".{out.name}.part")
    part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    part.replace(out)
