"""The manifest of a library: one SQLite file that says what is known of every recording.

It is the only truth about a batch. A result is in it, in the transaction that marks its recording as done, before it is
in any Parquet file; a Parquet file counts from the transaction that names it. So a batch may be killed at any moment:
whatever was done stays done, and what was not is done by the next run.

States of a recording: ``todo``, ``done``, ``failed``, ``gone`` (its file vanished; its rows leave the tables, but its
result is kept here in case the file comes back).

A manifest may come from a stranger, a failing disk or another version, so `Manifest.open` and `Manifest.check` trust
nothing in it; the other methods trust what these two let pass.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from emoseg.audio.find import FoundFile, Scan
from emoseg.emotion import EmotionSpace
from emoseg.errors import ConfigError, EmosegError
from emoseg.library.shards import Shard
from emoseg.library.tables import SEGMENTS, SONGS, Part, PartFile, readable, song_id
from emoseg.system.files import require_regular
from emoseg.system.names import one_line

FORMAT = "emoseg.batch/2"
MANIFEST_FILE = "manifest.sqlite"
# The conditions on types are checked by "PRAGMA integrity_check" too, so that damage in a row is noticed.
_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE songs (
    song_id TEXT PRIMARY KEY NOT NULL,
    path BLOB NOT NULL CHECK (typeof(path) = 'blob'),  -- below the root, in the file system's own bytes
    size INTEGER NOT NULL CHECK (typeof(size) = 'integer'),
    mtime_ns INTEGER NOT NULL CHECK (typeof(mtime_ns) = 'integer'),
    content TEXT CHECK (typeof(content) IN ('text', 'null')),  -- checksum of the file when it was last analysed
    state TEXT NOT NULL CHECK (state IN ('todo', 'done', 'failed', 'gone')),
    analyses INTEGER NOT NULL DEFAULT 0 CHECK (typeof(analyses) = 'integer'),
    error_type TEXT CHECK (typeof(error_type) = 'text' OR error_type IS NULL AND state != 'failed'),
    message TEXT CHECK (typeof(message) = 'text' OR message IS NULL AND state != 'failed'),
    part INTEGER REFERENCES parts (part) CHECK (typeof(part) IN ('integer', 'null'))
);
CREATE INDEX songs_by_part ON songs (part);
CREATE INDEX songs_by_state ON songs (state);
CREATE TABLE pending (
    song_id TEXT PRIMARY KEY NOT NULL REFERENCES songs (song_id),
    songs BLOB NOT NULL CHECK (typeof(songs) = 'blob'),
    segments BLOB NOT NULL CHECK (typeof(segments) = 'blob')
);
CREATE TABLE parts (
    part INTEGER PRIMARY KEY AUTOINCREMENT,
    songs INTEGER NOT NULL CHECK (typeof(songs) = 'integer'),
    songs_size INTEGER NOT NULL CHECK (typeof(songs_size) = 'integer'),
    songs_checksum TEXT NOT NULL CHECK (typeof(songs_checksum) = 'text'),
    segments_size INTEGER NOT NULL CHECK (typeof(segments_size) = 'integer'),
    segments_checksum TEXT NOT NULL CHECK (typeof(segments_checksum) = 'text')
);
"""


class DamagedManifestError(EmosegError):
    """A manifest is damaged; `cause` says in what way."""

    def __init__(self, file: Path, cause: str) -> None:
        super().__init__(f"{file}: is damaged ({cause}); 'emoseg batch' mends it")
        self.file, self.cause = file, cause


@dataclass(frozen=True)
class Settings:
    """What decides the numbers and the members of a library; one library has one of each.

    `model` identifies the model folder by its content. `shard` is ``"I/N"`` or empty.
    """

    root: str
    model: str
    model_name: str
    hop_s: float | None
    shard: str
    space: dict[str, Any]

    def to_json(self) -> str:
        """Return the settings as JSON."""
        return json.dumps(vars(self), ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Inverse of `to_json`.

        Raises
        ------
        ValueError
            The text is no JSON of settings, or a setting has an impossible value.
        """
        try:
            settings = cls(**json.loads(text))
            EmotionSpace.from_json(settings.space)
            possible = (
                all(isinstance(value, str) for value in (settings.root, settings.model, settings.model_name))
                and (settings.hop_s is None or 0 < settings.hop_s < math.inf)
                and (settings.shard == "" or Shard.parse(settings.shard) is not None)
                and Path(settings.root).is_absolute()
                and "\0" not in settings.root
            )
        except (TypeError, KeyError, AttributeError, ValueError, RecursionError, ConfigError) as error:
            raise ValueError(f"its settings cannot be read: {error}") from error
        if not possible:
            raise ValueError("its settings are impossible")
        return settings


@dataclass(frozen=True)
class Job:
    """A recording to be analysed; `content` is the checksum of what is already known, if anything is."""

    song_id: str
    path: str
    size: int
    mtime_ns: int
    content: str | None


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    `state` ``"same"`` is a file whose content is the one already known. `rows` holds an Arrow stream a table.
    """

    song_id: str
    state: Literal["done", "failed", "same", "gone"]
    size: int
    mtime_ns: int
    content: str | None = None
    duration_s: float = 0.0
    error_type: str | None = None
    message: str | None = None
    rows: dict[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Failure:
    """A recording that could not be analysed; `error_type` is the class of the error."""

    path: str
    error_type: str
    message: str


@dataclass(frozen=True)
class Changes:
    """What a scan found in comparison with the manifest."""

    new: int
    changed: int
    gone: int
    back: int


class Manifest:
    """The manifest of one library, open; made by `create` or `open`.

    Methods that write raise `sqlite3.Error` where the disk refuses; each is one transaction.
    """

    def __init__(self, out: Path, connection: sqlite3.Connection, settings: Settings) -> None:
        self.out, self.settings = out, settings
        self._db = connection

    @classmethod
    def create(cls, out: Path, settings: Settings) -> Manifest:
        """Make the manifest of a new library."""
        db = _connect(out, create=True)
        try:
            with db:
                db.execute("BEGIN IMMEDIATE")
                for statement in _TABLES.split(";\n"):
                    db.execute(statement)
                db.execute("INSERT INTO meta VALUES ('format', ?), ('settings', ?)", (FORMAT, settings.to_json()))
        except BaseException:
            db.close()
            raise
        return cls(out, db, settings)

    @classmethod
    def open(cls, out: Path) -> Manifest:
        """Open the manifest of a library.

        Raises
        ------
        DamagedManifestError
            It is no database, lacks a table, or its settings cannot be.
        EmosegError
            There is none, it cannot be read, or it was made by another version.
        """
        file = out / MANIFEST_FILE
        if not os.path.lexists(file):
            raise EmosegError(f"{out}: is not a library: {MANIFEST_FILE} is missing; 'emoseg batch' makes one")
        require_regular(file)
        with _damage_noticed(file):
            db = _connect(out)
            try:
                meta = dict(db.execute("SELECT key, value FROM meta"))
                if "format" in meta and meta["format"] != FORMAT:
                    raise EmosegError(f"{file}: has the format {meta['format']!r}; this emoseg reads {FORMAT!r}")
                if "format" not in meta or _wanted_definitions() - _definitions(db):
                    raise DamagedManifestError(file, "a table is missing or altered")
                return cls(out, db, Settings.from_json(str(meta.get("settings"))))
            except BaseException:
                db.close()
                raise

    @staticmethod
    def exists(out: Path) -> bool:
        """Whether `out` holds a manifest; an empty one is what a run left that was killed while making it.

        Raises
        ------
        DamagedManifestError
            What has its name is no database.
        EmosegError
            It is a folder or a special file, or cannot be read.
        """
        file = out / MANIFEST_FILE
        if not os.path.lexists(file):
            return False
        require_regular(file)
        with _damage_noticed(file), closing(_connect(out)) as db:
            return bool(db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])

    def check(self) -> None:
        """Check all pages of the file, and all that is known of the songs.

        Raises
        ------
        DamagedManifestError
            Something in it is damaged.
        EmosegError
            It cannot be read.
        """
        file = self.out / MANIFEST_FILE
        with _damage_noticed(file):
            (found,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()
            if found != "ok":
                raise DamagedManifestError(file, one_line(str(found)))
            for key, path, *_ in self.dump_songs():
                if song_id(os.fsdecode(path)) != key:
                    raise DamagedManifestError(file, f"the path of the song {key} is another one")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run statements that count together or not at all."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite itself goes back where a disk is full
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all that is read in the block be of one moment, whatever another process writes meanwhile."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    @property
    def space(self) -> EmotionSpace:
        """The emotion space of all rows."""
        return EmotionSpace.from_json(self.settings.space)

    # --- what is known -----------------------------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """Return the number of recordings in each state."""
        found = dict(self._db.execute("SELECT state, count(*) FROM songs GROUP BY state"))
        return {state: found.get(state, 0) for state in ("done", "failed", "gone", "todo")}

    def jobs(self) -> list[Job]:
        """Return what is to be done, sorted by path."""
        # A checksum counts only beside a result: a file that has not changed is not analysed again.
        rows = self._db.execute(
            f"SELECT song_id, path, size, mtime_ns, CASE WHEN {_KNOWN_STATE} != 'todo' THEN content END "
            "FROM songs WHERE state = 'todo' ORDER BY path"
        )
        return [Job(key, os.fsdecode(path), *rest) for key, path, *rest in rows]

    def failures(self) -> list[Failure]:
        """Return the recordings that failed, sorted by path."""
        rows = self._db.execute("SELECT path, error_type, message FROM songs WHERE state = 'failed' ORDER BY path")
        return [Failure(os.fsdecode(path), error_type, message) for path, error_type, message in rows]

    def parts(self) -> list[Part]:
        """Return the parts of the tables."""
        rows = self._db.execute(
            "SELECT part, songs, songs_size, songs_checksum, segments_size, segments_checksum FROM parts ORDER BY part"
        )
        return [
            Part(number, songs, {SONGS: PartFile(*files[:2]), SEGMENTS: PartFile(*files[2:])})
            for number, songs, *files in rows
        ]

    def damaged_rows(self) -> list[str]:
        """Return the songs whose results are not in the tables and cannot be read."""
        space = self.space
        return [
            key
            for key, *streams in self.dump_pending()
            if not readable(key, dict(zip((SONGS, SEGMENTS), streams, strict=True)), space)
        ]

    def waiting(self) -> list[str]:
        """Return the songs that are done and not yet in the tables, sorted by path."""
        rows = self._db.execute(
            "SELECT song_id FROM pending JOIN songs USING (song_id) WHERE state = 'done' ORDER BY path"
        )
        return [key for (key,) in rows]

    def stale(self) -> list[int]:
        """Return the parts that hold rows of songs that changed, failed or are gone."""
        rows = self._db.execute(
            "SELECT part FROM parts WHERE songs > "
            "(SELECT count(*) FROM songs WHERE songs.part = parts.part AND state != 'gone') ORDER BY part"
        )
        return [part for (part,) in rows]

    def members(self, part: int) -> dict[str, str]:
        """Return the songs whose rows in a part count, and their states."""
        return dict(self._db.execute("SELECT song_id, state FROM songs WHERE part = ?", (part,)))

    def rows(self, keys: Iterable[str]) -> Iterator[dict[str, bytes]]:
        """Yield the rows of songs that wait, as Arrow streams."""
        for key in keys:
            row = self._db.execute("SELECT songs, segments FROM pending WHERE song_id = ?", (key,)).fetchone()
            yield dict(zip((SONGS, SEGMENTS), row, strict=True))

    def path(self, key: str) -> str:
        """Return the path of a song below the root, in the form that opens its file."""
        (path,) = self._db.execute("SELECT path FROM songs WHERE song_id = ?", (key,)).fetchone()
        return os.fsdecode(path)

    def paths(self) -> dict[str, str]:
        """Return the path of each song below the root, in the form that opens its file."""
        return {key: os.fsdecode(path) for key, path in self._db.execute("SELECT song_id, path FROM songs")}

    def holds(self, key: str) -> bool:
        """Whether a song is known, in whatever state."""
        return self._db.execute("SELECT 1 FROM songs WHERE song_id = ?", (key,)).fetchone() is not None

    def dump_songs(self) -> Iterator[tuple[Any, ...]]:
        """Yield all that is known of each song, its part last."""
        yield from self._db.execute("SELECT * FROM songs ORDER BY path")

    def dump_pending(self) -> Iterator[tuple[str, bytes, bytes]]:
        """Yield the rows of all songs that are not in a part."""
        yield from self._db.execute("SELECT * FROM pending")

    # --- what changes it ---------------------------------------------------------------------------------------------

    def update(self, scan: Scan) -> Changes:
        """Compare with what lies on disk: new and changed files are to be done, missing ones are gone."""
        rows = self._db.execute("SELECT song_id, size, mtime_ns, state FROM songs")
        known = {key: (size, mtime_ns, state) for key, size, mtime_ns, state in rows}
        found = {song_id(file.path): file for file in scan.files}
        new = [(key, file) for key, file in found.items() if key not in known]
        changed = [(key, f) for key, f in found.items() if key in known and known[key][:2] != (f.size, f.mtime_ns)]
        back = [k for k, f in found.items() if k in known and known[k] == (f.size, f.mtime_ns, "gone")]
        missing = [key for key in known.keys() - found.keys() if known[key][2] != "gone"]
        gone = [key for key in missing if not _beneath(self.path(key), scan.unlisted)]
        with self.transaction() as db:
            db.executemany(
                "INSERT INTO songs (song_id, path, size, mtime_ns, state) VALUES (?, ?, ?, ?, 'todo')",
                [(key, os.fsencode(file.path), file.size, file.mtime_ns) for key, file in new],
            )
            db.executemany(
                "UPDATE songs SET state = 'todo', size = ?, mtime_ns = ? WHERE song_id = ?",
                [(file.size, file.mtime_ns, key) for key, file in changed],
            )
            db.executemany("UPDATE songs SET state = 'gone' WHERE song_id = ?", [(key,) for key in gone])
            db.executemany(f"UPDATE songs SET state = {_KNOWN_STATE} WHERE song_id = ?", [(key,) for key in back])
        return Changes(len(new), len(changed), len(gone), len(back))

    def retry_failures(self) -> None:
        """Mark all failed recordings as to be done, whether or not their files changed."""
        with self.transaction() as db:
            db.execute("UPDATE songs SET state = 'todo', error_type = NULL WHERE state = 'failed'")

    def forget(self, *, parts: Iterable[int], waiting: Iterable[str]) -> None:
        """Forget results that are lost; every song that is done and has no result is to be done again.

        Parameters
        ----------
        parts : iterable of int
            Numbers of parts whose files are damaged.
        waiting : iterable of str
            Songs whose rows in this file are damaged.
        """
        with self.transaction() as db:
            db.executemany("DELETE FROM parts WHERE part = ?", [(part,) for part in parts])
            db.executemany("DELETE FROM pending WHERE song_id = ?", [(key,) for key in waiting])
            db.execute("UPDATE songs SET part = NULL WHERE part NOT IN (SELECT part FROM parts)")
            db.execute(f"UPDATE songs SET state = 'todo' WHERE state = 'done' AND {_KNOWN_STATE} = 'todo'")

    def next_part(self) -> int:
        """Return the number of the next part; no number is used twice, so that no file is taken for another."""
        (number,) = self._db.execute(
            "SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'parts'"
        ).fetchone()
        return int(number)

    def add_part(self, part: Part) -> None:
        """Let a part count whose files are written; to be called within a transaction."""
        files = [value for name in (SONGS, SEGMENTS) for value in (part.files[name].size, part.files[name].checksum)]
        self._db.execute("INSERT INTO parts VALUES (?, ?, ?, ?, ?, ?)", (part.number, part.songs, *files))

    def record(self, outcomes: Iterable[Outcome]) -> None:
        """Store what became of jobs."""
        with self.transaction() as db:
            for outcome in outcomes:
                self._record(db, outcome)

    def touch(self, path: str, file: FoundFile, content: str) -> None:
        """Note that emoseg itself changed a file of a song that is done, without changing its sound."""
        with self.transaction() as db:
            db.execute(
                "UPDATE songs SET size = ?, mtime_ns = ?, content = ? WHERE song_id = ? AND state = 'done'",
                (file.size, file.mtime_ns, content, song_id(path)),
            )

    @staticmethod
    def _record(db: sqlite3.Connection, outcome: Outcome) -> None:
        key, stamp = outcome.song_id, (outcome.size, outcome.mtime_ns)
        if outcome.state == "gone":
            db.execute("UPDATE songs SET state = 'gone' WHERE song_id = ?", (key,))
            return
        if outcome.state == "same":
            db.execute(
                f"UPDATE songs SET size = ?, mtime_ns = ?, state = {_KNOWN_STATE} WHERE song_id = ?", (*stamp, key)
            )
            return
        db.execute("DELETE FROM pending WHERE song_id = ?", (key,))
        if outcome.rows:
            db.execute("INSERT INTO pending VALUES (?, ?, ?)", (key, outcome.rows[SONGS], outcome.rows[SEGMENTS]))
        db.execute(
            "UPDATE songs SET size = ?, mtime_ns = ?, content = ?, state = ?, error_type = ?, message = ?, "
            "part = NULL, analyses = analyses + 1 WHERE song_id = ?",
            (*stamp, outcome.content, outcome.state, outcome.error_type, outcome.message, key),
        )


# The state of a recording about which everything known still holds.
_KNOWN_STATE = (
    "CASE WHEN error_type IS NOT NULL THEN 'failed' "
    "WHEN part IS NOT NULL OR song_id IN (SELECT song_id FROM pending) THEN 'done' ELSE 'todo' END"
)


def set_aside(out: Path) -> Path:
    """Rename a damaged manifest, and the journal that belongs to it, so that a new one can be made."""
    file = out / MANIFEST_FILE
    aside, copies = file.with_name(f"{file.name}.damaged"), 1
    while os.path.lexists(aside):
        copies += 1
        aside = file.with_name(f"{file.name}.damaged-{copies}")
    file.rename(aside)
    journal = file.with_name(f"{file.name}-journal")
    if os.path.lexists(journal):
        journal.rename(aside.with_name(f"{aside.name}-journal"))
    return aside


@contextmanager
def _damage_noticed(file: Path) -> Iterator[None]:
    """Tell a damaged manifest from one that cannot be read for the moment."""
    try:
        yield
    except ValueError as error:
        raise DamagedManifestError(file, one_line(str(error))) from error
    except sqlite3.Error as error:
        # Text that is not UTF-8 has no code: Python's module says so, not SQLite.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
            raise DamagedManifestError(file, one_line(str(error))) from error
        raise EmosegError(f"{file}: cannot be read: {error}") from error


def _definitions(db: sqlite3.Connection) -> set[tuple[str, str]]:
    """Return the names and definitions of all tables and indexes, without those that SQLite makes."""
    rows = db.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")
    return set(rows.fetchall())


def _wanted_definitions() -> set[tuple[str, str]]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(_TABLES)
        return _definitions(db)


def _connect(out: Path, *, create: bool = False) -> sqlite3.Connection:
    # A rollback journal, not a write-ahead log: a finished library is one plain file that can be read anywhere, also
    # on a network drive or a read-only one. FULL: a part may only be deleted once its successor is on the disk.
    uri = f"{(out / MANIFEST_FILE).absolute().as_uri()}?mode={'rwc' if create else 'rw'}"
    db = sqlite3.connect(uri, uri=True, timeout=60, isolation_level=None)
    try:
        db.execute("PRAGMA synchronous = FULL")
    except BaseException:
        db.close()
        raise
    return db


def _beneath(path: str, folders: dict[str, str]) -> bool:
    return any(path.startswith(f"{folder}/") for folder in folders)
