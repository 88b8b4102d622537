"""Who learns on which rows and is tested on which: folds that never split a group, the same for every method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from affuse.errors import DataError

if TYPE_CHECKING:
    from affuse.data.predictions import Predictions

__all__ = ["Fold", "PredictionData", "Protocol", "group_folds", "leave_one_part_out", "rows_of"]


@dataclass(frozen=True)
class PredictionData:
    """Predictions of several modalities with true labels and groups.

    Parameters
    ----------
    P : array of shape (n, m, k)
        Class probabilities by modality; a row of NaN where a modality has no evidence.
    y : int array of shape (n,)
        Column of the true label.
    groups : array of shape (n,)
        Speaker, video or other unit of each row; a group is never split over train and test.

    Raises
    ------
    DataError
        If the arrays differ in length.

    Examples
    --------
    >>> data = PredictionData(np.full((4, 2, 3), 1 / 3), np.array([0, 1, 2, 0]), np.array(["a", "a", "b", "b"]))
    >>> len(data), len(data.select(data.groups == "a"))
    (4, 2)
    """

    P: np.ndarray
    y: np.ndarray
    groups: np.ndarray

    def __post_init__(self) -> None:
        if not len(self.P) == len(self.y) == len(self.groups):
            raise DataError(f"P has {len(self.P)} rows, y {len(self.y)} and groups {len(self.groups)}")

    def __len__(self) -> int:
        return len(self.y)

    def select(self, rows: np.ndarray) -> PredictionData:
        """Some of the rows.

        Parameters
        ----------
        rows : array
            Indices, or a mask of shape (n,).

        Returns
        -------
        PredictionData
        """
        return PredictionData(self.P[rows], self.y[rows], self.groups[rows])

    @staticmethod
    def concatenate(parts: Sequence[PredictionData]) -> PredictionData:
        """All rows of several parts, one after the other.

        Parameters
        ----------
        parts : sequence of PredictionData
            Of the same modalities and classes.

        Returns
        -------
        PredictionData
        """
        return PredictionData(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("P", "y", "groups")))


@dataclass(frozen=True)
class Fold:
    """Rows to learn on and rows to test on, which share no group.

    Parameters
    ----------
    name : str
        For messages and tables.
    train : PredictionData
        What a fuser learns on.
    test : PredictionData
        What it is tested on.
    part : str
        The part of the data that the test rows belong to; accuracies are means over parts. A published fold is a part
        by itself, the folds of one cross-validation make up one part together. Empty means the name of the fold.

    Raises
    ------
    DataError
        If a group is on both sides.

    Examples
    --------
    >>> data = PredictionData(np.full((4, 1, 2), 0.5), np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]))
    >>> Fold("first", data.select(data.groups == 0), data.select(data.groups == 1)).name
    'first'
    """

    name: str
    train: PredictionData
    test: PredictionData
    part: str = ""

    def __post_init__(self) -> None:
        shared = set(self.train.groups.tolist()) & set(self.test.groups.tolist())
        if shared:
            raise DataError(f"{self.name}: the group {min(shared)!r} is in both train and test")


@dataclass(frozen=True)
class Protocol:
    """One way of measuring, applied to every method alike.

    Parameters
    ----------
    name : str
        Name of the data.
    modalities : tuple of m str
        In the order of P.
    labels : tuple of k str
        In the order of the columns of P.
    folds : tuple of Fold
        What is learned on and tested on.
    note : str
        One sentence about the folds.
    alarms : tuple of str
        Sentences about experts whose outputs on their own training rows are too good to be honest.

    Raises
    ------
    DataError
        If there is no fold.

    Examples
    --------
    >>> data = PredictionData(np.full((6, 2, 2), 0.5), np.array([0, 1] * 3), np.arange(6))
    >>> Protocol("toy", ("face", "voice"), ("sad", "glad"), group_folds(data, 3)).n_rows
    6
    """

    name: str
    modalities: tuple[str, ...]
    labels: tuple[str, ...]
    folds: tuple[Fold, ...]
    note: str = ""
    alarms: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.folds:
            raise DataError(f"{self.name}: a comparison needs at least one fold")

    @property
    def n_rows(self) -> int:
        """Number of test rows over all folds."""
        return sum(len(fold.test) for fold in self.folds)


def leave_one_part_out(parts: Mapping[str, PredictionData]) -> tuple[Fold, ...]:
    """A fold for every part of the data: tested on the part, learned on all the others.

    Parameters
    ----------
    parts : mapping of str to PredictionData
        Parts by name, such as the folds of a published experiment.

    Returns
    -------
    tuple of Fold

    Raises
    ------
    DataError
        With fewer than two parts.

    Examples
    --------
    >>> parts = {str(i): PredictionData(np.full((2, 1, 2), 0.5), np.array([0, 1]), np.array([i, i])) for i in range(3)}
    >>> [(fold.name, len(fold.train), len(fold.test)) for fold in leave_one_part_out(parts)]
    [('0', 4, 2), ('1', 4, 2), ('2', 4, 2)]
    """
    if len(parts) < 2:
        raise DataError(f"each part is fused by what is learned on the others, so two are needed; got {len(parts)}")
    return tuple(
        Fold(name, PredictionData.concatenate([other for key, other in parts.items() if key != name]), part)
        for name, part in parts.items()
    )


def group_folds(rows: PredictionData, n_splits: int = 5, seeds: Sequence[int] = (0,)) -> tuple[Fold, ...]:
    """Group-wise k-fold cross-validation, once a seed.

    Parameters
    ----------
    rows : PredictionData
        All rows; each is tested on once a seed.
    n_splits : int
        Number of folds.
    seeds : sequence of int
        Seeds by which groups are assigned to folds.

    Returns
    -------
    tuple of Fold
        ``n_splits`` for each seed.

    Raises
    ------
    DataError
        If there are fewer groups than folds.

    Examples
    --------
    >>> rows = PredictionData(np.full((6, 2, 2), 0.5), np.array([0, 1] * 3), np.array(list("aabbcc")))
    >>> [len(fold.test) for fold in group_folds(rows, 3)]
    [2, 2, 2]
    """
    return tuple(_group_folds(rows, n_splits, seeds))


def _group_folds(rows: PredictionData, n_splits: int, seeds: Sequence[int]) -> Iterator[Fold]:
    from sklearn.model_selection import GroupKFold  # heavy, and not needed for folds that are given

    count = len(np.unique(rows.groups))
    if count < max(n_splits, 2):
        raise DataError(f"{n_splits} folds need as many groups; got {count}")
    for seed in seeds:
        splitter = GroupKFold(n_splits, shuffle=True, random_state=seed)
        for number, (train, test) in enumerate(splitter.split(rows.P, rows.y, rows.groups)):
            yield Fold(f"seed {seed}, fold {number}", rows.select(train), rows.select(test), part=f"seed {seed}")


def rows_of(predictions: Predictions) -> PredictionData:
    """The rows of predictions whose true label is known. Raises DataError where there are none."""
    labelled = predictions.labelled
    if len(labelled) == 0:
        raise DataError("no row of the predictions has a true label")
    return PredictionData(labelled.P, labelled.targets, labelled.groups)
