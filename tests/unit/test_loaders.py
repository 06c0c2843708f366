"""Published layouts, quirk by quirk, and how loaders treat damaged tables: every problem is reported."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from layouts import (
    BUILDERS,
    EMOPIA,
    SONGS,
    make_csv,
    make_deam,
    make_emomusic,
    make_emopia,
    make_folder,
    make_moodtheme,
    make_pmemo,
    make_vgmidi,
    put,
)

from emoseg.corpora import Corpus, CorpusOptions, load_corpus
from emoseg.corpora.base import Song
from emoseg.corpora.splits import official_split
from emoseg.corpora.tables import number
from emoseg.errors import ConfigError, CorpusError


def reported(corpus: Corpus, *parts: str) -> str:
    """Return the severity of the one problem that holds all parts."""
    found = [p.severity for p in corpus.problems if all(part in p.message for part in parts)]
    assert len(found) == 1, corpus.problems
    return found[0]


def labels(corpus: Corpus) -> dict[str, str]:
    return {song.id: song.label for song in corpus.songs}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_bytes().decode()
    assert old in text
    path.write_bytes(text.replace(old, new, 1).encode())


def data(*folders: str) -> Path:
    root = os.environ.get("EMOSEG_DATA")
    if not root:
        pytest.skip("EMOSEG_DATA is not set")
    return Path(root, *folders)


# --- each layout -----------------------------------------------------------------------------------------------------


def test_pmemo(tmp_path: Path) -> None:
    corpus = load_corpus(f"pmemo:{make_pmemo(tmp_path)}").require_usable()
    assert labels(corpus) == dict(SONGS)
    song = next(song for song in corpus.songs if song.id == "3")  # Q2: valence .2, arousal .8
    assert song.artist == "artist 0"
    assert song.published_s == 2.0
    assert song.over_time is not None
    assert song.over_time.time_s[:2] == (15.5, 16.0)
    assert song.over_time.valence[0] == pytest.approx(-0.6)
    assert song.over_time.arousal[0] == pytest.approx(0.6)
    assert song.over_time.arousal[-1] == pytest.approx(-0.6)
    # High valence is (.2 - .5) / .2 = -1.5 standard deviations away, high arousal (.8 - .5) / .1 = 3.
    assert song.soft == pytest.approx((0.0667, 0.9319, 0.0013, 0.0001), abs=1e-4)
    assert corpus.published_counts == {"Q1": 505, "Q2": 73, "Q3": 132, "Q4": 57}
    assert reported(corpus, "1 of 17 songs are not rated (99)") == "warning"
    assert "valence from 0.5 up, arousal from 0.5 up (the scale's middle)" in corpus.space.rule


def test_emomusic(tmp_path: Path) -> None:
    corpus = load_corpus(f"emomusic:{make_emomusic(tmp_path)}").require_usable()
    assert labels(corpus) == dict(SONGS)
    song = next(song for song in corpus.songs if song.id == "2")
    assert (song.artist, song.split) == ("Artist 0", "development")
    assert song.over_time is not None
    assert len(song.over_time.time_s) == 61
    assert song.over_time.time_s[-1] == 45.0
    train, test = official_split(corpus.songs, test="evaluation")
    assert (len(train), len(test)) == (12, 4)


def test_deam(tmp_path: Path) -> None:
    corpus = load_corpus(f"deam:{make_deam(tmp_path)}").require_usable()
    assert [song.split for song in corpus.songs].count("evaluation") == 4
    by_id = {song.id: song for song in corpus.songs}
    assert labels(corpus) == {song.id: f"Q{i % 4 + 1}" for i, song in enumerate(sorted(corpus.songs, key=deam_number))}
    assert by_id["2004"].soft == pytest.approx(by_id["5"].soft)
    assert (by_id["2"].artist, by_id["10"].artist, by_id["2001"].artist) == ("artist 0", "artist 10", None)
    one, two = by_id["2"].over_time, by_id["3"].over_time
    assert one is not None
    assert two is not None
    assert (one.time_s, two.time_s) == ((15.0, 15.5), (15.0,))
    # The titles of the last table hold commas without quotes: no artist is guessed from such rows.
    assert sum("metadata_2015.csv: row" in p.message and p.severity == "warning" for p in corpus.problems) == 4


def deam_number(song: Song) -> int:
    return int(song.id)


@pytest.mark.parametrize("name", ["1_2000", "2000_2058"])
def test_deam_with_one_of_its_two_tables(tmp_path: Path, name: str) -> None:
    [table] = make_deam(tmp_path).glob(f"annotations/*/song_level/*_songs_{name}.csv")
    table.unlink()
    corpus = load_corpus(f"deam:{tmp_path}")
    assert (
        reported(corpus, "song_level: 1 of the two tables static_annotations_averaged_songs_*.csv exist") == "warning"
    )
    assert len(corpus.songs) == {"1_2000": 4, "2000_2058": 12}[name]
    assert len(corpus.unannotated) == 16 - len(corpus.songs)


def test_emopia(tmp_path: Path) -> None:
    corpus = load_corpus(f"emopia:{make_emopia(tmp_path)}").require_usable()
    assert labels(corpus) == {name: name[:2] for name in EMOPIA}
    assert len({song.group for song in corpus.songs}) == 8
    assert {song.work for song in corpus.songs} == {f"video{i}-_{i}" for i in range(8)}
    assert [song.split for song in corpus.songs].count("test") == 6


def test_emopia_labels_of_the_song_know_which_clips_are_wrong(tmp_path: Path) -> None:
    corpus = load_corpus(f"emopia:{make_emopia(tmp_path)}", CorpusOptions(labels="song"))
    by_id = {song.id: song for song in corpus.songs}
    odd = by_id["Q1_video2-_2_0"]
    assert odd.label == "Q3"
    assert [section.label for section in odd.sections] == ["Q1"]
    assert odd.soft == pytest.approx((1 / 3, 0, 2 / 3, 0))
    assert corpus.published_counts == {}


def test_emopia_without_audio_still_has_its_labels(tmp_path: Path) -> None:
    for name in EMOPIA:
        put(tmp_path / "midis" / f"{name}.mid")
    corpus = load_corpus(f"emopia:{tmp_path}")
    assert len(corpus.without_audio) == len(EMOPIA)
    assert reported(corpus, "no labelled song with audio found") == "error"
    assert reported(corpus, "no train.csv, val.csv, test.csv: official parts are not all known") == "warning"


def test_audio_may_lie_elsewhere(tmp_path: Path) -> None:
    make_vgmidi(tmp_path / "data")
    (tmp_path / "data" / "audio").rename(tmp_path / "rendered")
    assert not load_corpus(f"vgmidi:{tmp_path / 'data'}").songs
    corpus = load_corpus(f"vgmidi:{tmp_path / 'data'}", CorpusOptions(audio=tmp_path / "rendered")).require_usable()
    assert len(corpus.songs) == 8
    with pytest.raises(ConfigError, match="nowhere: is not a folder"):
        CorpusOptions(audio=tmp_path / "nowhere")


def test_vgmidi(tmp_path: Path) -> None:
    corpus = load_corpus(f"vgmidi:{make_vgmidi(tmp_path)}").require_usable()
    assert labels(corpus) == {f"Game_{i}": f"Q{i % 4 + 1}" for i in range(8)}
    song = corpus.songs[0]
    assert song.over_time is not None
    assert song.over_time.hold_s == 2.0
    assert song.over_time.valence == pytest.approx((*[0.6] * 6, *[-0.6] * 2))
    assert song.soft == (1.0, 0.0, 0.0, 0.0)  # the means of all three listeners lie in Q1


def test_vgmidi_tells_listeners_it_cannot_use(tmp_path: Path) -> None:
    table = make_vgmidi(tmp_path) / "labelled" / "annotations" / "vgmidi_raw_1.json"
    found = json.loads(table.read_text())
    found["annotations"]["piece0_0"]["valence"].pop()
    found["annotations"]["piece1_1"]["arousal"][3] = 7
    found["annotations"]["piece77_0"] = found["annotations"]["piece2_0"]
    del found["pieces"]["piece3"]["midi"]
    table.write_text(json.dumps(found))
    corpus = load_corpus(f"vgmidi:{tmp_path}")
    assert reported(corpus, "piece0_0: 7 and 8 values for 8 measures; this listener is left out") == "error"
    assert reported(corpus, "piece1_1: a value lies outside the scale") == "error"
    assert reported(corpus, "1 annotations are about pieces that it does not list (piece77)") == "warning"
    assert reported(corpus, "piece3: 'midi'; it is left out") == "error"
    assert len(corpus.songs) == 7


def test_moodtheme_quadrants(tmp_path: Path) -> None:
    corpus = load_corpus(f"mtg-moodtheme:{make_moodtheme(tmp_path)}").require_usable()
    assert [song.label for song in corpus.songs] == ["Q1", "Q2", "Q3", "Q4"] * 3
    assert [song.split for song in corpus.songs] == ["train"] * 4 + ["validation"] * 4 + ["test"] * 4
    assert corpus.songs[3].artist == "artist_1"


def test_moodtheme_leaves_out_what_has_no_quadrant_and_counts_it(tmp_path: Path) -> None:
    folder = make_moodtheme(tmp_path) / "data" / "splits" / "split-0"
    edit(folder / "autotagging_moodtheme-train.tsv", "mood/theme---happy", "mood/theme---happy\tmood/theme---sad")
    edit(folder / "autotagging_moodtheme-train.tsv", "mood/theme---dark", "mood/theme---corporate")
    edit(folder / "autotagging_moodtheme-test.tsv", "---sad", "---sad\tmood/theme---dark\tmood/theme---melancholic")
    corpus = load_corpus(f"mtg-moodtheme:{tmp_path}")
    reason = "no mood of a quadrant, or as many of two quadrants"
    assert corpus.excluded == {reason: ("track_0000000", "track_0000001")}
    assert reported(corpus, f"2 of 12 tracks are left out: {reason} (track_0000000, track_0000001)") == "warning"
    assert corpus.songs[8].soft == pytest.approx((0, 1 / 3, 2 / 3, 0))
    assert corpus.unannotated == ()


def test_moodtheme_one_mood_against_the_rest(tmp_path: Path) -> None:
    root = make_moodtheme(tmp_path)
    corpus = load_corpus(f"mtg-moodtheme:{root}", CorpusOptions(space="mood:sad")).require_usable()
    assert corpus.counts() == {"not sad": 9, "sad": 3}
    with pytest.raises(
        ConfigError, match=r"'mood:angry': no track has the mood; moods are calm, dark, film, happy, sad"
    ):
        load_corpus(f"mtg-moodtheme:{root}", CorpusOptions(space="mood:angry"))


def test_moodtheme_a_mapping_of_ones_own(tmp_path: Path) -> None:
    root = make_moodtheme(tmp_path)
    table = put(tmp_path / "mine.csv", b"label;mood\nbright;happy\nbright;calm\ngloomy;sad\n")
    corpus = load_corpus(f"mtg-moodtheme:{root}", CorpusOptions(space=f"moods:{table}")).require_usable()
    assert corpus.counts() == {"bright": 6, "gloomy": 3}
    put(table, b"mood,label\nangry,x\nsad,y\n")
    with pytest.raises(CorpusError, match=r"mine\.csv: row 2: no track has the mood 'angry'"):
        load_corpus(f"mtg-moodtheme:{root}", CorpusOptions(space=f"moods:{table}"))


# --- choices ---------------------------------------------------------------------------------------------------------


def test_one_axis_alone(tmp_path: Path) -> None:
    corpus = load_corpus(f"emomusic:{make_emomusic(tmp_path)}", CorpusOptions(space="arousal"))
    assert corpus.counts() == {"low arousal": 8, "high arousal": 8}
    assert corpus.space.rule == "rated 1 to 9; high is arousal from 5 up (the scale's middle)"
    song = next(song for song in corpus.songs if song.id == "2")  # arousal 7.4, standard deviation .8: 3 above
    assert song.soft == pytest.approx((0.00135, 0.99865), abs=1e-5)


def test_quadrants_as_one_axis(tmp_path: Path) -> None:
    corpus = load_corpus(f"emopia:{make_emopia(tmp_path)}", CorpusOptions(space="valence"))
    assert corpus.counts() == {"low valence": 8, "high valence": 16}
    assert corpus.space.rule == "from quadrants; high valence is Q1 and Q4"


def test_a_value_at_the_threshold_is_high(tmp_path: Path) -> None:
    root = make_emomusic(tmp_path)
    table = root / "annotations" / "static_annotations.csv"
    text = "song_id,mean_arousal,std_arousal,mean_valence,std_valence\n"
    put(table, (text + "2,5,1,5,1\n3,4.8,1,4.8,1\n4,4.79,1,4.81,1\n5,6,1,6,1\n").encode())
    assert labels(load_corpus(f"emomusic:{root}")) == {"2": "Q1", "3": "Q3", "4": "Q3", "5": "Q1"}
    given = load_corpus(f"emomusic:{root}", CorpusOptions(threshold="4.8"))
    assert labels(given) == {"2": "Q1", "3": "Q1", "4": "Q4", "5": "Q1"}
    both = load_corpus(f"emomusic:{root}", CorpusOptions(threshold="4.8/5,5"))  # a decimal comma is a number too
    assert labels(both) == {"2": "Q4", "3": "Q4", "4": "Q4", "5": "Q1"}
    assert "valence from 4.8 up, arousal from 5.5 up (as given)" in both.space.rule


def test_the_mean_is_of_all_annotated_songs(tmp_path: Path) -> None:
    root = make_emomusic(tmp_path)
    table = root / "annotations" / "static_annotations.csv"
    lines = "2,2,1,2,1\n3,3,1,3,1\n4,4,1,4,1\n1000,3.4,1,5,1\n"  # means: arousal 3.1, valence 3.5; 1000 has no audio
    put(table, f"song_id,mean_arousal,std_arousal,mean_valence,std_valence\n{lines}".encode())
    corpus = load_corpus(f"emomusic:{root}", CorpusOptions(threshold="mean"))
    assert labels(corpus) == {"2": "Q3", "3": "Q3", "4": "Q1"}
    assert "valence from 3.5 up, arousal from 3.1 up (the mean of 4 songs)" in corpus.space.rule


def test_songs_near_an_axis_are_left_out_and_named(tmp_path: Path) -> None:
    root = make_emomusic(tmp_path)
    table = root / "annotations" / "static_annotations.csv"
    text = "song_id,mean_arousal,std_arousal,mean_valence,std_valence\n"
    put(table, (text + "2,7,1,5.3,1\n3,7,1,5.5,1\n4,3,1,3,1\n5,4.7,1,8,1\n").encode())
    corpus = load_corpus(f"emomusic:{root}", CorpusOptions(margin=0.1))  # .1 of half the scale is .4
    assert labels(corpus) == {"3": "Q1", "4": "Q3"}
    assert corpus.excluded["within 0.1 of an axis"] == ("2", "5")
    assert reported(corpus, "2 of 4 songs are rated within 0.1 of an axis and are left out (2, 5)") == "warning"
    alone = load_corpus(f"emomusic:{root}", CorpusOptions(margin=0.1, space="valence"))
    assert labels(alone) == {"3": "high valence", "4": "low valence", "5": "high valence"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"space": "mood"}, "space 'mood': must be one of 4q, valence, arousal"),
        ({"threshold": "12"}, "threshold 12 lies outside the scale from 1 to 9"),
        ({"threshold": "low"}, "threshold 'low': must be middle, mean, a value, or VALENCE/AROUSAL"),
        ({"threshold": "1/2/3"}, "threshold '1/2/3': must be"),
        ({"margin": 1.5}, "margin 1.5: must be from 0 to below 1"),
        ({"margin": float("nan")}, "margin nan: must be"),
        ({"labels": "song"}, "labels: does not apply to the corpus 'emomusic'"),
    ],
)
def test_choices_that_mean_nothing(tmp_path: Path, options: dict[str, object], message: str) -> None:
    root = make_emomusic(tmp_path)
    with pytest.raises(ConfigError, match=message):
        load_corpus(f"emomusic:{root}", CorpusOptions(**options))  # type: ignore[arg-type]


def test_a_folder_has_labels_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="space: does not apply to the corpus 'folder'"):
        load_corpus(f"folder:{make_folder(tmp_path)}", CorpusOptions(space="valence"))


def test_an_official_part(tmp_path: Path) -> None:
    root = make_emomusic(tmp_path)
    corpus = load_corpus(f"emomusic:{root}", CorpusOptions(split="evaluation"))
    assert [song.id for song in corpus.songs] == ["14", "15", "16", "17"]
    assert reported(corpus, "12 of 16 songs are not in evaluation and are left out") == "warning"
    assert len(load_corpus(f"emomusic:{root}", CorpusOptions(split="development+evaluation")).songs) == 16
    with pytest.raises(CorpusError, match="no part 'test'; its parts are development, evaluation"):
        load_corpus(f"emomusic:{root}", CorpusOptions(split="test"))
    with pytest.raises(CorpusError, match="no part 'test'; it has no official parts"):
        load_corpus(f"csv:{make_csv(tmp_path / 'mine')}", CorpusOptions(split="test"))


def test_parts_that_share_artists_are_reported(tmp_path: Path) -> None:
    corpus = load_corpus(f"emomusic:{make_emomusic(tmp_path)}")  # artists 0 to 5, three songs each; 12 to 15 is a part
    assert not [p for p in corpus.problems if "share an artist" in p.message]
    edit(tmp_path / "annotations" / "songs_info.csv", "Artist 5", "Artist 0")
    corpus = load_corpus(f"emomusic:{tmp_path}")
    assert reported(corpus, "1 of 4 songs of the official part 'evaluation' share an artist") == "warning"


@pytest.mark.parametrize("name", ["4q", "pmemo", "emomusic", "vgmidi", "deam", "mtg-moodtheme"])
def test_the_wrong_level_of_a_folder_is_reported_with_the_right_one(name: str, tmp_path: Path) -> None:
    root = tmp_path / "sets" / "one"
    BUILDERS[name](root)
    inside = next(path for path in sorted(root.iterdir()) if path.is_dir())
    for wrong in (root.parent, inside):
        with pytest.raises(CorpusError, match=rf"is not the {name} folder: no .* in it; try {name}:{root}$"):
            load_corpus(f"{name}:{wrong}")


# --- damaged tables --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_tables_may_come_from_a_spreadsheet(tmp_path: Path, encoding: str, delimiter: str) -> None:
    """Other encodings and delimiters, Windows line ends, decimal commas, columns in another order."""
    want = load_corpus(f"pmemo:{make_pmemo(tmp_path)}")
    for table in [*tmp_path.glob("annotations/*.csv"), tmp_path / "metadata.csv"]:
        lines = [line.split(",") for line in table.read_text().replace("artist 0", "Björk").splitlines()]
        text = "\r\n".join(delimiter.join(reversed(cells)).replace(".", ",") for cells in lines)
        table.write_bytes(text.replace("mp3,", "mp3.").encode(encoding))
    corpus = load_corpus(f"pmemo:{tmp_path}").require_usable()
    assert labels(corpus) == labels(want)
    assert [s.over_time for s in corpus.songs] == [s.over_time for s in want.songs]
    assert [s.soft for s in corpus.songs] == [s.soft for s in want.songs]
    assert corpus.songs[0].artist == "artist 4"
    assert next(s for s in corpus.songs if s.id == "2").artist == "Björk"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2,0.8,0.8", "2,0,8,0,8", "row 2 has 5 cells for 3 columns and is left out"),
        ("2,0.8,0.8", "2,high,0.8", "row 2, song 2: Arousal(mean): 'high' is not a number; the row is left out"),
        ("2,0.8,0.8", "2,,0.8", "row 2, song 2: Arousal(mean): '' is not a number; the row is left out"),
        ("2,0.8,0.8", "2,8,0.8", "row 2, song 2: Arousal(mean): 8 lies outside the scale from 0 to 1"),
        ("2,0.8,0.8", "2,nan,0.8", "'nan' is not a number"),
        ("2,0.8,0.8", "3,0.8,0.8", "3 is annotated more than once"),
    ],
)
def test_a_rating_that_is_none_is_an_error_and_the_rest_goes_on(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    edit(make_pmemo(tmp_path) / "annotations" / "static_annotations.csv", old, new)
    corpus = load_corpus(f"pmemo:{tmp_path}")
    assert reported(corpus, message) == "error"
    assert len(corpus.songs) == 15
    assert reported(corpus, "2.mp3: has no annotation and is left out") == "warning"
    with pytest.raises(CorpusError, match=r"static_annotations\.csv|annotated more than once"):
        corpus.require_usable()


@pytest.mark.parametrize("table", ["dynamic_annotations.csv", "static_annotations_std.csv"])
def test_a_table_that_is_not_needed_may_be_away(tmp_path: Path, table: str) -> None:
    (make_pmemo(tmp_path) / "annotations" / table).unlink()
    corpus = load_corpus(f"pmemo:{tmp_path}").require_usable()
    assert len(corpus.songs) == 16
    assert reported(corpus, f"{table}: is not there") == "warning"


def test_a_moment_that_is_no_number_is_reported(tmp_path: Path) -> None:
    edit(make_pmemo(tmp_path) / "annotations" / "dynamic_annotations.csv", "2,16.0,0.8,0.8", "2,16.0,0.8,x")
    corpus = load_corpus(f"pmemo:{tmp_path}")
    assert reported(corpus, "row 3, song 2: Valence(mean): 'x' is not a number") == "error"
    edit(make_emomusic(tmp_path / "e") / "annotations" / "valence_cont_average.csv", "2,0.6,0.6", "2,0.6,1.6")
    corpus = load_corpus(f"emomusic:{tmp_path / 'e'}")
    assert reported(corpus, "song 2: sample_15500ms: 1.6 lies outside the scale from -1 to 1") == "error"


def test_ratings_over_time_that_contradict_or_belong_to_no_song(tmp_path: Path) -> None:
    want = load_corpus(f"pmemo:{make_pmemo(tmp_path)}")
    table = tmp_path / "annotations" / "dynamic_annotations.csv"
    text = table.read_text()
    table.write_text(f"{text}2,15.5,0.8,0.8\n88,15.5,0.8,0.8\n")  # a copy of a row says nothing new
    corpus = load_corpus(f"pmemo:{tmp_path}").require_usable()
    assert [s.over_time for s in corpus.songs] == [s.over_time for s in want.songs]
    assert reported(corpus, "songs rated over time but not as a whole, which are not used: 1 (88)") == "warning"
    table.write_text(f"{text}2,15.5,0.3,0.8\n")
    corpus = load_corpus(f"pmemo:{tmp_path}")
    end = len(text.splitlines()) + 1
    assert reported(corpus, f"row {end}, song 2: has another rating at 15.5 s before; the row is left out") == "error"
    assert [s.over_time for s in corpus.songs] == [s.over_time for s in want.songs]


@pytest.mark.parametrize("make", [make_emomusic, make_deam])
def test_songs_that_one_table_has_and_another_has_not(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    make(tmp_path)
    [valence] = tmp_path.rglob("valence*.csv")
    [arousal] = tmp_path.rglob("arousal*.csv")
    edit(valence, "\n3,", "\n30003,")
    corpus = load_corpus(f"{corpus_name(make)}:{tmp_path}").require_usable()
    lone = "songs rated on one axis only, whose ratings over time are not used: 2 (3, 30003)"
    assert reported(corpus, f"{valence}: {lone}") == "warning"
    edit(arousal, "\n3,", "\n30003,")
    corpus = load_corpus(f"{corpus_name(make)}:{tmp_path}").require_usable()
    assert reported(corpus, f"{valence}: songs rated over time but not as a whole", "1 (30003)") == "warning"


def corpus_name(make: Callable[[Path], Path]) -> str:
    return next(name for name, builder in BUILDERS.items() if builder is make)


def test_a_song_without_label_and_a_label_without_song(tmp_path: Path) -> None:
    root = make_emopia(tmp_path)
    (root / f"{EMOPIA[0]}.flac").unlink()
    put(root / "Q1_other_0.flac")
    put(root / "notes.flac")
    edit(root / "train.csv", f"{EMOPIA[1]},Q1", f"{EMOPIA[1]},Q4")
    corpus = load_corpus(f"emopia:{root}")
    assert corpus.excluded["no audio"] == (EMOPIA[0],)
    assert reported(corpus, "1 of 25 annotated songs have no audio") == "warning"
    assert reported(corpus, "notes.flac: has no annotation and is left out") == "warning"
    assert reported(corpus, "1 of 25 clips are in no official part (Q1_other_0)") == "warning"
    assert reported(corpus, f"train.csv: {EMOPIA[1]} has the label 'Q4', not Q1") == "error"


def test_many_recordings_without_annotation_are_counted(tmp_path: Path) -> None:
    root = make_pmemo(tmp_path)
    for i in range(20):
        put(root / "chorus" / f"x{i:02d}.mp3")
    corpus = load_corpus(f"pmemo:{root}")
    assert (
        reported(corpus, "20 recordings have no annotation and are left out (x00.mp3, x01.mp3, x02.mp3, ...)")
        == "warning"
    )
    assert len(corpus.unannotated) == 20


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pieces": {}}', '{"pieces": 3, "annotations": 4}'])
def test_vgmidi_json_that_is_another(tmp_path: Path, text: str) -> None:
    table = put(make_vgmidi(tmp_path) / "labelled" / "annotations" / "vgmidi_raw_1.json", text.encode())
    with pytest.raises(CorpusError, match=f"{table.name}: is not VGMIDI's JSON"):
        load_corpus(f"vgmidi:{tmp_path}")


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"pieces": {"a": ' + "9" * 5000 + '}, "annotations": {}}', '{"pieces": [1], "annotations": 2}'],
)
def test_vgmidi_json_made_to_do_harm(tmp_path: Path, text: str) -> None:
    table = put(make_vgmidi(tmp_path) / "labelled" / "annotations" / "vgmidi_raw_1.json", text.encode())
    with pytest.raises(CorpusError, match=f"{table.name}: is not VGMIDI's JSON") as caught:
        load_corpus(f"vgmidi:{tmp_path}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"measures": 1e999}, "piece0_0: cannot convert float infinity to integer"),
        ({"measures": 10**9}, "piece0_0: 8 and 8 values for 1000000000 measures"),
        ({"duration": float("nan")}, "piece0: no listener, measure or duration"),
        ({"duration": 1e999}, "piece0: no listener, measure or duration"),
        ({"duration": 1e300}, "piece0: no listener, measure or duration"),
        ({"midi": None}, "piece0: "),
    ],
)
def test_vgmidi_pieces_of_no_length_are_reported(tmp_path: Path, about: dict[str, object], message: str) -> None:
    table = make_vgmidi(tmp_path) / "labelled" / "annotations" / "vgmidi_raw_1.json"
    content = json.loads(table.read_text())
    content["pieces"]["piece0"] |= about
    table.write_text(json.dumps(content))
    corpus = load_corpus(f"vgmidi:{tmp_path}")
    assert any(p.severity == "error" and f"{table}: {message}" in p.message for p in corpus.problems)
    assert "Game_0" not in labels(corpus)


def test_vgmidi_values_that_no_number_holds_are_reported(tmp_path: Path) -> None:
    table = make_vgmidi(tmp_path) / "labelled" / "annotations" / "vgmidi_raw_1.json"
    content = json.loads(table.read_text())
    content["annotations"]["piece0_0"]["valence"][3] = 10**400
    content["annotations"]["piece0_1"]["valence"][3] = float("nan")
    table.write_text(json.dumps(content))
    corpus = load_corpus(f"vgmidi:{tmp_path}")
    assert reported(corpus, "piece0_0: int too large to convert to float; this listener is left out") == "error"
    assert reported(corpus, "piece0_1: a value lies outside the scale") == "error"
    assert "Game_0" in labels(corpus)


def test_vgmidi_that_is_a_pipe(tmp_path: Path) -> None:
    table = make_vgmidi(tmp_path) / "labelled" / "annotations" / "vgmidi_raw_1.json"
    table.unlink()
    os.mkfifo(table)
    with pytest.raises(CorpusError, match=r"vgmidi_raw_1\.json: is not a regular file"):
        load_corpus(f"vgmidi:{tmp_path}")


def test_moments_beyond_a_day_are_reported(tmp_path: Path) -> None:
    edit(make_pmemo(tmp_path / "p") / "annotations" / "dynamic_annotations.csv", "2,16.0,0.8,0.8", "2,1e300,0.8,0.8")
    corpus = load_corpus(f"pmemo:{tmp_path / 'p'}")
    assert reported(corpus, "song 2: the time 1e+300 s is not from 0 to 86400; the row is left out") == "error"
    root = make_emomusic(tmp_path / "e")
    table = root / "annotations" / "valence_cont_average.csv"
    edit(table, "sample_15500ms", f"sample_{'9' * 400}ms")
    corpus = load_corpus(f"emomusic:{root}")
    assert all(
        "is later than 86400 s; the moment is left out" in p.message for p in corpus.problems if "sample_" in p.message
    )
    assert sum("sample_" in p.message for p in corpus.problems) == 16


@pytest.mark.parametrize("threshold", ["nan", "inf", "-inf", "1e400", "5/nan", "5/4/3", "", "/"])
def test_a_threshold_that_is_no_number(threshold: str) -> None:
    with pytest.raises(ConfigError, match="must be middle, mean, a value, or VALENCE/AROUSAL"):
        CorpusOptions(threshold=threshold)


def test_numbers() -> None:
    assert [number(text) for text in ("1", "-0.5", "0,25", "1e-3")] == [1.0, -0.5, 0.25, 0.001]
    for text in ("", "inf", "nan", "1,2,3", "1.000,5", "one"):
        with pytest.raises(ValueError, match="is not a number"):
            number(text)


# --- the real folders ------------------------------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "folder", "audio", "annotated"),
    [("pmemo", "PMEmo2019", 4, 767), ("emomusic", "emomusic", 10, 744)],
)
def test_real_ratings(name: str, folder: str, audio: int, annotated: int) -> None:
    corpus = load_corpus(f"{name}:{data(folder)}")
    counts = dict.fromkeys(corpus.space.labels, 0)
    for song in (*corpus.songs, *corpus.without_audio):
        counts[song.label] += 1
        assert song.over_time is not None
        assert song.artist
    assert counts == corpus.published_counts
    assert (len(corpus.songs), sum(counts.values())) == (audio, annotated)
    assert not [p for p in corpus.problems if p.severity == "error"]


@pytest.mark.data
def test_real_parts_share_artists() -> None:
    corpus = load_corpus(f"emomusic:{data('emomusic')}")
    assert reported(corpus, "65 of 125 songs of the official part 'evaluation' share an artist") == "warning"


@pytest.mark.data
def test_real_moods() -> None:
    corpus = load_corpus(f"mtg-moodtheme:{data('mtg-jamendo-moodtheme')}")
    tracks = len(corpus.without_audio) + sum(len(v) for k, v in corpus.excluded.items() if k != "no audio")
    assert tracks == 17982
    assert not [p for p in corpus.problems if "share an artist" in p.message]
