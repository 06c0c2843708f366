"""Commands speak to no other machine and leave nothing in the user's folders but emoseg's own; reported by strace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SETTINGS = """
method = "mixup"
[segment]
hop_s = 10.0
[learning]
epochs = 2
batch = 16
members = 2
[learning.network]
hidden = [8]
[methods.sssl]
warmup_epochs = 1
"""

COMMANDS = {
    "synth": "corpus synth corpus --songs 16",
    "check": "corpus check synth:corpus --workers 1",
    "analyze": "analyze corpus/audio/synth_0001.flac",
    "batch": "batch corpus/audio --out library --workers 2",
    "library": "library library --most calm",
    "show": "model show 4q",
    "tag": "tag corpus/audio/synth_0002.flac",
    "train": "train synth:corpus --config settings.toml --out model --workers 1",
    "evaluate": "evaluate synth:corpus --config settings.toml --method mixup --folds 2 --group none --seeds 1 "
    "--workers 1 --out result.json",
}
"""In this order, because some read what earlier ones write."""


@dataclass(frozen=True)
class Run:
    """What a command did: its exit status and messages, its system calls, and the files in the user's folders."""

    status: int
    messages: str
    calls: tuple[str, ...]
    files: tuple[str, ...]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    strace = shutil.which("strace")
    if strace is None or subprocess.run([strace, "-o", os.devnull, "true"], capture_output=True).returncode:
        pytest.skip("strace is not installed, or may not trace here")
    place = tmp_path_factory.mktemp("network")
    (place / "settings.toml").write_text(SETTINGS)
    return {name: traced(strace, place, name, arguments) for name, arguments in COMMANDS.items()}


def traced(strace: str, place: Path, name: str, arguments: str) -> Run:
    """Run a command with an empty home of its own."""
    home, log = place / "homes" / name, place / f"{name}.strace"
    home.mkdir(parents=True)
    unset = ("EMOSEG_CACHE", "ORT_DISABLE_TELEMETRY")
    environment = {key: value for key, value in os.environ.items() if key not in unset and not key.startswith("XDG_")}
    program = Path(sys.executable).with_name("emoseg")
    calls = ["--seccomp-bpf", "-f", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(log)]
    done = subprocess.run(
        [strace, *calls, str(program), *arguments.split()],
        cwd=place,
        env={**environment, "HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    files = tuple(str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir())
    return Run(done.returncode, done.stderr, tuple(log.read_text(encoding="utf-8").splitlines()), files)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_speaks_to_no_machine(name: str, runs: dict[str, Run]) -> None:
    run = runs[name]
    assert run.status == 0, run.messages
    assert run.calls, "strace saw the processes come and go"
    assert [call for call in run.calls if "AF_INET" in call] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_leaves_nothing_of_others_with_the_user(name: str, runs: dict[str, Run]) -> None:
    assert [file for file in runs[name].files if not file.startswith(".cache/emoseg/")] == []


def test_the_trace_itself_sees_a_connection(tmp_path: Path, runs: dict[str, Run]) -> None:
    """A socket that is turned away leaves a line; `runs` skips where nothing can be traced."""
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 9))"
    trace = ["strace", "-f", "-e", "trace=connect", "-o", str(tmp_path / "log"), sys.executable, "-c", code]
    subprocess.run(trace, check=True)
    assert "AF_INET" in (tmp_path / "log").read_text(encoding="utf-8")
