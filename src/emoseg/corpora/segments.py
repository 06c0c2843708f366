"""A corpus cut into segments of music: features, inherited labels, and the truth where it is known."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emoseg.config import TrainConfig
from emoseg.corpora.base import Corpus, Song
from emoseg.corpora.truth import segment_truth
from emoseg.emotion import EmotionSpace
from emoseg.errors import CorpusError
from emoseg.frontends.store import FeatureTable, load_features
from emoseg.types import Float64, Int64


@dataclass(frozen=True)
class CorpusSegments:
    """The segments of the usable songs of a corpus.

    Parameters
    ----------
    songs : tuple of Song
        The N songs with at least one segment.
    table : FeatureTable
        Features and times of S segments.
    song : array of int, shape (S,)
        Index into `songs`, ascending.
    song_labels : array of int, shape (N,)
        Label of each song.
    true : array of int, shape (S,), or None
        True label of each segment: the one that holds for most of the segment, or that of its mean rating. Where
        `known` is False it is the inherited label. None if the corpus does not know the emotion over time. Never an
        input to learning.
    left_out : tuple of str
        One line for each song whose audio could not be used or is hardly music.
    known : array of bool, shape (S,), or None
        Whether the truth is known: at least half of the segment is rated, or it overlaps a section. None if `true` is.
    margin : array, shape (S,), or None
        Distance of a segment's mean rating from the nearest axis, half the scale being 1; infinite where the truth
        comes from sections, 0 where it is not known. None if `true` is.
    song_soft : array, shape (N, K), or None
        Share of listeners, annotators or mood tags for each label; 1 on the label of a song without shares. None if no
        song has such shares.
    """

    songs: tuple[Song, ...]
    table: FeatureTable
    song: Int64
    song_labels: Int64
    true: Int64 | None
    left_out: tuple[str, ...]
    known: NDArray[np.bool_] | None = None
    margin: Float64 | None = None
    song_soft: Float64 | None = None

    @property
    def inherited(self) -> Int64:
        """The label of each segment's song, shape (S,)."""
        return self.song_labels[self.song]

    @property
    def soft(self) -> Float64 | None:
        """The soft label of each segment's song, shape (S, K); None where `song_soft` is."""
        return None if self.song_soft is None else self.song_soft[self.song]

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that name the songs, their labels and their artists."""
        parts = [[song.id, song.label, song.artist] for song in self.songs]
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()

    def groups(self, by: str = "artist") -> list[str]:
        """Return what splits must keep together for each song: its artist, or with ``"none"`` only the song."""
        return [song.group if by == "artist" else song.own_group for song in self.songs]


def load_segments(
    corpus: Corpus, config: TrainConfig, *, cache: Path | None = None, workers: int | None = None, quiet: bool = False
) -> CorpusSegments:
    """Cut a corpus into segments and return the features of those that are music, computed or from the store.

    Segments that analysis would call speech, noise, a test tone or silence are left out, unless the corpus has a label
    of that name. A song of which less than a quarter is music is left out too.

    Raises
    ------
    CorpusError
        The corpus has errors, a label has no song with usable audio, or soft labels are to be learnt and it has none.
    """
    corpus.require_usable()
    if config.learning.soft_labels and not any(song.soft for song in corpus.songs):
        raise CorpusError(f"{corpus.root}: the corpus {corpus.name!r} has no soft labels to learn from")
    table = load_features(
        [song.path for song in corpus.songs],
        segment=config.segment,
        frontends=config.frontends,
        labels=corpus.space.labels,
        cache=cache,
        workers=workers,
        quiet=quiet,
    )
    kept, song = np.unique(table.recording, return_inverse=True)
    songs = tuple(corpus.songs[i] for i in kept)
    labels = np.array([corpus.space.index(s.label) for s in songs])
    lacking = [label for k, label in enumerate(corpus.space.labels) if not (labels == k).any()]
    if lacking:
        raise CorpusError(f"{corpus.root}: no song with the label {lacking[0]!r} has usable audio")
    truth = segment_truth(corpus, songs, song, table.start_s, table.end_s, labels[song])
    return CorpusSegments(
        songs,
        table,
        song,
        labels,
        truth.label if truth else None,
        tuple(table.failures.values()),
        truth.known if truth else None,
        truth.margin if truth else None,
        _soft(songs, labels, corpus.space),
    )


def _soft(songs: tuple[Song, ...], labels: Int64, space: EmotionSpace) -> Float64 | None:
    if not any(song.soft for song in songs):
        return None
    certain = np.eye(len(space.labels))[labels]
    return np.array([song.soft or own for song, own in zip(songs, certain, strict=True)])
