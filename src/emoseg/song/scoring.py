"""The one path from a song's segments to the song: evaluation and analysis both score songs with these functions.

Songs are scored one at a time, because a matrix product of another size adds its terms in another order: a song's
probabilities must not depend on the songs that it is scored with.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from emoseg.song.model import SongModel
from emoseg.song.statistics import vector_summaries
from emoseg.types import Float64, Int64


def score_song(
    model: SongModel,
    probabilities: Float64,
    features: Mapping[str, NDArray[np.floating]],
    *,
    own: Float64 | None = None,
) -> Float64:
    """Return the calibrated probabilities of one song, shape (K,).

    Parameters
    ----------
    model : SongModel
    probabilities : array, shape (S, K)
        Probabilities of the song's segments, without those that are not music.
    features : mapping of str to array, shape (S, ...)
        Features of the same segments for each frontend, in the order of the model's settings. A model without a base
        does not read them; others read those that are vectors, shape (S, F).
    own : array, shape (K,), optional
        As in `SongModel.predict`.

    Raises
    ------
    ValueError
        The model needs vectors and there are none, or a probability is not finite.
    """
    return model.predict(probabilities, song_summary(model, features), own=own)


def song_summary(model: SongModel, features: Mapping[str, NDArray[np.floating]]) -> Float64 | None:
    """Return the summary of one song that a model needs, shape (F,); None for a model without a base.

    Parameters
    ----------
    model : SongModel
    features : mapping of str to array, shape (S, ...)
        As in `score_song`.

    Raises
    ------
    ValueError
        The model needs vectors and there are none.
    """
    if model.base is None:
        return None
    segments = max((len(table) for table in features.values()), default=0)
    return np.asarray(vector_summaries(features, np.zeros(segments, dtype=np.int64))[0])


def rows_of_songs(song: Int64) -> list[slice]:
    """Return the rows of each song's segments, in the order of songs; `song`, shape (S,), ascends."""
    borders = [0, *(np.flatnonzero(np.diff(song)) + 1).tolist(), len(song)]
    return [slice(first, end) for first, end in pairwise(borders)]
