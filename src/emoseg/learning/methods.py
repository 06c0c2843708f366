"""Methods of learning the segment model: what one pass over the training segments does.

A `Trainer` owns the networks of one member and learns them pass by pass. A pass depends on the state after the last
one, the seed and its own number alone, so a run that was killed goes on from its last saved pass to the same result.
`METHODS` maps each method's name to its trainer; a new method is a subclass and a line there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from emoseg.config import LearningConfig
from emoseg.learning import semisup
from emoseg.learning.networks import SegmentNetwork, build_network
from emoseg.learning.noise import CleanProbability, clean_probability, song_consensus, with_consensus
from emoseg.types import Float64, Int64

State = dict[str, NDArray[Any]]


class Trainer(ABC):
    """Learns the networks of one member from its training segments.

    Parameters
    ----------
    features : array, shape (S, ...)
        Features of all segments; only training rows are learnt from.
    given : array of int, shape (S,)
        Given labels, some of them wrong.
    song : array of int, shape (S,)
        Song of each segment.
    rows : array of int, shape (n,)
        Training segments.
    classes : int
        Number of labels K.
    config : LearningConfig
    seed : int
    """

    n_networks = 1

    def __init__(
        self,
        features: NDArray[np.floating],
        given: Int64,
        song: Int64,
        rows: Int64,
        *,
        classes: int,
        config: LearningConfig,
        seed: int,
    ) -> None:
        self.features, self.given, self.song, self.rows = features, given, song, rows
        self.classes, self.config, self.seed = classes, config, seed
        self.one_hot = functional.one_hot(torch.from_numpy(given), classes).float()
        shares = np.bincount(given[rows], minlength=classes) / len(rows)
        self.prior = torch.from_numpy(shares.astype(np.float32))
        self.networks: list[SegmentNetwork] = []
        self.optimisers: list[torch.optim.AdamW] = []
        for i in range(self.n_networks):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(_mixed_seed(seed, i))
                network = build_network(features, rows, classes, config.network)
            self.networks.append(network)
            self.optimisers.append(
                torch.optim.AdamW(
                    network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
                )
            )
        scale = self.networks[0].standardise.scale
        self.deviation = torch.where(scale > 0, 1 / scale, 0.0)
        # Sum over passes of the evidence that each training segment's label is right, and the number of passes in it.
        self.evidence = np.zeros(len(rows))
        self.evidence_passes = 0

    @abstractmethod
    def learn(self, epoch: int) -> dict[str, Any]:
        """Go once over the training segments; return a record of what happened, for the history."""

    def run_epoch(self, epoch: int) -> dict[str, Any]:
        """Go once over the training segments with randomness that depends on the seed and `epoch` alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_mixed_seed(self.seed, 1000 + epoch))
            self.rng = np.random.default_rng([self.seed, epoch])
            self.generator = torch.Generator().manual_seed(_mixed_seed(self.seed, 2000 + epoch))
            return self.learn(epoch)

    def clean(self) -> Float64:
        """Return the clean probability of each training segment so far, shape (n,), in [0, 1]."""
        return self.evidence / self.evidence_passes if self.evidence_passes else np.ones(len(self.rows))

    def batches(self) -> Iterator[Tensor]:
        """Yield positions into the training rows, shuffled; a last batch too small for statistics is left out."""
        order = torch.randperm(len(self.rows), generator=self.generator)
        for batch in torch.split(order, self.config.batch):
            if len(batch) >= min(8, self.config.batch, len(order)):
                yield batch

    def inputs(self, positions: Tensor) -> Tensor:
        """Return raw features of training segments at `positions`."""
        return torch.from_numpy(self.features[self.rows[positions.numpy()]].astype(np.float32))

    def labels(self, positions: Tensor) -> Tensor:
        """Return one-hot given labels of training segments at `positions`, shape (B, K)."""
        return self.one_hot[torch.from_numpy(self.rows)[positions]]

    def augment(self, x: Tensor) -> Tensor:
        """Return a view of raw features."""
        return self.networks[0].augment(x, self.deviation, self.generator)

    def step(self, which: int, loss: Tensor, progress: float) -> None:
        """Take one optimiser step of network `which`; `progress` in [0, 1) sets the one-cycle learning rate."""
        optimiser = self.optimisers[which]
        for group in optimiser.param_groups:
            group["lr"] = self.config.learning_rate * self.networks[which].rate * _one_cycle(progress)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    def learn_plainly(self, which: int, epoch: int) -> float:
        """Go once over the training segments with cross-entropy on given labels, and mixup; return the mean loss."""
        network = self.networks[which].train()
        losses = []
        steps = max(1, len(self.rows) // self.config.batch)
        for i, positions in enumerate(self.batches()):
            x, target, _, _ = semisup.mixup(
                self.augment(self.inputs(positions)),
                self.labels(positions),
                alpha=self.config.mixup_alpha,
                rng=self.rng,
                generator=self.generator,
            )
            loss = semisup.soft_cross_entropy(network(x), target).mean()
            self.step(which, loss, (epoch + i / steps) / self.config.epochs)
            losses.append(float(loss.detach()))
        return float(np.mean(losses))

    @torch.no_grad()
    def network_probabilities(self, which: int, rows: Int64) -> Float64:
        """Return probabilities of one network for segments `rows`, in evaluation mode, shape (n, K)."""
        network = self.networks[which].eval()
        parts = [
            torch.softmax(network(torch.from_numpy(self.features[part].astype(np.float32))), dim=1)
            for part in np.array_split(rows, max(1, len(rows) // 512))
        ]
        return torch.cat(parts).double().numpy()

    def probabilities(self, rows: Int64) -> Float64:
        """Return the mean probabilities of all networks for segments `rows`, shape (n, K)."""
        return np.mean([self.network_probabilities(i, rows) for i in range(self.n_networks)], axis=0)

    def state(self) -> State:
        """Return everything that the next pass depends on, as named arrays."""
        state: State = {"evidence": self.evidence.copy(), "evidence_passes": np.array(self.evidence_passes)}
        for i, (network, optimiser) in enumerate(zip(self.networks, self.optimisers, strict=True)):
            state |= {f"network{i}/{k}": v.numpy().copy() for k, v in network.state_dict().items()}
            for j, moments in optimiser.state_dict()["state"].items():
                state |= {f"optimiser{i}/{j}/{k}": v.numpy().copy() for k, v in moments.items()}
        return state

    def load_state(self, state: State) -> None:
        """Inverse of `state`."""
        self.evidence, self.evidence_passes = state["evidence"].copy(), int(state["evidence_passes"])
        for i, (network, optimiser) in enumerate(zip(self.networks, self.optimisers, strict=True)):
            load_network(network, state, i)
            weights = list(network.parameters())
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in state.items():
                if key.startswith(f"optimiser{i}/"):
                    _, j, name = key.split("/", 2)
                    loaded = torch.from_numpy(value.copy())
                    # The fused step goes through weights and moments in storage order: their layout must be the same.
                    like_weights = torch.empty_like(weights[int(j)]).copy_(loaded) if loaded.ndim else loaded
                    moments.setdefault(int(j), {})[name] = like_weights
            optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})


def load_network(network: SegmentNetwork, state: State, which: int) -> None:
    """Load the weights of network `which` of a trainer's state."""
    prefix = f"network{which}/"
    weights = {k.removeprefix(prefix): torch.from_numpy(v.copy()) for k, v in state.items() if k.startswith(prefix)}
    network.load_state_dict(weights)


def _mixed_seed(seed: int, purpose: int) -> int:
    """Return a seed for one purpose that shares nothing with neighbouring seeds and purposes."""
    return int(np.random.SeedSequence([seed, purpose]).generate_state(1)[0])


def _one_cycle(progress: float) -> float:
    """Return the share of the peak learning rate: a rise over the first fifth, then a half cosine to nearly zero."""
    if progress < 0.2:
        return 0.1 + 0.9 * progress / 0.2
    return 0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * (progress - 0.2) / 0.8)))


class Inherit(Trainer):
    """Plain training that trusts every inherited label, with mixup: the fair baseline.

    Its clean probability, for comparison, is the probability of the given label averaged over passes.
    """

    def learn(self, epoch: int) -> dict[str, Any]:
        """Go once over the training segments with cross-entropy on given labels."""
        loss = self.learn_plainly(0, epoch)
        given = self.given[self.rows]
        self.evidence += self.probabilities(self.rows)[np.arange(len(given)), given]
        self.evidence_passes += 1
        return {"loss": loss}


class SelfLearner(Trainer):
    """The semi-supervised self-learner: two networks that tell each other which labels to trust.

    Warm-up on given labels; then, at the start of every pass, a mixture on each network's losses splits the segments
    into clean and noisy for the other network (co-divide). Clean segments keep a refined label, noisy ones get the
    guess of both networks; both are sharpened and mixed. The losses are cross-entropy on the clean, the Brier score on
    the noisy part, a KL consistency term between two views, and a balance term with the corpus' own class shares.

    References
    ----------
    arXiv 2410.21897 (the method); DivideMix, ICLR 2020 (the steps).
    """

    n_networks = 2

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What both networks think of each training segment, averaged over passes; zeros until the first.
        self.opinion = torch.zeros(len(self.rows), self.classes)
        self.consensus = song_consensus(self.given[self.rows], self.song[self.rows], self.classes)

    def learn(self, epoch: int) -> dict[str, Any]:
        """Warm up, or divide and learn semi-supervised."""
        warm_up = epoch < self.config.sssl.warmup_epochs
        if warm_up:
            return {"loss": float(np.mean([self.learn_plainly(i, epoch) for i in range(self.n_networks)]))}
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

    def divide(self, predicted: Float64) -> CleanProbability:
        """Split the training segments by one network's losses, and by sister segments labelled on their own."""
        given = self.given[self.rows]
        losses = -np.log(np.clip(predicted[np.arange(len(given)), given], 1e-12, 1))
        divided = clean_probability(losses, given, threshold=self.config.sssl.clean_threshold, seed=self.seed)
        return divided if self.consensus is None else with_consensus(divided, self.consensus, given)

    def evidence_of(self, divided: CleanProbability, predicted: Float64) -> Float64:
        """Return the clean probability of one pass; where all labels are trusted, one that ranks but flags nothing."""
        if divided.fallback is None or self.consensus is not None:
            return divided.probability
        given = self.given[self.rows]
        return 0.5 + 0.5 * predicted[np.arange(len(given)), given]

    def learn_divided(self, epoch: int, predicted: list[Tensor], divided: list[CleanProbability]) -> float:
        """Go once over the training segments, each network with the other's split; return the mean loss."""
        # Co-divide: a network that chose its own training set would confirm its own mistakes.
        clean = [torch.from_numpy(divided[1 - i].probability).float() for i in range(self.n_networks)]
        guess = self.guess(predicted)
        targets = [self.targets(clean[i], predicted[i], guess) for i in range(self.n_networks)]
        trusted = [c > self.config.sssl.clean_threshold for c in clean]
        steps = max(1, len(self.rows) // self.config.batch)
        losses = []
        for i, positions in enumerate(self.batches()):
            x = self.inputs(positions)
            for which in range(self.n_networks):
                loss = self.loss(which, x, targets[which][positions], trusted[which][positions], epoch)
                self.step(which, loss, (epoch + i / steps) / self.config.epochs)
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
        guess = self.opinion
        if self.consensus is not None:
            joint = guess * torch.from_numpy(self.consensus).float()
            guess = joint / joint.sum(dim=1, keepdim=True)
        return semisup.co_guess([guess], settings.temperature)

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


METHODS: Mapping[str, type[Trainer]] = MappingProxyType({"inherit": Inherit, "sssl": SelfLearner})
