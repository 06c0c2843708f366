"""EiM, also called emoMusic or 1000 songs: 744 clips of 45 s (Soleymani, Caro, Schmidt, Sha, Yang 2013).

Official layout: ``annotations/`` with ``static_annotations.csv`` (1 to 9), ``{valence,arousal}_cont_average.csv``
(-1 to 1, 2 Hz, from 15 s on) and ``songs_info.csv`` (stray tabs in its fields), and ``clips_45seconds/<id>.mp3``. The
official parts are development (619 songs) and evaluation (125); they share artists.

References
----------
M. Soleymani, M. N. Caro, E. M. Schmidt, C.-Y. Sha, Y.-H. Yang. 1000 songs for emotional analysis of music. CrowdMM
2013.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from emoseg.corpora.base import Corpus, CorpusFacts
from emoseg.corpora.loaders.assemble import Entry, assemble, by_id, rated_labels, require_layout
from emoseg.corpora.loaders.timeseries import HOLD_S, tell_unlabelled, wide_tables
from emoseg.corpora.options import CorpusOptions
from emoseg.corpora.problems import Problem
from emoseg.corpora.ratings import Rating, Scale
from emoseg.corpora.tables import numbers, read_table

STATIC = "annotations/static_annotations.csv"
SCALE, DYNAMIC_SCALE = Scale(1.0, 9.0), Scale(-1.0, 1.0)
CLIP_S = 45.0
FACTS = CorpusFacts(
    licence="audio: Creative Commons, by song (Free Music Archive); the annotations' terms are not stated",
    citation="Soleymani, Caro, Schmidt, Sha, Yang: 1000 songs for emotional analysis of music, CrowdMM 2013",
    songs=744,
    counts={"Q1": 265, "Q2": 72, "Q3": 287, "Q4": 120},
)
SPLIT = "mediaeval 2013 set"
_MEAN, _STD = ("mean_valence", "mean_arousal"), ("std_valence", "std_arousal")


def load_emomusic(root: Path, options: CorpusOptions) -> Corpus:
    """Load EiM from the folder that holds ``annotations`` and ``clips_45seconds``."""
    static = require_layout(root, "emomusic", STATIC)
    problems: list[Problem] = []
    dynamic = static.with_name("valence_cont_average.csv")
    over_time = wide_tables(
        dynamic,
        static.with_name("arousal_cont_average.csv"),
        scale=DYNAMIC_SCALE,
        hold_s=HOLD_S,
        problems=problems,
    )
    info = _info(static.with_name("songs_info.csv"), problems)
    entries = []
    for line, row in read_table(static, columns=["song_id", *_MEAN, *_STD], problems=problems).items():
        song = row["song_id"]
        where = f"{static}: row {line}, song {song}"
        means = numbers(row, _MEAN, where=where, problems=problems, check=SCALE.check)
        spread = numbers(row, _STD, where=where, problems=problems) if means else None
        if means and spread:
            about = info.get(song, {})
            rating = Rating(*map(SCALE.normalise, means), *(sd / 4 for sd in spread))  # half the scale is 4 wide
            artist, split = about.get("artist"), about.get(SPLIT)
            entries.append(Entry(song, None, rating, artist, split, over_time=over_time.get(song), published_s=CLIP_S))
    tell_unlabelled(dynamic, over_time, (entry.id for entry in entries), problems)
    labelling = rated_labels(entries, scale=SCALE, options=options)
    clips = root / "clips_45seconds"
    folder = clips if clips.is_dir() else root
    return assemble("emomusic", root, entries, labelling, facts=FACTS, options=options, problems=problems, audio=folder)


def _info(table: Path, problems: list[Problem]) -> dict[str, Mapping[str, str]]:
    if not table.is_file():
        problems.append(Problem("warning", f"{table}: is not there: artists and official parts unknown"))
        return {}
    rows = read_table(table, columns=["song_id", "Artist", SPLIT], problems=problems)
    return by_id(rows.values(), "song_id")
