"""Learning one member of a cross-fit, pass by pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from emoseg.config import LearningConfig, MethodSettings
from emoseg.errors import EmosegError
from emoseg.learning.saved_passes import load_passes, save_pass, without_optimiser
from emoseg.learning.trainer import NotFiniteError, State, Trainer
from emoseg.types import Float64, Int64


@dataclass(frozen=True)
class MemberJob:
    """All that one member needs besides the features.

    Parameters
    ----------
    trainer : type of Trainer
    config : LearningConfig
    settings : MethodSettings
        Settings of the method.
    seed : int
        Seed of this member.
    given : array of int, shape (S,)
        Given label of each segment.
    song : array of int, shape (S,)
        Song of each segment.
    classes : int
        Number of labels K.
    part : array of int, shape (S,)
        Part in which each segment is held out; -1 for unlabelled segments.
    learnable : array of bool, shape (S,)
        Segments that may be learnt from.
    targets : array, shape (S, K), or None
        Targets of plain training; None: the given labels.
    member : int
        Number of the member, and of the part that it does not learn from.
    folder : Path or None
        Folder of the member's finished passes.
    """

    trainer: type[Trainer]
    config: LearningConfig
    settings: MethodSettings
    seed: int
    given: Int64
    song: Int64
    classes: int
    part: Int64
    learnable: NDArray[np.bool_]
    targets: Float64 | None
    member: int
    folder: Path | None


@dataclass(frozen=True)
class MemberPasses:
    """What one member learnt.

    Parameters
    ----------
    states : list of State
        State after each pass, without the optimiser's moments and with the member's predictions: ``held_out`` and
        ``held_out_song`` (n, K) for the segments of its own part, ``clean`` (S,) for those that it learns from, and
        where the method has them ``guesses`` (S, K) and ``noise_rate``.
    records : list of dict
        What each pass reported.
    """

    states: list[State]
    records: list[dict[str, Any]]


def learn_member(
    features: NDArray[np.floating], job: MemberJob, on_pass: Callable[[], object] | None = None
) -> MemberPasses:
    """Learn one member from its first pass, or from the last one that is saved.

    Parameters
    ----------
    features : array, shape (S, ...)
    job : MemberJob
    on_pass : callable, optional
        Called after each pass, and once for each pass that is loaded.

    Raises
    ------
    EmosegError
        A loss or a probability is not finite, the networks do not fit into memory, or a pass cannot be saved.
    """
    torch.set_num_threads(1)  # results must not depend on the number of cores
    trainer = _build_trainer(features, job)
    states, records = load_passes(job.folder)
    if states:
        trainer.load_state(states[-1])
        for _ in states:
            if on_pass:
                on_pass()
    held_out = np.flatnonzero(job.part == job.member)
    for epoch in range(len(states), job.config.epochs):
        try:
            record = {"epoch": epoch, **trainer.run_epoch(epoch)}
            predictions = _predictions(trainer, held_out)
        except NotFiniteError as error:
            where = f"member {job.member + 1} of {job.config.members}, pass {epoch + 1} of {job.config.epochs}"
            raise EmosegError(f"{where}: {error}") from error
        state = trainer.state() | predictions
        states.append(state)
        records.append(record)
        if job.folder:
            save_pass(job.folder, epoch, state, record)
        if on_pass:
            on_pass()
    return MemberPasses([without_optimiser(s) for s in states], records)


def _build_trainer(features: NDArray[np.floating], job: MemberJob) -> Trainer:
    rows = np.flatnonzero((job.part != job.member) & job.learnable)
    try:
        return job.trainer(
            features,
            job.given,
            job.song,
            rows,
            classes=job.classes,
            config=job.config,
            settings=job.settings,
            seed=job.seed,
            targets=job.targets,
        )
    except (RuntimeError, MemoryError) as error:  # torch raises RuntimeError where memory is short
        cause = str(error).strip().partition("\n")[0]
        raise EmosegError(f"the networks cannot be made with these settings: {cause}") from error


def _predictions(trainer: Trainer, held_out: Int64) -> State:
    """Return what a member predicts after a pass: for its held-out part, and for the segments that it learns from."""
    segments = trainer.probabilities(held_out)
    clean = np.full(len(trainer.given), np.nan)
    clean[trainer.rows[trainer.labelled]] = _require_finite(trainer.clean()[trainer.labelled], "clean probability")
    predictions: State = {
        "held_out": _require_finite(segments, "probability"),
        "held_out_song": _require_finite(trainer.song_probabilities(held_out, segments), "probability of a song"),
        "clean": clean,
    }
    if (guesses := trainer.guesses()) is not None:
        predictions["guesses"] = np.full((len(clean), trainer.classes), np.nan)
        predictions["guesses"][trainer.rows] = _require_finite(guesses, "guessed label")
    if (rate := trainer.noise_rate()) is not None:
        predictions["noise_rate"] = _require_finite(np.array(rate), "noise rate")
    return predictions


def _require_finite(values: Float64, what: str) -> Float64:
    if not np.isfinite(values).all():
        raise NotFiniteError(f"a {what} is not finite")
    return values
