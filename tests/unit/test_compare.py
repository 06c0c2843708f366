"""The openSMILE frontend: real features of real sound, the same in every batch, and its terms said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emoseg.config import CompareConfig, SegmentConfig
from emoseg.errors import AudioError, ConfigError, MissingExtraError
from emoseg.frontends import Frontend, build_frontend, compare
from emoseg.frontends.compare import LicenceWarning
from emoseg.types import Float32

pytest.importorskip("opensmile")
SEGMENT = SegmentConfig()


@pytest.fixture(scope="module")
def frontend() -> Frontend:
    with pytest.warns(LicenceWarning, match="research and private use"):
        return build_frontend(CompareConfig(), SEGMENT)


def sounds() -> Float32:
    """Return a quiet and a loud low tone, a high tone and silence."""
    time = np.arange(SEGMENT.length) / SEGMENT.sample_rate_hz
    low, high = np.sin(2 * np.pi * 220 * time), np.sin(2 * np.pi * 3000 * time)
    return np.stack([0.05 * low, 0.5 * low, 0.2 * high, 0 * time]).astype(np.float32)


def test_functionals_tell_level_and_brightness(frontend: Frontend) -> None:
    found = frontend(sounds())
    assert found.shape == (4, 6373)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert frontend.feature_names is not None
    names = list(frontend.feature_names)
    level = found[:, names.index("pcm_RMSenergy_sma_amean")]
    assert level[1] == pytest.approx(10 * level[0], rel=0.05)
    assert level[3] == pytest.approx(0, abs=1e-4)
    centroid = found[:, names.index("pcm_fftMag_spectralCentroid_sma_amean")]
    assert centroid[2] > 4 * centroid[1]


def test_a_segment_does_not_depend_on_its_batch(frontend: Frontend) -> None:
    x = sounds()
    whole = frontend(x)
    for i in range(len(x)):
        np.testing.assert_array_equal(frontend(x[i : i + 1])[0], whole[i])


def test_bad_input_is_refused(frontend: Frontend) -> None:
    with pytest.raises(ConfigError):
        frontend(np.zeros((1, 100), dtype=np.float32))
    with pytest.raises(AudioError):
        frontend(np.full((1, SEGMENT.length), np.nan, dtype=np.float32))
    with pytest.raises(ConfigError, match=r"a segment of 0\.3 s is too short; at least 0\.5 s"):
        build_frontend(CompareConfig(), SegmentConfig(length_s=0.3, hop_s=0.3))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compare, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="pip install opensmile"):
        build_frontend(CompareConfig(), SEGMENT)
