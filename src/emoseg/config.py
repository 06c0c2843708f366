"""Settings: frozen pydantic models with one default per field, read from TOML and stored with every result.

`SegmentConfig` has the settings of segments, `FrontendConfig` those of a frontend, and `LearningConfig` those that all
methods share. `TrainConfig` contains the three, and a table of settings per method; ``--config FILE.toml`` is read into
it. A method defines its own settings beside its code, as a subclass of
`MethodSettings`; `emoseg.learning.methods.resolve_settings` checks the tables of the methods that are used. Unknown
keys are errors. The command line takes its defaults from here.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, ValidationError, model_validator

from emoseg.errors import ConfigError
from emoseg.registry import Registry
from emoseg.system.files import read_text

# A model folder brings its own settings, so they bound the memory and the time that an analysis can take.
_MOST_SAMPLES = 1_500_000  # of a segment: 64 are computed at a time
_MOST_OVERLAP = 100  # segments that one moment lies in
_MOST_FRAMED = 16_000_000  # samples in all frames of a segment's transform
_MOST_FEATURES = 1_000_000  # numbers in a segment's spectrogram


# Limits of a settings file.
_MOST_BYTES = 64_000
_LONGEST_LINE = 1000
_LARGEST = 10**9


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


HOP_ABOVE_S, HOP_MOST_S = 0.05, 60.0
"""Limits of the hop of segments in seconds: above the first, at most the second."""


class SegmentConfig(_Frozen):
    """How a recording is cut into segments."""

    sample_rate_hz: int = Field(22050, ge=8000, le=192000, description="Rate every recording is resampled to.")
    length_s: float = Field(3.0, gt=0.2, le=60, description="Length of a segment.")
    hop_s: float = Field(
        3.0, gt=HOP_ABOVE_S, le=HOP_MOST_S, description="Distance between the starts of neighbouring segments."
    )
    last: Literal["pad", "drop"] = Field(
        "pad",
        description="What happens to a last segment that is not full: 'pad' keeps it when at least half of it is sound "
        "and repeats that sound to fill it; 'drop' leaves it out. A recording shorter than one segment is always kept, "
        "as one padded segment.",
    )
    min_duration_s: float = Field(1.0, gt=0, le=3600, description="Shorter recordings are refused.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.length > _MOST_SAMPLES:
            raise ValueError(f"a segment of {self.length} samples is too long; at most {_MOST_SAMPLES}")
        if self.length_s > _MOST_OVERLAP * self.hop_s:
            raise ValueError(f"hop_s {self.hop_s} must be at least a hundredth of length_s {self.length_s}")
        return self

    @property
    def length(self) -> int:
        """Segment length in samples."""
        return round(self.length_s * self.sample_rate_hz)

    @property
    def hop(self) -> int:
        """Segment hop in samples."""
        return round(self.hop_s * self.sample_rate_hz)


class TimelineConfig(_Frozen):
    """How segment probabilities become answers over time; a model folder carries its own."""

    mean_span_s: float = Field(
        10.0,
        ge=1,
        le=3600,
        description="How long one emotion lasts on average: larger values give fewer, longer spans.",
    )
    unsure_below: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Probability of the best label below which the answer is 'unsure'; default: a third of the way "
        "from chance (1 / number of labels) to certainty, which is 0.5 for four labels. 0 turns it off.",
    )
    sounds: bool = Field(
        True, description="Name speech, noise, test tones and silence instead of giving them an emotion."
    )

    def unsure_threshold(self, labels: int) -> float:
        """Return `unsure_below`, or its default for a number of labels."""
        chance = 1 / labels
        return chance + (1 - chance) / 3 if self.unsure_below is None else self.unsure_below


class FrontendSettings(_Frozen):
    """Base class of the settings of one frontend; `name` says which frontend they belong to.

    A subclass is a pydantic model. Its `name` has a default, the name of the frontend, and so has each other field. A
    table ``[[frontends]]`` of the settings file sets them.
    """

    name: str

    def check(self, segment: SegmentConfig) -> None:
        """Raise `ValueError` where these settings do not fit the segments.

        Called before anything is computed. A subclass overrides it if it has such a rule, such as a bound of memory.
        """


class LogMelConfig(FrontendSettings):
    """Log-mel spectrogram, for the convolutional network."""

    name: Literal["logmel"] = "logmel"
    bands: int = Field(64, ge=8, le=256, description="Number of mel bands.")
    fft: int = Field(1024, ge=128, le=65536, description="Length of the analysis window, in samples.")
    hop: int = Field(512, ge=32, le=65536, description="Distance between frames, in samples.")
    fmin_hz: float = Field(30.0, ge=0, le=96000, description="Lower edge of the lowest band.")
    fmax_hz: float = Field(11025.0, gt=0, le=96000, description="Upper edge of the highest band.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.fmin_hz >= self.fmax_hz:
            raise ValueError(f"fmin_hz {self.fmin_hz} must be below fmax_hz {self.fmax_hz}")
        return self

    def check(self, segment: SegmentConfig) -> None:
        """Raise `ValueError` where the spectrogram of one segment would be too large."""
        frames = _checked_frames(segment, self)
        if frames * self.bands > _MOST_FEATURES:
            raise ValueError(
                f"logmel: {self.bands} bands in {frames} frames are too many; at most {_MOST_FEATURES} numbers"
            )


class DescriptorsConfig(FrontendSettings):
    """Statistics of timbre, harmony, rhythm and loudness descriptors, for the multilayer perceptron."""

    name: Literal["descriptors"] = "descriptors"
    fft: int = Field(2048, ge=512, le=65536, description="Length of the analysis window, in samples.")
    hop: int = Field(512, ge=64, le=65536, description="Distance between frames, in samples.")

    def check(self, segment: SegmentConfig) -> None:
        """Raise `ValueError` where the spectra of one segment would be too large."""
        _checked_frames(segment, self)


class CompareConfig(FrontendSettings):
    """openSMILE's ComParE 2016 functionals, for the multilayer perceptron; extra ``opensmile``, for research only."""

    name: Literal["compare"] = "compare"


def _check_frontend_class(thing: object) -> Any:
    name, settings = getattr(thing, "name", None), getattr(thing, "settings_class", None)
    if not (isinstance(thing, type) and isinstance(getattr(thing, "version", None), int)):
        raise TypeError("must be a class with a name, a version that is a whole number, and a settings_class")
    if not (isinstance(settings, type) and issubclass(settings, FrontendSettings)):
        raise TypeError("its settings_class must be a subclass of emoseg.config.FrontendSettings")
    if not isinstance(name, str) or settings.model_fields["name"].default != name:
        raise TypeError("its name must be the default of the name in its settings_class")
    if "." in name:
        raise TypeError(f"its name {name!r} must not have a dot")
    return thing


FRONTENDS: Registry[Any] = Registry(
    "frontend",
    group="emoseg.frontends",
    builtin={
        "logmel": "emoseg.frontends.logmel:LogMel",
        "descriptors": "emoseg.frontends.descriptors.frontend:Descriptors",
        "compare": "emoseg.frontends.compare:Compare",
    },
    check=_check_frontend_class,
)
"""The class of each frontend by name; docs/frontends.md shows how to add one."""


def _frontend_settings(value: object) -> object:
    """Return the settings of a frontend from a table with its name."""
    if isinstance(value, FrontendSettings):
        return value
    name = value.get("name") if isinstance(value, dict) else None
    if not isinstance(name, str):
        raise ValueError("must be a table with the name of a frontend")
    try:
        frontend = FRONTENDS[name]
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return frontend.settings_class.model_validate(value)


FrontendConfig = Annotated[SerializeAsAny[FrontendSettings], BeforeValidator(_frontend_settings)]


def check_frontends(segment: SegmentConfig, frontends: Sequence[FrontendSettings]) -> None:
    """Check that frontends are distinct and that their settings fit the segments.

    Raises
    ------
    ValueError
        The message says which frontend breaks which rule.
    """
    names = [frontend.name for frontend in frontends]
    if len(set(names)) != len(names):
        raise ValueError(f"frontends must be distinct, got {names}")
    for frontend in frontends:
        frontend.check(segment)


def _checked_frames(segment: SegmentConfig, frontend: LogMelConfig | DescriptorsConfig) -> int:
    """Return the number of frames of a segment; raise `ValueError` where they need too much memory."""
    frames = segment.length // frontend.hop + 1
    if frames * frontend.fft > _MOST_FRAMED:
        raise ValueError(
            f"{frontend.name}: fft {frontend.fft} every {frontend.hop} samples is too much for a segment of "
            f"{segment.length}; at most {_MOST_FRAMED} samples in all frames"
        )
    return frames


class NetworkConfig(_Frozen):
    """Size of the segment networks: a perceptron for vectors of features, a convolutional network for spectrograms."""

    hidden: tuple[int, ...] = Field((256, 128), min_length=1, description="Widths of the perceptron's hidden layers.")
    channels: tuple[int, ...] = Field((16, 32, 64, 64), min_length=1, description="Channels of the convolution blocks.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Share of hidden units dropped while learning.")


class ConvNetConfig(_Frozen):
    """Settings of the convolutional network on log-mel spectrograms; they replace their namesakes of the perceptron."""

    epochs: int = Field(12, ge=2, description="Passes over the training segments.")
    batch: int = Field(32, ge=4, description="Segments per step.")
    learning_rate: float = Field(3e-3, gt=0, description="Peak learning rate.")
    mixup_alpha: float = Field(0.2, ge=0, description="Mixup's Beta parameter.")
    dropout: float = Field(0.3, ge=0, lt=1, description="Share of hidden units dropped while learning.")


class MethodSettings(_Frozen):
    """Base class of the settings of one method; used as it is by methods without settings.

    A subclass is a pydantic model. Each field has a default, a range and a description. A table ``[methods.NAME]`` of
    the settings file sets them.
    """

    def check(self, learning: LearningConfig) -> None:
        """Raise `ValueError` where these settings do not fit the settings that all methods share.

        Called before any learning. A subclass overrides it if it has such a rule.
        """


def check_warm_up(warmup_epochs: int, learning: LearningConfig) -> None:
    """Raise `ValueError` unless a warm-up is shorter than the training, of perceptrons and convolutional networks."""
    for name, epochs in (("epochs", learning.epochs), ("convnet.epochs", learning.convnet.epochs)):
        if warmup_epochs >= epochs:
            raise ValueError(f"warmup_epochs {warmup_epochs} must be below learning.{name} {epochs}")


class LearningConfig(_Frozen):
    """How the segment model is learnt: the settings that all methods share, so that each has the same budget."""

    epochs: int = Field(12, ge=2, description="Passes over the training segments; the best is kept (early stopping).")
    batch: int = Field(128, ge=4, description="Segments per step.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate of the one-cycle schedule.")
    weight_decay: float = Field(1e-2, ge=0, description="AdamW weight decay.")
    mixup_alpha: float = Field(0.5, ge=0, description="Mixup's Beta parameter, where a method mixes; 0 turns it off.")
    soft_labels: bool = Field(
        False,
        description="Learn from the shares of listeners, annotators or mood tags that a corpus gives for each label, "
        "where it gives them, instead of from one label per song. Early stopping, the song model and the detection of "
        "wrong labels use the one label in any case.",
    )
    members: int = Field(
        4,
        ge=2,
        description="Number of parts of the training set. One member is learnt without each part; the segment model is "
        "the mean of all members.",
    )
    network: NetworkConfig = NetworkConfig()
    convnet: ConvNetConfig = ConvNetConfig()

    def for_features(self, ndim: int) -> Self:
        """Return the settings for features with `ndim` dimensions: for spectrograms (3), `convnet` replaces some."""
        if ndim < 3:
            return self
        network = self.network.model_copy(update={"dropout": self.convnet.dropout})
        return self.model_copy(update=self.convnet.model_dump(exclude={"dropout"}) | {"network": network})


_Name = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]  # as `emoseg.registry` allows


class TrainConfig(_Frozen):
    """Everything that decides what is learnt; stored in the model folder and in every result file.

    `methods` has a table of settings per method, by the method's name, as they were given. Only those of the methods
    that are used are checked, by `emoseg.learning.methods.resolve_settings`.
    """

    method: _Name = Field("emoseg", description="The method of learning: how noisy labels are handled.")
    segment: SegmentConfig = SegmentConfig()
    frontends: tuple[FrontendConfig, ...] = Field((DescriptorsConfig(),), min_length=1)
    learning: LearningConfig = LearningConfig()
    methods: dict[_Name, dict[str, Any]] = Field({}, description="Settings of single methods, by name.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_frontends(self.segment, self.frontends)
        return self

    def __hash__(self) -> int:
        """Return a hash of all settings; a dictionary has none of its own."""
        return hash(self.model_dump_json())


def parse_frontends(text: str) -> tuple[FrontendSettings, ...]:
    """Return the default settings of frontends named like ``"logmel+descriptors"``.

    Raises
    ------
    ConfigError
        A name is not that of a frontend, or the settings of one have no defaults.
    """
    try:
        return tuple(FRONTENDS[name].settings_class() for name in text.split("+"))
    except ValidationError as error:
        raise ConfigError(f"frontends {text!r}: {first_problem(error)}") from error
    except ConfigError as error:
        raise ConfigError(f"{error}; several are joined by '+'") from error


def load_train_config(path: Path | None) -> TrainConfig:
    """Read a TOML file of training settings; without a file, the defaults.

    Raises
    ------
    ConfigError
        The file cannot be read, a key is unknown, or a value breaks its rule; the message names file, key and rule.
    """
    if path is None:
        return TrainConfig()
    data = _read_toml(path)
    try:
        return TrainConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_problem(error)}") from error


def _read_toml(path: Path) -> dict[str, Any]:
    text = read_text(path, most_bytes=_MOST_BYTES, error=ConfigError)
    for number, line in enumerate(text.splitlines(), start=1):
        if len(line) > _LONGEST_LINE:  # the time that keys with many dots take grows with the square of their number
            raise ConfigError(f"{path}: line {number} has {len(line)} characters; at most {_LONGEST_LINE} are read")
    try:
        data = tomllib.loads(text)
        _require_small(data)
    except RecursionError as error:
        raise ConfigError(f"{path}: is nested too deeply") from error
    except ValueError as error:
        raise ConfigError(f"{path}: is not TOML: {_shortened(str(error))}") from error
    return data


def _require_small(value: Any, key: str = "") -> None:
    """Raise ValueError where a whole number is larger than any setting; computing with it could fail anywhere."""
    if isinstance(value, dict):
        for name, part in value.items():
            _require_small(part, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for part in value:
            _require_small(part, key)
    elif isinstance(value, int) and abs(value) > _LARGEST:
        raise ValueError(f"{_shortened(key)} is a number beyond {_LARGEST}")


def replace_settings(config: TrainConfig, **changes: object) -> TrainConfig:
    """Return the settings with some replaced, checked again.

    Raises
    ------
    ConfigError
        A value breaks its rule.
    """
    try:
        return TrainConfig.model_validate({**dict(config), **changes})
    except ValidationError as error:
        raise ConfigError(first_problem(error)) from error


def first_problem(error: ValidationError, *, within: str = "") -> str:
    """Return the first problem that pydantic found, in one line: key, rule and offending value.

    Parameters
    ----------
    error : ValidationError
    within : str
        Key of the table that was validated, such as ``"methods.sssl"``; default the whole file.
    """
    first = error.errors()[0]
    key = ".".join(str(part) for part in (*filter(None, [within]), *first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"unknown key {_shortened(repr(key))}"
    rule = first["msg"].removeprefix("Value error, ")  # pydantic's prefix to the rules written here
    return f"{_shortened(key) + ': ' if key else ''}{_shortened(rule, 300)}{_found(first['input'])}"


def _found(value: Any) -> str:
    if isinstance(value, dict):
        return ""
    try:
        return f" (found {_shortened(repr(value))})"
    except (RecursionError, ValueError):  # ValueError: a number of more than 4300 digits
        return ""


def _shortened(text: str, most: int = 100) -> str:
    """Return text of a length that one line of a message can hold."""
    return text if len(text) <= most else f"{text[:most]}..."


def config_hash(*configs: BaseModel | str) -> str:
    """Return 16 hexadecimal digits that name a set of settings."""
    parts = [c if isinstance(c, str) else c.model_dump(mode="json") for c in configs]
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()
