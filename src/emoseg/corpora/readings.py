"""What reading a recording once tells of it, kept on disk: a later check of the same files takes seconds.

A row a file in one SQLite table, keyed by where the file lies, its size and its time of change: a changed file is read
again. Failures are not kept, since another decoder may be installed by the next time.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from emoseg.audio import SegmentReader
from emoseg.config import SegmentConfig
from emoseg.corpora.fingerprint import SECONDS, Words, fingerprint
from emoseg.errors import AudioError

VERSION = 1
"""Part of every key: raised whenever a fingerprint or a duration would come out otherwise."""

_COMMIT_EVERY = 64
_POOL_FROM = 20


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


def read_all(paths: Sequence[Path], *, cache: Path, workers: int) -> Iterator[tuple[int, Reading]]:
    """Yield index and reading of every recording, those known from an earlier time first.

    Parameters
    ----------
    paths : sequence of Path
    cache : Path
        Folder of the table.
    workers : int
        Processes for those that must be decoded.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(cache / "readings.sqlite", timeout=60)) as table:
        table.execute(
            "CREATE TABLE IF NOT EXISTS reading (key TEXT PRIMARY KEY, duration_s REAL, content TEXT, words BLOB)"
        )
        unknown: list[tuple[int, Path, str]] = []
        for i, path in enumerate(paths):
            key = _key(path)
            row = table.execute("SELECT duration_s, content, words FROM reading WHERE key = ?", (key,)).fetchone()
            if row is None:
                unknown.append((i, path, key))
            else:
                yield i, Reading(row[0], row[1], np.frombuffer(row[2], dtype="<u4").astype(np.uint32))
        fresh = _decode_all([path for _, path, _ in unknown], workers)
        for n, ((i, _, key), reading) in enumerate(zip(unknown, fresh, strict=True), start=1):
            if not reading.message:
                blob = reading.words.astype("<u4").tobytes()
                values = (key, reading.duration_s, reading.content, blob)
                table.execute("INSERT OR REPLACE INTO reading VALUES (?, ?, ?, ?)", values)
            if n % _COMMIT_EVERY == 0 or n == len(unknown):
                table.commit()
            yield i, reading


def _key(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return ""
    parts = [str(VERSION), os.path.realpath(path), str(status.st_size), str(status.st_mtime_ns)]
    return hashlib.blake2b("\0".join(parts).encode(errors="surrogateescape"), digest_size=16).hexdigest()


def _decode_all(paths: Sequence[Path], workers: int) -> Iterator[Reading]:
    if len(paths) < _POOL_FROM or workers == 1:
        yield from map(_decode, paths)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        # A chunk of paths at a time: the pool would otherwise hold a task for each of 100,000 files.
        for at in range(0, len(paths), 64 * workers):
            yield from pool.map(_decode, paths[at : at + 64 * workers], chunksize=4)


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
        with path.open("rb") as file:
            content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except (AudioError, OSError) as error:
        return Reading(0.0, "", np.empty(0, dtype=np.uint32), str(error))
    # Four samples into one: the fingerprint's rate is a fourth of the segments'.
    sound = soxr.resample(np.concatenate(beginning), 4, 1).astype(np.float32)
    return Reading(reader.duration_s, content, fingerprint(sound))
