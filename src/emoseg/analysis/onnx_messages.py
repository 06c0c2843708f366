"""A reader of ONNX files, which are messages of protocol buffers. It is stricter than the format.

References
----------
ONNX project. onnx.proto: the numbers and types of all fields.
Google. Protocol Buffers, "Encoding": the wire format.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_MOST_FIELDS = 500_000


class UnsafeGraphError(ValueError):
    """A file is not a segment model as emoseg writes it; the message names the rule that it breaks."""


def read_model(data: bytes) -> dict[str, Any]:
    """Return the fields of an ONNX model by name. Messages are dicts, repeated fields are lists.

    Parameters
    ----------
    data : bytes
        Content of the file.

    Raises
    ------
    UnsafeGraphError
        The bytes are not an ONNX model as emoseg writes it.
    """
    return _Reader().message(memoryview(data), _MODEL)


@dataclass(frozen=True)
class _Schema:
    """The fields that a message may have: the name and the kind of each, by its number.

    A kind is int, float, str, bytes or another schema. A repeated field has a list with its kind.
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
    """Reads messages by their schema, and refuses bytes that two ONNX parsers could read as different models."""

    def __init__(self) -> None:
        self._fields = 0

    def message(self, data: memoryview, schema: _Schema) -> dict[str, Any]:
        """Return the fields of a message by name; repeated fields are lists."""
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
    """Return the number that begins at a position, and the position after it; it has at most 64 bits, 7 per byte."""
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
