"""Mean teacher: a network that must agree with the moving average of its own weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from emoseg.config import MethodSettings
from emoseg.learning import semisup
from emoseg.learning.methods.base import CrossFitted
from emoseg.learning.networks import SegmentNetwork
from emoseg.learning.trainer import State, Trainer, load_network
from emoseg.types import Float64, Int64


class MeanTeacherSettings(MethodSettings):
    """Settings of the mean teacher."""

    ema_decay: float = Field(
        0.97, ge=0, lt=1, description="Share alpha of the old weights in the teacher's weights, per step."
    )
    consistency: float = Field(10.0, ge=0, description="Weight of the consistency term, after the ramp.")
    rampup_epochs: int = Field(3, ge=1, description="Passes over which that weight grows.")


class MeanTeacherTrainer(Trainer):
    """Cross-entropy on labelled segments, and consistency with an averaged teacher on all segments.

    The teacher's weights are an exponential moving average of the student's. Both get views of their own and use
    dropout. The mean squared difference of their probabilities is added to the loss, with a weight that rises as
    ``exp(-5 * (1 - t)^2)``. The teacher makes the predictions. Where there are unlabelled songs, a step takes one batch
    of labelled and one of unlabelled segments.
    """

    semi_supervised = True
    settings: MeanTeacherSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.teacher: SegmentNetwork = copy.deepcopy(self.networks[0]).requires_grad_(False)
        self.steps = 0

    def learn(self, epoch: int) -> dict[str, Any]:
        """Train on the training segments for one pass."""
        losses = []
        for i, (labelled, unlabelled) in enumerate(zip(self.batches(), self._unlabelled_batches(), strict=False)):
            loss = self.loss(labelled, unlabelled, self.progress(epoch, i) * self.config.epochs)
            self.step(0, loss, self.progress(epoch, i))
            self.update_teacher()
            losses.append(float(loss.detach()))
        self.add_evidence(self.given_probabilities(self.probabilities(self.rows)))
        return {"loss": float(np.mean(losses))}

    def _unlabelled_batches(self) -> Iterator[Tensor]:
        """Yield batches of unlabelled segments, or empty batches where there are none."""
        unlabelled = np.setdiff1d(np.arange(len(self.rows)), self.labelled)
        if len(unlabelled):
            yield from self.batches(unlabelled)
        while not len(unlabelled):
            yield torch.zeros(0, dtype=torch.int64)

    def loss(self, labelled: Tensor, unlabelled: Tensor, epoch: float) -> Tensor:
        """Return the loss of one step; `epoch` is the time in passes."""
        settings = self.settings
        x = self.inputs(torch.cat([labelled, unlabelled]))
        with torch.no_grad():
            target = torch.softmax(self.teacher.train()(self.augment(x)), dim=1)
        logits = self.networks[0].train()(self.augment(x))
        supervised = semisup.soft_cross_entropy(logits[: len(labelled)], self.labels(labelled)).mean()
        ramp = float(np.exp(-5 * (1 - min(1.0, epoch / settings.rampup_epochs)) ** 2))
        return supervised + settings.consistency * ramp * semisup.brier(logits, target).mean()

    @torch.no_grad()
    def update_teacher(self) -> None:
        """Move the teacher towards the student: ``theta' <- alpha * theta' + (1 - alpha) * theta``.

        In the first steps it is the average over all steps so far, as in the authors' code, so that the random initial
        weights soon have no influence.
        """
        self.steps += 1
        alpha = min(1 - 1 / (self.steps + 1), self.settings.ema_decay)
        student = self.networks[0].state_dict()
        for name, value in self.teacher.state_dict().items():
            if value.is_floating_point():
                value.mul_(alpha).add_(student[name], alpha=1 - alpha)
            else:
                value.copy_(student[name])

    def network_probabilities(self, which: int, rows: Int64) -> Float64:
        """Return the teacher's probabilities for segments `rows`, shape (n, K)."""
        return self.evaluate(self.teacher, rows)

    def state(self) -> State:
        """Return everything that the next pass depends on; network 0, which makes the predictions, is the teacher."""
        state = {k.replace("network0/", "student/"): v for k, v in super().state().items()}
        state |= {f"network0/{k}": v.numpy().copy() for k, v in self.teacher.state_dict().items()}
        return state | {"steps": np.array(self.steps)}

    def load_state(self, state: State) -> None:
        """Restore what `state` returned."""
        load_network(self.teacher, state, 0)
        self.steps = int(state["steps"])
        of_student = {k: v for k, v in state.items() if not k.startswith("network0/")}
        super().load_state({k.replace("student/", "network0/"): v for k, v in of_student.items()})


class MeanTeacher(CrossFitted):
    """Mean teacher.

    References
    ----------
    A. Tarvainen, H. Valpola. Mean teachers are better role models: weight-averaged consistency targets improve
    semi-supervised deep learning results. NeurIPS 2017.
    """

    version = 1
    settings_class = MeanTeacherSettings
    trainer = MeanTeacherTrainer
