"""PMEmo: choruses of 794 pop songs, 767 of them rated (Zhang, Zhang, Zhang, Sun 2018).

Official layout: ``metadata.csv``, ``annotations/{static,dynamic}_annotations{,_std}.csv`` and ``chorus/<id>.mp3``.
Ratings lie from 0 to 1, the arousal column comes first (columns are read by name), and ratings over time begin 15.5 s
into the clip, at 2 Hz.

References
----------
K. Zhang, H. Zhang, S. Li, C. Yang, L. Sun. The PMEmo dataset for music emotion recognition. ICMR 2018.
"""

from __future__ import annotations

from pathlib import Path

from emoseg.corpora.base import Corpus, CorpusFacts
from emoseg.corpora.kinds import RATING_OPTIONS, CorpusKind
from emoseg.corpora.loaders.assemble import Entry, assemble, details_by_id, rated_labels, require_layout
from emoseg.corpora.loaders.rated_tables import HOLD_S, long_table, song_ratings, warn_unlabelled
from emoseg.corpora.options import CorpusOptions
from emoseg.corpora.problems import Problem, counted
from emoseg.corpora.ratings import Rating, Scale
from emoseg.corpora.tables import number, numbers, read_table

STATIC = "annotations/static_annotations.csv"
SCALE = Scale(0.0, 1.0)
FACTS = CorpusFacts(
    licence="the data's terms are not stated (the authors' code is MIT): research use, do not pass on",
    citation="Zhang, Zhang, Li, Yang, Sun: The PMEmo dataset for music emotion recognition, ICMR 2018",
    songs=767,
    counts={"Q1": 505, "Q2": 73, "Q3": 132, "Q4": 57},
)
_MEAN = ("Valence(mean)", "Arousal(mean)")
_STD = ("Valence(std)", "Arousal(std)")


def load_pmemo(root: Path, options: CorpusOptions) -> Corpus:
    """Load PMEmo from the folder that holds ``annotations`` and ``chorus``."""
    static = require_layout(root, "pmemo", STATIC)
    dynamic = static.with_name("dynamic_annotations.csv")
    problems: list[Problem] = []
    spread = _spread(static.with_name("static_annotations_std.csv"), problems)
    over_time = long_table(
        dynamic, song="musicId", time_s="frameTime", values=_MEAN, scale=SCALE, hold_s=HOLD_S, problems=problems
    )
    metadata = details_by_id(
        root / "metadata.csv",
        "musicId",
        columns=["artist"],
        optional=["duration"],
        missing="artists unknown, folds go by song",
        problems=problems,
    )
    entries = []
    for song, mean in song_ratings(static, song="musicId", means=_MEAN, scale=SCALE, problems=problems):
        about = metadata.get(song, {})
        rating = Rating(mean.valence, mean.arousal, *spread.get(song, (None, None)))
        artist, length_s = about.get("artist"), _duration_s(about.get("duration", ""))
        entries.append(Entry(song, None, rating, artist, over_time=over_time.get(song), published_s=length_s))
    warn_unlabelled(dynamic, over_time, (entry.id for entry in entries), problems)
    unrated = sorted(set(metadata) - {entry.id for entry in entries})
    if unrated:
        message = f"{root / 'metadata.csv'}: {len(unrated)} of {len(metadata)} songs are not rated {counted(unrated)}"
        problems.append(Problem("warning", message))
    labelling = rated_labels(entries, scale=SCALE, options=options)
    return assemble("pmemo", root, entries, labelling, facts=FACTS, options=options, problems=problems, audio="chorus")


KIND = CorpusKind(load_pmemo, RATING_OPTIONS)


def _spread(table: Path, problems: list[Problem]) -> dict[str, tuple[float, float]]:
    """Return the standard deviations of valence and arousal by song, on [-1, 1]."""
    if not table.is_file():
        problems.append(Problem("warning", f"{table}: is not there: songs have no soft label"))
        return {}
    spread = {}
    for line, row in read_table(table, columns=["musicId", *_STD], problems=problems).items():
        where = f"{table}: row {line}, song {row['musicid']}"
        if found := numbers(row, _STD, where=where, problems=problems):
            spread[row["musicid"]] = (SCALE.normalise_sd(found[0]), SCALE.normalise_sd(found[1]))
    return spread


def _duration_s(text: str) -> float | None:
    """Return the length of a chorus; None for a cell without a number, because it only serves the check."""
    try:
        return number(text)
    except ValueError:
        return None
