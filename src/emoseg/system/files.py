"""Files that are written whole or not at all, locks on folders, checksums, and checks before a file is opened.

An unfinished file has a name that begins with ``.emoseg-`` and is locked while its process lives. A kill leaves it
unlocked, so a later run can distinguish it from a file that is still being written (`remove_leftovers`).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import sqlite3
import stat
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from emoseg.errors import EmosegError

if sys.platform != "win32":  # Windows does not remove an open file, which is as good as a lock
    import fcntl

PREFIX = ".emoseg-"
LOCK_FILE = "lock"
NAME_BYTES = 255  # the longest file name that common file systems allow
_CHECKSUM_BYTES = 16


@contextmanager
def written_whole(target: Path, *, suffix: str = ".tmp", sync: bool = False) -> Iterator[Path]:
    """Yield a temporary path, which is renamed to `target` when the block ends without an error.

    Parameters
    ----------
    target : Path
        The folder of this path must exist. An earlier file of that name is replaced in one step.
    suffix : str
        End of the temporary name, for libraries that choose a format by it.
    sync : bool
        Wait until the content is on the disk before the file gets its name.

    Raises
    ------
    EmosegError
        The file cannot be written; `target` is as it was, and no other file is left.
    """
    temporary: Path | None = None
    try:
        descriptor, temporary = _locked_temporary(target.parent, suffix)
        try:
            yield temporary
            if sync:
                with temporary.open("rb+") as opened:
                    os.fsync(opened.fileno())
            temporary.replace(target)
            if sync:
                sync_folder(target.parent)
        finally:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
    except OSError as error:
        # An error about another file, which the block may read, has the name of that file.
        if error.filename is None or temporary is None or Path(error.filename) == temporary:
            raise EmosegError(f"{target}: cannot be written: {error.strerror or error}") from error
        raise


def write_whole(target: Path, data: str | bytes, *, sync: bool = False) -> None:
    """Write text (as UTF-8) or bytes to `target`; see `written_whole`."""
    with written_whole(target, sync=sync) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """Yield a new temporary folder in the existing folder `parent`; it is removed with its content."""
    descriptor, folder = _locked_folder(parent)
    try:
        yield folder
    finally:
        if descriptor is not None:
            os.close(descriptor)
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(folder: Path, *, below: bool = False) -> None:
    """Remove temporary files and folders of killed processes, and keep those of living ones.

    Parameters
    ----------
    folder : Path
        It need not exist.
    below : bool
        Also look into all folders below it.
    """
    for name, folders, files in os.walk(folder):
        for left in [entry for entry in (*folders, *files) if entry.startswith(PREFIX)]:
            with suppress(OSError):
                _remove_unlocked(Path(name, left))
        folders[:] = [inner for inner in folders if below and not inner.startswith(PREFIX)]


def _remove_unlocked(path: Path) -> None:
    if path.is_symlink() or not (path.is_file() or path.is_dir()):
        return
    if sys.platform != "win32":
        if (descriptor := _lock(path)) is None:
            return
        os.close(descriptor)
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink()


def _locked_temporary(folder: Path, suffix: str) -> tuple[int, Path]:
    """Create a temporary file, lock it, and return its descriptor and path.

    Another process may remove the file before it is locked; then it is created again.
    """
    while True:
        # The name does not contain the target's, which may already be as long as the file system allows.
        path = folder / f"{PREFIX}{secrets.token_hex(8)}{suffix}"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        if sys.platform == "win32":
            return descriptor, path
        with suppress(OSError):  # a file system without locks, where only its own process removes the file
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor, path
        os.close(descriptor)


def _locked_folder(parent: Path) -> tuple[int | None, Path]:
    """Create a temporary folder and lock it, as `_locked_temporary` does with a file."""
    while True:
        folder = parent / f"{PREFIX}{secrets.token_hex(8)}.tmp"
        folder.mkdir()
        try:
            descriptor = _lock(folder)
        except FileNotFoundError:
            continue
        if folder.is_dir():
            return descriptor, folder
        if descriptor is not None:
            os.close(descriptor)


def _lock(path: Path) -> int | None:
    """Lock a file or folder and return its descriptor; None if another process has locked it."""
    if sys.platform == "win32":
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, if the system has a call for that."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def folder_locked(folder: Path) -> Iterator[None]:
    """Lock `folder` against other emoseg processes while the block runs; the lock ends with its process.

    Raises
    ------
    EmosegError
        Another process has locked the folder, or it cannot be written to.
    """
    file = folder / LOCK_FILE
    try:
        # SQLite's file lock works in the same way on every system, and the system frees it when a process is killed.
        lock = sqlite3.connect(file, timeout=0, isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise EmosegError(f"{folder}: another emoseg process uses it") from error
        raise EmosegError(f"{file}: cannot be written: {error}") from error
    except sqlite3.DatabaseError as error:
        raise EmosegError(f"{file}: cannot be used as a lock: {error}") from error
    with closing(lock):
        yield


def require_regular(path: str | os.PathLike[str], *, error: type[EmosegError] = EmosegError) -> os.stat_result:
    """Return the state of a regular file without opening it, because opening a pipe waits for its writer.

    Raises
    ------
    EmosegError
        Of the class `error`: there is no such file, it is a folder or a special file, or its state cannot be read.
    """
    try:
        status = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError, ValueError) as problem:  # ValueError: a null character
        raise error(f"{os.fspath(path)}: no such file") from problem
    except OSError as problem:
        raise error(f"{os.fspath(path)}: cannot be read: {problem.strerror}") from problem
    if stat.S_ISDIR(status.st_mode):
        raise error(f"{os.fspath(path)}: is a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise error(f"{os.fspath(path)}: is not a regular file")
    return status


def read_text(path: Path, *, most_bytes: int, error: type[EmosegError] = EmosegError) -> str:
    """Return the text of a regular file in UTF-8, with or without a byte order mark.

    Raises
    ------
    EmosegError
        Of the class `error`: the file cannot be read, is larger than `most_bytes`, or is not UTF-8.
    """
    status = require_regular(path, error=error)
    if status.st_size > most_bytes:
        raise error(f"{path}: has {status.st_size / 1e6:.1f} MB; at most {most_bytes / 1e6:g} MB are read")
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        raise error(f"{path}: is not UTF-8 text (byte {problem.start})") from problem


def checksum(data: bytes) -> str:
    """Return the BLAKE2b checksum of bytes, 32 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=_CHECKSUM_BYTES).hexdigest()


def file_checksum(file: Path) -> str:
    """Return the `checksum` of a file's content, which is read in blocks."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=_CHECKSUM_BYTES)).hexdigest()


def modified_ns(status: os.stat_result) -> int:
    """Return the modification time in nanoseconds as a signed 64-bit number; times after 2262 become negative."""
    return (status.st_mtime_ns + 2**63) % 2**64 - 2**63


def fitting_name(name: str, suffix: str) -> str:
    """Return `name` with `suffix`, shortened to the length that file systems allow.

    A name that is too long loses characters before the suffix, and gets 16 digits of a checksum of the whole name, so
    that two long names stay different.
    """
    if len(os.fsencode(name + suffix)) <= NAME_BYTES:
        return name + suffix
    tail = f"~{hashlib.blake2b(os.fsencode(name), digest_size=8).hexdigest()}{suffix}"
    kept = name
    while len(os.fsencode(kept + tail)) > NAME_BYTES:
        kept = kept[:-1]
    return kept + tail
