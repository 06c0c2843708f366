"""Segments as rows: CSV text for spreadsheets, and a pandas data frame."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from emoseg.errors import MissingExtraError
from emoseg.system.csv_cells import csv_cell
from emoseg.types import AXES, Analysis
from emoseg.writers.formats import Format
from emoseg.writers.numbers import finite, rounded

if TYPE_CHECKING:
    import pandas


def render(analysis: Analysis) -> str:
    """Return the segments as CSV text, one row per segment.

    Columns: ``start_s``, ``end_s`` (seconds), ``label``, one ``p_<label>`` per label of the space (probabilities in
    [0, 1]), ``valence`` and ``arousal`` (in [-1, 1], empty where the space has no such axis), ``valence_sd`` and
    ``arousal_sd``, ``sound`` (music, speech, noise, tone, silence), ``span`` (the smoothed answer at the segment's
    middle), and ``unsure_below`` (a label is "unsure" where no probability reaches it). Sound that is not music has no
    numbers. Numbers are rounded to six decimals.

    Raises
    ------
    EmosegError
        A number is not finite.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    unsure_below = rounded(analysis.unsure_below, analysis.path)
    table.writerow([*_columns(analysis), "unsure_below"])
    for row in _rows(analysis, rounded):
        cells = [csv_cell(value) if name in ("label", "span") else value for name, value in row.items()]
        table.writerow([*cells, unsure_below])
    return text.getvalue()


def data_frame(analysis: Analysis) -> pandas.DataFrame:
    """Return the segments as a pandas data frame, one row per segment.

    The columns are those of `render` but ``unsure_below``, which is in the frame's ``attrs`` with the path and the
    song's answer. Numbers are not rounded; unknown ones are NaN.

    Raises
    ------
    MissingExtraError
        pandas is not installed.
    EmosegError
        A number is not finite.
    """
    try:
        import pandas
    except ImportError as error:
        raise MissingExtraError("a data frame", "pandas") from error
    rows = list(_rows(analysis, finite))
    frame = pandas.DataFrame.from_records(rows, columns=_columns(analysis))
    numbers = [name for name in _columns(analysis) if name not in ("label", "sound", "span")]
    frame = frame.astype(dict.fromkeys(numbers, "float64"))
    frame.attrs.update(path=analysis.path, song=analysis.song.label, unsure_below=analysis.unsure_below)
    return frame


def _columns(analysis: Analysis) -> list[str]:
    probabilities = [f"p_{label}" for label in analysis.space.labels]
    return ["start_s", "end_s", "label", *probabilities, *AXES, "sound", "span"]


def _rows(analysis: Analysis, number: Callable[[float, str], float]) -> list[dict[str, Any]]:
    """Return a dict per segment with the keys of `_columns`; every number goes through `number`."""
    path, names = analysis.path, _columns(analysis)
    rows = []
    for segment, span in zip(analysis.segments, analysis.spans_of_segments(), strict=True):
        probabilities = segment.probabilities or (None,) * len(analysis.space.labels)
        axes = [getattr(segment, axis) for axis in AXES]
        numbers = [None if value is None else number(value, path) for value in (*probabilities, *axes)]
        times = [number(segment.start_s, path), number(segment.end_s, path)]
        rows.append(dict(zip(names, [*times, segment.label, *numbers, segment.sound, span.label], strict=True)))
    return rows


CSV = Format(".csv", render)
