"""Cross-fitted learning of the segment model.

The training songs are cut into as many parts as there are members (by artist where known). Each member is learnt
without one part, which then serves three ends: early stopping on held-out noisy labels, out-of-fold probabilities for
the song model and its calibration, and a second opinion on the part's own labels. The segment model is the mean of all
members, so nothing is learnt twice and every method gets the same budget. Songs without a label lie in no part: every
member may learn from them, and nothing is measured on them.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from emoseg.config import LearningConfig
from emoseg.corpora.splits import song_folds
from emoseg.errors import EmosegError, EmosegWarning
from emoseg.frontends.store import default_cache
from emoseg.learning.trainer import NotFiniteError, State, Trainer
from emoseg.metrics import macro_f1
from emoseg.system.files import remove_leftovers, require_regular, work_folder, write_whole
from emoseg.system.parallel import ONE_THREAD, Start, run_parallel
from emoseg.system.unfinished import remove
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
    on_epoch: Callable[[], object] | None = None,
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

    Raises
    ------
    EmosegError
        A loss or a probability is not finite, the networks do not fit into the memory, a process ended suddenly, or
        the disk is full.

    Warns
    -----
    EmosegWarning
        A saved pass is damaged; it is learnt again.
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
    for job in jobs:
        _remove_damaged(job.work)  # here, because what another process warns of reaches nobody
    if workers > 1:
        runs = _run_in_processes(data, jobs, workers, work, on_epoch)
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
    on_epoch: Callable[[], object] | None = None,
) -> _Run:
    """Learn one member; return its state after each pass, with held-out probabilities in ``"held_out"``."""
    torch.set_num_threads(1)  # results must not depend on the number of cores
    trainer = _trainer(features, given, song, job)
    states, records = _saved_passes(job.work)
    if states:
        trainer.load_state(states[-1])
        for _ in states:
            if on_epoch:
                on_epoch()
    for epoch in range(len(states), job.config.epochs):
        try:
            record = {"epoch": epoch, **trainer.run_epoch(epoch)}
            found = _findings(trainer, np.flatnonzero(job.part == job.member))
        except NotFiniteError as error:
            where = f"member {job.member + 1} of {job.config.members}, pass {epoch + 1} of {job.config.epochs}"
            raise EmosegError(f"{where}: {error}") from error
        state = trainer.state() | found
        states.append(state)
        records.append(record)
        if job.work:
            _save_pass(job.work, epoch, state, record)
        if on_epoch:
            on_epoch()
    return [_without_optimiser(s) for s in states], records


def _trainer(features: NDArray[np.floating], given: Int64, song: Int64, job: _MemberJob) -> Trainer:
    rows = np.flatnonzero((job.part != job.member) & job.learnable)
    try:
        return job.trainer(
            features, given, song, rows, classes=job.classes, config=job.config, seed=job.seed, targets=job.targets
        )
    except (RuntimeError, MemoryError) as error:  # torch's error where there is not enough memory
        cause = str(error).strip().partition("\n")[0]
        raise EmosegError(f"the networks cannot be made with these settings: {cause}") from error


def _findings(trainer: Trainer, held_out: Int64) -> State:
    """Return what a member says after a pass of the part it never saw, and of the segments that it learns from."""
    segments = trainer.probabilities(held_out)
    clean = np.full(len(trainer.given), np.nan)
    clean[trainer.rows[trainer.labelled]] = _finite(trainer.clean()[trainer.labelled], "clean probability")
    found: State = {
        "held_out": _finite(segments, "probability"),
        "held_out_song": _finite(trainer.song_probabilities(held_out, segments), "probability of a song"),
        "clean": clean,
    }
    if (opinion := trainer.guesses()) is not None:
        found["guesses"] = np.full((len(clean), trainer.classes), np.nan)
        found["guesses"][trainer.rows] = _finite(opinion, "guessed label")
    if (rate := trainer.noise_rate()) is not None:
        found["noise_rate"] = _finite(np.array(rate), "noise rate")
    return found


def _finite(values: Float64, what: str) -> Float64:
    if not np.isfinite(values).all():
        raise NotFiniteError(f"a {what} is not finite")
    return values


def _without_optimiser(state: State) -> State:
    return {k: v for k, v in state.items() if not k.startswith("optimiser")}


def _save_pass(work: Path, epoch: int, state: State, record: dict[str, Any]) -> None:
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmosegError(f"{work}: cannot be made: {error.strerror or error}") from error
    _write_pass(_pass_file(work, epoch), state, record)
    if epoch and (previous := _pass_file(work, epoch - 1)).exists():
        # Only the last pass needs the optimiser's moments; the others are two thirds smaller without.
        _drop_moments(previous)


def _pass_file(work: Path, epoch: int) -> Path:
    return work / f"{epoch:04d}.safetensors"


def _drop_moments(file: Path) -> None:
    state, record = _read_pass(file)
    _write_pass(file, _without_optimiser(state), record)


def _write_pass(file: Path, state: State, record: dict[str, Any]) -> None:
    arrays = {k: np.asarray(v, order="C") for k, v in state.items()}  # ascontiguousarray would make scalars vectors
    noted = json.dumps({"record": record, "checksum": _checksum(arrays, record)})
    write_whole(file, save(arrays, metadata={"pass": noted}))


def _read_pass(file: Path) -> tuple[State, dict[str, Any]]:
    """Return a saved pass.

    Raises
    ------
    ValueError
        The file is not what `_write_pass` wrote.
    """
    try:
        require_regular(file)
        with safe_open(file, framework="numpy") as saved:
            noted = json.loads(saved.metadata()["pass"])
            state: State = {name: saved.get_tensor(name) for name in saved.keys()}  # noqa: SIM118  (it is no mapping)
        record: dict[str, Any] = noted["record"]
        checksum = noted["checksum"]
    except Exception as error:  # safetensors, JSON and numpy raise what they meet in a damaged file
        raise ValueError(f"{file}: is damaged: {error}") from error
    if checksum != _checksum(state, record):
        raise ValueError(f"{file}: is damaged: its checksum is another")
    return state, record


def _checksum(state: State, record: dict[str, Any]) -> str:
    """Return 32 hexadecimal digits that name the content of a pass: safetensors has no checksum of its own."""
    digest = hashlib.blake2b(json.dumps(record).encode(), digest_size=16)
    for name in sorted(state):
        array = np.asarray(state[name], order="C")
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _remove_damaged(work: Path | None) -> None:
    """Remove saved passes that are damaged, and what a killed process left; a run goes on before the first gap."""
    if work is None or not work.is_dir():
        return
    remove_leftovers(work)
    epoch = 0
    while (file := _pass_file(work, epoch)).exists():
        try:
            _read_pass(file)
        except ValueError:
            warnings.warn(f"{file}: is damaged; it is learnt again", EmosegWarning, stacklevel=2)
            remove(file)
        epoch += 1


def _saved_passes(work: Path | None) -> _Run:
    states: list[State] = []
    records: list[dict[str, Any]] = []
    while work and (file := _pass_file(work, len(states))).exists():
        try:
            state, record = _read_pass(file)
        except ValueError:
            break
        states.append(state)
        records.append(record)
    # The moments are in the last file only; without them (killed between two writes) that pass is learnt again.
    while states and not any(k.startswith("optimiser") for k in states[-1]):
        states.pop()
        records.pop()
    return states, records


# --- processes -------------------------------------------------------------------------------------------------------


def process_environment() -> dict[str, str]:
    """Return the environment of processes that learn: one thread, and memory that a step frees is kept for the next.

    The C library of Linux otherwise gives it back and fetches it again a hundred times a second, which takes a fifth of
    the time of a convolutional network. It reads these settings when a process starts, and others ignore them.
    """
    kept = {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(1 << 25)}
    return {name: os.environ.get(name, value) for name, value in kept.items()} | dict(ONE_THREAD)


@contextmanager
def arrays_on_disk(arrays: Mapping[str, NDArray[Any]], parent: Path) -> Iterator[tuple[Path, dict[str, Path]]]:
    """Yield a temporary folder in `parent`, and the files in it that processes can map: one copy for all of them.

    Raises
    ------
    EmosegError
        The disk is full, or `parent` cannot be written to.
    """
    with ExitStack() as stack:
        try:
            parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(parent)
            folder = stack.enter_context(work_folder(parent))
            files = {name: folder / f"{name}.npy" for name in arrays}
            for name, file in files.items():
                _save_array(file, arrays[name])
        except OSError as error:
            raise EmosegError(f"{parent}: cannot be written: {error.strerror or error}") from error
        yield folder, files


def _save_array(file: Path, array: NDArray[Any]) -> None:
    """Write a .npy file as `numpy.save` does, but with the system's words where the disk is full."""
    whole = np.ascontiguousarray(array)
    with file.open("wb") as opened:
        np.lib.format.write_array_header_1_0(opened, np.lib.format.header_data_from_array_1_0(whole))
        opened.write(whole.data)


def _learning(features: Path, given: Int64, song: Int64, passes: Path) -> Callable[[_MemberJob], _Run]:
    """Return in a process what learns a member, and appends a byte to the file `passes` after each pass."""
    table = np.load(features, mmap_mode="r")
    counted = os.open(passes, os.O_WRONLY | os.O_APPEND)
    return lambda job: _run_member(table, given, song, job, lambda: os.write(counted, b"."))


def _run_in_processes(
    data: LearningSet, jobs: list[_MemberJob], workers: int, work: Path | None, on_epoch: Callable[[], object] | None
) -> list[_Run]:
    with arrays_on_disk({"features": data.features}, work or default_cache()) as (folder, files):
        passes, told = folder / "passes", 0
        passes.touch()

        def tell() -> None:
            nonlocal told
            while on_epoch and told < passes.stat().st_size:
                told += 1
                on_epoch()

        start = Start(
            _learning,
            (files["features"], data.given, data.song, passes),
            environment=process_environment(),
            folder=folder,
        )
        runs: dict[int, _Run] = {}
        try:
            with closing(run_parallel(jobs, start, workers=workers, on_wait=tell)) as learnt:
                for member, run in learnt:
                    runs[member] = run
        finally:
            for job in jobs:  # where one failed, the others were ended in the middle of what they did
                if job.work is not None:
                    remove_leftovers(job.work)
        tell()
        return [runs[member] for member in range(len(jobs))]


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
