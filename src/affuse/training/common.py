"""Names that recipes imported from here before; each lives in a module of its own now."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

from affuse.files import write_json
from affuse.training.calibration import class_offsets
from affuse.training.cards import write_card, write_held_out
from affuse.training.networks.compact import compact
from affuse.training.schedules import learning_rate_factor
from affuse.training.seeds import seed_everything

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


def one_cycle(progress: float, warmup: float = 0.15) -> float:
    """Learning-rate factor, see `learning_rate_factor`."""
    return learning_rate_factor(progress, warmup=warmup)


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


def store_in_half(path: Path) -> None:
    """Store the larger weights of an ONNX file in half precision, see `compact`."""
    compact(path, "float16")
