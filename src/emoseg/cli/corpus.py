"""``emoseg corpus``: list the kinds of corpora, check one, count its wrong labels, or write the synthesised one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emoseg.cli.options import Cache, CorpusChoice, Quiet, Seed, Workers, takes_corpus
from emoseg.system.console import put, put_json, tell

corpus = typer.Typer(
    help="List the kinds of corpora, check one, count its wrong labels, or write the synthesised one.",
    no_args_is_help=True,
)
commands = typer.Typer()
commands.add_typer(corpus, name="corpus")


@corpus.command("list")
def list_corpora(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per corpus.")] = False,
) -> None:
    """List the kinds of corpora that can be read, and the options that apply to each."""
    from emoseg.corpora import CORPORA

    for name in CORPORA:
        options = [f"--{option}" for option in sorted(CORPORA[name].takes)]
        if as_json:
            put_json({"name": name, "options": options})
        else:
            put(f"{name}: {', '.join(options) or 'no options'}")


@corpus.command("check")
@takes_corpus
def check(
    corpus: CorpusChoice,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    workers: Workers = None,
    cache: Cache = None,
    quiet: Quiet = False,
) -> None:
    """Read every recording and report what a corpus holds and what is wrong with it; exit status 1 on errors."""
    from emoseg.checking.check import check_corpus

    report = check_corpus(corpus.load(), cache=cache, workers=workers, quiet=quiet)
    if as_json:
        put_json(report.to_json(), indent=1)
    else:
        put("\n".join(report.lines()))
    if report.errors:
        raise typer.Exit(1)


@corpus.command("noise")
@takes_corpus
def noise(
    corpus: CorpusChoice,
    segment: Annotated[float, typer.Option(metavar="SECONDS", help="Length of the segments that are counted.")] = 5.0,
    figure: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the figure: .png, .svg or .pdf.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tables as JSON.")] = False,
) -> None:
    """Count the segments whose emotion differs from their song's label; needs annotations over time, no audio."""
    from emoseg.evaluation.figure import write_label_change_figure
    from emoseg.evaluation.label_change import measure_label_change

    noise = measure_label_change(corpus.load(labels="song"), segment_s=segment)
    for problem in noise.problems:
        tell(problem)
    if as_json:
        put_json(noise.to_json(), indent=1)
    else:
        put("\n".join(noise.lines()))
    if figure:
        write_label_change_figure(noise, figure)
    if noise.problems:
        raise typer.Exit(1)


@corpus.command("synth")
def synth(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write; must not exist or be empty.")],
    songs: Annotated[int, typer.Option(min=8, help="Number of songs.")] = 120,
    seed: Seed = 0,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Compose a corpus in which the emotion of every section is known, to test how wrong labels are found."""
    from emoseg.synthesis.corpus import write_corpus

    write_corpus(out, songs=songs, seed=seed, workers=workers, quiet=quiet)
    put(f"synth:{out}: {songs} songs")
