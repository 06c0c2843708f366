"""The judgement of every label of a corpus: cross-fits on the given labels and on planted ones, and what they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from emoseg.auditing.probability import PlantedRun, plant_labels, planted_runs, wrong_probability
from emoseg.auditing.rate import RateEstimate, estimate_rate
from emoseg.auditing.suspicion import (
    MOST_SONGS,
    best_other_label,
    held_out_scores,
    means_of_songs,
    most_suspect,
    segment_suspicion,
    song_kernel,
    song_suspicion,
)
from emoseg.config import LearningConfig
from emoseg.learning.training_set import TrainingSet
from emoseg.metrics import Bool
from emoseg.song.statistics import song_summaries
from emoseg.types import Float32, Float64, Int64

NEIGHBOURS = 5
"""Number of similar songs that the evidence on a song names."""

_DRAWS = 20  # attempts to plant labels that leave every label in two groups


@dataclass(frozen=True)
class LabelledSongs:
    """Songs to be judged.

    Parameters
    ----------
    features : array, shape (S, F) or (S, F, T)
        Of all segments, by one frontend.
    song : array of int, shape (S,)
        Song of each segment, from 0 to N - 1, ascending.
    labels : array of int, shape (N,)
        Given labels, from 0 to K - 1.
    classes : int
        Number of labels K.
    recordings : array of int, shape (N,)
        Equal for clips of one song and for duplicates. Their labels are no evidence on each other.
    artists : array of int, shape (N,)
        Artist of each song; a song of an unknown artist has a number of its own.
    """

    features: Float32
    song: Int64
    labels: Int64
    classes: int
    recordings: Int64
    artists: Int64

    def groups(self) -> Int64:
        """Return groups that networks are held out by, shape (N,): joined by a recording or by an artist."""
        return joined(self.recordings, self.artists)


@dataclass(frozen=True)
class Judgement:
    """What was found out about the labels of N songs and their S segments.

    Parameters
    ----------
    rate : RateEstimate
        Share of songs with a wrong label.
    suspicion, p_wrong : array, shape (N,)
        How suspect each song's label is, and the probability that it is wrong.
    suggested : array of int, shape (N,)
        The label that each song most probably has if the given one is wrong.
    agreeing : array of int, shape (N,)
        Number of networks that predict the given label, of those that did not learn from the song.
    networks : int
        Number of networks that did not learn from a song, the same for each song.
    neighbours : array of int, shape (N, 5)
        The songs most similar to each song, from other groups; -1 where there are fewer than five.
    segment_suspicion, segment_p_wrong : array, shape (S,)
    held_out : array, shape (S, K)
        Probabilities of each segment by networks that did not learn from its song.
    blocks : int
        Number of parts that the kernel machine divided the songs into.
    """

    rate: RateEstimate
    suspicion: Float64
    p_wrong: Float64
    suggested: Int64
    agreeing: Int64
    networks: int
    neighbours: Int64
    segment_suspicion: Float64
    segment_p_wrong: Float64
    held_out: Float64
    blocks: int


@dataclass(frozen=True)
class LearnedLabels:
    """What a cross-fit and the kernel machine say about labels of N songs and their S segments.

    Parameters
    ----------
    suspicion : array, shape (N,)
    segment_suspicion : array, shape (S,)
    scores : array, shape (N, K)
        Of the kernel machine, in the second round.
    held_out : array, shape (S, K)
        Probabilities by the networks that did not learn from the song.
    """

    suspicion: Float64
    segment_suspicion: Float64
    scores: Float64
    held_out: Float64


def judge_labels(
    songs: LabelledSongs,
    config: LearningConfig,
    *,
    seed: int,
    workers: int = 1,
    on_pass: Callable[[], Any] | None = None,
) -> Judgement:
    """Return the judgement of every given label.

    Parameters
    ----------
    songs : LabelledSongs
    config : LearningConfig
        Settings of the networks.
    seed : int
        Seed of the networks and of the planted labels.
    workers : int
        Number of processes; the result does not depend on it.
    on_pass : callable, optional
        Called after each pass of each network.

    Raises
    ------
    CorpusError
        There are too few songs or artists, or a label has songs of one artist only.
    """
    from threadpoolctl import threadpool_limits  # of the extra train, as PyTorch below

    with threadpool_limits(1):  # sums of other lengths have other last digits, and cores must not decide them
        learner = LabelLearner(songs, config, workers, on_pass)
        base = learner.learn(songs.labels, seed)
        learned, runs, segment_runs = [base], [], []
        for r in range(planted_runs(len(songs.labels))):
            planting = _plant(songs, learner.groups, seed, r)
            if planting is None:
                continue
            labels, planted = planting
            found = learner.learn(labels, seed + 1000 * (r + 1))
            learned.append(found)
            runs.append(PlantedRun(found.suspicion, planted))
            segment_runs.append(PlantedRun(found.segment_suspicion, planted[songs.song]))
        rate = estimate_rate(learner.scores(songs.labels, learner.groups, None), songs.labels)
        means = [means_of_songs(found.held_out, songs.song) for found in learned]
        return Judgement(
            rate,
            base.suspicion,
            wrong_probability(base.suspicion, runs, rate.rate, songs.classes),
            best_other_label(means[0], base.scores, songs.labels),
            np.sum([table.argmax(axis=1) == songs.labels for table in means], axis=0),
            len(learned),
            learner.neighbours(songs.labels),
            base.segment_suspicion,
            wrong_probability(base.segment_suspicion, segment_runs, rate.rate, songs.classes),
            base.held_out,
            len(learner.blocks),
        )


class LabelLearner:
    """Learns from songs with their given labels, or with any other labels.

    Parameters
    ----------
    songs : LabelledSongs
    config : LearningConfig
    workers : int
    on_pass : callable, optional
        Called after each pass of each network.
    """

    def __init__(
        self,
        songs: LabelledSongs,
        config: LearningConfig,
        workers: int = 1,
        on_pass: Callable[[], Any] | None = None,
    ) -> None:
        self.songs, self.config, self.workers, self.on_pass = songs, config, workers, on_pass
        self.summaries = song_summaries(songs.features, songs.song)
        self.groups = songs.groups()
        self.blocks = song_blocks(self.groups, MOST_SONGS)
        shared = len(np.unique(songs.artists)) < len(songs.artists)
        self.artists = songs.artists if shared else None

    def learn(self, labels: Int64, seed: int) -> LearnedLabels:
        """Cross-fit networks on labels of the songs, and combine what they say with the kernel machine's scores."""
        from emoseg.learning.cross_fit import cross_fit
        from emoseg.learning.methods.inherit import MixupTrainer

        song = self.songs.song
        names = [str(group) for group in self.groups]
        data = TrainingSet({"features": self.songs.features}, labels[song], song, names, self.songs.classes)
        fit = cross_fit(
            data,
            "features",
            trainer=MixupTrainer,
            config=self.config,
            seed=seed,
            workers=self.workers,
            on_epoch=self.on_pass,
        )
        learnt, held_out = means_of_songs(fit.early_clean, song), means_of_songs(fit.out_of_fold, song)
        scores = self.scores(labels, self.songs.recordings, self.artists)
        doubted = most_suspect(song_suspicion(learnt, held_out, scores, labels))
        scores = self.scores(labels, self.songs.recordings, self.artists, doubted)
        return LearnedLabels(
            song_suspicion(learnt, held_out, scores, labels),
            segment_suspicion(fit.early_clean, fit.out_of_fold, labels[song], song),
            scores,
            fit.out_of_fold,
        )

    def scores(self, labels: Int64, groups: Int64, artists: Int64 | None, doubted: Bool | None = None) -> Float64:
        """Return `held_out_scores` of all songs, block by block."""
        table = np.empty((len(labels), self.songs.classes))
        for rows in self.blocks:
            table[rows] = held_out_scores(
                self.summaries[rows],
                labels[rows],
                groups[rows],
                self.songs.classes,
                doubted=None if doubted is None else doubted[rows],
                artists=None if artists is None else artists[rows],
            )
        return table

    def neighbours(self, labels: Int64) -> Int64:
        """Return the most similar songs of other groups in the same block, shape (N, 5); -1 where there are none."""
        found = np.full((len(labels), NEIGHBOURS), -1)
        for rows in self.blocks:
            kernel = song_kernel(self.summaries[rows], labels[rows], self.songs.classes)
            kernel[self.groups[rows][:, None] == self.groups[rows][None, :]] = -1.0
            order = np.argsort(-kernel, axis=1, kind="stable")[:, :NEIGHBOURS]
            others = np.where(np.take_along_axis(kernel, order, axis=1) >= 0, rows[order], -1)
            found[rows, : others.shape[1]] = others
        return found


def joined(first: Int64, second: Int64) -> Int64:
    """Return the group of each song, where songs that agree in either of two groupings are in one group.

    Parameters
    ----------
    first, second : array of int, shape (N,)

    Returns
    -------
    array of int, shape (N,)
        Numbers from 0 without gaps.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(first)
    _, a = np.unique(first, return_inverse=True)
    _, b = np.unique(second, return_inverse=True)
    size = n + int(a.max()) + 1 + int(b.max()) + 1
    each = np.arange(n)
    rows, columns = np.concatenate([each, each]), np.concatenate([n + a, n + int(a.max()) + 1 + b])
    graph = coo_array((np.ones(2 * n), (rows, columns)), shape=(size, size))
    component = connected_components(graph, directed=False)[1][:n]
    return np.asarray(np.unique(component, return_inverse=True)[1], dtype=np.int64)


def song_blocks(groups: Int64, most: int) -> list[Int64]:
    """Return the songs of each block: as few blocks as possible, of about equal size, with whole groups in each.

    Parameters
    ----------
    groups : array of int, shape (N,)
        Numbers from 0 without gaps.
    most : int
        Largest number of songs in a block, unless a group is larger.
    """
    number = -(-len(groups) // most)
    size = np.bincount(groups)
    block_of, filled = np.empty(len(size), dtype=np.int64), np.zeros(number, dtype=np.int64)
    shuffled = np.random.default_rng(0).permutation(len(size))
    for group in shuffled[np.argsort(-size[shuffled], kind="stable")]:
        block_of[group] = filled.argmin()
        filled[block_of[group]] += size[group]
    blocks = [np.flatnonzero(block_of[groups] == block) for block in range(number)]
    return [rows for rows in blocks if len(rows)]


def _plant(songs: LabelledSongs, groups: Int64, seed: int, run: int) -> tuple[Int64, Bool] | None:
    """Return planted labels under which a cross-fit is possible; None where no draw is found."""
    for draw in range(_DRAWS):
        rng = np.random.default_rng([seed, run, draw])
        labels, planted = plant_labels(songs.labels, songs.classes, rng)
        if all(len(np.unique(groups[labels == k])) > 1 for k in range(songs.classes)):
            return labels, planted
    return None
