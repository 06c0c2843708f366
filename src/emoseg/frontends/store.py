"""The feature store: features of recordings, computed once and kept on disk.

There is one file per recording and frontend. Its path is derived from the content of the recording and from all
settings and versions that determine the numbers, so outdated features are never read. Another file per recording has
the evidence for speech, noise, test tones and silence: training and evaluation use only segments of music, as analysis
does. Features are stored as float32, exactly as analysis computes them.

Files are written whole or not at all, so an interrupted run loses only the recordings that it was working on. The
features of a corpus are joined in one temporary file that is mapped, so they may be larger than the memory.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from emoseg.audio import sound_kind
from emoseg.audio.reader import SegmentReader
from emoseg.audio.sound_kind import recording_kind, sound_evidence, sound_kinds
from emoseg.config import FrontendConfig, SegmentConfig, config_hash
from emoseg.errors import AudioError, EmosegError, EmosegWarning
from emoseg.frontends import Frontend, build_frontend, compute_features
from emoseg.frontends.compare import LicenceWarning
from emoseg.system.array_files import load_arrays, save_arrays
from emoseg.system.files import file_checksum, modified_ns, remove_leftovers, require_regular
from emoseg.system.parallel import Start, run_parallel
from emoseg.system.progress import progress
from emoseg.types import Float64, Int64

_PARALLEL_FROM = 4  # recordings; for fewer, starting processes takes longer than it saves
_EVIDENCE = "sound evidence"  # differs from all frontends, whose names have no spaces
_LAYOUT = "float32"  # part of every key, so that files of another layout are not read


@dataclass(frozen=True)
class FeatureTable:
    """Features and times of all segments of music of many recordings.

    Parameters
    ----------
    features : dict of str to array of float32, shape (S, ...)
        One array per frontend, by its name.
    recording : array of int, shape (S,)
        Recording of each segment, as an index into the given paths; in ascending order.
    start_s, end_s : array, shape (S,)
        In seconds from the start of the recording.
    failures : dict of int to str
        The reason for each recording without segments, by its index: it cannot be decoded, or less than a quarter of it
        is music.
    not_music : frozenset of int
        The recordings of `failures` that can be decoded and are hardly music.
    """

    features: dict[str, NDArray[Any]]
    recording: Int64
    start_s: Float64
    end_s: Float64
    failures: dict[int, str]
    not_music: frozenset[int] = frozenset()


def default_cache() -> Path:
    """Return the default folder of the feature store.

    It is that of the environment variable ``EMOSEG_CACHE``, or else ``emoseg`` in ``XDG_CACHE_HOME``, which is by
    default ``.cache`` in the home folder.
    """
    base = os.environ.get("EMOSEG_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "emoseg"


def load_features(
    paths: Sequence[Path],
    *,
    segment: SegmentConfig,
    frontends: Sequence[FrontendConfig],
    labels: Collection[str] = (),
    cache: Path | None = None,
    workers: int | None = None,
    quiet: bool = False,
) -> FeatureTable:
    """Return the features of all segments of music. Those that are not in the store are computed and stored.

    Parameters
    ----------
    paths : sequence of Path
        The recordings.
    segment : SegmentConfig
        How recordings are cut into segments.
    frontends : sequence of FrontendConfig
        Settings of the frontends, whose names must differ.
    labels : collection of str
        Labels of the emotion space. A kind of sound that is also a label, such as ``"speech"``, counts as music.
    cache : Path, optional
        Folder of the store; by default that of `default_cache`.
    workers : int, optional
        Number of processes; by default the number of cores. The features do not depend on it.
    quiet : bool
        Whether to hide the progress bar.

    Raises
    ------
    AudioError
        No recording can be used (``"corpus"``).
    ConfigError
        The settings of a frontend do not fit the segments.
    MissingExtraError
        The package that a frontend needs is not installed.
    EmosegError
        The store cannot be written.

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
        start = Start(_recording_computer, (store.cache, segment, tuple(frontends)))
        with closing(run_parallel([paths[i] for i in todo], start, workers=processes)) as computed:
            for place, (content, message) in computed:
                if content:
                    contents[todo[place]] = content
                else:
                    failures[todo[place]] = message
                bar.advance()
    return _assemble(store, paths, contents, failures, labels)


def _recording_computer(
    cache: Path, segment: SegmentConfig, frontends: Sequence[FrontendConfig]
) -> Callable[[Path], Any]:
    """Return the function that computes and stores the features of one recording in a worker process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LicenceWarning)  # the main process has shown the warning already
        return _Store(cache, segment, frontends).compute


@dataclass(frozen=True)
class _Column:
    """One kind of data that the store has per segment: features of a frontend, or evidence for the kind of sound."""

    name: str
    key: str
    shape: tuple[int, ...]
    dtype: type[np.floating]

    def checked(self, arrays: Mapping[str, NDArray[Any]], start_s: NDArray[Any] | None) -> dict[str, NDArray[Any]]:
        """Return the arrays of a file of the store after a check, with the values under the name of the column.

        Parameters
        ----------
        arrays : mapping of str to array
            Content of the file.
        start_s : array, shape (S,), or None
            Times in the file of another column of the recording, which must be equal.

        Raises
        ------
        ValueError
            The arrays are not as `_Store.compute` writes them, or the times differ.
        """
        if set(arrays) != {"values", "start_s", "end_s"}:
            raise ValueError("has other arrays")
        values, starts, ends = arrays["values"], arrays["start_s"], arrays["end_s"]
        size = len(starts) if starts.ndim else 0
        shapes, dtypes = [values.shape, starts.shape, ends.shape], [values.dtype, starts.dtype, ends.dtype]
        expected = [self.dtype, np.float64, np.float64]
        if not size or shapes != [(size, *self.shape), (size,), (size,)] or dtypes != expected:
            raise ValueError("has arrays of other shapes or types")
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("has numbers that are not finite")
        if start_s is not None and not np.array_equal(start_s, starts):
            raise ValueError("has other times than another frontend")
        return {self.name: values, "start_s": starts, "end_s": ends}


class _Store:
    """Access to stored features and evidence, for one way to cut segments and a list of frontends."""

    def __init__(self, cache: Path, segment: SegmentConfig, frontends: Sequence[FrontendConfig]) -> None:
        self.cache, self.root, self.segment = cache, cache / "features", segment
        self.frontends: list[Frontend] = [build_frontend(config, segment) for config in frontends]
        self.columns = [
            _Column(
                frontend.name,
                config_hash(segment, config, f"version {frontend.version}", _LAYOUT),
                frontend.shape(),
                np.float32,
            )
            for frontend, config in zip(self.frontends, frontends, strict=True)
        ]
        evidence_key = config_hash(segment, _EVIDENCE, f"version {sound_kind.VERSION}", _LAYOUT)
        self.columns.append(_Column(_EVIDENCE, evidence_key, (4,), np.float64))

    def file(self, column: _Column, content: str) -> Path:
        """Return the path of the file with one column of a recording, given the checksum of the recording."""
        return self.root / column.key / content[:2] / f"{content}.npz"

    def known(self, path: Path) -> str:
        """Return the checksum of a recording if the store has all of its columns, else an empty string."""
        try:
            require_regular(path)
            content = file_checksum(path)
        except (OSError, EmosegError):
            return ""  # `compute` reports the problem
        return content if all(self.file(column, content).is_file() for column in self.columns) else ""

    def remove_leftovers(self) -> None:
        """Remove incomplete files that interrupted runs have left."""
        for column in self.columns:
            for folder in (self.root / column.key).glob("*"):
                remove_leftovers(folder)

    def read(self, content: str) -> dict[str, NDArray[Any]] | None:
        """Return all columns, ``start_s`` and ``end_s`` of a recording; None if a file is missing or damaged."""
        arrays: dict[str, NDArray[Any]] = {}
        for column in self.columns:
            file = self.file(column, content)
            try:
                arrays |= column.checked(load_arrays(file), arrays.get("start_s"))
            except FileNotFoundError:
                return None
            except (OSError, ValueError):
                warnings.warn(f"{file}: is damaged; it is computed again", EmosegWarning, stacklevel=2)
                return None
        return arrays

    def compute(self, path: Path) -> tuple[str, str]:
        """Compute and store all columns of a recording.

        Returns
        -------
        (str, str)
            The checksum of the recording and an empty string; or, if it cannot be used, an empty string and the reason.
        """
        try:
            before = _state(path)
            arrays = self._arrays(path)
            if _state(path) != before:
                raise AudioError(f"{path}: changed while it was read", kind="changed")
        except AudioError as error:
            return "", str(error)
        content = before[0]
        for column in self.columns:
            kept = {"values": arrays[column.name], "start_s": arrays["start_s"], "end_s": arrays["end_s"]}
            save_arrays(self.file(column, content), kept)
        return content, ""

    def _arrays(self, path: Path) -> dict[str, NDArray[Any]]:
        parts: dict[str, list[NDArray[Any]]] = {}
        for batch in SegmentReader(path, segment=self.segment):
            try:
                values: dict[str, NDArray[Any]] = {**compute_features(self.frontends, batch.samples)}
            except AudioError as error:
                raise AudioError(f"{path}: {error}", kind=error.kind) from error
            values[_EVIDENCE] = sound_evidence(batch.samples, self.segment.sample_rate_hz)
            for name, array in {**values, "start_s": batch.start_s, "end_s": batch.end_s}.items():
                parts.setdefault(name, []).append(array)
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _state(path: Path) -> tuple[str, int, int]:
    """Return the checksum, size in bytes and modification time in nanoseconds of a recording.

    Raises
    ------
    AudioError
        The recording cannot be read.
    """
    status = require_regular(path, error=AudioError)
    try:
        return file_checksum(path), status.st_size, modified_ns(status)
    except OSError as error:
        raise AudioError(f"{path}: cannot be read: {error.strerror or error}", kind="unreadable") from error


def _assemble(
    store: _Store,
    paths: Sequence[Path],
    contents: Mapping[int, str],
    failures: dict[int, str],
    labels: Collection[str],
) -> FeatureTable:
    """Join the stored features of all recordings; only one recording is in memory at a time."""
    recording, start, end = [], [], []
    not_music = set()
    with ExitStack() as stack:
        files: dict[str, IO[bytes]] = {}
        for i in sorted(contents):
            try:
                arrays = _music(_stored(store, contents[i], paths[i]), paths[i], labels)
            except AudioError as error:
                failures[i] = str(error)
                if error.kind == "not-music":
                    not_music.add(i)
                continue
            if not files:
                files = {f.name: stack.enter_context(_temporary(store.root)) for f in store.frontends}
            for name, file in files.items():
                _append(file, arrays[name], store.root)
            recording.append(np.full(len(arrays["start_s"]), i, dtype=np.int64))
            start.append(arrays["start_s"])
            end.append(arrays["end_s"])
        if not recording:
            raise AudioError(next(iter(failures.values()), "no recordings given"), kind="corpus")
        rows = sum(map(len, recording))
        features = {f.name: _mapped(files[f.name], f, rows) for f in store.frontends}
    return FeatureTable(
        features,
        np.concatenate(recording),
        np.concatenate(start),
        np.concatenate(end),
        dict(sorted(failures.items())),
        frozenset(not_music),
    )


def _stored(store: _Store, content: str, path: Path) -> dict[str, NDArray[Any]]:
    """Return all columns of a recording from the store; damaged ones are computed again.

    Raises
    ------
    AudioError
        The recording had to be computed again, and can no longer be used.
    """
    arrays = store.read(content)
    if arrays is None:
        content, message = store.compute(path)
        arrays = store.read(content) if content else None
        if arrays is None:
            raise AudioError(message or f"{path}: its features cannot be read back from the store", kind="unreadable")
    return arrays


def _music(arrays: dict[str, NDArray[Any]], path: Path, labels: Collection[str]) -> dict[str, NDArray[Any]]:
    """Return the rows of the segments that are music.

    Raises
    ------
    AudioError
        Less than a quarter of the recording is music, so analysis would give it no emotion (``"not-music"``).
    """
    kinds = sound_kinds(arrays[_EVIDENCE], arrays["start_s"], labels=labels)
    kind = recording_kind(kinds)
    if kind != "music":
        raise AudioError(f"{path}: is mostly {kind}: less than a quarter of its segments are music", kind="not-music")
    music = np.array([kind == "music" for kind in kinds])
    return arrays if music.all() else {name: array[music] for name, array in arrays.items()}


def _temporary(folder: Path) -> IO[bytes]:
    """Return a temporary file without a name, which the system removes when the process ends.

    It has no buffer, so that an error such as a full disk is raised where it occurs.
    """
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
    """Return the content of a file as an array of shape (rows, ...), mapped from disk."""
    return np.asarray(np.memmap(file, dtype=np.float32, mode="r", shape=(rows, *frontend.shape())))
