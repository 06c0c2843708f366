"""The synthesised corpus: its songs, and the true emotion of every section.

Layout, as `emoseg corpus synth` writes it: ``songs.csv`` (path, label, artist), ``truth.csv`` (path, start_s, end_s,
label) and the audio.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from emoseg.corpora.base import Corpus
from emoseg.corpora.kinds import CorpusKind
from emoseg.corpora.loaders.user import load_csv
from emoseg.corpora.options import CorpusOptions
from emoseg.corpora.problems import Problem
from emoseg.corpora.ratings import LONGEST_S
from emoseg.corpora.tables import number, read_table
from emoseg.emotion import QUADRANTS
from emoseg.errors import CorpusError
from emoseg.types import Section


def load_synth(root: Path, options: CorpusOptions) -> Corpus:
    """Load the synthesised corpus from the folder that `emoseg corpus synth` wrote."""
    table, truth = root / "songs.csv", root / "truth.csv"
    if not table.is_file() or not truth.is_file():
        raise CorpusError(f"{root}: is not a synthesised corpus: songs.csv and truth.csv are needed")
    sections: dict[str, list[Section]] = defaultdict(list)
    for line, row in read_table(truth, columns=["path", "start_s", "end_s", "label"]).items():
        try:
            section = Section(number(row["start_s"]), number(row["end_s"]), row["label"])
        except ValueError as error:
            raise CorpusError(f"{truth}: row {line}: a time is not a number: {error}") from error
        if not 0 <= section.start_s < section.end_s <= LONGEST_S:
            times = f"{section.start_s:g} to {section.end_s:g} s"
            raise CorpusError(f"{truth}: row {line}: {times} is not a section of a song of at most {LONGEST_S:g} s")
        sections[row["path"]].append(section)
    corpus = load_csv(table, options)
    used = [(table, song.label) for song in corpus.songs]
    used += [(truth, section.label) for found in sections.values() for section in found]
    for file, label in used:
        if label not in QUADRANTS.labels:
            raise CorpusError(f"{file}: has the label {label!r}, not one of Q1 to Q4")
    without = [Problem("error", f"{truth}: has no section for {s.id}") for s in corpus.songs if s.id not in sections]
    return replace(
        corpus,
        name="synth",
        root=root,
        space=QUADRANTS,
        songs=tuple(replace(song, sections=tuple(sections[song.id])) for song in corpus.songs),
        problems=(*corpus.problems, *without),
        licence="Apache-2.0 (synthesised by emoseg)",
    )


KIND = CorpusKind(load_synth, frozenset({"split"}))
