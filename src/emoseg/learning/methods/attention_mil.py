"""Attention-based multiple-instance learning: a song is a bag of segments, and only the bag has a label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from emoseg.config import LearningConfig, MethodSettings
from emoseg.learning import semisup
from emoseg.learning.cross_fit import SegmentFit
from emoseg.learning.ensemble import networks_of
from emoseg.learning.methods.base import Method, MethodFit, Prediction, Run, average_frontends
from emoseg.learning.networks import SegmentNetwork
from emoseg.learning.trainer import State, Trainer, evaluation_batches, mixed_seed
from emoseg.learning.training_set import TrainingSet
from emoseg.types import Float64, Int64


class AttentionMilSettings(MethodSettings):
    """Settings of attention-based multiple-instance learning."""

    attention_dim: int = Field(128, ge=1, description="Width L of the attention's hidden layer.")


class GatedAttention(nn.Module):
    """Scores of segments: ``w^T (tanh(V h) * sigmoid(U h))`` (Ilse 2018, eq. 9, before the softmax over the bag)."""

    def __init__(self, width: int, dimension: int) -> None:
        super().__init__()
        self.V, self.U, self.w = nn.Linear(width, dimension), nn.Linear(width, dimension), nn.Linear(dimension, 1)

    def forward(self, h: Tensor) -> Tensor:
        """Map embeddings (B, D) to scores (B,)."""
        return self.w(torch.tanh(self.V(h)) * torch.sigmoid(self.U(h)))[:, 0]


def bag_softmax(scores: Tensor, bag: Tensor) -> Tensor:
    """Return attention weights, shape (B,): the softmax of `scores` within each bag. They sum to 1 per bag."""
    bags = int(bag.max()) + 1
    highest = torch.full((bags,), -torch.inf).scatter_reduce(0, bag, scores.detach(), "amax")
    weight = torch.exp(scores - highest[bag])
    return weight / torch.zeros(bags).index_add(0, bag, weight)[bag]


def bag_logits(network: SegmentNetwork, attention: GatedAttention, x: Tensor, bag: Tensor) -> Tensor:
    """Return logits of bags: the classifier on the attention-weighted mean of embeddings.

    The classifier is linear, so this is the weighted mean of the segments' own logits.

    Parameters
    ----------
    network : SegmentNetwork
        Its last layer is the classifier; the layers before it give the embedding.
    attention : GatedAttention
    x : tensor, shape (B, ...)
        Raw features of segments.
    bag : tensor of int, shape (B,)
        Bag of each segment, from 0; no bag is empty.
    """
    h = network.embed(x)
    weight = bag_softmax(attention(h), bag)
    pooled = torch.zeros(int(bag.max()) + 1, h.shape[1]).index_add(0, bag, weight[:, None] * h)
    return network.classifier(pooled)


class AttentionTrainer(Trainer):
    """Learns from songs: cross-entropy between a song's label and its attention-pooled prediction.

    A step takes as many songs as contain a batch of segments. The probabilities of a segment are those of the
    classifier for its own embedding. The clean probability is that of the given label, averaged over passes.
    """

    settings: AttentionMilSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mixed_seed(self.seed, 100))
            width = self.networks[0].classifier.in_features
            self.attention = GatedAttention(width, self.settings.attention_dim)
        self.optimisers = [self.optimiser([*self.networks[0].parameters(), *self.attention.parameters()])]
        self.bags = np.split(np.arange(len(self.rows)), np.flatnonzero(np.diff(self.song[self.rows])) + 1)
        labels = [np.bincount(self.given[self.rows[b]], minlength=self.classes).argmax() for b in self.bags]
        self.bag_labels = torch.nn.functional.one_hot(torch.tensor(np.array(labels)), self.classes).float()

    def learn(self, epoch: int) -> dict[str, Any]:
        """Train on the labelled songs for one pass."""
        network = self.networks[0].train()
        losses = []
        for i, chosen in enumerate(self.bag_batches()):
            positions = torch.from_numpy(np.concatenate([self.bags[b] for b in chosen]))
            bag = torch.from_numpy(np.repeat(np.arange(len(chosen)), [len(self.bags[b]) for b in chosen]))
            logits = bag_logits(network, self.attention, self.augment(self.inputs(positions)), bag)
            loss = semisup.soft_cross_entropy(logits, self.bag_labels[chosen]).mean()
            self.step(0, loss, self.progress(epoch, i))
            losses.append(float(loss.detach()))
        self.add_evidence(self.given_probabilities(self.probabilities(self.rows)))
        return {"loss": float(np.mean(losses))}

    def bag_batches(self) -> Iterator[list[int]]:
        """Yield bags, shuffled, so many that a pass goes over `pass_length` segments and a step over a batch."""
        rounds = -(-self.pass_length // len(self.rows))
        order = torch.cat([torch.randperm(len(self.bags), generator=self.generator) for _ in range(rounds)])
        songs = max(2, round(self.config.batch * len(self.bags) / len(self.rows)))
        total = round(len(self.bags) * self.pass_length / len(self.rows))
        for batch in torch.split(order[:total], songs):
            if len(batch) >= 2:
                yield batch.tolist()

    @torch.no_grad()
    def song_probabilities(self, rows: Int64, segments: Float64) -> Float64:
        """Return for each of `rows` the attention-pooled probabilities of its song."""
        return pooled_probabilities(self.networks[0], self.attention, self.features[rows], self.song[rows])

    def state(self) -> State:
        """Return everything that the next pass depends on, as named arrays."""
        return super().state() | {f"attention/{k}": v.numpy().copy() for k, v in self.attention.state_dict().items()}

    def load_state(self, state: State) -> None:
        """Restore what `state` returned."""
        super().load_state(state)
        _load_attention(self.attention, state)


def _load_attention(attention: GatedAttention, state: State) -> None:
    weights = {k.removeprefix("attention/"): torch.from_numpy(v.copy()) for k, v in state.items() if "attention/" in k}
    attention.load_state_dict(weights)


@torch.no_grad()
def pooled_probabilities(
    network: SegmentNetwork, attention: GatedAttention, features: NDArray[np.floating], song: Int64
) -> Float64:
    """Return for each segment the attention-pooled probabilities of its song, shape (S, K), song by song."""
    network.eval()
    result = []
    for rows in np.split(np.arange(len(song)), np.flatnonzero(np.diff(song)) + 1):
        x = torch.from_numpy(features[rows].astype(np.float32))
        p = torch.softmax(bag_logits(network, attention, x, torch.zeros(len(rows), dtype=torch.int64)), dim=1)
        result.append(np.repeat(p.double().numpy(), len(rows), axis=0))
    return np.concatenate(result)


class AttentionPredictor:
    """Predicts the mean of all members, for segments and for attention-pooled songs."""

    def __init__(
        self, fits: Mapping[str, SegmentFit], *, classes: int, config: LearningConfig, attention_dim: int
    ) -> None:
        self.members: list[tuple[str, SegmentNetwork, GatedAttention]] = []
        for name, fit in fits.items():
            for state in fit.states:
                [network] = networks_of(state, classes, config)
                attention = GatedAttention(network.classifier.in_features, attention_dim)
                _load_attention(attention, state)
                self.members.append((name, network.eval(), attention))

    @torch.no_grad()
    def predict(self, features: Mapping[str, NDArray[np.floating]], song: Int64) -> Prediction:
        """Return probabilities of segments, and the attention-pooled ones of their songs."""
        segments, songs = [], []
        for name, network, attention in self.members:
            x = torch.from_numpy(features[name].astype(np.float32))
            cuts = evaluation_batches(x.shape[1:], len(x)).tolist()
            logits = torch.cat([network(part) for part in torch.tensor_split(x, cuts)])
            segments.append(torch.softmax(logits, dim=1).double().numpy())
            songs.append(pooled_probabilities(network, attention, features[name], song))
        return Prediction(np.mean(segments, axis=0), np.mean(songs, axis=0))


class AttentionMil(Method):
    """Gated attention pooling over the segments of a song; only the labels of songs are learnt from.

    References
    ----------
    M. Ilse, J. Tomczak, M. Welling. Attention-based deep multiple instance learning. ICML 2018. (eq. 7 and 9)
    """

    version = 1
    settings_class = AttentionMilSettings
    not_in_folder: ClassVar[str | None] = (
        "it pools segments by attention, which the format of a folder does not include"
    )

    settings: AttentionMilSettings

    def fit(self, data: TrainingSet, run: Run) -> MethodFit:
        """Return what the method learns from a training set."""
        fits = {
            name: run.cross_fit(data, name, AttentionTrainer, name=name, settings=self.settings)
            for name in data.features
        }
        learnt = average_frontends(fits, data, run.config)
        songs = np.mean([fit.song_out_of_fold for fit in fits.values()], axis=0)
        return replace(
            learnt,
            predictor=AttentionPredictor(
                fits, classes=data.classes, config=run.config, attention_dim=self.settings.attention_dim
            ),
            out_of_fold=Prediction(learnt.out_of_fold.segments, songs),
            ensemble=None,
        )
