"""The true emotion of segments, from sections or from ratings over time."""

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
    """True labels of S segments, as far as they are known.

    Parameters
    ----------
    label : array of int, shape (S,)
        True label, or the inherited label where the truth is not known.
    known : array of bool, shape (S,)
        Whether the truth is known.
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
    """Return the label that holds for most of each stretch, and whether any section overlaps the stretch.

    Parameters
    ----------
    sections : sequence of Section
    start_s, end_s : array, shape (S,)
        Bounds of the stretches in seconds.
    space : EmotionSpace

    Returns
    -------
    label : array of int, shape (S,)
        Of labels that hold equally long, the first of the space.
    known : array of bool, shape (S,)
    """
    seconds = np.zeros((len(start_s), len(space.labels)))
    for section in sections:
        inside = np.minimum(end_s, section.end_s) - np.maximum(start_s, section.start_s)
        seconds[:, space.index(section.label)] += np.clip(inside, 0.0, None)
    return seconds.argmax(axis=1), seconds.max(axis=1) > 0


def segment_truth(
    corpus: Corpus, songs: Sequence[Song], song: Int64, start_s: Float64, end_s: Float64, inherited: Int64
) -> SegmentTruth | None:
    """Return the true labels of segments; None if the corpus does not know that of any segment.

    Parameters
    ----------
    corpus : Corpus
        Its space and its rule are used.
    songs : sequence of Song
    song : array of int, shape (S,)
        Index into `songs` of each segment, ascending.
    start_s, end_s : array, shape (S,)
        Bounds of the segments in seconds.
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
