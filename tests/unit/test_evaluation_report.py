"""What the result of an evaluation looks like on the terminal and as figures."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from trials import result

from emoseg.evaluation import print_result
from emoseg.evaluation.figure import write_figure


def printed(data: dict[str, Any]) -> str:
    screen = io.StringIO()
    print_result(data, Console(file=screen, width=100))
    return "\n".join(line.rstrip() for line in screen.getvalue().splitlines())


def changed(**detection: Any) -> dict[str, Any]:
    """Return the made-up result, with other figures of detection for all methods; None removes one."""
    data = copy.deepcopy(result(truth=False))
    for method in data["methods"].values():
        method["detection"] |= detection
        method["detection"] = {key: value for key, value in method["detection"].items() if value is not None}
    return data


def test_the_tables_are_complete() -> None:
    assert printed(result()) == (Path(__file__).parent / "data" / "evaluation.txt").read_text(encoding="utf-8").rstrip()


def test_wrong_labels_are_counted_only_where_the_truth_is_known() -> None:
    assert "wrong labels among the training segments: 25.0%, 2 per training\n" in printed(changed())
    nothing = dict.fromkeys(["wrong", "hits", "auroc", "recall", "precision"])
    line = "wrong labels among the training segments:"
    assert f"{line} not known\n" in printed(changed(true_rate=0.0, **nothing))
    assert f"{line} not known\n" in printed(changed(true_rate=None, **nothing))
    known = changed(true_rate=0.0, **nothing)
    for method in known["methods"].values():
        method["segment_macro_f1"] = 0.5
    assert f"{line} 0.0%\n" in printed(known)


def test_trainings_without_flags_are_named() -> None:
    text = "precision and corrected leave out trainings that flag no label:"
    assert f"{text} emoseg 1 of 4" in printed(changed())
    assert text not in printed(changed(trainings_without_flags=0))
    assert text not in printed(changed(recall=None)), "no table has precision"


def test_a_test_split_and_a_share_of_labels_stand_in_the_head() -> None:
    data = copy.deepcopy(result())
    data["protocol"] |= {"seeds": [0], "fraction": 0.25, "noise": "song:0.2", "group": "artist"}
    split = {"parts": "te\x07st", "train_songs": 4, "test_songs": 2, "warnings": ["w\x07arned"]}
    data["protocol"]["test_split"] = split
    data["corpus"]["left_out"] = ["a\x1b.wav: is silent"]
    head = printed(data).splitlines()[:3]
    split_and_labels = "learnt from 4, tested on 2 (te\\x07st) x 1 seed, grouped by artist, noise song:0.2, 25% of the"
    assert head == [
        f"made: 6 songs, 12 segments; {split_and_labels} training songs labelled",
        "w\\x07arned",
        "left out: a\\x1b.wav: is silent",
    ]


def drawn(data: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    figure = pytest.importorskip("matplotlib.figure")
    kept: list[Any] = []
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, *_, **__: kept.append(self))
    write_figure(data, tmp_path / "figure.svg")
    return kept[0]


def test_the_figure_shows_scores_detection_and_rates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = result()
    scores, detection, rates = drawn(data, monkeypatch, tmp_path).axes
    methods = data["methods"]
    for y, method in enumerate(methods.values()):
        interval, seeds, mean = scores.lines[3 * y : 3 * y + 3]
        assert list(interval.get_xdata()) == method["macro_f1"]["interval"]
        assert list(seeds.get_xdata()) == method["macro_f1"]["by_seed"]
        assert list(mean.get_xdata()) == [method["macro_f1"]["mean"]]
        assert {*interval.get_ydata(), *seeds.get_ydata(), *mean.get_ydata()} == {y}
    assert list(scores.lines[9].get_xdata()) == [methods["inherit"]["macro_f1"]["mean"]] * 2
    assert "dotted: fair baseline (inherit)" in scores.get_xlabel()
    assert [label.get_text() for label in scores.get_yticklabels()] == ["inherit", "mixup", "emoseg"]
    assert scores.yaxis_inverted()
    area, precision = detection.lines
    assert list(area.get_xdata()) == [0.8125] * 3
    assert list(precision.get_xdata()) == [0.5] * 3
    assert list(area.get_ydata()) == [0, 1, 2]
    assert [text.get_text() for text in detection.get_legend().get_texts()] == ["AUROC", "average precision"]
    flagged, estimated, true = rates.lines
    assert list(flagged.get_xdata()) == [50.0, 50.0, 37.5]
    assert list(estimated.get_xdata()) == [18.75] * 3
    assert list(true.get_xdata()) == [25.0, 25.0]
    assert [text.get_text() for text in rates.get_legend().get_texts()] == ["flagged", "estimated wrong", "truly wrong"]
    assert detection.figure.get_size_inches().tolist() == pytest.approx([11, 1.6 + 3 * 0.34])
    assert {text.get_fontsize() for panel in (detection, rates) for text in panel.get_legend().get_texts()} == {8}
    assert {panel.xaxis.label.get_fontsize() for panel in (scores, detection, rates)} == {9}
    assert [panel.get_xlabel() for panel in (detection, rates)] == ["wrong labels found", "% of training labels"]
    assert rates.get_xlim()[0] <= -2
    assert not any(panel.spines[side].get_visible() for panel in (scores, rates) for side in ("top", "right", "left"))


def test_the_title_says_what_was_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = copy.deepcopy(result())
    assert drawn(data, monkeypatch, tmp_path).get_suptitle() == ("made, 6 songs, 2 folds x 2 seeds by none, noise none")
    data["protocol"] |= {"seeds": [0], "fraction": 0.25, "test_split": {"test_songs": 2, "parts": "test"}}
    assert drawn(data, monkeypatch, tmp_path).get_suptitle() == (
        "made, 6 songs, 2 tested (test) x 1 seed by none, noise none, 25% labelled"
    )


def test_without_wrong_labels_two_panels_remain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = changed(auroc=None, average_precision=None)
    data["fair_baseline"] = None
    figure = drawn(data, monkeypatch, tmp_path)
    assert figure.get_size_inches()[0] == 8
    scores, rates = figure.axes
    assert len(scores.lines) == 9
    assert scores.get_xlabel() == "song macro-F1, 95 % interval, each seed"
    assert len(rates.lines) == 2
