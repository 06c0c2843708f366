"""The steps of semi-supervised learning against hand-computed values."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from emoseg.learning import semisup


@pytest.fixture
def probabilities() -> Tensor:
    return torch.softmax(torch.randn((40, 4), generator=torch.Generator().manual_seed(0)), dim=1)


@pytest.fixture
def logits() -> Tensor:
    return torch.randn((16, 3), generator=torch.Generator().manual_seed(1))


def mixed(x: Tensor, y: Tensor, *, alpha: float, seed: int) -> tuple[Tensor, Tensor, float, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return semisup.mixup(x, y, alpha=alpha, rng=np.random.default_rng(seed), generator=generator)


def test_sharpen_at_temperature_one_changes_nothing(probabilities: Tensor) -> None:
    assert_close(semisup.sharpen(probabilities, 1.0), probabilities)


def test_sharpen_towards_zero_leaves_the_largest(probabilities: Tensor) -> None:
    one_hot = torch.nn.functional.one_hot(probabilities.argmax(dim=1), 4).float()
    clear = probabilities.topk(2, dim=1).values.diff(dim=1).abs().squeeze() > 0.05
    assert_close(semisup.sharpen(probabilities, 0.005)[clear], one_hot[clear], atol=1e-3, rtol=0)


def test_sharpen_follows_its_formula() -> None:
    # Squares at T = 0.5: 0.36, 0.09, 0.01, which sum to 0.46.
    sharp = semisup.sharpen(torch.tensor([[0.6, 0.3, 0.1]]), 0.5)
    assert_close(sharp, torch.tensor([[0.36, 0.09, 0.01]]) / 0.46)


@pytest.mark.parametrize("temperature", [0.05, 0.3, 0.5, 1.0])
def test_sharpened_rows_sum_to_one_even_with_zeros(temperature: float) -> None:
    rows = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
    sharp = semisup.sharpen(rows, temperature)
    assert_close(sharp.sum(dim=1), torch.ones(3))
    assert_close(sharp[:2], rows[:2], atol=1e-6, rtol=0)


def test_refine_keeps_a_certain_label_and_drops_a_wrong_one() -> None:
    one_hot = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    predicted = torch.tensor([[0.6, 0.3, 0.1]]).expand(3, -1)
    refined = semisup.refine_labels(one_hot, torch.tensor([1.0, 0.0, 0.5]), predicted, 0.5)
    assert_close(refined[0], one_hot[0], atol=1e-6, rtol=0)
    assert_close(refined[1], torch.tensor([0.36, 0.09, 0.01]) / 0.46)
    # Half and half: 0.3, 0.65, 0.05; squares 0.09, 0.4225, 0.0025, which sum to 0.515.
    assert_close(refined[2], torch.tensor([0.09, 0.4225, 0.0025]) / 0.515)


def test_co_guess_sharpens_the_mean() -> None:
    first, second = torch.tensor([[0.8, 0.2]]), torch.tensor([[0.4, 0.6]])
    assert_close(semisup.co_guess([first, second], 1.0), torch.tensor([[0.6, 0.4]]))
    assert_close(semisup.co_guess([first, second], 0.5), torch.tensor([[0.36, 0.16]]) / 0.52)


def test_mixup_mixes_inputs_and_targets_with_one_partner() -> None:
    x, y = torch.arange(8.0)[:, None] * torch.ones(1, 5), torch.eye(8)
    coefficients = []
    for seed in range(50):
        mixed_x, mixed_y, lam, partner = mixed(x, y, alpha=0.5, seed=seed)
        assert 0.5 <= lam <= 1
        assert sorted(partner.tolist()) == list(range(8))
        assert_close(mixed_x, lam * x + (1 - lam) * x[partner])
        assert_close(mixed_y, lam * y + (1 - lam) * y[partner])
        coefficients.append(lam)
    # The mean of max(B, 1 - B) under Beta(1/2, 1/2) is 1/2 + 1/pi = 0.818.
    assert np.mean(coefficients) == pytest.approx(0.5 + 1 / math.pi, abs=0.07)


def test_mixup_without_alpha_is_the_identity(logits: Tensor) -> None:
    mixed_x, mixed_y, lam, _ = mixed(logits, logits.softmax(1), alpha=0.0, seed=0)
    assert lam == 1.0
    assert torch.equal(mixed_x, logits)
    assert torch.equal(mixed_y, logits.softmax(1))


def test_mixup_is_decided_by_its_generators(logits: Tensor) -> None:
    first, again, other = (mixed(logits, logits, alpha=0.5, seed=s) for s in (3, 3, 4))
    assert torch.equal(first[0], again[0])
    assert first[2] == again[2]
    assert not torch.equal(first[0], other[0])
    before = torch.get_rng_state()
    mixed(logits, logits, alpha=0.5, seed=3)
    assert torch.equal(before, torch.get_rng_state())


def test_soft_cross_entropy_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.25, 0.5, 0.25]]))
    targets = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    expected = torch.tensor([-math.log(0.7), -0.5 * math.log(0.25) - 0.5 * math.log(0.5)])
    assert_close(semisup.soft_cross_entropy(logits, targets), expected)
    hard = torch.nn.functional.cross_entropy(logits, torch.tensor([2, 0]), reduction="none")
    assert_close(semisup.soft_cross_entropy(logits, torch.eye(3)[[2, 0]]), hard)


def test_brier_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.3, 0.5]]))
    targets = torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])
    assert_close(semisup.brier(logits, targets), torch.tensor([(0.09 + 0.04 + 0.01) / 3, 0.0]), atol=1e-7, rtol=1e-5)


def test_consistency_by_hand() -> None:
    p, q = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.9, 0.1]])
    # (sum p log(p/q) + sum q log(q/p)) / 2 = sum (p - q) log(p/q) / 2
    expected = ((p - q) * torch.log(p / q)).sum() / 2
    assert_close(semisup.consistency(p.log(), q.log()), expected)


def test_consistency_is_zero_for_equal_views_and_symmetric(logits: Tensor) -> None:
    other = logits.flip(0)
    assert_close(semisup.consistency(logits, logits + 3), torch.tensor(0.0), atol=1e-6, rtol=0)
    assert_close(semisup.consistency(logits, other), semisup.consistency(other, logits))
    assert float(semisup.consistency(logits, other)) > 0.1
    # A mean over the batch, not a sum.
    doubled = semisup.consistency(logits.repeat(2, 1), other.repeat(2, 1))
    assert_close(doubled, semisup.consistency(logits, other))


def test_balance_is_zero_at_the_prior_and_grows_with_skew() -> None:
    prior = torch.tensor([0.5, 0.3, 0.2])
    at_prior = prior.log().expand(10, -1)
    assert_close(semisup.balance(at_prior, prior), torch.tensor(0.0), atol=1e-6, rtol=0)
    # Items may differ as long as their mean is the prior.
    spread = torch.log(torch.tensor([[0.9, 0.06, 0.04], [0.1, 0.54, 0.36]]))
    assert_close(semisup.balance(spread, prior), torch.tensor(0.0), atol=1e-6, rtol=0)
    little, much = (torch.log(torch.tensor([[a, (1 - a) / 2, (1 - a) / 2]])) for a in (0.6, 0.98))
    assert 0.001 < float(semisup.balance(little, prior)) < float(semisup.balance(much, prior))
    expected = sum(p * math.log(p / m) for p, m in zip((0.5, 0.3, 0.2), (0.6, 0.2, 0.2), strict=True))
    assert float(semisup.balance(little, prior)) == pytest.approx(expected, abs=1e-6)


def test_balance_stands_a_label_that_the_corpus_lacks(logits: Tensor) -> None:
    assert math.isfinite(float(semisup.balance(logits, torch.tensor([0.5, 0.5, 0.0]))))


def test_gradients_flow_and_lower_every_loss(logits: Tensor) -> None:
    target = torch.softmax(logits.flip(0), dim=1)
    prior = torch.tensor([0.6, 0.3, 0.1])
    losses: dict[str, Callable[[Tensor], Tensor]] = {
        "soft_cross_entropy": lambda z: semisup.soft_cross_entropy(z, target).mean(),
        "brier": lambda z: semisup.brier(z, target).mean(),
        "consistency": lambda z: semisup.consistency(z, logits.flip(0)),
        "balance": lambda z: semisup.balance(z, prior),
    }
    for name, loss in losses.items():
        z = logits.clone().requires_grad_()
        before = loss(z)
        (gradient,) = torch.autograd.grad(before, z)
        assert torch.isfinite(gradient).all(), name
        assert float(gradient.abs().max()) > 1e-4, name
        assert float(loss(logits - 0.5 * gradient)) < float(before.detach()), name
