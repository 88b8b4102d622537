"""The edge where named predictions become one array, and the checks that every fuser makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affuse.errors import DataError

__all__ = [
    "Array",
    "Columns",
    "Groups",
    "Mask",
    "check_probabilities",
    "checked_blocks",
    "patterns_of",
    "present",
    "softmax",
    "stack",
    "without_gaps",
]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Columns = NDArray[np.intp]  # labels as columns of P
Groups = NDArray[Any] | None  # what must not be split (n,): speakers, videos

# How far a row's sum may be from 1: wide enough for files with three decimals and a dozen classes.
SUM_TOLERANCE = 1e-2

_BITS = 62  # modalities whose sets a whole number can stand for

# Numbers of P that are worked on at a time: their temporaries stay in the cache, whatever the number of rows.
BLOCK_SIZE = 1 << 16


def stack(predictions: Mapping[str, ArrayLike]) -> Array:
    """Stack named predictions into one array, modalities in the order of the mapping.

    Parameters
    ----------
    predictions : mapping of str to array of shape (n_samples, n_classes)
        Class probabilities by modality; a row of NaN means "no evidence".

    Returns
    -------
    array of shape (n_samples, n_modalities, n_classes)

    Raises
    ------
    DataError
        If there is no modality, or shapes differ.

    Examples
    --------
    >>> stack({"face": [[0.2, 0.8]], "voice": [[0.7, 0.3]]}).shape
    (1, 2, 2)
    """
    if not predictions:
        raise DataError("stack needs the predictions of at least one modality; got none")
    arrays = {name: np.asarray(values, dtype=float) for name, values in predictions.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 2 for shape in shapes.values()):
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise DataError(f"all modalities need the same shape (n rows, k classes); got {listed}")
    return np.stack(list(arrays.values()), axis=1)


def without_gaps(P: Array) -> Array:
    """P with 0 where it is NaN: for sums and maxima over the modalities that are present."""
    return np.asarray(np.fmax(P, 0.0))


def softmax(L: Array) -> Array:
    """``exp(L)`` normalised over the last axis. SciPy has one too, whose import takes longer than an analysis may."""
    E = np.exp(L - L.max(axis=-1, keepdims=True))
    return np.asarray(E / E.sum(axis=-1, keepdims=True))


def present(P: Array) -> Mask:
    """Which modality has evidence in which row.

    Parameters
    ----------
    P : array of shape (n_samples, n_modalities, n_classes)
        Class probabilities; NaN where a modality is missing.

    Returns
    -------
    array of bool of shape (n_samples, n_modalities)

    Examples
    --------
    >>> present(np.array([[[0.2, 0.8], [np.nan, np.nan]]]))
    array([[ True, False]])
    """
    return np.asarray(~np.isnan(P).any(axis=2))


def patterns_of(here: Mask) -> Iterator[tuple[Mask, Columns]]:
    """Each set (m,) of modalities that occurs in ``here`` (n, m), and the rows in which exactly it is present.

    Examples
    --------
    >>> here = np.array([[True, False], [True, True], [True, False]])
    >>> [(members.tolist(), rows.tolist()) for members, rows in patterns_of(here)]
    [([True, False], [0, 2]), ([True, True], [1])]
    """
    m = here.shape[1]
    if m > _BITS:
        sets, index = np.unique(here, axis=0, return_inverse=True)
        yield from ((members, np.flatnonzero(index.ravel() == i)) for i, members in enumerate(sets))
        return
    # Comparing numbers is many times faster than comparing rows.
    codes = here @ (1 << np.arange(m))
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        yield here[rows[0]], rows


def check_probabilities(P: ArrayLike, n_modalities: int | None = None, n_classes: int | None = None) -> Array:
    """Return P as floats, or raise an error that names what is wrong.

    Parameters
    ----------
    P : array of shape (n_samples, n_modalities, n_classes)
        Every row of every modality must be at least 0 and sum to 1 (within 0.01), or be NaN throughout.
    n_modalities, n_classes : int, optional
        What is expected; any number where None.

    Returns
    -------
    array of float of the same shape

    Raises
    ------
    DataError
        With both numbers, or with the row and modality at fault.

    Examples
    --------
    >>> check_probabilities([[[0.2, 0.8], [0.7, 0.7]]])
    Traceback (most recent call last):
    ...
    affuse.errors.DataError: row 0, modality 1: probabilities must be at least 0 and sum to 1; got a sum of 1.4 ...
    """
    P = np.asarray(P, dtype=float)
    for _ in checked_blocks(P, n_modalities, n_classes):
        pass
    return P


def checked_blocks(
    P: ArrayLike, n_modalities: int | None = None, n_classes: int | None = None
) -> Iterator[tuple[slice, Array, Mask]]:
    """Yield ``(rows, P[rows], present[rows])`` of P (n, m, k) in blocks that fit a cache.

    Checks and raises as `check_probabilities`.
    """
    P = np.asarray(P)
    if P.ndim != 3:
        raise DataError(f"expected P of shape (n samples, m modalities, k classes); got {P.ndim} dimensions")
    n, m, k = P.shape
    if n_modalities is not None and m != n_modalities:
        raise DataError(f"expected {n_modalities} modalities as in fit; got {m}")
    if n_classes is not None and k != n_classes:
        raise DataError(f"expected {n_classes} classes as in fit; got {k}")
    if m == 0 or k == 0:
        raise DataError(f"expected at least one modality and one class; got P of shape {P.shape}")
    step = max(1, BLOCK_SIZE // (m * k))
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        block = np.asarray(P[rows], dtype=float)
        yield rows, block, _check_block(block, start)


def _check_block(block: Array, start: int) -> Mask:
    """Which modality is present in which row of a block whose first row is row ``start``; raises DataError as above."""
    b, m, k = block.shape
    sums = (block.reshape(b * m, k) @ np.ones(k)).reshape(b, m)  # several times quicker than block.sum(axis=2)
    here = sums == sums
    wrong = np.abs(sums - 1) > SUM_TOLERANCE  # false for NaN
    if wrong.any() or (block < 0).any():
        _refuse(block, start, wrong | (block < 0).any(axis=2))
    if np.count_nonzero(block != block) != k * np.count_nonzero(~here):
        gaps = np.isnan(block)
        row, modality = np.argwhere(gaps.any(axis=2) != gaps.all(axis=2))[0]
        raise DataError(
            f"row {start + row}, modality {modality}: some classes are NaN and some are not; a gap is NaN throughout"
        )
    return np.asarray(here)


def _refuse(block: Array, start: int, wrong: Mask) -> None:
    row, modality = np.argwhere(wrong)[0]
    values = block[row, modality]
    raise DataError(
        f"row {start + row}, modality {modality}: probabilities must be at least 0 and sum to 1; "
        f"got a sum of {values.sum():.4g} and a least value of {values.min():.4g}"
    )
