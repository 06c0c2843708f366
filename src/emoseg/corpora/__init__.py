"""Corpora: songs with a label each, from data sets and from users' own folders and tables.

`load_corpus` turns ``NAME:PATH`` into a `Corpus`. A new corpus is a function from a path and `CorpusOptions` to a
`Corpus`, registered in `CORPORA` or brought by a package through the entry-point group ``emoseg.corpora``;
``docs/corpora.md`` shows how.
"""

from __future__ import annotations

import os

from emoseg.corpora.base import Corpus, Song
from emoseg.corpora.kinds import CORPORA, CorpusKind
from emoseg.corpora.options import CorpusOptions
from emoseg.corpora.problems import Problem
from emoseg.corpora.splits import select_split
from emoseg.corpora.tables import user_path
from emoseg.errors import CorpusError

__all__ = ["CORPORA", "Corpus", "CorpusKind", "CorpusOptions", "Problem", "Song", "load_corpus"]


def load_corpus(spec: str, options: CorpusOptions | None = None) -> Corpus:
    """Load a corpus.

    Parameters
    ----------
    spec : str
        ``"NAME:PATH"``, such as ``"folder:my-songs"``; NAME is one of `CORPORA`.
    options : CorpusOptions, optional

    Returns
    -------
    Corpus
        Its `problems` say what is wrong with it; a corpus with errors is returned too, so that it can be checked.

    Raises
    ------
    CorpusError
        `spec` is not of this form, the path does not exist, or it does not hold such a corpus.
    ConfigError
        No corpus has the name, or an option does not apply to this corpus or has an impossible value.
    """
    name, colon, path = str(spec).partition(":")
    if not (name and colon and path):
        raise CorpusError(f"corpus {spec!r}: must be NAME:PATH with NAME one of {', '.join(CORPORA)}")
    kind = CORPORA[name]
    root = user_path(path)
    if not os.path.exists(root):  # noqa: PTH110  (Path.exists raises for names that are too long)
        raise CorpusError(f"{root}: does not exist")
    options = options or CorpusOptions()
    options.require_only(name, kind.takes)
    corpus = kind.load(root, options)
    return select_split(corpus, options.split) if options.split else corpus
