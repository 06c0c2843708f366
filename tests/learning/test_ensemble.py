"""The learnt segment model: a mean over networks, the same in PyTorch and in ONNX, and the result of `learn`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from emoseg.config import LearningConfig, NetworkConfig
from emoseg.learning.ensemble import SegmentEnsemble, export_onnx
from emoseg.learning.methods.base import Run
from emoseg.learning.methods.sssl import Sssl, SsslSettings
from emoseg.learning.pipeline import Learned, learn
from emoseg.learning.training_set import TrainingSet
from emoseg.types import Float32, Float64

CONFIG = LearningConfig(
    epochs=2,
    batch=16,
    learning_rate=1e-2,
    members=2,
    network=NetworkConfig(hidden=(12,), channels=(3, 5)),
)
SSSL = Sssl(SsslSettings(warmup_epochs=1))
SHAPES: dict[str, tuple[int, ...]] = {"descriptors": (7,), "logmel": (16, 40)}
SONG = np.repeat(np.arange(12), 4)
GIVEN = SONG % 3


def features(names: tuple[str, ...], size: int, *, seed: int = 0) -> dict[str, Float32]:
    rng = np.random.default_rng(seed)
    return {name: (5 * rng.normal(size=(size, *SHAPES[name])) - 30).astype(np.float32) for name in names}


def learnt(names: tuple[str, ...], *, seed: int = 0) -> Learned:
    table = features(names, len(SONG))
    for values in table.values():
        values[np.arange(len(SONG)), GIVEN] += 10.0
    groups = [str(i) for i in range(12)]
    return learn(TrainingSet(table, GIVEN, SONG, groups, 3), method=SSSL, run=Run(CONFIG, seed))


def ensemble_of(learned: Learned) -> SegmentEnsemble:
    assert learned.fit.ensemble is not None
    return learned.fit.ensemble


def probabilities_of(learned: Learned, x: dict[str, Float32]) -> Float64:
    size = len(next(iter(x.values())))
    return learned.predict(x, np.zeros(size, dtype=np.int64)).segments


@pytest.fixture(scope="module")
def both() -> Learned:
    return learnt(("logmel", "descriptors"))


def onnx_probabilities(learned: Learned, file: Path, x: dict[str, Float32]) -> list[Float64]:
    """Export once and run at batches of 1, 3 and all."""
    export_onnx(ensemble_of(learned), {name: SHAPES[name] for name in x}, file)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == list(ensemble_of(learned).frontends)
    out = [session.run(["probabilities"], {k: v[:n] for k, v in x.items()})[0] for n in (1, 3, 64)]
    return [np.asarray(p, dtype=np.float64) for p in out]


@pytest.mark.parametrize("names", [("descriptors",), ("logmel",), ("logmel", "descriptors")])
def test_onnx_equals_pytorch(names: tuple[str, ...], both: Learned, tmp_path: Path) -> None:
    learned = both if len(names) == 2 else learnt(names)
    x = features(names, 64, seed=1)
    expected = probabilities_of(learned, x)
    assert expected.std(axis=0).min() > 1e-3, "the test needs probabilities that vary"
    for found in onnx_probabilities(learned, tmp_path / "segment.onnx", x):
        np.testing.assert_allclose(found, expected[: len(found)], atol=1e-4, rtol=0)
    np.testing.assert_allclose(expected.sum(axis=1), 1.0, atol=1e-5)


def test_the_ensemble_is_the_mean_over_networks_then_over_frontends(both: Learned) -> None:
    x = features(("logmel", "descriptors"), 5, seed=2)
    means = []
    with torch.no_grad():
        for name in ("logmel", "descriptors"):
            group = list(ensemble_of(both).networks[name].children())
            assert len(group) == 2 * CONFIG.members, "two networks per member"
            means.append(np.mean([torch.softmax(n(torch.from_numpy(x[name])), 1).numpy() for n in group], axis=0))
    np.testing.assert_allclose(probabilities_of(both, x), np.mean(means, axis=0), atol=1e-6)
    assert np.abs(means[0] - means[1]).max() > 1e-3


def test_probabilities_do_not_depend_on_the_batch(both: Learned) -> None:
    x = features(("logmel", "descriptors"), 40, seed=3)
    one_by_one = [probabilities_of(both, {k: v[i : i + 1] for k, v in x.items()})[0] for i in range(40)]
    np.testing.assert_allclose(np.stack(one_by_one), probabilities_of(both, x), atol=1e-6)


def test_frontends_are_joined_with_equal_weight_in_training_too(both: Learned) -> None:
    table = features(("logmel", "descriptors"), len(SONG))
    for values in table.values():
        values[np.arange(len(SONG)), GIVEN] += 10.0
    assert list(both.fit.history) == ["logmel", "descriptors"]
    groups = [str(i) for i in range(12)]
    alone = [SSSL.fit(TrainingSet({name: table[name]}, GIVEN, SONG, groups, 3), Run(CONFIG, 0)) for name in table]
    for kind in ("clean", "guesses"):
        expected = np.mean([getattr(fit, kind) for fit in alone], axis=0)
        np.testing.assert_allclose(getattr(both.fit, kind), expected)
    expected = np.mean([fit.out_of_fold.segments for fit in alone], axis=0)
    np.testing.assert_allclose(both.fit.out_of_fold.segments, expected)


def test_song_probabilities_are_distributions_over_songs_held_out(both: Learned) -> None:
    assert both.song_held_out.shape == (12, 3)
    np.testing.assert_allclose(both.song_held_out.sum(axis=1), 1.0)
    assert not np.any(both.mean_model.weights)
    segments = both.fit.out_of_fold.segments[SONG == 0]
    mean = np.clip(segments, 1e-4, 1).mean(axis=0) ** (1 / both.mean_model.temperature)
    np.testing.assert_allclose(both.mean_model.predict(segments), mean / mean.sum())
