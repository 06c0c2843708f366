"""DivideMix, step by step as published."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from emoseg.config import LearningConfig, MethodSettings, check_warm_up
from emoseg.learning import semisup
from emoseg.learning.methods.base import CrossFitted
from emoseg.learning.trainer import State, Trainer
from emoseg.types import Float64


class DivideMixSettings(MethodSettings):
    """Settings of DivideMix; the paper's, with numbers of passes scaled to the shorter training."""

    warmup_epochs: int = Field(4, ge=1, description="Passes of plain training before the first division.")
    p_threshold: float = Field(0.5, gt=0, lt=1, description="Clean probability above which a segment is labelled.")
    temperature: float = Field(0.5, gt=0, le=1, description="Sharpening temperature T.")
    lambda_u: float = Field(25.0, ge=0, description="Weight of the unlabelled part's loss, after the ramp.")
    rampup_epochs: int = Field(3, ge=1, description="Passes over which lambda_u grows from 0.")

    def check(self, learning: LearningConfig) -> None:
        """Raise `ValueError` unless the warm-up is shorter than the training."""
        check_warm_up(self.warmup_epochs, learning)


class DivideMixTrainer(Trainer):
    """Two networks; each learns semi-supervised from the division that the other one's losses give.

    After a warm-up with plain cross-entropy, every pass: a two-component Gaussian mixture on the min-max scaled losses
    of each network gives the clean probability w. Segments above the threshold are the labelled set X of the *other*
    network, the rest its unlabelled set U (co-divide). For a batch of each and two views of it, labels of X are
    refined with the network's own mean prediction, those of U are guessed by both networks from both views, and all
    are sharpened. The loss, with mixup over X and U together, is cross-entropy on X, the Brier score on U with a ramped
    weight lambda_u, and a penalty that keeps the mean prediction near uniform class shares. Songs without a label are
    in U.

    A pass takes as many steps as with every other method, and repeats X and U where they are small. The alpha of mixup
    is the one that all methods share. The averaging of losses over passes, which the paper uses only at 90 % noise, is
    left out.
    """

    n_networks = 2
    semi_supervised = True
    settings: DivideMixSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.mean_prediction = torch.zeros(len(self.rows), self.classes)
        self.uniform = torch.full((self.classes,), 1 / self.classes)

    def learn(self, epoch: int) -> dict[str, Any]:
        """Train plainly during the warm-up; after it, co-divide and train each network in turn."""
        if epoch < self.settings.warmup_epochs:
            losses = [self.learn_plainly(i, epoch, mixup_alpha=0.0) for i in range(self.n_networks)]
            return {"loss": float(np.mean(losses))}
        predicted = [self.network_probabilities(i, self.rows) for i in range(self.n_networks)]
        divided = [self.divide(p) for p in predicted]
        self.mean_prediction = torch.from_numpy(np.mean(predicted, axis=0)).float()
        self.add_evidence(np.mean(divided, axis=0))
        losses = [self.learn_divided(i, divided[1 - i], epoch) for i in range(self.n_networks)]
        return {"loss": float(np.mean(losses)), "clean_share": float(np.mean(np.concatenate(divided) > 0.5))}

    def divide(self, predicted: Float64) -> Float64:
        """Return the clean probability of each labelled training segment from one network's losses."""
        return mixture_posterior(-np.log(np.clip(self.given_probabilities(predicted), 1e-12, 1)))

    def learn_divided(self, which: int, clean: Float64, epoch: int) -> float:
        """Train a network for one pass with the other one's clean probabilities; return the mean loss."""
        w = np.zeros(len(self.rows))
        w[self.labelled] = clean
        trusted = w > self.settings.p_threshold
        if not trusted.any():
            return self.learn_plainly(which, epoch, mixup_alpha=0.0)
        losses = []
        pairs = zip(self.batches(np.flatnonzero(trusted)), self._noisy_batches(~trusted), strict=False)
        for i, (x, u) in enumerate(pairs):
            inputs, targets = self.views(which, x, u, torch.from_numpy(w).float())
            loss = self.loss(which, inputs, targets, 2 * len(x), self.progress(epoch, i) * self.config.epochs)
            self.step(which, loss, self.progress(epoch, i))
            losses.append(float(loss.detach()))
        return float(np.mean(losses))

    def _noisy_batches(self, noisy: NDArray[np.bool_]) -> Iterator[Tensor]:
        """Yield batches of U, or empty batches where all labels are trusted."""
        if noisy.any():
            yield from self.batches(np.flatnonzero(noisy))
        while not noisy.any():
            yield torch.zeros(0, dtype=torch.int64)

    def views(self, which: int, x: Tensor, u: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return two views of a batch of X and of U, and their targets: refined for X, guessed for U."""
        temperature = self.settings.temperature
        network, other = self.networks[which].train(), self.networks[1 - which].eval()
        x_views = [self.augment(self.inputs(x)) for _ in range(2)]
        u_views = [self.augment(self.inputs(u)) for _ in range(2)]
        with torch.no_grad():
            own = torch.stack([torch.softmax(network(view), dim=1) for view in x_views]).mean(dim=0)
            refined = semisup.refine_labels(self.labels(x), w[x], own, temperature)
            guesses = [torch.softmax(n(view), dim=1) for n in (network, other) for view in u_views if len(u)]
            guessed = semisup.co_guess(guesses, temperature) if guesses else refined[:0]
        return torch.cat([*x_views, *u_views]), torch.cat([refined, refined, guessed, guessed])

    def loss(self, which: int, inputs: Tensor, targets: Tensor, labelled: int, epoch: float) -> Tensor:
        """Return the loss of one step; the first `labelled` items are of X, and `epoch` is the time in passes."""
        settings = self.settings
        mixed, mixed_target, _, _ = semisup.mixup(
            inputs, targets, alpha=self.config.mixup_alpha, rng=self.rng, generator=self.generator
        )
        logits = self.networks[which](mixed)
        loss = semisup.soft_cross_entropy(logits[:labelled], mixed_target[:labelled]).mean()
        if len(logits) > labelled:
            ramp = min(1.0, (epoch - settings.warmup_epochs) / settings.rampup_epochs)
            loss_u = semisup.brier(logits[labelled:], mixed_target[labelled:]).mean()
            loss = loss + settings.lambda_u * ramp * loss_u
        return loss + semisup.balance(logits, self.uniform)

    def guesses(self) -> Float64 | None:
        """Return the mean prediction of both networks at the start of the last pass; None during the warm-up."""
        return self.mean_prediction.double().numpy() if bool(self.mean_prediction.any()) else None

    def state(self) -> State:
        """Return everything that the next pass depends on, as named arrays."""
        return super().state() | {"mean_prediction": self.mean_prediction.numpy().copy()}

    def load_state(self, state: State) -> None:
        """Restore what `state` returned."""
        super().load_state(state)
        self.mean_prediction = torch.from_numpy(state["mean_prediction"].copy())


def mixture_posterior(losses: Float64) -> Float64:
    """Return the posterior of the smaller-mean component of a Gaussian mixture on losses, with the authors' settings.

    Parameters
    ----------
    losses : array, shape (n,)
        They are scaled to [0, 1] by their extremes. Where all are equal every label is trusted.

    Returns
    -------
    array, shape (n,), in [0, 1]
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    low, high = losses.min(), losses.max()
    if high - low < 1e-8:
        return np.ones(len(losses))
    scaled = ((losses - low) / (high - low))[:, None]
    mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(scaled)
    return np.asarray(mixture.predict_proba(scaled)[:, int(np.argmin(mixture.means_))])


class DivideMix(CrossFitted):
    """DivideMix.

    References
    ----------
    J. Li, R. Socher, S. Hoi. DivideMix: learning with noisy labels as semi-supervised learning. ICLR 2020.
    (Algorithm 1; settings from the authors' code)
    """

    version = 1
    settings_class = DivideMixSettings
    trainer = DivideMixTrainer
