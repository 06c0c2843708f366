"""Safe reading of files in a model folder, which may come from an untrusted source.

Whatever a file contains, the functions that take a file raise nothing but `ModelError`, with one line that names it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from emoseg.config import first_problem
from emoseg.errors import ConfigError, ModelError
from emoseg.system.files import require_regular
from emoseg.system.names import one_line

_MOST_NESTED = 20  # levels of lists and objects in JSON
_MOST_MESSAGE = 300  # characters of a message, which may quote the file


def existing_file(root: Path, name: str, *, most_bytes: int) -> Path:
    """Return the path of a file after a check that it is a regular file inside the folder and not too large.

    Parameters
    ----------
    root : Path
        The model folder.
    name : str
        Name of the file.
    most_bytes : int
        Largest size in bytes.

    Raises
    ------
    ModelError
        The file does not exist, is a link that leads out of the folder, is not a regular file, or is too large.
    """
    file = root / name
    if not os.path.lexists(file):
        raise ModelError(f"{file}: is missing from the model folder")
    if not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(root)):
        raise ModelError(f"{file}: is a link to a file outside the model folder")
    size = require_regular(file, error=ModelError).st_size
    if size > most_bytes:
        raise ModelError(f"{file}: has {size / 1e6:.1f} MB; at most {most_bytes / 1e6:g} MB are read")
    return file


def read_content(root: Path, name: str, *, most_bytes: int) -> bytes:
    """Return the content of a file of the folder. Parameters and checks are those of `existing_file`.

    Raises
    ------
    ModelError
        As in `existing_file`, or the file cannot be read.
    """
    file = existing_file(root, name, most_bytes=most_bytes)
    try:
        return file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror or error}") from error


def parse_json(content: bytes) -> Any:
    """Return the value of a JSON text in UTF-8. Text that parsers may read differently is refused.

    Raises
    ------
    ValueError
        The text is not JSON, an object has a key twice, or a number or string is one that JSON cannot represent.
    RecursionError
        It is nested more than 20 levels deep.
    """
    value = json.loads(content.decode(), object_pairs_hook=_distinct_keys)
    _check_json(value)
    return value


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _check_json(value: Any, depth: int = 0) -> None:
    """Refuse deep nesting, numbers that are not finite or longer than 64 bits, and text that is not Unicode."""
    if depth > _MOST_NESTED:
        raise RecursionError
    if isinstance(value, dict | list):
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            _check_json(part, depth + 1)
    elif isinstance(value, str):
        value.encode()  # fails on half of a surrogate pair, which an escape sequence can produce
    elif value is not None and not (abs(value) < 2**63 and math.isfinite(value)):
        raise ValueError("holds a number that is not finite or too large")


@contextmanager
def problems_in(file: Path) -> Iterator[None]:
    """Turn the errors of code that reads a file's content into a `ModelError` of one line that names the file.

    Raises
    ------
    ModelError
        The code raised `ValueError` (of pydantic, JSON or Unicode too), `RecursionError` or `ConfigError`.
    """
    try:
        yield
    except ValidationError as error:
        raise ModelError(f"{file}: {short_line(first_problem(error))}") from error
    except RecursionError as error:
        raise ModelError(f"{file}: is nested more than {_MOST_NESTED} levels deep") from error
    except json.JSONDecodeError as error:
        raise ModelError(f"{file}: is not JSON: {short_line(error)}") from error
    except UnicodeError as error:
        raise ModelError(f"{file}: is not UTF-8 text: {short_line(error)}") from error
    except (ValueError, ConfigError) as error:
        raise ModelError(f"{file}: {short_line(error)}") from error


def short_line(problem: object) -> str:
    """Return a message as one line of at most 300 printable characters; it may quote a hostile file."""
    line = one_line(str(problem))
    return line if len(line) <= _MOST_MESSAGE else f"{line[: _MOST_MESSAGE - 3]}..."
