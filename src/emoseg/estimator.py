"""A scikit-learn estimator over lists of recordings.

`EmotionClassifier` trains the same model as `emoseg.train` with the same settings, and predicts with the same analysis
as `Analyzer`. A fitted estimator holds its model folder in memory, so it can be pickled and copied.
"""

from __future__ import annotations

import math
import numbers
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from emoseg.analysis.many import analyze_many
from emoseg.analysis.model_folder import load_model
from emoseg.audio.sources import Source
from emoseg.config import TrainConfig, first_problem
from emoseg.corpora.base import Song, make_corpus
from emoseg.errors import AudioError, ConfigError, EmosegError, EmosegWarning, ErrorKind, MissingExtraError
from emoseg.learning import check_seed
from emoseg.system.files import remove_leftovers, require_regular, work_folder
from emoseg.system.parallel import check_workers
from emoseg.training import Trained, train
from emoseg.types import Analysis, AnalysisFailure, Float64

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise MissingExtraError("EmotionClassifier", "train") from error

_FOLDER = "emotion-classifier"


class EmotionClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classifies recordings by emotion, learnt from song-level labels of which some may be wrong.

    Parameters
    ----------
    method : str
        How labels are treated: a name in `emoseg.learning.methods`, whose model a model folder can hold.
    settings : TrainConfig or mapping, optional
        All other settings, such as ``{"learning": {"epochs": 6}}``; default those of `emoseg train`. A method in it
        gives way to `method`.
    random_state : int
        Seed, at least 0. The same seed gives the same model.
    workers : int
        Number of processes. Results do not depend on it. A script that asks for more than one must keep its calls
        below ``if __name__ == "__main__":``, because every process imports the script.
    cache : path, optional
        Folder of the feature store; default the user's own. It makes a second fit on the same recordings fast.
    verbose : bool
        Show progress bars.

    Attributes
    ----------
    classes_ : array, shape (K,)
        The labels, sorted; columns of probabilities are in this order.
    clean_probability_ : array, shape (N,), in [0, 1]
        For each training recording the mean over its segments of the probability that its label is right; NaN where
        the recording could not be used, which is a warning.
    segment_clean_probability_ : list of N arrays, each of shape (S,)
        The same for each segment that was learnt from; empty where the recording could not be used.

    Examples
    --------
    >>> classifier = EmotionClassifier().fit(paths, labels, groups=artists)  # doctest: +SKIP
    >>> classifier.predict(["new.mp3"])  # doctest: +SKIP
    array(['Q1'], dtype='<U2')
    """

    def __init__(
        self,
        *,
        method: str = "emoseg",
        settings: TrainConfig | Mapping[str, Any] | None = None,
        random_state: int = 0,
        workers: int = 1,
        cache: str | os.PathLike[str] | None = None,
        verbose: bool = False,
    ) -> None:
        self.method = method
        self.settings = settings
        self.random_state = random_state
        self.workers = workers
        self.cache = cache
        self.verbose = verbose

    def fit(
        self,
        paths: Iterable[str | os.PathLike[str]],
        labels: Iterable[Any],
        groups: Iterable[Any] | None = None,
    ) -> Self:
        """Learn a model from recordings and their labels.

        Parameters
        ----------
        paths : iterable of path, N of them
            Sound files, each once.
        labels : iterable, N of them
            Texts or numbers, with at least two different values.
        groups : iterable, N of them, optional
            Artists, or whatever must not lie on both sides of an inner split; None or NaN where unknown.

        Returns
        -------
        EmotionClassifier
            Itself.

        Raises
        ------
        ConfigError
            The arguments have different lengths, an item has another type, there are fewer than two labels, or a
            parameter of the estimator breaks its rule.
        AudioError
            A file does not exist or is not a regular file.
        CorpusError
            There are too few recordings or groups, a file is given twice, or no recording of a label can be used.
        MissingExtraError
            The packages for learning are not installed.

        Warns
        -----
        EmosegWarning
            Some recordings could not be used.
        """
        check_seed(self.random_state, name="random_state")
        check_workers(self.workers)
        files = _checked_paths(paths)
        values = _checked_labels(labels, len(files))
        artists = _checked_groups(groups, len(files))
        config = self._config()
        names = [str(value) for value in values]
        songs = [
            Song(str(file), file, name, artist=artist) for file, name, artist in zip(files, names, artists, strict=True)
        ]
        corpus = make_corpus("recordings", Path(os.path.commonpath([file.absolute() for file in files])), songs)
        with _temporary_folder() as folder:
            trained = train(
                corpus,
                folder / _FOLDER,
                config=config,
                seed=int(self.random_state),
                workers=self.workers,
                cache=None if self.cache is None else Path(self.cache),
                quiet=not self.verbose,
            )
            self._model_files_ = {file.name: file.read_bytes() for file in sorted(trained.model.path.iterdir())}
        self.classes_ = np.unique(values)
        self._columns_ = [trained.model.space.index(str(value)) for value in self.classes_]
        self._keep_clean_probabilities(trained, files)
        return self

    def predict_proba(self, paths: Iterable[Source]) -> Float64:
        """Return the probabilities of the labels of recordings, shape (N, K), in the order of `classes_`.

        They are the song probabilities of `Analyzer`. A recording that is not music has no such answer: its labels are
        given equal probabilities, with a warning.

        Parameters
        ----------
        paths : iterable of path, N of them
            Binary file objects, bytes and `Recording` objects are taken, too.

        Raises
        ------
        sklearn.exceptions.NotFittedError
        AudioError
            A recording cannot be analysed.
        ConfigError
            `paths` is no list, or an item of it is no recording.

        Warns
        -----
        EmosegWarning
            A recording is not music.
        """
        check_is_fitted(self)
        sources = _listed(paths, "paths")
        with self._model_folder() as folder:
            results = list(analyze_many(sources, model=folder, workers=self.workers))
        table = np.full((len(results), len(self.classes_)), 1 / len(self.classes_))
        for row, result in zip(table, map(_required, results), strict=True):
            if result.song.probabilities:
                row[:] = [result.song.probabilities[column] for column in self._columns_]
            else:
                message = f"{result.path}: is {result.song.label}, not music; its labels get equal probabilities"
                warnings.warn(message, EmosegWarning, stacklevel=2)
        return table

    def predict(self, paths: Iterable[Source]) -> NDArray[Any]:
        """Return the most probable label of each recording, shape (N,); parameters and errors as in `predict_proba`."""
        check_is_fitted(self)
        return np.asarray(self.classes_[self.predict_proba(paths).argmax(axis=1)])

    def save_model(self, folder: str | os.PathLike[str]) -> Path:
        """Write the model as a new model folder for `Analyzer` and ``emoseg analyze --model``; return its path.

        Raises
        ------
        sklearn.exceptions.NotFittedError
        ConfigError
            `folder` exists already.
        EmosegError
            The disk refuses.
        """
        check_is_fitted(self)
        target = Path(folder)
        if os.path.lexists(target):
            raise ConfigError(f"{target}: exists already; choose another folder")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with work_folder(target.parent) as work:
                _write_files(self._model_files_, work / target.name)
                (work / target.name).rename(target)
        except OSError as error:
            raise EmosegError(f"{target}: cannot be written: {error.strerror or error}") from error
        return target

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = tags.input_tags.string = True
        tags.no_validation = True  # there are no features to count
        return tags

    def _config(self) -> TrainConfig:
        given = self.settings
        data = given.model_dump() if isinstance(given, TrainConfig) else {} if given is None else given
        if not isinstance(data, Mapping):
            raise ConfigError(f"settings {given!r}: must be a TrainConfig, a mapping, or None")
        try:
            return TrainConfig.model_validate({**data, "method": self.method})
        except ValidationError as error:
            raise ConfigError(f"settings of EmotionClassifier: {first_problem(error)}") from error

    def _keep_clean_probabilities(self, trained: Trained, files: Sequence[Path]) -> None:
        found = {song.path: clean for song, clean in zip(trained.songs, trained.clean, strict=True)}
        self.segment_clean_probability_ = [found.get(file, np.empty(0)) for file in files]
        self.clean_probability_ = np.array(
            [clean.mean() if len(clean) else np.nan for clean in self.segment_clean_probability_]
        )
        if trained.left_out:
            more = f" (and {len(trained.left_out) - 1} more)" if len(trained.left_out) > 1 else ""
            warnings.warn(f"not learnt from: {trained.left_out[0]}{more}", EmosegWarning, stacklevel=3)

    @contextmanager
    def _model_folder(self) -> Iterator[Path]:
        with _temporary_folder() as folder:
            _write_files(self._model_files_, folder / _FOLDER)
            load_model(folder / _FOLDER)
            yield folder / _FOLDER


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    parent = Path(tempfile.gettempdir())
    remove_leftovers(parent)
    with work_folder(parent) as folder:
        yield folder


def _write_files(files: Mapping[str, bytes], folder: Path) -> None:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _required(result: Analysis | AnalysisFailure) -> Analysis:
    if isinstance(result, Analysis):
        return result
    if result.error_type == ConfigError.__name__:
        raise ConfigError(result.message)
    raise AudioError(result.message, kind=cast("ErrorKind", result.error_type))


def _listed(values: Any, name: str) -> list[Any]:
    if isinstance(values, str | bytes | os.PathLike) or not isinstance(values, Iterable):
        raise ConfigError(f"{name} {values!r}: must be a list, not {type(values).__name__}")
    return list(values)


def _checked_paths(paths: Any) -> list[Path]:
    files = []
    for i, path in enumerate(_listed(paths, "paths")):
        if not isinstance(path, str | os.PathLike):
            raise ConfigError(f"paths, item {i}: must be the path of a recording, not {type(path).__name__}")
        require_regular(path, error=AudioError)
        files.append(Path(path))
    if not files:
        raise ConfigError("paths: must hold recordings, and is empty")
    return files


def _checked_labels(labels: Any, count: int) -> NDArray[Any]:
    values = _listed(labels, "labels")
    _check_length(values, "labels", count)
    for i, value in enumerate(values):
        if not isinstance(value, str | numbers.Number) or value == "" or _is_nan(value):
            raise ConfigError(f"labels, item {i}: must be a text or a number, not {value!r}")
    if len({isinstance(value, str) for value in values}) > 1:
        raise ConfigError("labels: must be all texts or all numbers, not both")
    if len({str(value) for value in values}) < 2:
        raise ConfigError(f"labels: must have two or more different values, and all are {values[0]!r}")
    return np.asarray(values)


def _checked_groups(groups: Any, count: int) -> list[str | None]:
    if groups is None:
        return [None] * count
    values = _listed(groups, "groups")
    _check_length(values, "groups", count)
    for i, value in enumerate(values):
        if value is not None and not isinstance(value, str | numbers.Number):
            raise ConfigError(f"groups, item {i}: must be a text, a number or None, not {value!r}")
    return [None if value is None or _is_nan(value) else str(value) for value in values]


def _check_length(values: Sequence[Any], name: str, count: int) -> None:
    if len(values) != count:
        raise ConfigError(f"{name} has {len(values)} items, but paths has {count}: each recording needs one")


def _is_nan(value: Any) -> bool:
    return isinstance(value, float | np.floating) and math.isnan(value)
