"""Loaded corpora: songs with one label each, and a list of the problems found while loading.

A song without usable audio or without a label is never left out silently: there is a problem for it.
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
        Name of the song, unique within the corpus.
    path : Path
        Its recording.
    label : str
        Song-level label, one of the labels of the corpus' space.
    artist : str or None
        Artist, or None if unknown. Songs of one artist are never on both sides of a split.
    split : str or None
        Official part, such as ``"train"`` or ``"test"``; None if the corpus has none.
    sections : tuple of Section
        True emotion over time; empty if unknown. Never an input to learning.
    work : str or None
        For a recording that is one of several clips of a song, the name of the song; clips of one song are never on
        both sides of a split.
    soft : tuple of float or None
        Share of listeners, annotators or mood tags for each label of the space, K numbers that sum to 1; None if
        unknown.
    over_time : RatingsOverTime or None
        Ratings over time; None if there are none. Never an input to learning.
    published_s : float or None
        Published duration of the recording in seconds; None if unknown.
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
        """Name of the group that is never split: the artist, or the song itself if the artist is unknown."""
        return f"artist:{self.artist}" if self.artist else f"song:{self.own_group}"

    @property
    def own_group(self) -> str:
        """Name of the group that stays together even where artists do not: the clips of one song, or the song."""
        return self.work or self.id


@dataclass(frozen=True)
class CorpusFacts:
    """Facts that the authors of a corpus publish.

    Parameters
    ----------
    licence : str
        Terms of use.
    citation : str
        Publication to cite.
    songs : int or None
        Number of annotated songs.
    counts : mapping of str to int
        Number of songs per label, for the default labels.
    """

    licence: str = "unknown"
    citation: str = ""
    songs: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Corpus:
    """Labelled songs in one emotion space.

    Parameters
    ----------
    name : str
        Name in the registry, such as ``"4q"``.
    root : Path
        Folder of the corpus, or its table.
    space : EmotionSpace
        The labels; its `rule` says how they were made from ratings.
    songs : tuple of Song
        Songs with a label and a file, sorted by id.
    problems : tuple of Problem
        Everything that was wrong while loading.
    licence, citation : str
        Terms of use, and the publication to cite.
    published_counts : dict of str to int
        Published number of songs per label; empty if unknown, or if the labels are not the published ones.
    published_songs : int or None
        Published number of annotated songs.
    without_audio : tuple of Song
        Labelled songs whose recording does not exist; they are not learnt from.
    unannotated : tuple of Path
        Recordings without a label.
    excluded : dict of str to tuple of str
        Ids of annotated songs that are not among `songs`, by the reason.
    rule : RatingRule or None
        Rule by which ratings become labels; None if the corpus is not rated.
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
        """Return the number of songs per label, in the order of the space."""
        counter = Counter(song.label for song in self.songs)
        return {label: counter[label] for label in self.space.labels}

    def with_problems(self, more: Sequence[Problem]) -> Corpus:
        """Return the corpus with further problems."""
        return replace(self, problems=(*self.problems, *more))

    def require_usable(self) -> Corpus:
        """Return the corpus unless it has errors.

        Raises
        ------
        CorpusError
            A problem is an error; the message is that of the first one.
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
    """Return a corpus after the checks that all corpora share: two labels, printable labels, every file once.

    What these checks find is added to the problems. Parameters are those of `Corpus`.

    Parameters
    ----------
    name, root, songs, problems, without_audio, unannotated, excluded, rule
    space : EmotionSpace, optional
        Default: the labels of the songs, in alphabetical order.
    facts : CorpusFacts, optional

    Raises
    ------
    CorpusError
        There is no song, or only one label; the message is the first error among the problems, if there is one. A
        corpus whose recordings are missing is returned, with this as a problem.
    """
    labels = sorted({song.label for song in songs})
    all_problems = list(problems)
    if len(labels) < 2:
        if not without_audio:
            raise CorpusError(_too_few(root, songs, problems))
        all_problems.append(Problem("error", _too_few(root, songs, ()), of_audio=True))
    all_problems += [Problem("error", message) for message in _repeated_files(songs)]
    all_problems += [Problem("warning", f"{root}: {message}") for message in _similar_labels(labels)]
    all_problems += [
        Problem("error", f"{root}: the label {x!r} is not printable text") for x in labels if not x.isprintable()
    ]
    facts = facts or CorpusFacts()
    return Corpus(
        name,
        root,
        space or EmotionSpace.from_labels([song.label for song in songs]),
        tuple(sorted(songs, key=lambda song: song.id)),
        tuple(all_problems),
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


def _similar_labels(labels: Sequence[str]) -> list[str]:
    """Return a message for every pair of labels that differ in capitals only, which is most likely a mistake."""
    first: dict[str, str] = {}
    pairs = [(first.setdefault(label.casefold(), label), label) for label in labels]
    return [f"the labels {a!r} and {b!r} differ in capitals only and are two labels" for a, b in pairs if a != b]


def _repeated_files(songs: Sequence[Song]) -> list[str]:
    """Return a message for every file that several songs have, also through links or other paths."""
    first: dict[tuple[int, int], Path] = {}
    messages = []
    for song in songs:
        try:
            status = song.path.stat()
        except OSError:
            continue  # the error comes when the file is read
        known = first.setdefault((status.st_dev, status.st_ino), song.path)
        if known is not song.path:
            also = f", also as {song.path}" if song.path != known else ""
            messages.append(f"{known}: is listed more than once{also}")
    return messages
