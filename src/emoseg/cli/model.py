"""``emoseg model``: list, show or copy models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emoseg.cli.options import ModelArgument
from emoseg.system.console import put, put_json

model = typer.Typer(help="List, show or copy models.", no_args_is_help=True)
commands = typer.Typer()
commands.add_typer(model, name="model")


@model.command("list")
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per model.")] = False,
) -> None:
    """List the models that come with the package."""
    from emoseg.analysis.model_folder import bundled_models, load_model

    for name in bundled_models():
        facts = load_model(name).facts()
        if as_json:
            put_json(facts)
            continue
        learnt = f"learnt from {facts['corpus']} ({facts['songs']} songs)"
        put(f"{name}: {', '.join(facts['labels'])}; {learnt}, {facts['megabytes']:.1f} MB")


@model.command("show")
def show_model(
    model: ModelArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print the model's config.json.")] = False,
) -> None:
    """Print a model's card: what it is, what it was learnt from and how good it is."""
    from emoseg.analysis.model_folder import load_model, read_card

    found = load_model(model)
    card = read_card(found)
    if as_json or not card:
        put_json(found.config.model_dump(mode="json"), indent=2)
    else:
        put(card.rstrip())


@model.command("export")
def export(
    model: ModelArgument,
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write; must not exist.")],
    weights: Annotated[
        bool, typer.Option(help="Include the weights that further training needs, if the model has them.")
    ] = True,
) -> None:
    """Copy a model to a folder of its own."""
    from emoseg.analysis.model_folder import export_model

    export_model(model, out, weights=weights)
    put(str(out))
