"""The methods of learning, one module per method, and their registry.

`METHODS` maps the name of a method to a subclass of `emoseg.learning.methods.base.Method`. A new method is one file
and one line: docs/methods.md shows both. Importing this package imports no method; a method is imported when its name
is looked up, because all of them need PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import ValidationError

from emoseg.config import MethodSettings, TrainConfig, first_problem, replace_settings
from emoseg.errors import ConfigError
from emoseg.frontends import build_frontend
from emoseg.registry import Registry
from emoseg.version import VERSION

if TYPE_CHECKING:
    from emoseg.learning.methods.base import Method

__all__ = ["METHODS", "build_method", "code_versions", "require_method", "resolve_settings"]


def _check_method(thing: object) -> type[Method]:
    from emoseg.learning.methods.base import Method

    if not (isinstance(thing, type) and issubclass(thing, Method)):
        raise TypeError("must be a subclass of emoseg.learning.methods.base.Method")
    return thing


METHODS: Registry[type[Method]] = Registry(
    "method",
    group="emoseg.methods",
    builtin={
        "inherit": f"{__name__}.inherit:Inherit",
        "mixup": f"{__name__}.inherit:Mixup",
        "elr": f"{__name__}.elr:Elr",
        "co-teaching": f"{__name__}.co_teaching:CoTeaching",
        "dividemix": f"{__name__}.dividemix:DivideMix",
        "confident": f"{__name__}.confident:ConfidentLearning",
        "mean-teacher": f"{__name__}.mean_teacher:MeanTeacher",
        "attention-mil": f"{__name__}.attention_mil:AttentionMil",
        "whole-song": f"{__name__}.whole_song:WholeSong",
        "svm-compare": f"{__name__}.svm_compare:SvmCompare",
        "sssl": f"{__name__}.sssl:Sssl",
        "emoseg": f"{__name__}.emoseg.method:Emoseg",
    },
    check=_check_method,
)


def require_method(name: str) -> None:
    """Do nothing if a method of this name exists; it is not imported.

    Raises
    ------
    ConfigError
        No method has the name. The message lists all methods and suggests the most similar name.
    """
    METHODS.origin(name)


def resolve_settings(config: TrainConfig, methods: Sequence[str]) -> TrainConfig:
    """Return the settings with complete tables for some methods, checked, and with no table for any other method.

    Parameters
    ----------
    config : TrainConfig
    methods : sequence of str
        Names of the methods that are used. Tables of other methods are not checked.

    Raises
    ------
    ConfigError
        A name or the key of a table is not that of a method, or a setting of a method that is used breaks its rule.
    """
    for name in config.methods:
        require_method(name)
    tables = {name: _settings_of(config, name).model_dump(mode="json") for name in methods}
    return replace_settings(config, methods=tables)


def build_method(config: TrainConfig, name: str) -> Method:
    """Return a method with its settings.

    Raises
    ------
    ConfigError
        The name is not that of a method, or one of its settings breaks its rule.
    """
    return METHODS[name](_settings_of(config, name))


def code_versions(config: TrainConfig, methods: Sequence[str] = ()) -> dict[str, int | str]:
    """Return the versions of emoseg, of the frontends of the settings, and of some methods and their own frontends.

    An unfinished run notes them, so that results of different versions are never mixed.
    """
    frontends = {*config.frontends, *(f for name in methods for f in METHODS[name].frontends or ())}
    versions: dict[str, int | str] = {"emoseg": VERSION}
    versions |= {f"frontend {f.name}": build_frontend(f, config.segment).version for f in frontends}
    return versions | {f"method {name}": METHODS[name].version for name in methods}


def _settings_of(config: TrainConfig, name: str) -> MethodSettings:
    table = f"methods.{name}"
    try:
        settings = METHODS[name].settings_class.model_validate(config.methods.get(name, {}))
        settings.check(config.learning)
    except ValidationError as error:
        raise ConfigError(first_problem(error, within=table)) from error
    except ValueError as error:
        raise ConfigError(f"{table}: {error}") from error
    return settings
