"""The search for recordings in folders; all commands use it, so they all find the same recordings.

Folders may be nested to any depth and may be reached through links. Each real folder is visited once: under its own
path if it lies below the root, else under the first link in the order of paths. Names that begin with a dot are left
out. `scan_folder` returns the recordings with their sizes and times, `find_recordings` only their paths, and
`find_sources` the recordings that a list of files and folders stands for.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from emoseg.errors import AudioError, ConfigError
from emoseg.system.files import modified_ns
from emoseg.types import AnalysisFailure

# fmt: off
AUDIO_SUFFIXES: frozenset[str] = frozenset((
    ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".caf", ".dsf", ".flac", ".m4a", ".m4b", ".mka",
    ".mp2", ".mp3", ".mpc", ".oga", ".ogg", ".opus", ".snd", ".tta", ".w64", ".wav", ".wave", ".wma", ".wv",
))
# fmt: on
"""Suffixes of recordings, in lower case. The case of a file's suffix does not matter."""


@dataclass(frozen=True)
class FoundFile:
    """A recording: its path below the root with ``/`` between the parts, its size in bytes, its modification time."""

    path: str
    size: int
    mtime_ns: int


@dataclass
class Scan:
    """The recordings below a folder.

    `unlisted` maps the path of each folder that could not be listed to the words of the system. Its recordings are
    unknown.
    """

    files: list[FoundFile] = field(default_factory=list)
    unlisted: dict[str, str] = field(default_factory=dict)


def find_recordings(root: Path) -> list[Path]:
    """Return the paths of all recordings below `root`, sorted.

    Raises
    ------
    AudioError
        `root` is not a folder (``"missing"``), or a folder in it cannot be listed (``"unreadable"``).
    """
    try:
        scan = scan_folder(root)
    except ConfigError as error:
        raise AudioError(str(error), kind="missing") from error
    for folder, cause in scan.unlisted.items():
        raise AudioError(f"{root / folder}: cannot be listed: {cause}", kind="unreadable")
    return [root / file.path for file in scan.files]


def find_sources(paths: Iterable[str | os.PathLike[str]]) -> Iterator[str | AnalysisFailure]:
    """Yield the path of each recording, where a folder stands for all recordings below it.

    A path that is not a folder is yielded as it is, even if there is no such file. A folder that cannot be listed gives
    a failure of the kind ``"unreadable"``, and one without recordings a failure of the kind ``"empty"``.
    """
    for given in paths:
        path = os.fspath(given)
        if not _is_folder(Path(path)):
            yield path
            continue
        try:
            scan = scan_folder(Path(path))
        except ConfigError as error:
            yield AnalysisFailure(path, "unreadable", str(error))
            continue
        yield from (str(Path(path, file.path)) for file in scan.files)
        for inner, cause in scan.unlisted.items():
            unlisted = str(Path(path, inner))
            yield AnalysisFailure(unlisted, "unreadable", f"{unlisted}: cannot be listed: {cause}")
        if not scan.files and not scan.unlisted:
            yield AnalysisFailure(path, "empty", f"{path}: holds no recordings")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # analysis reports the problem with such a path
        return False


def scan_folder(root: Path) -> Scan:
    """Return all recordings below `root`, sorted by path.

    Raises
    ------
    ConfigError
        `root` is not a folder, or cannot be listed.
    """
    try:
        listable = root.is_dir()
    except OSError as error:  # such as a path that is too long
        raise ConfigError(f"{root}: cannot be read: {error.strerror}") from error
    if not listable:
        raise ConfigError(f"{root}: no such folder")
    scan = Scan()
    seen: set[tuple[int, int]] = set()
    links = [""]
    while links:
        behind: list[str] = []
        for start in sorted(links):
            _walk(root, start, seen, scan, behind)
        links = behind
    if "" in scan.unlisted:
        raise ConfigError(f"{root}: cannot be listed: {scan.unlisted['']}")
    scan.files.sort(key=lambda file: file.path)
    return scan


def _walk(root: Path, start: str, seen: set[tuple[int, int]], scan: Scan, links: list[str]) -> None:
    """Visit the real folders below `start`, and add linked folders to `links`, to be visited after all real ones."""
    folders = [start]
    while folders:  # not recursive, because folders may be nested deeper than Python's stack
        folder = folders.pop()
        try:
            status = (root / folder).stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            for entry in _entries(root / folder):
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                elif _leads_to_folder(entry):
                    links.append(path)
                elif Path(entry.name).suffix.lower() in AUDIO_SUFFIXES:
                    scan.files.append(_found(path, entry))
        except OSError as error:
            scan.unlisted[folder] = error.strerror or str(error)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself; if it has the name of a recording, analysis reports it
        return False


def _found(path: str, entry: os.DirEntry[str]) -> FoundFile:
    try:
        status = entry.stat()
    except OSError:  # a link to nothing; analysis reports it
        return FoundFile(path, 0, 0)
    return FoundFile(path, status.st_size, modified_ns(status))
