"""What ``segment.onnx`` may hold, checked before ONNX Runtime sees it.

A model folder can come from a stranger, and ONNX Runtime runs what a graph says: loops without end, tensors that fill
the memory, files beside the model. So the file must look like what emoseg's own exporter writes, by rules that are
simple enough to be checked without running anything:

1. The bytes are protocol buffers with the fields that the exporter uses, and no others: no subgraphs, functions,
   external data, sparse tensors.
2. Inputs are the frontends' features, the one output is ``probabilities``, and operators are those in `_OPERATORS`.
3. Every value is made once, before it is used, and its shape for one segment follows from what is known; so the
   numbers that the graph holds and the steps that it takes can be counted, and are bounded.

References
----------
ONNX intermediate representation and operators: the file ``onnx.proto`` and ``Operators.md`` of the project ONNX.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

Shape = tuple[int, ...]
Attributes = Mapping[str, Any]

OUTPUT = "probabilities"
_OPSETS = range(18, 25)
_MOST_FIELDS = 500_000
_MOST_NODES = 5_000
_MOST_DIMENSIONS = 8
_MOST_NUMBERS = 100_000_000  # in all intermediate results for one segment: 400 MB
_MOST_UNFOLDED = 50_000_000  # in all windows of a convolution: 200 MB for a moment
_MOST_STEPS = 5_000_000_000  # multiplications for one segment: about a second

_FLOAT, _INT64 = 1, 7  # TensorProto.DataType


class UnsafeGraphError(ValueError):
    """A file is not a segment model that emoseg could have written; the message is the rule that it breaks."""


def check_segment_model(data: bytes, *, inputs: Mapping[str, Shape], labels: int) -> None:
    """Check that the content of an ONNX file is a segment model that can be run without harm.

    Parameters
    ----------
    data : bytes
    inputs : mapping of str to tuple of int
        Name of each frontend, and the shape of one segment's features.
    labels : int
        Number K of probabilities.

    Raises
    ------
    UnsafeGraphError
        The message is the rule that the file breaks.
    """
    model = _Reader().message(memoryview(data), _MODEL)
    opsets = [(opset.get("domain", ""), opset.get("version", 0)) for opset in model.get("opset_import", [])]
    if len(opsets) != 1 or opsets[0][0] or opsets[0][1] not in _OPSETS:
        raise UnsafeGraphError(f"must use the standard operators of versions 18 to 24, and no others; uses {opsets}")
    graph = model.get("graph", {})
    values = _inputs(graph, inputs) | _constants(graph)
    if len(values) != len(inputs) + len(graph.get("initializer", [])):
        raise UnsafeGraphError("defines a value twice")
    _run_shapes(graph.get("node", []), values)
    outputs = graph.get("output", [])
    if [output.get("name") for output in outputs] != [OUTPUT]:
        raise UnsafeGraphError(f"must have one output, {OUTPUT!r}")
    if OUTPUT not in values or values[OUTPUT].shape != (1, labels):
        raise UnsafeGraphError(f"its output {OUTPUT!r} must be one probability for each of {labels} labels")
    _check_declared([*outputs, *graph.get("value_info", [])], values)


# --- reading protocol buffers ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Schema:
    """The fields that a message may have: the number of each to its name and kind.

    Kinds are int, float, str, bytes and other schemas; in a list where the field may be repeated.
    """

    message: str
    fields: Mapping[int, tuple[str, Any]]


_PROPERTY = _Schema("a property", {1: ("key", str), 2: ("value", str)})
_DIMENSION = _Schema("a dimension", {1: ("dim_value", int), 2: ("dim_param", str)})
_SHAPE = _Schema("a shape", {1: ("dim", [_DIMENSION])})
_TENSOR_TYPE = _Schema("a tensor's type", {1: ("elem_type", int), 2: ("shape", _SHAPE)})
_TYPE = _Schema("a type", {1: ("tensor_type", _TENSOR_TYPE)})
_VALUE_INFO = _Schema("a value", {1: ("name", str), 2: ("type", _TYPE), 4: ("metadata_props", [_PROPERTY])})
_TENSOR = _Schema("a constant", {1: ("dims", [int]), 2: ("data_type", int), 8: ("name", str), 9: ("raw_data", bytes)})
_ATTRIBUTE = _Schema(
    "an attribute",
    {1: ("name", str), 2: ("f", float), 3: ("i", int), 4: ("s", bytes), 8: ("ints", [int]), 20: ("type", int)},
)
_NODE = _Schema(
    "an operation",
    {
        1: ("input", [str]),
        2: ("output", [str]),
        3: ("name", str),
        4: ("op_type", str),
        5: ("attribute", [_ATTRIBUTE]),
        7: ("domain", str),
    },
)
_GRAPH = _Schema(
    "its graph",
    {
        1: ("node", [_NODE]),
        2: ("name", str),
        5: ("initializer", [_TENSOR]),
        11: ("input", [_VALUE_INFO]),
        12: ("output", [_VALUE_INFO]),
        13: ("value_info", [_VALUE_INFO]),
        16: ("metadata_props", [_PROPERTY]),
    },
)
_OPSET = _Schema("an operator set", {1: ("domain", str), 2: ("version", int)})
_MODEL = _Schema(
    "the model",
    {
        1: ("ir_version", int),
        2: ("producer_name", str),
        3: ("producer_version", str),
        7: ("graph", _GRAPH),
        8: ("opset_import", [_OPSET]),
    },
)
_VARINT, _BYTES, _FIXED32 = 0, 2, 5  # wire types


class _Reader:
    """Messages by schema; stricter than the format, so that no other reader can see another model in the same bytes."""

    def __init__(self) -> None:
        self._fields = 0

    def message(self, data: memoryview, schema: _Schema) -> dict[str, Any]:
        """Return the fields of a message; repeated ones are lists."""
        found: dict[str, Any] = {}
        at = 0
        while at < len(data):
            self._fields += 1
            if self._fields > _MOST_FIELDS:
                raise UnsafeGraphError(f"has more than {_MOST_FIELDS} fields")
            tag, at = _varint(data, at)
            if tag >> 3 not in schema.fields:
                raise UnsafeGraphError(f"is not ONNX as emoseg writes it: {schema.message} has a field {tag >> 3}")
            name, kind = schema.fields[tag >> 3]
            repeated = isinstance(kind, list)
            value, at = self._value(data, at, tag & 7, kind[0] if repeated else kind)
            if repeated:
                found.setdefault(name, []).append(value)
            elif name in found:
                raise UnsafeGraphError(f"is not ONNX as emoseg writes it: {schema.message} has two fields {name!r}")
            else:
                found[name] = value
        return found

    def _value(self, data: memoryview, at: int, wire: int, kind: Any) -> tuple[Any, int]:
        if wire != {int: _VARINT, float: _FIXED32}.get(kind if isinstance(kind, type) else str, _BYTES):
            raise UnsafeGraphError("is not ONNX: a field is of the wrong type")
        if kind is int:
            value, at = _varint(data, at)
            return (value - (1 << 64) if value >> 63 else value), at
        size, at = (4, at) if kind is float else _varint(data, at)
        part = data[at : at + size]
        if len(part) < size:
            raise UnsafeGraphError("is cut off")
        if kind is float:
            return struct.unpack("<f", part)[0], at + size
        if kind is bytes:
            return part, at + size
        if kind is str:
            return _text(part), at + size
        return self.message(part, kind), at + size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return the number that begins at a place, at most 64 bits in groups of seven, and the place after it."""
    value = 0
    for i in range(10):
        if at + i >= len(data):
            raise UnsafeGraphError("is cut off")
        value |= (data[at + i] & 0x7F) << (7 * i)
        if data[at + i] < 0x80:
            if value >> 64:
                break
            return value, at + i + 1
    raise UnsafeGraphError("is not ONNX: a number has more than 64 bits")


def _text(data: memoryview) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise UnsafeGraphError("is not ONNX: a name is not UTF-8") from error


# --- values ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Value:
    """A tensor of floats of a shape; or, where `integers` is not None, a constant list of whole numbers."""

    shape: Shape
    integers: Shape | None = None


def _inputs(graph: Mapping[str, Any], inputs: Mapping[str, Shape]) -> dict[str, _Value]:
    declared = {info.get("name"): info for info in graph.get("input", [])}
    if len(graph.get("input", [])) != len(inputs) or set(declared) != set(inputs):
        raise UnsafeGraphError(f"must have the inputs {', '.join(inputs)}, which are the frontends, and no others")
    for name, shape in inputs.items():
        dimensions = _dimensions(declared[name])
        if dimensions != [None, *shape]:
            raise UnsafeGraphError(f"its input {name!r} must have the shape {('batch', *shape)} of the frontend")
    return {name: _Value((1, *shape)) for name, shape in inputs.items()}


def _dimensions(info: Mapping[str, Any], data_type: int = _FLOAT) -> list[int | None]:
    """Return the declared size of each dimension; None for one that is named instead, which can only be the batch."""
    tensor = info.get("type", {}).get("tensor_type", {})
    if tensor.get("elem_type") != data_type or "shape" not in tensor:
        raise UnsafeGraphError(f"{info.get('name', '')!r} is declared with the wrong type or without a shape")
    found: list[int | None] = []
    for dimension in tensor["shape"].get("dim", []):
        if ("dim_value" in dimension) == ("dim_param" in dimension):
            raise UnsafeGraphError(f"{info.get('name', '')!r} is declared with a dimension without a size")
        found.append(dimension.get("dim_value"))
    return found


def _check_declared(infos: list[dict[str, Any]], values: Mapping[str, _Value]) -> None:
    """Check that declared shapes are the true ones: ONNX Runtime may plan its memory by them."""
    for info in infos:
        value = values.get(info.get("name", ""))
        if value is None:
            raise UnsafeGraphError(f"declares {info.get('name', '')!r}, which does not exist")
        declared = _dimensions(info, _FLOAT if value.integers is None else _INT64)
        if tuple(1 if size is None else size for size in declared) != value.shape:
            raise UnsafeGraphError(f"declares {info['name']!r} with a wrong shape")


def _constants(graph: Mapping[str, Any]) -> dict[str, _Value]:
    tensors = graph.get("initializer", [])
    found = {tensor.get("name", ""): _constant(tensor) for tensor in tensors}
    if len(found) != len(tensors) or "" in found:
        raise UnsafeGraphError("has constants without a name, or two of one name")
    return found


def _constant(tensor: Mapping[str, Any]) -> _Value:
    name, shape, raw = tensor.get("name", ""), tuple(tensor.get("dims", [])), tensor.get("raw_data", b"")
    size = {_FLOAT: 4, _INT64: 8}.get(tensor.get("data_type", 0))
    if size is None:
        raise UnsafeGraphError(f"its constant {name!r} must hold 32-bit floats or 64-bit integers")
    if len(shape) > _MOST_DIMENSIONS or any(n < 1 for n in shape) or prod(shape) * size != len(raw):
        raise UnsafeGraphError(f"its constant {name!r} has a shape that does not fit its data")
    if size == 4:
        return _Value(shape)
    if len(shape) > 1 or prod(shape) > _MOST_DIMENSIONS:
        raise UnsafeGraphError(f"its constant {name!r} has more integers than a shape or a list of axes")
    return _Value(shape, tuple(np.frombuffer(raw, dtype="<i8").tolist()))


def _run_shapes(nodes: list[dict[str, Any]], values: dict[str, _Value]) -> None:
    """Add the shapes of all results to `values`, and count numbers and steps."""
    if len(nodes) > _MOST_NODES:
        raise UnsafeGraphError(f"has {len(nodes)} operations; at most {_MOST_NODES}")
    numbers = steps = 0
    for node in nodes:
        name = node.get("op_type", "")
        operator = _OPERATORS.get(name)
        if operator is None or node.get("domain", ""):
            raise UnsafeGraphError(f"has the operator {name!r}, which emoseg does not write")
        given = [_used(values, source) for source in node.get("input", [])]
        try:
            shape, steps_each = operator(given, node.get("attribute", []))
        except UnsafeGraphError as error:
            raise UnsafeGraphError(f"{name}: {error}") from error
        if len(shape) > _MOST_DIMENSIONS:
            raise UnsafeGraphError(f"{name}: makes more than {_MOST_DIMENSIONS} dimensions")
        numbers += prod(shape)
        steps += prod(shape) * steps_each + sum(prod(value.shape) for value in given)
        if numbers > _MOST_NUMBERS:
            raise UnsafeGraphError(f"computes more than {_MOST_NUMBERS} numbers for one segment")
        if steps > _MOST_STEPS:
            raise UnsafeGraphError(f"takes more than {_MOST_STEPS} steps for one segment")
        outputs = node.get("output", [])
        if len(outputs) != 1 or not outputs[0] or outputs[0] in values:
            raise UnsafeGraphError(f"{name}: must make one value that has a name and was not made before")
        values[outputs[0]] = _Value(shape)


def _used(values: Mapping[str, _Value], name: str) -> _Value:
    if name not in values:
        raise UnsafeGraphError(f"uses {name!r} before it is made")
    return values[name]


# --- operators -------------------------------------------------------------------------------------------------------

_Infer = Callable[[list[Any], Attributes], tuple[Shape, int]]
_KINDS: dict[type, tuple[str, int, Any]] = {  # of an attribute: its field, its type's number, and its value if absent
    float: ("f", 1, 0.0),
    int: ("i", 2, 0),
    bytes: ("s", 3, b""),
    tuple: ("ints", 7, []),
}


@dataclass(frozen=True)
class _Operator:
    """What is known of an operator.

    Parameters
    ----------
    infer : callable
        From the inputs' shapes (for the last one of an operator with `listed`: the integers) and the attributes to the
        result's shape and the steps that each of its numbers takes.
    fewest, most : int
        Number of inputs.
    listed : bool
        The last input is a constant list of integers.
    free : mapping
        Attributes of any value, with their defaults.
    fixed : mapping
        Attributes that may only have the value that the exporter gives them, which is also their default.
    """

    infer: _Infer
    fewest: int
    most: int
    listed: bool = False
    free: Attributes = field(default_factory=dict)
    fixed: Attributes = field(default_factory=dict)

    def __call__(self, given: list[_Value], attributes: list[dict[str, Any]]) -> tuple[Shape, int]:
        """Return the result's shape, and the steps that each of its numbers takes."""
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
    """Infer Gemm and MatMul: (M, K) times (K, N), and for Gemm the second may be transposed and a third be added."""
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
    if prod(weights[1:]) * prod(size) > _MOST_UNFOLDED:  # what a product of matrices needs in place of the image
        raise UnsafeGraphError(f"has windows of more than {_MOST_UNFOLDED} numbers together")
    return (image[0], weights[0], *size), prod(weights[1:])


def _pooling(given: list[Shape], attributes: Attributes) -> tuple[Shape, int]:
    image, kernel = given[0], attributes["kernel_shape"]
    if len(image) != 4 or len(kernel) != 2:
        raise UnsafeGraphError("must move a window of two dimensions over an image")
    return (*image[:2], *_windows(image, kernel, attributes)), prod(kernel)


def _windows(image: Shape, kernel: Shape, attributes: Attributes) -> Shape:
    """Return how many windows fit along each of the last two dimensions."""
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
            count -= 1  # the last window must begin on the image, not behind it
        if count < 1:
            raise UnsafeGraphError("a window is larger than the image")
        counts.append(count)
    return tuple(counts)


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise UnsafeGraphError(f"has no axis {axis}")
    return axis % rank


_ELEMENTWISE = _Operator(_broadcast, 2, 2)
_IMAGE: Attributes = {"kernel_shape": (), "strides": (1, 1), "pads": (0, 0, 0, 0)}
_IMAGE_FIXED: Attributes = {"auto_pad": b"NOTSET", "dilations": (1, 1)}

# What emoseg's exporter writes, with its optimiser or without.
_OPERATORS: dict[str, _Operator] = {
    "Add": _ELEMENTWISE,
    "BatchNormalization": _Operator(_same, 5, 5, free={"epsilon": 1e-5, "momentum": 0.9}, fixed={"training_mode": 0}),
    "Clip": _Operator(_same, 1, 3),
    "Concat": _Operator(_concat, 1, 1000, free={"axis": 0}),
    "Conv": _Operator(_convolution, 2, 3, free=_IMAGE, fixed={**_IMAGE_FIXED, "group": 1}),
    "Gemm": _Operator(_product, 2, 3, free={"alpha": 1.0, "beta": 1.0, "transB": 0}, fixed={"transA": 0}),
    "Identity": _Operator(_same, 1, 1),
    "MatMul": _Operator(_product, 2, 2),
    "Max": _ELEMENTWISE,
    "MaxPool": _Operator(_pooling, 1, 1, free={**_IMAGE, "ceil_mode": 0}, fixed={**_IMAGE_FIXED, "storage_order": 0}),
    "Min": _ELEMENTWISE,
    "Mul": _ELEMENTWISE,
    "ReduceMax": _Operator(_reduce, 2, 2, True, free={"keepdims": 1}, fixed={"noop_with_empty_axes": 0}),
    "ReduceMean": _Operator(_reduce, 2, 2, True, free={"keepdims": 1}, fixed={"noop_with_empty_axes": 0}),
    "Relu": _Operator(_same, 1, 1),
    "Reshape": _Operator(_reshape, 2, 2, True, free={"allowzero": 0}),
    "Softmax": _Operator(_softmax, 1, 1, free={"axis": -1}),
    "Sub": _ELEMENTWISE,
    "Unsqueeze": _Operator(_unsqueeze, 2, 2, True),
}
