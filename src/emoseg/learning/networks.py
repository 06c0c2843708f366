"""Segment networks: a perceptron for descriptors, a small convolutional network for log-mel spectrograms.

Both take raw features, standardise them with the training set's mean and deviation, which are part of the network, and
return logits of shape (B, K). `augment` returns a randomly changed copy (a view) of raw features for training.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emoseg.config import NetworkConfig

# Largest change of level of a view, in dB. It is small, because loudness is evidence of arousal.
LEVEL_DB = 4.0


class Standardise(nn.Module):
    """``(x - mean) / deviation``, cut at +-6, so that recordings unlike all training recordings give moderate values.

    A feature that never varies in training, such as a band that is always silent, becomes 0, because no weight was
    learnt for it.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", torch.where(deviation > 1e-6, 1 / deviation, 0.0))

    def forward(self, x: Tensor) -> Tensor:
        """Return standardised features, shape (B, ...)."""
        return ((x - self.mean) * self.scale).clamp(-6, 6)


class Perceptron(nn.Module):
    """Multilayer perceptron on a vector of descriptors."""

    def __init__(self, mean: Tensor, deviation: Tensor, classes: int, config: NetworkConfig) -> None:
        super().__init__()
        self.standardise = Standardise(mean, deviation)
        widths = [len(mean), *config.hidden]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.ReLU(), nn.Dropout(config.dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], classes))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K) of descriptors (B, F)."""
        return self.layers(self.standardise(x))

    def embed(self, x: Tensor) -> Tensor:
        """Return the input of the classifier (B, D) for descriptors (B, F)."""
        return self.layers[:-1](self.standardise(x))

    @property
    def classifier(self) -> nn.Linear:
        """The last layer: embeddings to logits."""
        return cast(nn.Linear, self.layers[-1])

    def augment(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return a view of descriptors: with Gaussian noise of a tenth of each one's deviation."""
        scale = self.standardise.scale
        deviation = torch.where(scale > 0, 1 / scale, 0.0)
        return x + 0.1 * deviation * torch.randn(x.shape, generator=generator)


class ConvNet(nn.Module):
    """Convolutional network on a log-mel spectrogram (bands, frames), pooled by mean and maximum over time.

    Each block is a 3 x 3 convolution, batch normalisation, a rectifier and maximum pooling over 2 x 2. The first
    convolution has a stride of two frames, which halves the cost of all later layers.
    """

    def __init__(self, mean: Tensor, deviation: Tensor, classes: int, config: NetworkConfig) -> None:
        super().__init__()
        self.standardise = Standardise(mean, deviation)
        blocks: list[nn.Module] = []
        for i, (before, channels) in enumerate(pairwise((1, *config.channels))):
            blocks += [
                nn.Conv2d(before, channels, 3, stride=(1, 2) if i == 0 else 1, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                nn.MaxPool2d(2, ceil_mode=True),  # so that a few bands or frames do not become none
            ]
        # Convolutions on a CPU are fastest with channels last.
        self.blocks = nn.Sequential(*blocks).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.no_grad():
            bands = self.blocks.eval()(torch.zeros(1, 1, len(mean), 128)).shape[2]
        self.head = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(2 * config.channels[-1] * bands, 128),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(128, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K) of spectrograms (B, F, T)."""
        return self.head(self._pooled(x))

    def embed(self, x: Tensor) -> Tensor:
        """Return the input of the classifier (B, D) for spectrograms (B, F, T)."""
        return self.head[:-1](self._pooled(x))

    @property
    def classifier(self) -> nn.Linear:
        """The last layer: embeddings to logits."""
        return cast(nn.Linear, self.head[-1])

    def _pooled(self, x: Tensor) -> Tensor:
        h = self.blocks(self.standardise(x)[:, None])
        return torch.cat([h.mean(dim=3), h.amax(dim=3)], dim=1).flatten(1)

    def augment(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return a view of spectrograms: rotated in time, louder or softer, with strips of bands and frames masked.

        Masked values are the training mean (SpecAugment, Park et al., Interspeech 2019).
        """
        size, bands, frames = x.shape
        turn = torch.randint(0, frames, (size, 1), generator=generator)
        at = (torch.arange(frames)[None] + turn) % frames
        x = torch.gather(x, 2, at[:, None].expand(-1, bands, -1))
        x = x + LEVEL_DB * (2 * torch.rand(size, 1, 1, generator=generator) - 1)
        band, frame = _strip(size, bands, generator), _strip(size, frames, generator)
        return torch.where(band[:, :, None] | frame[:, None, :], self.standardise.mean, x)


def _strip(size: int, length: int, generator: torch.Generator) -> Tensor:
    """Return a mask of shape (size, length): one strip per item, of up to an eighth of the length."""
    first = torch.randint(0, length, (size, 1), generator=generator)
    width = torch.randint(0, length // 8 + 1, (size, 1), generator=generator)
    at = torch.arange(length)[None]
    return (at >= first) & (at < first + width)


SegmentNetwork = Perceptron | ConvNet


def build_network(
    features: NDArray[np.floating], rows: Sequence[int] | NDArray[np.int64], classes: int, config: NetworkConfig
) -> SegmentNetwork:
    """Return a new network that suits the features, which it standardises by the training rows.

    Parameters
    ----------
    features : array, shape (S, F) or (S, F, T)
        Descriptors or spectrograms.
    rows : sequence of int
        Training segments.
    classes : int
        Number of labels K.
    config : NetworkConfig
    """
    train = np.asarray(features[np.asarray(rows)], dtype=np.float32)
    over = 0 if train.ndim == 2 else (0, 2)
    mean = torch.from_numpy(train.mean(axis=over))
    # The deviation of equal numbers is not quite 0 in float32.
    varies = train.max(axis=over) > train.min(axis=over)
    deviation = torch.from_numpy(np.where(varies, train.std(axis=over), np.float32(0)))
    if train.ndim == 2:
        return Perceptron(mean, deviation, classes, config)
    return ConvNet(mean[:, None], deviation[:, None], classes, config)
