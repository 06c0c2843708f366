"""Mean teacher: a student that must agree with the average of its own past."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emoseg.learning import semisup
from emoseg.learning.networks import SegmentNetwork
from emoseg.learning.trainer import State, Trainer, load_network
from emoseg.types import Float64, Int64


class MeanTeacher(Trainer):
    """Cross-entropy on labelled segments, and consistency with an averaged teacher on all of them.

    The teacher's weights are an exponential moving average of the student's. Both see views of their own, dropout
    included, and the mean squared difference of their probabilities joins the loss, with a weight that rises as
    ``exp(-5 * (1 - t)^2)``. The teacher is what predicts. With unlabelled songs a step takes a batch of labelled and
    one of unlabelled segments.

    References
    ----------
    A. Tarvainen, H. Valpola. Mean teachers are better role models: weight-averaged consistency targets improve
    semi-supervised deep learning results. NeurIPS 2017.
    """

    semi_supervised = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.teacher: SegmentNetwork = copy.deepcopy(self.networks[0]).requires_grad_(False)
        self.steps = 0

    def learn(self, epoch: int) -> dict[str, Any]:
        """Go once over the training segments."""
        losses = []
        for i, (labelled, unlabelled) in enumerate(zip(self.batches(), self._unlabelled_batches(), strict=False)):
            loss = self.loss(labelled, unlabelled, self.progress(epoch, i) * self.config.epochs)
            self.step(0, loss, self.progress(epoch, i))
            self.follow()
            losses.append(float(loss.detach()))
        self.add_evidence(self.given_probabilities(self.probabilities(self.rows)))
        return {"loss": float(np.mean(losses))}

    def _unlabelled_batches(self) -> Iterator[Tensor]:
        """Yield batches of unlabelled segments, empty ones where there are none."""
        unlabelled = np.setdiff1d(np.arange(len(self.rows)), self.labelled)
        if len(unlabelled):
            yield from self.batches(unlabelled)
        while not len(unlabelled):
            yield torch.zeros(0, dtype=torch.int64)

    def loss(self, labelled: Tensor, unlabelled: Tensor, epoch: float) -> Tensor:
        """Return the loss of one step; `epoch` counts passes and their parts."""
        settings = self.config.mean_teacher
        x = self.inputs(torch.cat([labelled, unlabelled]))
        with torch.no_grad():
            target = torch.softmax(self.teacher.train()(self.augment(x)), dim=1)
        logits = self.networks[0].train()(self.augment(x))
        supervised = semisup.soft_cross_entropy(logits[: len(labelled)], self.labels(labelled)).mean()
        ramp = float(np.exp(-5 * (1 - min(1.0, epoch / settings.rampup_epochs)) ** 2))
        return supervised + settings.consistency * ramp * semisup.brier(logits, target).mean()

    @torch.no_grad()
    def follow(self) -> None:
        """Move the teacher towards the student: ``theta' <- alpha * theta' + (1 - alpha) * theta``.

        In the first steps the average is over all steps so far, as in the authors' code: the start is soon forgotten.
        """
        self.steps += 1
        alpha = min(1 - 1 / (self.steps + 1), self.config.mean_teacher.ema_decay)
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
        """Return everything that the next pass depends on; network 0, which is what predicts, is the teacher."""
        state = {k.replace("network0/", "student/"): v for k, v in super().state().items()}
        state |= {f"network0/{k}": v.numpy().copy() for k, v in self.teacher.state_dict().items()}
        return state | {"steps": np.array(self.steps)}

    def load_state(self, state: State) -> None:
        """Inverse of `state`."""
        load_network(self.teacher, state, 0)
        self.steps = int(state["steps"])
        of_student = {k: v for k, v in state.items() if not k.startswith("network0/")}
        super().load_state({k.replace("student/", "network0/"): v for k, v in of_student.items()})
