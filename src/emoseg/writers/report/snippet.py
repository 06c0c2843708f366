"""A short form of the report for notebooks: one fragment of HTML whose styles are its own."""

from __future__ import annotations

from html import escape

from emoseg.types import Analysis
from emoseg.writers.appearance import answer_swatches, answers, caption, clock, file_name, on_colour
from emoseg.writers.json_lines import to_json
from emoseg.writers.report.charts import ribbon_runs


def render_snippet(analysis: Analysis) -> str:
    """Return the song's answer and the spans over time as a fragment of HTML.

    It holds no script and no address, and every text of it is escaped.

    Raises
    ------
    EmosegError
        A number is not finite.
    """
    to_json(analysis)  # refuses numbers that are not finite
    song = analysis.song
    confidence = f", {song.confidence:.0%}" if song.probabilities else ""
    name, answer = escape(file_name(analysis.path)), escape(caption(analysis.space, song.label))
    return (
        '<div style="max-width:60em;font:14px/1.5 system-ui,sans-serif">'
        f"<div><b>{name}</b> ({clock(analysis.duration_s)}): <b>{answer}</b>{confidence}</div>"
        f'<div style="position:relative;height:2em;margin:.3em 0;overflow:hidden">{_blocks(analysis)}</div>'
        f'<div style="display:flex;justify-content:space-between"><span>0:00</span>'
        f"<span>{clock(analysis.duration_s)}</span></div>"
        f"<div>{_legend(analysis)}</div></div>"
    )


def _blocks(analysis: Analysis) -> str:
    names = answers(analysis)
    colours = [swatch.light for swatch in answer_swatches(names, analysis.space)]
    blocks = []
    for start_s, end_s, index in ribbon_runs(analysis):
        left, width = (100 * t / analysis.duration_s for t in (start_s, end_s - start_s))
        shown = escape(caption(analysis.space, names[index]))
        place = f"position:absolute;top:0;bottom:0;left:{left:.3f}%;width:{width:.3f}%;overflow:hidden"
        colour = f"background:{colours[index]};color:{on_colour(colours[index])}"
        times = f"{clock(start_s, decimals=1)} to {clock(end_s, decimals=1)}"
        blocks.append(
            f'<div title="{times}: {shown}" style="{place};{colour};text-align:center;line-height:2em;'
            f'white-space:nowrap">{shown}</div>'
        )
    return "".join(blocks)


def _legend(analysis: Analysis) -> str:
    names = answers(analysis)
    probabilities = analysis.song.probabilities
    entries = []
    for i, (name, swatch) in enumerate(zip(names, answer_swatches(names, analysis.space), strict=True)):
        share = f" {probabilities[i]:.0%}" if i < len(probabilities) else ""
        square = f'<span style="color:{swatch.light}">&#9632;</span>'
        shown = escape(caption(analysis.space, name))
        entries.append(f'<span style="margin-right:1.2em;white-space:nowrap">{square} {shown}{share}</span>')
    return "".join(entries)
