"""Evidence on given labels after a first cross-fit: how many are wrong, which, and what to learn instead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from emoseg.learning.cross_fit import SegmentFit
from emoseg.learning.label_noise import estimate_noise_rate, smoothed, song_consensus
from emoseg.learning.methods.emoseg.settings import EmosegSettings
from emoseg.learning.methods.emoseg.song_votes import SongVoting
from emoseg.learning.training_set import TrainingSet
from emoseg.song.statistics import song_mean
from emoseg.types import UNLABELLED, Float64, Int64


@dataclass(frozen=True)
class LabelEvidence:
    """What a first cross-fit says about the given labels.

    Parameters
    ----------
    rate, song_rate : float
        Estimated share of wrong labels of segments, and of songs whose label is wrong as a whole, in [0, 1].
    clean : array, shape (S,), in [0, 1]
        Probability that each given label is right; NaN where unlabelled. The share of labels below 0.5 is `rate`.
    guesses : array, shape (S, K)
        Estimated probabilities of the true labels; NaN where unlabelled.
    targets : array, shape (S, K)
        Distributions over labels to learn; 0 where unlabelled.
    atypical : array of bool, shape (S,)
        Segments that probably do not have the emotion of their song, where most of the noise is of this kind.
    changed : bool
        Whether the most probable label of any target differs from the given one, so that there is something to relearn.
    """

    rate: float
    song_rate: float
    clean: Float64
    guesses: Float64
    targets: Float64
    atypical: NDArray[np.bool_]
    changed: bool


def weigh_labels(
    fit: SegmentFit,
    data: TrainingSet,
    frontend: str,
    settings: EmosegSettings,
    song_voting: SongVoting | None = None,
) -> LabelEvidence:
    """Return the evidence on every given label, from how it was learnt and from what other songs predict.

    There are three cases. Where segments were labelled one by one, the labels of the song's other segments count, along
    with how well the segment was learnt. Where labels are inherited and some are wrong, how well a segment was learnt
    (the probability of its label, averaged over passes and similar neighbours) finds atypical segments; how well its
    song was learnt in early passes, and predictions by models that did not learn from the song, find songs with a wrong
    label, which networks memorise in later passes. The two are weighed by the share of the noise in whole songs. Where
    no noise is found, labels are ranked by early passes and held-out predictions, and none is flagged.

    Parameters
    ----------
    fit : SegmentFit
        First cross-fit, by plain training with mixup.
    data : TrainingSet
    frontend : str
        Frontend that `fit` was learnt on.
    settings : EmosegSettings
    song_voting : SongVoting, optional
        Machines on whole songs, whose held-out votes count in predictions of songs.
    """
    labels = _labelled_segments(fit, data, frontend, settings)
    segment_rate = _estimate_rate(labels.held_out, labels.given, settings, song=labels.song)
    song_rate = _estimate_song_rate(labels, data, settings)
    consensus = song_consensus(
        labels.given,
        labels.song,
        data.classes,
        min_disagreement=settings.consensus_disagreement,
        floor=settings.consensus_floor,
    )
    if consensus is not None:
        rate = segment_rate
        ranking = _rank_by_consensus(labels, consensus, settings)
    else:
        rate = max(segment_rate, song_rate)  # a song with a wrong label consists of segments with a wrong label
        if rate > settings.negligible_rate:
            predicted_songs = (
                song_voting.held_out_probabilities(fit.out_of_fold)[labels.rows]
                if song_voting
                else song_mean(labels.held_out, labels.song)
            )
            ranking = _rank_noisy(labels, predicted_songs, song_rate / rate, settings)
        else:
            ranking = _rank_clean(labels, settings)
    rate = rate if rate > settings.negligible_rate else 0.0
    return _label_evidence(labels, ranking, data, settings, rate=rate, song_rate=song_rate)


@dataclass(frozen=True)
class _LabelledSegments:
    """The labelled segments (L of S), and what the first cross-fit measured on them.

    Parameters
    ----------
    rows : array of int, shape (L,)
        Which of all segments they are.
    given, song : array of int, shape (L,)
        Given labels, and songs numbered from 0 without gaps.
    held_out : array, shape (L, K)
        Out-of-fold probabilities.
    learnt, early : array, shape (L,)
        Log odds of the given label from members that learnt from it: after all passes, and after the early ones.
    features : array, shape (L, ...)
    """

    rows: Int64
    given: Int64
    song: Int64
    held_out: Float64
    learnt: Float64
    early: Float64
    features: NDArray[np.floating]

    def given_probabilities(self, probabilities: Float64) -> Float64:
        """Return the probability of each given label, shape (L,), from a table (L, K)."""
        return probabilities[np.arange(len(self.given)), self.given]


@dataclass(frozen=True)
class _Ranking:
    """Scores of given labels, and how the labels that turn out to be wrong are to be treated.

    Parameters
    ----------
    score : array, shape (L,)
        In log odds; the larger, the more likely the given label is right.
    guesses : array, shape (L, K)
        Estimated probabilities of the true labels.
    share_in_songs : float
        Share of the noise that is in songs whose label is wrong as a whole, in [0, 1].
    kept_share : float
        Weight of the given label in the target of a label that is considered wrong; the rest is the guess.
    """

    score: Float64
    guesses: Float64
    share_in_songs: float
    kept_share: float


def _labelled_segments(
    fit: SegmentFit, data: TrainingSet, frontend: str, settings: EmosegSettings
) -> _LabelledSegments:
    rows = np.flatnonzero(data.given != UNLABELLED)
    _, song = np.unique(data.song[rows], return_inverse=True)
    return _LabelledSegments(
        rows=rows,
        given=data.given[rows],
        song=song,
        held_out=fit.out_of_fold[rows],
        learnt=_log_odds(fit.clean[rows], settings),
        early=_log_odds(fit.early_clean[rows], settings),
        features=data.features[frontend][rows],
    )


def _estimate_rate(
    probabilities: Float64, given: Int64, settings: EmosegSettings, *, song: Int64 | None = None
) -> float:
    return estimate_noise_rate(
        probabilities, given, song, significance=settings.rate_significance, tie_break=settings.rate_tie_break
    )


def _estimate_song_rate(labels: _LabelledSegments, data: TrainingSet, settings: EmosegSettings) -> float:
    """Return the estimated share of songs whose label is wrong as a whole, from the networks' predictions alone.

    Blended with the machines' votes, predictions are surer, the likelihood is flat, and the estimate is often 0.
    """
    first_segments = np.unique(labels.song, return_index=True)[1]
    song_labels = data.song_labels()[data.song[labels.rows]][first_segments]
    return _estimate_rate(song_mean(labels.held_out, labels.song)[first_segments], song_labels, settings)


def _rank_by_consensus(labels: _LabelledSegments, consensus: Float64, settings: EmosegSettings) -> _Ranking:
    """Rank labels given one by one: by held-out predictions times the song's other labels, and by `learnt`."""
    guesses = labels.held_out * consensus
    guesses /= guesses.sum(axis=1, keepdims=True)
    score = _log_odds(labels.given_probabilities(guesses), settings) + settings.learnt_weight * labels.learnt
    return _Ranking(score, guesses, share_in_songs=1.0, kept_share=0.0)


def _rank_noisy(
    labels: _LabelledSegments, predicted_songs: Float64, share_in_songs: float, settings: EmosegSettings
) -> _Ranking:
    """Rank inherited labels of which some are wrong: segments by `learnt`, songs by early passes and predictions.

    The targets of wrong labels follow the guess only as far as the noise is in segments. Where a whole song may be
    wrong, the members that learnt from it have memorised its label, and the others are too unsure of a single song to
    correct it, so it keeps its label.
    """
    predicted = _log_odds(labels.given_probabilities(predicted_songs), settings)
    of_songs = song_mean(labels.early[:, None], labels.song)[:, 0] + settings.held_out_weight * predicted
    of_segments = _smoothed(labels.learnt, labels, settings, similar=True)
    score = (1 - share_in_songs) * of_segments + share_in_songs * of_songs
    return _Ranking(score, labels.held_out, share_in_songs, kept_share=share_in_songs)


def _rank_clean(labels: _LabelledSegments, settings: EmosegSettings) -> _Ranking:
    """Rank inherited labels among which no noise was found: by early passes and held-out predictions."""
    held_out = _log_odds(labels.given_probabilities(labels.held_out), settings)
    score = _smoothed(labels.early + settings.held_out_weight * held_out, labels, settings, similar=False)
    return _Ranking(score, labels.held_out, share_in_songs=0.0, kept_share=0.0)


def _smoothed(values: Float64, labels: _LabelledSegments, settings: EmosegSettings, *, similar: bool) -> Float64:
    """Return values averaged over neighbouring segments, or over neighbours that sound similar."""
    return smoothed(
        values,
        labels.song,
        labels.features if similar else None,
        width=settings.smoothing_width,
        likeness=settings.smoothing_likeness,
    )


def _label_evidence(
    labels: _LabelledSegments,
    ranking: _Ranking,
    data: TrainingSet,
    settings: EmosegSettings,
    *,
    rate: float,
    song_rate: float,
) -> LabelEvidence:
    """Turn scores into clean probabilities, of which the share `rate` is below 0.5, and into targets."""
    clean = expit(ranking.score - np.quantile(ranking.score, rate))
    given = np.eye(data.classes)[labels.given] if data.soft is None else data.soft[labels.rows]
    corrected = ranking.kept_share * given + (1 - ranking.kept_share) * ranking.guesses
    targets = np.where((clean < 0.5)[:, None], corrected, given)
    size = len(data.given)
    clean_of_all = _to_all_segments(clean, labels.rows, size)
    noise_is_in_segments = ranking.share_in_songs < settings.drop_atypical_below
    return LabelEvidence(
        rate=rate,
        song_rate=song_rate,
        clean=clean_of_all,
        guesses=_to_all_segments(ranking.guesses, labels.rows, size),
        targets=_to_all_segments(targets, labels.rows, size, elsewhere=0.0),
        atypical=clean_of_all < (0.5 if noise_is_in_segments else 0.0),
        changed=bool((targets.argmax(axis=1) != given.argmax(axis=1)).any()),
    )


def _log_odds(probability: Float64, settings: EmosegSettings) -> Float64:
    return np.asarray(logit(np.clip(probability, settings.odds_floor, 1 - settings.odds_floor)))


def _to_all_segments(values: Float64, rows: Int64, size: int, *, elsewhere: float = np.nan) -> Float64:
    """Return an array over all segments from one over the labelled segments."""
    table = np.full((size, *values.shape[1:]), elsewhere)
    table[rows] = values
    return table
