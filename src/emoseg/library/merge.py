"""The libraries of several shards, each made by a process or machine of its own, merged into one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emoseg.errors import ConfigError, EmosegError
from emoseg.library.manifest import MANIFEST_FILE, Manifest
from emoseg.library.parts import update_tables
from emoseg.library.run import settings_difference, write_failures, writing
from emoseg.library.tables import SEGMENTS, SONGS, Part, part_file, part_problem
from emoseg.system.files import folder_locked, remove_leftovers, work_folder, write_whole
from emoseg.system.names import valid_text


@dataclass(frozen=True)
class MergeReport:
    """Numbers of recordings in a merged library, and the shards that were not given (`missing`)."""

    songs: int
    failed: int
    todo: int
    missing: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every recording of every shard was analysed."""
        return not (self.failed or self.todo or self.missing)

    def to_json(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {"schema": "emoseg.batch-merge/1", **vars(self)}


def merge(out: Path, libraries: Sequence[Path]) -> MergeReport:
    """Merge libraries of the same folder, model and hop into a new one; the libraries stay as they are.

    The result equals a library made without shards, and `run_batch` can continue it.

    Parameters
    ----------
    out : Path
        The new library; must not exist or be empty.
    libraries : sequence of Path

    Raises
    ------
    EmosegError
        Two libraries hold the same recording or were made with different settings, a library is damaged or in use, or
        the disk cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: exists already; --merge makes a new library")
    seen: set[Path] = set()
    for library in libraries:
        if library.resolve() in seen:
            raise ConfigError(f"{library}: was given twice")
        seen.add(library.resolve())
    with ExitStack() as stack:
        sources = []
        for library in libraries:
            manifest = stack.enter_context(closing(Manifest.open(library)))
            stack.enter_context(folder_locked(library))
            manifest.check()
            sources.append(manifest)
        _refuse_different(sources)
        with writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(out.parent)
            with work_folder(out.parent) as work:
                report = _merge_into(work, sources)
                work.replace(out)
    return report


def _refuse_different(sources: list[Manifest]) -> None:
    first = sources[0]
    for other in sources[1:]:
        difference = settings_difference(replace(first.settings, shard=""), replace(other.settings, shard=""))
        if difference:
            raise ConfigError(f"{first.out} and {other.out} cannot be merged: the first was made {difference}")


def _merge_into(work: Path, sources: list[Manifest]) -> MergeReport:
    settings = replace(sources[0].settings, shard="")
    for name in (SONGS, SEGMENTS):
        (work / name).mkdir()
    with closing(Manifest.create(work, settings)) as merged:
        for source in sources:
            _add(merged, source, sources)
        update_tables(merged, final=True)
        write_failures(merged)
        counts = merged.counts()
    missing = _missing_shards([source.settings.shard for source in sources])
    return MergeReport(counts["done"], counts["failed"], counts["todo"], missing)


def _add(merged: Manifest, source: Manifest, sources: list[Manifest]) -> None:
    """Copy all songs and parts of a library; parts get new numbers."""
    if damaged := source.damaged_rows():
        file = source.out / MANIFEST_FILE
        raise EmosegError(f"{file}: the results of {len(damaged)} songs in it are damaged; 'emoseg batch' repairs it")
    numbers: dict[int | None, int | None] = {None: None}
    with merged.transaction() as db:
        for part in source.parts():
            number = merged.next_part()
            _copy_part(source.out, part, merged.out, number)
            merged.add_part(Part(number, part.songs, part.files))
            numbers[part.number] = number
        for key, *song, part in source.dump_songs():
            if db.execute("SELECT 1 FROM songs WHERE song_id = ?", (key,)).fetchone():
                others = [other.out for other in sources if other is not source and other.holds(key)]
                raise EmosegError(
                    f"{source.out} and {others[0]} both hold {valid_text(source.path(key))}: "
                    "only libraries without a recording in common can be merged"
                )
            marks = ", ".join("?" * (len(song) + 2))
            db.execute(f"INSERT INTO songs VALUES ({marks})", (key, *song, numbers.get(part)))
        db.executemany("INSERT INTO pending VALUES (?, ?, ?)", source.dump_pending())


def _copy_part(source: Path, part: Part, target: Path, number: int) -> None:
    if problem := part_problem(source, part):
        raise EmosegError(f"{problem}; 'emoseg batch' repairs it")
    for name in (SONGS, SEGMENTS):
        write_whole(part_file(target, name, number), part_file(source, name, part.number).read_bytes(), sync=True)


def _missing_shards(shards: list[str]) -> tuple[str, ...]:
    counts = {shard.partition("/")[2] for shard in shards}
    if len(counts) != 1 or counts == {""}:
        return ()
    (count,) = counts
    return tuple(s for i in range(1, int(count) + 1) if (s := f"{i}/{count}") not in shards)
