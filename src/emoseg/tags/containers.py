"""The tags of every container, read and written by mutagen; the only module that imports it.

mutagen is under the GPL (2.0 or later), so it is an extra and imported on first use.

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

These are the names that MusicBrainz Picard, Mp3tag and Navidrome use. The version of an ID3 tag stays what it was.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from emoseg.errors import AudioError, MissingExtraError
from emoseg.tags.fields import PREFIX

_FREEFORM = "----:com.apple.iTunes:"


class TaggedFile:
    """The mood and emoseg's own fields in a file, read on opening.

    Attributes
    ----------
    mood : tuple of str
        All values of the mood fields, whoever wrote them; empty where there are none.
    mood_field : str
        The name of the field that `write` would use for a mood.
    own : dict of str to str
        Fields with emoseg's prefix.

    Raises
    ------
    AudioError
        The file cannot be read, or its container cannot hold tags (`kind` ``"tags"``).
    MissingExtraError
        mutagen is not installed.
    """

    def __init__(self, path: Path) -> None:
        mutagen = _mutagen()
        try:
            self._file = mutagen.File(path)
            if self._file is not None and self._file.tags is None:
                self._file.add_tags()
        except (mutagen.MutagenError, OSError, NotImplementedError) as error:
            raise AudioError(f"{path}: its tags cannot be read: {error}", kind="tags") from error
        self._path = path
        tags = _family(self._file)
        if tags is None:
            raise AudioError(f"{path}: its format cannot hold tags", kind="tags")
        self._tags = tags
        self.mood = self._tags.mood()
        self.mood_field = self._tags.mood_field
        self.own = self._tags.own()

    def write(self, *, mood: str | None, own: Mapping[str, str]) -> None:
        """Replace emoseg's own fields by `own`, and save the file.

        The mood becomes `mood`: None leaves it as it is, an empty one removes it.

        Raises
        ------
        AudioError
            The file cannot be written.
        """
        mutagen = _mutagen()
        self._tags.set_own(dict(own))
        if mood is not None:
            self._tags.set_mood(mood)
        try:
            self._tags.save()
        except (mutagen.MutagenError, OSError) as error:
            raise AudioError(f"{self._path}: its tags cannot be written: {error}", kind="tags") from error


def _mutagen() -> Any:
    try:
        return importlib.import_module("mutagen")
    except ImportError as error:
        raise MissingExtraError("reading and writing file tags", "tags") from error


class _Tags(Protocol):
    """One family of tags."""

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
    """Tags that are a mapping from names to lists; what differs is the names and the values' type."""

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
