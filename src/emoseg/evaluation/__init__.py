"""Methods compared on the same folds of a corpus, with intervals.

Songs are cut into folds with no artist in two, or the official parts of a corpus say which songs are tested. If only a
fraction is to be labelled, the same training songs keep their label for every method. Noise, if any, is injected into
labelled training songs only. All methods learn from the same labels, with the same budget and the same seeds, and each
predicts every test song once per seed. Test songs are measured against the corpus' own labels. `docs/evaluation.md`
describes the protocol and the result file.

Inside: `protocol` (what a fold gives a method), `jobs` (one method on one fold; resumable), `measures` (from all of
these to the result), `detection` (against real wrong labels), `predictions`, `report` and `figure`. `injected_noise`
makes labels wrong on purpose; `label_change` counts how often segments differ from their song's label.
"""

from __future__ import annotations

import os
import warnings
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from emoseg.config import TrainConfig, replace_settings
from emoseg.corpora.base import Corpus
from emoseg.corpora.segments import CorpusSegments, load_segments
from emoseg.corpora.splits import official_split
from emoseg.errors import CorpusError, EmosegWarning
from emoseg.evaluation.jobs import Trial, TrialResult, TrialStore, run_all
from emoseg.evaluation.measures import make_result
from emoseg.evaluation.predictions import require_predictions, write_predictions
from emoseg.evaluation.protocol import DEFAULT_METHODS, Protocol, check_splits, split_report
from emoseg.evaluation.report import print_result, write_result
from emoseg.learning import check_arguments, require_train_extra
from emoseg.learning.methods import METHODS, resolve_settings
from emoseg.system.progress import progress
from emoseg.system.unfinished import unfinished, unfinished_folder

__all__ = ["DEFAULT_METHODS", "Protocol", "evaluate", "print_result", "unfinished_folder", "write_result"]


def evaluate(
    corpus: Corpus,
    protocol: Protocol | None = None,
    *,
    config: TrainConfig | None = None,
    cache: Path | None = None,
    workers: int | None = None,
    work: Path | None = None,
    predictions: Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Compare methods, and return the result as in a result file.

    Parameters
    ----------
    corpus : Corpus
    protocol : Protocol, optional
        Default that of ``emoseg evaluate``: ten folds by artist, three seeds.
    config : TrainConfig, optional
        Settings of segments, frontends and learning; default all default settings. Its method is not used.
    cache : Path, optional
        Folder of the feature store.
    workers : int, optional
        Number of processes; default the number of cores. The result does not depend on it, apart from times.
    work : Path, optional
        Folder that keeps the results of finished trainings until the result is written (`write_result`). A call with
        the same settings does not repeat the trainings that it finds there.
    predictions : Path, optional
        File (.csv or .parquet) for the predictions of test songs. Those of segments, and the clean probabilities of
        training segments, go into two files beside it (`emoseg.evaluation.predictions`).
    quiet : bool
        Show no progress bars.

    Returns
    -------
    dict
        As `docs/evaluation.md` describes it; `write_result` writes it, `print_result` prints it.

    Raises
    ------
    ConfigError
        An argument has another type, `work` holds results of an evaluation with other settings, or `predictions` cannot
        be written.
    EmosegError
        Another process works in `work`, a loss or a probability is not finite, or the disk is full.
    CorpusError
        The corpus has errors, or too few songs or artists for the protocol.
    MissingExtraError
        A method needs a package that is not installed.

    Warns
    -----
    EmosegWarning
        Test songs of an official split share an artist with training songs, or songs are in no official part; or a
        kept result is damaged, and its training is repeated.
    """
    require_train_extra()
    protocol, config = protocol or Protocol(), TrainConfig() if config is None else config
    check_arguments(corpus, config, workers)
    config = resolve_settings(config, protocol.methods)
    if predictions:
        require_predictions(predictions)
    if protocol.test_split is not None:
        official_split(corpus.songs, test=protocol.test_split)  # reports an unknown part before hours of features
    labels = corpus.space.labels
    with unfinished(work) if work else nullcontext():
        everything = _all_features(protocol, config)
        segments = load_segments(corpus, everything, cache=cache, workers=workers, quiet=quiet)
        check_splits(segments, protocol, labels, members=config.learning.members)
        if report := split_report(segments, protocol):
            for message in report.warnings():
                warnings.warn(message, EmosegWarning, stacklevel=2)
        store = TrialStore(work, protocol, config, segments.hash)
        results = _run_trials(
            protocol, config, segments, len(labels), store, workers=workers, folder=work or cache, quiet=quiet
        )
    if predictions:
        write_predictions(results, segments, protocol, labels, predictions)
    return make_result(corpus, segments, protocol, config, results)


def _run_trials(
    protocol: Protocol,
    config: TrainConfig,
    segments: CorpusSegments,
    classes: int,
    store: TrialStore,
    *,
    workers: int | None,
    folder: Path | None,
    quiet: bool,
) -> dict[tuple[str, int, int], TrialResult]:
    """Return the results of all trials by method, seed and fold: those in the store, and those that it lacks."""
    # The slowest method first: the last trials to finish are then short, and no core waits long.
    trials = [
        Trial(method, seed, fold, protocol, config)
        for method in reversed(protocol.methods)
        for seed in range(protocol.seeds)
        for fold in range(protocol.folds)
    ]
    with progress("evaluating", len(trials), unit="trainings", quiet=quiet) as bar:
        results = {trial: kept for trial in trials if (kept := store.load(trial)) is not None}
        bar.advance(len(results))
        todo = [trial for trial in trials if trial not in results]
        try:
            with closing(run_all(todo, segments, classes, workers or os.cpu_count() or 1, folder=folder)) as done:
                for trial, result in done:
                    results[trial] = result
                    store.save(trial, result)
                    bar.advance()
        except CorpusError as error:  # the songs' own labels can be split, as was checked
            raise CorpusError(f"noise {protocol.noise} leaves too little to learn from: {error}") from error
    return {(trial.method, trial.seed, trial.fold): results[trial] for trial in trials}


def _all_features(protocol: Protocol, config: TrainConfig) -> TrainConfig:
    """Return the settings with the frontends of all methods, after a check that their packages are installed."""
    frontends = {f.name: f for f in config.frontends}
    for name in protocol.methods:
        METHODS[name].require_extra()
        frontends |= {f.name: f for f in METHODS[name].frontends or () if f.name not in frontends}
    return replace_settings(config, frontends=tuple(frontends.values()))
