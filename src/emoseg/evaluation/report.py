"""The result of an evaluation as tables on the terminal and as a file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emoseg.system.console import json_text
from emoseg.system.files import write_whole
from emoseg.system.names import printable
from emoseg.system.unfinished import unfinished_folder

if TYPE_CHECKING:
    from rich.console import Console


def print_result(result: dict[str, Any], console: Console) -> None:
    """Print a result as tables.

    Parameters
    ----------
    result : dict
        As `evaluate` returns it or a result file holds it.
    console : rich.console.Console
    """
    corpus, protocol = result["corpus"], result["protocol"]
    seeds = len(protocol["seeds"])
    labelled = "" if protocol["fraction"] == 1 else f", {protocol['fraction']:.0%} of the training songs labelled"
    split = protocol.get("test_split")
    parted = f"{protocol['folds']} folds"
    if split:
        parted = f"learnt from {split['train_songs']}, tested on {split['test_songs']} ({printable(split['parts'])})"
    console.print(
        f"{corpus['name']}: {corpus['songs']} songs, {corpus['segments']} segments; {parted} x "
        f"{seeds} seed{'s' * (seeds != 1)}, grouped by {protocol['group']}, noise {protocol['noise']}{labelled}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    for line in split["warnings"] if split else []:
        console.print(printable(line), highlight=False, markup=False, soft_wrap=True)
    for line in corpus["left_out"]:
        console.print(printable(f"left out: {line}"), highlight=False, markup=False, soft_wrap=True)
    _print_scores(result, console)
    _print_detection(result, console)
    _print_detection_real(result, console)


def _print_scores(result: dict[str, Any], console: Console) -> None:
    """Print one row per method: its score, and how it differs from the first method and from the fair baseline."""
    from rich.table import Table

    bases = list(dict.fromkeys(row["minus"] for row in result["differences"]))
    differences = {(row["method"], row["minus"]): row["macro_f1"] for row in result["differences"]}
    truth = any(m["segment_macro_f1"] is not None for m in result["methods"].values())
    table = Table("songs", "F1", "95 %", box=None)
    for base in bases:
        table.add_column(f"- {base}" + (" (fair)" if base == result["fair_baseline"] else ""), no_wrap=True)
    for name in [*(["segments"] if truth else []), "ECE, after", "s"]:
        table.add_column(name, no_wrap=True)
    for name, m in result["methods"].items():
        table.add_row(
            name,
            f"{m['macro_f1']['mean']:.3f}",
            "{:.3f}-{:.3f}".format(*m["macro_f1"]["interval"]),
            *(_points(differences.get((name, base))) for base in bases),
            *([f"{m['segment_macro_f1']:.3f}"] if truth else []),
            f"{m['calibration_error_before']:.3f}, {m['calibration_error']:.3f}",
            f"{m['seconds']:.0f}",
        )
    console.print(table)
    if bases:
        console.print("Differences in points of macro-F1, paired, with 95 % intervals over songs.", highlight=False)


def _points(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    low, high = found["interval"]
    return f"{100 * found['mean']:+.1f} ({100 * low:+.1f} {100 * high:+.1f})"


def _print_detection(result: dict[str, Any], console: Console) -> None:
    """Print one row per method: how well it finds wrong labels among the training segments."""
    from rich.table import Table

    columns = {
        "found": ("hits", "{:.0f}"),
        "AUROC": ("auroc", "{:.3f}"),
        "by song": ("song_auroc", "{:.3f}"),
        "AP": ("average_precision", "{:.3f}"),
        "lift": ("lift", "{:.2f}"),
        "flagged": ("flagged", "{:.1%}"),
        "precision": ("precision", "{:.0%}"),
        "recall": ("recall", "{:.0%}"),
        "corrected": ("corrected_accuracy", "{:.0%}"),
        "estimated": ("estimated_rate", "{:.1%}"),
    }
    detections = {name: m["detection"] for name, m in result["methods"].items()}
    shown = {title: column for title, column in columns.items() if any(column[0] in d for d in detections.values())}
    console.print(f"\nwrong labels among the training segments: {_wrong_labels(result)}", highlight=False)
    table = Table("labels", *shown, box=None)
    for name, found in detections.items():
        table.add_row(name, *(form.format(found[key]) if key in found else "" for key, form in shown.values()))
    console.print(table)
    without = [
        f"{name} {n} of {len(result['methods'][name]['folds'])}"
        for name, found in detections.items()
        if "recall" in found and (n := found.get("trainings_without_flags", 0))
    ]
    if without:
        line = f"precision and corrected leave out trainings that flag no label: {', '.join(without)}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _wrong_labels(result: dict[str, Any]) -> str:
    """Return the share of wrong labels and their number per training, as far as the truth is known."""
    detections = [m["detection"] for m in result["methods"].values()]
    rates = sorted({round(d["true_rate"], 4) for d in detections if "true_rate" in d})
    # Without injected noise and without true labels of segments, the rate of 0 is an assumption.
    truth = any(m["segment_macro_f1"] is not None for m in result["methods"].values())
    if not rates or not (any(rates) or truth):
        return "not known"
    counted = next((f", {d['wrong']:.0f} per training" for d in detections if "wrong" in d), "")
    return f"{rates[0]:.1%}{counted}"


def _print_detection_real(result: dict[str, Any], console: Console) -> None:
    """Print one table per margin: how well each method finds labels that are wrong by the corpus' own truth."""
    from rich.table import Table

    found = {name: m["detection_real"] for name, m in result["methods"].items() if m.get("detection_real")}
    if not found:
        return
    bases = list(dict.fromkeys(row["minus"] for row in result["differences"]))
    differences = {(row["method"], row["minus"]): row["detection_real"] for row in result["differences"]}
    for i, first in enumerate(next(iter(found.values()))):
        where = f", at least {first['margin']:g} from the axes" if first["margin"] else ""
        counted = f"{first['wrong']} of {first['units']} {first['unit']}s"
        rate = "" if first["base_rate"] is None else f" ({first['base_rate']:.1%})"
        console.print(
            f"\nwrong by the corpus' own truth{where}: {counted}{rate}; "
            f"{first['mixed_songs']} of {first['songs']} songs have both kinds",
            highlight=False,
            soft_wrap=True,
        )
        if first["auroc"] is None:
            continue
        table = Table("truth", "AUROC", "95 %", "AP", "within songs", "95 %", *(f"- {b}" for b in bases), box=None)
        for name, margins in found.items():
            figures = margins[i]
            of_bases = [differences[name, base][i] if name != base else None for base in bases]
            table.add_row(
                name,
                *(_score(figures[key]) for key in ("auroc", "interval", "average_precision")),
                *(_score(figures[key]) for key in ("within_song", "within_interval")),
                *(_points(d if d and d["interval"] else None) for d in of_bases),
            )
        console.print(table)


def _score(value: float | list[float] | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else "{:.3f}-{:.3f}".format(*value)


def write_result(result: dict[str, Any], out: Path) -> None:
    """Write a result file, whole or not at all, and delete the results of single trials that were kept until then.

    Raises
    ------
    EmosegError
        The file cannot be written.
    """
    write_whole(out, json_text(result, indent=1) + "\n")
    shutil.rmtree(unfinished_folder(out), ignore_errors=True)
