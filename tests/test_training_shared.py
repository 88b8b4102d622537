"""Pieces that trainings and recipes share: batches, schedules, the exporter and how it stores weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra train (torch)")
onnx = pytest.importorskip("onnx", reason="training needs the extra train (onnx)")

import onnxruntime  # noqa: E402

from affuse.errors import AssetError, ConfigError  # noqa: E402
from affuse.training.batching import batches_by_length, class_weights, pad  # noqa: E402
from affuse.training.networks import compact as compacting  # noqa: E402
from affuse.training.networks.compact import compact  # noqa: E402
from affuse.training.networks.exporter import export_module  # noqa: E402
from affuse.training.networks.layers import ResidualBlock  # noqa: E402


def session(path: Path) -> Any:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


# --- batches ---


def test_padding_puts_zeros_behind_and_says_so() -> None:
    ids, mask = pad([[5, 6, 7], np.array([8]), []])
    assert ids.tolist() == [[5, 6, 7], [8, 0, 0], [0, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]


def test_batches_by_length_hold_every_row_once_and_pad_little() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, size=1001)
    batches = list(batches_by_length(lengths, 32, np.random.default_rng(1)))
    assert sorted(np.concatenate(batches).tolist()) == list(range(1001))
    assert len(batches) == 32, "ceil(1001 / 32), whatever the seed"
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert padded < 1.15 * lengths.sum()
    again = list(batches_by_length(lengths, 32, np.random.default_rng(1)))
    assert all((a == b).all() for a, b in zip(batches, again, strict=True))


def test_class_weights_lift_rare_labels_and_keep_the_mean() -> None:
    counts = np.array([81, 1, 16, 0])
    weights = class_weights(counts)
    np.testing.assert_allclose(weights[1] / weights[:3], [9, 1, 4])
    assert weights[3] == 0
    assert (weights * counts).sum() == pytest.approx(counts.sum())
    np.testing.assert_allclose(class_weights(counts / counts.sum()), weights)
    assert class_weights(counts, 1.0)[1] / class_weights(counts, 1.0)[0] == pytest.approx(81)
    np.testing.assert_allclose(class_weights(counts, 0.0)[:3], 1)


# --- layers ---


@pytest.mark.parametrize(("stride", "shape"), [(1, (7, 9)), (2, (4, 5)), ((1, 2), (7, 5)), ((2, 2), (4, 5))])
def test_a_residual_block_shrinks_by_its_stride(stride: Any, shape: tuple[int, int]) -> None:
    x = torch.randn(2, 3, 7, 9)
    assert ResidualBlock(3, 5, stride)(x).shape == (2, 5, *shape)
    kept = ResidualBlock(3, 3, stride)
    assert isinstance(kept.shortcut, torch.nn.Identity) == (stride == 1)


# --- the exporter ---


class Scaled(torch.nn.Module):
    """Rows (n, 64) times a matrix, and their sums."""

    def __init__(self, W: np.ndarray) -> None:
        super().__init__()
        self.W = torch.nn.Parameter(torch.from_numpy(W))

    def forward(self, x: Any) -> tuple[Any, Any]:
        return x @ self.W, x.sum(dim=1)


@pytest.fixture(name="W")
def _matrix() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)


def exported(W: np.ndarray, path: Path, **options: Any) -> Any:
    inputs = {"x": torch.eye(64)}
    difference = export_module(Scaled(W), path, inputs, ["y", "total"], {"x": {0: "n"}}, **options)
    assert difference <= 1e-4
    return session(path)


@pytest.mark.parametrize(
    ("storage", "share", "error"),
    [("float32", 1.0, 0.0), ("float16", 0.55, 2e-3), ("int16", 0.55, 7e-5), ("bytes", 0.35, 2e-2)],
)
def test_weights_take_less_space_and_are_rounded_as_stated(
    W: np.ndarray, tmp_path: Path, storage: Any, share: float, error: float
) -> None:
    exported(W, tmp_path / "plain.onnx")
    answers = exported(W, tmp_path / "stored.onnx", storage=storage).run(["y"], {"x": np.eye(64, dtype=np.float32)})[0]
    assert (tmp_path / "stored.onnx").stat().st_size <= share * (tmp_path / "plain.onnx").stat().st_size
    assert np.abs(answers - W).max() <= error
    if storage == "float16":
        np.testing.assert_array_equal(answers, W.astype(np.float16).astype(np.float32))


def test_texts_and_constants_travel_in_the_file(W: np.ndarray, tmp_path: Path) -> None:
    table = np.arange(3, dtype=np.uint64)
    own = exported(W, tmp_path / "x.onnx", storage="int8", metadata={"words": "怒\n喜"}, constants={"table": table})
    assert own.get_modelmeta().custom_metadata_map == {"words": "怒\n喜"}
    x = np.ones((3, 64), dtype=np.float32)  # other rows than the example's
    y, total, found = own.run(None, {"x": x})
    np.testing.assert_allclose(y, x @ W, atol=0.3)
    np.testing.assert_array_equal(total, [64, 64, 64])
    np.testing.assert_array_equal(found, table)
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]


class Fickle(torch.nn.Module):
    """Answers otherwise than it was traced."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return x + self.calls


def test_a_file_that_answers_otherwise_is_not_left_behind(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="answers differ by up to"):
        export_module(Fickle(), tmp_path / "x.onnx", {"x": torch.zeros(2, 2)}, ["y"], {})
    assert not list(tmp_path.iterdir())


def test_an_unknown_way_to_store_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="float32, float16, int16, bytes, int8; got 'int4'"):
        compact(tmp_path / "x.onnx", "int4")  # type: ignore[arg-type]
    assert set(compacting.__all__) == {"Storage", "compact"}
