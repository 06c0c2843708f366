"""A module for each output format, behind one registry.

There are two kinds. A format of `FORMATS` is a file a recording, made by `write`; one of `COLLECTIONS` is a single file
for all recordings, made by `collection`. The file of a recording keeps the recording's folders below a root and its
full name, so ``a/x.mp3``, ``b/x.mp3``, ``x.mp3`` and ``x.wav`` never share an output; a name that is too long for one
more suffix is shortened (`files.fitting_name`). A file appears under its name only when it is complete, except for JSON
Lines, whose lines are complete one by one. Formats are imported on first use.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, cast

from emoseg.errors import ConfigError, EmosegError, MissingExtraError
from emoseg.system.files import fitting_name, write_whole
from emoseg.types import Analysis, AnalysisFailure


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


class Collection(AbstractContextManager["Collection"], Protocol):
    """One file for many recordings, with all that were added before an error or an interrupt ended the block."""

    def add(self, result: Analysis | AnalysisFailure) -> None:
        """Take a recording, or the failure of one."""
        ...


@dataclass(frozen=True)
class _Plain:
    """A format that is a function of the analysis alone."""

    suffix: str
    module: str

    def render(self, analysis: Analysis, *, folder: Path | None = None) -> str | bytes:
        render = importlib.import_module(f"{__name__}.{self.module}").render
        return cast(Callable[[Analysis], str | bytes], render)(analysis)


@dataclass(frozen=True)
class _HtmlWriter:
    """The report, which also takes the recording itself when its file is still there."""

    suffix: str

    def render(self, analysis: Analysis, *, folder: Path | None = None) -> str:
        from emoseg.writers.html import render_report

        return render_report(analysis, audio=Path(analysis.path), folder=folder)


FORMATS: Mapping[str, Writer] = MappingProxyType(
    {
        "json": _Plain(".json", "json_lines"),
        "csv": _Plain(".csv", "csv_table"),
        "jams": _Plain(".jams", "jams"),
        "audacity": _Plain(".labels.txt", "audacity"),
        "sonic-visualiser": _Plain(".sv.csv", "sonic_visualiser"),
        "html": _HtmlWriter(".html"),
        "png": _Plain(".png", "figure"),
    }
)
COLLECTIONS: Mapping[str, str] = MappingProxyType({"jsonl": "emotions.jsonl", "parquet": "emotions.parquet"})
"""The formats that hold all recordings in one file, and what it is called."""


def collection(out_dir: Path, *, format: str) -> Collection:
    """Return a writer of one file for many recordings, to be used in a ``with`` block.

    Parameters
    ----------
    out_dir : Path
        Made when it does not exist.
    format : str
        A key of `COLLECTIONS`.

    Raises
    ------
    ConfigError
        The format is unknown.
    """
    if format not in COLLECTIONS:
        raise ConfigError(f"unknown format {format!r}: choose from {', '.join(COLLECTIONS)}")
    file = out_dir / COLLECTIONS[format]
    if format == "parquet":
        from emoseg.writers.parquet import ParquetCollection

        return ParquetCollection(file)
    from emoseg.writers.json_lines import JsonLinesCollection

    return JsonLinesCollection(file)


def write(analysis: Analysis, out_dir: Path, *, format: str, root: Path | None = None) -> Path:
    """Write an analysis beneath `out_dir` and return the file's path.

    Parameters
    ----------
    analysis : Analysis
    out_dir : Path
        Made when it does not exist.
    format : str
        A key of `FORMATS`.
    root : Path, optional
        The folder whose inner structure is kept (see `output_path`).

    Returns
    -------
    Path
        The complete file. An earlier file of that name has been replaced.

    Raises
    ------
    ConfigError
        The format is unknown, or the recording is not beneath `root`.
    MissingExtraError
        The format needs an optional package.
    EmosegError
        The analysis holds a number that is not finite, or the file cannot be written.
    """
    target = output_path(analysis.path, out_dir, format=format, root=root)
    rendered = FORMATS[format].render(analysis, folder=target.parent)
    data = rendered if isinstance(rendered, bytes) else rendered.encode("utf-8", "replace")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmosegError(f"{target}: cannot be written: {error.strerror or error}") from error
    write_whole(target, data)
    return target


def require_format(format: str) -> None:
    """Raise `MissingExtraError` unless the packages that a format needs are installed."""
    if format == "png" and find_spec("matplotlib") is None:
        raise MissingExtraError("the PNG figure", "plot")


def output_path(path: str, out_dir: Path, *, format: str, root: Path | None = None) -> Path:
    """Return where `write` puts the analysis of the recording at `path`.

    Parameters
    ----------
    path : str
        The recording's path.
    out_dir : Path
    format : str
        A key of `FORMATS`.
    root : Path, optional
        Folders between `root` and the recording are kept beneath `out_dir`. Without it only the file name is kept, so
        recordings of several folders need one; `common_root` finds it.

    Raises
    ------
    ConfigError
        The format is unknown, or the recording is not beneath `root`.
    """
    if format not in FORMATS:
        raise ConfigError(f"unknown format {format!r}: choose from {', '.join(FORMATS)}")
    recording = Path(path)
    folders = Path()
    if root is not None:
        try:
            folders = _absolute(recording).parent.relative_to(_absolute(root))
        except ValueError as error:
            raise ConfigError(f"{path}: does not lie beneath {root}, so it has no place in {out_dir}") from error
    return out_dir / folders / fitting_name(recording.name, FORMATS[format].suffix)


def common_root(paths: Iterable[str]) -> Path:
    """Return the deepest folder that holds all recordings, the root under which their outputs never collide.

    Raises
    ------
    ConfigError
        There is no such folder: no recordings, or recordings on several drives.
    """
    folders = sorted({str(_absolute(Path(path)).parent) for path in paths})
    try:
        return Path(os.path.commonpath(folders))
    except ValueError as error:
        raise ConfigError(f"no folder holds all of {len(folders)} folders of recordings: {error}") from error


def _absolute(path: Path) -> Path:
    # Not resolve(): a link in a music library must not move its output to where the link points.
    return Path(os.path.abspath(path))  # noqa: PTH100 - abspath removes "..", Path.absolute does not
