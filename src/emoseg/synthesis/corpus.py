"""The planted-truth corpus: synthesised songs whose emotion is known at every moment.

`compose` makes one song; `write_corpus` writes a folder of them. Each song carries the label of its dominant emotion,
as a human's song-level label would, so the segments of its other sections inherit a wrong label, and ``truth.csv``
says which. What is played is decided in `emoseg.synthesis.composer`; this module makes it sound, in numpy.

A tone is read from one period of a waveform whose harmonics are computed for its pitch (wavetable synthesis, Bristow-
Johnson, "Wavetable synthesis 101", AES convention 101, 1996), so nothing aliases; brightness is a two-pole lowpass
on those harmonics, closing over time in plucked tones. Reverberation is convolution with exponentially decaying noise
(Moorer, "About this reverberation business", Computer Music Journal 3(2), 1979), done in the same Fourier transform
as the artist's equaliser. Songs are levelled half way towards each other, as mastering does.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from scipy import fft

from emoseg.emotion import QUADRANTS
from emoseg.errors import ConfigError, CorpusError
from emoseg.synthesis.composer import (
    MIN_DURATION_S,
    Artist,
    Cues,
    Note,
    SongPlan,
    draw_artist,
    plan_song,
    write_score,
)
from emoseg.system.files import work_folder
from emoseg.system.parallel import Start, run_parallel
from emoseg.system.progress import progress
from emoseg.system.unfinished import unfinished, unfinished_folder
from emoseg.types import Float32, Float64, Section

SAMPLE_RATE_HZ = 22050
SONGS_PER_ARTIST = 4

_MOST_SONGS = 100_000
_LONGEST_S = 3600.0
_TABLE = 2048
_TABLE_SHIFT = np.uint32(32 - 11)  # the upper 11 bits of a 32-bit phase are an index into a table
_TAIL_S = 0.5
_RMS_DB = -19.0
_CEILING = 0.97


@dataclass(frozen=True)
class _Timbre:
    """A family of waveforms: harmonic h has amplitude h to the power of -`slope`, even ones times `even`.

    Frequency modulation of index `fm` at the pitch's own frequency adds brass-like partials. `decay_s` is the time to
    fall by 60 dB, None for a sustained tone; `breath` is noise that rides on the tone; `chorus` is in
    cents; `vibrato` says whether players of the instrument use any.
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
    """Compose and synthesise a song.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all choices.
    label : {"Q1", "Q2", "Q3", "Q4"}
        The dominant emotion: it holds more than half of the time.
    duration_s : float
        Length, at least 8 s.
    sample_rate_hz : int
        Rate of the result, at least 8000 Hz.
    artist : Artist, optional
        Whose song it is; a new artist by default.

    Returns
    -------
    samples : array, shape (round(duration_s * sample_rate_hz),), float32
        The sound, mono, with a peak below 1.
    truth : tuple of Section
        The true emotion of every moment, in order, without gap or overlap.

    Raises
    ------
    ConfigError
        If the label is not a quadrant, or the duration or the sample rate is too low.
    """
    if sample_rate_hz < 8000:
        raise ConfigError(f"sample_rate_hz {sample_rate_hz}: songs are synthesised at 8000 Hz or more")
    plan = plan_song(rng, label=label, duration_s=duration_s, artist=artist)
    samples = _render(rng, plan, write_score(rng, plan), sample_rate_hz)
    return samples, plan.truth


def _render(
    rng: np.random.Generator, plan: SongPlan, score: tuple[tuple[Note, ...], ...], sample_rate_hz: int
) -> Float32:
    """Mix the sections of a song, each at the level of its emotion, and master the whole."""
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
    """Notes in, sound out: the instruments of one song and the waveforms they have played so far."""

    def __init__(self, rng: np.random.Generator, plan: SongPlan, sample_rate_hz: int) -> None:
        self._artist, self._rate = plan.artist, sample_rate_hz
        self._timbres = {part: _TIMBRES[name] for part, name in plan.artist.timbres.items()}
        longest = int((max(s.end_s - s.start_s for s in plan.sections) + _TAIL_S) * sample_rate_hz) + 1
        ticks = np.arange(longest, dtype=np.uint32)
        self._bench = _Bench(
            rate=sample_rate_hz,
            ticks=ticks,
            clock=(ticks / sample_rate_hz).astype(np.float32),
            noise=rng.standard_normal(longest + sample_rate_hz, dtype=np.float32),
            colour=10 ** (np.asarray(plan.artist.partials_db) / 20),
        )
        self._kit = _drum_kit(rng, plan.artist, sample_rate_hz)

    def play(self, notes: Iterable[Note], cues: Cues, first: int, length: int) -> Float32:
        """Return the sound of a section that starts at sample `first`, tails included."""
        tones = np.zeros(length + int(_TAIL_S * self._rate), dtype=np.float32)
        drums = np.zeros_like(tones)
        voices = {part: _Voice(self._bench, self._timbres[part], cues, bass=part == "bass") for part in _GAINS}
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
        # Drums stand in a fixed relation to the rest, or a song of thin textures would be all drums.
        drums *= gains["drums"] * (0.08 + 0.95 * cues.drums**2) * _rms(tones) / _rms(drums)
        return tones + drums


@dataclass(frozen=True)
class _Bench:
    """What all the tones of a song are cut from: time in samples and in seconds, noise, the colour of harmonics."""

    rate: int
    ticks: np.ndarray[tuple[int], np.dtype[np.uint32]]
    clock: Float32
    noise: Float32
    colour: Float64


class _Waves(NamedTuple):
    """One period of a tone at its brightest, and what its filter takes away when closed."""

    bright: Float32
    loss: Float32 | None


class _Voice:
    """One instrument as it sounds in one section: note in, sound out."""

    def __init__(self, bench: _Bench, timbre: _Timbre, cues: Cues, *, bass: bool) -> None:
        self._bench, self._timbre = bench, timbre
        rate, clock = bench.rate, bench.clock
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
        """Return one note, release included, at a root mean square near `1` while it sustains."""
        pitch_hz = 440.0 * 2 ** ((note.midi - 69) / 12)
        if note.midi not in self._waves:
            self._waves[note.midi] = self._make_waves(pitch_hz)
        n = min(int(note.duration_s * self._bench.rate) + self._release, len(self._bench.clock))
        sound = self._oscillate(note.midi, pitch_hz, n)
        if self._cents:
            sound = 0.6 * (sound + self._oscillate(note.midi, pitch_hz * 2 ** (self._cents / 1200), n))
        if self._timbre.breath:
            at = int(note.start_s * self._bench.rate) % self._bench.rate
            sound += np.float32(self._timbre.breath) * self._bench.noise[at : at + n]
        sound *= np.minimum(self._bench.clock[:n] * np.float32(1 / self._attack_s), 1)
        if self._decay is not None:
            sound *= self._decay[:n]
        tail = min(self._release, n)
        sound[n - tail :] *= self._fall[-tail:]
        return sound

    def _oscillate(self, midi: int, pitch_hz: float, n: int) -> Float32:
        waves = self._waves[midi]
        # Phases are fractions of a period in 32 bits: they wrap by themselves and never lose precision.
        phase = self._bench.ticks[:n] * np.uint32(round(pitch_hz / self._bench.rate * 2**32))
        if self._vibrato is not None:
            phase += (self._vibrato[:n] * np.float32(pitch_hz * 2**32)).astype(np.int64).astype(np.uint32)
        index = phase >> _TABLE_SHIFT
        sound: Float32 = waves.bright[index]
        if waves.loss is not None and self._closing is not None:
            sound -= self._closing[:n] * waves.loss[index]
        return sound

    def _make_waves(self, pitch_hz: float) -> _Waves:
        timbre = self._timbre
        count = max(1, int(min(48, 0.47 * self._bench.rate / pitch_hz)))
        h = np.arange(1, count + 1)
        amplitudes = h**-timbre.slope * np.where(h % 2 == 0, timbre.even, 1.0)
        if timbre.fm:
            # At a ratio of 1 the sidebands are harmonics (Chowning, "The synthesis of complex audio spectra", 1973).
            x = 2 * np.pi * np.arange(256) / 256
            amplitudes = amplitudes + np.abs(np.fft.rfft(np.sin(x + timbre.fm * np.sin(x))))[1 : count + 1] / 128
        coloured = min(count, len(self._bench.colour))
        amplitudes[:coloured] *= self._bench.colour[:coloured]
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
    """Make the sounds of an artist's drums, each at a peak near 1."""
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
    """Distort by a soft clipper, the more the rougher; the level of small signals stays."""
    drive = np.float32(0.2 + 4.0 * max(0.0, roughness - 0.15) ** 1.5)
    reference = np.float32(3.0 * _rms(tones))
    driven: Float32 = np.tanh(tones * (drive / reference)) * (reference / drive)
    return driven


def _master(rng: np.random.Generator, mix: Float32, artist: Artist, target_db: float, rate: int) -> Float32:
    """Add the artist's noise, room and equaliser, and bring the song to its level; the ceiling is a soft clipper."""
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
    """Return decaying noise 12 ms after the direct sound, its energy `reverb_db` relative to that."""
    t = np.arange(int(artist.reverb_s * rate), dtype=np.float32) / np.float32(rate)
    late = rng.standard_normal(len(t), dtype=np.float32) * np.exp(t * np.float32(-6.9 / artist.reverb_s))
    late[1:] += late[:-1].copy()  # halls swallow the highs
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
    """Root mean square, kept above zero."""
    return max(float(np.sqrt(np.mean(np.square(samples)))), 1e-6)


def _gain(db: float) -> float:
    return float(10 ** (db / 20))


class _Job(NamedTuple):
    """One song of a corpus: everything a worker needs to make it."""

    folder: Path
    name: str
    seed: int
    number: int
    label: str
    artist: int
    duration_s: float


def write_corpus(
    out: Path,
    *,
    songs: int = 120,
    seed: int = 0,
    duration_s: float = 30.0,
    workers: int | None = None,
    quiet: bool = False,
) -> None:
    """Write a planted-truth corpus.

    `out` will hold ``audio/synth_0001.flac`` and so on (mono, 16 bit, 22050 Hz); ``songs.csv`` with the columns path,
    label, artist; and ``truth.csv`` with path, start_s, end_s, label, whose rows cover each song without gap. Labels
    are spread evenly over the quadrants. An artist has about four songs, most of them in one quadrant,
    so a split that does not keep artists apart flatters a classifier. The folder appears under its name once complete.

    Parameters
    ----------
    out : Path
        Folder to make; may exist if empty.
    songs : int
        Number of songs, 1 or more.
    seed : int
        Same seed, same files, whatever the number of workers; 0 or more.
    duration_s : float
        Length of every song, at least 8 s.
    workers : int, optional
        Number of processes; by default one per core.
    quiet : bool
        Show no progress.

    Raises
    ------
    CorpusError
        If `out` exists and is not an empty folder, or cannot be written.
    ConfigError
        If a number is out of range.
    EmosegError
        If another process writes it already, or a process ended suddenly.
    """
    _check_settings(songs=songs, seed=seed, duration_s=duration_s, workers=workers)
    with _new_folder(out) as folder:
        (folder / "audio").mkdir()
        jobs = [
            _Job(folder, f"audio/synth_{i + 1:04d}.flac", seed, i, label, artist, duration_s)
            for i, (label, artist) in enumerate(_roster(songs, seed))
        ]
        with progress("composing", songs, unit="songs", quiet=quiet) as bar:
            truths = _perform(jobs, workers or os.cpu_count() or 1, unfinished_folder(out.absolute()), bar.advance)
        _write_table(
            folder / "songs.csv", ("path", "label", "artist"), ((j.name, j.label, _artist_name(j)) for j in jobs)
        )
        rows = (
            (job.name, f"{s.start_s:.6f}", f"{s.end_s:.6f}", s.label)
            for job, truth in zip(jobs, truths, strict=True)
            for s in truth
        )
        _write_table(folder / "truth.csv", ("path", "start_s", "end_s", "label"), rows)


def _check_settings(*, songs: int, seed: int, duration_s: float, workers: int | None) -> None:
    if not 1 <= songs <= _MOST_SONGS:
        raise ConfigError(f"songs {songs}: a corpus has from 1 to {_MOST_SONGS} songs")
    if seed < 0:
        raise ConfigError(f"seed {seed}: a seed is 0 or more")
    if not MIN_DURATION_S <= duration_s <= _LONGEST_S:
        lasts = f"a synthesised song lasts from {MIN_DURATION_S} to {_LONGEST_S:g} seconds"
        raise ConfigError(f"duration_s {duration_s}: {lasts}")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers {workers}: at least 1 process is needed")


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `out` if the block succeeds, and vanishes if it fails."""
    if not out.is_dir() and os.path.lexists(out):
        raise CorpusError(f"{out}: is a file, and a corpus is written to a new or empty folder")
    out = out.absolute()
    if not out.name:
        raise CorpusError(f"{out}: is not empty, and a corpus is written only to a new or empty folder")
    work = unfinished_folder(out)
    with unfinished(work):
        try:
            if out.is_dir() and any(out.iterdir()):
                raise CorpusError(f"{out}: is not empty, and a corpus is written only to a new or empty folder")
            with work_folder(work) as folder:
                yield folder
                if out.is_dir():
                    out.rmdir()
                folder.rename(out)
        except OSError as error:
            raise CorpusError(f"{out}: cannot be written: {error.strerror or error}") from error
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _roster(songs: int, seed: int) -> list[tuple[str, int]]:
    """Give every song a label and the number of its artist, labels as even as can be, in random order."""
    labels = QUADRANTS.labels
    left = {label: len(range(i, songs, len(labels))) for i, label in enumerate(labels)}
    rng = np.random.default_rng([seed, 0])
    rows: list[tuple[str, int]] = []
    for i in range(songs):
        artist, turn = divmod(i, SONGS_PER_ARTIST)
        home = labels[artist % len(labels)]
        most = max(left.values())
        open_labels = [label for label in labels if left[label] == most]
        label = home if turn < 3 and left[home] else open_labels[int(rng.integers(len(open_labels)))]
        left[label] -= 1
        rows.append((label, artist))
    return [rows[i] for i in rng.permutation(songs)]


def _perform(jobs: list[_Job], workers: int, work: Path, on_song: Callable[[], object]) -> list[tuple[Section, ...]]:
    """Write the songs, in this process or in several, and give their truths in order.

    `work` goes with the processes: there is nothing in it that a next call could go on with.
    """
    truths: dict[int, tuple[Section, ...]] = {}
    songs = run_parallel(jobs, Start(_composing, folder=work), workers=min(workers, len(jobs)))
    with closing(songs):
        for i, truth in songs:
            truths[i] = truth
            on_song()
    return [truths[i] for i in range(len(jobs))]


def _composing() -> Callable[[_Job], tuple[Section, ...]]:
    """Return in a process what writes a song."""
    return _write_song


def _write_song(job: _Job) -> tuple[Section, ...]:
    artist = draw_artist(np.random.default_rng([job.seed, 1, job.artist]))
    rng = np.random.default_rng([job.seed, 2, job.number])
    samples, truth = compose(rng, label=job.label, duration_s=job.duration_s, artist=artist)
    pcm = np.round(samples * 32767).astype(np.int16)
    file = io.BytesIO()  # libsndfile says of a full disk nothing that could be told
    soundfile.write(file, pcm, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    (job.folder / job.name).write_bytes(file.getvalue())
    return truth


def _artist_name(job: _Job) -> str:
    return f"artist_{job.artist + 1:03d}"


def _write_table(path: Path, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
