"""A song model as named arrays, and back, with a check of every array."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoseg.song.blend import SongBase, SongBlend
from emoseg.song.machine import SongMachine
from emoseg.song.model import SongModel
from emoseg.types import Float32, Float64

_LARGEST = 1e30  # of a model's numbers: their products stay far inside double precision
_RANGES = {
    "scale": (1 / _LARGEST, np.inf),  # infinite where a summary never varied in training
    "temperature": (1 / _LARGEST, _LARGEST),
    "gamma": (0.0, _LARGEST),
}


def song_model_arrays(model: SongModel) -> dict[str, Float64 | Float32]:
    """Return the model as named arrays, for the model folder."""
    arrays: dict[str, Float64 | Float32] = {
        "mean": model.mean,
        "scale": model.scale,
        "weights": model.weights,
        "bias": model.bias,
        "temperature": np.array([model.temperature]),
    }
    if model.base is not None:
        machine, blend = model.base.machine, model.base.blend
        arrays |= {
            f"machine/{name}": getattr(machine, name) for name in ("mean", "scale", "relevance", "weights", "bias")
        }
        arrays["machine/gamma"] = np.array([machine.gamma])
        arrays["machine/support"] = machine.support.astype(np.float32)
        arrays["blend"] = np.array([blend.of_mean, blend.of_votes])
    return arrays


def song_model_from_arrays(arrays: Mapping[str, NDArray[Any]]) -> SongModel:
    """Inverse of `song_model_arrays`.

    Raises
    ------
    ValueError
        An array is missing, unknown, not of floats, of a wrong shape, or holds numbers that no fit gives.
    """
    with_machine = "blend" in arrays
    _check_names(arrays, with_machine)
    shapes = _array_shapes(arrays, with_machine)
    table = {name: _checked_array(name, arrays[name], shape) for name, shape in shapes.items()}
    base = None
    if with_machine:
        names = ("mean", "scale", "relevance", "support", "weights", "bias")
        gamma = float(table["machine/gamma"][0])
        machine = SongMachine(**{name: table[f"machine/{name}"] for name in names}, gamma=gamma)
        base = SongBase(machine, SongBlend(*table["blend"].tolist()))
    return SongModel(
        table["mean"], table["scale"], table["weights"], table["bias"], float(table["temperature"][0]), base
    )


def _check_names(arrays: Mapping[str, NDArray[Any]], with_machine: bool) -> None:
    known = {"mean", "scale", "weights", "bias", "temperature"}
    if with_machine:
        parts = ("mean", "scale", "relevance", "gamma", "support", "weights", "bias")
        known |= {"blend", *(f"machine/{part}" for part in parts)}
    if missing := sorted(known - set(arrays)):
        raise ValueError(f"has no array {missing[0]!r}")
    if unknown := sorted(set(arrays) - known):
        raise ValueError(f"has an unknown array {unknown[0]!r}")


def _array_shapes(arrays: Mapping[str, NDArray[Any]], with_machine: bool) -> dict[str, tuple[int, ...]]:
    """Return the shape that each array must have; numbers of labels, summaries and support vectors are free."""
    classes = arrays["bias"].size
    if classes < 2:
        raise ValueError(f"array 'bias' must have two or more labels, has {classes}")
    size = 6 * classes
    shapes: dict[str, tuple[int, ...]] = {
        "mean": (size,),
        "scale": (size,),
        "weights": (size, classes),
        "bias": (classes,),
        "temperature": (1,),
    }
    if with_machine:
        summary, pairs = arrays["machine/mean"].size, classes * (classes - 1) // 2
        vectors = len(arrays["machine/support"]) if arrays["machine/support"].ndim else 0
        if not summary or not vectors:
            raise ValueError("arrays 'machine/mean' and 'machine/support' must not be empty")
        shapes |= {f"machine/{name}": (summary,) for name in ("mean", "scale", "relevance")}
        shapes |= {"machine/support": (vectors, summary), "machine/weights": (vectors, pairs)}
        shapes |= {"machine/bias": (pairs,), "machine/gamma": (1,), "blend": (2,)}
    return shapes


def _checked_array(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> Float64:
    """Return an array in double precision, from which probabilities can be computed without overflow."""
    if array.dtype not in (np.float32, np.float64):
        raise ValueError(f"array {name!r} must be of 32-bit or 64-bit floats, is of {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"array {name!r} must have the shape {shape}, has {array.shape}")
    least, most = _RANGES.get(name.removeprefix("machine/"), (-_LARGEST, _LARGEST))
    if not (array.min() >= least and array.max() <= most):  # neither holds where one is not a number
        raise ValueError(f"array {name!r} must hold numbers from {least:g} to {most:g}")
    return np.asarray(array, dtype=np.float64)
