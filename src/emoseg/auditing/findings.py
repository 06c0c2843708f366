"""The ranked lists of an audit: one row per song and one per segment, with the evidence in words."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from emoseg.auditing.judgement import Judgement
from emoseg.auditing.stretches import Stretch, find_stretches
from emoseg.corpora.base import Corpus, Song
from emoseg.corpora.segments import CorpusSegments
from emoseg.system.names import valid_text
from emoseg.types import Float64, Int64

KINDS = ("song", "stretch", "duplicate", "not music", "unreadable", "")
"""What a finding can be about; `SongFinding.kind` explains each."""

_Row = tuple[str, str, str, float, str, str]  # the fields of a song's row after its rank


@dataclass(frozen=True)
class SongFinding:
    """One song of the ranked list.

    Parameters
    ----------
    rank : int
        1 for the most suspect song.
    path : str
        Absolute path of the recording.
    given : str
        Given label.
    suggested : str
        The label that the song most probably has if the given one is wrong; empty where the song was not judged.
    p_wrong : float
        Probability that the given label is wrong, in [0, 1]. It is 1 for a recording that is not music, and the
        estimated rate for one that cannot be read.
    kind : str
        ``"song"``: the label is probably wrong for the whole song. ``"stretch"``: only a stretch of the song sounds
        like another label. ``"duplicate"``: the same recording has another label elsewhere in the corpus. ``"not
        music"``: less than a quarter of the recording is music. ``"unreadable"``: the recording cannot be decoded.
        Otherwise empty.
    evidence : str
        The evidence on the label in words.
    """

    rank: int
    path: str
    given: str
    suggested: str
    p_wrong: float
    kind: str
    evidence: str


@dataclass(frozen=True)
class SegmentFinding:
    """One segment of the ranked list; `start_s` and `end_s` are in seconds, the rest is as in `SongFinding`."""

    rank: int
    path: str
    start_s: float
    end_s: float
    given: str
    suggested: str
    p_wrong: float
    kind: str
    evidence: str


def rank_findings(
    corpus: Corpus, segments: CorpusSegments, judgement: Judgement, conflicts: Mapping[int, Sequence[int]]
) -> tuple[tuple[SongFinding, ...], tuple[SegmentFinding, ...]]:
    """Return all songs of the corpus and all judged segments, the most suspect ones first.

    Parameters
    ----------
    corpus : Corpus
    segments : CorpusSegments
        The songs that were judged.
    judgement : Judgement
    conflicts : mapping of int to sequence of int
        Songs that are the same recording and have another label, by song; indices are those of `segments.songs`.
    """
    writer = _Writer(corpus, segments, judgement, conflicts)
    return writer.songs(), writer.segments()


class _Writer:
    """Puts the judgement into rows."""

    def __init__(
        self, corpus: Corpus, segments: CorpusSegments, judgement: Judgement, conflicts: Mapping[int, Sequence[int]]
    ) -> None:
        self.corpus, self.cut, self.judgement, self.conflicts = corpus, segments, judgement, conflicts
        self.names = corpus.space.labels
        self.p_wrong = conflicting_probability(judgement.p_wrong, conflicts)
        stretches = find_stretches(judgement.held_out, segments.song_labels, segments.song)
        self.stretches: dict[int, list[Stretch]] = {}
        for stretch in stretches:
            if self.p_wrong[stretch.song] <= 0.5:
                self.stretches.setdefault(stretch.song, []).append(stretch)

    def songs(self) -> tuple[SongFinding, ...]:
        judged = np.lexsort((-self.judgement.suspicion, -self.p_wrong))
        rows = [self._song(int(i)) for i in judged]
        indices = {song.id: i for i, song in enumerate(self.corpus.songs)}
        used = {song.id for song in self.cut.songs}
        first: list[_Row] = []
        last: list[_Row] = []
        for song in self.corpus.songs:
            if song.id not in used:
                not_music = indices[song.id] in self.cut.table.not_music
                (first if not_music else last).append(self._left_out(song, indices[song.id], not_music=not_music))
        ranked = [*first, *rows, *last]
        return tuple(SongFinding(rank, *row) for rank, row in enumerate(ranked, start=1))

    def segments(self) -> tuple[SegmentFinding, ...]:
        j, table = self.judgement, self.cut.table
        stretches = [stretch for of_song in self.stretches.values() for stretch in of_song]
        inside = {row: stretch for stretch in stretches for row in range(stretch.first, stretch.last + 1)}
        order = np.argsort(-j.segment_suspicion, kind="stable")
        rows = []
        for rank, i in enumerate(order.tolist(), start=1):
            song = int(self.cut.song[i])
            given = int(self.cut.song_labels[song])
            stretch = inside.get(i)
            others = j.held_out[i].copy()
            others[given] = -1
            suggested = stretch.label if stretch else int(others.argmax())
            text = self._stretch(stretch) if stretch else self._held_out(j.held_out[i], given, suggested)
            rows.append(
                SegmentFinding(
                    rank,
                    _path(self.cut.songs[song]),
                    float(table.start_s[i]),
                    float(table.end_s[i]),
                    self.names[given],
                    self.names[suggested],
                    float(j.segment_p_wrong[i]),
                    "stretch" if stretch else self._kind(song, whole=True),
                    text,
                )
            )
        return tuple(rows)

    def _song(self, i: int) -> _Row:
        given, suggested = self.cut.song_labels[i], self.judgement.suggested[i]
        own = [self._stretch(stretch) for stretch in self.stretches.get(i, [])]
        evidence = [*self._same_recording(i), *own, self._networks(i), *self._neighbours(i)]
        return (
            _path(self.cut.songs[i]),
            self.names[given],
            self.names[suggested],
            float(self.p_wrong[i]),
            self._kind(i, whole=not own),
            "; ".join(evidence),
        )

    def _left_out(self, song: Song, index: int, *, not_music: bool) -> _Row:
        message = self.cut.table.failures.get(index, "").removeprefix(f"{song.path}: ")
        kind, p_wrong = ("not music", 1.0) if not_music else ("unreadable", self.judgement.rate.rate)
        return _path(song), song.label, "", p_wrong, kind, valid_text(message)

    def _kind(self, i: int, *, whole: bool) -> str:
        if i in self.conflicts:
            return "duplicate"
        if self.p_wrong[i] > 0.5:
            return "song"
        return "" if whole else "stretch"

    def _same_recording(self, i: int) -> list[str]:
        songs = self.cut.songs
        return [
            f"same recording as {valid_text(songs[k].id)}, which is labelled {songs[k].label}"
            for k in self.conflicts.get(i, ())
        ]

    def _networks(self, i: int) -> str:
        agreeing, networks = int(self.judgement.agreeing[i]), self.judgement.networks
        if networks == 1:
            return f"the held-out network {'agrees' if agreeing else 'disagrees'}"
        number = {0: "none", networks: "all"}.get(agreeing, str(agreeing))
        of = "" if agreeing == networks else "of "
        return f"{number} {of}{networks} held-out networks {'agree' if agreeing > 1 else 'agrees'}"

    def _neighbours(self, i: int) -> list[str]:
        found = [self.cut.songs[k].label for k in self.judgement.neighbours[i] if k >= 0]
        count = {1: "", 2: "two ", 3: "three ", 4: "four ", 5: "five "}
        plural = "songs are" if len(found) > 1 else "song is"
        return [f"the {count[len(found)]}most similar {plural} {', '.join(found)}"] if found else []

    def _stretch(self, stretch: Stretch) -> str:
        start, end = self.cut.table.start_s[stretch.first], self.cut.table.end_s[stretch.last]
        return f"{clock(start)} to {clock(end)} sounds like {self.names[stretch.label]}"

    def _held_out(self, probabilities: Float64, given: int, suggested: int) -> str:
        shown = [f"{self.names[k]} {probabilities[k]:.0%}" for k in (suggested, given)]
        return f"the held-out network says {shown[0]}, {shown[1]}"


def conflicting_labels(labels: Int64, copies: Int64) -> dict[int, list[int]]:
    """Return the songs that are the same recording and have another label, for each song that has such copies.

    Parameters
    ----------
    labels : array of int, shape (N,)
        Given labels.
    copies : array of int, shape (N,)
        The same number for all copies of one recording.
    """
    members: dict[int, list[int]] = {}
    for song, recording in enumerate(copies.tolist()):
        members.setdefault(recording, []).append(song)
    return {
        song: others
        for group in members.values()
        for song in group
        if (others := [other for other in group if labels[other] != labels[song]])
    }


def conflicting_probability(p_wrong: Float64, conflicts: Mapping[int, Sequence[int]]) -> Float64:
    """Return the probabilities that labels are wrong, given that of two labels for one recording one is wrong.

    Where two labels are wrong with probabilities p and q, and not both are right, the first is wrong with probability
    ``p / (1 - (1 - p) (1 - q))``. Of several conflicts of a song the one with the highest probability counts.

    Parameters
    ----------
    p_wrong : array, shape (N,)
        Without regard to the conflicts.
    conflicts : mapping of int to sequence of int
        Songs that are the same recording and have another label, by song.
    """
    adjusted = p_wrong.copy()
    for song, others in conflicts.items():
        p, q = p_wrong[song], p_wrong[list(others)]
        adjusted[song] = (p / np.maximum(1 - (1 - p) * (1 - q), 1e-9)).max()
    return adjusted


def clock(seconds: float) -> str:
    """Return a time as minutes and seconds, such as ``"1:05"``."""
    whole = round(float(seconds))
    return f"{whole // 60}:{whole % 60:02d}"


def _path(song: Song) -> str:
    return valid_text(os.path.abspath(song.path))  # noqa: PTH100  (links stay as the corpus names them)
