"""VGMIDI: piano arrangements of game music, rated over time by some 30 listeners each (Ferreira, Whitehead 2019).

Layout of the repository: ``labelled/annotations/vgmidi_raw_*.json`` and ``labelled/midi/*.mid``; the recordings are
rendered from the MIDI files and keep their names. The JSON has ``pieces[id]`` (duration in s, measures, midi) and
``annotations[id_listener]`` (valence and arousal, one value per measure, from -1 to 1). All measures of a piece are
assumed to be equally long. A piece's label comes from the mean over listeners and time. Its soft label is the share of
listeners whose own mean is in each quadrant.

References
----------
L. N. Ferreira, J. Whitehead. Learning to generate music with sentiment. ISMIR 2019.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from emoseg.corpora.base import Corpus, CorpusFacts
from emoseg.corpora.kinds import RATING_OPTIONS, CorpusKind
from emoseg.corpora.loaders.assemble import Entry, Labelling, assemble, rated_labels, require_layout
from emoseg.corpora.options import CorpusOptions
from emoseg.corpora.problems import Problem, counted
from emoseg.corpora.ratings import LONGEST_S, Rating, RatingsOverTime, Scale
from emoseg.errors import CorpusError
from emoseg.system.files import read_text
from emoseg.types import Float64

PLACES = ["labelled/annotations", "annotations"]
TABLES = "vgmidi_raw_*.json"
SCALE = Scale(-1.0, 1.0)
_MOST_BYTES = 100_000_000
FACTS = CorpusFacts(
    licence="not stated; the compositions belong to their owners: research use, do not pass on",
    citation="Ferreira, Whitehead: Learning to generate music with sentiment, ISMIR 2019",
    songs=95,
)


def load_vgmidi(root: Path, options: CorpusOptions) -> Corpus:
    """Load VGMIDI from the folder that holds ``labelled``; the option `audio` may name the folder of the recordings."""
    folder = require_layout(root, "vgmidi", PLACES)
    tables = sorted(folder.glob(TABLES))
    if not tables:
        raise CorpusError(f"{folder}: no {TABLES} in it")
    problems: list[Problem] = []
    entries, listeners = [], {}
    for table in tables:
        pieces, annotations = _read(table)
        ratings = _by_piece(table, pieces, annotations, problems)
        for piece, about in pieces.items():
            entry = _entry(table, piece, about, ratings.get(piece, []), problems)
            if entry:
                entries.append(entry)
                listeners[entry.id] = np.array([[np.mean(v), np.mean(a)] for v, a in ratings[piece]])
    labelling = _with_soft(rated_labels(entries, scale=SCALE, options=options), listeners)
    return assemble(
        "vgmidi", root, entries, labelling, facts=FACTS, options=options, problems=problems, published="pieces"
    )


KIND = CorpusKind(load_vgmidi, RATING_OPTIONS)


def _read(table: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        data = json.loads(read_text(table, most_bytes=_MOST_BYTES, error=CorpusError))
        return dict(data["pieces"]), dict(data["annotations"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorpusError(f"{table}: is not VGMIDI's JSON with pieces and annotations: {error}") from error


def _by_piece(
    table: Path, pieces: dict[str, Any], annotations: dict[str, Any], problems: list[Problem]
) -> dict[str, list[tuple[Float64, Float64]]]:
    """Return the values per measure of each listener, by piece; add a problem for each listener that cannot be used."""
    ratings: dict[str, list[tuple[Float64, Float64]]] = defaultdict(list)
    unknown: dict[str, int] = defaultdict(int)
    for key, annotation in annotations.items():
        piece = key.rpartition("_")[0]
        if piece not in pieces:
            unknown[piece] += 1
            continue
        try:
            valence, arousal = (np.array(annotation[axis], dtype=np.float64) for axis in ("valence", "arousal"))
            measures = int(pieces[piece]["measures"])
            if valence.shape != (measures,) or arousal.shape != (measures,):
                raise ValueError(f"{valence.size} and {arousal.size} values for {measures} measures")
            if not (np.abs([valence, arousal]) <= 1).all():
                raise ValueError("a value lies outside the scale from -1 to 1")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            problems.append(Problem("error", f"{table}: {key}: {error}; this listener is left out"))
            continue
        ratings[piece].append((valence, arousal))
    if unknown:
        message = f"{table}: {sum(unknown.values())} annotations are about pieces that it does not list"
        problems.append(Problem("warning", f"{message} {counted(sorted(unknown))}"))
    return ratings


def _entry(
    table: Path, piece: str, about: Any, ratings: list[tuple[Float64, Float64]], problems: list[Problem]
) -> Entry | None:
    try:
        stem, measures, duration_s = Path(about["midi"]).stem, int(about["measures"]), float(about["duration"])
        if not ratings or measures < 1 or not 0 < duration_s <= LONGEST_S:
            raise ValueError("no listener, measure or duration")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        problems.append(Problem("error", f"{table}: {piece}: {error}; it is left out"))
        return None
    valence, arousal = (np.mean(rows, axis=0) for rows in zip(*ratings, strict=True))
    hold_s = duration_s / measures
    times = tuple((hold_s * np.arange(measures)).tolist())
    over_time = RatingsOverTime(times, hold_s, tuple(valence.tolist()), tuple(arousal.tolist()))
    spread = np.std([[v.mean(), a.mean()] for v, a in ratings], axis=0)
    mean = over_time.mean
    rating = Rating(mean.valence, mean.arousal, float(spread[0]), float(spread[1]))
    return Entry(stem, rating=rating, over_time=over_time, published_s=duration_s)


def _with_soft(labelling: Labelling, listeners: dict[str, Float64]) -> Labelling:
    rule = labelling.rule
    if rule is None:
        return labelling

    def soft(entry: Entry) -> tuple[float, ...]:
        labels = [int(rule.labels(Rating(float(v), float(a)), rule.song)) for v, a in listeners[entry.id]]
        shares = np.bincount(labels, minlength=len(rule.space.labels)) / len(labels)
        return tuple(shares.tolist())

    return Labelling(labelling.space, labelling.label, soft, rule)
