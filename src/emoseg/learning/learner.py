"""Cross-fitted learning of the segment model.

The training songs are cut into as many parts as there are members (by artist where known). Each member is learnt
without one part, which then serves three ends: early stopping on held-out noisy labels, out-of-fold probabilities for
the song model and its calibration, and a second opinion on the part's own labels. The segment model is the mean of all
members, so nothing is learnt twice and every method gets the same budget. Songs without a label lie in no part: every
member may learn from them, and nothing is measured on them.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from emoseg.config import LearningConfig
from emoseg.corpora.splits import song_folds
from emoseg.learning.trainer import State, Trainer
from emoseg.metrics import macro_f1
from emoseg.types import UNLABELLED, Float64, Int64


@dataclass(frozen=True)
class LearningSet:
    """Training segments with inherited labels.

    Parameters
    ----------
    features : array, shape (S, ...)
        Of one frontend.
    given : array of int, shape (S,)
        Given label of each segment; `UNLABELLED` for all segments of a song without one.
    song : array of int, shape (S,)
        Song of each segment, from 0 to N - 1, ascending.
    groups : sequence of str, length N
        Artist (or other group) of each song.
    classes : int
        Number of labels K.
    soft : array, shape (S, K), or None
        What plain learning takes for the labels where these are soft; None: the one-hot given ones.
    """

    features: NDArray[np.floating]
    given: Int64
    song: Int64
    groups: Sequence[str]
    classes: int
    soft: Float64 | None = None

    def song_labels(self) -> Int64:
        """Return each song's given label, shape (N,): that of most of its segments, or `UNLABELLED`."""
        counts = np.zeros((len(self.groups), self.classes))
        labelled = self.given != UNLABELLED
        np.add.at(counts, (self.song[labelled], self.given[labelled]), 1)
        return np.where(counts.any(axis=1), counts.argmax(axis=1), UNLABELLED)


def song_parts(song_labels: Int64, groups: Sequence[str], *, parts: int, seed: int) -> Int64:
    """Assign every labelled song to a part, as `song_folds` does; unlabelled songs get -1: they lie in no part."""
    labelled = np.flatnonzero(song_labels != UNLABELLED)
    part = np.full(len(song_labels), -1)
    part[labelled] = song_folds(song_labels[labelled], [groups[int(i)] for i in labelled], folds=parts, seed=seed)
    return part


@dataclass(frozen=True)
class SegmentFit:
    """The learnt segment model of one frontend, and what its training tells about the labels.

    Parameters
    ----------
    states : list of State
        Each member's state at the chosen pass.
    epoch : int
        The chosen pass.
    out_of_fold : array, shape (S, K)
        Probabilities of each segment from the member that never saw its song; NaN for unlabelled segments.
    song_out_of_fold : array, shape (S, K)
        Probabilities of each segment's song, by the same member.
    clean : array, shape (S,), in [0, 1]
        Clean probability of each segment's given label, from the members that learnt it; NaN where none did.
    early_clean : array, shape (S,), in [0, 1]
        The same after the first two thirds of the passes: before whole songs are learnt by heart.
    guesses : array, shape (S, K), or None
        What the members that learnt a segment take its true label to be; None where the method has no such opinion.
    noise_rate : float or None
        The method's own estimate of the share of wrong labels.
    history : list
        For each member, a record for each pass.
    scores : list of float
        Held-out score (song macro-F1 against given labels) after each pass, over all parts.
    """

    states: list[State]
    epoch: int
    out_of_fold: Float64
    song_out_of_fold: Float64
    clean: Float64
    early_clean: Float64
    guesses: Float64 | None
    noise_rate: float | None
    history: list[list[dict[str, Any]]]
    scores: list[float]


def cross_fit(
    data: LearningSet,
    *,
    trainer: type[Trainer],
    config: LearningConfig,
    seed: int,
    rows: Int64 | None = None,
    targets: Float64 | None = None,
    workers: int = 1,
    work: Path | None = None,
    on_epoch: Callable[[], None] | None = None,
) -> SegmentFit:
    """Learn all members and choose the pass to stop at.

    Parameters
    ----------
    data : LearningSet
    trainer : type of Trainer
        What a pass does.
    config : LearningConfig
    seed : int
    rows : array of int, optional
        Segments that may be learnt from; default all. Held-out predictions are made for all, and the parts do not
        depend on it: a second round can leave segments out.
    targets : array, shape (S, K), optional
        What is learnt instead of the set's labels, soft or given; held-out scores keep to the given labels.
    workers : int
        Processes; the result does not depend on it.
    work : Path, optional
        Folder that every finished pass is saved in; a run that finds passes there goes on after them.
    on_epoch : callable, optional
        Called in this process after each pass of each member; passes found in `work` count too.
    """
    config = config.for_features(data.features.ndim)
    part = song_parts(data.song_labels(), data.groups, parts=config.members, seed=seed)[data.song]
    learnable = np.full(len(part), rows is None)
    learnable[[] if rows is None else rows] = True
    jobs = [
        _MemberJob(
            trainer=trainer,
            config=config,
            seed=seed * 1000 + m,
            classes=data.classes,
            part=part,
            learnable=learnable,
            targets=data.soft if targets is None else targets,
            member=m,
            work=work / f"member{m}" if work else None,
        )
        for m in range(config.members)
    ]
    if workers > 1:
        runs = _run_in_processes(data, jobs, workers, on_epoch)
    else:
        runs = [_run_member(data.features, data.given, data.song, job, on_epoch) for job in jobs]
    return _choose(data, part, runs)


@dataclass(frozen=True)
class _MemberJob:
    trainer: type[Trainer]
    config: LearningConfig
    seed: int
    classes: int
    part: Int64
    learnable: NDArray[np.bool_]
    targets: Float64 | None
    member: int
    work: Path | None


_Run = tuple[list[State], list[dict[str, Any]]]


def _run_member(
    features: NDArray[np.floating],
    given: Int64,
    song: Int64,
    job: _MemberJob,
    on_epoch: Callable[[], None] | None = None,
) -> _Run:
    """Learn one member; return its state after each pass, with held-out probabilities in ``"held_out"``."""
    torch.set_num_threads(1)  # results must not depend on the number of cores
    rows = np.flatnonzero((job.part != job.member) & job.learnable)
    trainer = job.trainer(
        features, given, song, rows, classes=job.classes, config=job.config, seed=job.seed, targets=job.targets
    )
    states, records = _saved_passes(job.work)
    if states:
        trainer.load_state(states[-1])
        for _ in states:
            if on_epoch:
                on_epoch()
    for epoch in range(len(states), job.config.epochs):
        record = {"epoch": epoch, **trainer.run_epoch(epoch)}
        state = trainer.state() | _findings(trainer, np.flatnonzero(job.part == job.member))
        states.append(state)
        records.append(record)
        if job.work:
            _save_pass(job.work, epoch, state, record)
        if on_epoch:
            on_epoch()
    return [_without_optimiser(s) for s in states], records


def _findings(trainer: Trainer, held_out: Int64) -> State:
    """Return what a member says after a pass of the part it never saw, and of the segments that it learns from."""
    segments = trainer.probabilities(held_out)
    clean = np.full(len(trainer.given), np.nan)
    clean[trainer.rows[trainer.labelled]] = trainer.clean()[trainer.labelled]
    found: State = {
        "held_out": segments,
        "held_out_song": trainer.song_probabilities(held_out, segments),
        "clean": clean,
    }
    if (opinion := trainer.guesses()) is not None:
        found["guesses"] = np.full((len(clean), trainer.classes), np.nan)
        found["guesses"][trainer.rows] = opinion
    if (rate := trainer.noise_rate()) is not None:
        found["noise_rate"] = np.array(rate)
    return found


def _without_optimiser(state: State) -> State:
    return {k: v for k, v in state.items() if not k.startswith("optimiser")}


def _save_pass(work: Path, epoch: int, state: State, record: dict[str, Any]) -> None:
    work.mkdir(parents=True, exist_ok=True)
    part = work / f"{epoch:04d}.part"
    arrays = {k: np.asarray(v, order="C") for k, v in state.items()}  # ascontiguousarray would make scalars vectors
    save_file(arrays, part, metadata={"record": json.dumps(record)})
    part.replace(work / f"{epoch:04d}.safetensors")
    previous = work / f"{epoch - 1:04d}.safetensors"
    if previous.exists():
        # Only the last pass needs the optimiser's moments; the others are two thirds smaller without.
        _drop_moments(previous)


def _drop_moments(file: Path) -> None:
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as saved:
        metadata = saved.metadata()
    part = file.with_suffix(".part")
    save_file(_without_optimiser(load_file(file)), part, metadata=metadata)
    part.replace(file)


def _saved_passes(work: Path | None) -> _Run:
    from safetensors import SafetensorError, safe_open

    states: list[State] = []
    records: list[dict[str, Any]] = []
    while work and (file := work / f"{len(states):04d}.safetensors").exists():
        try:
            with safe_open(file, framework="numpy") as saved:
                record = json.loads(saved.metadata()["record"])
            states.append(load_file(file))
        except (SafetensorError, OSError):
            break  # damaged from outside: go on from the pass before
        records.append(record)
    # The moments are in the last file only; without them (killed between two writes) that pass is learnt again.
    while states and not any(k.startswith("optimiser") for k in states[-1]):
        states.pop()
        records.pop()
    return states, records


_shared: dict[str, Any] = {}


def _share(features: Path, given: Int64, song: Int64, passes: Any) -> None:
    """Give a worker process the data; features are mapped from disk, one copy for all processes."""
    _shared["data"] = np.load(features, mmap_mode="r"), given, song
    _shared["passes"] = passes


def _count_pass() -> None:
    with _shared["passes"].get_lock():
        _shared["passes"].value += 1


def _run_shared(job: _MemberJob) -> _Run:
    features, given, song = _shared["data"]
    return _run_member(features, given, song, job, _count_pass)


@contextmanager
def kept_heap() -> Iterator[None]:
    """Start processes that keep the memory that a training step frees, for the next one.

    The C library of Linux otherwise gives it back and fetches it again a hundred times a second, which takes a fifth of
    the time of a convolutional network. It reads these settings when a process starts, and others ignore them.
    """
    before = dict(os.environ)
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(1 << 30))
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(1 << 25))
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]


def _run_in_processes(
    data: LearningSet, jobs: list[_MemberJob], workers: int, on_epoch: Callable[[], None] | None
) -> list[_Run]:
    context = multiprocessing.get_context("spawn")
    passes, told = context.Value("i", 0), 0
    with tempfile.TemporaryDirectory() as folder:
        features = Path(folder) / "features.npy"
        np.save(features, data.features)
        shared = (features, data.given, data.song, passes)
        with kept_heap(), ProcessPoolExecutor(min(workers, len(jobs)), context, _share, shared) as pool:
            futures = [pool.submit(_run_shared, job) for job in jobs]
            try:
                pending: set[Any] = set(futures)
                while pending:
                    _, pending = wait(pending, timeout=0.5, return_when=FIRST_EXCEPTION)
                    while on_epoch and told < passes.value:
                        told += 1
                        on_epoch()
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _choose(data: LearningSet, part: Int64, runs: list[_Run]) -> SegmentFit:
    """Stop all members at the pass with the best held-out score, smoothed over three passes."""
    states = [states for states, _ in runs]
    labels = data.song_labels()
    labelled = np.flatnonzero(labels != UNLABELLED)
    first = np.searchsorted(data.song, labelled)
    scores = [
        macro_f1(labels[labelled], _held_out(states, part, epoch, "held_out_song")[first].argmax(axis=1), data.classes)
        for epoch in range(len(states[0]))
    ]
    padded = np.pad(scores, 1, mode="edge")
    best = int(np.argmax((padded[:-2] + padded[1:-1] + padded[2:]) / 3))
    # From all passes, whichever the weights are of: the best may lie in the warm-up, which questions no label.
    last = [s[-1] for s in states]
    rates = [float(s["noise_rate"]) for s in last if "noise_rate" in s]
    return SegmentFit(
        states=[s[best] for s in states],
        epoch=best,
        out_of_fold=_held_out(states, part, best, "held_out"),
        song_out_of_fold=_held_out(states, part, best, "held_out_song"),
        clean=_mean_where_known([s["clean"] for s in last]),
        early_clean=_mean_where_known([s[math.ceil(len(s) * 2 / 3) - 1]["clean"] for s in states]),
        guesses=_mean_where_known([s["guesses"] for s in last]) if all("guesses" in s for s in last) else None,
        noise_rate=float(np.mean(rates)) if rates else None,
        history=[records for _, records in runs],
        scores=scores,
    )


def _held_out(states: list[list[State]], part: Int64, epoch: int, kind: str) -> Float64:
    """Put together what each member says of the part it never saw, shape (S, K)."""
    table = np.full((len(part), states[0][epoch][kind].shape[1]), np.nan)
    for m, passes in enumerate(states):
        table[part == m] = passes[epoch][kind]
    return table


def _mean_where_known(tables: list[Float64]) -> Float64:
    """Return the mean over the members that know a segment, NaN where none does."""
    known = np.sum([~np.isnan(t) for t in tables], axis=0)
    total = np.sum([np.nan_to_num(t) for t in tables], axis=0)
    return np.where(known > 0, total / np.maximum(known, 1), np.nan)
