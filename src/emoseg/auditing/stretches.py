"""Stretches of a song that sound like another label, while the rest of the song sounds like the given one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emoseg.learning.label_noise import smoothed
from emoseg.types import Float64, Int64

_SMOOTHING = 1.0  # standard deviation in segments
_LEAST_SEGMENTS = 3
_LARGEST_SHARE = 2 / 3  # of the song's segments; a longer stretch is the song itself
_LEAST_PROBABILITY = 0.5


@dataclass(frozen=True)
class Stretch:
    """Consecutive segments of one song.

    Parameters
    ----------
    song : int
    first, last : int
        Indices of its first and last segment among all segments.
    label : int
        The label that it sounds like.
    """

    song: int
    first: int
    last: int
    label: int


def find_stretches(held_out: Float64, labels: Int64, song: Int64) -> list[Stretch]:
    """Return the stretches of at least three segments that sound like another label than the rest of their song.

    A stretch is a run of segments with the same most probable label, other than the given one, whose mean probability
    is at least one half. It is at most two thirds of its song, and the other segments of the song must have the given
    label as their most probable one on average.

    Parameters
    ----------
    held_out : array, shape (S, K)
        Probabilities of each segment by networks that did not learn from its song.
    labels : array of int, shape (N,)
        Given labels.
    song : array of int, shape (S,)
        Ascending.
    """
    smooth = np.stack([smoothed(column, song, width=_SMOOTHING) for column in held_out.T], axis=1)
    best = smooth.argmax(axis=1)
    borders = np.flatnonzero((np.diff(song) != 0) | (np.diff(best) != 0)) + 1
    found = []
    for run in np.split(np.arange(len(song)), borders):
        own, label = int(song[run[0]]), int(best[run[0]])
        rows = np.arange(*np.searchsorted(song, [own, own + 1]))
        if label == labels[own] or not _LEAST_SEGMENTS <= len(run) <= _LARGEST_SHARE * len(rows):
            continue
        rest = np.setdiff1d(rows, run)
        fits = held_out[rest].mean(axis=0).argmax() == labels[own]
        if fits and smooth[run, label].mean() >= _LEAST_PROBABILITY:
            found.append(Stretch(own, int(run[0]), int(run[-1]), label))
    return found
