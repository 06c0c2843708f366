"""The feature store: every recording's features, computed once and kept on disk.

One file per recording and frontend, named by the content of the recording and everything that decides the numbers, so a
changed file or setting is computed again and nothing stale is ever read. Files appear whole or not at all: a killed run
loses at most the recordings at hand. The features of a whole corpus are put together in one file that is mapped, not
read, so a corpus may be larger than the memory.
"""

from __future__ import annotations

import io
import math
import os
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from emoseg.audio.reader import SegmentReader
from emoseg.config import FrontendConfig, SegmentConfig, config_hash
from emoseg.errors import AudioError, EmosegError, EmosegWarning
from emoseg.frontends import Frontend, build_frontend, compute_features, require_finite
from emoseg.frontends.compare import LicenceWarning
from emoseg.system.files import file_checksum, modified_ns, remove_leftovers, require_regular, written_whole
from emoseg.system.parallel import Start, run_parallel
from emoseg.system.progress import progress
from emoseg.types import Float64, Int64

_PARALLEL_FROM = 4  # recordings: fewer take less time than it takes to start processes


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

    Raises
    ------
    AudioError
        No recording can be used.
    ConfigError
        A frontend's settings do not fit the segments.
    EmosegError
        The store cannot be written to.

    Warns
    -----
    EmosegWarning
        A file of the store is damaged; its features are computed again.
    """
    store = _Store(cache or default_cache(), segment, frontends)
    contents: dict[int, str] = {}
    failures: dict[int, str] = {}
    with progress("features", len(paths), unit="recordings", quiet=quiet) as bar:
        todo = []
        for i, path in enumerate(paths):
            if content := store.known(path):
                contents[i] = content
                bar.advance()
            else:
                todo.append(i)
        if todo:
            store.remove_leftovers()
        processes = (workers or os.cpu_count() or 1) if len(todo) >= _PARALLEL_FROM else 1
        start = Start(_computing, (store.cache, segment, tuple(frontends)))
        with closing(run_parallel([paths[i] for i in todo], start, workers=processes)) as computed:
            for place, (content, message) in computed:
                if content:
                    contents[todo[place]] = content
                else:
                    failures[todo[place]] = message
                bar.advance()
    return _assemble(store, paths, contents, failures)


def _computing(cache: Path, segment: SegmentConfig, frontends: Sequence[FrontendConfig]) -> Callable[[Path], Any]:
    """Return in a process what computes and keeps a recording's features; see `_Store.compute`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LicenceWarning)  # the process that asked was warned
        return _Store(cache, segment, frontends).compute


class _Store:
    """Features of recordings on disk, for one way to cut segments and some frontends."""

    def __init__(self, cache: Path, segment: SegmentConfig, frontends: Sequence[FrontendConfig]) -> None:
        self.cache, self.root, self.segment = cache, cache / "features", segment
        self.frontends: list[Frontend] = [build_frontend(config, segment) for config in frontends]
        self._keys = {
            frontend.name: config_hash(segment, config, f"version {frontend.version}")
            for frontend, config in zip(self.frontends, frontends, strict=True)
        }

    def file(self, name: str, content: str) -> Path:
        """Return the file of one frontend's features of a recording."""
        return self.root / self._keys[name] / content[:2] / f"{content}.npz"

    def known(self, path: Path) -> str:
        """Return the checksum of a recording where the store has all its features; else an empty string."""
        try:
            require_regular(path)
            content = file_checksum(path)
        except (OSError, EmosegError):
            return ""  # which `compute` tells
        return content if all(self.file(name, content).is_file() for name in self._keys) else ""

    def remove_leftovers(self) -> None:
        """Remove the half-written files of killed processes."""
        for key in self._keys.values():
            for folder in (self.root / key).glob("*"):
                remove_leftovers(folder)

    def read(self, content: str) -> dict[str, NDArray[Any]] | None:
        """Return features by frontend, and ``start_s`` and ``end_s``; None where they must be computed again."""
        found: dict[str, NDArray[Any]] = {}
        for frontend in self.frontends:
            file = self.file(frontend.name, content)
            try:
                found |= _checked(load_arrays(file), frontend, found.get("start_s"))
            except FileNotFoundError:
                return None
            except (OSError, ValueError):
                warnings.warn(f"{file}: is damaged; it is computed again", EmosegWarning, stacklevel=2)
                return None
        return found

    def compute(self, path: Path) -> tuple[str, str]:
        """Compute and keep a recording's features; return the checksum of its content, or else why there are none."""
        try:
            before = _state(path)
            arrays = self._arrays(path)
            if _state(path) != before:
                raise AudioError(f"{path}: changed while it was read", kind="changed")
        except AudioError as error:
            return "", str(error)
        content = before[0]
        for name in self._keys:
            kept = {"features": arrays[name], "start_s": arrays["start_s"], "end_s": arrays["end_s"]}
            save_arrays(self.file(name, content), kept)
        return content, ""

    def _arrays(self, path: Path) -> dict[str, NDArray[Any]]:
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in ("start_s", "end_s", *self._keys)}
        for batch in SegmentReader(path, segment=self.segment):
            parts["start_s"].append(batch.start_s)
            parts["end_s"].append(batch.end_s)
            try:
                features = compute_features(self.frontends, batch.samples)
                for frontend in self.frontends:
                    parts[frontend.name].append(_as_kept(features[frontend.name], frontend))
            except AudioError as error:
                raise AudioError(f"{path}: {error}", kind=error.kind) from error
        return {name: np.concatenate(found) for name, found in parts.items()}


def _as_kept(features: NDArray[np.float32], frontend: Frontend) -> NDArray[np.floating]:
    """Return features as the store keeps them: spectrograms, which are large, in half precision.

    That keeps 0.06 dB at 100 dB, below what a network can use.
    """
    if features.ndim < 3:
        return features
    with np.errstate(over="ignore"):  # which shows in the result
        half = features.astype(np.float16)
    require_finite(half, frontend)
    return half


def _state(path: Path) -> tuple[str, int, int]:
    """Return the checksum, size and modification time of a recording.

    Raises
    ------
    AudioError
        It cannot be read.
    """
    status = require_regular(path, error=AudioError)
    try:
        return file_checksum(path), status.st_size, modified_ns(status)
    except OSError as error:
        raise AudioError(f"{path}: cannot be read: {error.strerror or error}", kind="unreadable") from error


def _checked(
    arrays: Mapping[str, NDArray[Any]], frontend: Frontend, start_s: NDArray[Any] | None
) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file of the store with the features under the frontend's name.

    Raises
    ------
    ValueError
        They are not what `_Store.compute` keeps, or have other times than the file of another frontend.
    """
    if set(arrays) != {"features", "start_s", "end_s"}:
        raise ValueError("has other arrays")
    features, shape = arrays["features"], frontend.shape()
    size = len(arrays["start_s"]) if arrays["start_s"].ndim else 0
    kinds = [features.dtype, arrays["start_s"].dtype, arrays["end_s"].dtype]
    shapes = [features.shape, arrays["start_s"].shape, arrays["end_s"].shape]
    expected = np.float16 if len(shape) > 1 else np.float32
    if not size or shapes != [(size, *shape), (size,), (size,)] or kinds != [expected, np.float64, np.float64]:
        raise ValueError("has arrays of other shapes or types")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("has numbers that are not finite")
    if start_s is not None and not np.array_equal(start_s, arrays["start_s"]):
        raise ValueError("has other times than another frontend")
    return {frontend.name: features, "start_s": arrays["start_s"], "end_s": arrays["end_s"]}


def save_arrays(file: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays to an uncompressed .npz file, whole or not at all; its folder is made.

    Raises
    ------
    EmosegError
        The disk refuses.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmosegError(f"{file.parent}: cannot be made: {error.strerror or error}") from error
    with written_whole(file) as temporary, temporary.open("wb") as opened:
        np.savez(opened, **arrays)  # type: ignore[arg-type]


def load_arrays(file: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file that `save_arrays` wrote, whatever became of it since.

    `numpy.load` believes what a header claims: it takes memory for shapes that the file cannot hold, and raises errors
    of many kinds.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is damaged, or is no such file.
    """
    try:
        with file.open("rb") as opened, zipfile.ZipFile(opened) as archive:
            size = os.fstat(opened.fileno()).st_size
            return {info.filename.removesuffix(".npy"): _member(archive, info, size) for info in archive.infolist()}
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile and the parser of headers raise what they meet: struct, token, syntax, memory
        raise ValueError(f"{file}: is damaged: {error}") from error


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> NDArray[Any]:
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > size:
        raise ValueError(f"{info.filename} claims {info.file_size} bytes in a file of {size}")
    data = archive.read(info)  # which compares its checksum
    header = io.BytesIO(data)
    if np.lib.format.read_magic(header) != (1, 0):
        raise ValueError(f"{info.filename} has another version")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(header)
    at = header.tell()
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data) - at:
        raise ValueError(f"{info.filename} claims the shape {shape} of {dtype}")
    array = np.frombuffer(data, dtype=dtype, offset=at)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def _assemble(
    store: _Store, paths: Sequence[Path], contents: Mapping[int, str], failures: dict[int, str]
) -> FeatureTable:
    """Put the stored features of all recordings together, one recording in memory at a time."""
    recording, start, end = [], [], []
    with ExitStack() as stack:
        files: dict[str, IO[bytes]] = {}
        for i in sorted(contents):
            found = store.read(contents[i])
            if found is None:
                content, message = store.compute(paths[i])
                found = store.read(content) if content else None
                if found is None:
                    failures[i] = message or f"{paths[i]}: its features cannot be read back from the store"
                    continue
            if not files:
                files = {f.name: stack.enter_context(_temporary(store.root)) for f in store.frontends}
            for name, file in files.items():
                _append(file, found[name], store.root)
            recording.append(np.full(len(found["start_s"]), i, dtype=np.int64))
            start.append(found["start_s"])
            end.append(found["end_s"])
        if not recording:
            raise AudioError(next(iter(failures.values()), "no recordings given"), kind="corpus")
        rows = sum(map(len, recording))
        features = {f.name: _mapped(files[f.name], f, rows) for f in store.frontends}
    return FeatureTable(
        features, np.concatenate(recording), np.concatenate(start), np.concatenate(end), dict(sorted(failures.items()))
    )


def _temporary(folder: Path) -> IO[bytes]:
    """Return a file that has no name and so goes with the process, however that ends; unbuffered, so errors come."""
    try:
        return tempfile.TemporaryFile(dir=folder, buffering=0)
    except OSError as error:
        raise EmosegError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _append(file: IO[bytes], array: NDArray[Any], folder: Path) -> None:
    data = np.ascontiguousarray(array).data.cast("B")
    try:
        while data:
            data = data[file.write(data) :]
    except OSError as error:
        raise EmosegError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _mapped(file: IO[bytes], frontend: Frontend, rows: int) -> NDArray[Any]:
    shape = frontend.shape()
    dtype = np.float16 if len(shape) > 1 else np.float32
    return np.asarray(np.memmap(file, dtype=dtype, mode="r", shape=(rows, *shape)))
