"""4Q: 900 thirty-second clips in Russell's quadrants (Panda, Malheiro, Paiva 2018).

Official layouts: folders ``Q1`` to ``Q4`` with ``MT*.mp3``, or all clips in one folder; and two tables, annotations
(Song, Quadrant) and metadata (Song, Artist, Title, Quadrant, PQuad, ...). The quadrant comes from the annotations,
never from the folder; where they disagree, that is an error. PQuad, the share of a song's mood tags that lie in its
quadrant, is its soft label; the rest is divided equally among the other quadrants.

References
----------
R. Panda, R. Malheiro, R. P. Paiva. Novel audio features for music emotion recognition. IEEE Transactions on Affective
Computing 11(4), 2020.
"""

from __future__ import annotations

from pathlib import Path

from emoseg.corpora.base import Corpus, CorpusFacts
from emoseg.corpora.kinds import LABEL_OPTIONS, CorpusKind
from emoseg.corpora.loaders.assemble import Entry, assemble, details_by_id, quadrant_labels, require_layout
from emoseg.corpora.options import CorpusOptions
from emoseg.corpora.problems import Problem
from emoseg.corpora.tables import number, read_table
from emoseg.emotion import QUADRANTS

ANNOTATIONS = "panda_dataset_taffc_annotations.csv"
METADATA = "panda_dataset_taffc_metadata.csv"
CLIP_S = 30.0
FACTS = CorpusFacts(
    licence="research only (clips from the AllMusic API); the labels' terms are not stated",
    citation="Panda, Malheiro, Paiva: Novel audio features for music emotion recognition, IEEE TAFFC 11(4), 2020",
    songs=900,
    counts=dict.fromkeys(QUADRANTS.labels, 225),
)


def load_fourq(root: Path, options: CorpusOptions) -> Corpus:
    """Load 4Q from the folder that holds the annotations table."""
    table = require_layout(root, "4q", ANNOTATIONS)
    problems: list[Problem] = []
    annotations = read_table(table, columns=["Song", "Quadrant"], problems=problems).values()
    metadata = details_by_id(
        root / METADATA,
        "Song",
        columns=["Artist"],
        optional=["PQuad"],
        missing="artists unknown, folds go by song",
        problems=problems,
    )
    entries = []
    for row in annotations:
        song, label = row["song"], row["quadrant"]
        if label not in QUADRANTS.labels:
            problems.append(Problem("error", f"{table}: {song} has the quadrant {label!r}, not one of Q1 to Q4"))
            continue
        about = metadata.get(song, {})
        soft = _soft(label, about.get("pquad", ""), f"{root / METADATA}: {song}", problems)
        entries.append(Entry(song, label, artist=about.get("artist"), soft=soft, published_s=CLIP_S))
    labelling = quadrant_labels(options)
    corpus = assemble("4q", root, entries, labelling, facts=FACTS, options=options, problems=problems)
    label_of = {entry.id: entry.label for entry in entries}
    wrong = [
        Problem("error", f"{song.path}: lies in {song.path.parent.name} but its annotation says {label_of[song.id]}")
        for song in corpus.songs
        if song.path.parent.name in QUADRANTS.labels and song.path.parent.name != label_of[song.id]
    ]
    return corpus.with_problems(wrong)


KIND = CorpusKind(load_fourq, LABEL_OPTIONS)


def _soft(label: str, share: str, where: str, problems: list[Problem]) -> dict[str, float] | None:
    if not share:
        return None
    try:
        inside = number(share)
    except ValueError as error:
        problems.append(Problem("warning", f"{where}: PQuad {error}; it has no soft label"))
        return None
    if not 0 <= inside <= 1:
        problems.append(Problem("warning", f"{where}: PQuad {inside:g} is not from 0 to 1; it has no soft label"))
        return None
    return {x: inside if x == label else (1 - inside) / 3 for x in QUADRANTS.labels}
