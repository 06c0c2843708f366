"""A figure of the recording over time, for papers and slides; needs matplotlib (extra ``plot``)."""

from __future__ import annotations

import io
import warnings
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from emoseg.errors import MissingExtraError
from emoseg.system.names import one_line
from emoseg.types import Analysis
from emoseg.writers.appearance import answer_swatches, answers, caption, clock, file_name, on_colour
from emoseg.writers.formats import Format
from emoseg.writers.json_lines import to_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE_INCHES = (10.0, 6.2)
DPI = 150
_LEAST_TEXT = 0.05  # of the width: a span that is wider carries its label
_INK, _SOFT = "#1d1e23", "#62646d"


def render(analysis: Analysis) -> bytes:
    """Return the bytes of a PNG of `draw`, with the same errors."""
    sink = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script that the font lacks
        draw(analysis).savefig(sink, format="png", metadata={"Software": "emoseg"})
    return sink.getvalue()


def draw(analysis: Analysis) -> Figure:
    """Return a figure: spans over the waveform, probabilities, valence and arousal, and the rules.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    EmosegError
        A number is not finite.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("a figure", "plot") from error
    to_json(analysis)  # refuses numbers that are not finite
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained")
    drawn = [_draw_spans, _draw_probabilities, *([_draw_axes] if _has_axes(analysis) else [])]
    panels = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
    for draw, axes in zip(drawn, panels, strict=True):
        draw(analysis, axes)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8, colors=_SOFT)
    panels[-1].set_xlim(0, analysis.duration_s)
    panels[-1].xaxis.set_major_formatter(lambda seconds, _: clock(seconds))
    figure.suptitle(f"{_plain(file_name(analysis.path))}: {_verdict(analysis)}", fontsize=12, color=_INK)
    figure.supxlabel(_footnote(analysis), fontsize=6.5, color=_SOFT)
    return figure


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # no mathematics in names


def _verdict(analysis: Analysis) -> str:
    song = analysis.song
    answer = _plain(caption(analysis.space, song.label))
    return f"{answer} ({song.confidence:.0%})" if song.probabilities else answer


def _footnote(analysis: Analysis) -> str:
    rules = analysis.rules
    model = one_line(f"{analysis.model_name} {analysis.model_version}")
    lines = [f"model {model}. Emotion space {analysis.space.name}: {analysis.space.rule}"]
    lines += [f"unsure: {rules['unsure']}; {rules['sound']}"]
    return _plain("\n".join(lines))


def _has_axes(analysis: Analysis) -> bool:
    return any(s.valence is not None or s.arousal is not None for s in analysis.segments)


def _colours(analysis: Analysis) -> dict[str, str]:
    names = answers(analysis)
    return {n: swatch.light for n, swatch in zip(names, answer_swatches(names, analysis.space), strict=True)}


def _draw_spans(analysis: Analysis, axes: Any) -> None:
    colours = _colours(analysis)
    peaks = np.asarray(analysis.peaks, dtype=np.float64).reshape(-1, 2)
    scale = max(float(np.abs(peaks).max(initial=0.0)), 1e-9)
    times = (np.arange(len(peaks)) + 0.5) / max(1, len(peaks)) * analysis.duration_s
    axes.fill_between(times, peaks[:, 0] / scale, peaks[:, 1] / scale, color=_INK, linewidth=0, alpha=0.7, zorder=3)
    for span in analysis.spans:
        colour = colours[span.label]
        axes.axvspan(span.start_s, span.end_s, color=colour, alpha=0.4, linewidth=0)
        axes.axvspan(span.start_s, span.end_s, ymin=0.87, color=colour, linewidth=0)
        if span.end_s - span.start_s > _LEAST_TEXT * analysis.duration_s:
            middle, text = (span.start_s + span.end_s) / 2, _plain(one_line(span.label))
            axes.text(middle, 1.3, text, ha="center", va="center", fontsize=8, color=on_colour(colour), clip_on=True)
    axes.set_ylim(-1.1, 1.5)
    axes.set_yticks([])
    axes.set_ylabel("waveform", fontsize=8, color=_SOFT)


def _draw_probabilities(analysis: Analysis, axes: Any) -> None:
    colours, labels = _colours(analysis), analysis.space.labels
    nothing = (0.0,) * len(labels)
    table = np.array([s.probabilities or nothing for s in analysis.segments])
    edges = np.array([analysis.segments[0].start_s, *_borders(analysis), analysis.segments[-1].end_s])
    stacked = np.cumsum(np.column_stack([np.zeros(len(table)), table]), axis=1)
    for i, label in enumerate(labels):
        shown = _plain(caption(analysis.space, label))
        axes.stairs(stacked[:, i + 1], edges, baseline=stacked[:, i], fill=True, color=colours[label], label=shown)
    axes.set_ylim(0, 1)
    axes.set_ylabel("probability", fontsize=8, color=_SOFT)
    axes.legend(fontsize=7, ncols=min(4, len(labels)), loc="lower right", bbox_to_anchor=(1, 1), frameon=False)


def _borders(analysis: Analysis) -> list[float]:
    """Return the moments half way between the middles of neighbouring segments, all as long as the first."""
    length_s = analysis.segments[0].end_s - analysis.segments[0].start_s
    return [(a.start_s + b.start_s + length_s) / 2 for a, b in pairwise(analysis.segments)]


def _draw_axes(analysis: Analysis, axes: Any) -> None:
    times = [(s.start_s + s.end_s) / 2 for s in analysis.segments]
    for axis, colour, style in (("valence", _INK, "-"), ("arousal", "#7d55c7", "--")):
        values = np.array([np.nan if getattr(s, axis) is None else getattr(s, axis) for s in analysis.segments])
        if np.isfinite(values).any():
            marker = "o" if len(values) == 1 else None
            axes.plot(times, values, style, color=colour, linewidth=1.4, label=f"{axis} (derived)", marker=marker)
    axes.axhline(0, color=_SOFT, linewidth=0.6)
    axes.set_ylim(-1.05, 1.05)
    axes.set_yticks([-1, 0, 1])
    axes.set_ylabel("valence, arousal", fontsize=8, color=_SOFT)
    axes.legend(fontsize=7, ncols=2, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)


PNG = Format(".png", render)
