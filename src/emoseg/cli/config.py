"""``emoseg config``: all settings with their defaults, as a file for ``--config``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emoseg.errors import ConfigError
from emoseg.system.console import put

commands = typer.Typer()


@commands.command()
def config(
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="File to write; must not exist. Default: print.")
    ] = None,
) -> None:
    """Write a settings file with all defaults, for the option --config of train and evaluate."""
    from emoseg.default_settings import default_toml
    from emoseg.learning import require_train_extra
    from emoseg.learning.methods import METHODS
    from emoseg.system.files import write_whole

    require_train_extra()  # a method cannot be imported without PyTorch
    text = default_toml({name: METHODS[name].settings_class for name in METHODS})
    if out is None:
        put(text.rstrip())
        return
    if out.exists():
        raise ConfigError(f"{out}: exists already; choose another --out")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"{out}: its folder does not exist")
    write_whole(out, text)
