"""The writers on made-up analyses: exact formats, names that never collide, and pages that nothing breaks out of."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from emoseg.emotion import QUADRANTS, Axis, EmotionSpace
from emoseg.errors import ConfigError, EmosegError
from emoseg.types import Analysis, AnalysisFailure, SegmentEmotion, SongEmotion, Span
from emoseg.writers import FORMATS, appearance, common_root, output_path, terminal, write
from emoseg.writers.json_lines import dumps, to_json
from emoseg.writers.report import charts
from emoseg.writers.report.page import render_report

MOODS = EmotionSpace.from_labels(["calm", "epic", "tense"])
needs_plot = pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs the extra plot")
FORMAT_NAMES = [pytest.param(name, marks=needs_plot if name == "png" else ()) for name in sorted(FORMATS)]


def make_analysis(
    labels: str = "1122344",
    *,
    path: str = "songs/one.mp3",
    space: EmotionSpace = QUADRANTS,
    length_s: float = 3.0,
    peaks: int = 64,
) -> Analysis:
    """An analysis with a segment per digit of `labels` (the number of the label, from 1)."""
    segments: list[SegmentEmotion] = []
    spans: list[Span] = []
    for i, digit in enumerate(labels):
        p = np.full(len(space.labels), 0.25 / (len(space.labels) - 1))
        p[int(digit) - 1] = 0.75
        label, start_s, end_s = space.labels[int(digit) - 1], i * length_s, (i + 1) * length_s
        segments.append(SegmentEmotion(start_s, end_s, label, tuple(p), _axis(space, p, "valence"), _arousal(space, p)))
        if spans and spans[-1].label == label:
            spans[-1] = replace(spans[-1], end_s=end_s)
        else:
            spans.append(Span(start_s, end_s, label))
    mean = np.mean([segment.probabilities for segment in segments], axis=0)
    best = int(mean.argmax())
    song = SongEmotion(
        space.labels[best], tuple(mean), float(mean[best]), _axis(space, mean, "valence"), _arousal(space, mean)
    )
    envelope = np.linspace(0.1, 0.8, peaks, dtype=np.float32)
    picture = np.stack([-envelope, envelope], axis=1)
    duration_s = len(labels) * length_s
    return Analysis(path, duration_s, "tiny", "1.2", space, song, tuple(segments), tuple(spans), picture)


def _axis(space: EmotionSpace, p: np.ndarray, axis: str) -> float | None:
    value = space.derived(p, axis)
    return None if value is None else float(value)


def _arousal(space: EmotionSpace, p: np.ndarray) -> float | None:
    return _axis(space, p, "arousal")


def show(results: list[Analysis], *, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    table = terminal.ResultTable(console)
    for result in results:
        table.add(result)
    table.finish()
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def rendered(format: str, analysis: Analysis) -> str:
    text = FORMATS[format].render(analysis)
    assert isinstance(text, str)
    return text


def make_broadcast(path: str = "songs/show.flac") -> Analysis:
    """Speech, a stretch without an answer, music, silence; the song itself unsure."""
    music = make_analysis("3331111", path=path)
    segments = list(music.segments)
    for i, sound in ((0, "speech"), (1, "speech"), (6, "silence")):
        old = segments[i]
        segments[i] = SegmentEmotion(old.start_s, old.end_s, sound, (), None, None, sound=sound)
    segments[2] = replace(segments[2], label="unsure", probabilities=(0.2, 0.1, 0.4, 0.3))
    spans = (Span(0, 6, "speech"), Span(6, 9, "unsure"), Span(9, 18, "Q1"), Span(18, 21, "silence"))
    song = replace(music.song, label="unsure", confidence=0.44, probabilities=(0.44, 0.2, 0.2, 0.16))
    return replace(music, segments=tuple(segments), spans=spans, song=song, unsure_below=0.5)


# JSON


def test_json_names_what_is_not_music_and_gives_it_no_numbers() -> None:
    data = to_json(make_broadcast())
    assert [s["label"] for s in data["segments"]] == ["speech", "speech", "unsure", "Q1", "Q1", "Q1", "silence"]
    assert [s["sound"] for s in data["segments"]] == ["speech", "speech", "music", "music", "music", "music", "silence"]
    assert data["segments"][0]["probabilities"] == {}
    assert data["segments"][0]["valence"] is data["segments"][0]["arousal_sd"] is None
    assert data["segments"][2]["probabilities"]["Q3"] == 0.4
    assert [(c["time_s"], c["from"], c["to"]) for c in data["changes"]] == [
        (6, "speech", "unsure"),
        (9, "unsure", "Q1"),
        (18, "Q1", "silence"),
    ]
    assert data["rules"]["unsure_below"] == 0.5
    assert "below 0.50" in data["rules"]["unsure"]


@pytest.mark.parametrize("format", ["csv", "audacity", "sonic-visualiser", "jams", "html"])
def test_every_text_tells_the_rule_behind_unsure(format: str) -> None:
    text = rendered(format, make_broadcast())
    assert "unsure" in text
    assert "0.5" in text


def test_csv_of_what_is_not_music_is_empty_cells() -> None:
    rows = list(csv.DictReader(io.StringIO(rendered("csv", make_broadcast()))))
    assert [row["span"] for row in rows] == ["speech", "speech", "unsure", "Q1", "Q1", "Q1", "silence"]
    assert rows[0]["p_Q1"] == rows[0]["valence"] == rows[6]["arousal_sd"] == ""
    assert (rows[2]["label"], rows[2]["p_Q3"], rows[2]["unsure_below"]) == ("unsure", "0.4", "0.5")


def test_json_has_exactly_the_keys_of_the_schema_in_order() -> None:
    data = json.loads(dumps(make_analysis()))
    keys = ["schema", "path", "duration_s", "model", "space", "song", "segments", "spans", "changes", "rules"]
    assert list(data) == keys
    assert data["schema"] == "emoseg.analysis/1"
    assert data["model"] == {"name": "tiny", "version": "1.2"}
    assert list(data["space"]) == ["name", "labels", "axes", "rule"]
    axes = ["valence", "arousal", "valence_sd", "arousal_sd"]
    assert list(data["song"]) == ["label", "probabilities", "confidence", *axes]
    assert list(data["segments"][0]) == ["start_s", "end_s", "label", "probabilities", *axes, "sound"]
    assert data["changes"][0] == {"time_s": 6.0, "from": "Q1", "to": "Q2"}
    assert list(data["rules"]) == ["unsure_below", "unsure", "spans", "sound"]
    assert list(data["segments"][0]["probabilities"]) == ["Q1", "Q2", "Q3", "Q4"]
    assert data["spans"] == [
        {"start_s": 0.0, "end_s": 6.0, "label": "Q1"},
        {"start_s": 6.0, "end_s": 12.0, "label": "Q2"},
        {"start_s": 12.0, "end_s": 15.0, "label": "Q3"},
        {"start_s": 15.0, "end_s": 21.0, "label": "Q4"},
    ]


def test_json_rounds_to_six_decimals_and_knows_no_minus_zero() -> None:
    analysis = make_analysis()
    song = replace(analysis.song, confidence=np.float64(1 / 3), valence=-1e-9)
    data = to_json(replace(analysis, song=song))
    assert type(data["song"]["confidence"]) is float
    assert data["song"]["confidence"] == 0.333333
    assert json.dumps(data["song"]["valence"]) == "0.0"
    assert data["segments"][0]["probabilities"]["Q2"] == 0.083333


def test_json_of_a_failure() -> None:
    failure = AnalysisFailure("ü.mp3", "AudioError", "ü.mp3: no sound")
    expected = '{"schema": "emoseg.analysis/1", "path": "ü.mp3", '
    assert dumps(failure) == expected + '"error": {"type": "AudioError", "message": "ü.mp3: no sound"}}'


def test_json_of_a_space_without_axes_has_nulls() -> None:
    data = to_json(make_analysis("12", space=MOODS))
    assert data["song"]["valence"] is None
    assert data["segments"][1]["arousal"] is None
    assert data["space"]["axes"]["epic"] == {"valence": None, "arousal": None}


@pytest.mark.parametrize("format", FORMAT_NAMES)
def test_numbers_that_are_not_finite_are_refused_with_the_file(format: str, tmp_path: Path) -> None:
    analysis = make_analysis()
    segments = (replace(analysis.segments[0], probabilities=(float("nan"), 0.0, 0.0, 0.0)), *analysis.segments[1:])
    spans = (replace(analysis.spans[0], end_s=float("nan")), *analysis.spans[1:])
    with pytest.raises(EmosegError, match=r"songs/one\.mp3: the analysis holds nan"):
        write(replace(analysis, segments=segments, spans=spans), tmp_path, format=format)
    assert list(tmp_path.rglob("*")) == []


def test_json_is_one_line_of_utf_8_even_for_a_file_name_that_is_not() -> None:
    line = dumps(make_analysis(path="caf\udce9\n.mp3"))
    assert "\n" not in line
    assert json.loads(line.encode())["path"] == "caf\\xe9\n.mp3"


# CSV, Audacity, Sonic Visualiser


def test_csv_read_back_gives_the_segments() -> None:
    analysis = make_analysis()
    text = rendered("csv", analysis)
    rows = list(csv.DictReader(io.StringIO(text)))
    names = ["start_s", "end_s", "label", "p_Q1", "p_Q2", "p_Q3", "p_Q4"]
    names += ["valence", "arousal", "valence_sd", "arousal_sd", "sound", "span", "unsure_below"]
    assert list(rows[0]) == names
    assert len(rows) == len(analysis.segments)
    for row, segment in zip(rows, analysis.segments, strict=True):
        assert (float(row["start_s"]), float(row["end_s"]), row["label"]) == (
            segment.start_s,
            segment.end_s,
            segment.label,
        )
        read = [float(row[f"p_{label}"]) for label in QUADRANTS.labels]
        assert read == pytest.approx(segment.probabilities, abs=5e-7)
        assert float(row["valence"]) == pytest.approx(segment.valence, abs=5e-7)
        assert float(row["arousal"]) == pytest.approx(segment.arousal, abs=5e-7)


def test_csv_leaves_missing_axes_empty_and_quotes_labels() -> None:
    space = EmotionSpace.from_labels(["calm", 'a "b", c'])
    text = rendered("csv", make_analysis("1", space=space))
    header, row = text.splitlines()
    assert header.startswith('start_s,end_s,label,"p_a ""b"", c",p_calm,valence,arousal,')
    assert row == '0.0,3.0,"a ""b"", c",0.75,0.25,,,,,music,"a ""b"", c",0.0'


def test_audacity_lines() -> None:
    space = EmotionSpace.from_labels(["calm\tdown\n", "höher"])
    assert rendered("audacity", make_analysis("112", space=space)) == (
        "0.000000\t6.000000\tcalm down\n6.000000\t9.000000\thöher\n"
    )


def test_sonic_visualiser_rows_are_time_duration_label() -> None:
    text = rendered("sonic-visualiser", make_analysis())
    assert text.splitlines()[1:3] == ["6.000000,6.000000,Q2", "12.000000,3.000000,Q3"]


def test_labels_of_what_is_not_music() -> None:
    lines = rendered("audacity", make_broadcast()).splitlines()
    # Audacity's grammar: start, tab, end, tab, label; times ascending.
    fields = [line.split("\t") for line in lines]
    assert [(float(a), float(b), label) for a, b, label in fields] == [
        (0, 6, "speech"),
        (6, 9, "unsure (p < 0.50)"),
        (9, 18, "Q1"),
        (18, 21, "silence"),
    ]
    rows = list(csv.reader(io.StringIO(rendered("sonic-visualiser", make_broadcast()))))
    assert [(float(t), float(d), label) for t, d, label in rows][1] == (6, 3, "unsure (p < 0.50)")


# Names and files


def test_names_never_collide(tmp_path: Path) -> None:
    recordings = ["m/a/x.mp3", "m/b/x.mp3", "m/x.mp3", "m/x.wav", "m/a.mp3", "m/a/b/x.mp3"]
    targets = [
        output_path(path, tmp_path, format=format, root=common_root(recordings))
        for path in recordings
        for format in FORMATS
    ]
    assert len(set(targets)) == len(recordings) * len(FORMATS)
    assert output_path("m/a/x.mp3", tmp_path, format="csv", root=Path("m")) == tmp_path / "a" / "x.mp3.csv"
    assert output_path("m/a/../x.mp3", tmp_path, format="html", root=Path("m")) == tmp_path / "x.mp3.html"
    assert output_path("m/a/x.mp3", tmp_path, format="json") == tmp_path / "x.mp3.json"


def test_common_root_of_one_and_of_several(tmp_path: Path) -> None:
    assert common_root([str(tmp_path / "a" / "x.mp3")]) == tmp_path / "a"
    assert common_root([str(tmp_path / "a" / "x.mp3"), str(tmp_path / "ab" / "x.mp3")]) == tmp_path
    with pytest.raises(ConfigError, match="no folder holds all of 0"):
        common_root([])


def test_a_recording_outside_the_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"m/x\.mp3: does not lie beneath n"):
        output_path("m/x.mp3", tmp_path, format="json", root=Path("n"))


def test_unknown_format_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"format 'xml': must be one of json, csv, jams, audacity"):
        write(make_analysis(), tmp_path, format="xml")


@pytest.mark.parametrize("format", FORMAT_NAMES)
def test_write_makes_folders_and_replaces(format: str, tmp_path: Path) -> None:
    target = tmp_path / "out" / "songs" / ("one.mp3" + FORMATS[format].suffix)
    target.parent.mkdir(parents=True)
    target.write_text("old")
    analysis = make_analysis()
    assert write(analysis, tmp_path / "out", format=format, root=Path()) == target
    expected = FORMATS[format].render(analysis, folder=target.parent)
    assert target.read_bytes() == (expected if isinstance(expected, bytes) else expected.encode())
    assert list(target.parent.iterdir()) == [target]


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = write(make_analysis("1"), tmp_path, format="json")
    before = target.read_bytes()

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(EmosegError, match=r"one\.mp3\.json: cannot be written: No space left on device"):
        write(make_analysis("2222"), tmp_path, format="json")
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_rename_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = write(make_analysis("1"), tmp_path, format="json")
    before = target.read_bytes()

    def busy(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", busy)
    with pytest.raises(EmosegError, match=r"one\.mp3\.json: cannot be written: Permission denied"):
        write(make_analysis("2222"), tmp_path, format="json")
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(EmosegError, match=r"one\.mp3\.csv: cannot be written: "):
        write(make_analysis(), tmp_path / "out", format="csv")


# Appearance


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("Q1", "Q2", "Q3", "Q4"), "1234"),
        (("happy", "sad", "sleepy"), "hsl"),
        (("low", "lower"), "le"),
        (("aa", "a"), "a1"),
        (("!", "?"), "12"),
    ],
)
def test_marks(labels: tuple[str, ...], expected: str) -> None:
    assert "".join(appearance.marks(labels)) == expected


@given(st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=12, unique=True))
def test_marks_are_always_distinct(labels: list[str]) -> None:
    assert len(set(appearance.marks(labels))) == len(labels)


@pytest.mark.parametrize(
    ("seconds", "decimals", "expected"),
    [(0, 0, "0:00"), (59.96, 1, "1:00.0"), (59.4, 0, "0:59"), (3599.9, 0, "1:00:00"), (7265.25, 1, "2:01:05.2")],
)
def test_clock(seconds: float, decimals: int, expected: str) -> None:
    assert appearance.clock(seconds, decimals=decimals) == expected


def test_words_follow_the_axes_of_the_space() -> None:
    assert [appearance.caption(QUADRANTS, label) for label in QUADRANTS.labels] == [
        "Q1 happy/excited",
        "Q2 angry/tense",
        "Q3 sad/gloomy",
        "Q4 calm/content",
    ]
    valence = EmotionSpace("valence", ("low", "high"), (Axis(valence=-1.0), Axis(valence=1.0)))
    assert appearance.caption(valence, "low") == "low unpleasant"
    assert appearance.caption(MOODS, "epic") == "epic"


# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def _lab(colour: str, vision: str) -> np.ndarray:
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.clip(VISIONS[vision] @ np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4), 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = to_xyz @ linear / [0.95047, 1.0, 1.08883]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", sorted(VISIONS))
@pytest.mark.parametrize("page", ["light", "dark"])
@pytest.mark.parametrize(("labels", "least"), [(QUADRANTS.labels, 20.0), (tuple("abcdefgh"), 13.0)])
def test_colours_can_be_distinguished(labels: tuple[str, ...], least: float, page: str, vision: str) -> None:
    colours = [_lab(getattr(swatch, page), vision) for swatch in appearance.swatches(labels)]
    assert min(float(np.linalg.norm(a - b)) for a, b in combinations(colours, 2)) > least


# Terminal


def test_table_fits_80_columns_and_reads_without_colour() -> None:
    results = [
        make_analysis(path="/m/Midnight on the River (live at the Royal Albert Hall).mp3"),
        make_analysis("12" * 1200, path="/m/long.flac"),
    ]
    text = show(results)
    lines = [line.rstrip() for line in text.splitlines()]
    assert max(len(line) for line in lines) <= 80
    assert "1122344" in lines
    strip = lines[next(i for i, line in enumerate(lines) if "long.flac" in line) + 1].strip()
    assert len(strip) == 30
    assert set(strip) <= {"1", "2"}
    assert "1 Q1 happy/excited   2 Q2 angry/tense   3 Q3 sad/gloomy   4 Q4 calm/content" in lines
    assert "model tiny 1.2" in lines
    assert "Russell's quadrants" in text
    assert "valence and arousal are derived from the label probabilities, range [-1, 1]" in lines
    assert "1:00:00" not in text
    assert "2:00:00" in text


def test_rows_stand_below_each_other() -> None:
    lines = show([make_analysis("1111", path=f"{i}.mp3") for i in range(3)]).splitlines()
    rows = [line for line in lines if ".mp3" in line]
    assert len(rows) == 3
    assert {row.index("0:12") for row in rows} == {lines[0].index("length") + 2}
    assert len({row.index("Q1") for row in rows}) == 1


def test_row_of_a_recording() -> None:
    row = next(line for line in show([make_analysis("1111", path="x.mp3")]).splitlines() if "x.mp3" in line)
    assert row.split() == ["x.mp3", "0:12", "Q1", "happy/excited", "75%", "+0.67", "+0.67"]


def test_spans_are_listed_for_a_single_recording_only() -> None:
    one = make_analysis("1122")
    assert "0:06.0  0:12.0  2 Q2 angry/tense" in show([one])
    assert "0:06.0" not in show([one, one])
    assert "and 60 more" in show([make_analysis("12" * 50)])


def test_terminal_cannot_be_steered_by_a_file_name() -> None:
    text = show([make_analysis(path="[red]\x1b[2J\udcff.mp3")])
    assert "\x1b" not in text
    assert r"[red]\x1b[2J\xff.mp3" in text


def test_space_without_axes_says_nothing_of_valence() -> None:
    text = show([make_analysis("12", space=MOODS)])
    assert "derived" not in text
    assert "emotion space labels: calm, epic, tense" in text


def test_table_of_a_broadcast_has_marks_for_all_and_tells_the_rules() -> None:
    text = show([make_broadcast()])
    assert "::?111." in text
    assert "? unsure   : speech   . silence" in text
    assert "unsure: the most probable label has a probability below 0.50" in text
    assert "speech, noise, test tones and silence are found in the sound itself" in text
    speech = replace(make_broadcast(), song=SongEmotion("speech", (), 0.0, None, None))
    row = next(line for line in show([speech]).splitlines() if "show.flac" in line)
    assert row.split() == ["show.flac", "0:21", "speech", "-", "-", "-"]


# HTML


class _Page(HTMLParser):
    """What a browser sees of a page: its elements, attributes, and the text of scripts and the rest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._in = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._in = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            self.scripts[-1] += data
        elif self._in != "style":
            self.text += data

    def count(self, name: str) -> int:
        return sum(name in attrs.get("class", "").split() for _, attrs in self.tags)


HOSTILE = "</script><img src=x onerror=alert(1)>$title &amp; \"'"


def test_nothing_from_outside_becomes_markup() -> None:
    plain = _Page(render_report(make_analysis("123", space=MOODS), audio=None))
    space = EmotionSpace(HOSTILE, (HOSTILE, "</style><script>", "c"), (Axis(), Axis(), Axis()), HOSTILE)
    analysis = replace(make_analysis("123", space=space, path=HOSTILE), model_name=HOSTILE, model_version=HOSTILE)
    page = _Page(render_report(analysis, audio=Path(HOSTILE)))
    # The song's label has more letters, not more elements.
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert json.loads(page.scripts[0])["labels"][0] == HOSTILE
    assert page.scripts[1] == plain.scripts[1]
    assert page.text.count(HOSTILE) > 5


def test_page_asks_the_network_for_nothing(tmp_path: Path) -> None:
    audio = tmp_path / "x.mp3"
    audio.write_bytes(b"abc")
    text = render_report(make_broadcast(), audio=audio)
    assert "http:" not in text
    assert "https:" not in text
    assert "default-src 'none'" in text
    assert 'src="data:audio/mpeg;base64,YWJj"' in text


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("tape.aiff", 10, "browsers do not play files .aiff"),
        ("gone.mp3", None, "file was not found"),
    ],
)
def test_page_without_player_says_why(name: str, size: int | None, reason: str, tmp_path: Path) -> None:
    audio = tmp_path / "my songs" / name
    audio.parent.mkdir()
    if size is not None:
        audio.write_bytes(bytes(size))
    page = _Page(render_report(make_analysis(), audio=audio, folder=tmp_path / "out", limit_mb=2))
    assert reason in page.text
    assert "audio" not in [tag for tag, _ in page.tags]
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a" and "data-t" not in attrs]
    assert links == ([] if size is None else [f"../my%20songs/{name}"])


def test_a_large_recording_is_played_from_where_it_lies(tmp_path: Path) -> None:
    audio = tmp_path / "my songs" / 'a "b" #1.mp3'
    audio.parent.mkdir()
    audio.write_bytes(bytes(2_000_001))
    page = _Page(render_report(make_analysis(), audio=audio, folder=tmp_path / "out", limit_mb=2))
    [player] = [attrs for tag, attrs in page.tags if tag == "audio"]
    assert player["src"] == "../my%20songs/a%20%22b%22%20%231.mp3"
    assert "played from its own place, because the recording has 2.0 MB and a page holds at most 2 MB" in page.text
    bare = _Page(render_report(make_analysis(), audio=audio, limit_mb=2))
    assert "audio" not in [tag for tag, _ in bare.tags]


def test_page_of_a_broadcast() -> None:
    page = _Page(render_report(make_broadcast(), audio=None))
    assert (
        "No answer: Q1 is the best guess with 44.0%, Q2 follows with 20.0%, and below 50% no answer is given."
        in page.text
    )
    assert "Unsure: the most probable label has a probability below 0.50." in page.text
    data = json.loads(page.scripts[0])
    assert data["labels"] == ["Q1", "Q2", "Q3", "Q4", "unsure", "speech", "silence"]
    assert [segment[2] for segment in data["segments"]] == [5, 5, 4, 0, 0, 0, 6]
    assert data["segments"][0][3:] == [[], None, None]
    # Lines are drawn where there is music alone: from 7.5 s to 16.5 s of 21.
    [line] = [a["points"] for t, a in page.tags if t == "polyline" and a["class"] == "valence"]
    x = [float(point.split(",")[0]) for point in line.split()]
    assert (x[0], x[-1]) == pytest.approx((1000 * 7.5 / 21, 1000 * 16.5 / 21), abs=0.1)
    speech = replace(make_broadcast(), song=SongEmotion("speech", (), 0.0, None, None))
    assert "mostly speech and is given no emotion" in _Page(render_report(speech, audio=None)).text


def test_page_tells_how_uncertain_the_place_of_the_song_is() -> None:
    song = replace(make_analysis().song, valence=-0.25, arousal=0.5, valence_sd=0.97, arousal_sd=0.87)
    text = _Page(render_report(replace(make_analysis(), song=song), audio=None)).text
    assert "Ring: the whole song, valence −0.25 ± 0.97, arousal +0.50 ± 0.87." in text


def test_page_tells_the_song_in_words() -> None:
    text = _Page(render_report(make_analysis("1111111122"), audio=None)).text
    assert "Happy, excited" in text
    assert "As a whole the song is Q1 (high valence, high arousal), with 62% confidence." in text
    assert "It spends 80% of its time in Q1 and 20% in Q2." in text
    assert "Russell's quadrants" in text
    assert "derived from the label probabilities; range −1 to 1" in text
    assert "A close call" not in text
    assert "A close call: Q2 follows with 42%." in _Page(render_report(make_analysis("12"), audio=None)).text


def test_page_without_axes_has_neither_plane_nor_lines() -> None:
    full, bare = (_Page(render_report(make_analysis("123", space=s), audio=None)) for s in (QUADRANTS, MOODS))
    assert (full.count("plane"), full.count("axes"), full.count("areas")) == (1, 1, 1)
    assert (bare.count("plane"), bare.count("axes"), bare.count("areas")) == (0, 0, 1)
    assert "derived" not in bare.text


def test_valence_alone_has_one_line_and_no_plane() -> None:
    space = EmotionSpace("valence", ("low", "high"), (Axis(valence=-1.0), Axis(valence=1.0)))
    page = _Page(render_report(make_analysis("12", space=space), audio=None))
    assert page.count("plane") == 0
    assert [a["class"] for t, a in page.tags if t == "polyline"] == ["valence"]


def test_page_of_a_single_segment_and_of_no_peaks() -> None:
    page = _Page(render_report(make_analysis("3", peaks=0), audio=None))
    assert page.count("span") == 1
    assert page.count("wave") == 0
    assert "It stays Q3 from start to end." in page.text
    assert "1 stretch of one emotion" in page.text


def test_page_of_nothing_is_refused() -> None:
    empty = replace(make_analysis(), segments=(), spans=())
    with pytest.raises(EmosegError, match=r"songs/one\.mp3: a report needs at least one segment"):
        render_report(empty, audio=None)


def test_two_hours_stay_light() -> None:
    space = EmotionSpace.from_labels([f"a rather long label {i:02d}" for i in range(12)])
    for text in (
        render_report(make_analysis("1234" * 750, length_s=2.4, peaks=2000), audio=None),
        render_report(make_analysis("1234" * 750, space=space, length_s=2.4, peaks=2000), audio=None),
    ):
        assert len(text.encode()) < 1_500_000
        assert _Page(text).count("span") <= charts.RIBBON_SPANS


# Charts


def _paths(svg: str) -> list[tuple[str, list[tuple[float, float]]]]:
    found = []
    for tag, attrs in _Page(svg).tags:
        if tag == "path" and attrs.get("class", "").startswith("c"):
            points = [tuple(map(float, pair.split(","))) for pair in attrs["d"].strip("MZ").split()]
            found.append((attrs["class"], [(p[0], p[1]) for p in points]))
    return found


def test_waveform_is_cut_where_the_label_changes() -> None:
    paths = _paths(charts.waveform(make_analysis("1122344", peaks=700)))
    assert [name for name, _ in paths] == ["c0", "c1", "c2", "c3"]
    edges = [(min(x for x, _ in points), max(x for x, _ in points)) for _, points in paths]
    expected = [(0, 2 / 7), (2 / 7, 4 / 7), (4 / 7, 5 / 7), (5 / 7, 1)]
    assert np.array(edges) / charts.WIDTH == pytest.approx(np.array(expected), abs=2e-3)
    heights = [y for _, points in paths for _, y in points]
    # The loudest point reaches 48 of 50 units, up and down.
    assert (min(heights), max(heights)) == (2.0, 98.0)


def test_areas_stack_to_one_and_follow_the_probabilities() -> None:
    paths = _paths(charts.probability_areas(make_analysis("12")))
    first, last = paths[0][1], paths[-1][1]
    # Middles of the two segments lie at a quarter and three quarters; the first label's share falls from .75 to .083.
    assert first[:4] == [(0.0, 25.0), (250.0, 25.0), (750.0, 91.7), (1000.0, 91.7)]
    assert {y for _, y in last[:4]} == {0.0}


def test_lines_run_from_minus_one_at_the_bottom_to_one_at_the_top() -> None:
    lines = {a["class"]: a["points"] for t, a in _Page(charts.axis_lines(make_analysis("12"))).tags if t == "polyline"}
    # Q1 lies at valence and arousal 2/3, Q2 at valence -2/3 and arousal 2/3.
    assert lines["valence"] == "0.0,16.7 250.0,16.7 750.0,83.3 1000.0,83.3"
    assert lines["arousal"] == "0.0,16.7 250.0,16.7 750.0,16.7 1000.0,16.7"


def test_plane_shows_the_song_where_it_lies() -> None:
    page = _Page(charts.plane(make_analysis("1111")))
    song = next(attrs for _, attrs in page.tags if attrs.get("class") == "song")
    # Valence and arousal are 2/3; the plane's middle is 170, its half width 140, and up is negative.
    assert (float(song["cx"]), float(song["cy"])) == (263.3, 76.7)


@settings(max_examples=30, deadline=None)
@given(duration_s=st.floats(1.0, 40_000.0))
def test_time_marks_are_few_and_inside(duration_s: float) -> None:
    marks = [attrs["style"] for tag, attrs in _Page(charts.time_axis(duration_s)).tags if tag == "span"]
    places = [float(style.removeprefix("left:").removesuffix("%")) for style in marks]
    assert 1 <= len(places) <= charts.TICKS + 1
    assert places[0] == 0
    assert places[-1] <= 97
