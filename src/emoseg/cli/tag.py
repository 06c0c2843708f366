"""``emoseg tag``: write the emotion of songs into the tags of their files, or undo that."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emoseg.cli.options import Model
from emoseg.errors import ConfigError
from emoseg.system.console import put, put_json, tell

commands = typer.Typer()


@commands.command()
def tag(
    paths: Annotated[list[Path] | None, typer.Argument(metavar="PATH", help="Recordings, or folders of them.")] = None,
    library: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Take the emotion from this library, made by 'emoseg batch'.")
    ] = None,
    model: Model = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write the tags; without it, only print what would change.")
    ] = False,
    undo_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where --write records how to undo it; default: a new file in this folder."),
    ] = None,
    undo: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Restore all files to what they were before an earlier --write.")
    ] = None,
    keep_mtime: Annotated[bool, typer.Option("--keep-mtime", help="Keep the files' modification times.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per file.")] = False,
) -> None:
    """Write the emotion of songs into their files' tags: a dry run unless --write, and your own moods are kept."""
    from emoseg.analysis.model_folder import DEFAULT_MODEL
    from emoseg.tags import UndoFile
    from emoseg.tags.run import Source, tag_files

    if undo is not None:
        if paths or library or model or write:
            raise ConfigError("--undo takes nothing else: the undo file says what to restore")
        _undo(undo)
        return
    if not paths and library is None:
        raise ConfigError("no recordings given: PATH, or --library DIR")
    source = Source(paths or [], library=library, model=model or (None if library else DEFAULT_MODEL))
    record = UndoFile(undo_file or UndoFile.default_path()) if write else None
    changed = failed = 0
    for result in tag_files(source, undo=record, keep_mtime=keep_mtime):
        changed += result.plan is not None and result.plan.changes
        failed += result.plan is None
        if as_json:
            put_json(result.to_json())
        else:
            (tell if result.plan is None else put)(result.line())
    if record is None:
        tell(f"{changed} of {len(source.paths)} files would change (dry run; --write writes)")
    else:
        how = f"; undo with: emoseg tag --undo {record.path}" if changed else ""
        tell(f"{changed} of {len(source.paths)} files changed{how}")
    if failed:
        raise typer.Exit(1)


def _undo(file: Path) -> None:
    from emoseg.tags.run import undo_files

    failed = False
    for line, restored in undo_files(file):
        (put if restored else tell)(line)
        failed |= not restored
    if failed:
        raise typer.Exit(1)
