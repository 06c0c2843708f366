"""Figures: the result of an evaluation, and how often segments differ from their song's label."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emoseg.errors import ConfigError, MissingExtraError
from emoseg.system.files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from emoseg.evaluation.label_change import LabelChange, Share

FORMATS = (".png", ".svg", ".pdf")
_SCORE, _OTHER, _TRUTH = "#1f4e79", "#c2571a", "#555555"


def require_figure(file: Path) -> None:
    """Check before a long evaluation that its figure can be written.

    Raises
    ------
    ConfigError
        The suffix is not .png, .svg or .pdf, or the folder does not exist.
    MissingExtraError
        matplotlib is not installed.
    """
    if file.suffix.lower() not in FORMATS:
        raise ConfigError(f"{file}: a figure must end in {', '.join(FORMATS)}")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"{file}: its folder does not exist")
    if find_spec("matplotlib") is None:
        raise MissingExtraError("a figure", "plot")


def write_figure(result: dict[str, Any], file: Path) -> None:
    """Draw a result, as `evaluate` returns it, into a file in the format of its suffix.

    Raises
    ------
    ConfigError, MissingExtraError
        As for `require_figure`.
    """
    require_figure(file)
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    methods = result["methods"]
    found = any("auroc" in m["detection"] for m in methods.values())
    figure = Figure(
        figsize=(11 if found else 8, 1.6 + 0.34 * len(methods)), layout=ConstrainedLayoutEngine(wspace=0.06)
    )
    axes = figure.subplots(1, 3 if found else 2, sharey=True, squeeze=False)[0]
    _draw_scores(axes[0], result)
    if found:
        _draw_detection(axes[1], methods)
    _draw_rates(axes[-1], methods, truth=found)
    axes[0].set_yticks(range(len(methods)), list(methods))
    axes[0].invert_yaxis()
    for panel in axes:
        panel.grid(axis="x", color="#dddddd", linewidth=0.6)
        panel.set_axisbelow(True)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.tick_params(axis="y", length=0)
    figure.suptitle(_title(result), fontsize=10)
    _save(figure, file)


def _title(result: dict[str, Any]) -> str:
    corpus, protocol = result["corpus"], result["protocol"]
    seeds = len(protocol["seeds"])
    labelled = "" if protocol["fraction"] == 1 else f", {protocol['fraction']:.0%} labelled"
    split = protocol.get("test_split")
    parted = f"{split['test_songs']} tested ({split['parts']})" if split else f"{protocol['folds']} folds"
    return (
        f"{corpus['name']}, {corpus['songs']} songs, {parted} x {seeds} seed{'s' * (seeds != 1)} by "
        f"{protocol['group']}, noise {protocol['noise']}{labelled}"
    )


def _draw_scores(panel: Axes, result: dict[str, Any]) -> None:
    """Draw macro-F1 with its interval, and the value of every seed as a small mark."""
    for y, m in enumerate(result["methods"].values()):
        mean, (low, high) = m["macro_f1"]["mean"], m["macro_f1"]["interval"]
        panel.plot([low, high], [y, y], color=_SCORE, linewidth=1.6)
        panel.plot(m["macro_f1"]["by_seed"], [y] * len(m["macro_f1"]["by_seed"]), "|", color=_SCORE, markersize=8)
        panel.plot(mean, y, "o", color=_SCORE, markersize=6)
    if fair := result["fair_baseline"]:
        panel.axvline(result["methods"][fair]["macro_f1"]["mean"], color=_TRUTH, linewidth=1, linestyle=":")
    dotted = f"\ndotted: fair baseline ({fair})" if fair else ""
    panel.set_xlabel(f"song macro-F1, 95 % interval, each seed{dotted}", fontsize=9)


def _draw_detection(panel: Axes, methods: dict[str, Any]) -> None:
    """Draw AUROC and average precision of finding wrong labels."""
    for key, colour, mark, name in (
        ("auroc", _SCORE, "o", "AUROC"),
        ("average_precision", _OTHER, "D", "average precision"),
    ):
        points = [(m["detection"][key], y) for y, m in enumerate(methods.values()) if key in m["detection"]]
        panel.plot(*zip(*points, strict=True), mark, color=colour, label=name, markersize=6)
    panel.set_xlabel("wrong labels found", fontsize=9)
    _draw_legend(panel)


def _draw_rates(panel: Axes, methods: dict[str, Any], *, truth: bool) -> None:
    """Draw how many labels each method flags and thinks wrong, and how many are."""
    for key, colour, mark, name in (
        ("flagged", _SCORE, "o", "flagged"),
        ("estimated_rate", _OTHER, "D", "estimated wrong"),
    ):
        values = [100 * m["detection"][key] for m in methods.values()]
        panel.plot(values, range(len(values)), mark, color=colour, label=name, markersize=7 if mark == "o" else 4)
    if truth:
        rate = 100 * next(iter(methods.values()))["detection"]["true_rate"]
        panel.axvline(rate, color=_TRUTH, linewidth=1, linestyle="--", label="truly wrong")
    panel.set_xlim(left=min(-2.0, panel.get_xlim()[0]))
    panel.set_xlabel("% of training labels", fontsize=9)
    _draw_legend(panel)


def _draw_legend(panel: Axes) -> None:
    """Put the legend above the panel, in one row."""
    _, names = panel.get_legend_handles_labels()
    panel.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(names))


def write_label_change_figure(change: LabelChange, file: Path) -> None:
    """Draw the shares of wrong inherited labels by segment length, by label and by distance from the axes.

    Raises
    ------
    ConfigError, MissingExtraError
        As for `require_figure`.
    EmosegError
        The file cannot be written.
    """
    require_figure(file)
    from matplotlib.figure import Figure

    panels = [
        (draw, shares)
        for draw, shares in (
            (_draw_by_length, change.by_length),
            (_draw_by_label, change.by_class),
            (_draw_by_distance, change.by_margin),
        )
        if shares
    ]
    figure = Figure(figsize=(3.6 * len(panels), 3.2), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, (draw, shares) in zip(axes, panels, strict=True):
        draw(panel, [share for share in shares if share.windows])
        panel.spines[["top", "right"]].set_visible(False)
    shown = [s.interval[1] if s.interval else s.rate for _, shares in panels for s in shares if s.windows]
    axes[0].set_ylim(0, 112 * max(*shown, 0.01))
    axes[0].set_ylabel("wrong inherited labels (%)")
    rule = f"\n{change.space.rule}" if change.space.rule else ""
    figure.suptitle(
        f"{change.corpus}, {change.songs} songs, {change.unit}, space {change.space.name}{rule}", fontsize=9
    )
    _save(figure, file)


def _draw_by_length(panel: Axes, shares: Sequence[Share]) -> None:
    lengths = [float(share.name.removesuffix(" s")) for share in shares]
    low, high = zip(*(share.interval or (share.rate, share.rate) for share in shares), strict=True)
    panel.fill_between(lengths, [100 * x for x in low], [100 * x for x in high], alpha=0.2, linewidth=0)
    panel.plot(lengths, [100 * share.rate for share in shares], marker="o", markersize=4)
    panel.set_xlabel("segment length (s)")


def _draw_by_label(panel: Axes, shares: Sequence[Share]) -> None:
    _draw_bars(panel, [share.name for share in shares], shares)
    panel.set_xlabel("song's label")


def _draw_by_distance(panel: Axes, shares: Sequence[Share]) -> None:
    _draw_bars(panel, [share.name.removeprefix("at least ") for share in shares], shares)
    panel.set_xlabel("least distance from both axes")


def _draw_bars(panel: Axes, names: Sequence[str], shares: Sequence[Share]) -> None:
    rates = [100 * share.rate for share in shares]
    bars = panel.bar(range(len(names)), rates, width=0.7)
    panel.bar_label(bars, [f"{rate:.1f}" for rate in rates], fontsize=8)
    panel.set_xticks(range(len(names)), names, fontsize=8)


def _save(figure: Figure, file: Path) -> None:
    with written_whole(file, suffix=file.suffix) as temporary:
        figure.savefig(temporary, format=file.suffix[1:].lower(), dpi=150)
