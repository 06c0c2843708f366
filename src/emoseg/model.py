"""The model folder: all that analysis needs, without PyTorch and without pickle.

``config.json`` (how to cut, which frontends, the emotion space, what it was learnt from, a checksum of every file),
``segment.onnx`` (features to probabilities), ``song.safetensors`` (the song model), ``segment.safetensors`` (the same
weights, for further training) and ``MODEL_CARD.md``. Models that come with the package lie in ``bundled/``; a name
stands for one of them wherever a model folder is asked for.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emoseg.config import FrontendConfig, SegmentConfig, TimelineConfig, first_problem
from emoseg.errors import ConfigError, ModelError
from emoseg.frontends import build_frontend
from emoseg.song import SongModel, song_model_from_arrays
from emoseg.types import EmotionSpace, Float64

if TYPE_CHECKING:
    import onnxruntime

FORMAT = "emoseg.model/1"
CONFIG_FILE, SEGMENT_FILE, SONG_FILE = "config.json", "segment.onnx", "song.safetensors"
WEIGHTS_FILE, CARD_FILE = "segment.safetensors", "MODEL_CARD.md"
BUNDLED = Path(__file__).parent / "bundled"
DEFAULT_MODEL = "4q"


class ModelConfig(BaseModel):
    """What ``config.json`` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = Field(FORMAT, description="Version of this layout.")
    name: str
    version: str
    emoseg_version: str
    space: dict[str, Any] = Field(description="Emotion space: labels, their order, axes, and the rule behind them.")
    segment: SegmentConfig
    frontends: tuple[FrontendConfig, ...]
    frontend_versions: tuple[int, ...]
    resampler: str = "soxr HQ"
    timeline: TimelineConfig = Field(TimelineConfig(), description="How segments become answers over time.")
    training: dict[str, Any] = Field(description="Corpus, its hash and licence terms, method, settings, seed.")
    figures: dict[str, float] = Field(description="Measured on out-of-fold training songs.")
    checksums: dict[str, str] = Field(description="BLAKE2b of every other file that analysis reads.")


@dataclass(frozen=True)
class ModelFolder:
    """A model folder, checked and ready for use; made by `load_model`."""

    path: Path
    config: ModelConfig
    song: SongModel

    @cached_property
    def space(self) -> EmotionSpace:
        """The emotion space of all probabilities."""
        return EmotionSpace.from_json(self.config.space)

    @cached_property
    def session(self) -> onnxruntime.InferenceSession:
        """The segment model on ONNX Runtime, on one thread: same input, same answer, on any number of cores."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            return onnxruntime.InferenceSession(
                str(self.path / SEGMENT_FILE), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime raises bare exceptions of its own, one type a cause
            raise ModelError(f"{self.path / SEGMENT_FILE}: cannot be loaded: {error}") from error

    def facts(self) -> dict[str, Any]:
        """Return what a list of models says of this one."""
        training = self.config.training
        return {
            "name": self.config.name,
            "version": self.config.version,
            "space": self.space.name,
            "labels": list(self.space.labels),
            "corpus": training["corpus"],
            "songs": training["songs"],
            "licence": training["licence"],
            "megabytes": sum(file.stat().st_size for file in self.path.iterdir()) / 1e6,
        }

    def segment_probabilities(self, features: dict[str, NDArray[np.float32]]) -> Float64:
        """Return probabilities of shape (B, K) from features, an array of shape (B, ...) for each frontend.

        One segment at a time: products of matrices sum in another order at another size, and a segment's probabilities
        must not depend on how many others it came with.
        """
        names = [frontend.name for frontend in self.config.frontends]
        rows = [
            self.session.run(["probabilities"], {name: features[name][i : i + 1] for name in names})[0]
            for i in range(len(features[names[0]]))
        ]
        return np.concatenate(rows).astype(np.float64)


def bundled_models() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(folder.name for folder in BUNDLED.iterdir() if (folder / CONFIG_FILE).is_file())


def find_model(model: str | Path = DEFAULT_MODEL) -> Path:
    """Return the folder that a model is in: a path, or else the name of a bundled one.

    Raises
    ------
    ModelError
        Neither a folder nor a bundled model is named so.
    """
    if Path(model).is_dir():
        return Path(model)
    if str(model) in bundled_models():
        return BUNDLED / str(model)
    names = ", ".join(bundled_models())
    raise ModelError(f"{model}: is not a model folder, and no bundled model has that name (there is {names})")


def load_model(model: str | Path = DEFAULT_MODEL) -> ModelFolder:
    """Load a model after checking that its folder is whole, unaltered and of this version.

    Parameters
    ----------
    model : str or Path
        A model folder, or the name of a bundled model.

    Raises
    ------
    ModelError
        There is no such model, a file is missing or altered, or it needs another version of a frontend.
    """
    from safetensors.numpy import load_file

    root = find_model(model)
    config = _read_config(root)
    for name, checksum in config.checksums.items():
        file = root / name
        if name == WEIGHTS_FILE and not file.exists():
            continue  # analysis does not read it, and bundled models come without
        if not file.is_file():
            raise ModelError(f"{file}: is missing from the model folder")
        if file_checksum(file) != checksum:
            raise ModelError(f"{file}: was altered: its checksum is not the one in {CONFIG_FILE}")
    for frontend, version in zip(config.frontends, config.frontend_versions, strict=True):
        current = build_frontend(frontend, config.segment).version
        if current != version:
            raise ModelError(
                f"{root}: needs version {version} of the frontend {frontend.name!r}; this emoseg has {current}"
            )
    return ModelFolder(root, config, song_model_from_arrays(load_file(root / SONG_FILE)))


def export_model(model: str | Path, out: Path, *, weights: bool = True) -> None:
    """Copy a model, checked, to a new folder.

    Parameters
    ----------
    model : str or Path
        A model folder, or the name of a bundled model.
    out : Path
        Must not exist.
    weights : bool
        With ``segment.safetensors``, where the model has it: twice the size, and only needed for further training.

    Raises
    ------
    ModelError
        The model cannot be used.
    ConfigError
        `out` exists.
    """
    source = load_model(model)
    if out.exists():
        raise ConfigError(f"{out}: exists already; choose another folder")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    names = [CONFIG_FILE, CARD_FILE, *source.config.checksums]
    part.mkdir(parents=True)
    for name in names:
        if (source.path / name).is_file() and (weights or name != WEIGHTS_FILE):
            shutil.copyfile(source.path / name, part / name)
    part.replace(out)


def _read_config(root: Path) -> ModelConfig:
    file = root / CONFIG_FILE
    if not file.is_file():
        raise ModelError(f"{file}: is missing from the model folder")
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        found = data.get("format") if isinstance(data, dict) else None
        if found != FORMAT:
            raise ModelError(f"{file}: has the format {found!r}; this emoseg reads {FORMAT!r}")
        config = ModelConfig.model_validate(data)
        if len(config.frontends) != len(config.frontend_versions):
            raise ModelError(
                f"{file}: has {len(config.frontends)} frontends but {len(config.frontend_versions)} versions"
            )
        missing = {SEGMENT_FILE, SONG_FILE} - set(config.checksums)
        if missing:
            raise ModelError(f"{file}: has no checksum of {', '.join(sorted(missing))}")
        EmotionSpace.from_json(config.space)
    except ValidationError as error:
        raise ModelError(f"{file}: {first_problem(error)}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ConfigError) as error:
        raise ModelError(f"{file}: was altered: {error}") from error
    return config


def file_checksum(file: Path) -> str:
    """Return the BLAKE2b checksum of a file, 32 hexadecimal digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
