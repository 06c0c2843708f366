"""The emotion of songs in the tags of their files: planned first, written on request, undone exactly.

A user's own mood is never replaced. A file is rewritten as a copy beside it that takes its place in one step; the sound
in it stays the same to the byte.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from emoseg.errors import AudioError
from emoseg.tags.containers import TaggedFile
from emoseg.tags.fields import MOOD_FIELD, SongFacts, own_fields
from emoseg.tags.undo import UndoFile, apply_difference, checksum, difference
from emoseg.types import EmotionSpace

__all__ = ["SongFacts", "TagPlan", "UndoFile", "plan_tags", "undo_tags", "write_tags"]


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


def plan_tags(path: Path, facts: SongFacts, space: EmotionSpace) -> TagPlan:
    """Say what the tags of a file would become; nothing is written.

    Raises
    ------
    AudioError
        The file cannot be read, or its format holds no tags.
    """
    tagged = TaggedFile(path)
    own = own_fields(facts, space)
    mood = own.get(MOOD_FIELD, "")
    # A mood is emoseg's own when it is what emoseg noted that it wrote, and nothing else.
    users = tagged.mood != () and tagged.mood != (tagged.own.get(MOOD_FIELD),)
    return TagPlan(
        path=path,
        mood_field=tagged.mood_field,
        mood=None if users or tagged.mood == ((mood,) if mood else ()) else mood,
        user_mood=" / ".join(tagged.mood) if users else None,
        old_mood=tagged.mood,
        own=own,
        before=tagged.own,
    )


def write_tags(plan: TagPlan, undo: UndoFile, *, keep_mtime: bool = False, library: Path | None = None) -> str:
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

    Raises
    ------
    AudioError
        The file changed meanwhile, is read-only, or cannot be written; it is as it was.
    """
    target = plan.path.resolve()  # a link stays a link
    status = _writable(plan.path, target)
    temporary = target.parent / f".emoseg-{secrets.token_hex(8)}{target.suffix}"
    try:
        shutil.copy2(target, temporary)
        TaggedFile(temporary).write(mood=plan.mood, own=plan.own)
        old, new = target.read_bytes(), temporary.read_bytes()
        delta = difference(new, old)
        if apply_difference(new, delta) != old or target.stat().st_mtime_ns != status.st_mtime_ns:
            raise AudioError(f"{plan.path}: changed while its tags were written", kind="tags")
        undo.add(
            {
                "path": os.path.abspath(plan.path),  # noqa: PTH100  (a link is not followed)
                "library": None if library is None else str(library.resolve()),
                "before": {"mood": list(plan.old_mood), "fields": plan.before},
                "old": {"checksum": checksum(old), "mtime_ns": status.st_mtime_ns},
                "new": {"checksum": checksum(new)},
                "difference": delta,
            }
        )
        _take_place(temporary, target, status, mtime_ns=status.st_mtime_ns if keep_mtime else None)
    except OSError as error:
        raise AudioError(f"{plan.path}: cannot be written: {error.strerror or error}", kind="tags") from error
    finally:
        temporary.unlink(missing_ok=True)
    return checksum(new)


def undo_tags(entry: dict[str, Any]) -> Literal["restored", "as it was"]:
    """Restore a file from an entry of an undo file, to the byte and with its old modification time.

    Raises
    ------
    AudioError
        The file is not there, or is not what emoseg wrote; it is left alone.
    """
    path = Path(entry["path"])
    target = path.resolve()
    try:
        new = target.read_bytes()
        if checksum(new) == entry["old"]["checksum"]:
            return "as it was"
        if checksum(new) != entry["new"]["checksum"]:
            raise AudioError(f"{path}: was changed after its tags were written; left alone", kind="tags")
        old = apply_difference(new, entry["difference"])
        if checksum(old) != entry["old"]["checksum"]:
            raise AudioError(f"{path}: the undo file was altered; left alone", kind="tags")
        status = _writable(path, target)
        temporary = target.parent / f".emoseg-{secrets.token_hex(8)}{target.suffix}"
        try:
            shutil.copy2(target, temporary)
            temporary.write_bytes(old)
            _take_place(temporary, target, status, mtime_ns=entry["old"]["mtime_ns"])
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise AudioError(f"{path}: cannot be restored: {error.strerror or error}", kind="tags") from error
    return "restored"


def _writable(path: Path, target: Path) -> os.stat_result:
    status = target.stat()
    # A new file could take the place of a read-only one; that is not what its owner meant.
    if not status.st_mode & stat.S_IWUSR:
        raise AudioError(f"{path}: is read-only", kind="tags")
    return status


def _take_place(temporary: Path, target: Path, status: os.stat_result, *, mtime_ns: int | None) -> None:
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    if hasattr(os, "chown"):
        with suppress(PermissionError):
            os.chown(temporary, status.st_uid, status.st_gid)
    if mtime_ns is not None:
        os.utime(temporary, ns=(status.st_atime_ns, mtime_ns))
    else:
        os.utime(temporary)
    temporary.replace(target)
