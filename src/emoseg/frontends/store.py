"""The feature store: every recording's features, computed once and kept on disk.

A file a recording and frontend, named by the content of the recording and everything that decides the numbers, so a
changed file or setting is computed again and nothing stale is ever read. Files are written under a temporary name and
renamed: a killed run loses at most the recording at hand. The features of a whole corpus are put together in one file
that is mapped, not read, so a corpus may be larger than the memory.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoseg.audio import SegmentReader
from emoseg.config import FrontendConfig, SegmentConfig, config_hash
from emoseg.errors import AudioError
from emoseg.frontends import build_frontend
from emoseg.frontends.compare import LicenceWarning
from emoseg.progress import progress
from emoseg.types import Float64, Int64


@dataclass(frozen=True)
class FeatureTable:
    """The segments of many recordings.

    Parameters
    ----------
    features : dict of str to array
        For each frontend, shape (S, ...).
    recording : array of int, shape (S,)
        Which recording each segment is of, as an index into the paths asked for; in ascending order.
    start_s, end_s : array, shape (S,)
    failures : dict of int to str
        Recordings without segments, and why.
    """

    features: dict[str, NDArray[Any]]
    recording: Int64
    start_s: Float64
    end_s: Float64
    failures: dict[int, str]


def default_cache() -> Path:
    """Return the folder that features are kept in: ``EMOSEG_CACHE``, else the user's cache folder."""
    base = os.environ.get("EMOSEG_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "emoseg"


def load_features(
    paths: Sequence[Path],
    *,
    segment: SegmentConfig,
    frontends: Sequence[FrontendConfig],
    cache: Path | None = None,
    workers: int | None = None,
    quiet: bool = False,
) -> FeatureTable:
    """Return the features of all segments of all recordings, computing what the store lacks on all cores.

    Parameters
    ----------
    paths : sequence of Path
    segment : SegmentConfig
    frontends : sequence of FrontendConfig
    cache : Path, optional
        Folder of the store; default `default_cache`.
    workers : int, optional
        Processes; default the number of cores.
    quiet : bool
        No progress bar.
    """
    root = (cache or default_cache()) / "features"
    keys: dict[str, str] = {f.name: _key(segment, f) for f in frontends}
    jobs = [_Job(i, path, segment, tuple(frontends), root, keys) for i, path in enumerate(paths)]
    contents: dict[int, str] = {}
    failures: dict[int, str] = {}
    with progress("features", len(jobs), unit="recordings", quiet=quiet) as bar:
        todo = []
        for job in jobs:
            content = _stored_content(job)
            if content:
                contents[job.index] = content
                bar.advance()
            else:
                todo.append(job)
        for i, content, message in _compute_all(todo, workers or os.cpu_count() or 1):
            if content:
                contents[i] = content
            else:
                failures[i] = message
            bar.advance()
    return _assemble(jobs, contents, failures)


def _key(segment: SegmentConfig, frontend: FrontendConfig) -> str:
    return config_hash(segment, frontend, f"version {build_frontend(frontend, segment).version}")


def _content_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


@dataclass(frozen=True)
class _Job:
    """One recording, and where its features belong: by frontend, the name of the folder under `root`."""

    index: int
    path: Path
    segment: SegmentConfig
    frontends: tuple[FrontendConfig, ...]
    root: Path
    keys: dict[str, str]

    def file(self, name: str, content: str) -> Path:
        """Return the file of one frontend's features."""
        return self.root / self.keys[name] / content[:2] / f"{content}.npz"


def _stored_content(job: _Job) -> str:
    """Return the hash of a recording's content where the store has all its features; else an empty string."""
    try:
        content = _content_hash(job.path)
    except OSError:
        return ""
    return content if all(job.file(name, content).is_file() for name in job.keys) else ""


def _read(job: _Job, content: str) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for name in job.keys:
        try:
            with job.file(name, content).open("rb") as opened, np.load(opened) as data:  # closed even if damaged
                found["start_s"], found["end_s"] = data["start_s"], data["end_s"]
                found[name] = data["features"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None  # not there, or damaged by something other than us: compute it again
    return found


def _compute_all(jobs: list[_Job], workers: int) -> Iterator[tuple[int, str, str]]:
    if len(jobs) < 4 or workers == 1:
        yield from map(_compute, jobs)
        return
    # Spawned, not forked: a forked child of a process with running threads can hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        pending = [pool.submit(_compute, job) for job in jobs]
        try:
            for future in as_completed(pending):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _compute(job: _Job) -> tuple[int, str, str]:
    """Compute and store a recording's features; return its index and content, or why there are none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LicenceWarning)  # the process that asked was warned
        built = [build_frontend(config, job.segment) for config in job.frontends]
    start, end = [], []
    features: dict[str, list[NDArray[Any]]] = {f.name: [] for f in built}
    try:
        for batch in SegmentReader(job.path, segment=job.segment):
            start.append(batch.start_s)
            end.append(batch.end_s)
            for frontend in built:
                # Spectrograms are large: half precision keeps 0.06 dB at 100 dB, below what a network can use.
                out = frontend(batch.samples)
                features[frontend.name].append(out.astype(np.float16) if out.ndim > 2 else out)
        content = _content_hash(job.path)
    except AudioError as error:
        return job.index, "", str(error)
    times = {"start_s": np.concatenate(start), "end_s": np.concatenate(end)}
    for name in job.keys:
        _save(job.file(name, content), {"features": np.concatenate(features[name]), **times})
    return job.index, content, ""


def _save(file: Path, arrays: dict[str, NDArray[Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".part", delete=False) as part:
        try:
            np.savez(part, **arrays)  # type: ignore[arg-type]
            part.close()
            Path(part.name).replace(file)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise


def _assemble(jobs: Sequence[_Job], contents: dict[int, str], failures: dict[int, str]) -> FeatureTable:
    """Put the stored features of all recordings together, one recording in memory at a time."""
    if not contents:
        raise AudioError(next(iter(failures.values()), "no recordings given"), kind="corpus")
    names = list(jobs[0].keys)
    files = {name: tempfile.TemporaryFile(dir=jobs[0].root) for name in names}  # noqa: SIM115  (the maps keep them)
    shapes: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
    recording, start, end = [], [], []
    for i in sorted(contents):
        found = _read(jobs[i], contents[i])
        if found is None:
            _, content, message = _compute(jobs[i])
            found = _read(jobs[i], content) if content else None
            if found is None:
                failures[i] = message or f"{jobs[i].path}: its features cannot be read back from the store"
                continue
        for name in names:
            files[name].write(np.ascontiguousarray(found[name]).data)
            shapes[name] = found[name].shape[1:], found[name].dtype
        recording.append(np.full(len(found["start_s"]), i, dtype=np.int64))
        start.append(found["start_s"])
        end.append(found["end_s"])
    rows = sum(map(len, recording))
    features: dict[str, NDArray[Any]] = {}
    for name, file in files.items():
        file.flush()
        shape, dtype = shapes[name]
        features[name] = np.asarray(np.memmap(file, dtype=dtype, mode="r", shape=(rows, *shape)))
        file.close()
    return FeatureTable(
        features, np.concatenate(recording), np.concatenate(start), np.concatenate(end), dict(sorted(failures.items()))
    )
