"""Labelled songs: one module a data set behind one registry.

`load_corpus` turns ``NAME:PATH`` into a `Corpus`. A new corpus is a function from its folder and `CorpusOptions` to a
`Corpus`, and a line in `CORPORA`; ``docs/corpora.md`` shows how.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from emoseg.corpora.base import Corpus, Song
from emoseg.corpora.loaders.deam import load_deam
from emoseg.corpora.loaders.emomusic import load_emomusic
from emoseg.corpora.loaders.emopia import load_emopia
from emoseg.corpora.loaders.fourq import load_fourq
from emoseg.corpora.loaders.moodtheme import load_moodtheme
from emoseg.corpora.loaders.pmemo import load_pmemo
from emoseg.corpora.loaders.synth import load_synth
from emoseg.corpora.loaders.user import load_csv, load_folder
from emoseg.corpora.loaders.vgmidi import load_vgmidi
from emoseg.corpora.options import CorpusOptions
from emoseg.corpora.problems import Problem
from emoseg.corpora.splits import select_split
from emoseg.corpora.tables import user_path
from emoseg.errors import CorpusError

__all__ = ["CORPORA", "Corpus", "CorpusKind", "CorpusOptions", "Problem", "Song", "load_corpus"]

_QUADRANTS = frozenset({"space", "split", "audio"})
_RATED = _QUADRANTS | {"threshold", "margin"}


@dataclass(frozen=True)
class CorpusKind:
    """A corpus of the registry: how it is loaded, and which of the `CorpusOptions` mean something for it."""

    load: Callable[[Path, CorpusOptions], Corpus]
    takes: frozenset[str]


CORPORA: Mapping[str, CorpusKind] = MappingProxyType(
    {
        "4q": CorpusKind(load_fourq, _QUADRANTS),
        "pmemo": CorpusKind(load_pmemo, _RATED),
        "emomusic": CorpusKind(load_emomusic, _RATED),
        "emopia": CorpusKind(load_emopia, _QUADRANTS | {"labels"}),
        "vgmidi": CorpusKind(load_vgmidi, _RATED),
        "deam": CorpusKind(load_deam, _RATED),
        "mtg-moodtheme": CorpusKind(load_moodtheme, _QUADRANTS),
        "folder": CorpusKind(load_folder, frozenset()),
        "csv": CorpusKind(load_csv, frozenset({"split", "audio"})),
        "synth": CorpusKind(load_synth, frozenset({"split"})),
    }
)


def load_corpus(spec: str, options: CorpusOptions | None = None) -> Corpus:
    """Load a corpus given as ``NAME:PATH``, such as ``"folder:my-songs"``.

    Raises
    ------
    CorpusError
        The name is unknown, the path does not exist, or it does not hold such a corpus.
    ConfigError
        An option does not apply to this corpus, or has a value that does not.
    """
    name, colon, path = spec.partition(":")
    if not colon or not path or name not in CORPORA:
        raise CorpusError(f"corpus {spec!r}: must be NAME:PATH with NAME one of {', '.join(CORPORA)}")
    root = user_path(path)
    if not os.path.exists(root):  # noqa: PTH110  (Path.exists raises for names that are too long)
        raise CorpusError(f"{root}: does not exist")
    options = options or CorpusOptions()
    options.require_only(name, CORPORA[name].takes)
    corpus = CORPORA[name].load(root, options)
    return select_split(corpus, options.split) if options.split else corpus
