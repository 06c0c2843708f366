"""What is known of the emotion of a stretch of a song: from sections, or from ratings over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emoseg.corpora.base import Corpus, Song
from emoseg.emotion import EmotionSpace
from emoseg.types import Float64, Int64, Section


@dataclass(frozen=True)
class SegmentTruth:
    """The true labels of S segments, as far as they are known.

    Parameters
    ----------
    label : array of int, shape (S,)
        Where it is not known, the inherited label.
    known : array of bool, shape (S,)
    margin : array, shape (S,)
        Distance of the segment's mean rating from the nearest axis, half the scale being 1; infinite where the label
        comes from sections, 0 where it is not known.
    """

    label: Int64
    known: NDArray[np.bool_]
    margin: Float64


def section_labels(
    sections: Sequence[Section], start_s: Float64, end_s: Float64, space: EmotionSpace
) -> tuple[Int64, NDArray[np.bool_]]:
    """Return the label that most of each stretch has (of several, the first of the space), and whether it has any."""
    seconds = np.zeros((len(start_s), len(space.labels)))
    for section in sections:
        inside = np.minimum(end_s, section.end_s) - np.maximum(start_s, section.start_s)
        seconds[:, space.index(section.label)] += np.clip(inside, 0.0, None)
    return seconds.argmax(axis=1), seconds.max(axis=1) > 0


def segment_truth(
    corpus: Corpus, songs: Sequence[Song], song: Int64, start_s: Float64, end_s: Float64, inherited: Int64
) -> SegmentTruth | None:
    """Return what is known of segments; None where nothing is of any.

    Parameters
    ----------
    corpus : Corpus
        For its space and rule.
    songs : sequence of Song
    song : array of int, shape (S,)
        Index into `songs`, ascending.
    start_s, end_s : array, shape (S,)
    inherited : array of int, shape (S,)
        Label of each segment's song.
    """
    if not any(s.sections or s.over_time for s in songs):
        return None
    truth = SegmentTruth(inherited.copy(), np.zeros(len(song), dtype=bool), np.zeros(len(song)))
    bounds = np.searchsorted(song, np.arange(len(songs) + 1))
    for i, one in enumerate(songs):
        rows = slice(bounds[i], bounds[i + 1])
        if one.sections:
            label, known = section_labels(one.sections, start_s[rows], end_s[rows], corpus.space)
            margin = np.full(len(label), np.inf)
        elif one.over_time and corpus.rule:
            rated = one.over_time.over(start_s[rows], end_s[rows])
            label, known = corpus.rule.labels(rated, corpus.rule.over_time), rated.known
            margin = corpus.rule.distance(rated, corpus.rule.over_time)
        else:
            continue
        truth.label[rows] = np.where(known, label, inherited[rows])
        truth.known[rows] = known
        truth.margin[rows] = np.where(known, margin, 0.0)
    return truth
