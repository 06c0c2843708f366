"""The two tables of a library, with one row per song and one row per segment, flat columns and a versioned schema.

A worker turns an analysis into rows, as one Arrow stream per table. The manifest keeps them until there are enough for
a part, which is one Parquet file per table. Column ``p_<label>`` is the probability of a label. Valence and arousal are
null in emotion spaces that derive none. Times are in seconds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
import pyarrow.parquet as pq

from emoseg.emotion import EmotionSpace
from emoseg.errors import AudioError, EmosegError
from emoseg.system.files import file_checksum, require_regular, written_whole
from emoseg.system.names import valid_text
from emoseg.types import Analysis

SONGS, SEGMENTS = "songs", "segments"
SCHEMAS = {SONGS: "emoseg.library.songs/1", SEGMENTS: "emoseg.library.segments/1"}
_SCHEMA_KEY, _SPACE_KEY = b"emoseg.schema", b"emoseg.space"


@dataclass(frozen=True)
class PartFile:
    """Size in bytes and BLAKE2b checksum of a file of a part, as it was written."""

    size: int
    checksum: str


@dataclass(frozen=True)
class Part:
    """A part of the tables: its number, the number of songs in it, and its file for each table."""

    number: int
    songs: int
    files: dict[str, PartFile]


def song_id(path: str) -> str:
    """Return the id of a recording in all tables: 16 hexadecimal digits, made from its path below the root."""
    return blake2b(os.fsencode(path), digest_size=8).hexdigest()


def probability_columns(space: EmotionSpace) -> tuple[str, ...]:
    """Return the name of each label's column; SQL ignores case, so labels that differ only in case get a number."""
    columns: list[str] = []
    for label in space.labels:
        column, copies = f"p_{label}", 1
        while column.casefold() in {other.casefold() for other in columns}:
            copies += 1
            column = f"p_{label}_{copies}"
        columns.append(column)
    return tuple(columns)


def schemas(space: EmotionSpace) -> dict[str, Any]:
    """Return the Arrow schema of each table."""
    emotion = [
        *((column, pa.float32()) for column in probability_columns(space)),
        ("valence", pa.float32()),
        ("arousal", pa.float32()),
    ]
    text = pa.string()
    columns = {
        SONGS: [
            *(("song_id", text), ("path", text), ("artist", text), ("title", text), ("duration_s", pa.float64())),
            *(("segments", pa.int32()), ("label", text), ("confidence", pa.float32()), *emotion),
            *(("content", text), ("model", text)),
        ],
        SEGMENTS: [
            *(("song_id", text), ("path", text), ("segment", pa.int32()), ("start_s", pa.float64())),
            *(("end_s", pa.float64()), ("label", text), *emotion),
        ],
    }
    space_json = json.dumps(space.to_json(), ensure_ascii=False).encode()
    return {
        name: pa.schema(fields, metadata={_SCHEMA_KEY: SCHEMAS[name].encode(), _SPACE_KEY: space_json})
        for name, fields in columns.items()
    }


def to_rows(analysis: Analysis, *, path: str, artist: str | None, title: str | None, content: str) -> dict[str, bytes]:
    """Return the rows of one recording for each table, as Arrow streams.

    Parameters
    ----------
    analysis : Analysis
    path : str
        Path below the root of the library.
    artist, title : str or None
        From the file's own tags.
    content : str
        Checksum of the file.

    Raises
    ------
    AudioError
        The analysis holds a number that is not finite (``"nonfinite"``).
    """
    wanted = schemas(analysis.space)
    columns = probability_columns(analysis.space)
    key = {"song_id": song_id(path), "path": valid_text(path)}
    song = analysis.song
    rows: dict[str, list[dict[str, Any]]] = {
        SONGS: [
            {
                **key,
                "artist": artist,
                "title": title,
                "duration_s": analysis.duration_s,
                "segments": len(analysis.segments),
                "label": song.label,
                "confidence": song.confidence,
                **_probabilities(columns, song.probabilities),
                "valence": song.valence,
                "arousal": song.arousal,
                "content": content,
                "model": f"{analysis.model_name} {analysis.model_version}",
            }
        ],
        SEGMENTS: [
            {
                **key,
                "segment": i,
                "start_s": segment.start_s,
                "end_s": segment.end_s,
                "label": segment.label,
                **_probabilities(columns, segment.probabilities),
                "valence": segment.valence,
                "arousal": segment.arousal,
            }
            for i, segment in enumerate(analysis.segments)
        ],
    }
    tables = {name: pa.Table.from_pylist(rows[name], schema=wanted[name]) for name in (SONGS, SEGMENTS)}
    for table in tables.values():
        if column := _not_finite(table):
            raise AudioError(
                f"{analysis.path}: the analysis holds a number that is not finite ({column})", kind="nonfinite"
            )
    return {name: pack(table) for name, table in tables.items()}


def _probabilities(columns: Sequence[str], known: Sequence[float]) -> dict[str, float]:
    """Return the probability for each column; nothing, which becomes null, if the sound is not music."""
    return dict(zip(columns, known, strict=True)) if known else {}


def _not_finite(table: Any) -> str | None:
    """Return the name of a column that holds a number that is not finite; None if there is none."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_floating(column.type) and not pc.all(pc.is_finite(column), min_count=0).as_py():
            return str(name)
    return None


def pack(table: Any) -> bytes:
    """Return a table as a compressed Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def unpack(stream: bytes) -> Any:
    """Return the table that `pack` made a stream of."""
    with pa.ipc.open_stream(stream) as reader:
        return reader.read_all()


def readable(key: str, streams: dict[str, bytes], space: EmotionSpace) -> bool:
    """Return whether Arrow streams can be read and hold rows of the song with the id `key` only."""
    try:
        for name, schema in schemas(space).items():
            table = unpack(streams[name])
            table.validate(full=True)
            if not table.schema.equals(schema, check_metadata=True) or set(table["song_id"].to_pylist()) - {key}:
                return False
            if name == SONGS and table.num_rows != 1:
                return False
    except (pa.ArrowException, OSError, ValueError):
        return False
    return True


def part_file(out: Path, table: str, part: int) -> Path:
    """Return the path of a part of a table."""
    return out / table / f"part-{part:06d}.parquet"


def write_part(out: Path, number: int, rows: dict[str, Any]) -> dict[str, PartFile]:
    """Write a part of both tables, sorted by path, and return what its files are; each appears whole or not at all.

    Raises
    ------
    EmosegError
        The files cannot be written; none is left behind.
    """
    order: dict[str, Sequence[tuple[str, str]]] = {
        SONGS: [("path", "ascending")],
        SEGMENTS: [("path", "ascending"), ("segment", "ascending")],
    }
    try:
        written = {}
        for name, table in rows.items():
            file = part_file(out, name, number)
            file.parent.mkdir(exist_ok=True)
            with written_whole(file, sync=True) as temporary:
                pq.write_table(table.sort_by(list(order[name])), temporary, compression="zstd")
                written[name] = PartFile(temporary.stat().st_size, file_checksum(temporary))
    except BaseException:
        remove_part(out, number)
        raise
    return written


def remove_part(out: Path, number: int) -> None:
    """Remove the files of a part."""
    for name in (SONGS, SEGMENTS):
        part_file(out, name, number).unlink(missing_ok=True)


def remove_orphans(out: Path, numbers: set[int]) -> None:
    """Remove files of parts that are not in `numbers`; a killed run may have written them without recording it."""
    kept = {part_file(out, name, number) for name in (SONGS, SEGMENTS) for number in numbers}
    for file in part_files(out):
        if file not in kept:
            file.unlink()


def part_files(out: Path) -> list[Path]:
    """Return all files that have the name of a part, even if the manifest does not name them."""
    found = [file for name in (SONGS, SEGMENTS) for file in (out / name).glob("part-*.parquet")]
    return [file for file in found if file.is_symlink() or not file.is_dir()]


def part_problem(out: Path, part: Part, *names: str) -> str | None:
    """Return what is wrong with the files of a part, in one line; None if they are as they were written.

    Parameters
    ----------
    out : Path
        The library.
    part : Part
    *names : str
        Tables; default both.
    """
    for name in names or (SONGS, SEGMENTS):
        file, written = part_file(out, name, part.number), part.files[name]
        try:
            status = require_regular(file)
            if status.st_size != written.size or file_checksum(file) != written.checksum:
                return f"{file}: is damaged: its checksum is not the one in the manifest"
        except EmosegError as error:
            return str(error)
        except OSError as error:
            return f"{file}: cannot be read: {error.strerror or error}"
    return None


def read_part(out: Path, table: str, number: int) -> Any:
    """Return a part of a table.

    Raises
    ------
    EmosegError
        The file cannot be read.
    """
    file = part_file(out, table, number)
    try:
        return pq.ParquetFile(file).read()
    except (pa.ArrowException, OSError) as error:
        raise EmosegError(f"{file}: cannot be read: {error}") from error
