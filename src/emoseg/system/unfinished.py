"""The folder beside an output that keeps the intermediate results of a long run until the output is written.

Its name is that of the output with a dot before it and ``.unfinished`` after it. The file ``settings`` identifies the
run, ``lock`` keeps out a second run, and all other files are intermediate results. After a kill, the same command
continues from them.
"""

from __future__ import annotations

import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from emoseg.errors import ConfigError, EmosegError, EmosegWarning
from emoseg.system.files import LOCK_FILE, fitting_name, folder_locked, read_text, remove_leftovers, write_whole

SETTINGS_FILE = "settings"
_MOST_BYTES = 10_000  # of a record
_LOCKS = {LOCK_FILE, f"{LOCK_FILE}-journal"}  # SQLite puts the second beside the first


def unfinished_folder(out: Path) -> Path:
    """Return the folder beside an output that keeps the intermediate results."""
    return out.with_name(fitting_name(f".{out.name}", ".unfinished"))


@contextmanager
def unfinished(folder: Path) -> Iterator[None]:
    """Create `folder` if it does not exist, and lock it against other processes while the block runs.

    Temporary files that killed processes left in it are removed. At the end, an empty folder is removed.

    Raises
    ------
    EmosegError
        Another process has locked the folder, or it cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmosegError(f"{folder}: cannot be created: {error.strerror or error}") from error
    with folder_locked(folder):
        remove_leftovers(folder)
        try:
            yield
        finally:
            if not _kept(folder):
                shutil.rmtree(folder, ignore_errors=True)
    if sys.platform == "win32" and not _kept(folder):  # which does not remove a lock that is held
        shutil.rmtree(folder, ignore_errors=True)


def claim(folder: Path, settings: str, *, what: str, versions: Mapping[str, int | str] | None = None) -> None:
    """Record which run the folder belongs to, unless that is recorded already.

    Parameters
    ----------
    folder : Path
        Locked by `unfinished`, or a folder inside it; created if it does not exist.
    settings : str
        16 hexadecimal digits that identify all settings and data that the results depend on.
    what : str
        What messages call the run, such as ``"training"``.
    versions : mapping of str to int or str, optional
        Versions of all parts of the code that the results depend on, by the name of the part.

    Raises
    ------
    ConfigError
        The folder has results of a run with other settings.

    Warns
    -----
    EmosegWarning
        The results in the folder are of other versions, or the record cannot be read. They are removed, so that
        results of different versions are never mixed.
    """
    marker = folder / SETTINGS_FILE
    there = marker.is_symlink() or marker.exists()
    recorded = _read_run(marker) if there else None
    current = _Run(settings, {name: str(version) for name, version in (versions or {}).items()})
    if recorded == current:
        return
    if there and recorded is None:
        warnings.warn(f"{marker}: is damaged; the unfinished {what} starts again", EmosegWarning, stacklevel=2)
        discard_kept(folder)
    elif _kept(folder):
        if recorded is None or recorded.settings != settings:
            raise ConfigError(
                f"{folder}: holds an unfinished {what} with other settings or songs; delete it or change --out"
            )
        warnings.warn(
            f"{folder}: the unfinished {what} was started with another version ({_changes(recorded, current)}); "
            "it starts again",
            EmosegWarning,
            stacklevel=2,
        )
        discard_kept(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(marker, current.text())


def discard_kept(folder: Path) -> None:
    """Remove everything from the folder of an unfinished run except its lock."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name not in _LOCKS:
            remove(path)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with its content."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _kept(folder: Path) -> bool:
    """Return whether there are intermediate results in the folder or below it."""
    ours = {*_LOCKS, SETTINGS_FILE}
    return any(path.name not in ours and (path.is_symlink() or not path.is_dir()) for path in folder.rglob("*"))


@dataclass(frozen=True)
class _Run:
    """The identity of a run: its settings, and versions by the name of the part."""

    settings: str
    versions: dict[str, str]

    def text(self) -> str:
        """Return the record of the run: the settings, then one line per part, "name: version"."""
        return "\n".join([self.settings, *(f"{name}: {version}" for name, version in self.versions.items())])


def _changes(recorded: _Run, current: _Run) -> str:
    """Return the versions that differ, such as "frontend descriptors 3, now 4"."""
    names = dict.fromkeys([*recorded.versions, *current.versions])
    return ", ".join(
        f"{name} {recorded.versions.get(name, 'unknown')}, now {current.versions.get(name, 'unknown')}"
        for name in names
        if recorded.versions.get(name) != current.versions.get(name)
    )


def _read_run(marker: Path) -> _Run | None:
    """Return the run that a record names, or None if `claim` did not write it."""
    try:
        text = read_text(marker, most_bytes=_MOST_BYTES)
    except EmosegError:
        return None
    settings, *lines = text.split("\n")
    if not re.fullmatch("[0-9a-f]{16}", settings) or any(": " not in line for line in lines):
        return None
    return _Run(settings, dict(line.split(": ", 1) for line in lines))
