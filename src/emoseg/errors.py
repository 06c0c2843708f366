"""The error tree: every failure a user can cause is one of these, with the file, the value and the rule in one line.

Commands turn an `EmosegError` into one line on stderr and an exit status; nothing else in the library catches it
except a batch, which records it for the file at hand and goes on.
"""

from __future__ import annotations


class EmosegError(Exception):
    """Base of all errors that emoseg raises on purpose."""


class AudioError(EmosegError):
    """A recording cannot be used; `kind` is a stable word for reports, such as ``"decode"`` or ``"silent"``."""

    def __init__(self, message: str, *, kind: str = "audio") -> None:
        super().__init__(message)
        self.kind = kind


class ConfigError(EmosegError):
    """A setting is unknown, of the wrong type, or breaks a rule."""


class CorpusError(EmosegError):
    """A corpus folder or table cannot be read as the corpus it is said to be."""


class ModelError(EmosegError):
    """A model folder is missing a file, was altered, or does not fit this version."""


class MissingExtraError(EmosegError):
    """A feature needs an optional package; the message is the exact install command."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional package: pip install 'emoseg[{extra}]'")
        self.feature, self.extra = feature, extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        """Say how to build the error again in another process."""
        return type(self), (self.feature, self.extra)


class EmosegWarning(UserWarning):
    """Something that a user should know and that does not stop the work."""
