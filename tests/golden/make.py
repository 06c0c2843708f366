"""Write the golden values: descriptors, log-mel values and the answers of the bundled model on synthesised clips.

    python tests/golden/make.py

Run it after a change that is meant to change numbers, and raise the version of the frontend or the model in the same
commit. `tests/golden/test_golden.py` fails when numbers changed without a change of the version, and when the version
changed without new golden values.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoseg import Analyzer
from emoseg.config import DescriptorsConfig, LogMelConfig, SegmentConfig
from emoseg.frontends import build_frontend

FOLDER = Path(__file__).parent
NUMBERS, FACTS = FOLDER / "values.npz", FOLDER / "versions.json"
RATE = 22050
SEGMENT = SegmentConfig()
FRONTENDS = (DescriptorsConfig(), LogMelConfig())

Samples = NDArray[np.float32]


def notes(
    frequencies_hz: list[float], *, note_s: float, partials: int, decay: float, seed: int, noise: float = 0.0
) -> Samples:
    """Return 9 s of plucked notes, one after the other: decaying partials in phase, and noise of one seed."""
    size, length = 9 * RATE, round(note_s * RATE)
    t = np.arange(length) / RATE
    sound = np.zeros(size)
    for start in range(0, size, length):
        f = frequencies_hz[(start // length) % len(frequencies_hz)]
        harmonics = range(1, partials + 1)
        tone = sum(np.sin(2 * np.pi * f * k * t) * np.exp(-decay * k * t) / k for k in harmonics if f * k < RATE / 2)
        part = sound[start : start + length]
        part += np.asarray(tone)[: len(part)]
    sound += noise * np.random.default_rng(seed).uniform(-1, 1, size)
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


def clips() -> dict[str, Samples]:
    """Return the clips: mono sound at 22050 Hz, made by arithmetic and seeds alone."""
    size = 9 * RATE
    t = np.arange(size) / RATE
    chord = sum(np.sin(2 * np.pi * f * t) * (1 + 0.2 * np.sin(2 * np.pi * 5 * t)) for f in (220.0, 261.63, 329.63))
    drums = np.random.default_rng(7).uniform(-1, 1, size) * np.exp(-20 * (t % 0.5))
    changing = notes([523.25, 659.26, 783.99], note_s=0.2, partials=8, decay=3.0, seed=3)
    changing[4 * RATE :] *= np.float32(0.1)
    return {
        "slow-minor": notes([110.0, 130.81, 164.81, 196.0], note_s=1.5, partials=4, decay=0.8, seed=1),
        "fast-major": notes([440.0, 554.37, 659.26, 880.0], note_s=0.15, partials=10, decay=5.0, seed=2, noise=0.02),
        "chord": (0.1 * np.asarray(chord)).astype(np.float32),
        "drums": (0.3 * drums + 0.05 * np.asarray(chord)).astype(np.float32),
        "quieter": changing,
    }


def versions() -> dict[str, Any]:
    """Return the versions that the golden values belong to."""
    config = Analyzer().model.config
    frontends = {c.name: build_frontend(c, SEGMENT).version for c in FRONTENDS}
    return {"frontends": frontends, "model": {"name": config.name, "version": config.version}}


def values() -> dict[str, NDArray[Any]]:
    """Return all numbers by name: features of the second segment of each clip, and the answers of the bundled model."""
    found: dict[str, NDArray[Any]] = {}
    analyzer = Analyzer()
    for name, samples in clips().items():
        segment = samples[SEGMENT.length : 2 * SEGMENT.length][None]
        for config in FRONTENDS:
            found[f"{config.name}/{name}"] = build_frontend(config, SEGMENT)(segment)[0]
        analysis = analyzer.analyze(samples, sample_rate_hz=RATE)
        found[f"model/{name}/song"] = np.array(analysis.song.probabilities)
        found[f"model/{name}/segments"] = np.array([segment.probabilities for segment in analysis.segments])
    return found


def main() -> None:
    """Write both files."""
    np.savez_compressed(NUMBERS, **values())  # type: ignore[arg-type]
    FACTS.write_text(json.dumps(versions(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
