"""The examples of docs/python.md run as they stand there, each as a script or after those before it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import soundfile
from made import RATE, song

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
NEEDED = ("torch", "sklearn", "matplotlib", "pandas")
pytestmark = pytest.mark.skipif(any(find_spec(name) is None for name in NEEDED), reason=f"needs {', '.join(NEEDED)}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("work")
    for suffix in ("mp3", "wav"):
        soundfile.write(root / f"song.{suffix}", song(99, happy=True), RATE)
    for i in range(16):
        label = root / "my-songs" / ("happy" if i % 2 else "sad")
        label.mkdir(parents=True, exist_ok=True)
        soundfile.write(label / f"{'abcd'[i // 4]}{i}.wav", song(i, happy=bool(i % 2)), RATE)
    return root


def run(folder: Path, *examples: str) -> str:
    """Run examples as one script in a folder, and return what they print."""
    script = folder / "script.py"
    script.write_text("\n".join(examples), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def examples(word: str) -> str:
    [example] = [code for code in EXAMPLES if word in code]
    return example


def test_the_page_has_the_examples_that_are_run_here() -> None:
    assert len(EXAMPLES) == 9


def test_one_recording_and_its_results(folder: Path) -> None:
    said = run(folder, *EXAMPLES[:5])
    assert re.match(r"\w+ 0\.\d+\n0\.0 to \d", said)
    assert "\n<Analysis 'song.mp3#t=1,5': 4.0 s, " in said
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    assert (folder / "labels.txt").read_text().startswith("0.000000\t")


def test_many_recordings(folder: Path) -> None:
    lines = run(folder, examples("analyze_many")).splitlines()
    assert [line for line in lines if " of " in line] == ["1 of 3", "2 of 3", "3 of 3"]
    results = [line for line in lines if " of " not in line]
    assert [line.split(" ")[0] for line in results] == ["song.mp3", "failed:", "song.wav"]


def test_errors(folder: Path) -> None:
    said = run(folder, "import emoseg\nimport numpy as np\n", examples("emoseg.AudioError"))
    assert f"# {said}" in PAGE


@pytest.mark.slow
def test_training_and_evaluation(folder: Path) -> None:
    said = run(folder, examples("emoseg.train("))
    assert len(re.findall(r"^\w+\.wav: (?:happy|sad) is right with probability [01]\.\d\d$", said, re.MULTILINE)) == 16
    assert re.search(r"^\{'inherit': \d\.\d+, 'emoseg': \d\.\d+\}$", said, re.MULTILINE)
    assert said.splitlines()[-1] in ("happy", "unsure")


@pytest.mark.slow
def test_with_scikit_learn(folder: Path) -> None:
    said = run(folder, examples("EmotionClassifier("))
    assert said.startswith("['happy' 'sad'] [[")
    assert re.search(r"^labels to check: \['\w+\.wav', '\w+\.wav', '\w+\.wav'\]$", said, re.MULTILINE)
    assert (folder / "my-model" / "config.json").is_file()
