"""EMOPIA: clips of pop piano music with the quadrant that an annotator gave each (Hung et al. 2021).

Layout: a folder of recordings named like the clips, ``Q<quadrant>_<video id>_<number>``, original or rendered from
MIDI, and, if available, ``train.csv``, ``val.csv`` and ``test.csv`` (fname, label; the official parts, which share no
song). Clips of one video are clips of one song and are never on both sides of a split. With labels of the song, a clip
has the most frequent quadrant of its song's clips, and its own quadrant is the truth. This gives inherited labels that
are really wrong.

References
----------
H.-T. Hung, J. Ching, S. Doh, N. Kim, J. Nam, Y.-H. Yang. EMOPIA: a multi-modal pop piano dataset for emotion
recognition and emotion-based music generation. ISMIR 2021.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from emoseg.audio.find import find_recordings
from emoseg.corpora.base import Corpus, CorpusFacts
from emoseg.corpora.kinds import LABEL_OPTIONS, CorpusKind
from emoseg.corpora.loaders.assemble import Entry, Labelling, assemble, majority, quadrant_labels, side_of
from emoseg.corpora.options import CorpusOptions
from emoseg.corpora.problems import Problem, counted
from emoseg.corpora.tables import read_table
from emoseg.emotion import QUADRANTS
from emoseg.errors import CorpusError
from emoseg.types import Section

FACTS = CorpusFacts(
    licence="CC BY-NC-SA 4.0 (annotations and MIDI); the recordings belong to their owners",
    citation="Hung, Ching, Doh, Kim, Nam, Yang: EMOPIA: a multi-modal pop piano dataset, ISMIR 2021",
    songs=1078,
    counts={"Q1": 250, "Q2": 265, "Q3": 253, "Q4": 310},
)
SPLITS = ("train", "val", "test")
_CLIP = re.compile(r"(Q[1-4])_(.+)_(\d+)")


def load_emopia(root: Path, options: CorpusOptions) -> Corpus:
    """Load EMOPIA from the folder of the recordings, or of the MIDI files and tables if the option `audio` is given."""
    problems: list[Problem] = []
    parts = _parts(root, problems)
    found = {path.stem for path in find_recordings(options.audio or root)}
    found |= {path.stem for folder in (root, root / "midis") for path in folder.glob("*.mid")}
    clips = {name: m for name in sorted(found | parts.keys()) if (m := _CLIP.fullmatch(name))}
    if not clips:
        raise CorpusError(f"{root}: is not the emopia folder: no recording named like Q1_0vLPYiPN7qY_0.mp3 in it")
    if parts and (without := [name for name in clips if name not in parts]):
        message = f"{root}: {len(without)} of {len(clips)} clips are in no official part {counted(without)}"
        problems.append(Problem("warning", message))
    labels = _labels(clips, parts, root, problems)
    of_song = majority((clips[name][2], label) for name, label in labels.items())
    labelling = quadrant_labels(options)
    entries = []
    for name, label in labels.items():
        song, part = clips[name][2], parts.get(name, ("", None))[1]
        if options.labels == "song":
            inherited, shares = of_song[song]
            entries.append(
                Entry(name, inherited, split=part, work=song, soft=shares, sections=_whole(label, labelling))
            )
        else:
            entries.append(Entry(name, label, split=part, work=song))
    return assemble(
        "emopia", root, entries, labelling, facts=FACTS, options=options, problems=problems, published="clips"
    )


KIND = CorpusKind(load_emopia, LABEL_OPTIONS | {"labels"})


def _whole(label: str, labelling: Labelling) -> tuple[Section, ...]:
    return (Section(0.0, math.inf, side_of(label, labelling.space)),)


def _parts(root: Path, problems: list[Problem]) -> dict[str, tuple[str, str]]:
    """Return the label and the official part of each clip in the tables."""
    parts: dict[str, tuple[str, str]] = {}
    lacking = [f"{split}.csv" for split in SPLITS if not (root / f"{split}.csv").is_file()]
    if lacking:
        problems.append(Problem("warning", f"{root}: no {', '.join(lacking)}: official parts are not all known"))
    for split in SPLITS:
        table = root / f"{split}.csv"
        if not table.is_file():
            continue
        for line, row in read_table(table, columns=["fname", "label"], problems=problems).items():
            name = row["fname"].removesuffix(".mid")
            if name in parts:
                problems.append(Problem("error", f"{table}: row {line}: {name} is in {parts[name][1]} already"))
            parts.setdefault(name, (row["label"], split))
    return parts


def _labels(
    clips: dict[str, re.Match[str]], parts: dict[str, tuple[str, str]], root: Path, problems: list[Problem]
) -> dict[str, str]:
    """Return the quadrant of each clip from its name; the tables must agree with it."""
    for name, (label, split) in parts.items():
        if name not in clips:
            message = f"{root / split}.csv: {name!r} is not named like a clip, such as Q1_0vLPYiPN7qY_0"
            problems.append(Problem("error", message))
        elif label != clips[name][1]:
            problems.append(Problem("error", f"{root / split}.csv: {name} has the label {label!r}, not {name[:2]}"))
    return {name: clip[1] for name, clip in clips.items() if clip[1] in QUADRANTS.labels}
