"""What one pass over the training segments does for one member.

A `Trainer` owns the networks of one member and learns them pass by pass. A pass depends on the state after the last
one, the seed and its own number alone, so a run that was killed goes on from its last saved pass to the same result.
The trainers are in `emoseg.learning.methods`; `emoseg.learning.cross_fit.cross_fit` runs them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from emoseg.config import LearningConfig
from emoseg.errors import EmosegError
from emoseg.learning import semisup
from emoseg.learning.networks import SegmentNetwork, build_network
from emoseg.song.statistics import song_mean
from emoseg.types import UNLABELLED, Float64, Int64

State = dict[str, NDArray[Any]]


class NotFiniteError(EmosegError):
    """A pass gave a number that is not finite; who runs it says which pass of which member."""


class Trainer(ABC):
    """Learns the networks of one member from its training segments.

    Parameters
    ----------
    features : array, shape (S, ...)
        Features of all segments; only training rows are learnt from.
    given : array of int, shape (S,)
        Given labels, some of them wrong; `UNLABELLED` for the segments of a song without one.
    song : array of int, shape (S,)
        Song of each segment.
    rows : array of int, shape (n,)
        Training segments.
    classes : int
        Number of labels K.
    config : LearningConfig
    seed : int
    targets : array, shape (S, K), optional
        What plain learning takes for the labels, instead of the one-hot given ones.

    Attributes
    ----------
    n_networks : int
        How many networks a member has; a class attribute.
    semi_supervised : bool
        Whether unlabelled segments are learnt from; a class attribute. Where not, `rows` keeps the labelled ones only.
    labelled : array of int
        Positions in `rows` of the segments with a label.
    pass_length : int
        Segments that a pass goes over: as many as there are training segments, labelled or not, so that every method
        takes the same number of steps. A method that has fewer to learn from goes over them again.
    """

    n_networks: ClassVar[int] = 1
    semi_supervised: ClassVar[bool] = False

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
        targets: Float64 | None = None,
    ) -> None:
        self.features, self.given, self.song = features, given, song
        self.rows = rows if self.semi_supervised else rows[given[rows] != UNLABELLED]
        self.labelled = np.flatnonzero(given[self.rows] != UNLABELLED)
        self.pass_length = len(rows)
        self.classes, self.config, self.seed = classes, config, seed
        one_hot = functional.one_hot(torch.from_numpy(np.maximum(given, 0)), classes).float()
        self.one_hot = one_hot * torch.from_numpy(given != UNLABELLED)[:, None]
        self.plain_targets = self.one_hot if targets is None else torch.from_numpy(targets).float()
        shares = np.bincount(self.given_labels, minlength=classes) / len(self.labelled)
        self.prior = torch.from_numpy(shares.astype(np.float32))
        self.networks: list[SegmentNetwork] = []
        self.optimisers: list[torch.optim.AdamW] = []
        for i in range(self.n_networks):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(mixed_seed(seed, i))
                network = build_network(features, self.rows, classes, config.network)
            self.networks.append(network)
            self.optimisers.append(self.optimiser(network.parameters()))
        # Sum over passes of the evidence that each training segment's label is right, and the number of passes in it.
        self.evidence = np.zeros(len(self.rows))
        self.evidence_passes = 0

    def optimiser(self, weights: Iterable[torch.nn.Parameter]) -> torch.optim.AdamW:
        """Return the optimiser that all methods share."""
        config = self.config
        return torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)

    @property
    def given_labels(self) -> Int64:
        """Given labels of the labelled training segments, in the order of `labelled`."""
        return self.given[self.rows[self.labelled]]

    @abstractmethod
    def learn(self, epoch: int) -> dict[str, Any]:
        """Go once over the training segments; return a record of what happened, for the history."""

    def run_epoch(self, epoch: int) -> dict[str, Any]:
        """Go once over the training segments with randomness that depends on the seed and `epoch` alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mixed_seed(self.seed, 1000 + epoch))
            self.rng = np.random.default_rng([self.seed, epoch])
            self.generator = torch.Generator().manual_seed(mixed_seed(self.seed, 2000 + epoch))
            return self.learn(epoch)

    def clean(self) -> Float64:
        """Return the clean probability of each training segment so far, shape (n,), in [0, 1]."""
        return self.evidence / self.evidence_passes if self.evidence_passes else np.ones(len(self.rows))

    def guesses(self) -> Float64 | None:
        """Return what the trainer takes the true labels to be, shape (n, K), or None where it has no opinion."""
        return None

    def noise_rate(self) -> float | None:
        """Return the trainer's own estimate of the share of wrong labels; None: ``1 - clean()`` says it."""
        return None

    def add_evidence(self, clean: Float64) -> None:
        """Count one pass' clean probability of the labelled training segments, in the order of `labelled`."""
        self.evidence[self.labelled] += clean
        self.evidence_passes += 1

    def batches(self, among: Int64 | None = None) -> Iterator[Tensor]:
        """Yield batches of positions into the training rows, shuffled, `pass_length` of them in all.

        Parameters
        ----------
        among : array of int, optional
            Positions to draw from; default the labelled ones. Where they are fewer than `pass_length`, they are gone
            over again. A last batch too small for statistics is left out.
        """
        chosen = torch.from_numpy(self.labelled if among is None else among)
        rounds = -(-self.pass_length // len(chosen))
        order = torch.cat([torch.randperm(len(chosen), generator=self.generator) for _ in range(rounds)])
        for batch in torch.split(chosen[order[: self.pass_length]], self.config.batch):
            if len(batch) >= min(8, self.config.batch, self.pass_length):
                yield batch

    def progress(self, epoch: int, batch: int) -> float:
        """Return how much of the training is done before batch number `batch` of a pass, in [0, 1)."""
        steps = max(1, self.pass_length // self.config.batch)
        return (epoch + batch / steps) / self.config.epochs

    def inputs(self, positions: Tensor) -> Tensor:
        """Return raw features of training segments at `positions`."""
        return torch.from_numpy(self.features[self.rows[positions.numpy()]].astype(np.float32))

    def labels(self, positions: Tensor) -> Tensor:
        """Return what plain learning takes for the labels of training segments at `positions`, shape (B, K)."""
        return self.plain_targets[torch.from_numpy(self.rows)[positions]]

    def augment(self, x: Tensor) -> Tensor:
        """Return a view of raw features."""
        return self.networks[0].augment(x, self.generator)

    def step(self, which: int, loss: Tensor, progress: float) -> None:
        """Take one optimiser step of network `which`; `progress` in [0, 1) sets the one-cycle learning rate.

        Raises
        ------
        NotFiniteError
            The loss is not finite: all that follows would be learnt from it.
        """
        if not torch.isfinite(loss):
            raise NotFiniteError(f"the loss is {float(loss.detach())}; try a lower learning rate")
        optimiser = self.optimisers[which]
        for group in optimiser.param_groups:
            group["lr"] = self.config.learning_rate * one_cycle(progress)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    def learn_plainly(self, which: int, epoch: int, *, mixup_alpha: float) -> float:
        """Go once over the labelled segments with cross-entropy on given labels; return the mean loss."""
        network = self.networks[which].train()
        losses = []
        for i, positions in enumerate(self.batches()):
            x, target, _, _ = semisup.mixup(
                self.augment(self.inputs(positions)),
                self.labels(positions),
                alpha=mixup_alpha,
                rng=self.rng,
                generator=self.generator,
            )
            loss = semisup.soft_cross_entropy(network(x), target).mean()
            self.step(which, loss, self.progress(epoch, i))
            losses.append(float(loss.detach()))
        return float(np.mean(losses))

    def network_probabilities(self, which: int, rows: Int64) -> Float64:
        """Return probabilities of one network for segments `rows`, in evaluation mode, shape (n, K)."""
        return self.evaluate(self.networks[which], rows)

    @torch.no_grad()
    def evaluate(self, network: SegmentNetwork, rows: Int64) -> Float64:
        """Return a network's probabilities for segments `rows`, in evaluation mode, shape (n, K).

        Raises
        ------
        NotFiniteError
            One is not finite.
        """
        network.eval()
        parts = [
            torch.softmax(network(torch.from_numpy(self.features[part].astype(np.float32))), dim=1)
            for part in np.split(rows, evaluation_batches(self.features.shape[1:], len(rows)))
        ]
        probabilities = torch.cat(parts)
        if not torch.isfinite(probabilities).all():
            raise NotFiniteError("a probability is not finite; try a lower learning rate")
        return probabilities.double().numpy()

    def probabilities(self, rows: Int64) -> Float64:
        """Return the mean probabilities of all networks for segments `rows`, shape (n, K)."""
        return np.mean([self.network_probabilities(i, rows) for i in range(self.n_networks)], axis=0)

    def song_probabilities(self, rows: Int64, segments: Float64) -> Float64:
        """Return for each of `rows` the probabilities of its song, shape (n, K); all segments of a song are in `rows`.

        Parameters
        ----------
        rows : array of int, shape (n,)
        segments : array, shape (n, K)
            Their own probabilities.
        """
        return song_mean(segments, self.song[rows])

    def given_probabilities(self, probabilities: Float64) -> Float64:
        """Return the probability of the given label of each labelled training segment, from a table (n, K)."""
        return probabilities[self.labelled, self.given_labels]

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
            weights = optimiser.param_groups[0]["params"]
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in state.items():
                if key.startswith(f"optimiser{i}/"):
                    _, j, name = key.split("/", 2)
                    loaded = torch.from_numpy(value.copy())
                    # The fused step goes through weights and moments in storage order: their layout must be the same.
                    like_weights = torch.empty_like(weights[int(j)]).copy_(loaded) if loaded.ndim else loaded
                    moments.setdefault(int(j), {})[name] = like_weights
            optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})


def evaluation_batches(shape: tuple[int, ...], size: int) -> Int64:
    """Return where to cut `size` segments of features of some shape for evaluation.

    A batch holds a quarter of a million numbers: 32 spectrograms, or 400 vectors of descriptors. What a convolution
    makes of more does not fit into the processor's caches, and takes three times as long.
    """
    return np.arange(0, size, max(1, 2**18 // math.prod(shape)))[1:]


def load_network(network: SegmentNetwork, state: State, which: int) -> None:
    """Load the weights of network `which` of a trainer's state."""
    prefix = f"network{which}/"
    weights = {k.removeprefix(prefix): torch.from_numpy(v.copy()) for k, v in state.items() if k.startswith(prefix)}
    network.load_state_dict(weights)


def mixed_seed(seed: int, purpose: int) -> int:
    """Return a seed for one purpose that shares nothing with neighbouring seeds and purposes."""
    return int(np.random.SeedSequence([seed, purpose]).generate_state(1)[0])


def one_cycle(progress: float) -> float:
    """Return the share of the peak learning rate: a rise over the first fifth, then a half cosine to nearly zero."""
    if progress < 0.2:
        return 0.1 + 0.9 * progress / 0.2
    return 0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * (progress - 0.2) / 0.8)))
