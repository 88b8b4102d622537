"""Class probabilities that somebody's models wrote to files: one table a modality, joined by id."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from affuse.data.probability_tables import (
    checked,
    ids_of,
    listed,
    need_columns,
    numbers,
    refuse_partial_rows,
    renamed,
)
from affuse.errors import DataError
from affuse.fusion.base import softmax
from affuse.tables import GAPS, LABEL_COLUMNS, read_table

__all__ = [
    "LabelMap",
    "ModalityTable",
    "Predictions",
    "Targets",
    "align",
    "join",
    "read_label_map",
    "read_predictions",
    "read_targets",
]

LabelMap = Mapping[str, Mapping[str, str]]
"""New names of labels by modality; those under the empty name hold for every file."""


@dataclass(frozen=True)
class ModalityTable:
    """The class probabilities of one modality, as one file holds them; `read_predictions` makes it.

    Parameters
    ----------
    path : Path
        The file, for messages.
    modality : str
        Name of the modality.
    ids : tuple of str, length n
        Names of the rows.
    labels : tuple of str, length k
        Names of the columns of ``P``.
    P : array of shape (n, k)
        Class probabilities; a row of NaN is missing evidence.
    targets : tuple of str, length n, optional
        True labels, where the file holds them.
    groups : tuple of str, length n, optional
        Speakers or other groups, where the file holds them.

    Examples
    --------
    >>> P = np.array([[0.75, 0.25], [np.nan, np.nan]])
    >>> voice = ModalityTable(Path("voice.csv"), "voice", ("a", "b"), ("happy", "sad"), P)
    >>> join([voice]).P.shape
    (2, 1, 2)
    """

    path: Path
    modality: str
    ids: tuple[str, ...]
    labels: tuple[str, ...]
    P: np.ndarray
    targets: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Targets:
    """True labels by id; `read_targets` makes it.

    Parameters
    ----------
    path : Path
        The file, for messages.
    labels : mapping of str to str
        True label by id.
    groups : mapping of str to str, optional
        Speaker, video or other group by id.

    Examples
    --------
    >>> Targets(Path("labels.csv"), {"a": "happy"}).labels["a"]
    'happy'
    """

    path: Path
    labels: Mapping[str, str]
    groups: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Predictions:
    """The class probabilities of several modalities on the same rows; `join` makes it.

    Parameters
    ----------
    ids : tuple of str, length n
        Names of the rows.
    modalities : tuple of str, length m
        Names of the modalities.
    labels : tuple of str, length k
        Names of the classes.
    P : array of shape (n, m, k)
        Class probabilities; NaN where a modality has no evidence.
    targets : array of int, shape (n,)
        Index of the true label, -1 where it is unknown.
    groups : array of str, shape (n,)
        Speaker or other group of each row; a group is never on both sides of a split.

    Examples
    --------
    >>> P = np.array([[[0.75, 0.25], [0.5, 0.5]]])
    >>> found = Predictions(("a",), ("voice", "face"), ("happy", "sad"), P, np.array([0]), np.array(["anna"]))
    >>> len(found.labelled)
    1
    """

    ids: tuple[str, ...]
    modalities: tuple[str, ...]
    labels: tuple[str, ...]
    P: np.ndarray
    targets: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, rows: np.ndarray) -> Predictions:
        """The predictions of some of the rows.

        Parameters
        ----------
        rows : array
            Indices of rows, or a mask of shape (n,).

        Returns
        -------
        Predictions
        """
        kept = np.arange(len(self))[rows]
        return replace(
            self,
            ids=tuple(self.ids[i] for i in kept),
            P=self.P[kept],
            targets=self.targets[kept],
            groups=self.groups[kept],
        )

    @property
    def labelled(self) -> Predictions:
        """The rows whose true label is known."""
        return self.select(self.targets >= 0)


def read_predictions(
    path: Path,
    *,
    id_column: str | None = None,
    group_column: str | None = None,
    logits: bool = False,
    label_map: LabelMap | None = None,
    modality: str | None = None,
) -> ModalityTable:
    """Read the class probabilities of one modality from a table.

    The table has a column of ids and a column for each label, and perhaps the true label (a column named label,
    target, emotion or sentiment) and the group.

    Parameters
    ----------
    path : Path
        A CSV, TSV, Parquet or Excel table.
    id_column : str, optional
        Name of the column of ids; else the first one named id, clip or name.
    group_column : str, optional
        Name of the column of groups, such as speakers.
    logits : bool
        Whether the columns hold logits, which the softmax turns into probabilities.
    label_map : mapping, optional
        New names of labels (`read_label_map`); columns of one new name are added up.
    modality : str, optional
        Name of the modality; else the name of the file.

    Returns
    -------
    ModalityTable

    Raises
    ------
    DataError
        If the table does not fit; the message names file, row and column.

    Examples
    --------
    >>> _ = Path("voice.csv").write_text("id,happy,sad\\n007,0.75,0.25\\n008,,\\n")
    >>> voice = read_predictions(Path("voice.csv"))
    >>> voice.modality, voice.ids, voice.labels
    ('voice', ('007', '008'), ('happy', 'sad'))
    """
    modality = modality or path.stem
    table = read_table(path, [c for c in (id_column, group_column) if c])
    ids = ids_of(table, path, id_column)
    truth = next((c for c in table.columns if str(c).lower() in LABEL_COLUMNS), None)
    aside = {ids.name, truth, group_column}
    columns = [c for c in table.columns if c not in aside]
    if len(columns) < 2:
        raise DataError(f"{path} needs a column for each of at least two labels; got {listed(columns)}")
    P = numbers(table, columns, path)
    refuse_partial_rows(P, columns, ids, path)
    P = softmax(P) if logits else checked(P, ids, path)
    names = tuple(map(str, columns))
    names, P = renamed(names, P, {**(label_map or {}).get("", {}), **(label_map or {}).get(modality, {})})
    targets = None if truth is None else tuple(table[truth].astype(str))
    groups = tuple(table[group_column].astype(str)) if group_column in table.columns else None
    return ModalityTable(path, modality, tuple(ids), names, P, targets, groups)


def read_label_map(path: Path) -> dict[str, dict[str, str]]:
    """Read new names of labels from a TOML file.

    ``angry = "anger"`` holds for all files; the same under ``[voice]`` holds for the modality "voice" only.

    Parameters
    ----------
    path : Path
        The TOML file.

    Returns
    -------
    dict of str to dict of str to str
        New name by old name, by modality; those under "" hold for all.

    Raises
    ------
    DataError
        If the file is missing or not such a table.

    Examples
    --------
    >>> _ = Path("labels.toml").write_text('angry = "anger"')
    >>> read_label_map(Path("labels.toml"))
    {'': {'angry': 'anger'}}
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; --map names a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} is not a TOML file: {str(error).splitlines()[0]}") from error
    tables = {"": {k: v for k, v in values.items() if not isinstance(v, dict)}}
    tables |= {k: v for k, v in values.items() if isinstance(v, dict)}
    for table in tables.values():
        wrong = [k for k, v in table.items() if not isinstance(v, str)]
        if wrong:
            raise DataError(f"{path}: {wrong[0]} must be the new name of a label, in quotes")
    return tables


def read_targets(
    path: Path,
    *,
    id_column: str | None = None,
    group_column: str | None = None,
    label_column: str | None = None,
    label_map: LabelMap | None = None,
) -> Targets:
    """Read true labels by id from a table.

    Parameters
    ----------
    path : Path
        A CSV, TSV, Parquet or Excel table.
    id_column : str, optional
        Name of the column of ids; else the first one named id, clip or name.
    group_column : str, optional
        Name of the column of groups, such as speakers.
    label_column : str, optional
        Name of the column of labels; else the first one named label, target, emotion or sentiment, or the only one.
    label_map : mapping, optional
        New names of labels (`read_label_map`).

    Returns
    -------
    Targets

    Raises
    ------
    DataError
        If an id stands twice or a column is missing.

    Examples
    --------
    >>> _ = Path("labels.csv").write_text("id,label\\n007,happy\\n")
    >>> read_targets(Path("labels.csv")).labels
    {'007': 'happy'}
    """
    table = read_table(path, [c for c in (id_column, group_column, label_column) if c])
    ids = ids_of(table, path, id_column)
    others = [c for c in table.columns if c not in {ids.name, group_column}]
    if label_column is None:
        only = others[0] if len(others) == 1 else None
        label_column = next((c for c in others if str(c).lower() in LABEL_COLUMNS), only)
    need_columns(table, [label_column or "label"], path)
    if group_column is not None and group_column not in table.columns:
        raise DataError(f"{path} has no column {group_column!r} as --group says; its columns: {listed(table.columns)}")
    renames = (label_map or {}).get("", {})
    labels = {i: renames.get(v, v) for i, v in zip(ids, table[label_column].astype(str), strict=True) if v not in GAPS}
    groups = None if group_column is None else dict(zip(ids, table[group_column].astype(str), strict=True))
    return Targets(path, labels, groups)


def join(tables: Sequence[ModalityTable], targets: Targets | None = None) -> Predictions:
    """Join the tables of several modalities by id.

    Rows come in the order in which ids first appear. An id that a table lacks is missing evidence there.

    Parameters
    ----------
    tables : sequence of ModalityTable
        One for each modality, of the same labels in any order.
    targets : Targets, optional
        True labels and groups; else those of the tables themselves. Without groups every row is its own.

    Returns
    -------
    Predictions

    Raises
    ------
    DataError
        If labels do not match, two tables have the same modality, or no id of ``targets`` is among the predictions.

    Examples
    --------
    >>> voice = ModalityTable(Path("voice.csv"), "voice", ("a", "b"), ("happy", "sad"), np.full((2, 2), 0.5))
    >>> face = ModalityTable(Path("face.csv"), "face", ("b",), ("sad", "happy"), np.array([[0.75, 0.25]]))
    >>> join([voice, face]).P[:, 1]
    array([[ nan,  nan],
           [0.25, 0.75]])
    """
    if not tables:
        raise DataError("nothing to join; give at least one file of predictions")
    _refuse_clashes(tables)
    labels = tables[0].labels
    ids = tuple(dict.fromkeys(i for table in tables for i in table.ids))
    place = {i: row for row, i in enumerate(ids)}
    P = np.full((len(ids), len(tables), len(labels)), np.nan)
    for j, table in enumerate(tables):
        order = [table.labels.index(label) for label in labels]
        P[[place[i] for i in table.ids], j] = table.P[:, order]
    truth = targets or _own_targets(tables)
    y, groups = _columns_of(truth, ids, labels)
    return Predictions(ids, tuple(t.modality for t in tables), labels, P, y, groups)


def _refuse_clashes(tables: Sequence[ModalityTable]) -> None:
    first = tables[0]
    seen: dict[str, Path] = {}
    for table in tables:
        if table.modality in seen:
            both = f"{seen[table.modality]} and {table.path}"
            raise DataError(f"{both} would both be the modality {table.modality!r}; rename one file")
        seen[table.modality] = table.path
        ours, theirs = set(first.labels), set(table.labels)
        if ours != theirs:
            raise DataError(
                f"the labels do not match: only {first.path.name} has {', '.join(sorted(ours - theirs)) or 'none'}, "
                f"only {table.path.name} has {', '.join(sorted(theirs - ours)) or 'none'}; "
                'rename them with --map labels.toml (lines such as angry = "anger")'
            )


def _own_targets(tables: Sequence[ModalityTable]) -> Targets | None:
    labels: dict[str, str] = {}
    groups: dict[str, str] = {}
    for table in tables:
        for row, (i, label) in enumerate(zip(table.ids, table.targets or (), strict=False)):
            if labels.setdefault(i, label) != label:
                raise DataError(
                    f"{table.path}, row {row + 1}: {i!r} is labelled {label}, but {labels[i]} in another file"
                )
        groups |= dict(zip(table.ids, table.groups or (), strict=False))
    return Targets(tables[0].path, labels, groups or None) if labels else None


def _columns_of(truth: Targets | None, ids: Sequence[str], labels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    if truth is None:
        return np.full(len(ids), -1), np.arange(len(ids)).astype(str)
    unknown = sorted({label for i, label in truth.labels.items() if label not in labels})
    if unknown:
        raise DataError(
            f"{truth.path}: the label {unknown[0]!r} has no column among {', '.join(labels)}; "
            "rename it with --map labels.toml"
        )
    y = np.array([labels.index(truth.labels[i]) if i in truth.labels else -1 for i in ids])
    if (y < 0).all():
        raise DataError(
            f"{truth.path} holds no id of the predictions, which begin with {ids[0]!r}; "
            f"its own begin with {next(iter(truth.labels), '')!r}"
        )
    if truth.groups is None:
        return y, np.array([f"row {i}" for i in ids])
    return y, np.array([truth.groups.get(i, f"row {i}") for i in ids])


def align(predictions: Predictions, modalities: Sequence[str], labels: Sequence[str]) -> Predictions:
    """The same rows with modalities and labels in the order of a fuser.

    Parameters
    ----------
    predictions : Predictions
        Rows of some of the modalities.
    modalities : sequence of str
        Modalities of the fuser; one that the predictions lack is missing evidence.
    labels : sequence of str
        Labels of the fuser.

    Returns
    -------
    Predictions

    Raises
    ------
    DataError
        If the predictions have a modality or a label that the fuser does not know.

    Examples
    --------
    >>> voice = ModalityTable(Path("voice.csv"), "voice", ("a",), ("happy", "sad"), np.array([[0.75, 0.25]]))
    >>> align(join([voice]), ("face", "voice"), ("sad", "happy")).P[0]
    array([[ nan,  nan],
           [0.25, 0.75]])
    """
    extra = [name for name in predictions.modalities if name not in modalities]
    if extra:
        raise DataError(f"the fuser knows the modalities {', '.join(modalities)}; got {', '.join(extra)} besides")
    if set(predictions.labels) != set(labels):
        raise DataError(
            f"the fuser knows the labels {', '.join(labels)}; the files have {', '.join(predictions.labels)}; "
            "rename them with --map labels.toml"
        )
    order = [predictions.labels.index(label) for label in labels]
    P = np.full((len(predictions), len(modalities), len(labels)), np.nan)
    for j, name in enumerate(predictions.modalities):
        P[:, modalities.index(name)] = predictions.P[:, j][:, order]
    new = np.array([labels.index(label) for label in predictions.labels])
    targets = np.where(predictions.targets >= 0, new[predictions.targets], -1)
    return replace(predictions, modalities=tuple(modalities), labels=tuple(labels), P=P, targets=targets)
