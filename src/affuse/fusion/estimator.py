"""The base of all fusers: a scikit-learn classifier over P (n, m, k) in which a rule is one method."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from affuse.errors import DataError
from affuse.fusion.base import Array, Columns, Groups, Mask, check_probabilities, checked_blocks

__all__ = ["Fuser", "check_vector", "columns_of", "label_frequencies"]


class Fuser(ClassifierMixin, BaseEstimator):
    """Base of fusers: checks, gaps, labels and blocks of rows are done here; a subclass writes `combine`.

    One that learns writes `learn` too. P (n, m, k) is read in blocks, so only the answer grows with n.

    Attributes
    ----------
    classes_: labels in the order of the columns of P (k,).
    n_modalities_: number of modalities m seen in `fit`.
    prior_: frequencies of the labels in `fit` (k,), one row more each so that none is zero; `predict` answers its
        greatest for rows without any evidence.
    """

    def fit(self, P: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Learn from held-out outputs P (n, m, k), NaN where a modality has no evidence, and labels y (n,).

        ``y`` holds either columns of P (0…k-1) or any k distinct labels, which in sorted order are the columns.
        ``groups`` (n,) names what must not be split (speaker, video); rules without inner validation ignore it.
        Raises DataError on bad shapes.
        """
        P = check_probabilities(P)
        self.classes_, columns = columns_of(y, len(P), P.shape[2])
        self.n_modalities_ = P.shape[1]
        self.prior_ = label_frequencies(columns, P.shape[2])
        self.learn(P, columns, None if groups is None else _check_groups(groups, len(P)))
        return self

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        """Set learned state from checked P (n, m, k) and columns y (n,). Nothing to learn unless overridden."""

    def combine(self, P: Array, here: Mask) -> Array:
        """Fuse a block P (n, m, k), NaN where not ``here`` (n, m), into rows (n, k) that sum to 1.

        What rows without any evidence hold does not matter: `predict_proba` makes them NaN.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it combines")

    def predict_proba(self, P: ArrayLike) -> Array:
        """Fused probabilities (n, k); a row without any evidence is NaN."""
        check_is_fitted(self)
        P = np.asarray(P)
        fused = np.empty((len(P), len(self.classes_)))
        for rows, block, here in checked_blocks(P, self.n_modalities_, len(self.classes_)):
            answers = self.combine(block, here)
            answers[~here.any(axis=1)] = np.nan
            fused[rows] = answers
        return fused

    def predict(self, P: ArrayLike) -> NDArray[Any]:
        """Most probable label (n,); a row without any evidence falls back to the most frequent label of `fit`.

        Of equally probable labels the first column wins.
        """
        check_is_fitted(self)
        P = np.asarray(P)
        columns = np.empty(len(P), dtype=np.intp)
        fallback = self.prior_.argmax()
        for rows, block, here in checked_blocks(P, self.n_modalities_, len(self.classes_)):
            answers = self.combine(block, here).argmax(axis=1)
            answers[~here.any(axis=1)] = fallback
            columns[rows] = answers
        return np.asarray(self.classes_[columns])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.allow_nan = True
        return tags


def columns_of(y: ArrayLike, n: int, k: int) -> tuple[NDArray[Any], Columns]:
    """Labels of the k columns (k,) and the column of every row (n,).

    Raises DataError where y does not fit P (n, m, k).
    """
    y = np.asarray(y)
    if y.shape != (n,):
        raise DataError(f"P has {n} rows, but y has {len(y) if y.ndim == 1 else f'the shape {y.shape}'}")
    if n == 0:
        raise DataError("fit needs at least one row; got none")
    if y.dtype.kind in "iub" and y.min() >= 0 and y.max() < k:
        return np.arange(k), y.astype(np.intp)
    labels, columns = np.unique(y, return_inverse=True)
    if len(labels) != k:
        raise DataError(
            f"P has {k} classes, but y holds {len(labels)} distinct labels: {', '.join(map(str, labels[:20]))}"
        )
    return labels, columns.astype(np.intp)


def label_frequencies(columns: Columns, k: int) -> Array:
    """Share of every column (k,), with one row more each so that none is zero (Laplace's rule of succession)."""
    counts = np.bincount(columns, minlength=k) + 1.0
    return np.asarray(counts / counts.sum())


def check_vector(values: ArrayLike, length: int, name: str, what: str) -> Array:
    """``values`` as non-negative floats (length,), or DataError that gives both numbers."""
    vector = np.asarray(values, dtype=float)
    if vector.shape != (length,):
        raise DataError(f"{name} must hold one number for each of {length} {what}; got the shape {vector.shape}")
    if not (np.isfinite(vector).all() and (vector >= 0).all() and vector.any()):
        raise DataError(f"{name} must be at least 0 and not all 0; got {vector.tolist()}")
    return vector


def _check_groups(groups: ArrayLike, n: int) -> NDArray[Any]:
    groups = np.asarray(groups)
    if groups.shape != (n,):
        raise DataError(f"P has {n} rows, but groups has the shape {groups.shape}")
    return groups
