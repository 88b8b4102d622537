"""Intervals of accuracies on rows that come in groups: speakers and videos are drawn, not rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from affuse.errors import DataError

__all__ = ["cluster_bootstrap", "fold_weights", "t_interval"]


def fold_weights(folds: np.ndarray) -> np.ndarray:
    """Weights (n,) that turn a sum over rows into the mean of the folds' means; ``folds`` (n,) are numbers."""
    _, index, counts = np.unique(folds, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / (counts[index] * len(counts)))


def cluster_bootstrap(
    values: np.ndarray,
    groups: np.ndarray,
    weights: np.ndarray | None = None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of the weighted mean of ``values`` (n,) when whole ``groups`` (n,) are drawn again.

    Rows of one group are not independent, so an interval over rows is too narrow (Field & Welsh 2007,
    doi:10.1111/j.1467-9868.2007.00593.x). Raises DataError with fewer than two groups.
    """
    names, index = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise DataError(f"an interval needs at least two groups; got {len(names)}")
    weights = np.ones(len(values)) if weights is None else weights
    sums = np.bincount(index, weights * values)
    totals = np.bincount(index, weights)
    drawn = np.random.default_rng(seed).integers(len(names), size=(draws, len(names)))
    means = sums[drawn].sum(axis=1) / totals[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def t_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Student's interval of the mean of a few ``values``, one a fold. Raises DataError with fewer than two."""
    if len(values) < 2:
        raise DataError(f"an interval over folds needs at least two; got {len(values)}")
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values)
    return float(np.mean(values) - half), float(np.mean(values) + half)
