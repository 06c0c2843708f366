"""Continuous ratings of valence and arousal, and the rule by which they become labels.

A `Scale` maps a corpus' own numbers to [-1, 1], with its middle at 0. Everything else here is in [-1, 1]. A value equal
to the threshold is high. Ratings over time are means over listeners, and each is valid from its time on for `hold_s`
seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoseg.corpora.options import CorpusOptions
from emoseg.emotion import AROUSAL, QUADRANTS, VALENCE, EmotionSpace
from emoseg.errors import ConfigError
from emoseg.types import Float64, Int64

SPACES = {space.name: space for space in (QUADRANTS, VALENCE, AROUSAL)}
LONGEST_S = 86_400.0
"""A later time in a song, beyond one day, is an error in a table."""
MIN_RATED = 0.5
"""Least share of a stretch that must be rated for its emotion to count as known."""

_QUADRANT_OF = np.array([[2, 1], [3, 0]])  # high valence by high arousal
_EPS = 1e-9
_MOST_AT_ONCE = 1 << 24  # stretches times ratings


@dataclass(frozen=True)
class Scale:
    """The range of numbers that listeners could give, from `low` to `high`."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """The number half way between low and high."""
        return (self.low + self.high) / 2

    def normalise(self, value: float) -> float:
        """Return a number of the scale mapped to [-1, 1]."""
        return (value - self.middle) / ((self.high - self.low) / 2)

    def denormalise(self, value: float) -> float:
        """Return a number from [-1, 1] on the scale; the inverse of `normalise`."""
        return value * (self.high - self.low) / 2 + self.middle

    def normalise_sd(self, sd: float) -> float:
        """Return a standard deviation on the scale as one on [-1, 1]."""
        return sd / ((self.high - self.low) / 2)

    def check(self, value: float) -> float:
        """Return the value unchanged if it lies on the scale.

        Raises
        ------
        ValueError
            It lies outside the scale.
        """
        if not self.low <= value <= self.high:
            raise ValueError(f"{value:g} lies outside the scale from {self.low:g} to {self.high:g}")
        return value


@dataclass(frozen=True)
class Rating:
    """Mean rating of a song in [-1, 1], and its standard deviation over listeners; None if unknown."""

    valence: float
    arousal: float
    valence_sd: float | None = None
    arousal_sd: float | None = None


@dataclass(frozen=True)
class RatingsOverTime:
    """Mean ratings of one song over time.

    Parameters
    ----------
    time_s : tuple of float, length T
        Times in seconds, ascending.
    hold_s : float
        How long each rating is valid from its time on, in seconds.
    valence, arousal : tuple of float, length T
        In [-1, 1].
    """

    time_s: tuple[float, ...]
    hold_s: float
    valence: tuple[float, ...]
    arousal: tuple[float, ...]

    @property
    def mean(self) -> Rating:
        """Mean rating over time."""
        return Rating(float(np.mean(self.valence)), float(np.mean(self.arousal)))

    def over(self, start_s: Sequence[float] | Float64, end_s: Sequence[float] | Float64) -> Stretches:
        """Return the mean ratings over stretches of time, weighted by how long each rating is valid within the stretch.

        Parameters
        ----------
        start_s, end_s : array, shape (S,)
            Bounds of the stretches in seconds.
        """
        if len(start_s) * len(self.time_s) > _MOST_AT_ONCE and len(start_s) > 1:
            half = len(start_s) // 2
            parts = self.over(start_s[:half], end_s[:half]), self.over(start_s[half:], end_s[half:])
            columns = zip(*(vars(part).values() for part in parts), strict=True)
            return Stretches(*(np.concatenate(column) for column in columns))
        times = np.asarray(self.time_s)
        start, end = np.asarray(start_s, dtype=np.float64)[:, None], np.asarray(end_s, dtype=np.float64)[:, None]
        inside = np.clip(np.minimum(times + self.hold_s, end) - np.maximum(times, start), 0.0, None)
        inside[inside < _EPS] = 0.0
        rated = inside.sum(axis=1)
        weights = inside / np.where(rated > 0, rated, 1.0)[:, None]
        known = (rated > 0) & (rated >= MIN_RATED * (end - start)[:, 0] - _EPS)
        return Stretches(weights @ np.asarray(self.valence), weights @ np.asarray(self.arousal), known)

    def windows(self, length_s: float) -> tuple[Float64, Float64]:
        """Return the starts and ends, in seconds, of consecutive windows of `length_s` from the first rating on."""
        span = self.time_s[-1] + self.hold_s - self.time_s[0]
        starts = self.time_s[0] + length_s * np.arange(int(np.ceil(span / length_s - _EPS)), dtype=np.float64)
        return starts, starts + length_s


@dataclass(frozen=True)
class Stretches:
    """Mean ratings of S stretches of one song.

    Parameters
    ----------
    valence, arousal : array, shape (S,)
        In [-1, 1]; 0 where nothing is rated.
    known : array of bool, shape (S,)
        Whether at least half of the stretch is rated.
    """

    valence: Float64
    arousal: Float64
    known: NDArray[np.bool_]


@dataclass(frozen=True)
class Thresholds:
    """Lowest rating that counts as high on each axis, in [-1, 1]."""

    valence: float = 0.0
    arousal: float = 0.0


@dataclass(frozen=True)
class RatingRule:
    """Rule by which ratings become labels.

    Parameters
    ----------
    space : EmotionSpace
        Quadrants, or the two sides of one axis.
    song, over_time : Thresholds
        For ratings of songs, and for ratings over time.
    """

    space: EmotionSpace
    song: Thresholds = Thresholds()
    over_time: Thresholds = Thresholds()

    def labels(self, rated: Rating | Stretches, thresholds: Thresholds) -> Int64:
        """Return label indices.

        Parameters
        ----------
        rated : Rating or Stretches
        thresholds : Thresholds

        Returns
        -------
        array of int, shape () for a `Rating`, (S,) for S `Stretches`
        """
        valence = (np.asarray(rated.valence) >= thresholds.valence).astype(np.int64)
        arousal = (np.asarray(rated.arousal) >= thresholds.arousal).astype(np.int64)
        labels = {"4q": _QUADRANT_OF[valence, arousal], "valence": valence, "arousal": arousal}
        return np.asarray(labels[self.space.name])

    def distance(self, rated: Rating | Stretches, thresholds: Thresholds) -> Float64:
        """Return the distance from the nearest axis of the space, of the shape of the ratings; half the scale is 1."""
        valence = np.abs(np.asarray(rated.valence) - thresholds.valence)
        arousal = np.abs(np.asarray(rated.arousal) - thresholds.arousal)
        distances = {"4q": np.minimum(valence, arousal), "valence": valence, "arousal": arousal}
        return np.asarray(distances[self.space.name], dtype=np.float64)

    def soft(self, rating: Rating) -> tuple[float, ...] | None:
        """Return the expected share of listeners per label, K numbers; None if their standard deviation is unknown.

        Listeners' ratings are assumed to be normally distributed around the mean, independently on the two axes.
        """
        from scipy.special import ndtr

        def high(mean: float, sd: float, threshold: float) -> float:
            return float(ndtr((mean - threshold) / max(sd, 1e-6)))

        if rating.valence_sd is None or rating.arousal_sd is None:
            return None
        v = high(rating.valence, rating.valence_sd, self.song.valence)
        a = high(rating.arousal, rating.arousal_sd, self.song.arousal)
        quadrants = (v * a, (1 - v) * a, (1 - v) * (1 - a), v * (1 - a))
        return {"4q": quadrants, "valence": (1 - v, v), "arousal": (1 - a, a)}[self.space.name]


def rating_rule(
    songs: Sequence[Rating], over_time: Sequence[RatingsOverTime], *, scale: Scale, options: CorpusOptions
) -> RatingRule:
    """Return the rule that the options ask for; the `rule` text of its space gives it in numbers.

    Parameters
    ----------
    songs : sequence of Rating
        All annotated songs, with or without audio. The threshold ``"mean"`` is the mean over them.
    over_time : sequence of RatingsOverTime
        Ratings over time, which have a mean of their own.
    scale : Scale
        Scale of the song ratings, for the values that a user gives and for the text.
    options : CorpusOptions

    Raises
    ------
    ConfigError
        The space is unknown, or a threshold lies outside the scale.
    """
    space = rated_space(options.space)
    song = dynamic = Thresholds()
    kind = "the scale's middle"
    if options.threshold == "mean":
        song = Thresholds(_mean([r.valence for r in songs]), _mean([r.arousal for r in songs]))
        values = [v for r in over_time for v in r.valence], [a for r in over_time for a in r.arousal]
        dynamic = Thresholds(_mean(values[0]), _mean(values[1])) if over_time else song
        kind = f"the mean of {len(songs)} songs"
    elif options.threshold not in (None, "middle"):
        try:
            valence, arousal = (scale.normalise(scale.check(value)) for value in options.thresholds())
        except ValueError as error:
            raise ConfigError(f"threshold {error}") from error
        song = dynamic = Thresholds(valence, arousal)
        kind = "as given"
    rule = RatingRule(space, song, dynamic)
    return replace(rule, space=replace(space, rule=_text(rule, scale, kind, options.margin, bool(over_time))))


def rated_space(name: str | None) -> EmotionSpace:
    """Return a space of the valence-arousal plane by its name; None stands for the quadrants.

    Raises
    ------
    ConfigError
        There is no such space.
    """
    if name is not None and name not in SPACES:
        raise ConfigError(f"space {name!r}: must be one of {', '.join(SPACES)}")
    return SPACES[name or "4q"]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def _text(rule: RatingRule, scale: Scale, kind: str, margin: float, has_time: bool) -> str:
    def high(thresholds: Thresholds, shown: Any) -> str:
        both = {"valence": shown(thresholds.valence), "arousal": shown(thresholds.arousal)}
        used = both if rule.space.name == "4q" else {rule.space.name: both[rule.space.name]}
        return ", ".join(f"{axis} from {value:.4g} up" for axis, value in used.items())

    text = f"rated {scale.low:g} to {scale.high:g}; high is {high(rule.song, scale.denormalise)} ({kind})"
    if has_time and rule.over_time != rule.song:
        text += f"; over time, the scale taken as -1 to 1, {high(rule.over_time, float)}"
    if margin:
        text += f"; songs within {margin:g} of an axis left out (half the scale is 1)"
    return text
