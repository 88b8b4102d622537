"""Is one method better than another on the same rows? Paired tests, by row and by group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

__all__ = ["holm", "mcnemar", "paired_permutation"]


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Exact two-sided McNemar test of hits (n,) and (n,), true where right (McNemar 1947, doi:10.1007/BF02295996).

    Takes rows for independent. 1 where the two never differ.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second).pvalue)


def paired_permutation(difference: np.ndarray, groups: np.ndarray, draws: int = 9999, seed: int = 0) -> float:
    """Two-sided sign-flip test that the mean ``difference`` (n,) is zero, where the ``groups`` (n,) swap as wholes.

    Exact up to 13 groups, drawn at random above (Fisher 1935; Ernst 2004, doi:10.1214/088342304000000396). 1 where no
    group differs.
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
    """p-values adjusted for their number by Holm's step-down method (Holm 1979, jstor.org/stable/4615733)."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]
