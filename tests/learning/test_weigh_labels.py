"""What `weigh_labels` and the votes of songs compute, on made-up cross-fits whose figures can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from planted import SMALL
from scipy.special import logit

from emoseg.learning.cross_fit import SegmentFit
from emoseg.learning.label_noise import song_consensus
from emoseg.learning.methods.base import MethodFit, Prediction, Run
from emoseg.learning.methods.emoseg.evidence import LabelEvidence, weigh_labels
from emoseg.learning.methods.emoseg.settings import EmosegSettings
from emoseg.learning.methods.emoseg.song_machine import fit_song_machine
from emoseg.learning.methods.emoseg.song_votes import SongVoting, fit_blend, held_out_votes
from emoseg.learning.training_set import TrainingSet, song_parts
from emoseg.types import UNLABELLED, Float64, Int64

SONGS, LENGTH = 60, 4
SONG = np.repeat(np.arange(SONGS), LENGTH)
TRUE = SONG % 3
SHARP = EmosegSettings(smoothing_width=0.0)
"""Without smoothing, so that every segment's figure is its own."""


def evidence(
    given: Int64,
    *,
    learnt: Float64,
    early: Float64,
    held_out: Float64,
    settings: EmosegSettings = SHARP,
    song_voting: bool = False,
) -> LabelEvidence:
    rng = np.random.default_rng(0)
    data = TrainingSet({"x": rng.normal(size=(len(given), 3))}, given, SONG, [str(i) for i in range(SONGS)], 3)
    fit = SegmentFit([], 0, held_out, held_out, learnt, early, None, None, [], [])
    voting = SongVoting(data, Run(SMALL, 0), ["x"], settings) if song_voting else None
    return weigh_labels(fit, data, "x", settings, voting)


def predictions(reference: Int64, *, sure: float = 0.9) -> Float64:
    """Predict the reference with a probability around `sure`."""
    own = np.random.default_rng(1).uniform(sure - 0.05, sure + 0.05, len(reference))[:, None]
    return np.where(np.eye(3)[reference] == 1, own, (1 - own) / 2)


def log_odds(found: LabelEvidence, first: int, second: int) -> float:
    """Return how much likelier the label of the first segment is to be right, in log odds."""
    return float(logit(found.clean[first]) - logit(found.clean[second]))


# --- no noise found --------------------------------------------------------------------------------------------------


def test_without_noise_early_passes_and_half_the_held_out_odds_rank_the_labels() -> None:
    held_out = predictions(TRUE)
    early = np.random.default_rng(2).uniform(0.6, 0.9, len(TRUE))
    early[:3], held_out[:3] = (0.8, 0.5, 0.8), [[0.9, 0.05, 0.05], [0.9, 0.05, 0.05], [0.5, 0.25, 0.25]]
    found = evidence(TRUE, learnt=np.full(len(TRUE), 0.3), early=early, held_out=held_out)
    assert (found.rate, found.song_rate, found.changed) == (0.0, 0.0, False)
    assert log_odds(found, 0, 1) == pytest.approx(np.log(4))
    assert log_odds(found, 0, 2) == pytest.approx(np.log(9) / 2)
    assert found.clean.min() == 0.5, "the least likely label is not flagged"
    assert not found.atypical.any()
    np.testing.assert_array_equal(found.targets, np.eye(3)[TRUE])
    np.testing.assert_array_equal(found.guesses, held_out)
    double = SHARP.model_copy(update={"held_out_weight": 1.0})
    again = evidence(TRUE, learnt=np.full(len(TRUE), 0.3), early=early, held_out=held_out, settings=double)
    assert log_odds(again, 0, 2) == pytest.approx(np.log(9))


def test_without_noise_neighbours_are_averaged_however_they_sound() -> None:
    early = np.full(len(TRUE), 0.9)
    early[1] = 0.1
    settings = EmosegSettings(smoothing_width=1.0)
    found = evidence(TRUE, learnt=early, early=early, held_out=predictions(TRUE), settings=settings)
    near, far = np.exp(-0.5), np.exp(-2)
    scores = logit(early) + 0.5 * logit(predictions(TRUE)[np.arange(len(TRUE)), TRUE])
    first = scores[:4] @ [1, near, far, np.exp(-4.5)] / (1 + near + far + np.exp(-4.5))
    second = scores[:4] @ [near, 1, near, far] / (1 + 2 * near + far)
    assert log_odds(found, 0, 1) == pytest.approx(first - second)


def test_probabilities_of_0_and_1_are_cut_before_log_odds() -> None:
    early = np.full(len(TRUE), 0.9)
    early[:2] = 1.0, 0.5
    for floor in (0.001, 0.01):
        settings = SHARP.model_copy(update={"odds_floor": floor, "held_out_weight": 0.0})
        found = evidence(TRUE, learnt=early, early=early, held_out=predictions(TRUE), settings=settings)
        assert log_odds(found, 0, 1) == pytest.approx(np.log((1 - floor) / floor))


# --- inherited labels, some of them wrong ----------------------------------------------------------------------------


@pytest.fixture
def noisy() -> tuple[Int64, Float64]:
    """Twelve songs with a wrong label, and the first segment of twelve others that is of another label."""
    given, predicted = TRUE.copy(), TRUE.copy()
    given[SONG < 12] = (TRUE[SONG < 12] + 1) % 3
    atypical = (SONG >= 12) & (SONG < 24) & (np.arange(len(SONG)) % LENGTH == 0)
    predicted[atypical] = (TRUE[atypical] + 1) % 3
    return given, predictions(predicted)


def test_segments_and_songs_are_weighed_by_the_share_of_the_noise_in_songs(noisy: tuple[Int64, Float64]) -> None:
    given, held_out = noisy
    learnt, early = np.random.default_rng(3).uniform(0.2, 0.9, (2, len(given)))
    found = evidence(given, learnt=learnt, early=early, held_out=held_out)
    assert found.rate == pytest.approx(0.25, abs=0.04)
    assert found.song_rate == pytest.approx(0.2, abs=0.05)
    share = found.song_rate / found.rate
    # In one song only the segments' own odds differ.
    assert log_odds(found, 20, 21) == pytest.approx((1 - share) * (logit(learnt[20]) - logit(learnt[21])))
    of_songs = []
    for song in (5, 30):
        rows = slice(song * LENGTH, (song + 1) * LENGTH)
        predicted = held_out[rows].mean(axis=0)[given[rows][0]]
        of_songs.append(logit(early[rows]).mean() + 0.5 * logit(predicted))
    expected = (1 - share) * (logit(learnt[20]) - logit(learnt[120])) + share * (of_songs[0] - of_songs[1])
    assert log_odds(found, 20, 120) == pytest.approx(expected)


def test_as_many_labels_are_flagged_as_are_estimated_to_be_wrong(noisy: tuple[Int64, Float64]) -> None:
    given, held_out = noisy
    learnt = np.random.default_rng(3).uniform(0.2, 0.9, len(given))
    found = evidence(given, learnt=learnt, early=learnt, held_out=held_out)
    assert (found.clean < 0.5).mean() == pytest.approx(found.rate, abs=1 / len(given))


def test_a_wrong_label_gives_way_to_the_guess_as_far_as_the_noise_is_in_segments(noisy: tuple[Int64, Float64]) -> None:
    given, held_out = noisy
    learnt = np.random.default_rng(3).uniform(0.2, 0.9, len(given))
    found = evidence(given, learnt=learnt, early=learnt, held_out=held_out)
    share = found.song_rate / found.rate
    own, wrong = np.eye(3)[given], found.clean < 0.5
    np.testing.assert_allclose(found.targets[wrong], (share * own + (1 - share) * held_out)[wrong])
    np.testing.assert_array_equal(found.targets[~wrong], own[~wrong])
    assert not found.changed, "most of the noise is in songs, and songs keep their label"


def test_segments_are_atypical_only_where_most_of_the_noise_is_in_segments(noisy: tuple[Int64, Float64]) -> None:
    given, held_out = noisy
    learnt = np.random.default_rng(3).uniform(0.2, 0.9, len(given))
    for limit, expected in ((0.5, False), (1.0, True)):
        settings = SHARP.model_copy(update={"drop_atypical_below": limit})
        found = evidence(given, learnt=learnt, early=learnt, held_out=held_out, settings=settings)
        np.testing.assert_array_equal(found.atypical, (found.clean < 0.5) & expected)


def test_noise_in_segments_changes_targets(noisy: tuple[Int64, Float64]) -> None:
    _, held_out = noisy
    learnt = np.where(held_out.argmax(axis=1) == TRUE, 0.9, 0.2)
    found = evidence(TRUE, learnt=learnt, early=learnt, held_out=held_out)
    assert found.song_rate == 0
    assert found.rate == pytest.approx(0.05, abs=0.02)
    assert log_odds(found, 49, 48) == pytest.approx(np.log(36)), "the first segment of song 12 is wrong"
    assert found.changed
    assert found.atypical.any()


def test_a_negligible_rate_counts_as_none(noisy: tuple[Int64, Float64]) -> None:
    given, held_out = noisy
    learnt = np.full(len(given), 0.7)
    settings = SHARP.model_copy(update={"negligible_rate": 0.6})
    found = evidence(given, learnt=learnt, early=learnt, held_out=held_out, settings=settings)
    assert found.rate == 0
    assert found.song_rate > 0.1
    assert not (found.clean < 0.5).any()


def test_a_stricter_test_finds_no_noise(noisy: tuple[Int64, Float64]) -> None:
    given, held_out = noisy
    learnt = np.full(len(given), 0.7)
    settings = SHARP.model_copy(update={"rate_significance": 1e6})
    found = evidence(given, learnt=learnt, early=learnt, held_out=held_out, settings=settings)
    assert (found.rate, found.song_rate) == (0, 0)


def test_votes_of_songs_change_the_prediction_of_songs_alone(noisy: tuple[Int64, Float64]) -> None:
    given, held_out = noisy
    learnt = np.random.default_rng(3).uniform(0.2, 0.9, len(given))
    found = evidence(given, learnt=learnt, early=learnt, held_out=held_out, song_voting=True)
    alone = evidence(given, learnt=learnt, early=learnt, held_out=held_out)
    assert (found.rate, found.song_rate) == (alone.rate, alone.song_rate)
    assert log_odds(found, 20, 21) == pytest.approx(log_odds(alone, 20, 21))
    assert log_odds(found, 20, 120) != pytest.approx(log_odds(alone, 20, 120), rel=1e-3)


# --- labels given one by one -----------------------------------------------------------------------------------------


def test_labels_given_one_by_one_are_ranked_by_the_other_segments_and_half_the_learnt_odds() -> None:
    given = TRUE.copy()
    given[::5] = (given[::5] + 1) % 3
    held_out = predictions(TRUE, sure=0.7)
    held_out[21:23] = held_out[21]
    learnt = np.random.default_rng(4).uniform(0.3, 0.8, len(given))
    found = evidence(given, learnt=learnt, early=learnt, held_out=held_out)
    consensus = song_consensus(given, SONG, 3)
    assert consensus is not None
    guesses = held_out * consensus / (held_out * consensus).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.guesses, guesses)
    assert given[21] == given[22]
    assert log_odds(found, 21, 22) == pytest.approx((logit(learnt[21]) - logit(learnt[22])) / 2)
    of_guess = logit(guesses[np.arange(len(given)), given])
    expected = of_guess[40] - of_guess[7] + (logit(learnt[40]) - logit(learnt[7])) / 2
    assert log_odds(found, 40, 7) == pytest.approx(expected)
    assert not found.atypical.any()
    wrong = found.clean < 0.5
    assert wrong.mean() == pytest.approx(0.2, abs=0.05)
    np.testing.assert_allclose(found.targets[wrong], guesses[wrong])
    triple = SHARP.model_copy(update={"learnt_weight": 1.5})
    again = evidence(given, learnt=learnt, early=learnt, held_out=held_out, settings=triple)
    assert log_odds(again, 21, 22) == pytest.approx(1.5 * (logit(learnt[21]) - logit(learnt[22])))
    off = SHARP.model_copy(update={"consensus_disagreement": 1.0})
    np.testing.assert_array_equal(
        evidence(given, learnt=learnt, early=learnt, held_out=held_out, settings=off).guesses, held_out
    )


def test_unlabelled_segments_have_no_evidence() -> None:
    given = np.where(SONG < 6, UNLABELLED, TRUE)
    held_out = predictions(TRUE)
    held_out[SONG < 6] = np.nan
    found = evidence(given, learnt=np.full(len(TRUE), 0.8), early=np.full(len(TRUE), 0.8), held_out=held_out)
    assert np.isnan(found.clean[SONG < 6]).all()
    assert np.isnan(found.guesses[SONG < 6]).all()
    assert not found.targets[SONG < 6].any()
    assert not found.atypical[SONG < 6].any()
    assert np.isfinite(found.clean[SONG >= 6]).all()


# --- votes of songs --------------------------------------------------------------------------------------------------


def songs(*, spread: float = 1.0, seed: int = 0) -> tuple[Float64, Int64]:
    """Draw summaries of 60 songs: three means that depend on the label, and three deviations that do not."""
    rng = np.random.default_rng(seed)
    labels = np.arange(SONGS) % 3
    return np.column_stack(
        [2 * np.eye(3)[labels] + spread * rng.normal(size=(SONGS, 3)), rng.normal(size=(SONGS, 3))]
    ), labels


def test_votes_are_sharpened_by_their_setting() -> None:
    x, labels = songs()
    two = labels < 2
    x, labels = x[two], labels[two]
    normal = fit_song_machine(x, labels, 2, 1.0, EmosegSettings()).votes(x)
    sharp = fit_song_machine(x, labels, 2, 1.0, EmosegSettings(vote_sharpness=6.0)).votes(x)
    np.testing.assert_allclose(sharp, np.tanh(2 * np.arctanh(normal)), rtol=1e-9)


def test_the_kernel_is_scaled_by_the_mean_squared_norm() -> None:
    x, labels = songs()
    settings = EmosegSettings(weigh_summaries=False, deviation_weight=1.0)
    machine = fit_song_machine(x, labels, 3, 1e-3, settings)  # of so small a cost that every song is a support vector
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    assert machine.support.shape == x.shape
    assert machine.gamma == pytest.approx(0.25 / (z**2).sum(axis=1).mean(), rel=1e-6)
    np.testing.assert_array_equal(machine.relevance, 1.0)
    np.testing.assert_allclose(machine.support, z, rtol=1e-6, atol=1e-6)
    wide = fit_song_machine(x, labels, 3, 1e-3, settings.model_copy(update={"kernel_width": 0.5}))
    assert wide.gamma == pytest.approx(2 * machine.gamma)


def test_deviations_count_by_their_weight() -> None:
    x, labels = songs()
    weights = {w: fit_song_machine(x, labels, 3, 1.0, EmosegSettings(deviation_weight=w)).relevance for w in (1.0, 0.5)}
    np.testing.assert_allclose(weights[0.5], weights[1.0] * [1, 1, 1, 0.5, 0.5, 0.5])


def test_the_clearest_unlabelled_songs_join_a_second_round() -> None:
    """Of a small cost, every song that is learnt from is a support vector."""
    reported = np.r_[-1.0, -1.1, -1.2, 1.0, 1.1, 1.2, np.linspace(-0.9, 0.9, 30)]
    x = np.column_stack([reported, np.zeros(36)])
    labels = np.r_[0, 0, 0, 1, 1, 1, np.full(30, UNLABELLED)]
    machine = fit_song_machine(x, labels, 2, 1e-3, EmosegSettings(guessed_share=0.4))
    used = np.sort(machine.support[:, 0] / machine.relevance[0]) * reported.std() + reported.mean()
    outermost = np.r_[reported[:6], reported[6:12], reported[-6:]]  # 0.4 of the thirty, half of them with each label
    np.testing.assert_allclose(used, np.sort(outermost), atol=1e-5)
    none = fit_song_machine(x, labels, 2, 1e-3, EmosegSettings(guessed_share=0.0))
    assert len(none.support) == 6


def test_guessed_songs_have_a_small_weight() -> None:
    reported = np.r_[-1.0, -1.1, 1.0, 1.1, np.linspace(-2, 2, 20)]
    x = np.column_stack([reported, np.zeros(24)])
    labels = np.r_[0, 0, 1, 1, np.full(20, UNLABELLED)]
    # While the cost bounds every weight, a song's weight in the machine is its weight in learning times the cost.
    machine = fit_song_machine(x, labels, 2, 1e-3, EmosegSettings(guessed_share=1.0, guessed_weight=0.25))
    np.testing.assert_allclose(np.unique(np.abs(machine.weights).round(9)), [0.25e-3, 1e-3])


def test_votes_on_a_part_do_not_depend_on_its_songs() -> None:
    x, labels = songs()
    part = song_parts(labels, [str(i) for i in range(SONGS)], parts=3, seed=0)
    before = held_out_votes(x, x, labels, part, 3, 1.0, EmosegSettings()).votes
    changed = x.copy()
    changed[part == 1] += 3.0
    after = held_out_votes(changed, x, labels, part, 3, 1.0, EmosegSettings()).votes
    np.testing.assert_array_equal(before[part == 1], after[part == 1])
    assert (before[part == 0] != after[part == 0]).any()
    fitted = fit_song_machine(x[part != 2], labels[part != 2], 3, 1.0, EmosegSettings())
    np.testing.assert_array_equal(before[part == 2], fitted.votes(x[part == 2]))


@pytest.mark.parametrize("cost", [0.5, 20.0])
def test_the_machine_that_is_kept_has_the_chosen_cost(cost: float) -> None:
    rng = np.random.default_rng(5)
    x = np.repeat(2 * np.eye(3)[np.arange(SONGS) % 3], LENGTH, axis=0) + 2 * rng.normal(size=(len(SONG), 3))
    data = TrainingSet({"x": x}, TRUE, SONG, [str(i) for i in range(SONGS)], 3)
    settings = EmosegSettings(costs=(cost,))
    voting = SongVoting(data, Run(SMALL, 0), ["x"], settings)
    held_out = predictions(TRUE)
    segments = MethodFit(None, Prediction(held_out), held_out[:, 0], SONG < 0, held_out, 0.0, None, {})  # type: ignore[arg-type]
    base = voting.add_to(segments, 0.0).song_base
    assert base is not None
    kept, three = (fit_song_machine(voting.summaries, np.arange(SONGS) % 3, 3, c, settings) for c in (cost, 3.0))
    np.testing.assert_array_equal(base.machine.weights, kept.weights)
    assert base.machine.weights.shape != three.weights.shape or (base.machine.weights != three.weights).any()


def test_a_strong_penalty_holds_the_blend_to_weights_of_one() -> None:
    rng = np.random.default_rng(6)
    labels = rng.integers(0, 3, 200)
    means, votes = rng.dirichlet(np.ones(3), 200), 2 * np.eye(3)[labels] - 1
    held = fit_blend(means, votes, labels, 0.0, penalty=1e4)
    assert (held.of_mean, held.of_votes) == pytest.approx((1, 1), abs=0.01)
    free = fit_blend(means, votes, labels, 0.0)
    assert free.of_votes > 3 > free.of_mean


def test_the_blend_allows_for_wrong_songs() -> None:
    """Labels that are wrong in one of five songs make the blend less sure, unless it knows of them."""
    rng = np.random.default_rng(7)
    true = rng.integers(0, 3, 400)
    given = np.where(rng.random(400) < 0.2, (true + 1) % 3, true)
    votes = 2 * np.eye(3)[true] - 1 + 0.5 * rng.normal(size=(400, 3))
    means = np.full((400, 3), 1 / 3)
    naive, aware = (fit_blend(means, votes, given, rate) for rate in (0.0, 0.2))
    assert aware.of_votes > 1.5 * naive.of_votes
    np.testing.assert_allclose(aware.probabilities(means, votes).sum(axis=1), 1.0)
