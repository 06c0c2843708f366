"""The folder of an audit: tables for people and for programs, the decisions of a person, and the corrected corpus."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from emoseg.auditing.findings import SegmentFinding, SongFinding
from emoseg.corpora.base import Corpus
from emoseg.corpora.tables import read_table
from emoseg.errors import ConfigError, EmosegError
from emoseg.system.console import json_text
from emoseg.system.csv_cells import csv_cell
from emoseg.system.files import read_text, remove_leftovers, work_folder, write_whole, written_whole
from emoseg.system.names import valid_text

SCHEMA = "emoseg.audit/1"
AUDIT_FILE, DECISIONS_FILE, CORRECTED_FILE = "audit.json", "decisions.csv", "corrected.csv"
OK, SKIP = "ok", "skip"
"""Decisions about a song other than a label: the given label is right, or the song is left for later."""

_MOST_BYTES = 10_000_000  # of audit.json
_DECIMALS = 4


def check_folder(out: Path) -> None:
    """Do nothing if an audit can be written to a folder: it does not exist, is empty, or has an audit or decisions.

    Raises
    ------
    ConfigError
        It is something else.
    """
    if not out.name:
        raise ConfigError(f"{out}: --out must name a folder")
    try:
        if not out.exists() or (out.is_dir() and {path.name for path in out.iterdir()} <= {DECISIONS_FILE}):
            return
    except OSError as error:
        raise ConfigError(f"{out}: cannot be read: {error.strerror or error}") from error
    if not _has_audit(out):
        raise ConfigError(f"{out}: is neither an audit nor an empty folder; choose another --out")


def _has_audit(out: Path) -> bool:
    try:
        found = json.loads(read_text(out / AUDIT_FILE, most_bytes=_MOST_BYTES))
    except (EmosegError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("schema") == SCHEMA


def read_decisions(out: Path, labels: Sequence[str]) -> dict[str, str]:
    """Return the decisions of a person by the path of the recording: a label, `OK` or `SKIP`.

    The table ``decisions.csv`` has the columns ``path`` and ``decision``. Of several decisions about a song the last
    one counts.

    Parameters
    ----------
    out : Path
        Folder of the audit. Without the table there are no decisions.
    labels : sequence of str
        Labels of the corpus.

    Raises
    ------
    ConfigError
        A decision is none of these.
    CorpusError
        The table cannot be read.
    """
    file = out / DECISIONS_FILE
    if not file.exists():
        return {}
    decisions = {}
    for number, row in read_table(file, columns=["path", "decision"]).items():
        if row["decision"] not in (*labels, OK, SKIP):
            rule = f"must be one of {', '.join([*labels, OK, SKIP])}"
            raise ConfigError(f"{file}: row {number}: decision {row['decision']!r}: {rule}")
        decisions[row["path"]] = row["decision"]
    return decisions


def write_folder(
    out: Path,
    facts: Mapping[str, Any],
    songs: Sequence[SongFinding],
    segments: Sequence[SegmentFinding],
    corpus: Corpus,
    decisions: Mapping[str, str],
) -> None:
    """Write all files of an audit, each of them whole; a new folder appears when it is complete.

    Parameters
    ----------
    out : Path
        Checked by `check_folder`.
    facts : mapping
        Content of ``audit.json``.
    songs, segments : sequence of findings
    corpus : Corpus
    decisions : mapping of str to str
        From `read_decisions`; its file is kept as it is.

    Raises
    ------
    EmosegError
        A file cannot be written.
    """
    if out.exists() and any(out.iterdir()):
        remove_leftovers(out)
        _write_files(out, facts, songs, segments, corpus, decisions)
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with work_folder(out.parent) as part:
            _write_files(part, facts, songs, segments, corpus, decisions)
            if out.exists():
                out.rmdir()
            part.replace(out)
    except OSError as error:
        raise EmosegError(f"{out}: cannot be written: {error.strerror or error}") from error


def _write_files(
    folder: Path,
    facts: Mapping[str, Any],
    songs: Sequence[SongFinding],
    segments: Sequence[SegmentFinding],
    corpus: Corpus,
    decisions: Mapping[str, str],
) -> None:
    # This file first: with it a folder whose writing was interrupted is an audit, which the next run completes.
    write_whole(folder / AUDIT_FILE, json_text(facts, indent=1) + "\n")
    _write_table(folder, "songs", SongFinding, [asdict(row) for row in songs])
    _write_table(folder, "segments", SegmentFinding, [asdict(row) for row in segments])
    write_whole(folder / CORRECTED_FILE, corrected_corpus(corpus, decisions))
    if not (folder / DECISIONS_FILE).exists():
        write_whole(folder / DECISIONS_FILE, "path,decision\n")


def _write_table(
    folder: Path, name: str, row_type: type[SongFinding | SegmentFinding], rows: list[dict[str, Any]]
) -> None:
    """Write a table as CSV, as a JSON array and as Parquet; numbers are rounded to four decimals."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [field.name for field in fields(row_type)]
    for row in rows:
        row.update({key: round(value, _DECIMALS) for key, value in row.items() if isinstance(value, float)})
    cells = [[csv_cell(v) if isinstance(v, str) else v for v in row.values()] for row in rows]
    write_whole(folder / f"{name}.csv", _csv_text([columns, *cells]))
    write_whole(folder / f"{name}.json", json_text(rows, indent=1) + "\n")
    kinds = {"int": pa.int64(), "float": pa.float64(), "str": pa.string()}
    schema = pa.schema([(field.name, kinds[str(field.type)]) for field in fields(row_type)])
    with written_whole(folder / f"{name}.parquet") as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary)


def corrected_corpus(corpus: Corpus, decisions: Mapping[str, str]) -> str:
    """Return the table of a csv corpus, in which each song has the label that was decided, or else the given one.

    Columns: ``path`` (absolute), ``label``, ``artist`` and, where the corpus has official parts, ``split``. The artist
    of clips of one song without a known artist is the song, so that no split separates them.

    Parameters
    ----------
    corpus : Corpus
    decisions : mapping of str to str
        A label, `OK` or `SKIP` by the path of the recording.
    """
    has_split = any(song.split for song in corpus.songs)
    rows = [["path", "label", "artist", *(["split"] if has_split else [])]]
    for song in corpus.songs:
        path = os.path.abspath(song.path)  # noqa: PTH100  (links stay as the corpus names them)
        decision = decisions.get(valid_text(path), OK)
        label = decision if decision in corpus.space.labels else song.label
        rows.append([path, label, song.artist or song.work or "", *([song.split or ""] if has_split else [])])
    return _csv_text(rows).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _csv_text(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
