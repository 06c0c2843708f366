"""Test the wheel, as users install it, in a new environment for each set of extras that README.md documents.

    python tests/installs/run.py [light] [EXTRA[,EXTRA ...] ...]

The script prints its progress and, at the end, one line per environment. The exit status is 0 if all tests passed, and
1 otherwise.

An environment contains the wheel, what pip installs with it, and nothing else. It has no pip. The packages that run the
tests are in a folder of their own, which only the process that runs the tests sees, so the commands that tests start
find the same packages as a user's commands. Nothing is compiled to bytecode beforehand, because that takes half of the
time of an installation; the sizes are those of the packages alone.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

REPOSITORY = Path(__file__).parents[2]
LIGHT = "light"
# The packages that the tests below import besides emoseg.
RUNNER = ("pytest", "hypothesis", "tinytag")
TESTS = (
    "installs/check_environment.py",
    "library",
    "e2e/test_cli.py",
    "e2e/test_imports.py",
    "e2e/test_bundled_model.py",
    "unit/test_audio.py",
    "unit/test_writer_formats.py",
    "unit/test_writers.py",
)
# Long tests that no extra has an influence on; they run with the light install only.
ONCE = (
    "library/test_batch.py",
    "library/test_batch_damage.py",
    "library/test_batch_failures.py",
    "library/test_batch_kills.py",
    "library/test_finite.py",
    "library/test_hostile_input.py",
    "unit/test_audio.py::test_recordings_of_more_than_a_day_are_refused",
    "unit/test_writers.py",
)
AT_ONCE = 2
LIMIT_S = 1200
START = "import sys; sys.path.append(sys.argv.pop(1)); import pytest; sys.exit(pytest.main())"


@dataclass(frozen=True)
class Result:
    """The result of one environment; `problem` is the output to show if something failed."""

    name: str
    size_mb: float = 0.0
    install_s: float = 0.0
    test_s: float = 0.0
    passed: int = 0
    failed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    problem: str = ""


def main() -> int:
    documented = documented_sets((REPOSITORY / "README.md").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description="Test what users install.")
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"default: {' '.join(documented)}")
    wanted = parser.parse_args().sets or documented
    if unknown := set(wanted) - set(documented):
        parser.error(f"README.md documents no install {', '.join(unknown)}; choose from {' '.join(documented)}")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="emoseg-installs-") as folder:
        workshop = Path(folder)
        say("building the wheel and installing what runs the tests")
        pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", workshop, REPOSITORY)
        pip("install", "--target", workshop / "runner", *constrained(), *RUNNER)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            # The longest first, so that none of them runs alone at the end.
            ordered = sorted(wanted, key=lambda name: (name == LIGHT, len(extras_of(name))), reverse=True)
            results = list(pool.map(lambda name: check(name, workshop), ordered))
    say(summary(results, time.monotonic() - started))
    return 1 if any(result.problem for result in results) else 0


def documented_sets(readme: str) -> list[str]:
    """Return the sets of extras in the commands of README.md, each joined by commas; `LIGHT` stands for none."""
    commands = re.findall(r"^pip install --constraint constraints\.txt (?:\.|'\.\[([a-z,]+)\]')(?= |$)", readme, re.M)
    if "" not in commands:
        raise SystemExit("README.md: no command 'pip install --constraint constraints.txt .' is found")
    return [extras or LIGHT for extras in commands]


def extras_of(name: str) -> set[str]:
    """Return the extras of a set; an extra that only names others, such as ``all``, is replaced by them."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras: set[str] = set()
    for extra in [] if name == LIGHT else name.split(","):
        requirements = ",".join(project["optional-dependencies"][extra])
        others = re.fullmatch(r"emoseg\[(.*)\]", requirements)
        extras |= set(others[1].split(",")) if others else {extra}
    return extras


def check(name: str, workshop: Path) -> Result:
    """Install one set in an environment of its own, run the tests there, and remove it."""
    environment = workshop / name
    say(f"{name}: installing")
    started = time.monotonic()
    try:
        install(name, environment, workshop)
    except PipError as error:
        result = Result(name, failed=1, problem=str(error))
    else:
        install_s, size_mb = time.monotonic() - started, size(environment)
        say(f"{name}: installed {size_mb:.0f} MB in {install_s:.0f} s; testing")
        result = run_tests(name, environment, workshop, size_mb, install_s)
    shutil.rmtree(environment, ignore_errors=True)
    say(f"{result.problem}\n{name}: FAILED" if result.problem else f"{name}: passed in {result.test_s:.0f} s")
    return result


def install(name: str, environment: Path, workshop: Path) -> None:
    venv.create(environment, symlinks=os.name == "posix")
    (wheel,) = workshop.glob("*.whl")
    extras = "" if name == LIGHT else f"[{name}]"
    pip("--python", python(environment), "install", "--no-compile", *constrained(), f"{wheel}{extras}")


def run_tests(name: str, environment: Path, workshop: Path, size_mb: float, install_s: float) -> Result:
    """Run the tests from an empty folder, so that only the installed package can be imported."""
    report, empty = workshop / f"{name}.xml", workshop / f"{name} folder"
    empty.mkdir()
    command: list[str | Path] = [python(environment), "-c", START, workshop / "runner"]
    command += ["--rootdir", REPOSITORY, "--config-file", REPOSITORY / "pyproject.toml", "-p", "no:cacheprovider"]
    command += ["--quiet", "--tb=short", "--show-capture=no", f"--junitxml={report}"]
    command += [REPOSITORY / "tests" / test for test in TESTS]
    command += [] if name == LIGHT else [f"--deselect=tests/{test}" for test in ONCE]
    variables = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    started = time.monotonic()
    try:
        done = subprocess.run(
            command,
            cwd=empty,
            env={**variables, "EMOSEG_EXTRAS": ",".join(extras_of(name))},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="backslashreplace",
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Result(name, size_mb, install_s, LIMIT_S, failed=1, problem=f"the tests took more than {LIMIT_S} s")
    passed, failed, skipped = counts(report)
    problem = done.stdout if done.returncode or not passed else ""
    return Result(name, size_mb, install_s, time.monotonic() - started, passed, failed, skipped, problem)


def counts(report: Path) -> tuple[int, int, Counter[str]]:
    """Return the numbers of tests that passed and failed, and of skipped tests by reason."""
    if not report.exists():
        return 0, 1, Counter()
    cases = ElementTree.parse(report).findall(".//testcase")
    skips = [skip for case in cases for skip in case.findall("skipped")]
    # If a whole file was skipped, the message does not give the reason, but the text ends with it.
    whole = re.compile(r".*Skipped: (.*)'\)", re.DOTALL)
    reported = [(skip.get("message", ""), whole.fullmatch(skip.text or "")) for skip in skips]
    skipped = Counter(match[1] if match else message for message, match in reported)
    failed = sum(case.find("failure") is not None or case.find("error") is not None for case in cases)
    return len(cases) - failed - skipped.total(), failed, skipped


def summary(results: list[Result], seconds: float) -> str:
    lines = [f"{'environment':28}{'MB':>6}{'install':>9}{'tests':>8}{'passed':>8}{'failed':>8}{'skipped':>9}"]
    for r in results:
        times = f"{r.size_mb:6.0f}{r.install_s:7.0f} s{r.test_s:6.0f} s"
        lines.append(f"{r.name:28}{times}{r.passed:8}{r.failed:8}{r.skipped.total():9}")
        lines += [f"    {number} skipped: {reason}" for reason, number in sorted(r.skipped.items())]
    return "\n".join([*lines, f"{seconds:.0f} s in all"])


class PipError(Exception):
    """Pip failed; the message is what it printed."""


def pip(*args: str | Path) -> None:
    """Run the pip of this Python."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, args)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise PipError(f"{' '.join(command)}\n{done.stdout}")


def constrained() -> list[str | Path]:
    return ["--constraint", REPOSITORY / "constraints.txt"]


def python(environment: Path) -> Path:
    return environment / ("bin/python" if os.name == "posix" else "Scripts/python.exe")


def size(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*")) / 1e6


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
