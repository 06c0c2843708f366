"""Labels made wrong on purpose, so that it is known which ones a method should find.

There are three kinds. ``segment:R`` changes the label of single segments, ``song:R`` the label of whole songs.
``splice:R`` replaces the sound of the second half of some songs by that of a song with another label, which leaves a
wrong stretch as a real change of emotion does. A new label is drawn uniformly from the wrong ones, so R is the share of
segments or songs that is truly wrong (symmetric noise without the diagonal). Noise goes into training songs only.
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
    """Which labels are made wrong.

    Parameters
    ----------
    kind : {"none", "segment", "song", "splice"}
    rate : float
        Share of segments (``"segment"``) or songs (``"song"``, ``"splice"``), from 0 to 0.9.
    """

    kind: InjectedKind = "none"
    rate: float = 0.0

    @classmethod
    def parse(cls, text: str) -> InjectedNoise:
        """Return the noise that a text such as ``"none"`` or ``"segment:0.4"`` asks for.

        Raises
        ------
        ConfigError
            The kind is unknown, or the rate is not a number from 0 to 0.9.
        """
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
    """Labels after noise was injected, and the truth, which is never learnt from.

    Parameters
    ----------
    given : array of int, shape (S,)
        Labels to learn from, some of them wrong.
    true : array of int, shape (S,)
        The label that the sound of each segment had before.
    source : array of int, shape (S,)
        Index of the segment whose sound each segment has: its own, except after a splice.
    """

    given: Int64
    true: Int64
    source: Int64

    @property
    def wrong(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Whether each given label is wrong, shape (S,)."""
        return self.given != self.true


def inject_noise(
    labels: Int64, song: Int64, noise: InjectedNoise, *, classes: int, rng: np.random.Generator
) -> InjectedLabels:
    """Return labels of which some are wrong.

    Parameters
    ----------
    labels : array of int, shape (S,)
        Label of each segment's song.
    song : array of int, shape (S,)
        Song of each segment, in any numbering; the segments of a song are in order of time.
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
            # The second half gets the donor's sound and keeps the song's label. Of an odd number of segments the
            # smaller part is replaced, so a song of one segment stays as it is.
            half = members[(len(members) + 1) // 2 :]
            source[half] = np.resize(taken, len(half))
            true[half] = labels[source[half]]
    return InjectedLabels(given, true, source)
