"""What every method learns from small planted data is what it learnt before, until its version is raised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_learning import cases, learnt_values

from emoseg.learning.methods import METHODS

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "learning.json").read_text())
CASES = cases()
REMEDY = "raise the method's version and run tests/golden/make_learning.py if that is intended"

# Sums of floating-point numbers have other last digits on other processors, and 60 to 90 steps of learning amplify
# them. On one processor the values are the same to the last digit.
TOLERANCE = 2e-3


def test_all_cases_have_values() -> None:
    assert list(CASES) == list(GOLDEN)


@pytest.mark.parametrize("case", list(CASES))
def test_a_method_learns_what_it_learnt_before(case: str) -> None:
    data, method = CASES[case]
    golden = dict(GOLDEN[case])
    assert golden.pop("version") == METHODS[method].version, f"{method} has a new version: run make_learning.py"
    values = learnt_values(data, method)
    assert abs(golden.pop("flagged") - values.pop("flagged")) <= 1, f"{method} flags other labels: {REMEDY}"
    assert list(values) == list(golden)
    for name, expected in golden.items():
        if name == "new songs":
            for kind, probabilities in expected.items():
                compare(values[name][kind], probabilities, f"{method}: {kind} probabilities of new songs")
        elif name == "records":
            for record, known in zip(values[name], expected, strict=True):
                compare(record, known, f"{method}: what is recorded of a pass")
        elif expected is None:
            assert values[name] is None
        else:
            compare(values[name], expected, f"{method}: {name}")


def compare(values: Any, expected: Any, what: str) -> None:
    found, known = (np.array(numbers, dtype=np.float64) for numbers in (values, expected))  # None becomes NaN
    message = f"{what} changed: {REMEDY}"
    np.testing.assert_allclose(found, known, rtol=TOLERANCE, atol=TOLERANCE, err_msg=message)
