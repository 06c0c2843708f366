"""The audit of a corpus (`emoseg audit`): every label judged by models that did not learn from its song."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emoseg.auditing.files import SCHEMA, check_folder, read_decisions, write_folder
from emoseg.auditing.findings import SegmentFinding, SongFinding, conflicting_labels, rank_findings
from emoseg.auditing.judgement import Judgement, LabelledSongs, joined, judge_labels
from emoseg.auditing.probability import planted_runs
from emoseg.auditing.rate import RateEstimate
from emoseg.auditing.suspicion import MOST_SONGS
from emoseg.checking.check import check_corpus
from emoseg.config import TrainConfig
from emoseg.corpora.base import Corpus
from emoseg.corpora.segments import CorpusSegments, load_segments
from emoseg.corpora.splits import song_folds
from emoseg.learning import check_arguments, check_seed, require_train_extra
from emoseg.system.progress import progress
from emoseg.types import Int64
from emoseg.version import VERSION

_SHOWN = 10  # songs that the printed summary names


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Parameters
    ----------
    rate : RateEstimate
        Estimated share of songs with a wrong label, with a 90 % interval. It counts labels that are as clearly wrong as
        labels drawn at random; less visible errors are counted in part only.
    songs : tuple of SongFinding
        All songs of the corpus, the most suspect one first.
    segments : tuple of SegmentFinding
        All segments of the songs that were judged, the most suspect one first.
    notes : tuple of str
        What a reader of the result should know, one line each.
    """

    rate: RateEstimate
    songs: tuple[SongFinding, ...]
    segments: tuple[SegmentFinding, ...]
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the lines of the printed summary: the rate, and the ten most suspect songs with the evidence."""
        rate = self.rate
        interval = f"90% interval {rate.low:.0%} to {rate.high:.0%}"
        if rate.conclusive:
            counted = "counting labels as clearly wrong as random ones"
            first = f"about {rate.rate:.0%} of song labels are wrong ({interval}), {counted}"
        else:
            first = f"too few songs to tell how many labels are wrong ({interval})"
        suspects = [
            f"{row.rank:>4}  {row.p_wrong:.0%}  {row.given}{row.suggested and f' -> {row.suggested}'}  "
            f"{row.path}: {row.evidence}"
            for row in self.songs[:_SHOWN]
        ]
        return [first, *self.notes, "rank, probability that the label is wrong, given -> suggested label:", *suspects]


def audit(
    corpus: Corpus,
    out: str | os.PathLike[str] | None = None,
    *,
    config: TrainConfig | None = None,
    seed: int = 0,
    workers: int | None = None,
    cache: Path | None = None,
    quiet: bool = False,
) -> Audit:
    """Judge every label of a corpus, and return all songs and segments ranked by how probably their label is wrong.

    Parameters
    ----------
    corpus : Corpus
    out : path, optional
        Folder to write; it must not exist, be empty, or have an earlier audit, whose decisions are kept. By default
        nothing is written. ``docs/audit.md`` describes the files.
    config : TrainConfig, optional
        Settings. The first frontend whose features are vectors is used, or else the first one; the method is not used.
    seed : int
        The same seed, corpus and settings give the same result.
    workers : int, optional
        Number of processes; by default the number of cores. The result does not depend on it.
    cache : Path, optional
        Folder of the feature store; by default that of `emoseg.frontends.store.default_cache`.
    quiet : bool
        Whether to hide progress bars.

    Raises
    ------
    ConfigError
        An argument is of the wrong type, `out` is something else, or a decision in it is no label.
    CorpusError
        The corpus has errors, or too few songs of a label or too few artists for a cross-fit.
    EmosegError
        A file cannot be written, or a process ended unexpectedly.
    """
    require_train_extra()
    config = TrainConfig() if config is None else config
    check_arguments(corpus, config, workers)
    check_seed(seed)
    folder = None if out is None else Path(out)
    decisions: dict[str, str] = {}
    if folder is not None:
        check_folder(folder)
        decisions = read_decisions(folder, corpus.space.labels)
    segments = load_segments(corpus, config, cache=cache, workers=workers, quiet=quiet)
    report = check_corpus(corpus, cache=cache, workers=workers, quiet=quiet)
    copies = _copies(segments, report.duplicates)
    songs = _labelled_songs(corpus, segments, copies)
    judgement = _judge(corpus, songs, config, seed, workers, quiet=quiet)
    ranked = rank_findings(corpus, segments, judgement, conflicting_labels(segments.song_labels, copies))
    notes = _notes(judgement, songs, {row.path for row in ranked[0]}, decisions)
    result = Audit(judgement.rate, *ranked, notes)
    if folder is not None:
        write_folder(folder, _facts(result, corpus, config, seed), result.songs, result.segments, corpus, decisions)
    return result


def _copies(segments: CorpusSegments, duplicates: tuple[tuple[str, str], ...]) -> Int64:
    """Return a number per judged song, shape (N,), which is the same for all copies of one recording."""
    index = {song.id: i for i, song in enumerate(segments.songs)}
    copies = np.arange(len(segments.songs))
    for a, b in duplicates:
        if a in index and b in index:
            copies[copies == copies[index[b]]] = copies[index[a]]
    return copies


def _labelled_songs(corpus: Corpus, segments: CorpusSegments, copies: Int64) -> LabelledSongs:
    songs, tables = segments.songs, segments.table.features
    vectors = [name for name, table in tables.items() if table.ndim == 2]
    of_songs = np.unique([song.own_group for song in songs], return_inverse=True)[1]
    # A song without a known artist has a number of its own; clips of one song share a recording, not an artist.
    names = [f"artist:{song.artist}" if song.artist else f"song:{song.id}" for song in songs]
    return LabelledSongs(
        tables[(vectors or list(tables))[0]],
        segments.song,
        segments.song_labels,
        len(corpus.space.labels),
        joined(of_songs, copies),
        np.unique(names, return_inverse=True)[1],
    )


def _judge(
    corpus: Corpus, songs: LabelledSongs, config: TrainConfig, seed: int, workers: int | None, *, quiet: bool
) -> Judgement:
    learning = config.learning
    group_names = [str(group) for group in joined(songs.recordings, songs.artists)]
    song_folds(songs.labels, group_names, folds=learning.members, seed=seed, label_names=corpus.space.labels)
    cross_fits = 1 + planted_runs(len(songs.labels))
    passes = cross_fits * learning.members * learning.for_features(songs.features.ndim).epochs
    with progress("learning", passes, unit="passes", quiet=quiet) as bar:
        count = workers or os.cpu_count() or 1
        return judge_labels(songs, learning, seed=seed, workers=count, on_pass=bar.advance)


def _notes(judgement: Judgement, songs: LabelledSongs, paths: set[str], decisions: dict[str, str]) -> tuple[str, ...]:
    notes = []
    if judgement.blocks > 1:
        parts = f"{judgement.blocks} parts of at most about {MOST_SONGS} songs"
        notes.append(f"similar songs were compared within {parts}, because all {len(songs.labels)} take too long")
    if judgement.networks == 1:
        notes.append("too few songs to plant wrong labels: probabilities are not fitted to this corpus")
    if unknown := len(decisions.keys() - paths):
        notes.append(f"decisions.csv: {unknown} paths are not in the corpus and were not used")
    return tuple(notes)


def _facts(result: Audit, corpus: Corpus, config: TrainConfig, seed: int) -> dict[str, Any]:
    """Return the content of ``audit.json``."""
    rate = result.rate
    return {
        "schema": SCHEMA,
        "emoseg_version": VERSION,
        "corpus": corpus.name,
        "path": str(corpus.root),
        "space": corpus.space.to_json(),
        "songs": len(result.songs),
        "segments": len(result.segments),
        "kinds": dict(sorted(Counter(row.kind for row in result.songs if row.kind).items())),
        "rate": {
            "rate": round(rate.rate, 4),
            "low": round(rate.low, 4),
            "high": round(rate.high, 4),
            "conclusive": rate.conclusive,
            "meaning": "share of songs whose label is as clearly wrong as one drawn at random; 90 % interval",
        },
        "notes": list(result.notes),
        "seed": seed,
        "config": config.model_dump(mode="json", include={"segment", "frontends", "learning"}),
    }
