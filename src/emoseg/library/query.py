"""The tables of a library in DuckDB, which can be read and nothing else."""

from __future__ import annotations

import importlib
import math
import threading
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from emoseg.errors import ConfigError, MissingExtraError
from emoseg.library.contents import Contents
from emoseg.library.tables import SEGMENTS, SONGS
from emoseg.system.names import valid_text

_FETCHED = 10_000  # rows at a time; between two fetches an interrupt is noticed


@dataclass(frozen=True)
class QueryResult:
    """A table of results: column names and rows, in order."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def to_json(self) -> list[dict[str, Any]]:
        """Return one dict per row; numbers that are not finite become None."""
        return [{c: _plain(v) for c, v in zip(self.columns, row, strict=True)} for row in self.rows]


class Database:
    """The tables ``songs``, ``segments`` and ``failures`` of a library, open for queries.

    Parameters
    ----------
    contents : Contents

    Raises
    ------
    MissingExtraError
        DuckDB is not installed.
    EmosegError
        A file of the library is missing or damaged.
    """

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._duckdb = _duckdb()
        self._db = self._duckdb.connect(":memory:")
        for name in (SONGS, SEGMENTS):
            self._db.register(name, contents.table(name))
        failures = [(valid_text(f.path), f.error_type, f.message) for f in contents.failures]
        columns = zip(*failures, strict=True) if failures else ([], [], [])
        names = ("path", "type", "message")
        self._db.register(
            "failures", pa.table({n: pa.array(c, pa.string()) for n, c in zip(names, columns, strict=True)})
        )
        # A query of the user's own can neither read nor write a file or a Python variable, nor lift this rule.
        self._db.execute("SET temp_directory = ''")
        self._db.execute("SET python_enable_replacements = false")
        self._db.execute("SET enable_external_access = false")
        self._db.execute("SET lock_configuration = true")

    def query(self, statement: str, *values: Any) -> QueryResult:
        """Return the result of emoseg's own statement, in which each ``?`` stands for one of `values`.

        Raises
        ------
        EmosegError
            A file of the library is missing or damaged.
        """
        with self._contents.reading(self._duckdb.Error):
            return self._run(statement, list(values))

    def select(self, statement: str) -> QueryResult:
        """Return the result of a user's statement, which may read the tables and do nothing else.

        Raises
        ------
        ConfigError
            It is not one SELECT statement, or DuckDB refuses it.
        EmosegError
            A file of the library is missing or damaged.
        """
        try:
            statement.encode()
            statements = self._db.extract_statements(statement)
            select = [parsed.type for parsed in statements] == [self._duckdb.StatementType.SELECT]
            result = self._run(statement, []) if select else None
        except UnicodeEncodeError as error:
            raise ConfigError("--sql: is not valid text") from error
        except Exception as error:  # DuckDB also passes on whatever Python raises for a value that it cannot hold
            self._contents.require_parts()
            words = [*str(error).strip().splitlines(), type(error).__name__][0]
            raise ConfigError(f"--sql: {words}") from error
        if result is None:
            raise ConfigError("--sql takes one SELECT statement; the tables can only be read")
        return result

    def _run(self, statement: str, values: list[Any]) -> QueryResult:
        """Run a statement in a thread of its own, because DuckDB misses some interrupts and this thread does not."""
        results: list[QueryResult] = []
        errors: list[Exception] = []
        stopped, ended = threading.Event(), threading.Event()

        def run() -> None:
            try:
                result = self._db.execute(statement, values)
                columns = tuple(column[0] for column in result.description)
                rows: list[tuple[Any, ...]] = []
                while not stopped.is_set() and (more := result.fetchmany(_FETCHED)):
                    rows += more
                results.append(QueryResult(columns, tuple(rows)))
            except Exception as error:
                errors.append(error)
            finally:
                ended.set()

        try:
            threading.Thread(target=run, daemon=True).start()
            # Not Thread.join, which takes a running thread for ended when an interrupt comes (Python 3.11). A wait has
            # a limit, because Windows sees an interrupt only between two waits.
            while not ended.wait(0.2):
                pass
        except BaseException:
            stopped.set()
            while not ended.wait(0.1):  # repeatedly, because an interrupt before the statement begins has no effect
                self._db.interrupt()
            raise
        if errors:
            raise errors[0]
        return results[0]


def quoted(column: str) -> str:
    """Return the name of a column as SQL needs it."""
    return '"' + column.replace('"', '""') + '"'


def _duckdb() -> Any:
    try:
        return importlib.import_module("duckdb")
    except ImportError as error:
        raise MissingExtraError("a question to a library", "library") from error


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if value is None or isinstance(value, bool | int | str) else str(value)
