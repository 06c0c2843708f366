"""How well a clean probability finds inherited labels that are really wrong.

The truth is the emotion of segments according to the corpus (`CorpusSegments.true`, where `known`). Near an axis it is
itself uncertain, so there are figures for segments at several least distances from every axis. Segments of one song
are not independent, so intervals come from resampling songs. Songs differ in how hard they are, which alone can raise
the overall figure, so segments are also ranked within each song.

Where recordings are clips of songs, each clip has one true label. Clips are then ranked, by the mean over their
segments, and the songs that they belong to are resampled and ranked within.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from emoseg.corpora.segments import CorpusSegments
from emoseg.errors import ConfigError
from emoseg.metrics import Bool, auroc, average_precision
from emoseg.types import Float64, Int64

MARGINS = (0.0, 0.05, 0.1, 0.2)
DRAWS = 1000

Unit = Literal["segment", "clip"]


@dataclass(frozen=True)
class DetectionFigures:
    """Detection of wrong labels among the segments (or clips) at least `margin` from every axis.

    Parameters
    ----------
    margin : float
        Half the rating scale is 1.
    unit : {"segment", "clip"}
        What is ranked.
    units, wrong, songs : int
        Number of segments or clips with truth, of those whose given label is wrong, and of their songs.
    base_rate : float or None
        Share of wrong labels, which is also the average precision of a guess.
    auroc : float or None
        Area under the ROC curve of low clean probability for wrong labels, in [0, 1]; None if all labels are right, or
        all wrong.
    interval : tuple of float or None
        95 % interval of `auroc` under resampling of songs.
    average_precision : float or None
        Of low clean probability for wrong labels, in [0, 1]; None where `auroc` is.
    mixed_songs : int
        Number of songs that have both wrong and right labels.
    within_song : float or None
        Mean over these songs of the AUROC within the song.
    within_interval : tuple of float or None
        95 % interval of `within_song` under resampling of these songs.
    """

    margin: float
    unit: Unit
    units: int
    wrong: int
    songs: int
    base_rate: float | None
    auroc: float | None
    interval: tuple[float, float] | None
    average_precision: float | None
    mixed_songs: int
    within_song: float | None
    within_interval: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """Return the figures for a result file."""
        return _with_lists(asdict(self))


@dataclass(frozen=True)
class AurocDifference:
    """How much better one clean probability finds wrong labels than another, at least `margin` from every axis.

    Parameters
    ----------
    margin : float
        Half the rating scale is 1.
    mean : float or None
        Difference of the AUROCs, in [-1, 1]; None if all labels are right, or all wrong.
    interval : tuple of float or None
        95 % interval of the difference under resampling of songs; both are measured on the same drawn songs.
    """

    margin: float
    mean: float | None
    interval: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """Return the difference for a result file."""
        return _with_lists(asdict(self))


def _with_lists(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values as JSON would give them back, with lists instead of tuples."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


@dataclass(frozen=True)
class _Ranked:
    """Segments or clips sorted by song, with the indices of each song in `parts`; a high score means a wrong label."""

    unit: Unit
    wrong: Bool
    score: Float64
    parts: list[Int64]

    @property
    def mixed(self) -> bool:
        return bool(self.wrong.any() and not self.wrong.all())


def detection_figures(
    clean: Float64,
    segments: CorpusSegments,
    *,
    rows: Int64 | None = None,
    given: Int64 | None = None,
    margins: Sequence[float] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[DetectionFigures]:
    """Return how well a clean probability finds wrong labels, with one result per margin.

    Parameters
    ----------
    clean : array, shape (R,)
        Probability that the given label of each segment is right, or any score that sorts segments like it.
    segments : CorpusSegments
    rows : array of int, shape (R,), optional
        Segments that `clean` belongs to, such as those of the training songs; default all.
    given : array of int, shape (R,), optional
        Labels that were learnt from; default the inherited ones.
    margins : sequence of float, optional
        Default `MARGINS`, or 0 alone where the truth comes from sections, which have no distance from an axis.
    draws : int
        Number of resamplings of songs for the intervals.
    seed : int
        Of the resamplings.

    Returns
    -------
    list of DetectionFigures
        Empty if the corpus has no true labels of segments.

    Raises
    ------
    ConfigError
        The arrays do not have the same length, or a clean probability is not a number.
    """
    rows, given = _checked(clean, segments, rows, given)
    return [
        _figures(margin, _ranked(clean, segments, rows, given, margin), draws, seed)
        for margin in _margins(segments, margins)
    ]


def auroc_differences(
    ours: Float64,
    theirs: Float64,
    segments: CorpusSegments,
    *,
    rows: Int64 | None = None,
    given: Int64 | None = None,
    margins: Sequence[float] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[AurocDifference]:
    """Return by how much the first of two clean probabilities finds wrong labels better, with one result per margin.

    Both are measured on the same segments and the same drawn songs. The other parameters, the empty result and the
    errors are those of `detection_figures`.

    Parameters
    ----------
    ours, theirs : array, shape (R,)
    """
    rows, given = _checked(ours, segments, rows, given)
    _checked(theirs, segments, rows, given)
    differences = []
    for margin in _margins(segments, margins):
        a, b = (_ranked(clean, segments, rows, given, margin) for clean in (ours, theirs))
        mean, interval = None, None
        if a.mixed:
            mean = auroc(a.wrong, a.score) - auroc(b.wrong, b.score)
            interval = _interval(_resampled(a, draws, seed) - _resampled(b, draws, seed))
        differences.append(AurocDifference(margin, mean, interval))
    return differences


def _margins(segments: CorpusSegments, margins: Sequence[float] | None) -> Sequence[float]:
    if segments.true is None or segments.known is None or segments.margin is None:
        return ()
    if margins is not None:
        return margins
    return (0.0,) if np.isinf(segments.margin[segments.known]).all() else MARGINS


def _checked(clean: Float64, segments: CorpusSegments, rows: Int64 | None, given: Int64 | None) -> tuple[Int64, Int64]:
    rows = np.arange(len(segments.song)) if rows is None else rows
    given = segments.inherited[rows] if given is None else given
    if not len(clean) == len(rows) == len(given):
        raise ConfigError(f"{len(clean)} clean probabilities for {len(rows)} segments with {len(given)} labels")
    if np.isnan(clean).any():
        raise ConfigError("a clean probability is not a number")
    return rows, given


def _ranked(clean: Float64, segments: CorpusSegments, rows: Int64, given: Int64, margin: float) -> _Ranked:
    assert segments.true is not None
    assert segments.known is not None
    assert segments.margin is not None
    chosen = segments.known[rows] & (segments.margin[rows] >= margin)
    wrong, score = (segments.true[rows] != given)[chosen], -clean[chosen]
    recording = segments.song[rows][chosen]
    names = segments.groups("none")
    clips = any(song.work for song in segments.songs)
    if clips:
        recording, index = np.unique(recording, return_inverse=True)
        size = np.bincount(index, minlength=len(recording))
        wrong, score = np.bincount(index, wrong) > size / 2, np.bincount(index, score) / size
    # Songs are numbered as they come, so that draws do not depend on their names.
    number = {name: i for i, name in enumerate(dict.fromkeys(names[i] for i in recording))}
    song = np.array([number[names[i]] for i in recording], dtype=np.int64)
    order = np.argsort(song, kind="stable")
    cuts = np.searchsorted(song[order], np.arange(1, len(number)))
    parts = np.split(np.arange(len(song)), cuts) if len(song) else []
    return _Ranked("clip" if clips else "segment", wrong[order], score[order], parts)


def _figures(margin: float, ranked: _Ranked, draws: int, seed: int) -> DetectionFigures:
    wrong, score = ranked.wrong, ranked.score
    inside = np.array([auroc(wrong[part], score[part]) for part in ranked.parts])
    mixed = inside[~np.isnan(inside)]
    rng = np.random.default_rng([seed, 1])
    within = np.array([rng.choice(mixed, len(mixed)).mean() for _ in range(draws)]) if len(mixed) > 1 else None
    return DetectionFigures(
        margin=margin,
        unit=ranked.unit,
        units=len(wrong),
        wrong=int(wrong.sum()),
        songs=len(ranked.parts),
        base_rate=float(wrong.mean()) if len(wrong) else None,
        auroc=auroc(wrong, score) if ranked.mixed else None,
        interval=_interval(_resampled(ranked, draws, seed)) if ranked.mixed else None,
        average_precision=average_precision(wrong, score) if ranked.mixed else None,
        mixed_songs=len(mixed),
        within_song=float(mixed.mean()) if len(mixed) else None,
        within_interval=None if within is None else _interval(within),
    )


def _resampled(ranked: _Ranked, draws: int, seed: int) -> Float64:
    """Return the AUROC of each resampling of songs, shape (draws,); NaN if a draw has only right or only wrong labels.

    The same seed draws the same songs. A song that is drawn n times gives its segments the weight n, so that all draws
    share one sorting.
    """
    rng = np.random.default_rng(seed)
    songs = len(ranked.parts)
    song = np.repeat(np.arange(songs), [len(part) for part in ranked.parts])
    scores, level = np.unique(ranked.score, return_inverse=True)
    values = np.full(draws, np.nan)
    for d in range(draws):
        weight = np.bincount(rng.integers(0, songs, songs), minlength=songs)[song]
        positive = np.bincount(level, weight * ranked.wrong, len(scores))
        negative = np.bincount(level, weight * ~ranked.wrong, len(scores))
        pairs = positive.sum() * negative.sum()
        if pairs:
            below = np.cumsum(negative) - negative / 2  # a tie counts half
            values[d] = float(positive @ below) / pairs
    return values


def _interval(values: Float64) -> tuple[float, float] | None:
    """Return the middle 95 % of the values that are not NaN; None if there are none."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)
