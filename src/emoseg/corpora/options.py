"""Options for loading a corpus: which labels, from which thresholds, which songs."""

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
    """Options for loading a corpus; None stands for the corpus' own default.

    Parameters
    ----------
    space : str or None
        ``"4q"``, ``"valence"`` or ``"arousal"``; for tagged corpora also ``"mood:NAME"`` (that mood against all others)
        or ``"moods:FILE"`` (a table with the columns mood and label).
    threshold : str or None
        Lowest rating that counts as high: the ``"middle"`` of the scale, the ``"mean"`` of all annotated songs, a value
        on the corpus' own scale, or two values ``"VALENCE/AROUSAL"``.
    margin : float
        Songs nearer to an axis than this are left out, from 0 to below 1; half the rating scale is 1.
    labels : {"clip", "song"} or None
        Label of a clip where a corpus has several clips per song: the clip's own, or the most frequent one among the
        clips of its song.
    split : str or None
        Official part, or several joined by ``"+"``; other songs are left out.
    audio : Path or None
        Folder of the recordings, if they are not below the corpus' own folder.

    Raises
    ------
    ConfigError
        A value breaks its rule, or `audio` is not a folder.
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
        """Return the thresholds of valence and arousal that were given as values, on the corpus' own scale.

        Raises
        ------
        ConfigError
            The threshold is neither one value nor two values.
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
        """Check that only options which the corpus takes are set.

        Parameters
        ----------
        name : str
            Name of the corpus, for the message.
        allowed : set of str
            Names of the fields that may differ from their defaults.

        Raises
        ------
        ConfigError
            Another option differs from its default.
        """
        for option in fields(self):
            if option.name not in allowed and getattr(self, option.name) != option.default:
                raise ConfigError(f"{option.name}: does not apply to the corpus {name!r}")
