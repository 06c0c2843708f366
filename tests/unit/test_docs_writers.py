"""The new format of docs/writers.md works as it stands there: registered by a program, and brought by a package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import soundfile
from made import RATE, Call, tone
from packages import make_package

from emoseg.errors import ConfigError
from emoseg.writers import COLLECTIONS, FORMATS, Collection, CollectionFormat

PAGE = (Path(__file__).parents[2] / "docs" / "writers.md").read_text(encoding="utf-8")
MODULE, PROGRAM = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
[TOML] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
CUES = re.compile(r"(?:\d+\n\d\d:\d\d:\d\d,\d{3} --> \d\d:\d\d:\d\d,\d{3}\n\w+\n\n?)+")


@pytest.fixture
def song(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "song.wav", tone(1), RATE)
    return tmp_path / "song.wav"


def test_a_package_brings_the_format_of_the_page(
    song: Path, model: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = tomllib.loads(TOML)["project"]["entry-points"]
    monkeypatch.syspath_prepend(make_package(song.parent, "subtitles", points, MODULE))
    assert FORMATS.origin("subtitles") == "subtitles 1.2"
    out = song.parent / "out"
    done = call("analyze", song, "--model", model, "--format", "subtitles", "--out", out)
    assert done.status == 0
    assert CUES.fullmatch((out / "song.wav.srt").read_text())


def test_a_program_registers_the_format_of_the_page(song: Path) -> None:
    (song.parent / "subtitles.py").write_text(MODULE, encoding="utf-8")
    path = os.pathsep.join([str(song.parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=song.parent,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "song.srt\n"
    assert CUES.fullmatch((song.parent / "song.srt").read_text())


def test_the_page_names_every_format() -> None:
    assert re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE) == [*FORMATS, *COLLECTIONS]


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (lambda analysis: "", r"its suffix must be a dot and more characters, none of them a slash, not None"),
        (type("Bad", (), {"suffix": "txt"})(), r"its suffix must be a dot and more characters.*, not 'txt'"),
        (type("Bad", (), {"suffix": "./x"})(), r"its suffix must be .*, not '\./x'"),
        (type("Bad", (), {"suffix": ".x"})(), r"it must have a method render\(analysis, \*, folder\); Format"),
    ],
)
def test_what_is_no_format_is_refused(thing: object, message: str) -> None:
    with pytest.raises(ConfigError, match=f"format 'bad': cannot be registered: .*{message}"):
        FORMATS.register("bad", thing)
    assert "bad" not in FORMATS


def test_what_is_no_collection_is_refused() -> None:
    with pytest.raises(ConfigError, match="it must be a CollectionFormat, not ABCMeta"):
        COLLECTIONS.register("bad", Collection)


def test_another_collection_is_written_like_those_of_emoseg(
    song: Path, model: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
from emoseg.writers.formats import Collection, CollectionFormat

class Names(Collection):
    def __init__(self, file):
        super().__init__(file)
        self.names = []

    def add(self, result):
        self.names.append(result.path)

    def close(self):
        with self.writing():
            self.file.write_text("\\n".join(self.names))

NAMES = CollectionFormat("names.txt", Names)
"""
    points = {"emoseg.collections": {"names": "names_format:NAMES"}}
    monkeypatch.syspath_prepend(make_package(song.parent, "names_format", points, code))
    assert isinstance(COLLECTIONS["names"], CollectionFormat)
    done = call("analyze", song, "--model", model, "--format", "names", "--out", song.parent / "out")
    assert done.status == 0
    assert (song.parent / "out" / "names.txt").read_text() == str(song)
