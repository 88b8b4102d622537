"""The graph of the commercial set's words: pretrained layers, statistics of their states, and linear models on top."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from affuse.data.corpora.brighter import LANGUAGES, MARKS
from affuse.errors import AssetError
from affuse.files import replacing
from affuse.labels import EKMAN, SENTIMENT

__all__ = ["Heads", "add_heads", "lower_layers"]

_STATES = ("embeddings/LayerNorm", "encoder/layer.1/output/LayerNorm", "encoder/layer.3/output/LayerNorm")
_FAR = 1e4  # what moves a masked state out of every maximum
_OPSET = 17


@dataclass(frozen=True)
class Heads:
    """Linear models over statistics of the encoder (n, d) and over n-grams, and how they are weighed.

    From statistics less their ``mean`` (d,) and over their ``spread`` (d,), ``slopes`` (d, 44) and ``biases`` (44,)
    give logits of emotions, sentiments, marks and languages, in this order; ``gram_slopes`` (buckets, 10) give those of
    emotions and sentiments. ``table`` (buckets, 168) int8, ``steps`` and ``intercepts`` (28, 6) are the models over
    n-grams of posts, one a language and mark. ``emotions`` (3 + 7,) and ``sentiments`` (2 + 3,) are weights and
    offsets, ``marks`` (3,) two weights and an offset, ``cuts`` (6,) the logits from which a mark is answered.
    """

    mean: np.ndarray
    spread: np.ndarray
    slopes: np.ndarray
    biases: np.ndarray
    gram_slopes: np.ndarray
    table: np.ndarray
    steps: np.ndarray
    intercepts: np.ndarray
    emotions: np.ndarray = field(default_factory=lambda: np.ones(10))
    sentiments: np.ndarray = field(default_factory=lambda: np.ones(5))
    marks: np.ndarray = field(default_factory=lambda: np.ones(3))
    cuts: np.ndarray = field(default_factory=lambda: np.zeros(len(MARKS)))

    def of_encoder(self, X: np.ndarray) -> np.ndarray:
        """Logits (n, 44) from statistics (n, d)."""
        return np.asarray((X.astype(float) - self.mean) / self.spread @ self.slopes + self.biases)

    @property
    def from_marks(self) -> list[int]:
        """Place of every emotion among the marks; neutral, which nobody marks, is behind them."""
        return [MARKS.index(label) if label in MARKS else len(MARKS) for label in EKMAN.labels]

    def of_posts(self, G: csr_matrix) -> np.ndarray:
        """Logits (n, 28, 6) of the models over n-grams of posts, from which buckets texts fall into (n, buckets)."""
        sums = np.asarray(G @ self.table.astype(np.float32)).reshape(-1, *self.steps.shape)
        return np.asarray(sums * self.steps + self.intercepts)

    def with_weights(self, emotions: np.ndarray, sentiments: np.ndarray, marks: np.ndarray, cuts: np.ndarray) -> Heads:
        """The same models, weighed."""
        return replace(self, emotions=emotions, sentiments=sentiments, marks=marks, cuts=cuts)


def lower_layers(whole: Any) -> tuple[Any, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The lower layers of the research set's network, and its models over n-grams of posts.

    The graph maps "ids" and "mask" (n, t) to "statistics" (n, d): means of the states that enter the first layer, leave
    the second and leave the fourth, and maximum and minimum of the last. Raises AssetError where it has no such layers.
    """
    import onnx
    from onnx import numpy_helper

    arrays = {tensor.name: tensor for tensor in whole.graph.initializer}
    normed = [node.output[0] for node in whole.graph.node if node.op_type == "LayerNormalization"]
    states = [next((name for name in normed if f"{part}/" in name), None) for part in _STATES]
    names = ("grams", "steps", "intercepts")
    missing = [part for part, name in zip(_STATES, states, strict=True) if name is None]
    missing += [name for name in names if name not in arrays]
    if missing:
        raise AssetError(f"the base is not the multilingual text network: it has no {missing[0]}")
    lower = onnx.utils.Extractor(whole).extract_model(["ids", "mask"], states)
    add = _Builder(lower)
    del lower.graph.output[:]
    _add_statistics(add, *map(str, states))
    lower.graph.output.append(onnx.helper.make_tensor_value_info("statistics", onnx.TensorProto.FLOAT, ["n", None]))
    del lower.graph.value_info[:], lower.metadata_props[:]
    grams = [numpy_helper.to_array(arrays[name]) for name in names]
    return lower, (grams[0], grams[1], grams[2])


class _Builder:
    """Adds nodes and constants to a model, and names them."""

    def __init__(self, model: Any) -> None:
        self.graph = model.graph
        self.n = 0

    def __call__(self, kind: str, *inputs: str | np.ndarray, out: str | None = None, **options: Any) -> str:
        """Add a node over values by name and constants; returns the name of its output."""
        from onnx import helper

        self.n += 1
        output = out or f"own_{len(self.graph.node)}_{self.n}"
        named = [
            value if isinstance(value, str) else self.keep(value, f"{output}_{i}") for i, value in enumerate(inputs)
        ]
        self.graph.node.append(helper.make_node(kind, named, [output], **options))
        return output

    def split(self, value: str, sizes: np.ndarray) -> list[str]:
        """Add a node that cuts columns into parts; returns their names."""
        from onnx import helper

        self.n += 1
        parts = [f"part_{self.n}_{i}" for i in range(len(sizes))]
        self.graph.node.append(helper.make_node("Split", [value, self.keep(sizes, f"sizes_{self.n}")], parts, axis=1))
        return parts

    def keep(self, values: np.ndarray, name: str) -> str:
        """Add a constant."""
        from onnx import numpy_helper

        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def small(self, slopes: np.ndarray, rows: str | None = None) -> str:
        """Slopes (d, k) in 8 bits, widened: all of them, or the rows of the given places."""
        steps = np.maximum(np.abs(slopes).max(axis=0), 1e-9) / 127
        levels: str | np.ndarray = np.round(slopes / steps).astype(np.int8)
        found = self("Cast", levels if rows is None else self("Gather", levels, rows), to=1)
        return self("Mul", found, steps.astype(np.float32))


def _float(value: Any) -> np.ndarray:
    return np.asarray(value, dtype=np.float32)


def _add_statistics(add: _Builder, first: str, second: str, fourth: str) -> None:
    mask = add("Unsqueeze", add("Cast", "mask", to=1), np.array([2]))
    count = add("ReduceSum", mask, np.array([1]), keepdims=0)
    means = [
        add("Div", add("ReduceSum", add("Mul", state, mask), np.array([1]), keepdims=0), count)
        for state in (first, second, fourth)
    ]
    away = add("Mul", add("Sub", mask, _float(1)), _float(_FAR))
    most = add("ReduceMax", add("Add", fourth, away), axes=[1], keepdims=0)
    least = add("Neg", add("ReduceMax", add("Sub", away, fourth), axes=[1], keepdims=0))
    add("Concat", *means, most, least, out="statistics", axis=1)


def add_heads(lower: Any, heads: Heads, facts: Mapping[str, str], path: Path) -> None:
    """Write the whole network: "ids" and "mask" (n, t), "buckets" (n, m) in; out, what the multilingual one answers."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.ModelProto()
    model.CopyFrom(lower)
    graph, add = model.graph, _Builder(model)
    graph.input.append(helper.make_tensor_value_info("buckets", TensorProto.INT64, ["n", "m"]))
    standard = add("Div", add("Sub", "statistics", _float(heads.mean)), _float(heads.spread))
    logits = add("Add", add("MatMul", standard, add.small(heads.slopes)), _float(heads.biases))
    sizes = np.array([len(EKMAN), len(SENTIMENT), len(MARKS), len(LANGUAGES)])
    emotions, sentiments, marks, languages = add.split(logits, sizes)
    rows = add.small(heads.gram_slopes, "buckets")
    # Of the rows, and not of the buckets: a network that reads many texts at once sums them where it looks them up.
    length = add("Sqrt", add("Cast", add("Gather", add("Shape", rows), np.array([1])), to=1))
    summed = add("ReduceSum", rows, np.array([1]), keepdims=0)
    gram_emotions, gram_sentiments = add.split(add("Div", summed, length), sizes[:2])
    shares = add("Softmax", languages, out="languages", axis=1)
    posts = _add_marks(add, heads, marks, shares, length)
    none = add("Mul", add("Slice", posts, np.array([0]), np.array([1]), np.array([1])), _float(0))
    seven = add("Gather", add("Concat", posts, none, axis=1), np.array(heads.from_marks), axis=1)
    _add_mixture(add, [emotions, gram_emotions, seven], heads.emotions, "probabilities")
    _add_mixture(add, [sentiments, gram_sentiments], heads.sentiments, "sentiment")
    add("Identity", _last_mean(add), out="embedding")
    outputs = {"probabilities": len(EKMAN), "sentiment": len(SENTIMENT), "embedding": 384}
    outputs |= {"languages": len(LANGUAGES), "marks": len(MARKS)}
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(k, TensorProto.FLOAT, ["n", v]) for k, v in outputs.items())
    helper.set_model_props(model, dict(facts))
    onnx.checker.check_model(model)
    with replacing(path) as (part,):
        onnx.save(model, str(part))


def _last_mean(add: _Builder) -> str:
    """The mean of the fourth layer's states among the statistics, which is the embedding."""
    return add("Slice", "statistics", np.array([2 * 384]), np.array([3 * 384]), np.array([1]))


def _add_marks(add: _Builder, heads: Heads, encoder: str, languages: str, length: str) -> str:
    """Answers to marks; returns the logits (n, 6) of n-grams, averaged by how likely a text is in each language."""
    rows = add("Cast", add("Gather", heads.table, "buckets"), to=1)
    sums = add("Div", add("ReduceSum", rows, np.array([1]), keepdims=0), length)
    wide = add("Reshape", sums, np.array([-1, *heads.steps.shape]))
    each = add("Add", add("Mul", wide, _float(heads.steps)), _float(heads.intercepts))
    posts = add("ReduceSum", add("Mul", each, add("Unsqueeze", languages, np.array([2]))), np.array([1]), keepdims=0)
    both = add("Add", add("Mul", encoder, _float(heads.marks[0])), add("Mul", posts, _float(heads.marks[1])))
    add("Sigmoid", add("Add", both, _float(heads.marks[2] - heads.cuts)), out="marks")
    return posts


def _add_mixture(add: _Builder, parts: list[str], weights: np.ndarray, out: str) -> None:
    """The softmax of weighted logits and offsets."""
    total = add("Mul", parts[0], _float(weights[0]))
    for part, weight in zip(parts[1:], weights[1:], strict=False):
        total = add("Add", total, add("Mul", part, _float(weight)))
    add("Softmax", add("Add", total, _float(weights[len(parts) :])), out=out, axis=1)
