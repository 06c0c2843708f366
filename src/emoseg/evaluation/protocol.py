"""How methods are compared: what each fold gives a method to learn from, and what is tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emoseg.corpora.segments import CorpusSegments
from emoseg.corpora.splits import labelled_share, official_split, song_folds
from emoseg.errors import ConfigError, CorpusError
from emoseg.evaluation.injected_noise import InjectedNoise, inject_noise
from emoseg.learning.methods import METHODS, require_method
from emoseg.types import UNLABELLED, Float64, Int64

DEFAULT_METHODS: tuple[str, ...] = ("mixup", "emoseg")
"""What `emoseg evaluate` compares unless methods are named: the baseline, then the default method."""
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Protocol:
    """How methods are compared.

    Parameters
    ----------
    methods : tuple of str
        Names in `emoseg.learning.methods.METHODS`; the others are compared with the first. Default: `DEFAULT_METHODS`.
    folds : int
        Number of folds: 1 with `test_split`, otherwise 2 or more.
    seeds : int
        Number of seeds, from 1 to 1000. Seed 0, 1, ... each has its own folds, noise, labelled songs and starting
        weights.
    group : {"artist", "none"}
        What is never in two folds: an artist, or only a song.
    noise : InjectedNoise
        Labels made wrong on purpose, among the labelled training songs.
    fraction : float
        Share of the training songs that keep their label, in (0, 1]; the others stay as unlabelled audio.
    test_split : str or None
        An official part of the corpus, or several joined by ``"+"``, to test on instead of folds; the other official
        parts are learnt from.

    Raises
    ------
    ConfigError
        A method is unknown or named twice, a number is out of range, or both folds and a test split are given.
    """

    methods: tuple[str, ...] = DEFAULT_METHODS
    folds: int = 10
    seeds: int = 3
    group: str = "artist"
    noise: InjectedNoise = field(default_factory=InjectedNoise)
    fraction: float = 1.0
    test_split: str | None = None

    def __post_init__(self) -> None:
        if not self.methods:
            raise ConfigError(f"no method given; choose from {', '.join(METHODS)}")
        for i, method in enumerate(self.methods):
            require_method(method)
            if method in self.methods[:i]:
                raise ConfigError(f"method {method!r} is named twice")
        if not 0 < self.fraction <= 1:
            raise ConfigError(f"fraction {self.fraction:g}: must be above 0 and at most 1")
        if not 1 <= self.seeds <= MOST_SEEDS:
            raise ConfigError(f"seeds {self.seeds}: must be from 1 to {MOST_SEEDS}")
        if self.group not in ("artist", "none"):
            raise ConfigError(f"group {self.group!r}: must be artist or none")
        if self.test_split is None and self.folds < 2:
            raise ConfigError(f"folds {self.folds}: must be 2 or more")
        if self.test_split is not None and self.folds != 1:
            raise ConfigError(f"folds {self.folds}: must be 1 with the test split {self.test_split!r}")


@dataclass(frozen=True)
class Fold:
    """One fold of a corpus, the same for every method: N training songs with S segments, M test songs with T.

    Parameters
    ----------
    train : array of int, shape (N,)
        Training songs, ascending.
    test : array of int, shape (M,)
        Test songs, ascending.
    rows : array of int, shape (S,)
        Segments of the training songs.
    test_rows : array of int, shape (T,)
        Segments of the test songs.
    given : array of int, shape (S,)
        Labels that the method learns from, some of them wrong; `UNLABELLED` where the song keeps no label.
    true : array of int, shape (S,)
        The right labels. They are used to measure detection, and never to learn.
    known : array of bool, shape (S,)
        Whether the right label is known.
    source : array of int, shape (S,)
        Index into `rows` of the segment whose sound each training segment has: its own, except after a splice.
    """

    train: Int64
    test: Int64
    rows: Int64
    test_rows: Int64
    given: Int64
    true: Int64
    known: NDArray[np.bool_]
    source: Int64


def make_fold(segments: CorpusSegments, protocol: Protocol, *, classes: int, seed: int, fold: int) -> Fold:
    """Return one fold: its songs, which of them keep their label, and the labels after noise was injected.

    The fold depends on the corpus, the protocol without its methods, the seed and the fold number alone, so every
    method gets the same songs and the same wrong labels.

    Parameters
    ----------
    segments : CorpusSegments
    protocol : Protocol
    classes : int
        Number of labels K.
    seed : int
        From 0 to `protocol.seeds` - 1.
    fold : int
        From 0 to `protocol.folds` - 1.

    Raises
    ------
    CorpusError
        The songs cannot be split like this (`check_splits`).
    """
    train, test = _parted(segments, protocol, seed, fold)
    rows, test_rows = (np.flatnonzero(np.isin(segments.song, songs)) for songs in (train, test))
    keeps = _labelled_songs(segments, protocol, train, seed, fold)[np.searchsorted(train, segments.song[rows])]
    kept = np.flatnonzero(keeps)
    noisy = inject_noise(
        segments.inherited[rows][kept],
        segments.song[rows][kept],
        protocol.noise,
        classes=classes,
        rng=np.random.default_rng([seed, fold]),
    )
    given, true = np.full(len(rows), UNLABELLED), segments.inherited[rows].copy()
    source = np.arange(len(rows))
    given[kept], true[kept], source[kept] = noisy.given, noisy.true, kept[noisy.source]
    known = np.ones(len(rows), dtype=bool)
    if protocol.noise.kind == "none" and segments.true is not None and segments.known is not None:
        true, known = segments.true[rows], segments.known[rows]
    return Fold(train, test, rows, test_rows, given, true, known, source)


def soft_targets(segments: CorpusSegments, fold: Fold) -> Float64 | None:
    """Return the soft labels of the training segments, shape (S, K); None if the corpus has none.

    A segment whose label or sound was changed by noise has probability 1 on its given label, because the listeners'
    shares are about the original label and sound.
    """
    if segments.soft is None:
        return None
    soft = segments.soft[fold.rows]
    changed = (fold.given != segments.inherited[fold.rows]) | (fold.source != np.arange(len(fold.rows)))
    changed &= fold.given != UNLABELLED
    soft[changed] = np.eye(soft.shape[1])[fold.given[changed]]
    return soft


def _parted(segments: CorpusSegments, protocol: Protocol, seed: int, fold: int) -> tuple[Int64, Int64]:
    """Return the training songs and the test songs of a fold, ascending."""
    if protocol.test_split is not None:
        return official_split(segments.songs, test=protocol.test_split)
    groups = segments.groups(protocol.group)
    part = song_folds(segments.song_labels, groups, folds=protocol.folds, seed=seed)
    return np.flatnonzero(part != fold), np.flatnonzero(part == fold)


def check_splits(segments: CorpusSegments, protocol: Protocol, labels: Sequence[str], *, members: int) -> None:
    """Check that all songs can be split into folds, and the training songs of each fold into parts for the members.

    Parameters
    ----------
    segments : CorpusSegments
    protocol : Protocol
    labels : sequence of str, length K
        The corpus' labels, for the message.
    members : int
        Number of parts that the labelled training songs are split into.

    Raises
    ------
    CorpusError
        There are too few songs or artists, or the corpus has no such official part.
    """
    groups = segments.groups(protocol.group)
    for seed in range(protocol.seeds):
        if protocol.test_split is None:
            song_folds(segments.song_labels, groups, folds=protocol.folds, seed=seed, label_names=labels)
        for fold in range(protocol.folds):
            train, _ = _parted(segments, protocol, seed, fold)
            try:
                learnt = train[_labelled_songs(segments, protocol, train, seed, fold)]
                names = [groups[i] for i in learnt]
                song_folds(segments.song_labels[learnt], names, folds=members, seed=seed, label_names=labels)
            except CorpusError as error:
                share = "" if protocol.fraction == 1 else f" of which {protocol.fraction:g} labelled"
                what = f"{protocol.folds} folds{share} leave"
                if protocol.test_split is not None:
                    what = f"test split {protocol.test_split!r}: the other parts{share} leave"
                raise CorpusError(f"{what} too little to learn from: {error}") from error


@dataclass(frozen=True)
class SplitReport:
    """Facts about an official test split.

    Parameters
    ----------
    parts : str
        The official parts that are tested, joined by ``"+"``.
    train_songs, test_songs : int
        Numbers of songs.
    shared : int
        Test songs that share an artist with a training song, or are clips of a training song.
    unassigned : int
        Songs in no official part, which are neither learnt from nor tested.
    """

    parts: str
    train_songs: int
    test_songs: int
    shared: int
    unassigned: int

    def warnings(self) -> list[str]:
        """Return a line for each fact that makes figures optimistic or leaves songs out."""
        lines = []
        if self.shared:
            what = f"{self.shared} of the {self.test_songs} test songs ({self.shared / self.test_songs:.0%})"
            lines.append(f"test split {self.parts!r}: {what} share an artist with training; figures are optimistic")
        if self.unassigned:
            lines.append(f"test split {self.parts!r}: songs in no official part, which are left out: {self.unassigned}")
        return lines


def split_report(segments: CorpusSegments, protocol: Protocol) -> SplitReport | None:
    """Return facts about the official test split of a protocol; None if the protocol has folds."""
    if protocol.test_split is None:
        return None
    train, test = official_split(segments.songs, test=protocol.test_split)
    groups = segments.groups()
    learnt = {groups[i] for i in train}
    shared = sum(groups[i] in learnt for i in test)
    left = len(segments.songs) - len(train) - len(test)
    return SplitReport(protocol.test_split, len(train), len(test), shared, left)


def _labelled_songs(
    segments: CorpusSegments, protocol: Protocol, train: Int64, seed: int, fold: int
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    groups = segments.groups(protocol.group)
    return labelled_share(
        segments.song_labels[train],
        [groups[i] for i in train],
        fraction=protocol.fraction,
        rng=np.random.default_rng([seed, fold, 1]),
    )
