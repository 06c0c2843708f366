"""Training that trusts every inherited label: the baselines `inherit` and `mixup`."""

from __future__ import annotations

from typing import Any, ClassVar

from emoseg.learning.methods.base import CrossFitted
from emoseg.learning.trainer import Trainer


class InheritTrainer(Trainer):
    """Cross-entropy on the inherited labels, without mixup.

    For comparison with other methods, its clean probability is the probability of the given label, averaged over
    passes.
    """

    mixes: ClassVar[bool] = False
    measures_labels: ClassVar[bool] = True

    def learn(self, epoch: int) -> dict[str, Any]:
        """Train on the labelled segments for one pass."""
        loss = self.learn_plainly(0, epoch, mixup_alpha=self.config.mixup_alpha if self.mixes else 0.0)
        if self.measures_labels:
            self.add_evidence(self.given_probabilities(self.probabilities(self.rows)))
        return {"loss": loss}


class MixupTrainer(InheritTrainer):
    """Cross-entropy on mixed segments and their mixed labels, with the shared setting ``mixup_alpha``."""

    mixes = True


class NetworksOnlyMixupTrainer(MixupTrainer):
    """The same networks without clean probabilities, which take a quarter of the time."""

    measures_labels = False


class Inherit(CrossFitted):
    """Plain training on inherited labels."""

    version = 1
    trainer = InheritTrainer


class Mixup(CrossFitted):
    """Plain training on inherited labels, with mixup.

    References
    ----------
    H. Zhang, M. Cisse, Y. Dauphin, D. Lopez-Paz. mixup: beyond empirical risk minimization. ICLR 2018.
    """

    version = 1
    trainer = MixupTrainer
