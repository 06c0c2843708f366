"""Cells of CSV tables that a spreadsheet shows as text, whatever a name or a tag contains."""

from __future__ import annotations

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def csv_cell(text: str) -> str:
    """Return text for a cell of a CSV table; text that a spreadsheet would run as a formula gets a leading apostrophe.

    References
    ----------
    .. [1] OWASP, "CSV Injection". https://owasp.org/www-community/attacks/CSV_Injection
    """
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
