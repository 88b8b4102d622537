"""The edge where named predictions become one array, and the checks that every fuser makes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affuse.errors import DataError

__all__ = ["check_probabilities", "present", "stack"]

Array = NDArray[np.float64]

# How far a row's sum may be from 1: wide enough for files with three decimals and a dozen classes.
SUM_TOLERANCE = 1e-2


def stack(predictions: Mapping[str, ArrayLike]) -> Array:
    """Turn ``{"face": (n, k), "voice": (n, k)}`` into P (n, m, k), modalities in the order of the mapping.

    Rows of NaN mean "no evidence". Raises DataError where shapes differ.
    """
    if not predictions:
        raise DataError("stack needs the predictions of at least one modality; got none")
    arrays = {name: np.asarray(values, dtype=float) for name, values in predictions.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 2 for shape in shapes.values()):
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise DataError(f"all modalities need the same shape (n rows, k classes); got {listed}")
    return np.stack(list(arrays.values()), axis=1)


def present(P: Array) -> NDArray[np.bool_]:
    """Which modality has evidence in which row: (n, m) from P (n, m, k)."""
    return np.asarray(~np.isnan(P).any(axis=2))


def check_probabilities(P: ArrayLike, n_modalities: int | None = None, n_classes: int | None = None) -> Array:
    """Return P as floats of shape (n, m, k), or raise DataError with both numbers.

    Every row of every modality must be non-negative and sum to 1, or hold NaN throughout.
    """
    P = np.asarray(P, dtype=float)
    if P.ndim != 3:
        raise DataError(f"expected P of shape (n samples, m modalities, k classes); got {P.ndim} dimensions")
    if n_modalities is not None and P.shape[1] != n_modalities:
        raise DataError(f"expected {n_modalities} modalities as in fit; got {P.shape[1]}")
    if n_classes is not None and P.shape[2] != n_classes:
        raise DataError(f"expected {n_classes} classes as in fit; got {P.shape[2]}")
    gaps = np.isnan(P)
    partial = gaps.any(axis=2) & ~gaps.all(axis=2)
    if partial.any():
        row, modality = np.argwhere(partial)[0]
        raise DataError(f"row {row}, modality {modality}: some classes are NaN and some are not; a gap is NaN throughout")
    wrong = ~gaps.any(axis=2) & ((P.min(axis=2) < 0) | (np.abs(P.sum(axis=2) - 1) > SUM_TOLERANCE))
    if wrong.any():
        row, modality = np.argwhere(wrong)[0]
        raise DataError(
            f"row {row}, modality {modality}: probabilities must be at least 0 and sum to 1; "
            f"got a sum of {P[row, modality].sum():.4g} and a least value of {P[row, modality].min():.4g}"
        )
    return P
