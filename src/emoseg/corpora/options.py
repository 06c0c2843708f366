"""How a user wants a corpus to be read: which labels, from which thresholds, which songs."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, cast, get_args

from emoseg.corpora.tables import number
from emoseg.errors import ConfigError

LabelSource = Literal["clip", "song"]


@dataclass(frozen=True)
class CorpusOptions:
    """What can be chosen when a corpus is loaded; None everywhere means the corpus' own default.

    Parameters
    ----------
    space : str or None
        ``"4q"``, ``"valence"``, ``"arousal"``; for tagged corpora also ``"mood:NAME"`` (that mood against all others)
        and ``"moods:FILE"`` (a table with the columns mood and label).
    threshold : str or None
        Where high begins: ``"middle"`` of the scale, the ``"mean"`` of all annotated songs, a value on the corpus' own
        scale, or two values ``"VALENCE/AROUSAL"``.
    margin : float
        Songs nearer to an axis than this are left out; half the rating scale is 1.
    labels : {"clip", "song"} or None
        Whose label a clip has where a corpus has several clips of a song: its own, or the one that most clips of its
        song have.
    split : str or None
        Only songs of this official part, or of several joined by ``"+"``.
    audio : Path or None
        Folder of the recordings, where they do not lie below the corpus' own folder.
    """

    space: str | None = None
    threshold: str | None = None
    margin: float = 0.0
    labels: LabelSource | None = None
    split: str | None = None
    audio: Path | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.margin) and 0 <= self.margin < 1):
            raise ConfigError(f"margin {self.margin:g}: must be from 0 to below 1 (half the rating scale is 1)")
        if self.labels is not None and self.labels not in get_args(LabelSource):
            raise ConfigError(f"labels {self.labels!r}: must be clip or song")
        if self.audio is not None and not self.audio.is_dir():
            raise ConfigError(f"audio {self.audio}: is not a folder")
        if self.threshold not in (None, "middle", "mean"):
            self.thresholds()

    def thresholds(self) -> tuple[float, float]:
        """Return the values given for valence and arousal, on the corpus' own scale.

        Raises
        ------
        ConfigError
            The threshold is neither one value nor two.
        """
        text = cast(str, self.threshold)
        parts = text.split("/")
        try:
            values = [number(part.strip()) for part in parts]
        except ValueError:
            values = []
        if len(values) not in (1, 2):
            raise ConfigError(f"threshold {text!r}: must be middle, mean, a value, or VALENCE/AROUSAL such as 5/4.8")
        return values[0], values[-1]

    def require_only(self, name: str, allowed: frozenset[str]) -> None:
        """Refuse options that mean nothing for a corpus.

        Raises
        ------
        ConfigError
            An option that is not among `allowed` differs from its default.
        """
        for option in fields(self):
            if option.name not in allowed and getattr(self, option.name) != option.default:
                raise ConfigError(f"{option.name}: does not apply to the corpus {name!r}")
