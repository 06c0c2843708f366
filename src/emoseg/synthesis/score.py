"""The notes of a synthesised song, written from its plan.

`write_score` gives every section the same theme, harmony and metre, and varies them by the section's cues. How notes
sound is decided in `emoseg.synthesis.sound`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from emoseg.synthesis.plan import SectionPlan, SongPlan, pick

Part = Literal["lead", "comp", "bass", "kick", "snare", "hat", "brush", "crash"]

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

_PROGRESSIONS: Mapping[str, tuple[tuple[int, ...], ...]] = {
    "major": ((0, 3, 4, 0), (0, 4, 5, 3), (0, 3, 0, 4), (0, 5, 3, 4), (0, 4, 3, 0), (3, 0, 4, 0)),
    "lydian": ((0, 1, 0, 4), (0, 4, 1, 0), (0, 1, 4, 0)),
    "mixolydian": ((0, 6, 3, 0), (0, 3, 6, 3), (0, 3, 0, 6)),
    "dorian": ((0, 3, 0, 4), (0, 4, 3, 0), (0, 1, 0, 4)),
    "minor": ((0, 3, 4, 0), (0, 5, 3, 4), (0, 3, 0, 4), (0, 6, 3, 0), (0, 4, 3, 0), (0, 0, 5, 3)),
    "harmonic minor": ((0, 3, 4, 0), (0, 3, 1, 4), (0, 4, 0, 3), (0, 5, 3, 4)),
    "phrygian": ((0, 1, 0, 6), (0, 6, 0, 1), (0, 3, 1, 0)),
}
"""Roots of the chords of four bars, as degrees of the scale (0 is the tonic), by mode."""


class Note(NamedTuple):
    """One note: its part, start and duration in seconds, MIDI number (0 for drums) and velocity (about 0 to 1)."""

    part: Part
    start_s: float
    duration_s: float
    midi: int
    velocity: float


@dataclass(frozen=True)
class _Theme:
    """What all sections of a song share.

    Parameters
    ----------
    priority, steps : array, shape (bars of the theme, sixteenths per bar)
        Order in which the sixteenths of a bar get a note, and the degree of each note. So a dense section plays more
        notes of the same melody than a sparse one.
    harmony, accompaniment, bass : float
        Numbers in [0, 1) that choose progression, style of the accompaniment and style of the bass.
    """

    priority: np.ndarray[tuple[int, int], np.dtype[np.float64]]
    steps: np.ndarray[tuple[int, int], np.dtype[np.float64]]
    harmony: float
    accompaniment: float
    bass: float


def write_score(rng: np.random.Generator, plan: SongPlan) -> tuple[tuple[Note, ...], ...]:
    """Return the notes of a plan.

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
    # The third bar repeats the first, as in a phrase.
    priority[2], steps[2] = priority[0], steps[0]
    return _Theme(priority, steps, float(rng.random()), float(rng.random()), float(rng.random()))


def _section_notes(rng: np.random.Generator, plan: SongPlan, section: SectionPlan, theme: _Theme) -> Iterator[Note]:
    """Yield the notes of all parts, bar by bar and exactly on the beat; they may go beyond the section's end."""
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
    """Return the MIDI number of a degree of the scale whose tonic is in the octave from `base` up."""
    octave, step = divmod(degree, 7)
    return base + (plan.tonic - base) % 12 + 12 * octave + SCALES[mode][step]


def _melody(plan: SongPlan, section: SectionPlan, theme: _Theme, bar: int, chord: tuple[int, ...]) -> Iterator[Note]:
    cues = section.cues
    sixteenth_s = section.bar_s / (4 * plan.beats)
    priority, steps = theme.priority[bar % 4], theme.steps[bar % 4]
    # Players reach about eight notes per second.
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
    style = pick(theme.accompaniment, (slow, 0.5, 0.5 * slow, sharp, sharp * cues.density, 0.6 * cues.density))
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
    """Yield the notes with small deviations of time and velocity, swung off-beats, and ends within the section."""
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
