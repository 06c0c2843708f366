"""The mean over segments blended with the votes of a song machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from emoseg.song.machine import SongMachine
from emoseg.types import Float64


@dataclass(frozen=True)
class SongBlend:
    """How much the mean over segments and the votes of a song machine count."""

    of_mean: float
    of_votes: float

    def probabilities(self, means: Float64, votes: Float64) -> Float64:
        """Return probabilities of songs, (N, K): the softmax of weighted log-means and votes."""
        return np.asarray(softmax(self.of_mean * np.log(np.clip(means, 1e-4, 1)) + self.of_votes * votes, axis=1))


@dataclass(frozen=True)
class SongBase:
    """What the song model starts from where whole songs have a vote: their votes blended with their segments' mean."""

    machine: SongMachine
    blend: SongBlend

    def probabilities(self, means: Float64, summaries: Float64) -> Float64:
        """Return probabilities of songs, (N, K), from mean probabilities (N, K) and `song_summaries` (N, F)."""
        return self.blend.probabilities(means, self.machine.votes(summaries))
