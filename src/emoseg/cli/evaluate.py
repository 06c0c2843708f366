"""``emoseg evaluate``: compare methods on the same folds of a corpus."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from emoseg.cli.options import (
    Cache,
    ConfigFile,
    CorpusChoice,
    Frontends,
    Quiet,
    SoftLabels,
    Workers,
    takes_corpus,
    train_config,
)
from emoseg.errors import ConfigError

commands = typer.Typer()


@commands.command()
@takes_corpus
def evaluate(
    corpus: CorpusChoice,
    out: Annotated[Path, typer.Option(metavar="FILE.json", help="Result file to write.")],
    methods: Annotated[
        list[str] | None,
        typer.Option("--method", help="Repeatable; default: mixup and emoseg. See docs/methods.md."),
    ] = None,
    frontend: Frontends = None,
    config: ConfigFile = None,
    soft_labels: SoftLabels = False,
    folds: Annotated[int | None, typer.Option(min=2, help="Number of folds; default: 10.")] = None,
    test_split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[+NAME]", help="Instead of folds: test on these official parts and learn from the others."
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds, 0, 1, ...; default: 3.")] = None,
    group: Annotated[
        Literal["artist", "none"] | None,
        typer.Option(help="artist (default): all songs of an artist are in one fold; none: songs are divided freely."),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(help="Wrong labels put into training songs: none (default), segment:R, song:R or splice:R."),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Also draw the result; .png, .svg or .pdf.")
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Also write the predictions of songs, and beside them those of segments; .csv or .parquet.",
        ),
    ] = None,
    fraction: Annotated[
        float | None,
        typer.Option(help="Share of the training songs that keep their label; the others stay as audio; default: 1."),
    ] = None,
    workers: Workers = None,
    cache: Cache = None,
    quiet: Quiet = False,
) -> None:
    """Compare methods on the same folds of a corpus; after an interruption the same command continues."""
    from rich.console import Console

    from emoseg.evaluation import Protocol, print_result, unfinished_folder, write_result
    from emoseg.evaluation import evaluate as run
    from emoseg.evaluation.figure import require_figure, write_figure
    from emoseg.evaluation.injected_noise import InjectedNoise

    _require_file(out)
    if figure:
        require_figure(figure)
    if folds is not None and test_split is not None:
        raise ConfigError("--folds and --test-split: give only one of them, because official parts are not folds")
    given: dict[str, Any] = {
        "methods": tuple(methods) if methods else None,
        "folds": folds if test_split is None else 1,
        "seeds": seeds,
        "group": group,
        "noise": InjectedNoise.parse(noise) if noise else None,
        "fraction": fraction,
        "test_split": test_split,
    }
    protocol = Protocol(**{name: value for name, value in given.items() if value is not None})
    result = run(
        corpus.load(),
        protocol,
        config=train_config(config, frontend, soft_labels=soft_labels),
        workers=workers,
        cache=cache,
        work=unfinished_folder(out),
        predictions=predictions,
        quiet=quiet,
    )
    write_result(result, out)
    print_result(result, Console(width=None if sys.stdout.isatty() else 100))
    if figure:
        write_figure(result, figure)


def _require_file(out: Path) -> None:
    """Refuse a result file that could not be written at the end of a long run."""
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"{out}: its folder does not exist")
    if out.is_dir():
        raise ConfigError(f"{out}: is a folder; --out is the result file to write")
