"""Reading many texts at once, to the numbers that each of them has by itself.

Activations of the shipped networks are rounded to 8 bits between the least and the greatest of all values that run
together. So a text's answer would depend on the others of its batch. Here every text gets a range of its own, in the
same integers, and texts of equal length run together, so that nothing is padded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from affuse import weights
from affuse.errors import AssetError
from affuse.experts.protobuf import changed, fields, message
from affuse.experts.text.language import parts_of

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["CHECKED", "NO_BUCKET", "bulk_session", "by_themselves", "read_in_batches", "same"]

NO_BUCKET = -1
"""Fills rows of buckets up to one length; a network of `bulk_session` passes over it."""

CHECKED = ("Yes.", "We did not know that it would rain in the afternoon.")
"""Texts by which a changed network shows that it answers as before."""

_ROUNDING = 1e-3
_TOKENS = 512  # of a batch: beyond it, nothing gets faster

# Where the ONNX format (onnx.proto) keeps what is changed: numbers of fields.
_MODEL_GRAPH, _MODEL_DOMAINS, _MODEL_FUNCTIONS = 7, 8, 25
_GRAPH_NODE, _GRAPH_VALUE, _VALUE_NAME = 1, 13, 1
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 2, 4, 5, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_FLOAT, _ATTRIBUTE_INT, _ATTRIBUTE_INTS, _ATTRIBUTE_TYPE = 1, 2, 3, 8, 20
_FUNCTION_NAME, _FUNCTION_INPUT, _FUNCTION_OUTPUT, _FUNCTION_NODE, _FUNCTION_DOMAINS, _FUNCTION_DOMAIN = (
    1,
    4,
    5,
    7,
    9,
    10,
)
_DOMAIN_NAME, _DOMAIN_VERSION = 1, 2
_FLOAT_TYPE, _INT_TYPE, _INTS_TYPE = 1, 2, 7
_FLOAT32, _UINT8, _INT32 = 1, 2, 6
_OPERATORS = 17  # version of ONNX's own operators

_DOMAIN = "affuse"
_BUCKETS = b"buckets"

_Step = tuple[str, str, str, dict[str, int | float | Sequence[int]]]

# Operator, inputs, output and attributes. DynamicQuantizeLinear, a text at a time: its scale and its zero have one
# value a text. QuantizeLinear itself rounds as DynamicQuantizeLinear does.
_QUANTIZE: tuple[_Step, ...] = (
    ("Constant", "", "zero", {"value_float": 0.0}),
    ("Constant", "", "one", {"value_float": 1.0}),
    ("Constant", "", "most", {"value_float": 255.0}),
    ("Constant", "", "flat", {"value_ints": (-1,)}),
    ("ReduceMin", "x", "row_least", {"axes": (-1,), "keepdims": 1}),
    ("ReduceMin", "row_least", "text_least", {"axes": (1,), "keepdims": 1}),
    ("Min", "text_least zero", "least", {}),
    ("ReduceMax", "x", "row_greatest", {"axes": (-1,), "keepdims": 1}),
    ("ReduceMax", "row_greatest", "text_greatest", {"axes": (1,), "keepdims": 1}),
    ("Max", "text_greatest zero", "greatest", {}),
    ("Sub", "greatest least", "range", {}),
    ("Div", "range most", "step", {}),
    ("Equal", "step zero", "constant", {}),
    ("Where", "constant one step", "scale", {}),
    ("Neg", "least", "below", {}),
    ("Div", "below scale", "place", {}),
    ("Round", "place", "whole", {}),
    ("Clip", "whole zero most", "inside", {}),
    ("Cast", "inside", "zero_point", {"to": _INT32}),
    ("Cast", "inside", "small", {"to": _UINT8}),
    ("Reshape", "scale flat", "scales", {}),
    ("Reshape", "small flat", "zero_points", {}),
    ("QuantizeLinear", "x scales zero_points", "y", {"axis": 0}),
)

# MatMulInteger takes one zero for all rows. (a - zero) b = a b - zero (sum of the rows of b), in whole numbers.
_MULTIPLY: tuple[_Step, ...] = (
    ("Constant", "", "rows", {"value_ints": (0,)}),
    ("MatMulInteger", "a b  b_zero", "product", {}),
    ("Cast", "b", "b_wide", {"to": _INT32}),
    ("Cast", "b_zero", "b_zero_wide", {"to": _INT32}),
    ("Sub", "b_wide b_zero_wide", "b_levels", {}),
    ("ReduceSum", "b_levels rows", "sums", {"keepdims": 0}),
    ("Mul", "a_zero sums", "excess", {}),
    ("Sub", "product excess", "y", {}),
)

# Rows of the table at the buckets of every text, as one: their sum over the root of their number. The network sums one
# row, and divides by the root of one.
_GATHER: tuple[_Step, ...] = (
    ("Constant", "", "none", {"value_int": 0}),
    ("Constant", "", "one", {"value_float": 1.0}),
    ("Constant", "", "middle", {"value_ints": (1,)}),
    ("Constant", "", "last", {"value_ints": (2,)}),
    ("GreaterOrEqual", "buckets none", "here", {}),
    ("Cast", "here", "counts", {"to": _FLOAT32}),
    ("Max", "buckets none", "places", {}),
    ("Gather", "table places", "levels", {}),
    ("Cast", "levels", "rows", {"to": _FLOAT32}),
    ("Unsqueeze", "counts middle", "sums", {}),
    ("MatMul", "sums rows", "together", {}),
    ("ReduceSum", "sums last", "number", {"keepdims": 1}),
    ("Max", "number one", "at_least_one", {}),
    ("Sqrt", "at_least_one", "root", {}),
    ("Div", "together root", "y", {}),
)

_FUNCTIONS = {
    "QuantizeTexts": ("x", "y scale zero_point", _QUANTIZE),
    "MultiplyTexts": ("a b a_zero b_zero", "y", _MULTIPLY),
    "GatherTexts": ("table buckets", "y", _GATHER),
}


def bulk_session(
    path: Path, agrees: Callable[[InferenceSession], bool] = lambda session: True
) -> InferenceSession | None:
    """A network of words whose batches give the numbers of their texts one by one.

    None where the network is of another make, so that it cannot be changed so, or no longer ``agrees`` with itself:
    then its texts are read one by one.
    """
    try:
        session = weights.session(path, change=by_themselves)
        return session if agrees(session) else None
    except AssetError:
        return None


def by_themselves(model: bytes) -> bytes:
    """An ONNX network, in its bytes, in which what depends on the whole batch is worked out for every text by itself.

    A network in floating point stays as it is. Raises ValueError where it is no ONNX network.
    """
    functions = [(_MODEL_FUNCTIONS, _function(name, *described)) for name, described in _FUNCTIONS.items()]
    own = (_MODEL_DOMAINS, message((_DOMAIN_NAME, _DOMAIN), (_DOMAIN_VERSION, 1)))
    gathered: list[bytes] = []
    model = changed(model, (_MODEL_GRAPH, _GRAPH_NODE), partial(_replaced, gathered=gathered))
    stale = {(_VALUE_NAME, name) for name in gathered}
    # Types of what is gathered are others now. The rest are kept: by them ONNX Runtime knows where it may add and
    # normalise in one step, as in the stock network, and so every rounding is the same.
    model = changed(model, (_MODEL_GRAPH, _GRAPH_VALUE), lambda kind: None if stale & set(fields(kind)) else kind)
    return model + message(own, *functions)


def _replaced(node: bytes, gathered: list[bytes]) -> bytes:
    """A node of the graph, or that which works text by text in its place; ``gathered`` gets outputs of another type."""
    parts = list(fields(node))
    operator = next((value for number, value in parts if number == _NODE_OPERATOR), b"")
    if operator == b"DynamicQuantizeLinear":
        name = "QuantizeTexts"
    elif operator == b"MatMulInteger":
        name = "MultiplyTexts"
    elif operator == b"Gather" and (_NODE_INPUT, _BUCKETS) in parts:
        name = "GatherTexts"
        gathered += [value for number, value in parts if number == _NODE_OUTPUT and isinstance(value, bytes)]
    else:
        return node
    links = [(number, value) for number, value in parts if number in (_NODE_INPUT, _NODE_OUTPUT)]
    return message(*links, (_NODE_OPERATOR, name), (_NODE_DOMAIN, _DOMAIN))


def _function(name: str, inputs: str, outputs: str, steps: Sequence[_Step]) -> bytes:
    return message(
        (_FUNCTION_NAME, name),
        *((_FUNCTION_INPUT, one) for one in inputs.split()),
        *((_FUNCTION_OUTPUT, one) for one in outputs.split()),
        *((_FUNCTION_NODE, _node(*step)) for step in steps),
        (_FUNCTION_DOMAINS, message((_DOMAIN_NAME, ""), (_DOMAIN_VERSION, _OPERATORS))),
        (_FUNCTION_DOMAIN, _DOMAIN),
    )


def _node(operator: str, inputs: str, output: str, attributes: dict[str, int | float | Sequence[int]]) -> bytes:
    """A node; two spaces between inputs stand for one that is left out."""
    return message(
        *((_NODE_INPUT, one) for one in (inputs.split(" ") if inputs else ())),
        (_NODE_OUTPUT, output),
        (_NODE_OPERATOR, operator),
        *((_NODE_ATTRIBUTE, _attribute(name, value)) for name, value in attributes.items()),
    )


def _attribute(name: str, value: int | float | Sequence[int]) -> bytes:
    if isinstance(value, int):
        return message((_ATTRIBUTE_NAME, name), (_ATTRIBUTE_INT, value), (_ATTRIBUTE_TYPE, _INT_TYPE))
    if isinstance(value, float):
        return message((_ATTRIBUTE_NAME, name), (_ATTRIBUTE_FLOAT, value), (_ATTRIBUTE_TYPE, _FLOAT_TYPE))
    numbers = ((_ATTRIBUTE_INTS, number) for number in value)
    return message((_ATTRIBUTE_NAME, name), *numbers, (_ATTRIBUTE_TYPE, _INTS_TYPE))


def read_in_batches(
    texts: Sequence[Sequence[int]], most: int, run: Callable[[np.ndarray, Sequence[int]], Sequence[np.ndarray]]
) -> list[tuple[np.ndarray, ...]]:
    """Outputs of a network for the ids of texts of any length, as `read_in_parts` has them for one.

    ``run`` is given ids (n, t) and which of the texts each row is of, and answers with arrays of n rows.
    """
    parts = [(number, part) for number, ids in enumerate(texts) for part in parts_of(ids, most)]
    found: dict[int, list[tuple[np.ndarray, ...]]] = defaultdict(list)
    weight: dict[int, list[int]] = defaultdict(list)
    for batch in _of_equal_length(parts):
        numbers = [number for number, _ in batch]
        outputs = run(np.array([part for _, part in batch], dtype=np.int64), numbers)
        for row, (number, part) in enumerate(batch):
            found[number].append(tuple(np.asarray(output[row], dtype=float) for output in outputs))
            weight[number].append(max(1, len(part) - 2))
    return [_averaged(found[number], weight[number]) for number in range(len(texts))]


def same(together: Sequence[Sequence[np.ndarray]], alone: Sequence[Sequence[np.ndarray]]) -> bool:
    """Whether outputs of the same texts are the same but for rounding."""
    pairs = zip(together, alone, strict=True)
    return all(np.allclose(a, b, atol=_ROUNDING) for one, two in pairs for a, b in zip(one, two, strict=True))


def _averaged(outputs: Sequence[tuple[np.ndarray, ...]], lengths: Sequence[int]) -> tuple[np.ndarray, ...]:
    if len(outputs) == 1:
        return outputs[0]
    return tuple(np.average(values, axis=0, weights=lengths) for values in zip(*outputs, strict=True))


def _of_equal_length(parts: Sequence[tuple[int, list[int]]]) -> Iterator[list[tuple[int, list[int]]]]:
    by_length: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
    for part in parts:
        by_length[len(part[1])].append(part)
    for length, equal in by_length.items():
        size = max(1, _TOKENS // length)
        yield from (equal[first : first + size] for first in range(0, len(equal), size))
