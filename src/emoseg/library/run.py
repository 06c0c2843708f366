"""The analysis of a whole collection of recordings into a library, which can be interrupted at any moment.

The library holds ``manifest.sqlite`` (see `manifest`), the tables ``songs/part-*.parquet`` and
``segments/part-*.parquet``, and ``failures.csv``.
"""

from __future__ import annotations

import csv
import io
import os
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from emoseg.analysis.analyzer import Analyzer
from emoseg.audio.find import Scan, scan_folder
from emoseg.config import config_hash
from emoseg.errors import ConfigError, EmosegError, EmosegWarning
from emoseg.library.manifest import MANIFEST_FILE, DamagedManifestError, Manifest, set_aside
from emoseg.library.parts import repair, update_tables
from emoseg.library.records import AnalysisJob, AnalysisOutcome, Changes, Settings, Shard
from emoseg.library.tables import SEGMENTS, SONGS, part_files
from emoseg.library.workers import Setup, StartError, TimeLimit, analyse_all
from emoseg.system.csv_cells import csv_cell
from emoseg.system.files import folder_locked, remove_leftovers, write_whole
from emoseg.system.names import valid_text
from emoseg.system.progress import Progress, progress
from emoseg.types import AnalysisFailure

FAILURES_FILE = "failures.csv"
# Bytes per second of sound of files not yet read; only the estimate of the remaining time uses them.
_TYPICAL_RATES = {".wav": 176e3, ".aif": 176e3, ".aiff": 176e3, ".flac": 1e5, ".opus": 14e3, ".mp3": 25e3}


@dataclass(frozen=True)
class BatchReport:
    """The result of a batch.

    Parameters
    ----------
    out : Path
        The library.
    changes : Changes
        What changed in the folder since the last run.
    analysed : int
        Number of recordings that this run analysed.
    audio_s : float
        Seconds of sound in them.
    done, gone : int
        Numbers of recordings in the library that are analysed, and whose files vanished.
    failures : tuple of AnalysisFailure
        Recordings of the library that could not be analysed; paths are below the root.
    unlisted : tuple of str
        One line per folder that could not be listed.
    """

    out: Path
    changes: Changes
    analysed: int
    audio_s: float
    done: int
    gone: int
    failures: tuple[AnalysisFailure, ...]
    unlisted: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether all recordings are in the tables."""
        return not self.failures and not self.unlisted

    def summary(self) -> str:
        """Return the report in one line."""
        held = [f"{self.done} songs"]
        held += [f"{len(self.failures)} failed"] if self.failures else []
        held += [f"{self.gone} gone"] if self.gone else []
        did = f"analysed {self.analysed} ({self.audio_s / 3600:.1f} h of audio) now"
        return f"{self.out}: {', '.join(held)}; {did}; {self.changes.new} were new, {self.changes.changed} changed"

    def problems(self, *, most: int) -> list[str]:
        """Return one line per failure, at most `most`, and a line that says where the others are listed."""
        lines = [*(valid_text(line) for line in self.unlisted), *(f.message for f in self.failures)]
        if len(lines) > most:
            lines[most:] = [f"... and {len(lines) - most} more: {self.out / FAILURES_FILE} lists all"]
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            "schema": "emoseg.batch/1",
            "out": valid_text(str(self.out)),
            "new": self.changes.new,
            "changed": self.changes.changed,
            "analysed": self.analysed,
            "audio_s": round(self.audio_s, 3),
            "done": self.done,
            "failed": len(self.failures),
            "gone": self.gone,
            "failures": [
                {"path": valid_text(f.path), "error": {"type": f.error_type, "message": f.message}}
                for f in self.failures
            ],
            "unlisted": [valid_text(line) for line in self.unlisted],
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
    """Analyse every recording below a folder that is not yet in the library or has changed.

    Parameters
    ----------
    root : Path
        Folder of recordings.
    out : Path
        The library; made if it does not exist, else continued.
    model : Path
        Model folder.
    hop_s : float, optional
        Seconds from the start of one segment to the next; default the model's.
    workers : int, optional
        Number of processes; default the number of cores. Results do not depend on it. A script must make this call
        below ``if __name__ == "__main__":``, because every process imports the script.
    shard : Shard, optional
        The share of the recordings to analyse; default all.
    timeout_s : float, optional
        Most seconds for one recording; default 300 s, and 30 s more per megabyte.
    retry : bool
        Also try recordings that failed and have not changed since.
    quiet : bool
        Show no progress.

    Raises
    ------
    EmosegError
        The folder, the model or the library cannot be used, another process uses the library, the processes cannot be
        started, or the disk is full. All results until then are kept.
    """
    limit = TimeLimit(timeout_s)
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
        with folder_locked(out):
            for folder in (out, out / SONGS, out / SEGMENTS):
                remove_leftovers(folder)
            with closing(_open_manifest(out, settings)) as manifest:
                _refuse_empty(root, scan, manifest)
                repair(manifest)
                changes = manifest.update(scan)
                if retry:
                    manifest.retry_failures()
                setup = Setup(root.resolve(), model.resolve(), hop_s)
                try:
                    analysed, audio_s = _analyse_jobs(manifest, setup, workers or os.cpu_count() or 1, limit, quiet)
                except StartError:
                    _finish(manifest)
                    raise
                _finish(manifest)
                return _report(manifest, changes, analysed, audio_s, root, scan)


def _report(manifest: Manifest, changes: Changes, analysed: int, audio_s: float, root: Path, scan: Scan) -> BatchReport:
    counts, failures = manifest.counts(), tuple(manifest.failures())
    unlisted = tuple(f"{root / folder}: cannot be listed: {why}" for folder, why in scan.unlisted.items())
    return BatchReport(manifest.out, changes, analysed, audio_s, counts["done"], counts["gone"], failures, unlisted)


def _finish(manifest: Manifest) -> None:
    update_tables(manifest, final=True)
    write_failures(manifest)


def _scan(root: Path, shard: Shard | None) -> Scan:
    scan = scan_folder(root)
    if shard is not None:
        scan.files = [file for file in scan.files if file.path in shard]
    return scan


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turn errors of writing in the block into one line that names the library."""
    try:
        yield
    except (sqlite3.Error, pa.ArrowException) as error:
        raise EmosegError(f"{out}: cannot be written: {error}") from error
    except OSError as error:
        raise EmosegError(f"{error.filename or out}: cannot be written: {error.strerror or error}") from error


def _open_manifest(out: Path, settings: Settings) -> Manifest:
    """Return the open manifest; it is new if there is none, or if it is damaged."""
    manifest = _intact_manifest(out)
    if manifest is None:
        return Manifest.create(out, settings)
    if difference := settings_difference(manifest.settings, settings):
        manifest.close()
        raise ConfigError(f"{out}: was made {difference}; use another --out")
    return manifest


def _intact_manifest(out: Path) -> Manifest | None:
    """Return the manifest of a library if it is intact; rename a damaged one, with a warning."""
    file = out / MANIFEST_FILE
    again = "the library is made again from the recordings"
    try:
        if not Manifest.exists(out):
            if part_files(out):
                warnings.warn(f"{file}: is missing or empty; {again}", EmosegWarning, stacklevel=2)
            return None
        manifest = Manifest.open(out)
        try:
            manifest.check()
        except BaseException:
            manifest.close()
            raise
        return manifest
    except DamagedManifestError as error:
        aside = set_aside(out)
        warning = f"{file}: is damaged ({error.cause}) and was renamed to {aside.name}; {again}"
        warnings.warn(warning, EmosegWarning, stacklevel=2)
        return None


def settings_difference(ours: Settings, theirs: Settings) -> str | None:
    """Return the difference of two settings that must be equal, in words; None if they are equal."""
    if ours.root != theirs.root:
        return f"from the folder {valid_text(ours.root)}, not {valid_text(theirs.root)}"
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
    # If the manifest is lost, its parts are still there.
    if not scan.files and (manifest.counts()["done"] or part_files(manifest.out)):
        raise ConfigError(f"{root}: holds no recordings, but the library does: is the drive connected?")


def _analyse_jobs(manifest: Manifest, setup: Setup, workers: int, limit: TimeLimit, quiet: bool) -> tuple[int, float]:
    """Do all jobs of the manifest; return the number of analysed recordings and their seconds of sound."""
    jobs = manifest.jobs()
    if not jobs:
        return 0, 0.0
    estimate = _Estimate(jobs)
    analysed, audio_s = 0, 0.0
    with progress("analysing", estimate.total_s, unit="s of audio", quiet=quiet) as bar:
        for outcome in analyse_all(jobs, setup, workers=workers, limit=limit):
            manifest.record(outcome)
            analysed += outcome.state == "done"
            audio_s += outcome.duration_s
            estimate.update(outcome, bar)
            update_tables(manifest, final=False)
    return analysed, audio_s


class _Estimate:
    """Estimates the seconds of sound in files not yet read, from their sizes and from the files read so far."""

    def __init__(self, jobs: list[AnalysisJob]) -> None:
        self._jobs = {job.song_id: job for job in jobs}
        self._left: dict[str, int] = {}
        self._seen: dict[str, tuple[float, float]] = {}
        for job in jobs:
            kind = _kind(job)
            self._left[kind] = self._left.get(kind, 0) + job.size
        self.total_s = self._left_s()

    def update(self, outcome: AnalysisOutcome, bar: Progress) -> None:
        """Correct the estimate by an outcome, and advance the bar."""
        job = self._jobs[outcome.song_id]
        kind = _kind(job)
        self._left[kind] -= job.size
        if outcome.state == "done":
            size, seconds = self._seen.get(kind, (0.0, 0.0))
            self._seen[kind] = (size + job.size, seconds + outcome.duration_s)
        bar.expect(bar.done + outcome.duration_s + self._left_s())
        bar.advance(outcome.duration_s)

    def _left_s(self) -> float:
        total = 0.0
        for kind, left in self._left.items():
            size, seconds = self._seen.get(kind, (_TYPICAL_RATES.get(kind, 30e3), 1.0))
            total += left * seconds / size
        return total


def _kind(job: AnalysisJob) -> str:
    return Path(job.path).suffix.lower()


def write_failures(manifest: Manifest) -> None:
    """Write ``failures.csv`` (path, kind and message of every failure), or remove it if there are none."""
    file = manifest.out / FAILURES_FILE
    failures = manifest.failures()
    if not failures:
        file.unlink(missing_ok=True)
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["path", "type", "message"])
    table.writerows(map(csv_cell, (valid_text(f.path), f.error_type, f.message)) for f in failures)
    write_whole(file, text.getvalue(), sync=True)
