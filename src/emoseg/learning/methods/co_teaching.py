"""Co-teaching: two networks that pick each other's training segments."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from emoseg.learning import semisup
from emoseg.learning.label_noise import clean_probability
from emoseg.learning.trainer import State, Trainer


class CoTeaching(Trainer):
    """In every batch each network picks the segments of small loss, and the other one learns from these alone.

    The share that is left out grows linearly from 0 to the forget rate tau over the first passes. The paper sets tau
    to the true noise rate; here it is estimated during these passes, at the start of each: the share of labels that a
    two-component mixture on the losses (mean of both networks) gives to the component of large losses, 0 where there
    is no second component. The clean probability is how often a segment was picked, averaged over passes; where nothing
    was left out, ``0.5 + 0.5 * p`` with the probability p of the given label, which ranks but flags nothing.

    References
    ----------
    B. Han et al. Co-teaching: robust training of deep neural networks with extremely noisy labels. NeurIPS 2018.
    """

    n_networks = 2

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tau = 0.0

    def learn(self, epoch: int) -> dict[str, Any]:
        """Go once over the labelled segments."""
        gradual = self.config.co_teaching.gradual_epochs
        if 1 <= epoch <= gradual:
            self.tau = self.estimate()
        forget_rate = self.tau * min(1.0, epoch / gradual)
        networks = [network.train() for network in self.networks]
        picked, shown, losses = np.zeros(len(self.rows)), np.zeros(len(self.rows)), []
        for i, positions in enumerate(self.batches()):
            x, target = self.augment(self.inputs(positions)), self.labels(positions)
            loss = [semisup.soft_cross_entropy(network(x), target) for network in networks]
            kept = max(1, round((1 - forget_rate) * len(positions)))
            small = [torch.argsort(each.detach(), stable=True)[:kept] for each in loss]
            for which in range(self.n_networks):
                taught = loss[which][small[1 - which]].mean()
                self.step(which, taught, self.progress(epoch, i))
                losses.append(float(taught.detach()))
                np.add.at(picked, positions[small[which]].numpy(), 1)
                np.add.at(shown, positions.numpy(), 1)
        ranked = 0.5 + 0.5 * self.given_probabilities(self.probabilities(self.rows))
        chose = (shown > 0) & (forget_rate > 0)
        self.add_evidence(np.where(chose, picked / np.maximum(shown, 1), ranked))
        return {"loss": float(np.mean(losses)), "forget_rate": forget_rate}

    def estimate(self) -> float:
        """Estimate the share of wrong labels from the losses of the moment."""
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
        """Inverse of `state`."""
        super().load_state(state)
        self.tau = float(state["tau"])
