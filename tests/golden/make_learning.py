"""Write `learning.json`: what every method learns from small planted data, beside the version of the method.

    PYTHONPATH=tests/shared python tests/golden/make_learning.py

Run it after a change that is meant to change what a method learns, and raise the method's `version`.
"""

from __future__ import annotations

import json
from pathlib import Path

from golden_learning import cases, learnt_values

from emoseg.learning.methods import METHODS

FILE = Path(__file__).with_name("learning.json")


def main() -> None:
    lines = []
    for name, (data, method) in cases().items():
        values = {"version": METHODS[method].version, **learnt_values(data, method)}
        lines.append(f"{json.dumps(name)}: {json.dumps(values, separators=(',', ':'))}")
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
