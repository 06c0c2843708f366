"""``emoseg analyze``: the emotion of recordings over time, as a table, JSON or files."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emoseg.cli.options import Hop, Model, Quiet
from emoseg.errors import ConfigError, EmosegError
from emoseg.system.console import put, tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from emoseg.types import Analysis, AnalysisFailure
    from emoseg.writers import Collection

commands = typer.Typer()


@commands.command()
def analyze(
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Recordings, or folders of them.")],
    model: Model = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the files that --format asks for.")
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="One file per recording: json, csv, jams, audacity, sonic-visualiser, html, png; one file for all "
            "recordings: jsonl, parquet. Repeatable.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per recording, not a table.")] = False,
    hop: Hop = None,
    quiet: Quiet = False,
) -> None:
    """Analyse the emotion of each recording over time."""
    from emoseg.analysis.analyzer import Analyzer
    from emoseg.analysis.many import analysis_or_failure
    from emoseg.analysis.model_folder import DEFAULT_MODEL
    from emoseg.audio.decoding import prepare, stated_duration_s
    from emoseg.audio.find import find_sources
    from emoseg.system.progress import progress
    from emoseg.types import AnalysisFailure

    formats = _checked_formats(formats or [], out)
    prepare()
    analyzer = Analyzer(model or DEFAULT_MODEL, hop_s=hop)
    sources = list(find_sources(paths))
    # Progress counts the recordings if there are many, and the seconds of a single one.
    seconds = stated_duration_s(sources[0]) if len(sources) == 1 and isinstance(sources[0], str) else None
    total, unit = (seconds, "s of sound") if seconds else (len(sources), "recordings")
    failed = 0
    with (
        _Results(out, formats, [s for s in sources if isinstance(s, str)], as_json=as_json) as results,
        progress("analysing", total, unit=unit, quiet=quiet or total < 2) as bar,
    ):
        moved = bar.advance if seconds else None
        for source in sources:
            result = (
                source
                if isinstance(source, AnalysisFailure)
                else analysis_or_failure(analyzer, source, on_progress=moved)
            )
            with bar.hidden():
                failed += not results.add(result)
            if not seconds:
                bar.advance()
    if failed:
        raise typer.Exit(1)


def _checked_formats(formats: list[str], out: Path | None) -> list[str]:
    """Return the formats, each once, if all of them can be written and there is a folder for them."""
    from emoseg.writers import COLLECTIONS, FORMATS, require_format

    unknown = [name for name in formats if name not in FORMATS and name not in COLLECTIONS]
    if unknown:
        raise ConfigError(f"format {unknown[0]!r} is unknown; choose from {', '.join([*FORMATS, *COLLECTIONS])}")
    if bool(formats) != bool(out):
        raise ConfigError("--format and --out go together: what to write, and where")
    if out is not None and out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: is a file; --out is the folder to write to")
    for name in formats:
        require_format(name)
    return list(dict.fromkeys(formats))


class _Results(ExitStack):
    """The outputs of a run: standard output, one file per recording, and one file for all recordings."""

    def __init__(self, out: Path | None, formats: list[str], paths: list[str], *, as_json: bool) -> None:
        from rich.console import Console

        from emoseg.system.files import remove_leftovers
        from emoseg.writers import COLLECTIONS, FORMATS, collection, common_root, write
        from emoseg.writers.terminal import ResultTable

        super().__init__()
        self._as_json = as_json
        self._table = ResultTable(Console())
        self._writes: list[Callable[[Analysis], object]] = []
        self._collections: list[Collection] = []
        if out is not None:
            remove_leftovers(out, below=True)
            root = common_root(paths) if len(paths) > 1 else None
            self._writes = [partial(write, out_dir=out, format=f, root=root) for f in formats if f in FORMATS]
            self._collections = [self.enter_context(collection(out, format=f)) for f in formats if f in COLLECTIONS]
        if not as_json:
            self.callback(self._table.finish)

    def add(self, result: Analysis | AnalysisFailure) -> bool:
        """Print and write a result; return whether there was an analysis and all of it was written."""
        from emoseg.types import Analysis
        from emoseg.writers import json_lines

        if self._as_json:
            put(json_lines.dumps(result))
        for collection in self._collections:
            collection.add(result)
        if not isinstance(result, Analysis):
            if not self._as_json:
                tell(result.message)
            return False
        if not self._as_json:
            self._table.add(result)
        return self._write_files(result)

    def _write_files(self, analysis: Analysis) -> bool:
        written = True
        for write in self._writes:
            try:
                write(analysis)
            except (EmosegError, OSError) as error:  # the next recording may have room, or another name
                tell(str(error))
                written = False
        return written
