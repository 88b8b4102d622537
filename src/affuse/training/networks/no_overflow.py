"""INT8 weights whose sums of two products no processor cuts off.

Processors with AVX2 but without VNNI multiply unsigned bytes of the input by signed bytes of the weights and add two
neighbouring products in 16 bits (``vpmaddubsw``), which cuts sums off at 32,767 without a word. No input can reach
that where two neighbouring weights of one sign add up to at most 128 (255 x 128 = 32,640). ONNX Runtime's
``reduce_range`` sees to it with levels from -64 to 64, which is twice as coarse. Here every channel gets the largest
level that does the least harm, and only pairs that are too large come nearer to 0. Safe levels stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from affuse.errors import DataError

__all__ = ["make_safe", "overflows", "safe_levels"]

_LARGEST = 127  # level of the weights as they come
_SUM = 128  # of two neighbouring levels of one sign
_TRIED = range(64, _LARGEST + 1, 3)  # largest levels after the change


def overflows(levels: np.ndarray) -> np.ndarray:
    """By how much two neighbouring levels (k, n) of one sign exceed what is safe: (k / 2 rounded up, n), 0 if safe."""
    first, second = _pairs(levels)
    alike = np.sign(first) == np.sign(second)
    return np.asarray(np.where(alike, np.maximum(np.abs(first) + np.abs(second) - _SUM, 0), 0))


def safe_levels(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Safe levels (k, n) int8 nearest to given ones, and by what (n,) the scale of each channel grows."""
    given = np.asarray(levels, dtype=float)
    best = np.full(given.shape[1], np.inf)
    found, growth = np.zeros_like(given), np.ones(given.shape[1])
    for largest in _TRIED:
        tried = np.round(given * (largest / _LARGEST))
        excess = overflows(tried)
        for place, less in ((0, np.floor(excess / 2)), (1, np.ceil(excess / 2))):
            part = tried[place::2]
            part -= np.sign(part) * less[: len(part)]
        error = ((tried * (_LARGEST / largest) - given) ** 2).sum(axis=0)
        better = error < best
        best[better], growth[better] = error[better], _LARGEST / largest
        found[:, better] = tried[:, better]
    return found.astype(np.int8), growth


def _pairs(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    padded = np.pad(levels.astype(int), ((0, len(levels) % 2), (0, 0)))
    return padded[::2], padded[1::2]


def make_safe(model: Any) -> int:
    """Change the weights of all products in INT8 that some processors may cut off; returns how many there were.

    Raises DataError where a product is not as ONNX Runtime's dynamic quantisation leaves it.
    """
    from onnx import numpy_helper

    arrays = {tensor.name: tensor for tensor in model.graph.initializer}
    unsafe = {}
    for node in model.graph.node:
        if node.op_type == "MatMulInteger":
            levels = numpy_helper.to_array(arrays[node.input[1]])
            if levels.dtype == np.int8 and overflows(levels).any():
                unsafe[node.input[1]] = levels
    scales = _scales_of(list(unsafe), model, arrays)
    if len(set(scales.values())) < len(scales):
        raise DataError("two products share one scale of their weights; each needs its own")
    for name, levels in unsafe.items():
        safe, growth = safe_levels(levels)
        scale = numpy_helper.to_array(arrays[scales[name]]) * growth.astype(np.float32)
        arrays[name].CopyFrom(numpy_helper.from_array(safe, name))
        arrays[scales[name]].CopyFrom(numpy_helper.from_array(scale, scales[name]))
    return len(unsafe)


def _scales_of(weights: Sequence[str], model: Any, arrays: Mapping[str, Any]) -> dict[str, str]:
    """Names of the scales of weights: what the integer product, as a float, is multiplied by holds them."""
    made = {output: node for node in model.graph.node for output in node.output}
    users: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    scales = {}
    for weight in weights:
        casts = [cast for product in users[weight] for cast in users.get(product.output[0], [])]
        scaled = [(cast.output[0], node) for cast in casts for node in users.get(cast.output[0], [])]
        factors = [made[name] for own, node in scaled for name in node.input if name != own and name in made]
        found = {name for node in factors for name in node.input if name in arrays}
        if len(found) != 1:
            raise DataError(f"the scale of the weight {weight!r} is not found; is this network quantised dynamically?")
        scales[weight] = found.pop()
    return scales
