"""Votes of whole songs: support vector machines predict each song as a whole, and are blended with its segments."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from emoseg.learning.methods.base import MethodFit, Prediction, Run
from emoseg.learning.methods.emoseg.settings import EmosegSettings
from emoseg.learning.methods.emoseg.song_machine import fit_song_machine
from emoseg.learning.training_set import TrainingSet, song_parts
from emoseg.song.blend import SongBase, SongBlend
from emoseg.song.regression import fit_temperature, given_likelihood
from emoseg.song.statistics import song_mean, vector_summaries
from emoseg.types import UNLABELLED, Float64, Int64

# Bounds of the logarithms of the blend's weights: far from any weight that a fit chooses.
_LEAST_LOG_WEIGHT, _LARGEST_LOG_WEIGHT = -6, 3


class SongVoting:
    """Machines on whole songs, and how their votes are blended with the mean over segments.

    Parameters
    ----------
    data : TrainingSet
    run : Run
    frontends : list of str
        Frontends whose features are vectors; the machines use summaries of these.
    settings : EmosegSettings
    learnt_from : array of bool, shape (S,), optional
        Segments that the machines learn from, at least one per song; default all. Songs are judged by all segments.
    """

    def __init__(
        self,
        data: TrainingSet,
        run: Run,
        frontends: list[str],
        settings: EmosegSettings,
        learnt_from: NDArray[np.bool_] | None = None,
    ) -> None:
        self.data, self.run, self.frontends, self.settings = data, run, frontends, settings
        self.labels = data.song_labels()
        vectors = {name: data.features[name] for name in frontends}
        self.summaries = self.training_summaries = vector_summaries(vectors, data.song)
        if learnt_from is not None:
            vectors = {name: table[learnt_from] for name, table in vectors.items()}
            self.training_summaries = vector_summaries(vectors, data.song[learnt_from])

    def without(self, atypical: NDArray[np.bool_]) -> SongVoting:
        """Return machines that learn songs without their atypical segments.

        A song of which all segments are atypical is learnt from all of them.

        Parameters
        ----------
        atypical : array of bool, shape (S,)
        """
        if not atypical.any():
            return self
        kept = ~atypical | ~np.isin(self.data.song, self.data.song[~atypical])
        return SongVoting(self.data, self.run, self.frontends, self.settings, kept)

    @cached_property
    def candidates(self) -> list[SongVotes]:
        """Held-out votes of machines of each cost."""
        part = song_parts(self.labels, self.data.groups, parts=self.run.config.members, seed=self.run.seed)
        return [
            held_out_votes(
                self.training_summaries, self.summaries, self.labels, part, self.data.classes, cost, self.settings
            )
            for cost in self.settings.costs
        ]

    def held_out_probabilities(self, out_of_fold: Float64) -> Float64:
        """Return held-out probabilities of each segment's song, shape (S, K), fitted as if all labels were right.

        Parameters
        ----------
        out_of_fold : array, shape (S, K)
            Out-of-fold probabilities of the segments.
        """
        return self._blend(out_of_fold, 0.0).songs

    def add_to(self, fit: MethodFit, song_rate: float) -> MethodFit:
        """Return a fit whose songs are the blend of the mean over segments with the machines' votes.

        Votes on the training songs are held out, as the probabilities of their segments are.

        Parameters
        ----------
        fit : MethodFit
        song_rate : float
            Share of wrong song labels, in [0, 1].
        """
        blended = self._blend(fit.out_of_fold.segments, song_rate)
        machine = fit_song_machine(self.training_summaries, self.labels, self.data.classes, blended.cost, self.settings)
        base = SongBase(machine, blended.blend)
        return replace(
            fit,
            song_base=base,
            out_of_fold=Prediction(fit.out_of_fold.segments, blended.songs),
        )

    def _blend(self, out_of_fold: Float64, song_rate: float) -> _Blended:
        votes = choose_votes(self.candidates, self.labels, song_rate)
        means = song_mean(out_of_fold, self.data.song)
        means_of_songs = means[np.unique(self.data.song, return_index=True)[1]]
        known = self.labels != UNLABELLED
        blend = fit_blend(
            means_of_songs[known],
            votes.votes[known],
            self.labels[known],
            song_rate,
            penalty=self.settings.blend_penalty,
        )
        return _Blended(votes.cost, blend, blend.probabilities(means, votes.votes[self.data.song]))


@dataclass(frozen=True)
class _Blended:
    """The chosen cost, the fitted blend, and the held-out probabilities (S, K) of each segment's song."""

    cost: float
    blend: SongBlend
    songs: Float64


@dataclass(frozen=True)
class SongVotes:
    """Votes of support vector machines on the training songs, each song held out of the machine that votes on it.

    Parameters
    ----------
    cost : float
        Cost C of the machines.
    votes : array, shape (N, K)
        Held-out votes on labelled songs; NaN for the others.
    """

    cost: float
    votes: Float64


def held_out_votes(
    training_summaries: Float64,
    judged_summaries: Float64,
    labels: Int64,
    part: Int64,
    classes: int,
    cost: float,
    settings: EmosegSettings,
) -> SongVotes:
    """Return votes on the labelled songs, each by machines that did not learn from any song of its part.

    Parameters
    ----------
    training_summaries, judged_summaries : array, shape (N, F)
        Summaries of the songs that the machines learn from, and that they vote on.
    labels : array of int, shape (N,)
        `UNLABELLED` where not known.
    part : array of int, shape (N,)
        Part of each song; -1 for unlabelled songs, which all machines may learn from.
    classes : int
    cost : float
    settings : EmosegSettings
    """
    votes = np.full((len(labels), classes), np.nan)
    for p in range(part.max() + 1):
        learnt = part != p
        machine = fit_song_machine(training_summaries[learnt], labels[learnt], classes, cost, settings)
        votes[~learnt] = machine.votes(judged_summaries[~learnt])
    return SongVotes(cost, votes)


def choose_votes(candidates: list[SongVotes], labels: Int64, song_rate: float) -> SongVotes:
    """Return the votes that alone predict the given labels of held-out songs best.

    Each candidate is judged alone, because blended with the networks all costs predict nearly equally well, and chance
    would decide.

    Parameters
    ----------
    candidates : list of SongVotes
    labels : array of int, shape (N,)
        `UNLABELLED` where not known; votes on such songs are not used.
    song_rate : float
        Share of wrong song labels, in [0, 1].
    """
    known = labels != UNLABELLED
    return min(candidates, key=lambda c: fit_temperature(c.votes[known], labels[known], song_rate)[1])


def fit_blend(means: Float64, votes: Float64, labels: Int64, song_rate: float, *, penalty: float = 1e-3) -> SongBlend:
    """Return the blend of means and votes that maximises the likelihood of the given labels of held-out songs.

    Parameters
    ----------
    means, votes : array, shape (N, K)
        Held-out mean probabilities over segments, and held-out votes.
    labels : array of int, shape (N,)
    song_rate : float
        Share of wrong song labels, in [0, 1], that the likelihood allows for.
    penalty : float
        Weight of the sum of the weights' squared logarithms.
    """
    from scipy.optimize import minimize

    log_means = np.log(np.clip(means, 1e-4, 1))

    def weights_of(log_weights: Float64) -> Float64:
        return np.exp(np.clip(log_weights, _LEAST_LOG_WEIGHT, _LARGEST_LOG_WEIGHT))

    def loss(log_weights: Float64) -> float:
        of_mean, of_votes = weights_of(log_weights)
        log_p = log_softmax(of_mean * log_means + of_votes * votes, axis=1)
        likelihood = given_likelihood(log_p, labels, song_rate)[0].mean()
        return float(-likelihood + penalty * (log_weights**2).sum())

    best = minimize(loss, np.array([0.0, -1.0]), method="Nelder-Mead")
    of_mean, of_votes = weights_of(best.x)
    return SongBlend(float(of_mean), float(of_votes))
