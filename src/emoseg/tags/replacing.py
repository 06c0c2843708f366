"""Replacing a file by a new version, unless another program has changed the file meanwhile.

The new version is made in a folder of its own beside the file. On Linux the two files exchange their names in one step.
Then the file that was replaced is compared with the one that was read, and put back if they differ. On other systems,
and on file systems that cannot exchange names, the comparison is the last step before the new file is renamed. A write
after that, through a file that was open all the time, cannot be noticed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from emoseg.audio.find import AUDIO_SUFFIXES
from emoseg.errors import AudioError, EmosegError
from emoseg.system.files import file_checksum, require_regular

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_CANNOT = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class Original:
    """A file as it was read: its path as given, its path without links, its state, and the checksum of its content."""

    name: Path
    path: Path
    status: os.stat_result
    checksum: str

    def is_at(self, path: Path) -> bool:
        """Return whether a path holds this very file, unchanged."""
        status = path.lstat()
        return _identity(status) == _identity(self.status) and file_checksum(path) == self.checksum

    def changed(self) -> AudioError:
        """Return the error that says that the file has changed."""
        return AudioError(f"{self.name}: changed while its tags were written; left alone", kind="tags")


def _identity(status: os.stat_result) -> tuple[int, ...]:
    owner = status.st_mode, status.st_uid, status.st_gid
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, *owner


def find_file(path: Path) -> tuple[Path, os.stat_result]:
    """Return the path of a recording without links, and its state; nothing is opened.

    Raises
    ------
    AudioError
        The path does not lead to a regular file, or the file is not named like a recording.
    """
    try:
        status = require_regular(path)
        target = path.resolve(strict=True)  # a link stays a link
    except EmosegError as error:
        raise AudioError(str(error), kind="tags") from error
    except (OSError, RuntimeError) as error:
        raise AudioError(f"{path}: cannot be read: {error}", kind="tags") from error
    if target.suffix.lower() not in AUDIO_SUFFIXES:
        raise AudioError(f"{path}: is not named like a recording, such as .mp3; left alone", kind="tags")
    return target, status


def require_replaceable(path: Path, status: os.stat_result) -> None:
    """Raise an error for a file that must not be replaced.

    Raises
    ------
    AudioError
        The file is read-only, or it has further names (hard links), which would keep the old file.
    """
    if not status.st_mode & stat.S_IWUSR:
        raise AudioError(f"{path}: is read-only", kind="tags")
    if status.st_nlink > 1:
        names = f"{status.st_nlink} names (hard links)"
        raise AudioError(f"{path}: has {names}, of which one alone would change; left alone", kind="tags")


def take_place(new: Path, original: Original, *, mtime_ns: int | None) -> None:
    """Replace the original by `new`, which gets its owner, and `mtime_ns` or the present as its modification time.

    Raises
    ------
    AudioError
        The original has changed; it is left alone.
    OSError
        The file cannot be replaced.
    """
    target, status = original.path, original.status
    if hasattr(os, "chown"):
        with suppress(PermissionError):
            os.chown(new, status.st_uid, status.st_gid)
    os.utime(new, ns=(status.st_atime_ns, time.time_ns() if mtime_ns is None else mtime_ns))
    with new.open("rb+") as file:
        os.fsync(file.fileno())
    if not original.is_at(target):
        raise original.changed()
    if not exchange(new, target):
        new.replace(target)
    elif not original.is_at(new):
        new.replace(target)
        raise original.changed()


def exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two files in one step; return False if the system cannot."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), str(other))
