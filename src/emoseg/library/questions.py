"""Questions to a library, answered by DuckDB: the calmest songs, those that change most, those like another, playlists.

A library is the folder that `emoseg batch` writes. Its tables are ``songs``, ``segments`` and ``failures``; nothing
is ever written to them from here.
"""

from __future__ import annotations

import importlib
import math
import os
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from emoseg.emotion import MOOD_PLACES
from emoseg.errors import ConfigError, EmosegError, EmosegWarning, MissingExtraError
from emoseg.library.contents import read_contents
from emoseg.library.playlist import HEADER, Song, expressible, m3u8, smooth_path
from emoseg.library.tables import SEGMENTS, SONGS, probability_columns, song_id
from emoseg.system.files import require_regular, written_whole
from emoseg.system.names import valid_text
from emoseg.types import Float64

_STRETCHES = 8  # of equal length, in which the courses of two songs are compared
_FIRM = 0.02  # share of the songs that stands for the most of a mood, one at least
_MOST_SONGS = 100_000  # in one answer
_FETCHED = 10_000  # rows at a time, between which an interrupt is noticed


@dataclass(frozen=True)
class Answer:
    """A table of results: column names and rows, in order."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def to_json(self) -> list[dict[str, Any]]:
        """Return one dict per row; numbers that are not finite become None."""
        return [{c: _plain(v) for c, v in zip(self.columns, row, strict=True)} for row in self.rows]


class Library:
    """A library, open for questions.

    Parameters
    ----------
    out : Path
        The folder that `emoseg.library` wrote.

    Raises
    ------
    EmosegError
        It is no library, or a file of it is missing or damaged.
    MissingExtraError
        DuckDB is not installed.
    """

    def __init__(self, out: Path) -> None:
        self.contents = read_contents(out)
        self.space = self.contents.space
        self._columns = dict(zip(self.space.labels, probability_columns(self.space), strict=True))
        self._duckdb = _duckdb()
        self._db = self._duckdb.connect(":memory:")
        for name in (SONGS, SEGMENTS):
            self._db.register(name, self.contents.table(name))
        failures = [(valid_text(f.path), f.error_type, f.message) for f in self.contents.failures]
        columns = zip(*failures, strict=True) if failures else ([], [], [])
        names = ("path", "type", "message")
        self._db.register(
            "failures", pa.table({n: pa.array(c, pa.string()) for n, c in zip(names, columns, strict=True)})
        )
        # A question of the user's own can neither read nor write a file or a variable, nor lift this rule.
        self._db.execute("SET temp_directory = ''")
        self._db.execute("SET python_enable_replacements = false")
        self._db.execute("SET enable_external_access = false")
        self._db.execute("SET lock_configuration = true")

    def sql(self, question: str) -> Answer:
        """Answer a question in SQL; it may read the tables and do nothing else.

        Raises
        ------
        ConfigError
            It is not one SELECT statement, or DuckDB refuses it.
        EmosegError
            A file of the library is missing or damaged.
        """
        try:
            question.encode()
            statements = self._db.extract_statements(question)
            select = [statement.type for statement in statements] == [self._duckdb.StatementType.SELECT]
            answer = self._run(question, []) if select else None
        except UnicodeEncodeError as error:
            raise ConfigError("--sql: is not valid text") from error
        except Exception as error:  # DuckDB also passes on whatever Python raises for a value that it cannot hold
            self.contents.require_parts()
            told = [*str(error).strip().splitlines(), type(error).__name__][0]
            raise ConfigError(f"--sql: {told}") from error
        if answer is None:
            raise ConfigError("--sql takes one SELECT statement; the tables can only be read")
        return answer

    def most(self, mood: str, *, count: int) -> Answer:
        """Return the songs with most of a mood.

        Parameters
        ----------
        mood : str
            A label of the library, a key of `MOOD_PLACES`, or ``V,A``: the songs nearest to that valence and arousal.
        count : int
            From 1 to 100,000.

        Raises
        ------
        ConfigError
            The mood or the number is none.
        """
        _require_number("count", count, least=1, most=_MOST_SONGS)
        fit = self._fit(mood)
        return self._ask(
            f"SELECT path, artist, title, label, {fit} AS fit, valence, arousal FROM songs WHERE {fit} IS NOT NULL "
            "ORDER BY fit DESC, path LIMIT ?",
            count,
        )

    def changing(self, *, count: int) -> Answer:
        """Return the songs whose emotion changes most.

        The measure is the standard deviation of a song's segments in label probabilities: the root of the sum of the
        labels' variances, from 0 (always the same) to 0.71 (half the song surely one label, half surely another).
        Songs of fewer than four segments of music are left out.

        Raises
        ------
        ConfigError
            `count` is not from 1 to 100,000.
        """
        _require_number("count", count, least=1, most=_MOST_SONGS)
        music = f"count({_quoted(next(iter(self._columns.values())))})"
        spread = " + ".join(f"var_pop({_quoted(column)})" for column in self._columns.values())
        return self._ask(
            "SELECT path, any_value(songs.artist) AS artist, any_value(songs.title) AS title, "
            f"round(sqrt({spread}), 6) AS change, arg_min(segments.label, segment) AS begins, "
            "arg_max(segments.label, segment) AS ends "
            "FROM segments JOIN (SELECT song_id, artist, title FROM songs) AS songs USING (song_id) "
            f"GROUP BY song_id, path HAVING {music} >= 4 ORDER BY change DESC, path LIMIT ?",
            count,
        )

    def like(self, song: str, *, count: int) -> Answer:
        """Return the songs whose emotion has the most similar course.

        Both songs are cut into eight equal stretches. The distance is the mean Hellinger distance between the label
        probabilities of stretches that correspond, from 0 (the same) to 1.

        Parameters
        ----------
        song : str
            A file, its path in the library, or a part of its path or title that no other song has.
        count : int
            From 1 to 100,000.

        Raises
        ------
        ConfigError
            No song, or more than one, is meant, or the number is out of range.
        """
        _require_number("count", count, least=1, most=_MOST_SONGS)
        key = self._find(song)
        parts = " + ".join(f"(sqrt(a.{c}) - sqrt(b.{c})) ** 2" for c in map(_quoted, self._columns.values()))
        return self._ask(
            f"WITH stretches AS (SELECT segments.song_id, stretch, segments.* EXCLUDE (song_id) FROM segments "
            f"JOIN songs USING (song_id) CROSS JOIN range({_STRETCHES}) AS stretches (stretch) "
            f"WHERE segment = CAST(floor((stretch + 0.5) * songs.segments / {_STRETCHES}) AS INTEGER)) "
            f"SELECT songs.path, artist, title, songs.label, mean AS distance FROM "
            f"(SELECT b.song_id, round(avg(sqrt(({parts}) / 2)), 6) AS mean FROM stretches AS a JOIN stretches AS b "
            f"USING (stretch) WHERE a.song_id = ? AND b.song_id != ? GROUP BY b.song_id) JOIN songs USING (song_id) "
            f"WHERE distance IS NOT NULL "
            f"ORDER BY distance, songs.path LIMIT ?",
            key,
            key,
            count,
        )

    def summary(self) -> Answer:
        """Return, for each label, the number of songs, their share and their hours."""
        return self._ask(
            "SELECT label, count(*) AS songs, count(*) / sum(count(*)) OVER () AS share, "
            "sum(duration_s) / 3600 AS hours FROM songs GROUP BY label ORDER BY songs DESC, label"
        )

    def playlist(
        self, moods: str, *, count: int = 20, minutes: float | None = None, apart: int = 2
    ) -> list[tuple[Song, Answer]]:
        """Return the songs of a playlist from one mood to another, each with its line of facts.

        Songs whose paths a playlist cannot hold are left out, with a warning.

        Parameters
        ----------
        moods : str
            ``FROM:TO``, each as in `most`. A word or label means what the library has most of it; ``V,A`` is taken
            as it is.
        count : int
            Songs, from 1 to 100,000, unless `minutes` is given.
        minutes : float, optional
            Length of the playlist, above 0; as many songs as are nearest to it.
        apart : int
            Songs between two of the same artist, where artists are known.

        Raises
        ------
        ConfigError
            A mood is unknown, a number is out of range, or the library has no songs.
        """
        _require_number("count", count, least=1, most=_MOST_SONGS)
        _require_number("apart", apart, least=0, most=_MOST_SONGS)
        if minutes is not None and not 0 < minutes < math.inf:
            raise ConfigError(f"minutes {minutes:g}: must be a finite number above 0")
        start, arrow, end = moods.partition(":")
        if not arrow:
            raise ConfigError(f"playlist {moods!r}: must be FROM:TO, such as sad:happy")
        axes = ["valence", "arousal"] if self._has_axes() else [_quoted(c) for c in self._columns.values()]
        found = self._ask(
            f"SELECT song_id, artist, title, duration_s, label, {', '.join(axes)} FROM songs "
            f"WHERE {axes[0]} IS NOT NULL ORDER BY path"
        )
        files = {row[0]: self.contents.file(row[0]) for row in found.rows}
        rows = [row for row in found.rows if expressible(self.contents.paths[row[0]])]
        if left_out := [row[0] for row in found.rows if not expressible(self.contents.paths[row[0]])]:
            example = valid_text(self.contents.paths[left_out[0]])
            warnings.warn(
                f"{len(left_out)} songs are left out, because a playlist cannot hold a path with a control character, "
                f"such as {example!r}",
                EmosegWarning,
                stacklevel=2,
            )
        if not rows:
            raise ConfigError(f"{self.contents.out}: holds no songs to make a playlist of")
        places = np.array([row[5:] for row in rows], dtype=np.float64)
        keys = [row[0] for row in rows]
        ends = [self._place(mood.strip(), keys, places) for mood in (start, end)]
        if minutes is not None:
            count = max(1, round(minutes * 60 / float(np.median([row[3] for row in rows]))))
        chosen = smooth_path(places, *ends, length=count, artists=[row[1] for row in rows], apart=apart)
        if minutes is not None:
            chosen = _of_length(chosen, [row[3] for row in rows], minutes * 60)
        return [
            (
                Song(files[row[0]], row[1], row[2], row[3]),
                Answer(("label", *found.columns[5:]), (row[4:],)),
            )
            for row in (rows[i] for i in chosen)
        ]

    def playlist_table(self, chosen: Sequence[tuple[Song, Answer]]) -> Answer:
        """Return a playlist as a table."""
        if not chosen:
            return Answer(("path",), ())
        rows = [
            (i, valid_text(str(song.path.relative_to(self.contents.root))), song.artist, song.title, *facts.rows[0])
            for i, (song, facts) in enumerate(chosen, 1)
        ]
        return Answer(("nr", "path", "artist", "title", *chosen[0][1].columns), tuple(rows))

    def unfinished(self) -> str | None:
        """Say what the tables lack, where a batch was interrupted; None where they are whole."""
        todo, waiting = self.contents.counts["todo"], self.contents.waiting
        if not todo and not waiting:
            return None
        return (
            f"{self.contents.out}: the batch is not finished: {todo} songs to do, {waiting} done and not yet in the "
            "tables; 'emoseg batch' goes on"
        )

    # --- how ---------------------------------------------------------------------------------------------------------

    def _ask(self, question: str, *values: Any) -> Answer:
        with self.contents.reading(self._duckdb.Error):
            return self._run(question, list(values))

    def _run(self, question: str, values: list[Any]) -> Answer:
        """Run a statement in a thread of its own: DuckDB does not see every interrupt, and this thread does."""
        answers: list[Answer] = []
        errors: list[Exception] = []
        stopped = threading.Event()

        def run() -> None:
            try:
                result = self._db.execute(question, values)
                columns = tuple(column[0] for column in result.description)
                rows: list[tuple[Any, ...]] = []
                while not stopped.is_set() and (more := result.fetchmany(_FETCHED)):
                    rows += more
                answers.append(Answer(columns, tuple(rows)))
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        try:
            thread.start()
            while thread.is_alive():
                thread.join(0.2)  # on Windows an interrupt is only seen between two waits
        except BaseException:
            stopped.set()
            while thread.is_alive():  # again and again, as one that comes before the statement is lost
                self._db.interrupt()
                thread.join(0.1)
            raise
        if errors:
            raise errors[0]
        return answers[0]

    def _has_axes(self) -> bool:
        return all(axis.valence is not None and axis.arousal is not None for axis in self.space.axes)

    def _fit(self, mood: str) -> str:
        """Return the SQL expression that is large for songs of a mood."""
        if mood in self._columns:
            return _quoted(self._columns[mood])
        named = MOOD_PLACES.get(mood.casefold())
        place = (named.valence or 0.0, named.arousal or 0.0) if named else _numbers(mood)
        if place is None and "," in mood and self._has_axes():
            raise ConfigError(f"mood {mood!r}: V,A must be two numbers from -1 to 1, such as 0.5,-0.2")
        if place is None or not self._has_axes():
            known = [*self.space.labels, *([*MOOD_PLACES, "V,A"] if self._has_axes() else ())]
            raise ConfigError(f"mood {mood!r} is unknown; choose from {', '.join(known)}")
        valence, arousal = place
        if named is None:
            return f"-sqrt((valence - {valence}) ** 2 + (arousal - {arousal}) ** 2)"
        for label, axis in zip(self.space.labels, self.space.axes, strict=True):
            if (axis.valence, axis.arousal) == place:
                return _quoted(self._columns[label])
        return f"(valence * {valence} + arousal * {arousal}) / {math.hypot(valence, arousal)}"

    def _place(self, mood: str, keys: list[str], places: Float64) -> Float64:
        """Return where a mood lies for this library: the middle of the songs that have most of it."""
        fit = self._fit(mood)
        numbers = _numbers(mood)
        if numbers is not None and mood not in self._columns:
            return np.array(numbers)
        best = self._ask(f"SELECT song_id FROM songs WHERE {fit} IS NOT NULL ORDER BY {fit} DESC, path").rows
        index = {key: i for i, key in enumerate(keys)}
        firm = [index[key] for (key,) in best if key in index][: max(1, round(_FIRM * len(keys)))]
        return np.asarray(places[firm].mean(axis=0))

    def _find(self, song: str) -> str:
        """Return the id of the one song that a user means."""
        for path in _absolute_paths(song):
            if path.is_relative_to(self.contents.root):
                key = song_id(path.relative_to(self.contents.root).as_posix())
                if self._ask("SELECT 1 FROM songs WHERE song_id = ?", key).rows:
                    return key
        song = valid_text(song)
        exact = self._ask("SELECT song_id, path FROM songs WHERE path = ?", song).rows
        found = (
            exact
            or self._ask(
                "SELECT song_id, path FROM songs WHERE contains(lower(path), lower(?)) "
                "OR contains(lower(title), lower(?)) ORDER BY path",
                song,
                song,
            ).rows
        )
        if len(found) == 1:
            return str(found[0][0])
        if not found:
            raise ConfigError(f"{song}: no song of the library has this path, or this in its path or title")
        raise ConfigError(f"{song}: {len(found)} songs are meant, such as {found[0][1]} and {found[1][1]}")


def write_playlist(file: Path, songs: Sequence[Song], *, root: Path) -> None:
    """Write an M3U8 playlist; an earlier playlist of that name is replaced.

    Raises
    ------
    EmosegError
        It cannot be written, or a file of that name is no playlist.
    """
    if os.path.lexists(file):
        require_regular(file)
        try:
            with file.open("rb") as opened:
                start = opened.read(3 + len(HEADER)).removeprefix(b"\xef\xbb\xbf")  # the mark of UTF-8
        except OSError as error:
            raise EmosegError(f"{file}: cannot be read: {error.strerror or error}") from error
        if not start.startswith(HEADER):
            raise EmosegError(f"{file}: exists already and is no playlist; choose another name")
    with written_whole(file) as temporary:
        temporary.write_bytes(m3u8(songs, folder=file.parent, root=root))


def _duckdb() -> Any:
    try:
        return importlib.import_module("duckdb")
    except ImportError as error:
        raise MissingExtraError("asking a library", "library") from error


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _require_number(name: str, value: int, *, least: int, most: int) -> None:
    if not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(f"{name} {value}: must be a whole number from {least} to {most}")


def _absolute_paths(text: str) -> list[Path]:
    """Return the path that a text may be, as it is written and without links; none where it can be no path."""
    try:
        absolute = Path(os.path.abspath(text))  # noqa: PTH100  (a link in a library is a song of its own)
        return [absolute, absolute.resolve()]
    except (OSError, RuntimeError, ValueError):  # too long, links in a circle, a null character
        return []


def _numbers(text: str) -> tuple[float, float] | None:
    """Read ``V,A``; None where it is no such thing or out of range."""
    try:
        valence, arousal = (float(part) for part in text.split(","))
    except ValueError:
        return None
    # Both are compared by themselves: the larger of a number and NaN may be the number.
    return (valence, arousal) if abs(valence) <= 1 and abs(arousal) <= 1 else None


def _of_length(chosen: list[int], durations: list[float], wanted_s: float) -> list[int]:
    """Leave out songs, evenly over the path and never its ends, until its length is nearest to the one wanted."""
    chosen = list(chosen)
    while len(chosen) > 2:
        excess = sum(durations[i] for i in chosen) - wanted_s
        inner = min(range(1, len(chosen) - 1), key=lambda k: (abs(durations[chosen[k]] - excess), k))
        if abs(excess - durations[chosen[inner]]) >= abs(excess):
            break
        del chosen[inner]
    return chosen


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if value is None or isinstance(value, bool | int | str) else str(value)
