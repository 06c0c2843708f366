"""The semi-supervised self-learner: two networks that divide the labels into clean and noisy for each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from emoseg.config import LearningConfig, MethodSettings, check_warm_up
from emoseg.learning import semisup
from emoseg.learning.label_noise import CleanProbability, clean_probability, song_consensus, with_consensus
from emoseg.learning.methods.base import CrossFitted
from emoseg.learning.trainer import State, Trainer
from emoseg.types import Float64


class SsslSettings(MethodSettings):
    """Settings of the self-learner; the names are those of the papers (DivideMix and arXiv 2410.21897)."""

    warmup_epochs: int = Field(4, ge=1, description="Passes of plain training before labels are questioned.")
    clean_threshold: float = Field(0.5, gt=0, lt=1, description="Clean probability above which a label is trusted.")
    temperature: float = Field(0.5, gt=0, le=1, description="Sharpening temperature T.")
    momentum: float = Field(0.5, ge=0, lt=1, description="Share of earlier passes in the guess of a noisy label.")
    noisy_weight: float = Field(1.0, ge=0, description="Weight lambda_u of the noisy part's loss, after the ramp.")
    ramp_epochs: int = Field(3, ge=1, description="Passes over which the noisy part's weight grows from 0.")
    consistency_weight: float = Field(0.0, ge=0, description="Weight of the KL consistency term between two views.")
    balance_weight: float = Field(0.5, ge=0, description="Weight of the term that keeps the corpus' class shares.")

    def check(self, learning: LearningConfig) -> None:
        """Raise `ValueError` unless the warm-up is shorter than the training."""
        check_warm_up(self.warmup_epochs, learning)


class SsslTrainer(Trainer):
    """Two networks that divide the labels into clean and noisy for each other.

    Both first warm up on given labels. After that, at the start of every pass, a mixture on each network's losses
    divides the segments into clean and noisy ones for the other network (co-divide). Clean segments keep a refined
    label, noisy ones get the guess of both networks; both are sharpened and mixed. The loss is cross-entropy on the
    clean part, the Brier score on the noisy part, a KL consistency term between two views, and a balance term with the
    corpus' own class shares. Unlabelled segments belong to the noisy part from the first pass after the warm-up.
    """

    n_networks = 2
    semi_supervised = True
    settings: SsslSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The mean prediction of both networks, averaged over passes; zeros until the warm-up is over.
        self.mean_prediction = torch.zeros(len(self.rows), self.classes)
        consensus = song_consensus(self.given_labels, self.song[self.rows[self.labelled]], self.classes)
        self.consensus = None if consensus is None else self.to_all_rows(consensus, 1 / self.classes)

    def learn(self, epoch: int) -> dict[str, Any]:
        """Train plainly during the warm-up; after it, co-divide and train semi-supervised."""
        warm_up = epoch < self.settings.warmup_epochs
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
            "clean_share": float(np.mean([d.probability > self.settings.clean_threshold for d in divided])),
            "fallback": [d.fallback for d in divided],
            "rescued_classes": [list(d.rescued_classes) for d in divided],
            "consensus": self.consensus is not None,
        }

    def to_all_rows(self, values: Float64, elsewhere: float) -> Float64:
        """Return an array over all training segments from one over the labelled ones; the others get `elsewhere`."""
        table = np.full((len(self.rows), *values.shape[1:]), elsewhere)
        table[self.labelled] = values
        return table

    def divide(self, predicted: Float64) -> CleanProbability:
        """Return clean probabilities from one network's losses, and from the other segments of the song if they vote.

        Unlabelled segments have no label that could be right, so their clean probability is 0.
        """
        given = self.given_labels
        losses = -np.log(np.clip(self.given_probabilities(predicted), 1e-12, 1))
        divided = clean_probability(losses, given, threshold=self.settings.clean_threshold, seed=self.seed)
        if self.consensus is not None:
            divided = with_consensus(divided, self.consensus[self.labelled], given)
        return replace(divided, probability=self.to_all_rows(divided.probability, 0.0))

    def evidence_of(self, divided: CleanProbability, predicted: Float64) -> Float64:
        """Return the clean probabilities of one pass; where all labels are trusted, values that rank but flag none."""
        if divided.fallback is None or self.consensus is not None:
            return divided.probability
        return self.to_all_rows(0.5 + 0.5 * self.given_probabilities(predicted), 0.0)

    def learn_divided(self, epoch: int, predicted: list[Tensor], divided: list[CleanProbability]) -> float:
        """Train both networks for one pass, each with the other's clean probabilities; return the mean loss."""
        # Co-divide: a network that selected its own training segments would reinforce its own mistakes.
        clean = [torch.from_numpy(divided[1 - i].probability).float() for i in range(self.n_networks)]
        guess = self.guess(predicted)
        targets = [self.targets(clean[i], predicted[i], guess) for i in range(self.n_networks)]
        trusted = [c > self.settings.clean_threshold for c in clean]
        losses = []
        for i, positions in enumerate(self.batches(np.arange(len(self.rows)))):
            x = self.inputs(positions)
            for which in range(self.n_networks):
                loss = self.loss(which, x, targets[which][positions], trusted[which][positions], epoch)
                self.step(which, loss, self.progress(epoch, i))
                losses.append(float(loss.detach()))
        return float(np.mean(losses))

    def guess(self, predicted: list[Tensor]) -> Tensor:
        """Return a guess of every label, shape (n, K), from both networks and all passes since the warm-up.

        DivideMix guesses from two views at each step. An average over passes costs nothing more, and is more stable
        than one over views (temporal ensembling, Laine and Aila, ICLR 2017).
        """
        settings = self.settings
        now = torch.stack(predicted).mean(dim=0)
        seen = bool(self.mean_prediction.any())
        self.mean_prediction = settings.momentum * self.mean_prediction + (1 - settings.momentum) * now if seen else now
        return semisup.co_guess([self.prediction_with_consensus()], settings.temperature)

    def prediction_with_consensus(self) -> Tensor:
        """Return the mean prediction, times the consensus of the song's other segments if they vote, shape (n, K)."""
        if self.consensus is None:
            return self.mean_prediction
        joint = self.mean_prediction * torch.from_numpy(self.consensus).float()
        return joint / joint.sum(dim=1, keepdim=True)

    def guesses(self) -> Float64 | None:
        """Return the mean prediction with the consensus; None during the warm-up."""
        return self.prediction_with_consensus().double().numpy() if bool(self.mean_prediction.any()) else None

    def targets(self, clean: Tensor, own: Tensor, guess: Tensor) -> Tensor:
        """Return soft targets, shape (n, K): refined labels where the label is trusted, guesses elsewhere."""
        settings = self.settings
        one_hot = self.one_hot[torch.from_numpy(self.rows)]
        refined = semisup.refine_labels(one_hot, clean, own, settings.temperature)
        return torch.where((clean > settings.clean_threshold)[:, None], refined, guess)

    def state(self) -> State:
        """Return everything that the next pass depends on, as named arrays."""
        return super().state() | {"mean_prediction": self.mean_prediction.numpy().copy()}

    def load_state(self, state: State) -> None:
        """Restore what `state` returned."""
        super().load_state(state)
        self.mean_prediction = torch.from_numpy(state["mean_prediction"].copy())

    def loss(self, which: int, x: Tensor, target: Tensor, trusted: Tensor, epoch: int) -> Tensor:
        """Return the loss of one batch: the clean part, the noisy part, consistency and balance."""
        settings, network = self.settings, self.networks[which].train()
        view = self.augment(x)
        mixed, mixed_target, _, _ = semisup.mixup(
            view, target, alpha=self.config.mixup_alpha, rng=self.rng, generator=self.generator
        )
        consistent = settings.consistency_weight > 0
        # One forward pass for everything that needs a gradient.
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


class Sssl(CrossFitted):
    """The semi-supervised self-learner.

    References
    ----------
    Y. Sun, X. Zhang, M. Zhou, W. Li. Semi-supervised self-learning enhanced music emotion recognition.
    arXiv 2410.21897. (the method)
    J. Li, R. Socher, S. Hoi. DivideMix. ICLR 2020. (the steps)
    """

    version = 1
    settings_class = SsslSettings
    trainer = SsslTrainer
