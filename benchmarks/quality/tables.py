"""Print the tables of README.md and docs/methods.md from the result files in this folder: nothing is copied by hand.

Usage: python tables.py main | field | detection | real | ablation
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CONDITIONS = {
    "clean": "as they are",
    "segment0.4": "40 % of segments flipped",
    "splice0.5": "splice: second half of half the songs from another class",
    "song0.2": "20 % of songs wrong",
    "song0.4": "40 % of songs wrong",
    "fraction0.25": "25 % of the songs labelled, the others unlabelled",
    "fraction0.1": "10 % labelled",
}
SHORT = ["clean", "40 % segments", "splice", "20 % songs", "40 % songs", "25 % labelled", "10 % labelled"]


def main() -> None:
    made = {
        "main": main_table,
        "field": field_table,
        "detection": detection_table,
        "real": real_table,
        "ablation": ablation_table,
    }
    sys.stdout.write("\n".join(made[sys.argv[1]]()) + "\n")


def main_table() -> list[str]:
    """`mixup`, `inherit` and the default: three seeds."""
    rows = []
    for key, name in CONDITIONS.items():
        result = _read(f"4q-descriptors-{key}.json")
        methods, fair = result["methods"], result["fair_baseline"]
        own, plain = methods["emoseg"], methods["mixup"]
        gain = next(d for d in result["differences"] if d["method"] == "emoseg" and d["minus"] == fair)["macro_f1"]
        found = own["detection"]
        areas = ", ".join(_short(m["detection"]["auroc"]) for m in (plain, own)) if "auroc" in found else ""
        flagged = f"{100 * found['flagged']:.0f} % ({100 * found['true_rate']:.0f} %)"
        cells = [name, *(_with_interval(methods[m]["macro_f1"]) for m in ("mixup", "inherit", "emoseg"))]
        rows.append([*cells, _points(gain), areas, flagged])
    return _table(
        [
            "training labels",
            "`mixup`",
            "`inherit`",
            "`emoseg` (default)",
            "minus the better plain one, points",
            "AUROC of finding wrong labels: `mixup`, `emoseg`",
            "flagged (true)",
        ],
        rows,
    )


def field_table() -> list[str]:
    """Song macro-F1 of every method on every condition: one seed."""
    results = [_read(f"4q-field-{key}.json")["methods"] for key in CONDITIONS]
    return _table(
        ["method", *SHORT, "s, clean"],
        [
            [f"`{m}`", *(_short(r[m]["macro_f1"]["mean"]) for r in results), f"{results[0][m]['seconds']:.0f}"]
            for m in results[0]
        ],
    )


def detection_table() -> list[str]:
    """AUROC of finding wrong labels, and the share that is flagged: one seed."""
    keys = ["clean", "segment0.4", "splice0.5", "song0.2", "song0.4"]
    results = [_read(f"4q-field-{key}.json")["methods"] for key in keys]
    rows = []
    for m in results[0]:
        found = [r[m]["detection"] for r in results]
        cells = [f"{_short(d['auroc'])}, {100 * d['flagged']:.0f} %" for d in found[1:]]
        rows.append([f"`{m}`", f"{100 * found[0]['flagged']:.0f} %", *cells])
    return _table(["method", "clean: flagged", *SHORT[1:5]], rows)


def real_table() -> list[str]:
    """How well each method ranks real wrong labels, and its song macro-F1 against the labels that it was given."""
    results = [_read(f"{corpus}-descriptors.json")["methods"] for corpus in ("emopia", "vgmidi")]
    head, found = ["method"], [{m: r[m]["detection_real"][0] for m in r} for r in results]
    for name, of in zip(("EMOPIA", "VGMIDI"), found, strict=True):
        head += [f"{name}: AUROC (wrong: {100 * of['emoseg']['base_rate']:.1f} %)", "within songs", "F1"]
    rows = []
    for m in results[0]:
        row = [f"`{m}`"]
        for result, of in zip(results, found, strict=True):
            area = _with_interval({"mean": of[m]["auroc"], "interval": of[m]["interval"]})
            row += [area, _short(of[m]["within_song"]), _short(result[m]["macro_f1"]["mean"])]
        rows.append(row)
    return _table(head, rows)


def ablation_table() -> list[str]:
    """What the default loses without a part, in points of macro-F1, and its AUROC without it."""
    conditions = _read("ablation.json")["conditions"]
    rows = []
    for part in next(iter(conditions.values())):
        cells = []
        for found in conditions.values():
            row = found[part]
            area = "" if row["auroc"] is None else f"; {_short(row['auroc'])}"
            cells.append((_short(row["macro_f1"]) if part == "the whole" else _gain(row["gain"])) + area)
        rows.append([part, *cells])
    return _table(["without", *SHORT], rows)


def _read(name: str) -> dict[str, Any]:
    return dict(json.loads((HERE / name).read_text(encoding="utf-8")))


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]]


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _with_interval(score: dict[str, Any]) -> str:
    return "{} ({} to {})".format(_short(score["mean"]), *map(_short, score["interval"]))


def _points(difference: dict[str, Any]) -> str:
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * x for x in (difference["mean"], *difference["interval"])))


def _gain(difference: dict[str, Any]) -> str:
    """Return points; 0 where nothing changed on any song."""
    low, high = difference["interval"]
    return "0" if low == high == 0 else f"{-100 * difference['mean']:+.1f}"


if __name__ == "__main__":
    main()
