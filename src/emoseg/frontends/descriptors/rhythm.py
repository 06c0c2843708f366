"""Rhythm: onsets, pulse, tempo, and slow modulations of band levels."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from emoseg.frontends.descriptors.summaries import Blocks, trajectory
from emoseg.types import Float32

TEMPO_EDGES_BPM = (40.0, 50.0, 63.0, 80.0, 100.0, 126.0, 159.0, 200.0, 252.0, 318.0)
MODULATION_EDGES_HZ = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


def onset_strength(mel_db: Float32) -> Float32:
    """Return the mean rise of band levels from frame to frame in dB, shape (T - 1,); falls count as 0.

    Parameters
    ----------
    mel_db : array, shape (bands, T)
        Band levels in dB.

    References
    ----------
    Böck, S. and Widmer, G. (2013). Maximum filter vibrato suppression for onset detection. DAFx. Here without the
    maximum filter.
    """
    rise: Float32 = np.maximum(np.diff(mel_db, axis=1), 0).mean(axis=0)
    return rise


def autocorrelation(x: NDArray[Any]) -> NDArray[Any]:
    """Return the unbiased autocorrelation of a trajectory for lags 0 to T - 1, shape (T,).

    The mean is removed first, and the result is scaled to 1 at lag 0.

    Parameters
    ----------
    x : array, shape (T,)
    """
    centred = x - x.mean()
    size = scipy.fft.next_fast_len(2 * len(x), real=True)
    power = np.square(np.abs(scipy.fft.rfft(centred, size)))
    product = scipy.fft.irfft(power, size)[: len(x)]
    unbiased = product / (1 - np.arange(len(x)) / len(x))
    return np.asarray(unbiased / max(product[0], 1e-6))


def pick_peaks(x: NDArray[Any], *, reach: int, threshold: float) -> NDArray[np.int64]:
    """Return the indices of the peaks of a trajectory.

    A peak is the largest value within `reach` frames on both sides, and exceeds the mean within four times as many
    frames by `threshold`.

    Parameters
    ----------
    x : array, shape (T,)
    reach : int
        In frames, at least 1.
    threshold : float
        In the unit of `x`.

    References
    ----------
    Böck, S., Krebs, F. and Schedl, M. (2012). Evaluating the online capabilities of onset detection methods. ISMIR.
    """
    padded = np.pad(x, reach, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    wide = np.pad(x, 4 * reach, mode="edge")
    local = np.lib.stride_tricks.sliding_window_view(wide, 8 * reach + 1).mean(axis=1)
    above = (x >= windows.max(axis=1)) & (x > local + threshold)
    above[1:] &= ~above[:-1]
    return np.flatnonzero(above)


def pulse(strength: NDArray[Any], frames_per_s: float) -> Blocks:
    """Return the tempo and the clarity of the pulse, from the autocorrelation of the onset strength.

    Parameters
    ----------
    strength : array, shape (T,)
        Onset strength of each frame.
    frames_per_s : float

    Returns
    -------
    dict of arrays
        ``bands``, shape (9,): the highest autocorrelation in each range of tempi between `TEMPO_EDGES_BPM`.
        ``clarity``: the highest of all. ``tempo``: log2 of the strongest tempo in bpm / 100, where tempi near 120 bpm
        weigh most. ``octave``, shape (2,): the autocorrelation at twice and at half that tempo. ``entropy``: that of
        the autocorrelation over tempi, in [0, 1].

    References
    ----------
    Lartillot, O. et al. (2008). Multi-feature modeling of pulse clarity: design, validation and optimization. ISMIR.
    Ellis, D. (2007). Beat tracking by dynamic programming. Journal of New Music Research 36(1): the weight of tempi.
    """
    correlation = autocorrelation(strength)
    lags = np.arange(1, len(correlation) * 7 // 8)
    tempo = 60 * frames_per_s / lags
    inside = (tempo >= TEMPO_EDGES_BPM[0]) & (tempo < TEMPO_EDGES_BPM[-1])
    lags, tempo = lags[inside], tempo[inside]
    values = np.clip(correlation[lags], -1, 1)
    band = np.searchsorted(TEMPO_EDGES_BPM, tempo, side="right") - 1
    bands = np.array([values[band == b].max(initial=-1.0) for b in range(len(TEMPO_EDGES_BPM) - 1)])
    weight = np.exp(-0.5 * np.square(np.log2(tempo / 120)))
    best = int(np.argmax(np.maximum(values, 0) * weight))
    share = np.maximum(values, 0) + 1e-3
    share = share / share.sum()
    octave = [np.clip(correlation[min(round(lags[best] * f), len(correlation) - 1)], -1, 1) for f in (0.5, 2.0)]
    return {
        "bands": bands,
        "clarity": values.max(),
        "tempo": np.log2(tempo[best] / 100),
        "octave": np.array(octave),
        "entropy": -(share * np.log(share)).sum() / np.log(len(share)),
    }


def onset_pattern(strength: NDArray[Any], frames_per_s: float) -> NDArray[Any]:
    """Return the rate, spacing and strength of onsets, shape (5,).

    The numbers are the onsets per second, the mean and the standard deviation of log2 of their spacing in seconds, and
    the mean and the standard deviation of their strength in dB.

    Parameters
    ----------
    strength : array, shape (T,)
        From `onset_strength`.
    frames_per_s : float
    """
    onsets = pick_peaks(strength, reach=max(1, round(0.03 * frames_per_s)), threshold=1.0)
    rate = len(onsets) * frames_per_s / len(strength)
    if len(onsets) < 2:
        return np.array([rate, np.log2(len(strength) / frames_per_s), 0.0, strength[onsets].sum(), 0.0])
    spacing = np.log2(np.diff(onsets) / frames_per_s)
    return np.array([rate, spacing.mean(), spacing.std(), strength[onsets].mean(), strength[onsets].std()])


def modulation_spectrum(bands_db: Float32, frames_per_s: float) -> NDArray[Any]:
    """Return log10 of the power of the modulation of band levels in five ranges of its frequency, shape (bands, 5).

    The ranges are those between `MODULATION_EDGES_HZ`. The range from 4 to 8 Hz contains tremolo, vibrato and fast
    notes.

    Parameters
    ----------
    bands_db : array, shape (bands, T)
        Band levels in dB.
    frames_per_s : float

    References
    ----------
    Pampalk, E., Rauber, A. and Merkl, D. (2002). Content-based organization and visualization of music archives. ACM
    Multimedia: fluctuation patterns.
    """
    length = bands_db.shape[1]
    window = np.hanning(length + 2)[1:-1].astype(np.float32)
    centred = bands_db - bands_db.mean(axis=1, keepdims=True)
    power = np.square(np.abs(scipy.fft.rfft(centred * window, axis=1, workers=1))) / np.square(window.sum())
    edges = np.round(np.array(MODULATION_EDGES_HZ) * length / frames_per_s).astype(int)
    summed = [power[:, a : max(b, a + 1)].sum(axis=1) for a, b in itertools.pairwise(edges)]
    return np.log10(np.stack(summed, axis=1) + 1e-2)


def describe_rhythm(mel_db: Float32, frames_per_s: float) -> Blocks:
    """Return the descriptors of rhythm, whose names begin with ``rhythm.``.

    Parameters
    ----------
    mel_db : array, shape (bands, T)
        Band levels in dB. They should have a floor near the threshold of hearing; otherwise the first sound after
        digital silence would be by far the strongest onset.
    frames_per_s : float
    """
    change = np.diff(mel_db, axis=1)
    rise = np.maximum(change, 0)
    blocks: Blocks = {}
    quarters = np.array_split(np.arange(len(mel_db)), 4)
    for name, rows in [("all", np.arange(len(mel_db))), *((f"band{i}", q) for i, q in enumerate(quarters))]:
        strength = rise[rows].mean(axis=0)
        blocks |= trajectory(f"rhythm.onset.{name}", strength, "mean sd skew kurtosis p50 p90")
        found = pulse(strength, frames_per_s)
        if name == "all":
            blocks["rhythm.pattern"] = onset_pattern(strength, frames_per_s)
            blocks |= {f"rhythm.pulse.all.{key}": value for key, value in found.items()}
        else:
            blocks |= {f"rhythm.pulse.{name}.{key}": found[key] for key in ("clarity", "tempo")}
    groups = np.array_split(mel_db, 10)
    grouped = np.stack([g.mean(axis=0) for g in groups])
    blocks["rhythm.modulation"] = modulation_spectrum(grouped, frames_per_s)
    blocks["rhythm.flux"] = np.stack([np.abs(np.diff(g, axis=1)).mean() for g in groups])
    return blocks
