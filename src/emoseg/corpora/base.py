"""What every corpus is once loaded, and how its tables are read.

A corpus is a list of songs, each with one label, and a list of problems found while loading. A song without usable
audio or label never disappears in silence: it is a problem.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from emoseg.errors import CorpusError
from emoseg.types import EmotionSpace, Section


@dataclass(frozen=True)
class Song:
    """One labelled song.

    Parameters
    ----------
    id : str
        Unique within the corpus.
    path : Path
        Its audio.
    label : str
        Its song-level label, one of the corpus' space.
    artist : str or None
        Songs of one artist never lie on both sides of a split; None where unknown.
    split : str or None
        Official split, such as ``"train"`` or ``"test"``, where the corpus has one.
    sections : tuple of Section
        The true emotion over time, where it is known. Never an input to learning.
    """

    id: str
    path: Path
    label: str
    artist: str | None = None
    split: str | None = None
    sections: tuple[Section, ...] = ()

    @property
    def group(self) -> str:
        """What must not be split: the artist, or the song itself where the artist is unknown."""
        return f"artist:{self.artist}" if self.artist else f"song:{self.id}"


@dataclass(frozen=True)
class Problem:
    """Something about a corpus that its user should know; an ``"error"`` must be mended before training."""

    severity: Literal["error", "warning"]
    message: str


@dataclass(frozen=True)
class Corpus:
    """Labelled songs in one emotion space, and what is wrong with them."""

    name: str
    root: Path
    space: EmotionSpace
    songs: tuple[Song, ...]
    problems: tuple[Problem, ...] = ()
    licence: str = "unknown"
    citation: str = ""
    published_counts: dict[str, int] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Return the number of songs of each label, in the order of the space."""
        found = Counter(song.label for song in self.songs)
        return {label: found[label] for label in self.space.labels}

    def require_usable(self) -> Corpus:
        """Return the corpus if it can be learnt from.

        Raises
        ------
        CorpusError
            On the first error among the problems.
        """
        errors = [p.message for p in self.problems if p.severity == "error"]
        if errors:
            more = f" (and {len(errors) - 1} more; see: emoseg corpus check)" if len(errors) > 1 else ""
            raise CorpusError(f"{errors[0]}{more}")
        return self


def make_corpus(
    name: str,
    root: Path,
    songs: Sequence[Song],
    *,
    problems: Sequence[Problem] = (),
    space: EmotionSpace | None = None,
    licence: str = "unknown",
    citation: str = "",
    published_counts: dict[str, int] | None = None,
) -> Corpus:
    """Build a corpus after the checks that hold for all: songs, two labels, readable labels, every file once.

    Raises
    ------
    CorpusError
        There is no song, or only one label; the message is the first error among the problems, if there is one.
    """
    labels = sorted({song.label for song in songs})
    if len(labels) < 2:
        errors = [p.message for p in problems if p.severity == "error"]
        if errors:
            more = f" (and {len(errors) - 1} more like it)" if len(errors) > 1 else ""
            raise CorpusError(f"{errors[0]}{more}")
        if not songs:
            raise CorpusError(f"{root}: no labelled song with audio found")
        all_songs = "the only song has" if len(songs) == 1 else f"all {len(songs)} songs have"
        raise CorpusError(f"{root}: {all_songs} the label {labels[0]!r}; two or more labels are needed")
    repeated = [path for path, n in Counter(song.path.resolve() for song in songs).items() if n > 1]
    found = [
        *problems,
        *(Problem("error", f"{path}: is listed more than once") for path in repeated),
        *(Problem("error", f"{root}: the label {x!r} is not printable text") for x in labels if not x.isprintable()),
    ]
    return Corpus(
        name,
        root,
        space or EmotionSpace.from_labels([song.label for song in songs]),
        tuple(sorted(songs, key=lambda song: song.id)),
        tuple(found),
        licence,
        citation,
        published_counts or {},
    )


def read_table(path: Path, *, columns: Sequence[str]) -> dict[int, dict[str, str]]:
    """Read a table with a header, whatever its encoding, delimiter and line ends.

    Parameters
    ----------
    path : Path
        A text table; UTF-16 with a byte-order mark, UTF-8 with or without one, else Windows-1252. Comma, semicolon or
        tab.
    columns : sequence of str
        Columns that must be there, compared without case and surrounding blanks.

    Returns
    -------
    dict of int to dict
        Rows by the number of the line that each ends on, the header being line 1; keys in lower case, values stripped.
        Rows whose cells are all empty are left out.

    Raises
    ------
    CorpusError
        The file cannot be read, a quote in it is never closed, or a column is missing; then the message lists the
        columns found.
    """
    text = _text(path)
    header = next(iter(text.splitlines()), "")
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows: dict[int, dict[str, str]] = {}
    try:
        reader.fieldnames = names = [name.strip().lower() for name in reader.fieldnames or []]
        missing = [c for c in columns if c.lower() not in names]
        if missing:
            raise CorpusError(f"{path}: no column {missing[0]!r}; columns found: {', '.join(names) or 'none'}")
        for row in reader:
            cells = {name: (row[name] or "").strip() for name in names}
            if any(cells.values()):
                rows[reader.line_num] = cells
    except csv.Error as error:
        at = reader.reader.line_num  # the other counter stops at the last whole row
        raise CorpusError(f"{path}: line {at}: a quote is out of place or left open: {error}") from error
    return rows


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read: {error.strerror}") from error
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")
