"""The steps of semi-supervised learning from noisy labels, each a function with the name that the papers use.

All take tensors of probabilities or logits of shape (B, K). Random numbers come from a generator that is an argument.

References
----------
D. Berthelot et al. MixMatch: a holistic approach to semi-supervised learning. NeurIPS 2019. (sharpening, mixup)
J. Li, R. Socher, S. Hoi. DivideMix. ICLR 2020. (co-refinement, co-guessing, balance term)
H. Zhang et al. mixup: beyond empirical risk minimization. ICLR 2018.
X. Liang et al. R-Drop: regularized dropout for neural networks. NeurIPS 2021. (symmetric KL consistency)
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def sharpen(probabilities: Tensor, temperature: float) -> Tensor:
    """Return sharpened distributions (B, K): ``p_k^(1/T) / sum_j p_j^(1/T)`` (MixMatch, eq. 7).

    Parameters
    ----------
    probabilities : tensor, shape (B, K)
    temperature : float
        In (0, 1]. 1 changes nothing; towards 0 the largest probability becomes 1.
    """
    log = torch.log(probabilities.clamp_min(1e-12)) / temperature
    return torch.softmax(log, dim=1)


def refine_labels(one_hot: Tensor, clean: Tensor, predicted: Tensor, temperature: float) -> Tensor:
    """Return refined labels (B, K): ``sharpen(w * label + (1 - w) * prediction)`` (DivideMix, eq. 3 and 4).

    Parameters
    ----------
    one_hot : tensor, shape (B, K)
        Given labels.
    clean : tensor, shape (B,)
        Clean probability w.
    predicted : tensor, shape (B, K)
        The network's own probabilities, averaged over views.
    temperature : float
    """
    w = clean[:, None]
    return sharpen(w * one_hot + (1 - w) * predicted, temperature)


def co_guess(predictions: list[Tensor], temperature: float) -> Tensor:
    """Return guessed labels (B, K): the sharpened mean over networks and views (DivideMix, Algorithm 1).

    Parameters
    ----------
    predictions : list of tensor, each of shape (B, K)
    temperature : float
    """
    return sharpen(torch.stack(predictions).mean(dim=0), temperature)


def mixup(
    inputs: Tensor, targets: Tensor, *, alpha: float, rng: np.random.Generator, generator: torch.Generator
) -> tuple[Tensor, Tensor, float, Tensor]:
    """Return inputs and targets mixed with others of the batch, at most half and half (MixMatch, eq. 8 to 11).

    Parameters
    ----------
    inputs : tensor, shape (B, ...)
    targets : tensor, shape (B, K)
    alpha : float
        Parameter of the Beta distribution; 0 turns mixup off.
    rng, generator
        Sources of randomness for the coefficient and for the partners.

    Returns
    -------
    inputs, targets, the coefficient lambda in [0.5, 1], and the partner of each item, shape (B,).
    """
    partner = torch.randperm(len(inputs), generator=generator)
    if alpha == 0:
        return inputs, targets, 1.0, partner
    lam = float(rng.beta(alpha, alpha))
    lam = max(lam, 1 - lam)
    mixed = lam * inputs + (1 - lam) * inputs[partner]
    return mixed, lam * targets + (1 - lam) * targets[partner], lam, partner


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of each item with its soft target, shape (B,)."""
    return -(targets * functional.log_softmax(logits, dim=1)).sum(dim=1)


def brier(logits: Tensor, targets: Tensor) -> Tensor:
    """Return each item's mean squared difference of probabilities, shape (B,); wrong guesses cost little."""
    return ((torch.softmax(logits, dim=1) - targets) ** 2).mean(dim=1)


def consistency(first: Tensor, second: Tensor) -> Tensor:
    """Return the symmetric KL divergence between predictions for two views of the same segments (R-Drop, eq. 2).

    Parameters
    ----------
    first, second : tensor, shape (B, K)
        Logits.
    """
    p, q = functional.log_softmax(first, dim=1), functional.log_softmax(second, dim=1)
    forward = functional.kl_div(p, q, log_target=True, reduction="batchmean")
    backward = functional.kl_div(q, p, log_target=True, reduction="batchmean")
    return (forward + backward) / 2


def balance(logits: Tensor, prior: Tensor) -> Tensor:
    """Return the KL divergence from the corpus' class shares to the mean prediction of a batch.

    DivideMix assumes uniform shares, which does not fit imbalanced labels; here the shares are the corpus' own.

    Parameters
    ----------
    logits : tensor, shape (B, K)
    prior : tensor, shape (K,)
    """
    mean = torch.softmax(logits, dim=1).mean(dim=0).clamp_min(1e-12)
    return (prior * (torch.log(prior.clamp_min(1e-12)) - torch.log(mean))).sum()
