"""Audacity label track: one line a span, read by *File > Import > Labels*."""

from __future__ import annotations

from emoseg.types import Analysis
from emoseg.writers.appearance import told
from emoseg.writers.json_lines import rounded


def render(analysis: Analysis) -> str:
    """Return the spans as ``start TAB end TAB label`` lines, times in seconds.

    An "unsure" span carries the rule behind it. Tabs and line ends inside a label become spaces, because they separate
    the fields.

    Raises
    ------
    EmosegError
        A time is not finite.

    References
    ----------
    Audacity Manual, "Importing and Exporting Labels".
    """
    lines = []
    for span in analysis.spans:
        start_s, end_s = (rounded(t, analysis.path) for t in (span.start_s, span.end_s))
        lines.append(f"{start_s:.6f}\t{end_s:.6f}\t{' '.join(told(analysis, span.label).split())}\n")
    return "".join(lines)
