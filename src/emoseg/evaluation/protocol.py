"""How methods are compared, and what one fold of it gives a method to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

import numpy as np

from emoseg.config import MethodName
from emoseg.corpora.noise import NoiseSpec, inject_noise
from emoseg.corpora.segments import CorpusSegments
from emoseg.corpora.splits import labelled_share, song_folds
from emoseg.errors import ConfigError, CorpusError
from emoseg.types import UNLABELLED, Int64


@dataclass(frozen=True)
class Protocol:
    """How methods are compared.

    Parameters
    ----------
    methods : tuple of str
        Names in `emoseg.learning.methods.METHODS`; the first is what the others are compared with.
    folds : int
    seeds : int
        Seeds 0, 1, ...; each has folds, noise, labelled songs and starting weights of its own.
    group : {"artist", "none"}
    noise : NoiseSpec
    fraction : float
        Share of the training songs that keep their label, in (0, 1]; the others stay as unlabelled audio.

    Raises
    ------
    ConfigError
        A method is unknown or named twice, or the fraction is out of range.
    """

    methods: tuple[MethodName, ...]
    folds: int = 10
    seeds: int = 3
    group: str = "artist"
    noise: NoiseSpec = field(default_factory=NoiseSpec)
    fraction: float = 1.0

    def __post_init__(self) -> None:
        known = get_args(MethodName)
        for i, method in enumerate(self.methods):
            if method not in known:
                raise ConfigError(f"method {method!r} is unknown; choose from {', '.join(known)}")
            if method in self.methods[:i]:
                raise ConfigError(f"method {method!r} is named twice")
        if not 0 < self.fraction <= 1:
            raise ConfigError(f"fraction {self.fraction:g}: must be above 0 and at most 1")


@dataclass(frozen=True)
class Fold:
    """One fold of a corpus; the same for every method.

    Parameters
    ----------
    train, test : array of int
        Songs, ascending.
    rows, test_rows : array of int
        Their segments.
    given : array of int, shape (S,)
        Labels that training segments are given, some of them wrong; `UNLABELLED` where a song keeps none.
    true : array of int, shape (S,)
        What the labels ought to be: for measuring alone.
    source : array of int, shape (S,)
        Which of `rows` each training segment has the sound of; its own except after a splice.
    """

    train: Int64
    test: Int64
    rows: Int64
    test_rows: Int64
    given: Int64
    true: Int64
    source: Int64


def make_fold(segments: CorpusSegments, protocol: Protocol, *, classes: int, seed: int, fold: int) -> Fold:
    """Cut out one fold, choose the songs that keep their label, and put the noise into these.

    All of it depends on the seed and the fold alone: every method is given the same songs and the same wrong labels.
    """
    groups = segments.groups(protocol.group)
    part = song_folds(segments.song_labels, groups, folds=protocol.folds, seed=seed)
    train, test = np.flatnonzero(part != fold), np.flatnonzero(part == fold)
    rows, test_rows = np.flatnonzero(part[segments.song] != fold), np.flatnonzero(part[segments.song] == fold)
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
    if protocol.noise.kind == "none" and segments.true is not None:
        true = segments.true[rows]
    return Fold(train, test, rows, test_rows, given, true, source)


def check_splits(segments: CorpusSegments, protocol: Protocol, labels: Sequence[str], *, members: int) -> None:
    """Say before any learning what cannot be split: into folds, and what is left for training into members' parts.

    Raises
    ------
    CorpusError
        There are too few songs or artists.
    """
    groups = segments.groups(protocol.group)
    for seed in range(protocol.seeds):
        part = song_folds(segments.song_labels, groups, folds=protocol.folds, seed=seed, label_names=labels)
        for fold in range(protocol.folds):
            train = np.flatnonzero(part != fold)
            try:
                learnt = train[_labelled_songs(segments, protocol, train, seed, fold)]
                names = [groups[i] for i in learnt]
                song_folds(segments.song_labels[learnt], names, folds=members, seed=seed, label_names=labels)
            except CorpusError as error:
                share = "" if protocol.fraction == 1 else f" of which {protocol.fraction:g} labelled"
                raise CorpusError(f"{protocol.folds} folds{share} leave too little to learn from: {error}") from error


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
