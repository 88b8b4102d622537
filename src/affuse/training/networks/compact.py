"""Weights of an ONNX file in fewer bytes; ONNX Runtime widens them once, while it loads, and computes as before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import numpy as np

from affuse.errors import ConfigError
from affuse.files import replacing
from affuse.training.networks.no_overflow import make_safe

__all__ = ["Storage", "compact"]

Storage = Literal["float32", "float16", "int16", "bytes", "int8"]
"""How weights are stored: as they are; in half precision; as 16-bit integers with one scale a weight, whose rounding is
90 dB below the largest entry; in bytes, as 8-bit integers with one scale a row of the first axis; or, for products with
matrices alone, as 8-bit integers with one scale a channel, which ONNX Runtime also computes with."""

_WORTH_IT = 1024  # numbers in a weight; smaller ones, such as those of a norm, keep their precision


def compact(path: Path, storage: Storage, exact: Sequence[str] = ()) -> None:
    """Rewrite the ONNX file at ``path`` with its larger weights stored as ``storage`` says, whole or not at all.

    ``exact`` names modules of the exported network that "int8" leaves as they are, such as a front end over sound.
    """
    import onnx

    if storage not in get_args(Storage):
        raise ConfigError(f"weights are stored as {', '.join(get_args(Storage))}; got {storage!r}")
    if storage == "float32":
        return
    if storage == "int8":
        _quantise(path, exact)
        return
    model = onnx.load(str(path))
    _narrow(model, storage)
    onnx.checker.check_model(model)
    with replacing(path) as (part,):
        onnx.save(model, str(part))


def _narrow(model: Any, storage: Storage) -> None:
    """Put every large float32 constant into fewer bytes, behind nodes that widen it again."""
    from onnx import numpy_helper

    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    arrays = {name: numpy_helper.to_array(tensor) for name, tensor in constants.items()}
    large = {name: a for name, a in arrays.items() if a.dtype == np.float32 and a.size >= _WORTH_IT}
    kept = [tensor for tensor in graph.initializer if tensor.name not in large]
    nodes = [node for node in graph.node if not (node.op_type == "Constant" and node.output[0] in large)]
    widening = []
    for name, values in large.items():
        stored, own = _halved(name, values) if storage == "float16" else _scaled(name, values, storage)
        kept += [numpy_helper.from_array(array, stored_name) for stored_name, array in stored.items()]
        widening += own
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend([*widening, *nodes])


def _halved(name: str, values: np.ndarray) -> tuple[dict[str, np.ndarray], list[Any]]:
    """Half precision, and the cast that undoes it."""
    from onnx import TensorProto, helper

    narrow = f"{name}_half"
    return {narrow: values.astype(np.float16)}, [helper.make_node("Cast", [narrow], [name], to=TensorProto.FLOAT)]


def _scaled(name: str, values: np.ndarray, storage: Storage) -> tuple[dict[str, np.ndarray], list[Any]]:
    """Integers of 16 bits and one scale, or of 8 bits and a scale a row, and the product that undoes them."""
    from onnx import TensorProto, helper

    kind, rows = (np.int8, tuple(range(1, values.ndim))) if storage == "bytes" else (np.int16, None)
    largest = np.abs(values).max(axis=rows, keepdims=rows is not None) / np.iinfo(kind).max
    scale = np.where(largest > 0, largest, 1).astype(np.float32)
    short, factor, wide = (f"{name}_{part}" for part in ("integer", "scale", "float"))
    nodes = [
        helper.make_node("Cast", [short], [wide], to=TensorProto.FLOAT),
        helper.make_node("Mul", [wide, factor], [name]),
    ]
    return {short: np.round(values / scale).astype(kind), factor: scale}, nodes


def _quantise(path: Path, exact: Sequence[str]) -> None:
    """Dynamic quantisation by ONNX Runtime: 8-bit weights, activations quantised as they come."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory() as folder, replacing(path) as (part,):
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        prefixes = tuple(f"/{name}/" for name in exact)
        kept = [node.name for node in onnx.load(str(prepared)).graph.node if node.name.startswith(prefixes)]
        common = {"per_channel": True, "weight_type": QuantType.QInt8}
        quantize_dynamic(str(prepared), str(part), nodes_to_exclude=kept, **common)
        model = onnx.load(str(part))
        make_safe(model)
        del model.graph.value_info[:]  # shapes that preparing wrote down; ONNX Runtime finds them by itself
        onnx.save(model, str(part))
