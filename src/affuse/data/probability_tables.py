"""Ids, numbers and probabilities in the columns of a table, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse.errors import DataError
from affuse.tables import ID_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["checked", "ids_of", "listed", "need_columns", "numbers", "refuse_partial_rows", "renamed"]

# How far a row's sum may be from 1: wide enough for files with three decimals and a dozen classes.
_TOLERANCE = 1e-2
_MOST_TOLD = 5  # rows of one id that an error names


def listed(names: Iterable[Any]) -> str:
    """Names with commas, "none" where there are none."""
    return ", ".join(map(str, names)) or "none"


def ids_of(table: pd.DataFrame, path: Path, id_column: str | None = None) -> pd.Series:
    """The column of ids, by name or by the usual names. Raises DataError where there is none or an id stands twice."""
    if id_column is None:
        id_column = next((c for c in table.columns if str(c).lower() in ID_COLUMNS), None)
    if id_column is None:
        usual = ", ".join(ID_COLUMNS)
        raise DataError(f"{path} has no column named {usual}; name it with --id; its columns: {listed(table.columns)}")
    if id_column not in table.columns:
        raise DataError(f"{path} has no column {id_column!r} as --id says; its columns: {listed(table.columns)}")
    ids = table[id_column].astype(str)
    repeated = ids[ids.duplicated(keep=False)]
    if len(repeated):
        raise DataError(f"{path}: {_repeated(ids, repeated)}; ids must be unique")
    return ids


def _repeated(ids: pd.Series, repeated: pd.Series) -> str:
    """The first rows of the first id of ``repeated``, and how many there are besides."""
    first = repeated.iloc[0]
    rows = np.flatnonzero(ids == first) + 1
    more = f" and {len(rows) - _MOST_TOLD} more" if len(rows) > _MOST_TOLD else ""
    others = repeated.nunique() - 1
    ending = f" ({others} more {'id is' if others == 1 else 'ids are'} repeated)" if others else ""
    return f"the id {first!r} is in the rows {listed(rows[:_MOST_TOLD])}{more}{ending}"


def numbers(table: pd.DataFrame, columns: Sequence[str], path: Path) -> np.ndarray:
    """Columns as numbers (n, d), NaN for gaps. Raises DataError for a cell that is no finite number."""
    import pandas as pd

    P = np.empty((len(table), len(columns)))
    for j, name in enumerate(columns):
        column = table[name]
        values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        wrong = (np.isnan(values) & column.notna().to_numpy()) | np.isinf(values)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise DataError(
                f"{path}, row {row + 1}, column {name!r}: {str(column.iloc[row])!r} is not a finite number; "
                "every column besides id, label and --group must hold the probabilities of a label"
            )
        P[:, j] = values
    return P


def refuse_partial_rows(P: np.ndarray, columns: Sequence[str], ids: pd.Series, path: Path) -> None:
    """Raise DataError for a row of which some labels are missing and others are not."""
    gaps = np.isnan(P)
    partial = gaps.any(axis=1) & ~gaps.all(axis=1)
    if partial.any():
        row = int(np.flatnonzero(partial)[0])
        name = columns[int(np.flatnonzero(gaps[row])[0])]
        raise DataError(
            f"{path}, row {row + 1} (id {ids.iloc[row]!r}): {name!r} is missing and others are not; "
            "leave all labels of a row empty where there is no evidence"
        )


def checked(P: np.ndarray, ids: pd.Series, path: Path) -> np.ndarray:
    """Probabilities (n, k) whose rows sum to 1. Raises DataError where they are no probabilities."""
    spoken = ~np.isnan(P).any(axis=1)
    outside = spoken & ((P < 0) | (P > 1 + _TOLERANCE)).any(axis=1)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        value = P[row].min() if P[row].min() < 0 else P[row].max()
        raise DataError(
            f"{path}, row {row + 1} (id {ids.iloc[row]!r}): {value:.4g} is no probability; "
            "if these are logits, give --logits"
        )
    sums = P.sum(axis=1)
    wrong = spoken & (np.abs(sums - 1) > _TOLERANCE)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{path}, row {row + 1} (id {ids.iloc[row]!r}): the probabilities sum to {sums[row]:.4g}, not to 1; "
            "if these are logits, give --logits"
        )
    return np.divide(P, sums[:, None], out=np.full_like(P, np.nan), where=spoken[:, None])


def renamed(names: tuple[str, ...], P: np.ndarray, renames: Mapping[str, str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Labels by their new names and probabilities (n, k); columns of one new name are added up."""
    goals = [renames.get(name, name) for name in names]
    labels = tuple(dict.fromkeys(goals))
    if len(labels) == len(names):
        return labels, P
    transfer = np.zeros((len(names), len(labels)))
    transfer[np.arange(len(names)), [labels.index(goal) for goal in goals]] = 1.0
    return labels, P @ transfer


def need_columns(table: pd.DataFrame, columns: Sequence[str], path: Path) -> None:
    """Raise DataError where the table lacks one of the columns."""
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; its columns: {listed(table.columns)}")
