"""Wrong labels put in on purpose, so that what a method makes of them can be measured.

Three kinds, as in the literature: single segments get another label (``segment:R``), whole songs do (``song:R``), or
the second half of some songs is replaced by the sound of a song of another class (``splice:R``), which leaves a wrong
stretch as real changes of emotion do. The new label is always another one than the true one, uniformly: R is the share
that is truly wrong, of segments or of songs. Noise goes into training songs only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np

from emoseg.errors import ConfigError
from emoseg.types import Int64

InjectedKind = Literal["none", "segment", "song", "splice"]


@dataclass(frozen=True)
class InjectedNoise:
    """Kind and rate of injected noise; `rate` is the share of segments or songs, in [0, 0.9]."""

    kind: InjectedKind = "none"
    rate: float = 0.0

    @classmethod
    def parse(cls, text: str) -> InjectedNoise:
        """Read ``"none"`` or ``"KIND:RATE"``, such as ``"segment:0.4"``."""
        kind, colon, rate = text.partition(":")
        if text == "none":
            return cls()
        try:
            value = float(rate)
        except ValueError:
            value = -1.0
        if kind not in get_args(InjectedKind) or kind == "none" or not colon or not 0 <= value <= 0.9:
            raise ConfigError(f"noise {text!r}: must be none, segment:R, song:R or splice:R with R from 0 to 0.9")
        return cls(cast(InjectedKind, kind), value)

    def __str__(self) -> str:
        return "none" if self.kind == "none" else f"{self.kind}:{self.rate:g}"


@dataclass(frozen=True)
class InjectedLabels:
    """What the learner is given, and the truth that it is never shown.

    Parameters
    ----------
    given : array of int, shape (S,)
        Inherited labels, some of them wrong.
    true : array of int, shape (S,)
        The labels that the segments' sound had before.
    source : array of int, shape (S,)
        Which segment's sound each segment has; all its own except after a splice.
    """

    given: Int64
    true: Int64
    source: Int64

    @property
    def wrong(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which given labels are wrong, shape (S,)."""
        return self.given != self.true


def inject_noise(
    labels: Int64, song: Int64, noise: InjectedNoise, *, classes: int, rng: np.random.Generator
) -> InjectedLabels:
    """Make some of the inherited labels wrong.

    Parameters
    ----------
    labels : array of int, shape (S,)
        Label of each segment's song.
    song : array of int, shape (S,)
        Song of each segment; the segments of a song are in order of time.
    noise : InjectedNoise
    classes : int
        Number of labels K.
    rng : numpy.random.Generator
    """
    source = np.arange(len(labels))
    given, true = labels.copy(), labels.copy()
    if noise.kind == "segment":
        wrong = rng.permutation(len(labels))[: round(noise.rate * len(labels))]
        given[wrong] = (labels[wrong] + rng.integers(1, classes, len(wrong))) % classes
    elif noise.kind in ("song", "splice"):
        songs, first = np.unique(song, return_index=True)
        for s in rng.permutation(len(songs))[: round(noise.rate * len(songs))]:
            members = np.flatnonzero(song == songs[s])
            if noise.kind == "song":
                given[members] = (labels[members] + rng.integers(1, classes)) % classes
                continue
            donors = songs[labels[first] != labels[members[0]]]
            taken = np.flatnonzero(song == rng.choice(donors))
            # The second half of the song sounds like the donor from here on, and keeps the song's label. Of an odd
            # number of segments the smaller part goes: a song of one segment stays as it is.
            half = members[(len(members) + 1) // 2 :]
            source[half] = np.resize(taken, len(half))
            true[half] = labels[source[half]]
    return InjectedLabels(given, true, source)
