"""What a fold gives a method: the songs, the labels they keep, the noise, and what cannot be split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emoseg.corpora import Song
from emoseg.corpora.segments import CorpusSegments
from emoseg.corpora.splits import labelled_share, song_folds
from emoseg.errors import ConfigError, CorpusError
from emoseg.evaluation.injected_noise import InjectedNoise, inject_noise
from emoseg.evaluation.protocol import (
    DEFAULT_METHODS,
    Protocol,
    SplitReport,
    check_splits,
    make_fold,
    soft_targets,
    split_report,
)
from emoseg.frontends.store import FeatureTable
from emoseg.types import UNLABELLED

LABELS = ("a", "b", "c")
SONGS = 24
SONG_LABELS = np.arange(SONGS) % 3
SONG = np.repeat(np.arange(SONGS), 3)
PROTOCOL = Protocol(("mixup",), folds=3, seeds=2, group="none")


def made(*, artists: bool = False, parts: dict[int, str] | None = None, **changes: Any) -> CorpusSegments:
    """Return 24 songs of three labels with three segments each; an artist, if wanted, has two neighbouring songs."""
    songs = tuple(
        Song(
            str(i),
            Path(str(i)),
            LABELS[label],
            artist=f"artist {i // 2}" if artists else None,
            split=(parts or {}).get(i),
        )
        for i, label in enumerate(SONG_LABELS)
    )
    table = FeatureTable({}, SONG, np.tile([0.0, 3.0, 6.0], SONGS), np.tile([3.0, 6.0, 9.0], SONGS), {})
    return replace(CorpusSegments(songs, table, SONG, SONG_LABELS, None, ()), **changes)


def test_the_default_is_the_baseline_and_the_default_method() -> None:
    protocol = Protocol()
    assert protocol.methods == DEFAULT_METHODS == ("mixup", "emoseg")
    assert (protocol.folds, protocol.seeds, protocol.group, protocol.fraction) == (10, 3, "artist", 1.0)
    assert (protocol.noise, protocol.test_split) == (InjectedNoise("none", 0.0), None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("mixup", "best")}, "method 'best': must be one of inherit, mixup"),
        ({"methods": ("mixup", "mixup")}, "method 'mixup' is named twice"),
        ({"methods": ()}, "no method given; choose from inherit, mixup"),
        ({"seeds": 0}, "seeds 0: must be from 1 to 1000"),
        ({"seeds": 1001}, "seeds 1001: must be from 1 to 1000"),
        ({"group": "album"}, "group 'album': must be artist or none"),
        ({"folds": 1}, "folds 1: must be 2 or more"),
        ({"test_split": "test"}, "folds 3: must be 1 with the test split 'test'"),
        ({"fraction": 0.0}, "fraction 0: must be above 0 and at most 1"),
        ({"fraction": 1.01}, "fraction 1.01: must be above 0 and at most 1"),
        ({"fraction": float("nan")}, "fraction nan: must be above 0 and at most 1"),
    ],
)
def test_a_protocol_is_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(PROTOCOL, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": 1},
        {"seeds": 1000},
        {"folds": 2},
        {"fraction": 1.0},
        {"group": "artist"},
        {"folds": 1, "test_split": "x"},
    ],
)
def test_the_limits_themselves_are_allowed(changes: dict[str, Any]) -> None:
    replace(PROTOCOL, **changes)


@pytest.mark.parametrize(("seed", "fold"), [(0, 0), (0, 2), (1, 1)])
def test_a_fold_without_noise_is_a_part_of_the_songs(seed: int, fold: int) -> None:
    segments = made()
    cut = make_fold(segments, PROTOCOL, classes=3, seed=seed, fold=fold)
    part = song_folds(SONG_LABELS, segments.groups("none"), folds=3, seed=seed)
    assert cut.test.tolist() == np.flatnonzero(part == fold).tolist()
    assert cut.train.tolist() == np.flatnonzero(part != fold).tolist()
    assert cut.test_rows.tolist() == [3 * song + k for song in cut.test for k in range(3)]
    assert cut.rows.tolist() == [3 * song + k for song in cut.train for k in range(3)]
    assert cut.given.tolist() == np.repeat(SONG_LABELS[cut.train], 3).tolist()
    assert cut.true.tolist() == cut.given.tolist()
    assert cut.source.tolist() == list(range(len(cut.rows)))
    assert cut.known.all()


def test_artists_stay_together_where_they_are_asked_to() -> None:
    segments = made(artists=True)
    together = make_fold(segments, replace(PROTOCOL, group="artist"), classes=3, seed=0, fold=0)
    assert {i // 2 for i in together.test.tolist()}.isdisjoint({i // 2 for i in together.train.tolist()})
    apart = make_fold(segments, PROTOCOL, classes=3, seed=0, fold=0)
    assert not {i // 2 for i in apart.test.tolist()}.isdisjoint({i // 2 for i in apart.train.tolist()})


@pytest.mark.parametrize("kind", ["segment", "song", "splice"])
@pytest.mark.parametrize(("seed", "fold"), [(0, 0), (1, 2)])
def test_noise_and_labelled_songs_depend_on_the_seed_and_the_fold_alone(kind: Any, seed: int, fold: int) -> None:
    segments = made()
    noise = InjectedNoise(kind, 0.5)
    protocol = replace(PROTOCOL, noise=noise, fraction=0.5)
    cut = make_fold(segments, protocol, classes=3, seed=seed, fold=fold)
    keeps = labelled_share(
        SONG_LABELS[cut.train],
        [f"song:{i}" for i in cut.train],
        fraction=0.5,
        rng=np.random.default_rng([seed, fold, 1]),
    )
    kept = np.flatnonzero(np.repeat(keeps, 3))
    assert (cut.given != UNLABELLED).tolist() == np.repeat(keeps, 3).tolist()
    rng = np.random.default_rng([seed, fold])
    expected = inject_noise(segments.inherited[cut.rows][kept], SONG[cut.rows][kept], noise, classes=3, rng=rng)
    assert cut.given[kept].tolist() == expected.given.tolist()
    assert cut.true[kept].tolist() == expected.true.tolist()
    assert cut.source[kept].tolist() == kept[expected.source].tolist()
    others = np.setdiff1d(np.arange(len(cut.rows)), kept)
    assert cut.source[others].tolist() == others.tolist()
    assert cut.true[others].tolist() == segments.inherited[cut.rows][others].tolist()
    assert (cut.given[kept] != cut.true[kept]).any()
    same = make_fold(segments, replace(protocol, methods=("inherit", "emoseg")), classes=3, seed=seed, fold=fold)
    assert same.given.tolist() == cut.given.tolist()


def test_the_truth_of_a_corpus_counts_without_noise_alone() -> None:
    true, known = (np.repeat(SONG_LABELS, 3) + 1) % 3, np.arange(72) % 2 == 0
    segments = made(true=true, known=known, margin=np.ones(72))
    cut = make_fold(segments, PROTOCOL, classes=3, seed=0, fold=0)
    assert cut.true.tolist() == true[cut.rows].tolist()
    assert cut.known.tolist() == known[cut.rows].tolist()
    noisy = make_fold(segments, replace(PROTOCOL, noise=InjectedNoise("song", 0.25)), classes=3, seed=0, fold=0)
    assert noisy.true.tolist() == segments.inherited[noisy.rows].tolist()
    assert noisy.known.all()


def test_soft_targets_are_certain_where_noise_changed_the_label_or_the_sound() -> None:
    soft = np.full((SONGS, 3), 0.2) + 0.4 * np.eye(3)[SONG_LABELS]
    segments = made(song_soft=soft)
    protocol = replace(PROTOCOL, noise=InjectedNoise("splice", 0.5), fraction=0.75)
    cut = make_fold(segments, protocol, classes=3, seed=0, fold=0)
    targets = soft_targets(segments, cut)
    assert targets is not None
    moved = cut.source != np.arange(len(cut.rows))
    assert moved.any()
    assert targets[moved].tolist() == np.eye(3)[cut.given[moved]].tolist()
    assert targets[~moved].tolist() == soft[SONG[cut.rows]][~moved].tolist()
    flipped = make_fold(segments, replace(protocol, noise=InjectedNoise("segment", 0.5)), classes=3, seed=0, fold=0)
    changed = (flipped.given != segments.inherited[flipped.rows]) & (flipped.given != UNLABELLED)
    targets = soft_targets(segments, flipped)
    assert targets is not None
    assert 0 < changed.sum() < len(changed)
    assert targets[changed].tolist() == np.eye(3)[flipped.given[changed]].tolist()
    assert targets[~changed].tolist() == soft[SONG[flipped.rows]][~changed].tolist()
    assert soft_targets(made(), cut) is None


PARTS = {i: "test" if i < 9 else "val" if i < 12 else "train" for i in range(22)}


def test_official_parts_are_tested_and_learnt_from() -> None:
    segments = made(artists=True, parts=PARTS)
    protocol = replace(PROTOCOL, folds=1, test_split="test+val")
    cut = make_fold(segments, protocol, classes=3, seed=1, fold=0)
    assert cut.test.tolist() == list(range(12))
    assert cut.train.tolist() == list(range(12, 22))
    assert split_report(segments, protocol) == SplitReport("test+val", 10, 12, 0, 2)
    only = replace(protocol, test_split="test")
    # Song 8, of the test part, has the artist of song 9, which is learnt from.
    report = split_report(segments, only)
    assert report == SplitReport("test", 13, 9, 1, 2)
    assert report.warnings() == [
        "test split 'test': 1 of the 9 test songs (11%) share an artist with training; figures are optimistic",
        "test split 'test': songs in no official part, which are left out: 2",
    ]
    assert SplitReport("test", 1, 1, 0, 0).warnings() == []
    assert split_report(segments, PROTOCOL) is None


def test_what_cannot_be_split_is_refused_before_learning() -> None:
    segments = made(artists=True, parts=PARTS)
    check_splits(segments, PROTOCOL, LABELS, members=5)
    check_splits(segments, replace(PROTOCOL, folds=1, test_split="test"), LABELS, members=3)
    with pytest.raises(CorpusError, match=r"^13 folds need at least 13 different artists or songs; found 12$"):
        check_splits(segments, replace(PROTOCOL, group="artist", folds=13), LABELS, members=2)
    with pytest.raises(CorpusError, match=r"^3 folds leave too little to learn from: 17 folds need at least 17"):
        check_splits(segments, PROTOCOL, LABELS, members=17)
    check_splits(segments, PROTOCOL, LABELS, members=15)
    with pytest.raises(CorpusError, match=r"^3 folds of which 0\.5 labelled leave too little to learn from: 16 folds"):
        check_splits(segments, replace(PROTOCOL, fraction=0.5), LABELS, members=16)
    with pytest.raises(CorpusError, match=r"^test split 'test': the other parts leave too little to learn from: 14"):
        check_splits(segments, replace(PROTOCOL, folds=1, test_split="test"), LABELS, members=14)
    lacking = replace(segments, song_labels=np.where(SONG_LABELS == 2, 1, SONG_LABELS))
    with pytest.raises(CorpusError, match="label 'c' occurs in no song"):
        check_splits(lacking, PROTOCOL, LABELS, members=2)


def test_every_seed_and_fold_is_checked() -> None:
    """Of four songs with label c, two artists remain in every fold but one."""
    labels = np.where(np.arange(SONGS) < 3, 2, np.arange(SONGS) % 2)
    segments = made(song_labels=labels)
    with pytest.raises(CorpusError, match="2 folds leave too little to learn from: label 'c' occurs in one artist"):
        check_splits(segments, replace(PROTOCOL, folds=2, seeds=1), LABELS, members=2)
