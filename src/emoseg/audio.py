"""From any recording to segments: decode, mix to mono, resample, check, cut, all in one stream of bounded memory.

Whole files, files of many hours and arrays in memory take the same path, and neither the size of the blocks nor that of
the batches changes a single bit of the result. Conventions: sound is float32, nominally in [-1, 1]; mono is the mean of
the channels; every change of sample rate is made by soxr at quality "HQ", whichever decoder was at work.

Decoders are tried in the order soundfile, PyAV (extra ``av``), the ``ffmpeg`` program. What counts as damaged:

- A file that ends early is a shorter recording, whenever some decoder reads up to the cut without an error.
- A decoder that fails inside a file hands over to the next, which starts again from the beginning, as long as no sound
  was handed out. Sound is held back until the whole recording is known to be good or `_LOOKAHEAD` samples (twelve
  minutes at 22.05 kHz) are waiting; after that a failure is final. So is every other check of the whole recording.
- The two decoders of FFmpeg leave out packets that are broken, up to one twentieth of the file (PyAV measures this in
  time, the program in packets); a worse file is refused.

Inside: `SegmentReader` for all uses, `read` for a whole recording at once, `as_recording` for arrays, `find_audio` for
folders.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from emoseg.config import SegmentConfig
from emoseg.errors import AudioError, ConfigError
from emoseg.types import Float32, Recording, SegmentBatch

# fmt: off
AUDIO_SUFFIXES: frozenset[str] = frozenset((
    ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".caf", ".dsf", ".flac", ".m4a", ".m4b", ".mka",
    ".mp2", ".mp3", ".mpc", ".oga", ".ogg", ".opus", ".snd", ".tta", ".w64", ".wav", ".wave", ".wma", ".wv",
))
# fmt: on
"""Lower-case suffixes of the files that `find_audio` takes for recordings."""

_BLOCK = 1 << 16  # values (frames times channels) decoded at a time
_LOOKAHEAD = 1 << 24  # resampled samples (64 MiB) held back while a failing decoder may still be replaced
_SILENCE = 1e-4  # -80 dBFS
_RATES_HZ = (2_000, 1_000_000)  # outside, a header is wrong, and resampling one block could fill the memory
_PEAKS = 2000
_SAMPLE_TYPES = {"dbl": "f8", "flt": "f4", "s32": "i4", "s16": "i2", "u8": "u1"}  # FFmpeg's names
_BROKEN = 0.05  # share of a file that FFmpeg's decoders may leave out
_WORDS = 1000  # characters kept of what a decoder says

# FFmpeg also opens playlists and scripts, which name other files and addresses; a recording must not be able to.
_CONTAINERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,iff,loas,matroska,webm,mov,mp4,m4a,mp3,mpc,mpc8,"
    "mpeg,mpegts,ogg,oma,rm,tak,tta,voc,w64,wav,wv,xwma"
)

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
        ``"rate"``, ``"nonfinite"``, ``"short"``, ``"silent"`` (peak below -80 dBFS), or for a `Recording` ``"rank"``
        or ``"dtype"``. In recordings of more than `_LOOKAHEAD` samples the error may come after the first batches.
    ConfigError
        If `batch` is below 1.
    """

    def __init__(self, source: str | os.PathLike[str] | Recording, *, segment: SegmentConfig, batch: int = 64) -> None:
        if batch < 1:
            raise ConfigError(f"batch {batch} must be at least 1 segment")
        self._source, self._segment, self._batch = source, segment, batch
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


def stated_duration_s(path: str | os.PathLike[str]) -> float | None:
    """Return the duration that a file's header states, for progress bars; None where soundfile does not know."""
    try:
        with _muted_mpg123():
            return float(soundfile.info(os.fspath(path)).duration)
    except (soundfile.LibsndfileError, TypeError, OSError):
        return None


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
    if source.ndim not in (1, 2):
        raise AudioError(f"<array>: samples must have shape (n,) or (n, C), got {source.shape}", kind="rank")
    if source.ndim == 2 and source.shape[1] > max(32, source.shape[0]):
        raise AudioError(f"<array>: {source.shape} is shape (n, C) the wrong way round: transpose it", kind="rank")
    frames = _scaled(source.reshape(len(source), -1))
    if not frames.shape[1]:
        raise AudioError(f"<array>: samples of shape {source.shape} have no channel", kind="empty")
    return Recording(np.ascontiguousarray(_mono(frames)), sample_rate_hz)


def _scaled(values: NDArray[Any]) -> Float32:
    """Return samples of any numeric type as float32 in [-1, 1]."""
    if values.dtype.kind == "u":
        half = np.float64(2.0 ** (8 * values.dtype.itemsize - 1))
        return np.asarray((values - half) / half, dtype=np.float32)
    if values.dtype.kind == "i":
        return np.asarray(values / 2.0 ** (8 * values.dtype.itemsize - 1), dtype=np.float32)
    if values.dtype.kind != "f":
        raise AudioError(f"<array>: samples must be real numbers, got {values.dtype}", kind="dtype")
    with np.errstate(all="ignore"):  # float64 beyond float32 is caught as not finite
        return np.asarray(values, dtype=np.float32)


def find_audio(root: Path) -> list[Path]:
    """List the recordings in a folder and its sub-folders.

    Parameters
    ----------
    root : Path
        A folder.

    Returns
    -------
    list of Path
        Files whose suffix is in `AUDIO_SUFFIXES`, whatever its case, sorted by path. Files and folders whose name
        begins with a dot are left out; links to folders are not followed.

    Raises
    ------
    AudioError
        If `root` is not a folder (``"missing"``), or a folder in it cannot be listed (``"unreadable"``).
    """

    def refuse(error: OSError) -> None:
        raise AudioError(f"{error.filename}: cannot be listed: {error.strerror}", kind="unreadable") from error

    if not root.is_dir():
        raise AudioError(f"{root}: no such folder", kind="missing")
    found: list[Path] = []
    for folder, folders, files in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(folder, name) for name in files if not name.startswith("."))
        found += [path for path in paths if path.suffix.lower() in AUDIO_SUFFIXES]
    return sorted(found)


# --- the stream ------------------------------------------------------------------------------------------------------


class _Refused(Exception):  # noqa: N818  (it passes the file on to the next decoder)
    """A decoder cannot read this file, or not to its end."""


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
        outcomes: list[tuple[str, _Refused | None]] = []
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
            except _Refused as refusal:
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

    def _undecoded(self, outcomes: list[tuple[str, _Refused | None]]) -> AudioError:
        """Return the error after every decoder gave up; `outcomes` holds the words of each."""
        causes = [cause for _, cause in outcomes if cause is not None]
        if len(causes) < len(outcomes):
            return self._error("holds no sound: it has no samples", "empty")
        tried = "; ".join(words for words, _ in outcomes)
        hint = "; m4a, wma and more formats need PyAV: pip install 'emoseg[av]'" if len(outcomes) == 1 else ""
        error = self._error(f"cannot be decoded ({tried}){hint}", "decode")
        error.__cause__ = causes[-1]
        return error

    def _candidates(self) -> list[tuple[str, Callable[[], _Blocks]]]:
        if isinstance(self._source, Recording):
            recording = self._source
            self._check_array(recording)
            return [("array", lambda: _array_blocks(recording))]
        head = self._check_file()
        # An absolute path cannot be taken for an option, for standard input ("-"), or for a protocol ("a:b.mp3").
        path = os.path.abspath(self.path)  # noqa: PTH100  (Path.absolute keeps "..", and Path.resolve follows links)
        candidates: list[tuple[str, Callable[[], _Blocks]]] = [("soundfile", lambda: _soundfile_blocks(path))]
        if _has_pyav():
            candidates.append(("pyav", lambda: _pyav_blocks(path)))
        if program := shutil.which("ffmpeg"):
            candidates.append(("ffmpeg", lambda: _ffmpeg_blocks(path, program=program)))
        # Of damaged ALAC in CAF, libsndfile prints remarks on standard output, where results go.
        alac_in_caf = head.startswith(b"caff") and head[28:] == b"alac"
        return candidates[1:] if alac_in_caf and len(candidates) > 1 else candidates

    def _resampled(self, native: _Blocks) -> Iterator[Float32]:
        stream: Any = None
        first = position = 0
        for rate, block in native:
            if not first:
                first = rate
                stream = self._resampler(rate)
            elif rate != first:
                raise _Refused(f"the sample rate changes from {first} to {rate} Hz")
            finite = np.isfinite(block)
            if not finite.all():
                at = (position + int(np.argmin(finite))) / rate
                raise self._error(f"has a sample at {at:.3f} s that is not a finite number", "nonfinite")
            position += len(block)
            # Minus zero becomes zero: floating-point files alone have it, and frontends count changes of sign.
            block = block + np.float32(0)
            yield block if stream is None else stream.resample_chunk(block)
        if stream is not None:
            yield stream.resample_chunk(np.empty(0, dtype=np.float32), last=True)

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

    def _check_file(self) -> bytes:
        """Return the first 32 bytes of the file, which is one and can be read."""
        path = Path(self.path)
        try:
            mode = path.stat().st_mode
            if stat.S_ISDIR(mode):
                raise self._error("is a folder, not a recording", "directory")
            if not stat.S_ISREG(mode):  # opening a pipe would wait for its writer
                raise self._error("is not a regular file", "unreadable")
            with path.open("rb") as file:
                head = file.read(32)
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a null character in the name
            raise self._error("no such file", "missing") from error
        except OSError as error:
            raise self._error(f"cannot be read: {error.strerror}", "unreadable") from error
        if not head:
            raise self._error("is an empty file", "empty")
        return head

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


# --- decoders --------------------------------------------------------------------------------------------------------


def _mono(frames: Float32) -> Float32:
    """Mean of the channels of (n, C) samples; added one by one, so that the sum never depends on the block's size."""
    if frames.shape[1] == 1:
        return frames[:, 0]
    total = frames[:, 0].copy()
    with np.errstate(all="ignore"):  # what overflows is caught as not finite
        for channel in range(1, frames.shape[1]):
            total += frames[:, channel]
    total /= np.float32(frames.shape[1])
    return total


def _array_blocks(recording: Recording) -> _Blocks:
    for start in range(0, len(recording.samples), _BLOCK):
        yield recording.sample_rate_hz, np.ascontiguousarray(recording.samples[start : start + _BLOCK])


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is only read forward.

    The plain class seeks after every block that it read, which restarts the decoder: Opus then sounds a little
    different at each border of a block.
    """

    def seekable(self) -> bool:
        return False


def _soundfile_blocks(path: str) -> _Blocks:
    # libsndfile takes the bytes of a name where the system does, which also serves names that are not valid text.
    name = path if sys.platform == "win32" else os.fsencode(path)
    try:
        with _muted_mpg123():
            file = _ForwardFile(name)
    except soundfile.LibsndfileError as error:
        # It tried the suffix's format last and mistakes the outcome for a missing file; the file was seen to exist.
        told = _one_line(error.error_string)
        raise _Refused("Format not recognised." if "does not exist" in told else told) from error
    except TypeError as error:  # headerless formats by suffix, such as .raw
        raise _Refused(str(error)) from error
    with file:
        mpeg = file.format == "MP3"
        size = max(1, _BLOCK // file.channels)
        while True:
            try:
                if mpeg:
                    with _muted_mpg123():
                        frames = file.read(size, dtype="float32", always_2d=True)
                else:
                    frames = file.read(size, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                raise _Refused(_one_line(error.error_string)) from error
            if not len(frames):
                return
            yield file.samplerate, _mono(frames)


_MPG123_LINE = re.compile(rb"(Note|Warning|Error): |\[[^]]*libmpg123")
_mute_lock = threading.Lock()
_mute_depth = 0
_muted: tuple[int, IO[bytes]] | None = None


@contextmanager
def _muted_mpg123() -> Iterator[None]:
    """Keep the notes of libmpg123 on damaged files, which go to file descriptor 2 itself, off the user's screen.

    The descriptor belongs to the process, so what other threads write meanwhile is collected too, and passed on.
    """
    global _mute_depth, _muted
    with _mute_lock:
        _mute_depth += 1
        if _mute_depth == 1:
            _muted = _divert_stderr()
    try:
        yield
    finally:
        with _mute_lock:
            _mute_depth -= 1
            if _mute_depth == 0 and _muted is not None:
                _restore_stderr(*_muted)
                _muted = None


def _divert_stderr() -> tuple[int, IO[bytes]] | None:
    try:
        saved = os.dup(2)
    except OSError:  # a process without standard error has nothing to keep clean
        return None
    try:
        sink = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  (closed by _restore_stderr)
    except OSError:  # nowhere to write: rather a note on the screen than no sound
        os.close(saved)
        return None
    os.dup2(sink.fileno(), 2)
    return saved, sink


def _restore_stderr(saved: int, sink: IO[bytes]) -> None:
    os.dup2(saved, 2)
    os.close(saved)
    with sink:
        sink.seek(0)
        foreign = [line for line in sink.read().splitlines(keepends=True) if not _MPG123_LINE.match(line)]
    if foreign:
        os.write(2, b"".join(foreign))


def _has_pyav() -> bool:
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


def _pyav_blocks(path: str) -> _Blocks:
    import av

    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    try:
        with av.open(path, options=options, metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise _Refused("no audio stream")
            waiting: list[Float32] = []
            rate = count = 0
            for frame in _pyav_frames(container):
                # Frames are short (1,024 samples or so); a block of them costs the later stages far less.
                if waiting and (frame.sample_rate != rate or count >= _BLOCK):
                    yield rate, np.concatenate(waiting)
                    waiting, count = [], 0
                rate = frame.sample_rate
                waiting.append(_mono(_frame_samples(frame)))
                count += len(waiting[-1])
            if waiting:
                yield rate, np.concatenate(waiting)
    except av.FFmpegError as error:  # its text is a number, the words, and the path again
        raise _Refused(error.strerror or type(error).__name__) from error
    except (ValueError, RuntimeError, MemoryError) as error:  # PyAV's own, on streams that contradict themselves
        raise _Refused(_one_line(str(error)) or type(error).__name__) from error


def _pyav_frames(container: Any) -> Iterator[Any]:
    """Decode the first audio stream, the decoder's own delay included; too much missing sound is a refusal."""
    import av

    decoded_s = end_s = 0.0
    start_s: float | None = None
    broken: Exception | None = None
    for packet in container.demux(container.streams.audio[0]):
        try:
            frames = packet.decode()
        except av.InvalidDataError as error:
            broken = error
            continue
        for frame in frames:
            duration_s = frame.samples / frame.sample_rate
            decoded_s += duration_s
            if frame.time is not None:
                start_s = frame.time if start_s is None else start_s
                end_s = frame.time + duration_s
            yield frame
    if broken is not None and not decoded_s:
        raise _Refused(getattr(broken, "strerror", None) or _one_line(str(broken))) from broken
    # Broken sound is often dropped before decoding, without a word; then the time stamps tell more than the errors.
    span_s = end_s - (start_s or 0.0)
    if span_s - decoded_s > _BROKEN * span_s:
        raise _Refused(f"{span_s - decoded_s:.1f} s of {span_s:.1f} s are missing or broken")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_WORDS]


def _frame_samples(frame: Any) -> Float32:
    """Return the samples of a PyAV frame as float32 in [-1, 1], shape (n, C).

    Not by PyAV's own `to_ndarray`: from eight channels on it takes what lies behind the last plane for further planes.
    """
    channels, planar = frame.layout.nb_channels, frame.format.is_planar
    dtype = _SAMPLE_TYPES.get(frame.format.name.removesuffix("p"))
    planes = frame.planes[: channels if planar else 1]
    if dtype is None or not channels or len(planes) < (channels if planar else 1):
        raise _Refused(f"a frame of {channels} channels and sample format {frame.format.name} cannot be read")
    count = frame.samples * (1 if planar else channels)
    parts = [np.frombuffer(plane, dtype=dtype, count=count) for plane in planes]
    return _scaled(np.stack(parts, axis=1) if planar else parts[0].reshape(-1, channels))


def _ffmpeg_blocks(path: str, *, program: str) -> _Blocks:
    """Decode through a pipe, as an AU stream: its header of six numbers tells the rate and channels of what follows."""
    command = [program, "-nostdin", "-v", "error", "-max_error_rate", str(_BROKEN)]
    command += ["-protocol_whitelist", "file", "-format_whitelist", _CONTAINERS, "-i", path]
    command += ["-map", "0:a:0", "-map_metadata", "-1", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        raise _Refused(str(error)) from error
    with process:
        said = bytearray()
        listener = threading.Thread(target=_keep_tail, args=(process.stderr, said), daemon=True)
        listener.start()
        try:
            yield from _au_blocks(process.stdout)
            status = process.wait()
        finally:
            process.kill()
            listener.join()
        if status:
            words = said.decode(errors="replace").strip().replace(_CONTAINERS, "...").replace("\n", " | ")
            raise _Refused(re.sub(" @ 0x[0-9a-f]+", "", words) or f"exit status {status}")


def _keep_tail(pipe: IO[bytes], kept: bytearray) -> None:
    while piece := pipe.read(4096):
        kept[:] = (kept + piece)[-_WORDS:]


def _au_blocks(pipe: IO[bytes] | None) -> _Blocks:
    header = pipe.read(24) if pipe else b""
    if pipe is None or len(header) < 24:
        return  # the exit status tells why
    _, offset, _, _, rate, channels = struct.unpack(">6I", header)
    pipe.read(offset - 24)
    width = 4 * channels
    while raw := pipe.read(max(1, _BLOCK // channels) * width):
        values = np.frombuffer(raw[: len(raw) // width * width], dtype=">f4")
        yield rate, _mono(values.astype(np.float32).reshape(-1, channels))
