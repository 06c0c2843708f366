"""The feature store: every recording's features, computed once and kept on disk.

A file a recording and frontend, named by the content of the recording and everything that decides the numbers, so a
changed file or setting is computed again and nothing stale is ever read. Files are written under a temporary name and
renamed: a killed run loses at most the recording at hand.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import tempfile
import warnings
import zipfile
from collections.abc import Sequence
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
    results: dict[int, dict[str, Any]] = {}
    failures: dict[int, str] = {}
    jobs = [(i, path, segment, tuple(frontends), root, keys) for i, path in enumerate(paths)]
    with progress("features", len(jobs), unit="recordings", quiet=quiet) as bar:
        todo = []
        for job in jobs:
            found = _stored(job[1], root, keys)
            if found is None:
                todo.append(job)
            else:
                results[job[0]] = found
                bar.advance()
        for i, found, message in _compute_all(todo, workers or os.cpu_count() or 1):
            if found is None:
                failures[i] = message
            else:
                results[i] = found
            bar.advance()
    return _assemble(results, failures, [f.name for f in frontends])


def _key(segment: SegmentConfig, frontend: FrontendConfig) -> str:
    return config_hash(segment, frontend, f"version {build_frontend(frontend, segment).version}")


def _content_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _stored(path: Path, root: Path, keys: dict[str, str]) -> dict[str, Any] | None:
    try:
        content = _content_hash(path)
    except OSError:
        return None
    found: dict[str, Any] = {}
    for name, key in keys.items():
        file = root / key / content[:2] / f"{content}.npz"
        try:
            with file.open("rb") as opened, np.load(opened) as data:  # numpy leaves a damaged file open that it opened
                found["start_s"], found["end_s"] = data["start_s"], data["end_s"]
                found[name] = data["features"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None  # not there, or damaged by something other than us: compute it again
    return found


_Job = tuple[int, Path, SegmentConfig, tuple[FrontendConfig, ...], Path, dict[str, str]]


def _compute_all(jobs: list[_Job], workers: int) -> Any:
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


def _compute(job: _Job) -> tuple[int, dict[str, Any] | None, str]:
    i, path, segment, configs, root, keys = job
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LicenceWarning)  # the process that asked was warned
        built = [build_frontend(config, segment) for config in configs]
    start, end = [], []
    features: dict[str, list[NDArray[Any]]] = {f.name: [] for f in built}
    try:
        for batch in SegmentReader(path, segment=segment):
            start.append(batch.start_s)
            end.append(batch.end_s)
            for frontend in built:
                # Spectrograms are large: half precision keeps 0.06 dB at 100 dB, below what a network can use.
                out = frontend(batch.samples)
                features[frontend.name].append(out.astype(np.float16) if out.ndim > 2 else out)
        content = _content_hash(path)
    except AudioError as error:
        return i, None, str(error)
    times = {"start_s": np.concatenate(start), "end_s": np.concatenate(end)}
    found: dict[str, Any] = dict(times)
    for name, key in keys.items():
        found[name] = np.concatenate(features[name])
        _save(root / key / content[:2] / f"{content}.npz", {"features": found[name], **times})
    return i, found, ""


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


def _assemble(results: dict[int, dict[str, Any]], failures: dict[int, str], names: list[str]) -> FeatureTable:
    order = sorted(results)
    if not order:
        raise AudioError(next(iter(failures.values()), "no recordings given"), kind="corpus")

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([results[i][name] for i in order])

    recording = np.concatenate([np.full(len(results[i]["start_s"]), i, dtype=np.int64) for i in order])
    return FeatureTable(
        {name: joined(name) for name in names},
        recording,
        joined("start_s"),
        joined("end_s"),
        dict(sorted(failures.items())),
    )
