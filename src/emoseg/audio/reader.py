"""From any recording to segments: decode, resample, check, cut, all in one stream of bounded memory.

Whole files, files of many hours and arrays in memory take the same path, and neither the size of the blocks nor that of
the batches changes a single bit of the result. Conventions: sound is float32, nominally in [-1, 1]; mono is the mean of
the channels; every change of sample rate is made by soxr at quality "HQ", whichever decoder was at work.

Decoders run in a process of their own (`decoding`) and are tried in the order soundfile, PyAV (extra ``av``), the
``ffmpeg`` program. What counts as damaged:

- A file that ends early is a shorter recording, whenever some decoder reads up to the cut without an error.
- A decoder that fails inside a file hands over to the next, which starts again from the beginning, as long as no sound
  was handed out. Sound is held back until the whole recording is known to be good or `_LOOKAHEAD` samples (twelve
  minutes at 22.05 kHz) are waiting; after that a failure is final. So is every other check of the whole recording.
- The two decoders of FFmpeg leave out packets that are broken, up to one twentieth of the file (PyAV measures this in
  time, the program in packets); a worse file is refused.

Inside: `SegmentReader` for all uses, `read` for a whole recording at once, `as_recording` for arrays.
"""

from __future__ import annotations

import operator
import os
import stat
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import soxr
from numpy.typing import NDArray

from emoseg.audio.decoders import RefusedError
from emoseg.audio.decoding import available_decoders, decoded
from emoseg.audio.samples import mono, scaled
from emoseg.config import SegmentConfig
from emoseg.errors import AudioError, ConfigError, install_command
from emoseg.types import Float32, Recording, SegmentBatch

_BLOCK = 1 << 16  # samples of an array that are taken at a time
_LOOKAHEAD = 1 << 24  # resampled samples (64 MiB) held back while a failing decoder may still be replaced
_SILENCE = 1e-4  # -80 dBFS
_RATES_HZ = (2_000, 1_000_000)  # outside, a header is wrong, and resampling one block could fill the memory
_PEAKS = 2000
_LOUDEST = 100.0  # 40 dB above full scale, far from any mix, and far below integers stored as floats
_LONGEST_S = 24 * 3600.0

_Blocks: TypeAlias = Generator[tuple[int, Float32], None, None]  # (native sample rate, mono sound)


class SegmentReader:
    """The segments of one recording, decoded as they are asked for.

    Each iteration starts again at the beginning of the recording. Nothing is decoded before the first one.

    Parameters
    ----------
    source : path or Recording
        A file, or decoded mono sound of any sample rate.
    segment : SegmentConfig
        Sample rate, segment length and hop, the rule for the last segment, the shortest duration.
    batch : int
        Segments in a `SegmentBatch`, at least 1; the last batch may hold fewer.

    Yields
    ------
    SegmentBatch
        `samples` of shape (B, `segment.length`), B at most `batch`. Segment k starts at sample k times `segment.hop`.
        A last segment that is not full follows `SegmentConfig.last`; it is filled by repeating its own sound.

    Attributes
    ----------
    path : str
    duration_s : float
        Duration at the resampled rate; 0.0 until an iteration has ended.
    peaks : array, shape (P, 2)
        Minimum and maximum of the mono, resampled sound in P equal stretches (the last may be shorter). P is at most
        2000, and is the number of samples for recordings shorter than that; (0, 2) until an iteration has ended.
    decoder : str
        ``"soundfile"``, ``"pyav"``, ``"ffmpeg"`` or ``"array"``; empty until an iteration has ended.

    Raises
    ------
    AudioError
        While iterating. `kind` is ``"missing"``, ``"directory"``, ``"unreadable"``, ``"empty"``, ``"decode"``,
        ``"rate"``, ``"nonfinite"``, ``"level"`` (far above full scale), ``"long"`` (more than 24 hours), ``"short"``,
        ``"silent"`` (peak below -80 dBFS), or for a `Recording` ``"rank"`` or ``"dtype"``. In recordings of more than
        `_LOOKAHEAD` samples the error may come after the first batches.
    ConfigError
        If `batch` is below 1.
    """

    def __init__(self, source: str | os.PathLike[str] | Recording, *, segment: SegmentConfig, batch: int = 64) -> None:
        if batch < 1:
            raise ConfigError(f"batch {batch} must be at least 1 segment")
        self._source, self._segment, self._batch = source, segment, batch
        self.path = source.path if isinstance(source, Recording) else os.fspath(source)
        self._reset()

    def _reset(self) -> None:
        self.duration_s = 0.0
        self.peaks: Float32 = np.empty((0, 2), dtype=np.float32)
        self.decoder = ""

    def __iter__(self) -> Iterator[SegmentBatch]:
        self._reset()
        rate = self._segment.sample_rate_hz
        sound = _Sound(self._source, sample_rate_hz=rate, min_duration_s=self._segment.min_duration_s)
        with closing(sound.blocks()) as blocks:
            segments = _cut(blocks, segment=self._segment)
            while rows := list(islice(segments, self._batch)):
                starts, ends, samples = zip(*rows, strict=True)
                yield SegmentBatch(
                    np.array(starts, dtype=np.float64) / rate,
                    np.array(ends, dtype=np.float64) / rate,
                    np.stack(samples),
                )
        self.duration_s = sound.count / rate
        self.peaks = sound.envelope.rows()
        self.decoder = sound.decoder


def read(source: str | os.PathLike[str] | Recording, *, sample_rate_hz: int) -> Recording:
    """Decode a whole recording at once, through the same stream as `SegmentReader`.

    Parameters
    ----------
    source : path or Recording
        A file, or decoded mono sound of any sample rate.
    sample_rate_hz : int
        Rate of the result, at least 1.

    Returns
    -------
    Recording
        Mono samples of shape (n,) at `sample_rate_hz`; any duration above zero will do.

    Raises
    ------
    AudioError
        As in `SegmentReader`, except that nothing is too short.
    ConfigError
        If `sample_rate_hz` is below 1.
    """
    if sample_rate_hz < 1:
        raise ConfigError(f"sample_rate_hz {sample_rate_hz} must be at least 1")
    sound = _Sound(source, sample_rate_hz=sample_rate_hz, min_duration_s=0.0)
    return Recording(np.concatenate(list(sound.blocks())), sample_rate_hz, sound.path)


def as_recording(
    source: str | os.PathLike[str] | Recording | NDArray[Any], sample_rate_hz: int | None
) -> str | os.PathLike[str] | Recording:
    """Return an array of samples as a mono `Recording`; a path or a `Recording` as it is.

    Parameters
    ----------
    source : path, Recording or array
        An array has shape (n,), or (n, C) with C channels, which are averaged. Floating-point samples are nominally in
        [-1, 1]; the full scale of integers counts as 1 (unsigned ones are centred first).
    sample_rate_hz : int or None
        Of an array; None for everything else.

    Raises
    ------
    ConfigError
        An array without a sample rate, or a sample rate with something else.
    AudioError
        The array has another shape (``"rank"``) or type (``"dtype"``).
    """
    if not isinstance(source, np.ndarray):
        if isinstance(source, Recording | str | os.PathLike):
            if sample_rate_hz is not None:
                raise ConfigError("sample_rate_hz goes with an array; a file or a Recording has its own")
            return source
        raise ConfigError(f"a recording is a path, a Recording or a numpy array, not {type(source).__name__}")
    if sample_rate_hz is None:
        raise ConfigError("an array of samples needs its sample rate: sample_rate_hz=...")
    if isinstance(sample_rate_hz, bool) or not hasattr(sample_rate_hz, "__index__"):
        raise ConfigError(f"sample_rate_hz {sample_rate_hz!r}: must be a whole number")
    if source.ndim not in (1, 2):
        raise AudioError(f"<array>: samples must have shape (n,) or (n, C), got {source.shape}", kind="rank")
    if source.ndim == 2 and source.shape[1] > max(32, source.shape[0]):
        raise AudioError(f"<array>: {source.shape} is shape (n, C) the wrong way round: transpose it", kind="rank")
    frames = scaled(source if source.ndim == 2 else source[:, None])
    if not frames.shape[1]:
        raise AudioError(f"<array>: samples of shape {source.shape} have no channel", kind="empty")
    return Recording(np.ascontiguousarray(mono(frames)), operator.index(sample_rate_hz))


# --- the stream ------------------------------------------------------------------------------------------------------


class _Sound:
    """Mono sound of one recording at one rate, checked; what is known of it once `blocks` has ended."""

    def __init__(
        self, source: str | os.PathLike[str] | Recording, *, sample_rate_hz: int, min_duration_s: float
    ) -> None:
        self.path = source.path if isinstance(source, Recording) else os.fspath(source)
        self._source, self._rate, self._min_duration_s = source, sample_rate_hz, min_duration_s
        self._start("")

    def _start(self, decoder: str) -> None:
        self.decoder = decoder
        self.count = 0
        self.envelope = _Envelope(_PEAKS)
        self._peak = 0.0

    def blocks(self) -> Generator[Float32, None, None]:
        """Yield the sound in blocks of any size, from the first decoder that can read it."""
        outcomes: list[tuple[str, RefusedError | None]] = []
        for name, decode in self._candidates():
            self._start(name)
            held: deque[Float32] | None = deque()
            try:
                with closing(decode()) as native:
                    for block in self._resampled(native):
                        self._measure(block)
                        if held is None:
                            yield block
                            continue
                        held.append(block)
                        if self.count > _LOOKAHEAD:
                            yield from _emptied(held)
                            held = None
            except RefusedError as refusal:
                said = f"{name} stopped after {self.count / self._rate:.1f} s" if self.count else name
                if held is None:
                    raise self._error(f"is damaged: {said}: {refusal}", "decode") from refusal
                outcomes.append((f"{said}: {refusal}", refusal))
                continue
            if not self.count:
                outcomes.append((f"{name}: no samples", None))
                continue
            self._check_whole()
            yield from _emptied(held or deque())
            return
        raise self._undecoded(outcomes)

    def _undecoded(self, outcomes: list[tuple[str, RefusedError | None]]) -> AudioError:
        """Return the error after every decoder gave up; `outcomes` holds the words of each."""
        causes = [cause for _, cause in outcomes if cause is not None]
        if len(causes) < len(outcomes):
            return self._error("holds no sound: it has no samples", "empty")
        tried = "; ".join(words for words, _ in outcomes)
        hint = f"; m4a, wma and more formats need PyAV: {install_command('av')}" if len(outcomes) == 1 else ""
        error = self._error(f"cannot be decoded ({tried}){hint}", "decode")
        error.__cause__ = causes[-1]
        return error

    def _candidates(self) -> list[tuple[str, Callable[[], _Blocks]]]:
        if isinstance(self._source, Recording):
            recording = self._source
            self._check_array(recording)
            return [("array", lambda: _array_blocks(recording))]
        self._check_file()
        # An absolute path cannot be taken for an option, for standard input ("-"), or for a protocol ("a:b.mp3").
        path = os.path.abspath(self.path)  # noqa: PTH100  (Path.absolute keeps "..", and Path.resolve follows links)
        return [(name, partial(decoded, path, name)) for name in available_decoders()]

    def _resampled(self, native: _Blocks) -> Iterator[Float32]:
        stream: Any = None
        first = position = 0
        for rate, block in native:
            if not first:
                first = rate
                stream = self._resampler(rate)
            elif rate != first:
                raise RefusedError(f"the sample rate changes from {first} to {rate} Hz")
            self._check_block(block, position, rate)
            position += len(block)
            # Minus zero becomes zero: floating-point files alone have it, and frontends count changes of sign.
            block = block + np.float32(0)
            yield block if stream is None else stream.resample_chunk(block)
        if stream is not None:
            yield stream.resample_chunk(np.empty(0, dtype=np.float32), last=True)

    def _check_block(self, block: Float32, position: int, rate: int) -> None:
        """Refuse samples that are no sound; `position` is that of the block in the recording."""
        usable = np.abs(block) <= _LOUDEST  # false for NaN too
        if not usable.all():
            first = int(np.argmin(usable))
            at, value = (position + first) / rate, float(block[first])
            if not np.isfinite(value):
                raise self._error(f"has a sample at {at:.3f} s that is not a finite number", "nonfinite")
            rule = f"full scale is 1, and nothing above {_LOUDEST:g} is taken for sound"
            raise self._error(f"has a sample of {value:.4g} at {at:.3f} s: {rule}", "level")
        if position + len(block) > _LONGEST_S * rate:
            raise self._error(f"lasts more than {_LONGEST_S / 3600:g} hours: cut it into parts", "long")

    def _resampler(self, rate: int) -> Any:
        if not _RATES_HZ[0] <= rate <= _RATES_HZ[1]:
            raise self._error(f"sample rate {rate} Hz is outside {_RATES_HZ[0]} to {_RATES_HZ[1]} Hz", "rate")
        if rate == self._rate:
            return None
        return soxr.ResampleStream(rate, self._rate, 1, dtype="float32", quality="HQ")

    def _measure(self, block: Float32) -> None:
        if len(block):
            self.count += len(block)
            self._peak = max(self._peak, float(block.max()), -float(block.min()))
            self.envelope.add(block)

    def _check_whole(self) -> None:
        if self.count < int(self._min_duration_s * self._rate):
            duration = self.count / self._rate
            rule = f"shorter than the minimum of {self._min_duration_s:g} s"
            raise self._error(f"lasts {duration:.6g} s, {rule}", "short")
        if self._peak < _SILENCE:
            raise self._error(f"is silent: the peak of its mono sound, {self._peak:.1g}, is below -80 dBFS", "silent")

    def _check_file(self) -> None:
        """Refuse what is not a file, cannot be read, or is empty."""
        path = Path(self.path)
        try:
            mode = path.stat().st_mode
            if stat.S_ISDIR(mode):
                raise self._error("is a folder, not a recording", "directory")
            if not stat.S_ISREG(mode):  # opening a pipe would wait for its writer
                raise self._error("is not a regular file", "unreadable")
            with path.open("rb") as file:
                empty = not file.read(1)
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a null character in the name
            raise self._error("no such file", "missing") from error
        except OSError as error:
            raise self._error(f"cannot be read: {error.strerror}", "unreadable") from error
        if empty:
            raise self._error("is an empty file", "empty")

    def _check_array(self, recording: Recording) -> None:
        samples: Any = recording.samples
        rank = getattr(samples, "ndim", None)
        if rank != 1:
            shape = getattr(samples, "shape", type(samples).__name__)
            how = "mix channels with samples.mean(axis=...)"
            raise self._error(f"samples must be mono, of shape (n,), got {shape}: {how}", "rank")
        if samples.dtype != np.float32:
            raise self._error(f"samples must be float32 in [-1, 1], got {samples.dtype}", "dtype")
        if recording.sample_rate_hz <= 0:
            raise self._error(f"sample_rate_hz must be above 0, got {recording.sample_rate_hz}", "rate")

    def _error(self, message: str, kind: str) -> AudioError:
        return AudioError(f"{self.path}: {message}", kind=kind)


class _Envelope:
    """Minimum and maximum in at most `limit` (even) equal stretches of a stream of unknown length.

    A stretch begins as one sample; each time `limit` of them are full, neighbours are joined in pairs. The result
    depends on the samples alone, not on the blocks they came in.
    """

    def __init__(self, limit: int) -> None:
        self._rows: Float32 = np.empty((limit, 2), dtype=np.float32)
        self._count, self._size = 0, 1
        self._open: Float32 = np.empty(0, dtype=np.float32)  # minimum and maximum of the stretch that is not full
        self._filled = 0

    def add(self, block: Float32) -> None:
        """Take the next samples, of shape (n,)."""
        while len(block):
            if self._filled or len(block) < self._size:
                part, block = np.split(block, [self._size - self._filled])
                extremes = np.concatenate([self._open, part])
                self._open = np.array([extremes.min(), extremes.max()], dtype=np.float32)
                self._filled += len(part)
                if self._filled == self._size:
                    self._push(self._open[None])
                    self._open, self._filled = self._open[:0], 0
            else:
                stretches = min(len(block) // self._size, len(self._rows) - self._count)
                whole, block = np.split(block, [stretches * self._size])
                grid = whole.reshape(stretches, self._size)
                self._push(np.stack([grid.min(axis=1), grid.max(axis=1)], axis=1))

    def _push(self, rows: Float32) -> None:
        self._rows[self._count : self._count + len(rows)] = rows
        self._count += len(rows)
        if self._count == len(self._rows):
            self._count //= 2
            self._size *= 2
            low, high = self._rows[:, 0].reshape(-1, 2), self._rows[:, 1].reshape(-1, 2)
            self._rows[: self._count] = np.stack([low.min(axis=1), high.max(axis=1)], axis=1)

    def rows(self) -> Float32:
        """Return the envelope so far, shape (P, 2)."""
        return np.concatenate([self._rows[: self._count], self._open.reshape(-1, 2)])


def _emptied(held: deque[Float32]) -> Iterator[Float32]:
    while held:
        yield held.popleft()


def _cut(blocks: Iterable[Float32], *, segment: SegmentConfig) -> Iterator[tuple[int, int, Float32]]:
    """Yield (first sample, end of real sound, samples) of each segment."""
    length, hop = segment.length, segment.hop
    buffer: Float32 = np.empty(0, dtype=np.float32)
    base = start = 0  # positions in the recording: of the buffer, of the next segment
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        while start + length <= base + len(buffer):
            yield start, start + length, buffer[start - base : start - base + length]
            start += hop
        passed = min(start - base, len(buffer))
        buffer, base = buffer[passed:], base + passed
    rest = buffer[start - base :]
    if start == 0 or (segment.last == "pad" and 2 * len(rest) >= length):
        yield start, base + len(buffer), np.resize(rest, length)


def _array_blocks(recording: Recording) -> _Blocks:
    for start in range(0, len(recording.samples), _BLOCK):
        yield recording.sample_rate_hz, np.ascontiguousarray(recording.samples[start : start + _BLOCK])
