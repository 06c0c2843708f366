"""What reading a recording once tells of it, kept on disk: a later check of the same files takes seconds.

One row per file in one SQLite table, keyed by where the file lies, its size and its time of change: a changed file is
read again. Failures are not kept, since another decoder may be installed by the next time.
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
"""Part of every key: raised whenever a fingerprint or a duration would come out otherwise."""

_COMMIT_EVERY = 64
_PARALLEL_FROM = 20  # recordings: fewer take less time than it takes to start processes
_TIMEOUT_S = 10.0
_DISK = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}

_T = TypeVar("_T")


@dataclass(frozen=True)
class Reading:
    """One recording as decoded.

    Parameters
    ----------
    duration_s : float
    content : str
        Hash of the file's bytes.
    words : array of uint32, shape (T,)
        Its fingerprint.
    message : str
        Why it cannot be used; empty where it can.
    """

    duration_s: float
    content: str
    words: Words
    message: str = ""


def read_all(paths: Sequence[Path], *, cache: Path, workers: int) -> Generator[tuple[int, Reading], None, None]:
    """Yield index and reading of every recording, those known from an earlier time first.

    Parameters
    ----------
    paths : sequence of Path
    cache : Path
        Folder of the table, which exists.
    workers : int
        Processes for those that must be decoded.

    Raises
    ------
    EmosegError
        The table cannot be written, as on a full disk.

    Warns
    -----
    EmosegWarning
        The table is damaged and begun anew, or another process has it and it is not used.
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
    """Readings of earlier times on disk.

    It only saves time, so one that is damaged is begun anew and one that another process holds is not used; both are
    told. New rows are written `_COMMIT_EVERY` at a time, so that the table is never locked for long.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._new: list[tuple[str, float, str, bytes]] = []
        self._connection: sqlite3.Connection | None = None
        self._begun_anew = False
        if file.exists():
            require_regular(file)
        self._open()

    def find(self, key: str) -> Reading | None:
        """Return what is known of a recording; None where nothing is, or nothing that can be used."""
        query = "SELECT duration_s, content, words FROM reading WHERE key = ?"
        row = self._try(lambda connection: connection.execute(query, (key,)).fetchone())
        return _reading(row) if row else None

    def keep(self, key: str, reading: Reading) -> None:
        """Keep what was read, now or with those that follow."""
        self._new.append((key, reading.duration_s, reading.content, reading.words.astype("<u4").tobytes()))
        if len(self._new) >= _COMMIT_EVERY:
            self._write()

    def close(self) -> None:
        """Write what is not written yet, and close the file."""
        try:
            if self._new:
                self._write()
        finally:
            self._drop()

    def _write(self) -> None:
        for _ in range(2):  # the second time to a new table, where the old one was damaged
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
        """Return what is made of the table; None where that went wrong and it is begun anew, or no longer used."""
        if self._connection is None:
            return None
        try:
            return work(self._connection)
        except (sqlite3.Error, UnicodeError, OverflowError) as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF  # the rest tells what kind of it
            self._drop()
            if code in _DISK:
                raise EmosegError(f"{self.file}: cannot be written: {error}") from error
            if code in _BUSY:
                told = f"{self.file}: another process has it; nothing is kept for the next time"
                warnings.warn(told, EmosegWarning, stacklevel=2)
                return None
            if self._begun_anew:
                raise EmosegError(f"{self.file}: cannot be used: {error}") from error
            told = f"{self.file}: is damaged ({error}); it begins anew, and recordings are read again"
            warnings.warn(told, EmosegWarning, stacklevel=2)
            self._begin_anew()
            return None

    def _begin_anew(self) -> None:
        self._begun_anew = True
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
    """Return the reading that a row holds; None where it holds anything else."""
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
    """Return in a process what reads a recording."""
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
    # Four samples into one: the fingerprint's rate is a fourth of the segments'.
    sound = soxr.resample(np.concatenate(beginning), 4, 1).astype(np.float32)
    return Reading(reader.duration_s, content, fingerprint(sound))


def _unusable(message: str) -> Reading:
    return Reading(0.0, "", np.empty(0, dtype=np.uint32), message)
