"""Does a clean probability find the wrong inherited labels? Measured against real truth.

Truth is what a corpus knows of its segments' emotion (`CorpusSegments.true`, where `known`). Near an axis the truth
itself is uncertain, so figures are given for segments at least so far from every axis. Segments of one song are not
independent: intervals come from resampling songs. And since songs differ in how hard they are, which alone can raise
the overall figure, segments are also ranked within each song.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from emoseg.corpora.segments import CorpusSegments
from emoseg.errors import ConfigError
from emoseg.metrics import Bool, auroc, average_precision
from emoseg.types import Float64, Int64

MARGINS = (0.0, 0.05, 0.1, 0.2)
DRAWS = 1000


@dataclass(frozen=True)
class DetectionFigures:
    """Detection of wrong labels among the segments at least `margin` from every axis.

    Parameters
    ----------
    margin : float
        Half the rating scale is 1.
    segments, wrong, songs : int
        Segments with truth, those of them whose given label is wrong, and their songs.
    base_rate : float or None
        Share of wrong ones: what the average precision of a guess would be.
    auroc : float or None
        Of low clean probability for wrong labels; None where all labels are right, or all wrong.
    interval : tuple of float or None
        95 % of it under resampling of songs.
    average_precision : float or None
    mixed_songs : int
        Songs with wrong and with right labels.
    within_song : float or None
        Mean over these of the AUROC inside one song.
    within_interval : tuple of float or None
    """

    margin: float
    segments: int
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
        return asdict(self)


def detection_figures(
    clean: Float64,
    segments: CorpusSegments,
    *,
    rows: Int64 | None = None,
    given: Int64 | None = None,
    margins: Sequence[float] = MARGINS,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[DetectionFigures]:
    """Measure how well a clean probability finds wrong labels, one result a margin.

    Parameters
    ----------
    clean : array, shape (R,)
        Probability that the given label of each segment is right, or any score that orders segments so.
    segments : CorpusSegments
    rows : array of int, shape (R,), optional
        Segments that `clean` is of, such as those of the training songs; default all.
    given : array of int, shape (R,), optional
        Labels that the learner was given; default the inherited ones.
    margins : sequence of float
    draws : int
        Resamplings of songs for the intervals.
    seed : int

    Returns
    -------
    list of DetectionFigures
        Empty where the corpus has no truth.

    Raises
    ------
    ConfigError
        The arrays do not have the same length, or a clean probability is not a number.
    """
    if segments.true is None or segments.known is None or segments.margin is None:
        return []
    rows = np.arange(len(segments.song)) if rows is None else rows
    given = segments.inherited[rows] if given is None else given
    if not len(clean) == len(rows) == len(given):
        raise ConfigError(f"{len(clean)} clean probabilities for {len(rows)} segments with {len(given)} labels")
    if np.isnan(clean).any():
        raise ConfigError("a clean probability is not a number")
    figures = []
    for margin in margins:
        chosen = segments.known[rows] & (segments.margin[rows] >= margin)
        wrong = (segments.true[rows] != given)[chosen]
        figures.append(_figures(margin, wrong, -clean[chosen], segments.song[rows][chosen], draws, seed))
    return figures


def _figures(margin: float, wrong: Bool, score: Float64, song: Int64, draws: int, seed: int) -> DetectionFigures:
    names, song = np.unique(song, return_inverse=True)
    order = np.argsort(song, kind="stable")
    wrong, score, song = wrong[order], score[order], song[order]
    parts = np.split(np.arange(len(song)), np.searchsorted(song, np.arange(1, len(names))))
    inside = np.array([auroc(wrong[part], score[part]) for part in parts]) if len(song) else np.empty(0)
    mixed = inside[~np.isnan(inside)]
    both = bool(wrong.any() and not wrong.all())
    rng = np.random.default_rng(seed)
    return DetectionFigures(
        margin,
        len(wrong),
        int(wrong.sum()),
        len(names),
        float(wrong.mean()) if len(wrong) else None,
        auroc(wrong, score) if both else None,
        _interval([_auroc_of_songs(wrong, score, parts, rng) for _ in range(draws)]) if both else None,
        average_precision(wrong, score) if both else None,
        len(mixed),
        float(mixed.mean()) if len(mixed) else None,
        _interval([float(rng.choice(mixed, len(mixed)).mean()) for _ in range(draws)]) if len(mixed) > 1 else None,
    )


def _auroc_of_songs(wrong: Bool, score: Float64, parts: list[Int64], rng: np.random.Generator) -> float:
    rows = np.concatenate([parts[i] for i in rng.integers(0, len(parts), len(parts))])
    return auroc(wrong[rows], score[rows])


def _interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the middle 95 %; draws without a figure, which have only one kind of label, do not count."""
    found = np.array(values)
    found = found[~np.isnan(found)]
    if not len(found):
        return None
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)
