"""A corpus of synthesised songs whose emotion is known at every moment.

Each song carries the label of its dominant emotion, as a person's song-level label would, so the segments of its other
sections inherit a wrong label, and ``truth.csv`` says which. `emoseg.synthesis.plan` decides the sections and cues of
a song, `emoseg.synthesis.score` its notes, and `emoseg.synthesis.sound` makes its sound.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from emoseg.emotion import QUADRANTS
from emoseg.errors import ConfigError, CorpusError
from emoseg.synthesis.plan import MIN_DURATION_S, draw_artist
from emoseg.synthesis.sound import SAMPLE_RATE_HZ, compose
from emoseg.system.files import work_folder
from emoseg.system.parallel import Start, run_parallel
from emoseg.system.progress import progress
from emoseg.system.unfinished import unfinished, unfinished_folder
from emoseg.types import Section

SONGS_PER_ARTIST = 4

_MOST_SONGS = 100_000
_LONGEST_S = 3600.0


class _SongTask(NamedTuple):
    """One song of a corpus: everything that a worker process needs to write it."""

    folder: Path
    name: str
    seed: int
    number: int
    label: str
    artist: int
    duration_s: float


def write_corpus(
    out: Path,
    *,
    songs: int = 120,
    seed: int = 0,
    duration_s: float = 30.0,
    workers: int | None = None,
    quiet: bool = False,
) -> None:
    """Write a corpus of synthesised songs.

    `out` will contain ``audio/synth_0001.flac`` and so on (mono, 16 bit, 22050 Hz), ``songs.csv`` with the columns
    path, label, artist, and ``truth.csv`` with the columns path, start_s, end_s, label, whose rows cover each song
    without gaps. All quadrants have equally many songs, up to one. An artist has about four songs, most of them in one
    quadrant, so figures are optimistic if artists are on both sides of a split. The folder gets its name when it is
    complete.

    Parameters
    ----------
    out : Path
        Folder to make; it may exist if it is empty.
    songs : int
        Number of songs, from 1 to 100,000.
    seed : int
        0 or more. The same seed gives the same files, whatever the number of workers.
    duration_s : float
        Duration of every song in seconds, from 8 to 3600.
    workers : int, optional
        Number of processes; default the number of cores.
    quiet : bool
        Show no progress bar.

    Raises
    ------
    CorpusError
        `out` exists and is not an empty folder, or cannot be written.
    ConfigError
        A number is out of range.
    EmosegError
        Another process writes the same corpus, or a process ended suddenly.
    """
    _check_settings(songs=songs, seed=seed, duration_s=duration_s, workers=workers)
    with _new_folder(out) as folder:
        (folder / "audio").mkdir()
        jobs = [
            _SongTask(folder, f"audio/synth_{i + 1:04d}.flac", seed, i, label, artist, duration_s)
            for i, (label, artist) in enumerate(_roster(songs, seed))
        ]
        with progress("composing", songs, unit="songs", quiet=quiet) as bar:
            truths = _perform(jobs, workers or os.cpu_count() or 1, unfinished_folder(out.absolute()), bar.advance)
        _write_table(
            folder / "songs.csv", ("path", "label", "artist"), ((j.name, j.label, _artist_name(j)) for j in jobs)
        )
        rows = (
            (job.name, f"{s.start_s:.6f}", f"{s.end_s:.6f}", s.label)
            for job, truth in zip(jobs, truths, strict=True)
            for s in truth
        )
        _write_table(folder / "truth.csv", ("path", "start_s", "end_s", "label"), rows)


def _check_settings(*, songs: int, seed: int, duration_s: float, workers: int | None) -> None:
    if not 1 <= songs <= _MOST_SONGS:
        raise ConfigError(f"songs {songs}: a corpus has from 1 to {_MOST_SONGS} songs")
    if seed < 0:
        raise ConfigError(f"seed {seed}: a seed is 0 or more")
    if not MIN_DURATION_S <= duration_s <= _LONGEST_S:
        lasts = f"a synthesised song lasts from {MIN_DURATION_S} to {_LONGEST_S:g} seconds"
        raise ConfigError(f"duration_s {duration_s}: {lasts}")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers {workers}: at least 1 process is needed")


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `out` if the block succeeds, and is removed if it fails."""
    if not out.is_dir() and os.path.lexists(out):
        raise CorpusError(f"{out}: is a file, and a corpus is written to a new or empty folder")
    out = out.absolute()
    if not out.name:
        raise CorpusError(f"{out}: is not empty, and a corpus is written only to a new or empty folder")
    work = unfinished_folder(out)
    with unfinished(work):
        try:
            if out.is_dir() and any(out.iterdir()):
                raise CorpusError(f"{out}: is not empty, and a corpus is written only to a new or empty folder")
            with work_folder(work) as folder:
                yield folder
                if out.is_dir():
                    out.rmdir()
                folder.rename(out)
        except OSError as error:
            raise CorpusError(f"{out}: cannot be written: {error.strerror or error}") from error
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _roster(songs: int, seed: int) -> list[tuple[str, int]]:
    """Return the label and the artist number of every song, labels as even as possible, in random order."""
    labels = QUADRANTS.labels
    left = {label: len(range(i, songs, len(labels))) for i, label in enumerate(labels)}
    rng = np.random.default_rng([seed, 0])
    rows: list[tuple[str, int]] = []
    for i in range(songs):
        artist, turn = divmod(i, SONGS_PER_ARTIST)
        home = labels[artist % len(labels)]
        most = max(left.values())
        open_labels = [label for label in labels if left[label] == most]
        label = home if turn < 3 and left[home] else open_labels[int(rng.integers(len(open_labels)))]
        left[label] -= 1
        rows.append((label, artist))
    return [rows[i] for i in rng.permutation(songs)]


def _perform(
    jobs: list[_SongTask], workers: int, work: Path, on_song: Callable[[], object]
) -> list[tuple[Section, ...]]:
    """Write the songs, in this process or in several, and return their true sections in order.

    The processes remove the folder `work` when their parent ends, because a later call cannot continue from it.
    """
    truths: dict[int, tuple[Section, ...]] = {}
    songs = run_parallel(jobs, Start(_composing, folder=work), workers=min(workers, len(jobs)))
    with closing(songs):
        for i, truth in songs:
            truths[i] = truth
            on_song()
    return [truths[i] for i in range(len(jobs))]


def _composing() -> Callable[[_SongTask], tuple[Section, ...]]:
    """Return the function that writes a song in a worker process."""
    return _write_song


def _write_song(job: _SongTask) -> tuple[Section, ...]:
    artist = draw_artist(np.random.default_rng([job.seed, 1, job.artist]))
    rng = np.random.default_rng([job.seed, 2, job.number])
    samples, truth = compose(rng, label=job.label, duration_s=job.duration_s, artist=artist)
    pcm = np.round(samples * 32767).astype(np.int16)
    file = io.BytesIO()  # the errors of libsndfile do not say that a disk is full
    soundfile.write(file, pcm, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    (job.folder / job.name).write_bytes(file.getvalue())
    return truth


def _artist_name(job: _SongTask) -> str:
    return f"artist_{job.artist + 1:03d}"


def _write_table(path: Path, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
