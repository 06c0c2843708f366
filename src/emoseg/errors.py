"""The error tree: every failure a user can cause is one of these, with the file, the value and the rule in one line.

Commands turn an `EmosegError` into one line on stderr and an exit status; nothing else in the library catches it
except a batch, which records it for the file at hand and goes on.
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
    "decode",
    "directory",
    "dtype",  # samples of an array have a type that is no sound
    "empty",
    "level",  # far above full scale
    "long",
    "missing",
    "nonfinite",  # a sample or a feature is not a finite number
    "not-music",  # less than a quarter of the recording is music
    "rank",  # an array of another shape
    "rate",
    "short",
    "silent",
    "tags",  # the tags of the file cannot be read or replaced
    "unreadable",
]
"""Why a recording cannot be used, in one word that reports and tables keep."""


class EmosegError(Exception):
    """Base of all errors that emoseg raises on purpose."""


class AudioError(EmosegError):
    """A recording cannot be used; `kind` says why in one word, such as ``"decode"`` or ``"silent"``."""

    def __init__(self, message: str, *, kind: ErrorKind = "audio") -> None:
        super().__init__(message)
        self.kind = kind


class ConfigError(EmosegError):
    """A setting is unknown, of the wrong type, or breaks a rule."""


class CorpusError(EmosegError):
    """A corpus folder or table cannot be read as the corpus it is said to be."""


class ModelError(EmosegError):
    """A model folder is missing a file, was altered, or does not fit this version."""


class MissingExtraError(EmosegError):
    """A feature needs packages that are not installed; the message is the exact install command."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs packages that are not installed: {install_command(extra)}")
        self.feature, self.extra = feature, extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        """Say how to build the error again in another process."""
        return type(self), (self.feature, self.extra)


def install_command(extra: str) -> str:
    """Return the command that installs the packages of an extra, such as ``"pip install matplotlib"`` for ``"plot"``.

    It names the packages themselves, so that it works wherever emoseg was installed from. A name that is no extra of
    emoseg is taken for that of a package.
    """
    return f"pip install {' '.join(EXTRAS.get(extra, (extra,)))}"


class EmosegWarning(UserWarning):
    """Something that a user should know and that does not stop the work."""
