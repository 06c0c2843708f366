"""Every registered corpus keeps one contract; each loader is also tried on the quirks of its own layout."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from layouts import BUILDERS, FOURQ, make_csv, make_folder, make_fourq, make_synth, music, put, wav

from emoseg.checking.check import check_corpus
from emoseg.config import LogMelConfig, SegmentConfig, TrainConfig
from emoseg.corpora import CORPORA, Corpus, load_corpus
from emoseg.corpora.base import Song
from emoseg.corpora.loaders.fourq import ANNOTATIONS, METADATA
from emoseg.corpora.segments import load_segments
from emoseg.corpora.splits import song_folds
from emoseg.corpora.tables import read_table
from emoseg.emotion import QUADRANTS
from emoseg.errors import ConfigError, CorpusError
from emoseg.types import Section


def messages(corpus: Corpus, severity: str) -> list[str]:
    return [p.message for p in corpus.problems if p.severity == severity]


# --- the contract of all ---------------------------------------------------------------------------------------------


def test_the_contract_covers_every_registered_corpus() -> None:
    assert set(BUILDERS) == set(CORPORA.names())


@pytest.mark.parametrize("name", list(BUILDERS))
def test_contract(name: str, tmp_path: Path) -> None:
    corpus = load_corpus(f"{name}:{BUILDERS[name](tmp_path)}")
    assert corpus.name == name
    assert corpus.licence.strip()
    assert corpus.require_usable() is corpus, corpus.problems
    assert len({song.id for song in corpus.songs}) == len(corpus.songs) >= 8
    assert [song.id for song in corpus.songs] == sorted(song.id for song in corpus.songs)
    assert all(song.path.is_file() and song.group for song in corpus.songs)
    assert {song.label for song in corpus.songs} <= set(corpus.space.labels)
    assert all(section.label in corpus.space.labels for song in corpus.songs for section in song.sections)
    assert sum(corpus.counts().values()) == len(corpus.songs)
    assert not corpus.without_audio
    assert corpus.citation or name in ("folder", "csv", "synth")
    assert all(s.soft is None or (sum(s.soft) == pytest.approx(1) and min(s.soft) >= 0) for s in corpus.songs)
    assert corpus.space.rule or name in ("folder", "csv")
    assert list(corpus.counts()) == list(corpus.space.labels)

    groups = [song.group for song in corpus.songs]
    labels = np.array([corpus.space.index(song.label) for song in corpus.songs])
    folds = song_folds(labels, groups, folds=2, seed=0, label_names=corpus.space.labels)
    for fold in range(2):
        inside = {g for g, f in zip(groups, folds, strict=True) if f == fold}
        assert inside
        assert inside.isdisjoint(g for g, f in zip(groups, folds, strict=True) if f != fold)


@pytest.mark.parametrize("name", list(BUILDERS))
def test_loading_twice_is_loading_the_same(name: str, tmp_path: Path) -> None:
    path = BUILDERS[name](tmp_path)
    assert load_corpus(f"{name}:{path}") == load_corpus(f"{name}:{path}")


@pytest.mark.parametrize("name", list(BUILDERS))
def test_an_empty_folder_is_no_corpus(name: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=str(tmp_path)):
        load_corpus(f"{name}:{tmp_path}")


@pytest.mark.parametrize("spec", ["4q", "4q:", ":/tmp", ""])
def test_a_bad_spec_says_what_a_spec_is(spec: str) -> None:
    with pytest.raises(CorpusError, match=rf"corpus '{spec}': must be NAME:PATH with NAME one of 4q, pmemo, emomusic"):
        load_corpus(spec)


def test_an_unknown_corpus_is_one_line_with_the_closest_name() -> None:
    with pytest.raises(ConfigError, match=r"^corpus '4Q': must be one of 4q, pmemo, .*; did you mean '4q'\?$"):
        load_corpus("4Q:/tmp")
    with pytest.raises(ConfigError, match=r"^corpus 'nope': must be one of 4q, pmemo, .*, synth$"):
        load_corpus("nope:/tmp")


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="absent: does not exist"):
        load_corpus(f"folder:{tmp_path / 'absent'}")


def test_a_path_may_hold_a_colon_and_start_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    make_folder(tmp_path / "my:songs")
    assert len(load_corpus("folder:~/my:songs").songs) == 8


def test_the_group_is_the_artist_or_else_the_song(tmp_path: Path) -> None:
    assert Song("x", tmp_path, "Q1", artist="x").group != Song("x", tmp_path, "Q1").group
    assert Song("x", tmp_path, "Q1", artist="a").group == Song("y", tmp_path, "Q2", artist="a").group
    assert Song("x", tmp_path, "Q1", artist="").group != Song("y", tmp_path, "Q1", artist="").group


# --- 4Q --------------------------------------------------------------------------------------------------------------


def test_fourq_reads_the_official_layout(tmp_path: Path) -> None:
    rows = "".join(f'"{s}","{"Einstürzende Bauten" if i < 4 else a}",,\n' for i, (s, _, a) in enumerate(FOURQ))
    metadata = f'"Song","Artist","Title","Quadrant"\n{rows}'
    corpus = load_corpus(f"4q:{make_fourq(tmp_path, metadata=metadata.encode('cp1252'))}")
    assert corpus.space is QUADRANTS
    assert corpus.counts() == {"Q1": 4, "Q2": 4, "Q3": 4, "Q4": 4}
    assert corpus.published_counts == {"Q1": 225, "Q2": 225, "Q3": 225, "Q4": 225}
    assert {song.id: song.label for song in corpus.songs} == {song: q for song, q, _ in FOURQ}
    assert [song.artist for song in corpus.songs[:5]] == ["Einstürzende Bauten"] * 4 + ["Artist 2"]
    assert "research" in corpus.licence
    assert "Panda" in corpus.citation


def test_fourq_utf8_artists_are_read_as_such(tmp_path: Path) -> None:
    metadata = '\ufeff"Song","Artist"\n' + "".join(f'"{s}","Björk {i % 8}"\n' for i, (s, _, _) in enumerate(FOURQ))
    corpus = load_corpus(f"4q:{make_fourq(tmp_path, metadata=metadata.encode())}")
    assert corpus.songs[0].artist == "Björk 0"


def test_fourq_tells_how_many_songs_are_missing(tmp_path: Path) -> None:
    without = (FOURQ[3][0], FOURQ[8][0], FOURQ[9][0])
    corpus = load_corpus(f"4q:{make_fourq(tmp_path, without=without)}")
    assert len(corpus.songs) == 13
    assert messages(corpus, "error") == []
    partial, missing = messages(corpus, "warning")
    assert partial == f"{tmp_path}: annotates 16 of the 900 published songs; 884 are missing"
    assert missing == f"{tmp_path}: 3 of 16 annotated songs have no audio and are left out ({FOURQ[3][0]}, ...)"


def test_fourq_without_metadata_goes_by_song(tmp_path: Path) -> None:
    (make_fourq(tmp_path) / METADATA).unlink()
    corpus = load_corpus(f"4q:{tmp_path}")
    assert len({song.group for song in corpus.songs}) == 16
    assert any("artists unknown" in message for message in messages(corpus, "warning"))


def test_fourq_audio_without_annotation_is_reported(tmp_path: Path) -> None:
    extra = put(make_fourq(tmp_path) / "Q1" / "MT9.mp3")
    corpus = load_corpus(f"4q:{tmp_path}")
    assert len(corpus.songs) == 16
    assert f"{extra}: has no annotation and is left out" in messages(corpus, "warning")


def test_fourq_folder_against_annotation_is_an_error(tmp_path: Path) -> None:
    make_fourq(tmp_path)
    moved = tmp_path / "Q3" / f"{FOURQ[0][0]}.mp3"
    (tmp_path / "Q1" / moved.name).rename(moved)
    with pytest.raises(CorpusError, match=f"{moved}: lies in Q3 but its annotation says Q1"):
        load_corpus(f"4q:{tmp_path}").require_usable()


def test_fourq_all_clips_in_one_folder(tmp_path: Path) -> None:
    for clip in make_fourq(tmp_path).rglob("*.mp3"):
        clip.rename(tmp_path / clip.name)
    corpus = load_corpus(f"4q:{tmp_path}").require_usable()
    assert {song.id: song.label for song in corpus.songs} == {song: q for song, q, _ in FOURQ}


def test_fourq_share_of_mood_tags_is_the_soft_label(tmp_path: Path) -> None:
    shares = ["0.7", "0,55", "much", "", "1.2"] + ["1"] * 11
    metadata = "Song;Artist;PQuad\n" + "".join(f"{s};a;{x}\n" for (s, _, _), x in zip(FOURQ, shares, strict=True))
    corpus = load_corpus(f"4q:{make_fourq(tmp_path, metadata=metadata.encode())}").require_usable()
    assert corpus.songs[0].soft == pytest.approx((0.7, 0.1, 0.1, 0.1))
    assert corpus.songs[1].soft == pytest.approx((0.15, 0.55, 0.15, 0.15))
    assert [song.soft for song in corpus.songs[2:5]] == [None] * 3
    assert any("PQuad 'much' is not a number" in message for message in messages(corpus, "warning"))
    assert any("PQuad 1.2 is not from 0 to 1" in message for message in messages(corpus, "warning"))


def test_fourq_folders_of_other_names_need_not_agree(tmp_path: Path) -> None:
    for quadrant in ("Q1", "Q2", "Q3", "Q4"):
        (make_fourq(tmp_path) if quadrant == "Q1" else tmp_path).joinpath(quadrant).rename(tmp_path / f"set {quadrant}")
    assert messages(load_corpus(f"4q:{tmp_path}"), "error") == []


@pytest.mark.parametrize("quadrant", ["Q5", "q1", ""])
def test_fourq_unknown_quadrant_is_an_error(tmp_path: Path, quadrant: str) -> None:
    rows = "Song,Quadrant\n" + "\n".join(f"{s},{quadrant if i == 2 else q}" for i, (s, q, _) in enumerate(FOURQ))
    corpus = load_corpus(f"4q:{make_fourq(tmp_path, annotations=rows)}")
    assert len(corpus.songs) == 15
    with pytest.raises(CorpusError, match=f"{FOURQ[2][0]} has the quadrant '{quadrant}', not one of Q1 to Q4"):
        corpus.require_usable()


def test_fourq_a_song_annotated_twice_is_an_error(tmp_path: Path) -> None:
    rows = "Song,Quadrant\n" + "\n".join(f"{s},{q}" for s, q, _ in [*FOURQ, (FOURQ[0][0], "Q4", "")])
    corpus = load_corpus(f"4q:{make_fourq(tmp_path, annotations=rows)}")
    with pytest.raises(CorpusError, match=f"{FOURQ[0][0]} is annotated more than once"):
        corpus.require_usable()


def test_fourq_two_files_of_one_song_are_an_error(tmp_path: Path) -> None:
    song, quadrant, _ = FOURQ[0]
    copy = put(make_fourq(tmp_path) / quadrant / f"{song}.wav")
    with pytest.raises(CorpusError, match=rf"{copy}: is the same song as .*{song}\.mp3"):
        load_corpus(f"4q:{tmp_path}").require_usable()


def test_fourq_table_with_other_columns_lists_them(tmp_path: Path) -> None:
    make_fourq(tmp_path, annotations="Id,Mood\nMT1,Q1\n")
    with pytest.raises(CorpusError, match=rf"{ANNOTATIONS}: no column 'Song'; columns found: id, mood"):
        load_corpus(f"4q:{tmp_path}")


@pytest.mark.data
def test_fourq_real_data() -> None:
    data = os.environ.get("EMOSEG_DATA")
    if not data:
        pytest.skip("EMOSEG_DATA is not set")
    corpus = load_corpus(f"4q:{Path(data) / 'MER_audio_taffc_dataset'}").require_usable()
    assert corpus.counts() == {"Q1": 180, "Q2": 180, "Q3": 180, "Q4": 180}
    assert len({song.artist for song in corpus.songs if song.artist}) > 500
    assert any(song.artist == "Einstürzende Neubauten" for song in corpus.songs)
    [missing] = messages(corpus, "warning")
    assert "720 of the 900 published songs; 180 are missing" in missing


# --- folder ----------------------------------------------------------------------------------------------------------


def test_folder_labels_are_the_first_level(tmp_path: Path) -> None:
    corpus = load_corpus(f"folder:{make_folder(tmp_path)}")
    assert corpus.counts() == {"happy": 4, "sad": 4}
    assert corpus.space.name == "labels"
    assert corpus.songs[0].id == str(Path("happy", "album 0", "0.wav"))
    assert messages(corpus, "warning") == [f"{tmp_path}: artists are unknown, folds go by song only"]


def test_folder_of_quadrants_keeps_their_axes(tmp_path: Path) -> None:
    for label in ("Q2", "Q4"):
        put(tmp_path / label / "a.wav")
    space = load_corpus(f"folder:{tmp_path}").space
    assert space.labels == ("Q2", "Q4")
    assert [axis.valence for axis in space.axes] == [-1.0, 1.0]


def test_folder_leaves_nothing_out_in_silence(tmp_path: Path) -> None:
    make_folder(tmp_path)
    loose = put(tmp_path / "loose.wav")
    (tmp_path / "empty").mkdir()
    put(tmp_path / "notes" / "read.txt")
    put(tmp_path / ".hidden" / "x.wav")
    corpus = load_corpus(f"folder:{tmp_path}")
    assert corpus.counts() == {"happy": 4, "sad": 4}
    warnings = messages(corpus, "warning")
    assert f"{loose}: is not in the sub-folder of a label and is left out" in warnings
    assert f"{tmp_path / 'empty'}: holds no audio and is left out" in warnings
    assert f"{tmp_path / 'notes'}: holds no audio and is left out" in warnings


def test_folder_without_sub_folders_says_the_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "a.wav")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusError, match=rf"^\.: no audio in any sub-folder; the layout is {Path('LABEL', 'song')}"):
        load_corpus("folder:.")


def test_folder_with_one_label_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "happy" / "a.wav")
    with pytest.raises(CorpusError, match="the only song has the label 'happy'; two or more labels are needed"):
        load_corpus(f"folder:{tmp_path}")
    put(tmp_path / "happy" / "b.wav")
    with pytest.raises(CorpusError, match="all 2 songs have the label 'happy'; two or more labels are needed"):
        load_corpus(f"folder:{tmp_path}")


def test_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="is not a folder"):
        load_corpus(f"folder:{put(tmp_path / 'a.wav')}")


@pytest.mark.skipif(os.name != "posix", reason="needs links and names of any bytes")
def test_the_same_file_under_two_labels_is_an_error(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "sad" / "link.wav").symlink_to(tmp_path / "happy" / "album 0" / "0.wav")
    with pytest.raises(CorpusError, match=r"0\.wav: is listed more than once"):
        load_corpus(f"folder:{tmp_path}").require_usable()


@pytest.mark.skipif(os.name != "posix", reason="needs names of any bytes")
def test_a_label_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    make_folder(tmp_path)
    put(Path(os.fsdecode(os.fsencode(tmp_path) + b"/fr\xf6hlich/a.wav")))
    with pytest.raises(CorpusError, match=r"the label 'fr.*hlich' is not printable text"):
        load_corpus(f"folder:{tmp_path}").require_usable()


# --- csv -------------------------------------------------------------------------------------------------------------

ROWS = [("audio/0.wav", "fröhlich", "Björk"), ("audio/1.wav", "sad", "Sigur Rós"), ("audio/2.wav", "sad", "")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_csv_of_any_encoding_delimiter_and_line_end(tmp_path: Path, encoding: str, delimiter: str, end: str) -> None:
    rows = [("path", "label", "artist"), *ROWS]
    text = "".join(delimiter.join(row) + end for row in rows)
    corpus = load_corpus(f"csv:{make_csv(tmp_path, text.encode(encoding))}").require_usable()
    assert [(song.id, song.label, song.artist or "") for song in corpus.songs] == ROWS
    assert corpus.root == tmp_path / "songs.csv"


def test_csv_columns_in_any_order_and_case_with_others_between(tmp_path: Path) -> None:
    text = '"Split", Label ,year,PATH\ntrain,"sad, very",1999,audio/0.wav\ntest,happy,,audio/1.wav\n'
    corpus = load_corpus(f"csv:{make_csv(tmp_path, text.encode())}").require_usable()
    assert [(s.id, s.label, s.split, s.artist) for s in corpus.songs] == [
        ("audio/0.wav", "sad, very", "train", None),
        ("audio/1.wav", "happy", "test", None),
    ]
    assert messages(corpus, "warning") == [f"{tmp_path / 'songs.csv'}: no artist column: folds go by song only"]


def test_csv_takes_absolute_paths(tmp_path: Path) -> None:
    far = put(tmp_path / "far" / "x.wav")
    table = make_csv(tmp_path / "here", f"path,label\n{far},a\naudio/1.wav,b\n".encode())
    corpus = load_corpus(f"csv:{table}")
    assert far in [song.path for song in corpus.songs]


def test_csv_blank_rows_are_nothing_and_do_not_shift_the_count(tmp_path: Path) -> None:
    text = "path,label\naudio/0.wav,a\n\n,\naudio/1.wav,b\naudio/x.wav,b\n,,\n\n"
    corpus = load_corpus(f"csv:{make_csv(tmp_path, text.encode())}")
    assert messages(corpus, "error") == [
        f"{tmp_path / 'songs.csv'}: row 6 gives a label to a missing file: {tmp_path / 'audio' / 'x.wav'}"
    ]
    with pytest.raises(CorpusError, match=r"songs\.csv: row 6 gives a label to a missing file"):
        corpus.require_usable()


def test_csv_empty_cells_are_errors_that_name_the_row(tmp_path: Path) -> None:
    text = "path,label,artist\naudio/0.wav,,x\n,sad,x\n,,x\naudio/1.wav,sad,x\naudio/2.wav,happy,x\naudio/3.wav\n"
    table = make_csv(tmp_path, text.encode())
    corpus = load_corpus(f"csv:{table}")
    assert messages(corpus, "error") == [
        f"{table}: row 2 has no label: audio/0.wav",
        f"{table}: row 3 has no path: sad",
        f"{table}: row 4 has no path and no label",
        f"{table}: row 7 has no label: audio/3.wav",
    ]
    with pytest.raises(CorpusError, match=r"row 2 has no label.*\(and 3 more; see: emoseg corpus check\)"):
        corpus.require_usable()


@pytest.mark.parametrize("second", ["audio/0.wav", "./audio/0.wav", "audio/../audio/0.wav"])
def test_csv_duplicate_path_is_an_error(tmp_path: Path, second: str) -> None:
    text = f"path,label\naudio/0.wav,sad\n{second},happy\n"
    with pytest.raises(CorpusError, match=r"0\.wav: is listed more than once"):
        load_corpus(f"csv:{make_csv(tmp_path, text.encode())}").require_usable()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\naudio/0.wav,sad\naudio/1.wav,sad\n", "all 2 songs have the label 'sad'; two or more labels"),
        ("path,mood\naudio/0.wav,sad\n", r"songs\.csv: no column 'label'; columns found: path, mood$"),
        ("audio/0.wav,sad\naudio/1.wav,sad\n", r"no column 'path'; columns found: audio/0\.wav, sad$"),
        ("", r"songs\.csv: no column 'path'; columns found: none"),
        ("path,label\n", "no labelled song with audio found"),
        ("path,label\nx.wav,a\ny.wav,b\n", r"row 2 gives a label to a missing file.*x\.wav \(and 1 more like it\)"),
        ("path,label\naudio/0.wav,a\nx.wav,b\n", r"row 3 gives a label to a missing file.*x\.wav$"),
        ('path,label\naudio/0.wav,"a\naudio/1.wav,b\n', r"songs\.csv: line 3: a quote is out of place or left open"),
    ],
)
def test_csv_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        load_corpus(f"csv:{make_csv(tmp_path, text.encode())}")


def test_csv_given_a_folder_says_what_to_give(tmp_path: Path) -> None:
    make_csv(tmp_path)
    with pytest.raises(CorpusError, match=r"is a folder; the csv corpus is one table, such as csv:.*songs\.csv"):
        load_corpus(f"csv:{tmp_path}")


def test_a_table_of_bytes_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="line 1 holds a null character: it is not a text table"):
        load_corpus(f"csv:{put(tmp_path / 'song.wav')}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "no column 'path'; columns found: none"),
        (b"\n" * 1_000_000, "no column 'path'; columns found: none"),
        (b"path,label\na.wav,b\0c\n", "line 2 holds a null character"),
        (b"path,label\n" + b"x" * 200_000 + b",a\n", "line 2: a cell has more than 131072 characters"),
        (b'path,label\n"a.wav,b\n' + b"c,d\n" * 60_000, "a cell has more than 131072 characters; perhaps a quote"),
        (b"path,label,Artist,artist\n", "two columns 'artist'; columns found: path, label, artist, artist"),
        (b"path,label,split,split\n", "two columns 'split'"),
        (b"path,path,label\n", "two columns 'path'"),
        (b"x," * 20_000 + b"\n", "no column 'path'; columns found: x, x, "),
        (b"path,label\na.wav," + b"l" * 6000 + b"\n", "row 2 has a cell of 6000 characters, at most 5000 are read"),
        (b"\xff\xfep\xd8", "no column 'path'"),
    ],
    ids=lambda value: value[:20].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_hostile_tables_are_one_short_line(tmp_path: Path, text: bytes, message: str) -> None:
    table = put(tmp_path / "songs.csv", text)
    with pytest.raises(CorpusError) as caught:
        load_corpus(f"csv:{table}")
    reported = str(caught.value)
    assert reported.startswith(f"{table}: ")
    assert message in reported
    assert "\n" not in reported
    assert len(reported) < len(str(table)) + 500


def test_a_million_empty_lines_are_none(tmp_path: Path) -> None:
    lines = b"\n".join(f"audio/{i}.wav,{'ab'[i % 2]}".encode() for i in range(8))
    table = make_csv(tmp_path, b"path,label\n" + b"\n" * 500_000 + lines + b"\n" * 500_000)
    assert len(load_corpus(f"csv:{table}").songs) == 8


def test_a_table_that_is_too_large_or_no_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emoseg.corpora.tables._MOST_BYTES", 20)
    table = make_csv(tmp_path)
    with pytest.raises(CorpusError, match=r"songs\.csv: has 0 MB; tables of at most 0 MB are read"):
        load_corpus(f"csv:{table}")
    table.unlink()
    os.mkfifo(table)
    with pytest.raises(CorpusError, match=r"songs\.csv: is not a regular file"):
        load_corpus(f"csv:{table}")


def test_paths_of_all_kinds_in_a_table(tmp_path: Path) -> None:
    """Some lead out of the table's folder, which is allowed; some are no recordings; each is reported."""
    outside = put(tmp_path / "outside" / "o.wav")
    here = tmp_path / "here"
    os.mkfifo(tmp_path / "pipe.wav")
    put(here / "\x1b[31mred.wav")
    put(here / "=1+1.wav")
    lines = [
        f"{outside},a",
        "../outside/o.wav,b",
        "../pipe.wav,a",
        "../outside,a",
        f"{'n' * 300}.wav,a",
        "\x1b[31mred.wav,b",
        "=1+1.wav,=HYPERLINK(1)",
    ]
    table = put(here / "songs.csv", "\n".join(["path,label", *lines]).encode())
    corpus = load_corpus(f"csv:{table}")
    assert {song.path.resolve() for song in corpus.songs} >= {outside.resolve(), here / "=1+1.wav"}
    assert "=HYPERLINK(1)" in corpus.space.labels
    errors = messages(corpus, "error")
    what = "gives a label to something that is not a recording"
    assert f"{table}: row 4 {what}: {here}/../pipe.wav: is not a regular file" in errors
    assert f"{table}: row 5 {what}: {here}/../outside: is a folder, not a file" in errors
    assert f"{table}: row 6 gives a label to a missing file: {here / ('n' * 300)}.wav" in errors
    reported = f"{table}: row 7: the path has unprintable characters: '\\x1b[31mred.wav'"
    assert reported in messages(corpus, "warning")
    assert len(errors) == 4, "and one for the file that two rows name"


def test_a_user_that_is_not_there_is_one_line() -> None:
    with pytest.raises(CorpusError, match="~nobody-of-that-name/x: "):
        load_corpus("folder:~nobody-of-that-name/x")
    with pytest.raises(CorpusError, match="does not exist"):
        load_corpus(f"folder:/{'x' * 5000}")


def test_a_link_to_nowhere_is_reported_by_reading_it(tmp_path: Path) -> None:
    root = make_folder(tmp_path)
    (root / "happy" / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    report = check_corpus(load_corpus(f"folder:{root}"), cache=tmp_path / "cache", workers=1, quiet=True)
    assert report.unreadable == ("happy/gone.wav",)
    assert f"{root / 'happy' / 'gone.wav'}: no such file" in messages(report.corpus, "error") + [
        p.message for p in report.problems
    ]


def test_read_table_numbers_rows_by_the_line_they_end_on(tmp_path: Path) -> None:
    table = put(tmp_path / "t.csv", b'A,b\n1,"two\nlines"\n3,4,,\n')
    assert read_table(table, columns=["a"]) == {3: {"a": "1", "b": "two\nlines"}, 4: {"a": "3", "b": "4"}}


# --- synth -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end"), [("nan", "3"), ("0", "inf"), ("0", "1e300"), ("3", "3"), ("4", "3"), ("-1", "3")]
)
def test_a_section_of_no_time_is_refused(tmp_path: Path, start: str, end: str) -> None:
    root = make_synth(tmp_path)
    rows = (root / "truth.csv").read_text().splitlines()
    rows[1] = f"audio/synth_0001.flac,{start},{end},Q1"
    (root / "truth.csv").write_text("\n".join(rows))
    with pytest.raises(CorpusError, match=r"truth\.csv: row 2: (a time is not a number|.* is not a section of a song)"):
        load_corpus(f"synth:{root}")


@pytest.fixture
def synth(tmp_path: Path) -> Path:
    """The layout of a synthesised corpus, without its sound."""
    songs = [(f"audio/{i}.wav", f"Q{i % 4 + 1}") for i in range(8)]
    for path, _ in songs:
        put(tmp_path / path)
    put(tmp_path / "songs.csv", ("path,label,artist\n" + "".join(f"{p},{q},a{p}\n" for p, q in songs)).encode())
    truth = "path,start_s,end_s,label\n" + "".join(f"{p},0,0.5,{q}\n{p},0.5,2,Q3\n" for p, q in songs)
    put(tmp_path / "truth.csv", truth.encode())
    return tmp_path


def test_synth_knows_every_section(synth: Path) -> None:
    corpus = load_corpus(f"synth:{synth}")
    assert corpus.space is QUADRANTS
    assert corpus.songs[1].sections == (Section(0.0, 0.5, "Q2"), Section(0.5, 2.0, "Q3"))


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        ("truth.csv", "audio/0.wav,0,0.5", "audio/0.wav,0,half", r"truth\.csv: row 2: a time is not a number.*half"),
        ("truth.csv", "0,0.5,Q1", "0,0.5,Q9", r"truth\.csv: has the label 'Q9', not one of Q1 to Q4"),
        ("songs.csv", "audio/0.wav,Q1", "audio/0.wav,sad", r"songs\.csv: has the label 'sad', not one of Q1 to Q4"),
    ],
)
def test_synth_altered_by_hand(synth: Path, table: str, old: str, new: str, message: str) -> None:
    file = synth / table
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(CorpusError, match=message):
        load_corpus(f"synth:{synth}")


def test_synth_song_without_truth_is_an_error(synth: Path) -> None:
    truth = synth / "truth.csv"
    truth.write_text(
        "".join(line for line in truth.read_text().splitlines(keepends=True) if not line.startswith("audio/3.wav"))
    )
    with pytest.raises(CorpusError, match=r"truth\.csv: has no section for audio/3\.wav"):
        load_corpus(f"synth:{synth}").require_usable()


@pytest.mark.parametrize("missing", ["songs.csv", "truth.csv"])
def test_synth_needs_both_tables(synth: Path, missing: str) -> None:
    (synth / missing).unlink()
    with pytest.raises(CorpusError, match=r"is not a synthesised corpus: songs\.csv and truth\.csv are needed"):
        load_corpus(f"synth:{synth}")


# --- segments of a corpus --------------------------------------------------------------------------------------------

SETTINGS = TrainConfig(
    segment=SegmentConfig(sample_rate_hz=8000, length_s=1.0, hop_s=1.0, min_duration_s=0.5),
    frontends=(LogMelConfig(bands=8, fft=512, hop=256, fmax_hz=4000),),
)


def make_musical(synth: Path) -> None:
    """Replace the noise of the songs, which would be left out of the segments."""
    for file in sorted((synth / "audio").iterdir()):
        put(file, music(2.0, seed=int(file.stem)))


def test_segments_carry_the_song_label_and_the_true_one(synth: Path, tmp_path: Path) -> None:
    make_musical(synth)
    corpus = load_corpus(f"synth:{synth}")
    cut = load_segments(corpus, SETTINGS, cache=tmp_path / "cache", workers=1, quiet=True)
    assert cut.song.tolist() == np.repeat(np.arange(8), 2).tolist()
    assert cut.inherited.tolist() == np.repeat([0, 1, 2, 3] * 2, 2).tolist()
    assert cut.true is not None
    # The first second is half one label, half Q3: the earlier label wins a tie. The second is Q3.
    assert cut.true.tolist() == [label for song in range(8) for label in (min(song % 4, 2), 2)]
    assert cut.groups("none") == [song.id for song in cut.songs]
    assert cut.groups() == [f"artist:{song.artist}" for song in cut.songs]
    assert cut.left_out == ()


def test_segments_leave_out_what_cannot_be_read_with_a_line(synth: Path, tmp_path: Path) -> None:
    make_musical(synth)
    put(synth / "audio" / "2.wav", b"no sound")
    put(synth / "audio" / "3.wav", wav(0.2))
    cut = load_segments(load_corpus(f"synth:{synth}"), SETTINGS, cache=tmp_path / "cache", workers=1, quiet=True)
    assert [song.id for song in cut.songs] == [f"audio/{i}.wav" for i in (0, 1, 4, 5, 6, 7)]
    assert cut.song_labels.tolist() == [0, 1, 0, 1, 2, 3]
    assert "2.wav: cannot be decoded" in cut.left_out[0]
    assert "3.wav: lasts 0.2 s" in cut.left_out[1]


def test_segments_need_every_label(synth: Path, tmp_path: Path) -> None:
    make_musical(synth)
    for i in (3, 7):
        put(synth / "audio" / f"{i}.wav", wav(level=0.0))
    with pytest.raises(CorpusError, match="no song with the label 'Q4' has usable audio"):
        load_segments(load_corpus(f"synth:{synth}"), SETTINGS, cache=tmp_path / "cache", workers=1, quiet=True)


def test_segments_refuse_a_corpus_with_errors(tmp_path: Path) -> None:
    table = make_csv(tmp_path, b"path,label\naudio/0.wav,a\naudio/1.wav,b\nabsent.wav,b\n")
    with pytest.raises(CorpusError, match=r"row 4 gives a label to a missing file: .*absent\.wav"):
        load_segments(load_corpus(f"csv:{table}"), SETTINGS, cache=tmp_path / "cache", workers=1, quiet=True)


# --- corpus check ----------------------------------------------------------------------------------------------------


def test_check_measures_and_counts(synth: Path) -> None:
    report = check_corpus(load_corpus(f"synth:{synth}"), cache=synth / "cache", workers=1, quiet=True)
    assert report.errors == 0
    assert report.duration_s == pytest.approx(16.0, abs=0.01)
    assert (report.artists, report.shared) == (8, 0)
    lines = "\n".join(report.lines())
    assert "songs     8 (Q1 2, Q2 2, Q3 2, Q4 2), 0.3 minutes" in lines
    assert lines.endswith("  0 errors, 0 warnings")


def test_check_reports_each_bad_recording(tmp_path: Path) -> None:
    make_fourq(tmp_path)
    (bad, q_bad, _), (silent, q_silent, _) = FOURQ[1], FOURQ[6]
    put(tmp_path / q_bad / f"{bad}.mp3", b"ID3 but no sound")
    put(tmp_path / q_silent / f"{silent}.mp3", wav(level=0.0))
    report = check_corpus(load_corpus(f"4q:{tmp_path}"), cache=tmp_path / "cache", workers=1, quiet=True)
    assert report.errors == 2
    assert report.duration_s == pytest.approx(28.0, abs=0.01)
    assert report.artists == 8
    assert report.shared == 16
    text = report.lines()
    assert text[1] == "  songs     16 (Q1 4 of 225, Q2 4 of 225, Q3 4 of 225, Q4 4 of 225), 0.5 minutes"
    assert any(f"{bad}.mp3: cannot be decoded" in line and line.startswith("  error") for line in text)
    assert any(f"{silent}.mp3: is silent" in line for line in text)
    assert text[-1] == "  2 errors, 15 warnings"  # songs that are missing, and 14 clips of less than 30 s
    data = json.loads(json.dumps(report.to_json()))
    assert data["schema"] == "emoseg.corpus-check/1"
    assert data["counts"] == {"Q1": 4, "Q2": 4, "Q3": 4, "Q4": 4}
    assert data["errors"] == 2
    assert data["songs_sharing_an_artist"] == 16
    assert [p["severity"] for p in data["problems"]].count("error") == 2


def test_check_by_two_processes_says_the_same(tmp_path: Path) -> None:
    for i in range(22):
        put(tmp_path / ("happy", "sad")[i % 2] / f"{i:02d}.wav", None if i % 7 else b"nothing")
    corpus = load_corpus(f"folder:{tmp_path}")
    one, two = (check_corpus(corpus, cache=tmp_path / f"c{n}", workers=n, quiet=True) for n in (1, 2))
    assert one == two
    assert len(one.unreadable) == 4


def test_labels_that_differ_in_capitals_only_are_reported(tmp_path: Path) -> None:
    text = (make_csv(tmp_path)).read_bytes().replace(b"1.wav,sad", b"1.wav,Sad")
    corpus = load_corpus(f"csv:{put(tmp_path / 'songs.csv', text)}").require_usable()
    assert corpus.counts() == {"Sad": 1, "happy": 4, "sad": 3}
    message = f"{tmp_path / 'songs.csv'}: the labels 'Sad' and 'sad' differ in capitals only and are two labels"
    assert messages(corpus, "warning") == [message]


def test_a_table_of_ones_own_is_named_itself(tmp_path: Path) -> None:
    table = make_csv(tmp_path)
    table.write_bytes(table.read_bytes().replace(b"happy", b"sad"))
    with pytest.raises(CorpusError, match=rf"{table.name}: all 8 songs have the label 'sad'"):
        load_corpus(f"csv:{table}")
