"""Measures against scikit-learn and by hand, with missing labels and ties."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from emoseg.metrics import (
    auroc,
    average_precision,
    balanced_accuracy,
    calibration_error,
    confusion,
    lift,
    macro_f1,
    paired_bootstrap,
    recalls,
)
from emoseg.types import Int64

SEEDS = range(20)


def drawn(seed: int) -> tuple[Int64, Int64]:
    """Draw reference and estimate over up to five labels, some of which one or both lack."""
    rng = np.random.default_rng(seed)
    of_reference = rng.choice(5, rng.integers(1, 6), replace=False)
    of_estimate = rng.choice(5, rng.integers(1, 6), replace=False)
    reference = rng.choice(of_reference, 50)
    return reference, np.where(rng.random(50) < 0.6, reference, rng.choice(of_estimate, 50))


@pytest.mark.parametrize("seed", SEEDS)
def test_macro_f1_and_confusion_are_those_of_scikit_learn(seed: int) -> None:
    reference, estimate = drawn(seed)
    expected = sk.f1_score(reference, estimate, average="macro", zero_division=0)
    assert macro_f1(reference, estimate, 5) == pytest.approx(expected)
    np.testing.assert_array_equal(
        confusion(reference, estimate, 5), sk.confusion_matrix(reference, estimate, labels=range(5))
    )


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("seed", SEEDS)
def test_balanced_accuracy_is_that_of_scikit_learn(seed: int) -> None:
    reference, estimate = drawn(seed)
    assert balanced_accuracy(reference, estimate, 5) == pytest.approx(sk.balanced_accuracy_score(reference, estimate))


def test_confusion_is_reference_by_estimate() -> None:
    table = confusion(np.array([0, 0, 0, 1]), np.array([0, 2, 2, 1]), 3)
    np.testing.assert_array_equal(table, [[1, 0, 2], [0, 1, 0], [0, 0, 0]])
    found = recalls(np.array([0, 0, 0, 1]), np.array([0, 2, 2, 1]), 3)
    np.testing.assert_allclose(found, [1 / 3, 1.0, np.nan])


@pytest.mark.parametrize("seed", SEEDS)
def test_detection_measures_are_those_of_scikit_learn_with_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.random(60) < rng.uniform(0.1, 0.9)
    positive[:2] = True, False
    score = np.round(rng.normal(positive * 1.0), 1 - seed % 2)
    assert len(np.unique(score)) < 60
    assert auroc(positive, score) == pytest.approx(sk.roc_auc_score(positive, score))
    assert average_precision(positive, score) == pytest.approx(sk.average_precision_score(positive, score))


def test_detection_measures_at_their_ends() -> None:
    positive, score = np.array([False, False, True, True]), np.array([0.1, 0.2, 0.3, 0.4])
    assert auroc(positive, score) == 1.0
    assert auroc(positive, -score) == 0.0
    assert auroc(positive, np.zeros(4)) == 0.5
    assert average_precision(positive, score) == 1.0
    assert average_precision(positive, np.zeros(4)) == 0.5
    assert np.isnan(auroc(np.ones(3, dtype=bool), np.arange(3.0)))
    assert np.isnan(auroc(np.zeros(3, dtype=bool), np.arange(3.0)))
    assert np.isnan(average_precision(np.zeros(3, dtype=bool), np.arange(3.0)))


def test_lift_is_precision_at_the_number_of_positives_over_the_base_rate() -> None:
    positive = np.array([True, False, True, False, False, False])
    assert lift(positive, np.array([0.9, 0.1, 0.8, 0.2, 0.3, 0.4])) == pytest.approx(3.0)
    assert lift(positive, np.array([0.9, 0.8, 0.1, 0.2, 0.3, 0.4])) == pytest.approx(1.5)
    assert lift(positive, np.zeros(6)) == pytest.approx(1.0), "ties are broken by chance, not by order"
    # One is sure; the other place is shared by two, of which one is positive.
    assert lift(positive, np.array([0.9, 0.5, 0.5, 0.2, 0.3, 0.4])) == pytest.approx(1.5 / 2 * 3)
    assert np.isnan(lift(np.zeros(3, dtype=bool), np.arange(3.0)))


def test_calibration_error_is_zero_for_calibrated_probabilities() -> None:
    # Twenty items at each confidence, of which exactly that share is right.
    reference, probabilities = [], []
    for confidence in (0.55, 0.6, 0.75, 0.9, 1.0):
        for i in range(20):
            reference.append(0 if i < round(20 * confidence) else 1)
            probabilities.append([confidence, 1 - confidence])
    found = calibration_error(np.array(reference), np.array(probabilities), bins=5)
    assert found == pytest.approx(0.0, abs=1e-12)


def test_calibration_error_by_hand() -> None:
    # Two bins of two: |0.65 - 0.5| and |0.9 - 0| with equal mass.
    probabilities = np.array([[0.6, 0.4], [0.3, 0.7], [0.85, 0.15], [0.05, 0.95]])
    found = calibration_error(np.array([0, 0, 1, 0]), probabilities, bins=2)
    assert found == pytest.approx((0.15 + 0.9) / 2)
    assert calibration_error(np.array([0, 0, 1, 0]), probabilities, bins=1) == pytest.approx(abs(0.775 - 0.25))
    # More bins than items: each is its own bin.
    assert calibration_error(np.array([0, 0, 1, 0]), probabilities, bins=10) == pytest.approx(
        (0.4 + 0.7 + 0.85 + 0.95) / 4
    )


def test_calibration_error_does_not_depend_on_the_order_of_items() -> None:
    reference = np.repeat([0, 1], [60, 40])
    constant = np.tile([0.6, 0.4], (100, 1))
    assert calibration_error(reference, constant) == pytest.approx(0.0, abs=1e-12)
    rng = np.random.default_rng(0)
    coarse = np.round(rng.uniform(0.5, 1, 100), 1)
    probabilities = np.stack([coarse, 1 - coarse], axis=1)
    expected = calibration_error(reference, probabilities)
    assert expected > 0.05
    for _ in range(5):
        order = rng.permutation(100)
        assert calibration_error(reference[order], probabilities[order]) == pytest.approx(expected)


def test_the_bootstrap_is_decided_by_its_seed() -> None:
    values = np.random.default_rng(0).normal(size=40)

    def mean(drawn: Int64) -> float:
        return float(values[drawn].mean())

    assert paired_bootstrap(mean, 40, seed=3) == paired_bootstrap(mean, 40, seed=3)
    assert paired_bootstrap(mean, 40, seed=3) != paired_bootstrap(mean, 40, seed=4)
    low, high = paired_bootstrap(mean, 40)
    # The standard error of a mean of 40; the percentile interval is about 1.96 of them to each side.
    half = 1.96 * values.std() / np.sqrt(40)
    assert low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.15 * half)
    narrow = paired_bootstrap(mean, 40, level=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_the_bootstrap_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        first = rng.normal(size=60)
        difference = 0.3 + 0.5 * rng.normal(size=60)
        pairs = np.stack([first, first + difference])
        low, high = paired_bootstrap(lambda i, p=pairs: float((p[1, i] - p[0, i]).mean()), 60, draws=300, level=0.9)  # type: ignore[misc]
        covered += low <= 0.3 <= high
    assert 0.83 < covered / 200 < 0.96


def test_the_bootstrap_draws_groups_as_one() -> None:
    values = np.random.default_rng(5).normal(size=30)
    one = paired_bootstrap(lambda i: float(values[i].mean()), 30, draws=200)
    alone = paired_bootstrap(lambda i: float(values[i].mean()), 30, groups=np.arange(30), draws=200)
    assert alone == one
    copies, groups = np.tile(values, 4), np.tile(np.arange(30), 4)  # four clips of each song that say the same
    together = paired_bootstrap(lambda i: float(copies[i].mean()), 120, groups=groups, draws=200)
    assert together == pytest.approx(one)
    apart = paired_bootstrap(lambda i: float(copies[i].mean()), 120, draws=200)
    assert apart[1] - apart[0] < 0.7 * (one[1] - one[0])


def test_the_bootstrap_draws_whole_songs_with_replacement() -> None:
    seen: list[Int64] = []

    def keep(drawn: Int64) -> float:
        seen.append(drawn)
        return 0.0

    assert paired_bootstrap(keep, 30, draws=50) == (0.0, 0.0)
    assert len(seen) == 50
    assert all(len(d) == 30 and d.min() >= 0 and d.max() < 30 for d in seen)
    assert np.mean([len(np.unique(d)) for d in seen]) == pytest.approx(30 * (1 - np.exp(-1)), abs=2)
