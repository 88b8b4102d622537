"""Networks that keep their numbers in other files: only in those that the package lists with a checksum."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from affuse import weights
from affuse.errors import AssetError
from affuse.packages import load_package, read_package, write_package
from affuse.testing import synthetic
from command import caller
from small_networks import TWO, description, network

onnx = pytest.importorskip("onnx", reason="networks with external data are made by onnx (extra train)")

_SENTENCE = "keeps tensors in the file '{}', which has no checksum here"
_WEIGHT = np.full((1, 1), 3.0, dtype=np.float32)


def model() -> onnx.ModelProto:
    """A voice network that multiplies the loudness by a number of its own."""
    nodes = [("Abs", ["waveform"], "size"), ("ReduceMean", ["size", "axes"], "mean"), ("Mul", ["mean", "own"], "score")]
    return onnx.load_from_string(network({"waveform": ["n", "t"]}, nodes, len(TWO), own=_WEIGHT))


def kept_outside(place: Path, network: onnx.ModelProto, location: str = "weights.bin") -> Path:
    """The network with its own tensor in another file; ONNX Runtime needs those that shapes follow from inside."""
    place.mkdir(exist_ok=True)
    path = place / "model.onnx"
    own = next(tensor for tensor in network.graph.initializer if tensor.name == "own")
    onnx.external_data_helper.set_external_data(own, location)
    onnx.save_model(network, path)
    assert (place / location).stat().st_size == _WEIGHT.nbytes
    return path


@pytest.fixture
def package(tmp_path: Path) -> Path:
    path = kept_outside(tmp_path / "made", model())
    files = {"model.onnx": path, "weights.bin": path.with_name("weights.bin")}
    return write_package(tmp_path / "package", description(), files)


def answer(folder: Path) -> np.ndarray:
    return load_package(folder).classify(synthetic.speech(seconds=1.0, pitch=140))


def relabelled(folder: Path, change: Callable[[dict[str, str]], None]) -> None:
    told = json.loads((folder / "bundle.json").read_text())
    change(told["files"])
    (folder / "bundle.json").write_text(json.dumps(told))


def replaced(folder: Path, network: onnx.ModelProto) -> None:
    """Another network in a package, listed as it should be."""
    (folder / "model.onnx").write_bytes(network.SerializeToString())
    relabelled(folder, lambda files: files.update({"model.onnx": weights.sha256_of(folder / "model.onnx")}))


def test_external_data_that_the_package_lists_is_read(package: Path, tmp_path: Path) -> None:
    assert set(read_package(package).description.files) == {"model.onnx", "weights.bin"}
    whole = write_package(tmp_path / "whole", description(), {"model.onnx": model().SerializeToString()})
    np.testing.assert_allclose(answer(package), answer(whole), rtol=1e-6)


def test_external_data_that_was_changed_is_refused(package: Path) -> None:
    content = bytearray((package / "weights.bin").read_bytes())
    content[-1] ^= 1
    (package / "weights.bin").write_bytes(content)
    with pytest.raises(AssetError, match=r"weights\.bin has the wrong checksum"):
        load_package(package)


def test_external_data_without_a_checksum_is_refused(package: Path) -> None:
    relabelled(package, lambda files: files.pop("weights.bin"))
    with pytest.raises(AssetError, match=_SENTENCE.format("weights.bin")):
        load_package(package)


def test_a_package_with_external_data_is_not_written_without_it(tmp_path: Path) -> None:
    path = kept_outside(tmp_path / "made", model())
    with pytest.raises(AssetError, match=_SENTENCE.format("weights.bin")):
        write_package(tmp_path / "package", description(), {"model.onnx": path})
    assert not (tmp_path / "package").exists()


@pytest.mark.parametrize("location", ["../outside.bin", "{}/outside.bin", "card/../../outside.bin", "./weights.bin"])
def test_external_data_elsewhere_is_refused(package: Path, tmp_path: Path, location: str) -> None:
    location = location.format(tmp_path)
    shutil.copy(package / "weights.bin", tmp_path / "outside.bin")
    moved = onnx.load(package / "model.onnx", load_external_data=False)
    own = next(tensor for tensor in moved.graph.initializer if tensor.external_data)
    next(entry for entry in own.external_data if entry.key == "location").value = location
    replaced(package, moved)
    with pytest.raises(AssetError, match=re.escape(_SENTENCE.format(location))):
        load_package(package)


def hidden(tensor: onnx.TensorProto, place: str) -> onnx.ModelProto:
    """A network that holds a tensor at a place where few look."""
    made, helper = model(), onnx.helper
    constant = helper.make_node("Constant", [], ["c"], value=tensor)
    if place == "constant":
        made.graph.node.insert(0, constant)
    elif place == "branch":
        info = helper.make_tensor_value_info("c", tensor.data_type, list(tensor.dims))
        branch = helper.make_graph([constant], "branch", [], [info])
        made.graph.node.insert(0, helper.make_node("If", ["yes"], ["d"], then_branch=branch, else_branch=branch))
        made.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
    elif place == "function":
        made.functions.append(helper.make_function("own", "F", [], ["c"], [constant], made.opset_import))
    elif place == "sparse":
        indices = onnx.numpy_helper.from_array(np.array([0], dtype=np.int64))
        made.graph.sparse_initializer.append(helper.make_sparse_tensor(tensor, indices, [4]))
    else:
        made.training_info.add().algorithm.initializer.append(tensor)
    return made


@pytest.mark.parametrize("place", ["constant", "branch", "function", "sparse", "training"])
def test_a_tensor_outside_is_found_wherever_the_network_has_it(package: Path, place: str) -> None:
    tensor = onnx.numpy_helper.from_array(_WEIGHT.ravel(), "t")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "secret.bin"), ("offset", "0"), ("length", "4")):
        tensor.external_data.add(key=key, value=value)
    tensor.ClearField("raw_data")
    (package / "secret.bin").write_bytes(_WEIGHT.tobytes())
    replaced(package, hidden(tensor, place))
    with pytest.raises(AssetError, match=_SENTENCE.format("secret.bin")):
        load_package(package)


def test_the_name_of_a_tensor_says_nothing(tmp_path: Path) -> None:
    """The word by which networks with other files are told quickly is no reason to refuse one without them."""
    made = model()
    made.graph.name = made.producer_name = "location"
    made.metadata_props.add(key="location", value="here.bin")
    folder = write_package(tmp_path / "package", description(), {"model.onnx": made.SerializeToString()})
    assert answer(folder).shape == (2,)


def test_weights_by_themselves_have_no_other_files(tmp_path: Path) -> None:
    path = kept_outside(tmp_path / "made", model())
    with pytest.raises(AssetError, match=_SENTENCE.format("weights.bin")):
        weights.session(path)
    assert weights.session(path, beside=["weights.bin"]).get_inputs()[0].name == "waveform"


@pytest.mark.parametrize("content", [b"", b"location", b"location\xff" * 9, b"\x3a\xff\x01location", b"\x0blocation"])
def test_what_is_no_network_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(AssetError, match=r"^[^\n]*cannot be loaded as ONNX weights[^\n]*$"):
        weights.session(tmp_path / "model.onnx")


def test_the_command_says_it_and_ends_with_2(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    relabelled(package, lambda files: files.pop("weights.bin"))
    run = caller(monkeypatch, capfd, "export")
    done = run("--experts", f"voice={package}", "--out", tmp_path / "system")
    assert done.code == 2
    assert _SENTENCE.format("weights.bin") in " ".join(done.err.split())
    assert "Traceback" not in done.err
