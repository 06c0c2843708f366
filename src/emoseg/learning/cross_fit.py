"""Cross-fitted learning of the segment model.

The training songs are divided into as many parts as there are members; songs of one artist are in the same part. Each
member learns without one part. That part serves for early stopping, for out-of-fold probabilities, on which the song
model and its calibration are fitted, and as evidence on the part's own labels. The segment model is the mean of all
members, so no song is wasted, and every method has the same budget. Songs without a label are in no part: every member
may learn from them, and nothing is measured on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emoseg.config import LearningConfig, MethodSettings
from emoseg.learning.members import MemberJob, MemberPasses, learn_member
from emoseg.learning.processes import learn_members_in_processes
from emoseg.learning.saved_passes import remove_damaged_passes
from emoseg.learning.trainer import NO_SETTINGS, State, Trainer
from emoseg.learning.training_set import TrainingSet, song_parts
from emoseg.metrics import macro_f1
from emoseg.types import UNLABELLED, Float64, Int64


@dataclass(frozen=True)
class SegmentFit:
    """The segment model of one frontend, and what its training says about the labels.

    Parameters
    ----------
    states : list of State
        State of each member at the chosen pass.
    epoch : int
        The chosen pass.
    out_of_fold : array, shape (S, K)
        Probabilities of each segment from the member that did not learn from its song; NaN for unlabelled segments.
    song_out_of_fold : array, shape (S, K)
        Probabilities of each segment's song, from the same member.
    clean : array, shape (S,), in [0, 1]
        Clean probability of each given label, from the members that learnt from the segment; NaN where none did.
    early_clean : array, shape (S,), in [0, 1]
        The same after the early passes only, before networks have memorised whole songs.
    guesses : array, shape (S, K), or None
        Probabilities of the true label from the members that learnt from the segment; None where the method has none.
    noise_rate : float or None
        The method's own estimate of the share of wrong labels.
    history : list
        One record per pass, for each member.
    scores : list of float
        Song macro-F1 on the held-out songs of all parts, against given labels, after each pass.
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
    data: TrainingSet,
    frontend: str,
    *,
    trainer: type[Trainer],
    config: LearningConfig,
    seed: int,
    settings: MethodSettings = NO_SETTINGS,
    rows: Int64 | None = None,
    targets: Float64 | None = None,
    early_share: float = 2 / 3,
    workers: int = 1,
    work: Path | None = None,
    on_epoch: Callable[[], object] | None = None,
) -> SegmentFit:
    """Learn all members on the features of one frontend, and choose the pass to stop at.

    Parameters
    ----------
    data : TrainingSet
    frontend : str
        Name of the frontend in `data.features`.
    trainer : type of Trainer
        What one pass does.
    config : LearningConfig
    seed : int
    settings : MethodSettings
        Settings of the method, for the trainer.
    rows : array of int, optional
        Segments that may be learnt from; default all. Predictions are made for all segments, and the parts do not
        depend on `rows`.
    targets : array, shape (S, K), optional
        Distributions over labels to learn instead of the given or soft labels. Held-out scores are measured against
        the given labels in any case.
    early_share : float
        Share of the passes that `SegmentFit.early_clean` is from, in (0, 1].
    workers : int
        Number of processes; the result does not depend on it.
    work : Path, optional
        Folder for finished passes; a run that finds some there continues after them.
    on_epoch : callable, optional
        Called in this process after each pass of each member; passes found in `work` count too.

    Raises
    ------
    EmosegError
        A loss or a probability is not finite, the networks do not fit into memory, a process ended suddenly, or the
        disk is full.

    Warns
    -----
    EmosegWarning
        A saved pass is damaged; it is learnt again.
    """
    features = data.features[frontend]
    config = config.for_features(features.ndim)
    part = song_parts(data.song_labels(), data.groups, parts=config.members, seed=seed)[data.song]
    learnable = np.full(len(part), rows is None)
    learnable[[] if rows is None else rows] = True
    jobs = [
        MemberJob(
            trainer=trainer,
            config=config,
            settings=settings,
            seed=seed * 1000 + m,
            given=data.given,
            song=data.song,
            classes=data.classes,
            part=part,
            learnable=learnable,
            targets=data.soft if targets is None else targets,
            member=m,
            folder=work / f"member{m}" if work else None,
        )
        for m in range(config.members)
    ]
    for job in jobs:
        remove_damaged_passes(job.folder)  # here, because a warning in another process is lost
    if workers > 1:
        members = learn_members_in_processes(features, jobs, workers, folder=work, on_pass=on_epoch)
    else:
        members = [learn_member(features, job, on_epoch) for job in jobs]
    return _choose_pass(data, part, members, early_share)


def _choose_pass(data: TrainingSet, part: Int64, members: list[MemberPasses], early_share: float) -> SegmentFit:
    """Stop all members at the pass with the best held-out score, smoothed over three passes."""
    states = [member.states for member in members]
    scores = _held_out_scores(data, part, states)
    padded = np.pad(scores, 1, mode="edge")
    best = int(np.argmax((padded[:-2] + padded[1:-1] + padded[2:]) / 3))
    # Evidence on labels is from the last pass, whichever the weights are from: the chosen pass may lie in the warm-up,
    # in which no label is questioned.
    last = [s[-1] for s in states]
    early = [s[math.ceil(len(s) * early_share) - 1] for s in states]
    rates = [float(s["noise_rate"]) for s in last if "noise_rate" in s]
    return SegmentFit(
        states=[s[best] for s in states],
        epoch=best,
        out_of_fold=_join_parts(states, part, best, "held_out"),
        song_out_of_fold=_join_parts(states, part, best, "held_out_song"),
        clean=_mean_where_known([s["clean"] for s in last]),
        early_clean=_mean_where_known([s["clean"] for s in early]),
        guesses=_mean_where_known([s["guesses"] for s in last]) if all("guesses" in s for s in last) else None,
        noise_rate=float(np.mean(rates)) if rates else None,
        history=[member.records for member in members],
        scores=scores,
    )


def _held_out_scores(data: TrainingSet, part: Int64, states: list[list[State]]) -> list[float]:
    """Return the macro-F1 of the labelled songs, each predicted by the member it is held out of, after each pass."""
    labels = data.song_labels()
    songs = np.flatnonzero(labels != UNLABELLED)
    first_segments = np.searchsorted(data.song, songs)
    scores = []
    for epoch in range(len(states[0])):
        predicted = _join_parts(states, part, epoch, "held_out_song")[first_segments].argmax(axis=1)
        scores.append(macro_f1(labels[songs], predicted, data.classes))
    return scores


def _join_parts(states: list[list[State]], part: Int64, epoch: int, kind: str) -> Float64:
    """Return one table (S, K) of what each member predicts for its own part; NaN for segments in no part."""
    table = np.full((len(part), states[0][epoch][kind].shape[1]), np.nan)
    for m, passes in enumerate(states):
        table[part == m] = passes[epoch][kind]
    return table


def _mean_where_known(tables: list[Float64]) -> Float64:
    """Return the mean over the members that have a value, NaN where none has."""
    known = np.sum([~np.isnan(t) for t in tables], axis=0)
    total = np.sum([np.nan_to_num(t) for t in tables], axis=0)
    return np.where(known > 0, total / np.maximum(known, 1), np.nan)
