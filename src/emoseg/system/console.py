"""The output of commands: text that cannot control a terminal, and strict JSON.

All output of commands goes through these functions, because file names, tags, labels and model cards may come from
strangers, and a terminal obeys the control characters in them.
"""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from typing import Any

from emoseg.errors import EmosegError, EmosegWarning
from emoseg.system.names import UNSAFE, escape_of, one_line, printable

_LONGEST_LINE = 1000


def put(text: str) -> None:
    """Print text and a line end on standard output, and flush it, so that a reader at the other end sees it at once."""
    sys.stdout.write(printable(text) + "\n")
    sys.stdout.flush()


def tell(message: str) -> None:
    """Print one line on standard error; the middle of a very long line is left out."""
    line = one_line(message)
    if len(line) > _LONGEST_LINE:
        line = f"{line[: _LONGEST_LINE // 2]} ... {line[-_LONGEST_LINE // 2 :]}"
    sys.stderr.write(f"emoseg: {line}\n")


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return strict JSON that a terminal can show: without NaN, and with escapes for control characters.

    Raises
    ------
    EmosegError
        A number is not finite.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    except ValueError as error:
        raise EmosegError("the result holds a number that is not finite, which JSON cannot express") from error
    return UNSAFE.sub(_json_escaped, text)


def _json_escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    # Strict readers refuse a lone surrogate even as a JSON escape, so its escape is written out as text.
    return f"\\{escape_of(match)}" if 0xD800 <= code <= 0xDFFF else f"\\u{code:04x}"


def put_json(value: Any, *, indent: int | None = None) -> None:
    """Print `json_text` and a line end on standard output."""
    put(json_text(value, indent=indent))


def show_own_warnings() -> None:
    """Print emoseg's warnings as one line each on standard error, and hide the warnings of libraries."""

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        if issubclass(category, EmosegWarning):
            tell(str(message))

    warnings.showwarning = show


def drop_output() -> None:
    """Discard all further output to standard output, whose reader has gone; else Python reports an error at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
