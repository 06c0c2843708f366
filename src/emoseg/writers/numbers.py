"""Numbers as all formats write them: finite, and rounded where a format is text."""

from __future__ import annotations

import math

from emoseg.errors import EmosegError

DECIMALS = 6


def finite(value: float, path: str) -> float:
    """Return `value` as a plain float without minus zero.

    Raises
    ------
    EmosegError
        It is not finite; the message names the recording, `path`.
    """
    number = float(value)
    if not math.isfinite(number):
        raise EmosegError(f"{path}: the analysis holds {number}, but results must be finite numbers")
    return number + 0.0  # adding zero turns -0.0 into 0.0


def finite_or_none(value: float | None, path: str) -> float | None:
    """Return `finite`, or None for a value that is unknown."""
    return None if value is None else finite(value, path)


def rounded(value: float, path: str) -> float:
    """Return `finite`, rounded to six decimals."""
    return round(finite(value, path), DECIMALS) + 0.0


def rounded_or_none(value: float | None, path: str) -> float | None:
    """Return `rounded`, or None for a value that is unknown."""
    return None if value is None else rounded(value, path)
