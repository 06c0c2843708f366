"""Tables as data sets and users hand them out: any encoding, delimiter and line end, decimal points and commas."""

from __future__ import annotations

import codecs
import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from emoseg.corpora.base import Problem
from emoseg.errors import CorpusError

REST = "\t"
"""What joins the cells that `read_table` puts into one column with `rest`; no cell holds it."""


def read_table(
    path: Path, *, columns: Sequence[str], problems: list[Problem] | None = None, rest: str | None = None
) -> dict[int, dict[str, str]]:
    """Read a table with a header, whatever its encoding, delimiter and line ends.

    Parameters
    ----------
    path : Path
        A text table; UTF-16 with a byte-order mark, UTF-8 with or without one, else Windows-1252. Comma, semicolon or
        tab.
    columns : sequence of str
        Columns that must be there, compared without case and surrounding blanks.
    problems : list of Problem, optional
        Takes an error for every row that has more cells than the header has columns, such as one with a decimal comma
        that is not quoted; that row is then left out. Without a list the first such row raises.
    rest : str, optional
        The last column, in lower case, when every further cell of a row belongs to it too; joined by `REST`.

    Returns
    -------
    dict of int to dict
        Rows by the number of the line that each ends on, the header being line 1; keys in lower case, values stripped.
        Rows whose cells are all empty are left out.

    Raises
    ------
    CorpusError
        The file cannot be read, a quote in it is never closed, a column is missing (the message lists the columns
        found) or named twice, or a row is too long.
    """
    text = _text(path)
    header = next(iter(text.splitlines()), "")
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows: dict[int, dict[str, str]] = {}
    try:
        names = _names(path, next(reader, []), columns)
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if rest and len(cells) > len(names):
                cells[len(names) - 1 :] = [REST.join(cells[len(names) - 1 :])]
            if any(cells[len(names) :]):
                message = f"{path}: row {reader.line_num} has {len(cells)} cells for {len(names)} columns"
                if problems is None:
                    raise CorpusError(message)
                problems.append(Problem("error", f"{message} and is left out"))
            elif any(cells):
                padded = [*cells, *[""] * (len(names) - len(cells))]
                rows[reader.line_num] = dict(zip(names, padded, strict=False))
    except csv.Error as error:
        raise CorpusError(f"{path}: line {reader.line_num}: a quote is out of place or left open: {error}") from error
    return rows


def _names(path: Path, header: Sequence[str], columns: Sequence[str]) -> list[str]:
    names = [name.strip().lower() for name in header]
    found = ", ".join(names) or "none"
    for column in columns:
        if (n := names.count(column.lower())) != 1:
            what = "two columns" if n else "no column"
            raise CorpusError(f"{path}: {what} {column!r}; columns found: {found}")
    return names


def number(text: str) -> float:
    """Return the number that a cell holds, written with a decimal point or a decimal comma.

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
    """Return the numbers in some cells of a row; where one is not usable, None and an error among the problems.

    Parameters
    ----------
    row : mapping
        Keys in lower case.
    columns : sequence of str
    where : str
        The table and row, for the message.
    problems : list of Problem
        Takes the error.
    check : callable
        Raises ValueError for a number that breaks a rule.
    """
    found = []
    for column in columns:
        try:
            found.append(check(number(row[column.lower()])))
        except ValueError as error:
            problems.append(Problem("error", f"{where}: {column}: {error}; the row is left out"))
            return None
    return found


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read: {error.strerror}") from error
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")
