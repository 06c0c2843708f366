"""``emoseg audit``: find the labels of a corpus that are probably wrong."""

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
    Workers,
    takes_corpus,
    train_config,
)
from emoseg.system.console import put

commands = typer.Typer()


@commands.command()
@takes_corpus
def audit(
    corpus: CorpusChoice,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder to write: new, empty, or an earlier audit, which is replaced.")
    ],
    frontend: Frontends = None,
    config: ConfigFile = None,
    seed: Seed = 0,
    workers: Workers = None,
    cache: Cache = None,
    quiet: Quiet = False,
) -> None:
    """Rank the songs and segments of a corpus by how probably their label is wrong, with the evidence in words."""
    from emoseg.auditing.audit import audit as audit_corpus

    settings = train_config(config, frontend, soft_labels=False)
    result = audit_corpus(corpus.load(), out, config=settings, seed=seed, workers=workers, cache=cache, quiet=quiet)
    put("\n".join(result.lines()))
    put(f"{out}: songs and segments as .csv, .json and .parquet; corrected.csv; decisions.csv for your decisions")
