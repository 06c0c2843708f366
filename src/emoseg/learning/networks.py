"""Segment networks: a perceptron for descriptors, a small convolutional network for log-mel spectrograms.

Both take raw features and standardise them with the training set's mean and deviation, which travel inside the network,
and return logits of shape (B, K). `augment` makes a view of raw features for training.
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

LEVEL_DB = 4.0  # loudness tells arousal: views differ by no more than a listener's hand on the volume


class Standardise(nn.Module):
    """``(x - mean) / deviation``, cut at +-6: a recording unlike any heard in training must not blow up.

    What never varies in training, such as a band that is always silent, is 0: no weight was learnt for it.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", torch.where(deviation > 1e-6, 1 / deviation, 0.0))

    def forward(self, x: Tensor) -> Tensor:
        """Standardise `x`, shape (B, ...)."""
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
        """Map descriptors (B, F) to logits (B, K)."""
        return self.layers(self.standardise(x))

    def embed(self, x: Tensor) -> Tensor:
        """Map descriptors (B, F) to what the classifier is given, (B, D)."""
        return self.layers[:-1](self.standardise(x))

    @property
    def classifier(self) -> nn.Linear:
        """The last layer: embeddings to logits."""
        return cast(nn.Linear, self.layers[-1])

    def augment(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return a view of descriptors: jitter of a tenth of each one's deviation."""
        scale = self.standardise.scale
        deviation = torch.where(scale > 0, 1 / scale, 0.0)
        return x + 0.1 * deviation * torch.randn(x.shape, generator=generator)


class ConvNet(nn.Module):
    """Convolutional network on a log-mel spectrogram (bands, frames); pools by mean and maximum over time.

    Blocks of 3 x 3 convolution, batch normalisation, rectifier and maximum pooling over 2 x 2; the first convolution
    steps over every second frame, which halves the cost of all that follows.
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
                nn.MaxPool2d(2, ceil_mode=True),  # few bands or frames must not pool to nothing
            ]
        # Channels last is what convolutions on a processor are fastest with.
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
        """Map spectrograms (B, F, T) to logits (B, K)."""
        return self.head(self._pooled(x))

    def embed(self, x: Tensor) -> Tensor:
        """Map spectrograms (B, F, T) to what the classifier is given, (B, D)."""
        return self.head[:-1](self._pooled(x))

    @property
    def classifier(self) -> nn.Linear:
        """The last layer: embeddings to logits."""
        return cast(nn.Linear, self.head[-1])

    def _pooled(self, x: Tensor) -> Tensor:
        h = self.blocks(self.standardise(x)[:, None])
        return torch.cat([h.mean(dim=3), h.amax(dim=3)], dim=1).flatten(1)

    def augment(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return a view of spectrograms: turned in time, louder or softer, with strips of bands and frames masked.

        Masks hold the training mean (SpecAugment, Park et al., Interspeech 2019).
        """
        size, bands, frames = x.shape
        turn = torch.randint(0, frames, (size, 1), generator=generator)
        at = (torch.arange(frames)[None] + turn) % frames
        x = torch.gather(x, 2, at[:, None].expand(-1, bands, -1))
        x = x + LEVEL_DB * (2 * torch.rand(size, 1, 1, generator=generator) - 1)
        band, frame = _strip(size, bands, generator), _strip(size, frames, generator)
        return torch.where(band[:, :, None] | frame[:, None, :], self.standardise.mean, x)


def _strip(size: int, length: int, generator: torch.Generator) -> Tensor:
    """Return a mask of shape (size, length): a strip of up to an eighth of it for each item."""
    first = torch.randint(0, length, (size, 1), generator=generator)
    width = torch.randint(0, length // 8 + 1, (size, 1), generator=generator)
    at = torch.arange(length)[None]
    return (at >= first) & (at < first + width)


SegmentNetwork = Perceptron | ConvNet


def build_network(
    features: NDArray[np.floating], rows: Sequence[int] | NDArray[np.int64], classes: int, config: NetworkConfig
) -> SegmentNetwork:
    """Build the network that suits the features, standardised by the given training rows.

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
