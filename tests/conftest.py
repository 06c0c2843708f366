"""What all tests share."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from made import Call


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the process before any test module is imported."""
    # A cache of compiled code that runs share can be damaged by one that was killed, and then crashes the others.
    folder = tempfile.TemporaryDirectory(prefix="numba-cache-")
    config.add_cleanup(folder.cleanup)
    os.environ["NUMBA_CACHE_DIR"] = folder.name
    # A shell ignores interrupts for what it runs in the background, and commands that tests start would too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if find_spec("hypothesis"):  # the tests of an installation do without it
        import hypothesis

        # The same examples in every run, and no limit on their time: a busy machine is no reason to fail.
        hypothesis.settings.register_profile("emoseg", deadline=None, derandomize=True)
        hypothesis.settings.load_profile("emoseg")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests out of the user's cache, each other's results out of the next run, and telemetry off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "ORT_DISABLE_TELEMETRY", "1")  # some tests import ONNX Runtime by themselves
        patch.setitem(os.environ, "EMOSEG_CACHE", str(tmp_path_factory.mktemp("emoseg-cache")))
        yield


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Return a function that runs a command in this process."""
    from made import Outcome  # imports emoseg, which the environment above must precede

    from emoseg.cli.app import main

    def run(*args: str | Path) -> Outcome:
        monkeypatch.setattr("sys.argv", ["emoseg", *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        status = ended.value.code or 0
        assert isinstance(status, int)
        return Outcome(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small model folder that is not trained."""
    from made import make_model

    return make_model(tmp_path_factory.mktemp("models") / "tiny")
