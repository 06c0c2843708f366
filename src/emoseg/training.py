"""`emoseg train`: a corpus in, a model folder out; goes on where a killed run stopped."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

import emoseg
from emoseg.config import TrainConfig, config_hash, first_problem
from emoseg.corpora.base import Corpus
from emoseg.corpora.segments import CorpusSegments, load_segments
from emoseg.corpora.splits import song_folds
from emoseg.errors import ConfigError, MissingExtraError
from emoseg.frontends import build_frontend
from emoseg.metrics import calibration_error, macro_f1
from emoseg.model import (
    CARD_FILE,
    CONFIG_FILE,
    SEGMENT_FILE,
    SONG_FILE,
    WEIGHTS_FILE,
    ModelConfig,
    ModelFolder,
    file_checksum,
    load_model,
)
from emoseg.progress import progress
from emoseg.song import song_model_arrays


@dataclass(frozen=True)
class Trained:
    """A new model folder, and the songs that could not be learnt from, a line each."""

    model: ModelFolder
    left_out: tuple[str, ...]


def require_train_extra() -> None:
    """Raise `MissingExtraError` unless the packages that learning needs are installed."""
    from importlib.util import find_spec

    if any(find_spec(name) is None for name in ("torch", "sklearn", "onnx", "onnxscript")):
        raise MissingExtraError("learning", "train")


def train(
    corpus: Corpus,
    out: Path,
    *,
    config: TrainConfig,
    seed: int = 0,
    measured: Path | None = None,
    notes: Path | None = None,
    workers: int | None = None,
    cache: Path | None = None,
    quiet: bool = False,
) -> Trained:
    """Learn a model folder.

    Every finished pass is kept in a folder beside `out` until the model is written; the same call after a kill goes on
    from there and gives the same model as an uninterrupted run.

    Parameters
    ----------
    corpus : Corpus
    out : Path
        Must not exist, or be an empty folder.
    config : TrainConfig
    seed : int
    measured : Path, optional
        A result file of `emoseg evaluate` with the same corpus and settings: its figures go into the model card.
    notes : Path, optional
        Text for the end of the model card.
    workers : int, optional
        Processes; default the number of cores. The model does not depend on it.
    cache : Path, optional
        Folder of the feature store.
    quiet : bool
        No progress bars.

    Raises
    ------
    ConfigError
        `out` is not free, or holds the passes of a run with other settings; `measured` is of something else; or a file
        cannot be read.
    CorpusError
        The corpus cannot be learnt from.
    """
    require_train_extra()
    if not out.name:
        raise ConfigError(f"{out}: --out must name a new folder")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: exists already; choose another --out")
    from emoseg.learning.methods import METHODS
    from emoseg.learning.methods.base import Run, TrainingSet
    from emoseg.learning.pipeline import learn

    method = METHODS[config.method]
    if method.not_in_folder:
        raise ConfigError(f"method {config.method!r} cannot be trained into a model folder: {method.not_in_folder}")
    method.require_extra()
    said = _read_text(notes) if notes else ""
    segments = load_segments(corpus, config, cache=cache, workers=workers, quiet=quiet)
    said = (_measured_section(measured, config, segments) if measured else "") + said
    parts = {"folds": config.learning.members, "seed": seed}
    song_folds(segments.song_labels, segments.groups(), **parts, label_names=corpus.space.labels)  # says early if not
    work = _work_folder(out, config_hash(config, f"seed {seed}", corpus_hash(segments)))
    data = TrainingSet(
        segments.table.features,
        segments.inherited,
        segments.song,
        segments.groups(),
        len(corpus.space.labels),
        segments.soft if config.learning.soft_labels else None,
    )
    tables = segments.table.features
    epochs = {name: config.learning.for_features(table.ndim).epochs for name, table in tables.items()}
    passes = method.passes(epochs, config.learning.members)
    with progress(f"learning ({config.method})", passes, unit="passes", quiet=quiet) as bar:
        run = Run(config.learning, seed, workers or os.cpu_count() or 1, work, bar.advance)
        learned = learn(data, method=config.method, run=run)
    _write_folder(out, learned, segments, corpus, config, seed, said)
    shutil.rmtree(work)
    return Trained(load_model(out), segments.left_out)


def corpus_hash(segments: CorpusSegments) -> str:
    """Return a hash of which songs were learnt from and their labels: 16 hexadecimal digits."""
    parts = [[song.id, song.label, song.artist] for song in segments.songs]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()


def _work_folder(out: Path, fingerprint: str) -> Path:
    work = out.with_name(f".{out.name}.unfinished")
    marker = work / "settings"
    if work.exists() and (not marker.is_file() or marker.read_text() != fingerprint):
        raise ConfigError(f"{work}: holds an unfinished run with other settings or songs; delete it or change --out")
    work.mkdir(parents=True, exist_ok=True)
    marker.write_text(fingerprint)
    return work


def _write_folder(
    out: Path, learned: Any, segments: CorpusSegments, corpus: Corpus, config: TrainConfig, seed: int, said: str
) -> None:
    from safetensors.numpy import save_file

    from emoseg.learning.ensemble import export_onnx

    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    built = {f.name: build_frontend(f, config.segment) for f in config.frontends}
    ensemble = learned.fit.ensemble
    export_onnx(ensemble, {name: f.shape() for name, f in built.items()}, part / SEGMENT_FILE)
    weights = {k: np.ascontiguousarray(v.numpy()) for k, v in ensemble.state_dict().items()}
    save_file(weights, part / WEIGHTS_FILE)
    save_file(song_model_arrays(learned.song_model), part / SONG_FILE)
    figures = _figures(learned, segments, len(corpus.space.labels))
    model_config = ModelConfig(
        name=out.name,
        version="1",
        emoseg_version=emoseg.__version__,
        space=corpus.space.to_json(),
        segment=config.segment,
        frontends=config.frontends,
        frontend_versions=tuple(f.version for f in built.values()),
        training={
            "corpus": corpus.name,
            "songs": len(segments.songs),
            "segments": len(segments.song),
            "hash": corpus_hash(segments),
            "licence": corpus.licence,
            "citation": corpus.citation,
            "method": config.method,
            "seed": seed,
            "guards": _guards(learned),
            "learning": config.learning.model_dump(mode="json"),
        },
        figures=figures,
        checksums={name: file_checksum(part / name) for name in (SEGMENT_FILE, SONG_FILE, WEIGHTS_FILE)},
    )
    (part / CONFIG_FILE).write_text(model_config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (part / CARD_FILE).write_text(_card(model_config, corpus) + said, encoding="utf-8")
    for file in part.iterdir():
        file.chmod(0o644)  # safetensors writes files that only their owner can read
    if out.exists():
        out.rmdir()  # empty, as checked before learning
    part.replace(out)


def _guards(learned: Any) -> dict[str, int]:
    """Count over members, networks and passes how often each guard of the mixture had to step in."""
    records = [record for members in learned.fit.history.values() for member in members for record in member]
    reasons = [reason for record in records for reason in record.get("fallback", []) if reason]
    rescued = sum(bool(classes) for record in records for classes in record.get("rescued_classes", []))
    return dict(Counter(reasons)) | ({"rescued class": rescued} if rescued else {})


def _figures(learned: Any, segments: CorpusSegments, classes: int) -> dict[str, float]:
    """Measure on the training songs, each held out of the members and the song model that judge it."""
    held_out, labels = learned.song_held_out, segments.song_labels
    return {
        "held_out_macro_f1": macro_f1(labels, held_out.argmax(axis=1), classes),
        "held_out_calibration_error": calibration_error(labels, held_out),
        "temperature": learned.song_model.temperature,
        "segments_flagged": float(np.mean(learned.fit.flagged)),
    }


def _card(config: ModelConfig, corpus: Corpus) -> str:
    training, figures = config.training, config.figures
    labels = ", ".join(corpus.space.labels)
    counts = ", ".join(f"{label} {n}" for label, n in corpus.counts().items())
    return f"""# {config.name}

Music emotion over time, learnt with emoseg {config.emoseg_version} (method `{training["method"]}`).

- Emotion space: {corpus.space.name} ({labels}). {corpus.space.rule}
- Learnt from: {corpus.name}, {training["songs"]} songs ({counts}), {training["segments"]} segments of \
{config.segment.length_s:g} s.
- Terms of the training data: {corpus.licence}
- Cite: {corpus.citation or "no citation known"}
- Song-level macro-F1 on training songs, each held out of the networks and the song model that judge it: \
{figures["held_out_macro_f1"]:.3f}; expected calibration error {figures["held_out_calibration_error"]:.3f}.
- Segments whose inherited label the learner does not trust: {figures["segments_flagged"]:.1%}.

These figures come from the training corpus and its own labels.
"""


def _read_text(file: Path) -> str:
    try:
        return "\n" + file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from error


def _measured_section(file: Path, config: TrainConfig, segments: CorpusSegments) -> str:
    """Return the model card's section of figures on songs never heard, from a result file of the same learner."""
    try:
        result = json.loads(_read_text(file))
        # Validated, so that a key that is newer than the file has its default.
        settings = TrainConfig.model_validate(result["config"] | {"method": config.method})
        protocol, figures = result["protocol"], result["methods"].get(config.method)
        corpus, labels = result["corpus"], result["corpus"]["space"]["labels"]
        noise, fraction = protocol["noise"], protocol["fraction"]
    except ValidationError as error:
        raise ConfigError(f"{file}: its settings are not of this version: {first_problem(error)}") from error
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{file}: is not a result file of 'emoseg evaluate': {error}") from error
    if figures is None:
        raise ConfigError(f"{file}: has no figures of the method {config.method!r}")
    if settings != config:
        raise ConfigError(f"{file}: was measured with other settings")
    if corpus["hash"] != corpus_hash(segments) or noise != "none" or fraction != 1:
        raise ConfigError(f"{file}: was measured on other songs or labels")
    if split := protocol.get("test_split"):
        raise ConfigError(f"{file}: was measured on the official part {split['parts']}, not on all songs")
    low, high = figures["macro_f1"]["interval"]
    kept = "no artist in two folds" if protocol["group"] == "artist" else "songs at random"
    recall = ", ".join(f"{label} {figures['recall'][label]:.2f}" for label in labels)
    return f"""
## On songs that it never heard

`emoseg evaluate`, {protocol["folds"]} folds ({kept}) x {len(protocol["seeds"])} seeds, the same learner on the other \
folds:

- Song macro-F1 {figures["macro_f1"]["mean"]:.3f} (95 % interval over songs {low:.3f} to {high:.3f}), accuracy \
{figures["accuracy"]:.3f}; chance is {1 / len(labels):.2f}.
- Recall by label: {recall}.
- Expected calibration error of song probabilities: {figures["calibration_error"]:.3f}.
"""
