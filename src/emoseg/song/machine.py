"""Support vector machines on whole songs, one for each pair of labels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from emoseg.types import Float64

# Factor of the decision value in a vote: outside the margin, where it is above 1, a vote is nearly 1.
VOTE_SHARPNESS = 3.0


@dataclass(frozen=True)
class SongMachine:
    """Support vector machines on summaries of whole songs, one for each pair of labels; each votes for one of its pair.

    Parameters
    ----------
    mean, scale : array, shape (F,)
        Standardisation of the summaries.
    relevance : array, shape (F,)
        Factor of each standardised summary.
    gamma : float
        Of the kernel ``exp(-gamma |x - y|^2)`` on weighted summaries.
    support : array, shape (M, F)
        Weighted summaries of the training songs that are support vectors of any machine.
    weights : array, shape (M, P)
        Weight of each support vector in the machine of each pair; pairs are in the order of `itertools.combinations`.
    bias : array, shape (P,)
        Constant term of each machine.

    References
    ----------
    C. Cortes, V. Vapnik. Support-vector networks. Machine Learning 20, 1995.
    """

    mean: Float64
    scale: Float64
    relevance: Float64
    gamma: float
    support: Float64
    weights: Float64
    bias: Float64

    def votes(self, summaries: Float64) -> Float64:
        """Return for each label the sum of the votes of its pairs, shape (N, K).

        A vote is ``tanh(3 d)`` of the decision d, in (-1, 1): nearly 1 or -1 outside the margin, and 0 on the border.

        Parameters
        ----------
        summaries : array, shape (N, F)
            From `emoseg.song.statistics.vector_summaries`.
        """
        x = standardised(summaries, self.mean, self.scale) * self.relevance
        decisions = np.tanh(VOTE_SHARPNESS * (gaussian_kernel(x, self.support, self.gamma) @ self.weights + self.bias))
        classes = round((1 + np.sqrt(1 + 8 * len(self.bias))) / 2)
        votes = np.zeros((len(x), classes))
        for p, (i, j) in enumerate(combinations(range(classes), 2)):
            votes[:, i] += decisions[:, p]
            votes[:, j] -= decisions[:, p]
        return votes


def standardised(summaries: Float64, mean: Float64, scale: Float64) -> Float64:
    """Return ``(summaries - mean) / scale``, limited to ±5.

    Without the limit a song with one extreme summary would be equally far from all other songs.
    """
    return np.clip((summaries - mean) / scale, -5, 5)


def gaussian_kernel(first: Float64, second: Float64, gamma: float) -> Float64:
    """Return ``exp(-gamma |x - y|^2)`` for all pairs of rows, shape (N, M)."""
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2 * first @ second.T
    return np.exp(-gamma * np.maximum(squares, 0))
