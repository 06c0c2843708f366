"""Questions to a library whose answers are known, because its rows are written by hand."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from made import Call, refused

from emoseg.audio.find import FoundFile, Scan
from emoseg.emotion import QUADRANTS, EmotionSpace
from emoseg.errors import AudioError, ConfigError, EmosegError, EmosegWarning
from emoseg.library.contents import read_contents
from emoseg.library.manifest import MANIFEST_FILE, Manifest
from emoseg.library.parts import update_tables
from emoseg.library.playlist import PlaylistSong, m3u8, smooth_path, write_playlist
from emoseg.library.questions import Library
from emoseg.library.records import AnalysisOutcome, Settings
from emoseg.library.tables import song_id, to_rows
from emoseg.types import Analysis, SegmentEmotion, SongEmotion

pytest.importorskip("duckdb", reason="needs the extra library")
Course = list[str]  # the label of each segment
SURE = 0.91


def probabilities(label: str, space: EmotionSpace, sure: float = SURE) -> tuple[float, ...]:
    rest = (1 - sure) / (len(space.labels) - 1)
    return tuple(sure if other == label else rest for other in space.labels)


def derived(p: tuple[float, ...], space: EmotionSpace, axis: str) -> float | None:
    value = space.derived(np.array(p), axis)
    return None if value is None else float(value)


def analysis(course: Course, space: EmotionSpace, sure: float) -> Analysis:
    segments = tuple(
        SegmentEmotion(3.0 * i, 3.0 * i + 3, label, p, derived(p, space, "valence"), derived(p, space, "arousal"))
        if label in space.labels
        else SegmentEmotion(3.0 * i, 3.0 * i + 3, label, (), None, None, sound=label)
        for i, label in enumerate(course)
        for p in [probabilities(label, space, sure)]
    )
    if not any(segment.probabilities for segment in segments):
        song = SongEmotion(course[0], (), 0.0, None, None)
        return Analysis("x", 3.0 * len(course), "m", "1", space, song, segments, (), np.zeros((0, 2), np.float32))
    p = tuple(np.mean([segment.probabilities for segment in segments], axis=0).tolist())
    song = SongEmotion(
        space.labels[int(np.argmax(p))], p, max(p), derived(p, space, "valence"), derived(p, space, "arousal")
    )
    return Analysis("x", 3.0 * len(course), "m", "1", space, song, segments, (), np.zeros((0, 2), np.float32))


def make_library(
    out: Path,
    songs: dict[str, tuple[Course, str | None, float]],
    *,
    space: EmotionSpace = QUADRANTS,
    finished: bool = True,
) -> Path:
    """Write a library of songs, each with its course, artist and certainty."""
    out.mkdir()
    with closing(Manifest.create(out, Settings("/music", "x", "m 1", None, "", space.to_json()))) as manifest:
        manifest.update(Scan([FoundFile(path, 1, 1) for path in songs]))
        done = [
            AnalysisOutcome(
                song_id(path),
                "done",
                1,
                1,
                "c",
                rows=to_rows(
                    analysis(course, space, sure), path=path, artist=artist, title=f"title of {path}", content="c"
                ),
            )
            for path, (course, artist, sure) in songs.items()
        ]
        for outcome in done:
            manifest.record(outcome)
        if finished:
            update_tables(manifest, final=True)
    return out


SONGS: dict[str, tuple[Course, str | None, float]] = {
    "calm.mp3": (["Q4"] * 8, "A", 0.97),
    "calmer.mp3": (["Q4"] * 8, "A", 0.98),
    "rather calm.mp3": (["Q4"] * 8, "B", 0.7),
    "sad.mp3": (["Q3"] * 8, "B", 0.9),
    "happy.mp3": (["Q1"] * 8, "C", 0.9),
    "tense.mp3": (["Q2"] * 8, None, 0.9),
    "calm then tense.mp3": (["Q4"] * 4 + ["Q2"] * 4, "C", 0.9),
    "longer calm then tense.mp3": (["Q4"] * 9 + ["Q2"] * 9, "D", 0.9),
    "tense then calm.mp3": (["Q2"] * 4 + ["Q4"] * 4, "D", 0.9),
    "short.mp3": (["Q1", "Q3"], None, 0.99),
}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_library(tmp_path_factory.mktemp("lib") / "out", SONGS)


def column(answer: list[dict[str, object]], name: str = "path") -> list[object]:
    return [row[name] for row in answer]


def test_the_songs_with_most_of_a_mood(out: Path) -> None:
    library = Library(out)
    answer = library.most("calm", count=3).to_json()
    assert column(answer) == ["calmer.mp3", "calm.mp3", "rather calm.mp3"]
    assert column(answer, "fit") == pytest.approx([0.98, 0.97, 0.7], abs=1e-6)
    assert library.most("Q4", count=3).to_json() == library.most("Relaxed", count=3).to_json() == answer
    assert column(library.most("energetic", count=3).to_json())[0] in {"happy.mp3", "tense.mp3"}
    assert column(library.most("-0.8,-0.8", count=1).to_json()) == ["sad.mp3"]
    with pytest.raises(ConfigError, match=r"mood 'blue' is unknown; choose from Q1, Q2, Q3, Q4, happy, .*, V,A"):
        library.most("blue", count=3)


@pytest.mark.parametrize("mood", ["2,0", "0.5,nan", "nan,0", "inf,0", "1e999,0", ",", "0,0,0", "0.5;0,5", "a,b"])
def test_a_place_is_two_numbers_from_minus_one_to_one(out: Path, call: Call, mood: str) -> None:
    rule = f"mood {mood!r}: V,A must be two numbers from -1 to 1, such as 0.5,-0.2"
    refused(call("library", out, "--most", mood), rule)
    refused(call("library", out, "--playlist", f"sad:{mood}"), rule)


@pytest.mark.parametrize("count", [0, -1, 100_001, 2**70, math.inf, math.nan, 2.5])
def test_counts_are_whole_numbers_in_a_range(out: Path, count: Any) -> None:
    library = Library(out)
    asked: list[Callable[[], object]] = [
        lambda: library.most("calm", count=count),
        lambda: library.changing(count=count),
        lambda: library.like("sad.mp3", count=count),
        lambda: library.playlist("sad:happy", count=count),
    ]
    for ask in asked:
        with pytest.raises(ConfigError, match=r"^count .*: must be a whole number from 1 to 100000$"):
            ask()
    with pytest.raises(ConfigError, match=r"^apart -1: must be a whole number from 0 to 100000$"):
        library.playlist("sad:happy", apart=-1)


def test_the_length_of_a_playlist_is_finite(out: Path, call: Call) -> None:
    refused(call("library", out, "--playlist", "sad:happy", "--minutes", "inf"), "minutes inf: must be a finite number")
    refused(call("library", out, "--playlist", "sad:happy", "--minutes", "nan"), "--minutes")
    for number in (0, -1, math.inf, math.nan):
        with pytest.raises(ConfigError, match=f"^minutes {number:g}: must be a finite number above 0$"):
            Library(out).playlist("sad:happy", minutes=number)


def test_what_is_no_music_is_never_an_answer(tmp_path: Path) -> None:
    talk: tuple[Course, str | None, float] = (["speech"] * 8, None, 0.9)
    library = Library(make_library(tmp_path / "out", {"a talk.mp3": talk, **SONGS}))
    music = set(SONGS)
    assert set(column(library.most("sad", count=100).to_json())) == music
    assert set(column(library.most("0.1,-0.2", count=100).to_json())) == music
    assert "a talk.mp3" not in column(library.changing(count=100).to_json())
    assert set(column(library.like("calm.mp3", count=100).to_json())) == music - {"calm.mp3"}
    assert library.like("a talk.mp3", count=100).rows == ()
    assert len(library.playlist("sad:happy", count=100)) == len(music)
    assert {row["label"]: row["songs"] for row in library.summary().to_json()}["speech"] == 1


def test_the_songs_that_change_most(out: Path) -> None:
    answer = Library(out).changing(count=4).to_json()
    assert set(column(answer)[:3]) == {
        "calm then tense.mp3",
        "longer calm then tense.mp3",
        "tense then calm.mp3",
    }
    assert answer[3]["change"] == 0
    rest = 0.1 / 3
    assert answer[0]["change"] == pytest.approx(np.sqrt(2 * ((0.9 - rest) / 2) ** 2), abs=1e-5)
    (turned,) = (row for row in answer if row["path"] == "tense then calm.mp3")
    assert (turned["begins"], turned["ends"]) == ("Q2", "Q4")
    everything = Library(out).changing(count=100).to_json()
    assert "short.mp3" not in column(everything)
    assert len(everything) == 9


def test_songs_like_one_have_its_course_over_time(out: Path) -> None:
    answer = Library(out).like("calm then tense.mp3", count=9).to_json()
    assert answer[0]["path"] == "longer calm then tense.mp3"
    assert answer[0]["distance"] == pytest.approx(0, abs=1e-4)
    distances = column(answer, "distance")
    assert distances == sorted(distances, key=lambda d: float(str(d)))
    assert column(answer).index("tense then calm.mp3") > column(answer).index("tense.mp3")
    rest, sure = np.sqrt(0.1 / 3), np.sqrt(0.9)
    (opposite,) = (row for row in answer if row["path"] == "tense then calm.mp3")
    assert opposite["distance"] == pytest.approx(sure - rest, abs=1e-5), "the Hellinger distance, by hand"
    assert len(answer) == 9


def test_a_song_is_found_by_file_path_or_part_of_its_name(out: Path) -> None:
    library = Library(out)
    wanted = library.like("sad.mp3", count=2)
    for name in ("/music/sad.mp3", "SAD", "title of sad"):
        assert library.like(name, count=2) == wanted
    with pytest.raises(ConfigError, match=r"tense: fits 4 songs, such as calm then tense.mp3"):
        library.like("tense", count=2)
    with pytest.raises(ConfigError, match="polka: no song of the library has this path"):
        library.like("polka", count=2)


@pytest.mark.parametrize(
    "question",
    [
        "DROP TABLE songs",
        "COPY songs TO '{tmp}/x.csv'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT 1; SELECT 2",
        "ATTACH '{tmp}/x.db'",
        "SET enable_external_access = true",
        "CREATE TABLE t AS SELECT 1",
        "SELECT * FROM read_blob('{tmp}/../out/manifest.sqlite')",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM read_parquet('{tmp}/../out/songs/part-000001.parquet')",
        "SELECT * FROM enable_logging(storage = 'file', storage_path = '{tmp}')",
        "SELECT * FROM query('COPY songs TO ''{tmp}/x.csv''')",
        "SELECT * FROM 'https://example.org/x.csv'",
        "SET temp_directory = '{tmp}'",
        "EXPORT DATABASE '{tmp}/x'",
        "INSTALL httpfs",
        "SELECT INTERVAL 99999999 YEARS",
        "SELECT \udcff",
        "SELECT " + "(" * 5000 + "1" + ")" * 5000,
        "SELECT nothing FROM songs",
        "hello",
        "",
    ],
)
def test_questions_of_ones_own_can_only_read_the_tables(out: Path, tmp_path: Path, call: Call, question: str) -> None:
    refused(call("library", out, "--sql", question.format(tmp=tmp_path)), "--sql")
    assert list(tmp_path.iterdir()) == []


def test_questions_cannot_read_variables(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emoseg.library.query.VARIABLE", pa.table({"secret": [1]}), raising=False)
    with pytest.raises(ConfigError, match="Table with name VARIABLE does not exist"):
        Library(out).sql("SELECT * FROM VARIABLE")


def test_questions_of_ones_own(out: Path, call: Call) -> None:
    question = "SELECT label, count(*) AS n FROM segments GROUP BY label ORDER BY label"
    outcome = call("library", out, "--sql", question, "--json")
    assert outcome.status == 0
    assert json.loads(outcome.out) == [
        {"label": "Q1", "n": 9},
        {"label": "Q2", "n": 25},
        {"label": "Q3", "n": 9},
        {"label": "Q4", "n": 41},
    ]
    assert (
        call("library", out, "--sql", "SELECT count(*) AS n FROM failures", "--json").out == '[\n {\n  "n": 0\n }\n]\n'
    )
    table = call("library", out, "--sql", question).out.splitlines()
    assert [line.split() for line in table] == [["label", "n"], ["Q1", "9"], ["Q2", "25"], ["Q3", "9"], ["Q4", "41"]]


def test_answers_in_json_are_finite(out: Path, call: Call) -> None:
    question = (
        "SELECT 1 / 0 AS a, sqrt(-1) AS b, [1.0, 'nan'::DOUBLE] AS c, {'x': '-inf'::FLOAT} AS d, "
        "0.5::DOUBLE AS e, [[NULL]] AS f, DATE '2020-01-31' AS g, '\x1b[31m' AS h"
    )
    reported = call("library", out, "--sql", question, "--json")
    assert reported.status == 0, reported
    (row,) = json.loads(reported.out, parse_constant=pytest.fail)
    assert row == {
        "a": None,
        "b": None,
        "c": [1.0, None],
        "d": {"x": None},
        "e": 0.5,
        "f": [[None]],
        "g": "2020-01-31",
        "h": "\x1b[31m",
    }


def test_a_question_that_never_ends_can_be_interrupted(out: Path) -> None:
    library = Library(out)
    numbers = "range(1000000000000000) AS r (n)"
    for endless in (f"SELECT count(*) FROM {numbers} WHERE sqrt(n) < 0", f"SELECT * FROM {numbers}"):
        threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            library.sql(endless)
    assert library.sql("SELECT 1").rows == ((1,),), "the library can be asked again"


# --- damage ----------------------------------------------------------------------------------------------------------

DAMAGE: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda file: file.write_bytes(b""),
    "no Parquet": lambda file: file.write_bytes(b"no Parquet"),
    "no rows": lambda file: file.write_bytes(b"PAR1" + bytes(500) + b"\x10\x00\x00\x00PAR1"),
    "cut off": lambda file: file.write_bytes(file.read_bytes()[:-20]),
    "footer": lambda file: file.write_bytes(file.read_bytes()[:-40] + bytes(32) + file.read_bytes()[-8:]),
    "rows": lambda file: file.write_bytes(file.read_bytes()[:100] + b"\xff" * 50 + file.read_bytes()[150:]),
}


@pytest.mark.parametrize("table", ["songs", "segments"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_table_is_one_line(tmp_path: Path, call: Call, table: str, damage: str) -> None:
    out = make_library(tmp_path / "out", SONGS)
    file = out / table / "part-000001.parquet"
    asked = Library(out)
    DAMAGE[damage](file)
    refused(call("library", out), f"{file}: ")
    refused(call("library", out, "--most", "calm"), "; 'emoseg batch' repairs it")
    if table == "songs":
        with pytest.raises(EmosegError, match=r"part-000001\.parquet: .*; 'emoseg batch' repairs it"):
            next(read_contents(out).songs())
    if damage in {"missing", "no Parquet"}:  # while rows are read
        questions: list[Callable[[], object]] = [
            lambda: asked.changing(count=3),
            lambda: asked.sql("SELECT * FROM songs JOIN segments USING (song_id)"),
        ]
        for question in questions:
            with pytest.raises(EmosegError, match=rf"{table}/part-000001\.parquet: .*; 'emoseg batch' repairs it"):
                question()


def test_a_song_that_the_manifest_does_not_know_is_one_line(tmp_path: Path) -> None:
    out = make_library(tmp_path / "out", SONGS)
    with closing(sqlite3.connect(out / MANIFEST_FILE)) as db, db:
        db.execute("DELETE FROM songs WHERE path = CAST('sad.mp3' AS BLOB)")
    words = f"its manifest does not know the song {song_id('sad.mp3')}; 'emoseg batch' repairs it"
    with pytest.raises(EmosegError, match=words):
        list(read_contents(out).songs())
    with pytest.raises(EmosegError, match=words):
        Library(out).playlist("sad:happy")


def not_finite() -> list[Analysis]:
    """Return analyses with one number each that is not finite, or will not be as it is stored."""
    analysed = analysis(["Q1", "Q2"], QUADRANTS, 0.9)
    segment = analysed.segments[1]
    return [
        dataclasses.replace(analysed, duration_s=math.inf),
        *(
            dataclasses.replace(analysed, song=dataclasses.replace(analysed.song, confidence=x))
            for x in (math.nan, 1e39)
        ),
        dataclasses.replace(analysed, song=dataclasses.replace(analysed.song, probabilities=(0.5, math.nan, 0.5, 0.0))),
        dataclasses.replace(analysed, song=dataclasses.replace(analysed.song, valence=-math.inf)),
        *(
            dataclasses.replace(analysed, segments=(analysed.segments[0], odd))
            for odd in (
                dataclasses.replace(segment, start_s=math.nan),
                dataclasses.replace(segment, end_s=math.inf),
                dataclasses.replace(segment, valence=math.nan),
                dataclasses.replace(segment, arousal=math.nan),
            )
        ),
    ]


@pytest.mark.parametrize("analysed", not_finite())
def test_rows_with_a_number_that_is_not_finite_are_never_made(analysed: Analysis) -> None:
    with pytest.raises(AudioError, match=r"^x: the analysis holds a number that is not finite") as refusal:
        to_rows(analysed, path="a", artist=None, title=None, content="c")
    assert refusal.value.kind == "nonfinite"


# --- playlists -------------------------------------------------------------------------------------------------------


def test_a_playlist_goes_from_one_mood_to_the_other(out: Path) -> None:
    names = [entry.song.path.name for entry in Library(out).playlist("sad:happy", count=3, apart=0)]
    assert names[0] == "sad.mp3"
    assert names[-1] == "happy.mp3"
    assert len(set(names)) == 3
    with pytest.raises(ConfigError, match="must be FROM:TO, such as sad:happy"):
        Library(out).playlist("sad", count=3)


def many(number: int) -> dict[str, tuple[Course, str | None, float]]:
    random = np.random.default_rng(0)
    return {
        f"{i:03d}.mp3": (random.choice(["Q1", "Q2", "Q3", "Q4"], size=20).tolist(), f"artist {i % 6}", 0.95)
        for i in range(number)
    }


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_library(tmp_path_factory.mktemp("large") / "out", many(300))


def test_a_playlist_has_no_repeats_and_keeps_artists_apart(large: Path) -> None:
    chosen = [entry.song for entry in Library(large).playlist("sad:happy", count=30, apart=4)]
    assert len({song.path for song in chosen}) == 30
    artists = [song.artist for song in chosen]
    assert all(len(set(artists[i : i + 5])) == 5 for i in range(len(artists) - 4))


def test_a_playlist_moves_in_small_steps(large: Path) -> None:
    entries = Library(large).playlist("sad:happy", count=15, apart=0)
    places = np.array([[entry.place["valence"], entry.place["arousal"]] for entry in entries])
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    whole = float(np.linalg.norm(places[-1] - places[0]))
    assert whole > 0.4
    assert steps.max() < 0.35 * whole
    assert steps.sum() < 1.6 * whole


def test_a_playlist_of_a_length(large: Path) -> None:
    for minutes in (10, 33):
        chosen = [entry.song for entry in Library(large).playlist("tense:calm", minutes=minutes)]
        assert sum(song.duration_s for song in chosen) == pytest.approx(60 * minutes, abs=30)


def test_a_smooth_path_by_hand() -> None:
    places = np.array([[0.0, 0], [0.5, 0.4], [1, 0], [0.5, 0.1], [0, 1]])
    assert smooth_path(places, np.array([0.0, 0]), np.array([1.0, 0]), length=3) == [0, 3, 2]
    assert smooth_path(places, np.array([1.0, 0]), np.array([0.0, 0]), length=3) == [2, 3, 0]
    artists = ["a", "b", "c", "a", None]
    assert smooth_path(places, np.array([0.0, 0]), np.array([1.0, 0]), length=3, artists=artists, apart=1) == [0, 1, 2]
    assert sorted(smooth_path(places, np.array([0.0, 0]), np.array([1.0, 0]), length=9)) == [0, 1, 2, 3, 4]
    assert smooth_path(places[:2], np.zeros(2), np.ones(2), length=2, artists=["a", "a"], apart=1) == [0]


def test_a_library_of_ones_own_labels(tmp_path: Path) -> None:
    space = EmotionSpace.from_labels(["rainy day", "sunny", "Sunny"])
    songs: dict[str, tuple[Course, str | None, float]] = {
        "a.mp3": (["rainy day"] * 4, None, 0.9),
        "b.mp3": (["rainy day", "sunny"] * 2, None, 0.9),
        "c.mp3": (["sunny"] * 4, None, 0.9),
        "d.mp3": (["Sunny"] * 4, None, 0.9),
    }
    library = Library(make_library(tmp_path / "out", songs, space=space))
    assert column(library.most("sunny", count=1).to_json()) == ["c.mp3"]
    assert column(library.most("Sunny", count=1).to_json()) == ["d.mp3"]
    assert column(library.changing(count=1).to_json()) == ["b.mp3"]
    assert column(library.like("a.mp3", count=1).to_json()) == ["b.mp3"]
    with pytest.raises(ConfigError, match=r"mood 'calm' is unknown; choose from Sunny, rainy day, sunny$"):
        library.most("calm", count=1)


def test_an_empty_library_has_answers_too(tmp_path: Path) -> None:
    library = Library(make_library(tmp_path / "out", {}))
    assert library.summary().rows == ()
    assert library.most("calm", count=3).rows == ()
    with pytest.raises(ConfigError, match="holds no songs for a playlist"):
        library.playlist("sad:happy")


def test_m3u8_paths(tmp_path: Path) -> None:
    root = tmp_path / "music"
    (root / "lists").mkdir(parents=True)
    odd = os.fsdecode(b"Bj\xf6rk.mp3")
    songs = [
        PlaylistSong(root / "#1.mp3", "A", "T", 61.4),
        PlaylistSong(root / "album" / "x y.mp3", None, None, 5.0),
        PlaylistSong(root / odd, None, "T", 5.0),
    ]
    assert m3u8(songs, folder=root, root=root) == (
        b"#EXTM3U\n#EXTINF:61,A - T\n./#1.mp3\n#EXTINF:5,x y\n./album/x y.mp3\n#EXTINF:5,T\n./Bj\xf6rk.mp3\n"
    )
    assert b"\n./../#1.mp3\n" in m3u8(songs, folder=root / "lists", root=root)
    assert b"\n" + os.fsencode(root) + b"/#1.mp3\n" in m3u8(songs, folder=tmp_path, root=root)


@pytest.mark.parametrize("odd", ["a\nb.mp3", "a\rb.mp3", "a\tb.mp3", "\x1b[31m.mp3", "a\x7f.mp3", "a\u2028b.mp3"])
def test_a_playlist_leaves_out_paths_that_it_cannot_hold(tmp_path: Path, odd: str) -> None:
    songs = [PlaylistSong(tmp_path / odd, None, "T", 5.0), PlaylistSong(tmp_path / "b.mp3", "A\nB", "T", 5.0)]
    with pytest.warns(
        EmosegWarning, match="is left out, because a playlist cannot hold a path with a control character"
    ):
        written = m3u8(songs, folder=tmp_path, root=tmp_path)
    assert written == b"#EXTM3U\n#EXTINF:5,A B - T\n./b.mp3\n"

    library = Library(make_library(tmp_path / "out", {odd: SONGS["sad.mp3"], **SONGS}))
    with pytest.warns(EmosegWarning, match="^1 songs are left out, .*, such as 'a|^1 songs are left out, .*31m"):
        chosen = library.playlist("sad:happy", count=100)
    assert len(chosen) == len(SONGS)


def test_a_playlist_replaces_playlists_alone(tmp_path: Path) -> None:
    songs = [PlaylistSong(tmp_path / "a.mp3", None, "T", 5.0)]
    wanted = b"#EXTM3U\n#EXTINF:5,T\n./a.mp3\n"
    for earlier in (None, b"#EXTM3U\n", b"\xef\xbb\xbf#EXTM3U\r\nb.mp3"):
        file = tmp_path / "list.m3u8"
        if earlier is not None:
            file.write_bytes(earlier)
        write_playlist(file, songs, root=tmp_path)
        assert file.read_bytes() == wanted
    for other in (b"", b"a letter", b"\x00#EXTM3U"):
        file = tmp_path / "letter"
        file.write_bytes(other)
        with pytest.raises(EmosegError, match="letter: exists already and is not a playlist; choose another name"):
            write_playlist(file, songs, root=tmp_path)
        assert file.read_bytes() == other
    (tmp_path / "folder").mkdir()
    with pytest.raises(EmosegError, match="folder: is a folder, not a file"):
        write_playlist(tmp_path / "folder", songs, root=tmp_path)


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_answers(out: Path, tmp_path: Path, call: Call) -> None:
    summary = call("library", out)
    assert summary.status == 0
    assert summary.out.splitlines()[0].split() == ["label", "songs", "share", "hours"]
    assert "calmer.mp3" in call("library", out, "--most", "calm", "--count", "1").out
    assert len(json.loads(call("library", out, "--changing", "--json").out)) == 9
    assert len(json.loads(call("library", out, "--like", "sad.mp3", "--count", "4", "--json").out)) == 4
    file = tmp_path / "list.m3u8"
    reported = call("library", out, "--playlist", "sad:happy", "--count", "4", "--out", file)
    assert reported.status == 0
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#EXTM3U"
    assert lines[2] == "/music/sad.mp3"
    assert len(lines) == 9
    assert len(reported.out.splitlines()) == 5
    refused(call("library", out, "--playlist", "sad:happy", "--out", tmp_path / "no" / "x"), "cannot be written")


def test_the_command_says_what_is_wrong(out: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(call("library", tmp_path), "is not a library: manifest.sqlite is missing")
    refused(call("library", out, "--changing", "--most", "calm"), "one question at a time")
    refused(call("library", out, "--out", "x"), "--out and --minutes go with --playlist only")
    refused(call("library", out, "--most", "blue"), "mood 'blue' is unknown")
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    refused(call("library", out), "pip install duckdb")


def test_an_unfinished_batch_is_reported(tmp_path: Path, call: Call) -> None:
    out = make_library(tmp_path / "out", SONGS, finished=False)
    outcome = call("library", out, "--json")
    assert outcome.out == "[]\n"
    assert "the batch is not finished: 0 songs to do, 10 done and not yet in the tables" in outcome.err


def test_the_answers_do_not_depend_on_the_parts(tmp_path: Path, large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emoseg.library.parts.PART_SONGS", 50)
    other = make_library(tmp_path / "out", many(300))
    assert len(list((other / "songs").iterdir())) == 6
    ask: list[Callable[[Library], object]] = [
        lambda library: library.most("calm", count=300),
        lambda library: library.changing(count=300),
        lambda library: library.like("007.mp3", count=300).to_json(),
        lambda library: library.playlist("sad:happy", count=20),
    ]
    for question in ask:
        assert question(Library(other)) == question(Library(large))
