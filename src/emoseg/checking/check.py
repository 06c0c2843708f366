"""The check of a corpus: what it contains, and everything that is wrong with it."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from emoseg.checking.fingerprint import Words, near_duplicates
from emoseg.checking.readings import Reading, read_all
from emoseg.corpora.base import Corpus, Song
from emoseg.corpora.problems import Problem, counted
from emoseg.errors import EmosegError
from emoseg.frontends.store import default_cache
from emoseg.system.progress import progress

SHOWN = 100
"""Number of problems of one severity that the printed report names; `CorpusReport.to_json` has all of them."""

_SHORTER_S, _SHORTER = 1.0, 0.1  # a recording may be shorter than published by the larger of these
_SHIFT_S = 0.05  # least difference between beginnings that is reported


@dataclass(frozen=True)
class CorpusReport:
    """The result of a check.

    Parameters
    ----------
    corpus : Corpus
    problems : tuple of Problem
        Problems found while loading, then those of single recordings, then duplicates.
    duration_s : float
        Total duration of all readable recordings, in seconds.
    artists : int or None
        Number of different artists; None if none is known.
    shared : int
        Number of songs whose artist has another song in the corpus.
    unreadable : tuple of str
        Ids of songs whose recording cannot be used.
    duplicates : tuple of tuple of str
        Pairs of ids of songs that are the same recording.
    """

    corpus: Corpus
    problems: tuple[Problem, ...]
    duration_s: float
    artists: int | None
    shared: int
    unreadable: tuple[str, ...] = ()
    duplicates: tuple[tuple[str, str], ...] = ()

    @property
    def errors(self) -> int:
        """Number of errors among the problems."""
        return sum(p.severity == "error" for p in self.problems)

    def lines(self) -> list[str]:
        """Return the lines of the printed report."""
        corpus = self.corpus
        artists = f"{self.artists}, {self.shared} songs share theirs with another" if self.artists else "unknown"
        lines = [
            f"{corpus.name}:{corpus.root}",
            f"  songs     {len(corpus.songs)} ({self._counts()}), {self.duration_s / 60:.1f} minutes",
            f"  space     {corpus.space.name}: {corpus.space.rule or ', '.join(corpus.space.labels)}",
            f"  artists   {artists}",
            *self._about_labels(),
            *(f"  left out  {len(ids)}: {reason} {counted(ids)}" for reason, ids in corpus.excluded.items()),
            f"  terms     {corpus.licence}",
            *([f"  cite      {corpus.citation}"] if corpus.citation else []),
            *self._problem_lines(),
        ]
        return [*lines, f"  {_counted(self.errors, 'error')}, {_counted(len(self.problems) - self.errors, 'warning')}"]

    def _counts(self) -> str:
        published = self.corpus.published_counts
        return ", ".join(
            f"{label} {n}" + (f" of {published[label]}" if label in published else "")
            for label, n in self.corpus.counts().items()
        )

    def _about_labels(self) -> list[str]:
        songs = self.corpus.songs
        lines = []
        if parts := Counter(song.split for song in songs if song.split):
            lines.append(f"  parts     {', '.join(f'{name} {n}' for name, n in sorted(parts.items()))}")
        if certain := [max(song.soft) for song in songs if song.soft]:
            lines.append(f"  soft      {len(certain)} songs; mean share of the given label {np.mean(certain):.2f}")
        if timed := sum(bool(song.over_time or song.sections) for song in songs):
            lines.append(f"  truth     {timed} songs with emotion over time (see: emoseg corpus noise)")
        return lines

    def _problem_lines(self) -> list[str]:
        lines = []
        for severity in ("error", "warning"):
            messages = [p.message for p in self.problems if p.severity == severity]
            lines += [f"  {severity:<8}  {message}" for message in messages[:SHOWN]]
            if len(messages) > SHOWN:
                lines.append(f"  {severity:<8}  ... and {len(messages) - SHOWN} more; --json has them all")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return the report with all problems, for JSON."""
        corpus = self.corpus
        return {
            "schema": "emoseg.corpus-check/1",
            "corpus": corpus.name,
            "path": str(corpus.root),
            "space": corpus.space.to_json(),
            "songs": len(corpus.songs),
            "counts": corpus.counts(),
            "published_counts": corpus.published_counts,
            "published_songs": corpus.published_songs,
            "parts": dict(Counter(song.split for song in corpus.songs if song.split)),
            "duration_s": round(self.duration_s, 3),
            "artists": self.artists,
            "songs_sharing_an_artist": self.shared,
            "excluded": {reason: list(ids) for reason, ids in corpus.excluded.items()},
            "unannotated": [str(path) for path in corpus.unannotated],
            "unreadable": list(self.unreadable),
            "duplicates": [list(pair) for pair in self.duplicates],
            "licence": corpus.licence,
            "citation": corpus.citation,
            "errors": self.errors,
            "problems": [{"severity": p.severity, "message": p.message} for p in self.problems],
        }


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def check_corpus(
    corpus: Corpus, *, cache: Path | None = None, workers: int | None = None, quiet: bool = False
) -> CorpusReport:
    """Return a report on a corpus, for which every recording is decoded unless an earlier check did so.

    Parameters
    ----------
    corpus : Corpus
    cache : Path, optional
        Folder that keeps the readings of recordings; default that of the feature store.
    workers : int, optional
        Number of processes; default the number of cores.
    quiet : bool
        Show no progress bar.

    Raises
    ------
    EmosegError
        The readings cannot be kept, as on a full disk; or a process ended suddenly.

    Warns
    -----
    EmosegWarning
        The kept readings are damaged, and recordings are read again.
    """
    songs = corpus.songs
    findings = _Findings([""] * len(songs), {}, [], 0.0)
    folder = cache or default_cache()
    with _temporary(folder) as file:
        prints = _Prints(file, len(songs), folder)
        paths = [song.path for song in songs]
        with (
            progress("reading", len(songs), unit="recordings", quiet=quiet) as bar,
            closing(read_all(paths, cache=folder, workers=workers or os.cpu_count() or 1)) as readings,
        ):
            for i, reading in readings:
                findings.add(i, songs[i], reading)
                prints.add(i, reading.words)
                bar.advance()
        pairs = _duplicates(findings.content, prints)
    artists = Counter(song.artist for song in songs if song.artist)
    return CorpusReport(
        corpus,
        (
            *corpus.problems,
            *(problem for _, problem in sorted(findings.problems.items())),
            *(_duplicate(songs[a], songs[b], how) for (a, b), how in sorted(pairs.items())),
        ),
        findings.duration_s,
        len(artists) or None,
        sum(n for n in artists.values() if n > 1),
        tuple(songs[i].id for i in sorted(findings.unreadable)),
        tuple((songs[a].id, songs[b].id) for a, b in sorted(pairs)),
    )


def _temporary(folder: Path) -> IO[bytes]:
    """Return a temporary file in a folder, which is made if needed; unbuffered, so that errors come at once."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=folder, buffering=0)
    except OSError as error:
        raise EmosegError(f"{folder}: cannot be written: {error.strerror or error}") from error


@dataclass
class _Findings:
    """Results of the readings by song, in any order."""

    content: list[str]
    problems: dict[int, Problem]
    unreadable: list[int]
    duration_s: float

    def add(self, i: int, song: Song, reading: Reading) -> None:
        self.content[i] = reading.content
        self.duration_s += reading.duration_s
        published = song.published_s
        if reading.message:
            self.unreadable.append(i)
            self.problems[i] = Problem("error", reading.message)
        elif published and reading.duration_s < published - max(_SHORTER_S, _SHORTER * published):
            lasts = f"lasts {reading.duration_s:.1f} s of the published {published:.1f} s"
            self.problems[i] = Problem("warning", f"{song.path}: {lasts}: is it cut off?")


def _duplicates(content: Sequence[str], prints: _Prints) -> dict[tuple[int, int], str]:
    """Return the pairs of songs that are one recording, with the evidence; copies of a file are compared only once."""
    first_with: dict[str, int] = {}
    pairs: dict[tuple[int, int], str] = {}
    for i, name in enumerate(content):
        if name and (first := first_with.setdefault(name, i)) != i:
            pairs[first, i] = "the same file"
            prints.leave_out(i)
    for found in near_duplicates(prints.finish()):
        shift = ""
        if abs(found.offset_s) >= _SHIFT_S:
            shift = f" and it begins {abs(found.offset_s):.1f} s {'later' if found.offset_s < 0 else 'earlier'}"
        pairs[found.first, found.second] = f"the same recording ({found.error:.0%} of its fingerprint differs{shift})"
    return pairs


def _duplicate(first: Song, second: Song, how: str) -> Problem:
    """Return the problem of a pair: an error if a split can separate it, or if its labels differ."""
    labels = f"; labels {first.label} and {second.label}" if first.label != second.label else ""
    leak = "" if first.group == second.group else "; a split can have it on both sides"
    return Problem("error" if labels or leak else "warning", f"{second.path}: is {how} as {first.path}{labels}{leak}")


class _Prints(Sequence[Words]):
    """Fingerprints by song, in a file; empty for songs that have none."""

    def __init__(self, file: IO[bytes], songs: int, folder: Path) -> None:
        self._folder = folder
        self._file, self._start, self._length = file, np.zeros(songs, np.int64), np.zeros(songs, np.int64)
        self._total = 0
        self._words: Words = np.empty(0, dtype=np.uint32)

    def add(self, song: int, words: Words) -> None:
        self._start[song], self._length[song] = self._total, len(words)
        self._total += len(words)
        data = memoryview(words.astype(np.uint32).tobytes())
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise EmosegError(f"{self._folder}: cannot be written: {error.strerror or error}") from error

    def leave_out(self, song: int) -> None:
        self._length[song] = 0

    def finish(self) -> _Prints:
        if self._total:
            self._words = np.memmap(self._file, dtype=np.uint32, mode="r", shape=(self._total,))
        return self

    def __len__(self) -> int:
        return len(self._start)

    def __getitem__(self, song: Any) -> Any:
        return np.asarray(self._words[self._start[song] : self._start[song] + self._length[song]])
