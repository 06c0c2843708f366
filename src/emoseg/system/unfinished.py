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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emoseg.errors import ConfigError, EmosegError, EmosegWarning
from emoseg.system.files import LOCK_FILE, fitting_name, folder_locked, read_text, remove_leftovers, write_whole

SETTINGS_FILE = "settings"
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


def claim(folder: Path, settings: str, *, what: str) -> None:
    """Note which run the folder is of, unless it is noted already.

    Parameters
    ----------
    folder : Path
        Held by `unfinished`.
    settings : str
        16 hexadecimal digits that name all that decides what is done.
    what : str
        What a run is called, for the message.

    Raises
    ------
    ConfigError
        The folder keeps what a run with other settings did.

    Warns
    -----
    EmosegWarning
        What the note says cannot be read: what was done is removed, because nobody knows what it is of.
    """
    marker = folder / SETTINGS_FILE
    there = marker.is_symlink() or marker.exists()
    noted = _noted(marker) if there else None
    if noted == settings:
        return
    if there and noted is None:
        warnings.warn(f"{marker}: is damaged; the unfinished {what} begins anew", EmosegWarning, stacklevel=2)
        discard_kept(folder)
    elif _kept(folder):
        raise ConfigError(
            f"{folder}: holds an unfinished {what} with other settings or songs; delete it or change --out"
        )
    write_whole(marker, settings)


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
    """Say whether there is a file that is neither a lock nor the note, in the folder or beneath it."""
    ours = {folder / name for name in (*_LOCKS, SETTINGS_FILE)}
    return any(path not in ours and (path.is_symlink() or not path.is_dir()) for path in folder.rglob("*"))


def _noted(marker: Path) -> str | None:
    """Return what the file says; None where it is none that `claim` wrote."""
    try:
        text = read_text(marker, most_bytes=16)
    except EmosegError:
        return None
    return text if re.fullmatch("[0-9a-f]{16}", text) else None
