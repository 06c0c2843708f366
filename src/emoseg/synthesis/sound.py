"""The sound of a synthesised song, in numpy.

`compose` makes one song; `render` makes the sound of a plan and its notes.

A tone is read from one period of a waveform whose harmonics are computed for its pitch (wavetable synthesis, Bristow-
Johnson, "Wavetable synthesis 101", AES convention 101, 1996), so nothing aliases; brightness is a two-pole lowpass
on those harmonics, closing over time in plucked tones. Reverberation is convolution with exponentially decaying noise
(Moorer, "About this reverberation business", Computer Music Journal 3(2), 1979), done in the same Fourier transform
as the artist's equaliser. Differences of level between songs are halved, as in mastering.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import fft

from emoseg.errors import ConfigError
from emoseg.synthesis.plan import Artist, Cues, SongPlan, plan_song
from emoseg.synthesis.score import Note, write_score
from emoseg.types import Float32, Float64, Section

SAMPLE_RATE_HZ = 22050

_TABLE = 2048
_TABLE_SHIFT = np.uint32(32 - 11)  # the upper 11 bits of a 32-bit phase are an index into a table
_TAIL_S = 0.5
_RMS_DB = -19.0
_CEILING = 0.97


@dataclass(frozen=True)
class _Timbre:
    """The waveform of an instrument: harmonic h has the amplitude h to the power of -`slope`, even ones times `even`.

    Parameters
    ----------
    slope, even : float
    fm : float
        Index of a frequency modulation at the tone's own frequency, which adds brass-like harmonics.
    decay_s : float or None
        Time to decay by 60 dB; None for a sustained tone.
    breath : float
        Level of the noise in the tone.
    chorus : float
        Detuning of a second voice in cents; 0 for a single voice.
    vibrato : bool
        Whether the instrument is played with vibrato.
    """

    slope: float
    even: float = 1.0
    fm: float = 0.0
    decay_s: float | None = None
    breath: float = 0.0
    chorus: float = 0.0
    vibrato: bool = False


_TIMBRES = {
    "piano": _Timbre(1.5, decay_s=4.0, chorus=1.5),
    "pluck": _Timbre(1.1, decay_s=1.6),
    "flute": _Timbre(2.4, even=0.8, breath=0.06, vibrato=True),
    "reed": _Timbre(1.1, even=0.15, breath=0.02, vibrato=True),
    "violin": _Timbre(1.0, vibrato=True),
    "brass": _Timbre(2.0, fm=1.6, vibrato=True),
    "square": _Timbre(1.0, even=0.0, chorus=5.0),
    "guitar": _Timbre(1.2, decay_s=2.2),
    "strings": _Timbre(1.05, chorus=9.0),
    "organ": _Timbre(0.7, even=1.2),
    "tines": _Timbre(2.6, fm=0.9, decay_s=3.0),
    "finger": _Timbre(1.5, decay_s=2.5),
    "upright": _Timbre(2.0, decay_s=1.8, breath=0.02),
    "sawtooth": _Timbre(1.0, decay_s=4.0),
}

_GAINS = {"lead": 0.5, "comp": 0.27, "bass": 0.55}


def compose(
    rng: np.random.Generator,
    *,
    label: str,
    duration_s: float = 30.0,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    artist: Artist | None = None,
) -> tuple[Float32, tuple[Section, ...]]:
    """Return a synthesised song and its true emotions.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all choices.
    label : {"Q1", "Q2", "Q3", "Q4"}
        Dominant emotion, which holds for more than half of the time.
    duration_s : float
        Duration in seconds, at least 8.
    sample_rate_hz : int
        Sample rate of the result, at least 8000.
    artist : Artist, optional
        Artist of the song; default a new one.

    Returns
    -------
    samples : array, shape (round(duration_s * sample_rate_hz),), float32
        The sound, mono, with a peak below 1.
    truth : tuple of Section
        The true emotion of every moment, in order, without gap or overlap.

    Raises
    ------
    ConfigError
        The label is not a quadrant, or the duration or the sample rate is too low.
    """
    if sample_rate_hz < 8000:
        raise ConfigError(f"sample_rate_hz {sample_rate_hz}: songs are synthesised at 8000 Hz or more")
    plan = plan_song(rng, label=label, duration_s=duration_s, artist=artist)
    samples = render(rng, plan, write_score(rng, plan), sample_rate_hz)
    return samples, plan.truth


def render(
    rng: np.random.Generator, plan: SongPlan, score: tuple[tuple[Note, ...], ...], sample_rate_hz: int
) -> Float32:
    """Return the sound of a song, each section at the level of its emotion.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all choices.
    plan : SongPlan
    score : tuple of tuple of Note
        The notes of each section.
    sample_rate_hz : int

    Returns
    -------
    array, shape (round(plan.duration_s * sample_rate_hz),), float32
    """
    length = round(plan.duration_s * sample_rate_hz)
    mix = np.zeros(length + round(_TAIL_S * sample_rate_hz), dtype=np.float32)
    studio = _Studio(rng, plan, sample_rate_hz)
    level_db = 0.0
    for section, notes in zip(plan.sections, score, strict=True):
        first, last = round(section.start_s * sample_rate_hz), round(section.end_s * sample_rate_hz)
        sound = studio.play(notes, section.cues, first, last - first)
        sound *= _gain(section.cues.level_db) / _rms(sound)
        mix[first : first + len(sound)] += sound
        level_db += section.cues.level_db * (last - first) / length
    target_db = _RMS_DB + 0.5 * level_db + plan.artist.level_db + 1.5 * float(rng.standard_normal())
    return _master(rng, mix[:length], plan.artist, target_db, sample_rate_hz)


class _Studio:
    """The instruments of one song, and the waveforms that were computed for them so far."""

    def __init__(self, rng: np.random.Generator, plan: SongPlan, sample_rate_hz: int) -> None:
        self._artist, self._rate = plan.artist, sample_rate_hz
        self._timbres = {part: _TIMBRES[name] for part, name in plan.artist.timbres.items()}
        longest = int((max(s.end_s - s.start_s for s in plan.sections) + _TAIL_S) * sample_rate_hz) + 1
        ticks = np.arange(longest, dtype=np.uint32)
        self._tables = _SongTables(
            rate=sample_rate_hz,
            ticks=ticks,
            clock=(ticks / sample_rate_hz).astype(np.float32),
            noise=rng.standard_normal(longest + sample_rate_hz, dtype=np.float32),
            colour=10 ** (np.asarray(plan.artist.partials_db) / 20),
        )
        self._kit = _drum_kit(rng, plan.artist, sample_rate_hz)

    def play(self, notes: Iterable[Note], cues: Cues, first: int, length: int) -> Float32:
        """Return the sound of a section that starts at sample `first`, including the tails of its last notes."""
        tones = np.zeros(length + int(_TAIL_S * self._rate), dtype=np.float32)
        drums = np.zeros_like(tones)
        voices = {part: _Voice(self._tables, self._timbres[part], cues, bass=part == "bass") for part in _GAINS}
        gains = {part: _gain(db) for part, db in self._artist.gains_db.items()}
        for note in notes:
            at = max(0, round(note.start_s * self._rate) - first)
            if note.part in self._kit:
                sound = self._kit[note.part][: len(drums) - at]
                drums[at : at + len(sound)] += np.float32(note.velocity) * sound
            else:
                gain = np.float32(gains[note.part] * _GAINS[note.part] * note.velocity)
                sound = voices[note.part].tone(note)[: len(tones) - at]
                tones[at : at + len(sound)] += gain * sound
        tones = _driven(tones, cues.roughness)
        if not drums.any():
            return tones
        # Drums have a fixed level relative to the rest; otherwise a song with few notes would be mostly drums.
        drums *= gains["drums"] * (0.08 + 0.95 * cues.drums**2) * _rms(tones) / _rms(drums)
        return tones + drums


@dataclass(frozen=True)
class _SongTables:
    """Arrays that all tones of a song share: time in samples and in seconds, noise, gains of the harmonics."""

    rate: int
    ticks: np.ndarray[tuple[int], np.dtype[np.uint32]]
    clock: Float32
    noise: Float32
    colour: Float64


class _Waves(NamedTuple):
    """One period of a tone with its filter open, and the difference that the closed filter makes."""

    bright: Float32
    loss: Float32 | None


class _Voice:
    """One instrument with the cues of one section."""

    def __init__(self, tables: _SongTables, timbre: _Timbre, cues: Cues, *, bass: bool) -> None:
        self._tables, self._timbre = tables, timbre
        rate, clock = tables.rate, tables.clock
        self._cutoff_hz = 350.0 * 2 ** (4.6 * cues.brightness) * (0.5 if bass else 1.0)
        self._attack_s = cues.attack_s * (0.4 if bass else 1.0)
        self._release = max(1, int(min(0.04 + 3 * cues.attack_s, 0.8 * _TAIL_S) * rate))
        self._fall = np.linspace(1, 0, self._release, dtype=np.float32)
        self._cents = timbre.chorus + (30 * max(0.0, cues.roughness - 0.4) if not bass else 0.0)
        self._waves: dict[int, _Waves] = {}
        self._decay = None if timbre.decay_s is None else np.exp(clock * np.float32(-6.9 / timbre.decay_s))
        self._closing = None if timbre.decay_s is None else 1 - np.exp(clock * np.float32(-18 / timbre.decay_s))
        self._vibrato: Float32 | None = None
        if timbre.vibrato:
            # 4.5 to 6.5 Hz, up to half a semitone; slower where attacks are slow.
            rate_hz = 6.5 - min(2.0, 40 * cues.attack_s)
            depth = 0.022 * cues.vibrato / (2 * np.pi * rate_hz)
            onset = np.minimum(clock * np.float32(3), 1)
            self._vibrato = np.float32(depth) * onset * np.sin(clock * np.float32(2 * np.pi * rate_hz))

    def tone(self, note: Note) -> Float32:
        """Return the sound of one note with its release; its root mean square is near 1 while it is held."""
        pitch_hz = 440.0 * 2 ** ((note.midi - 69) / 12)
        if note.midi not in self._waves:
            self._waves[note.midi] = self._make_waves(pitch_hz)
        n = min(int(note.duration_s * self._tables.rate) + self._release, len(self._tables.clock))
        sound = self._oscillate(note.midi, pitch_hz, n)
        if self._cents:
            sound = 0.6 * (sound + self._oscillate(note.midi, pitch_hz * 2 ** (self._cents / 1200), n))
        if self._timbre.breath:
            at = int(note.start_s * self._tables.rate) % self._tables.rate
            sound += np.float32(self._timbre.breath) * self._tables.noise[at : at + n]
        sound *= np.minimum(self._tables.clock[:n] * np.float32(1 / self._attack_s), 1)
        if self._decay is not None:
            sound *= self._decay[:n]
        tail = min(self._release, n)
        sound[n - tail :] *= self._fall[-tail:]
        return sound

    def _oscillate(self, midi: int, pitch_hz: float, n: int) -> Float32:
        waves = self._waves[midi]
        # Phases are fractions of a period in 32 bits: they wrap by themselves and never lose precision.
        phase = self._tables.ticks[:n] * np.uint32(round(pitch_hz / self._tables.rate * 2**32))
        if self._vibrato is not None:
            phase += (self._vibrato[:n] * np.float32(pitch_hz * 2**32)).astype(np.int64).astype(np.uint32)
        index = phase >> _TABLE_SHIFT
        sound: Float32 = waves.bright[index]
        if waves.loss is not None and self._closing is not None:
            sound -= self._closing[:n] * waves.loss[index]
        return sound

    def _make_waves(self, pitch_hz: float) -> _Waves:
        timbre = self._timbre
        count = max(1, int(min(48, 0.47 * self._tables.rate / pitch_hz)))
        h = np.arange(1, count + 1)
        amplitudes = h**-timbre.slope * np.where(h % 2 == 0, timbre.even, 1.0)
        if timbre.fm:
            # At a ratio of 1 the sidebands are harmonics (Chowning, "The synthesis of complex audio spectra", 1973).
            x = 2 * np.pi * np.arange(256) / 256
            amplitudes = amplitudes + np.abs(np.fft.rfft(np.sin(x + timbre.fm * np.sin(x))))[1 : count + 1] / 128
        coloured = min(count, len(self._tables.colour))
        amplitudes[:coloured] *= self._tables.colour[:coloured]
        opened = amplitudes / (1 + (h * pitch_hz / self._cutoff_hz) ** 2)
        scale = 1 / np.sqrt(0.5 * np.sum(opened**2))
        bright = _period(opened * scale)
        if timbre.decay_s is None:
            return _Waves(bright, None)
        closed = amplitudes / (1 + (h * pitch_hz / (0.4 * self._cutoff_hz)) ** 2)
        return _Waves(bright, bright - _period(closed * scale))


def _period(amplitudes: Float64) -> Float32:
    """Return one period of a waveform with these amplitudes of harmonics 1, 2, ..., at quadratic phases.

    The phases of Schroeder ("Synthesis of low-peak-factor signals", IEEE Trans. Information Theory 16(1), 1970) keep
    the crest factor low, so that a bright tone does not clip before a dark one.
    """
    h = np.arange(1, len(amplitudes) + 1)
    spectrum = np.zeros(_TABLE // 2 + 1, dtype=np.complex128)
    spectrum[1 : len(amplitudes) + 1] = amplitudes * np.exp(-1j * np.pi * h * (h - 1) / len(amplitudes))
    return (fft.irfft(spectrum) * (_TABLE / 2)).astype(np.float32)


def _drum_kit(rng: np.random.Generator, artist: Artist, rate: int) -> dict[str, Float32]:
    """Return the sounds of an artist's drums, each with a peak near 1."""
    t = np.arange(int(0.45 * rate)) / rate
    hiss = np.diff(rng.standard_normal(len(t) + 1)) * 0.5
    noise = rng.standard_normal(len(t)) * 0.4
    sweep_hz = artist.kick_hz * (1 + 2.5 * np.exp(-t / 0.025))
    kit = {
        "kick": np.sin(2 * np.pi * np.cumsum(sweep_hz) / rate) * np.exp(-t / 0.09),
        "snare": 0.5 * np.sin(2 * np.pi * 4 * artist.kick_hz * t) * np.exp(-t / 0.05)
        + noise * np.exp(-t / artist.snare_s),
        "hat": 0.5 * hiss * np.exp(-t / artist.hat_s),
        "brush": 0.35 * hiss * np.minimum(t / 0.03, 1) * np.exp(-t / 0.08),
        "crash": 0.6 * hiss * np.exp(-t / 0.16),
    }
    fade = np.minimum(1, (t[-1] - t) / 0.02)
    return {name: (sound * fade).astype(np.float32) for name, sound in kit.items()}


def _driven(tones: Float32, roughness: float) -> Float32:
    """Return the sound after a soft clipper, which distorts more if it is rougher; quiet sounds keep their level."""
    drive = np.float32(0.2 + 4.0 * max(0.0, roughness - 0.15) ** 1.5)
    reference = np.float32(3.0 * _rms(tones))
    driven: Float32 = np.tanh(tones * (drive / reference)) * (reference / drive)
    return driven


def _master(rng: np.random.Generator, mix: Float32, artist: Artist, target_db: float, rate: int) -> Float32:
    """Return the mix with the artist's noise, room and equaliser, at its level, below the ceiling of a soft clipper."""
    mix = mix / np.float32(_rms(mix))
    mix += np.float32(_gain(artist.noise_db)) * _background(rng, len(mix), artist.hum_hz, rate)
    echo = _impulse_response(rng, artist, rate)
    size = fft.next_fast_len(len(mix) + len(echo), real=True)
    response = fft.rfft(echo, size)
    response += 1
    response *= _equaliser(artist, size, rate)
    spectrum = fft.rfft(mix, size)
    spectrum *= response
    sound: Float32 = fft.irfft(spectrum, size)[: len(mix)]
    sound *= np.float32(_gain(target_db) / _rms(sound))
    sound = np.tanh(sound / np.float32(_CEILING)) * np.float32(_CEILING)
    edge = np.linspace(0, 1, int(0.01 * rate), dtype=np.float32)
    sound[: len(edge)] *= edge
    sound[len(sound) - len(edge) :] *= edge[::-1]
    return sound


def _background(rng: np.random.Generator, length: int, hum_hz: float, rate: int) -> Float32:
    noise = rng.standard_normal(length, dtype=np.float32)
    if hum_hz:
        noise += np.sin(np.arange(length, dtype=np.float32) * np.float32(2 * np.pi * hum_hz / rate))
    return noise


def _impulse_response(rng: np.random.Generator, artist: Artist, rate: int) -> Float32:
    """Return noise that begins 12 ms after the direct sound and decays, with `reverb_db` of its energy."""
    t = np.arange(int(artist.reverb_s * rate), dtype=np.float32) / np.float32(rate)
    late = rng.standard_normal(len(t), dtype=np.float32) * np.exp(t * np.float32(-6.9 / artist.reverb_s))
    late[1:] += late[:-1].copy()  # halls absorb high frequencies
    late *= np.float32(_gain(artist.reverb_db) / np.sqrt(np.sum(late**2)))
    echo: Float32 = np.concatenate([np.zeros(int(0.012 * rate), dtype=np.float32), late])
    return echo


def _equaliser(artist: Artist, size: int, rate: int) -> Float32:
    """Return gains, shape (size // 2 + 1,), on a coarse grid of frequencies interpolated to that of the transform."""
    grid_hz = np.geomspace(20, rate / 2, 256)
    octaves = np.log2(grid_hz / 800)
    db = artist.tilt_db * octaves
    for centre_hz, width, gain_db in artist.equaliser:
        db += gain_db * np.exp(-0.5 * (np.log2(grid_hz / centre_hz) / width) ** 2)
    db[grid_hz < 30] -= 12
    frequencies_hz = np.arange(size // 2 + 1) * (rate / size)
    gains: Float32 = np.interp(frequencies_hz, grid_hz, 10 ** (db / 20)).astype(np.float32)
    return gains


def _rms(samples: Float32) -> float:
    """Return the root mean square, at least 1e-6."""
    return max(float(np.sqrt(np.mean(np.square(samples)))), 1e-6)


def _gain(db: float) -> float:
    return float(10 ** (db / 20))
