"""DEAM: 1,802 songs of MediaEval 2013 to 2015, rated over time and as a whole (Aljanaki, Yang, Soleymani 2017).

Layout of the archives, unpacked into one folder: ``annotations/annotations averaged per song/song_level/`` (1 to 9)
and ``.../dynamic (per second annotations)/`` (-1 to 1, 2 Hz, from 15 s on), ``metadata/metadata_201?.csv`` (three
files whose columns have other names) and ``MEMD_audio/<id>.mp3``. Songs 2001 to 2058 are whole songs and the evaluation
part of MediaEval 2015; the others are clips of 45 s.

References
----------
A. Aljanaki, Y.-H. Yang, M. Soleymani. Developing a benchmark for emotional analysis of music. PLOS ONE 12(3), 2017.
"""

from __future__ import annotations

from pathlib import Path

from emoseg.corpora.base import Corpus, CorpusFacts
from emoseg.corpora.kinds import RATING_OPTIONS, CorpusKind
from emoseg.corpora.loaders.assemble import Entry, assemble, rated_labels, require_layout
from emoseg.corpora.loaders.rated_tables import HOLD_S, song_ratings, warn_unlabelled, wide_tables
from emoseg.corpora.options import CorpusOptions
from emoseg.corpora.problems import Problem
from emoseg.corpora.ratings import Scale
from emoseg.corpora.tables import read_table

AVERAGED = "annotations averaged per song"
PLACES = [f"{above}{AVERAGED}" for above in ("annotations/", "DEAM_Annotations/annotations/", "")]
SONG_TABLES = "static_annotations_averaged_songs_*.csv"
SCALE, DYNAMIC_SCALE = Scale(1.0, 9.0), Scale(-1.0, 1.0)
FIRST_EVALUATION_ID = 2001
CLIP_S = 45.0
FACTS = CorpusFacts(
    licence="audio: Creative Commons, by song; annotations: not confirmed (said to be CC BY-NC), ask the authors",
    citation="Aljanaki, Yang, Soleymani: Developing a benchmark for emotional analysis of music, PLOS ONE 12(3), 2017",
    songs=1802,
    counts={"Q1": 647, "Q2": 229, "Q3": 686, "Q4": 240},
)
_MEAN, _STD = ("valence_mean", "arousal_mean"), ("valence_std", "arousal_std")


def load_deam(root: Path, options: CorpusOptions) -> Corpus:
    """Load DEAM from the folder that holds its annotations, and its audio unless an option says where that is."""
    averaged = require_layout(root, "deam", PLACES)
    tables = sorted((averaged / "song_level").glob(SONG_TABLES))
    problems: list[Problem] = []
    if len(tables) < 2:
        message = f"{averaged / 'song_level'}: {len(tables)} of the two tables {SONG_TABLES} exist"
        problems.append(Problem("error" if not tables else "warning", message))
    dynamic = averaged / "dynamic (per second annotations)"
    over_time = wide_tables(
        dynamic / "valence.csv", dynamic / "arousal.csv", scale=DYNAMIC_SCALE, hold_s=HOLD_S, problems=problems
    )
    artists = _artists(root, problems)
    entries = []
    for table in tables:
        for song, rating in song_ratings(
            table, song="song_id", means=_MEAN, spreads=_STD, scale=SCALE, problems=problems
        ):
            split = _split(song)
            length_s = CLIP_S if split == "development" else None
            over = over_time.get(song)
            entries.append(Entry(song, None, rating, artists.get(song), split, over_time=over, published_s=length_s))
    warn_unlabelled(dynamic / "valence.csv", over_time, (entry.id for entry in entries), problems)
    labelling = rated_labels(entries, scale=SCALE, options=options)
    return assemble("deam", root, entries, labelling, facts=FACTS, options=options, problems=problems)


KIND = CorpusKind(load_deam, RATING_OPTIONS)


def _split(song: str) -> str | None:
    if not song.isdigit():
        return None
    return "evaluation" if int(song) >= FIRST_EVALUATION_ID else "development"


def _artists(root: Path, problems: list[Problem]) -> dict[str, str]:
    """Return the artists by song, from the metadata of three years, whose id column is ``song_id`` or ``Id``."""
    tables = sorted(path for folder in ("metadata", ".") for path in (root / folder).glob("metadata_201?.csv"))
    if not tables:
        problems.append(Problem("warning", f"{root}: no metadata/metadata_201?.csv: artists unknown, folds go by song"))
    artists: dict[str, str] = {}
    for table in tables:
        # Some titles have commas without quotes. The artist of such a row is not certain: a warning, not an error.
        unsure: list[Problem] = []
        for row in read_table(table, columns=["Artist"], optional=["song_id", "Id"], problems=unsure).values():
            artists.setdefault(row.get("song_id") or row.get("id") or "", row["artist"])
        problems += [Problem("warning", problem.message) for problem in unsure]
    return {song: artist for song, artist in artists.items() if song and artist}
