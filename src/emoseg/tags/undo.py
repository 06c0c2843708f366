"""The undo file of `emoseg tag`: one line per file, from which the file can be restored byte for byte.

The format is JSON Lines, ``emoseg.tag-undo/2``. A line is on the disk before its file is replaced. It holds the old
fields, for people, and the difference from the new file to the old one. Its last field is a checksum of everything
before it, so a line that was damaged or cut off is recognised. Undo files may come from strangers: a line is checked in
full before any file that it names is opened.
"""

from __future__ import annotations

import base64
import json
import os
import re
import time
import zlib
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError

from emoseg.errors import ConfigError
from emoseg.system.files import checksum, require_regular, sync_folder
from emoseg.tags.delta import MOST_REST_BYTES, MOST_STRETCHES, STRETCH, Difference

SCHEMA = "emoseg.tag-undo/2"
MOST_LINE_BYTES = 24 << 20
MOST_LINES = 4_000_000
MOST_TEXT = 1 << 16  # characters of all fields of a file that emoseg reads
_START = f'{{"schema": "{SCHEMA}", '.encode()
_END = re.compile(rb', "checksum": "([0-9a-f]{32})"\}\n?\Z')
_END_BYTES = 50
_MOST_VALUES = 1 << 17  # commas and brackets in a line; emoseg writes a few, and millions would fill the memory


def _path(value: Any) -> Path:
    value = str(value) if isinstance(value, Path) else value
    if not isinstance(value, str) or not 0 < len(value) <= 1 << 15 or "\0" in value:
        raise ValueError("is not a path")
    try:
        os.fsencode(value)
    except UnicodeEncodeError as error:
        raise ValueError("is not a path") from error
    if not Path(value).is_absolute():
        raise ValueError("is not an absolute path")
    return Path(value)


_Path = Annotated[Path, PlainValidator(_path), PlainSerializer(str)]
_Checksum = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
_Size = Annotated[int, Field(ge=0, le=1 << 50)]
_Text = Annotated[str, Field(max_length=MOST_TEXT)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Fields(_Strict):
    """The old fields of a file, for people."""

    mood: Annotated[list[_Text], Field(max_length=MOST_TEXT)]
    fields: Annotated[dict[_Text, _Text], Field(max_length=MOST_TEXT)]


class NewFile(_Strict):
    """What identifies a file that emoseg wrote."""

    checksum: _Checksum
    size: _Size


class OldFile(NewFile):
    """What identifies the file before it, and its modification time."""

    mtime_ns: Annotated[int, Field(ge=-(1 << 92), le=1 << 92)]  # what 64 bits of seconds hold


class UndoEntry(_Strict):
    """A line of an undo file, from which one file can be restored.

    `path` is the absolute path of the file, which may be a link. `library` is the library that the file is in, if any.
    `stretches` and `rest` are those of a `Difference`, compressed with zlib and encoded in base64.
    """

    path: _Path
    library: _Path | None
    before: Fields
    old: OldFile
    new: NewFile
    stretches: str
    rest: str

    def difference(self) -> Difference:
        """Return the difference from the new file to the old one.

        Raises
        ------
        ValueError
            The entry holds no difference, or one that does not fit the sizes of the two files.
        """
        stretches = _unpacked(self.stretches, MOST_STRETCHES * STRETCH.size)
        rest = _unpacked(self.rest, min(MOST_REST_BYTES, self.old.size))
        delta = Difference(stretches, rest)
        if len(stretches) % STRETCH.size or not delta.fits(new_size=self.new.size, old_size=self.old.size):
            raise ValueError("its difference does not fit the sizes of the files")
        return delta


def packed(data: bytes) -> str:
    """Return compressed bytes as text, which `UndoEntry.difference` reads."""
    return base64.b64encode(zlib.compress(data, 9)).decode("ascii")


def _unpacked(text: str, most: int) -> bytes:
    decompressor = zlib.decompressobj()
    try:
        data = decompressor.decompress(base64.b64decode(text, validate=True), most + 1)
    except zlib.error as error:
        raise ValueError(f"its difference cannot be decompressed: {error}") from error
    if len(data) > most or not decompressor.eof or decompressor.unused_data:
        raise ValueError("its difference is too long or cut off")
    return data


# --- writing ---------------------------------------------------------------------------------------------------------


class UndoFile:
    """The undo file of one run; it is created with the first line, and never replaces an earlier file."""

    def __init__(self, path: Path) -> None:
        if os.path.lexists(path):
            raise ConfigError(f"{path}: exists already; an undo file is never overwritten")
        if not path.parent.is_dir():
            raise ConfigError(f"{path.parent}: no such folder")
        self.path = path
        self._made = False
        self._length = self._lines = 0

    @staticmethod
    def default_path() -> Path:
        """Return the path of a file in the current folder whose name is the present time."""
        return Path(f"emoseg-undo-{time.strftime('%Y%m%d-%H%M%S')}.jsonl")

    def add(self, entry: UndoEntry) -> None:
        """Append a line and wait until it is on the disk; a line that cannot be written whole is removed again.

        Raises
        ------
        ConfigError
            The file cannot be written, was changed by another program, or would be larger than `read_undo` accepts.
        """
        line = _line(entry)
        if len(line) > MOST_LINE_BYTES or self._lines == MOST_LINES:
            raise ConfigError(f"{self.path}: an undo file cannot hold more")
        try:
            with self.path.open("rb+" if self._made else "xb", buffering=0) as file:
                try:
                    self._append(file, line)
                except BaseException:
                    self._take_back(file)
                    raise
            if not self._made:
                sync_folder(self.path.parent)
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be written: {error.strerror or error}") from error
        self._made = True
        self._length += len(line)
        self._lines += 1

    def _append(self, file: FileIO, line: bytes) -> None:
        if os.fstat(file.fileno()).st_size < self._length:
            raise OSError("another program cut it short")
        # Remains of a failed attempt are cut off, so that a line always follows a line end.
        file.truncate(self._length)
        file.seek(self._length)
        left = memoryview(line)
        while left:
            left = left[file.write(left) :]
        os.fsync(file.fileno())

    def _take_back(self, file: FileIO) -> None:
        with suppress(OSError):
            if not self._made:
                self.path.unlink()
            elif os.fstat(file.fileno()).st_size > self._length:
                file.truncate(self._length)


def _line(entry: UndoEntry) -> bytes:
    content = json.dumps({"schema": SCHEMA, **entry.model_dump()}).encode("ascii")[:-1]
    return content + f', "checksum": "{checksum(content)}"}}\n'.encode()


# --- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class UnreadLine:
    """A message about lines from which nothing can be restored; `harmless` if no file was changed for them."""

    words: str
    harmless: bool = False


def read_undo(path: Path) -> Iterator[UndoEntry | UnreadLine]:
    """Yield the content of an undo file: first the lines that cannot be read, then the entries, the latest first.

    Raises
    ------
    ConfigError
        The file cannot be read, or no line was written by emoseg.
    """
    require_regular(path, error=ConfigError)
    try:
        with path.open("rb") as file:
            places = _Places(path)
            for number, line in enumerate(_lines(file), 1):
                places.add(number, file.tell(), line)
            yield from places.unread()
            for number, offset in places.whole():
                file.seek(offset)
                yield _entry(path, number, file.readline(MOST_LINE_BYTES))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file; of a line longer than emoseg writes, only the last byte."""
    while line := file.readline(MOST_LINE_BYTES):
        piece = line
        while len(piece) == MOST_LINE_BYTES and not piece.endswith(b"\n"):
            piece = file.readline(MOST_LINE_BYTES)
            line = piece[-1:]
        yield line


class _Places:
    """The offsets of the intact lines of an undo file, and the numbers of the others."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers, self._offsets = array("Q"), array("Q")
        self._damaged: list[tuple[int, int]] = []
        self._torn: int | None = None
        self._begun = False  # whether the torn line begins like one of emoseg's

    def add(self, number: int, end: int, line: bytes) -> None:
        if number > MOST_LINES:
            raise ConfigError(f"{self._path}: has more than {MOST_LINES} lines")
        if _is_whole(line):
            self._numbers.append(number)
            self._offsets.append(end - len(line))
        elif not line.endswith(b"\n"):
            self._torn, self._begun = number, _START.startswith(line[: len(_START)])
        elif self._damaged and self._damaged[-1][1] == number - 1:
            self._damaged[-1] = self._damaged[-1][0], number
        else:
            self._damaged.append((number, number))

    def unread(self) -> Iterator[UnreadLine]:
        if not self._numbers and (self._damaged or (self._torn is not None and not self._begun)):
            raise ConfigError(f"{self._path}: is not an undo file of emoseg ({SCHEMA})")
        if not self._numbers and self._torn is None:
            yield UnreadLine(f"{self._path}: holds nothing to restore", harmless=True)
        if self._torn is not None:
            words = f"line {self._torn} is cut off, so its file was not changed; skipped"
            yield UnreadLine(f"{self._path}: {words}", harmless=True)
        for first, last in self._damaged:
            lines = f"line {first} was" if first == last else f"lines {first} to {last} were"
            yield UnreadLine(f"{self._path}: {lines} altered or damaged; skipped")

    def whole(self) -> Iterator[tuple[int, int]]:
        for i in reversed(range(len(self._numbers))):
            yield self._numbers[i], self._offsets[i]


def _is_whole(line: bytes) -> bool:
    end = _END.search(line, max(0, len(line) - _END_BYTES - 2))
    return bool(end and line.startswith(_START) and checksum(line[: end.start()]) == end[1].decode())


def _entry(path: Path, number: int, line: bytes) -> UndoEntry | UnreadLine:
    try:
        if sum(map(line.count, (b",", b"[", b"{"))) > _MOST_VALUES:
            raise ValueError("has too many values")
        fields = json.loads(line)
        del fields["schema"], fields["checksum"]
        entry = UndoEntry.model_validate(fields)
        entry.difference()
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        words = problem["msg"].removeprefix("Value error, ")
        return UnreadLine(f"{path}: line {number}: {where[:100]}: {words}; skipped")
    except (ValueError, KeyError, RecursionError, MemoryError) as error:
        return UnreadLine(f"{path}: line {number}: {str(error)[:200]}; skipped")
    return entry
