"""How often the emotion of a segment is not its song's label, counted from annotations alone.

A song is cut into windows of one length, from its first rating or section on. A window counts if at least half of it is
rated. Its inherited label is wrong if the emotion of its mean rating is not the song's label. This has two causes: the
emotion changes within the song, or the song's rating disagrees with the mean over time. The share of windows that
differ from their song's own mean over time shows the first cause alone. Ratings over time are means over listeners,
which are smooth, so real changes are underestimated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoseg.corpora.base import Corpus, Song
from emoseg.corpora.ratings import RatingRule
from emoseg.corpora.truth import section_labels
from emoseg.emotion import EmotionSpace
from emoseg.errors import ConfigError, CorpusError
from emoseg.metrics import paired_bootstrap
from emoseg.types import Float64, Int64

LENGTHS_S = (1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 30.0)
MARGINS = (0.0, 0.05, 0.1, 0.2, 0.3)
DRAWS = 1000
_LIMITS_S = (0.1, 3600.0)  # shorter windows would be too many to count, and too short to have an emotion


@dataclass(frozen=True)
class Share:
    """How many windows have a wrong label.

    Parameters
    ----------
    name : str
        Which windows: a label, a distance, a length.
    windows, wrong : int
        Their number, and the number of those with a wrong label.
    interval : tuple of float or None
        95 % interval of the rate under resampling of songs.
    """

    name: str
    windows: int
    wrong: int
    interval: tuple[float, float] | None = None

    @property
    def rate(self) -> float:
        """Share of windows with a wrong label, in [0, 1]; NaN if there are no windows."""
        return self.wrong / self.windows if self.windows else math.nan

    def to_json(self) -> dict[str, Any]:
        """Return the counts for programs."""
        interval = list(self.interval) if self.interval else None
        rate = self.rate if self.windows else None
        return {"name": self.name, "windows": self.windows, "wrong": self.wrong, "rate": rate, "interval": interval}


@dataclass(frozen=True)
class LabelChange:
    """How often the segments of a corpus have another emotion than their song's label.

    Parameters
    ----------
    corpus : str
    space : EmotionSpace
    segment_s : float or None
        Length of a window; None where whole clips are counted.
    songs : int
        Songs with at least one window.
    overall : Share
        All windows.
    own_mean : Share or None
        Windows whose emotion differs from their song's mean over time; None if the corpus has no ratings.
    song_level : Share or None
        Songs, not windows, whose mean over time gives another label than the song's rating; None without ratings.
    moving : int
        Songs whose windows have more than one emotion.
    by_class : tuple of Share
        Windows by their song's label.
    by_margin : tuple of Share
        Windows at least so far from every axis; empty without ratings.
    by_length : tuple of Share
        All windows, for other window lengths; empty where whole clips are counted.
    problems : tuple of str
        Errors in the corpus' tables; what they concern is not counted.
    """

    corpus: str
    space: EmotionSpace
    segment_s: float | None
    songs: int
    overall: Share
    own_mean: Share | None
    song_level: Share | None
    moving: int
    by_class: tuple[Share, ...]
    by_margin: tuple[Share, ...]
    by_length: tuple[Share, ...]
    problems: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """What is counted, such as ``"windows of 5 s"``."""
        return "clips" if self.segment_s is None else f"windows of {self.segment_s:g} s"

    def lines(self) -> list[str]:
        """Return the tables for people."""
        low, high = self.overall.interval or (math.nan, math.nan)
        o = self.overall
        lines = [
            f"{self.corpus}: {o.rate:.1%} of {self.unit} have another emotion than their song's label",
            f"  {o.wrong} of {o.windows}, in {self.songs} songs; 95 % {low:.1%} to {high:.1%}, by song",
            f"  space: {self.space.name}: {self.space.rule or ', '.join(self.space.labels)}",
            f"  {self.moving} songs ({self.moving / self.songs:.1%}) have more than one emotion",
        ]
        if self.own_mean:
            lines.append(f"  {self.own_mean.rate:.1%} differ from their song's own mean over time")
        if self.song_level:
            s = self.song_level
            lines.append(f"  {s.rate:.1%} of songs ({s.wrong}) have another label by their mean over time")
        for title, shares in (
            ("label", self.by_class),
            ("distance from the axes", self.by_margin),
            ("segment length", self.by_length),
        ):
            lines += _table(title, shares, unit="clips" if self.segment_s is None else "windows")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return the tables for programs."""
        return {
            "schema": "emoseg.label-noise/1",
            "corpus": self.corpus,
            "space": self.space.to_json(),
            "segment_s": self.segment_s,
            "songs": self.songs,
            "overall": self.overall.to_json(),
            "own_mean": self.own_mean.to_json() if self.own_mean else None,
            "song_level": self.song_level.to_json() if self.song_level else None,
            "songs_with_several_emotions": self.moving,
            "by_class": [share.to_json() for share in self.by_class],
            "by_distance": [share.to_json() for share in self.by_margin],
            "by_length": [share.to_json() for share in self.by_length],
            "problems": list(self.problems),
        }


def _table(title: str, shares: Sequence[Share], *, unit: str) -> list[str]:
    if not shares:
        return []
    width = max(len(title), *(len(share.name) for share in shares))
    lines = ["", f"  {title:<{width}}  {unit:>7}   wrong   share"]
    for share in shares:
        rate = f"{share.rate:7.1%}" if share.windows else "      -"
        interval = "  ({:.1%} to {:.1%})".format(*share.interval) if share.interval else ""
        lines.append(f"  {share.name:<{width}}  {share.windows:7d} {share.wrong:7d} {rate}{interval}")
    return lines


@dataclass(frozen=True)
class _Windows:
    """All windows of a corpus, W of them.

    Parameters
    ----------
    song, inherited, own, distance, mean : array, shape (W,)
        Index of the song and its label; the window's own label and its distance from the axes; the label of the song's
        mean over time.
    """

    song: Int64
    inherited: Int64
    own: Int64
    distance: Float64
    mean: Int64

    @property
    def wrong(self) -> NDArray[np.bool_]:
        return self.own != self.inherited


def measure_label_change(
    corpus: Corpus, *, segment_s: float = 5.0, lengths_s: Sequence[float] = LENGTHS_S
) -> LabelChange:
    """Return how often the emotion of a window differs from its song's label. No audio is read.

    Parameters
    ----------
    corpus : Corpus
        With ratings over time or sections; songs without audio count too.
    segment_s : float
        Length of a window in seconds, from 0.1 to 3600.
    lengths_s : sequence of float
        Window lengths for `LabelChange.by_length`.

    Raises
    ------
    ConfigError
        A length is out of range.
    CorpusError
        The corpus does not know the emotion over time, or no song is rated for half of `segment_s`.
    """
    for length_s in (segment_s, *lengths_s):
        if not _LIMITS_S[0] <= length_s <= _LIMITS_S[1]:
            raise ConfigError(f"segment {length_s:g}: must be from {_LIMITS_S[0]:g} to {_LIMITS_S[1]:g} s")
    songs = [s for s in (*corpus.songs, *corpus.without_audio) if s.over_time or s.sections]
    if not songs:
        raise CorpusError(f"{corpus.root}: {corpus.name} has no ratings over time, so wrong segments cannot be counted")
    whole = all(not s.over_time and math.isinf(s.sections[-1].end_s) for s in songs)
    windows = _cut(songs, corpus, segment_s)
    if not len(windows.song):
        raise CorpusError(f"{corpus.root}: no song is rated for half of {segment_s:g} s")
    labels = corpus.space.labels
    rated = corpus.rule is not None
    one = np.unique(windows.song, return_index=True)[1]  # a window of each song: the mean is the same in all
    return LabelChange(
        corpus=corpus.name,
        space=corpus.space,
        segment_s=None if whole else segment_s,
        songs=len(one),
        overall=_share("all", windows, interval=True),
        own_mean=Share("own mean", len(windows.own), int((windows.own != windows.mean).sum())) if rated else None,
        song_level=Share("songs", len(one), int((windows.mean != windows.inherited)[one].sum())) if rated else None,
        moving=_moving(windows),
        by_class=tuple(_share(label, windows, windows.inherited == k) for k, label in enumerate(labels)),
        by_margin=tuple(_share(f"at least {m:g}", windows, windows.distance >= m) for m in MARGINS) if rated else (),
        by_length=() if whole else tuple(_share(f"{x:g} s", _cut(songs, corpus, x), interval=True) for x in lengths_s),
        problems=tuple(p.message for p in corpus.problems if p.severity == "error" and not p.of_audio),
    )


def _moving(windows: _Windows) -> int:
    """Return the number of songs whose windows have several emotions."""
    pairs = np.unique(np.stack([windows.song, windows.own], axis=1), axis=0)
    return int((np.bincount(pairs[:, 0]) > 1).sum())


def _share(name: str, windows: _Windows, chosen: NDArray[np.bool_] | None = None, *, interval: bool = False) -> Share:
    kept = np.ones(len(windows.song), dtype=bool) if chosen is None else chosen
    wrong = windows.wrong & kept
    limits = None
    if interval and kept.any():
        songs = windows.song.max() + 1
        per_song = np.bincount(windows.song[kept], minlength=songs), np.bincount(windows.song[wrong], minlength=songs)
        limits = paired_bootstrap(lambda drawn: _rate(per_song[0][drawn], per_song[1][drawn]), int(songs), draws=DRAWS)
    return Share(name, int(kept.sum()), int(wrong.sum()), limits)


def _rate(windows: Int64, wrong: Int64) -> float:
    return float(wrong.sum() / max(1, windows.sum()))


def _cut(songs: Sequence[Song], corpus: Corpus, length_s: float) -> _Windows:
    works = {name: i for i, name in enumerate(dict.fromkeys(song.own_group for song in songs))}
    parts = [_of_song(works[song.own_group], song, corpus, length_s) for song in songs]
    columns = zip(*parts, strict=True)
    return _Windows(*(np.concatenate(column) for column in columns))


def _of_song(i: int, song: Song, corpus: Corpus, length_s: float) -> tuple[Any, ...]:
    own, distance, mean = (
        _rated(song, corpus.rule, length_s) if song.over_time and corpus.rule else _known(song, corpus.space, length_s)
    )
    n = len(own)
    inherited = corpus.space.index(song.label)
    return np.full(n, i), np.full(n, inherited), own, distance, np.full(n, inherited if mean is None else mean)


def _rated(song: Song, rule: RatingRule, length_s: float) -> tuple[Int64, Float64, int]:
    ratings = song.over_time
    if ratings is None:
        raise CorpusError(f"{song.id}: has no ratings over time")
    stretches = ratings.over(*ratings.windows(length_s))
    known = stretches.known
    own, distance = rule.labels(stretches, rule.over_time), rule.distance(stretches, rule.over_time)
    return own[known], distance[known], int(rule.labels(ratings.mean, rule.over_time))


def _known(song: Song, space: EmotionSpace, length_s: float) -> tuple[Int64, Float64, None]:
    end = song.sections[-1].end_s
    if math.isinf(end):  # a clip of one emotion, whatever its length
        starts, ends = np.array([0.0]), np.array([1.0])
    else:
        starts = length_s * np.arange(int(end / length_s + 0.5), dtype=np.float64)
        ends = np.minimum(starts + length_s, end)
    own, _ = section_labels(song.sections, starts, ends, space)
    return own, np.full(len(own), np.inf), None
