"""The part of loading that all data sets share: from annotations to a corpus.

A loader reads its tables into `Entry` objects and calls `assemble`, which makes labels, finds the recordings, and
reports everything that does not fit.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from emoseg.audio.find import find_recordings
from emoseg.corpora.base import Corpus, CorpusFacts, Song, make_corpus
from emoseg.corpora.options import CorpusOptions
from emoseg.corpora.problems import Problem, counted
from emoseg.corpora.ratings import Rating, RatingRule, RatingsOverTime, Scale, rated_space, rating_rule
from emoseg.corpora.splits import shared_groups
from emoseg.corpora.tables import read_table
from emoseg.emotion import QUADRANTS, EmotionSpace
from emoseg.errors import CorpusError
from emoseg.types import Section

LISTED = 10
"""Up to this number of recordings without annotation are named one by one; more are counted."""


@dataclass(frozen=True)
class Entry:
    """One annotated song, with either a label or a rating from which the label is made.

    Parameters
    ----------
    id : str
    label : str, optional
        Label of the corpus, such as a quadrant or a mood.
    rating : Rating, optional
    artist, split, work, over_time, sections, published_s
        As of `Song`.
    soft : mapping of str to float, optional
        Share of each of the corpus' labels.
    stem : str, optional
        Name of the recording without its suffix; default the id.
    """

    id: str
    label: str | None = None
    rating: Rating | None = None
    artist: str | None = None
    split: str | None = None
    work: str | None = None
    soft: Mapping[str, float] | None = None
    over_time: RatingsOverTime | None = None
    sections: tuple[Section, ...] = ()
    stem: str | None = None
    published_s: float | None = None


@dataclass(frozen=True)
class Labelling:
    """The space of a corpus, and functions that return the label and the soft label of an entry in it."""

    space: EmotionSpace
    label: Callable[[Entry], str]
    soft: Callable[[Entry], tuple[float, ...] | None]
    rule: RatingRule | None = None


def require_layout(root: Path, name: str, needed: str | Sequence[str]) -> Path:
    """Return the first file or folder below `root` that shows that it is a corpus of this kind.

    Parameters
    ----------
    root : Path
        Folder that the user gave.
    name : str
        Name of the corpus, for the message.
    needed : str or sequence of str
        Relative path of the file or folder, or several to choose from.

    Raises
    ------
    CorpusError
        There is none. If there is one up to two levels above or below, the message says which path to give.
    """
    choices = [needed] if isinstance(needed, str) else list(needed)

    def first_choice(folder: Path) -> Path | None:
        return next((folder / choice for choice in choices if (folder / choice).exists()), None)

    if path := first_choice(root):
        return path
    resolved = root.absolute()
    near = [resolved.parent, resolved.parent.parent, *_folders(resolved)]
    near += [folder for child in _folders(resolved) for folder in _folders(child)]
    hint = next((f"; try {name}:{folder}" for folder in near if first_choice(folder)), "")
    raise CorpusError(f"{root}: is not the {name} folder: no {choices[0]} in it{hint}")


def _folders(root: Path) -> list[Path]:
    try:
        return list(islice((p for p in sorted(root.iterdir()) if p.is_dir() and not p.name.startswith(".")), 200))
    except OSError:
        return []


def rated_labels(entries: Sequence[Entry], *, scale: Scale, options: CorpusOptions) -> Labelling:
    """Return the labels of rated songs, by the thresholds that the options ask for."""
    ratings = [e.rating for e in entries if e.rating]
    over_time = [e.over_time for e in entries if e.over_time]
    rule = rating_rule(ratings, over_time, scale=scale, options=options)

    def label(entry: Entry) -> str:
        return rule.space.labels[int(rule.labels(_rating(entry), rule.song))]

    return Labelling(rule.space, label, lambda entry: rule.soft(_rating(entry)), rule)


def quadrant_labels(options: CorpusOptions) -> Labelling:
    """Return the labels of songs that have a quadrant: the quadrant, or the side of the axis that the options name."""
    space = rated_space(options.space)
    side = {quadrant: side_of(quadrant, space) for quadrant in QUADRANTS.labels}
    if space.name != "4q":
        space = replace(space, rule=f"from quadrants; high {space.name} is {_high(side, space)}")

    def soft(entry: Entry) -> tuple[float, ...] | None:
        if entry.soft is None:
            return None
        shares = Counter[str]()
        for quadrant, share in entry.soft.items():
            shares[side[quadrant]] += share  # type: ignore[assignment]
        return tuple(float(shares[label]) for label in space.labels)

    return Labelling(space, lambda entry: side[entry.label or ""], soft)


def side_of(quadrant: str, space: EmotionSpace) -> str:
    """Return the label that a quadrant has in a space: itself, or its side of an axis."""
    if space.name == "4q":
        return quadrant
    axis = QUADRANTS.axes[QUADRANTS.index(quadrant)]
    return space.labels[(axis.valence if space.name == "valence" else axis.arousal) == 1.0]


def _high(side: Mapping[str, str], space: EmotionSpace) -> str:
    return " and ".join(q for q, label in side.items() if label == space.labels[1])


def _rating(entry: Entry) -> Rating:
    if entry.rating is None:
        raise CorpusError(f"{entry.id}: has no rating")
    return entry.rating


def assemble(
    name: str,
    root: Path,
    entries: Sequence[Entry],
    labelling: Labelling,
    *,
    facts: CorpusFacts,
    options: CorpusOptions,
    problems: Iterable[Problem] = (),
    audio: str | None = None,
    key: Callable[[Path], str] = lambda path: path.stem,
    published: str = "songs",
) -> Corpus:
    """Return the corpus of annotated songs and the recordings that belong to them.

    Parameters
    ----------
    name : str
        Name of the corpus.
    root : Path
        Folder of the corpus.
    entries : sequence of Entry
        All annotated songs, with or without audio.
    labelling : Labelling
    facts : CorpusFacts
        Its counts are kept only if the options ask for the default labels.
    options : CorpusOptions
    problems : iterable of Problem
        Problems all_problems in the tables.
    audio : str, optional
        Sub-folder of the root with the recordings, at any depth; the root itself where there is none. The user's option
        takes precedence.
    key : callable
        Returns the stem of a recording as the tables have it.
    published : str
        What `facts.songs` counts, for the message.

    Raises
    ------
    CorpusError
        As for `make_corpus`.
    """
    all_problems = [*problems, *_repeated(root, entries), *_missing(root, entries, facts, published)]
    folder = options.audio or (root / audio if audio and (root / audio).is_dir() else root)
    recordings = _recordings(folder, key, all_problems)
    kept, excluded = _by_margin(root, entries, labelling, options, all_problems)
    songs: list[Song] = []
    silent: list[Song] = []
    for entry in kept:
        path = recordings.get(entry.stem or entry.id)
        song = _song(entry, path or folder / (entry.stem or entry.id), labelling)
        (silent if path is None else songs).append(song)
    if silent:
        ids = sorted(song.id for song in silent)
        excluded["no audio"] = tuple(ids)
        n, all_n = len(ids), len(kept)
        listed = f"({ids[0]}, ...)" if n > 1 else f"({ids[0]})"
        what = f"{root}: {n} of {all_n} annotated songs have no audio and are left out {listed}"
        all_problems.append(Problem("warning", what))
    known = {entry.stem or entry.id for entry in entries}
    unannotated = [path for stem, path in sorted(recordings.items()) if stem not in known]
    all_problems += _unannotated(folder, unannotated)
    all_problems += shared_groups([(e.split, e.artist) for e in entries], where=str(root))
    default = options.space in (None, "4q") and options.threshold in (None, "middle") and not options.margin
    facts = facts if default and options.labels in (None, "clip") else replace(facts, counts={})
    return make_corpus(
        name,
        root,
        songs,
        problems=all_problems,
        space=labelling.space,
        facts=facts,
        without_audio=silent,
        unannotated=unannotated,
        excluded=excluded,
        rule=labelling.rule,
    )


def _song(entry: Entry, path: Path, labelling: Labelling) -> Song:
    return Song(
        entry.id,
        path,
        labelling.label(entry),
        artist=entry.artist or None,
        split=entry.split or None,
        sections=entry.sections,
        work=entry.work,
        soft=labelling.soft(entry),
        over_time=entry.over_time,
        published_s=entry.published_s,
    )


def _repeated(root: Path, entries: Sequence[Entry]) -> list[Problem]:
    repeated = [song for song, n in Counter(e.id for e in entries).items() if n > 1]
    return [Problem("error", f"{root}: {song} is annotated more than once") for song in repeated]


def _missing(root: Path, entries: Sequence[Entry], facts: CorpusFacts, published: str) -> list[Problem]:
    n = len({e.id for e in entries})
    if facts.songs is None or n >= facts.songs:
        return []
    message = f"{root}: annotates {n} of the {facts.songs} published {published}; {facts.songs - n} are missing"
    return [Problem("warning", message)]


def _recordings(folder: Path, key: Callable[[Path], str], problems: list[Problem]) -> dict[str, Path]:
    recordings: dict[str, Path] = {}
    for path in find_recordings(folder):
        stem = key(path)
        if stem in recordings:
            message = f"{path}: is the same song as {recordings[stem]}; only one may stay"
            problems.append(Problem("error", message, of_audio=True))
        recordings.setdefault(stem, path)
    return recordings


def _by_margin(
    root: Path, entries: Sequence[Entry], labelling: Labelling, options: CorpusOptions, problems: list[Problem]
) -> tuple[list[Entry], dict[str, tuple[str, ...]]]:
    rule = labelling.rule
    first: dict[str, Entry] = {}
    for entry in entries:
        first.setdefault(entry.id, entry)
    unique = list(first.values())
    if rule is None or not options.margin:
        return unique, {}
    near = {e.id for e in unique if float(rule.distance(_rating(e), rule.song)) < options.margin}
    reason = f"within {options.margin:g} of an axis"
    if near:
        ids = sorted(near)
        what = f"{root}: {len(ids)} of {len(unique)} songs are rated {reason} and are left out {counted(ids)}"
        problems.append(Problem("warning", what))
    return [e for e in unique if e.id not in near], {reason: tuple(sorted(near))} if near else {}


def _unannotated(folder: Path, paths: Sequence[Path]) -> list[Problem]:
    if len(paths) <= LISTED:
        return [Problem("warning", f"{path}: has no annotation and is left out") for path in paths]
    first = counted([str(path.relative_to(folder)) for path in paths])
    return [Problem("warning", f"{folder}: {len(paths)} recordings have no annotation and are left out {first}")]


def details_by_id(
    table: Path,
    column: str,
    *,
    columns: Sequence[str],
    optional: Sequence[str] = (),
    missing: str,
    problems: list[Problem],
) -> dict[str, Mapping[str, str]]:
    """Return the rows of a table with more about the songs, such as their artists, by the id in a column.

    Parameters
    ----------
    table : Path
    column : str
        Column of the ids; of several rows with one id the first counts.
    columns, optional : sequence of str
        Further columns that must be there, and those that may be.
    missing : str
        What follows if there is no such table, for the warning among the problems; the result is then empty.
    problems : list of Problem
    """
    if not table.is_file():
        problems.append(Problem("warning", f"{table}: is not there: {missing}"))
        return {}
    rows = read_table(table, columns=[column, *columns], optional=optional, problems=problems)
    found: dict[str, Mapping[str, str]] = {}
    for row in rows.values():
        found.setdefault(row[column.lower()], row)
    return found


def majority(labels: Iterable[tuple[str, str]]) -> dict[str, tuple[str, dict[str, float]]]:
    """Return the most frequent label and the share of each label, by work.

    Parameters
    ----------
    labels : iterable of (work, label)

    Returns
    -------
    dict of str to (str, dict of str to float)
        Of equally frequent labels, the first in alphabetical order.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for work, label in labels:
        counts[work][label] += 1
    return {
        work: (min(c, key=lambda x: (-c[x], x)), {x: n / c.total() for x, n in c.items()}) for work, c in counts.items()
    }
