"""Training that trusts every inherited label: the baselines."""

from __future__ import annotations

from typing import Any, ClassVar

from emoseg.learning.trainer import Trainer


class Inherit(Trainer):
    """Cross-entropy on the inherited labels, nothing else.

    Its clean probability, for comparison, is the probability of the given label averaged over passes.
    """

    mixes: ClassVar[bool] = False
    watches: ClassVar[bool] = True

    def learn(self, epoch: int) -> dict[str, Any]:
        """Go once over the labelled segments."""
        loss = self.learn_plainly(0, epoch, mixup_alpha=self.config.mixup_alpha if self.mixes else 0.0)
        if self.watches:
            self.add_evidence(self.given_probabilities(self.probabilities(self.rows)))
        return {"loss": loss}


class Mixup(Inherit):
    """Cross-entropy on mixed segments and their mixed labels, with the configured ``mixup_alpha``.

    References
    ----------
    H. Zhang, M. Cisse, Y. Dauphin, D. Lopez-Paz. mixup: beyond empirical risk minimization. ICLR 2018.
    """

    mixes = True


class UnwatchedMixup(Mixup):
    """The same networks, where nobody asks which labels are right: a quarter of the time is saved."""

    watches = False
