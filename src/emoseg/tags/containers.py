"""The tags of every container, read and written by mutagen; no other module imports mutagen.

This module is a program (``python -m emoseg.tags.containers``), which only `process` starts: a damaged file may make
mutagen use all memory or never end. The program reads requests from standard input, one JSON object per line, and
answers each with one line on standard output.

mutagen is under the GPL (2.0 or later), so it is an extra, and imported on first use.

========================  ======================================  =====================================
tags                      mood                                    emoseg's own fields
========================  ======================================  =====================================
ID3v2.4 (MP3, WAV, AIFF)  ``TMOO``                                ``TXXX:EMOSEG_...``
ID3v2.3, ID3v2.2          ``TXXX:MOOD`` (there is no ``TMOO``)    ``TXXX:EMOSEG_...``
Vorbis (FLAC, Ogg, Opus)  ``MOOD``                                ``EMOSEG_...``
MP4                       ``----:com.apple.iTunes:MOOD``          ``----:com.apple.iTunes:EMOSEG_...``
ASF (WMA)                 ``WM/Mood``                             ``EMOSEG/...``
APEv2 (APE, WavPack)      ``Mood``                                ``EMOSEG_...``
========================  ======================================  =====================================

These are the names that MusicBrainz Picard, Mp3tag and Navidrome use. The version of an ID3 tag does not change.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from emoseg.system.names import one_line
from emoseg.tags.fields import PREFIX

MEMORY_BYTES = 512 << 20  # private memory; pictures in tags are the largest that is read
GROWTH_BYTES = 64 << 20  # by which writing may make a file longer
MOST_CHARACTERS = 8192  # of all moods, and of all fields of emoseg's own, in a file
_WORDS = 300  # characters kept of what mutagen says

_FREEFORM = "----:com.apple.iTunes:"


class TaggedFile:
    """The mood and emoseg's own fields of a file, read when it is opened.

    Attributes
    ----------
    mood : tuple of str
        All values of the mood fields, whoever wrote them.
    mood_field : str
        The name of the field that `write` would use for a mood.
    own : dict of str to str
        Fields with emoseg's prefix.

    Raises
    ------
    ValueError
        The container cannot hold tags, or the tags are too long.
    Exception
        Whatever a damaged file makes mutagen raise.
    """

    def __init__(self, path: Path) -> None:
        mutagen = importlib.import_module("mutagen")
        self._file = mutagen.File(path)
        if self._file is not None and self._file.tags is None:
            with suppress(NotImplementedError, mutagen.MutagenError):
                self._file.add_tags()
        tags = _family(self._file)
        if tags is None:
            raise ValueError("the format can hold none")
        self._tags = tags
        self.mood = self._tags.mood()
        self.mood_field = self._tags.mood_field
        self.own = self._tags.own()
        for texts in (self.mood, [*self.own, *self.own.values()]):
            if sum(map(len, texts)) > MOST_CHARACTERS or len(texts) > MOST_CHARACTERS:
                raise ValueError(f"more than {MOST_CHARACTERS} characters")

    def write(self, *, mood: str | None, own: Mapping[str, str]) -> None:
        """Replace emoseg's own fields by `own` and the mood by `mood`, and save the file.

        None leaves the mood as it is, and an empty mood removes it.
        """
        self._tags.set_own(dict(own))
        if mood is not None:
            self._tags.set_mood(mood)
        self._tags.save()


class _Tags(Protocol):
    """Tags of one kind, whatever the container."""

    mood_field: str

    def mood(self) -> tuple[str, ...]: ...
    def own(self) -> dict[str, str]: ...
    def set_mood(self, mood: str) -> None: ...
    def set_own(self, own: dict[str, str]) -> None: ...
    def save(self) -> None: ...


def _family(file: Any) -> _Tags | None:
    if file is None or file.tags is None:
        return None
    families: dict[str, Callable[[Any], _Tags]] = {
        "mutagen.id3.ID3": _Id3Tags,
        "mutagen._vorbis.VComment": _VorbisTags,
        "mutagen.mp4.MP4Tags": _Mp4Tags,
        "mutagen.asf.ASFTags": _AsfTags,
        "mutagen.apev2.APEv2": _ApeTags,
    }
    for name, family in families.items():
        module, _, class_name = name.rpartition(".")
        if isinstance(file.tags, getattr(importlib.import_module(module), class_name)):
            return family(file)
    return None


class _Id3Tags:
    def __init__(self, file: Any) -> None:
        self._file, self._tags = file, file.tags
        # A tag that is new gets the newest version.
        self._version = 3 if self._tags.size and self._tags.version < (2, 4, 0) else 4
        self.mood_field = "TMOO" if self._version == 4 else "TXXX:MOOD"

    def mood(self) -> tuple[str, ...]:
        frames = [*self._tags.getall("TMOO"), *(f for f in self._tags.getall("TXXX") if f.desc.upper() == "MOOD")]
        return tuple(str(text) for frame in frames for text in frame.text)

    def own(self) -> dict[str, str]:
        frames = self._tags.getall("TXXX")
        return {f.desc: " / ".join(map(str, f.text)) for f in frames if f.desc.startswith(PREFIX)}

    def set_mood(self, mood: str) -> None:
        from mutagen.id3 import TMOO

        self._tags.delall("TMOO")
        for name in [f.HashKey for f in self._tags.getall("TXXX") if f.desc.upper() == "MOOD"]:
            del self._tags[name]
        if mood:
            self._tags.add(TMOO(encoding=3, text=[mood]) if self._version == 4 else self._user_text("MOOD", mood))

    def set_own(self, own: dict[str, str]) -> None:
        for name in self.own():
            self._tags.delall(f"TXXX:{name}")
        for name, value in own.items():
            self._tags.add(self._user_text(name, value))

    def _user_text(self, name: str, value: str) -> Any:
        from mutagen.id3 import TXXX

        return TXXX(encoding=3 if self._version == 4 else 1, desc=name, text=[value])

    def save(self) -> None:
        if self._version == 3:
            # Back to the frames of that version, in the way mutagen would on its own; TMOO is not among them.
            self._tags.update_to_v23()
        self._file.save(v2_version=self._version)


class _NamedValues:
    """Tags that map names to lists; subclasses differ in the names and in the type of the values."""

    mood_field = "MOOD"
    _prefix = ""

    def __init__(self, file: Any) -> None:
        self._file, self._tags = file, file.tags

    def _text(self, value: Any) -> str:
        return str(value)

    def _value(self, text: str) -> Any:
        return [text]

    def _name(self, field: str) -> str:
        return self._prefix + field

    def _all(self) -> list[tuple[str, list[Any]]]:
        return [(str(name), _listed(self._tags[name])) for name in set(self._tags.keys())]

    def mood(self) -> tuple[str, ...]:
        moods = [values for name, values in self._all() if name.casefold() == self.mood_field.casefold()]
        return tuple(self._text(value) for values in moods for value in values)

    def own(self) -> dict[str, str]:
        start = self._name(PREFIX).casefold()
        return {
            PREFIX + name[len(start) :].upper(): " / ".join(self._text(value) for value in values)
            for name, values in self._all()
            if name.casefold().startswith(start)
        }

    def set_mood(self, mood: str) -> None:
        for name in [name for name, _ in self._all() if name.casefold() == self.mood_field.casefold()]:
            del self._tags[name]
        if mood:
            self._tags[self.mood_field] = self._value(mood)

    def set_own(self, own: dict[str, str]) -> None:
        start = self._name(PREFIX).casefold()
        for name in [name for name, _ in self._all() if name.casefold().startswith(start)]:
            del self._tags[name]
        for name, value in own.items():
            self._tags[self._name(name)] = self._value(value)

    def save(self) -> None:
        self._file.save()


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


class _VorbisTags(_NamedValues):
    pass


class _Mp4Tags(_NamedValues):
    mood_field = f"{_FREEFORM}MOOD"
    _prefix = _FREEFORM

    def _text(self, value: Any) -> str:
        return bytes(value).decode("utf-8", "replace")

    def _value(self, text: str) -> Any:
        return [text.encode()]


class _AsfTags(_NamedValues):
    mood_field = "WM/Mood"

    def _name(self, field: str) -> str:
        return field.replace("_", "/", 1)


class _ApeTags(_NamedValues):
    mood_field = "Mood"

    def _value(self, text: str) -> Any:
        return text


# --- the program -----------------------------------------------------------------------------------------------------


def main() -> None:
    """Answer requests until the process that asks has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    requests = os.fdopen(os.dup(0), "rb")
    for stream in (0, 1):
        os.dup2(os.open(os.devnull, os.O_RDWR), stream)
    importlib.import_module("mutagen")  # before the limits: it loads libraries
    _limit("RLIMIT_CORE", 0)
    _limit("RLIMIT_DATA", MEMORY_BYTES)
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, waiting), daemon=True).start()
    while True:
        answer = json.dumps(_answer(json.loads(waiting.get())))
        answers.write(answer.encode("ascii") + b"\n")
        answers.flush()


def _listen(requests: BinaryIO, waiting: queue.SimpleQueue[bytes]) -> None:
    for line in requests:
        waiting.put(line)
    os._exit(0)  # at once, because mutagen may still be busy


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    path = Path(os.fsdecode(bytes.fromhex(request["path"])))
    try:
        file = TaggedFile(path)
        if (changes := request["changes"]) is not None:
            _limit("RLIMIT_FSIZE", path.stat().st_size + GROWTH_BYTES)
            file.write(**changes)
    except MemoryError:
        return {"refused": f"that takes more than {MEMORY_BYTES >> 20} MB of memory"}
    except Exception as error:  # damaged files make mutagen raise all kinds of errors
        return {"refused": _words(error)}
    return {"mood": file.mood, "mood_field": file.mood_field, "own": file.own}


def _words(error: Exception) -> str:
    """Return an error in one line; of an error of the system only its words, without the name of the copied file."""
    cause = error.args[0] if error.args else None
    for candidate in (error, cause):
        if isinstance(candidate, OSError) and candidate.strerror:
            return candidate.strerror
    known = isinstance(error, ValueError) or type(error).__module__.startswith("mutagen")
    words = one_line(str(error))[:_WORDS] or "it is damaged"
    return words if known else f"mutagen fails on it ({type(error).__qualname__}: {words})"


def _limit(name: str, limit: int) -> None:
    if sys.platform == "win32":
        return
    import resource

    kind = getattr(resource, name)
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


if __name__ == "__main__":
    main()
