"""A model folder and a library of recordings, made in a second: no training, and no data from elsewhere."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from safetensors.numpy import save_file

import emoseg
from emoseg.analysis.model_folder import CONFIG_FILE, SEGMENT_FILE, SONG_FILE, ModelConfig
from emoseg.config import LogMelConfig, SegmentConfig
from emoseg.emotion import QUADRANTS
from emoseg.frontends import build_frontend
from emoseg.song.file import song_model_arrays
from emoseg.song.model import mean_model
from emoseg.system.files import file_checksum
from emoseg.types import Float32, Int64

RATE = 22050
# Codes in ONNX files (onnx.proto): an attribute that is an integer, and two kinds of numbers.
ONNX_INT, ONNX_FLOAT, ONNX_INT64 = 2, 1, 7


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


Call = Callable[..., Outcome]


def command(*args: str | Path) -> list[str]:
    """Return the command line that runs the installed command."""
    program = shutil.which("emoseg", path=str(Path(sys.executable).parent))
    assert program is not None, "emoseg is not installed beside this Python"
    return [program, *map(str, args)]


def spawn(*args: str | Path, **environment: str) -> Outcome:
    """Run the installed command."""
    done = subprocess.run(
        command(*args), capture_output=True, encoding="utf-8", env={**os.environ, **environment}, check=False
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def refused(outcome: Outcome, *parts: str) -> None:
    """Assert that the command itself was wrong: status 2, nothing on stdout, one line on stderr that holds `parts`."""
    assert outcome.status == 2, outcome
    assert outcome.out == ""
    assert outcome.err.startswith("emoseg: ")
    assert outcome.err.count("\n") == 1
    assert outcome.err.endswith("\n")
    for part in parts:
        assert part in outcome.err


def field(number: int, value: int | str | bytes) -> bytes:
    """Return a field of a protobuf message; messages in messages are bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def onnx_node(kind: str, inputs: list[str], output: str, **attributes: int) -> bytes:
    node = b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, kind)
    for name, value in attributes.items():
        node += field(5, field(1, name) + field(3, value) + field(20, ONNX_INT))
    return field(1, node)


def onnx_value(number: int, name: str, shape: list[str | int]) -> bytes:
    """Return an input (11) or output (12) of a graph; an axis of any length has a name."""
    axes = b"".join(field(1, field(2 if isinstance(axis, str) else 1, axis)) for axis in shape)
    return field(number, field(1, name) + field(2, field(1, field(1, ONNX_FLOAT) + field(2, axes))))


def onnx_array(name: str, kind: int, array: Float32 | Int64) -> bytes:
    lengths = b"".join(field(1, length) for length in array.shape)
    return field(5, lengths + field(2, kind) + field(8, name) + field(9, array.tobytes()))


def onnx_bytes(weights: Float32, frames: int) -> bytes:
    """Return the ONNX file of a mean over frames, a product with weights and a softmax.

    Written by hand, because the package onnx comes with the extra ``train`` alone, and batches are tested without it.
    """
    bands, classes = weights.shape
    graph = (
        onnx_node("ReduceMean", ["logmel", "axes"], "mean", keepdims=0)
        + onnx_node("MatMul", ["mean", "weights"], "logits")
        + onnx_node("Softmax", ["logits"], "probabilities", axis=1)
        + field(2, "tiny")
        + onnx_array("weights", ONNX_FLOAT, weights)
        + onnx_array("axes", ONNX_INT64, np.array([2]))
        + onnx_value(11, "logmel", ["batch", bands, frames])
        + onnx_value(12, "probabilities", ["batch", classes])
    )
    ir_version, opset = 9, 18
    return field(1, ir_version) + field(7, graph) + field(8, field(1, "") + field(2, opset))


def make_model(folder: Path, *, name: str = "tiny", seed: int = 0) -> Path:
    """Write a model folder: log-mel bands, averaged over time and weighed at random, give the quadrants."""
    folder.mkdir()
    frontend = LogMelConfig(bands=16)
    segment = SegmentConfig()
    bands, frames = build_frontend(frontend, segment).shape()
    weights = np.random.default_rng(seed).normal(0, 0.3, (bands, 4)).astype(np.float32)
    weights -= weights.mean(axis=0)  # the loudness of a song says nothing, so that not all have one label
    (folder / SEGMENT_FILE).write_bytes(onnx_bytes(weights, frames))
    save_file(song_model_arrays(mean_model(4)), folder / SONG_FILE)
    config = ModelConfig(
        name=name,
        version="1",
        emoseg_version=emoseg.__version__,
        space=QUADRANTS.to_json(),
        segment=segment,
        frontends=(frontend,),
        frontend_versions=(build_frontend(frontend, segment).version,),
        training={},
        figures={},
        checksums={file: file_checksum(folder / file) for file in (SEGMENT_FILE, SONG_FILE)},
    )
    (folder / CONFIG_FILE).write_text(config.model_dump_json(), encoding="utf-8")
    return folder


def tone(number: int, *, seconds: float = 7.0) -> Float32:
    """Return sound that differs with its number: two notes one after the other, and some noise."""
    random = np.random.default_rng(number)
    times = np.arange(round(seconds * RATE)) / RATE
    pitches = np.where(times < seconds / 2, *random.uniform(80, 2000, 2))
    phase = 2 * np.pi * np.cumsum(pitches) / RATE
    sound = random.uniform(0.05, 0.5) * (np.sin(phase) + 0.3 * np.sin(2 * phase))  # a partial, as music has
    return np.asarray(sound + random.normal(0, random.uniform(1e-4, 0.05), len(times)), dtype=np.float32)


def song(number: int, *, happy: bool) -> Float32:
    """Return a piece of notes: high, quick and loud, or low, slow and soft."""
    random = np.random.default_rng(number)
    seconds, steps = 6.0, 24 if happy else 6
    times = np.arange(round(seconds * RATE)) / RATE
    pitches = random.choice([523.0, 659.0, 784.0] if happy else [110.0, 131.0, 165.0], steps)
    phase = 2 * np.pi * np.cumsum(np.repeat(pitches, -(-len(times) // steps))[: len(times)]) / RATE
    loudness = 0.4 if happy else 0.05
    sound = loudness * sum(np.sin(k * phase) / k for k in range(1, 6))
    return np.asarray(sound + random.normal(0, 1e-3, len(times)), dtype=np.float32)


def make_songs(root: Path, count: int, *, seconds: float = 7.0) -> list[Path]:
    """Write recordings into folders of some depth, in several formats."""
    paths = []
    formats = itertools.cycle((".flac", ".wav", ".ogg", ".mp3"))
    for number, suffix in zip(range(count), formats, strict=False):
        folder = root / f"artist {number % 5}" / f"album {number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        paths.append(folder / f"{number:04d}{suffix}")
        soundfile.write(paths[-1], tone(number, seconds=seconds), RATE)
    return paths
