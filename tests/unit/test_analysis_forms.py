"""The forms of an analysis: labels and probabilities, JSON, data frame, files, figure, and the one for notebooks."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from emoseg.emotion import QUADRANTS, EmotionSpace
from emoseg.errors import ConfigError, EmosegError, MissingExtraError
from emoseg.types import Analysis, AnalysisFailure, SegmentEmotion, SongEmotion, Span
from emoseg.writers import FORMATS, json_lines

LABELS = QUADRANTS.labels
P1, P2 = (0.7, 0.1, 0.1, 0.1), (0.1, 0.625, 0.275 / 3, 0.55 / 3)
needs_plot = pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs matplotlib")


def make(path: str = "songs/one.mp3", space: EmotionSpace = QUADRANTS, confidence: float = 0.7) -> Analysis:
    """Return an analysis of three segments: the first label, the second, and speech."""
    labels = space.labels
    segments = (
        SegmentEmotion(0.0, 3.0, labels[0], P1, 0.6, 0.6, 0.8, 0.8, labels=labels),
        SegmentEmotion(3.0, 6.0, labels[1], P2, -0.6, 0.45, 0.8, 0.9, labels=labels),
        SegmentEmotion(6.0, 9.0, "speech", (), None, None, sound="speech", labels=labels),
    )
    spans = (Span(0.0, 3.0, labels[0]), Span(3.0, 6.0, labels[1]), Span(6.0, 9.0, "speech"))
    song = SongEmotion(labels[0], P1, confidence, 0.6, 0.6, 0.8, 0.8, labels=labels)
    peaks = np.array([[-0.5, 0.5]] * 8, dtype=np.float32)
    return Analysis(path, 9.0, "tiny", "1", space, song, segments, spans, peaks)


class _Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.names.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_probabilities_are_read_by_label() -> None:
    analysis = make()
    assert [analysis.song.probability(label) for label in LABELS] == list(P1)
    assert analysis.segments[1].probability("Q2") == 0.625
    assert analysis.segments[2].probability("Q2") is None
    with pytest.raises(ConfigError, match=r"label 'happy': must be one of Q1, Q2, Q3, Q4"):
        analysis.song.probability("happy")


def test_repr_is_short() -> None:
    analysis = make()
    assert repr(analysis) == "<Analysis 'songs/one.mp3': 9.0 s, Q1 (70%), 3 segments, 3 spans>"


def test_dict_and_json_are_those_of_the_command() -> None:
    for result in (make(), AnalysisFailure("a.mp3", "decode", "a.mp3: cannot be decoded")):
        assert result.to_json() == json_lines.dumps(result)
        assert json.loads(result.to_json()) == result.to_dict()
    assert make().to_dict()["song"]["probabilities"] == dict(zip(LABELS, P1, strict=True))


def test_data_frame_has_a_row_per_segment() -> None:
    pandas = pytest.importorskip("pandas")
    frame = make().to_dataframe()
    axes = ["valence", "arousal", "valence_sd", "arousal_sd"]
    assert list(frame.columns) == ["start_s", "end_s", "label", *(f"p_{x}" for x in LABELS), *axes, "sound", "span"]
    assert frame["start_s"].tolist() == [0.0, 3.0, 6.0]
    assert frame["p_Q2"].tolist()[:2] == [0.1, 0.625]
    assert frame.loc[1, "p_Q3"] == 0.275 / 3  # not rounded
    assert frame.loc[2, ["p_Q1", "valence"]].isna().all()
    assert frame["span"].tolist() == ["Q1", "Q2", "speech"]
    assert all(frame[name].dtype == "float64" for name in ("start_s", "p_Q1", "valence"))
    assert frame.groupby("label")["p_Q1"].mean()["Q1"] == 0.7
    assert frame.attrs["song"] == "Q1"
    own = make(space=EmotionSpace.from_labels(["a", "b", "c", "d"]))
    assert isinstance(own.to_dataframe(), pandas.DataFrame)


def test_data_frame_without_pandas_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"a data frame needs .*: pip install pandas"):
        make().to_dataframe()


@pytest.mark.parametrize("name", ["json", "csv", "jams", "audacity", "sonic-visualiser", "html"])
def test_save_goes_by_the_suffix(tmp_path: Path, name: str) -> None:
    analysis, writer = make(), FORMATS[name]
    target = tmp_path / "new folder" / f"ONE{writer.suffix.upper()}"
    assert analysis.save(target) == target
    expected = writer.render(analysis, folder=target.parent)
    assert target.read_bytes() == (expected.encode() if isinstance(expected, str) else expected)
    other = tmp_path / "no suffix"
    analysis.save(str(other), format=name)
    assert other.is_file()


@needs_plot
def test_save_writes_a_figure(tmp_path: Path) -> None:
    assert make().save(tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_save_writes_one_recording_into_a_collection(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    analysis = make()
    assert analysis.save(tmp_path / "a.jsonl").read_text() == analysis.to_json() + "\n"
    assert pq.read_table(analysis.save(tmp_path / "a.parquet")).num_rows == 3


def test_save_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.xyz: no format has its suffix; give format=.*\.json \(json\)"):
        make().save(tmp_path / "a.xyz")
    with pytest.raises(ConfigError, match=r"format 'jsn': must be one of .*; did you mean 'json'"):
        make().save(tmp_path / "a.json", format="jsn")
    with pytest.raises(EmosegError, match=r"one\.mp3: the analysis holds nan"):
        make(confidence=float("nan")).save(tmp_path / "a.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(EmosegError, match=r"file.*cannot be written"):
        make().save(tmp_path / "file" / "a.json")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@needs_plot
def test_plot_draws_every_panel() -> None:
    figure = make().plot()
    assert [axes.get_ylabel() for axes in figure.axes] == ["waveform", "probability", "valence, arousal"]
    assert figure.get_suptitle() == "one.mp3: Q1 happy/excited (70%)"


def test_plot_without_matplotlib_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"a figure needs .*: pip install matplotlib"):
        make().plot()


def test_notebooks_show_spans_and_the_answer() -> None:
    text = make()._repr_html_()
    tags = _Tags(text)
    assert tags.names == {"div", "b", "span"}
    assert tags.attributes == {"style", "title"}
    assert "<b>one.mp3</b> (0:09): <b>Q1 happy/excited</b>, 70%" in text
    assert re.findall(r'title="([^"]*)"', text) == [
        "0:00.0 to 0:03.0: Q1 happy/excited",
        "0:03.0 to 0:06.0: Q2 angry/tense",
        "0:06.0 to 0:09.0: speech",
    ]
    assert re.findall(r"left:([\d.]+)%;width:([\d.]+)%", text) == [
        ("0.000", "33.333"),
        ("33.333", "33.333"),
        ("66.667", "33.333"),
    ]


def test_nothing_breaks_out_of_the_form_for_notebooks() -> None:
    hostile = "<script>alert(1)\"' onmouseover=x"  # without a slash, which would begin the name of the file
    space = EmotionSpace.from_labels([hostile, "b", "c", "d"])
    text = make(path=f"{hostile}.mp3", space=space)._repr_html_()
    assert "<script" not in text
    assert _Tags(text).attributes == {"style", "title"}
    assert "url(" not in text
    assert "http" not in text
    with pytest.raises(EmosegError, match="must be finite"):
        make(confidence=float("inf"))._repr_html_()
