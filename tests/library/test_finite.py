"""Nothing that is not a finite number gets through: a frontend, a network, the song model, a writer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made import RATE, tone

from emoseg.analysis.analyzer import Analyzer
from emoseg.errors import AudioError, EmosegError, ModelError
from emoseg.frontends import compute_features
from emoseg.synthesis.sound import compose
from emoseg.types import Float32, Recording
from emoseg.writers import FORMATS, json_lines, write


@pytest.fixture
def analyzer(model: Path) -> Analyzer:
    return Analyzer(model)


class Broken:
    """A frontend that gives one number that is none."""

    name = "broken"
    version = 1
    feature_names: tuple[str, ...] | None = None

    def shape(self) -> tuple[int, ...]:
        return (3,)

    def __call__(self, segments: Float32) -> Float32:
        table = np.ones((len(segments), 3), dtype=np.float32)
        table[-1, 1] = np.nan
        return table


def test_a_frontend(analyzer: Analyzer) -> None:
    with pytest.raises(AudioError, match="the frontend broken gives a number that is not finite") as caught:
        compute_features([Broken()], np.ones((2, 10), dtype=np.float32))
    assert caught.value.kind == "nonfinite"
    analyzer.frontends.append(Broken())
    with pytest.raises(AudioError, match=r"^song\.mp3: the frontend broken gives a number") as caught:
        analyzer.analyze(Recording(tone(1), RATE, "song.mp3"))
    assert caught.value.kind == "nonfinite"


def test_a_network(analyzer: Analyzer, monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        def run(self, *_: object) -> list[Float32]:
            return [np.array([[0.2, np.nan, 0.3, 0.5]], dtype=np.float32)]

    monkeypatch.setitem(analyzer.model.__dict__, "session", Session())
    with pytest.raises(ModelError, match="probabilities that are not finite"):
        analyzer.analyze(tone(1), sample_rate_hz=RATE)


@pytest.mark.parametrize("format", sorted(set(FORMATS) - {"png"}))
def test_a_writer(analyzer: Analyzer, tmp_path: Path, format: str) -> None:
    analysis = analyzer.analyze(Recording(tone(1), RATE, "song.mp3"))
    spans = tuple(replace(span, end_s=float("inf")) for span in analysis.spans)
    segments = tuple(replace(segment, end_s=float("nan")) for segment in analysis.segments)
    with pytest.raises(EmosegError, match="must be finite numbers"):
        write(replace(analysis, spans=spans, segments=segments), tmp_path, format=format)
    assert list(tmp_path.iterdir()) == []


def test_loud_and_quiet_sound_have_finite_answers() -> None:
    song, _ = compose(np.random.default_rng(3), label="Q1", duration_s=9, sample_rate_hz=RATE)
    for gain in (0.01, 1.0, 90.0):
        sound = song / np.abs(song).max() * np.float32(gain)
        text = json_lines.dumps(Analyzer().analyze(sound, sample_rate_hz=RATE))
        assert sum(json.loads(text)["song"]["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_an_array_that_is_none(analyzer: Analyzer) -> None:
    empty = np.empty(0, dtype=np.float32)
    with pytest.raises(AudioError, match="holds no sound") as caught:
        analyzer.analyze(empty, sample_rate_hz=RATE)
    assert caught.value.kind == "empty"
    for rate in (44100.5, "44100", True, float("nan")):
        with pytest.raises(EmosegError, match="must be a whole number"):
            analyzer.analyze(tone(1), sample_rate_hz=rate)  # type: ignore[arg-type]


def test_hours_of_silence_are_computed_once_and_answered_alike(model: Path) -> None:
    analyzer = Analyzer(model)
    silence = np.zeros(20 * RATE, dtype=np.float32)
    sound = np.concatenate([tone(1, seconds=6), silence, tone(2, seconds=6), silence])
    counted = []
    compute = analyzer.frontends[0]

    class Counting(type(compute)):  # type: ignore[misc]
        def __call__(self, segments: Float32) -> Float32:
            counted.append(len(segments))
            return compute(segments)

    analyzer.frontends[0] = object.__new__(Counting)
    analyzer.frontends[0].__dict__.update(vars(compute))
    together = analyzer.analyze(sound, sample_rate_hz=RATE, batch=64)
    assert sum(counted) < len(together.segments) - 8
    apart = Analyzer(model).analyze(sound, sample_rate_hz=RATE, batch=1)
    assert together == apart
