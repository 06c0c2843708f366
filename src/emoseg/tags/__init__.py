"""The emotion of songs in the tags of their files.

`plan_tags` says what would change, `write_tags` carries a plan out, and `undo_tags` restores the file byte for byte. A
user's own mood is never replaced. The new tags are written to a copy, which then replaces the file in one step,
provided that every decoder that reads the file decodes the same sound from both.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from emoseg.audio.decoding import available_decoders, sound_digests
from emoseg.emotion import EmotionSpace
from emoseg.errors import AudioError, ConfigError, install_command
from emoseg.system.files import file_checksum, work_folder
from emoseg.system.names import printable
from emoseg.tags.delta import Difference, difference
from emoseg.tags.fields import MOOD_FIELD, SongFacts, own_fields
from emoseg.tags.process import RefusedError, TagProcess
from emoseg.tags.replacing import Original, find_file, require_replaceable, take_place
from emoseg.tags.undo import Fields, NewFile, OldFile, UndoEntry, UndoFile, packed

__all__ = ["SongFacts", "TagPlan", "TagProcess", "UndoFile", "plan_tags", "undo_tags", "write_tags"]


@dataclass(frozen=True)
class TagPlan:
    """The changes of a file's tags.

    Parameters
    ----------
    path : Path
    mood_field : str
        Name of the field that holds the mood.
    mood : str or None
        New value of that field; None leaves it as it is, an empty one removes it.
    user_mood : str or None
        The user's own mood, which is kept.
    old_mood : tuple of str
        All values of mood fields as they are.
    own, before : dict of str to str
        emoseg's own fields as they will be, and as they are.
    """

    path: Path
    mood_field: str
    mood: str | None
    user_mood: str | None
    old_mood: tuple[str, ...]
    own: dict[str, str]
    before: dict[str, str]

    @property
    def changes(self) -> bool:
        """Whether anything would change."""
        return self.mood is not None or self.own != self.before

    def line(self) -> str:
        """Return the plan in one line, without the path."""
        if not self.changes:
            return "up to date"
        kept = f"keeps its own mood {self.user_mood!r}" if self.user_mood else "mood stays"
        changes = [kept if self.mood is None else f"{self.mood_field}={self.mood}" if self.mood else "no more mood"]
        changes += [f"{name}={value}" for name, value in self.own.items() if self.before.get(name) != value]
        changes += [f"no more {name}" for name in self.before if name not in self.own]
        return ", ".join(changes)

    def to_json(self) -> dict[str, Any]:
        """Return the plan for programs."""
        return {
            "schema": "emoseg.tag/1",
            "path": str(self.path),
            "changes": self.changes,
            "mood": {"field": self.mood_field, "new": self.mood, "kept": self.user_mood},
            "fields": self.own,
            "before": self.before,
        }


def plan_tags(path: Path, facts: SongFacts, space: EmotionSpace, *, process: TagProcess | None = None) -> TagPlan:
    """Return the plan of a file's new tags; nothing is written.

    Parameters
    ----------
    path : Path
    facts : SongFacts
    space : EmotionSpace
    process : TagProcess, optional
        Shared by several files, which saves starting a process for each.

    Raises
    ------
    AudioError
        The file cannot be read, its format cannot hold tags, or it would change but must not.
    """
    target, status = find_file(path)
    with _refusals_of(path), _lent(process) as tags:
        found = tags.read(target)
    own = own_fields(facts, space)
    mood = own.get(MOOD_FIELD, "")
    # A mood is emoseg's own if it equals what emoseg's own field says that it wrote.
    users = found.mood != () and found.mood != (found.own.get(MOOD_FIELD),)
    plan = TagPlan(
        path=path,
        mood_field=found.mood_field,
        mood=None if users or found.mood == ((mood,) if mood else ()) else mood,
        user_mood=" / ".join(found.mood) if users else None,
        old_mood=found.mood,
        own=own,
        before=found.own,
    )
    if plan.changes:
        require_replaceable(path, status)
    return plan


def write_tags(
    plan: TagPlan,
    undo: UndoFile,
    *,
    keep_mtime: bool = False,
    library: Path | None = None,
    process: TagProcess | None = None,
) -> str:
    """Carry out a plan and return the checksum of the new file.

    Parameters
    ----------
    plan : TagPlan
    undo : UndoFile
        Gets one line before the file is replaced.
    keep_mtime : bool
        Keep the modification time of the file, so that players see no change.
    library : Path, optional
        The library that the song is in; recorded for undoing.
    process : TagProcess, optional
        As in `plan_tags`.

    Raises
    ------
    AudioError
        The file changed meanwhile, its sound would change or cannot be compared, or it cannot be written. In all cases
        it stays as it was.
    """
    target, status = find_file(plan.path)
    require_replaceable(plan.path, status)
    with _refusals_of(plan.path), _private_folder(target) as folder:
        copy = folder / target.name
        shutil.copy2(target, copy)
        original = Original(plan.path, target, status, file_checksum(copy))
        if copy.stat().st_size != status.st_size:
            raise original.changed()
        with _lent(process) as tags:
            found = tags.write(copy, mood=plan.mood, own=plan.own)
        if (found.mood, found.own) != (plan.old_mood, plan.before):
            raise original.changed()
        delta = _difference(original, copy, folder)
        _require_same_sound(plan.path, old=target, new=copy)
        new = NewFile(checksum=file_checksum(copy), size=copy.stat().st_size)
        undo.add(_entry(plan, original, new, delta, library))
        take_place(copy, original, mtime_ns=status.st_mtime_ns if keep_mtime else None)
    return new.checksum


def undo_tags(entry: UndoEntry) -> Literal["restored", "as it was"]:
    """Restore a file byte for byte, with its modification time, and return what was done.

    Parameters
    ----------
    entry : UndoEntry
        A line of an undo file.

    Returns
    -------
    {"restored", "as it was"}

    Raises
    ------
    AudioError
        The file is missing, was changed after emoseg wrote it, or would sound different. It is left alone.
    """
    path, old, new = entry.path, entry.old, entry.new
    target, status = find_file(path)
    with _refusals_of(path, "restored"):
        found = file_checksum(target) if status.st_size in (old.size, new.size) else ""
        if (status.st_size, found) == (old.size, old.checksum):
            return "as it was"
        if (status.st_size, found) != (new.size, new.checksum):
            raise AudioError(f"{path}: was changed after its tags were written; left alone", kind="tags")
        require_replaceable(path, status)
        with _private_folder(target) as folder:
            copy = folder / target.name
            _apply(entry.difference(), target, copy)
            if file_checksum(copy) != old.checksum:
                raise AudioError(f"{path}: the undo file does not fit it; left alone", kind="tags")
            _require_same_sound(path, old=copy, new=target)
            shutil.copystat(target, copy)
            take_place(copy, Original(path, target, status, found), mtime_ns=old.mtime_ns)
    return "restored"


@contextmanager
def _refusals_of(path: Path, what: str = "written") -> Iterator[None]:
    """Turn errors of the system, of mutagen and of the undo file in the block into an error of one file."""
    try:
        yield
    except RefusedError as error:
        raise AudioError(f"{path}: {error}", kind="tags") from error
    except ConfigError as error:
        raise AudioError(f"{path}: left alone: {error}", kind="tags") from error
    except OSError as error:
        raise AudioError(f"{path}: cannot be {what}: {error.strerror or error}", kind="tags") from error


@contextmanager
def _lent(process: TagProcess | None) -> Iterator[TagProcess]:
    with nullcontext(process) if process is not None else TagProcess() as tags:
        yield tags


@contextmanager
def _private_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside a file, in which its copy may have the same name."""
    with work_folder(target.parent) as folder:
        folder.chmod(0o700)  # a copy is not readable by more users than the file, not even for a moment
        yield folder


def _difference(original: Original, copy: Path, folder: Path) -> Difference:
    delta = difference(copy, original.path)
    if delta is None:
        raise AudioError(f"{original.name}: too much would change to undo it; left alone", kind="tags")
    restored = folder / "restored"
    _apply(delta, copy, restored)
    if file_checksum(restored) != original.checksum:
        raise original.changed()
    restored.unlink()
    return delta


def _apply(delta: Difference, new: Path, old: Path) -> None:
    with new.open("rb") as source, old.open("xb") as target:
        delta.apply(source, target)


def _require_same_sound(path: Path, *, old: Path, new: Path) -> None:
    """Raise an error unless all decoders decode the same sound from the file before (`old`) and after (`new`)."""
    before = sound_digests(old)
    if not before:
        hint = "" if "pyav" in available_decoders() else f"; PyAV reads more formats: {install_command('av')}"
        raise AudioError(f"{path}: no decoder reads it, so its sound cannot be compared; left alone{hint}", kind="tags")
    after = sound_digests(new)
    different = [decoder for decoder, digest in before.items() if after.get(decoder) != digest]
    if different:
        raise AudioError(f"{path}: would sound different ({', '.join(different)}); left alone", kind="tags")


def _entry(plan: TagPlan, original: Original, new: NewFile, delta: Difference, library: Path | None) -> UndoEntry:
    before = {printable(name): printable(value) for name, value in plan.before.items()}
    status = original.status
    return UndoEntry(
        path=Path(os.path.abspath(plan.path)),  # noqa: PTH100  (a link is not followed)
        library=None if library is None else library.resolve(),
        before=Fields(mood=[printable(mood) for mood in plan.old_mood], fields=before),
        old=OldFile(checksum=original.checksum, size=status.st_size, mtime_ns=status.st_mtime_ns),
        new=new,
        stretches=packed(delta.stretches),
        rest=packed(delta.rest),
    )
