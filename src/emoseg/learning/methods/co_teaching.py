"""Co-teaching: two networks that select each other's training segments."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import Field

from emoseg.config import MethodSettings
from emoseg.learning import semisup
from emoseg.learning.label_noise import clean_probability
from emoseg.learning.methods.base import CrossFitted
from emoseg.learning.trainer import State, Trainer


class CoTeachingSettings(MethodSettings):
    """Settings of co-teaching; the forget rate itself is estimated."""

    gradual_epochs: int = Field(5, ge=1, description="Passes T_k over which the forget rate grows from 0.")


class CoTeachingTrainer(Trainer):
    """In every batch each network selects the segments of small loss, and the other network learns from these only.

    The share that is left out grows linearly from 0 to the forget rate tau over the first passes. The paper sets tau
    to the true noise rate. Here it is estimated at the start of each of these passes: it is the share of labels that a
    two-component mixture on the losses (mean of both networks) assigns to the component of large losses, and 0 where
    there is no second component. The clean probability is how often a segment was selected, averaged over passes. In
    passes in which nothing is left out it is ``0.5 + 0.5 * p`` with the probability p of the given label, which ranks
    labels without flagging any.
    """

    n_networks = 2
    settings: CoTeachingSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tau = 0.0

    def learn(self, epoch: int) -> dict[str, Any]:
        """Train both networks on the labelled segments for one pass."""
        gradual = self.settings.gradual_epochs
        if 1 <= epoch <= gradual:
            self.tau = self.estimate_rate()
        forget_rate = self.tau * min(1.0, epoch / gradual)
        networks = [network.train() for network in self.networks]
        selected, seen, losses = np.zeros(len(self.rows)), np.zeros(len(self.rows)), []
        for i, positions in enumerate(self.batches()):
            x, target = self.augment(self.inputs(positions)), self.labels(positions)
            loss = [semisup.soft_cross_entropy(network(x), target) for network in networks]
            kept = max(1, round((1 - forget_rate) * len(positions)))
            small = [torch.argsort(each.detach(), stable=True)[:kept] for each in loss]
            for which in range(self.n_networks):
                mean_loss = loss[which][small[1 - which]].mean()
                self.step(which, mean_loss, self.progress(epoch, i))
                losses.append(float(mean_loss.detach()))
                np.add.at(selected, positions[small[which]].numpy(), 1)
                np.add.at(seen, positions.numpy(), 1)
        ranked = 0.5 + 0.5 * self.given_probabilities(self.probabilities(self.rows))
        was_selected_from = (seen > 0) & (forget_rate > 0)
        self.add_evidence(np.where(was_selected_from, selected / np.maximum(seen, 1), ranked))
        return {"loss": float(np.mean(losses)), "forget_rate": forget_rate}

    def estimate_rate(self) -> float:
        """Return the share of wrong labels, estimated from the present losses."""
        probability = np.clip(self.given_probabilities(self.probabilities(self.rows)), 1e-12, 1)
        divided = clean_probability(-np.log(probability), self.given_labels, seed=self.seed)
        return float(np.mean(divided.probability <= 0.5))

    def noise_rate(self) -> float:
        """Return the forget rate."""
        return self.tau

    def state(self) -> State:
        """Return everything that the next pass depends on, as named arrays."""
        return super().state() | {"tau": np.array(self.tau)}

    def load_state(self, state: State) -> None:
        """Restore what `state` returned."""
        super().load_state(state)
        self.tau = float(state["tau"])


class CoTeaching(CrossFitted):
    """Co-teaching.

    References
    ----------
    B. Han et al. Co-teaching: robust training of deep neural networks with extremely noisy labels. NeurIPS 2018.
    """

    version = 1
    settings_class = CoTeachingSettings
    trainer = CoTeachingTrainer
