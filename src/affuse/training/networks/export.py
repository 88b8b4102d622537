"""From a trained network to ONNX: calibrated probabilities and the embedding, for any number of rows."""

from __future__ import annotations

import copy
import os
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from affuse.errors import OutputError
from affuse.training.networks.base import Network

__all__ = ["Calibrated", "export"]

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


def export(network: Network, path: str | Path, temperature: float = 1.0) -> None:
    """Write ``network`` as ONNX with the inputs of `Network.example`.

    Outputs "probabilities" (n, k) and "embedding" (n, d), for networks with more answers also those, by name. Rows are
    dynamic, and so is the length of sound, frames and tokens. Raises OutputError where ``path`` cannot be written.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    # A copy, so that a network in training keeps its mode and its device.
    model = Calibrated(copy.deepcopy(network.merged()), temperature).eval().cpu()
    example = network.example()
    with torch.no_grad():
        fields = model.network(**example)._fields
    outputs = ["probabilities", *fields[1:]]
    try:
        # The exporter based on torch.export cannot convert a GRU over a length that varies (torch 2.13), and the older
        # one warns of its age and of every shape that it traces.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model,
                tuple(example.values()),
                str(part),
                input_names=list(example),
                output_names=outputs,
                dynamic_axes=network.axes | {name: {0: "n"} for name in outputs},
                opset_version=_OPSET,
                dynamo=False,
            )
        os.replace(part, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)
