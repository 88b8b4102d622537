"""Fewer bytes for shipped networks of words: tables of embeddings in 4 bits, and tokenizers compressed.

``python -m recipes.packing runs/text_en/text_en.onnx --out runs/text_en/packed/text_en.onnx``

A table is stored in blocks of 32 weights of 4 bits that share one scale of 8 bits, as `recipes.e5` finds its own, and
only the rows that a text asks for are widened. The tokenizer, lossless, takes a third of its bytes
(`affuse.experts.text.language.stored_tokenizer` reads both forms).
"""

from __future__ import annotations

import argparse
import base64
import lzma
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from affuse.errors import ConfigError
from affuse.experts.text.language import PACKED, TOKENIZER
from affuse.files import replacing
from recipes.command import errors_as_sentences

__all__ = ["main", "pack_blocks", "pack_table", "pack_tokenizer", "unpacked"]

BLOCK = 32
"""Weights that share a scale."""

_FACTORS = np.linspace(0.7, 1.1, 17)  # of the scale that the largest weight of a block would need
_LEAST = 1 << 20  # bytes of a table that is worth it


def pack_blocks(table: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """A table (v, d) as levels (v, d / 32, 16) uint8, scales (v, d / 32) int8 in steps, and the step.

    A byte holds weight i of its block in its low half and weight i + 16 in its high half, each 8 above what is
    multiplied by the scale. Of 17 scales a block has the one with the least square error.
    """
    blocks = np.asarray(table, dtype=np.float32).reshape(len(table), -1, BLOCK)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=2)[..., None], axis=2)[..., 0]
    step = float(np.abs(largest).max()) * _FACTORS.max() / 8 / 127
    best, scales = np.full(largest.shape, np.inf), np.zeros(largest.shape, np.int8)
    levels = np.zeros(blocks.shape, np.uint8)
    for factor in _FACTORS:
        own = np.clip(np.round(largest / -8 * factor / step), -127, 127).astype(np.int8)
        own[own == 0] = 1
        wide = own[..., None] * step
        found = np.clip(np.round(blocks / wide), -8, 7)
        error = ((found * wide - blocks) ** 2).sum(axis=2)
        better = error < best
        best = np.where(better, error, best)
        scales[better] = own[better]
        levels[better] = (found[better] + 8).astype(np.uint8)
    return levels[..., : BLOCK // 2] | levels[..., BLOCK // 2 :] << 4, scales, step


def unpacked(levels: np.ndarray, scales: np.ndarray, step: float) -> np.ndarray:
    """The table (v, d) float32 that `pack_blocks` stored."""
    halves = np.concatenate([levels & 15, levels >> 4], axis=2).astype(np.float32) - 8
    return (halves * (scales.astype(np.float32) * np.float32(step))[..., None]).reshape(len(levels), -1)


def pack_table(model: Any) -> str:
    """Store the largest 8-bit table that a graph looks rows up in with 4 bits a weight; returns the table's name.

    Raises ConfigError where the graph has no such table.
    """
    from onnx import numpy_helper

    graph = model.graph
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    reads = {n.input[0]: n for n in graph.node if n.op_type == "Gather" and n.input[0] in arrays}
    widens = {n.input[0]: n for n in graph.node if n.op_type == "DequantizeLinear"}
    found = [
        (int(np.prod(arrays[name].dims)), name)
        for name, node in reads.items()
        if node.output[0] in widens and np.prod(arrays[name].dims) >= _LEAST and arrays[name].dims[1] % BLOCK == 0
    ]
    if not found:
        raise ConfigError("the network looks up no rows in a large table of 8 bits; it may be packed already")
    name = max(found)[1]
    gather, widen = reads[name], widens[reads[name].output[0]]
    scale, zero = (numpy_helper.to_array(arrays[entry]) for entry in widen.input[1:])
    table = (numpy_helper.to_array(arrays[name]).astype(np.float32) - zero.astype(np.float32)) * scale
    place = list(graph.node).index(gather)
    graph.initializer.remove(arrays[name])
    graph.node.remove(gather)
    graph.node.remove(widen)
    stored, nodes = _lookup(table, name, gather.input[1], widen.output[0])
    graph.initializer.extend(stored)
    for node in reversed(nodes):
        graph.node.insert(place, node)
    return name


def _lookup(table: np.ndarray, name: str, ids: str, output: str) -> tuple[list[Any], list[Any]]:
    """Arrays and nodes that look rows up in a packed table."""
    from onnx import TensorProto, helper, numpy_helper

    levels, scales, step = pack_blocks(table)
    constants = {
        "levels": levels,
        "scales": scales,
        "step": np.float32(step),
        "sixteen": np.float32(16),
        "eight": np.float32(8),
        "last": np.array([-1]),
        "shape": np.array([0, 0, table.shape[1]]),
    }
    own = {part: f"{name}.{part}" for part in constants}
    # Levels and scales are cast after the rows are looked up, so that the table itself stays small in memory.
    steps = [
        ("Gather", [own["levels"], ids], "bytes", {}),
        ("Cast", [f"{name}.bytes"], "both", {"to": TensorProto.FLOAT}),
        ("Div", [f"{name}.both", own["sixteen"]], "ratio", {}),
        ("Floor", [f"{name}.ratio"], "high", {}),
        ("Mul", [f"{name}.high", own["sixteen"]], "upper", {}),
        ("Sub", [f"{name}.both", f"{name}.upper"], "low", {}),
        ("Concat", [f"{name}.low", f"{name}.high"], "halves", {"axis": -1}),
        ("Sub", [f"{name}.halves", own["eight"]], "weights", {}),
        ("Gather", [own["scales"], ids], "near", {}),
        ("Cast", [f"{name}.near"], "whole", {"to": TensorProto.FLOAT}),
        ("Mul", [f"{name}.whole", own["step"]], "scale", {}),
        ("Unsqueeze", [f"{name}.scale", own["last"]], "wide", {}),
        ("Mul", [f"{name}.weights", f"{name}.wide"], "blocks", {}),
        ("Reshape", [f"{name}.blocks", own["shape"]], None, {}),
    ]
    nodes = [
        helper.make_node(kind, inputs, [output if out is None else f"{name}.{out}"], **options)
        for kind, inputs, out, options in steps
    ]
    return [numpy_helper.from_array(np.asarray(values), own[part]) for part, values in constants.items()], nodes


def pack_tokenizer(model: Any) -> None:
    """Compress the tokenizer in the metadata of a network; one without any, or with a compressed one, stays."""
    for entry in model.metadata_props:
        if entry.key == TOKENIZER:
            compressed = lzma.compress(entry.value.encode("utf-8"), preset=6 | lzma.PRESET_EXTREME)
            entry.key, entry.value = PACKED, base64.b64encode(compressed).decode("ascii")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with 2 and a sentence where something is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="network of words, as a recipe made it")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--tokenizer-only", action="store_true", help="leave the table as it is")
    options = parser.parse_args(arguments)
    with errors_as_sentences(parser):
        import onnx

        model = onnx.load(str(options.weights))
        if not options.tokenizer_only:
            pack_table(model)
        pack_tokenizer(model)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(options.out) as (part,):
            onnx.save(model, str(part))


if __name__ == "__main__":
    main()
