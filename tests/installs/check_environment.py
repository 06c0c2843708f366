"""An environment of `run.py` has the wheel, the extras asked for, and nothing else that a test could use unnoticed."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from importlib.metadata import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest

import emoseg

PACKAGES = {
    "train": {"torch", "sklearn", "threadpoolctl", "onnx", "onnxscript"},
    "av": {"av"},
    "plot": {"matplotlib"},
    "tags": {"mutagen"},
    "library": {"duckdb"},
    "cleanlab": {"cleanlab"},
    "opensmile": {"opensmile"},
}
# Packages of the extra dev, and two packages that they depend on.
DEVELOPMENT = {"hatchling", "jams", "jsonschema", "librosa", "mypy", "numba"}


def requested() -> set[str]:
    """Return the extras of this environment, without those that only name others."""
    return set(filter(None, os.environ["EMOSEG_EXTRAS"].split(",")))


def in_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_the_package_is_the_installed_one() -> None:
    site = Path(sysconfig.get_path("purelib"))
    assert sys.prefix != sys.base_prefix, "this is a virtual environment"
    assert site.is_relative_to(sys.prefix)
    assert emoseg.__file__ == in_python("import emoseg; print(emoseg.__file__)") == str(site / "emoseg" / "__init__.py")


def test_all_extras_are_known_here() -> None:
    assert set(metadata("emoseg").get_all("Provides-Extra") or []) == {*PACKAGES, "all", "dev"}
    assert requested() <= set(PACKAGES)


def test_the_packages_of_the_extras_asked_for_load() -> None:
    wanted = sorted(package for extra in requested() for package in PACKAGES[extra])
    assert in_python(f"for name in {wanted}: __import__(name)\nprint('all')") == "all"


def test_no_other_package_is_there() -> None:
    others = {package for extra in set(PACKAGES) - requested() for package in PACKAGES[extra]} | DEVELOPMENT
    assert sorted(name for name in others if find_spec(name)) == []


def test_what_runs_the_tests_loads_none_of_what_they_test() -> None:
    runner = str(Path(pytest.__file__).parents[1])
    tell = "print(sorted({'numpy', 'onnx', 'pandas', 'pyarrow'} & set(sys.modules)))"
    code = f"import sys; sys.path.append({runner!r}); import hypothesis, pytest, tinytag; {tell}"
    assert in_python(code) == "[]"
