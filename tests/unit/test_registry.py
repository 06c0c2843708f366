"""Extension points: built-in names, entry points of other packages, names registered by a program."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from packages import make_package

from emoseg.errors import ConfigError, EmosegWarning
from emoseg.registry import Registry

GROUP = "emoseg.test_tones"
Install = Callable[..., None]


def tones(check: Callable[[object], float] | None = None) -> Registry[float]:
    return Registry[float]("tone", group=GROUP, builtin={"tau": "math:tau", "a": 440.0}, check=check)


def value_in_worker(name: str) -> float:
    return tones()[name]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that installs a package: its entry points, and a module of the same name."""

    def put(name: str, points: dict[str, str], code: str = "") -> None:
        monkeypatch.syspath_prepend(make_package(tmp_path, name, {GROUP: points}, code))

    return put


def test_builtin_names_keep_their_order_and_references_are_imported() -> None:
    registry = tones()
    assert registry.names() == ("tau", "a")
    assert registry["tau"] == pytest.approx(6.283185307179586)
    assert registry["a"] == 440.0
    assert registry.origin("a") == "emoseg"
    assert list(registry) == ["tau", "a"]
    assert len(registry) == 2
    assert "a" in registry
    assert "b" not in registry
    assert 3 not in registry


def test_a_reference_is_imported_on_first_use_only() -> None:
    code = (
        "import sys; from emoseg.registry import Registry;"
        "r = Registry('x', group='emoseg.none', builtin={'c': 'colorsys:TWO_THIRD'});"
        "r.names(); assert 'c' in r; assert 'colorsys' not in sys.modules; r['c']; assert 'colorsys' in sys.modules;"
        "assert not {'numpy', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_one_line_with_the_closest_one() -> None:
    registry = tones()
    registry.register("middle-c", 261.6)
    with pytest.raises(
        ConfigError, match=r"^tone 'Midle-c': must be one of tau, a, middle-c; did you mean 'middle-c'\?$"
    ):
        registry["Midle-c"]
    with pytest.raises(ConfigError, match=r"^tone 'xyz': must be one of tau, a, middle-c$"):
        registry["xyz"]
    with pytest.raises(ConfigError, match="must be one of"):
        registry.origin("xyz")


def test_a_name_is_registered_in_one_line() -> None:
    registry = tones()
    registry.register("c", 261.6)
    assert registry["c"] == 261.6
    assert registry.names() == ("tau", "a", "c")
    assert registry.origin("c") == "this program"
    assert "c" not in tones()


def test_a_taken_name_is_refused_unless_it_may_be_replaced() -> None:
    registry = tones()
    registry.register("c", 1.0)
    with pytest.raises(ConfigError, match="tone 'c': is the name of another tone, from this program"):
        registry.register("c", 2.0)
    registry.register("c", 2.0, replace=True)
    assert registry["c"] == 2.0
    with pytest.raises(ConfigError, match="tone 'a': is the name of another tone, from emoseg"):
        registry.register("a", 2.0, replace=True)
    assert registry["a"] == 440.0


@pytest.mark.parametrize("name", ["", " c", "a:b", "a/b", "-c", "é", "x" * 65, "c\n"])
def test_a_name_that_could_not_be_typed_is_refused(name: str) -> None:
    registry = tones()
    with pytest.raises(ConfigError, match="a name has 1 to 64 letters"):
        registry.register(name, 1.0)
    assert registry.names() == ("tau", "a")


def test_a_thing_that_does_not_fit_is_refused_with_the_rule() -> None:
    def check(thing: object) -> float:
        if not isinstance(thing, int):
            raise TypeError("must be an int\nand more")
        return thing / 2

    registry = tones(check)
    registry.register("c", 3)
    assert registry["c"] == 1.5
    assert registry["a"] == 440.0  # what emoseg brings is not checked
    with pytest.raises(ConfigError, match=r"tone 'd': cannot be registered: TypeError: must be an int$"):
        registry.register("d", "3")
    assert "d" not in registry


def test_an_installed_package_brings_a_name(install: Install) -> None:
    registry = tones()
    assert "c" not in registry
    install("tonepack", {"c": "tonepack:C", "b": "tonepack:B"}, "C = 261.6\nB = 246.9\n")
    assert registry.names() == ("tau", "a", "b", "c")
    assert registry["c"] == 261.6
    assert registry.origin("c") == "tonepack 1.2"


def test_a_worker_process_finds_what_a_package_brings(install: Install) -> None:
    install("workpack", {"c": "workpack:C"}, "C = 261.6\n")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(value_in_worker, "c").result(timeout=60) == 261.6


def test_a_package_that_fails_to_import_is_named_and_harms_no_other_name(install: Install) -> None:
    install("brokenpack", {"c": "brokenpack:C", "d": "brokenpack:D"}, "C = 1.0\nimport no_such_package\n")
    install("goodpack", {"e": "goodpack:E", "f": "goodpack:F"}, "E = 2.0\n")
    registry = tones()
    assert registry.names() == ("tau", "a", "c", "d", "e", "f")
    rule = (
        r"^tone 'c': cannot be loaded from brokenpack:C of the package brokenpack 1.2: ModuleNotFoundError: No module"
    )
    with pytest.raises(ConfigError, match=rule):
        registry["c"]
    with pytest.raises(ConfigError, match=r"tone 'f': .* package goodpack 1.2: AttributeError"):
        registry["f"]
    assert registry["e"] == 2.0


def test_what_a_package_brings_is_checked(install: Install) -> None:
    install("checkpack", {"c": "checkpack:C"}, "C = 'no number'\n")
    with pytest.raises(ConfigError, match=r"package checkpack 1.2: ValueError: could not convert"):
        tones(float)["c"]  # type: ignore[arg-type]


def test_a_builtin_name_keeps_its_meaning(install: Install) -> None:
    install("greedypack", {"a": "greedypack:A"}, "A = 1.0\n")
    rule = "tone 'a' of the package greedypack 1.2 is ignored: emoseg has a tone of this name"
    with pytest.warns(EmosegWarning, match=rule):
        assert tones()["a"] == 440.0
    with pytest.warns(EmosegWarning, match=rule):
        assert tones().names() == ("tau", "a")


def test_an_entry_point_with_an_odd_name_is_ignored(install: Install) -> None:
    install("oddpack", {"b:c": "oddpack:A"}, "A = 1.0\n")
    with pytest.warns(EmosegWarning, match="tone 'b:c' of the package oddpack 1.2 is ignored: a name has"):
        assert tones().names() == ("tau", "a")


def test_a_name_of_two_packages_is_an_error_when_it_is_used(install: Install) -> None:
    install("onepack", {"c": "onepack:C"}, "C = 1.0\n")
    install("twopack", {"c": "twopack:C"}, "C = 2.0\n")
    registry = tones()
    assert registry.names() == ("tau", "a", "c")
    with pytest.raises(ConfigError, match=r"tone 'c': the packages twopack 1.2 and onepack 1.2 both bring one"):
        registry["c"]
    registry.register("c", 3.0, replace=True)
    assert registry["c"] == 3.0
