"""What all trainers share: batches, the learning rate, targets, evidence; and the shapes of the networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from planted import SMALL, Blobs, blobs

from emoseg.config import NetworkConfig
from emoseg.learning.methods.inherit import InheritTrainer, MixupTrainer, NetworksOnlyMixupTrainer
from emoseg.learning.networks import ConvNet, Perceptron, build_network
from emoseg.learning.trainer import NotFiniteError, Trainer, evaluation_batches, load_network, one_cycle
from emoseg.types import UNLABELLED, Float64, Int64


def trainer_of(
    data: Blobs, *, batch: int = 16, given: Int64 | None = None, kind: type[Trainer] = MixupTrainer, **options: Any
) -> Trainer:
    labels = data.given if given is None else given
    config = SMALL.model_copy(update={"batch": batch})
    rows = np.arange(len(labels))
    trainer = kind(data.features, labels, data.song, rows, classes=3, config=config, seed=0, **options)
    trainer.generator = torch.Generator().manual_seed(0)
    return trainer


@pytest.fixture(scope="module")
def data() -> Blobs:
    return blobs(0, songs=12)  # 72 segments


@pytest.mark.parametrize(
    ("batch", "sizes"), [(16, [16] * 4 + [8]), (10, [10] * 7), (70, [70]), (64, [64, 8]), (5, [5] * 14), (100, [72])]
)
def test_a_last_batch_of_fewer_than_eight_segments_is_left_out(data: Blobs, batch: int, sizes: list[int]) -> None:
    assert [len(positions) for positions in trainer_of(data, batch=batch).batches()] == sizes


def test_few_segments_are_repeated_until_the_pass_is_as_long_as_all_others(data: Blobs) -> None:
    positions = torch.cat(list(trainer_of(data).batches(np.arange(30)))).numpy()
    assert len(positions) == 72
    assert sorted(positions[:30]) == sorted(positions[30:60]) == list(range(30))


def test_progress_is_the_share_of_steps_that_are_done(data: Blobs) -> None:
    trainer = trainer_of(data)  # four full steps per pass, twelve passes
    assert trainer.progress(0, 0) == 0
    assert trainer.progress(3, 2) == pytest.approx((3 + 2 / 4) / 12)
    assert trainer_of(data, batch=100).progress(0, 0) == 0


@pytest.mark.parametrize(
    ("progress", "share"),
    [(0, 0.1), (0.1, 0.55), (0.2, 1), (0.4, 0.01 + 0.99 * (1 + 0.5**0.5) / 2), (0.6, 0.505), (1, 0.01)],
)
def test_the_learning_rate_follows_its_schedule(data: Blobs, progress: float, share: float) -> None:
    assert one_cycle(progress) == pytest.approx(share)
    trainer = trainer_of(data)
    trainer.step(0, trainer.networks[0](torch.zeros(2, 8)).sum(), progress)
    [group] = trainer.optimisers[0].param_groups
    assert group["lr"] == pytest.approx(SMALL.learning_rate * share)
    assert group["weight_decay"] == SMALL.weight_decay


def test_a_step_goes_downhill_and_forgets_earlier_gradients(data: Blobs) -> None:
    first, second = trainer_of(data), trainer_of(data)
    x = torch.from_numpy(data.features[:16])

    def loss(trainer: Trainer) -> torch.Tensor:
        return trainer.networks[0].eval()(x).square().mean()

    before = float(loss(first).detach())
    loss(second).backward()  # type: ignore[no-untyped-call]  # a gradient that must not count
    for trainer in (first, second):
        trainer.step(0, loss(trainer), 0.2)
    assert float(loss(first).detach()) < before
    assert all(np.array_equal(a, second.state()[name]) for name, a in first.state().items())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_not_learnt_from(data: Blobs, bad: float) -> None:
    trainer = trainer_of(data)
    before = trainer.state()
    with pytest.raises(NotFiniteError, match=f"the loss is {bad}; try a lower learning rate"):
        trainer.step(0, torch.tensor(bad, requires_grad=True), 0.5)
    assert all(np.array_equal(a, before[name]) for name, a in trainer.state().items())


def test_targets_are_one_hot_or_given_and_zero_without_a_label(data: Blobs) -> None:
    given = np.where(data.song == 3, UNLABELLED, data.given)
    trainer = trainer_of(data, given=given)
    assert len(trainer.rows) == 66
    assert trainer.pass_length == 72
    np.testing.assert_array_equal(trainer.one_hot[18:24].numpy(), 0)
    positions = torch.tensor([0, 20, 40])
    rows = trainer.rows[positions.numpy()]
    np.testing.assert_array_equal(trainer.labels(positions).numpy(), np.eye(3)[given[rows]])
    soft = np.random.default_rng(0).dirichlet(np.ones(3), 72)
    softly = trainer_of(data, given=given, targets=soft)
    np.testing.assert_allclose(softly.labels(positions).numpy(), soft[rows], rtol=1e-6)
    counts = np.bincount(given[given != UNLABELLED])
    np.testing.assert_allclose(trainer.prior.numpy(), counts / 66, rtol=1e-6)


def test_evidence_is_averaged_over_passes(data: Blobs) -> None:
    trainer = trainer_of(data)
    np.testing.assert_array_equal(trainer.clean(), 1.0)
    trainer.add_evidence(np.full(72, 0.2))
    trainer.add_evidence(np.linspace(0, 1, 72))
    np.testing.assert_allclose(trainer.clean(), (0.2 + np.linspace(0, 1, 72)) / 2)
    assert trainer.noise_rate() is None
    assert trainer.guesses() is None


def test_networks_alone_are_the_same_networks(data: Blobs) -> None:
    full, bare = (trainer_of(data, kind=kind) for kind in (MixupTrainer, NetworksOnlyMixupTrainer))
    for trainer in (full, bare):
        trainer.run_epoch(0)
    assert full.evidence_passes == 1
    assert bare.evidence_passes == 0
    weights = [name for name in full.state() if name.startswith("network")]
    assert all(np.array_equal(full.state()[name], bare.state()[name]) for name in weights)


def test_members_of_other_seeds_start_from_other_weights_and_views_differ(data: Blobs) -> None:
    a, b = (
        InheritTrainer(data.features, data.given, data.song, np.arange(72), classes=3, config=SMALL, seed=s)
        for s in (0, 1)
    )
    weight = "network0/layers.0.weight"
    assert (a.state()[weight] != b.state()[weight]).any()
    again = InheritTrainer(data.features, data.given, data.song, np.arange(72), classes=3, config=SMALL, seed=0)
    assert np.array_equal(a.state()[weight], again.state()[weight])


def test_a_song_is_the_mean_of_its_segments(data: Blobs) -> None:
    trainer = trainer_of(data)
    p: Float64 = trainer.probabilities(np.arange(72))
    songs = trainer.song_probabilities(np.arange(72), p)
    np.testing.assert_allclose(songs, np.repeat(p.reshape(12, 6, 3).mean(axis=1), 6, axis=0))
    given = trainer.given_probabilities(p)
    np.testing.assert_array_equal(given, p[np.arange(72), data.given])


def test_evaluation_goes_in_batches_of_a_quarter_of_a_million_numbers() -> None:
    np.testing.assert_array_equal(evaluation_batches((608,), 1000), [431, 862])
    np.testing.assert_array_equal(evaluation_batches((64, 130), 70), [31, 62])
    np.testing.assert_array_equal(evaluation_batches((2**19,), 3), [1, 2])
    assert len(evaluation_batches((608,), 431)) == 0


def test_a_perceptron_has_the_widths_of_its_settings() -> None:
    x = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    network = build_network(x, np.arange(20), 3, NetworkConfig(hidden=(7, 4), dropout=0.25))
    assert isinstance(network, Perceptron)
    linear = [layer for layer in network.layers if isinstance(layer, torch.nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(5, 7), (7, 4), (4, 3)]
    assert [layer.p for layer in network.layers if isinstance(layer, torch.nn.Dropout)] == [0.25, 0.25]
    assert network.classifier is linear[-1]
    assert network.eval().embed(torch.from_numpy(x)).shape == (20, 4)


def test_a_convolutional_network_halves_bands_and_frames_per_block() -> None:
    x = np.random.default_rng(0).normal(size=(6, 20, 50)).astype(np.float32)
    network = build_network(x, np.arange(6), 3, NetworkConfig(channels=(2, 3), dropout=0.1)).eval()
    assert isinstance(network, ConvNet)
    hidden = network.blocks(torch.zeros(1, 1, 20, 50))
    # Bands 20, 10, 5; frames 50, by the stride 25, then 13 and 7.
    assert hidden.shape == (1, 3, 5, 7)
    assert network.head[1].in_features == 2 * 3 * 5
    assert network.embed(torch.from_numpy(x)).shape == (6, 128)
    torch.testing.assert_close(network.classifier(network.embed(torch.from_numpy(x))), network(torch.from_numpy(x)))
    assert build_network(x[:, :3, :2], np.arange(6), 3, NetworkConfig(channels=(2, 2, 2, 2))).eval()(
        torch.from_numpy(x[:, :3, :2])
    ).shape == (6, 3)


def test_the_weights_of_one_of_several_networks_are_loaded(data: Blobs) -> None:
    trainer = trainer_of(data)
    state = trainer.state()
    state |= {name.replace("network0", "network1"): value + 1 for name, value in state.items() if "network0" in name}
    network = build_network(data.features, np.arange(72), 3, SMALL.network)
    load_network(network, state, 1)
    torch.testing.assert_close(network.classifier.weight, trainer.networks[0].classifier.weight + 1)
