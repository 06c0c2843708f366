"""Ratings over time from the two kinds of tables in use: a row a moment, or a row a song and a column a moment."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from emoseg.corpora.base import Problem
from emoseg.corpora.ratings import RatingsOverTime, Scale
from emoseg.corpora.tables import number, numbers, read_table

HOLD_S = 0.5
"""All data sets rated over time give two means a second."""

_SAMPLE = re.compile(r"sample_(\d+)ms")


def long_table(
    table: Path,
    *,
    song: str,
    time_s: str,
    values: Sequence[str],
    scale: Scale,
    hold_s: float,
    problems: list[Problem],
) -> dict[str, RatingsOverTime]:
    """Read a table with a row for each moment of each song; `values` names the valence and the arousal column.

    A row that cannot be used is an error among the problems; a table that is not there is a warning.
    """
    if not _there(table, problems):
        return {}
    moments: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for line, row in read_table(table, columns=[song, time_s, *values], problems=problems).items():
        name = row[song.lower()]
        where = f"{table}: row {line}, song {name}"
        time = numbers(row, [time_s], where=where, problems=problems)
        rated = numbers(row, values, where=where, problems=problems, check=scale.check) if time else None
        if time and rated:
            moments[name].append((time[0], scale.normalise(rated[0]), scale.normalise(rated[1])))
    return {name: _series(found, hold_s) for name, found in moments.items()}


def wide_tables(
    valence: Path, arousal: Path, *, scale: Scale, hold_s: float, problems: list[Problem]
) -> dict[str, RatingsOverTime]:
    """Read two tables with a row a song and columns ``sample_15000ms``, ``sample_15500ms``, ...

    A moment counts where both tables have it; empty cells, as behind the end of a shorter song, are no ratings.
    """
    if not (_there(valence, problems) and _there(arousal, problems)):
        return {}
    high, low = (_wide(table, scale, problems) for table in (valence, arousal))
    if lone := sorted(high.keys() ^ low.keys()):
        message = f"{valence}: {len(lone)} songs are rated on one axis only, such as {lone[0]}; not used over time"
        problems.append(Problem("warning", message))
    found = {}
    for name in sorted(high.keys() & low.keys()):
        times = sorted(high[name].keys() & low[name].keys())
        if times:
            found[name] = _series([(t, high[name][t], low[name][t]) for t in times], hold_s)
    return found


def _series(moments: Sequence[tuple[float, float, float]], hold_s: float) -> RatingsOverTime:
    times, valence, arousal = zip(*sorted(dict.fromkeys(moments)), strict=True)
    return RatingsOverTime(times, hold_s, valence, arousal)


def _wide(table: Path, scale: Scale, problems: list[Problem]) -> dict[str, dict[float, float]]:
    found: dict[str, dict[float, float]] = {}
    for line, row in read_table(table, columns=["song_id"], problems=problems).items():
        where = f"{table}: row {line}, song {row['song_id']}"
        cells = _samples(row, where, scale, problems)
        if row["song_id"] in found:
            problems.append(Problem("error", f"{where}: is rated more than once"))
        elif cells:
            found[row["song_id"]] = cells
    return found


def _samples(row: Mapping[str, str], where: str, scale: Scale, problems: list[Problem]) -> dict[float, float]:
    cells = {}
    for column, text in row.items():
        sample = _SAMPLE.fullmatch(column)
        if not sample or text.lower() in ("", "nan"):
            continue
        try:
            cells[int(sample[1]) / 1000] = scale.normalise(scale.check(number(text)))
        except ValueError as error:
            problems.append(Problem("error", f"{where}: {column}: {error}; the moment is left out"))
    return cells


def _there(table: Path, problems: list[Problem]) -> bool:
    if not table.is_file():
        problems.append(Problem("warning", f"{table}: is not there: no ratings over time"))
    return table.is_file()
