"""4Q: 900 thirty-second clips in Russell's quadrants (Panda, Malheiro, Paiva 2018).

Official layout: folders ``Q1`` to ``Q4`` with ``MT*.mp3``, and two tables, annotations (Song, Quadrant) and metadata
(Song, Artist, Title, Quadrant, ...). The quadrant comes from the annotations, never from the folder; where they
disagree, that is an error.

References
----------
R. Panda, R. Malheiro, R. P. Paiva. Novel audio features for music emotion recognition. IEEE Transactions on Affective
Computing 11(4), 2020.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from emoseg.audio import find_audio
from emoseg.corpora.base import Corpus, Problem, Song, make_corpus, read_table
from emoseg.errors import CorpusError
from emoseg.types import QUADRANTS

ANNOTATIONS = "panda_dataset_taffc_annotations.csv"
METADATA = "panda_dataset_taffc_metadata.csv"
PUBLISHED_SONGS = 225  # in each quadrant


def load_fourq(root: Path) -> Corpus:
    """Load 4Q from the folder that holds ``Q1`` to ``Q4`` and the annotations table."""
    table = root / ANNOTATIONS
    if not table.is_file():
        raise CorpusError(f"{root}: is not the 4Q folder: no {ANNOTATIONS} in it")
    annotations = read_table(table, columns=["Song", "Quadrant"]).values()
    label_of = {row["song"]: row["quadrant"] for row in annotations}
    metadata = root / METADATA
    rows = read_table(metadata, columns=["Song", "Artist"]) if metadata.is_file() else {}
    artist_of = {row["song"]: row["artist"] for row in rows.values()}
    problems = [] if rows else [Problem("warning", f"{root}: no {METADATA}: artists unknown, folds go by song")]
    published = PUBLISHED_SONGS * len(QUADRANTS.labels)
    if len(label_of) < published:
        message = f"{table}: annotates {len(label_of)} of the {published} published songs; {published - len(label_of)}"
        problems.append(Problem("warning", f"{message} are missing"))
    repeated = [song for song, n in Counter(row["song"] for row in annotations).items() if n > 1]
    problems += [Problem("error", f"{table}: {song} is annotated more than once") for song in repeated]

    audio: dict[str, Path] = {}
    for path in find_audio(root):
        if path.stem in audio:
            problems.append(Problem("error", f"{path}: is the same song as {audio[path.stem]}; only one may stay"))
        audio.setdefault(path.stem, path)
    songs = []
    for song, label in label_of.items():
        if label not in QUADRANTS.labels:
            problems.append(Problem("error", f"{table}: {song} has the quadrant {label!r}, not one of Q1 to Q4"))
        elif song in audio:
            folder = audio[song].parent.name
            if folder in QUADRANTS.labels and folder != label:
                problems.append(Problem("error", f"{audio[song]}: lies in {folder} but its annotation says {label}"))
            songs.append(Song(song, audio[song], label, artist=artist_of.get(song) or None))
    missing = sorted(song for song in label_of if song not in audio)
    if missing:
        listed = f"{missing[0]}, ..." if len(missing) > 1 else missing[0]
        message = f"{root}: {len(missing)} of {len(label_of)} annotated songs have no audio and are left out ({listed})"
        problems.append(Problem("warning", message))
    problems += [
        Problem("warning", f"{path}: has no annotation and is left out")
        for stem, path in sorted(audio.items())
        if stem not in label_of
    ]
    return make_corpus(
        "4q",
        root,
        songs,
        problems=problems,
        space=QUADRANTS,
        licence="research only (clips from the AllMusic API); the labels' terms are not stated",
        citation="Panda, Malheiro, Paiva: Novel audio features for music emotion recognition, IEEE TAFFC 11(4), 2020",
        published_counts=dict.fromkeys(QUADRANTS.labels, PUBLISHED_SONGS),
    )
