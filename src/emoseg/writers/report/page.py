"""The HTML report: one self-contained page per recording, to look at and listen to.

The page needs no network and no server. Styles, script and data are inside it, and so is the recording if browsers play
its type and it is small enough; a larger recording is played from its own place. Without JavaScript the charts and the
table of spans are still there. Text from outside (file names, labels, the model's name) is escaped, and the page's
content security policy allows no script but the one of this package.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from emoseg.errors import EmosegError
from emoseg.system.names import one_line
from emoseg.types import Analysis
from emoseg.writers.appearance import (
    answer_swatches,
    answers,
    caption,
    clock,
    file_name,
    on_colour,
    words,
)
from emoseg.writers.json_lines import to_json
from emoseg.writers.report import charts
from emoseg.writers.report.player import AUDIO_LIMIT_MB, player
from emoseg.writers.report.sentences import answer_name, song_place, time_shares, verdict

OPEN_TABLE_ROWS = 30


def render_report(
    analysis: Analysis, *, audio: Path | None, folder: Path | None = None, limit_mb: float = AUDIO_LIMIT_MB
) -> str:
    """Return the report of one recording as a complete HTML page.

    Parameters
    ----------
    analysis : Analysis
        With at least one segment.
    audio : Path, optional
        The recording. It is put inside the page if browsers play its type and it has at most `limit_mb`. A larger one
        is played from its own place, by its path from `folder`. Otherwise the page says why there is no player.
    folder : Path, optional
        Where the page will lie. Without it, a recording that is not inside the page cannot be played.
    limit_mb : float
        Largest recording, in megabytes (10**6 bytes), that is put inside the page.

    Returns
    -------
    str
        Control characters and bytes that are not UTF-8 are shown as escapes.

    Raises
    ------
    EmosegError
        The analysis has no segment, or holds a number that is not finite.
    """
    result = to_json(analysis)
    if not analysis.segments or not analysis.spans or analysis.duration_s <= 0:
        raise EmosegError(f"{analysis.path}: a report needs at least one segment, and the analysis has none")
    package = resources.files(__package__)
    texts = {name: (package / f"page.{name}").read_text(encoding="utf-8") for name in ("html", "css", "js")}
    digest = base64.b64encode(hashlib.sha256(texts["js"].encode()).digest()).decode()
    values = {
        "script_hash": digest,
        "css": texts["css"] + _label_styles(analysis),
        "script": texts["js"],
        "data": _script_json(_page_data(analysis, result)),
        "title": escape(file_name(analysis.path)),
        "duration": clock(analysis.duration_s),
        "player": player(audio, folder, limit_mb),
        **_header(analysis),
        **_timeline(analysis),
        **_small_print(analysis),
        "table": _span_table(analysis),
    }
    return Template(texts["html"]).substitute(values)


def _label_styles(analysis: Analysis) -> str:
    colours = answer_swatches(answers(analysis), analysis.space)
    light = "".join(f".c{i}{{--c:{s.light};--on:{on_colour(s.light)}}}" for i, s in enumerate(colours))
    dark = "".join(f".c{i}{{--c:{s.dark};--on:{on_colour(s.dark)}}}" for i, s in enumerate(colours))
    return f"{light}@media (prefers-color-scheme:dark){{{dark}}}"


def _page_data(analysis: Analysis, result: dict[str, Any]) -> dict[str, Any]:
    """Return the data of the script: times, label numbers, and probabilities to three decimals."""
    labels = answers(analysis)
    segments = [
        [
            round(segment["start_s"], 3),
            round(segment["end_s"], 3),
            labels.index(segment["label"]),
            [round(p, 3) for p in segment["probabilities"].values()],
            *(None if segment[axis] is None else round(segment[axis], 3) for axis in ("valence", "arousal")),
        ]
        for segment in result["segments"]
    ]
    return {
        "duration": result["duration_s"],
        "labels": [one_line(label) for label in labels],
        "captions": [caption(analysis.space, label) for label in labels],
        "segments": segments,
    }


def _script_json(data: dict[str, Any]) -> str:
    """Return JSON in which an HTML parser finds no markup, whatever the strings hold."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _header(analysis: Analysis) -> dict[str, str]:
    song, space = analysis.song, analysis.space
    plain = words(space, song.label)
    sentences = [*verdict(analysis), time_shares(analysis)]
    return {
        "song_class": f"c{answers(analysis).index(song.label)}",
        "chip": f'<span class="chip">{escape(one_line(song.label))}</span>' if plain else "",
        "feel": escape(", ".join(plain).capitalize() or answer_name(song.label, space)),
        "lede": escape(" ".join(sentences)),
        "bars": _bars(analysis),
        "bars_class": "bars many" if len(space.labels) > 6 else "bars",
    }


def _bars(analysis: Analysis) -> str:
    rows = []
    for i, (label, p) in enumerate(zip(analysis.space.labels, analysis.song.probabilities, strict=False)):
        name = escape(caption(analysis.space, label))
        rows.append(
            f'<li class="c{i}"><span class="name">{name}</span><span class="bar"><i style="width:{100 * p:.1f}%"></i>'
            f'</span><span class="num">{p:.0%}</span></li>'
        )
    return "".join(rows)


def _timeline(analysis: Analysis) -> dict[str, str]:
    legend = "".join(
        f'<li class="c{i}"><i></i>{escape(caption(analysis.space, label))}</li>'
        for i, label in enumerate(answers(analysis))
    )
    lines = charts.axis_lines(analysis)
    drawn = [axis for axis in ("valence", "arousal") if f'class="{axis}"' in lines]
    keys = "".join(f'<span class="key {axis}"><i></i>{axis}</span>' for axis in drawn)
    rows = [
        _row("Emotion", "", charts.ribbon(analysis), "ribbon"),
        _row("Waveform", "", charts.waveform(analysis), "tall"),
        _row("Probability", "<b>1</b><b>0</b>", charts.probability_areas(analysis), "tall"),
        _row(keys, "<b>+1</b><b>0</b><b>−1</b>", lines, "tall"),
    ]
    picture = charts.plane(analysis)
    note = f"Dots: segments. Ring: the whole song{song_place(analysis)}."
    return {
        "legend": legend,
        "rows": "".join(rows),
        "ticks": charts.time_axis(analysis.duration_s),
        "plane": f"<figure>{picture}<figcaption>{note}</figcaption></figure>" if picture else "",
        "last_s": f"{analysis.duration_s:.3f}",
    }


def _row(title: str, gutter: str, content: str, kind: str) -> str:
    if not content:
        return ""
    return (
        f'<div class="row {kind}"><h3>{title}</h3><div class="gutter" aria-hidden="true">{gutter}</div>'
        f'<div class="plot">{content}</div></div>'
    )


def _span_table(analysis: Analysis) -> str:
    rows = []
    for span in analysis.spans:
        index = answers(analysis).index(span.label)
        start, end, length = (clock(t, decimals=1) for t in (span.start_s, span.end_s, span.end_s - span.start_s))
        rows.append(
            f'<tr class="c{index}"><td><a href="#timeline" data-t="{span.start_s:.3f}">{start}</a></td>'
            f"<td>{end}</td><td>{length}</td><td><i></i>{escape(caption(analysis.space, span.label))}</td></tr>"
        )
    opened = " open" if len(rows) <= OPEN_TABLE_ROWS else ""
    count = f"{len(rows)} stretch{'es' if len(rows) > 1 else ''} of one emotion"
    return (
        f'<details{opened}><summary>{count}</summary><div class="scroll"><table><thead><tr><th scope="col">start</th>'
        '<th scope="col">end</th><th scope="col">length</th><th scope="col">emotion</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _small_print(analysis: Analysis) -> dict[str, str]:
    space, song = analysis.space, analysis.song
    axes = "Valence and arousal are derived from the label probabilities; range −1 to 1. "
    lines = [
        f"Emotion space {space.name}: {space.rule or ', '.join(space.labels)}. ",
        axes if song.valence is not None or song.arousal is not None else "",
        f"{len(analysis.segments)} segments. The confidence is the probability of the song's label. ",
        f"Unsure: {analysis.rules['unsure']}. Stretches: {analysis.rules['spans']}. ",
        f"{analysis.rules['sound'].capitalize()}. ",
        "The waveform is scaled to its loudest point; long recordings are drawn with neighbouring segments averaged.",
    ]
    return {
        "model": escape(one_line(f"{analysis.model_name} {analysis.model_version}")),
        "small_print": escape(one_line("".join(lines)).replace("..", ".")),
    }


@dataclass(frozen=True)
class _Html:
    """The report as a format; it takes the recording itself when its file is still there."""

    suffix: str = ".html"

    def render(self, analysis: Analysis, *, folder: Path | None = None) -> str:
        """Return the page that will lie in `folder`."""
        return render_report(analysis, audio=Path(analysis.path), folder=folder)


HTML = _Html()
