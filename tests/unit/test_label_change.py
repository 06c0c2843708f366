"""Wrong inherited labels: counted where they were planted, in the published files, and as truth about segments."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import make_emomusic, make_emopia, make_fourq, make_pmemo, make_vgmidi, music, put

from emoseg.config import (
    LogMelConfig,
    SegmentConfig,
    TrainConfig,
)
from emoseg.corpora import Corpus, CorpusOptions, load_corpus
from emoseg.corpora.base import Song
from emoseg.corpora.problems import Problem
from emoseg.corpora.ratings import Rating, RatingRule, RatingsOverTime, Scale, Thresholds
from emoseg.corpora.segments import load_segments
from emoseg.corpora.truth import segment_truth
from emoseg.emotion import AROUSAL, QUADRANTS, VALENCE
from emoseg.errors import ConfigError, CorpusError, EmosegError
from emoseg.evaluation.figure import write_label_change_figure
from emoseg.evaluation.label_change import Share, measure_label_change
from emoseg.types import Section

SETTINGS = TrainConfig(
    segment=SegmentConfig(sample_rate_hz=8000, length_s=2.0, hop_s=2.0),
    frontends=(LogMelConfig(bands=8, fft=512, hop=256, fmax_hz=4000),),
)


# --- ratings ---------------------------------------------------------------------------------------------------------


def test_a_stretch_has_the_mean_of_what_lies_in_it_weighted_by_time() -> None:
    ratings = RatingsOverTime((10.0, 12.0, 14.0), 2.0, (0.5, -0.1, -1.0), (0.0, 0.4, 1.0))
    found = ratings.over([10.0, 11.0, 0.0, 8.0, 7.9, 15.0], [12.0, 15.0, 5.0, 12.0, 12.0, 17.0])
    # [11, 15): one second of the first, two of the second, one of the third
    assert found.valence[:2] == pytest.approx([0.5, (0.5 - 0.2 - 1.0) / 4])
    assert found.arousal[:2] == pytest.approx([0.0, (0.8 + 1.0) / 4])
    # A stretch is known from half of it on: [8, 12) has two of four seconds, [7.9, 12) less than half.
    assert found.known.tolist() == [True, True, False, True, False, True]


def test_windows_follow_each_other_from_the_first_rating() -> None:
    ratings = RatingsOverTime(tuple(15.5 + 0.5 * i for i in range(21)), 0.5, (0.0,) * 21, (0.0,) * 21)
    starts, ends = ratings.windows(5.0)
    assert starts.tolist() == [15.5, 20.5, 25.5]
    assert ends.tolist() == [20.5, 25.5, 30.5]
    assert ratings.over(starts, ends).known.tolist() == [True, True, False]  # half a second is left for the third


@pytest.mark.parametrize(
    ("space", "labels", "distances"),
    [
        (QUADRANTS, [0, 1, 2, 3, 0], [0.2, 0.1, 0.3, 0.05, 0.0]),
        (VALENCE, [1, 0, 0, 1, 1], [0.5, 0.1, 0.3, 0.05, 0.0]),
        (AROUSAL, [1, 1, 0, 0, 1], [0.2, 0.6, 0.4, 0.7, 0.0]),
    ],
)
def test_labels_and_distances(space: object, labels: list[int], distances: list[float]) -> None:
    rule = RatingRule(space)  # type: ignore[arg-type]
    points = [Rating(0.5, 0.2), Rating(-0.1, 0.6), Rating(-0.3, -0.4), Rating(0.05, -0.7), Rating(0.0, 0.0)]
    assert [int(rule.labels(point, rule.song)) for point in points] == labels
    assert [float(rule.distance(point, rule.song)) for point in points] == pytest.approx(distances)


def test_the_soft_label_agrees_with_the_label() -> None:
    rng = np.random.default_rng(0)
    for valence, arousal in rng.uniform(-1, 1, (200, 2)):
        rating = Rating(valence, arousal, *rng.uniform(0.05, 0.8, 2))
        for space in (QUADRANTS, VALENCE, AROUSAL):
            rule = RatingRule(space, Thresholds(*rng.uniform(-0.3, 0.3, 2)))
            soft = rule.soft(rating)
            assert soft is not None
            assert sum(soft) == pytest.approx(1)
            assert int(np.argmax(soft)) == int(rule.labels(rating, rule.song))


def test_a_scale_keeps_its_middle_and_ends() -> None:
    scale = Scale(1.0, 9.0)
    assert [scale.normalise(x) for x in (1, 5, 9, 6)] == [-1, 0, 1, 0.25]
    assert scale.denormalise(0.25) == 6


# --- counting by hand ------------------------------------------------------------------------------------------------


def rated_by_hand() -> Corpus:
    """Return three songs of 8 s with a rating per second, of which the second turns from Q3 to Q4 in its middle."""

    def song(name: str, label: str, valence: list[float], arousal: float) -> Song:
        over_time = RatingsOverTime(tuple(map(float, range(8))), 1.0, tuple(valence), (arousal,) * 8)
        return Song(name, Path(name), label, over_time=over_time)

    songs = (
        song("a", "Q1", [0.5] * 8, 0.5),
        song("b", "Q3", [-0.4] * 4 + [0.5] * 4, -0.6),
        song("c", "Q2", [-0.07] * 8, 0.5),
    )
    problems = (Problem("error", "row 7 is wrong"), Problem("error", "x.wav is silent", of_audio=True))
    return Corpus("made", Path("made"), QUADRANTS, songs, problems, rule=RatingRule(QUADRANTS))


def test_every_table_is_that_of_the_planted_change() -> None:
    change = measure_label_change(rated_by_hand(), segment_s=2.0, lengths_s=(4.0, 8.0))

    def counts(shares: tuple[Share, ...]) -> list[tuple[str, int, int]]:
        return [(share.name, share.windows, share.wrong) for share in shares]

    assert (change.corpus, change.segment_s, change.unit) == ("made", 2.0, "windows of 2 s")
    assert (change.songs, change.moving) == (3, 1)
    assert (change.overall.windows, change.overall.wrong) == (12, 2)
    # The mean of the second song over time is in Q4, unlike its label and two of its windows.
    assert change.own_mean == Share("own mean", 12, 2)
    assert change.song_level == Share("songs", 3, 1)
    assert counts(change.by_class) == [("Q1", 4, 0), ("Q2", 4, 0), ("Q3", 4, 2), ("Q4", 0, 0)]
    assert counts(change.by_margin) == [
        ("at least 0", 12, 2),
        ("at least 0.05", 12, 2),
        ("at least 0.1", 8, 2),
        ("at least 0.2", 8, 2),
        ("at least 0.3", 8, 2),
    ]
    assert counts(change.by_length) == [("4 s", 6, 1), ("8 s", 3, 1)]
    assert change.problems == ("row 7 is wrong",)
    assert [share.interval is None for share in (*change.by_class, *change.by_margin)] == [True] * 9
    rng = np.random.default_rng(0)
    wrong = [np.isin(rng.integers(0, 3, 3), 1).sum() * 2 / 12 for _ in range(1000)]
    expected = tuple(np.percentile(wrong, [2.5, 97.5]))
    assert change.overall.interval == pytest.approx(expected)
    assert change.by_length[0].interval == pytest.approx(expected)
    lengths = [share.name for share in measure_label_change(rated_by_hand()).by_length]
    assert lengths == ["1 s", "2 s", "3 s", "5 s", "10 s", "15 s", "30 s"]


def test_the_printed_tables_and_the_json_are_complete() -> None:
    change = measure_label_change(rated_by_hand(), segment_s=2.0, lengths_s=(4.0, 8.0))
    file = Path(__file__).parent / "data" / "label_change.txt"
    assert "\n".join(change.lines()) == file.read_text(encoding="utf-8").rstrip("\n")
    data = change.to_json()
    assert data.pop("space") == QUADRANTS.to_json()
    assert data["overall"] == {
        "name": "all",
        "windows": 12,
        "wrong": 2,
        "rate": pytest.approx(1 / 6),
        "interval": list(change.overall.interval or ()),
    }
    assert data["by_class"][3] == {"name": "Q4", "windows": 0, "wrong": 0, "rate": None, "interval": None}
    assert (data["own_mean"]["wrong"], data["song_level"]["wrong"]) == (2, 1)
    assert [len(data[key]) for key in ("by_class", "by_distance", "by_length")] == [4, 5, 2]
    assert {key: data[key] for key in ("schema", "corpus", "segment_s", "songs", "problems")} == {
        "schema": "emoseg.label-noise/1",
        "corpus": "made",
        "segment_s": 2.0,
        "songs": 3,
        "problems": ["row 7 is wrong"],
    }
    assert data["songs_with_several_emotions"] == 1


def test_the_figure_shows_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = pytest.importorskip("matplotlib.figure")
    kept: list[Any] = []
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, *_, **__: kept.append(self))
    change = measure_label_change(rated_by_hand(), segment_s=2.0, lengths_s=(4.0, 8.0))
    write_label_change_figure(change, tmp_path / "figure.png")
    by_length, by_label, by_distance = kept[0].axes
    assert list(by_length.lines[0].get_xdata()) == [4.0, 8.0]
    assert list(by_length.lines[0].get_ydata()) == pytest.approx([100 / 6, 100 / 3])
    low, high = change.by_length[1].interval or (0, 0)
    corners = by_length.collections[0].get_paths()[0].vertices
    assert {tuple(point) for point in corners.tolist()} >= {(8.0, 100 * low), (8.0, 100 * high)}
    # Q4 has no window.
    assert [text.get_text() for text in by_label.get_xticklabels()] == ["Q1", "Q2", "Q3"]
    assert [bar.get_height() for bar in by_label.patches] == [0, 0, 50]
    assert [text.get_text() for text in by_label.texts] == ["0.0", "0.0", "50.0"]
    assert [text.get_text() for text in by_distance.get_xticklabels()] == ["0", "0.05", "0.1", "0.2", "0.3"]
    assert [bar.get_height() for bar in by_distance.patches] == pytest.approx([100 / 6, 100 / 6, 25, 25, 25])
    assert [panel.get_xlabel() for panel in kept[0].axes] == [
        "segment length (s)",
        "song's label",
        "least distance from both axes",
    ]
    largest = max(share.interval[1] for share in change.by_length if share.interval)
    assert by_length.get_ylim() == pytest.approx((0, 112 * max(largest, 0.5)))
    assert by_length.get_ylabel() == "wrong inherited labels (%)"
    title = f"made, 3 songs, windows of 2 s, space 4q\n{QUADRANTS.rule}".rstrip()
    assert kept[0].get_suptitle() == title


# --- counting --------------------------------------------------------------------------------------------------------


def test_planted_changes_are_counted(tmp_path: Path) -> None:
    """Each song of 24 moments has its last four, from 25.5 s on, in the opposite quadrant."""
    corpus = load_corpus(f"pmemo:{make_pmemo(tmp_path)}")
    noise = measure_label_change(corpus, segment_s=2.0, lengths_s=(1.0, 12.0))
    assert (noise.overall.windows, noise.overall.wrong) == (16 * 6, 16)
    assert noise.overall.rate == pytest.approx(1 / 6)
    assert noise.overall.interval == pytest.approx((1 / 6, 1 / 6))
    assert noise.moving == noise.songs == 16
    assert [(share.name, share.wrong) for share in noise.by_class] == [("Q1", 4), ("Q2", 4), ("Q3", 4), ("Q4", 4)]
    assert [(share.name, share.windows, share.wrong) for share in noise.by_length] == [
        ("1 s", 192, 32),
        ("12 s", 16, 0),
    ]
    assert noise.by_margin[-1].name == "at least 0.3"
    assert noise.by_margin[-1].wrong == 16  # all lie .6 from both axes
    assert noise.song_level is not None
    assert noise.song_level.wrong == 0
    assert noise.own_mean is not None
    assert noise.own_mean.wrong == 16


def test_songs_rated_apart_from_their_curve(tmp_path: Path) -> None:
    root = make_emomusic(tmp_path)
    table = root / "annotations" / "static_annotations.csv"
    table.write_text(table.read_text().replace("\n2,7.4,0.8,7.4", "\n2,7.4,0.8,2.6"))  # Q1 by its curve, Q2 as a song
    noise = measure_label_change(load_corpus(f"emomusic:{root}"))
    assert (noise.overall.windows, noise.overall.wrong) == (96, 6)
    assert (noise.songs, noise.moving) == (16, 0)
    assert noise.song_level is not None
    assert noise.song_level.wrong == 1
    assert noise.own_mean is not None
    assert noise.own_mean.wrong == 0


def test_clips_against_their_song(tmp_path: Path) -> None:
    noise = measure_label_change(load_corpus(f"emopia:{make_emopia(tmp_path)}", CorpusOptions(labels="song")))
    assert noise.segment_s is None
    assert (noise.overall.windows, noise.overall.wrong) == (24, 6)  # the first clip of six of the eight songs
    assert (noise.songs, noise.moving) == (8, 6)
    assert [(share.windows, share.wrong) for share in noise.by_class] == [(6, 0), (6, 2), (6, 2), (6, 2)]
    assert noise.by_length == noise.by_margin == ()
    assert noise.lines()[0].startswith("emopia: 25.0% of clips have another emotion than their song's label")


def test_measures_are_weighted_by_time(tmp_path: Path) -> None:
    noise = measure_label_change(load_corpus(f"vgmidi:{make_vgmidi(tmp_path)}"), segment_s=4.0)
    assert (noise.overall.windows, noise.overall.wrong) == (8 * 4, 8)


def test_no_audio_is_needed(tmp_path: Path) -> None:
    root = make_pmemo(tmp_path)
    for clip in (root / "chorus").iterdir():
        clip.unlink()
    noise = measure_label_change(load_corpus(f"pmemo:{root}"), segment_s=2.0)
    assert noise.overall.wrong == 16
    assert noise.problems == ()


def test_tables_and_json(tmp_path: Path) -> None:
    noise = measure_label_change(load_corpus(f"pmemo:{make_pmemo(tmp_path)}"), segment_s=2.0)
    text = "\n".join(noise.lines())
    assert "pmemo: 16.7% of windows of 2 s have another emotion than their song's label" in text
    assert "high is valence from 0.5 up, arousal from 0.5 up" in text
    assert "Q2" in text
    assert "at least 0.1" in text
    data = json.loads(json.dumps(noise.to_json(), allow_nan=False))
    assert data["schema"] == "emoseg.label-noise/1"
    assert data["overall"]["wrong"] == 16
    assert len(data["by_distance"]) == 5


@pytest.mark.parametrize("segment_s", [0.0, -1.0, math.nan, math.inf, -math.inf, 1e-300, 0.05, 3601.0, 1e300])
def test_a_length_is_one_that_can_be_counted(tmp_path: Path, segment_s: float) -> None:
    corpus = load_corpus(f"pmemo:{make_pmemo(tmp_path)}")
    with pytest.raises(ConfigError, match=r"^segment \S+: must be from 0\.1 to 3600 s$"):
        measure_label_change(corpus, segment_s=segment_s)
    with pytest.raises(ConfigError, match=r"^segment \S+: must be from 0\.1 to 3600 s$"):
        measure_label_change(corpus, lengths_s=[segment_s])


def test_many_short_windows_of_many_ratings_are_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    times = tuple((0.5 * np.arange(40)).tolist())
    ratings = RatingsOverTime(times, 0.5, tuple(rng.uniform(-1, 1, 40)), tuple(rng.uniform(-1, 1, 40)))
    windows = ratings.windows(0.3)
    whole = ratings.over(*windows)
    monkeypatch.setattr("emoseg.corpora.ratings._MOST_AT_ONCE", 100)
    parts = ratings.over(*windows)
    np.testing.assert_allclose(parts.valence, whole.valence, rtol=1e-12)
    np.testing.assert_allclose(parts.arousal, whole.arousal, rtol=1e-12)
    np.testing.assert_array_equal(parts.known, whole.known)


def test_a_figure_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = pytest.importorskip("matplotlib.figure")
    noise = measure_label_change(load_corpus(f"pmemo:{make_pmemo(tmp_path / 'corpus')}"), segment_s=2.0)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figure.Figure, "savefig", full)
    with pytest.raises(EmosegError, match=r"noise\.png: cannot be written: No space left on device"):
        write_label_change_figure(noise, tmp_path / "noise.png")
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_a_corpus_that_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="4q has no ratings over time"):
        measure_label_change(load_corpus(f"4q:{make_fourq(tmp_path / 'q')}"))
    with pytest.raises(CorpusError, match="no song is rated for half of 60 s"):
        measure_label_change(load_corpus(f"pmemo:{make_pmemo(tmp_path / 'p')}"), segment_s=60)


def test_the_figure_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    noise = measure_label_change(load_corpus(f"pmemo:{make_pmemo(tmp_path)}"), segment_s=2.0)
    write_label_change_figure(noise, tmp_path / "noise.png")
    assert (tmp_path / "noise.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match=r"noise\.mp3: a figure must end in \.png, \.svg, \.pdf"):
        write_label_change_figure(noise, tmp_path / "noise.mp3")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.data
@pytest.mark.parametrize(
    ("spec", "options", "windows", "wrong"),
    [
        ("pmemo:PMEmo2019", CorpusOptions(), 3626, 277),
        ("emomusic:emomusic", CorpusOptions(), 4464, 885),
        ("emomusic:emomusic", CorpusOptions(threshold="mean"), 4464, 691),
        ("emopia:emopia", CorpusOptions(labels="song"), 1078, 118),
        ("vgmidi:vgmidi", CorpusOptions(), 1783, 194),
    ],
)
def test_published_annotations(spec: str, options: CorpusOptions, windows: int, wrong: int) -> None:
    """The counts of windows of 5 s that were made independently from the same files."""
    data = os.environ.get("EMOSEG_DATA")
    if not data:
        pytest.skip("EMOSEG_DATA is not set")
    name, _, folder = spec.partition(":")
    noise = measure_label_change(load_corpus(f"{name}:{Path(data) / folder}", options), lengths_s=())
    assert (noise.overall.windows, noise.overall.wrong) == (windows, wrong)


# --- truth about segments --------------------------------------------------------------------------------------------


def test_segments_know_what_ratings_say_and_no_more(tmp_path: Path) -> None:
    root = make_pmemo(tmp_path)
    for clip in (root / "chorus").iterdir():
        put(clip, music(28.0, seed=0))
    segments = load_segments(load_corpus(f"pmemo:{root}"), SETTINGS, cache=tmp_path / "c", workers=1, quiet=True)
    assert segments.true is not None
    assert segments.known is not None
    assert segments.margin is not None
    first = segments.song == 0
    # Ratings run from 15.5 to 27.5 s and turn at 25.5 s: the segment from 14 s has only a quarter rated.
    assert segments.known[first].tolist() == [False] * 8 + [True] * 6
    opposite = {0: 2, 1: 3, 2: 0, 3: 1}[int(segments.song_labels[0])]
    assert segments.true[first].tolist() == [segments.song_labels[0]] * 13 + [opposite]
    # The segment from 24 s has three moments of its own quadrant and one of the other: (3 - 1) / 4 of .6.
    assert segments.margin[first][-3:] == pytest.approx([0.6, 0.3, 0.6])
    assert (segments.margin[~segments.known] == 0).all()
    assert segments.song_soft is not None
    assert segments.song_soft.shape == (16, 4)
    assert segments.song_soft.argmax(axis=1).tolist() == segments.song_labels.tolist()


def test_a_corpus_without_truth_has_none(tmp_path: Path) -> None:
    corpus = load_corpus(f"4q:{make_fourq(tmp_path)}")
    assert segment_truth(corpus, corpus.songs, np.arange(16), np.zeros(16), np.ones(16), np.zeros(16, int)) is None


def test_songs_without_truth_among_others() -> None:
    path = Path("x")
    songs = (Song("a", path, "Q1", sections=(Section(0, 3, "Q2"),)), Song("b", path, "Q3"))
    corpus = Corpus("x", path, QUADRANTS, songs)
    truth = segment_truth(
        corpus, songs, np.array([0, 0, 1]), np.array([0.0, 4, 0]), np.array([2.0, 6, 2]), np.array([0, 0, 2])
    )
    assert truth is not None
    assert truth.label.tolist() == [1, 0, 2]
    assert truth.known.tolist() == [True, False, False]
    assert truth.margin.tolist() == [math.inf, 0.0, 0.0]


def test_clips_of_one_song_stay_together_without_artists_too(tmp_path: Path) -> None:
    root = make_emopia(tmp_path)
    for clip in root.glob("*.flac"):
        put(clip, music(2.0, seed=0))
    segments = load_segments(load_corpus(f"emopia:{root}"), SETTINGS, cache=tmp_path / "c", workers=1, quiet=True)
    assert len(set(segments.groups("none"))) == len(set(segments.groups())) == 8
