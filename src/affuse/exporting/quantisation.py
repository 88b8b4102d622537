"""INT8 networks from float ones by ONNX Runtime's own tools (Jacob et al. 2018, arXiv:1712.05877)."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from affuse.errors import AssetError, MissingExtraError

__all__ = ["is_quantised", "quantise"]

Feed = dict[str, np.ndarray]

# Whatever is computed between these stays float: front ends over sound, normalisation, softmax.
_OPERATORS = ["Conv", "Gemm", "MatMul"]
_STATIC = ["Conv", "Gemm"]  # a front end over sound is a product of matrices, whose squares INT8 would ruin
_INTEGER = frozenset(
    {"MatMulInteger", "ConvInteger", "DynamicQuantizeLinear", "QuantizeLinear", "QLinearConv", "QLinearMatMul"}
)


def quantise(source: Path, target: Path, feeds: Sequence[Feed], static: bool) -> None:
    """Write ``source`` with INT8 weights, a scale a channel, to ``target``; its metadata stays.

    Static quantisation fixes the ranges of activations by ``feeds``, what the network is asked in use; without it,
    which suits Transformers, they are found anew in every run. Weights take 7 of the 8 bits: processors with AVX2 but
    without VNNI add pairs of products in 16 bits, where 8 of them would overflow. Raises AssetError where the tools
    cannot read the network, MissingExtraError without onnx.
    """
    try:
        import onnx
        from onnxruntime.quantization import (
            QuantFormat,
            QuantType,
            quant_pre_process,
            quantize_dynamic,
            quantize_static,
        )
    except ImportError as error:
        raise MissingExtraError("onnx", "export") from error
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        simple = Path(folder) / "simple.onnx"
        exact = Path(folder) / "exact.onnx"
        common = {"per_channel": True, "reduce_range": True, "weight_type": QuantType.QInt8}
        try:
            quant_pre_process(str(source), str(simple), skip_symbolic_shape=True)
            if static:
                quantize_static(
                    str(simple),
                    str(exact),
                    _reader(feeds),
                    quant_format=QuantFormat.QDQ,
                    activation_type=QuantType.QUInt8,
                    op_types_to_quantize=_STATIC,
                    **common,
                )
            else:
                quantize_dynamic(str(simple), str(exact), op_types_to_quantize=_OPERATORS, **common)
            model = onnx.load(str(exact))
        except Exception as error:  # the tools raise whatever occurs to them
            raise AssetError(f"{source} cannot be quantised ({str(error).splitlines()[0]})") from error
        facts = {p.key: p.value for p in onnx.load(str(source), load_external_data=False).metadata_props}
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, facts)
        onnx.save(model, str(simple))
        shutil.move(simple, target)


def is_quantised(path: Path) -> bool:
    """Whether a network computes with integers already, or most of its numbers are stored as INT8."""
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "export") from error
    graph = onnx.load(str(path)).graph
    if any(node.op_type in _INTEGER for node in graph.node):
        return True
    constants = [a.t for node in graph.node if node.op_type == "Constant" for a in node.attribute if a.name == "value"]
    tensors = [*graph.initializer, *constants]
    small = {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    sizes = [(int(np.prod(t.dims)), t.data_type in small) for t in tensors]
    return 2 * sum(n for n, is_small in sizes if is_small) > sum(n for n, _ in sizes)


def _reader(feeds: Sequence[Feed]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(feeds)

        def get_next(self) -> Feed | None:
            return next(self._left, None)

    return Reader()


@contextmanager
def _quiet() -> Iterator[None]:
    """The tools advise by the root logger what has been done already."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
