"""Questions to a library: the calmest songs, those that change most, those like another, and playlists.

A library is the folder that `emoseg batch` writes. Nothing is ever written to it from here.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emoseg.emotion import MOOD_PLACES
from emoseg.errors import ConfigError, EmosegWarning
from emoseg.library.contents import read_contents
from emoseg.library.playlist import PlaylistSong, expressible, of_length, smooth_path
from emoseg.library.query import Database, QueryResult, quoted
from emoseg.library.tables import probability_columns, song_id
from emoseg.system.names import valid_text
from emoseg.types import Float64

_STRETCHES = 8  # number of equal stretches in which two songs are compared
_TYPICAL = 0.02  # share of the songs, at least one, whose mean is the place of a mood in this library
_MOST_SONGS = 100_000  # in one answer


@dataclass(frozen=True)
class PlaylistEntry:
    """A song of a playlist with its label and its place: valence and arousal, or else the label probabilities."""

    song: PlaylistSong
    label: str
    place: dict[str, float]


class Library:
    """A library, open for questions.

    Parameters
    ----------
    out : Path
        The folder that `emoseg batch` wrote.

    Raises
    ------
    EmosegError
        The folder is not a library, or a file of it is missing or damaged.
    MissingExtraError
        DuckDB is not installed.
    """

    def __init__(self, out: Path) -> None:
        self.contents = read_contents(out)
        self.space = self.contents.space
        self._columns = dict(zip(self.space.labels, probability_columns(self.space), strict=True))
        self._has_axes = all(axis.valence is not None and axis.arousal is not None for axis in self.space.axes)
        self._db = Database(self.contents)

    def sql(self, statement: str) -> QueryResult:
        """Return the result of a SELECT statement on the tables ``songs``, ``segments`` and ``failures``.

        Raises
        ------
        ConfigError
            It is not one SELECT statement, or DuckDB refuses it.
        EmosegError
            A file of the library is missing or damaged.
        """
        return self._db.select(statement)

    def most(self, mood: str, *, count: int) -> QueryResult:
        """Return the songs with most of a mood.

        Parameters
        ----------
        mood : str
            A label of the library, a key of `MOOD_PLACES`, or ``V,A``: the songs nearest to that valence and arousal.
        count : int
            Number of songs, from 1 to 100,000.

        Raises
        ------
        ConfigError
            The mood is unknown, or `count` is out of range.
        """
        _require_number("count", count, least=1, most=_MOST_SONGS)
        fit = self._fit(mood)
        return self._db.query(
            f"SELECT path, artist, title, label, {fit} AS fit, valence, arousal FROM songs WHERE {fit} IS NOT NULL "
            "ORDER BY fit DESC, path LIMIT ?",
            count,
        )

    def changing(self, *, count: int) -> QueryResult:
        """Return the songs whose emotion changes most.

        The measure is the standard deviation of a song's segments in label probabilities: the root of the sum of the
        labels' variances, from 0 (always the same) to 0.71 (certainly one label in half the song and another in the
        other half). Songs with fewer than four segments of music are left out.

        Raises
        ------
        ConfigError
            `count` is not from 1 to 100,000.
        """
        _require_number("count", count, least=1, most=_MOST_SONGS)
        music = f"count({quoted(next(iter(self._columns.values())))})"
        spread = " + ".join(f"var_pop({quoted(column)})" for column in self._columns.values())
        return self._db.query(
            "SELECT path, any_value(songs.artist) AS artist, any_value(songs.title) AS title, "
            f"round(sqrt({spread}), 6) AS change, arg_min(segments.label, segment) AS begins, "
            "arg_max(segments.label, segment) AS ends "
            "FROM segments JOIN (SELECT song_id, artist, title FROM songs) AS songs USING (song_id) "
            f"GROUP BY song_id, path HAVING {music} >= 4 ORDER BY change DESC, path LIMIT ?",
            count,
        )

    def like(self, song: str, *, count: int) -> QueryResult:
        """Return the songs whose emotion over time is most similar to that of a song.

        Both songs are cut into eight equal stretches. The distance is the mean Hellinger distance between the label
        probabilities of corresponding stretches, from 0 (the same) to 1.

        Parameters
        ----------
        song : str
            A file, its path in the library, or a part of its path or title that no other song has.
        count : int
            Number of songs, from 1 to 100,000.

        Raises
        ------
        ConfigError
            No song or more than one song fits `song`, or `count` is out of range.
        """
        _require_number("count", count, least=1, most=_MOST_SONGS)
        key = self._find(song)
        parts = " + ".join(f"(sqrt(a.{c}) - sqrt(b.{c})) ** 2" for c in map(quoted, self._columns.values()))
        return self._db.query(
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

    def summary(self) -> QueryResult:
        """Return the number of songs, their share and their hours for each label."""
        return self._db.query(
            "SELECT label, count(*) AS songs, count(*) / sum(count(*)) OVER () AS share, "
            "sum(duration_s) / 3600 AS hours FROM songs GROUP BY label ORDER BY songs DESC, label"
        )

    def playlist(
        self, moods: str, *, count: int = 20, minutes: float | None = None, apart: int = 2
    ) -> list[PlaylistEntry]:
        """Return the songs of a playlist from one mood to another.

        Songs whose paths a playlist cannot hold are left out with a warning.

        Parameters
        ----------
        moods : str
            ``FROM:TO``, each as in `most`. The place of a word or label is that of the songs which have most of it in
            this library; ``V,A`` is a place itself.
        count : int
            Number of songs, from 1 to 100,000, unless `minutes` is given.
        minutes : float, optional
            Length of the playlist, above 0; the number of songs comes as near to it as possible.
        apart : int
            Least number of songs between two of the same artist, where artists are known.

        Raises
        ------
        ConfigError
            A mood is unknown, a number is out of range, or the library has no songs.
        """
        _require_number("count", count, least=1, most=_MOST_SONGS)
        _require_number("apart", apart, least=0, most=_MOST_SONGS)
        if minutes is not None and not 0 < minutes < math.inf:
            raise ConfigError(f"minutes {minutes:g}: must be a finite number above 0")
        start, colon, end = moods.partition(":")
        if not colon:
            raise ConfigError(f"playlist {moods!r}: must be FROM:TO, such as sad:happy")
        keys, entries = self._entries()
        places = np.array([list(entry.place.values()) for entry in entries], dtype=np.float64)
        ends = [self._place(mood.strip(), keys, places) for mood in (start, end)]
        durations = [entry.song.duration_s for entry in entries]
        if minutes is not None:
            count = max(1, round(minutes * 60 / float(np.median(durations))))
        artists = [entry.song.artist for entry in entries]
        chosen = smooth_path(places, *ends, length=count, artists=artists, apart=apart)
        if minutes is not None:
            chosen = of_length(chosen, durations, minutes * 60)
        return [entries[i] for i in chosen]

    def playlist_table(self, entries: Sequence[PlaylistEntry]) -> QueryResult:
        """Return a playlist as a table."""
        if not entries:
            return QueryResult(("path",), ())
        rows = []
        for number, entry in enumerate(entries, 1):
            path = valid_text(str(entry.song.path.relative_to(self.contents.root)))
            rows.append((number, path, entry.song.artist, entry.song.title, entry.label, *entry.place.values()))
        return QueryResult(("nr", "path", "artist", "title", "label", *entries[0].place), tuple(rows))

    def unfinished(self) -> str | None:
        """Return a line on what the tables lack because a batch was interrupted; None if they are complete."""
        todo, waiting = self.contents.counts["todo"], self.contents.waiting
        if not todo and not waiting:
            return None
        return (
            f"{self.contents.out}: the batch is not finished: {todo} songs to do, {waiting} done and not yet in the "
            "tables; 'emoseg batch' continues it"
        )

    def _entries(self) -> tuple[list[str], list[PlaylistEntry]]:
        """Return the ids of all songs that a playlist can hold, and their entries."""
        axes = ["valence", "arousal"] if self._has_axes else [quoted(c) for c in self._columns.values()]
        found = self._db.query(
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
                stacklevel=3,
            )
        if not rows:
            raise ConfigError(f"{self.contents.out}: holds no songs for a playlist")
        entries = [
            PlaylistEntry(
                PlaylistSong(files[key], artist, title, duration_s),
                label,
                dict(zip(found.columns[5:], place, strict=True)),
            )
            for key, artist, title, duration_s, label, *place in rows
        ]
        return [row[0] for row in rows], entries

    def _fit(self, mood: str) -> str:
        """Return the SQL expression that is larger for a song with more of a mood."""
        if mood in self._columns:
            return quoted(self._columns[mood])
        named = MOOD_PLACES.get(mood.casefold())
        place = (named.valence or 0.0, named.arousal or 0.0) if named else _numbers(mood)
        if place is None and "," in mood and self._has_axes:
            raise ConfigError(f"mood {mood!r}: V,A must be two numbers from -1 to 1, such as 0.5,-0.2")
        if place is None or not self._has_axes:
            known = [*self.space.labels, *([*MOOD_PLACES, "V,A"] if self._has_axes else ())]
            raise ConfigError(f"mood {mood!r} is unknown; choose from {', '.join(known)}")
        valence, arousal = place
        if named is None:
            return f"-sqrt((valence - {valence}) ** 2 + (arousal - {arousal}) ** 2)"
        for label, axis in zip(self.space.labels, self.space.axes, strict=True):
            if (axis.valence, axis.arousal) == place:
                return quoted(self._columns[label])
        return f"(valence * {valence} + arousal * {arousal}) / {math.hypot(valence, arousal)}"

    def _place(self, mood: str, keys: list[str], places: Float64) -> Float64:
        """Return the place of a mood in this library: the mean place of the songs that have most of it."""
        fit = self._fit(mood)
        numbers = _numbers(mood)
        if numbers is not None and mood not in self._columns:
            return np.array(numbers)
        best = self._db.query(f"SELECT song_id FROM songs WHERE {fit} IS NOT NULL ORDER BY {fit} DESC, path").rows
        index = {key: i for i, key in enumerate(keys)}
        typical = [index[key] for (key,) in best if key in index][: max(1, round(_TYPICAL * len(keys)))]
        return np.asarray(places[typical].mean(axis=0))

    def _find(self, song: str) -> str:
        """Return the id of the one song that a user means."""
        for path in _absolute_paths(song):
            if path.is_relative_to(self.contents.root):
                key = song_id(path.relative_to(self.contents.root).as_posix())
                if self._db.query("SELECT 1 FROM songs WHERE song_id = ?", key).rows:
                    return key
        text = valid_text(song)
        exact = self._db.query("SELECT song_id, path FROM songs WHERE path = ?", text).rows
        found: Sequence[tuple[Any, ...]] = (
            exact
            or self._db.query(
                "SELECT song_id, path FROM songs WHERE contains(lower(path), lower(?)) "
                "OR contains(lower(title), lower(?)) ORDER BY path",
                text,
                text,
            ).rows
        )
        if len(found) == 1:
            return str(found[0][0])
        if not found:
            raise ConfigError(f"{text}: no song of the library has this path, or this in its path or title")
        raise ConfigError(f"{text}: fits {len(found)} songs, such as {found[0][1]} and {found[1][1]}; give more of it")


def _require_number(name: str, value: int, *, least: int, most: int) -> None:
    if not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(f"{name} {value}: must be a whole number from {least} to {most}")


def _absolute_paths(text: str) -> list[Path]:
    """Return the path that a text may be, as it is written and without links; none if it cannot be a path."""
    try:
        absolute = Path(os.path.abspath(text))  # noqa: PTH100  (a link in a library is a song of its own)
        return [absolute, absolute.resolve()]
    except (OSError, RuntimeError, ValueError):  # too long, links in a circle, a null character
        return []


def _numbers(text: str) -> tuple[float, float] | None:
    """Return the two numbers of ``V,A``; None if the text has another form or a number is out of range."""
    try:
        valence, arousal = (float(part) for part in text.split(","))
    except ValueError:
        return None
    # Two comparisons, because NaN fails them both and max() of a number and NaN may be the number.
    return (valence, arousal) if abs(valence) <= 1 and abs(arousal) <= 1 else None
