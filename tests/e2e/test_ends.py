"""However a command ends, nothing is left of it but what the same command goes on from, to the same result."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from emoseg.checking.check import check_corpus
from emoseg.config import DescriptorsConfig, LearningConfig, NetworkConfig, SegmentConfig, TrainConfig
from emoseg.corpora import load_corpus
from emoseg.errors import EmosegError
from emoseg.evaluation import Protocol, evaluate, unfinished_folder, write_result
from emoseg.frontends.store import load_features
from emoseg.synthesis.corpus import write_corpus
from emoseg.system.unfinished import unfinished
from emoseg.training import train

NETWORK = NetworkConfig(hidden=(16,), channels=(4,))
TRAINING = TrainConfig(
    method="inherit",
    learning=LearningConfig(epochs=30, members=2, batch=8, network=NETWORK),
)
EVALUATION = TrainConfig(learning=LearningConfig(epochs=4, members=2, batch=8, network=NETWORK))
PROTOCOL = Protocol(("mixup", "inherit"), folds=2, seeds=2, group="none")
SEGMENT = SegmentConfig(length_s=1.0, hop_s=1.0)
DESCRIPTORS = (DescriptorsConfig(),)


@dataclass(frozen=True)
class Command:
    """A piece of work that can be killed.

    Parameters
    ----------
    run : callable
        From the sounds, the folder that all is written to, and the number of processes.
    result : callable
        From the sounds and the folder to what must be the same in the end.
    begun : callable
        Whether enough is done in the folder for a kill to come in the middle.
    """

    run: Callable[[Path, Path, int], object]
    result: Callable[[Path, Path], Any]
    begun: Callable[[Path], bool]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def run_training(sounds: Path, folder: Path, workers: int) -> None:
    corpus = load_corpus(f"synth:{sounds / 'corpus'}")
    train(corpus, folder / "model", config=TRAINING, workers=workers, cache=sounds / "cache", quiet=True)


def run_evaluation(sounds: Path, folder: Path, workers: int) -> None:
    out, cache = folder / "result.json", sounds / "cache"
    corpus, work = load_corpus(f"synth:{sounds / 'corpus'}"), unfinished_folder(folder / "result.json")
    result = evaluate(corpus, PROTOCOL, config=EVALUATION, cache=cache, workers=workers, work=work, quiet=True)
    write_result(result, out)


def figures(sounds: Path, folder: Path) -> Any:
    result = json.loads((folder / "result.json").read_text())
    for method in result["methods"].values():
        for timed in (method, *method["folds"]):
            assert timed.pop("seconds") > 0
    return result


def long_recordings(sounds: Path) -> list[Path]:
    return sorted((sounds / "long").rglob("*.wav"))


def run_features(sounds: Path, folder: Path, workers: int) -> None:
    load_features(
        long_recordings(sounds),
        segment=SEGMENT,
        frontends=DESCRIPTORS,
        labels=["noise"],
        cache=folder / "cache",
        workers=workers,
        quiet=True,
    )


def features(sounds: Path, folder: Path) -> Any:
    names = sorted(contents(folder))
    table = load_features(
        long_recordings(sounds),
        segment=SEGMENT,
        frontends=DESCRIPTORS,
        labels=["noise"],
        cache=folder / "cache",
        workers=1,
        quiet=True,
    )
    return names, table.features["descriptors"].tobytes(), table.failures


def run_check(sounds: Path, folder: Path, workers: int) -> None:
    check_corpus(load_corpus(f"folder:{sounds / 'long'}"), cache=folder / "cache", workers=workers, quiet=True)


def checked(sounds: Path, folder: Path) -> Any:
    assert [path.name for path in (folder / "cache").iterdir()] == ["readings.sqlite"]
    corpus = load_corpus(f"folder:{sounds / 'long'}")
    return check_corpus(corpus, cache=folder / "cache", workers=1, quiet=True).to_json()


def run_synth(sounds: Path, folder: Path, workers: int) -> None:
    write_corpus(folder / "corpus", songs=16, duration_s=12, workers=workers, quiet=True)


def two_processes(folder: Path) -> bool:
    return sum(b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes_of(folder)) >= 2


COMMANDS = {
    "train": Command(
        run_training,
        lambda sounds, folder: contents(folder / "model"),
        lambda folder: len(list(folder.glob(".model.unfinished/*/member*/0001.safetensors"))) == 2,
    ),
    "evaluate": Command(
        run_evaluation, figures, lambda folder: any(folder.glob(".result.json.unfinished/*/*-fold*.npz"))
    ),
    "features": Command(run_features, features, lambda folder: any(folder.glob("cache/features/*/*/[!.]*.npz"))),
    "check": Command(run_check, checked, two_processes),
    "synth": Command(
        run_synth,
        lambda sounds, folder: contents(folder / "corpus"),
        lambda folder: any(folder.glob(".corpus.unfinished/.emoseg-*/audio/*.flac")),
    ),
}


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with its features, and recordings that take a while to read."""
    root = tmp_path_factory.mktemp("sounds")
    write_corpus(root / "corpus", songs=16, seed=1, duration_s=12, workers=1, quiet=True)
    rng = np.random.default_rng(0)
    for i in range(20):
        path = root / "long" / ("a", "b")[i % 2] / f"{i:02d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.uniform(-0.1, 0.1, (4 if i < 2 else 20) * 22050), 22050)
    load_features(
        [song.path for song in load_corpus(f"synth:{root / 'corpus'}").songs],
        segment=TRAINING.segment,
        frontends=TRAINING.frontends,
        cache=root / "cache",
        workers=1,
        quiet=True,
    )
    return root


@pytest.fixture(scope="module")
def results(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Return what a command gives that nothing disturbs, in one process."""
    known: dict[str, Any] = {}

    def result(name: str) -> Any:
        if name not in known:
            folder = tmp_path_factory.mktemp(f"undisturbed-{name}")
            COMMANDS[name].run(sounds, folder, 1)
            known[name] = COMMANDS[name].result(sounds, folder)
        return known[name]

    return result


MARK = "EMOSEG_TEST_FOLDER"
CODE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_ends import COMMANDS
COMMANDS[sys.argv[2]].run(Path(sys.argv[3]), Path(sys.argv[4]), 2)
"""


def processes_of(folder: Path) -> list[int]:
    """Return the living processes of a command: all that inherited the mark in its environment."""
    mark = f"{MARK}={folder}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            living = (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
            if living and mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
    """Return when the condition holds; fail when it never does."""
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "this never happened"
        assert process is None or process.poll() is None, "the command ended before"
        time.sleep(0.005)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("name", list(COMMANDS))
def test_a_killed_command_leaves_nothing_and_goes_on(
    name: str, how: signal.Signals, sounds: Path, results: Callable[[str], Any], tmp_path: Path
) -> None:
    command = COMMANDS[name]
    arguments = [str(Path(__file__).parent), name, str(sounds), str(tmp_path)]
    environment = os.environ | {MARK: str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", CODE, *arguments], env=environment) as process:
        wait_until(lambda: command.begun(tmp_path), process)
        os.kill(process.pid, how)
    assert process.returncode == -how
    wait_until(lambda: not processes_of(tmp_path))
    # Folders with features, and half a corpus, go at once; a file that was being written goes with the next run.
    assert not [path for path in tmp_path.rglob(".emoseg-*") if path.is_dir()]
    assert {path.name for path in tmp_path.iterdir()} <= {".model.unfinished", ".result.json.unfinished", "cache"}
    if name == "synth":
        assert not list(tmp_path.iterdir())
    command.run(sounds, tmp_path, 2)
    assert command.result(sounds, tmp_path) == results(name)
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("name", ["train", "evaluate", "synth"])
def test_two_at_once_on_one_output_is_one_line(name: str, sounds: Path, tmp_path: Path) -> None:
    folder = unfinished_folder(tmp_path / {"train": "model", "evaluate": "result.json", "synth": "corpus"}[name])
    with unfinished(folder), pytest.raises(EmosegError, match="another emoseg process uses it") as caught:
        COMMANDS[name].run(sounds, tmp_path, 1)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """Mount a disk of some size on a folder; skip the test where that is not allowed."""
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if mount is None or subprocess.run([mount, *options], check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("name", "kilobytes"),
    [
        *(("train", size) for size in (12, 300, 2000)),
        *(("evaluate", size) for size in (12, 40)),
        *(("features", size) for size in (16, 400)),
        *(("check", size) for size in (8, 60)),
        *(("synth", size) for size in (16, 600)),
    ],
)
def test_a_full_disk_is_one_line_and_with_space_it_goes_on(
    name: str, kilobytes: int, workers: int, sounds: Path, results: Callable[[str], Any], tmp_path: Path
) -> None:
    command, expected = COMMANDS[name], results(name)
    with small_disk(tmp_path, kilobytes):
        with pytest.raises(
            EmosegError, match=r"cannot be (written|made): (.*No space left on device|.*disk is full)"
        ) as caught:
            command.run(sounds, tmp_path, workers)
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.rglob(".emoseg-*"))
        assert {path.name for path in tmp_path.iterdir()} <= {".model.unfinished", ".result.json.unfinished", "cache"}
        subprocess.run(["mount", "-o", "remount,size=1g", tmp_path], check=True)
        command.run(sounds, tmp_path, workers)
        assert command.result(sounds, tmp_path) == expected
        assert not list(tmp_path.rglob(".*"))
