"""Cross-fitting: what is held out is held out, same seed same bytes, and a killed run goes on to the same result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import SMALL, blobs
from safetensors.numpy import load_file, save_file

from emoseg.config import LearningConfig, MethodSettings, NetworkConfig
from emoseg.corpora.splits import song_folds
from emoseg.errors import EmosegError, EmosegWarning
from emoseg.learning.cross_fit import SegmentFit, cross_fit
from emoseg.learning.methods.inherit import MixupTrainer
from emoseg.learning.methods.sssl import SsslSettings, SsslTrainer
from emoseg.learning.saved_passes import load_passes, save_pass
from emoseg.learning.trainer import NO_SETTINGS, State, Trainer
from emoseg.learning.training_set import TrainingSet
from emoseg.system.files import write_whole
from emoseg.types import Float64, Int64

TINY = LearningConfig(
    epochs=5,
    batch=16,
    learning_rate=3e-3,
    members=3,
    network=NetworkConfig(hidden=(16,), channels=(4, 8)),
)
SSSL = SsslSettings(warmup_epochs=2)
SONGS, LENGTH = 24, 4


class KilledError(Exception):
    """Stands for a killed process."""


def small_set(seed: int = 0, *, spectrograms: bool = False) -> TrainingSet:
    rng = np.random.default_rng(seed)
    song = np.repeat(np.arange(SONGS), LENGTH)
    given = song % 3
    features = 2 * np.eye(3, 6)[given] + rng.normal(size=(len(song), 6))
    if spectrograms:
        features = np.repeat(features, 3, axis=1)[:, :16, None] + rng.normal(size=(len(song), 16, 40))
    return TrainingSet({"x": features.astype(np.float32)}, given, song, [f"artist {i // 2}" for i in range(SONGS)], 3)


def fit_of(
    data: TrainingSet | None = None,
    *,
    trainer: type[Trainer] = SsslTrainer,
    seed: int = 7,
    work: Path | None = None,
    workers: int = 1,
    on_epoch: Callable[[], None] | None = None,
) -> SegmentFit:
    return cross_fit(
        data or small_set(),
        "x",
        trainer=trainer,
        settings=SSSL if trainer is SsslTrainer else NO_SETTINGS,
        config=TINY,
        seed=seed,
        work=work,
        workers=workers,
        on_epoch=on_epoch,
    )


def contents(fit: SegmentFit) -> dict[str, object]:
    """Return everything in a fit as bytes and plain values."""
    return {
        "states": [{k: (v.shape, v.dtype.str, v.tobytes()) for k, v in state.items()} for state in fit.states],
        "epoch": fit.epoch,
        "out_of_fold": fit.out_of_fold.tobytes(),
        "guesses": None if fit.guesses is None else fit.guesses.tobytes(),
        "clean": fit.clean.tobytes(),
        "history": fit.history,
        "scores": fit.scores,
    }


@pytest.fixture(scope="module")
def uninterrupted() -> dict[str, object]:
    return contents(fit_of())


def kill_after(passes: int) -> Callable[[], None]:
    left = iter(range(passes - 1))

    def on_epoch() -> None:
        if next(left, None) is None:
            raise KilledError

    return on_epoch


def kill(work: Path, *, passes: int) -> None:
    """Start a run and kill it after so many passes, counted over members."""
    with pytest.raises(KilledError):
        fit_of(work=work, on_epoch=kill_after(passes))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(uninterrupted: dict[str, object]) -> None:
    assert contents(fit_of()) == uninterrupted
    other = contents(fit_of(seed=8))
    assert other["states"] != uninterrupted["states"]
    assert other["out_of_fold"] != uninterrupted["out_of_fold"]


def test_the_number_of_workers_changes_nothing(uninterrupted: dict[str, object]) -> None:
    reported: list[int] = []
    fit = fit_of(workers=2, on_epoch=lambda: reported.append(1))
    assert contents(fit) == uninterrupted
    assert len(reported) == TINY.members * TINY.epochs


@pytest.mark.parametrize("passes", [3, TINY.epochs, TINY.epochs + 3])
def test_a_killed_run_goes_on_to_the_same_result(
    passes: int, tmp_path: Path, uninterrupted: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(tmp_path, passes=passes)
    learnt: list[int] = []
    run_epoch = Trainer.run_epoch

    def counted(self: Trainer, epoch: int) -> dict[str, Any]:
        learnt.append(epoch)
        return run_epoch(self, epoch)

    monkeypatch.setattr(Trainer, "run_epoch", counted)
    reported: list[int] = []
    fit = fit_of(work=tmp_path, on_epoch=lambda: reported.append(1))
    assert contents(fit) == uninterrupted
    assert len(learnt) == TINY.members * TINY.epochs - passes, "finished passes must not be learnt again"
    assert len(reported) == TINY.members * TINY.epochs


def test_a_finished_run_is_read_back(tmp_path: Path, uninterrupted: dict[str, object]) -> None:
    assert contents(fit_of(work=tmp_path)) == uninterrupted
    files = {f.relative_to(tmp_path): f.stat().st_mtime_ns for f in tmp_path.rglob("*.safetensors")}
    assert len(files) == TINY.members * TINY.epochs
    assert contents(fit_of(work=tmp_path)) == uninterrupted
    assert {f.relative_to(tmp_path): f.stat().st_mtime_ns for f in tmp_path.rglob("*.safetensors")} == files
    assert not list(tmp_path.rglob(".emoseg-*"))


def test_only_the_last_pass_keeps_the_moments(tmp_path: Path) -> None:
    fit_of(work=tmp_path)
    for member in range(TINY.members):
        with_moments = [
            any(k.startswith("optimiser") for k in load_file(tmp_path / f"member{member}" / f"{e:04d}.safetensors"))
            for e in range(TINY.epochs)
        ]
        assert with_moments == [False] * (TINY.epochs - 1) + [True]


@pytest.mark.parametrize(
    ("damage", "workers"),
    [
        ("cut", 1),
        ("empty", 1),
        ("garbage", 1),
        ("one bit", 1),
        pytest.param("one bit", 2, marks=pytest.mark.slow),
        ("no record", 1),
        ("other record", 1),
        ("folder", 1),
        ("no moments", 1),
        ("missing in between", 1),
    ],
)
def test_a_damaged_pass_is_learnt_again(
    damage: str, workers: int, tmp_path: Path, uninterrupted: dict[str, object]
) -> None:
    kill(tmp_path, passes=TINY.epochs + 3)
    last = tmp_path / "member1" / "0002.safetensors"
    whole = last.read_bytes()
    if damage == "cut":
        last.write_bytes(whole[: len(whole) // 2])
    elif damage == "empty":
        last.write_bytes(b"")
    elif damage == "garbage":
        last.write_bytes(b"\xff" * len(whole))
    elif damage == "no moments":
        state, record = load_passes(last.parent)[0][-1], load_passes(last.parent)[1][-1]
        save_pass(last.parent, 3, state, record)
        last.with_name("0003.safetensors").unlink()
    elif damage == "one bit":
        last.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    elif damage == "no record":
        save_file(load_file(last), last)
    elif damage == "other record":
        save_file(load_file(last), last, metadata={"pass": "[1, 2]"})
    elif damage == "folder":
        last.unlink()
        (last / "inside").mkdir(parents=True)
    else:
        last.with_name("0001.safetensors").unlink()
    if damage in ("no moments", "missing in between"):
        assert contents(fit_of(work=tmp_path, workers=workers)) == uninterrupted
    else:
        with pytest.warns(EmosegWarning, match=r"member1/0002\.safetensors: is damaged; it is learnt again"):
            assert contents(fit_of(work=tmp_path, workers=workers)) == uninterrupted
    assert contents(fit_of(work=tmp_path)) == uninterrupted


def test_a_run_killed_between_two_writes_goes_on(
    tmp_path: Path, uninterrupted: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third write is of the first pass without its moments, after the second pass was written."""
    write, calls = write_whole, iter(range(2))

    def killed(file: Path, data: bytes) -> None:
        if next(calls, None) is None:
            raise KilledError
        write(file, data)

    with monkeypatch.context() as patched:
        patched.setattr("emoseg.learning.saved_passes.write_whole", killed)
        with pytest.raises(KilledError):
            fit_of(work=tmp_path)
    assert contents(fit_of(work=tmp_path)) == uninterrupted


def test_a_file_that_was_being_written_is_ignored(tmp_path: Path, uninterrupted: dict[str, object]) -> None:
    kill(tmp_path, passes=2)
    (tmp_path / "member0" / ".emoseg-0123.tmp").write_bytes(b"half a fi")
    assert contents(fit_of(work=tmp_path)) == uninterrupted
    assert not list(tmp_path.rglob(".emoseg-*"))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_loss_that_is_not_finite_ends_the_training_at_that_pass(workers: int, tmp_path: Path) -> None:
    data = small_set()
    config = TINY.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(EmosegError, match=r"^member \d of 3, pass 1 of 5: .* try a lower learning rate$"):
        cross_fit(data, "x", trainer=MixupTrainer, config=config, seed=7, work=tmp_path, workers=workers)
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not list(tmp_path.glob(".emoseg-*"))
    data.features["x"][5, 2] = np.nan
    with pytest.raises(EmosegError, match=r"^member \d of 3, pass 1 of 5: "):
        fit_of(data, workers=workers)


def test_a_guess_that_is_not_finite_is_reported_with_its_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def guesses(self: SsslTrainer) -> Float64:
        return np.full((len(self.rows), self.classes), np.inf if self.evidence_passes > 1 else 1 / 3)

    monkeypatch.setattr(SsslTrainer, "guesses", guesses)
    with pytest.raises(EmosegError, match=r"^member 1 of 3, pass 4 of 5: a guessed label is not finite$"):
        fit_of()  # two passes of warm-up, and the second one after them


def test_networks_that_do_not_fit_into_the_memory_are_one_line() -> None:
    config = TINY.model_copy(update={"network": NetworkConfig(hidden=(10**14,))})
    with pytest.raises(EmosegError, match=r"^the networks cannot be made with these settings: [^\n]+$"):
        cross_fit(small_set(), "x", trainer=MixupTrainer, config=config, seed=7)


def test_a_full_disk_is_one_line_and_leaves_no_half_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: dict[str, object]
) -> None:
    write, calls = Path.write_bytes, iter(range(4))

    def full(path: Path, data: bytes) -> int:
        if next(calls, None) is None:
            write(path, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return write(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(EmosegError, match=r"\d{4}\.safetensors: cannot be written: No space left on device"):
            fit_of(work=tmp_path)
    assert not list(tmp_path.rglob(".emoseg-*"))
    assert contents(fit_of(work=tmp_path)) == uninterrupted


def test_a_full_disk_for_the_features_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("emoseg.learning.processes._save_array", full)
    with pytest.raises(EmosegError, match=f"^{tmp_path}: cannot be written: No space left on device$"):
        fit_of(work=tmp_path, workers=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_baseline_and_the_convolutional_network_resume_too(tmp_path: Path) -> None:
    data = small_set(spectrograms=True)
    for trainer in (MixupTrainer, SsslTrainer):
        whole = contents(fit_of(data, trainer=trainer))
        work = tmp_path / trainer.__name__
        with pytest.raises(KilledError):
            fit_of(data, trainer=trainer, work=work, on_epoch=kill_after(4))
        assert contents(fit_of(data, trainer=trainer, work=work)) == whole


def test_saved_scalars_stay_scalars(tmp_path: Path) -> None:
    state: State = {"count": np.array(3), "optimiser0/0/step": np.array(4.0, dtype=np.float32), "w": np.eye(2)[:, ::-1]}
    save_pass(tmp_path, 0, state, {"epoch": 0, "loss": 0.1})
    (back,), (record,) = load_passes(tmp_path)
    assert {k: v.shape for k, v in back.items()} == {k: v.shape for k, v in state.items()}
    np.testing.assert_array_equal(back["w"], state["w"])
    assert record == {"epoch": 0, "loss": 0.1}


def test_a_file_of_another_kind_is_no_saved_pass(tmp_path: Path) -> None:
    save_file({"x": np.zeros(2)}, tmp_path / "0000.safetensors", metadata={"record": "{}"})
    assert load_passes(tmp_path) == ([], [])
    assert load_passes(None) == ([], [])


def test_a_member_is_never_trained_on_its_own_part() -> None:
    data = small_set()
    part = song_folds(data.song_labels(), data.groups, folds=TINY.members, seed=7)[data.song]
    features = data.features["x"].copy()
    features[part == 1] += 1.0
    changed = replace(data, features={"x": features})
    before, after = (fit_of(d, trainer=MixupTrainer).history for d in (data, changed))
    assert after[1] == before[1]
    assert after[0] != before[0]
    assert after[2] != before[2]
    for artist in range(SONGS // 2):
        assert len(set(part[np.isin(data.song, [2 * artist, 2 * artist + 1])])) == 1


def test_members_and_seeds_share_no_randomness(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []

    class Listening(MixupTrainer):
        def __init__(self, *args: Any, seed: int, **options: Any) -> None:
            seeds.append(seed)
            super().__init__(*args, seed=seed, **options)

    for seed in range(3):
        fit_of(trainer=Listening, seed=seed)
    assert len(set(seeds)) == 3 * TINY.members


def test_out_of_fold_probabilities_are_those_of_the_member_left_out() -> None:
    data = small_set()
    fit = fit_of(data)
    part = song_folds(data.song_labels(), data.groups, folds=TINY.members, seed=7)[data.song]
    for m, state in enumerate(fit.states):
        np.testing.assert_array_equal(fit.out_of_fold[part == m], state["held_out"])
    np.testing.assert_allclose(fit.out_of_fold.sum(axis=1), 1.0, atol=1e-6)


class Planted(MethodSettings):
    """Which songs a member predicts correctly after each pass, and the clean probability that it reports."""

    right: tuple[tuple[bool, ...], ...]
    clean: tuple[float, ...]


class PlantedTrainer(Trainer):
    settings: Planted

    def learn(self, epoch: int) -> dict[str, Any]:
        self.epoch = epoch
        return {}

    def probabilities(self, rows: Int64) -> Float64:
        right = np.array(self.settings.right[self.epoch])[rows]
        return 0.2 + 0.6 * np.eye(2)[np.where(right, self.given[rows], 1 - self.given[rows])]

    def clean(self) -> Float64:
        value = self.settings.clean[self.epoch]
        return np.where(self.song[self.rows] % 2 == 0, value, value / 2)


def planted_fit(right: list[list[bool]], clean: list[float], *, early_share: float = 2 / 3) -> SegmentFit:
    """Cross-fit two members on four songs of one segment, which are predicted correctly or not after each pass."""
    data = TrainingSet({"x": np.zeros((4, 1), np.float32)}, np.array([0, 1, 0, 1]), np.arange(4), list("abcd"), 2)
    config = TINY.model_copy(update={"members": 2, "epochs": len(right)})
    settings = Planted.model_validate({"right": right, "clean": clean})
    return cross_fit(
        data, "x", trainer=PlantedTrainer, settings=settings, config=config, seed=0, early_share=early_share
    )


def test_the_chosen_pass_is_the_best_of_the_smoothed_scores() -> None:
    none, two, three, four = [False] * 4, [True, False, False, True], [True, True, True, False], [True] * 4
    fit = planted_fit([none, four, none, three, three, three, two], [1.0, 1.0, 0.9, 0.8, 0.6, 0.5, 0.4])
    expected = [0.0, 1.0, 0.0, 11 / 15, 11 / 15, 11 / 15, 0.5]
    np.testing.assert_allclose(fit.scores, expected)
    assert fit.epoch == 4, "one lucky pass must not win over three good ones"
    np.testing.assert_allclose(fit.out_of_fold.argmax(axis=1), [0, 1, 0, 0])
    np.testing.assert_allclose([np.nanmax(state["clean"]) for state in fit.states], 0.6)


def test_the_first_and_the_last_pass_are_smoothed_as_if_repeated() -> None:
    right, wrong, half = [True] * 4, [False] * 4, [True, True, False, False]
    assert planted_fit([right, wrong, half, half], [1.0] * 4).epoch == 0
    assert planted_fit([half, half, wrong, right], [1.0] * 4).epoch == 3


def test_labels_are_judged_by_all_passes_even_where_an_early_one_is_chosen() -> None:
    right = [[True] * 4, [True] * 4, [False] * 4, [False] * 4]
    fit = planted_fit(right, [1.0, 1.0, 0.6, 0.4])
    assert fit.epoch == 0
    np.testing.assert_allclose(fit.clean, [0.4, 0.2, 0.4, 0.2])
    np.testing.assert_allclose(fit.early_clean, [0.6, 0.3, 0.6, 0.3], err_msg="the third of four passes")


@pytest.mark.parametrize(("share", "expected"), [(0.25, 1.0), (0.26, 0.8), (0.5, 0.8), (1.0, 0.4)])
def test_early_evidence_is_of_a_share_of_the_passes_rounded_up(share: float, expected: float) -> None:
    fit = planted_fit([[True] * 4] * 4, [1.0, 0.8, 0.6, 0.4], early_share=share)
    np.testing.assert_allclose(fit.early_clean[[0, 2]], expected)


def test_a_mean_over_members_leaves_out_those_that_do_not_know_a_segment() -> None:
    """With three members each segment is learnt by two; with unlabelled songs, by all or none."""
    data = small_set()
    given = np.where(data.song < 3, -1, data.given)
    fit = fit_of(replace(data, given=given))
    assert np.isnan(fit.clean[data.song < 3]).all()
    assert np.isfinite(fit.clean[data.song >= 3]).all()
    assert fit.guesses is not None
    assert np.isfinite(fit.guesses).all(), "the semi-supervised method guesses labels of unlabelled segments too"
    np.testing.assert_allclose(fit.guesses.sum(axis=1), 1.0, atol=1e-5)
    assert np.isnan(fit.out_of_fold[data.song < 3]).all()


def test_only_the_segments_that_may_be_learnt_from_are() -> None:
    data = small_set()
    rows = np.flatnonzero(np.arange(len(data.given)) % 4 != 0)

    def fit(data: TrainingSet) -> SegmentFit:
        return cross_fit(data, "x", trainer=MixupTrainer, config=TINY, seed=7, rows=rows)

    features = data.features["x"].copy()
    features[::4] += 5.0
    first, second = fit(data), fit(replace(data, features={"x": features}))
    assert first.history == second.history
    assert np.isnan(first.clean[::4]).all()
    assert np.isfinite(first.clean[rows]).all()


def test_a_song_has_the_label_of_most_of_its_segments() -> None:
    data = TrainingSet({}, np.array([0, 2, 2, 1, 0, 0]), np.array([0, 0, 0, 1, 1, 1]), ["a", "b"], 3)
    np.testing.assert_array_equal(data.song_labels(), [2, 0])


def test_soft_labels_are_learnt_unless_there_are_targets() -> None:
    data, config = blobs(0).training_set(), SMALL.model_copy(update={"members": 2})
    one_hot = np.eye(3)[data.given]
    soft = 0.6 * one_hot + 0.4 * np.roll(one_hot, 1, axis=1)

    def fit(data: TrainingSet, targets: Float64 | None = None) -> SegmentFit:
        return cross_fit(data, "blobs", trainer=MixupTrainer, config=config, seed=7, targets=targets)

    hard, softly = fit(data), fit(replace(data, soft=soft))
    assert contents(softly) == contents(fit(data, soft))
    assert contents(softly) != contents(hard)
    # Where a method asks for other targets, these hold; and held-out scores go by the given labels in any case.
    assert contents(fit(replace(data, soft=soft), one_hot)) == contents(hard)
    assert max(hard.scores) > 0.9
    assert max(fit(replace(data, soft=np.roll(one_hot, 1, axis=1))).scores) < 0.5


def test_early_clean_probabilities_are_those_of_a_shorter_run() -> None:
    data = blobs(0, stretches=0.5).training_set()

    def fit(**options: float) -> SegmentFit:
        return cross_fit(data, "blobs", trainer=MixupTrainer, config=SMALL, seed=0, **options)  # type: ignore[arg-type]

    default, short, whole = fit(), fit(early_share=0.25), fit(early_share=1.0)
    np.testing.assert_array_equal(default.early_clean, fit(early_share=2 / 3).early_clean)
    np.testing.assert_array_equal(whole.early_clean, whole.clean)
    assert not np.array_equal(default.early_clean, default.clean)
    # The clean probability of a plain trainer is a mean over passes: that after 3 of 12 passes is from 3 passes.
    passes = cross_fit(data, "blobs", trainer=MixupTrainer, config=SMALL, seed=0, early_share=0.26)
    assert not np.array_equal(short.early_clean, passes.early_clean)
