"""Hostile model folders for every command that opens one.

Whatever the folder: it works, or is refused with one line; nothing outside it is read or written, and neither time nor
memory run out. All folders are made from the bundled model, and all checksums in ``config.json`` are right, as a
stranger would have them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save

from emoseg.analysis.model_folder import BUNDLED, CONFIG_FILE, DEFAULT_MODEL, SEGMENT_FILE, SONG_FILE

Write = Callable[[Path], None]
Array = NDArray[Any]
Change = Callable[[dict[str, Any]], object]

HONEST = BUNDLED / DEFAULT_MODEL
FEATURES, LABELS = 608, 4


def trials(seed: int, count: int) -> Iterator[tuple[str, Write]]:
    """Yield a name and a function that writes a hostile model folder: first each known trick, then random damage.

    The function is given the path of a folder that does not exist yet; some also write beside it, into the folder that
    is to hold it, what a model must not be able to reach.
    """
    known = [*_configs(), *_songs(), *_graphs(), *_files()]
    yield from known[:count]
    kinds = (_flip_config, _change_config, _flip_song, _change_song, _flip_graph, _cut_graph, _change_graph)
    for i in range(count - len(known)):
        kind = kinds[i % len(kinds)]
        yield f"{kind.__name__[1:]}-{i}", partial(_write_random, kind, (seed, i))


def _write(folder: Path, **contents: bytes) -> None:
    """Write a copy of the honest model with other contents of ``config``, ``segment`` or ``song``, and checksums."""
    shutil.copytree(HONEST, folder)
    for name, content in contents.items():
        file = {"config": CONFIG_FILE, "segment": SEGMENT_FILE, "song": SONG_FILE}[name]
        (folder / file).write_bytes(content)
    if "config" not in contents:
        (folder / CONFIG_FILE).write_text(json.dumps(_config(folder)))


def _config(folder: Path = HONEST) -> dict[str, Any]:
    """Return the honest ``config.json`` with the checksums of a folder's files."""
    config: dict[str, Any] = json.loads((HONEST / CONFIG_FILE).read_text())
    for name in (SEGMENT_FILE, SONG_FILE):
        config["checksums"][name] = hashlib.blake2b((folder / name).read_bytes(), digest_size=16).hexdigest()
    return config


def _write_random(kind: Callable[[np.random.Generator], dict[str, bytes]], seed: tuple[int, int], folder: Path) -> None:
    _write(folder, **kind(np.random.default_rng(seed)))


# --- config.json -----------------------------------------------------------------------------------------------------


def _configs() -> Iterator[tuple[str, Write]]:
    honest = json.dumps(_config()).encode()
    contents = {
        "empty": b"",
        "null": b"null",
        "list": b"[]",
        "text": b"\xff\xfe\0",
        "open": b"{",
        "deep": b"[" * 900_000,
        "deep-value": honest.replace(b'"guards": {}', b'"guards": ' + b"[" * 400_000 + b"]" * 400_000),
        "nested-value": honest.replace(b'"guards": {}', b'"guards": ' + b"[" * 300 + b"]" * 300),
        "twice": honest[:-1] + b', "name": "other"}',
        "nan": honest.replace(b"0.99414", b'NaN, "x": 0.9'),
        "infinity": honest.replace(b'"seed": 0', b'"seed": -Infinity'),
        "long-number": honest.replace(b'"seed": 0', b'"seed": ' + b"9" * 100_000),
        "exponent": honest.replace(b'"seed": 0', b'"seed": 1e999'),
        "half-a-character": honest.replace(b"research only", b"\\ud800"),
        "megabytes": honest + b" " * 2_000_000,
        "utf-16": json.dumps(_config()).encode("utf-16"),
    }
    for name, content in contents.items():
        yield f"config-{name}", partial(_write, config=content)
    for name, change in _config_changes().items():
        yield f"config-{name}", partial(_write_config, change)


def _write_config(change: Change, folder: Path) -> None:
    config = _config()
    change(config)
    folder.parent.joinpath("outside").write_bytes(b"outside")
    _write(folder, config=json.dumps(config).encode())


def _config_changes() -> dict[str, Change]:
    outside = hashlib.blake2b(b"outside", digest_size=16).hexdigest()
    many = [f"label {i}" for i in range(5000)]
    axes = {label: {"valence": None, "arousal": None} for label in many}
    descriptors = {"name": "descriptors", "fft": 512, "hop": 64}
    logmel = {"name": "logmel", "bands": 8, "fft": 65536, "hop": 32}
    return {
        "checksum-outside": lambda c: c["checksums"].update({"../outside": outside}),
        "checksum-absolute": lambda c: c["checksums"].update({"/etc/passwd": outside}),
        "checksum-device": lambda c: c["checksums"].update({"/dev/zero": outside}),
        "checksum-itself": lambda c: c["checksums"].update({CONFIG_FILE: outside}),
        "many-labels": lambda c: c["space"].update(labels=many, axes=axes),
        "label-twice": lambda c: c["space"].update(labels=["Q1", "Q1", "Q3", "Q4"]),
        "label-escape": lambda c: c["space"]["labels"].append("\x1b]0;title\x07"),
        "label-long": lambda c: c["space"]["labels"].append("x" * 500_000),
        "label-number": lambda c: c["space"].update(labels=[1, 2, 3, 4]),
        "axis-far": lambda c: c["space"]["axes"]["Q1"].update(valence=1e300),
        "axis-key": lambda c: c["space"]["axes"]["Q1"].update(depth=1),
        "training-list": lambda c: c["training"].update(songs=[1], corpus={"a": 1}, licence=None),
        "key-of-two-lines": lambda c: c["figures"].update({"a\nemoseg: b\x1b[2J": "x"}),
        "hour-of-segments": lambda c: c["segment"].update(sample_rate_hz=192000, length_s=60, hop_s=0.06),
        "dense-segments": lambda c: c["segment"].update(length_s=60, hop_s=0.051),
        "dense-frames": lambda c: c["segment"].update(length_s=60) or c.update(frontends=[descriptors]),
        "long-frames": lambda c: c["segment"].update(length_s=60) or c.update(frontends=[logmel]),
        "many-frontends": lambda c: c.update(frontends=[descriptors] * 1000, frontend_versions=[1] * 1000),
        "instant-spans": lambda c: c["timeline"].update(mean_span_s=1e-308),
        "eternal-spans": lambda c: c["timeline"].update(mean_span_s=1e308),
    }


def _flip_config(random: np.random.Generator) -> dict[str, bytes]:
    return {"config": _flipped(json.dumps(_config()).encode(), random)}


def _change_config(random: np.random.Generator) -> dict[str, bytes]:
    """Put a hostile value, or nothing, at one place in the tree."""
    config = _config()
    places: list[tuple[Any, Any]] = []
    _collect_places(config, places)
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    numbers = (True, -1, 0, 2**31, 2**63, 10**400, 0.5, 1e308, 5e-324, float("nan"), float("inf"))
    texts = ("", "x" * 9999, "\x1b[2J", "a\nb", "\u202e")
    values: tuple[Any, ...] = (None, *numbers, *texts, [], {}, deep, ["a"] * 9999, {"a": 1})
    for _ in range(int(random.integers(1, 3))):
        holder, key = places[random.integers(len(places))]
        holder[key] = values[random.integers(len(values))]
    return {"config": json.dumps(config).encode()}


def _collect_places(value: Any, places: list[tuple[Any, Any]]) -> None:
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        places.append((value, key))
        _collect_places(value[key], places)


# --- song.safetensors ------------------------------------------------------------------------------------------------


def _songs() -> Iterator[tuple[str, Write]]:
    honest = (HONEST / SONG_FILE).read_bytes()
    header = int.from_bytes(honest[:8], "little")
    contents = {
        "empty": b"",
        "short": honest[:7],
        "header-cut": honest[: header // 2],
        "cut": honest[:-1],
        "longer": honest + b"x",
        "huge-header": (2**63).to_bytes(8, "little") + honest[8:],
        "gigabyte-header": (2**30).to_bytes(8, "little"),
        "deep-header": _safetensors(b'{"a": ' + b"[" * 100_000),
        "huge-shape": _one_array(shape=[2**32, 2**32], data_offsets=[0, 4]),
        "no-shape": _one_array(shape=[0, 2**63], data_offsets=[0, 0]),
        "beyond": _one_array(shape=[4], data_offsets=[0, 2**34]),
        "backwards": _one_array(shape=[1], data_offsets=[4, 0]),
        "no-arrays": _safetensors(b"{}"),
        "list": _safetensors(b"[]"),
        **{
            kind: _one_array(dtype=kind, shape=[2], data_offsets=[0, size])
            for kind, size in (("BF16", 4), ("BOOL", 2), ("F8_E4M3", 2), ("F4", 1), ("I64", 16))
        },
    }
    for name, content in contents.items():
        yield f"song-{name}", partial(_write, song=content)
    for name, change in _song_changes().items():
        yield f"song-{name}", partial(_write_song, change)


def _safetensors(header: bytes, data: bytes = bytes(4)) -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def _one_array(*, dtype: str = "F32", shape: list[int], data_offsets: list[int]) -> bytes:
    entry = {"dtype": dtype, "shape": shape, "data_offsets": data_offsets}
    return _safetensors(json.dumps({"bias": entry}).encode(), bytes(max(data_offsets) if max(data_offsets) < 99 else 4))


def _write_song(change: Change, folder: Path) -> None:
    arrays = load_file(HONEST / SONG_FILE)
    change(arrays)
    _write(folder, song=save(arrays))


def _song_changes() -> dict[str, Change]:
    changes: dict[str, Change] = {}
    for name, array in load_file(HONEST / SONG_FILE).items():
        values = {"nan": np.nan, "infinite": -np.inf, "zero": 0.0, "minus": -1.0, "huge": 1e30, "overflow": 1e300}
        for kind, value in values.items():
            with np.errstate(over="ignore"):
                changes[f"{name}-{kind}"] = partial(_put, name, np.full_like(array, value))
        changes[f"{name}-integers"] = partial(_put, name, array.astype(np.int64))
        changes[f"{name}-half"] = partial(_put, name, np.zeros(array.shape, np.float16))
        changes[f"{name}-scalar"] = partial(_put, name, np.ones(()))
        changes[f"{name}-short"] = partial(_put, name, array[:-1])
        changes[f"{name}-empty"] = partial(_put, name, array[:0])
        changes[f"{name}-rank"] = partial(_put, name, array[None])
        changes[f"{name}-missing"] = partial(_put, name, None)
    changes["additional"] = partial(_put, "other", np.ones(3))
    changes["no-machine"] = lambda arrays: [arrays.pop(name) for name in [*arrays] if "/" in name or name == "blend"]
    changes["other-summary"] = _shorten_summary
    changes["vectors-of-120-MB"] = _add_vectors
    return changes


def _put(name: str, array: Array | None, arrays: dict[str, Array]) -> None:
    if array is None:
        del arrays[name]
    else:
        arrays[name] = np.ascontiguousarray(array).reshape(array.shape)  # one of no dimensions gets one


def _shorten_summary(arrays: dict[str, Array]) -> None:
    for name in ("mean", "scale", "relevance"):
        arrays[f"machine/{name}"] = arrays[f"machine/{name}"][:10].copy()
    arrays["machine/support"] = arrays["machine/support"][:, :10].copy()


def _add_vectors(arrays: dict[str, Array]) -> None:
    count = 120_000_000 // arrays["machine/support"][0].nbytes
    arrays["machine/support"] = np.resize(arrays["machine/support"], (count, arrays["machine/support"].shape[1]))
    arrays["machine/weights"] = np.resize(arrays["machine/weights"], (count, arrays["machine/weights"].shape[1]))


def _flip_song(random: np.random.Generator) -> dict[str, bytes]:
    honest = (HONEST / SONG_FILE).read_bytes()
    header = int.from_bytes(honest[:8], "little") + 8
    if random.integers(2):
        return {"song": _flipped(honest[:header], random) + honest[header:]}
    return {"song": _flipped(honest, random)}


def _change_song(random: np.random.Generator) -> dict[str, bytes]:
    """Put extreme numbers at random places of one array."""
    arrays = load_file(HONEST / SONG_FILE)
    array = arrays[sorted(arrays)[random.integers(len(arrays))]]
    extremes = np.array([0, -1, 1e-40, 1e-30, 1e30, 3e38, np.nan, np.inf, -np.inf], dtype=array.dtype)
    array.flat[random.integers(0, array.size, int(random.integers(1, 20)))] = random.choice(extremes)
    return {"song": save(arrays)}


# --- segment.onnx ----------------------------------------------------------------------------------------------------


def _graphs() -> Iterator[tuple[str, Write]]:
    for name, build in {**_honest_graphs(), **_bombs(), **_forbidden_graphs()}.items():
        yield f"graph-{name}", partial(_write_graph, build)
    for name, change in _model_changes().items():
        yield f"graph-{name}", partial(_write_changed_graph, change)


def _write_graph(build: Callable[[], ModelProto | bytes], folder: Path) -> None:
    built = build()
    _write(folder, segment=built if isinstance(built, bytes) else built.SerializeToString())


def _write_changed_graph(change: Callable[[ModelProto], object], folder: Path) -> None:
    model = ModelProto.FromString((HONEST / SEGMENT_FILE).read_bytes())
    change(model)
    _write(folder, segment=model.SerializeToString())


def _model(nodes: list[NodeProto], last: str = "descriptors", width: int = FEATURES, **arrays: Any) -> ModelProto:
    """Return a model with some operations, whose last result, of `width` numbers, becomes probabilities."""
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    arrays["weights"] = np.zeros((width, LABELS), np.float32)
    ending = [
        helper.make_node("MatMul", [last, "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        [*nodes, *ending],
        "hostile",
        [helper.make_tensor_value_info("descriptors", TensorProto.FLOAT, ["batch", FEATURES])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", LABELS])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _node(kind: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def _chain(kind: str, count: int, *, constant: str = "", copies: int = 1, **arrays: Any) -> ModelProto:
    names = ["descriptors", *(f"h{i}" for i in range(count))]
    nodes = [_node(kind, " ".join([names[i]] * copies + [constant]), names[i + 1]) for i in range(count)]
    return _model(nodes, names[-1], **arrays)


def _honest_graphs() -> dict[str, Callable[[], ModelProto]]:
    """Return graphs that break no rule, some of them as large as the rules allow."""
    wide = 90_000
    return {
        "plain": lambda: _model([]),
        "many-operations": lambda: _chain("Add", 4900, copies=2),
        "many-products": lambda: _chain("Gemm", 4900, constant="s", s=np.eye(FEATURES, dtype=np.float32)),
        "wide": lambda: _model(
            [_node("MatMul", "descriptors w", "h")], "h", wide, w=np.zeros((FEATURES, wide), np.float32)
        ),
        "not-finite": lambda: _model(
            [_node("Add", "descriptors n", "h")], "h", n=np.full(FEATURES, np.nan, np.float32)
        ),
        "outer-product": lambda: _outer(130_000),
        "outer-product-of-constants": lambda: _outer_of_constants(9000),
    }


def _outer(rows: int) -> ModelProto:
    nodes = [_node("MatMul", "c descriptors", "big"), _node("ReduceMean", "big axes", "h", keepdims=1)]
    return _model(nodes, "h", c=np.ones((rows, 1), np.float32), axes=np.array([0]))


def _outer_of_constants(size: int) -> ModelProto:
    nodes = [_node("MatMul", "c r", "big"), _node("ReduceMean", "big axes", "h", keepdims=1)]
    return _model(
        nodes, "h", size, c=np.ones((size, 1), np.float32), r=np.ones((1, size), np.float32), axes=np.array([0])
    )


def _bombs() -> dict[str, Callable[[], ModelProto]]:
    """Return graphs of allowed operators that would fill the memory or take for ever."""
    shape = np.array([1, 1, 19, 32])
    image = _node("Reshape", "descriptors shape", "image")
    flat = [_node("ReduceMean", "big axes", "h", keepdims=0)]
    axes = np.array([1, 2])
    kernel = np.ones((1, 1, 9, 9), np.float32)
    row = np.ones((1, 1, 1, 3_000_000), np.float32)
    return {
        "outer-product-of-a-million": lambda: _outer(1_000_000),
        "outer-product-of-constants-of-a-million": lambda: _outer_of_constants(1_000_000),
        "broadcast": lambda: _model(
            [_node("Add", "a b", "big"), _node("ReduceMean", "big axes", "h", keepdims=1)],
            "h",
            10**6,
            a=np.ones((10**6, 1), np.float32),
            b=np.ones((1, 10**6), np.float32),
            axes=np.array([0]),
        ),
        "concat-doubles": lambda: _model(
            [_node("Concat", f"h{i} h{i}" if i else "descriptors descriptors", f"h{i + 1}", axis=0) for i in range(60)],
            "h60",
        ),
        "operations": lambda: _chain("Relu", 1_000_000),
        "products": _products,
        "convolution": lambda: _model(
            [_node("Conv", "row kernel", "big"), *flat],
            "h",
            1,
            row=row,
            axes=axes,
            kernel=np.ones((1, 1, 1, 100_000), np.float32),
        ),
        "pads": lambda: _model(
            [image, _node("Conv", "image kernel", "big", pads=[2**31] * 4), *flat],
            "h",
            1,
            shape=shape,
            axes=axes,
            kernel=kernel,
        ),
        "huge-window": lambda: _model(
            [
                image,
                _node("MaxPool", "image", "big", kernel_shape=[2**40, 1], pads=[2**40 - 1, 0, 2**40 - 1, 0]),
                *flat,
            ],
            "h",
            1,
            shape=shape,
            axes=axes,
        ),
        "stride-zero": lambda: _model(
            [image, _node("MaxPool", "image", "big", kernel_shape=[2, 2], strides=[0, 0]), *flat],
            "h",
            1,
            shape=shape,
            axes=axes,
        ),
        "stride-minus": lambda: _model(
            [image, _node("Conv", "image kernel", "big", strides=[-1, -1]), *flat],
            "h",
            1,
            shape=shape,
            axes=axes,
            kernel=kernel,
        ),
        "many-axes": lambda: _chain("Unsqueeze", 900, constant="axes", axes=np.array([0])),
        "reshape-huge": lambda: _model([_node("Reshape", "descriptors shape", "h")], "h", shape=np.array([2**62, 2])),
        "reshape-zero": lambda: _model([_node("Reshape", "descriptors shape", "h")], "h", shape=np.array([0, -1])),
    }


def _products() -> ModelProto:
    """Return a chain of products of a vector with a matrix, cheap to write down and dear to compute."""
    joined = _node("Concat", " ".join(["descriptors"] * 4), "h0", axis=1)
    products = [_node("Gemm", f"h{i} square", f"h{i + 1}") for i in range(900)]
    return _model([joined, *products], "h900", 4 * FEATURES, square=np.eye(4 * FEATURES, dtype=np.float32))


def _forbidden_graphs() -> dict[str, Callable[[], ModelProto | bytes]]:
    """Return graphs with operators and constructs that the exporter does not write."""
    size = np.array([10**6, 10**6])
    body = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["still"]), helper.make_node("Identity", ["value"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    branch = helper.make_graph(
        [helper.make_node("Identity", ["descriptors"], ["same"])],
        "branch",
        [],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, None)],
    )
    return {
        "loop": lambda: _model(
            [_node("Loop", "times true descriptors", "h", body=body)], "h", times=np.array(2**62), true=np.array(True)
        ),
        "if": lambda: _model(
            [_node("If", "true", "h", then_branch=branch, else_branch=branch)], "h", true=np.array(True)
        ),
        "expand": lambda: _model([_node("Expand", "one size", "h")], "h", 10**6, one=np.ones(1, np.float32), size=size),
        "constant-of-shape": lambda: _model([_node("ConstantOfShape", "size", "h")], "h", 10**6, size=size),
        "tile": lambda: _model([_node("Tile", "descriptors size", "h")], "h", size=np.array([10**7, 1])),
        "random": lambda: _model([helper.make_node("RandomNormal", [], ["h"], shape=[10**6, 10**4])], "h", 10**4),
        "range": lambda: _model(
            [_node("Range", "zero end one", "h")], "h", zero=np.float32(0), end=np.float32(1e9), one=np.float32(1)
        ),
        "resize": lambda: _model(
            [_node("Resize", "descriptors  scales", "h")], "h", scales=np.array([1, 1e7], np.float32)
        ),
        "other-domain": lambda: _model([_node("Gelu", "descriptors", "h", domain="com.microsoft")], "h"),
        "unknown": lambda: _model([_node("Shell", "descriptors", "h", command="id")], "h"),
        "cycle": lambda: _model([_node("Add", "descriptors b", "a"), _node("Identity", "a", "b")], "a"),
        "itself": lambda: _model([_node("Add", "descriptors a", "a")], "a"),
        "value-twice": lambda: _model([_node("Relu", "descriptors", "a"), _node("Relu", "descriptors", "a")], "a"),
        "integers": lambda: _model([_node("Add", "descriptors n", "h")], "h", n=np.ones(8, np.int64)),
        "doubles": lambda: _model([_node("Add", "descriptors n", "h")], "h", n=np.ones(FEATURES)),
        "texts": lambda: _model([], n=np.array(["a" * 1000] * 1000, dtype=object)),
        "nesting": lambda: _nested(100_000),
        "also-another-format": lambda: _also_another_format(),
    }


def _nested(depth: int) -> bytes:
    """Return a model whose graph lies in an attribute of a graph, and so on."""
    data = b""
    for _ in range(depth):
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # attribute.g, node.attribute, graph.node
            data = tag + _varint(len(data)) + data
        if len(data) > 1_000_000:
            break
    return b"\x08\x09\x3a" + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def _also_another_format() -> bytes:
    """Return an honest model whose first bytes are those of ONNX Runtime's own format, which nobody checked."""
    data = _model([]).SerializeToString()
    return b"\x12\x06xxORTM" + data


def _model_changes() -> dict[str, Callable[[ModelProto], object]]:
    return {
        "external-data": lambda m: _make_external(m, "../outside"),
        "external-password-file": lambda m: _make_external(m, "/etc/passwd"),
        "external-device": lambda m: _make_external(m, "/dev/zero"),
        "function": lambda m: m.functions.add(name="Relu", domain="mine"),
        "training": lambda m: m.training_info.add(),
        "sparse": lambda m: m.graph.sparse_initializer.add(dims=[2**40]),
        "quantised": lambda m: m.graph.quantization_annotation.add(tensor_name="x"),
        "metadata": lambda m: m.metadata_props.add(key="ort_config", value="{}"),
        "subgraph": lambda m: m.graph.node[0].attribute.append(helper.make_attribute("body", m.graph)),
        "reference": lambda m: m.graph.node[0].attribute.add(name="axis", ref_attr_name="a", type=AttributeProto.INT),
        "opset-future": lambda m: setattr(m.opset_import[0], "version", 10**6),
        "opset-past": lambda m: setattr(m.opset_import[0], "version", 1),
        "opset-twice": lambda m: m.opset_import.add(domain="", version=18),
        "opset-other": lambda m: m.opset_import.add(domain="ai.onnx.ml", version=3),
        "ir-future": lambda m: setattr(m, "ir_version", 2**40),
        "two-inputs": lambda m: m.graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])),
        "no-input": lambda m: m.graph.ClearField("input"),
        "input-is-constant": lambda m: setattr(m.graph.initializer[0], "name", "descriptors"),
        "two-outputs": lambda m: m.graph.output.append(m.graph.output[0]),
        "other-output": lambda m: setattr(m.graph.output[0], "name", "other"),
        "declared-wrong": lambda m: setattr(m.graph.value_info[0].type.tensor_type.shape.dim[0], "dim_value", 2**40),
        "dimension-minus": lambda m: m.graph.initializer[0].dims.__setitem__(0, -1),
        "dimension-huge": lambda m: m.graph.initializer[0].dims.__setitem__(0, 2**62),
        "no-nodes": lambda m: m.graph.ClearField("node"),
        "no-graph": lambda m: m.ClearField("graph"),
        "name-of-megabytes": lambda m: setattr(m.graph.node[0], "op_type", "x" * 5_000_000),
        "name-with-escape": lambda m: setattr(m.graph.node[0], "op_type", "\x1b[2J\nemoseg: fine"),
    }


def _make_external(model: ModelProto, location: str) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)


def _flip_graph(random: np.random.Generator) -> dict[str, bytes]:
    """Damage any bytes of a small model, where most of them are structure."""
    return {"segment": _flipped(_small_graph(random), random)}


def _cut_graph(random: np.random.Generator) -> dict[str, bytes]:
    data = bytearray(_small_graph(random))
    for _ in range(int(random.integers(1, 4))):
        first, last = sorted(random.integers(0, len(data) + 1, 2).tolist())
        piece = data[first : first + min(last - first, 200)]
        if random.integers(2):
            del data[first : first + len(piece)]
        at = int(random.integers(0, len(data) + 1))
        data[at:at] = piece if random.integers(2) else b""
    return {"segment": bytes(data)}


def _small_graph(random: np.random.Generator) -> bytes:
    """Return a model with an operation of most kinds; its constants are few."""
    shape, axes = np.array([-1, 1, 19, 32]), np.array([2, 3])
    nodes = [
        _node("Reshape", "descriptors shape", "image", allowzero=1),
        _node("Conv", "image kernel", "c", pads=[1, 1, 1, 1], strides=[1, 2], kernel_shape=[3, 3], group=1),
        _node("Relu", "c", "r"),
        _node("MaxPool", "r", "p", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        _node("ReduceMean", "p axes", "mean", keepdims=0),
        _node("ReduceMax", "p axes", "most", keepdims=0),
        _node("Concat", "mean most", "both", axis=1),
        _node("Gemm", "both square", "g", transB=1, alpha=1.0),
        _node("Sub", "g one", "s"),
        _node("Clip", "s one one", "h"),
    ]
    kernel = random.normal(size=(3, 1, 3, 3)).astype(np.float32)
    arrays = {"kernel": kernel, "square": np.ones((6, 6), np.float32), "one": np.float32(1)}
    return bytes(_model(nodes, "h", 6, shape=shape, axes=axes, **arrays).SerializeToString())


def _change_graph(random: np.random.Generator) -> dict[str, bytes]:
    """Exchange operators, inputs, attributes and dimensions at random, with hostile numbers."""
    model = ModelProto.FromString(_small_graph(random))
    numbers = (0, -1, 1, 2, 7, 100, 4096, 2**20, 2**31, 2**40, 2**62, -(2**62))
    nodes, constants = model.graph.node, model.graph.initializer
    for _ in range(int(random.integers(1, 5))):
        node, constant = nodes[random.integers(len(nodes))], constants[random.integers(len(constants))]
        number = numbers[random.integers(len(numbers))]
        change = random.integers(6)
        if change == 0:
            node.op_type = nodes[random.integers(len(nodes))].op_type
        elif change == 1:
            other = nodes[random.integers(len(nodes))]
            node.input[random.integers(len(node.input))] = random.choice([*other.input, *other.output])
        elif change == 2 and node.attribute:
            attribute = node.attribute[random.integers(len(node.attribute))]
            attribute.i = number
            attribute.ints[:] = [number] * len(attribute.ints)
        elif change == 3 and constant.dims:
            constant.dims[random.integers(len(constant.dims))] = number
        elif change == 4 and constant.data_type == TensorProto.INT64:
            values = np.frombuffer(constant.raw_data, np.int64).copy()
            values[random.integers(len(values))] = number
            constant.raw_data = values.tobytes()
        else:
            node.attribute.append(helper.make_attribute(random.choice(["axis", "group", "auto_pad", "to"]), number))
    return {"segment": bytes(model.SerializeToString())}


# --- files and links -------------------------------------------------------------------------------------------------


def _files() -> Iterator[tuple[str, Write]]:
    for name in (CONFIG_FILE, SEGMENT_FILE, SONG_FILE, "MODEL_CARD.md", "segment.safetensors"):
        yield f"file-pipe-{name}", partial(_replace_file, name, os.mkfifo)
        yield f"file-folder-{name}", partial(_replace_file, name, Path.mkdir)
        yield f"file-missing-{name}", partial(_replace_file, name, lambda file: None)
        yield f"file-outside-{name}", partial(_replace_file, name, lambda file: file.symlink_to("../outside"))
        yield f"file-device-{name}", partial(_replace_file, name, lambda file: file.symlink_to("/dev/zero"))
        yield f"file-link-loop-{name}", partial(_replace_file, name, lambda file: file.symlink_to(file.name))
        yield f"file-terabyte-{name}", partial(_replace_file, name, _write_terabyte)
        yield f"file-no-text-{name}", partial(_replace_file, name, lambda file: file.write_bytes(b"\xff\0\x1b[2J"))


def _replace_file(name: str, make: Callable[[Path], object], folder: Path) -> None:
    _write(folder)
    folder.parent.joinpath("outside").write_bytes(b"outside")
    (folder / name).unlink(missing_ok=True)
    make(folder / name)


def _write_terabyte(file: Path) -> None:
    with file.open("wb") as opened:
        opened.truncate(1 << 40)


def _flipped(data: bytes, random: np.random.Generator) -> bytes:
    raw = bytearray(data)
    for at in random.integers(0, len(raw), int(2 ** random.uniform(0, 5))):
        raw[at] = (0, 1, 0x7F, 0x80, 0xFF, int(random.integers(256)))[random.integers(6)]
    return bytes(raw)
