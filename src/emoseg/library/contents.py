"""What a library holds, for reading: its tables as the manifest has them, and the files behind the songs."""

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
    """A library at one moment.

    Parameters
    ----------
    out : Path
    settings : Settings
    counts : dict of str to int
        Songs in each state; ``done`` counts those in the tables or waiting for them.
    waiting : int
        Songs that are done, but not in the tables, because a batch was interrupted.
    parts : tuple of Part
    failures : tuple of AnalysisFailure
    paths : dict of str to str
        The path of each song below the root, in the form that opens its file.
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
        """Return the file of a song that is in the tables.

        Raises
        ------
        EmosegError
            The manifest does not know the song.
        """
        if song_id not in self.paths:
            raise EmosegError(f"{self.out}: its manifest does not know the song {song_id}; 'emoseg batch' repairs it")
        return self.root / self.paths[song_id]

    def table(self, name: str) -> Any:
        """Return a table as a pyarrow data set, read as it is used; see `reading`.

        Raises
        ------
        EmosegError
            A file of it is missing or damaged.
        """
        self.require_parts(name)
        schema = schemas(self.space)[name]
        files = [str(part_file(self.out, name, part.number)) for part in self.parts]
        if not files:
            return pa.dataset.dataset(schema.empty_table())
        return pa.dataset.dataset(files, schema=schema, format="parquet")

    def require_parts(self, *names: str) -> None:
        """Check the files of tables, by default of both, against the checksums in the manifest.

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
        """Tell in one line what goes wrong while rows are read: a file may be lost after `table` has checked it.

        Parameters
        ----------
        *errors : type
            Exceptions of the library that reads, beside those of pyarrow.
        """
        try:
            yield
        except (pa.ArrowException, OSError, *errors) as error:
            self.require_parts()
            raise EmosegError(f"{self.out}: cannot be read: {one_line(str(error))}") from error

    def songs(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield the file and the row of each song, sorted by path.

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
    """Read what a library holds.

    Raises
    ------
    EmosegError
        `out` is no library of this version, or its manifest is damaged.
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
