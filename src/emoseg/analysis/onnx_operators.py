"""The ONNX operators that a segment model may use, with rules for the shape and the cost of their results.

The cost is counted in steps: a step is about one multiplication.

References
----------
ONNX project. Operators.md: the specification of the operators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from emoseg.analysis.onnx_messages import UnsafeGraphError

Shape = tuple[int, ...]
Attributes = Mapping[str, Any]

_MOST_UNFOLDED = 50_000_000  # numbers in all windows of a convolution: 200 MB while it runs


@dataclass(frozen=True)
class Value:
    """The shape of a tensor. It holds floats; or, if `integers` is not None, these constant whole numbers."""

    shape: Shape
    integers: Shape | None = None


_Infer = Callable[[list[Any], Attributes], tuple[Shape, int]]
_KINDS: dict[type, tuple[str, int, Any]] = {  # per type of an attribute: field, number of the type, value if absent
    float: ("f", 1, 0.0),
    int: ("i", 2, 0),
    bytes: ("s", 3, b""),
    tuple: ("ints", 7, []),
}


@dataclass(frozen=True)
class Operator:
    """The rules for one operator.

    Parameters
    ----------
    infer : callable
        Takes the shapes of the inputs and the attributes, and returns the shape of the result and the number of steps
        per number of the result. If `listed`, the last input is given as its integers instead of its shape.
    fewest, most : int
        Smallest and largest number of inputs.
    listed : bool
        Whether the last input is a constant list of integers.
    free : mapping
        Attributes that may have any value, with their defaults.
    fixed : mapping
        Attributes that must have this value, which is also their default. The exporter writes no other value.
    """

    infer: _Infer
    fewest: int
    most: int
    listed: bool = False
    free: Attributes = field(default_factory=dict)
    fixed: Attributes = field(default_factory=dict)

    def __call__(self, given: list[Value], attributes: list[dict[str, Any]]) -> tuple[Shape, int]:
        """Return the shape of the result, and the number of steps per number of it.

        Parameters
        ----------
        given : list of Value
            The inputs.
        attributes : list of dict
            The fields of each attribute, as `read_model` returns them.

        Raises
        ------
        UnsafeGraphError
            The inputs or the attributes break a rule of the operator.
        """
        if not self.fewest <= len(given) <= self.most:
            raise UnsafeGraphError(f"has {len(given)} inputs")
        listed = [self.listed and i == len(given) - 1 for i in range(len(given))]
        if [value.integers is not None for value in given] != listed:
            raise UnsafeGraphError("an input is of the wrong type")
        shapes = [value.shape if value.integers is None else value.integers for value in given]
        return self.infer(shapes, self._settings(attributes))

    def _settings(self, attributes: list[dict[str, Any]]) -> dict[str, Any]:
        settings = {**self.free, **self.fixed}
        for attribute in attributes:
            name = attribute.get("name", "")
            if name not in settings:
                raise UnsafeGraphError(f"has the attribute {name!r}, which emoseg does not write")
            kind = type(settings[name])
            key, number, absent = _KINDS[kind]
            if attribute.get("type") != number or not set(attribute) <= {"name", "type", key}:
                raise UnsafeGraphError(f"its attribute {name!r} is of the wrong type")
            value = kind(attribute.get(key, absent))
            if name in self.fixed and value != self.fixed[name]:
                raise UnsafeGraphError(f"its attribute {name!r} must be {self.fixed[name]!r}")
            settings[name] = value
        if len({attribute.get("name", "") for attribute in attributes}) != len(attributes):
            raise UnsafeGraphError("has an attribute twice")
        return settings


def _same(given: list[Shape], _: Attributes) -> tuple[Shape, int]:
    return given[0], 1


def _softmax(given: list[Shape], attributes: Attributes) -> tuple[Shape, int]:
    _axis(attributes["axis"], len(given[0]))
    return given[0], 4


def _broadcast(given: list[Shape], _: Attributes) -> tuple[Shape, int]:
    try:
        return np.broadcast_shapes(*given), 1
    except ValueError as error:
        raise UnsafeGraphError(f"shapes {given} do not fit each other") from error


def _product(given: list[Shape], attributes: Attributes) -> tuple[Shape, int]:
    """Apply the rule of MatMul and Gemm: (M, K) times (K, N). In Gemm, (N, K) may be given and a third input added."""
    first, second = given[:2]
    if len(first) != 2 or len(second) != 2:
        raise UnsafeGraphError("its inputs must be matrices")
    inner, width = reversed(second) if attributes.get("transB") else second
    shape = (first[0], width)
    if first[1] != inner or (len(given) == 3 and _broadcast([shape, given[2]], {})[0] != shape):
        raise UnsafeGraphError(f"shapes {given} do not fit each other")
    return shape, inner


def _concat(given: list[Shape], attributes: Attributes) -> tuple[Shape, int]:
    axis = _axis(attributes["axis"], len(given[0]))
    if any(len(s) != len(given[0]) for s in given) or len({(*s[:axis], *s[axis + 1 :]) for s in given}) != 1:
        raise UnsafeGraphError("its inputs have shapes that do not fit each other")
    return (*given[0][:axis], sum(s[axis] for s in given), *given[0][axis + 1 :]), 1


def _reduce(given: list[Shape], attributes: Attributes) -> tuple[Shape, int]:
    shape, axes = given[0], {_axis(axis, len(given[0])) for axis in given[1]}
    if attributes["keepdims"] not in (0, 1) or not axes or len(axes) != len(given[1]):
        raise UnsafeGraphError("its axes or 'keepdims' are wrong")
    kept = [1 if i in axes else n for i, n in enumerate(shape) if attributes["keepdims"] or i not in axes]
    return tuple(kept), 1


def _unsqueeze(given: list[Shape], _: Attributes) -> tuple[Shape, int]:
    rank = len(given[0]) + len(given[1])
    axes = {_axis(axis, rank) for axis in given[1]}
    if len(axes) != len(given[1]):
        raise UnsafeGraphError("names an axis twice")
    sizes = iter(given[0])
    return tuple(1 if i in axes else next(sizes) for i in range(rank)), 1


def _reshape(given: list[Shape], _: Attributes) -> tuple[Shape, int]:
    source, target = given
    known = prod(n for n in target if n != -1)
    if target.count(-1) > 1 or any(n < 1 for n in target if n != -1) or prod(source) % known:
        raise UnsafeGraphError(f"cannot make the shape {target} of {source}")
    shape = tuple(prod(source) // known if n == -1 else n for n in target)
    if prod(shape) != prod(source):
        raise UnsafeGraphError(f"cannot make the shape {target} of {source}")
    return shape, 1


def _convolution(given: list[Shape], attributes: Attributes) -> tuple[Shape, int]:
    image, weights = given[:2]
    if len(weights) != 4 or len(image) != 4 or image[1] != weights[1] or given[2:] not in ([], [weights[:1]]):
        raise UnsafeGraphError("its inputs have shapes that do not fit each other")
    if attributes["kernel_shape"] not in ((), weights[2:]):
        raise UnsafeGraphError("'kernel_shape' is not that of its weights")
    size = _windows(image, weights[2:], attributes)
    if prod(weights[1:]) * prod(size) > _MOST_UNFOLDED:  # ONNX Runtime copies all windows into one matrix
        raise UnsafeGraphError(f"has windows of more than {_MOST_UNFOLDED} numbers together")
    return (image[0], weights[0], *size), prod(weights[1:])


def _pooling(given: list[Shape], attributes: Attributes) -> tuple[Shape, int]:
    image, kernel = given[0], attributes["kernel_shape"]
    if len(image) != 4 or len(kernel) != 2:
        raise UnsafeGraphError("must move a window of two dimensions over an image")
    return (*image[:2], *_windows(image, kernel, attributes)), prod(kernel)


def _windows(image: Shape, kernel: Shape, attributes: Attributes) -> Shape:
    """Return the number of window positions along each of the last two dimensions."""
    strides, pads, ceil = attributes["strides"], attributes["pads"], attributes.get("ceil_mode", 0)
    if len(strides) != 2 or len(pads) != 4 or ceil not in (0, 1):
        raise UnsafeGraphError("'strides', 'pads' or 'ceil_mode' are wrong")
    counts = []
    for size, width, stride, before, after in zip(image[2:], kernel, strides, pads[:2], pads[2:], strict=True):
        if not (width >= 1 and stride >= 1 and 0 <= before < width and 0 <= after < width):
            raise UnsafeGraphError("a window, 'strides' or 'pads' is out of range")
        room = size + before + after - width
        count = (-(-room // stride) if ceil else room // stride) + 1
        if ceil and (count - 1) * stride >= size + before:
            count -= 1  # the last window must begin inside the image
        if count < 1:
            raise UnsafeGraphError("a window is larger than the image")
        counts.append(count)
    return tuple(counts)


def _axis(axis: int, rank: int) -> int:
    """Return an axis as a number from 0; it may be negative."""
    if not -rank <= axis < rank:
        raise UnsafeGraphError(f"has no axis {axis}")
    return axis % rank


_ELEMENTWISE = Operator(_broadcast, 2, 2)
_IMAGE: Attributes = {"kernel_shape": (), "strides": (1, 1), "pads": (0, 0, 0, 0)}
_IMAGE_FIXED: Attributes = {"auto_pad": b"NOTSET", "dilations": (1, 1)}

# The operators that emoseg's exporter writes, with or without its optimiser.
OPERATORS: dict[str, Operator] = {
    "Add": _ELEMENTWISE,
    "BatchNormalization": Operator(_same, 5, 5, free={"epsilon": 1e-5, "momentum": 0.9}, fixed={"training_mode": 0}),
    "Clip": Operator(_same, 1, 3),
    "Concat": Operator(_concat, 1, 1000, free={"axis": 0}),
    "Conv": Operator(_convolution, 2, 3, free=_IMAGE, fixed={**_IMAGE_FIXED, "group": 1}),
    "Gemm": Operator(_product, 2, 3, free={"alpha": 1.0, "beta": 1.0, "transB": 0}, fixed={"transA": 0}),
    "Identity": Operator(_same, 1, 1),
    "MatMul": Operator(_product, 2, 2),
    "Max": _ELEMENTWISE,
    "MaxPool": Operator(_pooling, 1, 1, free={**_IMAGE, "ceil_mode": 0}, fixed={**_IMAGE_FIXED, "storage_order": 0}),
    "Min": _ELEMENTWISE,
    "Mul": _ELEMENTWISE,
    "ReduceMax": Operator(_reduce, 2, 2, True, free={"keepdims": 1}, fixed={"noop_with_empty_axes": 0}),
    "ReduceMean": Operator(_reduce, 2, 2, True, free={"keepdims": 1}, fixed={"noop_with_empty_axes": 0}),
    "Relu": Operator(_same, 1, 1),
    "Reshape": Operator(_reshape, 2, 2, True, free={"allowzero": 0}),
    "Softmax": Operator(_softmax, 1, 1, free={"axis": -1}),
    "Sub": _ELEMENTWISE,
    "Unsqueeze": Operator(_unsqueeze, 2, 2, True),
}
