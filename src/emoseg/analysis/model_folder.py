"""The model folder: everything that analysis needs from a trained model, without PyTorch and without pickle.

- ``config.json``: segments, frontends, emotion space, facts about the training, and a checksum of every other file.
- ``segment.onnx``: the segment model, from features to probabilities.
- ``song.safetensors``: the song model.
- ``segment.safetensors``: the weights of the segment model, for further training.
- ``MODEL_CARD.md``: a description for people.

Models that come with the package are in ``bundled/``. Wherever a model folder is expected, the name of a bundled model
will do.

A model folder may come from an untrusted source. No file outside the folder is read, the size of each file is limited,
and `load_model` checks everything that is used later. The checksums only show that a copy is complete: whoever alters a
file can write a new checksum.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from emoseg.analysis.onnx_check import OUTPUT, check_segment_model
from emoseg.analysis.untrusted import existing_file, parse_json, problems_in, read_content, short_line
from emoseg.config import FrontendConfig, SegmentConfig, TimelineConfig, check_frontends, first_problem
from emoseg.emotion import EmotionSpace
from emoseg.errors import ConfigError, ModelError
from emoseg.frontends import build_frontend
from emoseg.song.file import song_model_from_arrays
from emoseg.song.model import SongModel
from emoseg.system.files import checksum, file_checksum, remove_leftovers, work_folder
from emoseg.types import Float64

if TYPE_CHECKING:
    import onnxruntime

FORMAT = "emoseg.model/1"
CONFIG_FILE, CARD_FILE = "config.json", "MODEL_CARD.md"
SEGMENT_FILE: Final = "segment.onnx"
SONG_FILE: Final = "song.safetensors"
WEIGHTS_FILE: Final = "segment.safetensors"
BUNDLED = Path(__file__).parent / "bundled"
DEFAULT_MODEL = "4q"

_MOST_TEXT = 1_000_000  # bytes of config.json and of the model card
_MOST_SONG = 128_000_000  # bytes of song.safetensors: analysis needs four times as much memory
_MOST_WEIGHTS = 256_000_000  # bytes of every other file
_MOST_BYTES = {CONFIG_FILE: _MOST_TEXT, CARD_FILE: _MOST_TEXT, SONG_FILE: _MOST_SONG}
_MOST_LABELS = 1000
_ROUNDING = 1e-3  # how far a sum of probabilities may be from 1
_SILENT = 4  # ONNX Runtime's lowest severity that is logged: fatal errors only
_UNKNOWN = "unknown"


def _check_line(text: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text):
        raise ValueError("must be one line without control characters")
    return text


Line = Annotated[str, Field(max_length=2000), AfterValidator(_check_line)]
Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_check_line)]
Position = Annotated[float, Field(ge=-1, le=1)]
Checksum = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
ModelFile = Literal["segment.onnx", "song.safetensors", "segment.safetensors"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class AxisConfig(_Strict):
    """Position of a label on the axes valence and arousal, in [-1, 1]; None on an axis where it has no position."""

    valence: Position | None = None
    arousal: Position | None = None


class SpaceConfig(_Strict):
    """An emotion space in the form of ``config.json``."""

    name: Name
    labels: tuple[Name, ...] = Field(max_length=_MOST_LABELS)
    axes: dict[str, AxisConfig]
    rule: Line = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if absent := sorted(set(self.labels) - set(self.axes)):
            raise ValueError(f"axes has no label {absent[0]!r}")
        try:
            self.build()
        except ConfigError as error:
            raise ValueError(str(error)) from error
        if unknown := sorted(set(self.axes) - set(self.labels)):
            raise ValueError(f"axes has an unknown label {unknown[0]!r}")
        return self

    def build(self) -> EmotionSpace:
        """Return the `EmotionSpace` that this form describes.

        Raises
        ------
        ConfigError
            It breaks a rule of emotion spaces.
        """
        return EmotionSpace.from_json(self.model_dump())


class _TrainingFacts(BaseModel):
    """The facts in ``training`` that are shown in lists of models; the other facts are not read."""

    corpus: Line = _UNKNOWN
    songs: Annotated[int, Field(ge=0, le=10**9)] | None = None
    licence: Line = _UNKNOWN


class ModelConfig(_Strict):
    """The content of ``config.json``."""

    format: str = Field(FORMAT, description="Version of this layout.")
    name: Name
    version: Name
    emoseg_version: Name
    space: SpaceConfig = Field(description="Emotion space: labels, their order, axes, and the rule behind them.")
    segment: SegmentConfig
    frontends: tuple[FrontendConfig, ...] = Field(min_length=1)
    frontend_versions: tuple[int, ...]
    resampler: Name = "soxr HQ"
    timeline: TimelineConfig = Field(TimelineConfig(), description="How answers over time follow from segments.")
    training: dict[str, Any] = Field(description="Corpus, its hash and licence terms, method, settings, seed.")
    figures: dict[str, float] = Field(description="Measured on out-of-fold training songs.")
    checksums: dict[ModelFile, Checksum] = Field(
        description="BLAKE2b checksum of every other file that analysis reads."
    )

    @field_validator("training")
    @classmethod
    def _check_training(cls, training: dict[str, Any]) -> dict[str, Any]:
        try:
            _TrainingFacts.model_validate(training)
        except ValidationError as error:
            raise ValueError(first_problem(error)) from error
        return training

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_frontends(self.segment, self.frontends)
        if len(self.frontends) != len(self.frontend_versions):
            raise ValueError(f"has {len(self.frontends)} frontends but {len(self.frontend_versions)} versions")
        if missing := {SEGMENT_FILE, SONG_FILE} - set(self.checksums):
            raise ValueError(f"has no checksum of {', '.join(sorted(missing))}")
        return self


@dataclass(frozen=True)
class ModelFolder:
    """A model that is checked and ready for use, as `load_model` returns it.

    Parameters
    ----------
    path : Path
        The folder.
    config : ModelConfig
    song : SongModel
    """

    path: Path
    config: ModelConfig
    song: SongModel

    @cached_property
    def space(self) -> EmotionSpace:
        """The emotion space of all probabilities."""
        return self.config.space.build()

    @cached_property
    def session(self) -> onnxruntime.InferenceSession:
        """The segment model in ONNX Runtime, on one thread: its results must not depend on the number of cores.

        Raises
        ------
        ModelError
            The file has changed since it was checked, or ONNX Runtime cannot load it.
        """
        runtime = _import_onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = _SILENT
        # Without this, a file that is valid both as ONNX and in the runtime's own format could be read as the latter,
        # which was not checked.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        content = _checked_content(self.path, SEGMENT_FILE, self.config)
        try:
            return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            raise ModelError(f"{self.path / SEGMENT_FILE}: cannot be loaded: {short_line(error)}") from error

    def facts(self) -> dict[str, Any]:
        """Return the facts that a list of models shows, as plain values; the size is in megabytes."""
        training = _TrainingFacts.model_validate(self.config.training)
        files = [self.path / name for name in (CONFIG_FILE, CARD_FILE, *self.config.checksums)]
        return {
            "name": self.config.name,
            "version": self.config.version,
            "space": self.space.name,
            "labels": list(self.space.labels),
            "corpus": training.corpus,
            "songs": _UNKNOWN if training.songs is None else training.songs,
            "licence": training.licence,
            "megabytes": sum(file.stat().st_size for file in files if file.is_file()) / 1e6,
        }

    def segment_probabilities(self, features: dict[str, NDArray[np.float32]]) -> Float64:
        """Return the probabilities of segments, shape (B, K), in [0, 1].

        Segments are computed one at a time. In a batch, the order of summation in matrix products depends on the size
        of the batch, so a segment's probabilities would depend on the other segments.

        Parameters
        ----------
        features : dict of str to array of float32, shape (B, ...)
            One array per frontend, by its name.

        Raises
        ------
        ModelError
            The segment model cannot be run, or its output is not a set of probabilities.
        """
        names = [frontend.name for frontend in self.config.frontends]
        rows = [
            self._probabilities({name: features[name][i : i + 1] for name in names})
            for i in range(len(features[names[0]]))
        ]
        return np.concatenate(rows)

    def _probabilities(self, features: dict[str, NDArray[np.float32]]) -> Float64:
        """Return the probabilities of one segment, shape (1, K)."""
        file, session = self.path / SEGMENT_FILE, self.session
        try:
            found = np.asarray(session.run([OUTPUT], features)[0], dtype=np.float64)
        except Exception as error:  # as above
            raise ModelError(f"{file}: cannot be run: {short_line(error)}") from error
        if found.shape != (1, len(self.space.labels)):
            raise ModelError(f"{file}: returned probabilities of shape {found.shape}")
        if not np.isfinite(found).all():
            raise ModelError(f"{file}: returned probabilities that are not finite")
        if found.min() < 0 or abs(found.sum() - 1) > _ROUNDING:
            raise ModelError(f"{file}: returned probabilities that are negative or do not sum to 1")
        return found


def _import_onnxruntime() -> ModuleType:
    """Import ONNX Runtime with telemetry and log messages switched off."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when the library is loaded, before the call below can act
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # needed if the program had imported it before
    onnxruntime.set_default_logger_severity(_SILENT)
    return onnxruntime


def bundled_models() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(folder.name for folder in BUNDLED.iterdir() if (folder / CONFIG_FILE).is_file())


def find_model(model: str | Path = DEFAULT_MODEL) -> Path:
    """Return the folder of a model, given as a path or as the name of a bundled model. A folder has precedence.

    Raises
    ------
    ModelError
        There is no folder and no bundled model of that name.
    """
    if os.path.isdir(model):  # noqa: PTH112 - pathlib raises for names that no file can have
        return Path(model)
    if str(model) in bundled_models():
        return BUNDLED / str(model)
    names = ", ".join(bundled_models())
    raise ModelError(f"{model}: is not a model folder, and no bundled model has that name (there is {names})")


def load_model(model: str | os.PathLike[str] = DEFAULT_MODEL) -> ModelFolder:
    """Return a model, after a check that its folder is complete, unaltered and fits this version of emoseg.

    Parameters
    ----------
    model : str or Path
        A model folder, or the name of a bundled model.

    Raises
    ------
    ModelError
        There is no such model; a file is missing, was altered, is too large or is not as emoseg writes it; or the model
        needs another version of a frontend.
    """
    root = find_model(Path(model))
    config = _read_config(root)
    shapes = _feature_shapes(root, config)
    segment_model = _checked_content(root, SEGMENT_FILE, config)
    with problems_in(root / SEGMENT_FILE):
        check_segment_model(segment_model, inputs=shapes, labels=len(config.space.labels))
    song = _read_song_model(root, config, shapes)
    if WEIGHTS_FILE in config.checksums and os.path.lexists(root / WEIGHTS_FILE):  # bundled models lack it
        _check_sum(
            root, WEIGHTS_FILE, config, file_checksum(existing_file(root, WEIGHTS_FILE, most_bytes=_MOST_WEIGHTS))
        )
    return ModelFolder(root, config, song)


def read_card(model: ModelFolder) -> str:
    """Return the text of the model card, or an empty string if the folder has no card.

    Raises
    ------
    ModelError
        The card is too large, or is not UTF-8 text.
    """
    if not os.path.lexists(model.path / CARD_FILE):
        return ""
    with problems_in(model.path / CARD_FILE):
        return _content(model.path, CARD_FILE).decode()


def export_model(model: str | Path, out: Path, *, weights: bool = True) -> None:
    """Copy a model to a new folder, after the checks of `load_model`.

    Parameters
    ----------
    model : str or Path
        A model folder, or the name of a bundled model.
    out : Path
        The new folder, which must not exist. Its parents are created.
    weights : bool
        Whether to copy ``segment.safetensors`` too, if the model has it. It doubles the size and is only needed for
        further training.

    Raises
    ------
    ModelError
        The model cannot be used.
    ConfigError
        `out` exists already, or cannot be written.
    """
    source = load_model(model)
    if os.path.lexists(out):
        raise ConfigError(f"{out}: exists already; choose another folder")
    names = [CONFIG_FILE, CARD_FILE, *(name for name in source.config.checksums if weights or name != WEIGHTS_FILE)]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(out.parent)
        with work_folder(out.parent) as part:
            for name in names:
                if os.path.lexists(source.path / name):
                    (part / name).write_bytes(_content(source.path, name))
            part.replace(out)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error.strerror or error}") from error


def _read_config(root: Path) -> ModelConfig:
    file = root / CONFIG_FILE
    content = _content(root, CONFIG_FILE)
    with problems_in(file):
        data = parse_json(content)
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise ModelError(f"{file}: has the format {short_line(repr(found))}; this version of emoseg reads {FORMAT!r}")
    with problems_in(file):
        return ModelConfig.model_validate(data)


def _feature_shapes(root: Path, config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of one segment's features per frontend, after a check of the frontends' versions."""
    shapes: dict[str, tuple[int, ...]] = {}
    for frontend, version in zip(config.frontends, config.frontend_versions, strict=True):
        with problems_in(root / CONFIG_FILE):
            built = build_frontend(frontend, config.segment)
        if built.version != version:
            raise ModelError(
                f"{root}: needs version {version} of the frontend {frontend.name!r}; "
                f"this version of emoseg has version {built.version}"
            )
        shapes[frontend.name] = built.shape()
    return shapes


def _read_song_model(root: Path, config: ModelConfig, shapes: Mapping[str, tuple[int, ...]]) -> SongModel:
    with problems_in(root / SONG_FILE):
        song = song_model_from_arrays(_arrays(_checked_content(root, SONG_FILE, config)))
        labels = len(config.space.labels)
        if len(song.bias) != labels:
            raise ValueError(f"is for {len(song.bias)} labels, but the model has {labels}")
        described = 2 * sum(shape[0] for shape in shapes.values() if len(shape) == 1)
        if song.base is not None and len(song.base.machine.mean) != described:
            raise ValueError(
                f"is for song summaries of {len(song.base.machine.mean)} numbers, but those of the frontends have "
                f"{described}"
            )
    return song


def _arrays(content: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(content)
    except SafetensorError as error:
        raise ValueError(f"is not a safetensors file: {error}") from error
    except KeyError as error:
        raise ValueError(f"has an array of type {error.args[0]}; arrays must hold floats of 32 or 64 bits") from error


def _content(root: Path, name: str) -> bytes:
    return read_content(root, name, most_bytes=_MOST_BYTES.get(name, _MOST_WEIGHTS))


def _checked_content(root: Path, name: ModelFile, config: ModelConfig) -> bytes:
    """Return the content of a file of the folder, after a check of its checksum."""
    content = _content(root, name)
    _check_sum(root, name, config, checksum(content))
    return content


def _check_sum(root: Path, name: ModelFile, config: ModelConfig, found: str) -> None:
    if found != config.checksums[name]:
        raise ModelError(f"{root / name}: was altered: its checksum is not the one in {CONFIG_FILE}")
