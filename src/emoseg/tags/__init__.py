"""The emotion of songs in the tags of their files: planned first, written on request, undone exactly.

A user's own mood is never replaced. A file is rewritten as a copy beside it. The copy takes the file's place in one
step, and only if every decoder that reads the file hears the same sound in both.
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
    """What would change in a file.

    `mood` is the new value of `mood_field`: None where it stays, empty where it goes. `user_mood` is the user's own
    mood, which is kept. `own` are emoseg's own fields as they will be, `before` as they are.
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
        told = [kept if self.mood is None else f"{self.mood_field}={self.mood}" if self.mood else "no more mood"]
        told += [f"{name}={value}" for name, value in self.own.items() if self.before.get(name) != value]
        told += [f"no more {name}" for name in self.before if name not in self.own]
        return ", ".join(told)

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
    """Say what the tags of a file would become; nothing is written.

    Parameters
    ----------
    path : Path
    facts : SongFacts
    space : EmotionSpace
    process : TagProcess, optional
        Used for several files, which saves the start of a process for each.

    Raises
    ------
    AudioError
        The file cannot be read, its format holds no tags, or it would change and must not.
    """
    target, status = find_file(path)
    with _refusals_of(path), _lent(process) as tags:
        found = tags.read(target)
    own = own_fields(facts, space)
    mood = own.get(MOOD_FIELD, "")
    # A mood is emoseg's own when it is what emoseg noted that it wrote, and nothing else.
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
    """Carry out a plan; return the checksum of the file as it is now.

    Parameters
    ----------
    plan : TagPlan
    undo : UndoFile
        Gets a line before the file is replaced.
    keep_mtime : bool
        Give the file its old modification time, so that players see no change.
    library : Path, optional
        The library that the song is in, noted for undoing.
    process : TagProcess, optional
        As of `plan_tags`.

    Raises
    ------
    AudioError
        The file changed meanwhile, its sound would change or cannot be compared, or it cannot be written; it is as it
        was.
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
    """Restore a file from an entry of an undo file, to the byte and with its old modification time.

    Raises
    ------
    AudioError
        The file is not there, or is not what emoseg wrote, or would sound different; it is left alone.
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
    """Turn what the system, mutagen or the undo file refuse into the error of one file."""
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
    """Yield a temporary folder beside a file, in which a copy may have the same name."""
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
    """Refuse a file without tags (`old`) and one with tags in which a decoder does not hear the same."""
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
