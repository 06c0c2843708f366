"""The new method of docs/methods.md works as it stands there: registered by a program, and brought by a package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from packages import make_package
from planted import SMALL, blobs

from emoseg.config import TrainConfig, load_train_config
from emoseg.errors import ConfigError
from emoseg.learning.methods import METHODS, build_method, code_versions, resolve_settings
from emoseg.learning.methods.base import Run

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "methods.md").read_text(encoding="utf-8")
MODULE, PROGRAM = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
[TOML] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


def test_a_package_brings_the_method_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = tomllib.loads(TOML)["project"]["entry-points"]
    monkeypatch.syspath_prepend(make_package(tmp_path, "smoothing", points, MODULE))
    assert "smoothing" in METHODS
    config = TrainConfig(method="smoothing", methods={"smoothing": {"share": 0.5}})
    assert code_versions(config, ["smoothing"])["method smoothing"] == 1
    data = blobs(0)
    method = build_method(config, "smoothing")
    run = Run(SMALL.model_copy(update={"members": 2, "epochs": 8}), 0)
    smooth, sharp = (m.fit(data.training_set(), run) for m in (method, METHODS["inherit"]()))
    assert (smooth.out_of_fold.segments.argmax(axis=1) == data.true).mean() > 0.9
    # No loss can be below the entropy of its targets, which are (2/3, 1/6, 1/6).
    entropy = -(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 6))
    assert min(record["loss"] for member in smooth.history["blobs"] for record in member) > entropy
    assert sharp.history["blobs"][0][-1]["loss"] < entropy - 0.2
    with pytest.raises(ConfigError, match=r"methods\.smoothing\.share: .* less than 1 \(found 1\.0\)"):
        build_method(TrainConfig(methods={"smoothing": {"share": 1.0}}), "smoothing")


def test_a_program_registers_the_method_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "smoothing.py").write_text(MODULE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "{'smoothing': {'share': 0.2}}\n"


def test_what_is_no_method_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"method 'wrong': .* must be a subclass of .*Method"):
        METHODS.register("wrong", TrainConfig)


def test_the_file_of_the_page_on_settings_is_accepted(tmp_path: Path) -> None:
    [text] = re.findall(r"```toml\n(.*?)```", (DOCS / "configuration.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "settings.toml").write_text(text, encoding="utf-8")
    config = load_train_config(tmp_path / "settings.toml")
    assert [frontend.name for frontend in config.frontends] == ["descriptors", "logmel"]
    methods = resolve_settings(config, [config.method]).methods
    assert list(methods) == ["sssl"]
    assert methods["sssl"]["warmup_epochs"] == 6
