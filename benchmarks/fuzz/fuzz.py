"""Damaged files against all decoders: no crash, no hang, and for every file segments or one line of error.

    python benchmarks/fuzz/fuzz.py [--files 10000] [--seed 0] [--minutes 60] [--limit 60]

Sound is encoded in every format that soundfile and the ffmpeg program can write here; each round takes one file,
damages a copy (bytes flipped, cut short, cut out, repeated, exchanged with another format's, header fields set to
extremes) and reads it in a worker process. A worker that dies or takes longer than the limit, in seconds, is a finding,
and the file is kept. Every other file must give segments or an `AudioError` of one line.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import soundfile

from emoseg.audio import SegmentReader
from emoseg.config import SegmentConfig
from emoseg.errors import AudioError

RATE = 22050
SOUNDFILE = {
    "u8.wav": ("WAV", "PCM_U8"), "s16.wav": ("WAV", "PCM_16"), "f64.wav": ("WAV", "DOUBLE"),
    "ima.wav": ("WAV", "IMA_ADPCM"),
    "s24.aiff": ("AIFF", "PCM_24"), "a.au": ("AU", "ULAW"), "a.caf": ("CAF", "ALAC_16"), "a.w64": ("W64", "FLOAT"),
    "a.flac": ("FLAC", "PCM_16"), "a.ogg": ("OGG", "VORBIS"), "a.opus": ("OGG", "OPUS"),
    "a.mp3": ("MP3", "MPEG_LAYER_III"),
}  # fmt: skip
FFMPEG = {
    "aac.m4a": ["-c:a", "aac"], "alac.m4a": ["-c:a", "alac"], "a.aac": ["-c:a", "aac"], "a.wma": ["-c:a", "wmav2"],
    "a.ac3": ["-c:a", "ac3"], "a.mka": ["-c:a", "libopus"], "a.wv": ["-c:a", "wavpack"], "a.tta": ["-c:a", "tta"],
    "a.mp2": ["-c:a", "mp2"], "a.mp4": ["-c:a", "aac", "-movflags", "frag_keyframe+empty_moov"],
}  # fmt: skip


def encode_all(folder: Path) -> dict[str, bytes]:
    t = np.arange(4 * RATE) / RATE
    sound = 0.3 * np.sin(2 * np.pi * 330 * t) + 0.05 * np.random.default_rng(0).standard_normal(len(t))
    stereo = np.stack([sound, sound[::-1]], axis=1)
    source = folder / "source.wav"
    soundfile.write(source, stereo, RATE)
    for name, (kind, subtype) in SOUNDFILE.items():
        rate = 48000 if subtype == "OPUS" else RATE
        soundfile.write(folder / name, stereo, rate, format=kind, subtype=subtype)
    if program := shutil.which("ffmpeg"):
        for name, options in FFMPEG.items():
            command = [program, "-v", "error", "-y", "-i", str(source), *options, str(folder / name)]
            subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    found = {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name != "source.wav"}
    return {name: data for name, data in found.items() if data}


def damage(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    raw = bytearray(data)
    size = len(raw)

    def flip() -> None:
        for at in rng.integers(0, size, int(2 ** rng.uniform(0, 9))):
            raw[at] = int(rng.integers(256))

    def flip_header() -> None:
        for at in rng.integers(0, min(size, 200), int(rng.integers(1, 9))):
            raw[at] = (0, 1, 0x7F, 0x80, 0xFF, int(rng.integers(256)))[rng.integers(6)]

    def extreme() -> None:
        at = int(rng.integers(0, min(size - 8, 400)))
        numbers = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f")
        raw[at : at + 4] = numbers[rng.integers(4)]

    def cut() -> None:
        del raw[int(rng.integers(0, size)) :]

    def cut_out() -> None:
        at = int(rng.integers(0, size))
        del raw[at : at + int(rng.integers(1, 5000))]

    def repeat() -> None:
        at = int(rng.integers(0, size))
        raw[at:at] = raw[at : at + int(rng.integers(1, 5000))]

    def graft() -> None:
        at = int(rng.integers(0, size))
        raw[at:] = other[int(rng.integers(0, len(other))) :]

    def prefix() -> None:
        raw[:0] = bytes(rng.integers(0, 256, int(rng.integers(1, 3000)), dtype=np.uint8))

    kinds: list[Callable[[], None]] = [
        flip,
        flip,
        flip_header,
        flip_header,
        extreme,
        cut,
        cut_out,
        repeat,
        graft,
        prefix,
    ]
    kinds[rng.integers(len(kinds))]()
    return bytes(raw)


def read(path: Path) -> str:
    """Return what became of a file; anything but "ok" and an error's kind is a finding."""
    try:
        segments = sum(len(batch.start_s) for batch in SegmentReader(path, segment=SegmentConfig()))
    except AudioError as error:
        text = str(error)
        if "\n" in text or not text.startswith(f"{path}: ") or len(text) > 4000:
            return f"FINDING message {text!r}"
        return error.kind
    except Exception as error:  # a traceback is what this looks for
        return f"FINDING {type(error).__name__}: {error}"
    return "ok" if segments else "FINDING no segments and no error"


def work(pipe: Connection) -> None:
    warnings.simplefilter("ignore")
    while path := pipe.recv():
        pipe.send(read(path))


class Worker:
    """A process that reads files; a new one replaces one that died or hangs."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def read(self, path: Path) -> str:
        self._pipe.send(path)
        try:
            if self._pipe.poll(self._limit_s):
                return str(self._pipe.recv())
            outcome = f"FINDING hangs: more than {self._limit_s:g} s"
        except EOFError:
            self._process.join(5)
            outcome = f"FINDING crash: exit code {self._process.exitcode}"
        self._process.kill()
        self._start()
        return outcome

    def close(self) -> None:
        self._pipe.send(None)
        self._process.join(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--limit", type=float, default=60.0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    options = parser.parse_args()
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as folder:
        whole = encode_all(Path(folder))
        names = sorted(whole)
        worker = Worker(options.limit)
        for i in range(options.files):
            rng = np.random.default_rng([options.seed, i])
            name = names[i % len(names)]
            path = Path(folder) / f"fuzz-{name}"
            path.write_bytes(damage(whole[name], whole[names[rng.integers(len(names))]], rng))
            outcome = worker.read(path)
            outcomes[outcome.partition(":")[0]] += 1
            if outcome.startswith("FINDING"):
                options.keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, options.keep / f"{options.seed}-{i}-{name}")
                print(f"{i} {name}: {outcome}", flush=True)
            if i % 500 == 499:
                sys.stderr.write(f"{i + 1} files\n")
            if time.monotonic() > end:
                break
        worker.close()
    print(f"{sum(outcomes.values())} damaged files of {len(names)} formats: {dict(outcomes.most_common())}")


if __name__ == "__main__":
    main()
