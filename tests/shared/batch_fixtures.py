"""Made-up recordings and their libraries, which tests of batches share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from batches import Small, in_process
from made import RATE, make_songs, tone


@pytest.fixture(scope="session")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("music")
    make_songs(root, 8)
    return root


@pytest.fixture(scope="session")
def whole(music: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of `music`, made without interruption."""
    out = tmp_path_factory.mktemp("whole") / "library"
    in_process(music, out, model)
    return out


@pytest.fixture(scope="session")
def small(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Small:
    folder = tmp_path_factory.mktemp("small")
    make_songs(folder / "music", 2, seconds=4)
    in_process(folder / "music", folder / "library", model)
    return Small(folder / "music", folder / "library")


@pytest.fixture
def out(small: Small, tmp_path: Path) -> Path:
    """Return a copy of the small library, to be damaged."""
    return Path(shutil.copytree(small.library, tmp_path / "out"))


@pytest.fixture
def own(music: Path, tmp_path: Path) -> Path:
    """Return a copy of `music` to be changed."""
    return Path(shutil.copytree(music, tmp_path / "own", copy_function=shutil.copy2))


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Return a folder with one good recording and several that fail."""
    root = tmp_path / "music"
    root.mkdir()
    soundfile.write(root / "good.wav", tone(1), RATE)
    soundfile.write(root / "silent.wav", np.zeros(3 * RATE, dtype=np.float32), RATE)
    soundfile.write(root / "short.wav", tone(1)[:2000], RATE)
    (root / "empty.mp3").touch()
    (root / "text.wav").write_text("These are the lyrics.\n" * 50)
    (root / "nowhere.mp3").symlink_to(root / "absent.mp3")
    if hasattr(os, "mkfifo"):
        os.mkfifo(root / "pipe.wav")
    return root
