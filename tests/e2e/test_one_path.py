"""What is evaluated is what is shipped: the evaluation's answer for a held-out file is `Analyzer`'s answer for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from emoseg.analysis.analyzer import Analyzer
from emoseg.analysis.model_folder import ModelFolder
from emoseg.config import DescriptorsConfig, LearningConfig, LogMelConfig, NetworkConfig, TrainConfig
from emoseg.corpora import load_corpus
from emoseg.corpora.base import Corpus
from emoseg.corpora.segments import CorpusSegments, load_segments
from emoseg.evaluation.jobs import Trial, TrialData, TrialResult, run_trial
from emoseg.evaluation.protocol import Fold, Protocol, make_fold
from emoseg.learning import pipeline
from emoseg.learning.methods.base import Prediction
from emoseg.learning.pipeline import Learned
from emoseg.synthesis.corpus import write_corpus
from emoseg.training import train
from emoseg.types import Analysis, Float64, Int64

RATE = 22050
CONFIG = TrainConfig(
    method="emoseg",
    frontends=(DescriptorsConfig(), LogMelConfig(bands=16, fft=1024, hop=1024)),
    learning=LearningConfig(
        epochs=2,
        members=2,
        batch=8,
        network=NetworkConfig(hidden=(8,), channels=(4,)),
    ),
)
# A network of other kernels sums in another order: probabilities of PyTorch and ONNX Runtime differ by rounding of
# float32, about 1e-7 for a segment. The song model multiplies differences of log probabilities by at most a few tens.
SEGMENT_TOLERANCE, SONG_TOLERANCE = 1e-5, 1e-4


@dataclass(frozen=True)
class Site:
    """A corpus with stretches that are not music, one fold that was evaluated, and a model of its training songs."""

    corpus: Corpus
    segments: CorpusSegments
    fold: Fold
    outcome: TrialResult
    learned: Learned
    model: ModelFolder


def insert_other_sound(path: Path, i: int) -> None:
    """Replace 3 s of every third recording by noise, and of every other third by silence."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    length = 3 * rate
    if i % 3 == 0:
        samples[length : 2 * length] = np.random.default_rng(i).normal(0, 0.1, samples[:length].shape)
    elif i % 3 == 1:
        samples[-length:] = 0
    soundfile.write(path, samples, rate)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    root = tmp_path_factory.mktemp("one-path")
    write_corpus(root / "corpus", songs=16, seed=1, duration_s=12, workers=1, quiet=True)
    corpus = load_corpus(f"synth:{root / 'corpus'}")
    # Half of so few songs has too few artists for every label to be split between the members.
    corpus = replace(corpus, songs=tuple(replace(song, artist=None) for song in corpus.songs))
    for i, song in enumerate(corpus.songs):
        insert_other_sound(song.path, i)
    settings: dict[str, Any] = {"config": CONFIG, "cache": root / "cache", "workers": 1, "quiet": True}
    segments = load_segments(corpus, **settings)
    protocol = Protocol(methods=("emoseg",), folds=2, seeds=1)
    trial, classes = Trial("emoseg", 0, 0, protocol, CONFIG), len(corpus.space.labels)
    kept: list[Learned] = []
    learn = pipeline.learn

    def keeping(*args: Any, **kwargs: Any) -> Learned:
        kept.append(learn(*args, **kwargs))
        return kept[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "learn", keeping)
        outcome = run_trial(trial, TrialData(segments.table.features, segments, classes))
    fold = make_fold(segments, protocol, classes=classes, seed=0, fold=0)
    training = replace(corpus, songs=tuple(segments.songs[i] for i in fold.train))
    trained = train(training, root / "model", seed=0, **settings)
    return Site(corpus, segments, fold, outcome, kept[0], trained.model)


@pytest.fixture(scope="module")
def analyses(site: Site) -> list[Analysis]:
    """The answers of `Analyzer` for the held-out songs."""
    analyzer = Analyzer(site.model)
    return [analyzer.analyze(site.segments.songs[i].path) for i in site.fold.test]


def music(analysis: Analysis) -> list[Any]:
    return [segment for segment in analysis.segments if segment.sound == "music"]


class OnnxPredictor:
    """The segment model of a model folder in the place of the networks that evaluation uses."""

    def __init__(self, model: ModelFolder) -> None:
        self.model = model

    def predict(self, features: Mapping[str, NDArray[np.floating]], song: Int64) -> Prediction:
        del song
        return Prediction(self.model.segment_probabilities(dict(features)))


def test_the_corpus_has_segments_that_are_not_music(site: Site, analyses: list[Analysis]) -> None:
    kinds = {segment.sound for analysis in analyses for segment in analysis.segments}
    assert {"music", "noise", "silence"} <= kinds
    assert len(site.segments.song) < 4 * len(site.corpus.songs)
    assert len(site.segments.songs) == len(site.corpus.songs)


def test_the_same_segments_are_evaluated_and_analysed(site: Site, analyses: list[Analysis]) -> None:
    for i, analysis in zip(site.fold.test, analyses, strict=True):
        rows = site.segments.song == i
        assert site.segments.table.start_s[rows].tolist() == [s.start_s for s in music(analysis)]
        assert site.segments.table.end_s[rows].tolist() == [s.end_s for s in music(analysis)]


def test_with_the_same_segment_model_the_answers_are_the_same_bits(site: Site, analyses: list[Analysis]) -> None:
    learned = replace(site.learned, fit=replace(site.learned.fit, predictor=OnnxPredictor(site.model)))
    rows = site.fold.test_rows
    features = {name: table[rows] for name, table in site.segments.table.features.items()}
    predicted = learned.predict(features, np.searchsorted(site.fold.test, site.segments.song[rows]))
    segments = np.array([s.probabilities for analysis in analyses for s in music(analysis)])
    np.testing.assert_array_equal(predicted.segments, segments)
    np.testing.assert_array_equal(predicted.song, [analysis.song.probabilities for analysis in analyses])


def test_networks_and_onnx_runtime_agree_within_rounding(site: Site, analyses: list[Analysis]) -> None:
    segments = np.array([s.probabilities for analysis in analyses for s in music(analysis)])
    songs = np.array([analysis.song.probabilities for analysis in analyses])
    np.testing.assert_allclose(site.outcome.segments, segments, rtol=0, atol=SEGMENT_TOLERANCE)
    np.testing.assert_allclose(site.outcome.song, songs, rtol=0, atol=SONG_TOLERANCE)
    spread = site.outcome.song.max(axis=0) - site.outcome.song.min(axis=0)
    assert spread.max() > 100 * SONG_TOLERANCE, "the tolerance is far below the differences between songs"


def test_a_song_does_not_depend_on_those_it_is_evaluated_with(site: Site) -> None:
    rows = site.fold.test_rows[site.segments.song[site.fold.test_rows] == site.fold.test[1]]
    features = {name: table[rows] for name, table in site.segments.table.features.items()}
    predictor = OnnxPredictor(site.model)
    learned = replace(site.learned, fit=replace(site.learned.fit, predictor=predictor))
    everything = {name: table[site.fold.test_rows] for name, table in site.segments.table.features.items()}
    together = learned.predict(everything, np.searchsorted(site.fold.test, site.segments.song[site.fold.test_rows]))
    alone = learned.predict(features, np.zeros(len(rows), dtype=np.int64))
    for name in ("song", "mean", "uncalibrated"):
        table: Float64 = getattr(together, name)
        np.testing.assert_array_equal(getattr(alone, name)[0], table[1])
