"""One recording as a stream of mono sound: decoded, resampled and checked, in limited memory.

Conventions: sound is float32, nominally in [-1, 1]. Mono is the mean of the channels. Sample rates are converted by
soxr at quality "HQ", whichever decoder is used.

Decoders run in a process of their own (`decoding`). They are tried in the order soundfile, PyAV (extra ``av``), the
``ffmpeg`` program. Damaged files are treated as follows:

- A file that was cut off is analysed as a shorter recording, if a decoder reads up to the cut without an error.
- If a decoder fails inside a file, the next one starts again from the beginning. This is possible until sound has been
  yielded. Sound is held back until the whole recording has been decoded and checked, or until more than `_LOOKAHEAD`
  samples (twelve minutes at 22.05 kHz) are waiting. After that, errors of decoders and of checks end the stream.
- PyAV and ``ffmpeg`` skip broken packets. If more than one twentieth of a file is broken, the file is refused. PyAV
  measures this in time, ``ffmpeg`` in packets.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import soxr

from emoseg.audio.arrays import array_blocks, check_recording
from emoseg.audio.decoders import RefusedError
from emoseg.audio.decoding import available_decoders, decoded
from emoseg.audio.envelope import Envelope
from emoseg.audio.segments import Excerpt
from emoseg.errors import AudioError, ErrorKind, install_command
from emoseg.types import Float32, Recording

_LOOKAHEAD = 1 << 24  # resampled samples (64 MiB) held back, so that another decoder can still be tried
_SILENCE = 1e-4  # -80 dBFS
_RATES_HZ = (2_000, 1_000_000)  # other rates are errors in a header; resampling one block could fill the memory
_PEAKS = 2000
_LOUDEST = 100.0  # 40 dB above full scale: far above real mixes, and far below integers stored as floats
_LONGEST_S = 24 * 3600.0

_Blocks: TypeAlias = Generator[tuple[int, Float32], None, None]  # (native sample rate, mono sound)


class SoundStream:
    """The checked mono sound of one recording at one sample rate.

    Parameters
    ----------
    source : path or Recording
    sample_rate_hz : int
        Sample rate of the result.
    min_duration_s : float
        Shortest accepted duration in seconds.
    excerpt : Excerpt, optional
        The part of the recording to read; by default all of it.

    Attributes
    ----------
    path : str
    count : int
        Number of samples at `sample_rate_hz`; complete when `blocks` has ended, as are `envelope` and `decoder`.
    envelope : Envelope
        Minimum and maximum of the sound in equal stretches.
    decoder : str
        Name of the decoder, or ``"array"``.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Recording,
        *,
        sample_rate_hz: int,
        min_duration_s: float,
        excerpt: Excerpt | None = None,
    ) -> None:
        self.path = source.path if isinstance(source, Recording) else os.fspath(source)
        self._source, self._rate, self._min_duration_s = source, sample_rate_hz, min_duration_s
        self._excerpt = excerpt or Excerpt()
        self._start("")

    def _start(self, decoder: str) -> None:
        self.decoder = decoder
        self.count = 0
        self.envelope = Envelope(_PEAKS)
        self._peak = 0.0

    def blocks(self) -> Generator[Float32, None, None]:
        """Yield the sound in blocks of shape (n,), where n may vary, from the first decoder that can read it.

        Raises
        ------
        AudioError
            As in `emoseg.audio.reader.SegmentReader`.
        """
        outcomes: list[tuple[str, RefusedError | None]] = []
        for name, decode in self._candidates():
            self._start(name)
            held: deque[Float32] | None = deque()
            try:
                with closing(decode()) as native:
                    for block in self._excerpt.of(self._resampled(native), self._rate):
                        self._measure(block)
                        if held is None:
                            yield block
                            continue
                        held.append(block)
                        if self.count > _LOOKAHEAD:
                            yield from _emptied(held)
                            held = None
            except RefusedError as refusal:
                what = f"{name} stopped after {self.count / self._rate:.1f} s" if self.count else name
                if held is None:
                    raise self._error(f"is damaged: {what}: {refusal}", "decode") from refusal
                outcomes.append((f"{what}: {refusal}", refusal))
                continue
            if not self.count:
                outcomes.append((f"{name}: no samples", None))
                continue
            self._check_whole()
            yield from _emptied(held or deque())
            return
        raise self._undecoded(outcomes)

    def _undecoded(self, outcomes: list[tuple[str, RefusedError | None]]) -> AudioError:
        """Return the error for a recording that no decoder could read, given the message and error of each decoder."""
        causes = [cause for _, cause in outcomes if cause is not None]
        if len(causes) < len(outcomes):
            where = f"after {self._excerpt.offset_s:g} s" if self._excerpt.offset_s else ""
            return self._error(f"holds no sound{where and ' '}{where}: it has no samples", "empty")
        tried = "; ".join(words for words, _ in outcomes)
        hint = f"; m4a, wma and more formats need PyAV: {install_command('av')}" if len(outcomes) == 1 else ""
        error = self._error(f"cannot be decoded ({tried}){hint}", "decode")
        error.__cause__ = causes[-1]
        return error

    def _candidates(self) -> list[tuple[str, Callable[[], _Blocks]]]:
        if isinstance(self._source, Recording):
            recording = self._source
            check_recording(recording)
            return [("array", lambda: array_blocks(recording))]
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
            # Minus zero becomes zero. Only floating-point files contain it, and descriptors count changes of sign.
            block = block + np.float32(0)
            yield block if stream is None else stream.resample_chunk(block)
        if stream is not None:
            yield stream.resample_chunk(np.empty(0, dtype=np.float32), last=True)

    def _check_block(self, block: Float32, position: int, rate: int) -> None:
        """Raise an error if samples cannot be sound; `position` is the number of samples before the block."""
        usable = np.abs(block) <= _LOUDEST  # false for NaN too
        if not usable.all():
            first = int(np.argmin(usable))
            at, value = (position + first) / rate, float(block[first])
            if not np.isfinite(value):
                raise self._error(f"has a sample at {at:.3f} s that is not a finite number", "nonfinite")
            rule = f"full scale is 1, and samples above {_LOUDEST:g} cannot be sound"
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
        """Raise an error if the path is not that of a regular file, or if the file cannot be read or is empty."""
        path = Path(self.path)
        try:
            mode = path.stat().st_mode
            if stat.S_ISDIR(mode):
                raise self._error("is a folder, not a recording", "directory")
            if not stat.S_ISREG(mode):  # a pipe, for example, would block until another program writes to it
                raise self._error("is not a regular file", "unreadable")
            with path.open("rb") as file:
                empty = not file.read(1)
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a null character in the name
            raise self._error("no such file", "missing") from error
        except OSError as error:
            raise self._error(f"cannot be read: {error.strerror}", "unreadable") from error
        if empty:
            raise self._error("is an empty file", "empty")

    def _error(self, message: str, kind: ErrorKind) -> AudioError:
        return AudioError(f"{self.path}: {message}", kind=kind)


def _emptied(held: deque[Float32]) -> Iterator[Float32]:
    """Yield and remove the held blocks, so that each can be freed."""
    while held:
        yield held.popleft()
