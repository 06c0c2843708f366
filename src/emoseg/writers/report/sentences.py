"""The sentences of the report about the song as a whole."""

from __future__ import annotations

from collections import defaultdict

from emoseg.emotion import Axis, EmotionSpace
from emoseg.system.names import one_line
from emoseg.types import Analysis


def answer_name(answer: str, space: EmotionSpace) -> str:
    """Return an answer as a headline: a label as it is, a state with a capital."""
    return one_line(answer) if answer in space.labels else answer.capitalize()


def verdict(analysis: Analysis) -> list[str]:
    """Return sentences about the song's answer and how sure it is."""
    song, space = analysis.song, analysis.space
    if not song.probabilities:
        return [f"Hardly any of this recording is music; it is mostly {song.label} and is given no emotion."]
    order = sorted(range(len(space.labels)), key=lambda i: -song.probabilities[i])[:2]
    best, second = (space.labels[i] for i in order)
    best_p, second_p = (song.probabilities[i] for i in order)
    if song.label not in space.labels:
        guesses = (
            f"{one_line(best)} is the best guess with {best_p:.1%}, {one_line(second)} follows with {second_p:.1%}"
        )
        return [f"No answer: {guesses}, and below {analysis.unsure_below:.0%} no answer is given."]
    place = _place(space.axes[space.index(song.label)])
    kind = f"{one_line(song.label)} ({place})" if place else f"“{one_line(song.label)}”"
    sentences = [f"As a whole the song is {kind}, with {song.confidence:.0%} confidence."]
    if best_p - second_p < 0.15:
        sentences.append(f"A close call: {one_line(second)} follows with {second_p:.0%}.")
    return sentences


def _place(axis: Axis) -> str:
    parts = [f"{'high' if v > 0 else 'low'} {name}" for name, v in vars(axis).items() if v]
    return ", ".join(parts)


def time_shares(analysis: Analysis) -> str:
    """Return a sentence about the shares of the song's time that each answer has, at most four of them."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for span in analysis.spans:
        seconds[span.label] += span.end_s - span.start_s
    total = sum(seconds.values())
    shares = sorted(((s / total, label) for label, s in seconds.items()), reverse=True)
    if len(shares) == 1:
        return f"It stays {one_line(shares[0][1])} from start to end."
    first, *rest = [f"{share:.0%} in {one_line(label)}" for share, label in shares if share >= 0.005][:4]
    parts = [first.replace(" in ", " of its time in ", 1), *rest]
    return f"It spends {', '.join(parts[:-1])} and {parts[-1]}." if rest else f"It spends {parts[0]}."


def song_place(analysis: Analysis) -> str:
    """Return the song's valence and arousal with their standard deviations, where they are known."""
    song = analysis.song
    places = [("valence", song.valence, song.valence_sd), ("arousal", song.arousal, song.arousal_sd)]
    known = [f"{axis} {v:+.2f} ± {sd:.2f}" for axis, v, sd in places if v is not None and sd is not None]
    return ", " + ", ".join(known).replace("-", "−") if known else ""
