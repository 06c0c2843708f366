"""Labelled songs: one module a data set behind one registry.

`load_corpus` turns ``NAME:PATH`` into a `Corpus`. A new corpus is a function from its folder to a `Corpus`, and a line
in `CORPORA`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from emoseg.corpora.base import Corpus, Problem, Song
from emoseg.corpora.fourq import load_fourq
from emoseg.corpora.planted import load_synth
from emoseg.corpora.user import load_csv, load_folder
from emoseg.errors import CorpusError

__all__ = ["CORPORA", "Corpus", "Problem", "Song", "load_corpus"]

CORPORA: Mapping[str, Callable[[Path], Corpus]] = MappingProxyType(
    {"4q": load_fourq, "folder": load_folder, "csv": load_csv, "synth": load_synth}
)


def load_corpus(spec: str) -> Corpus:
    """Load a corpus given as ``NAME:PATH``, such as ``"folder:my-songs"``.

    Raises
    ------
    CorpusError
        The name is unknown, the path does not exist, or it does not hold such a corpus.
    """
    name, colon, path = spec.partition(":")
    if not colon or not path or name not in CORPORA:
        raise CorpusError(f"corpus {spec!r}: must be NAME:PATH with NAME one of {', '.join(CORPORA)}")
    root = Path(path).expanduser()
    if not root.exists():
        raise CorpusError(f"{root}: does not exist")
    return CORPORA[name](root)
