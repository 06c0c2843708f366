"""Clean probabilities from planted losses: the mixture recovered, and every guard."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from emoseg.learning.label_noise import (
    CleanProbability,
    clean_probability,
    estimate_noise_rate,
    smoothed,
    song_consensus,
    with_consensus,
)
from emoseg.metrics import auroc
from emoseg.types import Float64, Int64

# Cross-entropy of one part in 10^12, the largest that the learner hands over.
LARGEST = 27.6


class Planted(NamedTuple):
    losses: Float64
    labels: Int64
    clean: np.ndarray[tuple[int], np.dtype[np.bool_]]
    posterior: Float64


def planted(
    size: int = 600,
    *,
    noisy_share: float = 0.3,
    noisy: tuple[float, float] = (2.6, 0.5),
    trusted: tuple[float, float] = (0.6, 0.25),
    classes: int = 3,
    seed: int = 0,
) -> Planted:
    """Draw losses from two Gaussians, with the posterior that their true parameters give."""
    rng = np.random.default_rng(seed)
    clean = rng.random(size) >= noisy_share
    losses = np.where(clean, rng.normal(*trusted, size), rng.normal(*noisy, size))
    of_clean = (1 - noisy_share) * norm.pdf(losses, *trusted)
    of_noisy = noisy_share * norm.pdf(losses, *noisy)
    return Planted(losses, rng.integers(0, classes, size), clean, of_clean / (of_clean + of_noisy))


def test_smoothing_stays_within_songs_and_keeps_what_is_constant() -> None:
    song = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    values = np.array([0.0, 0, 1, 0, 5, 5, 5, 7])
    smooth = smoothed(values, song)
    np.testing.assert_allclose(smoothed(values, song, np.ones((8, 3))), smooth)
    np.testing.assert_allclose(smooth[4:], values[4:])
    assert 0 < smooth[0] < smooth[1] < smooth[2] < 0.6
    assert smooth[3] > smooth[0]


@pytest.mark.parametrize("shape", [(8, 5), (8, 5, 7)])
def test_a_change_of_sound_ends_a_stretch(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    part = np.arange(8) // 4
    features = rng.normal(0, 0.1, shape) + part.reshape(-1, *[1] * (len(shape) - 1))
    values = part + rng.normal(0, 0.3, 8)
    smooth = smoothed(values, np.zeros(8, dtype=int), features)
    alike = smoothed(values, np.zeros(8, dtype=int), rng.normal(0, 0.1, shape))
    for half in (slice(4), slice(4, 8)):
        assert smooth[half].std() < 0.5 * values[half].std()
    assert smooth[4] - smooth[3] > 1.5 * (alike[4] - alike[3])
    assert smooth[4:].min() > smooth[:4].max()


def test_smoothing_without_features_weighs_neighbours_by_a_gaussian_in_time() -> None:
    near, far = np.exp(-0.5), np.exp(-2)
    smooth = smoothed(np.array([1.0, 0, 0, 7]), np.array([0, 0, 0, 1]), width=1.0)
    expected = [1 / (1 + near + far), near / (1 + 2 * near), far / (1 + near + far), 7]
    np.testing.assert_allclose(smooth, expected)
    values = np.random.default_rng(0).normal(size=9)
    np.testing.assert_array_equal(smoothed(values, np.zeros(9, int), width=0.0), values)


@pytest.mark.parametrize(("width", "reach"), [(0.3, 2), (0.5, 3), (1.5, 8)])
def test_smoothing_with_features_is_a_bilateral_filter(width: float, reach: int) -> None:
    rng = np.random.default_rng(1)
    values, features, song = rng.normal(size=20), rng.normal(3, 5, (20, 4)), np.repeat([0, 1], [9, 11])
    z = (features - features.mean(axis=0)) / features.std(axis=0)
    assert np.abs(z).max() < 5
    expected = np.zeros(20)
    for rows in (range(9), range(9, 20)):
        pairs = [(i, j) for i in rows for j in rows if 0 < j - i <= reach]
        median = np.median([((z[i] - z[j]) ** 2).sum() for i, j in pairs])
        for i in rows:
            near = [j for j in rows if abs(i - j) <= reach]
            distance = np.array([((z[i] - z[j]) ** 2).sum() for j in near]) / (0.25 * median)
            weight = np.exp(-((i - np.array(near)) ** 2) / (2 * width**2) - distance)
            expected[i] = weight @ values[near] / weight.sum()
    np.testing.assert_allclose(smoothed(values, song, features, width=width, likeness=0.25), expected)


@pytest.mark.parametrize("noisy_share", [0.1, 0.3, 0.6])
def test_two_planted_components_are_recovered(noisy_share: float) -> None:
    truth = planted(noisy_share=noisy_share)
    found = clean_probability(truth.losses, truth.labels)
    assert found.fallback is None
    assert found.rescued_classes == ()
    assert auroc(truth.clean, found.probability) > 0.99
    assert np.abs(found.probability - truth.posterior).mean() < 0.02
    assert ((found.probability > 0.5) == truth.clean).mean() > 0.98


def test_overlapping_components_give_posteriors_near_the_true_ones() -> None:
    truth = planted(4000, noisy=(2.0, 0.5), trusted=(0.6, 0.4), noisy_share=0.4)
    found = clean_probability(truth.losses, truth.labels)
    between = (truth.posterior > 0.05) & (truth.posterior < 0.95)
    assert between.mean() > 0.1
    assert np.abs(found.probability - truth.posterior)[between].mean() < 0.1


def test_few_segments_are_all_trusted() -> None:
    truth = planted(19)
    found = clean_probability(truth.losses, truth.labels)
    assert found.fallback == "few segments"
    np.testing.assert_array_equal(found.probability, 1.0)
    assert clean_probability(*planted(40)[:2], min_segments=41).fallback == "few segments"
    assert clean_probability(*planted(40)[:2], min_segments=40).fallback is None


def test_equal_losses_are_all_trusted() -> None:
    found = clean_probability(np.full(50, 1.7), np.zeros(50, dtype=np.int64))
    assert found.fallback == "equal losses"
    np.testing.assert_array_equal(found.probability, 1.0)


@pytest.mark.parametrize("seed", range(5))
def test_a_single_hump_is_one_group(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = clean_probability(rng.normal(2.0, 0.3, 500), rng.integers(0, 3, 500), min_separation=2.0)
    assert found.fallback in ("overlap", "minor component")
    np.testing.assert_array_equal(found.probability, 1.0)


def test_a_uniform_spread_is_one_group_at_a_large_enough_separation() -> None:
    losses = np.linspace(2.0, 3.0, 400)
    labels = np.arange(400) % 3
    assert clean_probability(losses, labels, min_separation=4.0).fallback == "overlap"


def test_a_minor_component_is_not_a_group() -> None:
    losses = np.r_[np.random.default_rng(0).normal(0.5, 0.1, 990), np.full(10, 3.0)]
    labels = np.arange(1000) % 3
    found = clean_probability(losses, labels)
    assert found.fallback == "minor component"
    np.testing.assert_array_equal(found.probability, 1.0)
    assert clean_probability(losses, labels, min_weight=0.005).fallback is None


@pytest.mark.parametrize("seed", range(5))
def test_skewed_losses_of_right_labels_are_all_trusted(seed: int) -> None:
    """Two Gaussians fit a skewed hump better than one; what the network agrees with is clean all the same."""
    rng = np.random.default_rng(seed)
    losses, labels = rng.gamma(2.0, 0.2, 600), rng.integers(0, 3, 600)
    found = clean_probability(losses, labels)
    assert found.fallback == "agreement"
    np.testing.assert_array_equal(found.probability, 1.0)
    # The same hump with some labels far less probable than chance, log 3 = 1.10, is two groups.
    losses[:90] = rng.normal(2.0, 0.2, 90)
    assert clean_probability(losses, labels).fallback is None


def test_chance_depends_on_the_number_of_labels() -> None:
    truth = planted(noisy=(1.0, 0.1), trusted=(0.2, 0.05))
    assert clean_probability(truth.losses, truth.labels % 2).fallback is None  # log 2 = 0.69
    assert clean_probability(truth.losses, truth.labels).fallback == "agreement"  # log 3 = 1.10


@pytest.mark.parametrize("size", [60, 150, 600])
@pytest.mark.parametrize("outlier", [LARGEST, 1e6])
def test_one_huge_loss_does_not_change_the_split(size: int, outlier: float) -> None:
    truth = planted(size, noisy=(2.6, 0.3))
    losses = truth.losses.copy()
    losses[np.argmax(losses)] = outlier
    before, after = clean_probability(truth.losses, truth.labels), clean_probability(losses, truth.labels)
    assert after.fallback is None
    np.testing.assert_allclose(after.probability, before.probability, atol=0.02)


def test_a_wide_clean_component_gives_a_monotone_posterior() -> None:
    truth = planted(2000, trusted=(1.2, 0.9), noisy=(3.0, 0.15), noisy_share=0.4)
    found = clean_probability(truth.losses, truth.labels)
    assert found.fallback is None
    ordered = found.probability[np.argsort(truth.losses)]
    assert (np.diff(ordered) <= 0).all()
    assert ordered[0] > 0.9
    # Past the narrow noisy component the wide one's tail would win again; a larger loss must not be more trusted.
    assert ordered[-1] < 0.1
    assert found.probability[truth.losses > 2.8].max() < 0.6


def test_a_wide_noisy_component_does_not_take_the_smallest_losses() -> None:
    truth = planted(2000, trusted=(1.0, 0.08), noisy=(1.8, 0.7), noisy_share=0.4)
    found = clean_probability(truth.losses, truth.labels)
    assert found.fallback is None
    ordered = found.probability[np.argsort(truth.losses)]
    assert (np.diff(ordered) <= 0).all()
    assert ordered[0] == ordered[100] > 0.8


def test_a_class_without_clean_segments_is_rescued_and_recorded() -> None:
    truth = planted(600, noisy=(3.0, 0.3))
    labels = np.where(truth.clean, truth.labels % 2, 2)
    found = clean_probability(truth.losses, labels, rescue_share=0.1, threshold=0.6)
    assert found.rescued_classes == (2,)
    members = np.flatnonzero(labels == 2)
    kept = members[found.probability[members] > 0.6]
    assert len(kept) == round(0.1 * len(members))
    np.testing.assert_allclose(found.probability[kept], 0.8)
    assert truth.losses[kept].max() <= np.setdiff1d(truth.losses[members], truth.losses[kept]).min()
    # The others are left as the mixture has them.
    alone = clean_probability(truth.losses, truth.labels)
    others = np.setdiff1d(np.arange(600), kept)
    np.testing.assert_array_equal(found.probability[others], alone.probability[others])


def test_a_rescue_keeps_at_least_one_segment() -> None:
    truth = planted(300)
    labels = truth.labels % 2
    labels[np.argmax(truth.losses)] = 2
    found = clean_probability(truth.losses, labels)
    assert found.rescued_classes == (2,)
    assert found.probability[np.argmax(truth.losses)] == 0.75


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_is_refused(bad: float) -> None:
    losses = np.ones(30)
    losses[3] = bad
    with pytest.raises(ValueError, match="losses must be finite"):
        clean_probability(losses, np.zeros(30, dtype=np.int64))


@pytest.mark.parametrize(("losses", "labels"), [((30,), (29,)), ((30, 1), (30, 1))])
def test_shapes_that_do_not_fit_are_refused(losses: tuple[int, ...], labels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="same shape"):
        clean_probability(np.ones(losses), np.zeros(labels, dtype=np.int64))


def test_an_unfinished_mixture_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    def unfinished(self: object, x: Float64) -> None:
        warnings.warn("not converged", ConvergenceWarning, stacklevel=1)

    monkeypatch.setattr(GaussianMixture, "fit", unfinished)
    found = clean_probability(*planted()[:2])
    assert found.fallback == "not converged"
    np.testing.assert_array_equal(found.probability, 1.0)


def test_the_same_seed_gives_the_same_probabilities() -> None:
    truth = planted(noisy=(1.6, 0.5))
    first, second = (clean_probability(truth.losses, truth.labels, seed=5) for _ in range(2))
    assert first.probability.tobytes() == second.probability.tobytes()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, LARGEST), min_size=5, max_size=80),
    st.lists(st.floats(0, 3), min_size=5, max_size=80),
    st.integers(0, 3),
)
def test_the_probability_never_rises_with_the_loss(some: list[float], more: list[float], seed: int) -> None:
    losses = np.array(some + more)
    found = clean_probability(losses, np.zeros(len(losses), dtype=np.int64), seed=seed)
    assert ((found.probability >= 0) & (found.probability <= 1)).all()
    if not found.rescued_classes:
        order = np.lexsort((-found.probability, losses))
        assert (np.diff(found.probability[order]) <= 0).all()
        equal = np.diff(losses[order]) == 0
        assert (np.diff(found.probability[order])[equal] == 0).all()


def test_copies_of_one_judgement_have_no_vote() -> None:
    song = np.repeat(np.arange(20), 5)
    assert song_consensus(song % 3, song, 3) is None
    almost = song % 3
    almost[0] = 1  # one in a hundred differs from its song's majority
    assert song_consensus(almost, song, 3) is None
    assert song_consensus(almost, song, 3, min_disagreement=0.005) is not None


def test_sister_segments_vote_with_their_rate_of_error() -> None:
    # Two songs of five; two of ten labels differ from their song's majority: a vote weighs log(0.8 * 2 / 0.2) = log 8.
    given_labels = np.array([0, 0, 0, 0, 1, 2, 2, 2, 2, 0])
    found = song_consensus(given_labels, np.repeat([7, 3], 5), 3)
    assert found is not None
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    # The first segment's sisters say 0 three times and 1 once: 8^3 to 8^1 to 8^0, the last two lifted to 0.02.
    lifted = np.array([512 / 521, 0.02, 0.02])
    np.testing.assert_allclose(found[0], lifted / lifted.sum())
    # A segment has no vote on itself: four sisters say 0 of the odd one out.
    np.testing.assert_allclose(found[4], np.array([1, 0.02, 0.02]) / 1.04, atol=1e-3)
    assert found[9].argmax() == 2


def test_a_song_of_one_segment_changes_nothing() -> None:
    labels, song = np.array([0, 0, 0, 1, 2]), np.array([0, 0, 0, 0, 1])
    consensus = song_consensus(labels, song, 4)
    assert consensus is not None
    np.testing.assert_allclose(consensus[4], 0.25)
    own = CleanProbability(np.array([0.9, 0.3, 0.5, 0.6, 0.3]))
    joined = with_consensus(own, consensus, labels)
    assert joined.probability[4] == pytest.approx(0.3)
    assert with_consensus(CleanProbability(np.ones(5), "overlap"), consensus, labels).probability[4] == 0.5


def test_odds_of_losses_and_of_sisters_multiply() -> None:
    consensus = np.array([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1]])
    labels = np.array([0, 2])
    joined = with_consensus(CleanProbability(np.array([0.8, 0.8]), None, (1,)), consensus, labels)
    # 0.8 / 0.2 times 0.6 / 0.2, and times 0.1 / 0.45
    np.testing.assert_allclose(joined.probability, [12 / 13, (4 * 0.1 / 0.45) / (1 + 4 * 0.1 / 0.45)])
    assert joined.rescued_classes == (1,)
    # Without a mixture the sisters decide: what a network trusted for want of evidence is no evidence.
    alone = with_consensus(CleanProbability(np.ones(2), "overlap"), consensus, labels)
    np.testing.assert_allclose(alone.probability, [0.75, (0.1 / 0.45) / (1 + 0.1 / 0.45)])
    assert alone.fallback == "overlap"


def test_planted_flips_are_found_from_sisters_alone() -> None:
    rng = np.random.default_rng(0)
    song = np.repeat(np.arange(80), 8)
    true = song % 4
    labels = np.where(rng.random(640) < 0.3, (true + rng.integers(1, 4, 640)) % 4, true)
    consensus = song_consensus(labels, song, 4)
    assert consensus is not None
    assert (consensus.argmax(axis=1) == true).mean() > 0.97
    found = with_consensus(CleanProbability(np.ones(640), "agreement"), consensus, labels)
    assert auroc(labels == true, found.probability) > 0.97


@pytest.mark.parametrize("wrong", [4, 10])
def test_copies_of_a_judgement_are_no_further_evidence_of_noise(wrong: int) -> None:
    found = []
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        right = rng.integers(0, 3, 60)
        p = rng.dirichlet(np.ones(3), 60) / 2 + rng.uniform(0.1, 1, (60, 1)) * np.eye(3)[right]
        p /= p.sum(axis=1, keepdims=True)
        labels = np.where(np.arange(60) < wrong, (right + 1) % 3, right)
        copied, song = np.repeat(p, 10, axis=0), np.repeat(np.arange(60), 10)
        alone = estimate_noise_rate(copied, np.repeat(labels, 10))
        once = estimate_noise_rate(p, labels)
        assert estimate_noise_rate(copied, np.repeat(labels, 10), song) == pytest.approx(once, abs=1e-3)
        found.append((once, alone))
    # One of the two is clear, the other one only seems to be if copies count.
    assert found[0][0] == 0 < found[0][1]
    assert found[1][0] == pytest.approx(found[1][1], abs=1e-3)
    assert found[1][0] > 0.05


def noisy_predictions(wrong: int, *, size: int = 200, seed: int = 0) -> tuple[Float64, Int64]:
    """Predict `size` items, some surely and some not, of which the first `wrong` have a wrong label."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 3, size)
    sure = rng.uniform(0.5, 0.98, size)[:, None]
    p = np.where(np.eye(3)[true] == 1, sure, (1 - sure) / 2)
    return p, np.where(np.arange(size) < wrong, (true + 1) % 3, true)


def test_a_rate_is_0_unless_the_likelihood_ratio_is_large_enough() -> None:
    p, labels = noisy_predictions(40)
    rate = estimate_noise_rate(p, labels)
    assert rate == pytest.approx(0.2, abs=0.05)
    assert estimate_noise_rate(p, labels, significance=5.0) == rate
    assert estimate_noise_rate(p, labels, significance=1e3) == 0
    p, labels = noisy_predictions(0)
    assert estimate_noise_rate(p, labels) == 0


def test_songs_of_one_item_are_as_good_as_none() -> None:
    p, labels = noisy_predictions(40)
    assert estimate_noise_rate(p, labels, np.arange(200)) == estimate_noise_rate(p, labels)


def test_the_rate_does_not_depend_on_the_order_of_labels_and_stays_below_chance() -> None:
    p, labels = noisy_predictions(40)
    turned = estimate_noise_rate(np.roll(p, 1, axis=1), (labels + 1) % 3)
    assert turned == pytest.approx(estimate_noise_rate(p, labels), abs=1e-6)
    p, labels = noisy_predictions(200)
    assert 0.5 < estimate_noise_rate(p, labels) <= 2 / 3


def test_where_all_predictions_are_equally_sure_disagreement_counts_as_noise() -> None:
    rng = np.random.default_rng(2)
    given_labels = rng.integers(0, 3, 300)
    predicted = np.where(rng.random(300) < 0.6, given_labels, (given_labels + 1) % 3)
    p = np.full((300, 3), 0.1) + 0.7 * np.eye(3)[predicted]
    assert estimate_noise_rate(p, given_labels) == pytest.approx((predicted != given_labels).mean(), abs=0.01)
    # Without the penalty on high temperatures, or with one on low ones, the temperature explains it.
    assert estimate_noise_rate(p, given_labels, tie_break=-0.05) == 0
