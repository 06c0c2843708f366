from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoseg.errors import ConfigError
from emoseg.evaluation.injected_noise import InjectedLabels, InjectedNoise, inject_noise
from emoseg.types import Int64

K = 4


def segments(songs: int = 50, each: int = 10) -> tuple[Int64, Int64]:
    """Label and song of each segment; neighbouring songs differ in label."""
    song = np.repeat(np.arange(songs), each)
    return song % K, song


def injected(text: str, *, songs: int = 50, each: int = 10, seed: int = 0) -> InjectedLabels:
    labels, song = segments(songs, each)
    return inject_noise(labels, song, InjectedNoise.parse(text), classes=K, rng=np.random.default_rng(seed))


def test_no_noise_changes_nothing() -> None:
    labels, _ = segments()
    out = injected("none")
    assert np.array_equal(out.given, labels)
    assert np.array_equal(out.true, labels)
    assert np.array_equal(out.source, np.arange(500))
    assert not out.wrong.any()


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.25, 0.4, 0.9])
def test_segment_noise_has_the_exact_rate(rate: float) -> None:
    out = injected(f"segment:{rate}")
    labels, _ = segments()
    assert out.wrong.sum() == round(rate * 500)
    assert np.array_equal(out.true, labels)
    assert np.array_equal(out.source, np.arange(500))


def test_segment_noise_goes_to_every_other_label_alike() -> None:
    out = injected("segment:0.9", songs=400)
    moves = np.bincount((out.given - out.true)[out.wrong] % K, minlength=K)
    assert moves[0] == 0
    assert moves[1:] / moves.sum() == pytest.approx([1 / 3] * 3, abs=0.03)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.9])
def test_song_noise_is_constant_in_a_song_and_has_the_exact_rate(rate: float) -> None:
    out = injected(f"song:{rate}")
    given = out.given.reshape(50, 10)
    assert (given == given[:, :1]).all()
    assert (given[:, 0] != np.arange(50) % K).sum() == round(rate * 50)
    assert out.wrong.sum() == 10 * round(rate * 50)
    assert np.array_equal(out.source, np.arange(500))


@pytest.mark.parametrize("each", [1, 2, 5, 10])
def test_splice_replaces_the_second_half_by_sound_of_another_class(each: int) -> None:
    out = injected("splice:0.4", each=each)
    labels, song = segments(50, each)
    assert np.array_equal(out.given, labels), "a spliced song keeps its label"
    assert np.array_equal(out.true, labels[out.source]), "the truth is that of the sound"
    changed = (out.source != np.arange(len(labels))).reshape(50, each)
    spliced = changed.any(axis=1)
    assert spliced.sum() == (round(0.4 * 50) if each > 1 else 0)
    kept = (each + 1) // 2
    assert not changed[:, :kept].any()
    assert changed[spliced, kept:].all()
    assert np.array_equal(out.wrong, changed.ravel())
    for row in np.flatnonzero(spliced):
        donors = song[out.source[row * each + kept : (row + 1) * each]]
        assert len(set(donors.tolist())) == 1
        assert donors[0] % K != row % K


def test_splice_takes_the_donor_in_order_and_repeats_a_short_one() -> None:
    song = np.array([0] * 8 + [1] * 3)
    labels = np.array([0] * 8 + [1] * 3)
    for seed in range(10):
        out = inject_noise(labels, song, InjectedNoise("splice", 0.5), classes=2, rng=np.random.default_rng(seed))
        if out.source[4] != 4:
            assert out.source.tolist() == [0, 1, 2, 3, 8, 9, 10, 8, 8, 9, 10]
            assert out.true.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1]
            return
    pytest.fail("song 0 was never spliced")


@pytest.mark.parametrize("text", ["segment:0.4", "song:0.4", "splice:0.4"])
def test_the_generator_decides(text: str) -> None:
    def seen(seed: int) -> list[int]:
        out = injected(text, seed=seed)
        return [*out.given.tolist(), *out.source.tolist()]

    assert seen(1) == seen(1)
    assert seen(1) != seen(2)


def test_the_labels_handed_in_are_left_alone() -> None:
    labels, song = segments()
    before = labels.copy()
    inject_noise(labels, song, InjectedNoise("song", 0.5), classes=K, rng=np.random.default_rng(0))
    assert np.array_equal(labels, before)


@given(
    st.sampled_from(["segment", "song"]),
    st.integers(0, 9),
    st.lists(st.integers(1, 6), min_size=4, max_size=30),
    st.integers(0, 5),
)
@settings(max_examples=80, deadline=None)
def test_wrong_means_given_differs_from_true(kind: str, tenths: int, sizes: list[int], seed: int) -> None:
    song = np.repeat(np.arange(len(sizes)), sizes)
    labels = song % K
    spec = InjectedNoise.parse(f"{kind}:{tenths / 10}")
    out = inject_noise(labels, song, spec, classes=K, rng=np.random.default_rng(seed))
    assert np.array_equal(out.true, labels)
    assert ((out.given >= 0) & (out.given < K)).all()
    n = len(song) if kind == "segment" else len(sizes)
    units = out.wrong if kind == "segment" else out.wrong[np.cumsum(sizes) - 1]
    assert units.sum() == round(tenths / 10 * n)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("none", InjectedNoise("none", 0.0)),
        ("segment:0.4", InjectedNoise("segment", 0.4)),
        ("song:0", InjectedNoise("song", 0.0)),
        ("splice:.9", InjectedNoise("splice", 0.9)),
    ],
)
def test_parse_and_print(text: str, spec: InjectedNoise) -> None:
    assert InjectedNoise.parse(text) == spec
    assert InjectedNoise.parse(str(spec)) == spec


@pytest.mark.parametrize(
    "text",
    [
        "",
        "segment",
        "segment:",
        "segment:x",
        "segment:-0.1",
        "segment:0.91",
        "segment:nan",
        "song:inf",
        "none:0.2",
        "Segment:0.2",
        "white:0.2",
        ":0.2",
        "segment:40%",
        "segment=0.4",
    ],
)
def test_parse_refuses_with_the_text_and_the_rule(text: str) -> None:
    with pytest.raises(ConfigError, match=f"noise '{text}': must be none, segment:R, song:R or splice:R with R from 0"):
        InjectedNoise.parse(text)
