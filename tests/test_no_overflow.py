"""INT8 weights whose sums of two products no processor cuts off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import affuse
from affuse.errors import DataError

onnx = pytest.importorskip("onnx", reason="needs onnx, which the extra train brings")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from affuse.training.networks import no_overflow  # noqa: E402

ASSETS = Path(affuse.__file__).parent / "assets"
NETWORKS = sorted(path.name for path in ASSETS.glob("*.onnx"))


def product(levels: np.ndarray, scales: np.ndarray):
    """A product with weights in INT8, as ONNX Runtime's dynamic quantisation writes it."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["x_levels", "x_scale", "x_zero"]),
        helper.make_node("MatMulInteger", ["x_levels", "w", "x_zero", "w_zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x_scale", "w_scale"], ["scale"]),
        helper.make_node("Mul", ["wide", "scale"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(levels.astype(np.int8), "w"),
        numpy_helper.from_array(np.zeros(levels.shape[1], np.int8), "w_zero"),
        numpy_helper.from_array(scales.astype(np.float32), "w_scale"),
    ]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, n])
        for name, n in zip("xy", levels.shape, strict=True)
    )
    graph = helper.make_graph(nodes, "product", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def arrays(model) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_which_pairs_are_too_large() -> None:
    levels = np.array([[100, 127, 127, 64], [50, -127, 2, 64], [127, -90, 0, 1]], dtype=np.int8)
    assert no_overflow.overflows(levels).tolist() == [[22, 0, 1, 0], [0, 0, 0, 0]]


def test_safe_levels_are_near_and_closer_than_seven_bits() -> None:
    draw = np.random.default_rng(1)
    weights = draw.normal(size=(255, 40))
    levels = np.round(weights / np.abs(weights).max(axis=0) * 127)
    safe, growth = no_overflow.safe_levels(levels)
    assert not no_overflow.overflows(safe).any()
    error = ((safe * growth - levels) ** 2).mean()
    seven_bits = ((np.round(levels * 64 / 127) * 127 / 64 - levels) ** 2).mean()
    assert error < 0.5 * seven_bits


def test_levels_that_are_safe_stay() -> None:
    levels = np.array([[127, -64, 3], [1, -64, -127]])
    safe, growth = no_overflow.safe_levels(levels)
    assert safe.tolist() == levels.tolist()
    assert growth.tolist() == [1, 1, 1]


def test_the_largest_inputs_are_added_up_right(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    levels = np.tile(np.array([[127, 127, 90, -127]]), (64, 1))  # 8 bits: this machine may read half of the first
    model = product(levels, np.full(4, 0.01))
    assert no_overflow.make_safe(model) == 1
    path = tmp_path / "product.onnx"
    onnx.save(model, str(path))
    (found,) = onnxruntime.InferenceSession(str(path)).run(None, {"x": np.ones((3, 64), np.float32)})
    np.testing.assert_allclose(found, np.tile(levels[:1] * 0.64, (3, 1)), rtol=0.01)
    assert no_overflow.make_safe(model) == 0, "what is safe stays"


def test_a_network_quantised_otherwise_is_refused() -> None:
    model = product(np.full((2, 2), 100), np.ones(2))
    del model.graph.node[3:]
    model.graph.node.append(helper.make_node("Identity", ["wide"], ["y"]))
    with pytest.raises(DataError, match="the scale of the weight 'w' is not found"):
        no_overflow.make_safe(model)


@pytest.mark.parametrize("name", NETWORKS)
def test_no_shipped_network_is_cut_off(name: str) -> None:
    model = onnx.load(str(ASSETS / name))
    own = arrays(model)
    for node in model.graph.node:
        if node.op_type == "MatMulInteger" and own[node.input[1]].dtype == np.int8:
            largest = int(no_overflow.overflows(own[node.input[1]]).max())
            assert largest == 0, node.input[1]


def test_command_writes_networks_under_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = pytest.importorskip("recipes.no_overflow")
    path = tmp_path / "own.onnx"
    onnx.save(product(np.full((2, 2), 127), np.ones(2)), str(path))
    command.main([str(path), "--out", str(tmp_path / "out")])
    assert capsys.readouterr().out == "own.onnx: 1 products changed\n"
    assert arrays(onnx.load(str(tmp_path / "out" / "own.onnx")))["w"].tolist() == [[64, 64], [64, 64]]
