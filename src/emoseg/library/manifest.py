"""The manifest of a library: one SQLite file that records the state of every recording.

The manifest alone decides what a library holds. One transaction stores a result and marks its recording as done; only
then is the result written to a Parquet file, which counts from the transaction that names it. So a batch may be killed
at any moment: results that were stored stay, and the next run does the rest.

The states of a recording are ``todo``, ``done``, ``failed`` and ``gone``. A recording is gone if its file vanished; its
rows leave the tables, but the manifest keeps its result in case the file comes back.

A manifest may come from an untrusted source, a failing disk or another version. `Manifest.open` and `Manifest.check`
therefore check all of its content; the other methods rely on these checks.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from emoseg.audio.find import FoundFile, Scan
from emoseg.emotion import EmotionSpace
from emoseg.errors import EmosegError
from emoseg.library.records import AnalysisJob, AnalysisOutcome, Changes, Settings
from emoseg.library.tables import SEGMENTS, SONGS, Part, PartFile, readable, song_id
from emoseg.system.files import require_regular
from emoseg.system.names import one_line
from emoseg.types import AnalysisFailure

FORMAT = "emoseg.batch/2"
MANIFEST_FILE = "manifest.sqlite"
# "PRAGMA integrity_check" checks the conditions on types as well, so it finds damage inside a row.
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
    """A manifest is damaged; `cause` says how."""

    def __init__(self, file: Path, cause: str) -> None:
        super().__init__(f"{file}: is damaged ({cause}); 'emoseg batch' repairs it")
        self.file, self.cause = file, cause


class Manifest:
    """The open manifest of one library, returned by `create` and `open`.

    Each method that writes is one transaction. It raises `sqlite3.Error` if the file cannot be written.
    """

    def __init__(self, out: Path, connection: sqlite3.Connection, settings: Settings) -> None:
        self.out, self.settings = out, settings
        self._db = connection

    @classmethod
    def create(cls, out: Path, settings: Settings) -> Manifest:
        """Create the manifest of a new library."""
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
            It is not a database, lacks a table, or its settings are impossible.
        EmosegError
            There is no manifest, it cannot be read, or another version made it.
        """
        file = out / MANIFEST_FILE
        if not os.path.lexists(file):
            raise EmosegError(f"{out}: is not a library: {MANIFEST_FILE} is missing; 'emoseg batch' makes a library")
        require_regular(file)
        with _damage_noticed(file):
            db = _connect(out)
            try:
                meta = dict(db.execute("SELECT key, value FROM meta"))
                if "format" in meta and meta["format"] != FORMAT:
                    raise EmosegError(
                        f"{file}: has the format {meta['format']!r}; this version of emoseg reads {FORMAT!r}"
                    )
                if "format" not in meta or _wanted_definitions() - _definitions(db):
                    raise DamagedManifestError(file, "a table is missing or altered")
                return cls(out, db, Settings.from_json(str(meta.get("settings"))))
            except BaseException:
                db.close()
                raise

    @staticmethod
    def exists(out: Path) -> bool:
        """Return whether `out` holds a manifest; an empty file is left by a run that was killed while creating it.

        Raises
        ------
        DamagedManifestError
            The file of this name is not a database.
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
        """Check all pages of the file and the rows of all songs.

        Raises
        ------
        DamagedManifestError
            A page or a row is damaged.
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
                    raise DamagedManifestError(file, f"the path of the song {key} does not fit its id")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the statements of the block as one transaction and yield the database."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # on a full disk SQLite has rolled back already
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all reads in the block see the same state, whatever another process writes meanwhile."""
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

    # --- reading -----------------------------------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """Return the number of recordings in each state."""
        found = dict(self._db.execute("SELECT state, count(*) FROM songs GROUP BY state"))
        return {state: found.get(state, 0) for state in ("done", "failed", "gone", "todo")}

    def jobs(self) -> list[AnalysisJob]:
        """Return the recordings that are to be analysed, sorted by path."""
        # Only with a result does a checksum mean that the file need not be analysed again.
        rows = self._db.execute(
            f"SELECT song_id, path, size, mtime_ns, CASE WHEN {_KNOWN_STATE} != 'todo' THEN content END "
            "FROM songs WHERE state = 'todo' ORDER BY path"
        )
        return [AnalysisJob(key, os.fsdecode(path), *rest) for key, path, *rest in rows]

    def failures(self) -> list[AnalysisFailure]:
        """Return the recordings that could not be analysed, sorted by path; paths are below the root."""
        rows = self._db.execute("SELECT path, error_type, message FROM songs WHERE state = 'failed' ORDER BY path")
        return [AnalysisFailure(os.fsdecode(path), error_type, message) for path, error_type, message in rows]

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
        """Return the ids of songs whose results wait in this file and cannot be read."""
        space = self.space
        return [
            key
            for key, *streams in self.dump_pending()
            if not readable(key, dict(zip((SONGS, SEGMENTS), streams, strict=True)), space)
        ]

    def waiting(self) -> list[str]:
        """Return the ids of songs that are done but not yet in the tables, sorted by path."""
        rows = self._db.execute(
            "SELECT song_id FROM pending JOIN songs USING (song_id) WHERE state = 'done' ORDER BY path"
        )
        return [key for (key,) in rows]

    def stale(self) -> list[int]:
        """Return the numbers of parts that hold rows of songs that changed, failed or are gone."""
        rows = self._db.execute(
            "SELECT part FROM parts WHERE songs > "
            "(SELECT count(*) FROM songs WHERE songs.part = parts.part AND state != 'gone') ORDER BY part"
        )
        return [part for (part,) in rows]

    def members(self, part: int) -> dict[str, str]:
        """Return the state of each song whose rows in a part are up to date, by its id."""
        return dict(self._db.execute("SELECT song_id, state FROM songs WHERE part = ?", (part,)))

    def rows(self, keys: Iterable[str]) -> Iterator[dict[str, bytes]]:
        """Yield the rows of songs that wait for the tables, as one Arrow stream per table."""
        for key in keys:
            row = self._db.execute("SELECT songs, segments FROM pending WHERE song_id = ?", (key,)).fetchone()
            yield dict(zip((SONGS, SEGMENTS), row, strict=True))

    def path(self, key: str) -> str:
        """Return the path of a song below the root, as the file system needs it."""
        (path,) = self._db.execute("SELECT path FROM songs WHERE song_id = ?", (key,)).fetchone()
        return os.fsdecode(path)

    def paths(self) -> dict[str, str]:
        """Return the path of each song below the root, by its id, as the file system needs it."""
        return {key: os.fsdecode(path) for key, path in self._db.execute("SELECT song_id, path FROM songs")}

    def holds(self, key: str) -> bool:
        """Return whether the manifest has a song of this id, in any state."""
        return self._db.execute("SELECT 1 FROM songs WHERE song_id = ?", (key,)).fetchone() is not None

    def dump_songs(self) -> Iterator[tuple[Any, ...]]:
        """Yield the row of each song: its id first, its part last."""
        yield from self._db.execute("SELECT * FROM songs ORDER BY path")

    def dump_pending(self) -> Iterator[tuple[str, bytes, bytes]]:
        """Yield the id of each song that waits for the tables, and its rows for each table."""
        yield from self._db.execute("SELECT * FROM pending")

    # --- writing -----------------------------------------------------------------------------------------------------

    def update(self, scan: Scan) -> Changes:
        """Compare the songs with the files that were found, mark what is to be done, and return the changes.

        New and changed files are to be done and missing files are gone, except below folders that could not be listed.
        """
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
        """Mark all failed recordings as to be done, even if their files have not changed."""
        with self.transaction() as db:
            db.execute("UPDATE songs SET state = 'todo', error_type = NULL WHERE state = 'failed'")

    def forget(self, *, parts: Iterable[int], waiting: Iterable[str]) -> None:
        """Forget results that are lost; every song without a result is to be done again.

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
        """Return the number of the next part; no number is used twice, so no old file is taken for a new one."""
        (number,) = self._db.execute(
            "SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'parts'"
        ).fetchone()
        return int(number)

    def add_part(self, part: Part) -> None:
        """Record a part whose files are written; to be called within a transaction."""
        files = [value for name in (SONGS, SEGMENTS) for value in (part.files[name].size, part.files[name].checksum)]
        self._db.execute("INSERT INTO parts VALUES (?, ?, ?, ?, ?, ?)", (part.number, part.songs, *files))

    def record(self, outcome: AnalysisOutcome) -> None:
        """Store the outcome of a job."""
        with self.transaction() as db:
            self._record(db, outcome)

    def touch(self, path: str, file: FoundFile, content: str) -> None:
        """Record the new state of a file whose tags emoseg wrote, so that the song is not analysed again."""
        with self.transaction() as db:
            db.execute(
                "UPDATE songs SET size = ?, mtime_ns = ?, content = ? WHERE song_id = ? AND state = 'done'",
                (file.size, file.mtime_ns, content, song_id(path)),
            )

    @staticmethod
    def _record(db: sqlite3.Connection, outcome: AnalysisOutcome) -> None:
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


# The state of a recording whose file is the one that its result or failure is about.
_KNOWN_STATE = (
    "CASE WHEN error_type IS NOT NULL THEN 'failed' "
    "WHEN part IS NOT NULL OR song_id IN (SELECT song_id FROM pending) THEN 'done' ELSE 'todo' END"
)


def set_aside(out: Path) -> Path:
    """Rename a damaged manifest and its journal, so that a new one can be created; return the new name."""
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
    """Raise different errors for a damaged manifest and for one that cannot be read at the moment."""
    try:
        yield
    except ValueError as error:
        raise DamagedManifestError(file, one_line(str(error))) from error
    except sqlite3.Error as error:
        # An error about text that is not UTF-8 has no code, because it comes from Python's module, not from SQLite.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
            raise DamagedManifestError(file, one_line(str(error))) from error
        raise EmosegError(f"{file}: cannot be read: {error}") from error


def _definitions(db: sqlite3.Connection) -> set[tuple[str, str]]:
    """Return the names and definitions of all tables and indexes except those that SQLite adds."""
    rows = db.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")
    return set(rows.fetchall())


def _wanted_definitions() -> set[tuple[str, str]]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(_TABLES)
        return _definitions(db)


def _connect(out: Path, *, create: bool = False) -> sqlite3.Connection:
    # With a rollback journal, a finished library is one plain file that can be read anywhere, also on a network drive
    # or a read-only one; a write-ahead log needs more. FULL: a part is deleted only after its successor is on the disk.
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
