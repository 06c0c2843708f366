"""The training songs as a method sees them: segments with inherited labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emoseg.corpora.splits import song_folds
from emoseg.types import UNLABELLED, Float64, Int64


@dataclass(frozen=True)
class TrainingSet:
    """Training songs, cut into segments.

    Parameters
    ----------
    features : mapping of str to array, shape (S, ...)
        Features of all segments, by the name of the frontend.
    given : array of int, shape (S,)
        Given label of each segment, from 0 to K - 1; `UNLABELLED` for all segments of a song without a label.
    song : array of int, shape (S,)
        Song of each segment, from 0 to N - 1, ascending.
    groups : sequence of str, length N
        Artist (or other group) of each song.
    classes : int
        Number of labels K.
    soft : array, shape (S, K), optional
        Distribution over labels that plain training uses as the target of each segment; None: the given label, one-hot.
    """

    features: Mapping[str, NDArray[np.floating]]
    given: Int64
    song: Int64
    groups: Sequence[str]
    classes: int
    soft: Float64 | None = None

    def song_labels(self) -> Int64:
        """Return the given label of each song, shape (N,): the one of most of its segments, or `UNLABELLED`."""
        counts = np.zeros((len(self.groups), self.classes))
        labelled = self.given != UNLABELLED
        np.add.at(counts, (self.song[labelled], self.given[labelled]), 1)
        return np.where(counts.any(axis=1), counts.argmax(axis=1), UNLABELLED)


def song_parts(song_labels: Int64, groups: Sequence[str], *, parts: int, seed: int) -> Int64:
    """Return the part of the cross-fit that each song is held out in, shape (N,); -1 for unlabelled songs.

    Parameters
    ----------
    song_labels : array of int, shape (N,)
        Given labels; `UNLABELLED` for songs without one. Those are in no part, because nothing is measured on them.
    groups : sequence of str, length N
        Songs of one group are in the same part.
    parts : int
        Number of parts.
    seed : int
        Seed of the assignment, which `emoseg.corpora.splits.song_folds` makes.

    Raises
    ------
    CorpusError
        There are too few songs or groups for so many parts.
    """
    labelled = np.flatnonzero(song_labels != UNLABELLED)
    part = np.full(len(song_labels), -1)
    part[labelled] = song_folds(song_labels[labelled], [groups[int(i)] for i in labelled], folds=parts, seed=seed)
    return part
