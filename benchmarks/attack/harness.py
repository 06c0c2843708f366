"""Run a command against something hostile, and say what is wrong with how it ended.

Whatever it is given, a command must end by itself with one of its own exit statuses, say everything in lines that
cannot steer a terminal, print JSON that is strict, have no process of more than 1 GB, and leave no process, no
temporary file and nothing changed outside its output. Memory is that of the largest process,
which the system keeps; it is not a sum over processes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MOST_KB = 1 << 20
_MARK = "EMOSEG_ATTACK"
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_STATUSES = (0, 1, 2)


@dataclass
class Tally:
    """What became of the trials of one kind: how many, and a line for each that found something."""

    kind: str
    tried: int = 0
    findings: list[str] = field(default_factory=list)

    def add(self, name: str, faults: list[str]) -> None:
        """Count a trial."""
        self.tried += 1
        for fault in faults:
            self.findings.append(f"{name}: {fault}")
            sys.stdout.write(f"  {self.kind}: {name}: {fault}\n")
            sys.stdout.flush()

    @property
    def failed(self) -> int:
        """The number of trials that found something."""
        return len({finding.partition(": ")[0] for finding in self.findings})

    def to_json(self) -> dict[str, Any]:
        """Return the counts."""
        return {"tried": self.tried, "survived": self.tried - self.failed, "failed": self.failed}


@dataclass(frozen=True)
class Ended:
    """How a command ended; `status` is None where it had to be killed."""

    status: int | None
    out: str
    err: str
    peak_kb: int
    left: tuple[str, ...]

    def faults(self, *, statuses: tuple[int, ...] = _STATUSES, as_json: bool = False) -> list[str]:
        """Return what is wrong with it, a line each."""
        found = []
        if self.status is None:
            found.append("did not end by itself")
        elif self.status not in statuses:
            found.append(f"status {self.status}: {self.err[-200:]!r}")
        if "Traceback" in self.err or "a defect of emoseg" in self.err:
            found.append(f"traceback: {self.err[-300:]!r}")
        if _CONTROL.search(self.out + self.err):
            found.append("control characters in the output")
        strange = [s for s in self.err.splitlines() if not s.startswith("emoseg: ") and " left" not in s]
        if strange:
            found.append(f"on standard error: {strange[0][:200]!r}")
        if self.peak_kb > MOST_KB:
            found.append(f"{self.peak_kb / 1e6:.1f} GB of memory")
        found += [f"left behind: {name}" for name in self.left]
        return [*found, *(_json_faults(self.out) if as_json else ())]


def _json_faults(text: str) -> list[str]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} in JSON")

    try:
        for line in text.splitlines():
            json.loads(line, parse_constant=refuse)
    except ValueError as error:
        return [f"JSON: {error}"]
    return []


class Yard:
    """A folder for trials, and commands that run in it.

    Attributes
    ----------
    folder : Path
        Where trials put what they make.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._temporary = folder / "tmp"
        self._home = folder / "home"
        for made in (self._temporary, self._home):
            made.mkdir()

    def environment(self) -> dict[str, str]:
        """Return the environment of a command: its own home and temporary folder, and a mark to find it by."""
        return {
            **os.environ,
            "HOME": str(self._home),
            "XDG_CACHE_HOME": str(self._home / ".cache"),
            "EMOSEG_CACHE": str(self._home / "cache"),
            "TMPDIR": str(self._temporary),
            _MARK: uuid.uuid4().hex,
        }

    def start(self, *arguments: str | Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a command, its output in files, so that no pipe can hold it up."""
        out, err = (self.folder / name for name in ("stdout", "stderr"))
        with out.open("wb") as stdout, err.open("wb") as stderr:
            return subprocess.Popen(
                [program(), *(os.fspath(part) for part in arguments)],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                cwd=self.folder,
                start_new_session=True,
            )

    def run(self, *arguments: str | Path, limit_s: float = 120.0) -> Ended:
        """Run a command to its end, or kill it after `limit_s`."""
        environment = self.environment()
        process = self.start(*arguments, environment=environment)
        status, peak_kb = _wait(process, limit_s)
        return self.ended(environment, status, peak_kb)

    def ended(self, environment: Mapping[str, str], status: int | None, peak_kb: int) -> Ended:
        """Return how a command ended, and what it left behind; that is removed."""
        left = [f"process {name}" for name in _processes(environment[_MARK])]
        # Every program that uses PyTorch's optimisers makes this empty folder.
        own = (path for path in self._temporary.iterdir() if not path.name.startswith("torchinductor_"))
        left += [f"temporary file {path.name}" for path in own]
        for path in self._temporary.iterdir():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
        out, err = ((self.folder / name).read_bytes().decode("utf-8", "replace") for name in ("stdout", "stderr"))
        return Ended(status, out, err, peak_kb, tuple(left))


def _wait(process: subprocess.Popen[bytes], limit_s: float) -> tuple[int | None, int]:
    """Return exit status and peak memory in kB of the process and those that it waited for."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage.ru_maxrss
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return None, 0


def _processes(mark: str, *, patience_s: float = 20.0) -> list[str]:
    """Return the names of processes with a mark in their environment that do not end within a while; kill them."""
    end = time.monotonic() + patience_s
    while (found := list(_marked(mark))) and time.monotonic() < end:
        time.sleep(0.05)
    for pid, _ in found:
        os.kill(pid, signal.SIGKILL)
    return [name for _, name in found]


def _marked(mark: str) -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes():
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                if command.strip():  # a zombie has none
                    yield int(entry.name), command[:100]
        except OSError:
            continue


def program() -> str:
    """Return the path of the installed command."""
    found = shutil.which("emoseg", path=str(Path(sys.executable).parent))
    if found is None:
        raise SystemExit("emoseg is not installed beside this Python")
    return found


@contextmanager
def yard() -> Iterator[Yard]:
    """Yield a new `Yard`, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="emoseg-attack-") as folder:
        yield Yard(Path(folder))


def snapshot(folder: Path) -> dict[str, str]:
    """Return a checksum for each file below a folder, links as what they point to."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path)] = f"link to {path.readlink()}"
        elif path.is_file():
            found[str(path)] = hashlib.blake2b(path.read_bytes()).hexdigest()
    return found


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return a line for each file that differs between two snapshots."""
    return [f"changed: {name}" for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
