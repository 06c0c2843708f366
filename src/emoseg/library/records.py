"""What the manifest of a library records: its settings, its shard, jobs, outcomes and changes.

A job is a recording that is to be analysed; an outcome is the result of a job.
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from emoseg.emotion import EmotionSpace
from emoseg.errors import ConfigError


@dataclass(frozen=True)
class Shard:
    """The share of a library's recordings that one process or machine analyses.

    Share `index` (from 1) of `count`. The path of a recording alone decides which share it is in.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard that ``"I/N"`` names.

        Raises
        ------
        ConfigError
            The text has another form, or I is not from 1 to N.
        """
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigError(f"shard {text!r}: must be I/N with I from 1 to N, such as 2/4")
        return cls(int(match[1]), int(match[2]))

    def __contains__(self, path: str) -> bool:
        digest = blake2b(os.fsencode(path), digest_size=8, person=b"shard").digest()
        return int.from_bytes(digest, "big") % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True)
class Settings:
    """What decides the numbers and the members of a library; all runs of a library have the same settings.

    Parameters
    ----------
    root : str
        The folder of the recordings, absolute.
    model : str
        Checksum of the model folder's configuration.
    model_name : str
        Name and version of the model.
    hop_s : float or None
        Seconds from the start of one segment to the next; None for the model's own.
    shard : str
        ``"I/N"``, or empty for all recordings.
    space : dict
        The emotion space, as `EmotionSpace.to_json` returns it.
    """

    root: str
    model: str
    model_name: str
    hop_s: float | None
    shard: str
    space: dict[str, Any]

    def to_json(self) -> str:
        """Return the settings as JSON."""
        return json.dumps(vars(self), ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Return the settings that `to_json` wrote.

        Raises
        ------
        ValueError
            The text is not JSON of settings, or a setting has an impossible value.
        """
        try:
            settings = cls(**json.loads(text))
            EmotionSpace.from_json(settings.space)
            possible = (
                all(isinstance(value, str) for value in (settings.root, settings.model, settings.model_name))
                and (settings.hop_s is None or 0 < settings.hop_s < math.inf)
                and (settings.shard == "" or Shard.parse(settings.shard) is not None)
                and Path(settings.root).is_absolute()
                and "\0" not in settings.root
            )
        except (TypeError, KeyError, AttributeError, ValueError, RecursionError, ConfigError) as error:
            raise ValueError(f"its settings cannot be read: {error}") from error
        if not possible:
            raise ValueError("its settings have an impossible value")
        return settings


@dataclass(frozen=True)
class AnalysisJob:
    """A recording that is to be analysed.

    Parameters
    ----------
    song_id : str
        Its id in all tables.
    path : str
        Its path below the root of the library.
    size : int
        Bytes of the file.
    mtime_ns : int
        Modification time of the file in nanoseconds.
    content : str or None
        Checksum of the content whose result is known; None if there is no result.
    """

    song_id: str
    path: str
    size: int
    mtime_ns: int
    content: str | None


@dataclass(frozen=True)
class AnalysisOutcome:
    """The result of a job.

    Parameters
    ----------
    song_id : str
    state : {"done", "failed", "same", "gone"}
        ``"same"`` means that the content of the file is the one whose result is known already.
    size, mtime_ns : int
        State of the file when it was read.
    content : str or None
        Checksum of the file; None if it could not be read.
    duration_s : float
        Seconds of sound; 0 unless the state is ``"done"``.
    error_type, message : str or None
        Kind and words of the failure.
    rows : dict of str to bytes
        The rows for each table, as Arrow streams.
    """

    song_id: str
    state: Literal["done", "failed", "same", "gone"]
    size: int
    mtime_ns: int
    content: str | None = None
    duration_s: float = 0.0
    error_type: str | None = None
    message: str | None = None
    rows: dict[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Changes:
    """Numbers of recordings that are new, changed, gone, or back since the last run."""

    new: int
    changed: int
    gone: int
    back: int
