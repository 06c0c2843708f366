"""What all tests share."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the process before any test module is imported."""
    # A cache of compiled code that runs share can be damaged by one that was killed, and then crashes the others.
    folder = tempfile.TemporaryDirectory(prefix="numba-cache-")
    config.add_cleanup(folder.cleanup)
    os.environ["NUMBA_CACHE_DIR"] = folder.name
    # A shell ignores interrupts for what it runs in the background, and commands that tests start would too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests out of the user's cache, each other's results out of the next run, and telemetry off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "ORT_DISABLE_TELEMETRY", "1")  # some tests import ONNX Runtime by themselves
        patch.setitem(os.environ, "EMOSEG_CACHE", str(tmp_path_factory.mktemp("emoseg-cache")))
        yield
