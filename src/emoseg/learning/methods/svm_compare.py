"""A support vector machine on ComParE functionals of songs: the classical system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat
from scipy.special import softmax

from emoseg.config import CompareConfig, FrontendConfig, MethodSettings
from emoseg.learning.methods.base import Method, MethodFit, Prediction, Run, song_level_fit
from emoseg.learning.training_set import TrainingSet, song_parts
from emoseg.metrics import macro_f1
from emoseg.song.regression import fit_temperature
from emoseg.song.statistics import song_summaries
from emoseg.types import UNLABELLED, Float64, Int64

SCALINGS = ("standard", "minmax")


class SvmCompareSettings(MethodSettings):
    """Settings of the support vector machine on ComParE functionals."""

    costs: tuple[PositiveFloat, ...] = Field(
        (0.3, 1.0, 3.0, 10.0, 30.0), min_length=1, description="Costs C to choose from, each above 0."
    )


@dataclass(frozen=True)
class Machine:
    """A fitted machine with its scaling; `temperature` divides its decisions."""

    pipeline: Any
    temperature: float

    def predict(self, features: Mapping[str, NDArray[np.floating]], song: Int64) -> Prediction:
        """Return the probabilities of whole songs, for each of their segments."""
        _, index = np.unique(song, return_inverse=True)
        x = song_means(features["compare"], song)
        return Prediction(probabilities(decisions(self.pipeline, x), self.temperature)[index])


class SvmCompare(Method):
    """Support vector machine with a Gaussian kernel on the mean over a song of its segments' ComParE functionals.

    The cost C and the scaling are those with the best macro-F1 on held-out parts of the training songs (given labels).
    A softmax with a temperature, fitted on the same held-out decisions, gives probabilities. The functionals of
    segments are averaged, rather than computed over the song, so that the method gets the same sound as the others,
    spliced or not.

    References
    ----------
    C. Cortes, V. Vapnik. Support-vector networks. Machine Learning 20, 1995.
    B. Schuller et al. The INTERSPEECH 2016 computational paralinguistics challenge. Interspeech 2016.
    """

    version = 1
    settings_class = SvmCompareSettings
    not_in_folder: ClassVar[str | None] = "a support vector machine is not a network"
    extra: ClassVar[tuple[str, str] | None] = ("opensmile", "opensmile")
    frontends: ClassVar[tuple[FrontendConfig, ...] | None] = (CompareConfig(),)

    settings: SvmCompareSettings

    def fit(self, data: TrainingSet, run: Run) -> MethodFit:
        """Return what the method learns from a training set."""
        labels = data.song_labels()
        part = song_parts(labels, data.groups, parts=run.config.members, seed=run.seed)
        labelled = labels != UNLABELLED
        x = song_means(data.features["compare"], data.song)[labelled]
        chosen, held_out = choose(x, labels[labelled], part[labelled], classes=data.classes, costs=self.settings.costs)
        temperature, _ = fit_temperature(held_out, labels[labelled])
        out_of_fold = np.full((len(labels), data.classes), np.nan)
        out_of_fold[labelled] = probabilities(held_out, temperature)
        return song_level_fit(data, Machine(chosen.fit(x, labels[labelled]), temperature), out_of_fold, history={})


def song_means(table: NDArray[np.floating], song: Int64) -> Float64:
    """Return the mean of each song's segments, shape (N, F)."""
    return song_summaries(table, song)[:, : table.shape[1]]


def choose(x: Float64, labels: Int64, part: Int64, *, classes: int, costs: Sequence[float]) -> tuple[Any, Float64]:
    """Return the unfitted pipeline of the best cost and scaling, and its held-out decisions, shape (N, K).

    Parameters
    ----------
    x : array, shape (N, F)
    labels, part : array of int, shape (N,)
        Given labels, and the part in which each song is held out.
    classes : int
    costs : sequence of float
        Costs to choose from; the best has the highest macro-F1 on held-out songs.
    """
    best: tuple[float, Any, Float64] | None = None
    for scaling in SCALINGS:
        for cost in costs:
            held_out = np.zeros((len(x), classes))
            for p in np.unique(part):
                fitted = machine(scaling, cost).fit(x[part != p], labels[part != p])
                held_out[part == p] = decisions(fitted, x[part == p])
            score = macro_f1(labels, held_out.argmax(axis=1), classes)
            if best is None or score > best[0]:
                best = score, machine(scaling, cost), held_out
    assert best is not None
    return best[1], best[2]


def machine(scaling: str, cost: float) -> Any:
    """Return an unfitted pipeline of scaling and support vector machine."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
    from sklearn.svm import SVC

    # Many functionals have such long tails that a single song would outweigh all other differences.
    cut = FunctionTransformer(np.clip, kw_args={"a_min": -5, "a_max": 5})
    scaler = make_pipeline(StandardScaler(), cut) if scaling == "standard" else MinMaxScaler(clip=True)
    return make_pipeline(scaler, SVC(C=cost, kernel="rbf", gamma="scale"))


def decisions(fitted: Any, x: Float64) -> Float64:
    """Return a machine's decision value for each label, shape (N, K); larger is likelier."""
    values = np.asarray(fitted.decision_function(x), dtype=np.float64)
    return values if values.ndim == 2 else np.stack([-values, values], axis=1)


def probabilities(values: Float64, temperature: float) -> Float64:
    """Return softmax probabilities of decisions, shape (N, K)."""
    return np.asarray(softmax(values / temperature, axis=1))
