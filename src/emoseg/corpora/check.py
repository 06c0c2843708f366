"""`emoseg corpus check`: what a corpus holds, and everything about it that is not as it should be."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoseg.audio import SegmentReader
from emoseg.config import SegmentConfig
from emoseg.corpora.base import Corpus, Problem
from emoseg.errors import AudioError
from emoseg.progress import progress


@dataclass(frozen=True)
class CorpusReport:
    """What `check_corpus` found.

    Parameters
    ----------
    corpus : Corpus
    problems : tuple of Problem
        Those found while loading, then those of single recordings.
    duration_s : float
        Of all readable recordings together.
    artists : int or None
        Distinct artists; None where none is known.
    shared : int
        Songs whose artist has another song in the corpus.
    """

    corpus: Corpus
    problems: tuple[Problem, ...]
    duration_s: float
    artists: int | None
    shared: int

    @property
    def errors(self) -> int:
        """Number of problems that must be mended."""
        return sum(p.severity == "error" for p in self.problems)

    def lines(self) -> list[str]:
        """Return the report for people."""
        corpus, published = self.corpus, self.corpus.published_counts
        counts = ", ".join(
            f"{label} {n}" + (f" of {published[label]}" if label in published else "")
            for label, n in corpus.counts().items()
        )
        artists = f"{self.artists}, {self.shared} songs share theirs with another" if self.artists else "unknown"
        lines = [
            f"{corpus.name}:{corpus.root}",
            f"  songs     {len(corpus.songs)} ({counts}), {self.duration_s / 60:.1f} minutes",
            f"  space     {corpus.space.name}: {corpus.space.rule or ', '.join(corpus.space.labels)}",
            f"  artists   {artists}",
            f"  terms     {corpus.licence}",
            *([f"  cite      {corpus.citation}"] if corpus.citation else []),
            *(f"  {p.severity:<8}  {p.message}" for p in self.problems),
        ]
        return [*lines, f"  {_counted(self.errors, 'error')}, {_counted(len(self.problems) - self.errors, 'warning')}"]

    def to_json(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            "schema": "emoseg.corpus-check/1",
            "corpus": self.corpus.name,
            "path": str(self.corpus.root),
            "space": self.corpus.space.to_json(),
            "songs": len(self.corpus.songs),
            "counts": self.corpus.counts(),
            "published_counts": self.corpus.published_counts,
            "duration_s": round(self.duration_s, 3),
            "artists": self.artists,
            "songs_sharing_an_artist": self.shared,
            "licence": self.corpus.licence,
            "citation": self.corpus.citation,
            "errors": self.errors,
            "problems": [{"severity": p.severity, "message": p.message} for p in self.problems],
        }


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def check_corpus(corpus: Corpus, *, workers: int | None = None, quiet: bool = False) -> CorpusReport:
    """Decode every recording of a corpus and report what is wrong with it.

    Parameters
    ----------
    corpus : Corpus
    workers : int, optional
        Processes; default the number of cores.
    quiet : bool
        No progress bar.
    """
    problems, total = list(corpus.problems), 0.0
    paths = [song.path for song in corpus.songs]
    with progress("reading", len(paths), unit="recordings", quiet=quiet) as bar:
        for duration_s, message in _read_all(paths, workers or os.cpu_count() or 1):
            total += duration_s
            if message:
                problems.append(Problem("error", message))
            bar.advance()
    artists = Counter(song.artist for song in corpus.songs if song.artist)
    shared = sum(n for n in artists.values() if n > 1)
    return CorpusReport(corpus, tuple(problems), total, len(artists) or None, shared)


def _read_all(paths: Sequence[Path], workers: int) -> Any:
    if len(paths) < 20 or workers == 1:
        yield from map(_read, paths)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_read, paths, chunksize=4)


def _read(path: Path) -> tuple[float, str]:
    reader = SegmentReader(path, segment=SegmentConfig())
    try:
        for _ in reader:
            pass
    except AudioError as error:
        return 0.0, str(error)
    return reader.duration_s, ""
