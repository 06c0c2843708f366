"""Tags for many files: the source of what is written, and the result for each file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoseg.analysis.analyzer import Analyzer
from emoseg.audio.find import FoundFile, find_sources
from emoseg.emotion import EmotionSpace
from emoseg.errors import AudioError, ConfigError, EmosegError
from emoseg.library.contents import Contents, read_contents
from emoseg.library.manifest import Manifest
from emoseg.system.files import file_checksum, folder_locked, modified_ns, remove_leftovers
from emoseg.system.names import one_line
from emoseg.tags import SongFacts, TagPlan, TagProcess, UndoFile, plan_tags, undo_tags, write_tags
from emoseg.tags.replacing import find_file
from emoseg.tags.undo import UndoEntry, UnreadLine, read_undo
from emoseg.types import AnalysisFailure


@dataclass(frozen=True)
class Tagged:
    """The result for a file: its plan, which may have been carried out, or the message of its failure."""

    path: Path
    plan: TagPlan | None = None
    error: str | None = None

    def line(self) -> str:
        """Return the result in one line."""
        text = self.error if self.plan is None else f"{self.path}: {self.plan.line()}"
        return one_line(text or "")

    def to_json(self) -> dict[str, Any]:
        """Return the result for programs."""
        if self.plan is not None:
            return self.plan.to_json()
        return {"schema": "emoseg.tag/1", "path": str(self.path), "error": self.error}


class Source:
    """The songs to be tagged and the facts about them, from a library or by analysing them.

    Parameters
    ----------
    paths : sequence of Path
        Recordings, or folders of them; none means all recordings of the library.
    library : Path, optional
    model : str or Path, optional
        Model folder or bundled model. Exactly one of `library` and `model` is given.

    Attributes
    ----------
    paths : list of Path
        The songs.
    failures : list of AnalysisFailure
        Folders that could not be listed, or hold no recordings.

    Raises
    ------
    EmosegError
        The library or the model cannot be used, or a path is not in the library.
    """

    def __init__(self, paths: Sequence[Path], *, library: Path | None = None, model: str | Path | None = None) -> None:
        if (library is None) == (model is None):
            raise ConfigError("the emotion comes from a library or a model: give --library DIR or --model DIR")
        self.library: Contents | None = None
        self.paths: list[Path] = []
        self.failures: list[AnalysisFailure] = []
        if library is not None:
            self.library = read_contents(library)
            self.space: EmotionSpace = self.library.space
            rows = list(self.library.songs())
            chosen = [_absolute(path) for path in paths]
            self._facts = {path: _of_row(row) for path, row in rows if not chosen or _among(path, chosen)}
            for path, absolute in zip(paths, chosen, strict=True):
                if not any(_among(song, [absolute]) for song in self._facts):
                    raise ConfigError(f"{path}: no song of the library {library} is there")
            self.paths = list(self._facts)
        elif model is not None:
            self._analyzer = Analyzer(model)
            self.space = self._analyzer.model.space
            for found in find_sources(paths):
                if isinstance(found, AnalysisFailure):
                    self.failures.append(found)
                else:
                    self.paths.append(Path(found))

    def facts(self, path: Path) -> SongFacts:
        """Return the facts about a song.

        Raises
        ------
        AudioError
            The song cannot be analysed.
        """
        return self._facts[path] if self.library is not None else SongFacts.of(self._analyzer.analyze(path))


def tag_files(source: Source, *, undo: UndoFile | None = None, keep_mtime: bool = False) -> Iterator[Tagged]:
    """Plan the tags of every file, carry the plans out if there is an undo file, and yield the result for each file.

    Before a file is changed, temporary files that a killed run left in its folder are removed. The library that the
    songs come from records the new state of the files, so that a batch does not analyse them again.
    """
    for failure in source.failures:
        yield Tagged(Path(failure.path), error=failure.message)
    with ExitStack() as stack:
        process = stack.enter_context(TagProcess())
        manifest = None
        if undo is not None and source.library is not None:
            stack.enter_context(folder_locked(source.library.out))
            manifest = stack.enter_context(closing(Manifest.open(source.library.out)))
        clean: set[Path] = set()
        for path in source.paths:
            try:
                if undo is not None:
                    _remove_leftovers(path, clean)
                plan = plan_tags(path, source.facts(path), source.space, process=process)
                if undo is not None and plan.changes:
                    library = source.library.out if source.library is not None else None
                    content = write_tags(plan, undo, keep_mtime=keep_mtime, library=library, process=process)
                    if manifest is not None:
                        _record(manifest, path, content)
            except AudioError as error:
                yield Tagged(path, error=str(error))
            except EmosegError:  # of the model or the library, which all recordings share
                raise
            except Exception as error:  # libraries may raise anything on a damaged recording; the run must continue
                yield Tagged(path, error=f"{path}: {type(error).__name__}: {error}")
            else:
                yield Tagged(path, plan)


def undo_files(file: Path) -> Iterator[tuple[str, bool]]:
    """Restore every file of an undo file, the latest change first; yield one line for each, and whether it succeeded.

    Raises
    ------
    ConfigError
        `file` is not an undo file of emoseg.
    """
    clean: set[Path] = set()
    for entry in read_undo(file):
        if isinstance(entry, UnreadLine):
            yield one_line(entry.words), entry.harmless
            continue
        try:
            _remove_leftovers(entry.path, clean)
            outcome = undo_tags(entry)
        except AudioError as error:
            yield one_line(str(error)), False
            continue
        if outcome == "restored":
            _record_restored(entry)
        yield one_line(f"{entry.path}: {outcome}"), True


def _remove_leftovers(path: Path, clean: set[Path]) -> None:
    """Remove temporary files that a killed run left beside a recording, once per folder."""
    folder = find_file(path)[0].parent
    if folder not in clean:
        clean.add(folder)
        remove_leftovers(folder)


def _record_restored(entry: UndoEntry) -> None:
    # If the library is missing or in use, its next batch analyses the song again, which costs time but is correct.
    if entry.library is None:
        return
    with (
        suppress(EmosegError, OSError, sqlite3.Error, ValueError),
        closing(Manifest.open(entry.library)) as manifest,
        # Only now, because an undo file may name any folder, and locking a folder creates a file in it.
        folder_locked(entry.library),
    ):
        _record(manifest, entry.path, entry.old.checksum)


def _record(manifest: Manifest, path: Path, content: str) -> None:
    with suppress(OSError, sqlite3.Error, ValueError):  # without the record, a batch analyses the song again
        status = path.stat()
        if file_checksum(path) != content:  # it has changed since, so a batch must analyse it again
            return
        inside = path.relative_to(manifest.settings.root).as_posix()
        manifest.touch(inside, FoundFile(inside, status.st_size, modified_ns(status)), content)


def _of_row(row: dict[str, Any]) -> SongFacts:
    return SongFacts(row["label"], row["confidence"], row["valence"], row["arousal"], row["model"])


def _among(path: Path, chosen: Sequence[Path]) -> bool:
    return any(path == one or path.is_relative_to(one) for one in chosen)


def _absolute(path: Path) -> Path:
    # The root of a library is resolved; a path that a user gives may lead through links.
    return Path(os.path.abspath(path.parent.resolve() / path.name)) if path.name else path.resolve()  # noqa: PTH100
