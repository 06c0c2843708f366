"""Errors name what to install, wherever emoseg was installed from."""

from __future__ import annotations

import pickle
import tomllib
from pathlib import Path

from emoseg.errors import EXTRAS, MissingExtraError, install_command

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_the_packages_of_each_extra_are_those_of_the_project() -> None:
    declared = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    for extra, packages in EXTRAS.items():
        assert [requirement.partition(">=")[0] for requirement in declared[extra]] == list(packages)
    assert declared.keys() - EXTRAS.keys() == {"all", "dev"}


def test_a_missing_extra_names_the_packages_themselves() -> None:
    error = pickle.loads(pickle.dumps(MissingExtraError("learning", "train")))
    assert str(error) == (
        "learning needs packages that are not installed: pip install torch scikit-learn threadpoolctl onnx onnxscript"
    )
    assert install_command("a-package-of-another-author") == "pip install a-package-of-another-author"
