"""All settings with their defaults as a file that `emoseg.config.load_train_config` reads."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from emoseg.config import CompareConfig, DescriptorsConfig, LogMelConfig, MethodSettings, TrainConfig


def default_toml(methods: Mapping[str, type[MethodSettings]]) -> str:
    """Return a settings file with all defaults; each setting has its description and its range in a comment.

    `load_train_config` accepts it, and the result has the defaults.

    Parameters
    ----------
    methods : mapping of str to type of MethodSettings
        Settings classes of methods by name; each gets a table.
    """
    lines = [
        "# Settings of 'emoseg train' and 'emoseg evaluate', with their defaults. Any of them may be left out.",
        "",
    ]
    lines += _toml_table(TrainConfig, "")
    lines += _toml_table(DescriptorsConfig, "[frontends]")
    for other in (LogMelConfig, CompareConfig):
        table = _toml_table(other, "[frontends]")
        lines += [f"# {line}" if line and not line.startswith("#") else line for line in table]
    for name, settings in methods.items():
        if settings.model_fields:
            lines += _toml_table(settings, f"methods.{name}")
    return "\n".join(lines).rstrip() + "\n"


def _toml_table(model: type[BaseModel], table: str) -> list[str]:
    """Return the lines of a table and of the tables in it; a name in brackets is that of an array of tables."""
    lines = _comment(model.__doc__.partition("\n\n")[0]) if table and model.__doc__ else []
    lines += [f"[{table}]"] if table else []
    tables: list[str] = []
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            tables += _toml_table(type(field.default), f"{table}.{name}" if table else name)
        elif not (model is TrainConfig and name in ("frontends", "methods")):
            value = field.default if field.default is not None else ""
            lines += [*_comment(_described(field)), f"{name} = {json.dumps(value)}"]
    return [*lines, "", *tables]


def _described(field: FieldInfo) -> str:
    """Return a setting's description, with its range in brackets."""
    words = {Ge: ("at least", "ge"), Gt: ("above", "gt"), Le: ("at most", "le"), Lt: ("below", "lt")}
    limits = [
        f"{words[type(rule)][0]} {getattr(rule, words[type(rule)][1])}"
        for rule in field.metadata
        if type(rule) in words
    ]
    return " ".join(filter(None, [field.description, f"({', '.join(limits)})" if limits else ""]))


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(" ".join(text.split()), 110)]
