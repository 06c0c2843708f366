"""The rules of each ONNX operator: shapes and steps by hand, and a refusal for each way to break a rule."""

from __future__ import annotations

from typing import Any

import pytest

from emoseg.analysis.onnx_messages import UnsafeGraphError
from emoseg.analysis.onnx_operators import OPERATORS, Value

Shape = tuple[int, ...]
NUMBERS = {float: ("f", 1), int: ("i", 2), bytes: ("s", 3), tuple: ("ints", 7)}


def apply(name: str, *shapes: Shape, listed: Shape | None = None, **attributes: Any) -> tuple[Shape, int]:
    """Return what an operator makes of inputs with some shapes; `listed` are the integers of a last input."""
    given = [Value(shape) for shape in shapes]
    if listed is not None:
        given.append(Value((len(listed),), listed))
    return OPERATORS[name](given, [attribute(key, value) for key, value in attributes.items()])


def attribute(name: str, value: Any) -> dict[str, Any]:
    key, number = NUMBERS[type(value)]
    return {"name": name, "type": number, key: value}


@pytest.mark.parametrize(
    ("name", "shapes", "listed", "attributes", "shape", "steps"),
    [
        ("Relu", [(2, 3)], None, {}, (2, 3), 1),
        ("Softmax", [(2, 3)], None, {}, (2, 3), 4),
        ("Softmax", [(2, 3)], None, {"axis": -2}, (2, 3), 4),
        ("Softmax", [(2, 3)], None, {"axis": 1}, (2, 3), 4),
        ("Add", [(2, 1, 3), (4, 1)], None, {}, (2, 4, 3), 1),
        ("Clip", [(2, 3), (), ()], None, {}, (2, 3), 1),
        ("BatchNormalization", [(2, 3), (3,), (3,), (3,), (3,)], None, {"epsilon": 0.001}, (2, 3), 1),
        ("MatMul", [(2, 3), (3, 5)], None, {}, (2, 5), 3),
        ("Gemm", [(2, 3), (3, 5)], None, {}, (2, 5), 3),
        ("Gemm", [(2, 3), (5, 3)], None, {"transB": 1}, (2, 5), 3),
        ("Gemm", [(2, 3), (5, 3), (5,)], None, {"transB": 1, "alpha": 0.5}, (2, 5), 3),
        ("Concat", [(2, 3), (2, 4), (2, 1)], None, {"axis": 1}, (2, 8), 1),
        ("Concat", [(2, 3, 5), (4, 3, 5)], None, {}, (6, 3, 5), 1),
        ("Concat", [(2, 3, 5), (2, 7, 5)], None, {"axis": -2}, (2, 10, 5), 1),
        ("ReduceMean", [(2, 3, 5)], (1,), {}, (2, 1, 5), 1),
        ("ReduceMean", [(2, 3, 5)], (-1, 1), {"keepdims": 0}, (2,), 1),
        ("ReduceMax", [(2, 3, 5)], (0, 2), {"keepdims": 1}, (1, 3, 1), 1),
        ("Unsqueeze", [(2, 3)], (0,), {}, (1, 2, 3), 1),
        ("Unsqueeze", [(2, 3)], (1, -1), {}, (2, 1, 3, 1), 1),
        ("Reshape", [(2, 3, 4)], (6, 4), {}, (6, 4), 1),
        ("Reshape", [(2, 3, 4)], (-1, 3), {}, (8, 3), 1),
        ("Conv", [(1, 2, 10, 12), (4, 2, 3, 5)], None, {}, (1, 4, 8, 8), 30),
        ("Conv", [(1, 2, 10, 12), (4, 2, 3, 5), (4,)], None, {"kernel_shape": (3, 5)}, (1, 4, 8, 8), 30),
        ("Conv", [(1, 2, 10, 12), (4, 2, 3, 5)], None, {"pads": (1, 2, 1, 2)}, (1, 4, 10, 12), 30),
        ("Conv", [(1, 2, 10, 12), (4, 2, 3, 5)], None, {"pads": (2, 0, 1, 4), "strides": (2, 3)}, (1, 4, 6, 4), 30),
        ("MaxPool", [(1, 2, 10, 12)], None, {"kernel_shape": (2, 3), "strides": (2, 3)}, (1, 2, 5, 4), 6),
        ("MaxPool", [(1, 2, 11, 12)], None, {"kernel_shape": (2, 3), "strides": (2, 3)}, (1, 2, 5, 4), 6),
        (
            "MaxPool",
            [(1, 2, 11, 13)],
            None,
            {"kernel_shape": (2, 3), "strides": (2, 3), "ceil_mode": 1},
            (1, 2, 6, 5),
            6,
        ),
        # The last window would begin outside the image: 2 + 1 rows before it, windows begin at 0, 3 and 6.
        (
            "MaxPool",
            [(1, 1, 5, 5)],
            None,
            {"kernel_shape": (2, 2), "strides": (3, 3), "pads": (1, 1, 1, 1), "ceil_mode": 1},
            (1, 1, 2, 2),
            4,
        ),
        ("MaxPool", [(1, 1, 2, 3)], None, {"kernel_shape": (2, 3)}, (1, 1, 1, 1), 6),
    ],
)
def test_shapes_and_steps(
    name: str, shapes: list[Shape], listed: Shape | None, attributes: dict[str, Any], shape: Shape, steps: int
) -> None:
    assert apply(name, *shapes, listed=listed, **attributes) == (shape, steps)


@pytest.mark.parametrize(
    ("name", "shapes", "listed", "attributes", "rule"),
    [
        ("Relu", [], None, {}, "has 0 inputs"),
        ("Relu", [(2,), (2,)], None, {}, "has 2 inputs"),
        ("Relu", [], (2,), {}, "an input is of the wrong type"),
        ("Reshape", [(2, 3), (2,)], None, {}, "an input is of the wrong type"),
        ("Relu", [(2,)], None, {"axis": 1}, "has the attribute 'axis'"),
        ("Softmax", [(2, 3)], None, {"axis": 1.0}, "'axis' is of the wrong type"),
        ("Conv", [(1, 2, 9, 9), (4, 2, 3, 3)], None, {"group": 2}, "'group' must be 1"),
        ("Softmax", [(2, 3)], None, {"axis": 2}, "has no axis 2"),
        ("Softmax", [(2, 3)], None, {"axis": -3}, "has no axis -3"),
        ("Add", [(2, 3), (4,)], None, {}, "do not fit each other"),
        ("MatMul", [(2, 3), (4, 5)], None, {}, "do not fit each other"),
        ("MatMul", [(2, 3, 4), (4, 5)], None, {}, "must be matrices"),
        ("MatMul", [(2, 4), (3, 4, 5)], None, {}, "must be matrices"),
        ("Gemm", [(2, 3), (3, 5), (4,)], None, {}, "do not fit each other"),
        ("Gemm", [(2, 3), (3, 5), (7, 2, 5)], None, {}, "do not fit each other"),
        ("Concat", [(2, 3), (3, 4)], None, {"axis": 1}, "do not fit each other"),
        ("Concat", [(2, 3), (2,)], None, {"axis": 1}, "do not fit each other"),
        ("Concat", [(2,), (2, 3)], None, {"axis": 0}, "do not fit each other"),
        ("ReduceMean", [(2, 3)], (), {}, "axes or 'keepdims'"),
        ("ReduceMean", [(2, 3)], (1, -1), {}, "axes or 'keepdims'"),
        ("ReduceMean", [(2, 3)], (1,), {"keepdims": 2}, "axes or 'keepdims'"),
        ("ReduceMean", [(2, 3)], (2,), {}, "has no axis 2"),
        ("Unsqueeze", [(2, 3)], (0, -4), {}, "an axis twice"),
        ("Unsqueeze", [(2, 3)], (3,), {}, "has no axis 3"),
        ("Reshape", [(2, 3)], (-1, -1), {}, "cannot make the shape"),
        ("Reshape", [(2, 3)], (0, 6), {}, "cannot make the shape"),
        ("Reshape", [(2, 3)], (4, -1), {}, "cannot make the shape"),
        ("Reshape", [(2, 3)], (3, 1), {}, "cannot make the shape"),
        ("Reshape", [(2, 3)], (-2, -3), {}, "cannot make the shape"),
        ("Conv", [(1, 2, 9, 9), (4, 3, 3, 3)], None, {}, "do not fit each other"),
        ("Conv", [(2, 9, 9), (4, 2, 3, 3)], None, {}, "do not fit each other"),
        ("Conv", [(1, 2, 9, 9), (4, 2, 3)], None, {}, "do not fit each other"),
        ("Conv", [(1, 2, 9, 9), (4, 2, 3, 3), (3,)], None, {}, "do not fit each other"),
        ("Conv", [(1, 2, 9, 9), (4, 2, 3, 3)], None, {"kernel_shape": (3, 2)}, "not that of its weights"),
        ("Conv", [(1, 1, 5002, 5002), (1, 1, 2, 1)], None, {}, "more than 50000000 numbers"),
        ("Conv", [(1, 2, 9, 9), (4, 2, 3, 3)], None, {"strides": (1,)}, "'strides', 'pads' or 'ceil_mode'"),
        ("Conv", [(1, 2, 9, 9), (4, 2, 3, 3)], None, {"pads": (0, 0)}, "'strides', 'pads' or 'ceil_mode'"),
        ("MaxPool", [(1, 2, 9, 9)], None, {"kernel_shape": (2, 2), "ceil_mode": 2}, "'strides', 'pads' or 'ceil_mode'"),
        ("MaxPool", [(2, 9, 9)], None, {"kernel_shape": (2, 2)}, "must move a window of two dimensions"),
        ("MaxPool", [(1, 2, 9, 9)], None, {"kernel_shape": (2,)}, "must move a window of two dimensions"),
        ("MaxPool", [(1, 2, 9, 9)], None, {"kernel_shape": (0, 2)}, "is out of range"),
        ("MaxPool", [(1, 2, 9, 9)], None, {"kernel_shape": (2, 2), "strides": (0, 1)}, "is out of range"),
        ("MaxPool", [(1, 2, 9, 9)], None, {"kernel_shape": (2, 2), "pads": (2, 0, 0, 0)}, "is out of range"),
        ("MaxPool", [(1, 2, 9, 9)], None, {"kernel_shape": (2, 2), "pads": (0, 0, 0, 2)}, "is out of range"),
        ("MaxPool", [(1, 2, 9, 9)], None, {"kernel_shape": (2, 2), "pads": (-1, 0, 0, 0)}, "is out of range"),
        ("MaxPool", [(1, 2, 9, 9)], None, {"kernel_shape": (10, 2)}, "larger than the image"),
        ("MaxPool", [(1, 2, 9, 9)], None, {"kernel_shape": (2, 10)}, "larger than the image"),
    ],
)
def test_what_breaks_a_rule_is_refused(
    name: str, shapes: list[Shape], listed: Shape | None, attributes: dict[str, Any], rule: str
) -> None:
    with pytest.raises(UnsafeGraphError, match=rule):
        apply(name, *shapes, listed=listed, **attributes)


def test_the_largest_windows_that_are_allowed() -> None:
    assert apply("Conv", (1, 1, 5001, 5000), (1, 1, 2, 1)) == ((1, 1, 5000, 5000), 2)


@pytest.mark.parametrize(
    ("attributes", "rule"),
    [
        ([attribute("axis", 1), attribute("axis", 1)], "has an attribute twice"),
        ([{**attribute("axis", 1), "f": 1.0}], "of the wrong type"),
        ([{"type": 2, "i": 1}], "has the attribute ''"),
    ],
)
def test_attributes_that_are_not_as_the_exporter_writes_them(attributes: list[dict[str, Any]], rule: str) -> None:
    with pytest.raises(UnsafeGraphError, match=rule):
        OPERATORS["Softmax"]([Value((2, 3))], attributes)


def test_an_attribute_without_a_value_is_zero_or_empty() -> None:
    assert OPERATORS["ReduceMean"]([Value((2, 3)), Value((1,), (1,))], [{"name": "keepdims", "type": 2}]) == ((2,), 1)
