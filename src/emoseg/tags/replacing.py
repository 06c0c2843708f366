"""One file takes another's place, unless another program has changed that meanwhile.

A file is read, and a new version of it is made, in a folder of its own beside it. On Linux the two files exchange their
names in one step; then what was exchanged out is compared with what was read, and goes back if it differs. Elsewhere
(and on file systems that cannot exchange) the comparison comes last before the new file takes its place. What no
program can see is a write after that, through a file that was open all the time.
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
    """A file as it was read: what its user calls it, where links lead, its state, and the checksum of its content."""

    name: Path
    path: Path
    status: os.stat_result
    checksum: str

    def is_at(self, path: Path) -> bool:
        """Whether a path holds this very file, unchanged."""
        status = path.lstat()
        return _identity(status) == _identity(self.status) and file_checksum(path) == self.checksum

    def changed(self) -> AudioError:
        """Return the error that says that it did change."""
        return AudioError(f"{self.name}: changed while its tags were written; left alone", kind="tags")


def _identity(status: os.stat_result) -> tuple[int, ...]:
    owner = status.st_mode, status.st_uid, status.st_gid
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, *owner


def find_file(path: Path) -> tuple[Path, os.stat_result]:
    """Return the recording that a path leads to, and its state; nothing is opened.

    Raises
    ------
    AudioError
        It is not a regular file, or is not named like a recording.
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
    """Refuse a file that another must not take the place of.

    Raises
    ------
    AudioError
        It is read-only, which a new file in its place would not respect, or has further names (hard links), which
        would keep the old file.
    """
    if not status.st_mode & stat.S_IWUSR:
        raise AudioError(f"{path}: is read-only", kind="tags")
    if status.st_nlink > 1:
        raise AudioError(f"{path}: has {status.st_nlink} names (hard links) that would part; left alone", kind="tags")


def take_place(new: Path, original: Original, *, mtime_ns: int | None) -> None:
    """Let `new` take the place of the original, with its owner, and with a modification time or that of now.

    Raises
    ------
    AudioError
        The original is not what it was; it is left alone.
    OSError
        The system refuses.
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
    """Let two files exchange their names in one step; False where the system cannot."""
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
