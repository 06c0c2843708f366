"""The mean over segments blended with the votes of a song machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from emoseg.song.machine import SongMachine
from emoseg.types import Float64


@dataclass(frozen=True)
class SongBlend:
    """Weights of the mean over segments and of the votes of a song machine."""

    of_mean: float
    of_votes: float

    def probabilities(self, means: Float64, votes: Float64) -> Float64:
        """Return probabilities of songs, shape (N, K): the softmax of the weighted sum of log means and votes.

        Parameters
        ----------
        means, votes : array, shape (N, K)
        """
        return np.asarray(softmax(self.of_mean * np.log(np.clip(means, 1e-4, 1)) + self.of_votes * votes, axis=1))


@dataclass(frozen=True)
class SongBase:
    """The starting point of a song model in which whole songs vote: their votes blended with the mean over segments."""

    machine: SongMachine
    blend: SongBlend

    def probabilities(self, means: Float64, summaries: Float64) -> Float64:
        """Return probabilities of songs, shape (N, K).

        Parameters
        ----------
        means : array, shape (N, K)
            Mean probabilities over the segments of each song.
        summaries : array, shape (N, F)
            From `emoseg.song.statistics.vector_summaries`.
        """
        return self.blend.probabilities(means, self.machine.votes(summaries))
