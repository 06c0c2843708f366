"""The parts of the tables, kept consistent with the manifest.

Parts are never changed: a new part replaces old ones in the transaction of the manifest that names it.
"""

from __future__ import annotations

import warnings
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from emoseg.errors import EmosegWarning
from emoseg.library.manifest import MANIFEST_FILE, Manifest
from emoseg.library.tables import (
    SEGMENTS,
    SONGS,
    Part,
    pack,
    part_problem,
    read_part,
    remove_orphans,
    remove_part,
    schemas,
    unpack,
    write_part,
)

PART_SONGS = 512


def repair(manifest: Manifest) -> None:
    """Forget results that are damaged or lost, so that their songs are analysed again, with one warning for each.

    Files of parts that the manifest does not name are removed: a run was killed before it recorded them.
    """
    lost = []
    for part in manifest.parts():
        if problem := part_problem(manifest.out, part):
            warnings.warn(f"{problem}; its songs are analysed again", EmosegWarning, stacklevel=2)
            lost.append(part.number)
    damaged = manifest.damaged_rows()
    if damaged:
        file = manifest.out / MANIFEST_FILE
        warning = f"{file}: the results of {len(damaged)} songs in it are damaged; these songs are analysed again"
        warnings.warn(warning, EmosegWarning, stacklevel=2)
    manifest.forget(parts=lost, waiting=damaged)
    remove_orphans(manifest.out, {part.number for part in manifest.parts()})


def update_tables(manifest: Manifest, *, final: bool) -> None:
    """Write the songs that wait into parts, and replace parts that have outdated rows.

    Parameters
    ----------
    manifest : Manifest
    final : bool
        Write all songs that wait, and join small parts. Otherwise, while a batch runs, nothing is done until
        `PART_SONGS` songs wait.
    """
    waiting = manifest.waiting()
    if not final and len(waiting) < PART_SONGS:
        return
    stale = set(manifest.stale())
    small = [part.number for part in manifest.parts() if part.songs < PART_SONGS // 2] if final else []
    for number in sorted(stale - set(small)):
        _replace(manifest, [number], [])
    whole = len(waiting) - len(waiting) % PART_SONGS
    for i in range(0, whole, PART_SONGS):
        _replace(manifest, [], waiting[i : i + PART_SONGS])
    rest = waiting[whole:] if final else []
    while len(small) > 2:  # two at a time, so that memory is bounded
        _replace(manifest, small[:2], [])
        small = small[2:]
    if rest or len(small) > 1 or stale & set(small):
        _replace(manifest, small, rest)


def _replace(manifest: Manifest, old: list[int], waiting: list[str]) -> None:
    """Write one part with the rows of songs that wait and the valid rows of old parts; remove the old parts."""
    wanted = schemas(manifest.space)
    rows: dict[str, list[Any]] = {name: [schema.empty_table()] for name, schema in wanted.items()}
    gone: dict[str, dict[str, bytes]] = {}
    for number in old:
        members = manifest.members(number)
        for name in rows:
            table = read_part(manifest.out, name, number)
            rows[name].append(_rows_of(table, [key for key, state in members.items() if state != "gone"]))
            for key in (key for key, state in members.items() if state == "gone"):
                gone.setdefault(key, {})[name] = pack(_rows_of(table, [key]))
    for streams in manifest.rows(waiting):
        for name, stream in streams.items():
            rows[name].append(unpack(stream))
    tables = {name: pa.concat_tables(parts) for name, parts in rows.items()}
    keys = tables[SONGS]["song_id"].to_pylist()
    with manifest.transaction() as db:
        if keys:
            number = manifest.next_part()
            manifest.add_part(Part(number, len(keys), write_part(manifest.out, number, tables)))
            db.executemany("UPDATE songs SET part = ? WHERE song_id = ?", [(number, key) for key in keys])
            db.executemany("DELETE FROM pending WHERE song_id = ?", [(key,) for key in keys])
        for key, streams in gone.items():
            db.execute("UPDATE songs SET part = NULL WHERE song_id = ?", (key,))
            db.execute("INSERT OR REPLACE INTO pending VALUES (?, ?, ?)", (key, streams[SONGS], streams[SEGMENTS]))
        db.executemany("DELETE FROM parts WHERE part = ?", [(number,) for number in old])
    for number in old:
        remove_part(manifest.out, number)


def _rows_of(table: Any, keys: list[str]) -> Any:
    return table.filter(pc.is_in(table["song_id"], value_set=pa.array(keys, pa.string())))
