"""Segments with planted errors, which the tests of learning share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emoseg.config import ConvNetConfig, LearningConfig, NetworkConfig
from emoseg.learning.methods.sssl import SsslSettings
from emoseg.learning.training_set import TrainingSet
from emoseg.types import Float32, Int64

SMALL = LearningConfig(
    epochs=12,
    batch=16,
    learning_rate=3e-3,
    members=3,
    network=NetworkConfig(hidden=(32,), channels=(4, 8), dropout=0.2),
    convnet=ConvNetConfig(epochs=12, batch=16, learning_rate=3e-3),
)
SSSL = SsslSettings(warmup_epochs=3)


@dataclass(frozen=True)
class Blobs:
    features: Float32
    given: Int64
    true: Int64
    song: Int64

    @property
    def right(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return self.given == self.true

    def training_set(self, frontend: str = "blobs") -> TrainingSet:
        songs = int(self.song[-1]) + 1
        return TrainingSet({frontend: self.features}, self.given, self.song, [str(i) for i in range(songs)], 3)


def blobs(seed: int, *, stretches: float = 0.0, flips: float = 0.0, songs: int = 60, length: int = 6) -> Blobs:
    """Draw three Gaussian classes; the second half of some songs sounds like another class, or single labels flip."""
    rng = np.random.default_rng(seed)
    label = np.arange(songs) % 3
    given = np.repeat(label, length)
    true, song = given.copy(), np.repeat(np.arange(songs), length)
    for s in rng.permutation(songs)[: round(stretches * songs)]:
        true[s * length + length // 2 : (s + 1) * length] = (label[s] + rng.integers(1, 3)) % 3
    features = (4 * np.eye(3, 8)[true] + rng.normal(size=(len(true), 8))).astype(np.float32)
    flipped = rng.permutation(len(true))[: round(flips * len(true))]
    given[flipped] = (given[flipped] + rng.integers(1, 3, len(flipped))) % 3
    return Blobs(features, given, true, song)
