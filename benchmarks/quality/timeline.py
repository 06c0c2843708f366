"""How well spans follow the true sections of synthesised songs, before and after smoothing.

    emoseg corpus synth NEW --songs 60 --seed 202          (songs that the model has not seen)
    python benchmarks/quality/timeline.py MODEL NEW [--hop 1]

For each setting: the share of time with the right label (a moment without a label counts as wrong), the F-measure of
the borders at 3 s, the median distance of the borders found, the number of borders, and the share of time "unsure".
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emoseg.analysis.analyzer import Analyzer
from emoseg.analysis.timeline import course, join_spans
from emoseg.config import SegmentConfig, TimelineConfig
from emoseg.corpora import load_corpus
from emoseg.types import UNSURE, Analysis, Section, Span

TOLERANCE_S = 3.0
SETTINGS: dict[str, TimelineConfig | None] = {
    "each segment alone": None,
    **{f"mean span {s:g} s, never unsure": TimelineConfig(mean_span_s=s, unsure_below=0) for s in (5, 10, 20, 40, 80)},
    **{f"mean span {s:g} s": TimelineConfig(mean_span_s=s) for s in (5, 10, 20, 40)},
}


def spans_of(analysis: Analysis, segment: SegmentConfig, config: TimelineConfig | None) -> tuple[Span, ...]:
    labels = analysis.space.labels
    table = np.array([s.probabilities or (0.0,) * len(labels) for s in analysis.segments])
    if config is None:
        answers: Sequence[str] = [labels[i] for i in table.argmax(axis=1)]
    else:
        answers = course(table, [s.sound for s in analysis.segments], labels=labels, segment=segment, config=config)
    times = np.array([(s.start_s, s.end_s) for s in analysis.segments])
    return join_spans(times[:, 0], times[:, 1], answers)


def labels_at(parts: Sequence[Span] | Sequence[Section], times_s: np.ndarray) -> np.ndarray:
    ends = np.array([part.end_s for part in parts])
    return np.array([part.label for part in parts])[np.minimum(np.searchsorted(ends, times_s, "right"), len(ends) - 1)]


def matched(found: list[float], true: list[float]) -> list[float]:
    """Return the distances of the borders found to the true ones, each used once, within the tolerance."""
    free, distances = list(found), []
    for border in true:
        nearest = min(free, key=lambda f: abs(f - border), default=np.inf)
        if abs(nearest - border) <= TOLERANCE_S:
            distances.append(abs(nearest - border))
            free.remove(nearest)
    return distances


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--hop", type=float)
    options = parser.parse_args()
    analyzer = Analyzer(options.model, hop_s=options.hop)
    songs = load_corpus(f"synth:{options.corpus}").songs
    analyses = [analyzer.analyze(song.path) for song in songs]
    print(f"{len(songs)} songs, hop {analyzer.segment.hop_s:g} s")
    for name, config in SETTINGS.items():
        right, unsure, distances, found_count, true_count = [], [], list[float](), 0, 0
        for song, analysis in zip(songs, analyses, strict=True):
            spans = spans_of(analysis, analyzer.segment, config)
            times = np.arange(0.05, analysis.duration_s, 0.1)
            answers = labels_at(spans, times)
            right.append(np.mean(answers == labels_at(song.sections, times)))
            unsure.append(np.mean(answers == UNSURE))
            found, true = ([part.start_s for part in parts[1:]] for parts in (spans, song.sections))
            distances += matched(found, true)
            found_count, true_count = found_count + len(found), true_count + len(true)
        f = 2 * len(distances) / (found_count + true_count)
        print(
            f"{name:28} time right {np.mean(right):.3f}  border F {f:.3f}  median {np.median(distances):.2f} s  "
            f"borders {found_count} of {true_count}  unsure {np.mean(unsure):.3f}"
        )


if __name__ == "__main__":
    main()
