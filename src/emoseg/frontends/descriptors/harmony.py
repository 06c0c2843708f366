"""Harmony: pitch classes, key and mode, chords, harmonic change. Transposition does not change any descriptor.

Pitch classes have shape (T, 12) and start at C. Profiles of keys start at the tonic, those of chords at the root.
"""

from __future__ import annotations

import numpy as np

from emoseg.frontends.descriptors.pitch import LOWEST_NOTE
from emoseg.frontends.descriptors.summaries import Blocks, trajectory
from emoseg.types import Float64

# Profiles of major and minor keys, tonic first; `key_strengths` names the sources.
_PROFILES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "krumhansl": (
        (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
        (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
    ),
    "temperley": (
        (5.0, 2.0, 3.5, 2.0, 4.5, 4.0, 2.0, 4.5, 2.0, 3.5, 1.5, 4.0),
        (5.0, 2.0, 3.5, 4.5, 2.0, 4.0, 2.0, 4.5, 3.5, 2.0, 1.5, 4.0),
    ),
    "triad": (
        (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0),
        (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0),
    ),
}
_CHORDS: dict[str, tuple[int, ...]] = {
    "major": (0, 4, 7),
    "minor": (0, 3, 7),
    "diminished": (0, 3, 6),
    "augmented": (0, 4, 8),
    "suspended": (0, 5, 7),
    "fifth": (0, 7),
    "dominant": (0, 4, 7, 10),
    "major_seventh": (0, 4, 7, 11),
    "minor_seventh": (0, 3, 7, 10),
}


def _rotations(profile: tuple[float, ...]) -> Float64:
    """Return all transpositions of a profile, standardised, shape (12, 12): row r has its tonic at pitch class r."""
    x = np.asarray(profile, dtype=np.float64)
    x = (x - x.mean()) / x.std()
    return np.stack([np.roll(x, r) for r in range(12)])


_KEYS = {name: (_rotations(major), _rotations(minor)) for name, (major, minor) in _PROFILES.items()}
_CHORD_TEMPLATES = np.concatenate(
    [_rotations(tuple(float(i in notes) for i in range(12))) for notes in _CHORDS.values()]
)


def pitch_classes(notes: Float64, *, decay: float = 0.6, harmonics: int = 5) -> Float64:
    """Return the harmonic pitch class profile of frames, shape (T, 12), starting at C.

    Each note also contributes to the pitch classes of which it may be a harmonic.

    Parameters
    ----------
    notes : array, shape (T, NOTES)
        Amplitude of every note.
    decay : float
        Weight of a harmonic relative to the one below it.
    harmonics : int
        Number of harmonics, including the fundamental.

    References
    ----------
    Gómez, E. (2006). Tonal description of polyphonic audio for music content processing. INFORMS Journal on Computing
    18(3).
    """
    folded = notes.reshape(len(notes), -1, 12).sum(axis=1)
    result = np.zeros_like(folded)
    for h in range(1, harmonics + 1):
        result += decay ** (h - 1) * np.roll(folded, -round(12 * np.log2(h)), axis=1)
    return np.asarray(np.roll(result, LOWEST_NOTE % 12, axis=1))


def _standardise(chroma: Float64) -> Float64:
    centred = chroma - chroma.mean(axis=-1, keepdims=True)
    return np.asarray(centred / np.maximum(chroma.std(axis=-1, keepdims=True), 1e-6))


def key_strengths(chroma: Float64, profile: str) -> tuple[Float64, Float64]:
    """Return the correlations of pitch classes with the twelve major and the twelve minor keys, shape (..., 12) each.

    Parameters
    ----------
    chroma : array, shape (..., 12)
    profile : {"krumhansl", "temperley", "triad"}
        Profile of the keys; ``"triad"`` has only the notes of the tonic chord.

    Returns
    -------
    (major, minor), in [-1, 1], each starting at C

    References
    ----------
    Krumhansl, C. (1990). Cognitive Foundations of Musical Pitch. Oxford University Press.
    Temperley, D. (1999). What's key for key? Music Perception 17(1).
    """
    major, minor = _KEYS[profile]
    standard = _standardise(chroma)
    return standard @ major.T / 12, standard @ minor.T / 12


def tonal_centroid(chroma: Float64) -> Float64:
    """Return the tonal centroid of pitch classes, shape (..., 6).

    Two coordinates each place the pitch classes on the circles of fifths, minor thirds and major thirds.

    Parameters
    ----------
    chroma : array, shape (..., 12)
        At least 0.

    References
    ----------
    Harte, C., Sandler, M. and Gasser, M. (2006). Detecting harmonic change in musical audio. AMCMM.
    """
    angle = np.arange(12)[:, None] * np.pi * np.array([7 / 6, 3 / 2, 2 / 3])
    radius = np.array([1.0, 1.0, 0.5])
    basis = np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=2).reshape(12, 6)
    return np.asarray(chroma / (chroma.sum(axis=-1, keepdims=True) + 1e-6) @ basis)


def _describe_key(chroma: Float64, mean: Float64) -> Blocks:
    blocks: Blocks = {}
    for profile in _PROFILES:
        for scope, classes in (("whole", mean), ("frame", chroma)):
            major, minor = key_strengths(classes, profile)
            best_major, best_minor = major.max(axis=-1), minor.max(axis=-1)
            ordered = np.sort(np.concatenate([major, minor], axis=-1), axis=-1)
            tonic = np.argmax(np.maximum(major, minor), axis=-1)
            parallel = np.take_along_axis(major - minor, np.expand_dims(tonic, -1), axis=-1)[..., 0]
            numbers = {
                "mode": best_major - best_minor,
                "parallel": parallel,
                "clarity": ordered[..., -1],
                "margin": ordered[..., -1] - ordered[..., -2],
            }
            for key, value in numbers.items():
                name = f"harmony.{profile}.{scope}.{key}"
                blocks |= {name: value} if scope == "whole" else trajectory(name, value, "mean sd")
    return blocks


def _describe_chords(chroma: Float64) -> Blocks:
    strengths = (_standardise(chroma) @ _CHORD_TEMPLATES.T / 12).reshape(len(chroma), len(_CHORDS), 12).max(axis=2)
    blocks = trajectory("harmony.chord", strengths.T, "mean sd")
    best = np.argmax(strengths[:, :5], axis=1)
    blocks["harmony.chord.share"] = np.array([(best == i).mean() for i in range(5)])
    return blocks


def describe_harmony(notes: Float64) -> Blocks:
    """Return the descriptors of harmony, whose names begin with ``harmony.``. Transposition does not change them.

    Parameters
    ----------
    notes : array, shape (T, NOTES)
        From `emoseg.frontends.descriptors.pitch.note_spectrum`.

    References
    ----------
    Fujishima, T. (1999). Realtime chord recognition of musical sound: a system using Common Lisp Music. ICMC: chord
    templates.
    Harte, C., Sandler, M. and Gasser, M. (2006). Detecting harmonic change in musical audio. AMCMM: the distance
    between neighbouring tonal centroids (``harmony.change``).
    """
    chroma = pitch_classes(np.sqrt(notes))
    chroma = chroma / (chroma.max(axis=1, keepdims=True) + 1e-6)
    mean = chroma.mean(axis=0)
    mean = mean / (mean.sum() + 1e-6)
    blocks = _describe_key(chroma, mean)
    blocks |= _describe_chords(chroma)
    share = chroma / (chroma.sum(axis=1, keepdims=True) + 1e-6)
    blocks |= trajectory("harmony.entropy", -(share * np.log(share + 1e-9)).sum(axis=1), "mean sd")
    blocks["harmony.mean_entropy"] = -(mean * np.log(mean + 1e-9)).sum()
    centroid = tonal_centroid(chroma)
    blocks |= trajectory("harmony.change", np.linalg.norm(np.diff(centroid, axis=0), axis=1), "mean sd p10 p90")
    blocks["harmony.centroid_sd"] = centroid.std(axis=0).reshape(3, 2).mean(axis=1)
    return blocks
