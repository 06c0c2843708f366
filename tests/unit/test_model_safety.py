"""Model folders of strangers: whatever they hold, they work or are refused with one line that says why."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from pydantic import ValidationError
from safetensors.numpy import load_file, save_file

from emoseg.analysis.model_folder import BUNDLED, ModelFolder, export_model, load_model, read_card
from emoseg.analysis.onnx_check import check_segment_model
from emoseg.analysis.onnx_messages import UnsafeGraphError
from emoseg.config import CompareConfig, DescriptorsConfig, LogMelConfig, NetworkConfig, SegmentConfig, TrainConfig
from emoseg.errors import ConfigError, ModelError
from emoseg.learning.ensemble import SegmentEnsemble, export_onnx
from emoseg.learning.networks import ConvNet, Perceptron
from emoseg.song.file import song_model_arrays, song_model_from_arrays
from emoseg.song.model import SongModel, mean_model
from emoseg.types import Float32

FEATURES, LABELS = 608, 4
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the bundled model, to be made hostile."""
    return Path(shutil.copytree(BUNDLED / "4q", tmp_path / "model"))


def rewrite(folder: Path, change: Change) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    change(config)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def replace(folder: Path, name: str, content: bytes) -> Path:
    """Give a file other content, and ``config.json`` its checksum."""
    (folder / name).write_bytes(content)
    checksum = hashlib.blake2b(content, digest_size=16).hexdigest()
    rewrite(folder, lambda c: c["checksums"].update({name: checksum}))
    return folder


def refusal(model: Path) -> str:
    """Return the one line with which a model folder is refused."""
    with pytest.raises(ModelError) as refused:
        load_model(model)
    assert len(str(refused.value).splitlines()) == 1
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < len(str(model)) + 400
    return str(refused.value).removeprefix(f"{model}/")


# --- config.json -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/hostname", "config.json", "MODEL_CARD.md", "a/../segment.onnx", ""]
)
def test_checksums_name_the_files_of_a_model_and_no_others(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").write_bytes(b"mine")
    rewrite(folder, lambda c: c["checksums"].update({name: hashlib.blake2b(b"mine", digest_size=16).hexdigest()}))
    assert refusal(folder).startswith(f"config.json: checksums.{name}.[key]: Input should be 'segment.onnx', ")
    with pytest.raises(ModelError):
        export_model(folder, tmp_path / "new" / "copy")
    assert {path.name for path in tmp_path.iterdir()} == {"model", "outside"}
    assert (tmp_path / "outside").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["checksums"].update({"segment.onnx": "0" * 31}), "checksums.segment.onnx: String should match"),
        (lambda c: c.update(name="a\nb"), r"name: must be one line without control characters (found 'a\nb')"),
        (lambda c: c.update(name=""), "name: String should have at least 1 character"),
        (
            lambda c: c.update(version="\x1b[2J"),
            r"version: must be one line without control characters (found '\x1b[2J')",
        ),
        (lambda c: c["space"]["labels"].append("Q5"), "space: axes has no label 'Q5'"),
        (lambda c: c["space"]["axes"].update(Q5={}), "space: axes has an unknown label 'Q5'"),
        (lambda c: c["space"]["labels"].__setitem__(0, "\u2028"), "space.labels.0: must be one line"),
        (lambda c: c["space"]["labels"].__setitem__(0, "x" * 256), "space.labels.0: String should have at most 255"),
        (lambda c: c["space"]["labels"].__setitem__(0, 1), "space.labels.0: Input should be a valid string (found 1)"),
        (
            lambda c: c["space"].update(labels=[str(i) for i in range(1001)]),
            "space.labels: Tuple should have at most 1000",
        ),
        (
            lambda c: c["space"].update(labels=[], axes={}),
            "space: emotion space '4q': needs two or more distinct labels",
        ),
        (lambda c: c["space"]["axes"]["Q1"].update(valence=1.01), "space.axes.Q1.valence: Input should be less than"),
        (lambda c: c["space"]["axes"]["Q1"].update(depth=0), "unknown key 'space.axes.Q1.depth'"),
        (lambda c: c["training"].update(songs="many"), "training: songs: Input should be a valid integer"),
        (lambda c: c["training"].update(corpus=["4q"]), "training: corpus: Input should be a valid string"),
        (lambda c: c["training"].update(licence="a\rb"), "training: licence: must be one line"),
        (lambda c: c.update(training=[]), "training: Input should be a valid dictionary"),
        (lambda c: c["figures"].update({"a\nb": "x"}), "figures.a b: Input should be a valid number"),
        (lambda c: c.update(frontends=[]), "frontends: Tuple should have at least 1 item"),
        (lambda c: c.update(frontends=c["frontends"] * 2, frontend_versions=[1, 1]), "frontends must be distinct"),
        (
            lambda c: c["segment"].update(length_s=60, sample_rate_hz=48000),
            "segment: a segment of 2880000 samples is too",
        ),
        (
            lambda c: c["segment"].update(length_s=6.0, hop_s=0.0599),
            "segment: hop_s 0.0599 must be at least a hundredth",
        ),
        (
            lambda c: c["timeline"].update(mean_span_s=0.5),
            "timeline.mean_span_s: Input should be greater than or equal to 1",
        ),
        (
            lambda c: c["frontends"][0].update(fft=131072),
            "frontends.0.fft: Input should be less than or equal",
        ),
        (lambda c: c["segment"].update(length_s=0.3), "descriptors: a segment of 0.3 s gives 9 frames"),
    ],
)
def test_a_config_of_wrong_values_is_refused(folder: Path, change: Change, message: str) -> None:
    rewrite(folder, change)
    assert refusal(folder).startswith(f"config.json: {message}")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"seed": 0', '"seed": NaN', "holds a number that is not finite or too large"),
        ('"seed": 0', '"seed": 1e999', "holds a number that is not finite or too large"),
        ('"seed": 0', '"seed": -9223372036854775809', "holds a number that is not finite or too large"),
        ('"seed": 0', '"seed": ' + "9" * 5000, "Exceeds the limit (4300 digits) for integer string conversion"),
        ('"seed": 0', '"seed": 0, "seed": 1', "an object has a key twice"),
        ('"seed": 0', '"seed": "\\ud800"', "is not UTF-8 text: "),
        ('"seed": 0', '"\\udfff": 0', "is not UTF-8 text: "),
        ('"seed": 0', '"seed": ' + "[" * 21 + "]" * 21, "is nested more than 20 levels deep"),
        ('"seed": 0', '"seed": ' + "[" * 100_000 + "]" * 100_000, "is nested more than 20 levels deep"),
        ('"seed": 0', '"seed":', "is not JSON: Expecting value"),
        ('"seed": 0', '"seed": "' + "x" * 1_000_000 + '"', "has 1.0 MB; at most 1 MB are read"),
    ],
)
def test_json_that_readers_could_take_for_something_else_is_refused(
    folder: Path, old: str, new: str, message: str
) -> None:
    text = (folder / "config.json").read_text(encoding="utf-8")
    assert text.count(old) == 1
    (folder / "config.json").write_text(text.replace(old, new), encoding="utf-8")
    assert refusal(folder).startswith(f"config.json: {message}")


def test_what_a_model_does_not_say_of_its_training_is_unknown(folder: Path) -> None:
    rewrite(folder, lambda c: c.update(training={}))
    facts = load_model(folder).facts()
    assert (facts["corpus"], facts["songs"], facts["licence"]) == ("unknown", "unknown", "unknown")
    assert facts["megabytes"] == pytest.approx(sum(file.stat().st_size for file in folder.iterdir()) / 1e6)
    (folder / "MODEL_CARD.md").unlink()
    (folder / "MODEL_CARD.md").symlink_to("nowhere")
    assert load_model(folder).facts()["megabytes"] < facts["megabytes"]


@pytest.mark.parametrize(
    ("frontends", "message"),
    [
        ((LogMelConfig(fft=65536, hop=32),), "logmel: fft 65536 every 32 samples is too much for a segment of 1323000"),
        (
            (DescriptorsConfig(fft=16384, hop=64),),
            "descriptors: fft 16384 every 64 samples is too much for a segment of",
        ),
        (
            (LogMelConfig(bands=256, hop=256, fft=512),),
            "logmel: 256 bands in 5168 frames are too many; at most 1000000",
        ),
        ((CompareConfig(), CompareConfig()), "frontends must be distinct, got ['compare', 'compare']"),
    ],
)
def test_spectra_that_would_fill_the_memory_are_refused(frontends: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TrainConfig(segment=SegmentConfig(length_s=60, hop_s=60), frontends=frontends)
    assert message in str(refused.value)


# --- files -----------------------------------------------------------------------------------------------------------

FILES = ("config.json", "segment.onnx", "song.safetensors", "segment.safetensors")


@pytest.mark.parametrize("name", FILES)
def test_a_link_that_leaves_the_folder_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).touch()
    (folder / name).replace(tmp_path / "outside")
    (folder / name).symlink_to("../outside")
    assert refusal(folder) == f"{name}: is a link to a file outside the model folder"


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_is_refused_before_it_is_opened(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert refusal(folder) == f"{name}: is not a regular file"


@pytest.mark.parametrize(
    ("name", "most"), [("segment.onnx", 256), ("song.safetensors", 128), ("segment.safetensors", 256)]
)
def test_a_file_that_is_too_large_is_refused_before_it_is_read(folder: Path, name: str, most: int) -> None:
    with (folder / name).open("wb") as file:
        file.truncate(1 << 40)
    assert refusal(folder) == f"{name}: has 1099511.6 MB; at most {most} MB are read"


def test_a_link_inside_the_folder_and_a_folder_behind_a_link_are_fine(folder: Path, tmp_path: Path) -> None:
    (folder / "segment.onnx").rename(folder / "weights")
    (folder / "segment.onnx").symlink_to("weights")
    (tmp_path / "link").symlink_to(folder)
    assert load_model(tmp_path / "link").config == load_model(BUNDLED / "4q").config


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_name_that_no_file_can_have_is_no_model(name: str) -> None:
    with pytest.raises(ModelError, match="is not a model folder, and no bundled model has that name"):
        load_model(name)


def test_the_card_is_read_as_a_file_of_a_stranger(folder: Path, tmp_path: Path) -> None:
    card, model = folder / "MODEL_CARD.md", load_model(folder)
    assert read_card(model) == card.read_text(encoding="utf-8")
    card.write_bytes(b"\xff")
    with pytest.raises(ModelError, match=r"MODEL_CARD\.md: is not UTF-8 text: "):
        read_card(model)
    card.write_bytes(b"x" * 1_000_001)
    with pytest.raises(ModelError, match=r"MODEL_CARD\.md: has 1\.0 MB; at most 1 MB are read"):
        read_card(model)
    card.unlink()
    assert read_card(model) == ""
    (tmp_path / "secret").write_text("secret")
    card.symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match=r"MODEL_CARD\.md: is a link to a file outside the model folder"):
        read_card(model)


# --- export ----------------------------------------------------------------------------------------------------------


def test_an_export_that_fails_leaves_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "MODEL_CARD.md").unlink()
    (folder / "MODEL_CARD.md").mkdir()
    with pytest.raises(ModelError, match=r"MODEL_CARD\.md: is a folder, not a file"):
        export_model(folder, tmp_path / "copy")
    (folder / "MODEL_CARD.md").rmdir()

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ConfigError, match="copy: cannot be written: No space left on device"):
        export_model(folder, tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_export_removes_what_a_killed_one_left(folder: Path, tmp_path: Path) -> None:
    left = tmp_path / ".emoseg-0123456789abcdef.tmp"
    left.mkdir()
    (left / "config.json").touch()
    export_model(folder, tmp_path / "copy")
    assert {path.name for path in tmp_path.iterdir()} == {"model", "copy"}
    for name in ("config.json", "MODEL_CARD.md", "segment.onnx", "song.safetensors"):
        assert (tmp_path / "copy" / name).read_bytes() == (folder / name).read_bytes(), name


def test_an_export_follows_no_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").symlink_to("elsewhere")
    with pytest.raises(ConfigError, match="copy: exists already; choose another folder"):
        export_model(folder, tmp_path / "copy")
    assert not (tmp_path / "elsewhere").exists()


# --- song.safetensors ------------------------------------------------------------------------------------------------


def arrays_of(model: Path) -> dict[str, Any]:
    return dict(load_file(model / "song.safetensors"))


def put(name: str, change: Callable[[Any], Any]) -> Change:
    return lambda arrays: arrays.update({name: change(arrays[name])})


def with_first(value: float) -> Callable[[Any], Any]:
    """Return a change of an array's first number."""

    def change(array: Any) -> Any:
        array.flat[0] = value
        return array

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("scale"), "has no array 'scale'"),
        (lambda a: a.pop("machine/support"), "has no array 'machine/support'"),
        (lambda a: a.pop("blend"), "has an unknown array 'machine/bias'"),
        (lambda a: a.update(other=np.ones(1)), "has an unknown array 'other'"),
        (put("bias", lambda b: b[:1]), "array 'bias' must have two or more labels, has 1"),
        (put("bias", lambda b: b[:3]), "array 'mean' must have the shape (18,), has (24,)"),
        (put("weights", lambda w: w.T.copy()), "array 'weights' must have the shape (24, 4), has (4, 24)"),
        (put("machine/bias", lambda b: b[:5]), "array 'machine/bias' must have the shape (6,), has (5,)"),
        (put("machine/support", lambda s: s[:0]), "arrays 'machine/mean' and 'machine/support' must not be empty"),
        (
            put("machine/support", lambda s: s[:, 1:].copy()),
            "array 'machine/support' must have the shape (720, 1216), has",
        ),
        (put("mean", lambda m: m.astype(np.float16)), "array 'mean' must be of 32-bit or 64-bit floats, is of float16"),
        (put("mean", lambda m: m.astype(bool)), "array 'mean' must be of 32-bit or 64-bit floats, is of bool"),
        (put("mean", with_first(np.nan)), "array 'mean' must hold numbers from -1e+30 to 1e+30"),
        (
            put("machine/relevance", with_first(np.inf)),
            "array 'machine/relevance' must hold numbers from -1e+30 to 1e+30",
        ),
        (put("temperature", with_first(0.0)), "array 'temperature' must hold numbers from 1e-30 to 1e+30"),
        (put("temperature", with_first(-1.0)), "array 'temperature' must hold numbers from 1e-30 to 1e+30"),
        (put("machine/scale", with_first(0.0)), "array 'machine/scale' must hold numbers from 1e-30 to inf"),
        (put("machine/gamma", with_first(-1e-9)), "array 'machine/gamma' must hold numbers from 0 to 1e+30"),
    ],
)
def test_a_song_model_of_wrong_arrays_is_refused(folder: Path, change: Change, message: str) -> None:
    arrays = arrays_of(folder)
    change(arrays)
    save_file(arrays, folder / "song.safetensors")
    replace(folder, "song.safetensors", (folder / "song.safetensors").read_bytes())
    vectors = str(len(arrays_of(BUNDLED / "4q")["machine/support"]))
    assert refusal(folder).startswith(f"song.safetensors: {message.replace('720', vectors)}")


def one_array(dtype: str, shape: list[int], last: int, size: int) -> bytes:
    header = json.dumps({"bias": {"dtype": dtype, "shape": shape, "data_offsets": [0, last]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a safetensors file: "),
        (one_array("F32", [2], 8, 8)[:20], "is not a safetensors file: "),
        (b"\xff" * 8 + b"{}", "is not a safetensors file: "),
        (one_array("F32", [2], 2**40, 8), "is not a safetensors file: "),
        (one_array("F32", [2**32, 2**32], 8, 8), "is not a safetensors file: "),
        (one_array("F32", [0, 2**63], 0, 0), "Maximum allowed dimension exceeded"),
        (one_array("BF16", [2], 4, 4), "has an array of type BF16; arrays must hold floats of 32 or 64 bits"),
        (one_array("F64", [2], 16, 16), "has no array 'mean'"),
    ],
)
def test_a_damaged_song_file_is_refused(folder: Path, content: bytes, message: str) -> None:
    assert refusal(replace(folder, "song.safetensors", content)).startswith(f"song.safetensors: {message}")


def test_a_song_model_fits_the_labels_and_the_frontends(folder: Path, tmp_path: Path) -> None:
    save_file(song_model_arrays(mean_model(3)), tmp_path / "song")
    replace(folder, "song.safetensors", (tmp_path / "song").read_bytes())
    assert refusal(folder) == "song.safetensors: is for 3 labels, but the model has 4"
    arrays = arrays_of(BUNDLED / "4q")
    for name in ("mean", "scale", "relevance", "support"):
        arrays[f"machine/{name}"] = arrays[f"machine/{name}"][..., :608].copy()
    save_file(arrays, tmp_path / "song")
    replace(folder, "song.safetensors", (tmp_path / "song").read_bytes())
    assert (
        refusal(folder)
        == "song.safetensors: is for song summaries of 608 numbers, but those of the frontends have 1216"
    )


def test_the_largest_numbers_that_are_allowed_give_probabilities() -> None:
    """The bounds are there so that nothing can overflow; an overflow would be a warning, and so an error here."""
    arrays = arrays_of(BUNDLED / "4q")
    least = {"scale": 1e-30, "temperature": 1e-30, "machine/scale": 1e-30, "machine/gamma": 1e30}
    song = song_model_from_arrays({name: np.full_like(array, least.get(name, 1e30)) for name, array in arrays.items()})
    found = song.predict(np.full((3, 4), 0.25), np.full(1216, 3e38))
    assert found.sum() == pytest.approx(1)


def test_a_song_model_does_not_do_without_the_summary_that_it_needs() -> None:
    song = load_model().song
    assert song.base is not None
    with pytest.raises(ValueError, match="this song model needs the song's summary"):
        song.predict(np.full((3, 4), 0.25))


def test_song_probabilities_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(ValueError, match="the song's probabilities are not finite"):
        mean_model(2).predict(np.array([[np.nan, 0.5]]))


def test_a_song_model_survives_its_arrays() -> None:
    song: SongModel = load_model().song
    again = song_model_from_arrays(song_model_arrays(song))
    p, summary = np.full((3, 4), 0.25), np.zeros(1216)
    np.testing.assert_array_equal(again.predict(p, summary), song.predict(p, summary))


# --- segment.onnx ----------------------------------------------------------------------------------------------------


def node(kind: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def graph(nodes: list[NodeProto], last: str = "descriptors", width: int = FEATURES, **arrays: Any) -> ModelProto:
    """Return a model whose operations end in a value of `width` numbers, from which probabilities are made."""
    tensors = {name: np.asarray(array) for name, array in arrays.items()}
    tensors["weights"] = np.random.default_rng(0).normal(size=(width, LABELS)).astype(np.float32)
    ending = [node("MatMul", f"{last} weights", "logits"), node("Softmax", "logits", "probabilities", axis=1)]
    made = helper.make_graph(
        [*nodes, *ending],
        "graph",
        [helper.make_tensor_value_info("descriptors", TensorProto.FLOAT, ["batch", FEATURES])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", LABELS])],
        [numpy_helper.from_array(tensor, name) for name, tensor in tensors.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def rule_broken(model: ModelProto) -> str:
    with pytest.raises(UnsafeGraphError) as refused:
        check_segment_model(model.SerializeToString(), inputs={"descriptors": (FEATURES,)}, labels=LABELS)
    return str(refused.value)


def loaded(folder: Path, model: ModelProto | bytes) -> ModelFolder:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return load_model(replace(folder, "segment.onnx", content))


def run(model: ModelFolder) -> Any:
    features: dict[str, Float32] = {
        "descriptors": np.random.default_rng(1).normal(size=(2, FEATURES)).astype(np.float32)
    }
    return model.segment_probabilities(features)


IMAGE = (1, 1, 19, 32)  # of as many numbers as there are descriptors
IMAGE_NODE = node("Reshape", "descriptors image_shape", "image")


@pytest.mark.parametrize(
    ("operation", "shape", "arrays"),
    [
        (node("Add", "image row", "h"), IMAGE, {"row": np.ones((19, 1), np.float32)}),
        (node("Sub", "descriptors column", "h"), (3, 608), {"column": np.ones((3, 1), np.float32)}),
        (node("Mul", "image one", "h"), IMAGE, {"one": np.float32(1)}),
        (node("Max", "image one", "h"), IMAGE, {"one": np.float32(1)}),
        (node("Min", "image one", "h"), IMAGE, {"one": np.float32(1)}),
        (node("BatchNormalization", "image c c c c", "h"), IMAGE, {"c": np.ones(1, np.float32)}),
        (node("Clip", "image one one", "h"), IMAGE, {"one": np.float32(1)}),
        (node("Concat", "image image image", "h", axis=-2), (1, 1, 57, 32), {}),
        (node("Identity", "image", "h"), IMAGE, {}),
        (node("Relu", "image", "h"), IMAGE, {}),
        (node("Softmax", "image", "h", axis=-3), IMAGE, {}),
        (node("MatMul", "descriptors m", "h"), (1, 5), {"m": np.ones((608, 5), np.float32)}),
        (
            node("Gemm", "descriptors m b", "h"),
            (1, 5),
            {"m": np.ones((608, 5), np.float32), "b": np.ones(5, np.float32)},
        ),
        (node("Gemm", "descriptors m", "h", transB=1), (1, 5), {"m": np.ones((5, 608), np.float32)}),
        (node("ReduceMean", "image axes", "h"), (1, 1, 1, 32), {"axes": np.array([0, -2])}),
        (node("ReduceMax", "image axes", "h", keepdims=0), (1, 32), {"axes": np.array([1, 2])}),
        (node("Reshape", "image shape", "h"), (2, 304), {"shape": np.array([2, -1])}),
        (node("Unsqueeze", "image axes", "h"), (1, 1, 1, 19, 32, 1), {"axes": np.array([-1, 0])}),
        (node("Conv", "image k", "h", strides=[1, 2], pads=[1, 1, 1, 1]), (1, 4, 19, 16), {"k": (4, 1, 3, 3)}),
        (
            node("Conv", "image k b", "h", strides=[2, 3], pads=[0, 1, 2, 3]),
            (1, 4, 10, 11),
            {"k": (4, 1, 3, 4), "b": np.ones(4, np.float32)},
        ),
        (node("MaxPool", "image", "h", kernel_shape=[2, 2], strides=[2, 2]), (1, 1, 9, 16), {}),
        (node("MaxPool", "image", "h", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), (1, 1, 10, 16), {}),
        (node("MaxPool", "image", "h", kernel_shape=[3, 3], strides=[2, 5], pads=[0, 1, 2, 0]), (1, 1, 10, 7), {}),
        (node("MaxPool", "image", "h", kernel_shape=[20, 3], strides=[2, 5], ceil_mode=1), (1, 1, 1, 7), {}),
        (
            node("MaxPool", "image", "h", kernel_shape=[2, 2], strides=[5, 5], pads=[1, 1, 1, 1], ceil_mode=1),
            (1, 1, 4, 7),
            {},
        ),
    ],
)
def test_shapes_are_those_of_onnx_runtime(
    folder: Path, operation: NodeProto, shape: tuple[int, ...], arrays: dict[str, Any]
) -> None:
    """A shape that is inferred wrong is refused by the product that follows, or by ONNX Runtime."""
    tensors = {name: np.ones(a, np.float32) if isinstance(a, tuple) else a for name, a in arrays.items()}
    flat = node("Reshape", "h flat", "f")
    nodes = [IMAGE_NODE, operation, flat]
    width = int(np.prod(shape))
    model = graph(nodes, "f", width, image_shape=np.array(IMAGE), flat=np.array([1, width]), **tensors)
    model.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, shape))
    assert run(loaded(folder, model)).shape == (2, LABELS)


@pytest.mark.parametrize(
    ("parts", "frames"),
    [
        ({"logmel": (ConvNet, 8, 1)}, 3),
        ({"logmel": (ConvNet, 17, 1), "descriptors": (Perceptron, 7, 3)}, 33),
    ],
)
def test_what_the_exporter_writes_is_accepted(parts: dict[str, Any], frames: int, tmp_path: Path) -> None:
    networks, shapes = {}, {}
    config = NetworkConfig(hidden=(5,), channels=(2, 3, 4))
    for name, (kind, size, count) in parts.items():
        mean = torch.zeros(size) if kind is Perceptron else torch.zeros(size, 1)
        networks[name] = [kind(mean, torch.ones_like(mean), 3, config) for _ in range(count)]
        shapes[name] = (size,) if kind is Perceptron else (size, frames)
    export_onnx(SegmentEnsemble(networks).eval(), shapes, tmp_path / "segment.onnx")
    content = (tmp_path / "segment.onnx").read_bytes()
    check_segment_model(content, inputs=shapes, labels=3)
    with pytest.raises(UnsafeGraphError, match="must be one probability for each of 4 labels"):
        check_segment_model(content, inputs=shapes, labels=4)


BODY = helper.make_graph([node("Relu", "a", "b")], "body", [], [])
AXES = np.array([0])
SQUARE = np.zeros((FEATURES, FEATURES), np.float32)


@pytest.mark.parametrize(
    ("model", "rule"),
    [
        (graph([node("Loop", "descriptors", "h", body=BODY)], "h"), "an attribute has a field 6"),
        (graph([node("If", "descriptors", "h", then_branch=BODY)], "h"), "an attribute has a field 6"),
        (graph([node("Constant", "", "h", value=numpy_helper.from_array(SQUARE))], "h"), "an attribute has a field 5"),
        (graph([node("Expand", "descriptors n", "h")], "h", n=np.array([10**9])), "has the operator 'Expand', which"),
        (
            graph([node("ConstantOfShape", "n", "h")], "h", n=np.array([10**9])),
            "has the operator 'ConstantOfShape', which",
        ),
        (
            graph([node("Tile", "descriptors n", "h")], "h", n=np.array([10**9, 1])),
            "has the operator 'Tile', which emoseg",
        ),
        (
            graph([node("Relu", "descriptors", "h", domain="com.microsoft")], "h"),
            "has the operator 'Relu', which emoseg",
        ),
        (graph([node("Add", "descriptors b", "a"), node("Relu", "a", "b")], "a"), "uses 'b' before it is made"),
        (
            graph([node("Relu", "descriptors", "a")] * 2, "a"),
            "Relu: must make one value that has a name and was not made",
        ),
        (graph([node("Relu", "descriptors", "weights")]), "Relu: must make one value that has a name and was not made"),
        (
            graph([helper.make_node("Relu", ["descriptors"], ["a", "b"])], "a"),
            "Relu: must make one value that has a name",
        ),
        (graph([node("Relu", "descriptors", f"r{i}") for i in range(5000)]), "has 5002 operations; at most 5000"),
        (
            graph([node("MatMul", "c descriptors", "big")], c=np.ones((170_000, 1), np.float32)),
            "computes more than 100000000 numbers for one segment",
        ),
        (
            graph([node("MatMul", "c descriptors", f"big{i}") for i in range(2)], c=np.ones((90_000, 1), np.float32)),
            "computes more than 100000000 numbers for one segment",
        ),
        (
            graph([node("Add", "a b", "big")], a=np.ones((20_000, 1), np.float32), b=np.ones((1, 20_000), np.float32)),
            "computes more than 100000000 numbers for one segment",
        ),
        (
            graph(
                [node("Concat", f"d{i} d{i}", f"d{i + 1}", axis=0) for i in range(40)], d0=np.ones((1, 2), np.float32)
            ),
            "computes more than 100000000 numbers for one segment",
        ),
        (
            graph([node("MatMul", "s s", f"h{i}") for i in range(25)], s=SQUARE),
            "takes more than 5000000000 steps for one",
        ),
        (
            graph(
                [node("Conv", "i k", "h")],
                i=np.ones((1, 1, 1, 90_000), np.float32),
                k=np.ones((1, 1, 1, 999), np.float32),
            ),
            "Conv: has windows of more than 50000000 numbers together",
        ),
        (
            graph(
                [node("Unsqueeze", f"d{i} axes", f"d{i + 1}") for i in range(9)], d0=np.ones(2, np.float32), axes=AXES
            ),
            "Unsqueeze: makes more than 8 dimensions",
        ),
        (
            graph([node("Reshape", "descriptors n", "h")], n=np.array([0, -1])),
            "Reshape: cannot make the shape (0, -1) of",
        ),
        (
            graph([node("Reshape", "descriptors n", "h")], n=np.array([-1, -1])),
            "Reshape: cannot make the shape (-1, -1)",
        ),
        (
            graph([node("Reshape", "descriptors n", "h")], n=np.array([2, 305])),
            "Reshape: cannot make the shape (2, 305)",
        ),
        (graph([node("Reshape", "descriptors descriptors", "h")]), "Reshape: an input is of the wrong type"),
        (graph([node("Add", "descriptors n", "h")], n=AXES), "Add: an input is of the wrong type"),
        (
            graph([node("Add", "descriptors n", "h")], n=np.ones(7, np.float32)),
            "Add: shapes [(1, 608), (7,)] do not fit",
        ),
        (graph([node("Add", "descriptors", "h")]), "Add: has 1 inputs"),
        (
            graph([node("MatMul", "descriptors descriptors", "h")]),
            "MatMul: shapes [(1, 608), (1, 608)] do not fit each",
        ),
        (
            graph([node("Gemm", "descriptors s b", "h")], s=SQUARE, b=np.ones(7, np.float32)),
            "Gemm: shapes [(1, 608), (7,)] do not fit each other",
        ),
        (graph([node("Gemm", "descriptors s", "h", transA=1)], s=SQUARE), "Gemm: its attribute 'transA' must be 0"),
        (
            graph([node("Relu", "descriptors", "h", axis=1)]),
            "Relu: has the attribute 'axis', which emoseg does not write",
        ),
        (graph([node("Softmax", "descriptors", "h", axis=1.0)]), "Softmax: its attribute 'axis' is of the wrong type"),
        (graph([node("Softmax", "descriptors", "h", axis=2)]), "Softmax: has no axis 2"),
        (
            graph([node("Concat", "descriptors n", "h", axis=0)], n=np.ones(7, np.float32)),
            "Concat: its inputs have shapes",
        ),
        (
            graph([node("ReduceMean", "descriptors n", "h")], n=np.array([0, 0])),
            "ReduceMean: its axes or 'keepdims' are",
        ),
        (
            graph([IMAGE_NODE, node("MaxPool", "image", "h", kernel_shape=[2, 2], strides=[0, 1])], image_shape=IMAGE),
            "MaxPool: a window, 'strides' or 'pads' is out of range",
        ),
        (
            graph(
                [IMAGE_NODE, node("MaxPool", "image", "h", kernel_shape=[2, 2], pads=[2, 0, 0, 0])], image_shape=IMAGE
            ),
            "MaxPool: a window, 'strides' or 'pads' is out of range",
        ),
        (
            graph([IMAGE_NODE, node("MaxPool", "image", "h", kernel_shape=[20, 2])], image_shape=IMAGE),
            "MaxPool: a window is larger than the image",
        ),
        (
            graph([node("Reshape", "descriptors n", "h")], n=np.array([304])),
            "Reshape: cannot make the shape (304,) of (1, 608)",
        ),
        (graph([node("Unsqueeze", "descriptors n", "h")], n=np.array([0, -4])), "Unsqueeze: names an axis twice"),
        (
            graph([IMAGE_NODE, node("Conv", "image k", "h")], image_shape=IMAGE, k=np.ones((1, 2, 3, 3), np.float32)),
            "Conv: its inputs have shapes that do not fit each other",
        ),
        (
            graph(
                [IMAGE_NODE, node("Conv", "image k b", "h")],
                image_shape=IMAGE,
                k=np.ones((2, 1, 3, 3), np.float32),
                b=np.ones(3, np.float32),
            ),
            "Conv: its inputs have shapes that do not fit each other",
        ),
        (
            graph(
                [IMAGE_NODE, node("Conv", "image k", "h", kernel_shape=[2, 3])],
                image_shape=IMAGE,
                k=np.ones((1, 1, 3, 3), np.float32),
            ),
            "Conv: 'kernel_shape' is not that of its weights",
        ),
        (graph([], n=np.ones(3)), "its constant 'n' must hold 32-bit floats or 64-bit integers"),
        (graph([], n=np.ones(9, np.int64)), "its constant 'n' has more integers than a shape or a list of axes"),
        (graph([], descriptors=SQUARE), "defines a value twice"),
    ],
)
def test_a_graph_that_could_do_harm_is_refused(model: ModelProto, rule: str) -> None:
    assert rule in rule_broken(model)


def external(model: ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../outside")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (
            lambda m: setattr(m.opset_import[0], "domain", "ai.onnx.ml"),
            "must use the standard operators of versions 18",
        ),
        (
            lambda m: m.graph.initializer[0].dims.__setitem__(slice(None), [-608, -4]),
            "has a shape that does not fit its",
        ),
        (
            lambda m: m.graph.node[-1].attribute.append(m.graph.node[-1].attribute[0]),
            "Softmax: has an attribute twice",
        ),
        (
            lambda m: setattr(m.graph.node[-1].attribute[0], "type", 1),
            "Softmax: its attribute 'axis' is of the wrong type",
        ),
        (external, "a constant has a field 13"),
        (lambda m: m.functions.add(name="Relu"), "the model has a field 25"),
        (lambda m: m.metadata_props.add(key="ort_config", value="{}"), "the model has a field 14"),
        (lambda m: m.graph.sparse_initializer.add(dims=[9]), "its graph has a field 15"),
        (lambda m: m.graph.node[0].attribute.add(name="axis", ref_attr_name="a"), "an attribute has a field 21"),
        (
            lambda m: m.opset_import.add(domain="ai.onnx.ml", version=3),
            "must use the standard operators of versions 18 to",
        ),
        (lambda m: setattr(m.opset_import[0], "version", 17), "must use the standard operators of versions 18 to 24"),
        (
            lambda m: m.graph.input.append(m.graph.output[0]),
            "must have the inputs descriptors, which are the frontends",
        ),
        (
            lambda m: setattr(m.graph.input[0], "name", "other"),
            "must have the inputs descriptors, which are the frontends",
        ),
        (
            lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 609),
            "must have the shape ('batch',",
        ),
        (
            lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 1),
            "must have the shape ('batch',",
        ),
        (
            lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 11),
            "'descriptors' is declared with the wrong",
        ),
        (lambda m: m.graph.output.append(m.graph.output[0]), "must have one output, 'probabilities'"),
        (lambda m: setattr(m.graph.output[0], "name", "logits"), "must have one output, 'probabilities'"),
        (
            lambda m: setattr(m.graph.output[0].type.tensor_type.shape.dim[1], "dim_value", 5),
            "declares 'probabilities' with",
        ),
        (lambda m: m.graph.value_info.add(name="ghost"), "declares 'ghost', which does not exist"),
        (
            lambda m: m.graph.value_info.append(helper.make_tensor_value_info("logits", 1, [1, 9])),
            "declares 'logits' with a",
        ),
        (
            lambda m: m.graph.initializer.append(m.graph.initializer[0]),
            "has constants without a name, or two of one name",
        ),
        (lambda m: m.graph.initializer[0].dims.__setitem__(0, -608), "has a shape that does not fit its data"),
        (lambda m: m.graph.initializer[0].dims.__setitem__(0, 2**62), "has a shape that does not fit its data"),
        (
            lambda m: m.graph.ClearField("node"),
            "its output 'probabilities' must be one probability for each of 4 labels",
        ),
        (lambda m: m.ClearField("graph"), "must have the inputs descriptors"),
    ],
)
def test_a_model_that_is_more_than_its_graph_is_refused(change: Callable[[ModelProto], object], rule: str) -> None:
    model = graph([])
    check_segment_model(model.SerializeToString(), inputs={"descriptors": (FEATURES,)}, labels=LABELS)
    with pytest.raises(UnsafeGraphError, match="must be one probability for each of 5 labels"):
        check_segment_model(model.SerializeToString(), inputs={"descriptors": (FEATURES,)}, labels=5)
    change(model)
    assert rule in rule_broken(model)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"\x3a\x05", "is cut off"),
        (b"\x3a", "is cut off"),
        (b"\x08" + b"\xff" * 10, "a number has more than 64 bits"),
        (b"\x08" + b"\xff" * 9 + b"\x02", "a number has more than 64 bits"),
        (b"\x08\x01\x08\x01", "the model has two fields 'ir_version'"),
        (b"\x0a\x00", "a field is of the wrong type"),
        (b"\x3b", "a field is of the wrong type"),
        (b"\x12\x01\xff", "a name is not UTF-8"),
        (b"\x42\x00" * 500_001, "has more than 500000 fields"),
        (b"\x3a" + b"\xff" * 9 + b"\x01", "is cut off"),
    ],
)
def test_bytes_that_are_no_model_are_refused(content: bytes, rule: str) -> None:
    with pytest.raises(UnsafeGraphError, match=rule):
        check_segment_model(content, inputs={"descriptors": (FEATURES,)}, labels=LABELS)


def test_a_refused_graph_is_one_line_that_names_the_file(folder: Path) -> None:
    hostile = graph([node("Sh\nell\x1b[2J" + "x" * 10_000, "descriptors", "h")])
    replace(folder, "segment.onnx", hostile.SerializeToString())
    assert refusal(folder).startswith("segment.onnx: has the operator 'Sh\\nell\\x1b[2Jxxx")


def test_bytes_that_are_also_another_format_are_read_as_onnx(folder: Path) -> None:
    """ONNX Runtime would take ``ORTM`` at the fifth byte for its own format, of which nothing was checked."""
    plain = graph([]).SerializeToString()
    expected = run(loaded(folder, plain))
    np.testing.assert_array_equal(run(loaded(folder, b"\x12\x06xxORTM" + plain)), expected)


def outputs(model: ModelProto, **arrays: Any) -> ModelProto:
    """Give a model constant outputs instead of probabilities."""
    model.graph.node[-1].op_type = "Add"
    model.graph.node[-1].ClearField("attribute")
    model.graph.node[-1].input[:] = ["zero", "given"]
    model.graph.node[-2].output[:] = ["unused"]
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ((0.25, 0.25, 0.25, np.nan), "returned probabilities that are not finite"),
        ((np.inf, 0, 0, 0), "returned probabilities that are not finite"),
        ((1.5, -0.5, 0, 0), "returned probabilities that are negative or do not sum to 1"),
        ((0.25, 0.25, 0.25, 0.252), "returned probabilities that are negative or do not sum to 1"),
        ((0.25, 0.25, 0.25, 0.2501), None),
    ],
)
def test_probabilities_that_are_none_are_an_error(folder: Path, values: tuple[float, ...], problem: str | None) -> None:
    zero, given = np.zeros((1, 4), np.float32), np.array(values, np.float32)
    model = loaded(folder, outputs(graph([]), zero=zero, given=given))
    if problem is None:
        np.testing.assert_array_equal(run(model), [given, given])
        return
    with pytest.raises(ModelError, match=rf"segment\.onnx: {problem}"):
        run(model)


def test_what_onnx_runtime_refuses_is_one_line_and_nothing_is_printed(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The normalisation's constants are of a wrong length, which no shape shows."""
    nodes = [IMAGE_NODE, node("BatchNormalization", "image c c c c", "h"), node("Reshape", "h flat", "f")]
    flat = np.array([1, FEATURES])
    hostile = graph(nodes, "f", image_shape=np.array(IMAGE), c=np.ones(3, np.float32), flat=flat)
    with pytest.raises(ModelError, match=r"segment\.onnx: cannot be (loaded|run): ") as refused:
        run(loaded(folder, hostile))
    assert len(str(refused.value).splitlines()) == 1
    assert capfd.readouterr() == ("", "")


def test_a_model_that_changes_after_it_was_loaded_is_not_run(folder: Path) -> None:
    model = load_model(folder)
    (folder / "segment.onnx").write_bytes(graph([]).SerializeToString())
    with pytest.raises(ModelError, match=r"segment\.onnx: was altered: its checksum is not the one in config\.json"):
        run(model)
