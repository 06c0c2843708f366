"""Splits by song and by artist, with labels in proportion."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from emoseg.corpora.base import Corpus, Song
from emoseg.corpora.problems import Problem
from emoseg.errors import CorpusError
from emoseg.types import Int64


def song_folds(
    labels: Int64, groups: Sequence[str], *, folds: int, seed: int, label_names: Sequence[str] = ()
) -> Int64:
    """Return the part of every song; no group is in two parts, and labels are in proportion.

    Groups are assigned from the largest to the smallest, in random order among equals, each to the part whose label
    counts come closest to their share of the whole.

    Parameters
    ----------
    labels : array of int, shape (N,)
        Label index of each song.
    groups : sequence of str, length N
        Group of each song that is not to be split: its artist, or the song itself.
    folds : int
        Number of parts, at least 2.
    seed : int
        Of the random order.
    label_names : sequence of str, length K, optional
        Names of the labels, for errors. If they are given, every label must occur.

    Returns
    -------
    array of int, shape (N,), in [0, folds)
        Part of each song; no part is empty.

    Raises
    ------
    CorpusError
        There are fewer groups than parts, or a label occurs in fewer than two groups, so that no split has it on both
        sides.
    """
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < folds:
        raise CorpusError(f"{folds} folds need at least {folds} different artists or songs; found {len(names)}")
    classes = len(label_names) or int(labels.max()) + 1
    counts = np.zeros((len(names), classes))
    np.add.at(counts, (group, labels), 1)
    for k, n in enumerate(np.count_nonzero(counts, axis=0)):
        if n == 1 or (n == 0 and label_names):
            label = repr(label_names[k]) if label_names else f"number {k + 1}"
            where = "one artist or song only" if n else "no song"
            raise CorpusError(f"label {label} occurs in {where}; no split has it on both sides")

    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(names))
    order = shuffled[np.argsort(-counts[shuffled].sum(axis=1), kind="stable")]
    share = np.maximum(counts.sum(axis=0), 1) / folds
    filled = np.zeros((folds, classes))
    part_of = np.zeros(len(names), dtype=np.int64)
    for assigned, g in enumerate(order):
        # The squared distance to the ideal counts grows by this much if the group joins a part.
        cost = (((filled + counts[g] - share) ** 2 - (filled - share) ** 2) / share).sum(axis=1)
        empty = filled.sum(axis=1) == 0
        if np.count_nonzero(empty) == len(order) - assigned:
            cost[~empty] = np.inf  # all remaining groups are needed to fill the empty parts
        part_of[g] = int(np.argmin(cost + 1e-9 * rng.random(folds)))
        filled[part_of[g]] += counts[g]
    return part_of[group]


def shared_groups(songs: Sequence[tuple[str | None, str | None]], *, where: str) -> list[Problem]:
    """Return a warning for every official part, except the largest, that shares artists with another part.

    Parameters
    ----------
    songs : sequence of (split, artist)
        Official part and artist of each song; None if unknown.
    where : str
        Name of the corpus for the message.
    """
    artists: dict[str, list[str | None]] = defaultdict(list)
    for split, artist in songs:
        if split:
            artists[split].append(artist)
    if len(artists) < 2 or not any(any(found) for found in artists.values()):
        return []
    largest = max(artists, key=lambda split: len(artists[split]))
    problems = []
    for split, found in artists.items():
        others = {a for other, names in artists.items() if other != split for a in names if a}
        shared = sum(a in others for a in found if a)
        if split != largest and shared:
            what = f"{shared} of {len(found)} songs of the official part {split!r} share an artist with another part"
            problems.append(Problem("warning", f"{where}: {what}; figures on it are optimistic"))
    return problems


def official_split(songs: Sequence[Song], *, test: str) -> tuple[Int64, Int64]:
    """Return the training songs and the test songs of an official split. Songs in no official part are in neither.

    Parameters
    ----------
    songs : sequence of Song
    test : str
        Official part to test on, or several joined by ``"+"``; the other parts are learnt from.

    Returns
    -------
    train, test : array of int
        Indices into `songs`, ascending.

    Raises
    ------
    CorpusError
        One of these parts has no song, or no other part has one.
    """
    names = test.split("+")
    parts = sorted({song.split for song in songs if song.split})
    found = f"the official parts with audio are {', '.join(parts) or 'none'}"
    if unknown := [name for name in names if name not in parts]:
        raise CorpusError(f"test split {test!r}: no song is in {unknown[0]!r}; {found}")
    if not set(parts) - set(names):
        raise CorpusError(f"test split {test!r}: leaves no part to learn from; {found}")
    inside = np.array([song.split in names for song in songs])
    known = np.array([bool(song.split) for song in songs])
    return np.flatnonzero(known & ~inside), np.flatnonzero(inside)


def select_split(corpus: Corpus, wanted: str) -> Corpus:
    """Return the corpus with only the songs of one official part, or of several joined by ``"+"``.

    Raises
    ------
    CorpusError
        The corpus has no such part.
    """
    everything = (*corpus.songs, *corpus.without_audio)
    parts = sorted({song.split for song in everything if song.split})
    names = wanted.split("+")
    for name in names:
        if name not in parts:
            known = f"its parts are {', '.join(parts)}" if parts else "it has no official parts"
            raise CorpusError(f"{corpus.root}: no part {name!r}; {known}")
    outside = tuple(sorted(song.id for song in everything if song.split not in names))
    message = f"{corpus.root}: {len(outside)} of {len(everything)} songs are not in {wanted} and are left out"
    gone = set(outside)
    excluded = {reason: tuple(i for i in ids if i not in gone) for reason, ids in corpus.excluded.items()}
    return replace(
        corpus,
        songs=tuple(song for song in corpus.songs if song.split in names),
        without_audio=tuple(song for song in corpus.without_audio if song.split in names),
        excluded={**{reason: ids for reason, ids in excluded.items() if ids}, f"not in {wanted}": outside},
        problems=(*corpus.problems, Problem("warning", message)),
        published_counts={},
        published_songs=None,
    )


def labelled_share(
    labels: Int64, groups: Sequence[str], *, fraction: float, rng: np.random.Generator, label_names: Sequence[str] = ()
) -> NDArray[np.bool_]:
    """Return which songs keep their label when only a share of a corpus is to be labelled.

    Whole groups keep their labels. They are taken in random order, each if it brings the label counts closer to the
    share. Every label stays in at least two groups, so that the labelled songs can be split again.

    Parameters
    ----------
    labels : array of int, shape (N,)
        Label index of each song.
    groups : sequence of str, length N
        Group of each song that is not to be split: its artist, or the song itself.
    fraction : float
        Share of the songs, in (0, 1].
    rng : numpy.random.Generator
        Source of the random order.
    label_names : sequence of str, optional
        Names of the labels, for errors.

    Returns
    -------
    array of bool, shape (N,)

    Raises
    ------
    CorpusError
        A label occurs in fewer than two groups.
    """
    if fraction == 1:
        return np.ones(len(labels), dtype=bool)
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    counts = np.zeros((len(names), int(labels.max()) + 1))
    np.add.at(counts, (group, labels), 1)
    wanted = fraction * counts.sum(axis=0)
    kept = np.zeros(counts.shape[1])
    chosen = np.zeros(len(names), dtype=bool)
    order = rng.permutation(len(names))
    for g in order:
        # The squared distance to the counts wanted, each label relative to its own, falls if the group joins.
        if (((kept + counts[g] - wanted) ** 2 - (kept - wanted) ** 2) / np.maximum(wanted, 1e-9)).sum() < 0:
            chosen[g] = True
            kept += counts[g]
    for k in np.flatnonzero(counts.sum(axis=0)):
        lacking = 2 - np.count_nonzero(counts[chosen, k])
        spare = [g for g in order if counts[g, k] and not chosen[g]]
        if lacking > len(spare):
            label = repr(label_names[int(k)]) if label_names else f"number {k + 1}"
            raise CorpusError(f"label {label} has songs of one artist only: it cannot be labelled in part")
        chosen[spare[: max(0, int(lacking))]] = True
    return np.asarray(chosen[group])
