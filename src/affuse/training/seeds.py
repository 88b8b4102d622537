"""Chance and threads: what makes a training repeat."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["seed_everything", "threads"]


def seed_everything(seed: int, threads: int) -> torch.Generator:
    """Seed torch and numpy and return a generator; with one thread a run repeats bit for bit on one machine."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    np.random.seed(seed)
    return torch.Generator().manual_seed(seed)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads of the CPU for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
