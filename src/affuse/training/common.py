"""Names that recipes imported from here before; each lives in a module of its own now."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from affuse.files import write_json
from affuse.fusion.temperature import fit_temperature
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


def store_in_half(path: Path) -> None:
    """Store the larger weights of an ONNX file in half precision, see `compact`."""
    compact(path, "float16")
