"""Numbers change only together with a version: descriptors, log-mel values and answers of the bundled model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import make
import numpy as np
import pytest

# The same code gives other last digits on another processor: numpy picks its kernels by what the processor can do, and
# each adds in an order of its own. Without AVX2 and AVX-512 (NPY_DISABLE_CPU_FEATURES) descriptors moved by at most
# 1.3e-4 of their size (a skewness, which divides small differences), log-mel values by 2e-5 dB, and probabilities by
# 6e-6. The limits below are four to fifty times that, and far below what any change of a formula does.
DESCRIPTOR_SHARE, SMALLEST_SIZE = 5e-4, 0.1
LOGMEL_DB = 1e-3
PROBABILITY = 1e-4

STORED: dict[str, Any] = dict(np.load(make.NUMBERS))
VERSIONS: dict[str, Any] = json.loads(make.FACTS.read_text(encoding="utf-8"))
NEW_VERSION = "raise the version and run tests/golden/make.py"


@pytest.fixture(scope="module")
def current() -> dict[str, Any]:
    return make.values()


def changed(stored: dict[str, Any], current: dict[str, Any], part: str) -> list[str]:
    """Return the names of the golden values of one part that are not those of this code."""
    names = [name for name in stored if name.split("/")[0] == part]
    assert names
    assert names == [name for name in current if name.split("/")[0] == part]
    limit: Any = {"logmel": LOGMEL_DB, "model": PROBABILITY}.get(part)
    if part == "descriptors":
        size = np.abs([stored[name] for name in names]).max(axis=0)
        limit = DESCRIPTOR_SHARE * (size + SMALLEST_SIZE)
    return [name for name in names if not (np.abs(stored[name].astype(float) - current[name]) <= limit).all()]


def test_versions_have_golden_values_of_their_own() -> None:
    assert make.versions() == VERSIONS, "a version changed: run tests/golden/make.py"


@pytest.mark.parametrize("part", ["descriptors", "logmel", "model"])
def test_numbers_do_not_change_without_the_version(part: str, current: dict[str, Any]) -> None:
    version = VERSIONS["frontends"].get(part, VERSIONS["model"]["version"])
    assert not changed(STORED, current, part), f"{part} changed but version {version} is the same: {NEW_VERSION}"


def test_the_golden_values_are_complete() -> None:
    assert len(make.clips()) == 5
    for clip in make.clips():
        assert STORED[f"descriptors/{clip}"].shape == (608,)
        assert STORED[f"logmel/{clip}"].shape == (64, 128)
        assert STORED[f"model/{clip}/song"].shape == (4,)
        assert STORED[f"model/{clip}/segments"].shape == (3, 4)
    descriptors = np.array([STORED[f"descriptors/{clip}"] for clip in make.clips()])
    assert (descriptors.std(axis=0) > 0).mean() > 0.99, "the clips differ in nearly every descriptor"


@pytest.mark.parametrize("part", ["descriptors", "logmel", "model"])
def test_a_small_change_of_any_clip_is_noticed(part: str) -> None:
    for name, values in STORED.items():
        if name.split("/")[0] == part:
            other = STORED | {name: values * 1.01}
            assert changed(STORED, other, part) == [name]


def test_the_script_writes_the_values_and_versions(tmp_path: Path) -> None:
    script = tmp_path / "make.py"
    script.write_text(Path(make.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    subprocess.run([sys.executable, script], check=True, env=dict(os.environ))
    assert json.loads((tmp_path / "versions.json").read_text(encoding="utf-8")) == VERSIONS
    written = dict(np.load(tmp_path / "values.npz"))
    assert written.keys() == STORED.keys()
    assert not changed(STORED, written, "descriptors")
