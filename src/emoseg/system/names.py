r"""Text from strangers, such as file names and tags, in the form that each kind of output needs.

File names may hold control characters, which a terminal obeys, and bytes that are not UTF-8, which Python keeps as lone
surrogates and no strict reader accepts. There are three forms, from the one that changes least:

- `valid_text` for data (tables, JSON): every character stays, and bytes that are not UTF-8 become ``\xNN``.
- `printable` for text that people see: control characters become escapes, too.
- `one_line` for messages: `printable`, on one line.
"""

from __future__ import annotations

import re

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and line feed, line separators, marks of the direction of text, lone surrogates."""

_SURROGATE = re.compile("[\ud800-\udfff]")


def valid_text(text: str) -> str:
    r"""Return text that can be encoded as UTF-8: bytes of file names that are not UTF-8 become ``\xNN``."""
    return _SURROGATE.sub(escape_of, text)


def printable(text: str) -> str:
    r"""Return text without control characters: each becomes an escape such as ``\x1b``; tab and line feed stay.

    Bytes of file names that are not UTF-8 become ``\xNN``.
    """
    return UNSAFE.sub(escape_of, text)


def one_line(text: str) -> str:
    """Return `printable` text on one line, with single spaces between the words."""
    return printable(" ".join(text.split()))


def escape_of(match: re.Match[str]) -> str:
    r"""Return the escape of a matched character, such as ``\x1b`` or ``\u202e``."""
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte of a file name that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
