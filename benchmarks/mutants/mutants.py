"""Measure how many small changes to the code the tests notice (mutation testing).

A sample of mutants is drawn with a seed: first a place in the code, each with the same chance, then one of the changes
that cosmic-ray can make there. Every mutant is tested in a copy of the project by the test files that concern its
module (`TESTS`). A mutant is noticed when a test fails or the tests take too long. Changes to annotations and
docstrings are not drawn, because they change nothing at run time.

    python benchmarks/mutants/mutants.py --seed 1 --out benchmarks/mutants/result.json
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

from emoseg.system.progress import progress

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("src", "tests", "docs", "benchmarks", "pyproject.toml", "README.md")

_GOLDEN = "tests/learning/test_golden_learning.py"
# The test files that concern a module, in the order in which they are run: those of the longest name that begins the
# path of the module.
TESTS: dict[str, tuple[str, ...]] = {
    "analysis/": (
        "tests/e2e/test_python.py",
        "tests/golden",
        "tests/e2e/test_model_folder.py",
        "tests/e2e/test_cli.py",
    ),
    "analysis/model_folder": ("tests/e2e/test_model_folder.py", "tests/unit/test_model_safety.py"),
    "analysis/onnx": ("tests/unit/test_model_safety.py", "tests/e2e/test_model_folder.py"),
    "analysis/timeline": ("tests/unit/test_timeline.py", "tests/golden"),
    "analysis/untrusted": ("tests/unit/test_model_safety.py", "tests/e2e/test_model_folder.py"),
    "evaluation/": ("tests/e2e/test_evaluation.py", "tests/e2e/test_one_path.py"),
    "evaluation/detection": ("tests/unit/test_detection.py", "tests/e2e/test_evaluation.py"),
    "evaluation/figure": ("tests/unit/test_evaluation_report.py", "tests/unit/test_label_change.py"),
    "evaluation/injected_noise": ("tests/unit/test_injected_noise.py", "tests/unit/test_protocol.py"),
    "evaluation/label_change": ("tests/unit/test_label_change.py",),
    "evaluation/measures": ("tests/unit/test_measures.py", "tests/e2e/test_evaluation.py"),
    "evaluation/predictions": ("tests/unit/test_predictions.py", "tests/e2e/test_evaluation.py"),
    "evaluation/protocol": ("tests/unit/test_protocol.py", "tests/e2e/test_evaluation.py"),
    "evaluation/report": ("tests/unit/test_evaluation_report.py", "tests/e2e/test_evaluation.py"),
    "learning/": (_GOLDEN, "tests/learning/test_cross_fit.py", "tests/learning/test_trainer.py"),
    "learning/saved_passes": ("tests/learning/test_cross_fit.py", "tests/e2e/test_ends.py"),
    "learning/processes": ("tests/learning/test_cross_fit.py", "tests/e2e/test_ends.py"),
    "learning/ensemble": ("tests/learning/test_ensemble.py", _GOLDEN, "tests/e2e/test_model_folder.py"),
    "learning/label_noise": ("tests/learning/test_noise.py", _GOLDEN, "tests/learning/test_evidence.py"),
    "learning/methods/": (_GOLDEN, "tests/learning/test_field_methods.py", "tests/learning/test_settings.py"),
    "learning/methods/emoseg": (
        _GOLDEN,
        "tests/learning/test_evidence.py",
        "tests/learning/test_weigh_labels.py",
        "tests/learning/test_settings.py",
    ),
    "learning/methods/svm_compare": ("tests/learning/test_field_methods.py", "tests/unit/test_compare.py"),
    "learning/methods/__init__": ("tests/learning/test_settings.py", "tests/unit/test_training.py"),
    "learning/methods/sssl": (_GOLDEN, "tests/learning/test_methods.py", "tests/learning/test_settings.py"),
    "learning/networks": (_GOLDEN, "tests/learning/test_methods.py", "tests/learning/test_ensemble.py"),
    "learning/pipeline": (_GOLDEN, "tests/e2e/test_one_path.py", "tests/unit/test_training.py"),
    "learning/semisup": ("tests/learning/test_semisup.py", _GOLDEN),
    "metrics": ("tests/unit/test_metrics.py",),
    "song/": ("tests/unit/test_song.py", _GOLDEN, "tests/golden"),
}


@dataclass(frozen=True)
class Place:
    """A place in the code, and the changes that are possible there: pairs of operator and occurrence."""

    module: str
    line: int
    changes: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Mutant:
    """One change: the module, the line, and the line before and after."""

    module: str
    line: int
    operator: str
    before: str
    after: str
    code: str


def places(module: str, code: str) -> Iterator[Place]:
    """Yield every place of a module that some operator can change."""
    tree = get_ast(code)
    found: dict[tuple[Any, Any], list[tuple[str, int]]] = {}
    for name in operator_names():
        operator_class = get_operator(name)
        if operator_class.arguments():
            continue
        operator = operator_class()
        positions = (position for node in ast_nodes(tree) for position in operator.mutation_positions(node))
        for occurrence, (start, stop) in enumerate(positions):
            found.setdefault((start, stop), []).append((name, occurrence))
    for (start, _), changes in sorted(found.items()):
        yield Place(module, start[0], tuple(changes))


def meaning(code: str) -> str | None:
    """Return the syntax tree without annotations and docstrings, as text; None where the code is not valid."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [part for part in node.body if not _is_text(part)] or [ast.Pass()]
    return ast.dump(tree)


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def draw(rooms: list[str], *, count: int, seed: int) -> list[Mutant]:
    """Return `count` mutants of the modules in some rooms of the package, drawn with a seed."""
    source = ROOT / "src" / "emoseg"
    files = sorted(file for room in rooms for file in _modules(source / room))
    rng = random.Random(seed)
    everywhere = [place for file in files for place in places(str(file.relative_to(source)), file.read_text())]
    rng.shuffle(everywhere)
    mutants: list[Mutant] = []
    for place in everywhere:
        if len(mutants) == count:
            break
        name, occurrence = rng.choice(place.changes)
        code = (source / place.module).read_text()
        changed = mutate_code(code, get_operator(name)(), occurrence)
        if changed is None or meaning(changed) in (None, meaning(code)):
            continue
        pairs = zip(code.splitlines(), changed.splitlines(), strict=False)
        before, after = next((a.strip(), b.strip()) for a, b in pairs if a != b)
        mutants.append(Mutant(place.module, place.line, name.partition("/")[2], before, after, changed))
    return mutants


def _modules(room: Path) -> list[Path]:
    return sorted(room.rglob("*.py")) if room.is_dir() else [room.with_suffix(".py")]


def tests_of(module: str) -> tuple[str, ...]:
    """Return the test files that concern a module, given by its path below the package."""
    names = [name for name in TESTS if module.startswith(name)]
    if not names:
        raise SystemExit(f"{module}: no tests are listed for it in TESTS of {Path(__file__).name}")
    return TESTS[max(names, key=len)]


class Workshop:
    """A copy of the project in which mutants are tested one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / name)

    def passes(self, tests: tuple[str, ...], *, limit_s: float) -> bool | None:
        """Return whether the tests pass; None when they take longer than the limit."""
        environment = os.environ | {"PYTHONPATH": str(self.folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                return process.wait(limit_s) == 0
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return None

    def test(self, mutant: Mutant, *, limit_s: float) -> str:
        """Return what the tests say of a mutant: "noticed", "too long" or "unnoticed"."""
        file = self.folder / "src" / "emoseg" / mutant.module
        before = file.read_text()
        file.write_text(mutant.code)
        try:
            # One file after the other: the first that fails is enough.
            for tests in tests_of(mutant.module):
                passed = self.passes((tests,), limit_s=limit_s)
                if not passed:
                    return "too long" if passed is None else "noticed"
            return "unnoticed"
        finally:
            file.write_text(before)


def main() -> None:
    """Draw, test and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=150, help="mutants")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="mutants that are tested at a time")
    parser.add_argument("--limit", type=float, default=600, help="seconds per test file")
    parser.add_argument("--out", type=Path, help="result file")
    parser.add_argument("--list", action="store_true", help="print the sample, test nothing")
    parser.add_argument(
        "--room",
        action="append",
        help="a room or module of the package; default: learning, song, analysis, metrics, evaluation",
    )
    asked = parser.parse_args()
    rooms = asked.room or ["learning", "song", "analysis", "metrics", "evaluation"]
    mutants = draw(rooms, count=asked.count, seed=asked.seed)
    if asked.list:
        for mutant in mutants:
            print(f"{mutant.module}:{mutant.line}  {mutant.before}  ->  {mutant.after}")
        return
    results = test_all(mutants, workers=asked.workers, limit_s=asked.limit)
    counts = Counter(result for _, result in results)
    noticed = counts["noticed"] + counts["too long"]
    print(f"{noticed} of {len(results)} mutants noticed ({noticed / len(results):.0%})")
    if asked.out:
        rows = [{k: v for k, v in asdict(m).items() if k != "code"} | {"result": result} for m, result in results]
        summary = {"seed": asked.seed, "rooms": rooms, "tried": len(results), "noticed": noticed, "mutants": rows}
        asked.out.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def test_all(mutants: list[Mutant], *, workers: int, limit_s: float) -> list[tuple[Mutant, str]]:
    """Test mutants in several copies of the project; return each with its result, in the same order."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(workers) as pool:
        free = [Workshop(_new(Path(folder, str(i)))) for i in range(workers)]
        every = sorted({tests for mutant in mutants for tests in tests_of(mutant.module)})

        def passes_unchanged(tests: str) -> bool | None:
            workshop = free.pop()
            try:
                return workshop.passes((tests,), limit_s=limit_s)
            finally:
                free.append(workshop)

        with progress("testing without changes", len(every), unit="files", quiet=False) as bar:
            for tests, passed in zip(every, pool.map(passes_unchanged, every), strict=True):
                if not passed:
                    raise SystemExit(f"{tests}: fails, or takes too long, without any change")
                bar.advance()
        with progress("testing mutants", len(mutants), unit="mutants", quiet=False) as bar:

            def tested(mutant: Mutant) -> str:
                workshop = free.pop()
                try:
                    result = workshop.test(mutant, limit_s=limit_s)
                finally:
                    free.append(workshop)
                    bar.advance()
                with bar.hidden():
                    print(f"{result}: {mutant.module}:{mutant.line}: {mutant.before}  ->  {mutant.after}", flush=True)
                return result

            return list(zip(mutants, pool.map(tested, mutants), strict=True))


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    main()
