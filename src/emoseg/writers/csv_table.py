"""CSV: a header and one row a segment, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io

from emoseg.types import Analysis
from emoseg.writers.json_lines import rounded, rounded_or_none


def render(analysis: Analysis) -> str:
    """Return the segments as CSV text.

    Columns: ``start_s``, ``end_s`` (seconds), ``label``, one ``p_<label>`` per label of the space (probabilities in
    [0, 1]), ``valence`` and ``arousal`` (in [-1, 1], empty where the space has no such axis).

    Raises
    ------
    EmosegError
        A number is not finite.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(
        ["start_s", "end_s", "label", *(f"p_{name}" for name in analysis.space.labels), "valence", "arousal"]
    )
    for segment in analysis.segments:
        times = [rounded(t, analysis.path) for t in (segment.start_s, segment.end_s)]
        probabilities = [rounded(p, analysis.path) for p in segment.probabilities]
        axes = [rounded_or_none(a, analysis.path) for a in (segment.valence, segment.arousal)]
        table.writerow([*times, segment.label, *probabilities, *axes])
    return text.getvalue()
