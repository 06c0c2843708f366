from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoseg.corpora.splits import labelled_share, song_folds
from emoseg.errors import CorpusError
from emoseg.types import Int64


def corpus(songs: int, *, classes: int = 4, artists: int | None = None, seed: int = 0) -> tuple[Int64, list[str]]:
    """Labels in uneven proportion (1 : 2 : ...), artists of uneven size."""
    rng = np.random.default_rng(seed)
    shares = np.arange(1, classes + 1) / np.arange(1, classes + 1).sum()
    labels = rng.choice(classes, songs, p=shares)
    names = [f"artist:{int(artists * u**2)}" for u in rng.random(songs)] if artists else [str(i) for i in range(songs)]
    return labels.astype(np.int64), names


@pytest.mark.parametrize("folds", [2, 5, 10])
def test_songs_without_artists_fall_evenly(folds: int) -> None:
    labels, groups = corpus(400)
    part = song_folds(labels, groups, folds=folds, seed=0)
    assert part.shape == (400,)
    for k in range(4):
        counts = np.bincount(part[labels == k], minlength=folds)
        assert counts.max() - counts.min() <= 1, (k, counts)


def test_labels_keep_their_proportion_with_artists() -> None:
    labels, groups = corpus(720, artists=500)
    part = song_folds(labels, groups, folds=5, seed=0)
    whole = np.bincount(labels, minlength=4) / len(labels)
    for fold in range(5):
        inside = labels[part == fold]
        assert len(inside) / len(labels) == pytest.approx(0.2, abs=0.05)
        assert np.bincount(inside, minlength=4) / len(inside) == pytest.approx(whole, abs=0.05)


def test_an_artist_larger_than_a_fold_fills_one_alone() -> None:
    labels = np.array([0, 1] * 20)
    groups = ["artist:big"] * 30 + [f"song:{i}" for i in range(10)]
    part = song_folds(labels, groups, folds=4, seed=0)
    assert len(set(part[:30].tolist())) == 1
    assert part[0] not in part[30:]
    assert set(part.tolist()) == {0, 1, 2, 3}


def test_the_seed_decides() -> None:
    labels, groups = corpus(80)
    first = song_folds(labels, groups, folds=5, seed=0)
    assert np.array_equal(first, song_folds(labels, groups, folds=5, seed=0))
    assert not np.array_equal(first, song_folds(labels, groups, folds=5, seed=1))


def test_the_names_of_groups_do_not_move_songs_across_calls() -> None:
    labels, groups = corpus(60, artists=20)
    order = np.random.default_rng(1).permutation(60)
    part = song_folds(labels, groups, folds=3, seed=4)
    shuffled = song_folds(labels[order], [groups[i] for i in order], folds=3, seed=4)
    assert np.array_equal(part[order], shuffled)


@pytest.mark.parametrize("seed", range(20))
def test_no_part_is_empty_even_with_as_many_parts_as_songs(seed: int) -> None:
    labels = np.arange(8) % 4
    for folds in (5, 7, 8):
        part = song_folds(labels, [str(i) for i in range(8)], folds=folds, seed=seed)
        assert set(part.tolist()) == set(range(folds))


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), min_size=2, max_size=120),
    st.integers(2, 10),
    st.integers(0, 5),
)
@settings(max_examples=150, deadline=None)
def test_any_corpus_is_split_without_a_leak_or_refused(songs: list[tuple[int, int]], folds: int, seed: int) -> None:
    labels = np.array([label for label, _ in songs])
    groups = [f"artist:{group}" for _, group in songs]
    per_label = {
        k: {g for (label, _), g in zip(songs, groups, strict=True) if label == k} for k in set(labels.tolist())
    }
    if len(set(groups)) < folds or any(len(found) == 1 for found in per_label.values()):
        with pytest.raises(CorpusError):
            song_folds(labels, groups, folds=folds, seed=seed)
        return
    part = song_folds(labels, groups, folds=folds, seed=seed)
    assert len(part) == len(songs)
    assert set(part.tolist()) == set(range(folds))
    parts_of: dict[str, set[int]] = {}
    for name, p in zip(groups, part.tolist(), strict=True):
        parts_of.setdefault(name, set()).add(p)
    assert all(len(parts) == 1 for parts in parts_of.values())


def test_too_few_artists_are_refused() -> None:
    with pytest.raises(CorpusError, match="5 folds need at least 5 different artists or songs; found 3"):
        song_folds(np.array([0, 1] * 6), ["a", "b", "c"] * 4, folds=5, seed=0)


def test_a_label_of_one_artist_is_refused_by_name() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    groups = ["a", "b", "c", "d", "d", "d"]
    with pytest.raises(CorpusError, match="label number 2 occurs in one artist or song only; no split has it on both"):
        song_folds(labels, groups, folds=2, seed=0)
    with pytest.raises(CorpusError, match="label 'sad' occurs in one artist or song only"):
        song_folds(labels, groups, folds=2, seed=0, label_names=("happy", "sad"))


def test_a_named_label_without_songs_is_refused() -> None:
    labels, groups = np.array([0, 0, 2, 2]), ["a", "b", "c", "d"]
    assert set(song_folds(labels, groups, folds=2, seed=0).tolist()) == {0, 1}
    with pytest.raises(CorpusError, match="label 'Q2' occurs in no song"):
        song_folds(labels, groups, folds=2, seed=0, label_names=("Q1", "Q2", "Q3"))


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.9])
def test_a_share_of_whole_artists_is_labelled_in_proportion(fraction: float) -> None:
    labels, groups = corpus(720, artists=500)
    kept = labelled_share(labels, groups, fraction=fraction, rng=np.random.default_rng(0))
    assert kept.mean() == pytest.approx(fraction, abs=0.03)
    whole = np.bincount(labels, minlength=4)
    assert np.bincount(labels[kept], minlength=4) / whole == pytest.approx(np.full(4, fraction), abs=0.06)
    names = np.array(groups)
    assert set(names[kept]).isdisjoint(names[~kept])
    song_folds(labels[kept], list(names[kept]), folds=4, seed=0)


def test_the_labelled_share_is_drawn_from_the_generator() -> None:
    labels, groups = corpus(200)
    first, again, other = (
        labelled_share(labels, groups, fraction=0.3, rng=np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert labelled_share(labels, groups, fraction=1, rng=np.random.default_rng(0)).all()


def test_every_label_stays_in_two_groups_however_small_the_share() -> None:
    labels, groups = np.array([0] * 50 + [1] * 3 + [2] * 2), [str(i) for i in range(55)]
    for seed in range(20):
        kept = labelled_share(labels, groups, fraction=0.02, rng=np.random.default_rng(seed))
        assert (np.bincount(labels[kept], minlength=3) >= 2).all()
        assert kept.sum() <= 7
    with pytest.raises(CorpusError, match="label 'sad' has songs of one artist only"):
        labelled_share(
            labels,
            [*groups[:53], "one", "one"],
            fraction=0.1,
            rng=np.random.default_rng(0),
            label_names=("angry", "calm", "sad"),
        )
