"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests out of the user's cache, each other's results out of the next run, and telemetry off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "ORT_DISABLE_TELEMETRY", "1")  # some tests import ONNX Runtime by themselves
        patch.setitem(os.environ, "EMOSEG_CACHE", str(tmp_path_factory.mktemp("emoseg-cache")))
        yield
