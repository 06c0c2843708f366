"""The arithmetic of the audit on planted errors: who is suspect, how many labels are wrong, and how sure that is."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from planted import SMALL

from emoseg.auditing.findings import conflicting_labels, conflicting_probability
from emoseg.auditing.judgement import Judgement, LabelledSongs, joined, judge_labels, song_blocks
from emoseg.auditing.probability import PlantedRun, plant_labels, wrong_probability
from emoseg.auditing.rate import estimate_rate
from emoseg.auditing.stretches import find_stretches
from emoseg.auditing.suspicion import held_out_scores, leave_group_out, song_kernel
from emoseg.metrics import auroc
from emoseg.types import Float64, Int64

CLASSES = 3


def song_table(rng: np.random.Generator, songs: int, spread: float = 1.0) -> tuple[Float64, Int64]:
    """Return summaries of songs of three Gaussian classes, and their true labels."""
    true = np.arange(songs) % CLASSES
    means = 2 * np.eye(CLASSES, 8)[true] + spread * rng.normal(size=(songs, 8))
    return np.concatenate([means, rng.normal(size=(songs, 8))], axis=1), true


def flipped(true: Int64, count: int, rng: np.random.Generator) -> Int64:
    given = true.copy()
    rows = rng.permutation(len(true))[:count]
    given[rows] = (true[rows] + rng.integers(1, CLASSES, count)) % CLASSES
    return given


def labelled_songs(rng: np.random.Generator, songs: int, wrong: int) -> tuple[LabelledSongs, NDArray[np.bool_]]:
    true, length = np.arange(songs) % CLASSES, 4
    given = flipped(true, wrong, rng)
    song = np.repeat(np.arange(songs), length)
    features = (3 * np.eye(CLASSES, 8)[true[song]] + rng.normal(size=(len(song), 8))).astype(np.float32)
    each = np.arange(songs)
    return LabelledSongs(features, song, given, CLASSES, each, each // 2), given != true


@pytest.fixture(scope="module")
def judged() -> tuple[LabelledSongs, NDArray[np.bool_], Judgement]:
    songs, wrong = labelled_songs(np.random.default_rng(3), 60, 6)
    return songs, wrong, judge_labels(songs, SMALL, seed=1)


def test_wrong_songs_come_first_and_get_their_true_label_suggested(
    judged: tuple[LabelledSongs, NDArray[np.bool_], Judgement],
) -> None:
    songs, wrong, found = judged
    assert set(np.argsort(-found.p_wrong)[:6]) == set(np.flatnonzero(wrong))
    true = np.arange(60) % CLASSES
    assert (found.suggested[wrong] == true[wrong]).all()
    assert (found.suggested != songs.labels).all()
    assert found.p_wrong.mean() == pytest.approx(found.rate.rate, abs=1e-6)
    assert auroc(wrong[songs.song], found.segment_suspicion) > 0.95
    assert found.networks == 5  # one of the given labels, and four with planted ones
    assert found.agreeing[wrong].max() <= 1
    assert found.agreeing[~wrong].mean() > 4


def test_neighbours_are_songs_of_other_artists(judged: tuple[LabelledSongs, NDArray[np.bool_], Judgement]) -> None:
    songs, _, found = judged
    assert found.neighbours.shape == (60, 5)
    assert (songs.artists[found.neighbours] != songs.artists[:, None]).all()
    assert (found.neighbours % CLASSES == (np.arange(60) % CLASSES)[:, None]).mean() > 0.9


def test_the_judgement_depends_on_the_seed_alone() -> None:
    songs, _ = labelled_songs(np.random.default_rng(4), 24, 2)
    short = SMALL.model_copy(update={"epochs": 2, "members": 2})
    first, again, other = (judge_labels(songs, short, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.p_wrong, again.p_wrong)
    assert np.array_equal(first.segment_p_wrong, again.segment_p_wrong)
    assert not np.array_equal(first.p_wrong, other.p_wrong)


def test_a_group_is_scored_by_a_regression_on_all_other_songs() -> None:
    rng = np.random.default_rng(0)
    summaries, labels = song_table(rng, 30)
    groups = np.arange(30) // 3
    kernel = song_kernel(summaries, labels, CLASSES)
    rows = np.arange(3)
    rest = np.arange(3, 30)
    indicators = np.eye(CLASSES)[labels]
    share = indicators.mean(axis=0)
    dual = np.linalg.solve(kernel[np.ix_(rest, rest)] + 0.5 * np.eye(27), indicators[rest] - share)
    direct = kernel[np.ix_(rows, rest)] @ dual + share
    assert np.allclose(leave_group_out(kernel, labels, groups, CLASSES)[rows], direct)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.2, 0.4])
def test_the_interval_of_the_rate_has_the_true_rate(rate: float) -> None:
    covered, conclusive, estimates = 0, 0, []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        summaries, true = song_table(rng, 240)
        labels = flipped(true, round(rate * 240), rng)
        found = estimate_rate(held_out_scores(summaries, labels, np.arange(240), CLASSES), labels)
        covered += found.low <= rate <= found.high
        estimates.append(found.rate)
        conclusive += found.conclusive
    assert covered >= 17
    assert conclusive >= 10
    assert abs(np.mean(estimates) - rate) < 0.06


def test_few_songs_are_too_few_to_tell() -> None:
    rng = np.random.default_rng(0)
    summaries, true = song_table(rng, 15, spread=2.0)
    labels = flipped(true, 3, rng)
    found = estimate_rate(held_out_scores(summaries, labels, np.arange(15), CLASSES), labels)
    assert not found.conclusive
    assert 0 <= found.low <= found.rate <= found.high <= 2 / 3


def test_probabilities_are_calibrated_by_planted_labels() -> None:
    rng = np.random.default_rng(1)
    wrong = rng.random(4000) < 0.2
    suspicion = rng.normal(size=4000) + 2.0 * wrong

    def run() -> PlantedRun:
        _, planted = plant_labels(np.zeros(4000, dtype=np.int64), CLASSES, rng)
        bad = np.where(planted, rng.random(4000) > 0.1, wrong)  # a planted label is right where the given one is wrong
        return PlantedRun(rng.normal(size=4000) + 2.0 * bad, planted)

    p = wrong_probability(suspicion, [run()], 0.2, CLASSES)
    assert p.mean() == pytest.approx(0.2, abs=1e-6)
    assert (np.diff(p[np.argsort(suspicion)]) >= 0).all()
    for part in np.array_split(np.argsort(p), 5):
        assert p[part].mean() == pytest.approx(wrong[part].mean(), abs=0.06)


def test_planted_labels_differ_from_the_given_ones() -> None:
    labels = np.arange(80) % 4
    changed, planted = plant_labels(labels, 4, np.random.default_rng(0))
    assert planted.sum() == 10
    assert np.array_equal(changed != labels, planted)
    assert set(changed) <= set(range(4))


def test_a_stretch_differs_from_the_rest_of_its_song() -> None:
    song = np.repeat([0, 1, 2], 12)
    held_out = np.tile([0.8, 0.2], (36, 1))
    held_out[4:9] = [0.1, 0.9]  # within a right song
    held_out[12:24] = [0.1, 0.9]  # a song that is wrong as a whole
    held_out[30] = [0.1, 0.9]  # a single segment
    (found,) = find_stretches(held_out, np.zeros(3, dtype=np.int64), song)
    assert (found.song, found.first, found.last, found.label) == (0, 4, 8, 1)


def test_all_copies_of_a_recording_are_compared() -> None:
    found = conflicting_labels(np.array([0, 0, 1, 0, 1]), np.array([7, 7, 7, 8, 9]))
    assert found == {0: [2], 1: [2], 2: [0, 1]}


def test_of_two_labels_for_one_recording_one_is_wrong() -> None:
    p = conflicting_probability(np.array([0.1, 0.4, 0.3]), {0: [1], 1: [0]})
    assert p == pytest.approx([0.1 / 0.46, 0.4 / 0.46, 0.3])
    assert p[0] + p[1] >= 1


def test_groupings_are_joined_and_blocks_keep_groups_whole() -> None:
    group = joined(np.array([0, 0, 1, 2, 3]), np.array([5, 6, 6, 7, 8]))
    assert group.tolist() == [0, 0, 0, 1, 2]
    groups = np.arange(100) // 3
    blocks = song_blocks(groups, 40)
    assert sorted(np.concatenate(blocks).tolist()) == list(range(100))
    assert len(blocks) == 3
    assert max(map(len, blocks)) <= 40
    assert all(len({b for b, rows in enumerate(blocks) if np.isin(groups[rows], g).any()}) == 1 for g in range(34))
