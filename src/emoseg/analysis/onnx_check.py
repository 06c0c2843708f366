"""The check of ``segment.onnx`` before it is given to ONNX Runtime.

A model folder may come from an untrusted source, and ONNX Runtime executes any graph: it may loop forever, fill the
memory, or read other files. Therefore the file must look like those that emoseg's own exporter writes. The rules are
simple enough to be checked without running the graph:

1. The bytes are protocol buffers with the fields that the exporter uses and no others. There are no subgraphs,
   functions, external data or sparse tensors.
2. The inputs are the features of the frontends, the only output is ``probabilities``, and the operators are those in
   `OPERATORS`.
3. Every value is computed once, before it is used, and its shape for one segment can be derived. So the numbers in all
   results and the steps to compute them can be counted, and both are limited.

References
----------
ONNX project. onnx.proto: the intermediate representation; Operators.md: the operators.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from emoseg.analysis.onnx_messages import UnsafeGraphError, read_model
from emoseg.analysis.onnx_operators import OPERATORS, Shape, Value

OUTPUT = "probabilities"
_OPSETS = range(18, 25)
_MOST_NODES = 5_000
_MOST_DIMENSIONS = 8
_MOST_NUMBERS = 100_000_000  # in all intermediate results for one segment: 400 MB
_MOST_STEPS = 5_000_000_000  # multiplications for one segment: about a second

_FLOAT, _INT64 = 1, 7  # TensorProto.DataType


def check_segment_model(data: bytes, *, inputs: Mapping[str, Shape], labels: int) -> None:
    """Check that the content of an ONNX file is a segment model that is safe to run.

    Parameters
    ----------
    data : bytes
        Content of the file.
    inputs : mapping of str to tuple of int
        Shape of one segment's features per frontend, by the name of the frontend.
    labels : int
        Number of labels K: the output has shape (batch, K).

    Raises
    ------
    UnsafeGraphError
        The file breaks a rule, which the message names.
    """
    model = read_model(data)
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


def _inputs(graph: Mapping[str, Any], inputs: Mapping[str, Shape]) -> dict[str, Value]:
    declared = {info.get("name"): info for info in graph.get("input", [])}
    if len(graph.get("input", [])) != len(inputs) or set(declared) != set(inputs):
        raise UnsafeGraphError(f"must have the inputs {', '.join(inputs)}, which are the frontends, and no others")
    for name, shape in inputs.items():
        dimensions = _dimensions(declared[name])
        if dimensions != [None, *shape]:
            raise UnsafeGraphError(f"its input {name!r} must have the shape {('batch', *shape)} of the frontend")
    return {name: Value((1, *shape)) for name, shape in inputs.items()}


def _dimensions(info: Mapping[str, Any], data_type: int = _FLOAT) -> list[int | None]:
    """Return the declared size of each dimension. Only that of the batch may have a name instead, and gives None."""
    tensor = info.get("type", {}).get("tensor_type", {})
    if tensor.get("elem_type") != data_type or "shape" not in tensor:
        raise UnsafeGraphError(f"{info.get('name', '')!r} is declared with the wrong type or without a shape")
    found: list[int | None] = []
    for dimension in tensor["shape"].get("dim", []):
        if ("dim_value" in dimension) == ("dim_param" in dimension):
            raise UnsafeGraphError(f"{info.get('name', '')!r} is declared with a dimension without a size")
        found.append(dimension.get("dim_value"))
    return found


def _check_declared(infos: list[dict[str, Any]], values: Mapping[str, Value]) -> None:
    """Check that declared shapes are the derived ones, because ONNX Runtime may allocate memory by declared shapes."""
    for info in infos:
        value = values.get(info.get("name", ""))
        if value is None:
            raise UnsafeGraphError(f"declares {info.get('name', '')!r}, which does not exist")
        declared = _dimensions(info, _FLOAT if value.integers is None else _INT64)
        if tuple(1 if size is None else size for size in declared) != value.shape:
            raise UnsafeGraphError(f"declares {info['name']!r} with a shape that is not the derived one")


def _constants(graph: Mapping[str, Any]) -> dict[str, Value]:
    tensors = graph.get("initializer", [])
    found = {tensor.get("name", ""): _constant(tensor) for tensor in tensors}
    if len(found) != len(tensors) or "" in found:
        raise UnsafeGraphError("has constants without a name, or two of one name")
    return found


def _constant(tensor: Mapping[str, Any]) -> Value:
    name, shape, raw = tensor.get("name", ""), tuple(tensor.get("dims", [])), tensor.get("raw_data", b"")
    size = {_FLOAT: 4, _INT64: 8}.get(tensor.get("data_type", 0))
    if size is None:
        raise UnsafeGraphError(f"its constant {name!r} must hold 32-bit floats or 64-bit integers")
    if len(shape) > _MOST_DIMENSIONS or any(n < 1 for n in shape) or prod(shape) * size != len(raw):
        raise UnsafeGraphError(f"its constant {name!r} has a shape that does not fit its data")
    if size == 4:
        return Value(shape)
    if len(shape) > 1 or prod(shape) > _MOST_DIMENSIONS:
        raise UnsafeGraphError(f"its constant {name!r} has more integers than a shape or a list of axes")
    return Value(shape, tuple(np.frombuffer(raw, dtype="<i8").tolist()))


def _run_shapes(nodes: list[dict[str, Any]], values: dict[str, Value]) -> None:
    """Add the shapes of all results to `values`, and check that the results and their cost are within the limits."""
    if len(nodes) > _MOST_NODES:
        raise UnsafeGraphError(f"has {len(nodes)} operations; at most {_MOST_NODES} are allowed")
    numbers = steps = 0
    for node in nodes:
        name = node.get("op_type", "")
        operator = OPERATORS.get(name)
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
        values[outputs[0]] = Value(shape)


def _used(values: Mapping[str, Value], name: str) -> Value:
    if name not in values:
        raise UnsafeGraphError(f"uses {name!r} before it is made")
    return values[name]
