"""What every recipe does the same way: seeds, schedules, averaged weights, temperature, and what it leaves behind."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from affuse.files import replacing
from affuse.weights import sha256_of

__all__ = [
    "class_offsets",
    "ema_update",
    "fit_temperature",
    "one_cycle",
    "seed_everything",
    "store_in_half",
    "write_card",
    "write_held_out",
    "write_json",
]

_F1_NOISE = 0.0025
_WORTH_HALVING = 1024  # numbers in a weight; smaller ones, such as those of a norm, keep their precision


def seed_everything(seed: int, threads: int) -> torch.Generator:
    """Seed torch and numpy and return a generator; with one thread a run repeats bit for bit on one machine."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    np.random.seed(seed)
    return torch.Generator().manual_seed(seed)


def one_cycle(progress: float, warmup: float = 0.15) -> float:
    """Learning-rate factor in 0…1 at ``progress`` in 0…1: linear warm-up, then half a cosine (arXiv:1708.07120)."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


@torch.no_grad()
def ema_update(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move ``average`` towards ``model``; counters of batch norm are copied."""
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """Temperature that minimises the negative log-likelihood of held-out rows (Guo et al. 2017, arXiv:1706.04599).

    ``logits`` (n, k) may hold -inf for labels that a corpus does not know; ``targets`` (n,) are columns.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    rows = np.arange(len(targets))

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(logits / math.exp(log_temperature), axis=1)[rows, targets].mean())

    return math.exp(minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded").x)


def class_offsets(
    logits: np.ndarray, targets: np.ndarray, powers: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3), average: str = "macro"
) -> np.ndarray:
    """What to add to calibrated logits (n, k) so that rare classes get their due: -power · ln(prior), (k,).

    The power is the largest whose F1 (``average`` as in scikit-learn) on the held-out rows comes within 0.0025 of the
    best: rare classes are lifted as far as that costs nothing measurable; 0 leaves the calibrated posterior as it is.
    Source: Menon et al. 2021 (arXiv:2007.07314).
    """
    from sklearn.metrics import f1_score

    prior = np.bincount(targets, minlength=logits.shape[1]) / len(targets)
    offsets = [-power * np.log(prior) for power in powers]
    scores = [f1_score(targets, (logits + offset).argmax(axis=1), average=average) for offset in offsets]
    return offsets[int(np.flatnonzero(np.array(scores) >= max(scores) - _F1_NOISE)[-1])]


def write_card(path: Path, weights: Path, facts: Mapping[str, Any]) -> None:
    """Write the measured facts of a run beside its weights, with size, checksum and versions."""
    card = {
        **facts,
        "bytes": weights.stat().st_size,
        "sha256": sha256_of(weights),
        "versions": {"python": platform.python_version(), "torch": version("torch"), "onnx": version("onnx")},
    }
    write_json(path, card)


def write_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Write facts as JSON in one step."""
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def write_held_out(path: Path, **arrays: np.ndarray) -> None:
    """Write the calibrated outputs on held-out training rows, which the recipe of the fuser learns from."""
    temporary = path.with_suffix(".part.npz")
    np.savez_compressed(temporary, allow_pickle=False, **arrays)
    os.replace(temporary, path)


def store_in_half(path: Path) -> None:
    """Store the larger weights of an ONNX file in half precision, each widened by a Cast when the file is loaded.

    ONNX Runtime folds the casts into constants, so the file shrinks by half and computes in single precision as before.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(path))
    casts = []
    for weight in model.graph.initializer:
        if weight.data_type == TensorProto.FLOAT and np.prod(weight.dims) >= _WORTH_HALVING:
            name = weight.name
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), f"{name}_half"))
            casts.append(helper.make_node("Cast", [weight.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    with replacing(path) as (part,):
        onnx.save(model, str(part))
