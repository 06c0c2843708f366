"""Duration, content hash and fingerprint of recordings, kept on disk so that the next check takes seconds.

The SQLite table has one row per file. Its key is made of the file's path, size and time of change, so a changed file is
read again. Failures are not kept, because another decoder may be installed before the next check.
"""

from __future__ import annotations

import hashlib
import math
import os
import sqlite3
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import soxr

from emoseg.audio.reader import SegmentReader
from emoseg.checking.fingerprint import SECONDS, Words, fingerprint
from emoseg.config import SegmentConfig
from emoseg.errors import AudioError, EmosegError, EmosegWarning
from emoseg.system.files import file_checksum, modified_ns, require_regular
from emoseg.system.parallel import Start, run_parallel

VERSION = 1
"""Part of every key; raised whenever the fingerprint or the duration of a file changes."""

_COMMIT_EVERY = 64
_PARALLEL_FROM = 20  # recordings; starting processes takes longer than reading fewer
_TIMEOUT_S = 10.0
_DISK = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}

_T = TypeVar("_T")


@dataclass(frozen=True)
class Reading:
    """One decoded recording.

    Parameters
    ----------
    duration_s : float
        Duration in seconds; 0 if it cannot be used.
    content : str
        Hash of the file's bytes.
    words : array of uint32, shape (T,)
        Its fingerprint.
    message : str
        Why it cannot be used; empty if it can.
    """

    duration_s: float
    content: str
    words: Words
    message: str = ""


def read_all(paths: Sequence[Path], *, cache: Path, workers: int) -> Generator[tuple[int, Reading], None, None]:
    """Yield the index and the reading of every recording, first of those in the table.

    Parameters
    ----------
    paths : sequence of Path
    cache : Path
        Existing folder of the table.
    workers : int
        Number of processes that decode the other recordings.

    Raises
    ------
    EmosegError
        The table cannot be written, as on a full disk.

    Warns
    -----
    EmosegWarning
        The table is damaged and is replaced, or another process holds it and it is not used.
    """
    with closing(_Table(cache / "readings.sqlite")) as table:
        unknown: list[tuple[int, Path, str]] = []
        for i, path in enumerate(paths):
            key = _key(path)
            if (known := table.find(key)) is None:
                unknown.append((i, path, key))
            else:
                yield i, known
        processes = workers if len(unknown) >= _PARALLEL_FROM else 1
        fresh = run_parallel([path for _, path, _ in unknown], Start(_decoding), workers=processes)
        with closing(fresh):
            for place, reading in fresh:
                i, path, key = unknown[place]
                if not reading.message and _key(path) != key:
                    reading = _unusable(f"{path}: changed while it was read")
                if not reading.message:
                    table.keep(key, reading)
                yield i, reading


class _Table:
    """Readings on disk.

    The table only saves time. So a damaged one is replaced, and one that another process holds is not used, both with a
    warning. New rows are written `_COMMIT_EVERY` at a time, so that the table is never locked for long.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._new: list[tuple[str, float, str, bytes]] = []
        self._connection: sqlite3.Connection | None = None
        self._replaced = False
        if file.exists():
            require_regular(file)
        self._open()

    def find(self, key: str) -> Reading | None:
        """Return the reading of a recording; None if there is none, or it is damaged."""
        query = "SELECT duration_s, content, words FROM reading WHERE key = ?"
        row = self._try(lambda connection: connection.execute(query, (key,)).fetchone())
        return _reading(row) if row else None

    def keep(self, key: str, reading: Reading) -> None:
        """Keep a reading; it is written now or together with later ones."""
        self._new.append((key, reading.duration_s, reading.content, reading.words.astype("<u4").tobytes()))
        if len(self._new) >= _COMMIT_EVERY:
            self._write()

    def close(self) -> None:
        """Write all remaining readings, and close the file."""
        try:
            if self._new:
                self._write()
        finally:
            self._drop()

    def _write(self) -> None:
        for _ in range(2):  # the second time to a new table, if the old one was damaged
            if self._try(self._insert):
                break
        self._new.clear()

    def _insert(self, connection: sqlite3.Connection) -> bool:
        with connection:
            connection.executemany("INSERT OR REPLACE INTO reading VALUES (?, ?, ?, ?)", self._new)
        return True

    def _open(self) -> None:
        def prepare(connection: sqlite3.Connection) -> None:
            columns = "key TEXT PRIMARY KEY, duration_s REAL, content TEXT, words BLOB"
            connection.execute(f"CREATE TABLE IF NOT EXISTS reading ({columns})")
            connection.execute("SELECT key, duration_s, content, words FROM reading LIMIT 1").fetchone()

        try:
            self._connection = sqlite3.connect(self.file, timeout=_TIMEOUT_S)
        except sqlite3.Error as error:
            raise EmosegError(f"{self.file}: cannot be opened: {error}") from error
        self._try(prepare)

    def _try(self, work: Callable[[sqlite3.Connection], _T]) -> _T | None:
        """Return the result of a function of the connection; None if the table had to be replaced or cannot be used."""
        if self._connection is None:
            return None
        try:
            return work(self._connection)
        except (sqlite3.Error, UnicodeError, OverflowError) as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF  # the upper bits are details
            self._drop()
            if code in _DISK:
                raise EmosegError(f"{self.file}: cannot be written: {error}") from error
            if code in _BUSY:
                message = f"{self.file}: is in use by another process; nothing is kept for the next check"
                warnings.warn(message, EmosegWarning, stacklevel=2)
                return None
            if self._replaced:
                raise EmosegError(f"{self.file}: cannot be used: {error}") from error
            message = f"{self.file}: is damaged ({error}); it is replaced, and recordings are read again"
            warnings.warn(message, EmosegWarning, stacklevel=2)
            self._replace()
            return None

    def _replace(self) -> None:
        self._replaced = True
        try:
            for suffix in ("", "-journal", "-wal", "-shm"):
                self.file.with_name(self.file.name + suffix).unlink(missing_ok=True)
        except OSError as error:
            raise EmosegError(f"{self.file}: cannot be removed: {error.strerror or error}") from error
        self._open()

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def _reading(row: tuple[Any, ...]) -> Reading | None:
    """Return the reading in a row; None if its values are not those of a reading."""
    duration_s, content, words = row
    if not isinstance(duration_s, float) or not isinstance(content, str) or not isinstance(words, bytes):
        return None
    if not (math.isfinite(duration_s) and duration_s > 0) or len(content) != 32 or len(words) % 4:
        return None
    return Reading(duration_s, content, np.frombuffer(words, dtype="<u4").astype(np.uint32))


def _key(path: Path) -> str:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return ""
    parts = [str(VERSION), os.path.realpath(path), str(status.st_size), str(modified_ns(status))]
    return hashlib.blake2b("\0".join(parts).encode(errors="surrogateescape"), digest_size=16).hexdigest()


def _decoding() -> Callable[[Path], Reading]:
    """Return the function that reads a recording in a worker process."""
    return _decode


def _decode(path: Path) -> Reading:
    segment = SegmentConfig()
    reader = SegmentReader(path, segment=segment)
    beginning, seconds = [], 0.0
    try:
        for batch in reader:
            for start, end, samples in zip(batch.start_s, batch.end_s, batch.samples, strict=True):
                if seconds < SECONDS:
                    beginning.append(samples[: round((end - start) * segment.sample_rate_hz)])
                    seconds += end - start
        content = file_checksum(path)
    except (AudioError, OSError) as error:
        return _unusable(str(error))
    # The sample rate of a fingerprint is a fourth of that of segments.
    sound = soxr.resample(np.concatenate(beginning), 4, 1).astype(np.float32)
    return Reading(reader.duration_s, content, fingerprint(sound))


def _unusable(message: str) -> Reading:
    return Reading(0.0, "", np.empty(0, dtype=np.uint32), message)
