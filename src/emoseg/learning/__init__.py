"""Learning from inherited labels; the only package that uses PyTorch."""

from __future__ import annotations

import numbers
from importlib.util import find_spec

from emoseg.config import TrainConfig
from emoseg.corpora.base import Corpus
from emoseg.errors import ConfigError, MissingExtraError
from emoseg.system.parallel import check_workers


def require_train_extra() -> None:
    """Do nothing if the packages that learning needs are installed.

    Raises
    ------
    MissingExtraError
        One of them is missing; the message is the command that installs all of them.
    """
    if any(find_spec(name) is None for name in ("torch", "sklearn", "onnx", "onnxscript")):
        raise MissingExtraError("learning", "train")


def check_arguments(corpus: object, config: object, workers: object) -> None:
    """Do nothing if the arguments that training and evaluation share are of the right types.

    Raises
    ------
    ConfigError
        One of them is not; the message says which, and what it must be.
    """
    if not isinstance(corpus, Corpus):
        raise ConfigError(f"corpus {corpus!r}: must be a Corpus, which load_corpus returns")
    if not isinstance(config, TrainConfig):
        raise ConfigError(f"config {config!r}: must be a TrainConfig; TrainConfig.model_validate makes one of a dict")
    if workers is not None:
        check_workers(workers)


def check_seed(seed: object, *, name: str = "seed") -> None:
    """Raise `ConfigError` unless `seed` is a whole number, at least 0; the message calls it `name`."""
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or seed < 0:
        raise ConfigError(f"{name} {seed!r}: must be a whole number, at least 0")
