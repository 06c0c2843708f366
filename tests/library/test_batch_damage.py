"""Damage to a library is reported in one line and repaired by the next batch."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
from batches import Small, in_process, tables, warned
from made import RATE, Call, refused, spawn, tone

import emoseg
from emoseg.errors import ConfigError, EmosegError, EmosegWarning
from emoseg.library import merge
from emoseg.library.contents import read_contents
from emoseg.library.manifest import MANIFEST_FILE

pytest_plugins = ["batch_fixtures"]

# --- damage ----------------------------------------------------------------------------------------------------------


def flip(file: Path, *, at: float) -> None:
    """Change one bit of a file."""
    data = bytearray(file.read_bytes())
    data[int(len(data) * at)] ^= 1
    file.write_bytes(data)


def folder_instead(file: Path) -> None:
    file.unlink()
    file.mkdir()


PART_DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "no such file"),
    "a folder": (folder_instead, "is a folder, not a file"),
    "empty": (lambda file: file.write_bytes(b""), "is damaged: its checksum is not the one in the manifest"),
    "cut off": (lambda file: file.write_bytes(file.read_bytes()[:-1]), "is damaged"),
    "no Parquet": (lambda file: file.write_bytes(b"PAR1" * 1000), "is damaged"),
    "one bit": (lambda file: flip(file, at=0.3), "is damaged"),
}


@pytest.mark.parametrize("damage", PART_DAMAGE)
@pytest.mark.parametrize("table", ["songs", "segments"])
def test_a_damaged_part_is_reported_and_made_again(
    small: Small, model: Path, out: Path, tmp_path: Path, table: str, damage: str
) -> None:
    hurt, words = PART_DAMAGE[damage]
    (file,) = (out / table).iterdir()
    hurt(file)
    reported = f"{file}: {words}"
    with pytest.raises(EmosegError) as refusal:
        read_contents(out).table(table)
    assert str(refusal.value).startswith(reported)
    assert str(refusal.value).endswith("; 'emoseg batch' repairs it")
    with pytest.raises(EmosegError) as refusal:
        merge(tmp_path / "merged", [out])
    assert str(refusal.value).startswith(reported)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    report = warned(lambda: in_process(small.root, out, model), f"{reported}")
    assert (report.analysed, report.done) == (2, 2)
    if file.is_dir():
        file.rmdir()
    assert tables(out) == tables(small.library)
    read_contents(out).require_parts()


def in_database(statement: str) -> Callable[[Path], None]:
    def run(file: Path) -> None:
        with contextlib.closing(sqlite3.connect(file)) as db, db:
            db.execute("PRAGMA writable_schema = ON")
            db.execute("PRAGMA ignore_check_constraints = ON")
            db.execute(statement)

    return run


def with_settings(**changed: object) -> Callable[[Path], None]:
    def run(file: Path) -> None:
        with contextlib.closing(sqlite3.connect(file)) as db, db:
            (text,) = db.execute("SELECT value FROM meta WHERE key = 'settings'").fetchone()
            settings = json.dumps({**json.loads(text), **changed})
            db.execute("UPDATE meta SET value = ? WHERE key = 'settings'", (settings,))

    return run


def leaf_page_damaged(file: Path) -> None:
    """Overwrite the beginning of every page but the first: the file opens, and its tables cannot be read."""
    data = bytearray(file.read_bytes())
    size = int.from_bytes(data[16:18], "big")
    for start in range(size, len(data), size):
        data[start : start + 8] = b"\xff" * 8
    file.write_bytes(data)


def another_database(file: Path) -> None:
    file.unlink()
    in_database("CREATE TABLE t (a)")(file)


MANIFEST_DAMAGE: dict[str, Callable[[Path], object]] = {
    "no database": lambda file: file.write_text("no database, but long enough to look like one\n" * 20),
    "cut off": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "pages": leaf_page_damaged,
    "no tables of ours": another_database,
    "a table is missing": in_database("DROP TABLE pending"),
    "a column is missing": in_database("ALTER TABLE songs DROP COLUMN message"),
    "no format": in_database("DELETE FROM meta WHERE key = 'format'"),
    "no settings": in_database("DELETE FROM meta WHERE key = 'settings'"),
    "settings are no JSON": in_database("UPDATE meta SET value = '{' WHERE key = 'settings'"),
    "settings of another kind": in_database("UPDATE meta SET value = '[[[]]]' WHERE key = 'settings'"),
    "hop": with_settings(hop_s=float("nan")),
    "shard": with_settings(shard="x/y"),
    "space": with_settings(space={"name": "a", "labels": ["b"], "axes": {"b": {}}}),
    "root": with_settings(root=5),
    "unknown setting": with_settings(colour="blue"),
    "a number is text": in_database("UPDATE songs SET size = 'large'"),
    "text is not UTF-8": in_database("UPDATE songs SET content = CAST(x'ff' AS TEXT)"),
    "a path is another one": in_database("UPDATE songs SET path = x'61'"),
    "a size is no number": in_database("UPDATE parts SET songs_size = 'x'"),
}


@pytest.mark.parametrize("damage", MANIFEST_DAMAGE)
def test_a_damaged_manifest_is_refused_by_readers(out: Path, tmp_path: Path, damage: str) -> None:
    MANIFEST_DAMAGE[damage](out / MANIFEST_FILE)
    readers: list[Callable[[], object]] = [lambda: read_contents(out), lambda: merge(tmp_path / "merged", [out])]
    for read in readers:
        with pytest.raises(EmosegError) as refusal:
            read()
        assert str(refusal.value).startswith(f"{out / MANIFEST_FILE}: is damaged (")
        assert str(refusal.value).endswith("); 'emoseg batch' repairs it")
        assert "\n" not in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("damage", ["no database", "pages", "settings are no JSON", "text is not UTF-8"])
def test_a_damaged_manifest_is_set_aside_and_the_library_made_again(
    small: Small, model: Path, out: Path, damage: str
) -> None:
    file = out / MANIFEST_FILE
    MANIFEST_DAMAGE[damage](file)
    damaged = file.read_bytes()
    (out / f"{MANIFEST_FILE}.damaged").write_text("an earlier one")
    report = warned(lambda: in_process(small.root, out, model), f"{file}: is damaged (")
    assert (report.analysed, report.done) == (2, 2)
    assert tables(out) == tables(small.library)
    assert (out / f"{MANIFEST_FILE}.damaged").read_text() == "an earlier one"
    assert (out / f"{MANIFEST_FILE}.damaged-2").read_bytes() == damaged
    assert in_process(small.root, out, model).analysed == 0


def test_a_damaged_manifest_and_a_drive_that_is_not_there_cost_nothing(
    small: Small, model: Path, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (out / MANIFEST_FILE).write_bytes(b"x" * 5000)
    with pytest.warns(EmosegWarning, match="is damaged"), pytest.raises(ConfigError, match="is the drive connected"):
        in_process(tmp_path / "empty", out, model)
    assert tables(out) == tables(small.library)


def test_the_command_tells_of_damage_in_one_line(small: Small, model: Path, out: Path) -> None:
    file = out / MANIFEST_FILE
    file.write_bytes(b"x" * 5000)
    outcome = spawn("batch", small.root, "--out", out, "--model", model, "--workers", "1", "-q")
    again = "was renamed to manifest.sqlite.damaged; the library is made again from the recordings"
    assert outcome.err == f"emoseg: {file}: is damaged (file is not a database) and {again}\n"
    assert outcome.status == 0
    assert outcome.out.startswith(f"{out}: 2 songs; analysed 2 ")


@pytest.mark.parametrize("lost", [Path.unlink, lambda file: file.write_bytes(b"")], ids=["missing", "empty"])
def test_a_lost_manifest_is_reported(small: Small, model: Path, out: Path, lost: Callable[[Path], object]) -> None:
    lost(out / MANIFEST_FILE)
    reported = f"{out / MANIFEST_FILE}: is missing or empty; the library is made again from the recordings"
    assert warned(lambda: in_process(small.root, out, model), reported).analysed == 2
    assert tables(out) == tables(small.library)
    assert len(list(out.rglob("*.parquet"))) == 2, "the files of the lost library are gone"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize(
    ("instead", "words"),
    [(Path.mkdir, "is a folder, not a file"), (os.mkfifo, "is not a regular file")],
    ids=["folder", "pipe"],
)
def test_a_manifest_that_is_no_file_is_one_line(
    small: Small, model: Path, out: Path, call: Call, instead: Callable[[Path], object], words: str
) -> None:
    file = out / MANIFEST_FILE
    file.unlink()
    instead(file)
    refused(call("batch", small.root, "--out", out, "--model", model), f"{file}: {words}")
    with pytest.raises(EmosegError, match=words):
        read_contents(out)


def test_a_journal_that_was_left_behind(small: Small, model: Path, out: Path) -> None:
    journal = out / f"{MANIFEST_FILE}-journal"
    journal.write_bytes(os.urandom(5000))
    assert read_contents(out).counts["done"] == 2
    assert in_process(small.root, out, model).analysed == 0, "SQLite ignores what is no journal"

    # A journal of another moment, which SQLite plays back, because the process that began it is dead.
    script = (
        "import os, sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('PRAGMA cache_size = 1');"
        "db.execute('BEGIN'); db.execute('UPDATE songs SET message = hex(zeroblob(20000))');"
        "db.execute('CREATE TABLE t AS SELECT randomblob(20000) FROM songs'); os.kill(os.getpid(), 9)"
    )
    other = Path(shutil.copytree(out, out.parent / "other"))
    subprocess.run([sys.executable, "-c", script, str(other / MANIFEST_FILE)], check=False)
    hot = (other / f"{MANIFEST_FILE}-journal").read_bytes()
    assert hot[:8].hex() == "d9d505f920a163d7", "the mark of a journal that is to be played back"
    with contextlib.closing(sqlite3.connect(out / MANIFEST_FILE)) as db, db:
        db.execute("UPDATE songs SET message = hex(zeroblob(9000))")
    journal.write_bytes(hot)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmosegWarning)  # that the manifest was set aside, where playing back damaged it
        in_process(small.root, out, model)
    assert tables(out) == tables(small.library)
    assert not journal.exists()


@pytest.mark.skipif(os.name != "posix", reason="needs a folder in which nothing can be opened")
def test_a_journal_that_cannot_be_opened_is_one_line(small: Small, model: Path, out: Path, call: Call) -> None:
    (out / f"{MANIFEST_FILE}-journal").mkdir()
    start = ("batch", small.root, "--out", out, "--model", model)
    refused(call(*start), f"{out / MANIFEST_FILE}: cannot be read: ")
    (out / f"{MANIFEST_FILE}-journal").rmdir()
    assert call(*start, "-q").status == 0


def unfinished(small: Small, out: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a library whose songs are done and not yet in the tables."""
    with monkeypatch.context() as patch:
        patch.setattr("emoseg.library.run.update_tables", lambda *_, **__: None)
        in_process(small.root, out, model)
    assert len(read_contents(out).failures) == 0
    assert read_contents(out).waiting == 2


ROW_DAMAGE: dict[str, str] = {
    "no stream": "UPDATE pending SET songs = x'00'",
    "cut off": "UPDATE pending SET segments = substr(segments, 1, length(segments) / 2)",
    "another table": "UPDATE pending SET songs = segments",
    "another song": "UPDATE pending SET songs = (SELECT p.songs FROM pending AS p WHERE p.song_id != pending.song_id), "
    "segments = (SELECT p.segments FROM pending AS p WHERE p.song_id != pending.song_id)",
    "lost": "DELETE FROM pending",
}


@pytest.mark.parametrize("damage", ROW_DAMAGE)
def test_damaged_rows_are_done_again(
    small: Small, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    out = tmp_path / "out"
    unfinished(small, out, model, monkeypatch)
    in_database(f"{ROW_DAMAGE[damage]} WHERE song_id = (SELECT min(song_id) FROM songs)")(out / MANIFEST_FILE)
    if damage == "lost":
        report = in_process(small.root, out, model)
    else:
        reported = f"{out / MANIFEST_FILE}: the results of 1 songs in it are damaged"
        with pytest.raises(EmosegError, match="the results of 1 songs in it are damaged; 'emoseg batch' repairs it"):
            merge(tmp_path / "merged", [out])
        report = warned(lambda: in_process(small.root, out, model), reported)
    assert (report.analysed, report.done) == (1, 2)
    assert tables(out) == tables(small.library)


def test_a_song_whose_result_was_lost_while_it_was_gone_is_done_again(model: Path, tmp_path: Path, own: Path) -> None:
    out = tmp_path / "out"
    for file in sorted(own.rglob("*.*"))[2:]:
        file.unlink()
    in_process(own, out, model)
    before = tables(out)
    file = next(own.rglob("*.*"))
    file.rename(tmp_path / "elsewhere")
    in_process(own, out, model)
    in_database("UPDATE pending SET songs = x'00'")(out / MANIFEST_FILE)
    warned(lambda: in_process(own, out, model), "the results of 1 songs in it are damaged")
    (tmp_path / "elsewhere").rename(file)
    report = in_process(own, out, model)
    assert (report.analysed, report.changes.back) == (1, 1)
    assert tables(out) == before


def test_failures_csv_that_is_a_folder_is_one_line(small: Small, model: Path, out: Path, call: Call) -> None:
    (out / "failures.csv").mkdir()
    start = ("batch", small.root, "--out", out, "--model", model, "-q")
    refused(call(*start), f"{out / 'failures.csv'}: cannot be written: ")
    (out / "failures.csv").rmdir()
    assert call(*start).status == 0


IMPORTS = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"pandas", "duckdb", "torch", "sklearn", "mutagen", "matplotlib"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
from emoseg.cli.app import main
sys.argv[0] = "emoseg"
main()
"""


def test_a_library_is_updated_and_merged_where_nothing_else_imports_pyarrow(
    own: Path, model: Path, tmp_path: Path
) -> None:
    """pyarrow's parts are modules of their own: each must be imported by who uses it."""

    def run(*args: str | Path) -> None:
        done = subprocess.run(
            [sys.executable, "-c", IMPORTS, *map(str, args)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")

    files = sorted(own.rglob("*.*"))
    for file in files[4:]:
        file.unlink()
    files[3].rename(tmp_path / "later")
    out = tmp_path / "out"
    run("batch", own, "--out", out, "--model", model, "--workers", "1", "-q")
    (tmp_path / "later").rename(files[3])
    soundfile.write(files[0], tone(50), RATE)
    files[1].unlink()
    run("batch", own, "--out", out, "--model", model, "--workers", "1", "-q")
    in_process(own, tmp_path / "fresh", model)
    assert tables(out) == tables(tmp_path / "fresh")
    run("batch", "--merge", tmp_path / "merged", out)
    assert tables(tmp_path / "merged") == tables(out)


def test_every_module_imports_the_parts_of_pyarrow_that_it_uses() -> None:
    """Another package may import them too, or may not."""
    used = set()
    for file in Path(emoseg.__file__).parent.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        for part in ("compute", "dataset", "ipc", "parquet"):
            if re.search(rf"\b(pa|pyarrow)\.{part}\.", text):
                used.add(part)
                assert re.search(rf"^\s*import pyarrow\.{part}\b", text, re.MULTILINE), f"{file} uses pyarrow.{part}"
    assert used >= {"dataset", "ipc"}
