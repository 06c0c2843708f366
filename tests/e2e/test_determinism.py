"""One answer, whichever way: batch sizes, streams, containers, arrays; and lossy formats within a tolerance."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

import emoseg
from emoseg.analysis.analyzer import Analyzer
from emoseg.analysis.model_folder import ModelFolder
from emoseg.audio import arrays, stream
from emoseg.config import (
    ConvNetConfig,
    LearningConfig,
    NetworkConfig,
    TimelineConfig,
    TrainConfig,
    parse_frontends,
)
from emoseg.corpora import load_corpus
from emoseg.synthesis.corpus import write_corpus
from emoseg.synthesis.sound import compose
from emoseg.training import train
from emoseg.types import Analysis, Float32

RATE = 22050
FFMPEG = shutil.which("ffmpeg")
CONFIG = TrainConfig(
    method="inherit",
    frontends=parse_frontends("logmel+descriptors"),
    learning=LearningConfig(
        epochs=4,
        batch=16,
        members=2,
        network=NetworkConfig(hidden=(16,), channels=(4,)),
        convnet=ConvNetConfig(epochs=4, batch=16),
    ),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    root = tmp_path_factory.mktemp("model")
    write_corpus(root / "corpus", songs=16, seed=5, duration_s=10.5, workers=1, quiet=True)
    corpus = load_corpus(f"synth:{root / 'corpus'}")
    return train(corpus, root / "model", config=CONFIG, seed=1, workers=1, cache=root / "cache", quiet=True).model


@pytest.fixture(scope="module")
def song() -> Float32:
    """Ten segments of music, exact in 16 bits."""
    sound = compose(np.random.default_rng(8), label="Q2", duration_s=30)[0]
    return np.asarray(np.round(sound * 32767) / 32768, dtype=np.float32)


@pytest.fixture(scope="module")
def wav(song: Float32, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "a.wav"
    soundfile.write(path, (song * 32768).astype(np.int16), RATE)
    return path


def same(a: Analysis, b: Analysis) -> bool:
    """Every number to the last bit."""
    return replace(a, path="") == replace(b, path="") and a.peaks.tobytes() == b.peaks.tobytes()


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_batch_sizes_change_nothing(model: ModelFolder, wav: Path, batch: int) -> None:
    analyzer = Analyzer(model)
    assert same(analyzer.analyze(wav, batch=batch), analyzer.analyze(wav))


def test_progress_is_reported_in_seconds_of_sound(model: ModelFolder, wav: Path) -> None:
    reported: list[float] = []
    Analyzer(model).analyze(wav, batch=4, on_progress=reported.append)
    assert reported == [12.0, 12.0, 6.0]


def test_a_streamed_file_is_a_whole_one(model: ModelFolder, wav: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Analyzer(model).analyze(wav)
    monkeypatch.setattr(arrays, "_BLOCK", 3001)
    monkeypatch.setattr(stream, "_LOOKAHEAD", 5 * RATE)  # most of it is handed out before the end is known
    assert same(Analyzer(model).analyze(wav, batch=2), whole)


def test_wav_flac_and_array_are_one_recording(model: ModelFolder, wav: Path, song: Float32, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", (song * 32768).astype(np.int16), RATE)
    analyzer = Analyzer(model)
    from_wav = analyzer.analyze(wav)
    assert same(analyzer.analyze(tmp_path / "a.flac"), from_wav)
    assert same(analyzer.analyze(song, sample_rate_hz=RATE), from_wav)
    assert same(analyzer.analyze((song * 32768).astype(np.int16)[:, None], sample_rate_hz=RATE), from_wav)


def test_other_processes_give_the_same_bytes(model: ModelFolder, wav: Path) -> None:
    code = (
        "import sys, emoseg; from emoseg.writers.json_lines import dumps;"
        "print(dumps(emoseg.Analyzer(sys.argv[1]).analyze(sys.argv[2])))"
    )
    command = [sys.executable, "-c", code, str(model.path), str(wav)]
    lines = {subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert len(lines) == 1
    assert '"schema": "emoseg.analysis/1"' in lines.pop()


@pytest.mark.skipif(FFMPEG is None, reason="the ffmpeg program is not on PATH")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp3", ["-b:a", "192k"]),
        ("a.opus", ["-b:a", "128k"]),
        ("a.m4a", ["-c:a", "aac", "-b:a", "192k"]),
        ("alac.m4a", ["-c:a", "alac"]),
    ],
)
def test_lossy_formats_stay_close(model: ModelFolder, wav: Path, tmp_path: Path, name: str, options: list[str]) -> None:
    assert FFMPEG is not None
    command = [FFMPEG, "-v", "error", "-i", str(wav), *options, str(tmp_path / name)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    got, expected = Analyzer(model).analyze(tmp_path / name), Analyzer(model).analyze(wav)
    assert [s.start_s for s in got.segments] == [s.start_s for s in expected.segments]
    difference = np.abs(
        np.array([s.probabilities for s in got.segments]) - np.array([s.probabilities for s in expected.segments])
    )
    # The tolerance of docs/architecture.md.
    assert difference.mean() < (1e-6 if name == "alac.m4a" else 0.05)
    assert np.abs(np.subtract(got.song.probabilities, expected.song.probabilities)).max() < 0.1


def test_settings_of_the_timeline_come_from_the_model_folder(model: ModelFolder, wav: Path) -> None:
    timeline = TimelineConfig(unsure_below=0.999, mean_span_s=30, sounds=False)
    strict = replace(model, config=model.config.model_copy(update={"timeline": timeline}))
    analysis = Analyzer(strict).analyze(wav)
    assert analysis.song.label == "unsure"
    assert {span.label for span in analysis.spans} == {"unsure"}
    assert analysis.rules["unsure"] == "the most probable label has a probability below 1.00"
    assert "30 s on average" in analysis.rules["spans"]


def test_what_is_not_music_is_named_and_left_out_of_the_song(model: ModelFolder, song: Float32) -> None:
    hiss = np.random.default_rng(0).normal(0, 0.05, 12 * RATE).astype(np.float32)
    alone = Analyzer(model).analyze(song, sample_rate_hz=RATE)
    show = np.concatenate([hiss, song, np.zeros(9 * RATE, dtype=np.float32)])
    analysis = Analyzer(model).analyze(show, sample_rate_hz=RATE)
    assert [s.sound for s in analysis.segments] == ["noise"] * 4 + ["music"] * 10 + ["silence"] * 3
    assert analysis.song == alone.song
    assert (analysis.spans[0].label, analysis.spans[0].end_s) == ("noise", 12.0)
    assert (analysis.spans[-1].label, analysis.spans[-1].start_s) == ("silence", 42.0)
    assert analysis.changes[0].before == "noise"
    only = Analyzer(model).analyze(hiss, sample_rate_hz=RATE)
    assert (only.song.label, only.song.probabilities, only.song.confidence) == ("noise", (), 0.0)
    sounds_off = replace(model, config=model.config.model_copy(update={"timeline": TimelineConfig(sounds=False)}))
    assert {s.sound for s in Analyzer(sounds_off).analyze(hiss, sample_rate_hz=RATE).segments} == {"music"}


def test_the_library_exports_what_it_says() -> None:
    assert emoseg.Analyzer is Analyzer
    assert set(emoseg.__all__) <= set(dir(emoseg))
    for name in emoseg.__all__:
        assert getattr(emoseg, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Analyser'"):
        _ = emoseg.Analyser
