"""From segments to answers over time: the most probable sequence of labels, with few switches.

The labels of a recording are modelled as a Markov chain that stays in a label for `mean_span_s` seconds on average and
then goes to any other with equal probability. The probabilities of the segment model are its noisy observations. The
most probable sequence (Viterbi 1967; Rabiner 1989) switches only where the evidence for it outweighs the cost of a
switch. This is a hysteresis with one parameter, which has a unit and means the same at every hop.

Besides the labels the chain has a state "unsure". Its probability is the threshold below which no answer is given, so
it is chosen where no label stays above the threshold (Chow's rule, 1970, applied to the sequence). Further states are
speech, noise, test tones and silence. Overlapping segments share sound, so each is weighted by the share of its sound
that is new.

References
----------
L. R. Rabiner. A tutorial on hidden Markov models and selected applications in speech recognition. Proc. IEEE 77, 1989.
C. K. Chow. On optimum recognition error and reject tradeoff. IEEE Trans. Information Theory 16, 1970.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emoseg.config import SegmentConfig, TimelineConfig
from emoseg.types import SOUNDS, UNSURE, Float64, Int64, Span

_LEAST = 1e-4  # no single segment may exclude a label
_FOUND = 0.9  # probability of a kind that is not music: one such segment does not interrupt a span, two do


def course(
    probabilities: Float64,
    sounds: Sequence[str],
    *,
    labels: Sequence[str],
    segment: SegmentConfig,
    config: TimelineConfig,
) -> tuple[str, ...]:
    """Return the smoothed answer for each segment.

    Parameters
    ----------
    probabilities : array, shape (S, K)
        Probabilities of the labels; rows of segments that are not music are not used.
    sounds : sequence of str, length S
        ``"music"`` or one of `SOUNDS`.
    labels : sequence of str, length K
    segment : SegmentConfig
        Length and hop of the segments.
    config : TimelineConfig

    Returns
    -------
    tuple of str, length S
        Labels, ``"unsure"``, or kinds of sound.
    """
    threshold = config.unsure_threshold(len(labels))
    states = [*labels, *([UNSURE] if threshold > 0 and UNSURE not in labels else [])]
    found = [sound for sound in SOUNDS if sound in sounds]
    observed = np.full((len(sounds), len(states) + len(found)), (1 - _FOUND) / len(states))
    music = np.array([sound == "music" for sound in sounds], dtype=bool)
    observed[music, : len(labels)] = probabilities[music]
    observed[music, len(labels) : len(states)] = threshold
    for i, sound in enumerate(found, start=len(states)):
        here = np.array([other == sound for other in sounds])
        observed[here, i] = _FOUND
    new_sound = min(1.0, segment.hop_s / segment.length_s)
    evidence = new_sound * np.log(np.maximum(observed, _LEAST))
    path = _most_probable(evidence, _switch_cost(segment.hop_s, config.mean_span_s, evidence.shape[1]))
    names = [*states, *found]
    return tuple(names[state] for state in path)


def _switch_cost(hop_s: float, mean_span_s: float, states: int) -> float:
    """Return the log odds of staying against going to one certain other state, over one hop; never below zero."""
    leaving = -np.expm1(-hop_s / mean_span_s)
    staying = -hop_s / mean_span_s  # the log of 1 - leaving, which may be too small for a number itself
    return max(0.0, staying - float(np.log(leaving / max(1, states - 1))))


def _most_probable(evidence: Float64, cost: float) -> Int64:
    """Return the best path through log evidence of shape (S, N), where each switch costs the same; ties stay."""
    steps, states = evidence.shape
    came = np.empty((steps, states), dtype=np.int64)
    total = evidence[0].copy()
    stay = np.arange(states)
    for i in range(1, steps):
        best = int(total.argmax())
        switched = total[best] - cost
        came[i] = np.where(total >= switched, stay, best)
        total = np.maximum(total, switched) + evidence[i]
    path = np.empty(steps, dtype=np.int64)
    path[-1] = int(total.argmax())
    for i in range(steps - 1, 0, -1):
        path[i - 1] = came[i, path[i]]
    return path


def join_spans(start_s: Float64, end_s: Float64, answers: Sequence[str]) -> tuple[Span, ...]:
    """Join neighbouring segments with the same answer into spans that meet without gap.

    Every moment belongs to the segment whose middle is nearest, so the border between two segments lies half way
    between their middles, however they overlap. All segments count as long as the first: only the last can be shorter.

    Parameters
    ----------
    start_s, end_s : array, shape (S,)
    answers : sequence of str, length S
    """
    length_s = end_s[0] - start_s[0]
    borders = (start_s[1:] + start_s[:-1] + length_s) / 2
    starts, ends = np.append(start_s[0], borders), np.append(borders, end_s[-1])
    spans: list[Span] = []
    for start, end, answer in zip(starts.tolist(), ends.tolist(), answers, strict=True):
        if spans and spans[-1].label == answer:
            spans[-1] = Span(spans[-1].start_s, end, answer)
        else:
            spans.append(Span(start, end, answer))
    return tuple(spans)
