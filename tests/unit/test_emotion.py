from __future__ import annotations

import json

import numpy as np
import pytest

from emoseg.emotion import MOOD_PLACES, MOODS, QUADRANTS, Axis, EmotionSpace, mood_at
from emoseg.errors import ConfigError


@pytest.mark.parametrize(("label", "valence", "arousal"), [("Q1", 1, 1), ("Q2", -1, 1), ("Q3", -1, -1), ("Q4", 1, -1)])
def test_quadrants_lie_where_russell_put_them(label: str, valence: float, arousal: float) -> None:
    sure = np.eye(4)[QUADRANTS.index(label)]
    assert QUADRANTS.derived(sure, "valence") == valence
    assert QUADRANTS.derived(sure, "arousal") == arousal


def test_derived_values_are_means_over_the_last_axis() -> None:
    table = np.array([[[0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25]]])
    valence, arousal = QUADRANTS.derived(table, "valence"), QUADRANTS.derived(table, "arousal")
    assert valence is not None
    assert arousal is not None
    assert valence.shape == (1, 2)
    assert valence[0] == pytest.approx([0.1 - 0.2 - 0.3 + 0.4, 0.0])
    assert arousal[0] == pytest.approx([0.1 + 0.2 - 0.3 - 0.4, 0.0])


def test_labels_without_places_derive_nothing() -> None:
    half = EmotionSpace("arousal", ("calm", "excited"), (Axis(arousal=-1.0), Axis(arousal=1.0)))
    assert half.derived(np.array([0.25, 0.75]), "arousal") == pytest.approx(0.5)
    assert half.derived(np.array([0.25, 0.75]), "valence") is None
    assert EmotionSpace.from_labels(["sad", "happy"]).derived(np.array([1.0, 0.0]), "valence") is None


def test_from_labels_sorts_and_drops_repeats() -> None:
    space = EmotionSpace.from_labels(["sad", "happy", "sad", "angry"], name="moods")
    assert (space.name, space.labels) == ("moods", ("angry", "happy", "sad"))


def test_from_labels_knows_the_quadrants() -> None:
    assert EmotionSpace.from_labels(["Q3", "Q1", "Q2", "Q4", "Q1"]) is QUADRANTS
    part = EmotionSpace.from_labels(["Q4", "Q2"])
    assert (part.name, part.labels) == ("4q", ("Q2", "Q4"))
    assert part.axes == (Axis(-1.0, 1.0), Axis(1.0, -1.0))
    assert EmotionSpace.from_labels(["Q1", "Q5"]).axes == (Axis(), Axis())


@pytest.mark.parametrize("labels", [[], ["Q1"], ["happy", "happy"]])
def test_fewer_than_two_labels_are_no_space(labels: list[str]) -> None:
    with pytest.raises(ConfigError, match="needs two or more distinct labels"):
        EmotionSpace.from_labels(labels)


def test_a_space_is_checked() -> None:
    with pytest.raises(ConfigError, match=r"'x': needs two or more distinct labels, got \('a', 'a'\)"):
        EmotionSpace("x", ("a", "a"), (Axis(), Axis()))
    with pytest.raises(ConfigError, match="'x': 2 labels but 1 axes"):
        EmotionSpace("x", ("a", "b"), (Axis(),))


@pytest.mark.parametrize("space", [QUADRANTS, EmotionSpace.from_labels(["größe", "x"]), EmotionSpace.from_labels("ab")])
def test_a_space_survives_json(space: EmotionSpace) -> None:
    assert EmotionSpace.from_json(json.loads(json.dumps(space.to_json()))) == space


def test_json_holds_the_order_the_axes_and_the_rule() -> None:
    data = QUADRANTS.to_json()
    assert data["labels"] == ["Q1", "Q2", "Q3", "Q4"]
    assert data["axes"]["Q2"] == {"valence": -1.0, "arousal": 1.0}
    assert "Q3 low valence low arousal" in data["rule"]


def test_each_mood_word_has_one_place() -> None:
    words = [word for mood in MOODS for word in mood.words]
    assert len(words) == len(set(words)) == len(MOOD_PLACES)
    assert len({mood.axis for mood in MOODS}) == len(MOODS) == 8
    assert MOOD_PLACES["gloomy"] == Axis(-1, -1)
    assert MOOD_PLACES["energetic"] == Axis(0, 1)
    assert all(mood.tag in mood.words for mood in MOODS)


@pytest.mark.parametrize(
    ("axis", "words"),
    [
        (Axis(0.2, 0.9), ("happy", "excited")),
        (Axis(-1.0, 0.01), ("angry", "tense")),
        (Axis(1.0, -1.0), ("calm", "content")),
        (Axis(valence=-0.5), ("unpleasant",)),
        (Axis(0.0, -0.5), ("quiet",)),
    ],
)
def test_the_words_of_a_place_go_by_its_signs(axis: Axis, words: tuple[str, ...]) -> None:
    mood = mood_at(axis)
    assert mood is not None
    assert mood.caption == words


def test_the_middle_of_the_plane_has_no_words() -> None:
    assert mood_at(Axis()) is None
    assert mood_at(Axis(0.0, 0.0)) is None
