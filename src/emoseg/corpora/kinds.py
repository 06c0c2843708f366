"""The registry of corpora: which kinds there are, how each is loaded, and which options each takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoseg.corpora.base import Corpus
from emoseg.corpora.options import CorpusOptions
from emoseg.registry import Registry

LABEL_OPTIONS = frozenset({"space", "split", "audio"})
"""Options of a corpus whose songs have labels."""
RATING_OPTIONS = LABEL_OPTIONS | {"threshold", "margin"}
"""Options of a corpus whose songs have ratings, from which labels are made."""


@dataclass(frozen=True)
class CorpusKind:
    """How a corpus is loaded, and which fields of `CorpusOptions` it takes; any other field must keep its default.

    Parameters
    ----------
    load : callable
        Maps the path that the user gave, which exists, and the options to a `Corpus`.
    takes : set of str
        `load_corpus` applies the option ``"split"`` itself; it is enough that songs have a `split`.
    """

    load: Callable[[Path, CorpusOptions], Corpus]
    takes: frozenset[str] = RATING_OPTIONS


def _as_kind(thing: Any) -> CorpusKind:
    if isinstance(thing, CorpusKind):
        return thing
    if callable(thing):
        return CorpusKind(thing)
    raise TypeError(f"{thing!r} is neither a function of a path and CorpusOptions nor a CorpusKind")


_LOADERS = "emoseg.corpora.loaders"

CORPORA = Registry[CorpusKind](
    "corpus",
    group="emoseg.corpora",
    builtin={
        "4q": f"{_LOADERS}.fourq:KIND",
        "pmemo": f"{_LOADERS}.pmemo:KIND",
        "emomusic": f"{_LOADERS}.emomusic:KIND",
        "emopia": f"{_LOADERS}.emopia:KIND",
        "vgmidi": f"{_LOADERS}.vgmidi:KIND",
        "deam": f"{_LOADERS}.deam:KIND",
        "mtg-moodtheme": f"{_LOADERS}.moodtheme:KIND",
        "folder": f"{_LOADERS}.user:FOLDER",
        "csv": f"{_LOADERS}.user:CSV",
        "synth": f"{_LOADERS}.synth:KIND",
    },
    check=_as_kind,
)
"""All corpora by the name that stands before the colon in ``NAME:PATH``."""
