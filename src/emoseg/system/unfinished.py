"""The folder beside an output in which a long run keeps what is done, until the output is written.

It is named like the output, with a dot before and ``.unfinished`` behind. ``settings`` in it says which run it is of,
``lock`` keeps a second run out while the first one lives, and the rest is what is done. The same command goes on from
there after a kill.
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
_MOST_NOTE = 10_000  # bytes
_LOCKS = {LOCK_FILE, f"{LOCK_FILE}-journal"}  # SQLite puts the second beside the first


def unfinished_folder(out: Path) -> Path:
    """Return the folder beside an output that keeps what is done until the output is written."""
    return out.with_name(fitting_name(f".{out.name}", ".unfinished"))


@contextmanager
def unfinished(folder: Path) -> Iterator[None]:
    """Keep other processes from working in `folder` while the block runs; it is made where there is none.

    What killed processes left half-written in it is removed. At the end the folder goes if nothing is kept in it.

    Raises
    ------
    EmosegError
        Another process is at work in it, or it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmosegError(f"{folder}: cannot be made: {error.strerror or error}") from error
    with folder_locked(folder):
        remove_leftovers(folder)
        try:
            yield
        finally:
            if not _kept(folder):
                shutil.rmtree(folder, ignore_errors=True)
    if sys.platform == "win32" and not _kept(folder):  # which refuses to remove a lock that is held
        shutil.rmtree(folder, ignore_errors=True)


def claim(folder: Path, settings: str, *, what: str, versions: Mapping[str, int | str] | None = None) -> None:
    """Note which run the folder is of, unless it is noted already.

    Parameters
    ----------
    folder : Path
        Held by `unfinished`, or a folder inside it; made if it does not exist.
    settings : str
        16 hexadecimal digits that name all settings and data that decide the result.
    what : str
        What a run is called, for messages.
    versions : mapping of str to int or str, optional
        Versions of all parts of the code that decide the result, by the name of the part.

    Raises
    ------
    ConfigError
        The folder has results of a run with other settings.

    Warns
    -----
    EmosegWarning
        The results in the folder are of other versions, or the note cannot be read. They are removed, so that results
        of different versions are never mixed.
    """
    marker = folder / SETTINGS_FILE
    there = marker.is_symlink() or marker.exists()
    noted = _read_note(marker) if there else None
    current = _Note(settings, {name: str(version) for name, version in (versions or {}).items()})
    if noted == current:
        return
    if there and noted is None:
        warnings.warn(f"{marker}: is damaged; the unfinished {what} begins anew", EmosegWarning, stacklevel=2)
        discard_kept(folder)
    elif _kept(folder):
        if noted is None or noted.settings != settings:
            raise ConfigError(
                f"{folder}: holds an unfinished {what} with other settings or songs; delete it or change --out"
            )
        warnings.warn(
            f"{folder}: the unfinished {what} was begun with another version ({_changes(noted, current)}); "
            "it begins anew",
            EmosegWarning,
            stacklevel=2,
        )
        discard_kept(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(marker, current.text())


def discard_kept(folder: Path) -> None:
    """Remove all that is in the folder of an unfinished run, but for its lock."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name not in _LOCKS:
            remove(path)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _kept(folder: Path) -> bool:
    """Return whether there is a file that is neither a lock nor a note, in the folder or beneath it."""
    ours = {*_LOCKS, SETTINGS_FILE}
    return any(path.name not in ours and (path.is_symlink() or not path.is_dir()) for path in folder.rglob("*"))


@dataclass(frozen=True)
class _Note:
    """Which run a folder is of: settings, and versions by the name of the part."""

    settings: str
    versions: dict[str, str]

    def text(self) -> str:
        """Return the note as text: the settings, then one line per part, "name: version"."""
        return "\n".join([self.settings, *(f"{name}: {version}" for name, version in self.versions.items())])


def _changes(noted: _Note, current: _Note) -> str:
    """Return which versions differ, as "frontend descriptors 3, now 4"."""
    names = dict.fromkeys([*noted.versions, *current.versions])
    return ", ".join(
        f"{name} {noted.versions.get(name, 'unknown')}, now {current.versions.get(name, 'unknown')}"
        for name in names
        if noted.versions.get(name) != current.versions.get(name)
    )


def _read_note(marker: Path) -> _Note | None:
    """Return what a note says, or None if `claim` did not write it."""
    try:
        text = read_text(marker, most_bytes=_MOST_NOTE)
    except EmosegError:
        return None
    settings, *lines = text.split("\n")
    if not re.fullmatch("[0-9a-f]{16}", settings) or any(": " not in line for line in lines):
        return None
    return _Note(settings, dict(line.split(": ", 1) for line in lines))
