"""What commands print: text in which nothing can control a terminal, and strict JSON.

All output of commands goes through these functions, because file names, tags, labels and model cards come from
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
    """Print text and a line end on standard output, at once, so that a reader at the other end sees it."""
    sys.stdout.write(printable(text) + "\n")
    sys.stdout.flush()


def tell(message: str) -> None:
    """Print one line on standard error; the middle of one that is very long is left out."""
    line = one_line(message)
    if len(line) > _LONGEST_LINE:
        line = f"{line[: _LONGEST_LINE // 2]} ... {line[-_LONGEST_LINE // 2 :]}"
    sys.stderr.write(f"emoseg: {line}\n")


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return strict JSON that a terminal can show: no NaN, and control characters as escapes.

    Raises
    ------
    EmosegError
        A number is not finite.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    except ValueError as error:
        raise EmosegError("the result holds a number that is not finite, which JSON has not") from error
    return UNSAFE.sub(_json_escaped, text)


def _json_escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    # A lone surrogate is no character, and strict readers refuse it even as an escape: its text form is kept instead.
    return f"\\{escape_of(match)}" if 0xD800 <= code <= 0xDFFF else f"\\u{code:04x}"


def put_json(value: Any, *, indent: int | None = None) -> None:
    """Print `json_text` and a line end on standard output."""
    put(json_text(value, indent=indent))


def show_own_warnings() -> None:
    """Print emoseg's warnings as a line like all others on standard error, and no library's."""

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        if issubclass(category, EmosegWarning):
            tell(str(message))

    warnings.showwarning = show


def drop_output() -> None:
    """Stop writing to standard output, whose reader has gone: else Python complains when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
