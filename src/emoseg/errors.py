"""The errors that emoseg raises for bad input. Each message is one line with the file, the value and the rule.

Commands print an `EmosegError` as one line on stderr and end with an exit status. Runs over many recordings record the
error of a recording and continue with the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

EXTRAS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "train": ("torch", "scikit-learn", "threadpoolctl", "onnx", "onnxscript"),
        "av": ("av",),
        "plot": ("matplotlib",),
        "tags": ("mutagen",),
        "library": ("duckdb",),
        "cleanlab": ("cleanlab",),
        "opensmile": ("opensmile",),
    }
)
"""The packages of each extra in ``pyproject.toml``."""


ErrorKind = Literal[
    "audio",  # any other reason
    "changed",  # the file changed while it was read
    "corpus",  # no recording of a corpus can be used
    "decode",  # no decoder can read the file
    "directory",  # the path is a folder
    "dtype",  # the samples of an array are not real numbers
    "empty",  # the file or the sound has no content
    "level",  # a sample is far above full scale
    "long",  # more than 24 hours
    "missing",  # there is no such file
    "nonfinite",  # a sample or a feature is not a finite number
    "not-music",  # less than a quarter of the recording is music
    "rank",  # an array has the wrong number of dimensions
    "rate",  # the sample rate is out of range
    "short",  # shorter than the model's minimum
    "silent",  # the peak is below -80 dBFS
    "tags",  # the tags of the file cannot be read or replaced
    "unreadable",  # the system does not let the file be read
]
"""The reason why a recording cannot be used, as one word for reports and tables."""


class EmosegError(Exception):
    """Base class of all errors that emoseg raises for bad input or a failing system."""


class AudioError(EmosegError):
    """A recording cannot be used; `kind` is the reason as one word, such as ``"decode"`` or ``"silent"``."""

    def __init__(self, message: str, *, kind: ErrorKind = "audio") -> None:
        super().__init__(message)
        self.kind = kind


class ConfigError(EmosegError):
    """A setting is unknown, of the wrong type, or breaks a rule."""


class CorpusError(EmosegError):
    """A corpus folder or table does not have the layout of the named corpus, or no model can be trained on it."""


class ModelError(EmosegError):
    """A model folder lacks a file, was altered, or needs another version of emoseg."""


class MissingExtraError(EmosegError):
    """A feature needs packages that are not installed; the message ends with the command that installs them.

    Parameters
    ----------
    feature : str
        What needs the packages, as the subject of the message.
    extra : str
        The extra of emoseg that has the packages, or the name of a package.
    """

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs packages that are not installed: {install_command(extra)}")
        self.feature, self.extra = feature, extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        """Return the class and its arguments: an exception with two parameters cannot be unpickled without them."""
        return type(self), (self.feature, self.extra)


def install_command(extra: str) -> str:
    """Return the command that installs the packages of an extra, such as ``"pip install matplotlib"`` for ``"plot"``.

    The command names the packages, not the extra, so that it works however emoseg was installed. If emoseg has no extra
    of the given name, the name is taken for that of a package.
    """
    return f"pip install {' '.join(EXTRAS.get(extra, (extra,)))}"


class EmosegWarning(UserWarning):
    """A problem that a user should know about, and that does not stop the run."""
