"""emoseg's own learner: how many labels are wrong, which, and what songs as a whole add."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planted import SMALL, Blobs, blobs

from emoseg.learning.label_noise import estimate_noise_rate
from emoseg.learning.methods.base import Run
from emoseg.learning.methods.emoseg.evidence import weigh_labels
from emoseg.learning.methods.emoseg.method import Emoseg
from emoseg.learning.methods.emoseg.settings import EmosegSettings
from emoseg.learning.methods.emoseg.song_machine import fit_song_machine, relevance
from emoseg.learning.methods.emoseg.song_votes import SongVotes, SongVoting, choose_votes, fit_blend
from emoseg.learning.methods.inherit import MixupTrainer
from emoseg.metrics import auroc
from emoseg.types import UNLABELLED, Float64, Int64

SETTINGS = EmosegSettings()


def predictions(rate: float, *, n: int = 4000, sharpness: float = 1.5, seed: int = 0) -> tuple[Float64, Int64]:
    """Draw true labels, calibrated predictions of them, and given labels of which a share is wrong."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(4, 0.3), n)
    true = np.array([rng.choice(4, p=row) for row in p])
    given = true.copy()
    wrong = rng.permutation(n)[: round(rate * n)]
    given[wrong] = (true[wrong] + rng.integers(1, 4, len(wrong))) % 4
    # Over-confident by a temperature, as networks are.
    p = p**sharpness
    return p / p.sum(axis=1, keepdims=True), given


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4])
def test_the_noise_rate_is_found_under_a_wrong_calibration(rate: float) -> None:
    p, given = predictions(rate)
    assert estimate_noise_rate(p, given) == pytest.approx(rate, abs=0.03)


def test_a_weak_predictor_is_not_taken_for_noise() -> None:
    rng = np.random.default_rng(1)
    given = rng.integers(0, 4, 3000)
    p = rng.dirichlet(np.full(4, 5.0), 3000)
    p[np.arange(3000), given] += 0.1  # barely better than chance, and over-confident in it
    p = (p / p.sum(axis=1, keepdims=True)) ** 3
    assert estimate_noise_rate(p / p.sum(axis=1, keepdims=True), given) < 0.05


def test_clean_labels_are_left_alone() -> None:
    data = blobs(3)
    fit = Emoseg().fit(data.training_set(), Run(SMALL, 0))
    assert fit.noise_rate < 0.02
    assert not fit.flagged.any()
    assert list(fit.history) == ["blobs"]
    plain = Run(SMALL, 0).cross_fit(data.training_set(), "blobs", MixupTrainer, name="plain")
    np.testing.assert_array_equal(fit.out_of_fold.segments, plain.out_of_fold)


def test_atypical_stretches_are_found_and_relearnt() -> None:
    data = blobs(4, stretches=0.5)
    fit = Emoseg().fit(data.training_set(), Run(SMALL, 0))
    assert auroc(data.right, fit.clean) > 0.95
    assert fit.noise_rate == pytest.approx(0.25, abs=0.06)
    assert (fit.flagged == ~data.right).mean() > 0.93
    assert (fit.guesses.argmax(axis=1) == data.true)[fit.flagged].mean() > 0.85


def test_song_machines_learn_songs_without_their_atypical_segments() -> None:
    data, run = blobs(4, stretches=0.5), Run(SMALL, 0)
    songs = data.training_set()
    voting = SongVoting(songs, run, ["blobs"], SETTINGS)
    fit = run.cross_fit(songs, "blobs", MixupTrainer, name="first")
    atypical = weigh_labels(fit, songs, "blobs", SETTINGS, voting).atypical
    assert (atypical == ~data.right).mean() > 0.93
    atypical[data.song == 0] = True  # all of it: then it is learnt whole
    learnt = voting.without(atypical).training_summaries
    for song in range(60):
        kept = (data.song == song) & (~atypical | (song == 0))
        sounds = data.features[kept].astype(np.float64)
        np.testing.assert_allclose(learnt[song], np.concatenate([sounds.mean(axis=0), sounds.std(axis=0)]), atol=1e-6)
    np.testing.assert_array_equal(voting.training_summaries, voting.summaries)


def test_where_noise_is_found_segments_that_sound_alike_are_averaged_together() -> None:
    data, run = blobs(4, stretches=0.5), Run(SMALL, 0)
    songs = data.training_set()
    fit = run.cross_fit(songs, "blobs", MixupTrainer, name="first")
    similar = weigh_labels(fit, songs, "blobs", SETTINGS)
    alike = weigh_labels(fit, replace(songs, features={"blobs": np.zeros_like(data.features)}), "blobs", SETTINGS)
    assert similar.rate == alike.rate > 0.1
    assert auroc(data.right, similar.clean) > auroc(data.right, alike.clean)


@pytest.mark.parametrize("data", [blobs(3), blobs(5, flips=0.3)])
def test_no_segment_is_atypical_where_labels_are_right_or_given_one_by_one(data: Blobs) -> None:
    run = Run(SMALL, 0)
    fit = run.cross_fit(data.training_set(), "blobs", MixupTrainer, name="first")
    assert not weigh_labels(fit, data.training_set(), "blobs", SETTINGS).atypical.any()


def test_labels_that_are_trusted_stay_soft() -> None:
    data = blobs(4, stretches=0.5)
    songs = replace(data.training_set(), soft=0.8 * np.eye(3)[data.given] + 0.2 / 3)
    found = weigh_labels(Run(SMALL, 0).cross_fit(songs, "blobs", MixupTrainer, name="first"), songs, "blobs", SETTINGS)
    trusted = found.clean >= 0.5
    assert songs.soft is not None
    assert 0.6 < trusted.mean() < 0.9
    np.testing.assert_array_equal(found.targets[trusted], songs.soft[trusted])
    assert (found.targets[~trusted].argmax(axis=1) == data.true[~trusted]).mean() > 0.8


def test_labels_given_one_by_one_are_judged_by_the_songs_other_segments() -> None:
    data = blobs(5, flips=0.3)
    fit = Emoseg().fit(data.training_set(), Run(SMALL, 0))
    assert auroc(data.right, fit.clean) > 0.99
    assert (fit.guesses.argmax(axis=1) == data.true).mean() > (data.given == data.true).mean() + 0.2


def test_songs_labelled_wrongly_as_a_whole_keep_their_label_but_are_named() -> None:
    clean = blobs(6, songs=120)
    rng = np.random.default_rng(0)
    wrong_songs = rng.permutation(120)[:24]
    given = clean.given.copy()
    members = np.isin(clean.song, wrong_songs)
    given[members] = (given[members] + rng.integers(1, 3, 120)[clean.song[members]]) % 3
    data = replace(clean, given=given)
    fit = Run(SMALL, 0).cross_fit(data.training_set(), "blobs", MixupTrainer, name="first")
    found = weigh_labels(fit, data.training_set(), "blobs", SETTINGS)
    assert found.song_rate == pytest.approx(0.2, abs=0.06)
    assert found.rate == pytest.approx(0.2, abs=0.06)
    assert auroc(data.right, found.clean) > 0.95
    np.testing.assert_array_equal(found.targets.argmax(axis=1), given)


def test_songs_whose_majority_label_is_wrong_are_counted_where_segments_were_labelled_one_by_one() -> None:
    data, run = blobs(6, songs=120), Run(SMALL, 0)
    rng = np.random.default_rng(0)
    missimilar = np.isin(data.song, rng.permutation(120)[:24])
    given = np.where(missimilar, (data.given + rng.integers(1, 3, 120)[data.song]) % 3, data.given)
    flipped = rng.random(len(given)) < 0.2
    given = np.where(flipped, (given + rng.integers(1, 3, len(given))) % 3, given)
    songs = replace(data, given=given).training_set()
    found = weigh_labels(run.cross_fit(songs, "blobs", MixupTrainer, name="first"), songs, "blobs", SETTINGS)
    assert found.song_rate == pytest.approx((songs.song_labels() != data.training_set().song_labels()).mean(), abs=0.08)
    assert found.rate > 0.15


def test_the_share_of_wrong_songs_does_not_depend_on_machines_but_the_ranking_does() -> None:
    data, run = blobs(6, songs=120), Run(SMALL, 0)
    rng = np.random.default_rng(0)
    wrong = np.isin(data.song, rng.permutation(120)[:24])
    given = np.where(wrong, (data.given + rng.integers(1, 3, 120)[data.song]) % 3, data.given)
    songs = replace(data, given=given).training_set()
    fit = run.cross_fit(songs, "blobs", MixupTrainer, name="first")
    alone, judged = (
        weigh_labels(fit, songs, "blobs", SETTINGS),
        weigh_labels(fit, songs, "blobs", SETTINGS, SongVoting(songs, run, ["blobs"], SETTINGS)),
    )
    assert alone.song_rate == judged.song_rate > 0.1
    assert (alone.clean != judged.clean).any()


def test_unlabelled_songs_are_neither_judged_nor_learnt_from() -> None:
    data = blobs(7, stretches=0.5)
    given = np.where(data.song % 4 == 0, UNLABELLED, data.given)
    fit = Emoseg().fit(replace(data, given=given).training_set(), Run(SMALL, 0))
    assert np.isnan(fit.clean[given == UNLABELLED]).all()
    assert not fit.flagged[given == UNLABELLED].any()
    assert np.isfinite(fit.clean[given != UNLABELLED]).all()


def test_the_song_machine_votes_for_the_class_of_a_song() -> None:
    rng = np.random.default_rng(8)
    labels = np.arange(90) % 3
    x = 3 * np.eye(3, 6)[labels] + rng.normal(size=(90, 6))
    constant = np.column_stack([x, np.full(90, 7.0)])
    machine = fit_song_machine(constant[:60], labels[:60], 3, 1.0, SETTINGS)
    votes = machine.votes(constant[60:])
    assert (votes.argmax(axis=1) == labels[60:]).mean() > 0.9
    np.testing.assert_allclose(votes.sum(axis=1), 0, atol=1e-12)
    assert np.abs(votes).max() <= 2
    # What never varied in training says nothing of a song where it does.
    constant[60:, -1] = 1e6
    np.testing.assert_array_equal(machine.votes(constant[60:]), votes)


def test_a_song_machine_without_songs_of_a_label_votes_against_it() -> None:
    labels = np.array([0, 1] * 10)
    x = np.random.default_rng(0).normal(size=(20, 3)) + 4 * labels[:, None]
    votes = fit_song_machine(x, labels, 3, 1.0, SETTINGS).votes(x)
    assert (votes.argmax(axis=1) == labels).all()
    assert (votes[:, 2] < -1.9).all()


def test_unlabelled_songs_teach_the_song_machine() -> None:
    # Two moons: the few labelled songs lie at one end of each, and only the unlabelled ones show how they go on.
    rng = np.random.default_rng(10)
    angle = np.linspace(0, np.pi, 100)
    moons = [np.c_[np.cos(angle), np.sin(angle)], np.c_[1 - np.cos(angle), 0.4 - np.sin(angle)]]
    places = np.concatenate(moons) + rng.normal(0, 0.05, (200, 2))
    true = np.repeat([0, 1], 100)
    labels = np.where(np.tile(angle, 2) < 1.0, true, UNLABELLED)
    x = np.column_stack([places, np.zeros((200, 2))])
    known = labels != UNLABELLED
    alone = fit_song_machine(x[known], labels[known], 2, 10.0, SETTINGS).votes(x).argmax(axis=1)
    learnt = fit_song_machine(x, labels, 2, 10.0, SETTINGS).votes(x).argmax(axis=1)
    assert (learnt == true).mean() > (alone == true).mean()


def test_columns_that_tell_the_labels_count_more_and_deviations_half() -> None:
    rng = np.random.default_rng(11)
    labels = np.arange(400) % 4
    reported = np.where(labels < 2, 1.0, -1.0)
    x = np.column_stack([reported, reported + rng.normal(size=400), rng.normal(size=400)])
    weight = relevance(x, labels, 4)
    # Shares of 1 and a half, and of chance: 3 / 399.
    np.testing.assert_allclose(weight, [1, 0.5**0.5, 0.09], atol=0.04)
    assert fit_song_machine(np.column_stack([reported, reported]), labels, 4, 1.0, SETTINGS).relevance == pytest.approx(
        [1, 0.5]
    )
    wrong = np.where(rng.random(400) < 0.4, rng.integers(0, 4, 400), labels)
    assert relevance(x, wrong, 4)[1] > 2 * relevance(x, wrong, 4)[2]


def test_the_votes_that_predict_held_out_songs_are_chosen() -> None:
    rng = np.random.default_rng(12)
    labels = np.where(np.arange(200) % 10 == 0, UNLABELLED, rng.integers(0, 3, 200))
    bad, good = (np.where(labels[:, None] == UNLABELLED, np.nan, rng.normal(size=(200, 3))) for _ in range(2))
    good += 2 * np.eye(3)[labels]
    candidates = [SongVotes(1.0, bad), SongVotes(3.0, good), SongVotes(10.0, -good)]
    assert choose_votes(candidates, labels, 0.0).cost == 3.0


def test_the_blend_weighs_each_source_by_what_it_predicts() -> None:
    rng = np.random.default_rng(9)
    labels = rng.integers(0, 3, 300)
    good = np.full((300, 3), 0.2) + 0.4 * np.eye(3)[np.where(rng.random(300) < 0.9, labels, (labels + 1) % 3)]
    noise = rng.normal(size=(300, 3))
    trusting_means = fit_blend(good, noise, labels, 0.0)
    assert trusting_means.of_votes < 0.1
    assert (trusting_means.probabilities(good, noise).argmax(axis=1) == labels).mean() > 0.85
    informative = 2 * np.eye(3)[labels] - 1 + rng.normal(size=(300, 3))
    trusting_votes = fit_blend(rng.dirichlet(np.ones(3), 300), informative, labels, 0.0)
    assert trusting_votes.of_votes > 3 * trusting_votes.of_mean


def test_progress_counts_the_second_cross_fit_of_the_cheapest_frontend() -> None:
    assert Emoseg().passes({"a": 12, "b": 16}, 4) == 4 * (12 + 16 + 12)
