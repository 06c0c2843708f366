"""Libraries of made-up recordings: making them in this process, and reading what they hold."""

from __future__ import annotations

import csv
import dataclasses
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from emoseg.errors import EmosegWarning
from emoseg.library import run_batch
from emoseg.library.manifest import MANIFEST_FILE

Rows = list[dict[str, Any]]
KINDS = {
    "silent.wav": "silent",
    "short.wav": "short",
    "empty.mp3": "empty",
    "text.wav": "decode",
    "nowhere.mp3": "missing",
    "pipe.wav": "unreadable",
}


def rows(out: Path, table: str) -> Rows:
    """Return all rows of a table, sorted."""
    found = [row for file in sorted((out / table).glob("*.parquet")) for row in pq.ParquetFile(file).read().to_pylist()]
    return sorted(found, key=lambda row: (row["path"], row.get("segment", 0)))


def tables(out: Path) -> tuple[Rows, Rows]:
    return rows(out, "songs"), rows(out, "segments")


def listed(out: Path) -> list[dict[str, str]]:
    """Return the rows of failures.csv."""
    with (out / "failures.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def analyses(out: Path) -> dict[str, int]:
    """How often each recording was analysed to the end."""
    with sqlite3.connect(out / MANIFEST_FILE) as db:
        return {os.fsdecode(path): n for path, n in db.execute("SELECT path, analyses FROM songs")}


def in_process(root: Path, out: Path, model: Path, **options: Any) -> Any:
    return run_batch(root, out, model=model, quiet=True, **{"workers": 1, **options})


@dataclasses.dataclass(frozen=True)
class Small:
    """Two recordings and their library, which tests copy."""

    root: Path
    library: Path


def warned(action: Callable[[], Any], words: str) -> Any:
    """Return what an action returns that warns once."""
    with pytest.warns(EmosegWarning) as reported:
        result = action()
    assert len(reported) == 1
    assert words in str(reported[0].message)
    assert "\n" not in str(reported[0].message)
    return result


def fake_ffmpeg(folder: Path, script: str) -> dict[str, str]:
    """Return an environment in which the decoder of last resort is a shell script."""
    folder.mkdir()
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
