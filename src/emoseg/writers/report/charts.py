"""Charts of the HTML report as static SVG and HTML text: ribbon, waveform, probabilities, axes, and the plane.

All charts over time share one horizontal scale, from 0 to `WIDTH` for the whole recording, and stretch with the page.
Text would stretch too, so it is HTML. Colours are the classes ``c0``, ``c1``, ... in the order of `appearance.answers`.
However long the recording, a chart has at most a thousand columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from emoseg.types import Analysis, Float64, Int64
from emoseg.writers.appearance import answers, caption, clock, words

WIDTH = 1000
HEIGHT = 100
RIBBON_SPANS = 240
WAVE_COLUMNS = 1000
CURVE_POINTS = 360
PLANE_POINTS = 240
DENSE_POINTS = 150
TICKS = 8


def ribbon(analysis: Analysis) -> str:
    """Return the spans as labelled blocks; more than `RIBBON_SPANS` are drawn as columns of the longest label."""
    parts = []
    for start_s, end_s, index in ribbon_runs(analysis):
        left, width = (100 * t / analysis.duration_s for t in (start_s, end_s - start_s))
        text = escape(answers(analysis)[index])
        parts.append(f'<div class="span c{index}" style="left:{left:.3f}%;width:{width:.3f}%"><b>{text}</b></div>')
    return "".join(parts)


def waveform(analysis: Analysis) -> str:
    """Return the envelope, scaled to its largest peak and coloured by label; empty where there are no peaks."""
    peaks = np.nan_to_num(np.asarray(analysis.peaks, dtype=np.float64).reshape(-1, 2))
    if len(peaks) == 0:
        return ""
    starts = np.linspace(0, len(peaks), min(len(peaks), WAVE_COLUMNS), endpoint=False).astype(np.int64)
    low, high = np.minimum.reduceat(peaks[:, 0], starts), np.maximum.reduceat(peaks[:, 1], starts)
    scale = (HEIGHT / 2 - 2) / max(float(np.abs(peaks).max()), 1e-9)
    top = HEIGHT / 2 - np.maximum(high * scale, 0.7)
    bottom = HEIGHT / 2 - np.minimum(low * scale, -0.7)
    columns = len(starts)
    x = np.arange(columns + 1) * WIDTH / columns
    labels = _labels_at(analysis, (np.arange(columns) + 0.5) / columns * analysis.duration_s)
    paths = []
    for first, end in _runs(labels):
        # One column further, so that neighbouring runs meet; after the last column its own height is repeated.
        which = np.minimum(np.arange(first, end + 1), columns - 1)
        along = x[first : end + 1]
        outline = _points(along, top[which]) + _points(along[::-1], bottom[which][::-1])
        paths.append(f'<path class="c{labels[first]}" d="M{" ".join(outline)}Z"/>')
    return _svg("wave", "".join(paths))


def probability_areas(analysis: Analysis) -> str:
    """Return the probability of each label over time as stacked areas that fill 0 to 1, first label at the bottom."""
    nothing = (0.0,) * len(analysis.space.labels)
    probabilities = np.array([segment.probabilities or nothing for segment in analysis.segments], dtype=np.float64)
    x, stacked = _curve(analysis, np.cumsum(probabilities, axis=1))
    edges = HEIGHT * (1 - np.column_stack([np.zeros(len(x)), np.clip(stacked, 0, 1)]))
    areas = []
    for index in range(len(analysis.space.labels)):
        outline = _points(x, edges[:, index + 1]) + _points(x[::-1], edges[::-1, index])
        areas.append(f'<path class="c{index}" d="M{" ".join(outline)}Z"/>')
    return _svg("areas" + _density(analysis), "".join(areas))


def axis_lines(analysis: Analysis) -> str:
    """Return valence and arousal over time, from -1 at the bottom to 1 at the top; empty where neither is derived."""
    lines = []
    for axis in ("valence", "arousal"):
        values = _axis_values(analysis, axis)
        if values is not None:
            x, y = _curve(analysis, values[:, None])
            known = np.isfinite(y[:, 0]).astype(np.int64)
            # A line for each stretch of music; a single point would not be drawn.
            for first, end in _runs(known):
                if known[first] and end - first > 1:
                    points = " ".join(_points(x[first:end], HEIGHT * (1 - y[first:end, 0]) / 2))
                    lines.append(f'<polyline class="{axis}" points="{points}"/>')
    if not lines:
        return ""
    rules = "".join(f'<path class="rule" d="M0 {y}H{WIDTH}"/>' for y in (0, HEIGHT // 2, HEIGHT))
    return _svg("axes" + _density(analysis), rules + "".join(lines))


def plane(analysis: Analysis) -> str:
    """Return the valence-arousal plane with the path of the song and its mean; empty without both axes."""
    valence, arousal = _axis_values(analysis, "valence"), _axis_values(analysis, "arousal")
    song = analysis.song
    if valence is None or arousal is None or song.valence is None or song.arousal is None:
        return ""
    path = _pooled(np.column_stack([valence, arousal]), PLANE_POINTS)
    times = _pooled(_middles(analysis)[:, None], PLANE_POINTS)[:, 0]
    known = np.isfinite(path).all(axis=1)
    path, times = path[known], times[known]
    labels = _labels_at(analysis, times)
    x, y = _plane_xy(path[:, 0]), _plane_xy(-path[:, 1])
    dots = "".join(
        f'<circle class="c{label}" cx="{px:.1f}" cy="{py:.1f}" r="3.4"/>'
        for px, py, label in zip(x, y, labels, strict=True)
    )
    sx, sy = float(_plane_xy(song.valence)), float(_plane_xy(-song.arousal))
    title = f"Valence-arousal plane. The song lies at valence {song.valence:+.2f}, arousal {song.arousal:+.2f}."
    return (
        f'<svg class="plane{_density(analysis)}" viewBox="0 0 340 346" role="img" aria-label="{escape(title)}">'
        f"{_plane_corners(analysis)}"
        '<path class="rule" d="M30 170H310M170 30V310"/><rect class="frame" x="30" y="30" width="280" height="280"/>'
        f'<polyline class="way" points="{" ".join(_points(x, y))}"/><g class="dots">{dots}</g>'
        f'<circle class="song" cx="{sx:.1f}" cy="{sy:.1f}" r="8"/>'
        f'<text class="songname" x="{sx:.1f}" y="{sy - 13:.1f}">song</text>'
        '<circle id="here" cx="170" cy="170" r="6"/>'
        '<text x="30" y="340">−1</text><text x="170" y="340" class="mid">valence</text>'
        '<text x="310" y="340" class="end">+1</text><text x="22" y="310" class="end">−1</text>'
        '<text class="mid" transform="translate(18 170) rotate(-90)">arousal</text>'
        '<text x="22" y="38" class="end">+1</text></svg>'
    )


def time_axis(duration_s: float) -> str:
    """Return time marks at a round distance, at most `TICKS` and the start."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
    step = next((s for s in steps if duration_s / s <= TICKS), 3600 * (1 + int(duration_s // (3600 * TICKS))))
    # No mark so near the end that its text would hang over the edge.
    marks = range(0, int(duration_s * 0.97) + 1, step)
    return "".join(f'<span style="left:{100 * t / duration_s:.3f}%">{clock(t)}</span>' for t in marks)


def _plane_corners(analysis: Analysis) -> str:
    parts = []
    for index, (label, axis) in enumerate(zip(analysis.space.labels, analysis.space.axes, strict=True)):
        if not axis.valence or not axis.arousal:
            continue
        left, top = axis.valence < 0, axis.arousal > 0
        parts.append(
            f'<rect class="tint c{index}" x="{30 if left else 170}" y="{30 if top else 170}" width="140" height="140"/>'
        )
        if words(analysis.space, label):
            parts.append(
                f'<text class="corner {"start" if left else "end"}" x="{30 if left else 310}" '
                f'y="{22 if top else 325}">{escape(caption(analysis.space, label))}</text>'
            )
    return "".join(parts)


def _plane_xy(value: Float64 | float) -> Float64:
    return np.asarray(170 + 140 * np.clip(np.asarray(value, dtype=np.float64), -1, 1))


def _svg(name: str, content: str) -> str:
    return (
        f'<svg class="{name}" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
        f"{content}</svg>"
    )


def _density(analysis: Analysis) -> str:
    """Return the class of charts with so many points that outlines and dashes would cover them."""
    return " dense" if len(analysis.segments) > DENSE_POINTS else ""


def _points(x: Float64, y: Float64) -> list[str]:
    return [f"{px:.1f},{py:.1f}" for px, py in zip(x, y, strict=True)]


def _middles(analysis: Analysis) -> Float64:
    return np.array([(segment.start_s + segment.end_s) / 2 for segment in analysis.segments], dtype=np.float64)


def _axis_values(analysis: Analysis, axis: str) -> Float64 | None:
    values = [getattr(segment, axis) for segment in analysis.segments]
    if all(value is None for value in values):
        return None
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _pooled(values: Float64, points: int) -> Float64:
    """Return means of neighbouring rows of `values`, shape (N, D), at most `points` of them; NaN is left out."""
    starts = np.linspace(0, len(values), min(len(values), points), endpoint=False).astype(np.int64)
    known = np.isfinite(values)
    counts = np.add.reduceat(known, starts, axis=0, dtype=np.float64)
    total = np.add.reduceat(np.where(known, values, 0.0), starts, axis=0)
    return np.divide(total, counts, out=np.full_like(total, np.nan), where=counts > 0)


def _curve(analysis: Analysis, values: Float64) -> tuple[Float64, Float64]:
    """Return x and `values`, shape (S, D), at the segments' middles, held level to the first start and last end."""
    y = _pooled(values, CURVE_POINTS)
    middles = _pooled(_middles(analysis)[:, None], CURVE_POINTS)[:, 0]
    times = np.concatenate([[analysis.segments[0].start_s], middles, [analysis.segments[-1].end_s]])
    return times * WIDTH / analysis.duration_s, np.concatenate([y[:1], y, y[-1:]])


def _labels_at(analysis: Analysis, times_s: Float64) -> Int64:
    """Return the index of the span's label at each time; between spans, that of the next one."""
    ends = np.array([span.end_s for span in analysis.spans])
    names = answers(analysis)
    indices = np.array([names.index(span.label) for span in analysis.spans], dtype=np.int64)
    return indices[np.minimum(np.searchsorted(ends, times_s, side="right"), len(ends) - 1)]


def _runs(labels: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield first and past-the-last position of each run of equal values."""
    borders = np.flatnonzero(np.diff(labels)) + 1
    edges = [0, *borders.tolist(), len(labels)]
    yield from pairwise(edges)


def ribbon_runs(analysis: Analysis) -> Iterator[tuple[float, float, int]]:
    """Yield start and end in seconds and the index in `answers` of each block of the ribbon."""
    if len(analysis.spans) <= RIBBON_SPANS:
        names = answers(analysis)
        for span in analysis.spans:
            yield span.start_s, span.end_s, names.index(span.label)
        return
    step_s = analysis.duration_s / RIBBON_SPANS
    labels = _labels_at(analysis, np.arange(0.5, RIBBON_SPANS) * step_s)
    for first, end in _runs(labels):
        yield first * step_s, end * step_s, int(labels[first])
