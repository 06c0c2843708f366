"""Parquet, JSON Lines, JAMS and PNG, read back by the libraries that they are meant for."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from emoseg.emotion import QUADRANTS, EmotionSpace
from emoseg.errors import ConfigError, EmosegError, MissingExtraError
from emoseg.types import Analysis, AnalysisFailure, SegmentEmotion, SongEmotion, Span
from emoseg.writers import COLLECTIONS, collection, write
from emoseg.writers.jams import render as render_jams
from emoseg.writers.parquet import ParquetCollection, segment_schema, segment_table

MOODS = EmotionSpace.from_labels(["calm", "epic", "tense"])
FAILURE = AnalysisFailure("bad.mp3", "decode", "bad.mp3: cannot be decoded")


def make_analysis(path: str = "songs/one.mp3", space: EmotionSpace = QUADRANTS) -> Analysis:
    """Speech, two segments of the first label, one of the second; the song unsure."""
    segments = [SegmentEmotion(0.0, 3.0, "speech", (), None, None, sound="speech")]
    for i, k in enumerate((0, 0, 1), start=1):
        p = np.full(len(space.labels), 0.2 / (len(space.labels) - 1))
        p[k] = 0.8
        valence, arousal = _number(space.derived(p, "valence")), _number(space.derived(p, "arousal"))
        spread = _number(space.spread(p, "valence")), _number(space.spread(p, "arousal"))
        start_s, label = 3.0 * i, space.labels[k]
        segments.append(SegmentEmotion(start_s, start_s + 3, label, tuple(p), valence, arousal, *spread))
    spans = (Span(0, 3, "speech"), Span(3, 9, space.labels[0]), Span(9, 12, space.labels[1]))
    song = SongEmotion("unsure", segments[1].probabilities, 0.8, segments[1].valence, segments[1].arousal)
    peaks = np.stack([-np.linspace(0, 1, 80), np.linspace(0, 1, 80)], axis=1).astype(np.float32)
    return Analysis(path, 12.0, "tiny", "1.2", space, song, tuple(segments), spans, peaks, unsure_below=0.9)


def _number(value: np.ndarray | None) -> float | None:
    return None if value is None else float(value)


# Parquet


def test_parquet_holds_a_row_a_segment_of_all_recordings(tmp_path: Path) -> None:
    with collection(tmp_path / "out", format="parquet") as table:
        for result in (make_analysis("a.mp3"), FAILURE, make_analysis("b \udce9.mp3")):
            table.add(result)
    [file] = (tmp_path / "out").iterdir()
    rows = pq.read_table(file).to_pylist()
    assert file.name == "emotions.parquet"
    assert [row["path"] for row in rows] == ["a.mp3"] * 4 + ["b \\xe9.mp3"] * 4
    assert [row["segment"] for row in rows[:4]] == [0, 1, 2, 3]
    assert (rows[0]["label"], rows[0]["sound"], rows[0]["p_Q1"], rows[0]["valence"]) == ("speech", "speech", None, None)
    row = rows[3]
    assert (row["start_s"], row["end_s"], row["label"], row["sound"], row["span"]) == (9.0, 12.0, "Q2", "music", "Q2")
    # Not rounded: the numbers are those of the analysis.
    third = make_analysis().segments[3]
    assert [row[f"p_{label}"] for label in QUADRANTS.labels] == list(third.probabilities)
    assert (row["valence"], row["arousal_sd"]) == (third.valence, third.arousal_sd)
    assert (row["song_label"], row["song_confidence"], row["song_p_Q1"]) == ("unsure", 0.8, 0.8)
    assert (row["model_name"], row["model_version"], row["duration_s"]) == ("tiny", "1.2", 12.0)


def test_parquet_tells_its_version_space_and_rules(tmp_path: Path) -> None:
    with collection(tmp_path, format="parquet") as table:
        table.add(make_analysis())
    about = json.loads(pq.read_schema(tmp_path / "emotions.parquet").metadata[b"emoseg"])
    assert about["schema"] == "emoseg.segments/1"
    assert EmotionSpace.from_json(about["space"]) == QUADRANTS
    assert "below 0.90" in about["rules"]["unsure"]


def two_songs(folder: Path) -> Path:
    with collection(folder, format="parquet") as table:
        table.add(make_analysis("a.mp3"))
        table.add(make_analysis("b.mp3"))
    return folder / "emotions.parquet"


def test_parquet_reads_in_pandas(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="needs pandas, of the extra dev")
    frame = pandas.read_parquet(two_songs(tmp_path))
    assert frame.groupby("path", observed=True)["p_Q1"].mean().tolist() == pytest.approx(
        [(0.8 + 0.8 + 0.2 / 3) / 3] * 2
    )


def test_parquet_reads_in_duckdb(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="needs the extra library")
    file = two_songs(tmp_path)
    found = duckdb.sql(f"select span, count(*) from '{file}' group by span order by span").fetchall()
    assert found == [("Q1", 4), ("Q2", 2), ("speech", 2)]


def test_parquet_of_a_whole_library_is_written_in_groups(tmp_path: Path) -> None:
    one = make_analysis()
    with collection(tmp_path, format="parquet") as table:
        for i in range(17_000):
            table.add(replace(one, path=f"{i}.mp3"))
    file = pq.ParquetFile(tmp_path / "emotions.parquet")
    assert file.metadata.num_rows == 68_000
    assert file.metadata.num_row_groups == 2
    assert file.read_row_group(1, ["path"]).to_pylist()[-1] == {"path": "16999.mp3"}


def test_parquet_columns_follow_the_space() -> None:
    table = segment_table([make_analysis(space=MOODS)], segment_schema(MOODS))
    assert "p_epic" in table.column_names
    assert "p_Q1" not in table.column_names
    assert table["valence"].to_pylist() == [None] * 4
    with pytest.raises(EmosegError, match=r"songs/one\.mp3: has another emotion space than the rest"):
        segment_table([make_analysis()], segment_schema(MOODS))


def test_parquet_refuses_numbers_that_are_not_finite() -> None:
    song = replace(make_analysis().song, confidence=float("nan"))
    with pytest.raises(EmosegError, match=r"songs/one\.mp3: the analysis holds nan"):
        segment_table([replace(make_analysis(), song=song)], segment_schema(QUADRANTS))


# One file for all


def test_json_lines_hold_a_line_a_recording_and_failures_too(tmp_path: Path) -> None:
    with collection(tmp_path, format="jsonl") as lines:
        for result in (make_analysis("a.mp3"), FAILURE, make_analysis("b.mp3")):
            lines.add(result)
    read = [json.loads(line) for line in (tmp_path / "emotions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["path"] for line in read] == ["a.mp3", "bad.mp3", "b.mp3"]
    assert read[1]["error"] == {"type": "decode", "message": "bad.mp3: cannot be decoded"}
    assert read[2]["song"]["label"] == "unsure"


@pytest.mark.parametrize("format", sorted(COLLECTIONS))
def test_a_collection_that_is_interrupted_holds_what_was_done(format: str, tmp_path: Path) -> None:
    with collection(tmp_path, format=format) as table:
        table.add(make_analysis("before.mp3"))

    def interrupted() -> None:
        with collection(tmp_path, format=format) as table:
            table.add(make_analysis("done.mp3"))
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        interrupted()
    [file] = tmp_path.iterdir()
    if format == "parquet":
        assert {row["path"] for row in pq.read_table(file).to_pylist()} == {"done.mp3"}
    else:
        assert json.loads(file.read_text(encoding="utf-8"))["path"] == "done.mp3"


@pytest.mark.parametrize("format", sorted(COLLECTIONS))
def test_a_collection_of_nothing_writes_nothing(format: str, tmp_path: Path) -> None:
    with collection(tmp_path / "out", format=format):
        pass
    assert not (tmp_path / "out").exists()


def test_an_unknown_collection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="format 'json': must be one of jsonl, parquet"):
        collection(tmp_path, format="json")


FULL_DISK = """
import pickle, resource, sys
from dataclasses import replace
from pathlib import Path
from emoseg.errors import EmosegError
from emoseg.writers import collection, write
big, out, format = pickle.loads(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]), sys.argv[3]
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # every file is refused beyond 4 KB, as by a full disk
try:
    if format in ("jsonl", "parquet"):
        with collection(out, format=format) as table:
            table.add(replace(big, path="small.mp3", segments=big.segments[:4]))
            for i in range(200):
                table.add(replace(big, path=f"{i}.mp3"))
    else:
        write(big, out, format=format)
except EmosegError as error:
    print(error)
left = [(file.name, file.read_text().count("small.mp3"), file.read_text()[-1:]) for file in out.iterdir()]
print(left)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX systems")
@pytest.mark.parametrize("format", ["jsonl", "parquet", "json", "png"])
def test_a_full_disk_is_one_line_and_leaves_no_half_file(format: str, tmp_path: Path) -> None:
    if format == "png":
        pytest.importorskip("matplotlib", reason="needs the extra plot")
    big, out = tmp_path / "big.pickle", tmp_path / "out"
    big.write_bytes(pickle.dumps(replace(make_analysis(), segments=make_analysis().segments[1:2] * 3000)))
    out.mkdir()
    arguments = [str(big), str(out), format]
    done = subprocess.run([sys.executable, "-c", FULL_DISK, *arguments], capture_output=True, text=True, check=True)
    message, left = done.stdout.splitlines()
    assert message.startswith(str(out))
    assert ": cannot be written: " in message
    # JSON Lines end with the last whole line; everything else is whole or not there.
    assert left == (r"[('emotions.jsonl', 1, '\n')]" if format == "jsonl" else "[]")


def test_the_parquet_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    with ParquetCollection(file) as table:
        table.add(make_analysis())
        assert not file.exists()
    assert pq.read_metadata(file).num_rows == 4


# JAMS


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of jsonschema, by jams
def test_jams_is_valid_and_says_what_the_analysis_says(tmp_path: Path) -> None:
    jams = pytest.importorskip("jams", reason="needs jams, of the extra dev")
    file = write(make_analysis(), tmp_path, format="jams")
    assert file.name == "one.mp3.jams"
    document = jams.load(str(file), validate=True, strict=True)
    assert document.file_metadata.duration == 12.0
    assert [a.namespace for a in document.annotations] == ["mood_thayer", "segment_open", "tag_open"]
    mood, spans, tag = document.annotations
    # Valence first; what is not music has no place.
    first = make_analysis().segments[1]
    assert [(o.time, o.duration) for o in mood.data] == [(3, 3), (6, 3), (9, 3)]
    assert mood.data[0].value == pytest.approx([first.valence, first.arousal], abs=1e-6)
    assert mood.data[0].confidence["Q1"] == 0.8
    assert [(o.time, o.duration, o.value) for o in spans.data] == [(0, 3, "speech"), (3, 6, "Q1"), (9, 3, "Q2")]
    assert [(o.time, o.duration, o.value, o.confidence) for o in tag.data] == [(0, 12, "unsure", 0.8)]
    assert "below 0.90" in tag.annotation_metadata.annotation_rules
    assert "Russell's quadrants" in tag.annotation_metadata.annotation_rules


def test_jams_without_axes_has_no_mood_in_the_plane() -> None:
    document = json.loads(render_jams(make_analysis(space=MOODS)))
    assert [a["namespace"] for a in document["annotations"]] == ["segment_open", "tag_open"]


# PNG


def picture(data: bytes) -> np.ndarray:
    image = pytest.importorskip("matplotlib.image", reason="needs the extra plot")
    return np.asarray(image.imread(io.BytesIO(data), format="png"))


def test_png_shows_the_spans_in_their_colours(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    file = write(make_analysis("x/$a^b$ 日本.mp3"), tmp_path, format="png")
    image = picture(file.read_bytes())
    assert image.shape[:2] == (930, 1500)
    # Along the strip above the waveform: speech grey, Q1 yellow, Q2 red, in shares 3, 6 and 3 of 12.
    colours = {"speech": 0x8A8982, "Q1": 0xDDA22E, "Q2": 0xC04A5A}
    shares = {}
    rows = np.round(image[:200, :, :3] * 255).astype(int)
    for name, colour in colours.items():
        wanted = np.array([colour >> 16, (colour >> 8) & 255, colour & 255])
        shares[name] = (np.abs(rows - wanted).sum(axis=2) < 6).sum(axis=1).max()
    total = sum(shares.values())
    assert total > 1200
    assert shares["speech"] / total == pytest.approx(0.25, abs=0.06)
    assert shares["Q1"] / total == pytest.approx(0.5, abs=0.06)


def test_png_of_a_space_without_axes_and_of_a_single_segment(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    one = make_analysis(space=MOODS)
    one = replace(one, segments=one.segments[1:2], spans=one.spans[1:2], peaks=one.peaks[:0])
    assert picture(write(one, tmp_path, format="png").read_bytes()).shape[:2] == (930, 1500)


def test_png_without_matplotlib_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match="pip install matplotlib"):
        write(make_analysis(), tmp_path, format="png")
    assert list(tmp_path.iterdir()) == []
