"""The semi-supervised self-learner."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emoseg.learning import semisup
from emoseg.learning.label_noise import CleanProbability, clean_probability, song_consensus, with_consensus
from emoseg.learning.trainer import State, Trainer
from emoseg.types import Float64


class SelfLearner(Trainer):
    """The semi-supervised self-learner: two networks that tell each other which labels to trust.

    Warm-up on given labels; then, at the start of every pass, a mixture on each network's losses splits the segments
    into clean and noisy for the other network (co-divide). Clean segments keep a refined label, noisy ones get the
    guess of both networks; both are sharpened and mixed. The losses are cross-entropy on the clean, the Brier score on
    the noisy part, a KL consistency term between two views, and a balance term with the corpus' own class shares.
    Unlabelled segments belong to the noisy part from the first pass after warm-up on.

    References
    ----------
    arXiv 2410.21897 (the method); DivideMix, ICLR 2020 (the steps).
    """

    n_networks = 2
    semi_supervised = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What both networks think of each training segment, averaged over passes; zeros until the first.
        self.opinion = torch.zeros(len(self.rows), self.classes)
        voted = song_consensus(self.given_labels, self.song[self.rows[self.labelled]], self.classes)
        self.consensus = None if voted is None else self.spread(voted, 1 / self.classes)

    def learn(self, epoch: int) -> dict[str, Any]:
        """Warm up, or divide and learn semi-supervised."""
        warm_up = epoch < self.config.sssl.warmup_epochs
        if warm_up:
            alpha = self.config.mixup_alpha
            losses = [self.learn_plainly(i, epoch, mixup_alpha=alpha) for i in range(self.n_networks)]
            return {"loss": float(np.mean(losses))}
        predicted = [self.network_probabilities(i, self.rows) for i in range(self.n_networks)]
        divided = [self.divide(p) for p in predicted]
        self.evidence += np.mean([self.evidence_of(d, p) for d, p in zip(divided, predicted, strict=True)], axis=0)
        self.evidence_passes += 1
        loss = self.learn_divided(epoch, [torch.from_numpy(p).float() for p in predicted], divided)
        return {
            "loss": loss,
            "clean_share": float(np.mean([d.probability > self.config.sssl.clean_threshold for d in divided])),
            "fallback": [d.fallback for d in divided],
            "rescued_classes": [list(d.rescued_classes) for d in divided],
            "consensus": self.consensus is not None,
        }

    def spread(self, values: Float64, elsewhere: float) -> Float64:
        """Return an array over all training segments from one over the labelled ones; the others get `elsewhere`."""
        spread = np.full((len(self.rows), *values.shape[1:]), elsewhere)
        spread[self.labelled] = values
        return spread

    def divide(self, predicted: Float64) -> CleanProbability:
        """Split the training segments by one network's losses, and by sister segments labelled on their own.

        Unlabelled segments have no label that could be right: their clean probability is 0.
        """
        given = self.given_labels
        losses = -np.log(np.clip(self.given_probabilities(predicted), 1e-12, 1))
        divided = clean_probability(losses, given, threshold=self.config.sssl.clean_threshold, seed=self.seed)
        if self.consensus is not None:
            divided = with_consensus(divided, self.consensus[self.labelled], given)
        return replace(divided, probability=self.spread(divided.probability, 0.0))

    def evidence_of(self, divided: CleanProbability, predicted: Float64) -> Float64:
        """Return the clean probability of one pass; where all labels are trusted, one that ranks but flags nothing."""
        if divided.fallback is None or self.consensus is not None:
            return divided.probability
        return self.spread(0.5 + 0.5 * self.given_probabilities(predicted), 0.0)

    def learn_divided(self, epoch: int, predicted: list[Tensor], divided: list[CleanProbability]) -> float:
        """Go once over the training segments, each network with the other's split; return the mean loss."""
        # Co-divide: a network that chose its own training set would confirm its own mistakes.
        clean = [torch.from_numpy(divided[1 - i].probability).float() for i in range(self.n_networks)]
        guess = self.guess(predicted)
        targets = [self.targets(clean[i], predicted[i], guess) for i in range(self.n_networks)]
        trusted = [c > self.config.sssl.clean_threshold for c in clean]
        losses = []
        for i, positions in enumerate(self.batches(np.arange(len(self.rows)))):
            x = self.inputs(positions)
            for which in range(self.n_networks):
                loss = self.loss(which, x, targets[which][positions], trusted[which][positions], epoch)
                self.step(which, loss, self.progress(epoch, i))
                losses.append(float(loss.detach()))
        return float(np.mean(losses))

    def guess(self, predicted: list[Tensor]) -> Tensor:
        """Guess every label from both networks and all passes since warm-up, shape (n, K).

        DivideMix guesses from two augmented views of the moment. Passes as views cost nothing more, and an average
        over time is steadier than one over views (temporal ensembling, Laine and Aila, ICLR 2017).
        """
        settings = self.config.sssl
        now = torch.stack(predicted).mean(dim=0)
        seen = bool(self.opinion.any())
        self.opinion = settings.momentum * self.opinion + (1 - settings.momentum) * now if seen else now
        return semisup.co_guess([self.joint_opinion()], settings.temperature)

    def joint_opinion(self) -> Tensor:
        """Return the opinion of the networks, joined with that of sister segments labelled on their own, (n, K)."""
        if self.consensus is None:
            return self.opinion
        joint = self.opinion * torch.from_numpy(self.consensus).float()
        return joint / joint.sum(dim=1, keepdim=True)

    def guesses(self) -> Float64 | None:
        """Return the joint opinion, from the first pass after warm-up on."""
        return self.joint_opinion().double().numpy() if bool(self.opinion.any()) else None

    def targets(self, clean: Tensor, own: Tensor, guess: Tensor) -> Tensor:
        """Return soft targets (n, K): refined labels where the label is trusted, guesses elsewhere."""
        settings = self.config.sssl
        one_hot = self.one_hot[torch.from_numpy(self.rows)]
        refined = semisup.refine_labels(one_hot, clean, own, settings.temperature)
        return torch.where((clean > settings.clean_threshold)[:, None], refined, guess)

    def state(self) -> State:
        """Return everything that the next pass depends on, as named arrays."""
        return super().state() | {"opinion": self.opinion.numpy().copy()}

    def load_state(self, state: State) -> None:
        """Inverse of `state`."""
        super().load_state(state)
        self.opinion = torch.from_numpy(state["opinion"].copy())

    def loss(self, which: int, x: Tensor, target: Tensor, trusted: Tensor, epoch: int) -> Tensor:
        """Return the loss of one batch: clean part, noisy part, consistency and balance."""
        settings, network = self.config.sssl, self.networks[which].train()
        view = self.augment(x)
        mixed, mixed_target, _, _ = semisup.mixup(
            view, target, alpha=self.config.mixup_alpha, rng=self.rng, generator=self.generator
        )
        consistent = settings.consistency_weight > 0
        # One pass through the network for all that needs a gradient.
        logits = network(torch.cat([mixed, view, self.augment(x)]) if consistent else mixed)
        mixed_logits = logits[: len(target)]
        ramp = min(1.0, (epoch - settings.warmup_epochs + 1) / settings.ramp_epochs)
        clean_loss = (semisup.soft_cross_entropy(mixed_logits, mixed_target) * trusted).mean()
        noisy_loss = (semisup.brier(mixed_logits, mixed_target) * ~trusted).mean() * self.classes
        loss = clean_loss + settings.noisy_weight * ramp * noisy_loss
        loss = loss + settings.balance_weight * semisup.balance(mixed_logits, self.prior)
        if consistent:
            loss = loss + settings.consistency_weight * semisup.consistency(*logits[len(target) :].chunk(2))
        return loss
