"""The new corpus of docs/corpora.md works as it stands there: registered by a program, and brought by a package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from layouts import put, rows
from packages import make_package

from emoseg.corpora import CORPORA, load_corpus
from emoseg.errors import ConfigError

PAGE = (Path(__file__).parents[2] / "docs" / "corpora.md").read_text(encoding="utf-8")
MODULE, PROGRAM = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
[TOML] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder in which the page's data set lies in ``data/MySet``."""
    root = tmp_path / "data" / "MySet"
    table = [("a", 6, 5, "x"), ("b", "2,5", 5, "y"), ("c", 8, 4, "z"), ("d", 1, 1, "z")]
    put(root / "ratings.csv", rows(["id", "valence", "arousal", "singer"], table, delimiter=";").encode())
    for song in "abe":
        put(root / "audio" / f"{song}.wav")
    return tmp_path


def test_a_package_brings_the_corpus_of_the_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = tomllib.loads(TOML)["project"]["entry-points"]
    monkeypatch.syspath_prepend(make_package(folder, "myset", points, MODULE))
    assert CORPORA.names()[-1] == "myset"
    assert CORPORA.origin("myset") == "myset 1.2"
    corpus = load_corpus(f"myset:{folder / 'data' / 'MySet'}")
    assert {song.id: (song.label, song.artist) for song in corpus.songs} == {"a": ("Q1", "x"), "b": ("Q2", "y")}
    lines = "\n".join(problem.message for problem in corpus.problems)
    assert "row 4, song c: valence: 8 lies outside the scale from 1 to 7" in lines
    assert "1 of 3 annotated songs have no audio and are left out (d)" in lines
    assert "e.wav: has no annotation and is left out" in lines
    assert "annotates 3 of the 300 published songs; 297 are missing" in lines


def test_a_program_registers_the_corpus_of_the_page(folder: Path) -> None:
    (folder / "myset.py").write_text(MODULE, encoding="utf-8")
    path = os.pathsep.join([str(folder), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "{'Q1': 1, 'Q2': 1, 'Q3': 0, 'Q4': 0} 4 problems\n"


@pytest.mark.parametrize("module", ["load = 3", "import nothing_of_this_name"])
def test_a_package_that_does_not_work_is_named(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = make_package(tmp_path, "broken", {"emoseg.corpora": {"broken": "broken:load"}}, module)
    monkeypatch.syspath_prepend(package)
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    with pytest.raises(ConfigError, match=r"corpus 'broken': cannot be loaded from broken:load of the package broken"):
        load_corpus(f"broken:{tmp_path}")
