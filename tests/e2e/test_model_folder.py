"""From a corpus to a model folder to an analysis: one answer whichever way, and no folder that was tampered with."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import emoseg
from emoseg.analysis.analyzer import Analyzer
from emoseg.analysis.model_folder import ModelFolder, load_model
from emoseg.audio.reader import SegmentReader, read
from emoseg.config import (
    ConvNetConfig,
    LearningConfig,
    NetworkConfig,
    TrainConfig,
    parse_frontends,
    replace_settings,
)
from emoseg.corpora import load_corpus
from emoseg.corpora.base import Corpus
from emoseg.emotion import QUADRANTS
from emoseg.errors import ConfigError, EmosegWarning, ModelError
from emoseg.frontends import build_frontend
from emoseg.frontends.descriptors.frontend import Descriptors
from emoseg.learning.ensemble import SegmentEnsemble
from emoseg.learning.methods.emoseg.method import Emoseg
from emoseg.learning.methods.inherit import MixupTrainer
from emoseg.learning.networks import ConvNet, Perceptron, SegmentNetwork
from emoseg.synthesis.corpus import write_corpus
from emoseg.system.files import file_checksum
from emoseg.training import train
from emoseg.types import Float32, Float64, Recording, SegmentEmotion, SongEmotion

NETWORK = NetworkConfig(hidden=(16,), channels=(4, 8))
CONFIG = TrainConfig(
    frontends=parse_frontends("logmel+descriptors"),
    learning=LearningConfig(
        epochs=4,
        batch=16,
        learning_rate=5e-3,
        members=2,
        network=NETWORK,
        convnet=ConvNetConfig(epochs=4, batch=16, learning_rate=5e-3),
    ),
)
SEED = 3


class KilledError(Exception):
    """Stands for a killed process."""


@dataclass(frozen=True)
class Site:
    """A small corpus, its feature store and a model learnt from it."""

    corpus: Corpus
    cache: Path
    model: ModelFolder
    songs: tuple[Path, ...]

    def train(self, out: Path, *, config: TrainConfig = CONFIG, seed: int = SEED) -> ModelFolder:
        return train(self.corpus, out, config=config, seed=seed, workers=1, cache=self.cache, quiet=True).model


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    root = tmp_path_factory.mktemp("site")
    write_corpus(root / "corpus", songs=16, seed=3, duration_s=10.5, workers=1, quiet=True)
    corpus = load_corpus(f"synth:{root / 'corpus'}")
    trained = train(corpus, root / "model", config=CONFIG, seed=SEED, workers=1, cache=root / "cache", quiet=True)
    assert trained.left_out == ()
    return Site(corpus, root / "cache", trained.model, tuple(song.path for song in corpus.songs))


@pytest.fixture
def copied(site: Site, tmp_path: Path) -> Path:
    """Return a copy of the model folder, to be damaged."""
    return Path(shutil.copytree(site.model.path, tmp_path / "model"))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = folder / "config.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    change(data)
    file.write_text(json.dumps(data), encoding="utf-8")


def features_of(site: Site, path: Path, *, batch: int) -> list[dict[str, Float32]]:
    config = site.model.config
    frontends = [build_frontend(f, config.segment) for f in config.frontends]
    return [{f.name: f(b.samples) for f in frontends} for b in SegmentReader(path, segment=config.segment, batch=batch)]


def table(segments: tuple[SegmentEmotion, ...]) -> Float64:
    return np.array([s.probabilities for s in segments])


def reloaded(folder: Path, classes: int) -> SegmentEnsemble:
    """Build the PyTorch ensemble again from segment.safetensors."""
    weights = {k: torch.from_numpy(v) for k, v in load_file(folder / "segment.safetensors").items()}
    networks: dict[str, list[SegmentNetwork]] = {}
    for name, kind in (("logmel", ConvNet), ("descriptors", Perceptron)):
        networks[name] = []
        while (key := f"networks.{name}.{len(networks[name])}.standardise.mean") in weights:
            mean = weights[key]
            networks[name].append(kind(mean, torch.ones_like(mean), classes, NETWORK))
    ensemble = SegmentEnsemble(networks)
    ensemble.load_state_dict(weights)
    return ensemble.eval()


# Analysis


def test_an_analysis_covers_the_recording(site: Site) -> None:
    analysis = Analyzer(site.model).analyze(site.songs[0])
    assert analysis.path == str(site.songs[0])
    assert analysis.duration_s == pytest.approx(10.5, abs=1e-3)
    assert (analysis.model_name, analysis.model_version) == ("model", "1")
    assert analysis.space == QUADRANTS
    assert [s.start_s for s in analysis.segments] == [0.0, 3.0, 6.0, 9.0]
    assert [s.end_s for s in analysis.segments] == pytest.approx([3.0, 6.0, 9.0, 10.5], abs=1e-3)
    np.testing.assert_allclose(table(analysis.segments).sum(axis=1), 1.0, atol=1e-5)
    assert sum(analysis.song.probabilities) == pytest.approx(1.0)
    emotions: list[SegmentEmotion | SongEmotion] = [*analysis.segments, analysis.song]
    for part in emotions:
        q1, q2, q3, q4 = part.probabilities
        best = QUADRANTS.labels[int(np.argmax(part.probabilities))]
        assert part.label == (best if max(part.probabilities) >= 0.5 else "unsure")
        assert part.valence == pytest.approx(q1 + q4 - q2 - q3, abs=1e-6)
        assert part.arousal == pytest.approx(q1 + q2 - q3 - q4, abs=1e-6)
        assert part.valence_sd == pytest.approx(2 * np.sqrt((q1 + q4) * (q2 + q3)), abs=1e-5)
        assert part.arousal_sd == pytest.approx(2 * np.sqrt((q1 + q2) * (q3 + q4)), abs=1e-5)
    assert analysis.song.confidence == max(analysis.song.probabilities)
    assert (analysis.spans[0].start_s, analysis.spans[-1].end_s) == (0.0, analysis.segments[-1].end_s)
    assert all(
        a.end_s == b.start_s and a.label != b.label for a, b in zip(analysis.spans, analysis.spans[1:], strict=False)
    )


def test_the_song_is_what_the_song_model_makes_of_its_segments(site: Site) -> None:
    analysis = Analyzer(site.model).analyze(site.songs[1])
    config = site.model.config
    built = [build_frontend(frontend, config.segment) for frontend in config.frontends]
    parts = list(SegmentReader(site.songs[1], segment=config.segment))
    vectors = [np.concatenate([f(part.samples) for part in parts]) for f in built if len(f.shape()) == 1]
    described = np.concatenate(vectors, axis=1)
    assert site.model.song.base is not None
    summary = np.concatenate([described.mean(axis=0), described.std(axis=0)])
    expected = site.model.song.predict(table(analysis.segments), summary)
    without = replace(site.model.song, base=None).predict(table(analysis.segments))
    assert not np.allclose(expected, without), "the whole song has a vote"
    np.testing.assert_allclose(analysis.song.probabilities, expected, rtol=1e-6)


def test_songs_differ_and_the_same_song_does_not(site: Site) -> None:
    analyzer = Analyzer(site.model.path)
    first, again, other = (analyzer.analyze(site.songs[i]) for i in (0, 0, 5))
    assert first == again
    np.testing.assert_array_equal(first.peaks, again.peaks)
    assert np.abs(table(first.segments) - table(other.segments)).max() > 1e-3


def test_a_path_and_its_samples_give_the_same_analysis(site: Site) -> None:
    analyzer = Analyzer(site.model)
    path = site.songs[2]
    recording = read(path, sample_rate_hz=22050)
    from_path, from_array = analyzer.analyze(path), analyzer.analyze(Recording(recording.samples, 22050))
    assert from_array.path == "<array>"
    assert from_array.segments == from_path.segments
    assert from_array.song == from_path.song
    assert from_array.duration_s == from_path.duration_s


def test_onnx_is_the_ensemble_that_was_learnt(site: Site) -> None:
    (features,) = features_of(site, site.songs[3], batch=64)
    ensemble = reloaded(site.model.path, 4)
    assert ensemble.frontends == ("logmel", "descriptors")
    assert [len(list(group.children())) for group in ensemble.networks.values()] == [2, 2]
    with torch.no_grad():
        expected = ensemble(*(torch.from_numpy(features[name]) for name in ensemble.frontends)).numpy()
    found = site.model.segment_probabilities(features)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    assert np.ptp(found, axis=0).max() > 1e-3
    np.testing.assert_allclose(table(Analyzer(site.model).analyze(site.songs[3]).segments), found, atol=1e-6)


def test_probabilities_do_not_depend_on_the_batch(site: Site) -> None:
    whole = np.concatenate([site.model.segment_probabilities(f) for f in features_of(site, site.songs[4], batch=64)])
    for batch in (1, 3):
        parts = [site.model.segment_probabilities(f) for f in features_of(site, site.songs[4], batch=batch)]
        assert len(parts) > 1
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_finer_hop_adds_segments_and_keeps_the_others(site: Site) -> None:
    coarse, fine = (Analyzer(site.model, hop_s=hop).analyze(site.songs[0]) for hop in (None, 1.5))
    assert [s.start_s for s in fine.segments] == [0.0, 1.5, 3.0, 4.5, 6.0, 7.5, 9.0]
    np.testing.assert_allclose(table(fine.segments)[::2], table(coarse.segments), atol=1e-6)


@pytest.mark.parametrize("hop", [0.0, 0.05, -1.0, 61.0, float("nan")])
def test_a_hop_out_of_range_is_refused(site: Site, hop: float) -> None:
    with pytest.raises(ConfigError, match=r"must be above 0\.05 and at most 60 s"):
        Analyzer(site.model, hop_s=hop)


def test_analysis_needs_no_pytorch(site: Site) -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['sklearn'] = None\n"
        "from emoseg.analysis.analyzer import Analyzer\n"
        f"print(repr(Analyzer({str(site.model.path)!r}).analyze({str(site.songs[0])!r}).song.probabilities))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == repr(Analyzer(site.model).analyze(site.songs[0]).song.probabilities)


# The folder


def test_the_folder_says_what_it_was_learnt_from(site: Site) -> None:
    files = {f.name for f in site.model.path.iterdir()}
    assert files == {"config.json", "segment.onnx", "segment.safetensors", "song.safetensors", "MODEL_CARD.md"}
    assert [f.name for f in site.model.path.parent.iterdir() if f.name.startswith(".")] == []
    config = site.model.config
    assert config.training["songs"] == 16
    assert config.training["segments"] == 64
    assert config.training["method"] == "emoseg"
    assert config.training["seed"] == SEED
    assert config.training["learning"] == CONFIG.learning.model_dump(mode="json")
    assert config.segment == CONFIG.segment
    assert config.frontends == CONFIG.frontends
    assert config.figures["temperature"] == site.model.song.temperature
    card = (site.model.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "Apache-2.0" in card
    assert f"{config.figures['held_out_macro_f1']:.3f}" in card
    assert "16 songs (Q1 4, Q2 4, Q3 4, Q4 4), 64 segments of 3 s" in card


def test_the_folder_names_no_place_of_the_machine(site: Site) -> None:
    places = [str(Path(emoseg.__file__).parent), str(site.model.path.parent), str(site.songs[0].parent)]
    for file in site.model.path.iterdir():
        data = file.read_bytes()
        assert not any(place.encode() in data for place in places), file.name


@pytest.mark.parametrize("name", ["config.json", "segment.onnx", "song.safetensors"])
def test_a_missing_file_is_named(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(ModelError, match=f"{name}: is missing from the model folder"):
        load_model(copied)


@pytest.mark.parametrize("name", ["segment.onnx", "song.safetensors"])
def test_one_altered_byte_is_found(copied: Path, name: str) -> None:
    data = bytearray((copied / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / name).write_bytes(data)
    with pytest.raises(ModelError, match=f"{name}: was altered: its checksum is not the one in config.json"):
        load_model(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format="emoseg.model/2"), "has the format 'emoseg.model/2'; this version of emoseg reads"),
        (lambda c: c.pop("format"), "has the format None"),
        (lambda c: c.update(surprise=1), "unknown key 'surprise'"),
        (lambda c: c["segment"].update(hop_s=-1), "segment.hop_s"),
        (lambda c: c.pop("space"), "space: Field required"),
        (lambda c: c["space"].pop("labels"), r"space\.labels: Field required"),
        (lambda c: c["space"].update(labels=["Q1"]), "needs two or more distinct labels"),
        (lambda c: c["checksums"].pop("segment.onnx"), "has no checksum of segment.onnx"),
        (
            lambda c: c.update(frontend_versions=[99, 99]),
            "needs version 99 of the frontend 'logmel'; this version of emoseg has",
        ),
        (lambda c: c.update(frontend_versions=[1]), "has 2 frontends but 1 version"),
    ],
)
def test_an_unfit_config_is_refused(copied: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    rewrite(copied, change)
    with pytest.raises(ModelError, match=message):
        load_model(copied)


@pytest.mark.parametrize("text", ["{", "[]", "\xff", ""])
def test_a_config_that_is_no_json_object_is_refused(copied: Path, text: str) -> None:
    (copied / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=r"config\.json: "):
        load_model(copied)


def test_a_segment_model_that_onnx_runtime_cannot_read_is_named(copied: Path) -> None:
    (copied / "segment.onnx").write_bytes(b"not a model")
    rewrite(copied, lambda c: c["checksums"].update({"segment.onnx": file_checksum(copied / "segment.onnx")}))
    with pytest.raises(ModelError, match=r"segment\.onnx: is not ONNX as emoseg writes it"):
        load_model(copied)


def test_what_is_no_folder_is_no_model(site: Site, tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", site.songs[0]):
        with pytest.raises(ModelError, match="is not a model folder"):
            load_model(path)
    with pytest.raises(ModelError, match=r"config\.json: is missing from the model folder"):
        load_model(tmp_path)


# Training


def test_training_does_not_overwrite(site: Site, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for out in (kept, tmp_path / "file"):
        with pytest.raises(ConfigError, match="exists already; choose another --out"):
            site.train(out)
    assert (kept / "notes.txt").read_text() == "mine"
    assert {f.name for f in tmp_path.iterdir()} == {"kept", "file"}


def test_a_killed_training_goes_on_to_the_same_model(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model"
    run_epoch, left = MixupTrainer.run_epoch, iter(range(10))

    def killed(self: MixupTrainer, epoch: int) -> dict[str, Any]:
        if next(left, None) is None:
            raise KilledError
        return run_epoch(self, epoch)

    with monkeypatch.context() as patched:
        patched.setattr(MixupTrainer, "run_epoch", killed)
        with pytest.raises(KilledError):
            site.train(out)
    assert not out.exists()
    # Ten passes: both members of the first cross-fit, and half a member of the second.
    unfinished = tmp_path / ".model.unfinished"
    assert len(list(unfinished.rglob("*.safetensors"))) == 10

    other_settings = replace_settings(CONFIG, learning=CONFIG.learning.model_copy(update={"epochs": 5}))
    for refused in ({"config": other_settings}, {"seed": SEED + 1}):
        with pytest.raises(ConfigError, match="holds an unfinished run with other settings or songs"):
            site.train(out, **refused)

    out.mkdir()  # an empty folder is free
    resumed = site.train(out)
    assert not unfinished.exists()
    for name in ("segment.safetensors", "segment.onnx", "song.safetensors", "config.json", "MODEL_CARD.md"):
        assert (out / name).read_bytes() == (site.model.path / name).read_bytes(), name
    assert Analyzer(resumed).analyze(site.songs[6]) == Analyzer(site.model).analyze(site.songs[6])


@pytest.mark.parametrize(("part", "name"), [(Emoseg, "method emoseg"), (Descriptors, "frontend descriptors")])
def test_a_training_of_another_version_begins_anew(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: Any, name: str
) -> None:
    out, unfinished = tmp_path / "model", tmp_path / ".model.unfinished"
    run_epoch, left = MixupTrainer.run_epoch, iter(range(2))

    def killed(self: MixupTrainer, epoch: int) -> dict[str, Any]:
        if next(left, None) is None:
            raise KilledError
        return run_epoch(self, epoch)

    monkeypatch.setattr(MixupTrainer, "run_epoch", killed)
    with pytest.raises(KilledError):
        site.train(out)
    assert len(list(unfinished.rglob("*.safetensors"))) == 2
    version = part.version
    monkeypatch.setattr(part, "version", version + 1)
    with (
        pytest.warns(EmosegWarning, match=rf"version \({name} {version}, now {version + 1}\); it starts again$"),
        pytest.raises(KilledError),
    ):
        site.train(out)
    assert not list(unfinished.rglob("*.safetensors"))
