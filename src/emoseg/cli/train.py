"""``emoseg train``: learn a model folder from a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emoseg.cli.options import (
    Cache,
    ConfigFile,
    CorpusChoice,
    Frontends,
    Quiet,
    Seed,
    SoftLabels,
    Workers,
    takes_corpus,
    train_config,
)
from emoseg.system.console import put, tell

commands = typer.Typer()


@commands.command()
@takes_corpus
def train(
    corpus: CorpusChoice,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Model folder to write; must not exist.")],
    method: Annotated[str | None, typer.Option(help="How to learn; default: emoseg. See docs/methods.md.")] = None,
    frontend: Frontends = None,
    config: ConfigFile = None,
    soft_labels: SoftLabels = False,
    seed: Seed = 0,
    measured: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json", help="Result of 'emoseg evaluate' with the same settings, for the model card."
        ),
    ] = None,
    notes: Annotated[Path | None, typer.Option(metavar="FILE.md", help="Text for the end of the model card.")] = None,
    workers: Workers = None,
    cache: Cache = None,
    quiet: Quiet = False,
) -> None:
    """Learn a model folder from a corpus; after an interruption the same command continues."""
    from emoseg.training import train as learn_model

    settings = train_config(config, frontend, method, soft_labels=soft_labels)
    trained = learn_model(
        corpus.load(),
        out,
        config=settings,
        seed=seed,
        measured=measured,
        notes=notes,
        workers=workers,
        cache=cache,
        quiet=quiet,
    )
    for line in trained.left_out:
        tell(f"left out: {line}")
    figures = trained.model.config.figures
    put(
        f"{out}: {trained.model.config.training['songs']} songs, held-out macro-F1 {figures['held_out_macro_f1']:.3f}, "
        f"calibration error {figures['held_out_calibration_error']:.3f}, "
        f"{figures['segments_flagged']:.1%} of segment labels not trusted"
    )
