"""The new frontend of docs/frontends.md works as it stands there: registered by a program, and brought by a package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from packages import make_package

from emoseg.config import FRONTENDS, SegmentConfig, TrainConfig, load_train_config, parse_frontends
from emoseg.errors import ConfigError
from emoseg.frontends import build_frontend
from emoseg.frontends.store import load_features

PAGE = (Path(__file__).parents[2] / "docs" / "frontends.md").read_text(encoding="utf-8")
MODULE, PROGRAM = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
[TOML] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
RATE = 22050


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = tomllib.loads(TOML)["project"]["entry-points"]
    monkeypatch.syspath_prepend(make_package(tmp_path, "octaves", points, MODULE))


def melody(seconds: int) -> Any:
    t = np.arange(seconds * RATE) / RATE
    return 0.3 * np.sin(2 * np.pi * (220 * t + 100 * np.sin(t))) * np.exp(-3 * (t % 0.5))


@pytest.mark.usefixtures("package")
def test_a_package_brings_the_frontend_of_the_page(tmp_path: Path) -> None:
    assert FRONTENDS.origin("octaves") == "octaves 1.2"
    settings = tmp_path / "settings.toml"
    settings.write_text('[[frontends]]\nname = "octaves"\nlowest_hz = 100\n', encoding="utf-8")
    config = load_train_config(settings)
    assert config.frontends[0].model_dump() == {"name": "octaves", "lowest_hz": 100.0}
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
    soundfile.write(tmp_path / "song.wav", melody(6), RATE)
    table = load_features(
        [tmp_path / "song.wav"],
        segment=config.segment,
        frontends=config.frontends,
        cache=tmp_path / "cache",
        workers=1,
        quiet=True,
    )
    assert table.features["octaves"].shape == (2, 7)
    assert np.isfinite(table.features["octaves"]).all()


@pytest.mark.usefixtures("package")
def test_settings_of_a_packaged_frontend_are_checked(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text('[[frontends]]\nname = "octaves"\nlowest_hz = 0\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"frontends\.0\.lowest_hz: Input should be greater than 0"):
        load_train_config(settings)
    [octaves] = parse_frontends("octaves")
    with pytest.raises(ConfigError, match=r"octaves: lowest_hz 9000\.0 is above half the sample rate"):
        build_frontend(octaves.model_copy(update={"lowest_hz": 9000.0}), SegmentConfig(sample_rate_hz=8000))


def test_a_program_registers_the_frontend_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "octaves.py").write_text(MODULE, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "3\n"


class NoSettings:
    name = "nothing"
    version = 1


@pytest.mark.parametrize(
    ("thing", "rule"),
    [
        (NoSettings, "its settings_class must be a subclass of emoseg.config.FrontendSettings"),
        (NoSettings(), "must be a class with a name, a version that is a whole number, and a settings_class"),
        (FRONTENDS["logmel"], None),
        (type("Other", (FRONTENDS["logmel"],), {"name": "other"}), "its name must be the default of the name"),
    ],
)
def test_what_is_no_frontend_cannot_be_registered(
    thing: Any, rule: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FRONTENDS, "_registered", {})
    if rule is None:
        FRONTENDS.register("again", thing)
        return
    with pytest.raises(ConfigError, match=f"frontend 'again': cannot be registered: TypeError: {rule}"):
        FRONTENDS.register("again", thing)


def test_the_page_names_every_frontend() -> None:
    assert re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE) == [
        name for name in ("descriptors", "logmel", "compare") if name in FRONTENDS
    ]
