"""Text tables in the forms that data sets and users have: any encoding, delimiter, line end and decimal separator."""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from emoseg.corpora.problems import Problem
from emoseg.errors import CorpusError, EmosegError
from emoseg.system.files import require_regular

REST = "\t"
"""Separator of the cells that `read_table` puts into one column with `rest`; it occurs in no cell."""

_MOST_BYTES = 100_000_000
_LONGEST_LIST = 300  # characters of the columns found that a message names
_LONGEST_CELL = 5000  # characters: longer than any path, and short enough for many songs in one array


def read_table(
    path: Path,
    *,
    columns: Sequence[str],
    optional: Sequence[str] = (),
    problems: list[Problem] | None = None,
    rest: str | None = None,
) -> dict[int, dict[str, str]]:
    """Return the rows of a table with a header, whatever its encoding, delimiter and line ends.

    Parameters
    ----------
    path : Path
        Text in UTF-16 with a byte-order mark, UTF-8 with or without one, or else Windows-1252. The delimiter is a
        comma, a semicolon or a tab.
    columns : sequence of str
        Columns that must be there. Case and surrounding blanks do not matter.
    optional : sequence of str
        Columns that may be there, at most once each.
    problems : list of Problem, optional
        Receives an error for every row that is left out because it has more cells than the header (such as one with an
        unquoted decimal comma) or a cell of more than 5000 characters. Without a list, the first such row is an error.
    rest : str, optional
        Name of the last column, in lower case, if it also takes all further cells of a row, joined by `REST`.

    Returns
    -------
    dict of int to dict
        Rows by the number of the line on which each ends; the header is line 1. Keys are in lower case, values
        stripped. Rows with empty cells only are left out.

    Raises
    ------
    CorpusError
        The file cannot be read, has more than 100 MB or a null character, a quote in it is not closed, a column is
        missing (the message lists the columns found) or occurs twice, or a row is too long.
    """
    text = _text(path)
    header = re.split("[\r\n]", text, maxsplit=1)[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows: dict[int, dict[str, str]] = {}
    try:
        names = _names(path, next(reader, []), columns, optional)
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if rest and len(cells) > len(names):
                cells[len(names) - 1 :] = [REST.join(cells[len(names) - 1 :])]
            if fault := _fault(cells, len(names)):
                message = f"{path}: row {reader.line_num} has {fault}"
                if problems is None:
                    raise CorpusError(message)
                problems.append(Problem("error", f"{message} and is left out"))
            elif any(cells):
                padded = [*cells, *[""] * (len(names) - len(cells))]
                rows[reader.line_num] = dict(zip(names, padded, strict=False))
    except csv.Error as error:
        if "field larger" in str(error):
            cause = f"a cell has more than {csv.field_size_limit()} characters; perhaps a quote is left open"
        else:
            cause = f"a quote is out of place or left open: {error}"
        raise CorpusError(f"{path}: line {reader.line_num}: {cause}") from error
    return rows


def _fault(cells: Sequence[str], columns: int) -> str:
    """Return what is wrong with a row, or an empty string."""
    if any(cells[columns:]):
        return f"{len(cells)} cells for {columns} columns"
    longest = max(map(len, cells), default=0)
    return f"a cell of {longest} characters, at most {_LONGEST_CELL} are read," if longest > _LONGEST_CELL else ""


def _names(path: Path, header: Sequence[str], columns: Sequence[str], optional: Sequence[str]) -> list[str]:
    names = [name.strip().lower() for name in header]
    listed = ", ".join(names) or "none"
    found = listed if len(listed) <= _LONGEST_LIST else f"{listed[:_LONGEST_LIST]}..."
    for column in columns:
        if (n := names.count(column.lower())) != 1:
            what = "two columns" if n else "no column"
            raise CorpusError(f"{path}: {what} {column!r}; columns found: {found}")
    for column in optional:
        if names.count(column.lower()) > 1:
            raise CorpusError(f"{path}: two columns {column!r}; columns found: {found}")
    return names


def number(text: str) -> float:
    """Return the number in a cell, which may have a decimal point or a decimal comma.

    Raises
    ------
    ValueError
        It is not a finite number.
    """
    plain = text.replace(",", ".") if text.count(",") == 1 and "." not in text else text
    try:
        value = float(plain)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not a number")
    return value


def numbers(
    row: Mapping[str, str],
    columns: Sequence[str],
    *,
    where: str,
    problems: list[Problem],
    check: Callable[[float], float] = float,
) -> list[float] | None:
    """Return the numbers in some cells of a row; None, and an error among the problems, if one of them is not usable.

    Parameters
    ----------
    row : mapping of str to str
        Keys in lower case.
    columns : sequence of str
        Columns of the numbers.
    where : str
        Table and row, for the message.
    problems : list of Problem
        Receives the error.
    check : callable
        Returns the number, or raises ValueError if it breaks a rule.
    """
    values = []
    for column in columns:
        try:
            values.append(check(number(row[column.lower()])))
        except ValueError as error:
            problems.append(Problem("error", f"{where}: {column}: {error}; the row is left out"))
            return None
    return values


def _text(path: Path) -> str:
    size = require_regular(path, error=CorpusError).st_size
    if size > _MOST_BYTES:
        raise CorpusError(f"{path}: has {size / 1e6:.0f} MB; tables of at most {_MOST_BYTES / 1e6:.0f} MB are read")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read: {error.strerror}") from error
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    if (at := text.find("\0")) >= 0:
        line = text.count("\n", 0, at) + 1
        raise CorpusError(f"{path}: line {line} holds a null character: it is not a text table")
    return text


def user_path(text: str, *, error: type[EmosegError] = CorpusError) -> Path:
    """Return the path that a user gave, with ``~`` expanded.

    Raises
    ------
    EmosegError
        An error of the class `error`: there is no such user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as problem:
        raise error(f"{text}: {problem}") from problem
