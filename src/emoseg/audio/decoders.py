"""The decoders, and the process that runs them: ``python -m emoseg.audio.decoders``, which only `decoding` starts.

Recordings may come from an untrusted source, and decoders are large C libraries. They run in a process of their own:
its memory is limited, it cannot write files, its output is discarded, and a crash or a hang ends only this process.

The process reads requests from standard input, one JSON object per line, and writes packets to standard output. A
packet is a header in the format `HEADER` (kind, sample rate in Hz, length in bytes), followed by that many bytes:

- ``B``: a block of mono float32 samples.
- ``E``: the end of the sound.
- ``R``: the reason why the decoder cannot read the file, as text.
- ``J``: the answer to a request as a JSON value.
- ``P``: the seconds of sound read so far, before an answer.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from typing import IO, Any, BinaryIO, TypeAlias

import numpy as np

from emoseg.audio.samples import mono, scaled
from emoseg.errors import AudioError
from emoseg.system.names import one_line
from emoseg.types import Float32

HEADER = struct.Struct("<cIQ")
MEMORY_BYTES = 512 << 20  # private memory; the index of a recording of 24 hours needs half of it

_BLOCK = 1 << 16  # values (samples times channels) decoded at a time
_SAMPLE_TYPES = {"dbl": "f8", "flt": "f4", "s32": "i4", "s16": "i2", "u8": "u1"}  # NumPy types by FFmpeg's names
_BROKEN = 0.05  # largest share of a file that FFmpeg's decoders may skip as broken
_WORDS = 1000  # largest number of characters kept of a decoder's messages

# The containers that FFmpeg may open. Playlists and scripts are excluded, because they can name other files and
# network addresses.
_CONTAINERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,iff,loas,matroska,webm,mov,mp4,m4a,mp3,mpc,mpc8,"
    "mpeg,mpegts,ogg,oma,rm,tak,tta,voc,w64,wav,wv,xwma"
)

_Frames: TypeAlias = Generator[tuple[int, Float32], None, None]  # (native sample rate, samples of shape (n, C))


class RefusedError(Exception):
    """A decoder cannot read a file to its end; the message is the reason in the words of the decoder."""


# --- soundfile -------------------------------------------------------------------------------------------------------


def _soundfile_frames(path: str) -> _Frames:
    import soundfile

    class ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
        """A file that is only read forward.

        The base class seeks after every block, which restarts the decoder: samples of Opus files then differ slightly
        at the start of each block.
        """

        def seekable(self) -> bool:
            return False

    try:
        file = ForwardFile(_soundfile_name(path))
    except soundfile.LibsndfileError as error:
        # For some formats libsndfile reports a missing file. The file exists, as was checked before.
        words = one_line(error.error_string)
        raise RefusedError("Format not recognised." if "does not exist" in words else words) from error
    except TypeError as error:  # raised for formats without a header, such as .raw
        raise RefusedError(str(error)) from error
    with file:
        size = max(1, _BLOCK // file.channels)
        while True:
            try:
                frames = file.read(size, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                raise RefusedError(one_line(error.error_string)) from error
            if not len(frames):
                return
            yield file.samplerate, frames


def _soundfile_name(path: str) -> str | bytes:
    # Outside Windows libsndfile takes names as bytes, so that names that are not valid text work as well.
    return path if sys.platform == "win32" else os.fsencode(path)


# --- PyAV ------------------------------------------------------------------------------------------------------------


def _pyav_frames(path: str) -> _Frames:
    import av

    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    try:
        with av.open(path, options=options, metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise RefusedError("no audio stream")
            yield from _joined(_pyav_packets(container))
    except av.FFmpegError as error:  # str(error) would add an error number and repeat the path
        raise RefusedError(error.strerror or type(error).__name__) from error
    except (ValueError, RuntimeError, AudioError) as error:  # raised for inconsistent streams
        raise RefusedError(one_line(str(error)) or type(error).__name__) from error


def _joined(pieces: Iterator[tuple[int, Float32]]) -> _Frames:
    """Join pieces of about 1,024 samples into larger blocks, which the later stages process much faster."""
    waiting: list[Float32] = []
    rate = count = 0
    for piece_rate, piece in pieces:
        if waiting and (piece_rate != rate or piece.shape[1] != waiting[0].shape[1] or count >= _BLOCK):
            yield rate, np.concatenate(waiting)
            waiting, count = [], 0
        rate = piece_rate
        waiting.append(piece)
        count += len(piece)
    if waiting:
        yield rate, np.concatenate(waiting)


def _pyav_packets(container: Any) -> Iterator[tuple[int, Float32]]:
    """Yield the sample rate and the samples of each frame of the first audio stream, with the decoder's delay.

    Raises
    ------
    RefusedError
        No packet can be decoded, or more than a share of `_BROKEN` of the sound is missing.
    """
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
            yield frame.sample_rate, _pyav_samples(frame)
    if broken is not None and not decoded_s:
        raise RefusedError(getattr(broken, "strerror", None) or one_line(str(broken))) from broken
    # Broken packets are often dropped without an error before decoding, so missing sound is found by time stamps.
    span_s = end_s - (start_s or 0.0)
    if span_s - decoded_s > _BROKEN * span_s:
        raise RefusedError(f"{span_s - decoded_s:.1f} s of {span_s:.1f} s are missing or broken")


def _pyav_samples(frame: Any) -> Float32:
    """Return the samples of a PyAV frame as float32, nominally in [-1, 1], shape (n, C).

    PyAV's `to_ndarray` is not used, because with eight or more channels it reads beyond the last plane.
    """
    channels, planar = frame.layout.nb_channels, frame.format.is_planar
    dtype = _SAMPLE_TYPES.get(frame.format.name.removesuffix("p"))
    planes = frame.planes[: channels if planar else 1]
    if dtype is None or not channels or len(planes) < (channels if planar else 1):
        raise RefusedError(f"a frame of {channels} channels and sample format {frame.format.name} cannot be read")
    count = frame.samples * (1 if planar else channels)
    parts = [np.frombuffer(plane, dtype=dtype, count=count) for plane in planes]
    return scaled(np.stack(parts, axis=1) if planar else parts[0].reshape(-1, channels))


# --- the ffmpeg program ----------------------------------------------------------------------------------------------


def _ffmpeg_frames(path: str) -> _Frames:
    """Decode with the ffmpeg program, which writes an AU stream to a pipe: the header has sample rate and channels."""
    program = shutil.which("ffmpeg") or "ffmpeg"
    command = [program, "-nostdin", "-v", "error", "-max_error_rate", str(_BROKEN), "-threads", "1"]
    command += ["-protocol_whitelist", "file", "-format_whitelist", _CONTAINERS, "-i", path]
    command += ["-map", "0:a:0", "-map_metadata", "-1", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        raise RefusedError(str(error)) from error
    with process:
        messages = bytearray()
        collector = threading.Thread(target=_keep_tail, args=(process.stderr, messages), daemon=True)
        collector.start()
        try:
            yield from _au_frames(process.stdout)
            status = process.wait()
        finally:
            process.kill()
            collector.join()
        if status:
            words = messages.decode(errors="replace").strip().replace(_CONTAINERS, "...").replace("\n", " | ")
            raise RefusedError(re.sub(" @ 0x[0-9a-f]+", "", words) or f"exit status {status}")


def _keep_tail(pipe: IO[bytes], kept: bytearray) -> None:
    while piece := pipe.read(4096):
        kept[:] = (kept + piece)[-_WORDS:]


def _au_frames(pipe: IO[bytes] | None) -> _Frames:
    header = pipe.read(24) if pipe else b""
    if pipe is None or len(header) < 24:
        return  # the caller reports the exit status
    _, offset, _, _, rate, channels = struct.unpack(">6I", header)
    pipe.read(offset - 24)
    width = 4 * channels
    while raw := pipe.read(max(1, _BLOCK // channels) * width):
        values = np.frombuffer(raw[: len(raw) // width * width], dtype=">f4")
        yield rate, values.astype(np.float32).reshape(-1, channels)


# --- the process -----------------------------------------------------------------------------------------------------

DECODERS: Mapping[str, Callable[[str], _Frames]] = {
    "soundfile": _soundfile_frames,
    "pyav": _pyav_frames,
    "ffmpeg": _ffmpeg_frames,
}


def _decode(path: str, decoder: str, out: BinaryIO) -> None:
    """Send the sound of a file in blocks of mono samples."""
    with closing(DECODERS[decoder](path)) as frames:
        for rate, block in frames:
            _send(out, b"B", np.ascontiguousarray(mono(block)).tobytes(), rate)
    _send(out, b"E", b"")


def _digest(path: str, decoder: str, out: BinaryIO) -> None:
    """Send a checksum of the decoded sound of a file: the sample rate, the channels and every sample."""
    digest, count, read_s = hashlib.blake2b(digest_size=16), 0, 0.0
    shape: tuple[int, int] | None = None
    with closing(DECODERS[decoder](path)) as frames:
        for rate, block in frames:
            if (rate, block.shape[1]) != shape:
                shape = rate, block.shape[1]
                digest.update(f"{count} {shape}".encode())
            digest.update(np.ascontiguousarray(block).data)
            count += len(block)
            read_s += len(block) / max(rate, 1)
            _send(out, b"P", json.dumps(read_s).encode())
    _send(out, b"J", json.dumps(f"{count} {digest.hexdigest()}").encode())


def _duration(path: str, decoder: str, out: BinaryIO) -> None:
    """Send the duration in seconds from a file's header, or null if soundfile does not know it."""
    import soundfile

    try:
        seconds = float(soundfile.info(_soundfile_name(path)).duration)
    except (soundfile.LibsndfileError, TypeError, ValueError):
        seconds = float("inf")
    _send(out, b"J", json.dumps(seconds if seconds < float("inf") else None).encode())


def _tags(path: str, decoder: str, out: BinaryIO) -> None:
    """Send the tags of a file by field name in lower case; an empty object if no decoder can read them."""
    import soundfile

    try:
        with soundfile.SoundFile(_soundfile_name(path)) as sound:
            found = dict(sound.copy_metadata())
    except (soundfile.SoundFileError, TypeError):
        found = _container_tags(path)
    text = json.dumps({key.lower(): str(value) for key, value in found.items()})
    _send(out, b"J", text.encode("utf-8", "replace"))


def _container_tags(path: str) -> dict[str, str]:
    try:
        import av
    except ImportError:
        return {}
    try:
        with av.open(path, metadata_errors="replace") as container:
            return dict(container.metadata)
    except (av.FFmpegError, OSError, ValueError):
        return {}


_REQUESTS: Mapping[str, Callable[[str, str, BinaryIO], None]] = {
    "decode": _decode,
    "digest": _digest,
    "duration": _duration,
    "tags": _tags,
}


def _send(out: BinaryIO, kind: bytes, data: bytes, rate: int = 0) -> None:
    # The reader refuses rates this large, so a rate that does not fit into 32 bits may be clipped.
    out.write(HEADER.pack(kind, min(max(rate, 0), 2**32 - 1), len(data)))
    out.write(data)
    out.flush()


def main() -> None:
    """Answer requests until the process that started this one ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb")
    requests = os.fdopen(os.dup(0), "rb")
    for stream in (0, 1, 2):  # some decoders print messages about damaged files to stdout and stderr
        os.dup2(os.open(os.devnull, os.O_RDWR), stream)
    import soundfile  # noqa: F401  (loads its libraries before memory is limited)

    _limit_resources()
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_queue_requests, args=(requests, waiting), daemon=True).start()
    while True:
        request = json.loads(waiting.get())
        path = os.fsdecode(bytes.fromhex(request["path"]))
        try:
            _REQUESTS[request["request"]](path, request["decoder"], out)
        except RefusedError as refusal:
            _send(out, b"R", str(refusal)[:_WORDS].encode("utf-8", "replace"))
        except MemoryError:
            _send(out, b"R", f"needs more than {MEMORY_BYTES >> 20} MB of memory".encode())
        except BrokenPipeError:
            _end()
        except Exception as error:  # a decoder may raise anything on a damaged file
            _send(out, b"R", one_line(f"{type(error).__name__}: {error}")[:_WORDS].encode("utf-8", "replace"))


def _queue_requests(requests: BinaryIO, waiting: queue.SimpleQueue[bytes]) -> None:
    for line in requests:
        waiting.put(line)
    _end()  # the process that started this one has ended; a decoder may still be running here


def _end() -> None:
    if os.name == "posix" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # ends the ffmpeg program too
    os._exit(0)


def _limit_resources() -> None:
    if sys.platform == "win32":
        return
    import resource

    limits = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_DATA, MEMORY_BYTES)]
    for kind, limit in limits:
        _, hard = resource.getrlimit(kind)
        if hard == resource.RLIM_INFINITY or limit < hard:
            resource.setrlimit(kind, (limit, limit))


if __name__ == "__main__":
    main()
