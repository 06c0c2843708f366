"""HTML report: one self-contained page a recording, to look at and listen to.

The page needs no network and no server: styles, script and data are inside it, and so is the recording when it is of a
type that browsers play and small enough; a larger one is played from where it lies. Without JavaScript the charts and
the table of spans are still there. What comes from outside (file names, labels, the model's name) is escaped, and the
page's own content security policy allows no script but the one in this package.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections import defaultdict
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from emoseg.emotion import Axis, EmotionSpace
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

AUDIO_LIMIT_MB = 12.0
MIME_TYPES = {
    ".mp3": "audio/mpeg",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".m4a": "audio/mp4",
    ".mp4": "audio/mp4",
    ".aac": "audio/aac",
    ".webm": "audio/webm",
}
OPEN_TABLE_ROWS = 30


@dataclass(frozen=True)
class _Sound:
    """What the player plays: a ``data:`` address or a link, and what there is to say about it."""

    address: str = ""
    reason: str = ""


def render_report(
    analysis: Analysis, *, audio: Path | None, folder: Path | None = None, limit_mb: float = AUDIO_LIMIT_MB
) -> str:
    """Return the report of one recording as a complete HTML page.

    Parameters
    ----------
    analysis : Analysis
        With at least one segment.
    audio : Path, optional
        The recording; it is put inside the page when it is a file of a type in `MIME_TYPES` of at most `limit_mb`.
        A larger one is played from where it lies, by its path from `folder`. Otherwise there is no player, and the page
        says why.
    folder : Path, optional
        Where the page will lie; without it, a recording that is not inside the page cannot be played.
    limit_mb : float
        Largest recording, in megabytes (10**6 bytes), that is put inside the page.

    Returns
    -------
    str
        Lone surrogates (bytes of a file name that are not UTF-8) have been replaced.

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
    sound = _embed(audio, folder, limit_mb)
    values = {
        "script_hash": digest,
        "css": texts["css"] + _label_styles(analysis),
        "script": texts["js"],
        "data": _script_json(_page_data(analysis, result)),
        "title": escape(file_name(analysis.path)),
        "duration": clock(analysis.duration_s),
        "player": _player(sound, audio, folder),
        **_header(analysis),
        **_timeline(analysis),
        **_small_print(analysis),
        "table": _span_table(analysis),
    }
    return Template(texts["html"]).substitute(values)


def _embed(audio: Path | None, folder: Path | None, limit_mb: float) -> _Sound:
    if audio is None:
        return _Sound(reason="The recording was left out of this page.")
    mime = MIME_TYPES.get(audio.suffix.lower())
    try:
        if not audio.is_file():
            return _Sound(reason="There is no player, because the recording's file was not found.")
        size_mb = audio.stat().st_size / 1e6
        if mime is None:
            kind = one_line(audio.suffix) or "without a suffix"
            return _Sound(reason=f"There is no player, because browsers do not play files {kind}.")
        if size_mb > limit_mb:
            reason = f"the recording has {size_mb:.1f} MB and a page holds at most {limit_mb:g} MB"
            if folder is None:
                return _Sound(reason=f"There is no player, because {reason}.")
            played = f"The recording is played from its own place, because {reason}."
            return _Sound(_relative_link(audio, folder), f"{played} It stops playing when either is moved.")
        return _Sound(address=f"data:{mime};base64,{base64.b64encode(audio.read_bytes()).decode()}")
    except OSError as error:
        return _Sound(reason=f"There is no player, because the recording cannot be read: {error.strerror or error}.")


def _player(sound: _Sound, audio: Path | None, folder: Path | None) -> str:
    if sound.address:
        note = f'<p class="silent">{escape(sound.reason)}</p>' if sound.reason else ""
        return f'<audio id="audio" controls preload="auto" src="{sound.address}"></audio>{note}'
    link = ""
    if audio is not None and folder is not None and audio.is_file():
        link = f' <a href="{_relative_link(audio, folder)}">Open the recording</a>'
    return f'<p class="silent">{escape(sound.reason)}{link}</p>'


def _relative_link(audio: Path, folder: Path) -> str:
    try:
        relative = os.path.relpath(audio, folder)
    except ValueError:  # another drive
        return escape(audio.absolute().as_uri())
    return escape(quote(os.fsencode(relative.replace(os.sep, "/"))))


def _label_styles(analysis: Analysis) -> str:
    colours = answer_swatches(answers(analysis), analysis.space)
    light = "".join(f".c{i}{{--c:{s.light};--on:{on_colour(s.light)}}}" for i, s in enumerate(colours))
    dark = "".join(f".c{i}{{--c:{s.dark};--on:{on_colour(s.dark)}}}" for i, s in enumerate(colours))
    return f"{light}@media (prefers-color-scheme:dark){{{dark}}}"


def _page_data(analysis: Analysis, result: dict[str, Any]) -> dict[str, Any]:
    """Return what the script needs: times, label numbers, and probabilities to three decimals."""
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
    """Return JSON that no HTML parser takes for markup, whatever its strings hold."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _header(analysis: Analysis) -> dict[str, str]:
    song, space = analysis.song, analysis.space
    plain = words(space, song.label)
    sentences = [*_verdict(analysis), _time_shares(analysis)]
    return {
        "song_class": f"c{answers(analysis).index(song.label)}",
        "chip": f'<span class="chip">{escape(one_line(song.label))}</span>' if plain else "",
        "feel": escape(", ".join(plain).capitalize() or _shown(song.label, space)),
        "lede": escape(" ".join(sentences)),
        "bars": _bars(analysis),
        "bars_class": "bars many" if len(space.labels) > 6 else "bars",
    }


def _shown(answer: str, space: EmotionSpace) -> str:
    return one_line(answer) if answer in space.labels else answer.capitalize()


def _verdict(analysis: Analysis) -> list[str]:
    """Say in sentences what the song is as a whole, and how sure that is."""
    song, space = analysis.song, analysis.space
    if not song.probabilities:
        return [f"Hardly any of this recording is music; it is mostly {song.label} and is given no emotion."]
    order = sorted(range(len(space.labels)), key=lambda i: -song.probabilities[i])[:2]
    best, second = (space.labels[i] for i in order)
    best_p, second_p = (song.probabilities[i] for i in order)
    if song.label not in space.labels:
        guesses = (
            f"{one_line(best)} is the best guess with {best_p:.1%}, {one_line(second)} follows with {second_p:.1%}"
        )
        return [f"No answer: {guesses}, and below {analysis.unsure_below:.0%} no answer is given."]
    place = _place(space.axes[space.index(song.label)])
    kind = f"{one_line(song.label)} ({place})" if place else f"“{one_line(song.label)}”"
    sentences = [f"As a whole the song is {kind}, with {song.confidence:.0%} confidence."]
    if best_p - second_p < 0.15:
        sentences.append(f"A close call: {one_line(second)} follows with {second_p:.0%}.")
    return sentences


def _place(axis: Axis) -> str:
    parts = [f"{'high' if v > 0 else 'low'} {name}" for name, v in vars(axis).items() if v]
    return ", ".join(parts)


def _time_shares(analysis: Analysis) -> str:
    seconds: defaultdict[str, float] = defaultdict(float)
    for span in analysis.spans:
        seconds[span.label] += span.end_s - span.start_s
    total = sum(seconds.values())
    shares = sorted(((s / total, label) for label, s in seconds.items()), reverse=True)
    if len(shares) == 1:
        return f"It stays {one_line(shares[0][1])} from start to end."
    first, *rest = [f"{share:.0%} in {one_line(label)}" for share, label in shares if share >= 0.005][:4]
    told = [first.replace(" in ", " of its time in ", 1), *rest]
    return f"It spends {', '.join(told[:-1])} and {told[-1]}." if rest else f"It spends {told[0]}."


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
    note = f"Dots: segments. Ring: the whole song{_song_place(analysis)}."
    return {
        "legend": legend,
        "rows": "".join(rows),
        "ticks": charts.time_axis(analysis.duration_s),
        "plane": f"<figure>{picture}<figcaption>{note}</figcaption></figure>" if picture else "",
        "last_s": f"{analysis.duration_s:.3f}",
    }


def _song_place(analysis: Analysis) -> str:
    """Return the song's valence and arousal with their standard deviations, where they are known."""
    song = analysis.song
    places = [("valence", song.valence, song.valence_sd), ("arousal", song.arousal, song.arousal_sd)]
    told = [f"{axis} {v:+.2f} ± {sd:.2f}" for axis, v, sd in places if v is not None and sd is not None]
    return ", " + ", ".join(told).replace("-", "−") if told else ""


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
