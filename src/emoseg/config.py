"""Settings: frozen pydantic models with one default each, read from TOML, stored with every result.

Inside: how sound is cut (`SegmentConfig`), what is computed from a segment (`FrontendConfig`), how the segment
model is learnt (`LearningConfig`), and `TrainConfig`, which holds all three and is what ``--config FILE.toml`` fills.
Unknown keys are errors. The command line reads its defaults from here.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MethodName = Literal["inherit", "sssl"]
FrontendName = Literal["logmel", "descriptors"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SegmentConfig(_Frozen):
    """How a recording is cut into segments."""

    sample_rate_hz: int = Field(22050, ge=8000, le=192000, description="Rate every recording is resampled to.")
    length_s: float = Field(3.0, gt=0.2, le=60, description="Length of a segment.")
    hop_s: float = Field(3.0, gt=0.05, le=60, description="Distance between the starts of neighbouring segments.")
    last: Literal["pad", "drop"] = Field(
        "pad",
        description="What happens to a last segment that is not full: 'pad' keeps it when at least half of it is sound "
        "and repeats that sound to fill it; 'drop' leaves it out. A recording shorter than one segment is always kept, "
        "as one padded segment.",
    )
    min_duration_s: float = Field(1.0, gt=0, description="Shorter recordings are refused.")

    @property
    def length(self) -> int:
        """Segment length in samples."""
        return round(self.length_s * self.sample_rate_hz)

    @property
    def hop(self) -> int:
        """Segment hop in samples."""
        return round(self.hop_s * self.sample_rate_hz)


class LogMelConfig(_Frozen):
    """Log-mel spectrogram, for the convolutional network."""

    name: Literal["logmel"] = "logmel"
    bands: int = Field(64, ge=8, le=256, description="Number of mel bands.")
    fft: int = Field(1024, ge=128, description="Length of the analysis window, in samples.")
    hop: int = Field(512, ge=32, description="Distance between frames, in samples.")
    fmin_hz: float = Field(30.0, ge=0, description="Lower edge of the lowest band.")
    fmax_hz: float = Field(11025.0, gt=0, description="Upper edge of the highest band.")

    @model_validator(mode="after")
    def _check(self) -> LogMelConfig:
        if self.fmin_hz >= self.fmax_hz:
            raise ValueError(f"fmin_hz {self.fmin_hz} must be below fmax_hz {self.fmax_hz}")
        return self


class DescriptorsConfig(_Frozen):
    """Statistics of timbre, harmony, rhythm and loudness descriptors, for the multilayer perceptron."""

    name: Literal["descriptors"] = "descriptors"
    fft: int = Field(2048, ge=512, description="Length of the analysis window, in samples.")
    hop: int = Field(512, ge=64, description="Distance between frames, in samples.")


FrontendConfig = Annotated[LogMelConfig | DescriptorsConfig, Field(discriminator="name")]


def config_hash(*configs: BaseModel | str) -> str:
    """Return 16 hexadecimal digits that name a set of settings."""
    parts = [c if isinstance(c, str) else c.model_dump(mode="json") for c in configs]
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()
