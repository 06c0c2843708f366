"""Sonic Visualiser: spans as CSV without a header, read by *File > Import Annotation Layer* as a regions layer."""

from __future__ import annotations

import csv
import io

from emoseg.system.csv_cells import csv_cell
from emoseg.types import Analysis
from emoseg.writers.appearance import told
from emoseg.writers.json_lines import rounded


def render(analysis: Analysis) -> str:
    """Return the spans as ``time,duration,label`` rows, times in seconds; an "unsure" span carries the rule behind it.

    Raises
    ------
    EmosegError
        A time is not finite.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    for span in analysis.spans:
        start_s, end_s = (rounded(t, analysis.path) for t in (span.start_s, span.end_s))
        table.writerow([f"{start_s:.6f}", f"{end_s - start_s:.6f}", csv_cell(told(analysis, span.label))])
    return text.getvalue()
