"""A user's own songs: a folder with one sub-folder per label, or a table of paths and labels."""

from __future__ import annotations

import os
from pathlib import Path

from emoseg.audio.find import find_recordings
from emoseg.corpora.base import Corpus, Song, make_corpus
from emoseg.corpora.kinds import CorpusKind
from emoseg.corpora.options import CorpusOptions
from emoseg.corpora.problems import Problem
from emoseg.corpora.splits import shared_groups
from emoseg.corpora.tables import read_table
from emoseg.errors import CorpusError, EmosegError
from emoseg.system.files import require_regular


def load_folder(root: Path, options: CorpusOptions) -> Corpus:
    """Load a folder in which each sub-folder is named like a label and holds its recordings, at any depth.

    Raises
    ------
    CorpusError
        `root` is not a folder, or no sub-folder has a recording.
    """
    if not root.is_dir():
        raise CorpusError(f"{root}: is not a folder")
    songs, problems = [], []
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        found = find_recordings(folder)
        songs += [Song(str(path.relative_to(root)), path, folder.name) for path in found]
        if not found:
            problems.append(Problem("warning", f"{folder}: holds no audio and is left out"))
    loose = [path for path in find_recordings(root) if path.parent == root]
    problems += [Problem("warning", f"{path}: is not in the sub-folder of a label and is left out") for path in loose]
    if not songs:
        raise CorpusError(f"{root}: no audio in any sub-folder; the layout is {root / 'LABEL' / 'song.mp3'}")
    problems.append(Problem("warning", f"{root}: artists are unknown, folds go by song only"))
    return make_corpus("folder", root, songs, problems=problems)


def load_csv(table: Path, options: CorpusOptions) -> Corpus:
    """Load a table with the columns path and label, and optionally artist and split.

    Paths are absolute, or relative to the table's folder or to the folder of recordings that the options give; they may
    lead out of it. A path with unprintable characters is a warning.

    Raises
    ------
    CorpusError
        The table cannot be read.
    """
    if table.is_dir():
        raise CorpusError(f"{table}: is a folder; the csv corpus is one table, such as csv:{table / 'songs.csv'}")
    songs: list[Song] = []
    problems: list[Problem] = []
    columns, optional = ["path", "label"], ["artist", "split"]
    for number, row in read_table(table, columns=columns, optional=optional, problems=problems).items():
        path = (options.audio or table.parent) / row["path"]
        if not row["path"].isprintable():
            message = f"{table}: row {number}: the path has unprintable characters: {row['path']!a}"
            problems.append(Problem("warning", message))
        if lacking := " and no ".join(column for column in ("path", "label") if not row[column]):
            known = row["path"] or row["label"]
            problems.append(Problem("error", f"{table}: row {number} has no {lacking}{known and f': {known}'}"))
        elif fault := _fault(path):
            problems.append(Problem("error", f"{table}: row {number} gives a label to {fault}"))
        else:
            artist, split = row.get("artist") or None, row.get("split") or None
            songs.append(Song(row["path"], path, row["label"], artist=artist, split=split))
    if songs and not any(song.artist for song in songs):
        problems.append(Problem("warning", f"{table}: no artist column: folds go by song only"))
    problems += shared_groups([(song.split, song.artist) for song in songs], where=str(table))
    return make_corpus("csv", table, songs, problems=problems)


FOLDER = CorpusKind(load_folder, frozenset())
CSV = CorpusKind(load_csv, frozenset({"split", "audio"}))


def _fault(path: Path) -> str:
    """Return why a path cannot be a recording; an empty string if it is a file."""
    if not os.path.exists(path):  # noqa: PTH110  (Path.exists raises for names that are too long)
        return f"a missing file: {path}"
    try:
        require_regular(path)
    except EmosegError as error:
        return f"something that is not a recording: {error}"
    return ""
