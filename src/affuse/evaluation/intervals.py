"""Intervals of accuracies on rows that come in groups: speakers and videos are drawn, not rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affuse.errors import DataError

__all__ = ["cluster_bootstrap", "fold_weights", "t_interval"]


def fold_weights(folds: np.ndarray) -> np.ndarray:
    """Weights that turn a sum over rows into the mean of the means of the folds.

    Parameters
    ----------
    folds : int array of shape (n,)
        Number of the fold of every row.

    Returns
    -------
    array of shape (n,)

    Examples
    --------
    >>> fold_weights(np.array([0, 0, 1])).tolist()
    [0.25, 0.25, 0.5]
    """
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
    """Percentile interval of a mean when whole groups are drawn again.

    Rows of one group are not independent, so an interval over rows is too narrow.

    Parameters
    ----------
    values : array of shape (n,)
        What is averaged, such as 1 for a right answer and 0 for a wrong one.
    groups : array of shape (n,)
        Speaker, video or other unit of every row.
    weights : array of shape (n,), optional
        Weights of the mean; equal ones by default.
    level : float
        Share of the draws inside the interval.
    draws : int
        Number of draws.
    seed : int
        Seed of the draws.

    Returns
    -------
    tuple of float
        Lower and upper end.

    Raises
    ------
    DataError
        With fewer than two groups.

    References
    ----------
    Field & Welsh (2007), Bootstrapping clustered data, doi:10.1111/j.1467-9868.2007.00593.x.

    Examples
    --------
    >>> cluster_bootstrap(np.array([1, 1, 0, 0]), np.array(["a", "a", "b", "b"]))
    (0.0, 1.0)
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
    """Student's interval of the mean of a few values, one a fold.

    Parameters
    ----------
    values : sequence of float
        At least two.
    level : float
        Level of confidence.

    Returns
    -------
    tuple of float
        Lower and upper end.

    Raises
    ------
    DataError
        With fewer than two values.

    Examples
    --------
    >>> low, high = t_interval([0.7, 0.8])
    >>> round(low, 3), round(high, 3)
    (0.115, 1.385)
    """
    if len(values) < 2:
        raise DataError(f"an interval over folds needs at least two; got {len(values)}")
    from scipy import stats  # heavy, and the bootstrap does without

    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values)
    return float(np.mean(values) - half), float(np.mean(values) + half)
