"""The head for everyday language of the English recipe: what it learns, and the graph that joins its answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affuse.errors import ConfigError
from affuse.labels import EKMAN
from recipes.text_en_everyday import EverydayHead, add_everyday, fit_everyday, shorten_names
from recipes.text_en_situations import situations

onnx = pytest.importorskip("onnx", reason="onnx, of the extra train, writes the graph")

WIDTH = 12


@pytest.fixture
def model() -> Any:
    """A network whose embedding is its input, and whose probabilities are a softmax of its first seven numbers."""
    from onnx import TensorProto, helper, numpy_helper

    ends = [numpy_helper.from_array(np.array([i]), name) for i, name in ((0, "a long name"), (7, "end"), (1, "axis"))]
    nodes = [
        helper.make_node("Identity", ["x"], ["embedding"], name="another long name"),
        helper.make_node("Slice", ["x", "a long name", "end", "axis"], ["first"]),
        helper.make_node("Softmax", ["first"], ["probabilities"], axis=1),
    ]
    value = helper.make_tensor_value_info
    outputs = [value("probabilities", TensorProto.FLOAT, ["n", 7]), value("embedding", TensorProto.FLOAT, ["n", WIDTH])]
    graph = helper.make_graph(nodes, "small", [value("x", TensorProto.FLOAT, ["n", WIDTH])], outputs, ends)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _answers(model: Any, x: np.ndarray, path: Path) -> list[np.ndarray]:
    from affuse import weights

    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return list(weights.session(path).run(["probabilities", "embedding"], {"x": x}))


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def test_the_graph_mixes_both_answers_as_far_as_the_gate_is_open(model: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(50, WIDTH)).astype(np.float32)
    head = EverydayHead(rng.normal(size=(WIDTH, 8)), rng.normal(size=8))
    before, embedding = _answers(model, x, tmp_path / "before.onnx")
    add_everyday(model, head)
    shorten_names(model)
    after, same = _answers(model, x, tmp_path / "after.onnx")
    logits = x @ head.weights + head.bias
    part = 0.5 / (1 + np.exp(-logits[:, 7:]))
    own = _softmax(logits[:, :7])
    expected = _softmax((1 - part) * np.log(before + 1e-4) + part * np.log(own + 1e-4))
    np.testing.assert_array_equal(same, embedding)
    np.testing.assert_allclose(after, expected, atol=0.02)  # weights of 8 bits
    assert np.abs(after - before).max() > 0.1
    assert not any("long" in name for node in model.graph.node for name in (node.name, *node.input, *node.output))


def test_a_head_is_added_once(model: Any) -> None:
    head = EverydayHead(np.ones((WIDTH, 8)), np.zeros(8))
    add_everyday(model, head)
    shorten_names(model)
    with pytest.raises(ConfigError, match="hold this head already"):
        add_everyday(model, head)


def test_the_head_learns_emotions_and_the_gate_who_speaks_plainly() -> None:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(7, WIDTH)) * 3
    sets = {}
    for name, shift in (("comments", 0.0), ("dialogue", 0.0), ("situations", 2.0)):
        y = np.repeat(np.arange(7), 60)
        sets[name] = rng.normal(size=(len(y), WIDTH)) + means[y] + shift, y
    head = fit_everyday(sets)
    assert head.weights.shape == (WIDTH, 8)
    plain, comments = (sets[name][0] @ head.weights + head.bias for name in ("situations", "comments"))
    assert (plain[:, :7].argmax(axis=1) == sets["situations"][1]).mean() > 0.9
    assert plain[:, 7].mean() > 0 > comments[:, 7].mean()


def test_situations_are_different_sentences_of_every_emotion() -> None:
    texts, y = situations(280, 0)
    assert len(set(texts)) == len(texts) == 280 * len(EKMAN)
    assert np.bincount(y).tolist() == [280] * len(EKMAN)
    assert not [text for text in texts if "{" in text or "  " in text or "\n" in text]
    assert situations(280, 0)[0] == texts
    with pytest.raises(ValueError, match="different sentences"):
        situations(10_000, 0)
