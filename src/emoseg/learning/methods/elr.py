"""Early-learning regularisation: predictions are held to their own running average."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from emoseg.config import MethodSettings
from emoseg.learning import semisup
from emoseg.learning.methods.base import CrossFitted
from emoseg.learning.trainer import State, Trainer
from emoseg.types import Float64


class ElrSettings(MethodSettings):
    """Settings of early-learning regularisation; the defaults are the paper's for symmetric noise."""

    beta: float = Field(0.7, ge=0, lt=1, description="Share of the earlier target in the running target.")
    lambda_elr: float = Field(3.0, ge=0, description="Weight of the regularisation term.")


class ElrTrainer(Trainer):
    """Cross-entropy on given labels, regularised by a running average of the network's own earlier predictions.

    The target of each segment is ``t <- beta * t + (1 - beta) * p``, and ``lambda * log(1 - <t, p>)`` is added to the
    loss. The term pulls the prediction towards what was learnt early, before wrong labels are memorised. The normalised
    target is the method's guess of the true label, and its value at the given label is the clean probability.
    """

    settings: ElrSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.target = torch.zeros(len(self.rows), self.classes)

    def learn(self, epoch: int) -> dict[str, Any]:
        """Train on the labelled segments for one pass."""
        network = self.networks[0].train()
        total, steps = 0.0, 0
        for i, positions in enumerate(self.batches()):
            logits = network(self.augment(self.inputs(positions)))
            p = torch.softmax(logits, dim=1).clamp(1e-4, 1 - 1e-4)
            target = self.update(positions, p.detach())
            regulariser = torch.log(1 - (target * p).sum(dim=1))
            cross_entropy = semisup.soft_cross_entropy(logits, self.labels(positions))
            loss = (cross_entropy + self.settings.lambda_elr * regulariser).mean()
            self.step(0, loss, self.progress(epoch, i))
            total, steps = total + float(loss.detach()), steps + 1
        return {"loss": total / steps}

    def update(self, positions: Tensor, p: Tensor) -> Tensor:
        """Move the targets of a batch towards its predictions (eq. 9 of the paper); return them, shape (B, K)."""
        beta = self.settings.beta
        p = p / p.sum(dim=1, keepdim=True)
        self.target[positions] = beta * self.target[positions] + (1 - beta) * p
        return self.target[positions]

    def guesses(self) -> Float64:
        """Return the targets as distributions (n, K), uniform for segments that were not in any batch yet."""
        total = self.target.sum(dim=1, keepdim=True)
        return torch.where(total > 0, self.target / total.clamp_min(1e-12), 1 / self.classes).double().numpy()

    def clean(self) -> Float64:
        """Return each target's value at the given label, shape (n,)."""
        return self.given_probabilities(self.guesses())

    def state(self) -> State:
        """Return everything that the next pass depends on, as named arrays."""
        return super().state() | {"target": self.target.numpy().copy()}

    def load_state(self, state: State) -> None:
        """Restore what `state` returned."""
        super().load_state(state)
        self.target = torch.from_numpy(state["target"].copy())


class Elr(CrossFitted):
    """Early-learning regularisation.

    References
    ----------
    S. Liu, J. Niles-Weed, N. Razavian, C. Fernandez-Granda. Early-learning regularization prevents memorization of
    noisy labels. NeurIPS 2020. (eq. 6 and 9)
    """

    version = 1
    settings_class = ElrSettings
    trainer = ElrTrainer
