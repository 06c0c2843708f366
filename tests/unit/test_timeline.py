"""The course of answers over time: hysteresis, the unsure state, sounds that are not music, and borders of spans."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoseg.analysis.timeline import course, join_spans
from emoseg.config import SegmentConfig, TimelineConfig
from emoseg.types import Float64, Span

LABELS = ("a", "b", "c", "d")
NEVER_UNSURE = TimelineConfig(unsure_below=0)


def table(text: str, p: float = 0.7) -> Float64:
    """A row of probabilities for each letter: `p` for that label."""
    rows = np.full((len(text), 4), (1 - p) / 3)
    rows[np.arange(len(text)), [LABELS.index(letter) for letter in text]] = p
    return rows


def run(
    rows: Float64, *, sounds: Sequence[str] = (), hop_s: float = 3.0, config: TimelineConfig = NEVER_UNSURE
) -> tuple[str, ...]:
    segment = SegmentConfig(length_s=3.0, hop_s=hop_s)
    return course(rows, sounds or ["music"] * len(rows), labels=LABELS, segment=segment, config=config)


def test_one_deviating_segment_does_not_switch_and_a_lasting_change_does() -> None:
    assert "".join(run(table("aaaabaaaa"))) == "aaaaaaaaa"
    assert "".join(run(table("aaaabbbbb"))) == "aaaabbbbb"


def test_an_overwhelming_segment_switches() -> None:
    rows = table("aaaabaaaa")
    rows[4] = [1e-4, 1 - 3e-4, 1e-4, 1e-4]
    assert "".join(run(rows)) == "aaaabaaaa"


def test_the_path_is_the_most_probable_of_all() -> None:
    rows = np.random.default_rng(3).dirichlet(np.ones(4), size=6)
    leaving = 1 - np.exp(-3 / 10)
    logs = np.log(np.maximum(rows, 1e-4))

    def score(path: tuple[int, ...]) -> float:
        switches = sum(a != b for a, b in itertools.pairwise(path))
        return sum(logs[i, s] for i, s in enumerate(path)) - switches * np.log((1 - leaving) / (leaving / 3))

    best = max((tuple(p) for p in np.ndindex(4, 4, 4, 4, 4, 4)), key=score)
    assert run(rows, config=TimelineConfig(mean_span_s=10, unsure_below=0)) == tuple(LABELS[s] for s in best)


def test_longer_mean_spans_never_switch_more() -> None:
    rows = np.random.default_rng(5).dirichlet(np.ones(4), size=200)
    switches = []
    for mean in (1, 5, 20, 100, 1000):
        path = run(rows, config=TimelineConfig(mean_span_s=mean, unsure_below=0))
        switches.append(sum(a != b for a, b in itertools.pairwise(path)))
    assert switches == sorted(switches, reverse=True)
    assert switches[0] > 3 * switches[-1]


def test_overlapping_segments_count_as_much_as_the_sound_they_bring() -> None:
    # Three segments a second apart that differ hold the sound of one segment and are as little reason to switch.
    fine = table("aaaaaaaaabbbaaaaaaaaa")
    assert set(run(fine, hop_s=1.0)) == {"a"}


def test_the_unsure_state_takes_over_where_no_label_stays_above_the_threshold() -> None:
    flat = np.full((6, 4), 0.25)
    rows = np.concatenate([table("aaaaaa", 0.8), flat, table("bbbbbb", 0.8)])
    assert run(rows, config=TimelineConfig()) == ("a",) * 6 + ("unsure",) * 6 + ("b",) * 6
    assert "unsure" not in run(rows)
    assert set(run(table("aaaa", 0.45), config=TimelineConfig())) == {"unsure"}
    assert set(run(table("aaaa", 0.45), config=TimelineConfig(unsure_below=0.4))) == {"a"}


@pytest.mark.parametrize(("labels", "threshold"), [(2, 2 / 3), (4, 0.5), (10, 0.4)])
def test_the_default_threshold_is_a_third_of_the_way_from_chance_to_certainty(labels: int, threshold: float) -> None:
    assert TimelineConfig().unsure_threshold(labels) == pytest.approx(threshold)
    assert TimelineConfig(unsure_below=0.3).unsure_threshold(labels) == 0.3


def test_a_lasting_sound_that_is_not_music_has_its_own_name() -> None:
    sounds = ["speech"] * 4 + ["music"] * 4 + ["silence"] * 3 + ["music"] * 3
    path = run(table("aaaaaaaabbbccc"), sounds=sounds)
    assert path == ("speech",) * 4 + ("a",) * 4 + ("silence",) * 3 + ("c",) * 3


def test_one_segment_of_noise_does_not_tear_a_span() -> None:
    sounds = ["music"] * 5 + ["noise"] + ["music"] * 5
    assert set(run(table("aaaaabaaaaa"), sounds=sounds)) == {"a"}
    sounds[6] = "noise"
    assert run(table("aaaaabaaaaa"), sounds=sounds)[5:7] == ("noise", "noise")


def test_a_single_segment_says_what_it_is() -> None:
    assert run(table("c")) == ("c",)
    assert run(table("c"), sounds=["silence"]) == ("silence",)


# Spans


def spans(starts: Sequence[float], ends: Sequence[float], answers: str) -> tuple[Span, ...]:
    return join_spans(np.array(starts, dtype=np.float64), np.array(ends, dtype=np.float64), answers)


def test_neighbours_of_one_label_are_joined() -> None:
    assert spans([0, 3, 6, 9], [3, 6, 9, 10.6], "aaba") == (Span(0, 6, "a"), Span(6, 9, "b"), Span(9, 10.6, "a"))


def test_between_overlapping_segments_the_border_is_half_way_between_their_middles() -> None:
    assert spans([0, 1, 2], [3, 4, 5], "abb") == (Span(0, 2, "a"), Span(2, 5, "b"))
    assert spans([0, 1, 2], [3, 4, 3.6], "aab") == (Span(0, 3, "a"), Span(3, 3.6, "b"))


def test_spans_meet_across_gaps() -> None:
    assert spans([0, 5], [3, 8], "ab") == (Span(0, 4, "a"), Span(4, 8, "b"))


@settings(deadline=None)
@given(
    count=st.integers(1, 40),
    length_s=st.floats(0.5, 10),
    hop_s=st.floats(0.1, 10),
    last=st.floats(0.5, 1),
    data=st.data(),
)
def test_spans_cover_everything_in_order(
    count: int, length_s: float, hop_s: float, last: float, data: st.DataObject
) -> None:
    starts = [i * hop_s for i in range(count)]
    ends = [start + length_s for start in starts]
    ends[-1] = starts[-1] + length_s * last
    answers = data.draw(st.text("ab", min_size=count, max_size=count))
    found = spans(starts, ends, answers)
    assert found[0].start_s == 0
    assert found[-1].end_s == ends[-1]
    assert all(a.end_s == b.start_s and a.label != b.label for a, b in itertools.pairwise(found))
    assert all(span.start_s < span.end_s for span in found)


# The course, by trying every path


def best_course(rows: Float64, sounds: Sequence[str], segment: SegmentConfig, config: TimelineConfig) -> list[str]:
    """Return the best of all paths by the rules in docs/architecture.md, each written out."""
    threshold = config.unsure_threshold(len(LABELS))
    states = [*LABELS, *(["unsure"] if threshold > 0 else [])]
    kinds = [kind for kind in ("speech", "noise", "tone", "silence") if kind in sounds]
    names = states + kinds
    observed = np.full((len(rows), len(names)), 0.1 / len(states))
    for i, sound in enumerate(sounds):
        if sound == "music":
            observed[i, :4] = rows[i]
            observed[i, 4 : len(states)] = threshold
        else:
            observed[i, names.index(sound)] = 0.9
    leaving = 1 - np.exp(-segment.hop_s / config.mean_span_s)
    cost = max(0.0, np.log((1 - leaving) / (leaving / (len(names) - 1))))  # a switch is never rewarded
    logs = min(1.0, segment.hop_s / segment.length_s) * np.log(np.maximum(observed, 1e-4))
    paths = np.array(list(itertools.product(range(len(names)), repeat=len(rows))))
    scores = logs[np.arange(len(rows)), paths].sum(axis=1) - cost * (np.diff(paths, axis=1) != 0).sum(axis=1)
    return [names[state] for state in paths[scores.argmax()]]


@pytest.mark.parametrize("hop_s", [0.5, 1.0, 3.0, 5.0])
@pytest.mark.parametrize("unsure_below", [None, 0.0, 0.4])
def test_the_course_is_the_best_of_all_paths(hop_s: float, unsure_below: float | None) -> None:
    rng = np.random.default_rng(round(10 * hop_s))
    config = TimelineConfig(mean_span_s=2.5, unsure_below=unsure_below)
    segment = SegmentConfig(length_s=3.0, hop_s=hop_s)
    for sounds in (["music"] * 5, ["music", "noise", "noise", "music", "music"], ["speech", "music"] * 2 + ["speech"]):
        for _ in range(6):
            rows = rng.dirichlet(np.full(4, 0.4), size=5)
            found = course(rows, sounds, labels=LABELS, segment=segment, config=config)
            assert list(found) == best_course(rows, sounds, segment, config)


def test_three_overlapping_segments_weigh_as_much_as_one_that_does_not_overlap() -> None:
    # Evidence of log(.7 / .1) per segment of 3 s against a switch there and back. Counted in full at a hop of 1 s, five
    # segments would outweigh it; they bring 5 s of new sound, which is less than two whole segments.
    rows = table("aaaaaaaaaabbbbbaaaaaaaaaa")
    assert set(run(rows, hop_s=1.0, config=TimelineConfig(mean_span_s=10, unsure_below=0))) == {"a"}
    assert "b" in run(rows, hop_s=3.0, config=TimelineConfig(mean_span_s=10, unsure_below=0))


def test_a_hop_beyond_the_length_counts_each_segment_once() -> None:
    rows = table("aab", 0.9)
    config = TimelineConfig(mean_span_s=3600, unsure_below=0)
    segment = SegmentConfig(length_s=3.0, hop_s=6.0)
    assert list(course(rows, ["music"] * 3, labels=LABELS, segment=segment, config=config)) == ["a", "a", "a"]
