"""What a library holds, for reading: its tables as the manifest has them, and the files behind the songs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoseg.batch.manifest import Failure, Manifest, Settings
from emoseg.batch.tables import SONGS, part_file, schemas
from emoseg.errors import EmosegError
from emoseg.types import EmotionSpace


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
    parts : tuple of int
    failures : tuple of Failure
    paths : dict of str to str
        The path of each song below the root, in the form that opens its file.
    """

    out: Path
    settings: Settings
    counts: dict[str, int]
    waiting: int
    parts: tuple[int, ...]
    failures: tuple[Failure, ...]
    paths: dict[str, str]

    @property
    def root(self) -> Path:
        """The folder of the recordings."""
        return Path(self.settings.root)

    @property
    def space(self) -> EmotionSpace:
        """The emotion space of all rows."""
        return EmotionSpace.from_json(self.settings.space)

    def table(self, name: str) -> Any:
        """Return a table as a pyarrow data set, read as it is used.

        Raises
        ------
        EmosegError
            A file of it is missing.
        """
        from pyarrow import dataset

        schema = schemas(self.space)[name]
        files = [part_file(self.out, name, part) for part in self.parts]
        for file in files:
            if not file.is_file():
                raise EmosegError(f"{file}: is missing; 'emoseg batch' makes it again")
        if not files:
            return dataset.dataset(schema.empty_table())
        return dataset.dataset([str(file) for file in files], schema=schema, format="parquet")

    def songs(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield the file and the row of each song, sorted by path."""
        for row in self.table(SONGS).to_table().sort_by("path").to_pylist():
            yield self.root / self.paths[row["song_id"]], row


def read_contents(out: Path) -> Contents:
    """Read what a library holds.

    Raises
    ------
    EmosegError
        `out` is no library of this version.
    """
    try:
        with closing(Manifest.open(out)) as manifest:
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
