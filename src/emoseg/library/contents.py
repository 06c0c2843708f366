"""The contents of a library, for reading: its tables, its failures, and the files of its songs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset

from emoseg.emotion import EmotionSpace
from emoseg.errors import EmosegError
from emoseg.library.manifest import Manifest
from emoseg.library.records import Settings
from emoseg.library.tables import SONGS, Part, part_file, part_problem, schemas
from emoseg.system.names import one_line
from emoseg.types import AnalysisFailure


@dataclass(frozen=True)
class Contents:
    """The contents of a library at one moment.

    Parameters
    ----------
    out : Path
    settings : Settings
    counts : dict of str to int
        Number of songs in each state; ``done`` counts songs in the tables and songs that wait for them.
    waiting : int
        Number of songs that are done but not in the tables, because a batch was interrupted.
    parts : tuple of Part
    failures : tuple of AnalysisFailure
        Paths are below the root.
    paths : dict of str to str
        The path of each song below the root, by its id, as the file system needs it.
    """

    out: Path
    settings: Settings
    counts: dict[str, int]
    waiting: int
    parts: tuple[Part, ...]
    failures: tuple[AnalysisFailure, ...]
    paths: dict[str, str]

    @property
    def root(self) -> Path:
        """The folder of the recordings."""
        return Path(self.settings.root)

    @property
    def space(self) -> EmotionSpace:
        """The emotion space of all rows."""
        return EmotionSpace.from_json(self.settings.space)

    def file(self, song_id: str) -> Path:
        """Return the path of the file of a song.

        Raises
        ------
        EmosegError
            The manifest does not know the song.
        """
        if song_id not in self.paths:
            raise EmosegError(f"{self.out}: its manifest does not know the song {song_id}; 'emoseg batch' repairs it")
        return self.root / self.paths[song_id]

    def table(self, name: str) -> Any:
        """Return a table as a pyarrow data set, whose rows are read when they are used; see `reading`.

        Raises
        ------
        EmosegError
            A file of the table is missing or damaged.
        """
        self.require_parts(name)
        schema = schemas(self.space)[name]
        files = [str(part_file(self.out, name, part.number)) for part in self.parts]
        if not files:
            return pa.dataset.dataset(schema.empty_table())
        return pa.dataset.dataset(files, schema=schema, format="parquet")

    def require_parts(self, *names: str) -> None:
        """Check the files of the named tables, by default of both, against the checksums in the manifest.

        Raises
        ------
        EmosegError
            A file is missing or damaged.
        """
        for part in self.parts:
            if problem := part_problem(self.out, part, *names):
                raise EmosegError(f"{problem}; 'emoseg batch' repairs it")

    @contextmanager
    def reading(self, *errors: type[Exception]) -> Iterator[None]:
        """Turn errors of reading rows in the block into one of emoseg's: a file may be lost after `table` checked it.

        Parameters
        ----------
        *errors : type
            Exceptions of the reading library, in addition to those of pyarrow.

        Raises
        ------
        EmosegError
            A row cannot be read.
        """
        try:
            yield
        except (pa.ArrowException, OSError, *errors) as error:
            self.require_parts()
            raise EmosegError(f"{self.out}: cannot be read: {one_line(str(error))}") from error

    def songs(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield the path of the file and the row of each song, sorted by path.

        Raises
        ------
        EmosegError
            The table cannot be read.
        """
        with self.reading():
            rows = self.table(SONGS).to_table().sort_by("path").to_pylist()
        for row in rows:
            yield self.file(row["song_id"]), row


def read_contents(out: Path) -> Contents:
    """Return the contents of a library.

    Raises
    ------
    EmosegError
        `out` is not a library of this version, or its manifest is damaged.
    """
    try:
        with closing(Manifest.open(out)) as manifest, manifest.snapshot():
            manifest.check()
            return Contents(
                out=out,
                settings=manifest.settings,
                counts=manifest.counts(),
                waiting=len(manifest.waiting()),
                parts=tuple(manifest.parts()),
                failures=tuple(manifest.failures()),
                paths=manifest.paths(),
            )
    except sqlite3.Error as error:
        raise EmosegError(f"{out}: cannot be read: {error}") from error
