"""The song model: statistics by hand, the mean as what it falls back to, and honest temperatures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from emoseg.song.blend import SongBase, SongBlend
from emoseg.song.file import song_model_arrays, song_model_from_arrays
from emoseg.song.machine import SongMachine
from emoseg.song.model import SongModel, mean_model
from emoseg.song.regression import PENALTIES, fit_mean_model, fit_song_model, given_likelihood
from emoseg.song.scoring import rows_of_songs, score_song
from emoseg.song.statistics import song_mean, song_statistics, statistics_table, vector_summaries
from emoseg.types import Float64, Int64


def likelihood(probabilities: Float64, labels: Int64) -> float:
    """Return the mean log-likelihood of the labels."""
    return float(np.log(probabilities[np.arange(len(labels)), labels]).mean())


def songs_of(rng: np.random.Generator, labels: Int64, *, strength: float, length: int = 8) -> tuple[Float64, Int64]:
    """Draw segment probabilities that favour each song's label by `strength` logits."""
    song = np.repeat(np.arange(len(labels)), length)
    logits = strength * np.eye(3)[labels[song]] + rng.normal(size=(len(song), 3))
    exp = np.exp(logits)
    return exp / exp.sum(axis=1, keepdims=True), song


def test_statistics_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9], [0.85, 0.15]])
    base, mean, largest, smallest, share, deviation, mean_log = song_statistics(p).reshape(7, 2)
    np.testing.assert_allclose(mean, [0.5875, 0.4125])
    np.testing.assert_allclose(base, np.log([0.5875, 0.4125]))
    np.testing.assert_allclose(largest, [0.9, 0.9])
    np.testing.assert_allclose(smallest, [0.1, 0.1])
    # Han's share of segments above 0.2: three of four, and two of four.
    np.testing.assert_allclose(share, [0.75, 0.5])
    np.testing.assert_allclose(deviation, [np.sqrt(0.10296875)] * 2)
    np.testing.assert_allclose(mean_log[0], np.log(0.9 * 0.5 * 0.1 * 0.85) / 4)


def test_statistics_of_certain_probabilities_are_finite() -> None:
    assert np.isfinite(song_statistics(np.array([[1.0, 0.0, 0.0]]))).all()


def test_the_table_has_a_row_for_each_song() -> None:
    p = np.random.default_rng(0).dirichlet([1, 1, 1], 7)
    song = np.array([0, 0, 1, 1, 1, 2, 2])
    table = statistics_table(p, song, 3)
    assert table.shape == (3, 21)
    np.testing.assert_array_equal(table[1], song_statistics(p[2:5]))


def test_song_mean_spreads_each_songs_mean_over_its_segments() -> None:
    values = np.array([[1.0, 0.0], [3.0, 2.0], [10.0, 20.0]])
    np.testing.assert_array_equal(song_mean(values, np.array([4, 4, 9])), [[2, 1], [2, 1], [10, 20]])
    np.testing.assert_array_equal(song_mean(values, np.array([9, 4, 9])), [[5.5, 10], [3, 2], [5.5, 10]])


@given(st.integers(0, 1000), st.integers(1, 30), st.integers(2, 6))
def test_the_mean_model_is_the_mean_probability(seed: int, segments: int, classes: int) -> None:
    p = np.random.default_rng(seed).dirichlet(np.full(classes, 2.0), segments)
    clipped = np.clip(p, 1e-4, 1).mean(axis=0)
    np.testing.assert_allclose(mean_model(classes).predict(p), clipped / clipped.sum(), rtol=1e-9)
    np.testing.assert_allclose(mean_model(classes).predict(p), p.mean(axis=0), atol=1e-3)


def test_without_information_a_fit_stays_near_the_mean() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    p, song = songs_of(rng, rng.integers(0, 3, 90), strength=0.0)
    table = statistics_table(p, song, 90)
    fitted = fit_song_model(table, labels, classes=3, folds=np.arange(90) % 5)
    uniform = fitted.model.predict_table(table)
    assert np.abs(uniform - 1 / 3).max() < 0.15
    assert np.abs(fitted.model.weights).max() < 0.1
    assert likelihood(fitted.held_out, labels) > np.log(1 / 3) - 0.05


def test_with_the_mean_as_the_truth_a_fit_departs_little_from_it() -> None:
    """Labels drawn from the mean probability itself: nothing else in the statistics can help."""
    rng = np.random.default_rng(1)
    p, song = songs_of(rng, rng.integers(0, 3, 300), strength=1.5)
    table = statistics_table(p, song, 300)
    mean = mean_model(3).predict_table(table)
    labels = np.array([rng.choice(3, p=row) for row in mean])
    fitted = fit_song_model(table, labels, classes=3, folds=np.arange(300) % 5)
    assert np.abs(fitted.model.predict_table(table) - mean).mean() < 0.06
    assert likelihood(fitted.held_out, labels) > likelihood(mean, labels) - 0.03


def swinging_songs() -> tuple[Float64, Int64]:
    rng = np.random.default_rng(2)
    labels = np.arange(80) % 2
    song = np.repeat(np.arange(80), 10)
    swing = np.where(labels[song] == 1, 0.4, 0.05) * np.tile([1, -1], 400)
    first = np.clip(0.5 + swing + 0.03 * rng.normal(size=800), 0.01, 0.99)
    return statistics_table(np.stack([first, 1 - first], axis=1), song, 80), labels


def noisy_songs() -> tuple[Float64, Int64]:
    rng = np.random.default_rng(6)
    labels = np.arange(80) % 2
    p, song = songs_of(rng, labels, strength=0.2)
    return statistics_table(p[:, :2] / p[:, :2].sum(axis=1, keepdims=True), song, 80), labels


def test_a_fit_finds_what_the_mean_cannot_see() -> None:
    """Both labels have the same mean probability; one label's songs are steady, the other's swing."""
    table, labels = swinging_songs()
    fitted = fit_song_model(table, labels, classes=2, folds=np.arange(80) // 2 % 5)
    assert (fitted.held_out.argmax(axis=1) == labels).mean() > 0.95
    assert (mean_model(2).predict_table(table).argmax(axis=1) == labels).mean() < 0.75


def test_held_out_songs_are_judged_by_models_that_did_not_see_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emoseg.song.regression.PENALTIES", (6.0,))
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 60)
    p, song = songs_of(rng, labels, strength=0.5)
    table = statistics_table(p, song, 60)
    folds = np.arange(60) % 4
    before = fit_song_model(table, labels, classes=3, folds=folds)
    # A song's own label must not reach its held-out probabilities but through the shared temperature.
    flipped = labels.copy()
    flipped[5] = (labels[5] + 1) % 3
    after = fit_song_model(table, flipped, classes=3, folds=folds)
    own, others = folds == folds[5], folds != folds[5]

    def logits(p: Float64) -> Float64:
        log = np.log(p)
        return np.asarray(log - log.mean(axis=1, keepdims=True))

    first, second = logits(before.held_out), logits(after.held_out)
    ratio = second[own] / first[own]
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=1e-6)
    assert np.ptp(second[others] / first[others]) > 1e-3
    np.testing.assert_allclose(before.held_out.sum(axis=1), 1.0)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_temperature_repairs_planted_confidence(factor: float) -> None:
    rng = np.random.default_rng(4)
    honest = rng.dirichlet([1.0, 1.0, 1.0], 3000)
    labels = np.array([rng.choice(3, p=row) for row in honest])
    spoilt = honest**factor / (honest**factor).sum(axis=1, keepdims=True)
    table = np.stack([song_statistics(row[None]) for row in spoilt])
    model = fit_mean_model(table, labels, classes=3)
    assert model.temperature == pytest.approx(factor, rel=0.1)
    repaired = model.predict_table(table)
    untouched = mean_model(3).predict_table(table)
    assert likelihood(repaired, labels) > likelihood(untouched, labels) + 0.02
    np.testing.assert_array_equal(repaired.argmax(axis=1), untouched.argmax(axis=1))


@pytest.mark.parametrize("kind", ["mean", "song"])
def test_wrong_labels_do_not_make_a_model_unsure_where_their_share_is_known(kind: str) -> None:
    rng = np.random.default_rng(14)
    honest = rng.dirichlet([0.4, 0.4, 0.4], 3000)
    true = np.array([rng.choice(3, p=row) for row in honest])
    given_labels = np.where(rng.random(3000) < 0.3, (true + rng.integers(1, 3, 3000)) % 3, true)
    table = np.stack([song_statistics(row[None]) for row in honest])

    def fitted(rate: float) -> SongModel:
        if kind == "mean":
            return fit_mean_model(table, given_labels, classes=3, song_rate=rate)
        return fit_song_model(table, given_labels, classes=3, folds=np.arange(3000) % 4, song_rate=rate).model

    knowing, blind = fitted(0.3), fitted(0.0)
    assert likelihood(knowing.predict_table(table), true) > likelihood(blind.predict_table(table), true) + 0.05
    assert likelihood(knowing.predict_table(table), true) > likelihood(mean_model(3).predict_table(table), true) - 0.01


def test_the_temperature_of_a_fit_comes_from_songs_it_did_not_see() -> None:
    """Pure noise with many statistics: in-sample a weakly penalised regression looks sure, held out it must not be."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, 40)
    p, song = songs_of(rng, rng.integers(0, 3, 40), strength=3.0)
    table = statistics_table(p, song, 40)
    fitted = fit_song_model(table, labels, classes=3, folds=np.arange(40) % 5)
    assert likelihood(fitted.held_out, labels) > -1.3
    assert fitted.model.temperature > 2


@pytest.mark.parametrize(("songs", "chosen"), [(swinging_songs, min(PENALTIES)), (noisy_songs, max(PENALTIES))])
def test_the_penalty_is_chosen_by_held_out_likelihood(
    songs: Callable[[], tuple[Float64, Int64]], chosen: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, labels = songs()
    folds = np.arange(80) // 2 % 5
    fitted = fit_song_model(table, labels, classes=2, folds=folds)
    alone = {}
    for penalty in PENALTIES:
        monkeypatch.setattr("emoseg.song.regression.PENALTIES", (penalty,))
        alone[penalty] = fit_song_model(table, labels, classes=2, folds=folds)
    scores = {penalty: likelihood(fit.held_out, labels) for penalty, fit in alone.items()}
    assert max(scores, key=lambda penalty: scores[penalty]) == chosen
    np.testing.assert_array_equal(fitted.held_out, alone[chosen].held_out)
    np.testing.assert_array_equal(fitted.model.weights, alone[chosen].model.weights)


def test_a_fit_minimises_its_penalised_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emoseg.song.regression.PENALTIES", (24.0,))
    table, labels = swinging_songs()
    model = fit_song_model(table, labels, classes=2, folds=np.arange(80) // 2 % 5).model
    np.testing.assert_allclose(model.mean, table[:, 2:].mean(axis=0))

    def penalised(weights: Float64, bias: Float64) -> float:
        logits = table[:, :2] + (table[:, 2:] - model.mean) / model.scale @ weights + bias
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        size = (weights**2).sum() + (bias**2).sum()
        return float(-log_p[np.arange(80), labels].mean() + 24 / 80 * size / 2)

    least = penalised(model.weights, model.bias)
    rng = np.random.default_rng(0)
    for _ in range(200):
        step, shift = 0.02 * rng.normal(size=model.weights.shape), 0.02 * rng.normal(size=2)
        assert penalised(model.weights + step, model.bias + shift) > least
    assert least < penalised(0 * model.weights, 0 * model.bias) - 0.1


def test_a_model_survives_its_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    model = SongModel(
        rng.normal(size=18), rng.uniform(0.5, 2, 18), rng.normal(size=(18, 3)), rng.normal(size=3), 1.0 / 3.0
    )
    save_file(song_model_arrays(model), tmp_path / "song.safetensors")
    back = song_model_from_arrays(load_file(tmp_path / "song.safetensors"))
    assert back.temperature == model.temperature
    table = rng.normal(size=(5, 21))
    np.testing.assert_array_equal(back.predict_table(table), model.predict_table(table))
    assert len(np.unique(back.predict_table(table))) == 15


# --- machines, blends and the one scoring path, by hand ---------------------------------------------------------------

MACHINE = SongMachine(
    mean=np.array([1.0, 0.0]),
    scale=np.array([2.0, np.inf]),
    relevance=np.array([0.5, 1.0]),
    gamma=0.3,
    support=np.array([[0.5, 0.0], [-1.0, 0.0]]),
    weights=np.array([[1.0, -0.5, 0.25], [-0.5, 0.75, 1.0]]),
    bias=np.array([0.1, -0.2, 0.3]),
)
BLENDED = SongModel(
    mean=np.zeros(18),
    scale=np.full(18, 2.0),
    weights=np.full((18, 3), 0.1) * np.array([1.0, 0.0, -1.0]),
    bias=np.array([0.2, 0.0, -0.1]),
    temperature=1.5,
    base=SongBase(MACHINE, SongBlend(0.8, 0.4)),
)
SEGMENTS = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
VECTORS = {"first": np.array([[3.0], [5.0]]), "picture": np.zeros((2, 3, 4))}


def votes_by_hand(x: float) -> Float64:
    """Return the votes on a song of which the first standardised, weighted summary is `x`."""
    kernel = np.exp(-0.3 * np.array([(x - 0.5) ** 2, (x + 1.0) ** 2]))
    first_second, first_third, second_third = np.tanh(3 * (kernel @ MACHINE.weights + MACHINE.bias))
    return np.array([first_second + first_third, second_third - first_second, -first_third - second_third])


def test_machines_vote_in_pairs_with_saturated_decisions() -> None:
    votes = MACHINE.votes(np.array([[4.0, 9.0], [-3.0, 0.0], [1000.0, 0.0]]))
    np.testing.assert_allclose(votes, [votes_by_hand(0.75), votes_by_hand(-1.0), votes_by_hand(2.5)], rtol=1e-12)
    assert np.abs(votes).max() < 2


def test_a_blend_is_the_softmax_of_weighted_log_means_and_votes() -> None:
    means, votes = np.array([[0.5, 0.5, 0.0]]), np.array([[1.0, -1.0, 0.5]])
    logits = 0.8 * np.log([0.5, 0.5, 1e-4]) + 0.4 * votes[0]
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(SongBlend(0.8, 0.4).probabilities(means, votes)[0], expected, rtol=1e-12)


def test_a_song_is_scored_from_its_segments_and_their_vectors() -> None:
    # The summary is a mean of 4 and a deviation of 1; the first is standardised to 1.5 and weighted to 0.75.
    logits = 0.8 * np.log([0.4, 0.5, 0.1]) + 0.4 * votes_by_hand(0.75)
    base = np.exp(logits) / np.exp(logits).sum()
    rest = song_statistics(SEGMENTS)[3:] / 2 * 0.1
    raw = np.log(base) + rest.sum() * np.array([1.0, 0.0, -1.0]) + [0.2, 0.0, -0.1]
    expected = np.exp(raw / 1.5) / np.exp(raw / 1.5).sum()
    np.testing.assert_allclose(score_song(BLENDED, SEGMENTS, VECTORS), expected, rtol=1e-12)


def test_summaries_hold_all_means_and_then_all_deviations_of_vectors() -> None:
    features = {
        "a": np.array([[1.0, 2], [3, 2], [7, 8]]),
        "picture": np.ones((3, 2, 2)),
        "b": np.array([[4.0], [8], [9]]),
    }
    song = np.array([0, 0, 1])
    np.testing.assert_array_equal(vector_summaries(features, song), [[2, 2, 6, 1, 0, 2], [7, 8, 9, 0, 0, 0]])
    with pytest.raises(ValueError, match=r"needs features that are vectors; there are none in \['picture'\]"):
        vector_summaries({"picture": np.ones((3, 2, 2))}, song)


def test_a_model_with_a_base_refuses_to_do_without_its_summary() -> None:
    with pytest.raises(ValueError, match="needs features that are vectors"):
        score_song(BLENDED, SEGMENTS, {"picture": VECTORS["picture"]})
    with pytest.raises(ValueError, match="needs the song's summary"):
        BLENDED.statistics(SEGMENTS)
    with pytest.raises(ValueError, match="accepts no other probabilities"):
        BLENDED.predict(SEGMENTS, np.array([4.0, 1.0]), own=np.array([0.2, 0.3, 0.5]))
    assert score_song(mean_model(3), SEGMENTS, {}).sum() == pytest.approx(1)


def test_own_probabilities_of_a_song_replace_the_mean() -> None:
    own = np.array([0.2, 0.3, 0.5])
    np.testing.assert_allclose(mean_model(3, temperature=1.0).predict(SEGMENTS, own=own), own, rtol=1e-12)
    np.testing.assert_allclose(mean_model(3).statistics(SEGMENTS, own=own)[3:], song_statistics(SEGMENTS)[3:])


def test_rows_of_songs_are_those_of_each_song() -> None:
    assert rows_of_songs(np.array([0, 0, 3, 4, 4])) == [slice(0, 2), slice(2, 3), slice(3, 5)]


def test_the_likelihood_of_given_labels_counts_wrong_ones() -> None:
    log_p, labels = np.log([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]), np.array([0, 1])
    logs, trust = given_likelihood(log_p, labels, 0.3)
    # (1 - e) q + e / (K - 1) (1 - q)
    np.testing.assert_allclose(np.exp(logs), [0.7 * 0.7 + 0.15 * 0.3, 0.7 * 0.1 + 0.15 * 0.9], rtol=1e-12)
    np.testing.assert_allclose(trust, [0.55 * 0.7 / 0.535, 0.55 * 0.1 / 0.205], rtol=1e-12)
    certain, ones = given_likelihood(log_p, labels, 0.0)
    np.testing.assert_allclose(certain, np.log([0.7, 0.1]), rtol=1e-12)
    assert ones.tolist() == [1, 1]
