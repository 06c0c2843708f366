"""What a format is: one file per recording (`Writer`, `Format`), or one for many (`CollectionFormat`, `Collection`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from emoseg.errors import EmosegError
from emoseg.types import Analysis, AnalysisFailure


class Collection(ABC):
    """One file for many recordings, used in a ``with`` block.

    When the block ends, with an error or an interrupt too, the file holds all recordings that were added before.

    Parameters
    ----------
    file : Path
        Made with its folders. An earlier file is replaced.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def add(self, result: Analysis | AnalysisFailure) -> None:
        """Add the result of a recording.

        Raises
        ------
        EmosegError
            A number is not finite, or the file cannot be written.
        """

    @abstractmethod
    def close(self) -> None:
        """Complete the file.

        Raises
        ------
        EmosegError
            The file cannot be written.
        """

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Make the folders of the file, and turn errors of the file system into one line."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            raise EmosegError(f"{self.file}: cannot be written: {error.strerror or error}") from error


class Writer(Protocol):
    """One output format: what its files are called and what is in them."""

    @property
    def suffix(self) -> str:
        """What is added to the recording's file name, such as ``".json"``."""
        ...

    def render(self, analysis: Analysis, *, folder: Path | None = None) -> str | bytes:
        """Return what is in the file, text to be written as UTF-8.

        `folder` is where the file will lie, for links to the recording.
        """
        ...


@dataclass(frozen=True)
class Format:
    """A format whose files depend on the analysis alone.

    Parameters
    ----------
    suffix : str
        Added to the recording's file name, such as ``".json"``.
    function : callable
        Returns the content of the file of an analysis: text, to be written as UTF-8, or bytes.
    """

    suffix: str
    function: Callable[[Analysis], str | bytes]

    def render(self, analysis: Analysis, *, folder: Path | None = None) -> str | bytes:
        """Return what is in the file; `folder` is not used."""
        return self.function(analysis)


@dataclass(frozen=True)
class CollectionFormat:
    """A format that holds all recordings in one file.

    Parameters
    ----------
    file_name : str
        Name of the file, such as ``"emotions.jsonl"``.
    open : callable
        Returns the `Collection` that writes the file at a path.
    """

    file_name: str
    open: Callable[[Path], Collection]
