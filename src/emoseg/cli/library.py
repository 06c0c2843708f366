"""``emoseg batch`` makes a library from a folder of recordings; ``emoseg library`` answers questions about it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emoseg.cli.options import Hop, Model, Quiet, Workers
from emoseg.errors import ConfigError
from emoseg.system.console import put, put_json, tell
from emoseg.system.names import one_line

if TYPE_CHECKING:
    from emoseg.library.query import QueryResult
    from emoseg.library.questions import Library

commands = typer.Typer()


@commands.command()
def batch(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR", help="Folder of recordings; with --merge, the libraries to merge.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The library; made if it does not exist, else continued.")
    ] = None,
    model: Model = None,
    hop: Hop = None,
    workers: Workers = None,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Do only this share of the recordings.")] = None,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Most time for one recording; default: 300 s and 30 s more per megabyte."),
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Also try recordings that failed and have not changed since.")
    ] = False,
    merge_into: Annotated[
        Path | None, typer.Option("--merge", metavar="DIR", help="Make this library from the libraries of all shards.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Analyse a whole collection of recordings; it may be killed at any moment, and the same command continues."""
    from emoseg.analysis.model_folder import DEFAULT_MODEL, find_model
    from emoseg.library import Shard, run_batch

    if merge_into is not None:
        if out or model or shard:
            raise ConfigError("--merge takes the libraries of the shards, and none of --out, --model and --shard")
        _merge(merge_into, folders, as_json=as_json)
        return
    if out is None:
        raise ConfigError("no library given: --out DIR")
    if len(folders) != 1:
        raise ConfigError(f"a library has one folder of recordings; {len(folders)} were given")
    report = run_batch(
        folders[0],
        out,
        model=find_model(model or DEFAULT_MODEL),
        hop_s=hop,
        workers=workers,
        shard=Shard.parse(shard) if shard else None,
        timeout_s=timeout,
        retry=retry,
        quiet=quiet,
    )
    for line in report.problems(most=20):
        tell(line)
    if as_json:
        put_json(report.to_json())
    else:
        put(report.summary())
    if not report.complete:
        raise typer.Exit(1)


def _merge(out: Path, libraries: list[Path], *, as_json: bool) -> None:
    from emoseg.library import merge

    report = merge(out, libraries)
    for name in report.missing:
        tell(f"the shard {name} was not given")
    if as_json:
        put_json(report.to_json())
    else:
        put(f"{out}: {report.songs} songs, {report.failed} failed, {report.todo} to do")
    if not report.complete:
        raise typer.Exit(1)


@commands.command()
def library(
    out: Annotated[Path, typer.Argument(metavar="LIBRARY", help="A library that 'emoseg batch' made.")],
    most: Annotated[
        str | None,
        typer.Option(metavar="MOOD", help="The songs with most of a mood: a word such as calm, a label, or V,A."),
    ] = None,
    changing: Annotated[bool, typer.Option("--changing", help="The songs whose emotion changes most.")] = False,
    like: Annotated[
        str | None,
        typer.Option(metavar="SONG", help="The songs whose emotion over time is most similar to this song's."),
    ] = None,
    playlist: Annotated[
        str | None, typer.Option(metavar="FROM:TO", help="A playlist from one mood to another, as M3U8.")
    ] = None,
    sql: Annotated[
        str | None, typer.Option(metavar="SELECT", help="A query of the tables songs, segments and failures.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=100_000, help="Number of songs in an answer or a playlist.")] = 20,
    minutes: Annotated[
        float | None, typer.Option(min=1, help="Length of the playlist in minutes, instead of --count.")
    ] = None,
    apart: Annotated[
        int, typer.Option(min=0, help="Least number of songs between two of the same artist in a playlist.")
    ] = 2,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.m3u8", help="Where to write the playlist; default: standard output."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Ask a library for its calmest songs, those that change most, or those like another; make playlists."""
    from emoseg.library.questions import Library

    if sum(asked is not None for asked in (most, like, playlist, sql)) + changing > 1:
        raise ConfigError("one question at a time: --most, --changing, --like, --playlist or --sql")
    if playlist is None and (out_file or minutes):
        raise ConfigError("--out and --minutes go with --playlist only")
    asked = Library(out)
    if unfinished := asked.unfinished():
        tell(unfinished)
    if playlist is not None:
        _make_playlist(asked, playlist, out_file, count=count, minutes=minutes, apart=apart, as_json=as_json)
    elif most is not None:
        _print(asked.most(most, count=count), as_json=as_json)
    elif changing:
        _print(asked.changing(count=count), as_json=as_json)
    elif like is not None:
        _print(asked.like(like, count=count), as_json=as_json)
    else:
        _print(asked.sql(sql) if sql is not None else asked.summary(), as_json=as_json)


def _make_playlist(
    asked: Library, moods: str, file: Path | None, *, count: int, minutes: float | None, apart: int, as_json: bool
) -> None:
    """Write a playlist to a file and print its table, or print the playlist itself."""
    from emoseg.library.playlist import m3u8, write_playlist

    entries = asked.playlist(moods, count=count, minutes=minutes, apart=apart)
    songs = [entry.song for entry in entries]
    if file is not None:
        write_playlist(file, songs, root=asked.contents.root)
    if file is not None or as_json:
        _print(asked.playlist_table(entries), as_json=as_json)
    else:
        sys.stdout.buffer.write(m3u8(songs, folder=Path(), root=asked.contents.root))


def _print(answer: QueryResult, *, as_json: bool) -> None:
    """Print an answer as JSON, or as a table that is as wide as its content; numbers have three decimals."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if as_json:
        put_json(answer.to_json(), indent=1)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, column in enumerate(answer.columns):
        numbers = all(isinstance(row[i], int | float) for row in answer.rows) and bool(answer.rows)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in answer.rows:
        cells = ("" if v is None else f"{v:.3f}" if isinstance(v, float) else one_line(str(v)) for v in row)
        table.add_row(*(Text(cell) for cell in cells))
    # A pipe has no width, so no cell is folded there.
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)
