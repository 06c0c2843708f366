"""A whole library of recordings, analysed once each: resumable, sharded, honest about failures.

The output folder holds ``manifest.sqlite`` (see `manifest`), the tables ``songs/part-*.parquet`` and
``segments/part-*.parquet``, and ``failures.csv``.
"""

from __future__ import annotations

import csv
import io
import os
import re
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow as pa

from emoseg.analyzer import Analyzer
from emoseg.batch.manifest import Changes, Failure, Job, Manifest, Outcome, Settings, locked
from emoseg.batch.scan import Scan, scan_folder
from emoseg.batch.tables import (
    SEGMENTS,
    SONGS,
    legible_path,
    pack,
    part_file,
    read_part,
    remove_orphans,
    remove_part,
    schemas,
    unpack,
    write_part,
)
from emoseg.batch.workers import Setup, TimeLimit, analyse_all
from emoseg.config import config_hash
from emoseg.errors import ConfigError, EmosegError
from emoseg.progress import Progress, progress

PART_SONGS = 512
FAILURES_FILE = "failures.csv"
# Bytes a second of sound, until the first files of a kind have been read; for the time left alone.
_TYPICAL_RATES = {".wav": 176e3, ".aif": 176e3, ".aiff": 176e3, ".flac": 1e5, ".opus": 14e3, ".mp3": 25e3}


@dataclass(frozen=True)
class Shard:
    """Share `index` (from 1) of `count`: which recordings are in it follows from their paths alone."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``"I/N"``.

        Raises
        ------
        ConfigError
            It is no such thing, or I is not from 1 to N.
        """
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigError(f"shard {text!r}: must be I/N with I from 1 to N, such as 2/4")
        return cls(int(match[1]), int(match[2]))

    def __contains__(self, path: str) -> bool:
        digest = blake2b(os.fsencode(path), digest_size=8, person=b"shard").digest()
        return int.from_bytes(digest, "big") % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True)
class BatchReport:
    """What a batch did, and what its library holds now.

    `analysed` and `audio_s` are of this run; `done`, `failed` and `gone` count the library.
    """

    out: Path
    changes: Changes
    analysed: int
    audio_s: float
    done: int
    gone: int
    failures: tuple[Failure, ...]
    unlisted: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether everything that was asked for is in the tables."""
        return not self.failures and not self.unlisted

    def summary(self) -> str:
        """Return the report in one line."""
        held = [f"{self.done} songs"]
        held += [f"{len(self.failures)} failed"] if self.failures else []
        held += [f"{self.gone} gone"] if self.gone else []
        did = f"analysed {self.analysed} ({self.audio_s / 3600:.1f} h of audio) now"
        return f"{self.out}: {', '.join(held)}; {did}; {self.changes.new} were new, {self.changes.changed} changed"

    def problems(self, *, most: int) -> list[str]:
        """Return a line for each failure, `most` at most, and one that says where the others are."""
        lines = [*(legible_path(line) for line in self.unlisted), *(f.message for f in self.failures)]
        if len(lines) > most:
            lines[most:] = [f"... and {len(lines) - most} more: {self.out / FAILURES_FILE} has all"]
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            "schema": "emoseg.batch/1",
            "out": legible_path(str(self.out)),
            "new": self.changes.new,
            "changed": self.changes.changed,
            "analysed": self.analysed,
            "audio_s": round(self.audio_s, 3),
            "done": self.done,
            "failed": len(self.failures),
            "gone": self.gone,
            "failures": [
                {"path": legible_path(f.path), "error": {"type": f.error_type, "message": f.message}}
                for f in self.failures
            ],
            "unlisted": [legible_path(line) for line in self.unlisted],
        }


def run_batch(
    root: Path,
    out: Path,
    *,
    model: Path,
    hop_s: float | None = None,
    workers: int | None = None,
    shard: Shard | None = None,
    timeout_s: float | None = None,
    retry: bool = False,
    quiet: bool = False,
) -> BatchReport:
    """Analyse every recording beneath a folder that is not yet in the library, or has changed.

    Parameters
    ----------
    root : Path
        Folder of recordings.
    out : Path
        The library: made if it does not exist, else gone on with.
    model : Path
        Model folder.
    hop_s : float, optional
        Distance of segments; default the model's.
    workers : int, optional
        Processes; default the number of cores. Results do not depend on it.
    shard : Shard, optional
        The share of the recordings to be done; default all.
    timeout_s : float, optional
        Time for one recording; default 300 s and 30 s more for each megabyte.
    retry : bool
        Try again what failed, though the files have not changed.
    quiet : bool
        No progress.

    Raises
    ------
    EmosegError
        The folder, the model or the library cannot be used, another process is at work on it, or the disk is full.
        What was done until then is kept.
    """
    loaded = Analyzer(model, hop_s=hop_s).model
    settings = Settings(
        root=str(root.resolve()),
        model=config_hash(loaded.config),
        model_name=f"{loaded.config.name} {loaded.config.version}",
        hop_s=hop_s,
        shard=str(shard or ""),
        space=loaded.space.to_json(),
    )
    scan = _scan(root, shard)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        with locked(out), closing(_open_manifest(out, settings)) as manifest:
            _refuse_empty(root, scan, manifest)
            _mend(manifest)
            changes = manifest.update(scan)
            if retry:
                manifest.retry_failures()
            setup = Setup(root.resolve(), model.resolve(), hop_s)
            done, audio_s = _work_off(manifest, setup, workers or os.cpu_count() or 1, TimeLimit(timeout_s), quiet)
            settle(manifest, final=True)
            write_failures(manifest)
            counts = manifest.counts()
            unlisted = tuple(f"{root / folder}: cannot be listed: {why}" for folder, why in scan.unlisted.items())
            failures = tuple(manifest.failures())
            return BatchReport(out, changes, done, audio_s, counts["done"], counts["gone"], failures, unlisted)


def _scan(root: Path, shard: Shard | None) -> Scan:
    scan = scan_folder(root)
    if shard is not None:
        scan.files = [file for file in scan.files if file.path in shard]
    return scan


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turn what the disk refuses into one line that names the library."""
    try:
        yield
    except (sqlite3.Error, pa.ArrowException) as error:
        raise EmosegError(f"{out}: cannot be written: {error}") from error
    except OSError as error:
        raise EmosegError(f"{error.filename or out}: cannot be written: {error.strerror or error}") from error


def _open_manifest(out: Path, settings: Settings) -> Manifest:
    if not Manifest.exists(out):
        return Manifest.create(out, settings)
    manifest = Manifest.open(out)
    if difference := told_apart(manifest.settings, settings):
        manifest.close()
        raise ConfigError(f"{out}: was made {difference}; use another --out")
    return manifest


def told_apart(ours: Settings, theirs: Settings) -> str | None:
    """Say in what two settings differ that must not; None where they agree."""
    if ours.root != theirs.root:
        return f"from the folder {legible_path(ours.root)}, not {legible_path(theirs.root)}"
    if ours.model != theirs.model:
        return f"with the model {ours.model_name}, and this model ({theirs.model_name}) is not the same"
    if ours.hop_s != theirs.hop_s:
        return f"with the hop {ours.hop_s or 'of the model'}, not {theirs.hop_s or 'that of the model'}"
    if ours.shard != theirs.shard:
        return f"with {_shard_words(ours.shard)}, not {_shard_words(theirs.shard)}"
    return None


def _shard_words(shard: str) -> str:
    return f"the shard {shard}" if shard else "all shards"


def _refuse_empty(root: Path, scan: Scan, manifest: Manifest) -> None:
    if not scan.files and manifest.counts()["done"]:
        raise ConfigError(f"{root}: holds no recordings, but the library does: is the drive there?")


def _mend(manifest: Manifest) -> None:
    """Remove files of parts that a killed run did not record, and have the songs of lost parts done again."""
    for part in manifest.parts():
        if not all(part_file(manifest.out, name, part).is_file() for name in (SONGS, SEGMENTS)):
            manifest.forget_part(part)
    remove_orphans(manifest.out, set(manifest.parts()))


def _work_off(manifest: Manifest, setup: Setup, workers: int, limit: TimeLimit, quiet: bool) -> tuple[int, float]:
    """Do all jobs of the manifest; return the number of recordings analysed and their seconds."""
    jobs = manifest.jobs()
    if not jobs:
        return 0, 0.0
    estimate = _Estimate(jobs)
    analysed, audio_s = 0, 0.0
    with progress("analysing", estimate.total_s, unit="s of audio", quiet=quiet) as bar:
        for outcomes in analyse_all(jobs, setup, workers=workers, limit=limit):
            manifest.record(outcomes)
            analysed += sum(outcome.state == "done" for outcome in outcomes)
            audio_s += sum(outcome.duration_s for outcome in outcomes)
            estimate.update(outcomes, bar)
            settle(manifest, final=False)
    return analysed, audio_s


class _Estimate:
    """Seconds of audio in files not yet read: their bytes, at the rate of the files of their kind read so far."""

    def __init__(self, jobs: list[Job]) -> None:
        self._jobs = {job.song_id: job for job in jobs}
        self._left: dict[str, int] = {}
        self._seen: dict[str, tuple[float, float]] = {}
        for job in jobs:
            kind = _kind(job)
            self._left[kind] = self._left.get(kind, 0) + job.size
        self.total_s = self._left_s()

    def update(self, outcomes: list[Outcome], bar: Progress) -> None:
        """Take note of outcomes, and tell the bar."""
        for outcome in outcomes:
            job = self._jobs[outcome.song_id]
            kind = _kind(job)
            self._left[kind] -= job.size
            if outcome.state == "done":
                size, seconds = self._seen.get(kind, (0.0, 0.0))
                self._seen[kind] = (size + job.size, seconds + outcome.duration_s)
        seconds = sum(outcome.duration_s for outcome in outcomes)
        bar.expect(bar.done + seconds + self._left_s())
        bar.advance(seconds)

    def _left_s(self) -> float:
        total = 0.0
        for kind, left in self._left.items():
            size, seconds = self._seen.get(kind, (_TYPICAL_RATES.get(kind, 30e3), 1.0))
            total += left * seconds / size
        return total


def _kind(job: Job) -> str:
    return Path(job.path).suffix.lower()


# --- the tables ------------------------------------------------------------------------------------------------------


def settle(manifest: Manifest, *, final: bool) -> None:
    """Bring the tables in line with the manifest.

    While a batch runs, this does something only when `PART_SONGS` songs wait; `final` leaves nothing waiting, and joins
    small parts. Parts are never changed: new ones take the place of old ones in one transaction.
    """
    waiting = manifest.waiting()
    if not final and len(waiting) < PART_SONGS:
        return
    stale = set(manifest.stale())
    small = [part for part, songs in manifest.parts().items() if songs < PART_SONGS // 2] if final else []
    for part in sorted(stale - set(small)):
        _replace(manifest, [part], [])
    whole = len(waiting) - len(waiting) % PART_SONGS
    for i in range(0, whole, PART_SONGS):
        _replace(manifest, [], waiting[i : i + PART_SONGS])
    rest = waiting[whole:] if final else []
    while len(small) > 2:  # a few at a time, so that memory is bounded
        _replace(manifest, small[:2], [])
        small = small[2:]
    if rest or len(small) > 1 or stale & set(small):
        _replace(manifest, small, rest)


def _replace(manifest: Manifest, old: list[int], waiting: list[str]) -> None:
    """Write one part with the rows of old parts that still count and of songs that wait; drop the old parts."""
    wanted = schemas(manifest.space)
    rows: dict[str, list[Any]] = {name: [schema.empty_table()] for name, schema in wanted.items()}
    gone: dict[str, dict[str, bytes]] = {}
    for part in old:
        members = manifest.members(part)
        for name in rows:
            table = read_part(manifest.out, name, part)
            rows[name].append(_of(table, [key for key, state in members.items() if state != "gone"]))
            for key in (key for key, state in members.items() if state == "gone"):
                gone.setdefault(key, {})[name] = pack(_of(table, [key]))
    for streams in manifest.rows(waiting):
        for name, stream in streams.items():
            rows[name].append(unpack(stream))
    tables = {name: pa.concat_tables(parts) for name, parts in rows.items()}
    keys = tables[SONGS]["song_id"].to_pylist()
    with manifest.transaction() as db:
        if keys:
            part = db.execute("INSERT INTO parts (songs) VALUES (?)", (len(keys),)).lastrowid or 0
            write_part(manifest.out, part, tables)
            db.executemany("UPDATE songs SET part = ? WHERE song_id = ?", [(part, key) for key in keys])
            db.executemany("DELETE FROM pending WHERE song_id = ?", [(key,) for key in keys])
        for key, streams in gone.items():
            db.execute("UPDATE songs SET part = NULL WHERE song_id = ?", (key,))
            db.execute("INSERT OR REPLACE INTO pending VALUES (?, ?, ?)", (key, streams[SONGS], streams[SEGMENTS]))
        db.executemany("DELETE FROM parts WHERE part = ?", [(part,) for part in old])
    for part in old:
        remove_part(manifest.out, part)


def _of(table: Any, keys: list[str]) -> Any:
    return table.filter(pa.compute.is_in(table["song_id"], value_set=pa.array(keys, pa.string())))


def write_failures(manifest: Manifest) -> None:
    """Write ``failures.csv``: path, class and words of everything that failed; removed where nothing did."""
    file = manifest.out / FAILURES_FILE
    failures = manifest.failures()
    if not failures:
        file.unlink(missing_ok=True)
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["path", "type", "message"])
    table.writerows([legible_path(f.path), f.error_type, f.message] for f in failures)
    temporary = manifest.out / f".emoseg-{secrets.token_hex(8)}.tmp"
    try:
        temporary.write_text(text.getvalue(), encoding="utf-8")
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
