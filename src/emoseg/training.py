"""Training of a model folder from a corpus (`emoseg train`). An interrupted run continues where it stopped."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from emoseg.analysis.model_folder import (
    CARD_FILE,
    CONFIG_FILE,
    SEGMENT_FILE,
    SONG_FILE,
    WEIGHTS_FILE,
    ModelConfig,
    ModelFolder,
    load_model,
)
from emoseg.config import TrainConfig, config_hash, first_problem
from emoseg.corpora.base import Corpus, Song
from emoseg.corpora.segments import CorpusSegments, load_segments
from emoseg.corpora.splits import song_folds
from emoseg.errors import ConfigError, EmosegError
from emoseg.frontends import build_frontend
from emoseg.learning import check_arguments, check_seed, require_train_extra
from emoseg.learning.methods import METHODS, build_method, code_versions, resolve_settings
from emoseg.metrics import calibration_error, macro_f1
from emoseg.song.file import song_model_arrays
from emoseg.system.files import file_checksum, read_text, work_folder
from emoseg.system.progress import progress
from emoseg.system.unfinished import claim, unfinished, unfinished_folder
from emoseg.types import Float64
from emoseg.version import VERSION

_MOST_NOTES = 1_000_000  # bytes
_MOST_RESULT = 100_000_000


@dataclass(frozen=True)
class Trained:
    """A new model folder, and the clean probabilities of the labels that it was trained on.

    Parameters
    ----------
    model : ModelFolder
        The model, loaded.
    left_out : tuple of str
        One line per song that could not be used for training, with the reason.
    songs : tuple of Song
        The songs that were used for training.
    clean : tuple of arrays, each of shape (S,), in [0, 1]
        One array per song of `songs`: for each segment the probability that the song's label is right for it.
    """

    model: ModelFolder
    left_out: tuple[str, ...]
    songs: tuple[Song, ...]
    clean: tuple[Float64, ...]


def train(
    corpus: Corpus,
    out: str | os.PathLike[str],
    *,
    config: TrainConfig | None = None,
    seed: int = 0,
    measured: Path | None = None,
    notes: Path | None = None,
    workers: int | None = None,
    cache: Path | None = None,
    quiet: bool = False,
) -> Trained:
    """Train a model on a corpus, write its folder, and return the model with the clean probabilities of the labels.

    Every finished pass is saved in a folder beside `out` until the model is written. After an interruption the same
    call continues from the saved passes and gives the same model as an uninterrupted run. If the version of emoseg, of
    a frontend or of the method has changed since, training starts again.

    Parameters
    ----------
    corpus : Corpus
        The songs, their labels and the emotion space.
    out : path
        The new model folder. It must not exist, or be empty.
    config : TrainConfig, optional
        Settings. By default every setting has its default, and the method is ``"emoseg"``.
    seed : int
        The same seed, corpus and settings give the same model.
    measured : Path, optional
        A result file of `emoseg evaluate` for the same corpus and settings. Its figures go into the model card.
    notes : Path, optional
        A text file whose content is put at the end of the model card.
    workers : int, optional
        Number of processes; by default the number of cores. The model does not depend on it.
    cache : Path, optional
        Folder of the feature store; by default that of `emoseg.frontends.store.default_cache`.
    quiet : bool
        Whether to hide progress bars.

    Raises
    ------
    ConfigError
        An argument is of the wrong type; `out` exists and is not an empty folder; the saved passes belong to a run with
        other settings; a setting breaks its rule; `measured` has figures for other songs, labels or settings; or a file
        cannot be read.
    CorpusError
        No model can be trained on the corpus, such as when it has fewer songs of a label than the cross-fit has parts.
    EmosegError
        Another process is training the same `out`, a loss or a probability is not finite, a process ended unexpectedly,
        or the disk is full.

    Warns
    -----
    EmosegWarning
        Saved passes or features are damaged or of another version; they are computed again.
    """
    require_train_extra()
    config = TrainConfig() if config is None else config
    check_arguments(corpus, config, workers)
    check_seed(seed)
    out = Path(out)
    _require_free(out)
    config = resolve_settings(config, [config.method])
    method = METHODS[config.method]
    if method.not_in_folder:
        raise ConfigError(f"method {config.method!r} cannot be trained into a model folder: {method.not_in_folder}")
    method.require_extra()
    appendix = "\n" + read_text(notes, most_bytes=_MOST_NOTES, error=ConfigError) if notes else ""
    result = _read_result(measured) if measured else None
    work = unfinished_folder(out)
    with unfinished(work):
        _require_free(out)  # another process may have written the folder while this one waited for the lock
        segments = load_segments(corpus, config, cache=cache, workers=workers, quiet=quiet)
        if measured:
            appendix = _measured_section(measured, result, config, segments) + appendix
        parts = {"folds": config.learning.members, "seed": seed}
        # Called only for its errors: songs that cannot be divided into parts are reported before hours of training.
        song_folds(segments.song_labels, segments.groups(), **parts, label_names=corpus.space.labels)
        settings = config_hash(config, f"seed {seed}", segments.hash)
        claim(work, settings, what="run", versions=code_versions(config, [config.method]))
        learned = _run_training(segments, config, seed, work, len(corpus.space.labels), workers, quiet=quiet)
        try:
            _write_folder(out, work, learned, segments, corpus, config, seed, appendix)
        except OSError as error:
            raise EmosegError(f"{out}: cannot be written: {error.strerror or error}") from error
        shutil.rmtree(work, ignore_errors=True)
    clean = tuple(learned.fit.clean[segments.song == i] for i in range(len(segments.songs)))
    return Trained(load_model(out), segments.left_out, segments.songs, clean)


def _require_free(out: Path) -> None:
    if not out.name:
        raise ConfigError(f"{out}: --out must name a new folder")
    try:
        free = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    except OSError as error:
        raise ConfigError(f"{out}: cannot be read: {error.strerror or error}") from error
    if not free:
        raise ConfigError(f"{out}: exists already; choose another --out")


def _run_training(
    segments: CorpusSegments,
    config: TrainConfig,
    seed: int,
    work: Path,
    classes: int,
    workers: int | None,
    *,
    quiet: bool,
) -> Any:
    from emoseg.learning.methods.base import Run
    from emoseg.learning.pipeline import learn
    from emoseg.learning.training_set import TrainingSet

    tables = segments.table.features
    soft = segments.soft if config.learning.soft_labels else None
    data = TrainingSet(tables, segments.inherited, segments.song, segments.groups(), classes, soft)
    epochs = {name: config.learning.for_features(table.ndim).epochs for name, table in tables.items()}
    method = build_method(config, config.method)
    passes = method.passes(epochs, config.learning.members)
    with progress(f"learning ({config.method})", passes, unit="passes", quiet=quiet) as bar:
        run = Run(config.learning, seed, workers or os.cpu_count() or 1, work, bar.advance)
        return learn(data, method=method, run=run)


def _write_folder(
    out: Path,
    work: Path,
    learned: Any,
    segments: CorpusSegments,
    corpus: Corpus,
    config: TrainConfig,
    seed: int,
    appendix: str,
) -> None:
    """Write the model folder inside the work folder, and rename it to `out` once it is complete."""
    from safetensors.numpy import save

    from emoseg.learning.ensemble import export_onnx

    with work_folder(work) as part:
        built = {f.name: build_frontend(f, config.segment) for f in config.frontends}
        ensemble = learned.fit.ensemble
        export_onnx(ensemble, {name: f.shape() for name, f in built.items()}, part / SEGMENT_FILE)
        weights = {k: np.ascontiguousarray(v.numpy()) for k, v in ensemble.state_dict().items()}
        (part / WEIGHTS_FILE).write_bytes(save(weights))
        (part / SONG_FILE).write_bytes(save(song_model_arrays(learned.song_model)))
        model_config = ModelConfig(
            name=out.name,
            version="1",
            emoseg_version=VERSION,
            space=corpus.space.to_json(),
            segment=config.segment,
            frontends=config.frontends,
            frontend_versions=tuple(f.version for f in built.values()),
            training=_training_facts(learned, segments, corpus, config, seed),
            figures=_held_out_figures(learned, segments, len(corpus.space.labels)),
            checksums={name: file_checksum(part / name) for name in (SEGMENT_FILE, SONG_FILE, WEIGHTS_FILE)},
        )
        (part / CONFIG_FILE).write_text(model_config.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (part / CARD_FILE).write_text(_model_card(model_config, corpus) + appendix, encoding="utf-8")
        if out.exists():
            out.rmdir()  # empty, as checked before training
        part.replace(out)


def _training_facts(
    learned: Any, segments: CorpusSegments, corpus: Corpus, config: TrainConfig, seed: int
) -> dict[str, Any]:
    """Return the entry ``training`` of ``config.json``: the corpus, the method and its settings."""
    return {
        "corpus": corpus.name,
        "songs": len(segments.songs),
        "segments": len(segments.song),
        "hash": segments.hash,
        "licence": corpus.licence,
        "citation": corpus.citation,
        "method": config.method,
        "seed": seed,
        "guards": _fallback_counts(learned),
        "learning": config.learning.model_dump(mode="json"),
        "method_settings": config.methods[config.method],
    }


def _fallback_counts(learned: Any) -> dict[str, int]:
    """Return how often each fallback of the mixture model was used, over all members, networks and passes."""
    records = [record for members in learned.fit.history.values() for member in members for record in member]
    reasons = [reason for record in records for reason in record.get("fallback", []) if reason]
    rescued = sum(bool(classes) for record in records for classes in record.get("rescued_classes", []))
    return dict(Counter(reasons)) | ({"rescued class": rescued} if rescued else {})


def _held_out_figures(learned: Any, segments: CorpusSegments, classes: int) -> dict[str, float]:
    """Return measures on the training songs; each song is held out of the members and song model that predict it."""
    held_out, labels = learned.song_held_out, segments.song_labels
    return {
        "held_out_macro_f1": macro_f1(labels, held_out.argmax(axis=1), classes),
        "held_out_calibration_error": calibration_error(labels, held_out),
        "temperature": learned.song_model.temperature,
        "segments_flagged": float(np.mean(learned.fit.flagged)),
    }


def _model_card(config: ModelConfig, corpus: Corpus) -> str:
    training, figures = config.training, config.figures
    labels = ", ".join(corpus.space.labels)
    counts = ", ".join(f"{label} {n}" for label, n in corpus.counts().items())
    return f"""# {config.name}

Music emotion over time, trained with emoseg {config.emoseg_version} (method `{training["method"]}`).

- Emotion space: {corpus.space.name} ({labels}). {corpus.space.rule}
- Training data: {corpus.name}, {training["songs"]} songs ({counts}), {training["segments"]} segments of \
{config.segment.length_s:g} s.
- Terms of the training data: {corpus.licence}
- Cite: {corpus.citation or "no citation known"}
- Song-level macro-F1 on training songs, each held out of the networks and the song model that predict it: \
{figures["held_out_macro_f1"]:.3f}; expected calibration error {figures["held_out_calibration_error"]:.3f}.
- Segments whose inherited label training flagged as wrong: {figures["segments_flagged"]:.1%}.

These figures come from the training corpus and its own labels.
"""


def _read_result(file: Path) -> Any:
    """Return the JSON value of a result file; `_measured_section` checks its content."""
    text = read_text(file, most_bytes=_MOST_RESULT, error=ConfigError)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: is not a result file of 'emoseg evaluate': {error}") from error


def _measured_section(file: Path, result: Any, config: TrainConfig, segments: CorpusSegments) -> str:
    """Return the model card's section on held-out songs, with the figures of a result file.

    Raises
    ------
    ConfigError
        The file is no result file, or its figures are for another method, other settings, songs or labels.
    """
    try:
        # Validation gives a setting that is newer than the file its default.
        settings = TrainConfig.model_validate(result["config"] | {"method": config.method})
        protocol, figures = result["protocol"], result["methods"].get(config.method)
        if figures is None:
            raise ConfigError(f"{file}: has no figures for the method {config.method!r}")
        if _resolved(settings, file) != resolve_settings(config, [config.method]):
            raise ConfigError(f"{file}: was measured with other settings")
        same_labels = protocol["noise"] == "none" and protocol["fraction"] == 1
        if result["corpus"]["hash"] != segments.hash or not same_labels:
            raise ConfigError(f"{file}: was measured on other songs or labels")
        if split := protocol.get("test_split"):
            raise ConfigError(f"{file}: was measured on the official part {split['parts']}, not on all songs")
        return _figures_section(protocol, figures, result["corpus"]["space"]["labels"])
    except ValidationError as error:
        raise ConfigError(f"{file}: its settings are not valid in this version: {first_problem(error)}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{file}: is not a result file of 'emoseg evaluate': {error}") from error


def _resolved(settings: TrainConfig, file: Path) -> TrainConfig:
    """Return the settings of a result file, completed with the defaults of the method."""
    try:
        return resolve_settings(settings, [settings.method])
    except ConfigError as error:
        raise ConfigError(f"{file}: its settings are not valid in this version: {error}") from error


def _figures_section(protocol: Any, figures: Any, labels: Any) -> str:
    low, high = map(_fraction, figures["macro_f1"]["interval"])
    kept = "no artist in two folds" if protocol["group"] == "artist" else "songs at random"
    recall = ", ".join(f"{label} {_fraction(figures['recall'][label]):.2f}" for label in labels)
    return f"""
## On songs that it was not trained on

`emoseg evaluate`, {int(protocol["folds"])} folds ({kept}) x {len(protocol["seeds"])} seeds, the same method trained \
on the other folds:

- Song macro-F1 {_fraction(figures["macro_f1"]["mean"]):.3f} (95 % interval over songs {low:.3f} to {high:.3f}), \
accuracy {_fraction(figures["accuracy"]):.3f}; chance is {1 / len(labels):.2f}.
- Recall by label: {recall}.
- Expected calibration error of song probabilities: {_fraction(figures["calibration_error"]):.3f}.
"""


def _fraction(value: Any) -> float:
    if not isinstance(value, int | float) or not (math.isfinite(value) and 0 <= value <= 1):
        raise ValueError(f"{value!r} is not from 0 to 1")
    return float(value)
