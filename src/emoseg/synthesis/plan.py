"""The plan of a synthesised song: its artist, its sections with their emotions, and the musical cues of each section.

`plan_song` decides which emotion holds when, and the cues (mode, tempo, register, articulation, level, timbre and
others) that express it. `emoseg.synthesis.score` turns a plan into notes.

The cues of the four quadrants are those on which the music psychology literature agrees [1]_ [2]_ [3]_ [4]_:

- Q1, happy: major, fast, staccato, bright, high, rather loud, rising and wide melodies, regular;
- Q2, angry or tense: minor or chromatic, fast, loud, sharp attacks, rough and noisy timbre, low to middle register;
- Q3, sad: minor, slow, legato, soft, dark, low, falling and narrow melodies, slow vibrato, irregular timing;
- Q4, calm or tender: major, slow, legato, soft, warm, middle register.

No cue decides alone. Each is drawn from a distribution that overlaps those of other quadrants and is shifted by the
habits of the artist and of the song. Many songs contradict their emotion in one or two cues, which stay the same while
the emotion changes. Numbers such as beats per minute are ours: they fit these descriptions and keep a classifier from
being certain.

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from emoseg.emotion import QUADRANTS
from emoseg.errors import ConfigError
from emoseg.types import Section

MIN_DURATION_S = 8.0
"""Shortest song: it has room for a section of another emotion that is longer than a segment."""

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


@dataclass(frozen=True)
class _CueLaw:
    """Distribution of one cue: a centre for each quadrant, a spread, and limits; with `log` the spread is a factor."""

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

# The deviation of a cue from its centre comes from artist, song and section; the squares sum to one.
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
    """The musical cues of a section, which express its emotion.

    Parameters
    ----------
    mode : str
        A key of `emoseg.synthesis.score.SCALES`.
    tempo_bpm : float
        Quarter notes per minute.
    register_midi : float
        Middle of the melody, as a MIDI number.
    articulation : float
        Duration of a note, as a share of the time to the next note.
    level_db : float
        Level relative to the loudest emotion.
    attack_s : float
        Rise time of a tone in seconds.
    contour : float
        Rise of the melody over a phrase, in degrees of the scale per bar.
    pitch_range : float
        Factor on the leaps of the melody.
    timing_s : float
        Spread of note onsets in seconds.
    brightness, roughness, density, drums, vibrato : float
        From 0 (none) to 1 (most).
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
        """Whether the mode has a major third above its tonic."""
        return self.mode in MAJOR_MODES


@dataclass(frozen=True)
class Artist:
    """The style of an artist, which is the same in all songs, whatever their emotion.

    Parameters
    ----------
    leanings : mapping of str to float
        Shift of each cue, in standard deviations.
    keys : tuple of int
        Pitch classes of the tonics.
    timbres : mapping of str to str
        Instrument of each part.
    gains_db : mapping of str to float
        Level of each part in the mix.
    partials_db : tuple of float
        Gain of each harmonic of every tone.
    equaliser : tuple of (float, float, float)
        Bells: centre in Hz, width in octaves, gain in dB.
    tilt_db : float
        Gain per octave.
    reverb_s, reverb_db : float
        Time to decay by 60 dB, and energy relative to the direct sound.
    noise_db, hum_hz, level_db : float
        Background noise relative to the music, frequency of the mains hum (0 for none), and level of the songs.
    sevenths, waltz : float
        Chance of a chord with a seventh, and of three beats per bar.
    swing : float
        Delay of off-beats, in beats.
    kick_hz, snare_s, hat_s : float
        Pitch of the bass drum, and decay times of snare and hi-hat.
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
    """A section with one emotion. It starts on a bar line, and each of its bars lasts `bar_s` seconds."""

    start_s: float
    end_s: float
    label: str
    cues: Cues
    bar_s: float


@dataclass(frozen=True)
class SongPlan:
    """Everything about a song except its notes; the pitch class `tonic` is the same in all sections."""

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


def draw_artist(rng: np.random.Generator) -> Artist:
    """Return a new artist.

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
    """Return the plan of a song: its sections, their emotions and their cues.

    About two thirds of the songs have one or two sections of another emotion. Over many songs of half a minute, 20 to
    25 % of the segments of three seconds do not have the emotion of their song. Sections change at bar lines, which are
    on no grid of segments. Key, metre, harmony and theme are the same throughout the song.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all choices.
    label : {"Q1", "Q2", "Q3", "Q4"}
        Dominant emotion, which holds for more than half of the time.
    duration_s : float
        Duration of the song in seconds, at least `MIN_DURATION_S`.
    artist : Artist, optional
        Artist of the song; default a new one.

    Returns
    -------
    SongPlan

    Raises
    ------
    ConfigError
        The label is not a quadrant, or the duration is too short.
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
    """Return the cues that each emotion would have in this song, including contradicting ones."""
    names = [*_CUE_LAWS, "mode"]
    song = dict(zip(names, rng.standard_normal(len(names)), strict=True))
    contradicted = rng.permutation(len(names))[: pick(rng.random(), _CONTRADICTED_CUES)]
    # Such a cue is drawn for one quadrant throughout the song, which may be the right one.
    stuck = {names[i]: int(rng.integers(4)) for i in contradicted}
    result = {}
    for quadrant, label in enumerate(QUADRANTS.labels):
        weights = [w[stuck.get("mode", quadrant)] for w in _MODE_WEIGHTS.values()]
        values = {}
        for name, law in _CUE_LAWS.items():
            deviate = _ARTIST_SHARE * artist.leanings[name] + _SONG_SHARE * song[name]
            deviate += _SECTION_SHARE * rng.standard_normal()
            values[name] = law.at(stuck.get(name, quadrant), float(deviate))
        result[label] = Cues(mode=tuple(_MODE_WEIGHTS)[pick(rng.random(), weights)], **values)
    return result


def _draw_sections(
    rng: np.random.Generator, label: str, duration_s: float, cues: Mapping[str, Cues], beats: int
) -> tuple[SectionPlan, ...]:
    """Return the sections; a layout in which rounding to bars makes the dominant emotion too short is drawn again."""
    if rng.random() < _FOREIGN_SONGS:
        for _ in range(30):
            sections = _place_sections(_draw_layout(rng, label), duration_s, cues, beats)
            home_s = sum(s.end_s - s.start_s for s in sections if s.label == label)
            if home_s >= _MIN_HOME_TIME * duration_s and _all_long_enough(sections, duration_s):
                return sections
    return _place_sections([(label, 1.0)], duration_s, cues, beats)


def _all_long_enough(sections: Sequence[SectionPlan], duration_s: float) -> bool:
    """Return whether every section is long enough to be perceived as one."""
    return all(s.end_s - s.start_s >= min(4.0, duration_s / 4) for s in sections)


def _draw_layout(rng: np.random.Generator, label: str) -> list[tuple[str, float]]:
    """Return the order of the emotions and the share of the song that each takes."""
    home = QUADRANTS.index(label)

    def foreign() -> str:
        step = _FOREIGN_STEPS[pick(rng.random(), _FOREIGN_STEP_WEIGHTS)]
        return QUADRANTS.labels[(home + step) % 4]

    share = float(rng.uniform(*_FOREIGN_TIME))
    split = float(rng.uniform(0.35, 0.65))
    form = pick(rng.random(), (0.32, 0.22, 0.30, 0.16))
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
    """Return the sections rounded to whole bars; the last one ends with the song, even within a bar."""
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


def pick(u: float, weights: Sequence[float]) -> int:
    """Return the index that a number `u` in [0, 1) draws in proportion to `weights`."""
    cumulative = np.cumsum(weights)
    return int(min(np.searchsorted(cumulative, u * cumulative[-1], side="right"), len(weights) - 1))
