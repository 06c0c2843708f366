"""CSV: a header and one row a segment, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io

from emoseg.system.csv_cells import csv_cell
from emoseg.types import Analysis
from emoseg.writers.json_lines import AXES, rounded, rounded_or_none


def render(analysis: Analysis) -> str:
    """Return the segments as CSV text.

    Columns: ``start_s``, ``end_s`` (seconds), ``label``, one ``p_<label>`` per label of the space (probabilities in
    [0, 1]), ``valence`` and ``arousal`` (in [-1, 1], empty where the space has no such axis), ``valence_sd`` and
    ``arousal_sd``, ``sound`` (music, speech, noise, tone, silence), ``span`` (the smoothed answer at the segment's
    middle), and ``unsure_below`` (a label is "unsure" where no probability reaches it). Sound that is not music has no
    numbers.

    Raises
    ------
    EmosegError
        A number is not finite.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    names = [f"p_{name}" for name in analysis.space.labels]
    table.writerow(["start_s", "end_s", "label", *names, *AXES, "sound", "span", "unsure_below"])
    unsure_below = rounded(analysis.unsure_below, analysis.path)
    for segment, span in zip(analysis.segments, analysis.spans_of_segments(), strict=True):
        times = [rounded(t, analysis.path) for t in (segment.start_s, segment.end_s)]
        known: list[float | None] = [rounded(p, analysis.path) for p in segment.probabilities]
        probabilities = known or [None] * len(names)
        axes = [rounded_or_none(getattr(segment, axis), analysis.path) for axis in AXES]
        labels = csv_cell(segment.label), csv_cell(span.label)
        table.writerow([*times, labels[0], *probabilities, *axes, segment.sound, labels[1], unsure_below])
    return text.getvalue()
