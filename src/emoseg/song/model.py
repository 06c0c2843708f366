"""The song model: from segment probabilities to the emotion of the song, calibrated.

Statistics of the segment probabilities of a song (those of Han 2014 and a few more) are the input of a multinomial
logistic regression. It starts from the mean probability, and its penalty pulls it back there: with few songs or bad
labels the song model is the mean probability. A temperature, fitted on songs that the regression did not learn from,
calibrates the probabilities.

References
----------
K. Han, D. Yu, I. Tashev. Speech emotion recognition using deep neural network and extreme learning machine.
Interspeech 2014. (the statistics)
C. Guo, G. Pleiss, Y. Sun, K. Weinberger. On calibration of modern neural networks. ICML 2017. (temperature scaling)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from emoseg.song.blend import SongBase
from emoseg.song.statistics import song_statistics, with_base
from emoseg.types import Float64


@dataclass(frozen=True)
class SongModel:
    """A fitted song model.

    Parameters
    ----------
    mean, scale : array, shape (F,)
        Standardisation of the statistics after the base.
    weights : array, shape (F, K)
    bias : array, shape (K,)
    temperature : float
        Divides the logits.
    base : SongBase, optional
        Takes the place of the mean probability.
    """

    mean: Float64
    scale: Float64
    weights: Float64
    bias: Float64
    temperature: float
    base: SongBase | None = None

    def logits(self, statistics: Float64) -> Float64:
        """Return logits before the temperature, shape (N, K), of statistics of shape (N, 7 * K)."""
        classes = len(self.bias)
        base, rest = statistics[:, :classes], statistics[:, classes:]
        return base + ((rest - self.mean) / self.scale) @ self.weights + self.bias

    def predict(self, probabilities: Float64, summary: Float64 | None = None, *, own: Float64 | None = None) -> Float64:
        """Return the calibrated probabilities of one song, shape (K,), from its segments' (S, K).

        Parameters
        ----------
        probabilities : array, shape (S, K)
        summary : array, shape (F,), optional
            The song's `vector_summaries`; a model with a base needs it.
        own : array, shape (K,), optional
            Probabilities of the song by a method that pools segments in its own way. They take the place of the mean;
            a model with a base does not accept them.

        Raises
        ------
        ValueError
            The model has a base and there is no summary, or it has one and `own` is given, or the result is not finite.
        """
        predicted = self.predict_table(self.statistics(probabilities, summary, own=own)[None])[0]
        if not np.isfinite(predicted).all():
            raise ValueError("the song's probabilities are not finite")
        return predicted

    def statistics(
        self, probabilities: Float64, summary: Float64 | None = None, *, own: Float64 | None = None
    ) -> Float64:
        """Return the statistics of one song that the model reads, shape (7 * K,).

        They are `song_statistics`, in which the base or the song's own probabilities take the place of the mean.
        Parameters and errors are those of `predict`.
        """
        if self.base is not None:
            if summary is None:
                raise ValueError("this song model needs the song's summary")
            if own is not None:
                raise ValueError("this song model has a base and accepts no other probabilities of the song")
            own = self.base.probabilities(probabilities.mean(axis=0)[None], summary[None])[0]
        statistics = song_statistics(probabilities)
        return statistics if own is None else with_base(statistics[None], own[None])[0]

    def predict_table(self, statistics: Float64) -> Float64:
        """Return the calibrated probabilities of many songs, shape (N, K), from what `statistics` returns for each."""
        return np.asarray(softmax(self.logits(statistics) / self.temperature, axis=1))


def mean_model(classes: int, *, temperature: float = 1.0) -> SongModel:
    """Return the song model without weights, which gives the mean probability."""
    size = 6 * classes
    return SongModel(np.zeros(size), np.ones(size), np.zeros((size, classes)), np.zeros(classes), temperature)
