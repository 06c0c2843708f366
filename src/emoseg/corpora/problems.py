"""What is wrong with a corpus, as loaders and checks report it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Problem:
    """Something about a corpus that its user should know.

    Parameters
    ----------
    severity : {"error", "warning"}
        A corpus with errors is not learnt from: `Corpus.require_usable` refuses it.
    message : str
        One line: the file, what is wrong, and what was done about it.
    of_audio : bool
        The problem concerns the recordings alone, so what needs only labels can go on.
    """

    severity: Literal["error", "warning"]
    message: str
    of_audio: bool = False


def counted(items: Sequence[str], *, shown: int = 3) -> str:
    """Return the first few ids in parentheses for a message, such as ``"(12, 15, 20, ...)"``."""
    return f"({', '.join([*items[:shown], *(['...'] if len(items) > shown else [])])})"
