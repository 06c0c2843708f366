"""The field's methods: each beats chance on planted errors, and its own mechanism does what its paper says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from planted import SMALL, SSSL, Blobs, blobs

from emoseg.config import LearningConfig, MethodSettings
from emoseg.errors import MissingExtraError
from emoseg.learning import semisup
from emoseg.learning.methods import METHODS
from emoseg.learning.methods.attention_mil import (
    AttentionMilSettings,
    AttentionTrainer,
    GatedAttention,
    bag_logits,
    bag_softmax,
)
from emoseg.learning.methods.base import Method, Run
from emoseg.learning.methods.co_teaching import CoTeachingSettings, CoTeachingTrainer
from emoseg.learning.methods.confident import find_errors
from emoseg.learning.methods.dividemix import DivideMixSettings, DivideMixTrainer, mixture_posterior
from emoseg.learning.methods.elr import ElrSettings, ElrTrainer
from emoseg.learning.methods.inherit import InheritTrainer, Mixup, MixupTrainer
from emoseg.learning.methods.mean_teacher import MeanTeacherSettings, MeanTeacherTrainer
from emoseg.learning.methods.sssl import SsslTrainer
from emoseg.learning.methods.svm_compare import SvmCompareSettings, choose, decisions, machine
from emoseg.learning.networks import build_network
from emoseg.learning.pipeline import Learned, learn
from emoseg.learning.trainer import NO_SETTINGS, Trainer
from emoseg.learning.training_set import TrainingSet, song_parts
from emoseg.metrics import auroc
from emoseg.song.statistics import song_summaries
from emoseg.types import UNLABELLED, Float64, Int64

T = TypeVar("T", bound=Trainer)
QUICK = SMALL.model_copy(update={"epochs": 8, "members": 2})
DIVIDEMIX = DivideMixSettings(warmup_epochs=3)
SETTINGS: dict[type[Trainer], MethodSettings] = {
    ElrTrainer: ElrSettings(),
    CoTeachingTrainer: CoTeachingSettings(),
    DivideMixTrainer: DIVIDEMIX,
    MeanTeacherTrainer: MeanTeacherSettings(),
    AttentionTrainer: AttentionMilSettings(),
    SsslTrainer: SSSL,
}
NETWORKS = ("inherit", "elr", "co-teaching", "dividemix", "confident", "mean-teacher", "sssl")
SEGMENTS = (*NETWORKS, "attention-mil")


def training_set(data: Blobs, given: Int64 | None = None, *, frontend: str = "descriptors") -> TrainingSet:
    labels = data.given if given is None else given
    groups = [str(i) for i in range(int(data.song[-1]) + 1)]
    return TrainingSet({frontend: data.features}, labels, data.song, groups, 3)


def method(name: str) -> Method:
    """Return a method with settings that suit a short training."""
    return METHODS[name]({"dividemix": DIVIDEMIX, "sssl": SSSL}.get(name))


def trained(
    trainer: type[T],
    data: Blobs,
    given: Int64 | None = None,
    config: LearningConfig = QUICK,
    settings: MethodSettings | None = None,
) -> T:
    labels = data.given if given is None else given
    return trainer(
        data.features,
        labels,
        data.song,
        np.arange(len(labels)),
        classes=3,
        config=config,
        seed=0,
        settings=settings or SETTINGS.get(trainer, NO_SETTINGS),
    )


def with_randomness(trainer: T) -> T:
    trainer.rng, trainer.generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    return trainer


@pytest.fixture(scope="module")
def flipped() -> Blobs:
    return blobs(0, flips=0.3)


def accuracy(learned: Learned, test: Blobs) -> float:
    predicted = learned.predict({"descriptors": test.features}, test.song)
    np.testing.assert_allclose(predicted.song.sum(axis=1), 1.0)
    return float((predicted.segments.argmax(axis=1) == test.true).mean())


@pytest.mark.parametrize("name", SEGMENTS)
def test_every_method_learns_from_wrong_labels_and_ranks_them(name: str, flipped: Blobs) -> None:
    learned = learn(training_set(flipped), method=method(name), run=Run(QUICK, 0))
    fit = learned.fit
    assert accuracy(learned, blobs(1, songs=18)) > 0.85
    assert auroc(flipped.right, fit.clean) > 0.8
    assert 0 <= fit.clean.min() <= fit.clean.max() <= 1
    assert fit.flagged[~flipped.right].mean() > fit.flagged[flipped.right].mean()
    assert (fit.guesses.argmax(axis=1) == flipped.true).mean() > flipped.right.mean()
    assert 0.15 < fit.noise_rate < 0.65
    assert (fit.ensemble is None) == (METHODS[name].not_in_folder is not None)


def test_whole_songs_are_learnt_from_one_row_each() -> None:
    learned = learn(training_set(blobs(0)), method=method("whole-song"), run=Run(QUICK, 0))
    test = blobs(1)
    predicted = learned.predict({"descriptors": test.features}, test.song)
    assert (predicted.song.argmax(axis=1) == np.arange(60) % 3).mean() > 0.8
    assert np.array_equal(predicted.segments[0], predicted.segments[5]), "segments of a song are not reported apart"
    values = np.array([[1.0, 0.0], [3.0, 0.0], [5.0, 2.0]])
    np.testing.assert_allclose(song_summaries(values, np.array([0, 0, 1])), [[2, 0, 1, 0], [5, 2, 0, 0]])
    pictures = np.arange(12.0).reshape(2, 2, 3)  # two segments of two bands and three frames
    deviations = [float(np.std([0, 1, 2, 6, 7, 8])), float(np.std([3, 4, 5, 9, 10, 11]))]
    expected = np.array([[4.0, 7.0, *deviations]])
    np.testing.assert_allclose(song_summaries(pictures, np.array([0, 0])), expected, rtol=1e-6)


def test_a_whole_song_has_the_mean_of_its_segments_soft_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    data = replace(training_set(blobs(0)), soft=np.full((360, 3), 1 / 3))
    assert data.soft is not None
    data.soft[:3] = (1, 0, 0)
    recorded: list[Float64] = []

    def cross_fit(self: Run, songs: TrainingSet, *_: Any, **__: Any) -> None:
        assert songs.soft is not None
        recorded.append(songs.soft)
        raise InterruptedError

    monkeypatch.setattr(Run, "cross_fit", cross_fit)
    with pytest.raises(InterruptedError):
        METHODS["whole-song"]().fit(data, Run(QUICK, 0))
    np.testing.assert_allclose(recorded[0][:2], [[2 / 3, 1 / 6, 1 / 6], [1 / 3, 1 / 3, 1 / 3]])
    assert recorded[0].shape == (60, 3)


def test_the_support_vector_machine_learns_songs() -> None:
    learned = learn(training_set(blobs(0), frontend="compare"), method=method("svm-compare"), run=Run(QUICK, 0))
    test = blobs(1)
    predicted = learned.predict({"compare": test.features}, test.song)
    assert (predicted.song.argmax(axis=1) == np.arange(60) % 3).mean() > 0.95
    assert (learned.fit.out_of_fold.segments.argmax(axis=1) == blobs(0).true).mean() > 0.95


# --- unlabelled songs ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def few() -> tuple[Blobs, Int64]:
    """Sixty songs of which twelve keep their label."""
    data = blobs(0)
    return data, np.where(data.song < 12, data.given, UNLABELLED)


@pytest.mark.parametrize("name", [*SEGMENTS, "mixup", "whole-song"])
def test_every_method_takes_songs_without_a_label(name: str, few: tuple[Blobs, Int64]) -> None:
    data, given = few
    learned = learn(training_set(data, given), method=method(name), run=Run(QUICK, 0))
    test = blobs(1)
    predicted = learned.predict({"descriptors": test.features}, test.song)
    assert (predicted.song.argmax(axis=1) == np.arange(60) % 3).mean() > 0.6
    assert learned.song_held_out.shape == (12, 3)
    labelled = given != UNLABELLED
    assert np.isnan(learned.fit.clean[~labelled]).all()
    assert np.isfinite(learned.fit.clean[labelled]).all()
    assert np.isnan(learned.fit.out_of_fold.segments[~labelled]).all()
    assert not learned.fit.flagged[~labelled].any()


def test_the_support_vector_machine_leaves_songs_without_a_label_out(few: tuple[Blobs, Int64]) -> None:
    data, given = few
    garbled = replace(data, features=np.where((given == UNLABELLED)[:, None], 99.0, data.features).astype(np.float32))
    test = blobs(1)
    found = [
        learn(training_set(d, given, frontend="compare"), method=method("svm-compare"), run=Run(QUICK, 0)).predict(
            {"compare": test.features}, test.song
        )
        for d in (data, garbled)
    ]
    np.testing.assert_array_equal(found[0].song, found[1].song)


@pytest.mark.parametrize("trainer", [InheritTrainer, MixupTrainer, ElrTrainer, CoTeachingTrainer, AttentionTrainer])
def test_supervised_trainers_never_hear_unlabelled_segments(trainer: type[Trainer], few: tuple[Blobs, Int64]) -> None:
    data, given = few
    garbled = replace(data, features=np.where((given == UNLABELLED)[:, None], 99.0, data.features).astype(np.float32))
    states = []
    for d in (data, garbled):
        member = trained(trainer, d, given)
        member.run_epoch(0)
        states.append(member.state())
    assert all(states[0][k].tobytes() == states[1][k].tobytes() for k in states[0])


@pytest.mark.parametrize("trainer", [SsslTrainer, DivideMixTrainer, MeanTeacherTrainer])
def test_semi_supervised_trainers_hear_them(trainer: type[Trainer], few: tuple[Blobs, Int64]) -> None:
    data, given = few
    truth = given == UNLABELLED
    moved = replace(data, features=data.features + truth[:, None] * np.float32(0.5) * (data.true[:, None] == 1))
    members = [trained(trainer, d, given) for d in (data, moved)]
    for member in members:
        for epoch in range(5):
            member.run_epoch(epoch)
    first, second = (m.network_probabilities(0, m.rows) for m in members)
    assert np.abs(first - second).max() > 1e-3
    # Their own guesses of labels that nobody gave are right where the classes lie apart.
    assert (first.argmax(axis=1) == data.true)[truth].mean() > 0.7


def test_a_pass_is_as_long_with_few_labels_as_with_all(few: tuple[Blobs, Int64]) -> None:
    data, given = few
    member = with_randomness(trained(MixupTrainer, data, given))
    assert len(member.rows) == 72
    batches = list(member.batches())
    assert sum(len(b) for b in batches) == pytest.approx(360, abs=QUICK.batch)
    counts = np.bincount(torch.cat(batches).numpy(), minlength=72)
    assert counts.min() >= 4
    assert counts.max() <= 5, "every labelled segment as often as every other"


def test_unlabelled_songs_lie_in_no_part() -> None:
    labels = np.array([0, 1, UNLABELLED, 0, 1, UNLABELLED])
    part = song_parts(labels, list("abcdef"), parts=2, seed=0)
    assert (part[labels == UNLABELLED] == -1).all()
    assert sorted(part[labels == 0]) == sorted(part[labels == 1]) == [0, 1]


def test_a_song_is_labelled_as_a_whole_or_not_at_all(few: tuple[Blobs, Int64]) -> None:
    data, given = few
    given = given.copy()
    given[0] = UNLABELLED
    with pytest.raises(ValueError, match="must all have a label, or none"):
        learn(training_set(data, given), method=method("inherit"), run=Run(QUICK, 0))


# --- resume ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trainer", [ElrTrainer, CoTeachingTrainer, DivideMixTrainer, MeanTeacherTrainer, AttentionTrainer]
)
def test_a_trainer_goes_on_from_its_state(trainer: type[Trainer], few: tuple[Blobs, Int64]) -> None:
    data, given = few
    whole = trained(trainer, data, given)
    for epoch in range(5):
        whole.run_epoch(epoch)
        if epoch == 3:
            saved = whole.state()
    resumed = trained(trainer, data, given)
    resumed.load_state(saved)
    resumed.run_epoch(4)
    first, second = whole.state(), resumed.state()
    assert first.keys() == second.keys()
    assert all(first[k].tobytes() == second[k].tobytes() for k in first)


# --- what each method is about ---------------------------------------------------------------------------------------


def test_inherit_mixes_nothing_and_mixup_does(flipped: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    alphas: list[float] = []
    mixup = semisup.mixup

    def spy(*args: torch.Tensor, alpha: float, **settings: object) -> object:
        alphas.append(alpha)
        return mixup(*args, alpha=alpha, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(semisup, "mixup", spy)
    trained(InheritTrainer, flipped).run_epoch(0)
    assert set(alphas) == {0.0}
    alphas.clear()
    trained(MixupTrainer, flipped).run_epoch(0)
    assert set(alphas) == {QUICK.mixup_alpha}


def test_elr_targets_are_running_averages(flipped: Blobs) -> None:
    member = trained(ElrTrainer, flipped, settings=ElrSettings(beta=0.75))
    at = torch.tensor([2, 5])
    first = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.2, 0.6]])
    second = torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.4, 0.4]])
    torch.testing.assert_close(member.update(at, first), 0.25 * first)
    torch.testing.assert_close(member.update(at, 3 * second), 0.75 * 0.25 * first + 0.25 * second)
    expected = (0.75 * first + second) / 1.75
    np.testing.assert_allclose(member.guesses()[[2, 5]], expected.numpy(), rtol=1e-6)
    np.testing.assert_allclose(member.guesses()[0], 1 / 3)
    given = flipped.given[[2, 5]]
    np.testing.assert_allclose(member.clean()[[2, 5]], expected.numpy()[[0, 1], given], rtol=1e-6)


def test_elr_adds_its_term_to_the_loss(flipped: Blobs) -> None:
    """On targets equal to the prediction the term is log(1 - |p|^2): negative, so the loss is below plain training."""
    losses = {}
    for weight in (0.0, 3.0):
        settings = ElrSettings(beta=0.0, lambda_elr=weight)
        losses[weight] = trained(ElrTrainer, flipped, settings=settings).run_epoch(0)["loss"]
    assert losses[3.0] < losses[0.0] - 0.5


def test_co_teaching_learns_from_the_others_small_losses(flipped: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    member = trained(CoTeachingTrainer, flipped)
    for epoch in range(3):
        member.run_epoch(epoch)
    monkeypatch.setattr(member, "estimate_rate", lambda: 0.5)
    before = member.evidence.copy()
    record = member.run_epoch(CoTeachingSettings().gradual_epochs)
    assert record["forget_rate"] == 0.5, "the ramp ends at tau"
    picked = member.evidence - before
    assert picked.mean() == pytest.approx(0.5, abs=0.02)
    assert picked[flipped.right].mean() > 4 * picked[~flipped.right].mean()


def test_co_teaching_swaps_the_choices(flipped: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each network learns from the segments that the other one selected, not from its own selection."""
    member = with_randomness(trained(CoTeachingTrainer, flipped))
    member.tau = 0.5
    losses: list[torch.Tensor] = []
    loss_of: dict[int, float] = {}
    cross_entropy = semisup.soft_cross_entropy

    def listen(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        loss = cross_entropy(logits, target)
        losses.append(loss.detach())
        return loss

    def step(which: int, loss: torch.Tensor, progress: float) -> None:
        loss_of.setdefault(which, float(loss.detach()))

    monkeypatch.setattr(semisup, "soft_cross_entropy", listen)
    monkeypatch.setattr(member, "step", step)
    member.learn(CoTeachingSettings().gradual_epochs + 1)
    half = QUICK.batch // 2
    for which in range(2):
        chosen = torch.argsort(losses[1 - which])[:half]
        assert loss_of[which] == pytest.approx(float(losses[which][chosen].mean()))
        assert loss_of[which] != pytest.approx(float(losses[which].sort().values[:half].mean()), rel=1e-4)


def test_co_teaching_estimates_the_noise_itself(flipped: Blobs) -> None:
    for data, low, high in ((flipped, 0.2, 0.45), (blobs(0), 0.0, 0.02)):
        member = trained(CoTeachingTrainer, data)
        for epoch in range(QUICK.epochs):
            record = member.run_epoch(epoch)
            assert record["forget_rate"] <= member.tau
        assert low <= member.noise_rate() <= high
        assert (member.clean() < 0.5).mean() <= high + 0.1


def test_the_published_mixture_finds_two_groups() -> None:
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.normal(0.3, 0.1, 300), rng.normal(2.0, 0.4, 100)])
    posterior = mixture_posterior(losses)
    assert (posterior[:300] > 0.5).mean() > 0.99
    assert (posterior[300:] < 0.5).mean() > 0.97
    np.testing.assert_array_equal(mixture_posterior(np.full(10, 0.7)), 1.0)


def test_dividemix_targets_are_refined_and_guessed(flipped: Blobs) -> None:
    member = with_randomness(trained(DivideMixTrainer, flipped))
    for network in member.networks:  # no dropout: both views give what can be computed by hand
        for layer in network.modules():
            if isinstance(layer, torch.nn.Dropout):
                layer.p = 0.0
    member.augment = lambda x: x  # type: ignore[method-assign]
    w = torch.zeros(len(member.rows))
    w[:4] = torch.tensor([1.0, 0.8, 0.6, 0.9])
    x, u = torch.arange(4), torch.tensor([10, 11])
    inputs, targets = member.views(0, x, u, w)
    own = torch.from_numpy(member.network_probabilities(0, np.arange(12))).float()
    other = torch.from_numpy(member.network_probabilities(1, np.arange(12))).float()
    mixed = w[:4, None] * member.labels(x) + (1 - w[:4, None]) * own[:4]
    refined = mixed**2 / (mixed**2).sum(dim=1, keepdim=True)  # T = 0.5
    both = (own[10:12] + other[10:12]) / 2
    guessed = both**2 / (both**2).sum(dim=1, keepdim=True)
    torch.testing.assert_close(targets, torch.cat([refined, refined, guessed, guessed]))
    assert inputs.shape[0] == 12


def test_dividemix_networks_teach_each_other(flipped: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    member = trained(DivideMixTrainer, flipped)
    answers = iter((np.zeros(len(flipped.given)), np.ones(len(flipped.given))))
    monkeypatch.setattr(member, "divide", lambda _: next(answers))
    recorded: dict[int, float] = {}
    learn_divided = member.learn_divided

    def spy(which: int, clean: np.ndarray[tuple[int], np.dtype[np.float64]], epoch: int) -> float:
        recorded[which] = float(clean.mean())
        return learn_divided(which, clean, epoch)

    monkeypatch.setattr(member, "learn_divided", spy)
    member.run_epoch(DIVIDEMIX.warmup_epochs)
    assert recorded == {0: 1.0, 1: 0.0}
    np.testing.assert_array_equal(member.clean(), 0.5)


def test_dividemix_ramps_the_unlabelled_loss(flipped: Blobs) -> None:
    config = QUICK.model_copy(update={"mixup_alpha": 0.0})
    inputs, targets = torch.randn(8, 8), torch.softmax(torch.randn(8, 3), dim=1)

    def loss(epoch: float, labelled: int) -> float:
        member = with_randomness(trained(DivideMixTrainer, flipped, config=config))
        member.networks[0].eval()
        return float(member.loss(0, inputs, targets, labelled, epoch).detach())

    warmup, ramp = DIVIDEMIX.warmup_epochs, DIVIDEMIX.rampup_epochs
    start, half, full, later = (loss(warmup + t, 4) for t in (0, ramp / 2, ramp, ramp + 2))
    assert start < half < full
    assert half - start == pytest.approx((full - start) / 2, rel=1e-4)
    assert later == full
    assert loss(warmup, 8) == loss(warmup + ramp, 8), "nothing unlabelled, nothing ramped"


def test_cleanlab_points_at_planted_errors() -> None:
    rng = np.random.default_rng(0)
    true = np.arange(300) % 3
    given = true.copy()
    wrong = rng.permutation(300)[:60]
    given[wrong] = (true[wrong] + 1) % 3
    probabilities = 0.1 + 0.7 * np.eye(3)[true] + rng.uniform(0, 0.05, (300, 3))
    found = find_errors(given, probabilities / probabilities.sum(axis=1, keepdims=True))
    assert set(np.flatnonzero(found)) <= set(wrong)
    assert found.sum() > 50


def test_confident_learning_leaves_the_flagged_out_of_its_second_round(
    flipped: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[Int64 | None] = []
    cross_fit = Run.cross_fit

    def spy(self: Run, *args: object, **settings: object) -> object:
        rows.append(settings.get("rows"))  # type: ignore[arg-type]
        return cross_fit(self, *args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(Run, "cross_fit", spy)
    fit = METHODS["confident"]().fit(training_set(flipped), Run(QUICK, 0))
    assert len(rows) == METHODS["confident"]().passes({"blobs": 1}, 1) == 2
    assert rows[0] is None
    assert rows[1] is not None
    np.testing.assert_array_equal(np.setdiff1d(np.arange(len(flipped.given)), rows[1]), np.flatnonzero(fit.flagged))
    assert fit.flagged[~flipped.right].mean() > 0.6
    assert fit.flagged[flipped.right].mean() < 0.1
    assert fit.noise_rate == pytest.approx(fit.flagged.mean())


def test_the_teacher_is_a_moving_average(flipped: Blobs) -> None:
    member = trained(MeanTeacherTrainer, flipped, settings=MeanTeacherSettings(ema_decay=0.9))
    key = "layers.0.weight"
    start = member.networks[0].state_dict()[key].clone()
    torch.testing.assert_close(member.teacher.state_dict()[key], start)
    with torch.no_grad():
        member.networks[0].state_dict()[key].add_(1.0)
    member.update_teacher()
    torch.testing.assert_close(member.teacher.state_dict()[key], start + 0.5)  # the first step: half and half
    member.steps = 1000
    member.update_teacher()
    torch.testing.assert_close(member.teacher.state_dict()[key], start + 0.9 * 0.5 + 0.1)
    np.testing.assert_array_equal(member.state()["network0/" + key], member.teacher.state_dict()[key].numpy())
    assert np.array_equal(member.probabilities(member.rows), member.evaluate(member.teacher, member.rows))


def test_attention_weights_of_a_song_sum_to_one() -> None:
    scores, bag = torch.tensor([1.0, 2.0, 500.0, -3.0, 499.0]), torch.tensor([0, 0, 1, 0, 1])
    weights = bag_softmax(scores, bag)
    expected = torch.softmax(scores[bag == 0], dim=0)
    torch.testing.assert_close(weights[bag == 0], expected)
    torch.testing.assert_close(weights[bag == 1].sum(), torch.tensor(1.0))


def test_a_bag_is_the_weighted_mean_of_its_segments_logits() -> None:
    data = blobs(0)
    network = build_network(data.features, np.arange(100), 3, QUICK.network).eval()
    attention = GatedAttention(network.classifier.in_features, AttentionMilSettings().attention_dim)
    x, bag = torch.from_numpy(data.features[:7]), torch.tensor([0, 0, 0, 1, 1, 1, 1])
    torch.testing.assert_close(network.classifier(network.embed(x)), network(x))
    weights = bag_softmax(attention(network.embed(x)), bag)
    expected = torch.zeros(2, 3).index_add(0, bag, weights[:, None] * network(x))
    torch.testing.assert_close(bag_logits(network, attention, x, bag), expected)


def test_attention_turns_to_the_segments_that_tell() -> None:
    """Songs of noise with one segment that has the class in it: attention must find that one."""
    rng = np.random.default_rng(0)
    song = np.repeat(np.arange(60), 6)
    given = song % 3
    features = rng.normal(size=(360, 8)).astype(np.float32)
    telling = np.arange(60) * 6 + rng.integers(0, 6, 60)
    features[telling, given[telling]] += 6
    config = QUICK.model_copy(update={"epochs": 20})
    member = AttentionTrainer(
        features, given, song, np.arange(360), classes=3, config=config, seed=0, settings=AttentionMilSettings()
    )
    for epoch in range(20):
        member.run_epoch(epoch)
    with torch.no_grad():
        h = member.networks[0].eval().embed(torch.from_numpy(features))
        weights = bag_softmax(member.attention(h), torch.from_numpy(song)).numpy()
    assert weights[telling].mean() > 0.6
    pooled = member.song_probabilities(np.arange(360), member.probabilities(np.arange(360)))
    assert (pooled[::6].argmax(axis=1) == given[::6]).mean() > 0.9


def test_cost_and_scaling_are_chosen_on_held_out_songs() -> None:
    rng = np.random.default_rng(0)
    labels, part = np.arange(60) % 3, np.arange(60) // 3 % 4
    x = np.eye(3)[labels] * 2 + rng.normal(size=(60, 3))
    chosen, held_out = choose(x, labels, part, classes=3, costs=SvmCompareSettings().costs)
    fitted = chosen.fit(x[part != 2], labels[part != 2])
    np.testing.assert_allclose(held_out[part == 2], decisions(fitted, x[part == 2]))
    two = machine("standard", 1.0).fit(x[labels < 2], labels[labels < 2])
    values = decisions(two, x[labels < 2])
    assert values.shape == (40, 2)
    assert (values.argmax(axis=1) == labels[labels < 2]).mean() > 0.8


def test_methods_that_a_model_folder_cannot_contain_say_so() -> None:
    assert {name for name in METHODS if METHODS[name].not_in_folder} == {"attention-mil", "whole-song", "svm-compare"}


def test_a_package_that_is_missing_is_named() -> None:
    class Needy(Mixup):
        extra = ("no_such_package", "cleanlab")

    with pytest.raises(MissingExtraError, match=r"this method needs packages .*: pip install cleanlab$"):
        Needy.require_extra()
