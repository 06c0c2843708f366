"""Tables of ratings as data sets publish them.

`song_ratings` reads one rating per song. Ratings over time come in two layouts: `long_table` reads one row per moment,
`wide_tables` one row per song with one column per moment.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from emoseg.corpora.problems import Problem, counted
from emoseg.corpora.ratings import LONGEST_S, Rating, RatingsOverTime, Scale
from emoseg.corpora.tables import number, numbers, read_table

HOLD_S = 0.5
"""How long a rating over time is valid: all data sets give two means per second."""

_SAMPLE = re.compile(r"sample_(\d+)ms")


def song_ratings(
    table: Path,
    *,
    song: str,
    means: Sequence[str],
    spreads: Sequence[str] = (),
    scale: Scale,
    problems: list[Problem],
) -> list[tuple[str, Rating]]:
    """Return the ids of songs and their ratings, in the order of a table with one row per song.

    Parameters
    ----------
    table : Path
    song : str
        Column of the ids.
    means : sequence of str
        Columns of mean valence and mean arousal, in this order.
    spreads : sequence of str
        Columns of their standard deviations over listeners; empty if the table has none.
    scale : Scale
    problems : list of Problem
        Receives an error for every row that cannot be used; that song is left out.
    """
    rated = []
    for line, row in read_table(table, columns=[song, *means, *spreads], problems=problems).items():
        name = row[song.lower()]
        where = f"{table}: row {line}, song {name}"
        values = numbers(row, means, where=where, problems=problems, check=scale.check)
        deviations = numbers(row, spreads, where=where, problems=problems) if values else None
        if values and deviations is not None:
            rating = Rating(*map(scale.normalise, values), *map(scale.normalise_sd, deviations))
            rated.append((name, rating))
    return rated


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
    """Return the ratings over time by song, from a table with one row per song and moment.

    Parameters
    ----------
    table : Path
        If it does not exist, that is a warning among the problems, and the result is empty.
    song, time_s : str
        Columns of the ids and of the times in seconds.
    values : sequence of str
        Columns of valence and arousal, in this order.
    scale : Scale
    hold_s : float
        How long each rating is valid, in seconds.
    problems : list of Problem
        Receives an error for every row that cannot be used, or that contradicts an earlier row about the same moment.
    """
    if not _there(table, problems):
        return {}
    moments: dict[str, dict[float, tuple[float, float]]] = defaultdict(dict)
    for line, row in read_table(table, columns=[song, time_s, *values], problems=problems).items():
        name = row[song.lower()]
        where = f"{table}: row {line}, song {name}"
        time = numbers(row, [time_s], where=where, problems=problems)
        rated = numbers(row, values, where=where, problems=problems, check=scale.check) if time else None
        if time and not 0 <= time[0] <= LONGEST_S:
            message = f"{where}: the time {time[0]:g} s is not from 0 to {LONGEST_S:g}; the row is left out"
            problems.append(Problem("error", message))
        elif time and rated:
            value = scale.normalise(rated[0]), scale.normalise(rated[1])
            if moments[name].setdefault(time[0], value) != value:
                message = f"{where}: has another rating at {time[0]:g} s before; the row is left out"
                problems.append(Problem("error", message))
    return {name: _series([(t, *v) for t, v in found.items()], hold_s) for name, found in moments.items()}


def wide_tables(
    valence: Path, arousal: Path, *, scale: Scale, hold_s: float, problems: list[Problem]
) -> dict[str, RatingsOverTime]:
    """Return the ratings over time by song, from two tables with one row per song.

    The columns of the moments are ``sample_15000ms``, ``sample_15500ms`` and so on. A moment counts if both tables have
    a rating for it; empty cells, as after the end of a shorter song, are not ratings.

    Parameters
    ----------
    valence, arousal : Path
        If one does not exist, that is a warning among the problems, and the result is empty.
    scale : Scale
    hold_s : float
        How long each rating is valid, in seconds.
    problems : list of Problem
        Receives an error for every cell or row that cannot be used.
    """
    if not (_there(valence, problems) and _there(arousal, problems)):
        return {}
    high, low = (_wide(table, scale, problems) for table in (valence, arousal))
    if lone := sorted(high.keys() ^ low.keys()):
        message = f"songs rated on one axis only, whose ratings over time are not used: {len(lone)} {counted(lone)}"
        problems.append(Problem("warning", f"{valence}: {message}"))
    found = {}
    for name in sorted(high.keys() & low.keys()):
        times = sorted(high[name].keys() & low[name].keys())
        if times:
            found[name] = _series([(t, high[name][t], low[name][t]) for t in times], hold_s)
    return found


def warn_unlabelled(
    table: Path, over_time: Mapping[str, RatingsOverTime], labelled: Iterable[str], problems: list[Problem]
) -> None:
    """Add a warning to the problems if songs are rated over time but not as a whole, so that they have no label."""
    if lone := sorted(over_time.keys() - set(labelled)):
        message = f"songs rated over time but not as a whole, which are not used: {len(lone)} {counted(lone)}"
        problems.append(Problem("warning", f"{table}: {message}"))


def _series(moments: Sequence[tuple[float, float, float]], hold_s: float) -> RatingsOverTime:
    times, valence, arousal = zip(*sorted(moments), strict=True)
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
            cells[_time_s(sample[1])] = scale.normalise(scale.check(number(text)))
        except ValueError as error:
            problems.append(Problem("error", f"{where}: {column}: {error}; the moment is left out"))
    return cells


def _time_s(digits: str) -> float:
    if len(digits) > 9 or int(digits) / 1000 > LONGEST_S:
        raise ValueError(f"is later than {LONGEST_S:g} s")
    return int(digits) / 1000


def _there(table: Path, problems: list[Problem]) -> bool:
    if not table.is_file():
        problems.append(Problem("warning", f"{table}: is not there: no ratings over time"))
    return table.is_file()
