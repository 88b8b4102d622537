"""Ranges that options are drawn from, and the checks on them."""

from __future__ import annotations

import math

import numpy as np
import torch

from affuse.errors import ConfigError

__all__ = ["Range", "check_range", "check_share", "drawn", "uniform"]

Range = tuple[float, float]
"""Smallest and largest value; both are drawn."""


def check_range(name: str, value: Range | None, lowest: float = -math.inf, highest: float = math.inf) -> None:
    """Raise ConfigError unless ``value`` is None or two rising numbers within ``lowest`` and ``highest``."""
    if value is None:
        return
    if len(value) != 2 or not lowest <= value[0] <= value[1] <= highest:
        limits = f" within {lowest:g} and {highest:g}" if math.isfinite(lowest) or math.isfinite(highest) else ""
        raise ConfigError(f"{name} takes two rising numbers{limits}, smallest and largest; got {list(value)}")


def check_share(name: str, value: float) -> None:
    """Raise ConfigError unless ``value`` is within 0 and 1."""
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} takes a share within 0 and 1; got {value:g}")


def drawn(value: Range, rng: np.random.Generator) -> float:
    """One number out of a range, uniformly."""
    return float(rng.uniform(*value))


def uniform(n: int, value: Range, generator: torch.Generator) -> torch.Tensor:
    """``n`` numbers out of a range, uniformly, as a tensor (n,) beside the generator."""
    low, high = value
    return torch.rand(n, generator=generator, device=generator.device) * (high - low) + low
