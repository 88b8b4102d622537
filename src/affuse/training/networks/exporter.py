"""From torch to ONNX: the one exporter of trainings and recipes, which checks that the file answers as the network."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from affuse.errors import AssetError
from affuse.files import replacing
from affuse.training.networks.base import Network
from affuse.training.networks.compact import Storage, compact

__all__ = ["PARITY", "Calibrated", "check_parity", "export", "export_module", "within_parity"]

PARITY = 1e-4
"""Largest difference that is allowed between the answers of a network and those of its ONNX file."""

_OPSET = 17


class Calibrated(nn.Module):
    """What is exported: probabilities (n, k), the softmax of logits / ``temperature``; the embedding; and what else.

    Inputs are positional, in the order of `Network.example`.
    """

    def __init__(self, network: Network, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature
        self.names = tuple(network.example())

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        output = self.network(**dict(zip(self.names, inputs, strict=True)))
        return torch.softmax(output.logits / self.temperature, dim=1), *output[1:]


def export(network: Network, path: str | Path, temperature: float = 1.0, storage: Storage = "float32") -> float:
    """Write a network as an ONNX file, after checking that the file answers as the network does.

    The file takes the inputs of `Network.example`, with any number of rows and any length of sound, frames and tokens.
    It gives "probabilities" (n, k) and "embedding" (n, d), and by name what else the network answers.

    Parameters
    ----------
    network : Network
        What is exported; it keeps its mode and its device.
    path : str or Path
        File to write.
    temperature : float
        Logits are divided by it before the softmax (temperature scaling).
    storage : {"float32", "float16", "int16", "bytes", "int8"}
        How weights are stored.

    Returns
    -------
    float
        Largest difference between the answers of the network and of the file, before weights are stored smaller.

    Raises
    ------
    AssetError
        If this difference is above 1e-4.
    OutputError
        If the file cannot be written.

    Examples
    --------
    >>> from affuse.training.networks import make
    >>> export(make("bag", 2, vocab_size=100, buckets=64), "model.onnx") < 1e-4
    True
    """
    # A copy, so that a network in training keeps its mode and its device.
    model = Calibrated(copy.deepcopy(network.merged()), temperature).eval().cpu()
    example = network.example()
    with torch.no_grad():
        fields = model.network(**example)._fields
    return export_module(model, path, example, ["probabilities", *fields[1:]], network.axes, storage=storage)


def export_module(
    model: nn.Module,
    path: str | Path,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    axes: Mapping[str, Mapping[int, str]],
    *,
    storage: Storage = "float32",
    metadata: Mapping[str, str] | None = None,
    constants: Mapping[str, np.ndarray] | None = None,
    exact: Sequence[str] = (),
) -> float:
    """Write a module as an ONNX file, after checking that the file answers as the module does.

    Parameters
    ----------
    model: takes the ``inputs`` by position and gives the ``outputs``, all in evaluation mode. path: file to write.
    inputs: an example by name, on which answers are compared. axes: of the inputs, those that vary from call to call;
    outputs vary in their first axis where an input does. storage: how weights are stored; it is applied after the
    check, since it rounds on purpose. metadata: texts that travel in the file. constants: further outputs that give
    the same arrays whatever comes in. exact: modules in ``model`` whose products "int8" leaves in float32.

    Returns the largest difference between the module's answers and the file's. Raises AssetError where it is above
    `PARITY`, OutputError where ``path`` cannot be written.
    """
    path = Path(path)
    varies = any(name == "n" for own in axes.values() for name in own.values())
    with replacing(path) as (part,):
        # The exporter based on torch.export cannot convert a GRU over a length that varies (torch 2.13), and the older
        # one warns of its age and of every shape that it traces.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model.eval(),
                tuple(inputs.values()),
                str(part),
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes={**axes, **({name: {0: "n"} for name in outputs} if varies else {})},
                opset_version=_OPSET,
                dynamo=False,
            )
        difference = check_parity(model, part, inputs, outputs)
        _complete(part, storage, metadata or {}, constants or {}, exact)
    return difference


def _complete(
    path: Path,
    storage: Storage,
    metadata: Mapping[str, str],
    constants: Mapping[str, np.ndarray],
    exact: Sequence[str],
) -> None:
    import onnx

    if constants:
        model = onnx.load(str(path))
        for name, values in constants.items():
            _add_constant(model, name, values)
        onnx.save(model, str(path))
    compact(path, storage, exact)
    if metadata:  # after quantisation, which leaves it out
        model = onnx.load(str(path))
        onnx.helper.set_model_props(model, dict(metadata))
        onnx.save(model, str(path))


@torch.no_grad()
def check_parity(model: nn.Module, path: Path, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> float:
    """Largest difference between a module's answers and an ONNX file's; raises AssetError above `PARITY`.

    Differences of an output that holds numbers above 1, such as an embedding, are relative to the largest of them.
    """
    from affuse import weights

    expected = model(*inputs.values())
    expected = expected if isinstance(expected, tuple) else (expected,)
    session = weights.session(path)
    known = {entry.name for entry in session.get_inputs()}  # the exporter leaves out what no answer depends on
    found = session.run(list(outputs), {name: value.numpy() for name, value in inputs.items() if name in known})
    difference = max(_difference(a, b.numpy()) for a, b in zip(found, expected, strict=True))
    return within_parity(difference, "answers")


def within_parity(difference: float, what: str) -> float:
    """The largest ``difference`` of ``what`` before and after the export; raises AssetError above `PARITY`."""
    if not difference <= PARITY:
        raise AssetError(
            f"the exported network does not answer as the trained one: {what} differ by up to {difference:.2g}, "
            f"where {PARITY:g} is allowed"
        )
    return difference


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.nanmax(np.abs(found - expected)) / max(1.0, np.nanmax(np.abs(expected))))


def _add_constant(model: Any, name: str, values: np.ndarray) -> None:
    """Add an output to a graph that gives ``values`` whatever comes in."""
    from onnx import helper, numpy_helper

    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(values, f"{name}_values"))
    graph.node.append(helper.make_node("Identity", [f"{name}_values"], [name]))
    element = helper.np_dtype_to_tensor_dtype(values.dtype)
    graph.output.append(helper.make_tensor_value_info(name, element, values.shape))
