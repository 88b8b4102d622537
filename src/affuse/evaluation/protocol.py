"""Who learns on which rows and is asked about which: folds that never split a group, the same for every method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from affuse.errors import DataError

__all__ = ["Fold", "PredictionData", "Protocol", "group_folds", "leave_one_part_out"]


@dataclass(frozen=True)
class PredictionData:
    """P (n, m, k) with NaN for missing evidence, true columns ``y`` (n,) and ``groups`` (n,) that may not be split."""

    P: np.ndarray
    y: np.ndarray
    groups: np.ndarray

    def __post_init__(self) -> None:
        if not len(self.P) == len(self.y) == len(self.groups):
            raise DataError(f"P has {len(self.P)} rows, y {len(self.y)} and groups {len(self.groups)}")

    def __len__(self) -> int:
        return len(self.y)

    def select(self, rows: np.ndarray) -> PredictionData:
        """Some of the rows, by index or mask."""
        return PredictionData(self.P[rows], self.y[rows], self.groups[rows])

    @staticmethod
    def concatenate(parts: Sequence[PredictionData]) -> PredictionData:
        """All rows of several parts, one after the other."""
        return PredictionData(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("P", "y", "groups")))


@dataclass(frozen=True)
class Fold:
    """Rows to learn on, and rows to be asked about, which share no group.

    Accuracies are means over ``part``, the data that the rows asked about belong to: a published fold is one by itself,
    the folds of one cross-validation make up one together. Empty means the fold's own name.
    """

    name: str
    train: PredictionData
    test: PredictionData
    part: str = ""

    def __post_init__(self) -> None:
        shared = set(self.train.groups.tolist()) & set(self.test.groups.tolist())
        if shared:
            raise DataError(f"{self.name}: the group {min(shared)!r} is both learned on and asked about")


@dataclass(frozen=True)
class Protocol:
    """One way of measuring, applied to every method alike; ``note`` says in a sentence what it is."""

    name: str
    modalities: tuple[str, ...]
    labels: tuple[str, ...]
    folds: tuple[Fold, ...]
    note: str = ""

    def __post_init__(self) -> None:
        if not self.folds:
            raise DataError(f"{self.name}: a comparison needs at least one fold")

    @property
    def n_rows(self) -> int:
        """Number of rows that are asked about, over all folds."""
        return sum(len(fold.test) for fold in self.folds)


def leave_one_part_out(parts: Mapping[str, PredictionData]) -> tuple[Fold, ...]:
    """A fold for every part, learned on all the others. Raises DataError with fewer than two parts."""
    if len(parts) < 2:
        raise DataError(f"each part is fused by what is learned on the others, so two are needed; got {len(parts)}")
    return tuple(
        Fold(name, PredictionData.concatenate([other for key, other in parts.items() if key != name]), part)
        for name, part in parts.items()
    )


def group_folds(rows: PredictionData, n_splits: int = 5, seeds: Sequence[int] = (0,)) -> tuple[Fold, ...]:
    """Group-wise k-fold cross-validation, once a seed. Raises DataError where there are fewer groups than folds."""
    return tuple(_group_folds(rows, n_splits, seeds))


def _group_folds(rows: PredictionData, n_splits: int, seeds: Sequence[int]) -> Iterator[Fold]:
    from sklearn.model_selection import GroupKFold  # heavy, and not needed for folds that are given

    count = len(np.unique(rows.groups))
    if count < max(n_splits, 2):
        raise DataError(f"{n_splits} folds need as many groups; got {count}")
    for seed in seeds:
        splitter = GroupKFold(n_splits, shuffle=True, random_state=seed)
        for number, (fit, test) in enumerate(splitter.split(rows.P, rows.y, rows.groups)):
            yield Fold(f"seed {seed}, fold {number}", rows.select(fit), rows.select(test), part=f"seed {seed}")
