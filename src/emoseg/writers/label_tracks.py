"""Label tracks for audio editors: one line per span, as Audacity and as Sonic Visualiser read it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from emoseg.system.csv_cells import csv_cell
from emoseg.types import Analysis
from emoseg.writers.appearance import label_with_rule
from emoseg.writers.formats import Format
from emoseg.writers.numbers import rounded


def render_audacity(analysis: Analysis) -> str:
    """Return the spans as ``start TAB end TAB label`` lines, times in seconds, for *File > Import > Labels*.

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
    lines = (f"{start_s:.6f}\t{end_s:.6f}\t{' '.join(label.split())}\n" for start_s, end_s, label in _spans(analysis))
    return "".join(lines)


def render_sonic_visualiser(analysis: Analysis) -> str:
    """Return the spans as ``time,duration,label`` rows without a header, times in seconds.

    *File > Import Annotation Layer* reads them as a regions layer. An "unsure" span carries the rule behind it.

    Raises
    ------
    EmosegError
        A time is not finite.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerows(
        [f"{start_s:.6f}", f"{end_s - start_s:.6f}", csv_cell(label)] for start_s, end_s, label in _spans(analysis)
    )
    return text.getvalue()


def _spans(analysis: Analysis) -> Iterator[tuple[float, float, str]]:
    for span in analysis.spans:
        start_s, end_s = (rounded(t, analysis.path) for t in (span.start_s, span.end_s))
        yield start_s, end_s, label_with_rule(analysis, span.label)


AUDACITY = Format(".labels.txt", render_audacity)
SONIC_VISUALISER = Format(".sv.csv", render_sonic_visualiser)
