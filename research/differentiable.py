"""A shipped ONNX network as a function of torch, through which gradients go.

`DifferentiableGraph` computes what ONNX Runtime computes, operator by operator, INT8 products included. Rounding has no
gradient; it is passed straight through (Bengio et al. 2013, arXiv:1308.3432), as an opponent would do it. Converters
such as onnx2torch know no INT8 products and need torchvision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional as F

from affuse.errors import AssetError

__all__ = ["DifferentiableGraph"]

_Values = Sequence[Any]
_Settings = Mapping[str, Any]
_Operator = Callable[[_Values, _Settings], Any]

_TYPES = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float32}


class DifferentiableGraph:
    """An ONNX file whose outputs are differentiable in its inputs.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    AssetError
        If it has an operator that is not known here.

    Examples
    --------
    >>> from affuse import weights
    >>> graph = DifferentiableGraph(weights.shipped("face"))
    >>> x = torch.zeros(1, 1, 48, 48, requires_grad=True)
    >>> graph(images=x)["probabilities"].shape
    torch.Size([1, 8])
    """

    def __init__(self, path: Path) -> None:
        graph = onnx.load(str(path)).graph
        unknown = sorted({node.op_type for node in graph.node} - set(_OPERATORS))
        if unknown:
            raise AssetError(f"{path}: the operators {', '.join(unknown)} have no gradients here")
        self._constants = {own.name: _tensor(numpy_helper.to_array(own)) for own in graph.initializer}
        self._nodes = [
            (
                node.op_type,
                list(node.input),
                list(node.output),
                {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute},
            )
            for node in graph.node
        ]
        self._outputs = [output.name for output in graph.output]

    def __call__(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Outputs by name, for inputs by name."""
        known: dict[str, Any] = {"": None, **self._constants, **inputs}
        for kind, taken, given, settings in self._nodes:
            found = _OPERATORS[kind]([known[name] for name in taken], settings)
            known.update(zip(given, found if isinstance(found, tuple) else (found,), strict=False))
        return {name: known[name] for name in self._outputs}


def _tensor(array: np.ndarray) -> Tensor:
    """Whole numbers as int64, of which shapes and places are made; INT8 weights and halves as float32."""
    values = torch.from_numpy(np.array(array))
    return values if values.dtype in (torch.int64, torch.bool) else values.float()


def _ints(values: Tensor | None) -> list[int] | None:
    return None if values is None else [int(v) for v in values.flatten()]


def _quantize(values: _Values, settings: _Settings) -> tuple[Tensor, Tensor, Tensor]:
    """DynamicQuantizeLinear: whole numbers in 0…255, their scale and zero point."""
    (x,) = values
    with torch.no_grad():
        low, high = x.min().clamp(max=0.0), x.max().clamp(min=0.0)
        scale = ((high - low) / 255).clamp(min=1e-30)
        zero = torch.round(-low / scale).clamp(0, 255)
    exact = x / scale + zero
    rounded = (torch.round(x.detach() / scale) + zero).clamp(0, 255)
    return exact + (rounded - exact.detach()), scale, zero


def _slice(values: _Values, settings: _Settings) -> Tensor:
    x, starts, ends, axes, steps = [*values, None, None][:5]
    first, last = _ints(starts) or [], _ints(ends) or []
    for axis, start, end, step in zip(
        _ints(axes) or range(len(first)), first, last, _ints(steps) or [1] * len(first), strict=True
    ):
        if step < 0:  # torch has no steps backwards; networks use them to mirror pictures
            places = range(x.shape[axis])[start : None if end < -x.shape[axis] else end : step]
            x = x.index_select(axis, torch.tensor(list(places)))
        else:
            places = range(x.shape[axis])[start:end:step]
            x = x.narrow(axis, places.start, max(0, places.stop - places.start))
            x = x if step == 1 else x.index_select(axis, torch.arange(0, x.shape[axis], step))
    return x


def _gather(values: _Values, settings: _Settings) -> Tensor:
    x, places = values
    axis = settings.get("axis", 0) % x.ndim
    places = torch.where(places < 0, places + x.shape[axis], places)
    found = x.index_select(axis, places.flatten())
    return found.reshape([*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]])


def _reduce(function: Callable[..., Tensor]) -> _Operator:
    def reduced(values: _Values, settings: _Settings) -> Tensor:
        x = values[0]
        axes = settings.get("axes") or (_ints(values[1]) if len(values) > 1 else None) or list(range(x.ndim))
        return function(x, dim=tuple(axes), keepdim=bool(settings.get("keepdims", 1)))

    return reduced


def _pad(values: _Values, settings: _Settings) -> Tensor:
    x, pads = values[0], _ints(values[1]) or []
    before, after = pads[: x.ndim], pads[x.ndim :]
    sides = [side for axis in reversed(range(x.ndim)) for side in (before[axis], after[axis])]
    return F.pad(x, sides)


def _sides(settings: _Settings) -> list[int]:
    """Padding that is the same before and after."""
    pads = settings.get("pads") or [0]
    return list(pads[: max(1, len(pads) // 2)])


def _pool(values: _Values, settings: _Settings) -> Tensor:
    (x,) = values
    pool = F.max_pool1d if x.ndim == 3 else F.max_pool2d
    return pool(x, settings["kernel_shape"], settings["strides"], _sides(settings))


def _resize(values: _Values, settings: _Settings) -> Tensor:
    x, _, _, sizes = values
    return F.interpolate(x, (_ints(sizes) or [])[2:], mode="bilinear", align_corners=False)


def _split(values: _Values, settings: _Settings) -> tuple[Tensor, ...]:
    return torch.split(values[0], _ints(values[1]) or [], dim=settings.get("axis", 0))


def _squeeze(values: _Values, settings: _Settings) -> Tensor:
    return values[0].squeeze(tuple(_ints(values[1]) or []))


def _unsqueeze(values: _Values, settings: _Settings) -> Tensor:
    x = values[0]
    for axis in sorted(_ints(values[1]) or []):
        x = x.unsqueeze(axis)
    return x


def _reshape(values: _Values, settings: _Settings) -> Tensor:
    shape = [x if x else values[0].shape[i] for i, x in enumerate(_ints(values[1]) or [])]
    return values[0].reshape(shape)


def _norm(values: _Values, settings: _Settings) -> Tensor:
    x, weight, bias = values
    return F.layer_norm(x, weight.shape, weight, bias, settings.get("epsilon", 1e-5))


def _gemm(values: _Values, settings: _Settings) -> Tensor:
    x, weight, bias = values
    return x @ (weight.T if settings.get("transB") else weight) + bias


def _conv(values: _Values, settings: _Settings) -> Tensor:
    return F.conv2d(*values, stride=settings["strides"], padding=_sides(settings), groups=settings.get("group", 1))


def _division(values: _Values, settings: _Settings) -> Tensor:
    x, y = values
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def _product(values: _Values, settings: _Settings) -> Tensor:
    """MatMulInteger: whole numbers less their zero points."""
    x, y, x_zero, y_zero = values
    return (x - x_zero) @ (y - y_zero)


def _simple(function: Callable[..., Any]) -> _Operator:
    return lambda values, settings: function(*values)


_OPERATORS: dict[str, _Operator] = {
    "Add": _simple(torch.add),
    "AveragePool": lambda v, s: F.avg_pool2d(v[0], s["kernel_shape"], s["strides"], _sides(s)),
    "Cast": lambda v, s: v[0].to(_TYPES[s["to"]]),
    "Clip": lambda v, s: v[0].clamp(*[*v[1:], None][:2]),
    "Concat": lambda v, s: torch.cat(list(v), dim=s["axis"]),
    "Constant": lambda v, s: _tensor(numpy_helper.to_array(s["value"])),
    "Conv": _conv,
    "Cos": _simple(torch.cos),
    "Div": _division,
    "DynamicQuantizeLinear": _quantize,
    "Erf": _simple(torch.erf),
    "Gather": _gather,
    "Gemm": _gemm,
    "Identity": lambda v, s: v[0],
    "LayerNormalization": _norm,
    "Log": _simple(torch.log),
    "MatMul": _simple(torch.matmul),
    "MatMulInteger": _product,
    "Max": _simple(torch.maximum),
    "MaxPool": _pool,
    "Mul": _simple(torch.mul),
    "Pad": _pad,
    "Pow": _simple(torch.pow),
    "Range": lambda v, s: torch.arange(*(int(x) for x in v)),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Relu": _simple(torch.relu),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": lambda v, s: torch.tensor(v[0].shape),
    "Sigmoid": _simple(torch.sigmoid),
    "Sin": _simple(torch.sin),
    "Slice": _slice,
    "Softmax": lambda v, s: torch.softmax(v[0], dim=s.get("axis", -1)),
    "Split": _split,
    "Sqrt": _simple(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _simple(torch.sub),
    "Transpose": lambda v, s: v[0].permute(s["perm"]),
    "Unsqueeze": _unsqueeze,
}
"""What is computed, by the names of ONNX."""
