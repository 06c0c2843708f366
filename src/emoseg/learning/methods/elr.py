"""Early-learning regularisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from emoseg.learning import semisup
from emoseg.learning.trainer import State, Trainer
from emoseg.types import Float64


class Elr(Trainer):
    """Cross-entropy on given labels, held back by a running average of the network's own earlier predictions.

    The target of each segment is ``t <- beta * t + (1 - beta) * p``, and ``lambda * log(1 - <t, p>)`` joins the loss:
    it pulls the prediction to what was learnt early, before wrong labels are memorised. The normalised target is the
    method's guess of the true label, and its value at the given label the clean probability.

    References
    ----------
    S. Liu, J. Niles-Weed, N. Razavian, C. Fernandez-Granda. Early-learning regularization prevents memorization of
    noisy labels. NeurIPS 2020. (eq. 6 and 9)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.target = torch.zeros(len(self.rows), self.classes)

    def learn(self, epoch: int) -> dict[str, Any]:
        """Go once over the labelled segments."""
        network = self.networks[0].train()
        total, steps = 0.0, 0
        for i, positions in enumerate(self.batches()):
            logits = network(self.augment(self.inputs(positions)))
            p = torch.softmax(logits, dim=1).clamp(1e-4, 1 - 1e-4)
            target = self.update(positions, p.detach())
            regulariser = torch.log(1 - (target * p).sum(dim=1))
            cross_entropy = semisup.soft_cross_entropy(logits, self.labels(positions))
            loss = (cross_entropy + self.config.elr.lambda_elr * regulariser).mean()
            self.step(0, loss, self.progress(epoch, i))
            total, steps = total + float(loss.detach()), steps + 1
        return {"loss": total / steps}

    def update(self, positions: Tensor, p: Tensor) -> Tensor:
        """Move the targets of a batch towards its predictions (eq. 9) and return them, shape (B, K)."""
        beta = self.config.elr.beta
        p = p / p.sum(dim=1, keepdim=True)
        self.target[positions] = beta * self.target[positions] + (1 - beta) * p
        return self.target[positions]

    def guesses(self) -> Float64:
        """Return the targets as distributions; uniform where a segment was in no batch yet."""
        total = self.target.sum(dim=1, keepdim=True)
        return torch.where(total > 0, self.target / total.clamp_min(1e-12), 1 / self.classes).double().numpy()

    def clean(self) -> Float64:
        """Return the target's value at the given label."""
        return self.given_probabilities(self.guesses())

    def state(self) -> State:
        """Return everything that the next pass depends on, as named arrays."""
        return super().state() | {"target": self.target.numpy().copy()}

    def load_state(self, state: State) -> None:
        """Inverse of `state`."""
        super().load_state(state)
        self.target = torch.from_numpy(state["target"].copy())
