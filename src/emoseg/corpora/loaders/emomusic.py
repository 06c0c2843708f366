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

from pathlib import Path

from emoseg.corpora.base import Corpus, CorpusFacts
from emoseg.corpora.kinds import RATING_OPTIONS, CorpusKind
from emoseg.corpora.loaders.assemble import Entry, assemble, details_by_id, rated_labels, require_layout
from emoseg.corpora.loaders.rated_tables import HOLD_S, song_ratings, warn_unlabelled, wide_tables
from emoseg.corpora.options import CorpusOptions
from emoseg.corpora.problems import Problem
from emoseg.corpora.ratings import Scale

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
    dynamic = static.with_name("valence_cont_average.csv")
    problems: list[Problem] = []
    over_time = wide_tables(
        dynamic,
        static.with_name("arousal_cont_average.csv"),
        scale=DYNAMIC_SCALE,
        hold_s=HOLD_S,
        problems=problems,
    )
    info = details_by_id(
        static.with_name("songs_info.csv"),
        "song_id",
        columns=["Artist", SPLIT],
        missing="artists and official parts unknown",
        problems=problems,
    )
    entries = []
    for song, rating in song_ratings(static, song="song_id", means=_MEAN, spreads=_STD, scale=SCALE, problems=problems):
        about = info.get(song, {})
        artist, split = about.get("artist"), about.get(SPLIT)
        entries.append(Entry(song, None, rating, artist, split, over_time=over_time.get(song), published_s=CLIP_S))
    warn_unlabelled(dynamic, over_time, (entry.id for entry in entries), problems)
    return assemble(
        "emomusic",
        root,
        entries,
        rated_labels(entries, scale=SCALE, options=options),
        facts=FACTS,
        options=options,
        problems=problems,
        audio="clips_45seconds",
    )


KIND = CorpusKind(load_emomusic, RATING_OPTIONS)
