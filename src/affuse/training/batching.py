"""Batches of rows: padding, rows of like length together, and weights of rare labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

__all__ = ["batches_by_length", "class_weights", "pad"]

_CHUNK = 50  # batches whose rows are sorted together: enough for little padding, and still random


def pad(rows: Sequence[ArrayLike]) -> tuple[Tensor, Tensor]:
    """Ids of unequal length as ids and mask (n, t) int64, both with zeros behind."""
    ids = [torch.as_tensor(np.asarray(row, dtype=np.int64)) for row in rows]
    mask = [torch.ones_like(row) for row in ids]
    padded, real = (nn.utils.rnn.pad_sequence(part, batch_first=True) for part in (ids, mask))
    return padded, real


def batches_by_length(lengths: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Places of rows in batches of ``size``, each row once, in random order, rows of like length together."""
    order = rng.permutation(len(lengths))
    chunks = [order[start : start + _CHUNK * size] for start in range(0, len(order), _CHUNK * size)]
    chunks = [chunk[np.argsort(lengths[chunk], kind="stable")] for chunk in chunks]
    batches = [chunk[start : start + size] for chunk in chunks for start in range(0, len(chunk), size)]
    for number in rng.permutation(len(batches)):
        yield batches[number]


def class_weights(frequencies: np.ndarray, power: float = 0.5) -> np.ndarray:
    """Weights (k,) of labels from their counts or shares (k,); their mean over the rows is 1.

    A weight is the frequency to the power of -``power``. The root, which is the default, lies between no weight, where
    rare labels are never answered, and the full one, where few rows of them outweigh all others. A label without rows
    weighs 0.
    """
    shares = frequencies / frequencies.sum()
    weights = np.divide(1.0, shares**power, out=np.zeros_like(shares), where=shares > 0)
    return np.asarray(weights / (weights * shares).sum())
