"""What every method learns from small planted data, for comparison with the values in `tests/golden/learning.json`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from planted import Blobs, blobs

from emoseg.config import ConvNetConfig, LearningConfig, NetworkConfig, TrainConfig
from emoseg.learning.methods import METHODS, build_method
from emoseg.learning.methods.base import Run
from emoseg.learning.pipeline import Learned, learn
from emoseg.learning.training_set import TrainingSet
from emoseg.types import UNLABELLED, Float32

LEARNING = LearningConfig(
    epochs=6,
    batch=8,
    learning_rate=3e-2,
    members=2,
    network=NetworkConfig(hidden=(16,), channels=(2, 3), dropout=0.2),
    convnet=ConvNetConfig(epochs=3, batch=16, learning_rate=5e-3),
)
CONFIG = TrainConfig(
    learning=LEARNING,
    methods={
        "sssl": {"warmup_epochs": 1},
        "dividemix": {"warmup_epochs": 1, "rampup_epochs": 2},
        "mean-teacher": {"rampup_epochs": 2},
        "co-teaching": {"gradual_epochs": 2},
    },
)
DIVIDING = ("sssl", "dividemix", "emoseg", "mean-teacher", "co-teaching")


def images(data: Blobs) -> Float32:
    """Return a spectrogram per segment whose level in some bands follows the true label: (S, 16 bands, 12 frames)."""
    rng = np.random.default_rng(5)
    level = np.repeat(np.eye(4)[data.true % 4], 4, axis=1)[:, :16, None]
    return (20 * level - 40 + 5 * rng.normal(size=(len(data.true), 16, 12))).astype(np.float32)


def cases() -> dict[str, tuple[TrainingSet, str]]:
    """Return training sets and methods by the name of the case."""
    stretches = blobs(0, stretches=0.5, songs=30, length=4)
    flips = blobs(1, flips=0.3, songs=30, length=4)
    songs = blobs(2, songs=42, length=3)
    wrong = np.isin(songs.song, [1, 5, 9, 14, 22, 30])
    whole_songs = replace(songs, given=np.where(wrong, (songs.given + 1) % 3, songs.given))
    half_labelled = replace(songs, given=np.where(songs.song % 2 == 1, songs.given, UNLABELLED))
    methods = [name for name in METHODS if METHODS.origin(name) == "emoseg" and name != "svm-compare"]
    found = {f"stretches, {name}": (stretches.training_set(), name) for name in methods}
    found |= {f"flips, {name}": (flips.training_set(), name) for name in DIVIDING}
    found |= {f"half labelled, {name}": (half_labelled.training_set(), name) for name in methods}
    found["whole songs, emoseg"] = (whole_songs.training_set(), "emoseg")
    soft = 0.7 * np.eye(3)[stretches.given] + 0.1
    for name in ("inherit", "mixup", "elr", "co-teaching", "dividemix", "sssl", "emoseg", "whole-song"):
        found[f"soft labels, {name}"] = (replace(stretches.training_set(), soft=soft), name)
    both = replace(stretches.training_set(), features={"images": images(stretches), "blobs": stretches.features})
    found |= {f"two frontends, {name}": (both, name) for name in ("mixup", "emoseg")}
    return found


def learnt_values(data: TrainingSet, name: str) -> dict[str, Any]:
    """Return all that a method learns from a training set, as lists of numbers."""
    learned = learn(data, method=build_method(CONFIG, name), run=Run(LEARNING, seed=3))
    fit = learned.fit
    return {
        "segments": rounded(fit.out_of_fold.segments[::3]),
        "songs": None if fit.out_of_fold.songs is None else rounded(fit.out_of_fold.songs[::6]),
        "clean": rounded(fit.clean[::2]),
        "flagged": int(fit.flagged.sum()),
        "guesses": rounded(fit.guesses[::3]),
        "rates": rounded([fit.noise_rate, fit.song_rate]),
        "song model": rounded(learned.song_held_out),
        "new songs": new_songs(data, learned),
        "records": [rounded(values) for values in last_records(learned)],
    }


def new_songs(data: TrainingSet, learned: Learned) -> Any:
    """Return the probabilities of songs that were not learnt from."""
    other = blobs(9, songs=6, length=4)
    features = {"blobs": other.features, "images": images(other)}
    predicted = learned.predict({name: features[name] for name in data.features}, other.song)
    return {name: rounded(getattr(predicted, name)) for name in ("song", "mean", "uncalibrated")}


def last_records(learned: Learned) -> list[list[float]]:
    """Return the numbers that each member recorded in each pass, in the order of their names."""
    return [
        [float(record[key]) for key in sorted(record) if isinstance(record[key], int | float)]
        for members in learned.fit.history.values()
        for member in members
        for record in member
    ]


def rounded(values: Any) -> Any:
    """Return numbers with six decimals as lists; NaN becomes None."""
    return _without_nan(np.round(np.asarray(values, dtype=np.float64), 6).tolist())


def _without_nan(numbers: Any) -> Any:
    if isinstance(numbers, list):
        return [_without_nan(part) for part in numbers]
    return None if np.isnan(numbers) else numbers
