"""Is one method better than another on the same rows? Paired tests, by row and by group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["holm", "mcnemar", "paired_permutation"]


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Exact two-sided McNemar test of two methods on the same rows; it takes rows for independent.

    Parameters
    ----------
    first, second : bool arrays of shape (n,)
        Where each method is right.

    Returns
    -------
    float
        p; 1 where the two never differ.

    References
    ----------
    McNemar (1947), doi:10.1007/BF02295996.

    Examples
    --------
    >>> mcnemar(np.array([True] * 5), np.array([False] * 5))
    0.0625
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    if only_first + only_second == 0:
        return 1.0
    from scipy import stats  # heavy, and the other tests do without

    return float(stats.binomtest(only_first, only_first + only_second).pvalue)


def paired_permutation(difference: np.ndarray, groups: np.ndarray, draws: int = 9999, seed: int = 0) -> float:
    """Two-sided sign-flip test that a mean difference is zero, where groups swap as wholes.

    Parameters
    ----------
    difference : array of shape (n,)
        First method less second, a row each.
    groups : array of shape (n,)
        Speaker, video or other unit of every row.
    draws : int
        Sign patterns that are drawn where there are too many to try all (more than 13 groups).
    seed : int
        Seed of the draws.

    Returns
    -------
    float
        p; 1 where no group differs.

    References
    ----------
    Fisher (1935), The design of experiments; Ernst (2004), Permutation methods, doi:10.1214/088342304000000396.

    Examples
    --------
    >>> paired_permutation(np.ones(6), np.array([0, 0, 1, 1, 2, 2]))
    0.25
    """
    _, index = np.unique(groups, return_inverse=True)
    sums = np.bincount(index, difference)
    sums = sums[np.abs(sums) > 1e-12]
    if len(sums) == 0:
        return 1.0
    if 2 ** len(sums) <= draws:
        signs = 1 - 2 * ((np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1)
        extra = 0
    else:
        signs = np.random.default_rng(seed).choice([-1, 1], size=(draws, len(sums)))
        extra = 1  # the order that was observed counts among those drawn, so that p is never 0
    as_extreme = (np.abs(signs @ sums) >= np.abs(sums.sum()) - 1e-12).sum()
    return float((as_extreme + extra) / (len(signs) + extra))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number by Holm's step-down method.

    Parameters
    ----------
    p_values : sequence of float
        One a test.

    Returns
    -------
    list of float
        In the same order.

    References
    ----------
    Holm (1979), A simple sequentially rejective multiple test procedure, jstor.org/stable/4615733.

    Examples
    --------
    >>> holm([0.02, 0.01, 0.04])
    [0.04, 0.03, 0.04]
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]
