"""Evaluation of corpora that know the emotion over time, or that of every clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from layouts import make_emopia, make_pmemo, music, put

from emoseg.config import (
    ConvNetConfig,
    LearningConfig,
    LogMelConfig,
    NetworkConfig,
    SegmentConfig,
    TrainConfig,
)
from emoseg.corpora import Corpus, CorpusOptions, load_corpus
from emoseg.evaluation import Protocol, evaluate

SETTINGS = TrainConfig(
    segment=SegmentConfig(sample_rate_hz=8000, length_s=2.0, hop_s=2.0),
    frontends=(LogMelConfig(bands=8, fft=512, hop=256, fmax_hz=4000),),
)

TINY = SETTINGS.model_copy(
    update={
        "learning": LearningConfig(
            epochs=2,
            members=2,
            convnet=ConvNetConfig(epochs=2),
            network=NetworkConfig(channels=(4, 4)),
        )
    }
)


def evaluated(corpus: Corpus, cache: Path) -> dict[str, Any]:
    protocol = Protocol(("inherit", "mixup"), folds=2, seeds=1, group="none")
    return evaluate(corpus, protocol, config=TINY, cache=cache, workers=1, quiet=True)


def test_evaluation_measures_against_ratings_over_time(tmp_path: Path) -> None:
    root = make_pmemo(tmp_path)
    for i, clip in enumerate(sorted((root / "chorus").iterdir())):
        put(clip, music(28.0, seed=i))
    result = evaluated(load_corpus(f"pmemo:{root}"), tmp_path / "c")
    for method in result["methods"].values():
        every, near, nearer, far = method["detection_real"]
        assert [f["margin"] for f in (every, near, nearer, far)] == [0.0, 0.05, 0.1, 0.2]
        # of each of 16 songs six segments are rated, the last in the opposite quadrant; all at least .3 from the axes
        assert (every["unit"], every["units"], every["wrong"], every["mixed_songs"]) == ("segment", 96, 16, 16)
        assert {**far, "margin": 0.0} == every
        assert 0 <= every["interval"][0] <= every["auroc"] <= every["interval"][1] <= 1
        # the other eight segments of a song are not rated: they are neither right nor wrong
        assert method["detection"]["true_rate"] == pytest.approx(1 / 6)
        assert method["detection"]["wrong"] == 8
    assert [row["margin"] for row in result["differences"][0]["detection_real"]] == [0.0, 0.05, 0.1, 0.2]


def test_evaluation_ranks_clips_that_inherit_the_label_of_their_song(tmp_path: Path) -> None:
    root = make_emopia(tmp_path)
    for i, clip in enumerate(sorted(root.glob("*.flac"))):
        put(clip, music(6.0, seed=i))
    corpus = load_corpus(f"emopia:{root}", CorpusOptions(labels="song", space="valence"))
    result = evaluated(corpus, tmp_path / "c")
    for method in result["methods"].values():
        [found] = method["detection_real"]
        # eight videos of three clips, the first of each Q1: wrong in the four whose other clips are Q2 or Q3
        assert (found["unit"], found["units"], found["wrong"]) == ("clip", 24, 4)
        assert (found["songs"], found["mixed_songs"]) == (8, 4)
        assert found["base_rate"] == pytest.approx(1 / 6)
    own = evaluated(load_corpus(f"emopia:{root}", CorpusOptions(space="valence")), tmp_path / "c")
    assert "detection_real" not in own["methods"]["mixup"], "clips with labels of their own have no other truth"
