"""Speed as ratios within one run: audio seconds per second of processor time, and parts against a plain decode.

The machine's speed cancels in the ratios; each figure is the median of several passes over the same sound.
Run with ``make bench``.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from emoseg.audio.reader import SegmentReader
from emoseg.config import DescriptorsConfig, LearningConfig, LogMelConfig, SegmentConfig
from emoseg.frontends import build_frontend
from emoseg.learning.methods.inherit import MixupTrainer
from emoseg.learning.methods.sssl import SsslSettings, SsslTrainer
from emoseg.synthesis.sound import compose

PASSES = 5


def seconds(work: Callable[[], object]) -> float:
    """Return the median processor seconds of `work` over several passes, after one that does not count."""
    work()
    times = []
    for _ in range(PASSES):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return statistics.median(times)


def main() -> None:
    rng = np.random.default_rng(0)
    duration_s, segment = 60.0, SegmentConfig()
    sound, _ = compose(rng, label="Q1", duration_s=duration_s)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "song.mp3"
        soundfile.write(file, sound, segment.sample_rate_hz, format="MP3")
        decode = seconds(lambda: list(SegmentReader(file, segment=segment)))
        batch = np.concatenate([b.samples for b in SegmentReader(file, segment=segment)])
    rows = [("decode, resample and cut (mp3)", decode)]
    for config in (LogMelConfig(), DescriptorsConfig()):
        frontend = build_frontend(config, segment)
        rows.append((config.name, seconds(lambda f=frontend: f(batch))))  # type: ignore[misc]
    sys.stdout.write(f"{'analysis':<32}{'x real time':>12}{'x decode':>10}\n")
    for name, cost in rows:
        sys.stdout.write(f"{name:<32}{duration_s / cost:>12.0f}{cost / decode:>10.1f}\n")

    features = rng.normal(size=(2000, 608)).astype(np.float32)
    given, song = rng.integers(0, 4, 2000), np.repeat(np.arange(200), 10)
    sys.stdout.write(f"\n{'a pass of learning':<32}{'x plain':>12}\n")
    plain = 0.0
    settings = SsslSettings()
    for method, trainer in (("mixup", MixupTrainer), ("sssl", SsslTrainer)):
        run = trainer(
            features, given, song, np.arange(2000), classes=4, config=LearningConfig(), seed=0, settings=settings
        )
        epoch = settings.warmup_epochs
        cost = seconds(lambda run=run, epoch=epoch: run.run_epoch(epoch))  # type: ignore[misc]
        plain = plain or cost
        sys.stdout.write(f"{method:<32}{cost / plain:>12.1f}\n")


if __name__ == "__main__":
    main()
