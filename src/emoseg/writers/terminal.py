"""A table for the terminal: one row per recording, with its emotion over time as a strip of marked blocks.

The strip can be read without colour: each cell carries the mark of its label, and the legend below explains the marks.
"""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from emoseg.emotion import EmotionSpace
from emoseg.system.names import one_line
from emoseg.types import SOUNDS, Analysis
from emoseg.writers.appearance import (
    answer_marks,
    answer_swatches,
    answers,
    caption,
    clock,
    file_name,
    on_colour,
)

STRIP_CELLS = 40
MIN_STRIP_CELLS = 12
SPAN_ROWS = 40
# Width of the other five columns of the overview at most, with the space around them.
OTHER_COLUMNS = 50


class ResultTable:
    """A table that grows by one row per recording, with a legend, the model and the rules at the end.

    A single recording also gets the table of its spans.

    Parameters
    ----------
    console : rich.console.Console
        From 80 columns on, nothing wraps except long file names.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._count = 0
        self._only: Analysis | None = None
        self._legends: dict[str, tuple[EmotionSpace, dict[str, None]]] = {}
        self._provenance: dict[str, None] = {}

    def add(self, analysis: Analysis) -> None:
        """Print the row of a recording."""
        self._console.print(_rows(analysis, self._console.width, header=not self._count))
        self._count += 1
        self._only = analysis if self._count == 1 else None
        _, names = self._legends.setdefault(str(analysis.space), (analysis.space, {}))
        names |= dict.fromkeys(answers(analysis))
        self._provenance |= dict.fromkeys(_provenance(analysis))

    def finish(self) -> None:
        """Print the spans of a single recording, then legend, model and rules."""
        if self._only is not None:
            self._console.print(_span_table(self._only))
        for space, names in self._legends.values():
            self._console.print(_legend(space, tuple(names), self._console.width))
        for line in self._provenance:
            self._console.print(Text(line, style="dim"))


def _rows(analysis: Analysis, width: int, *, header: bool) -> Table:
    """Return a table of one recording; its columns have the same widths for every recording."""
    cells = max(MIN_STRIP_CELLS, min(STRIP_CELLS, width - OTHER_COLUMNS))
    table = Table(
        box=box.SIMPLE_HEAD,
        show_header=header,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
    )
    table.add_column("recording / over time", overflow="fold", width=cells)
    table.add_column("length", justify="right", no_wrap=True, width=8)
    table.add_column("song emotion", overflow="fold", width=16)
    table.add_column("conf.", justify="right", no_wrap=True, width=6)
    table.add_column("val.", justify="right", no_wrap=True, width=6)
    table.add_column("aro.", justify="right", no_wrap=True, width=6)
    song = analysis.song
    table.add_row(
        Text(file_name(analysis.path) + "\n").append_text(_strip(analysis, cells)),
        clock(analysis.duration_s),
        Text(caption(analysis.space, song.label), style="bold"),
        f"{song.confidence:.0%}" if song.probabilities else "-",
        _signed(song.valence),
        _signed(song.arousal),
    )
    return table


def _strip(analysis: Analysis, most: int) -> Text:
    """Return a mark for each of at most `most` equal stretches of the recording: that of the label in its middle."""
    strip = Text()
    cells = min(most, len(analysis.segments))
    names = answers(analysis)
    blocks = dict(zip(names, _blocks(names, analysis.space), strict=True))
    following = 0
    for cell in range(cells):
        middle_s = (cell + 0.5) / cells * analysis.duration_s
        while following < len(analysis.spans) - 1 and analysis.spans[following].end_s <= middle_s:
            following += 1
        strip.append_text(blocks[analysis.spans[following].label])
    return strip


def _blocks(names: tuple[str, ...], space: EmotionSpace) -> list[Text]:
    colours = [swatch.light for swatch in answer_swatches(names, space)]
    return [
        Text(mark, style=f"{on_colour(colour)} on {colour}")
        for mark, colour in zip(answer_marks(names, space), colours, strict=True)
    ]


def _legend(space: EmotionSpace, names: tuple[str, ...], width: int) -> Text:
    """Return each mark with its label, in lines of at most `width` columns that keep the two together."""
    legend, used = Text(), 0
    for label, block in zip(names, _blocks(names, space), strict=True):
        entry = Text.assemble(block, " ", caption(space, label))
        if used and used + 3 + entry.cell_len > width:
            legend.append("\n")
            used = 0
        elif used:
            legend.append("   ")
            used += 3
        legend.append_text(entry)
        used += entry.cell_len
    return legend


def _span_table(analysis: Analysis) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("start", justify="right")
    table.add_column("end", justify="right")
    table.add_column("emotion")
    names = answers(analysis)
    blocks = dict(zip(names, _blocks(names, analysis.space), strict=True))
    for span in analysis.spans[:SPAN_ROWS]:
        name = Text.assemble(blocks[span.label], " ", caption(analysis.space, span.label))
        table.add_row(clock(span.start_s, decimals=1), clock(span.end_s, decimals=1), name)
    if len(analysis.spans) > SPAN_ROWS:
        table.add_row(
            "...", "...", f"and {len(analysis.spans) - SPAN_ROWS} more: write a file to see all (--format csv)"
        )
    return table


def _provenance(analysis: Analysis) -> list[str]:
    """Return the model, the emotion space and the rules behind the numbers, one per line."""
    space, song = analysis.space, analysis.song
    lines = [
        f"model {one_line(analysis.model_name)} {one_line(analysis.model_version)}",
        f"emotion space {one_line(space.name)}: {one_line(space.rule or ', '.join(space.labels))}",
        f"unsure: {analysis.rules['unsure']}",
    ]
    if song.valence is not None or song.arousal is not None:
        lines.insert(2, "valence and arousal are derived from the label probabilities, range [-1, 1]")
    if any(name in SOUNDS and name not in space.labels for name in answers(analysis)):
        lines.append(analysis.rules["sound"])
    return lines


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"
