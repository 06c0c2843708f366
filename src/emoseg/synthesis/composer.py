"""What a planted-truth song plays: its artist, its sections and their emotions, and the notes of each section.

A song is drawn in two steps, so that the first can be had without the second. `plan_song` decides which emotion holds
when, and the cues (mode, tempo, register, articulation, level, timbre...) of each emotion; `write_score` turns a plan
into notes. How notes sound is the business of `emoseg.synthesis.corpus`.

The cues of the four quadrants are those on which the music psychology literature agrees [1]_ [2]_ [3]_ [4]_:

- Q1, happy: major, fast, staccato, bright, high, rather loud, rising and wide melodies, regular;
- Q2, angry or tense: minor or chromatic, fast, loud, sharp attacks, rough and noisy timbre, low to middle register;
- Q3, sad: minor, slow, legato, soft, dark, low, falling and narrow melodies, slow vibrato, irregular timing;
- Q4, calm or tender: major, slow, legato, soft, warm, middle register.

No cue decides alone: each is drawn from a distribution that overlaps its neighbours', moved by the habits of the
artist and of the song, and many songs contradict their emotion in one or two cues, which stay put while the emotion
changes. Numbers such as beats a minute are ours, chosen to fit those descriptions and to leave a classifier short of
certainty.

References
----------
.. [1] Juslin and Laukka, "Communication of emotions in vocal expression and music performance: different channels,
   same code?", Psychological Bulletin 129(5), 2003, table 7.
.. [2] Juslin and Laukka, "Expression, perception, and induction of musical emotions", Journal of New Music Research
   33(3), 2004, table 2.
.. [3] Gabrielsson and Lindström, "The role of structure in the musical expression of emotions", in Juslin and Sloboda
   (eds), Handbook of Music and Emotion, Oxford University Press, 2010.
.. [4] Eerola, Friberg and Bresin, "Emotional expression in music: contribution, linearity, and additivity of primary
   musical cues", Frontiers in Psychology 4:487, 2013.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from emoseg.emotion import QUADRANTS
from emoseg.errors import ConfigError
from emoseg.types import Section

Part = Literal["lead", "comp", "bass", "kick", "snare", "hat", "brush", "crash"]

MIN_DURATION_S = 8.0
"""Shorter songs have no room for a section of another emotion that fills a segment."""

SCALES: Mapping[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
}
"""Semitones above the tonic of the seven degrees of each mode."""

MAJOR_MODES = frozenset({"major", "lydian", "mixolydian"})
"""Modes with a major third above the tonic."""

_MODE_WEIGHTS: Mapping[str, tuple[float, float, float, float]] = {
    "major": (0.74, 0.04, 0.05, 0.72),
    "lydian": (0.06, 0.00, 0.00, 0.12),
    "mixolydian": (0.14, 0.02, 0.01, 0.09),
    "dorian": (0.03, 0.07, 0.13, 0.03),
    "minor": (0.03, 0.34, 0.64, 0.04),
    "harmonic minor": (0.00, 0.27, 0.14, 0.00),
    "phrygian": (0.00, 0.26, 0.03, 0.00),
}

_PROGRESSIONS: Mapping[str, tuple[tuple[int, ...], ...]] = {
    "major": ((0, 3, 4, 0), (0, 4, 5, 3), (0, 3, 0, 4), (0, 5, 3, 4), (0, 4, 3, 0), (3, 0, 4, 0)),
    "lydian": ((0, 1, 0, 4), (0, 4, 1, 0), (0, 1, 4, 0)),
    "mixolydian": ((0, 6, 3, 0), (0, 3, 6, 3), (0, 3, 0, 6)),
    "dorian": ((0, 3, 0, 4), (0, 4, 3, 0), (0, 1, 0, 4)),
    "minor": ((0, 3, 4, 0), (0, 5, 3, 4), (0, 3, 0, 4), (0, 6, 3, 0), (0, 4, 3, 0), (0, 0, 5, 3)),
    "harmonic minor": ((0, 3, 4, 0), (0, 3, 1, 4), (0, 4, 0, 3), (0, 5, 3, 4)),
    "phrygian": ((0, 1, 0, 6), (0, 6, 0, 1), (0, 3, 1, 0)),
}
"""Degrees of the scale (0 is the tonic) on which the chords of four bars stand, by mode."""


@dataclass(frozen=True)
class _CueLaw:
    """How one cue is drawn: a centre for each of Q1 to Q4, a spread, and limits; `log` spreads by a factor."""

    centres: tuple[float, float, float, float]
    spread: float
    low: float
    high: float
    log: bool = False

    def at(self, quadrant: int, deviate: float) -> float:
        centre = self.centres[quadrant]
        value = centre * math.exp(self.spread * deviate) if self.log else centre + self.spread * deviate
        return min(max(value, self.low), self.high)


_CUE_LAWS: Mapping[str, _CueLaw] = {
    "tempo_bpm": _CueLaw((124, 132, 70, 84), 0.14, 50, 184, log=True),
    "register_midi": _CueLaw((76, 65, 60, 71), 3.2, 54, 84),
    "articulation": _CueLaw((0.48, 0.66, 0.97, 0.86), 0.12, 0.25, 1.05),
    "level_db": _CueLaw((-3.0, 0.0, -10.5, -8.0), 2.5, -18, 3),
    "brightness": _CueLaw((0.68, 0.73, 0.24, 0.46), 0.12, 0.05, 1.0),
    "attack_s": _CueLaw((0.010, 0.006, 0.055, 0.028), 0.5, 0.003, 0.15, log=True),
    "roughness": _CueLaw((0.14, 0.70, 0.20, 0.06), 0.14, 0.0, 1.0),
    "density": _CueLaw((0.58, 0.64, 0.22, 0.37), 0.13, 0.08, 0.95),
    "drums": _CueLaw((0.66, 0.70, 0.14, 0.28), 0.18, 0.0, 1.0),
    "contour": _CueLaw((0.6, 0.1, -0.6, 0.1), 0.4, -1.5, 1.5),
    "pitch_range": _CueLaw((1.3, 1.1, 0.60, 0.90), 0.2, 0.4, 1.8),
    "vibrato": _CueLaw((0.3, 0.5, 0.60, 0.20), 0.2, 0.0, 1.0),
    "timing_s": _CueLaw((0.006, 0.008, 0.015, 0.010), 0.4, 0.002, 0.03, log=True),
}

# A cue's deviation from its centre is shared out between artist, song and section; the squares sum to one.
_ARTIST_SHARE, _SONG_SHARE, _SECTION_SHARE = 0.42, 0.54, 0.73

_FOREIGN_SONGS = 0.66
_FOREIGN_TIME = (0.22, 0.42)
_MIN_HOME_TIME = 0.54
# A foreign emotion is more often a neighbour (one of valence and arousal changes) than the opposite.
_FOREIGN_STEPS, _FOREIGN_STEP_WEIGHTS = (1, 3, 2), (0.4, 0.4, 0.2)
_CONTRADICTED_CUES = (0.50, 0.30, 0.20)  # chances of none, one and two

LEAD_TIMBRES = ("piano", "pluck", "flute", "reed", "violin", "brass", "square")
COMP_TIMBRES = ("piano", "guitar", "strings", "organ", "tines")
BASS_TIMBRES = ("finger", "upright", "sawtooth")


@dataclass(frozen=True)
class Cues:
    """The emotion-bearing parameters of a section.

    `tempo_bpm` is in quarter notes a minute; `register_midi` the middle of the melody; `articulation` the part of
    the time to the next note that a note lasts; `level_db` relative to the loudest emotion; `attack_s` the rise time
    of a tone; `timing_s` the spread of note onsets; `contour` the melody's rise over a phrase in degrees a bar;
    `pitch_range` a factor on the melody's leaps. The others are between 0 (none) and 1 (most).
    """

    mode: str
    tempo_bpm: float
    register_midi: float
    articulation: float
    level_db: float
    brightness: float
    attack_s: float
    roughness: float
    density: float
    drums: float
    contour: float
    pitch_range: float
    vibrato: float
    timing_s: float

    @property
    def is_major(self) -> bool:
        """Whether the third above the tonic is major."""
        return self.mode in MAJOR_MODES


@dataclass(frozen=True)
class Artist:
    """A persistent style: habits that hold for every song of an artist, whatever its emotion.

    `leanings` moves each cue, in standard deviations; `keys` are pitch classes; `gains_db` the mix; `partials_db`
    colours the harmonics of every tone; `equaliser` holds bells as (centre in Hz, width in octaves, gain in dB).
    """

    leanings: Mapping[str, float]
    keys: tuple[int, ...]
    timbres: Mapping[str, str]
    gains_db: Mapping[str, float]
    partials_db: tuple[float, ...]
    equaliser: tuple[tuple[float, float, float], ...]
    tilt_db: float
    reverb_s: float
    reverb_db: float
    noise_db: float
    hum_hz: float
    level_db: float
    sevenths: float
    waltz: float
    swing: float
    kick_hz: float
    snare_s: float
    hat_s: float


@dataclass(frozen=True)
class SectionPlan:
    """A stretch of one emotion; it starts on a bar line, and every bar in it lasts `bar_s`."""

    start_s: float
    end_s: float
    label: str
    cues: Cues
    bar_s: float


@dataclass(frozen=True)
class SongPlan:
    """Everything about a song but its notes; `tonic` is a pitch class, the same in all sections."""

    label: str
    duration_s: float
    artist: Artist
    tonic: int
    beats: int
    sections: tuple[SectionPlan, ...]

    @property
    def truth(self) -> tuple[Section, ...]:
        """The true label of every moment, without gap or overlap."""
        return tuple(Section(s.start_s, s.end_s, s.label) for s in self.sections)


class Note(NamedTuple):
    """One sound: which part plays it, when, how long, how high (0 for drums) and how hard (about 0 to 1)."""

    part: Part
    start_s: float
    duration_s: float
    midi: int
    velocity: float


def draw_artist(rng: np.random.Generator) -> Artist:
    """Draw the habits of an artist.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all choices.

    Returns
    -------
    Artist
    """
    normal, uniform = rng.standard_normal, rng.uniform
    timbres = {
        "lead": LEAD_TIMBRES[rng.integers(len(LEAD_TIMBRES))],
        "comp": COMP_TIMBRES[rng.integers(len(COMP_TIMBRES))],
        "bass": BASS_TIMBRES[rng.integers(len(BASS_TIMBRES))],
    }
    return Artist(
        leanings={name: float(normal()) for name in _CUE_LAWS},
        keys=tuple(int(k) for k in rng.permutation(12)[:3]),
        timbres=timbres,
        gains_db={part: 2.0 * float(normal()) for part in ("lead", "comp", "bass", "drums")},
        partials_db=tuple(3.0 * float(z) for z in normal(16)),
        equaliser=tuple(
            (float(70 * 2 ** uniform(0, 7)), float(uniform(0.4, 1.2)), 3.0 * float(normal())) for _ in range(3)
        ),
        tilt_db=0.8 * float(normal()),
        reverb_s=float(uniform(0.3, 1.3)),
        reverb_db=float(uniform(-20, -9)),
        noise_db=float(uniform(-66, -42)),
        hum_hz=float(rng.choice([0.0, 0.0, 50.0, 60.0])),
        level_db=1.5 * float(normal()),
        sevenths=float(uniform(0, 0.3)),
        waltz=float(uniform(0, 0.35)),
        swing=float(rng.choice([0.0, 0.0, uniform(0.05, 0.16)])),
        kick_hz=float(uniform(42, 68)),
        snare_s=float(uniform(0.05, 0.12)),
        hat_s=float(uniform(0.015, 0.05)),
    )


def plan_song(
    rng: np.random.Generator, *, label: str, duration_s: float = 30.0, artist: Artist | None = None
) -> SongPlan:
    """Decide the sections of a song, their emotions and their cues.

    About two songs in three hold one or two sections of another emotion, chosen so that over many songs of half a
    minute 20 to 25 % of the three-second segments do not have the emotion of their song. Sections change at bar
    lines, which do not fall on any grid of segments; key, metre, harmony and theme last through the song.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all choices.
    label : {"Q1", "Q2", "Q3", "Q4"}
        The dominant emotion: it holds more than half of the time.
    duration_s : float
        Length of the song, at least `MIN_DURATION_S`.
    artist : Artist, optional
        Whose song it is; a new artist by default.

    Returns
    -------
    SongPlan

    Raises
    ------
    ConfigError
        If the label is not a quadrant or the duration is too short.
    """
    if label not in QUADRANTS.labels:
        raise ConfigError(f"label {label!r}: a synthesised song is one of {', '.join(QUADRANTS.labels)}")
    if not (math.isfinite(duration_s) and duration_s >= MIN_DURATION_S):
        raise ConfigError(f"duration_s {duration_s}: a synthesised song lasts at least {MIN_DURATION_S} seconds")
    artist = artist or draw_artist(rng)
    cues = _draw_cues(rng, artist)
    beats = 3 if rng.random() < artist.waltz else 4
    tonic = artist.keys[rng.integers(len(artist.keys))]
    sections = _draw_sections(rng, label, duration_s, cues, beats)
    return SongPlan(label, duration_s, artist, tonic, beats, sections)


def _draw_cues(rng: np.random.Generator, artist: Artist) -> dict[str, Cues]:
    """Draw what each emotion would sound like in this song, contradicted cues included."""
    names = [*_CUE_LAWS, "mode"]
    song = dict(zip(names, rng.standard_normal(len(names)), strict=True))
    contradicted = rng.permutation(len(names))[: _pick(rng.random(), _CONTRADICTED_CUES)]
    # Such a cue belongs to one quadrant throughout the song, at times the right one.
    stuck = {names[i]: int(rng.integers(4)) for i in contradicted}
    result = {}
    for quadrant, label in enumerate(QUADRANTS.labels):
        weights = [w[stuck.get("mode", quadrant)] for w in _MODE_WEIGHTS.values()]
        values = {}
        for name, law in _CUE_LAWS.items():
            deviate = _ARTIST_SHARE * artist.leanings[name] + _SONG_SHARE * song[name]
            deviate += _SECTION_SHARE * rng.standard_normal()
            values[name] = law.at(stuck.get(name, quadrant), float(deviate))
        result[label] = Cues(mode=tuple(_MODE_WEIGHTS)[_pick(rng.random(), weights)], **values)
    return result


def _draw_sections(
    rng: np.random.Generator, label: str, duration_s: float, cues: Mapping[str, Cues], beats: int
) -> tuple[SectionPlan, ...]:
    """Lay out the sections; a layout that bar lines spoil (dominant emotion too short) is drawn again."""
    if rng.random() < _FOREIGN_SONGS:
        for _ in range(30):
            sections = _place_sections(_draw_layout(rng, label), duration_s, cues, beats)
            home_s = sum(s.end_s - s.start_s for s in sections if s.label == label)
            if home_s >= _MIN_HOME_TIME * duration_s and _all_long_enough(sections, duration_s):
                return sections
    return _place_sections([(label, 1.0)], duration_s, cues, beats)


def _all_long_enough(sections: Sequence[SectionPlan], duration_s: float) -> bool:
    """Whether every section lasts long enough to be heard as one."""
    return all(s.end_s - s.start_s >= min(4.0, duration_s / 4) for s in sections)


def _draw_layout(rng: np.random.Generator, label: str) -> list[tuple[str, float]]:
    """Draw the order of the emotions and the part of the song that each takes."""
    home = QUADRANTS.index(label)

    def foreign() -> str:
        step = _FOREIGN_STEPS[_pick(rng.random(), _FOREIGN_STEP_WEIGHTS)]
        return QUADRANTS.labels[(home + step) % 4]

    share = float(rng.uniform(*_FOREIGN_TIME))
    split = float(rng.uniform(0.35, 0.65))
    form = _pick(rng.random(), (0.32, 0.22, 0.30, 0.16))
    if form == 0:
        return [(label, 1 - share), (foreign(), share)]
    if form == 1:
        return [(foreign(), share), (label, 1 - share)]
    if form == 2:
        return [(label, split * (1 - share)), (foreign(), share), (label, (1 - split) * (1 - share))]
    return [(foreign(), split * share), (label, 1 - share), (foreign(), (1 - split) * share)]


def _place_sections(
    layout: Sequence[tuple[str, float]], duration_s: float, cues: Mapping[str, Cues], beats: int
) -> tuple[SectionPlan, ...]:
    """Round sections to whole bars; the song stops where its time is up, be it in the middle of a bar."""
    sections = []
    start_s = 0.0
    for position, (label, share) in enumerate(layout):
        bar_s = beats * 60.0 / cues[label].tempo_bpm
        end_s = start_s + max(1, round(share * duration_s / bar_s)) * bar_s
        if position == len(layout) - 1:
            end_s = duration_s
        sections.append(SectionPlan(start_s, end_s, label, cues[label], bar_s))
        start_s = end_s
    return tuple(sections)


def _pick(u: float, weights: Sequence[float]) -> int:
    """Return an index drawn in proportion to `weights` by a number in [0, 1)."""
    cumulative = np.cumsum(weights)
    return int(min(np.searchsorted(cumulative, u * cumulative[-1], side="right"), len(weights) - 1))


@dataclass(frozen=True)
class _Theme:
    """What the sections of a song have in common.

    `priority` and `steps`, of shape (bars of the theme, steps of a bar), say in which order the steps of a bar get a
    note and on which degree: a dense section plays more of the same melody than a sparse one.
    """

    priority: np.ndarray[tuple[int, int], np.dtype[np.float64]]
    steps: np.ndarray[tuple[int, int], np.dtype[np.float64]]
    harmony: float
    accompaniment: float
    bass: float


def write_score(rng: np.random.Generator, plan: SongPlan) -> tuple[tuple[Note, ...], ...]:
    """Compose the notes of a plan.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all choices.
    plan : SongPlan
        Sections, cues and artist.

    Returns
    -------
    tuple of tuple of Note
        The notes of each section, with times from the start of the song.
    """
    theme = _draw_theme(rng, plan.beats)
    return tuple(tuple(_humanised(rng, plan, s, _section_notes(rng, plan, s, theme))) for s in plan.sections)


def _draw_theme(rng: np.random.Generator, beats: int) -> _Theme:
    sixteenths = np.arange(4 * beats)
    metre = np.where(sixteenths % 4 == 0, 0.3, np.where(sixteenths % 2 == 0, 0.55, 0.9))
    metre[0] = 0.1
    priority = metre + rng.uniform(0, 0.4, size=(4, 4 * beats))
    steps = np.cumsum(rng.normal(0, 0.9, size=(4, 4 * beats)), axis=1)
    steps -= steps.mean(axis=1, keepdims=True)
    # The third bar takes up the first again, as phrases do.
    priority[2], steps[2] = priority[0], steps[0]
    return _Theme(priority, steps, float(rng.random()), float(rng.random()), float(rng.random()))


def _section_notes(rng: np.random.Generator, plan: SongPlan, section: SectionPlan, theme: _Theme) -> Iterator[Note]:
    """Yield every part's notes, bar by bar, on the beat and without regard to the section's end."""
    cues = section.cues
    progressions = _PROGRESSIONS[cues.mode]
    progression = progressions[int(theme.harmony * len(progressions))]
    bars = math.ceil((section.end_s - section.start_s) / section.bar_s - 1e-9)
    for bar in range(bars):
        at_s = section.start_s + bar * section.bar_s
        root = progression[bar % len(progression)]
        chord = (
            (root, root + 2, root + 4, root + 6) if rng.random() < plan.artist.sevenths else (root, root + 2, root + 4)
        )
        yield from _melody(plan, section, theme, bar, chord)
        yield from _accompaniment(rng, plan, section, theme, at_s, chord)
        yield from _bass(plan, section, theme, at_s, root)
        yield from _drums(rng, plan, section, at_s, fill=bar == bars - 1 and bars > 1, first=bar == 0)


def _pitch(plan: SongPlan, mode: str, degree: int, base: int) -> int:
    """Return the MIDI number of a degree of the scale whose tonic lies in the octave that starts at `base`."""
    octave, step = divmod(degree, 7)
    return base + (plan.tonic - base) % 12 + 12 * octave + SCALES[mode][step]


def _melody(plan: SongPlan, section: SectionPlan, theme: _Theme, bar: int, chord: tuple[int, ...]) -> Iterator[Note]:
    cues = section.cues
    sixteenth_s = section.bar_s / (4 * plan.beats)
    priority, steps = theme.priority[bar % 4], theme.steps[bar % 4]
    # Nobody plays more than about eight notes a second.
    most = min(len(priority), int(8 * section.bar_s))
    count = max(1, min(most, round(cues.density * 3.2 * plan.beats)))
    onsets = np.sort(np.argsort(priority)[:count])
    ends = np.append(onsets[1:], len(priority))
    base = round(cues.register_midi) - 6
    rise = cues.contour * (bar % 4 - 1.5)
    for onset, end in zip(onsets.tolist(), ends.tolist(), strict=True):
        degree = round(2 + cues.pitch_range * float(steps[onset]) + rise)
        if onset % 4 == 0:
            degree = min((c + 7 * o for c in chord for o in (-2, -1, 0, 1, 2)), key=lambda d: abs(d - degree))
        midi = _pitch(plan, cues.mode, degree, base)
        accent = 0.85 if onset % 4 == 0 else 0.7
        length_s = (end - onset) * sixteenth_s * cues.articulation
        yield Note("lead", section.start_s + bar * section.bar_s + onset * sixteenth_s, length_s, midi, accent)


def _accompaniment(
    rng: np.random.Generator, plan: SongPlan, section: SectionPlan, theme: _Theme, at_s: float, chord: tuple[int, ...]
) -> Iterator[Note]:
    cues = section.cues
    base = round(min(max(cues.register_midi - 15, 46), 60))
    pitches = [_pitch(plan, cues.mode, d, base) for d in chord]
    pitches = [p - 12 if p > base + 14 else p for p in pitches]
    if rng.random() < 0.75 * (cues.roughness - 0.35):
        # A minor second or a tritone on top: sensory dissonance, the mark of tense harmony.
        pitches.append(pitches[0] + int(rng.choice([1, 6, 11, 13])))
    beat_s = section.bar_s / plan.beats
    slow, sharp = cues.articulation, 1.15 - cues.articulation
    style = _pick(theme.accompaniment, (slow, 0.5, 0.5 * slow, sharp, sharp * cues.density, 0.6 * cues.density))
    if style == 1:
        eighths = range(2 * plan.beats)
        order = sorted(pitches) + sorted(pitches)[-2:0:-1]
        for i in eighths:
            yield Note("comp", at_s + i * beat_s / 2, beat_s * max(0.4, cues.articulation), order[i % len(order)], 0.75)
        return
    onsets, length = {
        0: ((0.0,), float(plan.beats)),
        2: ((0.0, plan.beats / 2), plan.beats / 2),
        3: (tuple(b + 0.5 for b in range(plan.beats)), 0.4),
        4: (tuple(b / 2 for b in range(2 * plan.beats)), 0.45),
        5: (tuple(float(b) for b in range(plan.beats)), 0.9),
    }[style]
    spread_s = float(rng.uniform(0, 0.012))
    for beat in onsets:
        for i, pitch in enumerate(pitches):
            length_s = length * beat_s * max(0.5, cues.articulation)
            yield Note("comp", at_s + beat * beat_s + i * spread_s, length_s, pitch, 0.55)


def _bass(plan: SongPlan, section: SectionPlan, theme: _Theme, at_s: float, root: int) -> Iterator[Note]:
    cues = section.cues
    base = 36 if cues.register_midi > 66 else 31
    low = _pitch(plan, cues.mode, root % 7, base)
    low = low - 12 if low > base + 14 else low
    fifth = low + 7
    beat_s = section.bar_s / plan.beats
    busy = cues.density + 0.3 * (theme.bass - 0.5)
    if busy < 0.36:
        yield Note("bass", at_s, section.bar_s * 0.95, low, 0.7)
        return
    per_beat = 1 if busy < 0.66 else 2
    for i in range(plan.beats * per_beat):
        pitch = fifth if i % (2 * per_beat) >= per_beat and theme.bass < 0.6 else low
        length_s = beat_s / per_beat * max(0.45, cues.articulation)
        yield Note("bass", at_s + i * beat_s / per_beat, length_s, pitch, 0.8 if i % per_beat == 0 else 0.65)


def _drums(
    rng: np.random.Generator, plan: SongPlan, section: SectionPlan, at_s: float, *, fill: bool, first: bool
) -> Iterator[Note]:
    cues = section.cues
    beat_s = section.bar_s / plan.beats
    if cues.drums < 0.33:
        return
    soft = cues.drums < 0.52
    if first and not soft and cues.level_db > -5:
        yield Note("crash", at_s, 1.0, 0, 0.5)
    for beat in range(plan.beats):
        back = beat % 2 == 1 if plan.beats == 4 else beat > 0
        if not back or rng.random() < 0.4 * cues.roughness:
            yield Note("kick", at_s + beat * beat_s, 0.3, 0, 0.5 if soft else 0.95)
        if back:
            yield Note("brush" if soft else "snare", at_s + beat * beat_s, 0.3, 0, 0.5 if soft else 0.8)
        ticks = 1 if soft else 2 if cues.density < 0.68 or beat_s < 0.4 else 4
        for tick in range(ticks):
            yield Note("hat", at_s + (beat + tick / ticks) * beat_s, 0.1, 0, 0.15 if soft else 0.3 if tick else 0.45)
    if fill and not soft:
        for i in range(4):
            yield Note("snare", at_s + section.bar_s - (4 - i) * beat_s / 4, 0.2, 0, 0.4 + 0.12 * i)


def _humanised(rng: np.random.Generator, plan: SongPlan, section: SectionPlan, notes: Iterator[Note]) -> Iterator[Note]:
    """Move notes off the beat and level, swing the off-beats, and keep them inside the section."""
    beat_s = section.bar_s / plan.beats
    for note in notes:
        off_beat = abs((note.start_s - section.start_s) / beat_s % 1.0 - 0.5) < 0.01
        start_s = note.start_s + plan.artist.swing * beat_s * off_beat
        start_s += float(np.clip(rng.normal(0, section.cues.timing_s), -0.05, 0.05))
        start_s = max(start_s, section.start_s)
        duration_s = min(note.duration_s, section.end_s - start_s)
        velocity = float(np.clip(note.velocity * (1 + 0.12 * rng.standard_normal()), 0.1, 1.2))
        if duration_s > 0.02:
            yield note._replace(start_s=start_s, duration_s=duration_s, velocity=velocity)
