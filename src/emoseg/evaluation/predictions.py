"""Predictions of an evaluation as tables with one row per song or segment, for computing further figures.

Three files are written, CSV or Parquet by the suffix, each with the columns method, seed, fold and song (its id):

- ``FILE``: test songs, with their label, the estimated label and ``p_LABEL``, the probability of each label;
- ``FILE.segments``: test segments, with start_s, end_s, the song's label, the true label where the corpus knows it, and
  the probabilities;
- ``FILE.training``: labelled training segments, with start_s, end_s, the song's label, the label given (another one
  where noise was injected), the true label where it is known, and the clean probability, which is the probability that
  the given label is right.

The suffix stays at the end: with ``predictions.csv`` the second file is ``predictions.segments.csv``.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoseg.corpora.segments import CorpusSegments
from emoseg.errors import ConfigError
from emoseg.evaluation.jobs import TrialResult
from emoseg.evaluation.protocol import Protocol, make_fold
from emoseg.system.csv_cells import csv_cell
from emoseg.system.files import written_whole
from emoseg.types import UNLABELLED, Float64, Int64

FORMATS = (".csv", ".parquet")

Columns = dict[str, NDArray[Any]]
Trial = tuple[str, int, int]
"""Method, seed and fold."""


def require_predictions(file: Path) -> None:
    """Check before a long evaluation that its predictions can be written.

    Raises
    ------
    ConfigError
        The name ends in neither .csv nor .parquet, or its folder does not exist.
    """
    if file.suffix.lower() not in FORMATS:
        raise ConfigError(f"{file}: a file of predictions must end in {' or '.join(FORMATS)}")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"{file}: its folder does not exist")


def write_predictions(
    results: Mapping[Trial, TrialResult],
    segments: CorpusSegments,
    protocol: Protocol,
    labels: Sequence[str],
    file: Path,
) -> tuple[Path, Path, Path]:
    """Write the predictions of all trainings, and return the files.

    Parameters
    ----------
    results : mapping of (str, int, int) to TrialResult
        By method, seed and fold.
    segments : CorpusSegments
    protocol : Protocol
    labels : sequence of str, length K
    file : Path
        Files of earlier predictions are replaced, each in one step.

    Raises
    ------
    ConfigError
        As for `require_predictions`.
    EmosegError
        A file cannot be written.
    """
    require_predictions(file)
    names = np.array(labels, dtype=object)
    ids = np.array([song.id for song in segments.songs], dtype=object)

    def songs(trial: Trial, result: TrialResult) -> Columns:
        return {
            **_trial_columns(trial, ids[result.test]),
            "label": names[segments.song_labels[result.test]],
            "estimate": names[result.song.argmax(axis=1)],
            **_probabilities(labels, result.song),
        }

    def tested(trial: Trial, result: TrialResult) -> Columns:
        rows = result.test_rows
        true, known = (segments.inherited, None) if segments.true is None else (segments.true, segments.known)
        return {
            **_segment_columns(trial, ids, segments, rows),
            "true": _named(names, true[rows], np.zeros(len(rows), dtype=bool) if known is None else known[rows]),
            **_probabilities(labels, result.segments.astype(np.float32)),
        }

    def learnt(trial: Trial, result: TrialResult) -> Columns:
        fold = make_fold(segments, protocol, classes=len(labels), seed=trial[1], fold=trial[2])
        labelled = fold.given != UNLABELLED
        known = fold.known if segments.true is not None or protocol.noise.kind != "none" else np.zeros_like(fold.known)
        return {
            **_segment_columns(trial, ids, segments, fold.rows[labelled]),
            "given": names[fold.given[labelled]],
            "true": _named(names, fold.true[labelled], known[labelled]),
            "clean": result.clean.astype(np.float32),
        }

    files = file, _beside(file, "segments"), _beside(file, "training")
    for out, make in zip(files, (songs, tested, learnt), strict=True):
        _write(out, results, make)
    return files


def _beside(file: Path, what: str) -> Path:
    return file.with_name(f"{file.stem}.{what}{file.suffix}")


def _trial_columns(trial: Trial, song: NDArray[Any]) -> Columns:
    method, seed, fold = trial
    size = len(song)
    return {
        "method": np.full(size, method, dtype=object),
        "seed": np.full(size, seed),
        "fold": np.full(size, fold),
        "song": song,
    }


def _segment_columns(trial: Trial, ids: NDArray[Any], segments: CorpusSegments, rows: Int64) -> Columns:
    songs = segments.song[rows]
    labels = np.array([song.label for song in segments.songs], dtype=object)
    return {
        **_trial_columns(trial, ids[songs]),
        "start_s": segments.table.start_s[rows],
        "end_s": segments.table.end_s[rows],
        "label": labels[songs],
    }


def _named(names: NDArray[Any], labels: Int64, known: NDArray[np.bool_]) -> NDArray[Any]:
    """Return the names of labels; None where a label is not known."""
    named = names[labels]
    named[~known] = None
    return named


def _probabilities(labels: Sequence[str], table: Float64 | NDArray[np.float32]) -> Columns:
    return {f"p_{label}": table[:, k] for k, label in enumerate(labels)}


def _write(file: Path, results: Mapping[Trial, TrialResult], make: Callable[[Trial, TrialResult], Columns]) -> None:
    writing = _parquet if file.suffix.lower() == ".parquet" else _csv
    with written_whole(file, suffix=file.suffix) as temporary, writing(temporary) as write:
        for trial, result in results.items():
            write(make(trial, result))


@contextmanager
def _csv(file: Path) -> Iterator[Callable[[Columns], None]]:
    """Yield a function that appends columns to a CSV file, numbers with six significant digits."""
    with file.open("w", encoding="utf-8", errors="backslashreplace", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")

        def write(columns: Columns) -> None:
            if not out.tell():
                writer.writerow(csv_cell(name) for name in columns)
            writer.writerows(zip(*(map(_cell, column.tolist()) for column in columns.values()), strict=True))

        yield write


def _cell(value: str | float | None) -> str:
    if value is None:
        return ""
    return csv_cell(value) if isinstance(value, str) else f"{value:.6g}"


@contextmanager
def _parquet(file: Path) -> Iterator[Callable[[Columns], None]]:
    """Yield a function that appends columns to a Parquet file, one row group per call."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer: pq.ParquetWriter | None = None

    def write(columns: Columns) -> None:
        nonlocal writer
        arrays = {name: _arrow(column) for name, column in columns.items()}
        table = pa.table(arrays)
        if writer is None:
            writer = pq.ParquetWriter(file, table.schema, compression="zstd")
        writer.write_table(table)

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()


def _arrow(column: NDArray[Any]) -> Any:
    import pyarrow as pa

    if column.dtype != object:
        return pa.array(column)
    texts = [None if x is None else x.encode("utf-8", "backslashreplace").decode() for x in column]
    return pa.array(texts, pa.string()).dictionary_encode()
