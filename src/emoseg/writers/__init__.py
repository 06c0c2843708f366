"""Output formats, behind two registries.

A format of `FORMATS` is one file per recording, made by `write` or `save`; one of `COLLECTIONS` is a single file for
all recordings, made by `collection`. Another package brings a format through an entry point of the group
``emoseg.writers`` or ``emoseg.collections``, and a program registers one in a line; ``docs/writers.md`` shows how.

The file of a recording keeps the recording's folders below a root and its full name, so ``a/x.mp3``, ``b/x.mp3``,
``x.mp3`` and ``x.wav`` never share an output; a name that is too long for one more suffix is shortened
(`files.fitting_name`). A file appears under its name only when it is complete, except for JSON Lines, whose lines are
complete one by one. Formats are imported on first use.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from emoseg.errors import ConfigError, EmosegError, MissingExtraError
from emoseg.registry import Registry
from emoseg.system.files import fitting_name, write_whole
from emoseg.types import Analysis
from emoseg.writers.formats import Collection, CollectionFormat, Format, Writer

__all__ = [
    "COLLECTIONS",
    "FORMATS",
    "Collection",
    "CollectionFormat",
    "Format",
    "Writer",
    "collection",
    "common_root",
    "output_path",
    "require_format",
    "save",
    "write",
]


def _checked_writer(writer: object) -> Writer:
    suffix = getattr(writer, "suffix", None)
    if not (isinstance(suffix, str) and len(suffix) > 1 and suffix[0] == "." and not set(suffix) & set("/\\\0")):
        raise ConfigError(f"its suffix must be a dot and more characters, none of them a slash, not {suffix!r}")
    if not callable(getattr(writer, "render", None)):
        raise ConfigError("it must have a method render(analysis, *, folder); Format(suffix, function) makes one")
    return cast(Writer, writer)


def _checked_collection(made: object) -> CollectionFormat:
    if not isinstance(made, CollectionFormat):
        raise ConfigError(f"it must be a CollectionFormat, not {type(made).__name__}")
    return made


FORMATS: Registry[Writer] = Registry(
    "format",
    group="emoseg.writers",
    builtin={
        "json": "emoseg.writers.json_lines:JSON",
        "csv": "emoseg.writers.table:CSV",
        "jams": "emoseg.writers.jams:JAMS",
        "audacity": "emoseg.writers.label_tracks:AUDACITY",
        "sonic-visualiser": "emoseg.writers.label_tracks:SONIC_VISUALISER",
        "html": "emoseg.writers.report.page:HTML",
        "png": "emoseg.writers.figure:PNG",
    },
    check=_checked_writer,
)
"""The formats with one file per recording."""

COLLECTIONS: Registry[CollectionFormat] = Registry(
    "format",
    group="emoseg.collections",
    builtin={"jsonl": "emoseg.writers.json_lines:JSONL", "parquet": "emoseg.writers.parquet:PARQUET"},
    check=_checked_collection,
)
"""The formats that hold all recordings in one file."""


def collection(out_dir: Path, *, format: str) -> Collection:
    """Return a writer of one file for many recordings, to be used in a ``with`` block.

    Parameters
    ----------
    out_dir : Path
        Made when it does not exist.
    format : str
        A name in `COLLECTIONS`.

    Raises
    ------
    ConfigError
        The format is unknown.
    """
    kind = COLLECTIONS[format]
    return kind.open(out_dir / kind.file_name)


def write(analysis: Analysis, out_dir: Path, *, format: str, root: Path | None = None) -> Path:
    """Write an analysis beneath `out_dir` and return the file's path.

    Parameters
    ----------
    analysis : Analysis
    out_dir : Path
        Made when it does not exist.
    format : str
        A name in `FORMATS`.
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
    _write(analysis, target, FORMATS[format])
    return target


def save(analysis: Analysis, path: str | os.PathLike[str], *, format: str | None = None) -> Path:
    """Write an analysis to one file and return the file's path.

    Parameters
    ----------
    analysis : Analysis
    path : path
        Its folders are made when they do not exist. An earlier file is replaced.
    format : str, optional
        A name in `FORMATS` or `COLLECTIONS`; by default the one whose suffix the path ends with.

    Raises
    ------
    ConfigError
        The format is unknown, or no format has the path's suffix.
    MissingExtraError
        The format needs an optional package.
    EmosegError
        The analysis holds a number that is not finite, or the file cannot be written.
    """
    target = Path(path)
    name = format or _format_of(target)
    if name in COLLECTIONS:
        with COLLECTIONS[name].open(target) as file:
            file.add(analysis)
    else:
        _write(analysis, target, FORMATS[name])
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
        A name in `FORMATS`.
    root : Path, optional
        Folders between `root` and the recording are kept beneath `out_dir`. Without it only the file name is kept, so
        recordings of several folders need one; `common_root` finds it.

    Raises
    ------
    ConfigError
        The format is unknown, or the recording is not beneath `root`.
    """
    suffix = FORMATS[format].suffix
    recording = Path(path)
    folders = Path()
    if root is not None:
        try:
            folders = _absolute(recording).parent.relative_to(_absolute(root))
        except ValueError as error:
            raise ConfigError(f"{path}: does not lie beneath {root}, so it has no place in {out_dir}") from error
    return out_dir / folders / fitting_name(recording.name, suffix)


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


def _write(analysis: Analysis, target: Path, writer: Writer) -> None:
    rendered = writer.render(analysis, folder=target.parent)
    data = rendered if isinstance(rendered, bytes) else rendered.encode("utf-8", "replace")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmosegError(f"{target}: cannot be written: {error.strerror or error}") from error
    write_whole(target, data)


def _format_of(file: Path) -> str:
    """Return the format whose suffix a file name ends with; of several the one with the longest suffix."""
    suffixes = {name: FORMATS[name].suffix for name in FORMATS}
    suffixes |= {name: Path(COLLECTIONS[name].file_name).suffix for name in COLLECTIONS}
    fitting = [name for name, suffix in suffixes.items() if file.name.lower().endswith(suffix.lower())]
    if not fitting:
        known = ", ".join(f"{suffix} ({name})" for name, suffix in suffixes.items())
        raise ConfigError(f"{file}: no format has its suffix; give format=..., or one of {known}")
    return max(fitting, key=lambda name: len(suffixes[name]))


def _absolute(path: Path) -> Path:
    # Not resolve(): a link in a music library must not move its output to where the link points.
    return Path(os.path.abspath(path))  # noqa: PTH100 - abspath removes "..", Path.absolute does not
