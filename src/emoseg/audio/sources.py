"""Every form in which a caller may give a recording: a path, a file object, bytes, an array, or a `Recording`.

Decoders run in another process and read paths. The content of file objects and bytes is therefore kept in a temporary
file while it is analysed. The file lies in a folder that is locked while this process lives; what a killed process left
there is removed by the next one.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from emoseg.audio.arrays import as_recording
from emoseg.audio.find import AUDIO_SUFFIXES
from emoseg.errors import AudioError, ConfigError, EmosegError
from emoseg.system.files import remove_leftovers, work_folder
from emoseg.types import Recording

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class EncodedSound:
    """The content of a sound file in memory, and the name that results and messages use for it."""

    data: bytes
    name: str = "<bytes>"


Source: TypeAlias = (
    str | os.PathLike[str] | IO[bytes] | bytes | bytearray | memoryview | EncodedSound | Recording | ArrayLike
)
"""What `opened` takes."""


@contextmanager
def opened(source: Source, sample_rate_hz: int | None = None) -> Iterator[str | os.PathLike[str] | Recording]:
    """Yield a recording in a form that `SegmentReader` takes: a path, or decoded sound.

    Parameters
    ----------
    source : path, binary file object, bytes, array or Recording
        A file object is read from its current position to its end, and left open. An array has shape (n,), or (n, C)
        with C channels, which are averaged; so has whatever numpy turns into an array, such as a list of floats or a
        tensor on the CPU. Floating-point samples are nominally in [-1, 1]; the full scale of an integer type counts
        as 1.
    sample_rate_hz : int, optional
        Sample rate of an array; None for everything else.

    Raises
    ------
    AudioError
        The array is not usable (``"empty"``, ``"rank"``, ``"dtype"``), or the bytes are empty (``"empty"``). An error
        that is raised inside the block names the source instead of the temporary file.
    ConfigError
        The source has another type, is a text file, or is an array without a sample rate; or there is a sample rate
        but no array.
    EmosegError
        The temporary file cannot be written, or the file object cannot be read.
    """
    if isinstance(source, str | os.PathLike | Recording):
        _refuse_rate(sample_rate_hz)
        yield source if isinstance(source, Recording) else _path(source)
    elif is_encoded(source):
        _refuse_rate(sample_rate_hz)
        with _spooled(_blocks(source), source_name(source)) as file:
            yield file
    else:
        yield as_recording(_array(source), sample_rate_hz)


def is_encoded(source: object) -> bool:
    """Return whether a source is the content of a sound file: bytes, or a file object."""
    return isinstance(source, bytes | bytearray | memoryview | EncodedSound) or hasattr(source, "read")


def is_array(source: object) -> bool:
    """Return whether a source is an array or something that numpy turns into one, which needs a sample rate."""
    return not (isinstance(source, str | os.PathLike | Recording) or is_encoded(source))


def source_name(source: object) -> str:
    """Return what results and messages call a source: its path or name, else ``"<bytes>"`` or ``"<array>"``."""
    if isinstance(source, Recording):
        return source.path
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    if isinstance(source, EncodedSound):
        return source.name
    if hasattr(source, "read"):
        name = getattr(source, "name", None)
        return name if isinstance(name, str) else "<file>"
    return "<bytes>" if is_encoded(source) else "<array>"


def portable(source: Any) -> str | EncodedSound | Recording | np.ndarray[Any, Any]:
    """Return a source in a form that can go to another process, with the same result there.

    Raises
    ------
    AudioError, ConfigError, EmosegError
        As in `opened`.
    """
    if isinstance(source, Recording | EncodedSound):
        return source
    if isinstance(source, str | os.PathLike):
        return _path(source)
    return EncodedSound(b"".join(_blocks(source)), source_name(source)) if is_encoded(source) else _array(source)


def _refuse_rate(sample_rate_hz: int | None) -> None:
    if sample_rate_hz is not None:
        raise ConfigError(
            f"sample_rate_hz {sample_rate_hz!r}: is for an array of samples; a file or a Recording has its own"
        )


def _path(source: str | os.PathLike[str]) -> str:
    path: str | bytes = os.fspath(source)
    return path if isinstance(path, str) else os.fsdecode(path)


def _blocks(source: Any) -> Iterator[bytes]:
    """Yield the content of bytes or of a file object in blocks."""
    if isinstance(source, EncodedSound):
        yield source.data
        return
    if not hasattr(source, "read"):
        yield bytes(source)
        return
    name = source_name(source)
    while True:
        try:
            block = source.read(_BLOCK_BYTES)
        except (OSError, ValueError) as error:  # ValueError: the file is closed
            raise EmosegError(f"{name}: cannot be read: {error}") from error
        if not isinstance(block, bytes | bytearray | memoryview):
            kind = type(block).__name__
            raise ConfigError(f"{name}: read() returns {kind}, not bytes: open the file in binary mode, 'rb'")
        if not len(block):
            return
        yield bytes(block)


@contextmanager
def _spooled(blocks: Iterator[bytes], name: str) -> Iterator[str]:
    """Yield the path of a temporary file with the given content; errors about it name `name` instead."""
    parent = Path(tempfile.gettempdir())
    remove_leftovers(parent)
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(work_folder(parent))
            suffix = Path(name).suffix.lower()
            file = folder / f"recording{suffix if suffix in AUDIO_SUFFIXES else ''}"
            _write(file, blocks)
        except OSError as error:
            raise EmosegError(f"{name}: cannot be kept in {parent}: {error.strerror or error}") from error
        try:
            yield str(file)
        except AudioError as error:
            raise AudioError(str(error).replace(str(file), name), kind=error.kind) from error


def _write(file: Path, blocks: Iterator[bytes]) -> None:
    # Nobody else may listen to a recording that was given as bytes.
    with os.fdopen(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as target:
        for block in blocks:
            target.write(block)


def _array(source: Any) -> np.ndarray[Any, Any]:
    """Return a source as an array; its shape and type are not checked."""
    if isinstance(source, np.ndarray):
        return source
    kind = type(source).__name__
    if not (isinstance(source, list | tuple) or hasattr(source, "__array__")):
        raise ConfigError(f"a recording is a path, a binary file object, bytes, an array or a Recording, not {kind}")
    try:
        array = np.asarray(source)
    except Exception as error:  # numpy raises what it likes, and so do tensors on another device
        message = f"<array>: a {kind} that numpy cannot turn into an array: {' '.join(str(error).split())}"
        raise AudioError(message, kind="dtype") from error
    if array.dtype.kind in "US":
        raise ConfigError(f"a recording is one source, not a {kind} of texts: for several use analyze_many")
    if isinstance(source, list | tuple) and array.dtype.kind in "iu":
        rule = "whole numbers without a type have no full scale: give floats in [-1, 1], or an array such as of int16"
        raise AudioError(f"<array>: a {kind} of whole numbers: {rule}", kind="dtype")
    return array
