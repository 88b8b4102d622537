"""Which columns of X belong to which modality, and which modality a row lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affuse.errors import ConfigError, DataError
from affuse.fusion.base import Array, Mask

__all__ = ["Blocks", "Layout", "check_features", "present_blocks", "resolve_blocks"]

Blocks = Mapping[str, slice | Sequence[int]]
Layout = dict[str, NDArray[np.intp]]  # column numbers by modality, sorted by its name


def resolve_blocks(blocks: Blocks, n_columns: int) -> Layout:
    """Column numbers of every block, blocks in alphabetical order, so that the order of the mapping cannot matter.

    Parameters
    ----------
    blocks : mapping of str to slice or list of int
        Columns by modality; columns that no block names are not used.
    n_columns : int
        Number of columns of X.

    Returns
    -------
    dict of str to array of int

    Raises
    ------
    ConfigError
        If there is no block, one is empty, reaches beyond the columns, or shares a column with another.

    Examples
    --------
    >>> resolve_blocks({"voice": slice(2, 4), "face": [0, 1]}, n_columns=4)
    {'face': array([0, 1]), 'voice': array([2, 3])}
    """
    if not isinstance(blocks, Mapping) or not blocks:
        raise ConfigError(f"blocks must map modalities to columns, such as {{'text': slice(0, 384)}}; got {blocks!r}")
    layout = {name: _columns(name, blocks[name], n_columns) for name in sorted(blocks)}
    owner: dict[int, str] = {}
    for name, columns in layout.items():
        for column in columns.tolist():
            if column in owner:
                raise ConfigError(f"column {column} is in the block {owner[column]!r} and again in {name!r}")
            owner[column] = name
    return layout


def _columns(name: str, block: slice | Sequence[int], n_columns: int) -> NDArray[np.intp]:
    if isinstance(block, slice):
        beyond = block.stop is not None and block.stop > n_columns
        columns = np.arange(n_columns)[block]
    else:
        columns = np.asarray(block, dtype=np.intp).ravel()
        beyond = bool(len(columns)) and (columns.min() < 0 or columns.max() >= n_columns)
    if beyond:
        raise ConfigError(f"the block {name!r} is {block!r}, but X has {n_columns} columns")
    if len(columns) == 0:
        raise ConfigError(f"the block {name!r} is {block!r}, which holds no column of X with {n_columns} columns")
    return columns


def check_features(X: ArrayLike, n_columns: int | None = None) -> Array:
    """X as floats, or an error that names what is wrong.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        NaN is allowed.
    n_columns : int, optional
        Expected number of columns; any where None.

    Returns
    -------
    array of float of shape (n_samples, n_features)

    Raises
    ------
    DataError
        If X is no table, holds infinity or has another number of columns.

    Examples
    --------
    >>> check_features([[1, None], [2, 3]])
    array([[ 1., nan],
           [ 2.,  3.]])
    """
    try:
        X = np.asarray(X, dtype=float)
    except (TypeError, ValueError) as error:
        raise DataError(f"X must hold numbers: {error}") from error
    if X.ndim != 2:
        raise DataError(f"expected X of shape (n rows, d features); got {X.ndim} dimensions")
    if n_columns is not None and X.shape[1] != n_columns:
        raise DataError(f"expected {n_columns} columns as in fit; got {X.shape[1]}")
    if np.isinf(X).any():
        row, column = np.argwhere(np.isinf(X))[0]
        raise DataError(f"row {row}, column {column} of X is infinite; what is missing must be NaN")
    return X


def present_blocks(X: Array, layout: Layout) -> Mask:
    """Which block is present in which row.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    layout : dict of str to array of int
        Column numbers by block, see `resolve_blocks`.

    Returns
    -------
    array of bool of shape (n_samples, n_blocks)

    Raises
    ------
    DataError
        If a block of a row is NaN in part.

    Examples
    --------
    >>> X = np.array([[1.0, 2.0, np.nan], [1.0, 2.0, 3.0]])
    >>> present_blocks(X, resolve_blocks({"face": [0, 1], "voice": [2]}, n_columns=3))
    array([[ True, False],
           [ True,  True]])
    """
    here = np.empty((len(X), len(layout)), dtype=bool)
    for j, (name, columns) in enumerate(layout.items()):
        gaps = np.isnan(X[:, columns])
        here[:, j] = ~gaps.all(axis=1)
        broken = np.flatnonzero(here[:, j] & gaps.any(axis=1))
        if len(broken):
            count = int(gaps[broken[0]].sum())
            raise DataError(
                f"row {broken[0]}, block {name!r}: {count} of {len(columns)} features are NaN; a gap is NaN throughout"
            )
    return here
