"""Sound in every format that can be written here, and ways to damage a file."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

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
    "a.mp2": ["-c:a", "mp2"], "fast.m4a": ["-c:a", "aac", "-movflags", "faststart"],
    "frag.m4a": ["-c:a", "aac", "-movflags", "frag_keyframe+empty_moov", "-frag_duration", "500000"],
    "id3.aiff": ["-write_id3v2", "1"], "v23.mp3": ["-c:a", "libmp3lame", "-id3v2_version", "3", "-write_id3v1", "1"],
    "rf64.wav": ["-rf64", "always"],
}  # fmt: skip


def encode_all(folder: Path) -> dict[str, bytes]:
    """Return a sound of four seconds, with a title where the format has one, in every format, by file name."""
    times = np.arange(4 * RATE) / RATE
    sound = 0.3 * np.sin(2 * np.pi * 330 * times) + 0.05 * np.random.default_rng(0).standard_normal(len(times))
    stereo = np.stack([sound, sound[::-1]], axis=1)
    source = folder / "source.wav"
    soundfile.write(source, stereo, RATE)
    for name, (kind, subtype) in SOUNDFILE.items():
        rate = 48000 if subtype == "OPUS" else RATE
        soundfile.write(folder / name, stereo, rate, format=kind, subtype=subtype)
    if program := shutil.which("ffmpeg"):
        for name, options in FFMPEG.items():
            command = [program, "-v", "error", "-y", "-i", str(source), "-metadata", "title=Jóga", *options]
            subprocess.run([*command, str(folder / name)], stdin=subprocess.DEVNULL, check=False)
    found = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "source.wav"}
    return {name: data for name, data in found.items() if data}


def damaged(data: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """Return a file's bytes damaged in one of many ways; `other` is a file of another format."""
    raw = bytearray(data)
    kinds: list[Callable[[bytearray, bytes, np.random.Generator], None]] = [
        *(_flip, _flip, _flip_header, _flip_header, _extreme, _cut, _cut_out, _repeat, _graft, _prefix)
    ]
    kinds[random.integers(len(kinds))](raw, other, random)
    return bytes(raw)


def _flip(raw: bytearray, other: bytes, random: np.random.Generator) -> None:
    for at in random.integers(0, len(raw), int(2 ** random.uniform(0, 9))):
        raw[at] = int(random.integers(256))


def _flip_header(raw: bytearray, other: bytes, random: np.random.Generator) -> None:
    for at in random.integers(0, min(len(raw), 200), int(random.integers(1, 9))):
        raw[at] = (0, 1, 0x7F, 0x80, 0xFF, int(random.integers(256)))[random.integers(6)]


def _extreme(raw: bytearray, other: bytes, random: np.random.Generator) -> None:
    at = int(random.integers(0, min(len(raw) - 8, 400)))
    numbers = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f")
    raw[at : at + 4] = numbers[random.integers(4)]


def _cut(raw: bytearray, other: bytes, random: np.random.Generator) -> None:
    del raw[int(random.integers(0, len(raw))) :]


def _cut_out(raw: bytearray, other: bytes, random: np.random.Generator) -> None:
    at = int(random.integers(0, len(raw)))
    del raw[at : at + int(random.integers(1, 5000))]


def _repeat(raw: bytearray, other: bytes, random: np.random.Generator) -> None:
    at = int(random.integers(0, len(raw)))
    raw[at:at] = raw[at : at + int(random.integers(1, 5000))]


def _graft(raw: bytearray, other: bytes, random: np.random.Generator) -> None:
    raw[int(random.integers(0, len(raw))) :] = other[int(random.integers(0, len(other))) :]


def _prefix(raw: bytearray, other: bytes, random: np.random.Generator) -> None:
    raw[:0] = bytes(random.integers(0, 256, int(random.integers(1, 3000)), dtype=np.uint8))
