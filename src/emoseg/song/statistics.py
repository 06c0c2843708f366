"""Statistics and summaries of a song's segments, which song models are learnt from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from emoseg.types import Float64, Int64

HAN_THRESHOLD = 0.2


def song_mean(values: Float64, song: Int64) -> Float64:
    """Return for each segment the mean over all segments of its song, shape (S, K)."""
    _, index = np.unique(song, return_inverse=True)
    total = np.zeros((index.max() + 1, values.shape[1]))
    np.add.at(total, index, values)
    return (total / np.bincount(index)[:, None])[index]


def song_statistics(probabilities: Float64) -> Float64:
    """Summarise one song's segment probabilities.

    Parameters
    ----------
    probabilities : array, shape (S, K)

    Returns
    -------
    array, shape (7 * K,)
        For each label: the log of the mean (the base), then mean, maximum, minimum, share of segments above 0.2
        (Han 2014), standard deviation, and mean of the logs.
    """
    p = np.clip(probabilities, 1e-4, 1.0)
    return np.concatenate(
        [
            np.log(p.mean(axis=0)),
            p.mean(axis=0),
            p.max(axis=0),
            p.min(axis=0),
            (p > HAN_THRESHOLD).mean(axis=0),
            p.std(axis=0),
            np.log(p).mean(axis=0),
        ]
    )


def statistics_table(probabilities: Float64, song: Int64, songs: int) -> Float64:
    """Return `song_statistics` of every song, shape (N, 7 * K); each song has at least one segment."""
    return np.stack([song_statistics(probabilities[song == i]) for i in range(songs)])


def song_summaries(table: NDArray[np.floating], song: Int64) -> Float64:
    """Return mean and standard deviation over each song's segments (and frames), shape (N, 2 F).

    Parameters
    ----------
    table : array, shape (S, F) or (S, F, T)
    song : array of int, shape (S,)
        Ascending.
    """
    rows = []
    for values in np.split(table, np.flatnonzero(np.diff(song)) + 1):
        flat = values.astype(np.float64)
        flat = flat if flat.ndim == 2 else np.moveaxis(flat, 1, 2).reshape(-1, flat.shape[1])
        rows.append(np.concatenate([flat.mean(axis=0), flat.std(axis=0)]))
    return np.asarray(rows)


def vector_summaries(features: Mapping[str, NDArray[np.floating]], song: Int64) -> Float64:
    """Return `song_summaries` over all features that are vectors, shape (N, 2 F): first all means, then all deviations.

    Parameters
    ----------
    features : mapping of str to array, shape (S, ...)
        For each frontend; those that are not of shape (S, F) are left out.
    song : array of int, shape (S,)
        Ascending.

    Raises
    ------
    ValueError
        No features are vectors.
    """
    tables = [table for table in features.values() if table.ndim == 2]
    if not tables:
        raise ValueError(f"a summary of songs needs features that are vectors; there are none in {sorted(features)}")
    return song_summaries(tables[0] if len(tables) == 1 else np.concatenate(tables, axis=1), song)


def with_base(statistics: Float64, own: Float64) -> Float64:
    """Return statistics (N, 7 * K) whose base are the songs' own probabilities (N, K) instead of the mean's."""
    return np.concatenate([np.log(np.clip(own, 1e-4, 1.0)), statistics[:, own.shape[1] :]], axis=1)
