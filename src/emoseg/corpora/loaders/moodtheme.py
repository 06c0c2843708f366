"""MTG-Jamendo mood and theme: 18,486 tracks with several moods or themes each (Bogdanov et al. 2019).

Layout of the repository: ``data/splits/split-0/autotagging_moodtheme-{train,validation,test}.tsv`` (one row per track,
separated by tabs, with any number of tags), and the audio as ``46/3346.mp3`` or ``46/3346.low.mp3`` anywhere below the
folder or below the one given by an option. The official parts share no artist.

Labels are quadrants by default, from the tags in `MOODS`, which has only moods that are clearly on one side of both
axes. A track has the most frequent quadrant of its moods. A track without such a mood, or with equally many in two
quadrants, is left out and counted. Other spaces are ``mood:NAME`` (that tag against all other tracks) and
``moods:FILE`` (the user's own mapping).

References
----------
D. Bogdanov, M. Won, P. Tovstogan, A. Porter, X. Serra. The MTG-Jamendo dataset for automatic music tagging. ICML 2019
workshop on machine learning for music discovery.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from emoseg.corpora.base import Corpus, CorpusFacts
from emoseg.corpora.kinds import LABEL_OPTIONS, CorpusKind
from emoseg.corpora.loaders.assemble import Entry, Labelling, assemble, quadrant_labels, require_layout
from emoseg.corpora.options import CorpusOptions
from emoseg.corpora.problems import Problem, counted
from emoseg.corpora.tables import REST, read_table, user_path
from emoseg.emotion import EmotionSpace
from emoseg.errors import ConfigError, CorpusError

PLACES = ["splits/split-0", "data/splits/split-0"]
SPLITS = ("train", "validation", "test")
PREFIX = "mood/theme---"
PUBLISHED_TRACKS = 17982
FACTS = CorpusFacts(
    licence="audio: Creative Commons, by track; metadata: CC BY-NC-SA 4.0",
    citation="Bogdanov, Won, Tovstogan, Porter, Serra: The MTG-Jamendo dataset for automatic music tagging, ICML 2019",
)
MOODS: Mapping[str, str] = {
    **dict.fromkeys(
        ("energetic", "fun", "funny", "groovy", "happy", "motivational", "party", "positive", "upbeat", "uplifting"),
        "Q1",
    ),
    **dict.fromkeys(("action", "dark", "dramatic", "heavy"), "Q2"),
    **dict.fromkeys(("melancholic", "sad"), "Q3"),
    **dict.fromkeys(("calm", "meditative", "relaxing", "romantic", "soft"), "Q4"),
}


def load_moodtheme(root: Path, options: CorpusOptions) -> Corpus:
    """Load MTG-Jamendo's moods and themes from the folder that holds ``splits`` or ``data/splits``."""
    folder = require_layout(root, "mtg-moodtheme", PLACES)
    problems: list[Problem] = []
    tags_of, artist_of, split_of, stem_of = _tracks(folder, problems)
    shares, labelling, reason = _labelling(options, tags_of)
    labels = {track: _most_frequent(found) for track in tags_of if (found := shares(tags_of[track]))}
    entries = [
        Entry(
            track,
            label,
            artist=artist_of[track],
            split=split_of[track],
            stem=stem_of[track],
            soft=shares(tags_of[track]),
        )
        for track, label in labels.items()
        if label
    ]
    unlabelled = tuple(sorted(track for track in tags_of if not labels.get(track)))
    if unlabelled:
        message = f"{folder}: {len(unlabelled)} of {len(tags_of)} tracks are left out: {reason} {counted(unlabelled)}"
        problems.append(Problem("warning", message))
    if len(tags_of) < PUBLISHED_TRACKS:
        problems.append(Problem("warning", f"{folder}: lists {len(tags_of)} of {PUBLISHED_TRACKS} published tracks"))
    corpus = assemble(
        "mtg-moodtheme",
        root,
        entries,
        labelling,
        facts=FACTS,
        options=options,
        problems=problems,
        key=lambda path: path.stem.removesuffix(".low"),
    )
    # A recording of a track that was left out is annotated, although it has no label.
    known = {stem_of[track] for track in unlabelled}
    return replace(
        corpus,
        published_songs=PUBLISHED_TRACKS,
        excluded={**corpus.excluded, **({reason: unlabelled} if unlabelled else {})},
        unannotated=tuple(path for path in corpus.unannotated if path.stem.removesuffix(".low") not in known),
    )


KIND = CorpusKind(load_moodtheme, LABEL_OPTIONS)


_Tracks = tuple[dict[str, tuple[str, ...]], dict[str, str], dict[str, str], dict[str, str]]


def _tracks(folder: Path, problems: list[Problem]) -> _Tracks:
    tags: dict[str, tuple[str, ...]] = {}
    artists: dict[str, str] = {}
    splits: dict[str, str] = {}
    stems: dict[str, str] = {}
    for split in SPLITS:
        table = folder / f"autotagging_moodtheme-{split}.tsv"
        if not table.is_file():
            problems.append(Problem("warning", f"{table}: is not there: its tracks are missing"))
            continue
        columns = ["TRACK_ID", "ARTIST_ID", "PATH", "TAGS"]
        for line, row in read_table(table, columns=columns, problems=problems, rest="tags").items():
            track = row["track_id"]
            if track in tags:
                problems.append(Problem("error", f"{table}: row {line}: {track} is in {splits[track]} already"))
                continue
            tags[track] = tuple(tag.removeprefix(PREFIX) for tag in row["tags"].split(REST) if tag)
            artists[track], splits[track], stems[track] = row["artist_id"], split, Path(row["path"]).stem
    if not tags:
        raise CorpusError(f"{folder}: no track in autotagging_moodtheme-{{{','.join(SPLITS)}}}.tsv")
    return tags, artists, splits, stems


_Shares = Callable[[tuple[str, ...]], dict[str, float]]


def _labelling(options: CorpusOptions, tags_of: Mapping[str, tuple[str, ...]]) -> tuple[_Shares, Labelling, str]:
    """Return a function from tags to shares of labels, the labelling, and the reason why a track may have no label."""
    kind, _, value = (options.space or "4q").partition(":")
    known = {tag for tags in tags_of.values() for tag in tags}
    if kind == "mood":
        if value not in known:
            raise ConfigError(f"space {options.space!r}: no track has the mood; moods are {', '.join(sorted(known))}")
        other = f"not {value}"
        space = EmotionSpace.from_labels([value, other], name=f"mood {value}")
        space = replace(space, rule=f"tracks tagged {value} against all others")
        return (lambda tags: {value if value in tags else other: 1.0}), _own(space), "no tag"
    if kind == "moods":
        mapping = _mapping(user_path(value, error=ConfigError), known)
        space = replace(EmotionSpace.from_labels(list(mapping.values())), rule=f"moods by {Path(value).name}")
        return _by_mapping(mapping), _own(space), "no mood of the mapping, or as many of two labels"
    labelling = quadrant_labels(options)
    moods = {side: [m for m, q in MOODS.items() if q == side] for side in ("Q1", "Q2", "Q3", "Q4")}
    text = "; ".join(f"{quadrant}: {', '.join(found)}" for quadrant, found in moods.items())
    rule = f"from mood tags; {text}" + (f"; {labelling.space.rule}" if labelling.space.name != "4q" else "")
    labelling = replace(labelling, space=replace(labelling.space, rule=rule))
    return _by_mapping(MOODS), labelling, "no mood of a quadrant, or as many of two quadrants"


def _own(space: EmotionSpace) -> Labelling:
    def soft(entry: Entry) -> tuple[float, ...]:
        return tuple((entry.soft or {}).get(label, 0.0) for label in space.labels)

    return Labelling(space, lambda entry: entry.label or "", soft)


def _by_mapping(mapping: Mapping[str, str]) -> _Shares:
    def shares(tags: tuple[str, ...]) -> dict[str, float]:
        counts = Counter(mapping[tag] for tag in tags if tag in mapping)
        return {label: n / counts.total() for label, n in counts.items()}

    return shares


def _most_frequent(shares: Mapping[str, float]) -> str:
    """Return the label with the largest share; an empty string if several labels have it."""
    top = [label for label, share in shares.items() if share == max(shares.values())]
    return top[0] if len(top) == 1 else ""


def _mapping(table: Path, known: set[str]) -> dict[str, str]:
    mapping = {}
    for line, row in read_table(table, columns=["mood", "label"]).items():
        mood = row["mood"].removeprefix(PREFIX)
        if mood not in known:
            raise CorpusError(f"{table}: row {line}: no track has the mood {mood!r}")
        mapping[mood] = row["label"]
    if len(set(mapping.values())) < 2:
        raise CorpusError(f"{table}: maps to {len(set(mapping.values()))} label; two or more are needed")
    return mapping
