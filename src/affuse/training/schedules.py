"""Course of the learning rate through a training."""

from __future__ import annotations

import math
from typing import Literal

__all__ = ["Schedule", "learning_rate_factor"]

Schedule = Literal["one-cycle", "cosine", "constant"]


def learning_rate_factor(progress: float, schedule: Schedule = "one-cycle", warmup: float = 0.15) -> float:
    """Factor 0…1 of the learning rate at ``progress`` 0…1 through training.

    A linear rise over the share ``warmup``; then half a cosine down to 0 ("one-cycle", arXiv:1708.07120, and "cosine",
    arXiv:1608.03983, which starts to fall at once from where the cosine then is) or level ("constant").
    """
    rise = min(1.0, progress / warmup) if warmup > 0 else 1.0
    if schedule == "constant":
        return rise
    start = warmup if schedule == "one-cycle" else 0.0
    fall = max(0.0, (progress - start) / (1 - start))
    return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, fall)))
