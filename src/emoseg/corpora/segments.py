"""A corpus cut into segments: features, inherited labels, and the truth where it is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emoseg.config import TrainConfig
from emoseg.corpora.base import Corpus, Song
from emoseg.errors import CorpusError
from emoseg.frontends.store import FeatureTable, load_features
from emoseg.types import EmotionSpace, Int64


@dataclass(frozen=True)
class CorpusSegments:
    """The segments of the usable songs of a corpus.

    Parameters
    ----------
    songs : tuple of Song
        Those with at least one segment, N of them.
    table : FeatureTable
        Features and times of S segments.
    song : array of int, shape (S,)
        Index into `songs`, ascending.
    song_labels : array of int, shape (N,)
    true : array of int, shape (S,), or None
        True label of each segment, where the corpus knows the emotion of sections: the one that most of the segment
        has. Never an input to learning.
    left_out : tuple of str
        A line for each song whose audio could not be used.
    """

    songs: tuple[Song, ...]
    table: FeatureTable
    song: Int64
    song_labels: Int64
    true: Int64 | None
    left_out: tuple[str, ...]

    @property
    def inherited(self) -> Int64:
        """The label of each segment's song, shape (S,)."""
        return self.song_labels[self.song]

    def groups(self, by: str = "artist") -> list[str]:
        """Return what splits must keep together for each song: its artist, or with ``"none"`` only itself."""
        return [song.group if by == "artist" else song.id for song in self.songs]


def load_segments(
    corpus: Corpus, config: TrainConfig, *, cache: Path | None = None, workers: int | None = None, quiet: bool = False
) -> CorpusSegments:
    """Cut a corpus into segments and return their features, computed or from the store.

    Raises
    ------
    CorpusError
        The corpus has errors, or fewer than two labels have a song with usable audio.
    """
    corpus.require_usable()
    table = load_features(
        [song.path for song in corpus.songs],
        segment=config.segment,
        frontends=config.frontends,
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
    truth = _true_labels(songs, table, song, corpus.space) if all(s.sections for s in songs) else None
    return CorpusSegments(songs, table, song, labels, truth, tuple(table.failures.values()))


def _true_labels(songs: Sequence[Song], table: FeatureTable, song: Int64, space: EmotionSpace) -> Int64:
    true = np.zeros(len(song), dtype=np.int64)
    for i, (start, end) in enumerate(zip(table.start_s, table.end_s, strict=True)):
        seconds = np.zeros(len(space.labels))
        for section in songs[song[i]].sections:
            seconds[space.index(section.label)] += max(0.0, min(end, section.end_s) - max(start, section.start_s))
        true[i] = int(seconds.argmax())
    return true
