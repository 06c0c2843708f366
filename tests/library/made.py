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
import onnx
import soundfile
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

import emoseg
from emoseg.config import LogMelConfig, SegmentConfig
from emoseg.frontends import build_frontend
from emoseg.model import CONFIG_FILE, SEGMENT_FILE, SONG_FILE, ModelConfig, file_checksum
from emoseg.song import mean_model, song_model_arrays
from emoseg.types import QUADRANTS, Float32

RATE = 22050


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


def make_model(folder: Path, *, name: str = "tiny", seed: int = 0) -> Path:
    """Write a model folder: log-mel bands, averaged over time and weighed at random, give the quadrants."""
    folder.mkdir()
    frontend = LogMelConfig(bands=16)
    segment = SegmentConfig()
    bands, frames = build_frontend(frontend, segment).shape()
    weights = np.random.default_rng(seed).normal(0, 0.3, (bands, 4)).astype(np.float32)
    weights -= weights.mean(axis=0)  # the loudness of a song says nothing, so that not all have one label
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["logmel", "axes"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "tiny",
        [helper.make_tensor_value_info("logmel", TensorProto.FLOAT, ["batch", bands, frames])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.array([2]), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(folder / SEGMENT_FILE))
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
