"""Trainers: what one pass over the training segments does for one member of a cross-fit.

A `Trainer` has the networks of one member and trains them pass by pass. A pass depends only on the state after the
pass before it, on the seed and on its own number, so a run that was killed continues from its last saved pass to the
same result. The trainers are in `emoseg.learning.methods`; `emoseg.learning.cross_fit.cross_fit` runs them.
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

from emoseg.config import LearningConfig, MethodSettings
from emoseg.errors import EmosegError
from emoseg.learning import semisup
from emoseg.learning.networks import SegmentNetwork, build_network
from emoseg.song.statistics import song_mean
from emoseg.types import UNLABELLED, Float64, Int64

State = dict[str, NDArray[Any]]

NO_SETTINGS = MethodSettings()

# A last batch of fewer segments than this has no meaningful batch statistics; it is left out.
_SMALLEST_BATCH = 8


class NotFiniteError(EmosegError):
    """A pass gave a number that is not finite; the caller adds the pass and the member."""


class Trainer(ABC):
    """Trains the networks of one member.

    A subclass implements `learn`, and whatever else distinguishes its method. It narrows the type of `settings` with
    an annotation in its body, such as ``settings: ElrSettings``.

    Parameters
    ----------
    features : array, shape (S, ...)
        Features of all segments; only those of the training segments are learnt from.
    given : array of int, shape (S,)
        Given labels, some of them wrong; `UNLABELLED` for the segments of a song without a label.
    song : array of int, shape (S,)
        Song of each segment.
    rows : array of int, shape (n,)
        Training segments.
    classes : int
        Number of labels K.
    config : LearningConfig
        Settings that all methods share.
    seed : int
    settings : MethodSettings
        Settings of the method.
    targets : array, shape (S, K), optional
        Distributions over labels that plain training learns instead of the given labels.

    Attributes
    ----------
    n_networks : int
        Class attribute: number of networks per member.
    semi_supervised : bool
        Class attribute: whether unlabelled segments are learnt from. If not, `rows` keeps the labelled ones only.
    labelled : array of int
        Positions in `rows` of the segments with a label.
    pass_length : int
        Number of segments per pass: the number of training segments, labelled or not, so that every method takes the
        same number of steps. A method that has fewer segments to learn from repeats them.
    """

    n_networks: ClassVar[int] = 1
    semi_supervised: ClassVar[bool] = False
    settings: MethodSettings

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
        settings: MethodSettings = NO_SETTINGS,
        targets: Float64 | None = None,
    ) -> None:
        self.features, self.given, self.song = features, given, song
        self.rows = rows if self.semi_supervised else rows[given[rows] != UNLABELLED]
        self.labelled = np.flatnonzero(given[self.rows] != UNLABELLED)
        self.pass_length = len(rows)
        self.classes, self.config, self.settings, self.seed = classes, config, settings, seed
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
        # The sum over passes of each training segment's clean probability, and the number of passes in the sum.
        self.evidence = np.zeros(len(self.rows))
        self.evidence_passes = 0

    def optimiser(self, weights: Iterable[torch.nn.Parameter]) -> torch.optim.AdamW:
        """Return the optimiser that all methods use, AdamW."""
        config = self.config
        return torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)

    @property
    def given_labels(self) -> Int64:
        """Given labels of the labelled training segments, in the order of `labelled`, shape (len(labelled),)."""
        return self.given[self.rows[self.labelled]]

    @abstractmethod
    def learn(self, epoch: int) -> dict[str, Any]:
        """Train for one pass; return a record for the history, which JSON can hold."""

    def run_epoch(self, epoch: int) -> dict[str, Any]:
        """Train for pass number `epoch` and return its record; its randomness depends only on the seed and `epoch`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mixed_seed(self.seed, 1000 + epoch))
            self.rng = np.random.default_rng([self.seed, epoch])
            self.generator = torch.Generator().manual_seed(mixed_seed(self.seed, 2000 + epoch))
            return self.learn(epoch)

    def clean(self) -> Float64:
        """Return the clean probability of each training segment, averaged over passes so far, shape (n,), in [0, 1]."""
        return self.evidence / self.evidence_passes if self.evidence_passes else np.ones(len(self.rows))

    def guesses(self) -> Float64 | None:
        """Return probabilities of the true labels, shape (n, K), or None if the method does not estimate them."""
        return None

    def noise_rate(self) -> float | None:
        """Return the method's own estimate of the share of wrong labels, or None to use the mean of ``1 - clean()``."""
        return None

    def add_evidence(self, clean: Float64) -> None:
        """Add the clean probabilities of one pass, shape (len(labelled),), to the average that `clean` returns."""
        self.evidence[self.labelled] += clean
        self.evidence_passes += 1

    def batches(self, among: Int64 | None = None) -> Iterator[Tensor]:
        """Yield shuffled batches of positions in `rows`, `pass_length` positions in total.

        Parameters
        ----------
        among : array of int, optional
            Positions to draw from; default the labelled ones. They are repeated if they are fewer than `pass_length`.
            A last batch of fewer than 8 segments is left out: its batch statistics would be meaningless.
        """
        chosen = torch.from_numpy(self.labelled if among is None else among)
        rounds = -(-self.pass_length // len(chosen))
        order = torch.cat([torch.randperm(len(chosen), generator=self.generator) for _ in range(rounds)])
        for batch in torch.split(chosen[order[: self.pass_length]], self.config.batch):
            if len(batch) >= min(_SMALLEST_BATCH, self.config.batch, self.pass_length):
                yield batch

    def progress(self, epoch: int, batch: int) -> float:
        """Return the share of the training that is done before batch number `batch` of pass `epoch`, in [0, 1)."""
        steps = max(1, self.pass_length // self.config.batch)
        return (epoch + batch / steps) / self.config.epochs

    def inputs(self, positions: Tensor) -> Tensor:
        """Return raw features of the training segments at `positions`, shape (B, ...), float32."""
        return torch.from_numpy(self.features[self.rows[positions.numpy()]].astype(np.float32))

    def labels(self, positions: Tensor) -> Tensor:
        """Return the targets of plain training for the training segments at `positions`, shape (B, K)."""
        return self.plain_targets[torch.from_numpy(self.rows)[positions]]

    def augment(self, x: Tensor) -> Tensor:
        """Return a randomly changed copy (a view) of raw features, shape (B, ...)."""
        return self.networks[0].augment(x, self.generator)

    def step(self, which: int, loss: Tensor, progress: float) -> None:
        """Take one optimiser step of network `which`; `progress` in [0, 1) sets the learning rate (`one_cycle`).

        Raises
        ------
        NotFiniteError
            The loss is not finite. The weights would not be finite either after such a step.
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
        """Train network `which` for one pass with cross-entropy on the plain targets; return the mean loss."""
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
        """Return the probabilities of network `which` for segments `rows`, in evaluation mode, shape (n, K)."""
        return self.evaluate(self.networks[which], rows)

    @torch.no_grad()
    def evaluate(self, network: SegmentNetwork, rows: Int64) -> Float64:
        """Return the probabilities of a network for segments `rows`, in evaluation mode, shape (n, K).

        Raises
        ------
        NotFiniteError
            A probability is not finite.
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
        """Return the probabilities of segments `rows`, shape (n, K): the mean over all networks."""
        return np.mean([self.network_probabilities(i, rows) for i in range(self.n_networks)], axis=0)

    def song_probabilities(self, rows: Int64, segments: Float64) -> Float64:
        """Return for each of `rows` the probabilities of its song, shape (n, K): here the mean over its segments.

        Parameters
        ----------
        rows : array of int, shape (n,)
            All segments of some songs.
        segments : array, shape (n, K)
            Probabilities of these segments.
        """
        return song_mean(segments, self.song[rows])

    def given_probabilities(self, probabilities: Float64) -> Float64:
        """Return the given label's probability for each labelled training segment, from probabilities of `rows`."""
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
        """Restore what `state` returned."""
        self.evidence, self.evidence_passes = state["evidence"].copy(), int(state["evidence_passes"])
        for i, (network, optimiser) in enumerate(zip(self.networks, self.optimisers, strict=True)):
            load_network(network, state, i)
            weights = optimiser.param_groups[0]["params"]
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in state.items():
                if key.startswith(f"optimiser{i}/"):
                    _, j, name = key.split("/", 2)
                    loaded = torch.from_numpy(value.copy())
                    # The fused step traverses weights and moments in storage order, so their layouts must be equal.
                    like_weights = torch.empty_like(weights[int(j)]).copy_(loaded) if loaded.ndim else loaded
                    moments.setdefault(int(j), {})[name] = like_weights
            optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})


def evaluation_batches(shape: tuple[int, ...], size: int) -> Int64:
    """Return the positions at which to divide `size` segments into batches for evaluation.

    A batch has at most a quarter of a million numbers: 32 spectrograms, or 400 vectors of descriptors. The feature maps
    of larger batches exceed the processor's caches, and evaluation takes three times as long.

    Parameters
    ----------
    shape : tuple of int
        Shape of one segment's features.
    size : int
        Number of segments.
    """
    return np.arange(0, size, max(1, 2**18 // math.prod(shape)))[1:]


def load_network(network: SegmentNetwork, state: State, which: int) -> None:
    """Load the weights of network number `which` from a trainer's state."""
    prefix = f"network{which}/"
    weights = {k.removeprefix(prefix): torch.from_numpy(v.copy()) for k, v in state.items() if k.startswith(prefix)}
    network.load_state_dict(weights)


def mixed_seed(seed: int, purpose: int) -> int:
    """Return a seed for one purpose, independent of those of other seeds and purposes."""
    return int(np.random.SeedSequence([seed, purpose]).generate_state(1)[0])


def one_cycle(progress: float) -> float:
    """Return the learning rate at `progress` in [0, 1], as a share of its peak.

    It rises from 0.1 to 1 over the first fifth of the training, and then falls to 0.01 along half a cosine.
    """
    if progress < 0.2:
        return 0.1 + 0.9 * progress / 0.2
    return 0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * (progress - 0.2) / 0.8)))
