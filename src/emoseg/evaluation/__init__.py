"""`emoseg evaluate`: methods compared on the same folds of a corpus, with intervals.

The protocol: songs are cut into folds, no artist in two, or the official parts of a corpus say what is tested; where
only a fraction is to be labelled, the same training songs keep their label for every method; noise, where asked for,
goes into labelled training songs only; the methods learn from the same labels, with the same budget and seeds; test
songs are predicted once. What is measured on test songs uses the corpus' own labels. `docs/evaluation.md` describes the
result file.

Inside: `protocol` (what a fold gives a method), `jobs` (one method on one fold; resumable), `measures` (outcomes to the
result), `report` (terminal table, file) and `figure`.
"""

from __future__ import annotations

import os
import warnings
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from emoseg.config import TrainConfig, config_hash, replace_settings
from emoseg.corpora.base import Corpus
from emoseg.corpora.segments import load_segments
from emoseg.corpora.splits import official_split
from emoseg.errors import CorpusError, EmosegWarning
from emoseg.evaluation.jobs import Trial, TrialStore, run_all
from emoseg.evaluation.measures import make_result
from emoseg.evaluation.protocol import Protocol, check_splits, split_report
from emoseg.evaluation.report import print_result, write_result
from emoseg.learning import require_train_extra
from emoseg.system.progress import progress
from emoseg.system.unfinished import unfinished, unfinished_folder

__all__ = ["Protocol", "evaluate", "print_result", "unfinished_folder", "write_result"]


def evaluate(
    corpus: Corpus,
    protocol: Protocol,
    *,
    config: TrainConfig,
    cache: Path | None = None,
    workers: int | None = None,
    work: Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Run the protocol; return the result as in a result file.

    Parameters
    ----------
    corpus : Corpus
    protocol : Protocol
    config : TrainConfig
        Its method is not used.
    cache : Path, optional
        Folder of the feature store.
    workers : int, optional
        Processes; default the number of cores. The result does not depend on it, apart from times.
    work : Path, optional
        Folder for what finished trainings gave; an evaluation with the same settings that finds some there does not
        learn them again. It stays until the result is written (`write_result`).
    quiet : bool
        No progress bars.

    Raises
    ------
    ConfigError
        `work` holds what another evaluation gave.
    EmosegError
        Another process is at work in `work`, a loss or a probability is not finite, or the disk is full.
    CorpusError
        The corpus has errors, or too few songs or artists for the protocol.
    MissingExtraError
        A method needs a package that is not installed.

    Warns
    -----
    EmosegWarning
        Test songs of an official split share an artist with training, or songs are in no part; or what an earlier
        call kept is damaged, and is done again.
    """
    require_train_extra()
    if protocol.test_split is not None:
        official_split(corpus.songs, test=protocol.test_split)  # says before hours of features that a part is none
    processes = workers or os.cpu_count() or 1
    with unfinished(work) if work else nullcontext():
        everything = _all_features(protocol, config)
        segments = load_segments(corpus, everything, cache=cache, workers=workers, quiet=quiet)
        check_splits(segments, protocol, corpus.space.labels, members=config.learning.members)
        if report := split_report(segments, protocol):
            for message in report.warnings():
                warnings.warn(message, EmosegWarning, stacklevel=2)
        store = TrialStore(work, _fingerprint(protocol, config, segments.hash))
        # The slowest method first: the last jobs to finish are then short, and no core waits long.
        jobs = [
            Trial(method, seed, fold, protocol, config)
            for method in reversed(protocol.methods)
            for seed in range(protocol.seeds)
            for fold in range(protocol.folds)
        ]
        with progress("evaluating", len(jobs), unit="trainings", quiet=quiet) as bar:
            outcomes = {job: found for job in jobs if (found := store.load(job)) is not None}
            bar.advance(len(outcomes))
            todo = [job for job in jobs if job not in outcomes]
            try:
                with closing(
                    run_all(todo, segments, len(corpus.space.labels), processes, folder=work or cache)
                ) as done:
                    for job, outcome in done:
                        outcomes[job] = outcome
                        store.save(job, outcome)
                        bar.advance()
            except CorpusError as error:  # the songs' own labels can be split, as was checked
                raise CorpusError(f"noise {protocol.noise} leaves too little to learn from: {error}") from error
    return make_result(
        corpus, segments, protocol, config, {(j.method, j.seed, j.fold): found for j, found in outcomes.items()}
    )


def _all_features(protocol: Protocol, config: TrainConfig) -> TrainConfig:
    """Return the settings with the frontends that methods bring themselves; check that all packages are there."""
    from emoseg.learning.methods import METHODS

    frontends = {f.name: f for f in config.frontends}
    for name in protocol.methods:
        METHODS[name].require_extra()
        frontends |= {f.name: f for f in METHODS[name].frontends or () if f.name not in frontends}
    return replace_settings(config, frontends=tuple(frontends.values()))


def _fingerprint(protocol: Protocol, config: TrainConfig, songs: str) -> str:
    """Name all that decides an outcome but method, seed and fold: these may grow from one call to the next."""
    parted = f"{protocol.folds} folds" if protocol.test_split is None else f"test split {protocol.test_split}"
    shared = f"{parted}, {protocol.group}, {protocol.noise}, {protocol.fraction}"
    return config_hash(replace_settings(config, method="inherit"), shared, songs, "outcome 3")
