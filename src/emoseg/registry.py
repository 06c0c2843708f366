"""Extension points: things of one kind by name, from emoseg, from other packages, or registered by a program.

A `Registry` holds, say, all corpora. A name gets there in three ways:

- emoseg provides it: built-in entries are objects, or references ``"module:attribute"`` imported on first use;
- an installed package provides it, through an entry point of the registry's group, without any call::

      [project.entry-points."emoseg.corpora"]
      myset = "my_package.myset:load_myset"

- a program registers it in one line: ``CORPORA.register("myset", load_myset)``.

A built-in name always keeps its meaning: an entry point of that name is ignored with a warning, so that installing a
package never changes what an established name does. A name that two packages bring is an error when it is used,
because neither has precedence. Listing names imports nothing.

Entry points work in worker processes too. What is registered by a call is known in the calling process alone; a worker
knows it if the module that makes the call is imported there, which is true of the top level of a script.
"""

from __future__ import annotations

import importlib
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from emoseg.errors import ConfigError, EmosegWarning

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Registry(Generic[T]):
    """All things of one kind by name.

    Parameters
    ----------
    kind : str
        What the things are called in messages, such as ``"corpus"``.
    group : str
        Group of the entry points through which other packages bring more, such as ``"emoseg.corpora"``.
    builtin : mapping of str to T or str
        The entries that emoseg provides; a string is a reference ``"module:attribute"``, imported on first use.
    check : callable, optional
        Applied once to everything that does not come from emoseg. It returns the thing as the registry keeps it, which
        may be another object (a function wrapped in a class, say), or raises an exception with the rule it breaks.

    Examples
    --------
    >>> sounds = Registry[float]("tone", group="my_package.tones", builtin={"a": 440.0, "tau": "math:tau"})
    >>> sounds.register("c", 261.6)
    >>> sounds.names()
    ('a', 'tau', 'c')
    >>> sounds["a"]
    440.0
    """

    def __init__(
        self,
        kind: str,
        *,
        group: str,
        builtin: Mapping[str, T | str],
        check: Callable[[Any], T] | None = None,
    ) -> None:
        self.kind = kind
        self.group = group
        self._builtin = dict(builtin)
        self._check = check
        self._registered: dict[str, T] = {}
        self._loaded: dict[str, T] = {}

    def names(self) -> tuple[str, ...]:
        """Return all names: those of emoseg in its order, then those of packages by name, then registered ones."""
        return tuple(dict.fromkeys([*self._builtin, *sorted(self._points()), *self._registered]))

    def __iter__(self) -> Iterator[str]:
        """Iterate over all names."""
        return iter(self.names())

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self.names())

    def __contains__(self, name: object) -> bool:
        """Return whether something has this name; it is not imported."""
        return name in self._builtin or name in self._registered or name in self._points()

    def __getitem__(self, name: str) -> T:
        """Return the thing of a name, imported if this is its first use.

        Raises
        ------
        ConfigError
            Nothing has the name, two packages bring it, or what the package brings cannot be imported or does not fit.
        """
        if name not in self:
            raise ConfigError(self._unknown(name))
        if name in self._registered:
            return self._registered[name]
        points = self._points().get(name, ())  # asked for built-in names too, to warn of an ignored entry point
        if name not in self._loaded:
            self._loaded[name] = self._load_builtin(name) if name in self._builtin else self._load_point(name, points)
        return self._loaded[name]

    def register(self, name: str, thing: T | Any, *, replace: bool = False) -> None:
        """Add a thing under a name, in this process.

        Parameters
        ----------
        name : str
            1 to 64 letters, digits, dots, hyphens and underscores; the first is a letter or a digit.
        thing : T
            What `registry[name]` will return, or what the registry's check makes it from.
        replace : bool
            Allow a name that was registered or brought by a package before. Built-in names cannot be replaced.

        Raises
        ------
        ConfigError
            The name breaks the rule or is taken, or the thing does not fit.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{self.kind} {name!r}: {_NAME_RULE}")
        if name in self._builtin or (name in self and not replace):
            raise ConfigError(f"{self.kind} {name!r}: is the name of another {self.kind}, from {self.origin(name)}")
        try:
            self._registered[name] = self._check(thing) if self._check else thing
        except Exception as error:
            raise ConfigError(f"{self.kind} {name!r}: cannot be registered: {_one_line(error)}") from error

    def origin(self, name: str) -> str:
        """Return where a name comes from: ``"emoseg"``, ``"this program"``, or a distribution and its version.

        Raises
        ------
        ConfigError
            Nothing has the name.
        """
        if name not in self:
            raise ConfigError(self._unknown(name))
        if name in self._builtin:
            return "emoseg"
        return "this program" if name in self._registered else " and ".join(map(_distribution, self._points()[name]))

    def _points(self) -> dict[str, tuple[EntryPoint, ...]]:
        """Return the usable entry points by name, with a warning about each that is ignored."""
        usable: dict[str, tuple[EntryPoint, ...]] = {}
        for point in _entry_points(self.group, tuple(sys.path)):
            if point.name in self._builtin:
                self._warn_ignored(point, f"emoseg has a {self.kind} of this name")
            elif not _NAME.fullmatch(point.name):
                self._warn_ignored(point, _NAME_RULE)
            else:
                usable[point.name] = (*usable.get(point.name, ()), point)
        return usable

    def _warn_ignored(self, point: EntryPoint, reason: str) -> None:
        message = f"{self.kind} {point.name!r} of the package {_distribution(point)} is ignored: {reason}"
        warnings.warn(message, EmosegWarning, stacklevel=4)

    def _load_builtin(self, name: str) -> T:
        thing = self._builtin[name]
        if not isinstance(thing, str):
            return thing
        module, _, attribute = thing.partition(":")
        loaded: T = getattr(importlib.import_module(module), attribute)
        return loaded

    def _load_point(self, name: str, points: tuple[EntryPoint, ...]) -> T:
        if len(points) > 1:
            both = " and ".join(map(_distribution, points))
            raise ConfigError(f"{self.kind} {name!r}: the packages {both} both bring one; uninstall all but one")
        [point] = points
        try:
            thing = point.load()
            return self._check(thing) if self._check else thing
        except Exception as error:
            where = f"{point.value} of the package {_distribution(point)}"
            raise ConfigError(f"{self.kind} {name!r}: cannot be loaded from {where}: {_one_line(error)}") from error

    def _unknown(self, name: str) -> str:
        from difflib import get_close_matches

        names = self.names()
        close = get_close_matches(name.casefold(), names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"{self.kind} {name!r}: must be one of {', '.join(names)}{hint}"


_NAME_RULE = "a name has 1 to 64 letters, digits, dots, hyphens and underscores, and begins with a letter or a digit"


@lru_cache(maxsize=32)
def _entry_points(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Return the entry points of a group; `path` is `sys.path`, so that an addition to it is noticed."""
    return tuple(entry_points(group=group))


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "(unknown)"


def _one_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
