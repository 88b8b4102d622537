"""Group-wise folds without scikit-learn: what fusers split their own rows by while they learn."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from affuse.fusion.base import Array, Columns, Groups, Mask

__all__ = ["clustered_error", "clusters_of", "group_folds"]


def clusters_of(groups: Groups, n: int) -> Columns:
    """Number of the group of each of n rows (n,); every row is its own where ``groups`` is None."""
    if groups is None:
        return np.arange(n)
    return np.asarray(np.unique(groups, return_inverse=True)[1], dtype=np.intp)


def group_folds(clusters: Columns, folds: int) -> Iterator[tuple[Mask, Mask]]:
    """Cross-validation folds that split no group.

    Groups go, largest first, to the fold with the fewest rows, as in scikit-learn's GroupKFold. Groups of one size are
    shuffled (always in the same way), since files are often sorted by label.

    Parameters
    ----------
    clusters : array of int of shape (n_samples,)
        Number of the group of every row; no group is on both sides.
    folds : int
        Number of folds; as many as there are groups where those are fewer.

    Yields
    ------
    tuple of two arrays of bool of shape (n_samples,)
        Rows to learn from, and held-out rows.

    Examples
    --------
    >>> [np.flatnonzero(held_out).tolist() for _, held_out in group_folds(np.array([0, 0, 1, 1, 1, 2]), 2)]
    [[2, 3, 4], [0, 1, 5]]
    """
    _, index = np.unique(clusters, return_inverse=True)
    sizes = np.bincount(index)
    folds = min(folds, len(sizes))
    shuffled = np.random.default_rng(0).permutation(len(sizes))
    filled = np.zeros(folds, dtype=np.intp)
    fold_of = np.empty(len(sizes), dtype=np.intp)
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        fold_of[group] = filled.argmin()
        filled[fold_of[group]] += sizes[group]
    for fold in range(folds):
        held_out = fold_of[index] == fold
        yield ~held_out, held_out


def clustered_error(values: Array, clusters: Columns) -> float:
    """Standard error of the mean of ``values`` (n,) with dependent rows in a cluster; inf for one cluster.

    The variance is that of the sums of the clusters.

    References
    ----------
    Liang & Zeger (1986), Longitudinal data analysis using generalized linear models. doi:10.1093/biomet/73.1.13

    Examples
    --------
    >>> clustered_error(np.array([1.0, 1.0, -1.0, -1.0]), np.array([0, 0, 1, 1]))
    1.0
    """
    _, index = np.unique(clusters, return_inverse=True)
    count = int(index.max()) + 1
    if count < 2:
        return float("inf")
    deviations = np.bincount(index, weights=values - values.mean())
    return float(np.sqrt(count / (count - 1) * (deviations**2).sum()) / len(values))
