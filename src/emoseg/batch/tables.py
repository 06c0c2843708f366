"""The two tables of a library: a row a song, a row a segment; flat columns, a versioned schema.

A worker turns an analysis into rows in the form of Arrow streams; the manifest keeps them until there are enough for a
Parquet file. Column ``p_<label>`` is the probability of a label; valence and arousal are null in emotion spaces that
derive none. Times are seconds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from emoseg.types import Analysis, EmotionSpace

SONGS, SEGMENTS = "songs", "segments"
SCHEMAS = {SONGS: "emoseg.library.songs/1", SEGMENTS: "emoseg.library.segments/1"}
_SCHEMA_KEY, _SPACE_KEY = b"emoseg.schema", b"emoseg.space"


def song_id(path: str) -> str:
    """Return the 16 hexadecimal digits that name a recording in all tables, from its path below the root."""
    return blake2b(os.fsencode(path), digest_size=8).hexdigest()


def legible_path(path: str) -> str:
    r"""Return a path as valid text: bytes that are no UTF-8 become ``\xNN``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def probability_columns(space: EmotionSpace) -> tuple[str, ...]:
    """Return the column of each label; labels that differ by case alone get a number, as SQL ignores case."""
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
    told = json.dumps(space.to_json(), ensure_ascii=False).encode()
    return {
        name: pa.schema(fields, metadata={_SCHEMA_KEY: SCHEMAS[name].encode(), _SPACE_KEY: told})
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
        As the file's own tags have them.
    content : str
        Checksum of the file.
    """
    wanted = schemas(analysis.space)
    columns = probability_columns(analysis.space)
    key = {"song_id": song_id(path), "path": legible_path(path)}
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
    return {name: pack(pa.Table.from_pylist(rows[name], schema=wanted[name])) for name in (SONGS, SEGMENTS)}


def _probabilities(columns: Sequence[str], known: Sequence[float]) -> dict[str, float]:
    """Return a value a column; none, which the tables show as null, where the sound is not music."""
    return dict(zip(columns, known, strict=True)) if known else {}


def pack(table: Any) -> bytes:
    """Return a table as a compressed Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def unpack(stream: bytes) -> Any:
    """Inverse of `pack`."""
    with pa.ipc.open_stream(stream) as reader:
        return reader.read_all()


def part_file(out: Path, table: str, part: int) -> Path:
    """Return where a part of a table lies."""
    return out / table / f"part-{part:06d}.parquet"


def write_part(out: Path, part: int, rows: dict[str, Any]) -> None:
    """Write a part of both tables, sorted by path; each file appears whole or not at all.

    Raises
    ------
    OSError
        The files cannot be written; none is left behind.
    """
    order: dict[str, Sequence[tuple[str, str]]] = {
        SONGS: [("path", "ascending")],
        SEGMENTS: [("path", "ascending"), ("segment", "ascending")],
    }
    try:
        for name, table in rows.items():
            file = part_file(out, name, part)
            file.parent.mkdir(exist_ok=True)
            temporary = file.with_suffix(".tmp")
            with temporary.open("wb") as opened:
                pq.write_table(table.sort_by(list(order[name])), opened, compression="zstd")
                opened.flush()
                os.fsync(opened.fileno())
            temporary.replace(file)
            _sync_folder(file.parent)
    except BaseException:
        remove_part(out, part)
        raise


def remove_part(out: Path, part: int) -> None:
    """Remove what there is of a part."""
    for name in (SONGS, SEGMENTS):
        file = part_file(out, name, part)
        file.unlink(missing_ok=True)
        file.with_suffix(".tmp").unlink(missing_ok=True)


def remove_orphans(out: Path, parts: set[int]) -> None:
    """Remove files of parts that are not in `parts`: a killed run may have written them without recording it."""
    for name in (SONGS, SEGMENTS):
        kept = {part_file(out, name, part) for part in parts}
        for pattern in ("part-*.parquet", "part-*.tmp"):
            for file in (out / name).glob(pattern):
                if file not in kept:
                    file.unlink()


def read_part(out: Path, table: str, part: int) -> Any:
    """Return a part of a table.

    Raises
    ------
    OSError, pyarrow.ArrowException
        The file is missing or damaged.
    """
    return pq.ParquetFile(part_file(out, table, part)).read()


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
