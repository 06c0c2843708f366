"""The methods on planted truth: known wrong labels in, found wrong labels out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted import SMALL, SSSL, Blobs, blobs

from emoseg.config import LearningConfig, MethodSettings
from emoseg.learning.cross_fit import SegmentFit, cross_fit
from emoseg.learning.methods.inherit import MixupTrainer
from emoseg.learning.methods.sssl import SsslTrainer
from emoseg.learning.networks import LEVEL_DB, ConvNet, Perceptron, build_network
from emoseg.learning.trainer import NO_SETTINGS, Trainer, mixed_seed, one_cycle
from emoseg.learning.training_set import TrainingSet
from emoseg.metrics import auroc
from emoseg.types import Float32, Int64

SEEDS = (0, 1, 2)


TRAINERS: dict[str, tuple[type[Trainer], MethodSettings]] = {
    "mixup": (MixupTrainer, NO_SETTINGS),
    "sssl": (SsslTrainer, SSSL),
}


def learnt(method: str, **planted: float) -> list[tuple[Blobs, SegmentFit]]:
    data = [blobs(seed, **planted) for seed in SEEDS]  # type: ignore[arg-type]
    trainer, settings = TRAINERS[method]
    return [
        (d, cross_fit(d.training_set(), "blobs", trainer=trainer, settings=settings, config=SMALL, seed=s))
        for s, d in zip(SEEDS, data, strict=True)
    ]


def segment_accuracy(runs: list[tuple[Blobs, SegmentFit]]) -> float:
    return float(np.mean([(fit.out_of_fold.argmax(axis=1) == d.true).mean() for d, fit in runs]))


def trainer_of(name: str, data: Blobs, *, config: LearningConfig = SMALL, rows: Int64 | None = None) -> Trainer:
    every = np.arange(len(data.given))
    chosen = every if rows is None else rows
    trainer, settings = TRAINERS[name]
    return trainer(data.features, data.given, data.song, chosen, classes=3, config=config, seed=0, settings=settings)


def test_the_self_learner_finds_wrong_stretches() -> None:
    runs = learnt("sssl", stretches=0.5)
    for data, fit in runs:
        assert (~data.right).mean() == pytest.approx(0.25, abs=0.01)
        assert auroc(data.right, fit.clean) > 0.95
        assert (fit.clean < 0.5).mean() == pytest.approx(0.25, abs=0.06)
        assert ((fit.clean > 0.5) == data.right).mean() > 0.9
    # Better than the labels that were learnt from, on segments of songs that it was not trained on.
    assert segment_accuracy(runs) > 0.94


def test_the_self_learner_holds_against_flipped_labels() -> None:
    ours, plain = learnt("sssl", flips=0.4), learnt("mixup", flips=0.4)
    assert np.mean([auroc(d.right, fit.clean) for d, fit in ours]) > 0.97
    assert segment_accuracy(ours) > 0.88
    assert segment_accuracy(ours) > segment_accuracy(plain) - 0.02


def test_right_labels_are_trusted() -> None:
    runs = learnt("sssl")
    assert max(float((fit.clean < 0.5).mean()) for _, fit in runs) < 0.05
    assert segment_accuracy(runs) > segment_accuracy(learnt("mixup")) - 0.02
    assert {name for _, fit in runs for r in fit.history[0] for name in r.get("fallback", [])} >= {"agreement"}


def test_warm_up_questions_no_label() -> None:
    trainer = trainer_of("sssl", blobs(0, stretches=0.5))
    for epoch in range(SSSL.warmup_epochs):
        assert set(trainer.run_epoch(epoch)) == {"loss"}
        np.testing.assert_array_equal(trainer.clean(), 1.0)
    record = trainer.run_epoch(SSSL.warmup_epochs)
    assert set(record) >= {"loss", "clean_share", "fallback", "rescued_classes"}
    assert 0.5 < record["clean_share"] < 0.95
    assert trainer.clean().min() < 0.5


def test_the_loss_of_plain_training_falls() -> None:
    trainer = trainer_of("mixup", blobs(0))
    losses = [trainer.run_epoch(epoch)["loss"] for epoch in range(4)]
    assert losses[-1] < 0.8 * losses[0]


def test_the_randomness_of_a_pass_depends_on_seed_and_pass_alone() -> None:
    data = blobs(0)

    def drawn(seed: int, epoch: int, *, ambient: int) -> tuple[float, ...]:
        trainer = MixupTrainer(data.features, data.given, data.song, np.arange(90), classes=3, config=SMALL, seed=seed)
        numbers: list[float] = []

        def learn(epoch: int) -> dict[str, float]:
            numbers.extend((trainer.rng.random(), torch.rand(1, generator=trainer.generator).item()))
            numbers.append(torch.rand(1).item())  # what dropout draws from
            numbers.append(trainer.networks[0].state_dict()["layers.0.weight"][0, 0].item())
            return {}

        trainer.learn = learn  # type: ignore[method-assign]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(ambient)
            before = torch.get_rng_state()
            trainer.run_epoch(epoch)
            assert torch.equal(torch.get_rng_state(), before)
        return tuple(numbers)

    first = drawn(0, 4, ambient=1)
    assert drawn(0, 4, ambient=2) == first
    assert all(a != b for a, b in zip(drawn(0, 5, ambient=1)[:3], first[:3], strict=True))
    assert all(a != b for a, b in zip(drawn(1, 4, ambient=1), first, strict=True))


@pytest.mark.parametrize("name", ["mixup", "sssl"])
def test_rows_outside_the_training_set_are_not_learnt_from(name: str) -> None:
    data = blobs(0)
    rows = np.arange(0, 240)
    garbled = Blobs(data.features.copy(), data.given.copy(), data.true, data.song)
    garbled.features[240:] = 1e3
    garbled.given[240:] = 0
    states = []
    for d in (data, garbled):
        trainer = trainer_of(name, d, rows=rows)
        for epoch in range(SSSL.warmup_epochs + 1):
            trainer.run_epoch(epoch)
        states.append(trainer.state())
    assert all(states[0][k].tobytes() == states[1][k].tobytes() for k in states[0])


@pytest.mark.parametrize("batch", [4, 5, 7, 16, 400])
def test_every_batch_size_learns(batch: int) -> None:
    trainer = trainer_of("mixup", blobs(0), config=SMALL.model_copy(update={"batch": batch}))
    before = trainer.probabilities(trainer.rows)
    trainer.run_epoch(0)
    assert np.abs(trainer.probabilities(trainer.rows) - before).max() > 1e-3


def test_batches_hold_every_segment_once_but_for_a_small_last_one() -> None:
    trainer = trainer_of("mixup", blobs(0), rows=np.arange(100), config=SMALL.model_copy(update={"batch": 32}))
    trainer.generator = torch.Generator().manual_seed(0)
    batches = [b.tolist() for b in trainer.batches()]
    assert [len(b) for b in batches] == [32, 32, 32]
    assert len({i for b in batches for i in b}) == 96


def test_labels_move_towards_the_truth() -> None:
    data = blobs(0, stretches=0.5)
    trainer = trainer_of("sssl", data)
    assert isinstance(trainer, SsslTrainer)
    for epoch in range(6):
        trainer.run_epoch(epoch)
    predicted = [torch.from_numpy(trainer.network_probabilities(i, trainer.rows)).float() for i in range(2)]
    clean = torch.from_numpy(trainer.clean()).float()
    guess = trainer.guess(predicted)
    targets = trainer.targets(clean, predicted[0], guess)
    np.testing.assert_allclose(targets.sum(dim=1).numpy(), 1.0, atol=1e-5)
    assert (targets.argmax(dim=1).numpy() == data.true).mean() > data.right.mean() + 0.1
    # A label that is fully trusted stays; one that is not at all gives way to the guess.
    ends = trainer.targets(torch.tensor([1.0, 0.0]).repeat(180), predicted[0], guess)
    np.testing.assert_allclose(ends[::2].numpy(), np.eye(3)[data.given[::2]], atol=1e-5)
    np.testing.assert_array_equal(ends[1::2].numpy(), guess[1::2].numpy())


def test_networks_are_taught_by_each_other() -> None:
    """Each network must get the split of the other one: with a split of its own it confirms its own mistakes."""
    data = blobs(0, stretches=0.5)
    trainer = trainer_of("sssl", data)
    assert isinstance(trainer, SsslTrainer)
    seen: list[tuple[int, float]] = []
    learn_from = trainer.loss

    def spy(which: int, x: torch.Tensor, target: torch.Tensor, trusted: torch.Tensor, epoch: int) -> torch.Tensor:
        seen.append((which, float(trusted.float().mean())))
        return learn_from(which, x, target, trusted, epoch)

    trainer.loss = spy  # type: ignore[method-assign]
    divide = trainer.divide
    answers = iter((0.0, 1.0))  # the first network trusts nothing, the second everything

    def planted(predicted: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> object:
        found = divide(predicted)
        found.probability[:] = next(answers)
        return found

    trainer.divide = planted  # type: ignore[method-assign, assignment]
    trainer.run_epoch(SSSL.warmup_epochs)
    assert dict(seen) == {0: 1.0, 1: 0.0}
    assert len(set(seen)) == 2


def test_the_learning_rate_rises_then_falls() -> None:
    rates = [one_cycle(p) for p in np.linspace(0, 1, 101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[20] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.01)
    assert np.all(np.diff(rates[:21]) > 0)
    assert np.all(np.diff(rates[20:]) < 0)


def test_seeds_of_neighbours_share_nothing() -> None:
    seeds = {mixed_seed(seed, purpose) for seed in range(30) for purpose in range(30)}
    assert len(seeds) == 900


def test_clean_probability_of_plain_training_is_that_of_the_given_label() -> None:
    data = blobs(0, flips=0.2)
    trainer = trainer_of("mixup", data)
    assert isinstance(trainer, MixupTrainer)
    expected = np.zeros(len(data.given))
    for epoch in range(2):
        trainer.run_epoch(epoch)
        expected += trainer.probabilities(trainer.rows)[np.arange(len(data.given)), data.given] / 2
    np.testing.assert_allclose(trainer.clean(), expected, rtol=1e-12)


def spectrograms(seed: int = 0) -> tuple[Float32, Int64]:
    """Draw noise in dB with a loud lower, middle or upper third."""
    rng = np.random.default_rng(seed)
    labels = np.arange(90) % 3
    x = rng.normal(-40, 6, (90, 16, 40))
    for i, label in enumerate(labels):
        x[i, 5 * label : 5 * label + 5] += 15
    return x.astype(np.float32), labels


def test_the_convolutional_network_learns_spectrograms() -> None:
    x, labels = spectrograms()
    data = TrainingSet({"logmel": x}, labels, np.arange(90), [str(i) for i in range(90)], 3)
    config = SMALL.model_copy(update={"epochs": 6, "members": 2})
    fit = cross_fit(data, "logmel", trainer=SsslTrainer, settings=SSSL, config=config, seed=0)
    assert (fit.out_of_fold.argmax(axis=1) == labels).mean() > 0.9


def test_networks_standardise_by_their_training_rows() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(3.0, 2.0, (80, 5)).astype(np.float32)
    network = build_network(x, np.arange(50), 3, SMALL.network)
    assert isinstance(network, Perceptron)
    z = network.standardise(torch.from_numpy(x[:50]))
    np.testing.assert_allclose(z.mean(dim=0).numpy(), 0, atol=1e-5)
    np.testing.assert_allclose(z.std(dim=0, correction=0).numpy(), 1, atol=1e-5)
    assert float(network.standardise(torch.full((1, 5), 1e9)).max()) == 6.0
    pictures, _ = spectrograms()
    convolutional = build_network(pictures, np.arange(90), 3, SMALL.network)
    assert isinstance(convolutional, ConvNet)
    bands = convolutional.standardise(torch.from_numpy(pictures)).mean(dim=(0, 2))
    np.testing.assert_allclose(bands.numpy(), 0, atol=1e-4)


def test_the_convolutional_network_receives_both_the_mean_and_the_peak_of_a_segment() -> None:
    pictures, _ = spectrograms()
    network = build_network(pictures, np.arange(90), 3, SMALL.network).eval()
    assert isinstance(network, ConvNet)
    received: list[torch.Tensor] = []
    network.head.register_forward_pre_hook(lambda _, x: received.append(x[0]))
    network(torch.from_numpy(pictures[:4]))
    mean, peak = received[0].detach().reshape(4, 2, -1).unbind(dim=1)
    assert bool((peak >= mean).all())
    assert float((peak - mean).max()) > 0.1


def test_what_never_varies_in_training_is_ignored() -> None:
    data = blobs(0)
    data.features[:, 5], data.features[:, 6] = 123.4, 0.0
    trainer = trainer_of("mixup", data)
    for epoch in range(2):
        assert np.isfinite(trainer.run_epoch(epoch)["loss"])
    before = trainer.probabilities(trainer.rows)
    data.features[:, 5], data.features[:, 6] = 200.0, -1.0
    np.testing.assert_array_equal(trainer.probabilities(trainer.rows), before)


def test_views_of_descriptors_jitter_by_a_tenth_of_each_deviation() -> None:
    generator = torch.Generator().manual_seed(0)
    network = Perceptron(torch.zeros(3), torch.tensor([1.0, 10.0, 0.0]), 4, LearningConfig().network)
    jitter = network.augment(torch.zeros(4000, 3), generator).std(dim=0)
    np.testing.assert_allclose(jitter.numpy(), [0.1, 1.0, 0.0], rtol=0.1)


def test_views_of_spectrograms_are_turned_louder_or_softer_and_masked_in_strips() -> None:
    mean = torch.full((16, 1), -200.0)  # no value of the pictures: what is masked shows
    network = ConvNet(mean, torch.ones(16, 1), 4, LearningConfig().network)
    click = torch.zeros(300, 16, 40)
    click[:, :, 7] = 100
    original = click.clone()
    view = network.augment(click, torch.Generator().manual_seed(5))
    assert torch.equal(view, network.augment(click, torch.Generator().manual_seed(5)))
    assert torch.equal(click, original)
    assert len(set(view.amax(dim=1).argmax(dim=1).tolist())) > 30, "a view may begin anywhere"

    masked = view == -200
    bands, frames = masked.all(dim=2).sum(dim=1), masked.all(dim=1).sum(dim=1)
    assert bands.max() == 16 // 8
    assert frames.max() == 40 // 8
    assert bands.min() == frames.min() == 0
    level = view.masked_fill(masked, 0).flatten(1).median(dim=1).values
    assert -LEVEL_DB <= level.min() < -0.9 * LEVEL_DB
    assert 0.9 * LEVEL_DB < level.max() <= LEVEL_DB
    kept = ~masked
    assert set((view - level[:, None, None])[kept].round().tolist()) == {0.0, 100.0}


def test_spectrograms_have_the_settings_that_suit_their_network() -> None:
    config = LearningConfig(epochs=9)
    assert config.for_features(2) is config
    convnet = config.for_features(3)
    assert (convnet.epochs, convnet.batch, convnet.mixup_alpha) == (12, 32, 0.2)
    assert (convnet.network.dropout, convnet.network.hidden) == (0.3, config.network.hidden)
    assert convnet.members == config.members
