"""emoseg's own learner: estimate how many labels are wrong, and depart from them only as far as evidence carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, logit

from emoseg.learning.cross_fit import SegmentFit, song_parts
from emoseg.learning.label_noise import estimate_noise_rate, smoothed, song_consensus
from emoseg.learning.methods.base import Method, MethodFit, Prediction, Predictor, Run, TrainingSet, joined
from emoseg.learning.methods.inherit import Mixup, UnwatchedMixup
from emoseg.song.blend import SongBase, SongBlend
from emoseg.song.machine import SongMachine, gaussian_kernel, standardised
from emoseg.song.regression import fit_temperature, given_likelihood
from emoseg.song.statistics import song_mean, song_summaries
from emoseg.types import UNLABELLED, Float64, Int64

# Below this share of wrong labels nothing is relearnt: it is what chance makes of clean labels.
NEGLIGIBLE = 0.02
# What the log odds by members that never saw a segment count beside those by members that learnt it.
OPINION = 0.5
# Support vector machines on whole songs: gamma in units of one over the mean squared norm, costs to choose from, and
# how many unlabelled songs join a second round with what weight.
KERNEL_WIDTH = 0.25
COSTS = (1.0, 3.0, 10.0)
GUESSED_SHARE = 0.6
GUESSED_WEIGHT = 0.15


@dataclass(frozen=True)
class LabelEvidence:
    """What a first training tells about the labels it was given.

    Parameters
    ----------
    rate, song_rate : float
        Estimated share of wrong labels of segments, and of songs whose label is wrong as a whole.
    clean : array, shape (S,)
        Probability that each given label is right; NaN where unlabelled. The share below 0.5 is `rate`.
    guesses : array, shape (S, K)
        What the true labels are taken to be.
    targets : array, shape (S, K)
        What to learn from.
    odd : array of bool, shape (S,)
        Segments that do not sound like the label they inherited, where most of the noise is of that kind.
    changed : bool
        Whether a suspect's target has another label than before, so that there is something new to learn.
    """

    rate: float
    song_rate: float
    clean: Float64
    guesses: Float64
    targets: Float64
    odd: NDArray[np.bool_]
    changed: bool


def weigh_labels(fit: SegmentFit, data: TrainingSet, witness: str, jury: _Jury | None = None) -> LabelEvidence:
    """Weigh every given label by how it was learnt and by what other songs say.

    Three kinds of evidence, each for what it is good at. How willingly members learnt a label (its probability,
    averaged over passes, and over neighbours that sound alike where labels are inherited) finds odd segments. How
    willingly they learnt the song before the last passes, and predictions by members and machines that never saw it,
    find songs that are labelled wrongly as a whole: in the end a network has such a song by heart. Sister segments find
    wrong labels where segments were labelled one by one. How much the second counts against the first is the share of
    the noise that lies in whole songs; both rates are estimated, never given. Where no noise is found, the few labels
    that may be wrong all the same are ranked by the earlier passes and by members that never saw the segment.

    Parameters
    ----------
    fit : SegmentFit
        Of plain training with mixup.
    data : TrainingSet
    witness : str
        The frontend that `fit` is of.
    jury : optional
        Machines on whole songs, whose held-out votes count in the song's emotion.
    """
    rows = np.flatnonzero(data.given != UNLABELLED)
    given, (_, song) = data.given[rows], np.unique(data.song[rows], return_inverse=True)
    held_out = fit.out_of_fold[rows]
    rate = estimate_noise_rate(held_out, given, song)
    learnt, early = _log_odds(fit.clean[rows]), _log_odds(fit.early_clean[rows])
    guesses = held_out.copy()
    consensus = song_consensus(given, song, data.classes)
    in_songs, each, first = 1.0, np.arange(len(given)), np.unique(song, return_index=True)[1]
    # From the networks alone: beside machines, which are surer, the likelihood is flat and often tells nothing.
    of_songs = data.song_labels()[data.song[rows]][first]
    song_rate = estimate_noise_rate(song_mean(held_out, song)[first], of_songs)
    if consensus is None:
        rate = max(rate, song_rate)  # what is wrong with a song is wrong with its segments
        if rate > NEGLIGIBLE:
            in_songs = song_rate / rate
            by_song = jury.opinion(fit.out_of_fold)[rows] if jury else song_mean(held_out, song)
            whole = song_mean(early[:, None], song)[:, 0] + OPINION * _log_odds(by_song[each, given])
            score = (1 - in_songs) * smoothed(learnt, song, data.features[witness][rows]) + in_songs * whole
        else:
            in_songs = 0.0
            score = smoothed(early + OPINION * _log_odds(held_out[each, given]), song)
        # Networks learnt from a wrong song have its label by heart, and those that did not are too unsure of a single
        # song to teach the others: a song that may be wrong keeps its label, the odd segments of a song do not.
        trust = in_songs
    else:
        guesses = held_out * consensus
        guesses /= guesses.sum(axis=1, keepdims=True)
        score = _log_odds(guesses[each, given]) + 0.5 * learnt
        trust = 0.0
    rate = rate if rate > NEGLIGIBLE else 0.0
    cut = np.quantile(score, rate)
    clean = expit(score - cut)
    own = np.eye(data.classes)[given] if data.soft is None else data.soft[rows]
    targets = np.where((clean < 0.5)[:, None], trust * own + (1 - trust) * guesses, own)
    return LabelEvidence(
        rate=rate,
        song_rate=song_rate,
        clean=_spread(clean, rows, len(data.given)),
        guesses=_spread(guesses, rows, len(data.given)),
        targets=_spread(targets, rows, len(data.given), elsewhere=0.0),
        odd=_spread(clean, rows, len(data.given)) < (0.5 if in_songs < 0.5 else 0.0),
        changed=bool((targets.argmax(axis=1) != own.argmax(axis=1)).any()),
    )


def _log_odds(probability: Float64) -> Float64:
    return np.asarray(logit(np.clip(probability, 1e-3, 1 - 1e-3)))


def _spread(values: Float64, rows: Int64, size: int, *, elsewhere: float = np.nan) -> Float64:
    """Return an array over all segments from one over the labelled ones."""
    spread = np.full((size, *values.shape[1:]), elsewhere)
    spread[rows] = values
    return spread


class EvidenceLearner(Method):
    """Plain training with mixup; a second one on weighed labels where labels prove wrong; and a vote of whole songs.

    1. A cross-fit on given labels tells how many are wrong and which (`weigh_labels`).
    2. Where a share of them is wrong, suspects are relearnt from what the members that never saw them say. Where
       labels prove right, the first cross-fit stays as it is: that is what plain training would have given.
    3. The song's emotion is a blend of its segments' mean probability with a machine on the song as a whole
       (`SongMachine`), weighted by how well each predicts held-out songs.

    The labels are weighed on one frontend, the cheapest to learn; networks on the others learn once.
    """

    def fit(self, data: TrainingSet, run: Run) -> MethodFit:
        """Learn from a training set."""
        vectors = [name for name, table in data.features.items() if table.ndim == 2]
        witness = (vectors or list(data.features))[0]
        first = run.cross_fit(data.of(witness), Mixup, name=f"{witness}-first")
        jury = _Jury(data, run, vectors) if vectors else None
        evidence = weigh_labels(first, data, witness, jury)
        targets = evidence.targets if evidence.changed else None
        fits = {
            name: first if name == witness and targets is None else _relearn(data, run, name, targets)
            for name in data.features
        }
        learnt = joined(fits, data, run.config)
        if jury:
            learnt = jury.taught_by(evidence.odd).join(learnt, evidence.song_rate)
        return replace(
            learnt,
            clean=evidence.clean,
            flagged=evidence.clean < 0.5,
            guesses=evidence.guesses,
            noise_rate=evidence.rate,
            song_rate=evidence.song_rate,
        )

    def passes(self, epochs: Mapping[str, int], members: int) -> int:
        """Return how many passes progress should count on at most."""
        return members * (sum(epochs.values()) + min(epochs.values()))


class _Jury:
    """Machines on whole songs, and how they are blended with the mean over segments.

    They judge a song by all of its segments, and learn it by `taught`.
    """

    def __init__(
        self, data: TrainingSet, run: Run, frontends: list[str], taught: NDArray[np.bool_] | None = None
    ) -> None:
        self.data, self.run, self.frontends = data, run, frontends
        self.labels = data.song_labels()
        self.x = self.taught = summaries(data.features, data.song, frontends)
        if taught is not None:
            features = {name: data.features[name][taught] for name in frontends}
            self.taught = summaries(features, data.song[taught], frontends)

    def taught_by(self, odd: NDArray[np.bool_]) -> _Jury:
        """Return machines that learn songs without their odd segments, shape (S,); a song is not odd in all of them."""
        if not odd.any():
            return self
        kept = ~odd | ~np.isin(self.data.song, self.data.song[~odd])
        return _Jury(self.data, self.run, self.frontends, kept)

    @cached_property
    def candidates(self) -> list[SongVotes]:
        """Held-out votes of machines of each cost."""
        part = song_parts(self.labels, self.data.groups, parts=self.run.config.members, seed=self.run.seed)
        return [held_out_votes(self.taught, self.x, self.labels, part, self.data.classes, cost) for cost in COSTS]

    def opinion(self, out_of_fold: Float64) -> Float64:
        """Return held-out probabilities of each segment's song, shape (S, K), as if all labels were right."""
        return self._blended(out_of_fold, 0.0)[2]

    def join(self, learnt: MethodFit, song_rate: float) -> MethodFit:
        """Add the machine to what was learnt on segments; its votes on training songs are held out as theirs are."""
        chosen, blend, of_songs = self._blended(learnt.out_of_fold.segments, song_rate)
        base = SongBase(fit_song_machine(self.taught, self.labels, self.data.classes, chosen.cost), blend)
        return replace(
            learnt,
            predictor=BlendPredictor(learnt.predictor, base, self.frontends),
            song_base=base,
            out_of_fold=Prediction(learnt.out_of_fold.segments, of_songs),
        )

    def _blended(self, out_of_fold: Float64, song_rate: float) -> tuple[SongVotes, SongBlend, Float64]:
        chosen = choose_votes(self.candidates, self.labels, song_rate)
        means = song_mean(out_of_fold, self.data.song)
        of_songs = means[np.unique(self.data.song, return_index=True)[1]]
        known = self.labels != UNLABELLED
        blend = fit_blend(of_songs[known], chosen.votes[known], self.labels[known], song_rate)
        return chosen, blend, blend.probabilities(means, chosen.votes[self.data.song])


def _relearn(data: TrainingSet, run: Run, frontend: str, targets: Float64 | None) -> SegmentFit:
    return run.cross_fit(data.of(frontend), UnwatchedMixup, name=frontend, targets=targets)


class BlendPredictor:
    """A segment model, and for songs a blend of its mean with the vote of a song machine."""

    def __init__(self, segments: Predictor, base: SongBase, frontends: list[str]) -> None:
        self.segments, self.base, self.frontends = segments, base, frontends

    def predict(self, features: Mapping[str, NDArray[np.floating]], song: Int64) -> Prediction:
        """Return probabilities for whole songs."""
        segments = self.segments.predict(features, song).segments
        _, first, index = np.unique(song, return_index=True, return_inverse=True)
        means = song_mean(segments, song)[first]
        return Prediction(segments, self.base.probabilities(means, summaries(features, song, self.frontends))[index])


def summaries(features: Mapping[str, NDArray[np.floating]], song: Int64, frontends: list[str]) -> Float64:
    """Return summaries of whole songs on all vector frontends, shape (N, F): all means, then all deviations."""
    halves = [np.split(song_summaries(features[name], song), 2, axis=1) for name in frontends]
    return np.concatenate([*(mean for mean, _ in halves), *(deviation for _, deviation in halves)], axis=1)


@dataclass(frozen=True)
class SongVotes:
    """What support vector machines on whole songs say of the training songs, each held out of its own machine.

    Parameters
    ----------
    cost : float
        The machines' cost C.
    votes : array, shape (N, K)
        Held-out votes on labelled songs; NaN for the others.
    """

    cost: float
    votes: Float64


def held_out_votes(taught: Float64, x: Float64, labels: Int64, part: Int64, classes: int, cost: float) -> SongVotes:
    """Let machines vote on the labelled songs, each song by a machine that saw none of its part.

    Parameters
    ----------
    taught, x : array, shape (N, F)
        Summaries that are learnt, and summaries that are judged.
    labels, part : array of int, shape (N,)
    classes : int
    cost : float
    """
    votes = np.full((len(labels), classes), np.nan)
    for p in range(part.max() + 1):
        votes[part == p] = fit_song_machine(taught[part != p], labels[part != p], classes, cost).votes(x[part == p])
    return SongVotes(cost, votes)


def choose_votes(candidates: list[SongVotes], labels: Int64, song_rate: float) -> SongVotes:
    """Return the votes that predict held-out songs' given labels best, each by itself.

    Blended with the networks all costs predict nearly equally well, and chance would choose.

    Parameters
    ----------
    candidates : list of SongVotes
    labels : array of int, shape (N,)
        `UNLABELLED` where not known; such songs' votes are not read.
    song_rate : float
        Share of wrong song labels.
    """
    known = labels != UNLABELLED
    return min(candidates, key=lambda c: fit_temperature(c.votes[known], labels[known], song_rate)[1])


def fit_song_machine(x: Float64, labels: Int64, classes: int, cost: float) -> SongMachine:
    """Fit a support vector machine for each pair of labels, on summaries: (N, F) with means in their first half.

    Summaries are weighted by their `relevance`, and deviations within the song count half as much as means. Unlabelled
    songs teach a second round: those whose votes are clearest, three fifths of them with labels in proportion to the
    given ones, join with the label they were voted and a small weight. Pairs that vote score higher than one machine a
    label against all others: see `benchmarks/quality/log.md`.

    Parameters
    ----------
    x : array, shape (N, F)
    labels : array of int, shape (N,)
        `UNLABELLED` where not known.
    classes : int
    cost : float
        C of every machine.

    References
    ----------
    C. Cortes, V. Vapnik. Support-vector networks. Machine Learning 20, 1995.
    U. Kressel. Pairwise classification and support vector machines. Advances in Kernel Methods, 1999.
    """
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    scale = np.where(deviation > 1e-9, deviation, np.inf)  # what never varies says nothing
    z = standardised(x, mean, scale)
    labelled = labels != UNLABELLED
    telling = relevance(z[labelled], labels[labelled], classes)
    telling[x.shape[1] // 2 :] *= 0.5
    # As exact as a model folder keeps it: the machine that is measured is the one that is shipped.
    support = (z * telling).astype(np.float32).astype(np.float64)
    gamma = KERNEL_WIDTH / max(float((support**2).sum(axis=1).mean()), 1e-9)
    kernel = gaussian_kernel(support, support, gamma)

    def fitted(taught: Int64, weight: Float64) -> SongMachine:
        weights, bias = _fit_pairs(kernel, taught, weight, classes, cost)
        used = weights.any(axis=1)
        return SongMachine(mean, scale, telling, gamma, support[used], weights[used], bias)

    machine = fitted(labels, np.ones(len(labels)))
    unlabelled = np.flatnonzero(labels == UNLABELLED)
    if not len(unlabelled):
        return machine
    guessed = _clearest(machine.votes(x[unlabelled]), np.bincount(labels[labels >= 0], minlength=classes))
    taught = labels.copy()
    taught[unlabelled] = guessed
    return fitted(taught, np.where(labels == UNLABELLED, GUESSED_WEIGHT, 1.0))


def relevance(x: Float64, labels: Int64, classes: int) -> Float64:
    """Return how much each column tells of the labels: the root of the share of its variance that lies between them.

    The share that chance gives is taken off and then added to all: a column that tells nothing keeps a small weight,
    and where labels are few all weights are nearly the same. Wrong labels that fall on all labels alike lower all
    shares alike, so the order stays.

    Parameters
    ----------
    x : array, shape (N, F)
    labels : array of int, shape (N,)
    classes : int

    Returns
    -------
    array, shape (F,), in (0, 1]

    References
    ----------
    R. A. Fisher. Statistical methods for research workers, 1925. (correlation ratio eta squared)
    """
    one_hot = np.eye(classes)[labels]
    counts = np.maximum(one_hot.sum(axis=0), 1)
    centred = x - x.mean(axis=0)
    between = (((one_hot.T @ centred) ** 2) / counts[:, None]).sum(axis=0)
    share = between / np.maximum((centred**2).sum(axis=0), 1e-9)
    chance = min(1.0, (classes - 1) / max(1, len(x) - 1))
    return np.asarray(np.sqrt(np.maximum(share - chance, 0) + chance))


def _fit_pairs(kernel: Float64, labels: Int64, weight: Float64, classes: int, cost: float) -> tuple[Float64, Float64]:
    """Return weights (N, P) and bias (P,) of a machine for each pair of labels."""
    from sklearn.svm import SVC

    pairs = list(combinations(range(classes), 2))
    weights, bias = np.zeros((len(labels), len(pairs))), np.zeros(len(pairs))
    for p, (i, j) in enumerate(pairs):
        rows = np.flatnonzero((labels == i) | (labels == j))
        if len(np.unique(labels[rows])) < 2:
            bias[p] = 1.0 if (labels[rows] == i).any() else -1.0
            continue
        machine = SVC(C=cost, kernel="precomputed").fit(kernel[np.ix_(rows, rows)], labels[rows] == i, weight[rows])
        weights[rows[machine.support_], p] = machine.dual_coef_[0]
        bias[p] = machine.intercept_[0]
    return weights, bias


def _clearest(votes: Float64, counts: Int64) -> Int64:
    """Return the voted label of songs, `UNLABELLED` but for those with the greatest lead of their label."""
    guess = votes.argmax(axis=1)
    ordered = np.sort(votes, axis=1)
    lead = ordered[:, -1] - ordered[:, -2]
    chosen = np.full(len(votes), UNLABELLED)
    for k, share in enumerate(counts / counts.sum()):
        rows = np.flatnonzero(guess == k)
        rows = rows[np.argsort(-lead[rows], kind="stable")][: round(GUESSED_SHARE * share * len(votes))]
        chosen[rows] = k
    return chosen


def fit_blend(means: Float64, votes: Float64, labels: Int64, song_rate: float) -> SongBlend:
    """Fit the blend on held-out songs by the likelihood of the given labels, a share of which is wrong.

    Parameters
    ----------
    means, votes : array, shape (N, K)
        Held-out mean probabilities and votes.
    labels : array of int, shape (N,)
    song_rate : float
        Share of wrong song labels (see `estimate_noise_rate`).
    """
    from scipy.optimize import minimize

    logs = np.log(np.clip(means, 1e-4, 1))

    def loss(x: Float64) -> float:
        weights = np.exp(np.clip(x, -6, 3))
        log_p = log_softmax(weights[0] * logs + weights[1] * votes, axis=1)
        return float(-given_likelihood(log_p, labels, song_rate)[0].mean() + 1e-3 * (x**2).sum())

    best = minimize(loss, np.array([0.0, -1.0]), method="Nelder-Mead")
    of_mean, of_votes = np.exp(np.clip(best.x, -6, 3))
    return SongBlend(float(of_mean), float(of_votes))
