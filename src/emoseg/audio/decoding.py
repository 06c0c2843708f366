"""Decoding in a separate process, so that a file that crashes a decoder does not end this process.

A decoding process is started when it is first needed, and is used for many files. It ends with the process that started
it. Its memory is limited to `decoders.MEMORY_BYTES`. The time that it may take is limited to `PATIENCE_S`, plus a fifth
of the duration of the sound that it has delivered. On Windows neither limit is enforced.

This module may be used from several threads and in forked children. Each thread has its own decoding process while it
reads, and a forked child starts new ones.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from emoseg.audio.decoders import HEADER, RefusedError
from emoseg.errors import EmosegError
from emoseg.system.files import require_regular
from emoseg.system.parallel import start_module
from emoseg.types import Float32

PATIENCE_S = 60.0
"""Seconds that a decoder may take before it delivers sound."""
_SPEED = 5.0  # times real time; the slowest decoder reaches it even on a busy machine
_USES = 200  # files per process: decoders may leak memory on damaged files
_IDLE = max(2, os.cpu_count() or 1)
_PIPE_BYTES = 1 << 20


def available_decoders() -> tuple[str, ...]:
    """Return the names of the installed decoders, in the order in which they are tried."""
    names = ["soundfile"]
    if importlib.util.find_spec("av") is not None:
        names.append("pyav")
    if shutil.which("ffmpeg"):
        names.append("ffmpeg")
    return tuple(names)


def decoded(path: str, decoder: str) -> Generator[tuple[int, Float32], None, None]:
    """Yield the sound of a file in blocks: the sample rate in Hz, and mono samples of shape (n,), nominally in [-1, 1].

    Parameters
    ----------
    path : str
        An absolute path.
    decoder : str
        A name from `available_decoders`.

    Raises
    ------
    RefusedError
        The decoder cannot read the file to its end, or exceeded its limit of memory or time.
    """
    with _process() as process:
        process.ask("decode", path, decoder)
        delivered_s = 0.0
        while True:
            kind, rate, data = process.packet(delivered_s)
            if kind == b"E":
                return
            yield rate, np.frombuffer(data, dtype=np.float32)
            delivered_s += len(data) / 4 / max(rate, 1)


def sound_digests(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return a digest of the decoded sound by the name of the decoder, for each decoder that can read the whole file.

    If two files have the same digest from one decoder, it reads the same sample rate, channels and samples from both.
    """
    found = {}
    for decoder in available_decoders():
        with suppress(RefusedError):
            found[decoder] = str(_answer("digest", path, decoder))
    return found


def stated_duration_s(path: str | os.PathLike[str]) -> float | None:
    """Return the duration in seconds that a file's header states; None if soundfile does not know it.

    The header may be wrong, so this is meant for progress bars.
    """
    with suppress(RefusedError):
        return _answer("duration", path)
    return None


def stated_tags(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the tags of a file by field name in lower case; empty if no decoder can read them."""
    with suppress(RefusedError):
        return dict(_answer("tags", path))
    return {}


def prepare() -> None:
    """Start a decoding process now, so that the first `decoded` does not wait for it."""
    with _process():
        pass


def _answer(request: str, path: str | os.PathLike[str], decoder: str = "") -> Any:
    try:
        require_regular(path)
    except EmosegError as error:
        raise RefusedError(str(error)) from error
    # An absolute path cannot be taken for an option, for standard input ("-"), or for a protocol ("a:b.mp3").
    with _process() as process:
        process.ask(request, os.path.abspath(path), decoder)  # noqa: PTH100  (Path.absolute keeps "..")
        delivered_s = 0.0
        while True:
            kind, _, data = process.packet(delivered_s)
            if kind == b"J":
                return json.loads(data)
            delivered_s = json.loads(data)


# --- processes -------------------------------------------------------------------------------------------------------


class _Process:
    """One decoding process."""

    def __init__(self) -> None:
        self._process = start_module("emoseg.audio.decoders")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._packets = self._process.stdin, self._process.stdout
        self.uses = 0
        self._waited_s = 0.0
        if sys.platform != "win32":
            self._readable = select.poll()
            self._readable.register(self._packets, select.POLLIN)
        if sys.platform == "linux":
            import fcntl

            with suppress(OSError):  # with a larger pipe the system switches less often between the two processes
                fcntl.fcntl(self._packets, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def alive(self) -> bool:
        """Return whether the process is running."""
        return self._process.poll() is None

    def ask(self, request: str, path: str, decoder: str) -> None:
        """Send a request, whose answer `packet` reads; the time limit starts anew."""
        self.uses += 1
        self._waited_s = 0.0
        line = json.dumps({"request": request, "path": os.fsencode(path).hex(), "decoder": decoder}) + "\n"
        with suppress(OSError):  # if the process has ended, `packet` reports it
            self._requests.write(line.encode())
            self._requests.flush()

    def packet(self, delivered_s: float) -> tuple[bytes, int, bytes]:
        """Return the kind, the sample rate in Hz and the content of the next packet.

        Parameters
        ----------
        delivered_s : float
            Seconds of sound delivered so far, which extend the time limit.

        Raises
        ------
        RefusedError
            The decoder cannot read the file, its process ended, or it took too long.
        """
        limit_s = PATIENCE_S + delivered_s / _SPEED
        kind, rate, size = HEADER.unpack(self._read(HEADER.size, limit_s))
        data = self._read(size, limit_s)
        if kind == b"R":
            raise RefusedError(data.decode("utf-8", "replace"))
        return kind, rate, data

    def _read(self, size: int, limit_s: float) -> bytes:
        data = bytearray()
        descriptor = self._packets.fileno()
        while len(data) < size:
            if sys.platform != "win32":
                started = time.monotonic()
                ready = self._readable.poll(1000 * max(0.0, limit_s - self._waited_s))
                self._waited_s += time.monotonic() - started
                if not ready:
                    self.kill()
                    raise RefusedError(f"given up: no sound for {limit_s:.0f} s")
            piece = os.read(descriptor, min(size - len(data), _PIPE_BYTES))
            if not piece:
                raise RefusedError(self._ending())
            data += piece
        return bytes(data)

    def _ending(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        status = self._process.returncode
        how = f"signal {-status}" if status is not None and status < 0 else f"status {status}"
        return f"the decoder's process ended ({how}), perhaps because it reached its memory limit"

    def kill(self) -> None:
        """End the process, and the ffmpeg program if it has started it."""
        if sys.platform != "win32" and self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._close()

    def forget(self) -> None:
        """Close the pipes to a process that belongs to the parent of this one, without ending it."""
        self._process.returncode = 0
        self._close()

    def _close(self) -> None:
        for pipe in (self._requests, self._packets):
            with suppress(OSError):
                pipe.close()


_lock = threading.Lock()
_idle: list[_Process] = []
_busy: set[_Process] = set()


@contextmanager
def _process() -> Iterator[_Process]:
    """Provide a process for one request. If its answer was not read to the end, the process is ended."""
    process = _take()
    try:
        yield process
    except RefusedError:
        _give_back(process)
        raise
    except BaseException:
        _drop(process)
        raise
    _give_back(process)


def _take() -> _Process:
    with _lock:
        while _idle:
            process = _idle.pop()
            if process.alive():
                _busy.add(process)
                return process
            process.kill()
    process = _Process()
    with _lock:
        _busy.add(process)
    return process


def _give_back(process: _Process) -> None:
    with _lock:
        _busy.discard(process)
        if process.uses < _USES and len(_idle) < _IDLE and process.alive():
            _idle.append(process)
            return
    process.kill()


def _drop(process: _Process) -> None:
    with _lock:
        _busy.discard(process)
    process.kill()


def _end_all() -> None:
    with _lock:
        for process in (*_idle, *_busy):
            process.kill()
        _idle.clear()
        _busy.clear()


def _start_anew() -> None:
    """Reset the state in a forked child: the processes belong to its parent, and another thread may hold the lock."""
    global _lock
    _lock = threading.Lock()
    for process in (*_idle, *_busy):
        process.forget()
    _idle.clear()
    _busy.clear()


atexit.register(_end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
