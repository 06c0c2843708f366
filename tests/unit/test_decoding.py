"""Whatever a file does to a decoder: memory and time are bounded, and the process that asks is left alone."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emoseg.audio import decoding
from emoseg.audio.decoders import RefusedError
from emoseg.audio.decoding import decoded, sound_digests, stated_duration_s, stated_tags
from emoseg.audio.reader import read
from emoseg.errors import AudioError

RATE = 22050
linux = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")


@pytest.fixture
def song(tmp_path: Path) -> Path:
    samples = np.random.default_rng(0).normal(0, 0.1, (3 * RATE, 2))
    soundfile.write(tmp_path / "song.wav", samples, RATE)
    return tmp_path / "song.wav"


def process() -> decoding._Process:
    """Return the process that the next request goes to."""
    decoding.prepare()
    return decoding._idle[-1]


def test_digests_tell_sound_from_sound(tmp_path: Path, song: Path) -> None:
    samples, _ = soundfile.read(song)
    soundfile.write(tmp_path / "same.flac", samples, RATE)
    soundfile.write(tmp_path / "louder.wav", samples * 1.01, RATE)
    soundfile.write(tmp_path / "longer.wav", np.concatenate([samples, samples[:1]]), RATE)
    soundfile.write(tmp_path / "rate.wav", samples, RATE + 1)
    soundfile.write(tmp_path / "swapped.wav", samples[:, ::-1], RATE)
    expected = sound_digests(song)["soundfile"]
    assert sound_digests(tmp_path / "same.flac")["soundfile"] == expected
    for name in ("louder", "longer", "rate", "swapped"):
        assert sound_digests(tmp_path / f"{name}.wav")["soundfile"] != expected
    (tmp_path / "text.mp3").write_text("no sound")
    assert sound_digests(tmp_path / "text.mp3") == {}


def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp3")
    assert stated_duration_s(tmp_path / "pipe.mp3") is None
    assert stated_tags(tmp_path / "pipe.mp3") == {}
    assert sound_digests(tmp_path / "pipe.mp3") == {}
    with pytest.raises(AudioError, match="is not a regular file"):
        read(tmp_path / "pipe.mp3", sample_rate_hz=RATE)


def test_a_decoder_that_hangs_is_given_up(tmp_path: Path, song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that becomes a pipe after it was checked: opening it waits for ever."""
    monkeypatch.setattr(decoding, "PATIENCE_S", 0.3)
    pid = process()._process.pid
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(RefusedError, match="given up: no sound for 0 s"):
        list(decoded(str(tmp_path / "pipe.wav"), "soundfile"))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    monkeypatch.undo()
    assert len(read(song, sample_rate_hz=RATE).samples) == 3 * RATE


def test_a_decoder_that_dies_is_a_refusal(song: Path) -> None:
    os.kill(process()._process.pid, signal.SIGKILL)
    assert len(read(song, sample_rate_hz=RATE).samples) == 3 * RATE  # one that died while idle is replaced
    soundfile.write(song, np.zeros(300 * RATE, dtype=np.int16), RATE)  # more than waits in a pipe
    blocks = decoded(str(song), "soundfile")
    next(blocks)
    (busy,) = decoding._busy
    busy._process.kill()
    busy._process.wait()
    with pytest.raises(RefusedError, match=r"the decoder's process ended \(signal 9\)"):
        list(blocks)


@linux
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the ffmpeg program is not on PATH")
def test_memory_has_a_limit(tmp_path: Path) -> None:
    """Sample tables that claim 80 million samples, for which FFmpeg takes 2.9 GB."""
    pytest.importorskip("av", reason="needs the extra av")
    file = tmp_path / "bomb.m4a"
    tone = ["-f", "lavfi", "-i", "sine=frequency=300:duration=8", "-c:a", "aac"]
    subprocess.run(["ffmpeg", "-v", "error", *tone, str(file)], check=True, stdin=subprocess.DEVNULL)
    raw = bytearray(file.read_bytes())
    count = 80_000_000
    for box, at, fields in ((b"stsz", 8, (1, count)), (b"stts", 8, (1, count, 1024)), (b"stsc", 16, (count,))):
        start = raw.index(box) + at
        raw[start : start + 4 * len(fields)] = struct.pack(f">{len(fields)}I", *fields)
    file.write_bytes(raw)
    used = process()._process.pid
    with suppress(RefusedError):
        assert sum(len(block) for _, block in decoded(str(file), "pyav")) <= 8 * 44100
    status = Path(f"/proc/{used}/status").read_text().splitlines()
    peak_kb = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    assert peak_kb < 600_000


def test_threads_have_a_decoder_each(song: Path) -> None:
    expected = read(song, sample_rate_hz=8000).samples
    results: list[bool] = []

    def work() -> None:
        for _ in range(5):
            results.append(bool(np.array_equal(read(song, sample_rate_hz=8000).samples, expected)))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 30
    assert not decoding._busy
    assert len(decoding._idle) <= decoding._IDLE


FORKS = """
import os, sys, threading
from emoseg.audio.reader import read
path, stop = sys.argv[1], threading.Event()
def work():
    while not stop.is_set():
        read(path, sample_rate_hz=8000)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
children = []
for _ in range(30):
    pid = os.fork()
    if pid == 0:
        os._exit(0 if len(read(path, sample_rate_hz=8000).samples) == 24000 else 1)
    children.append(pid)
print([os.waitpid(pid, 0)[1] for pid in children].count(0))
stop.set()
for thread in threads: thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_children_forked_while_threads_decode_do_not_hang(song: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS, str(song)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stdout == "30\n"
    assert done.stderr == ""


HOST = """
import os, sys, threading
from emoseg.audio.reader import read
from emoseg.errors import AudioError
def chatter():
    for i in range(3000):
        os.write(2, b"Warning: line %d of the host\\n" % i)
thread = threading.Thread(target=chatter)
thread.start()
while thread.is_alive():
    try: read(sys.argv[1], sample_rate_hz=8000)
    except AudioError: pass
thread.join()
"""


def test_the_hosts_standard_error_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 4 * 44100), 44100)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 3000] = bytes(3000)  # of which libmpg123 writes notes
    path.write_bytes(content)
    done = subprocess.run([sys.executable, "-c", HOST, str(path)], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [f"Warning: line {i} of the host" for i in range(3000)]


READER = """
import sys, time
from emoseg.audio.decoding import decoded, _busy
blocks = decoded(sys.argv[1], "soundfile")
next(blocks)
(process,) = _busy
print(process._process.pid, flush=True)
time.sleep(600)
"""


@linux
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_decoder_ends_with_the_process_that_asked(tmp_path: Path, how: signal.Signals) -> None:
    soundfile.write(tmp_path / "long.wav", np.zeros(600 * RATE, dtype=np.int16), RATE)
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(tmp_path / "long.wav")], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        os.kill(parent.pid, how)
    wait_until(lambda: not alive(pid))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds; fail after a minute."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "this never happened"
        time.sleep(0.05)
