"""What every corpus is once loaded.

A corpus is a list of songs, each with one label, and a list of problems found while loading. A song without usable
audio or label never disappears in silence: it is a problem.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from emoseg.corpora.problems import Problem
from emoseg.corpora.ratings import RatingRule, RatingsOverTime
from emoseg.emotion import EmotionSpace
from emoseg.errors import CorpusError
from emoseg.types import Section


@dataclass(frozen=True)
class Song:
    """One labelled song.

    Parameters
    ----------
    id : str
        Unique within the corpus.
    path : Path
        Its audio.
    label : str
        Its song-level label, one of the corpus' space.
    artist : str or None
        Songs of one artist never lie on both sides of a split; None where unknown.
    split : str or None
        Official split, such as ``"train"`` or ``"test"``, where the corpus has one.
    sections : tuple of Section
        The true emotion over time, where it is known. Never an input to learning.
    work : str or None
        The song that this recording is one of several clips of; clips of one song never lie on both sides of a split.
    soft : tuple of float or None
        Share of listeners, annotators or mood tags for each label of the space, where it is known; sums to 1.
    over_time : RatingsOverTime or None
        Ratings over time, where there are any. Never an input to learning.
    published_s : float or None
        How long the recording should be, where its authors say so.
    """

    id: str
    path: Path
    label: str
    artist: str | None = None
    split: str | None = None
    sections: tuple[Section, ...] = ()
    work: str | None = None
    soft: tuple[float, ...] | None = None
    over_time: RatingsOverTime | None = None
    published_s: float | None = None

    @property
    def group(self) -> str:
        """What must not be split: the artist, or the song itself where the artist is unknown."""
        return f"artist:{self.artist}" if self.artist else f"song:{self.own_group}"

    @property
    def own_group(self) -> str:
        """What must not be split where artists may be: the song that this is a clip of, or the song itself."""
        return self.work or self.id


@dataclass(frozen=True)
class CorpusFacts:
    """What is known of a corpus from its authors: terms, what to cite, and how much there should be."""

    licence: str = "unknown"
    citation: str = ""
    songs: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Corpus:
    """Labelled songs in one emotion space, and what is wrong with them.

    Parameters
    ----------
    name : str
    root : Path
        Its folder, or its table where it is one.
    space : EmotionSpace
        Its `rule` says how labels were made from ratings.
    songs : tuple of Song
        Those with a label and a file, by id.
    problems : tuple of Problem
    licence, citation : str
    published_counts : dict of str to int
        Songs of each label as published; empty where nothing is, or where other labels were asked for.
    published_songs : int or None
        Annotated songs as published.
    without_audio : tuple of Song
        Labelled songs whose file is not there; their path does not exist. Not learnt from.
    unannotated : tuple of Path
        Recordings without a label.
    excluded : dict of str to tuple of str
        Ids of annotated songs that are not among `songs`, by the reason.
    rule : RatingRule or None
        How ratings become labels, where the corpus is rated.
    """

    name: str
    root: Path
    space: EmotionSpace
    songs: tuple[Song, ...]
    problems: tuple[Problem, ...] = ()
    licence: str = "unknown"
    citation: str = ""
    published_counts: dict[str, int] = field(default_factory=dict)
    published_songs: int | None = None
    without_audio: tuple[Song, ...] = ()
    unannotated: tuple[Path, ...] = ()
    excluded: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rule: RatingRule | None = None

    def counts(self) -> dict[str, int]:
        """Return the number of songs of each label, in the order of the space."""
        found = Counter(song.label for song in self.songs)
        return {label: found[label] for label in self.space.labels}

    def with_problems(self, more: Sequence[Problem]) -> Corpus:
        """Return the corpus with some more problems."""
        return replace(self, problems=(*self.problems, *more))

    def require_usable(self) -> Corpus:
        """Return the corpus if it can be learnt from.

        Raises
        ------
        CorpusError
            On the first error among the problems.
        """
        errors = [p.message for p in self.problems if p.severity == "error"]
        if errors:
            more = f" (and {len(errors) - 1} more; see: emoseg corpus check)" if len(errors) > 1 else ""
            raise CorpusError(f"{errors[0]}{more}")
        return self


def make_corpus(
    name: str,
    root: Path,
    songs: Sequence[Song],
    *,
    problems: Sequence[Problem] = (),
    space: EmotionSpace | None = None,
    facts: CorpusFacts | None = None,
    without_audio: Sequence[Song] = (),
    unannotated: Sequence[Path] = (),
    excluded: Mapping[str, tuple[str, ...]] | None = None,
    rule: RatingRule | None = None,
) -> Corpus:
    """Build a corpus after the checks that hold for all: songs, two labels, readable labels, every file once.

    Raises
    ------
    CorpusError
        There is no song, or only one label; the message is the first error among the problems, if there is one. A
        corpus of which annotations are there but the audio is not is no such case: that is one of its problems.
    """
    labels = sorted({song.label for song in songs})
    found = list(problems)
    if len(labels) < 2:
        if not without_audio:
            raise CorpusError(_too_few(root, songs, problems))
        found.append(Problem("error", _too_few(root, songs, ()), of_audio=True))
    found += [Problem("error", message) for message in _listed_again(songs)]
    found += [Problem("warning", f"{root}: {message}") for message in _alike(labels)]
    found += [Problem("error", f"{root}: the label {x!r} is not printable text") for x in labels if not x.isprintable()]
    facts = facts or CorpusFacts()
    return Corpus(
        name,
        root,
        space or EmotionSpace.from_labels([song.label for song in songs]),
        tuple(sorted(songs, key=lambda song: song.id)),
        tuple(found),
        facts.licence,
        facts.citation,
        dict(facts.counts),
        facts.songs,
        tuple(sorted(without_audio, key=lambda song: song.id)),
        tuple(unannotated),
        excluded or {},
        rule,
    )


def _too_few(root: Path, songs: Sequence[Song], problems: Sequence[Problem]) -> str:
    errors = [p.message for p in problems if p.severity == "error"]
    if errors:
        return f"{errors[0]} (and {len(errors) - 1} more like it)" if len(errors) > 1 else errors[0]
    if not songs:
        return f"{root}: no labelled song with audio found"
    all_songs = "the only song has" if len(songs) == 1 else f"all {len(songs)} songs have"
    return f"{root}: {all_songs} the label {songs[0].label!r}; two or more labels are needed"


def _alike(labels: Sequence[str]) -> list[str]:
    """Say which labels are the same word but for capitals: most likely one label, and learnt as two."""
    first: dict[str, str] = {}
    pairs = [(first.setdefault(label.casefold(), label), label) for label in labels]
    return [f"the labels {a!r} and {b!r} differ in capitals only and are two labels" for a, b in pairs if a != b]


def _listed_again(songs: Sequence[Song]) -> list[str]:
    """Say which files several songs name; links and detours lead to the same file."""
    first: dict[tuple[int, int], Path] = {}
    messages = []
    for song in songs:
        try:
            status = song.path.stat()
        except OSError:
            continue  # reading it says why
        known = first.setdefault((status.st_dev, status.st_ino), song.path)
        if known is not song.path:
            also = f", also as {song.path}" if song.path != known else ""
            messages.append(f"{known}: is listed more than once{also}")
    return messages
