"""Class probabilities that somebody's models wrote to files: one table a modality, joined by id."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse.data.splits import find_split, split_name
from affuse.errors import ConfigError, DataError
from affuse.tables import GAPS, ID_COLUMNS, LABEL_COLUMNS, read_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "LabelMap",
    "ModalityTable",
    "Predictions",
    "Targets",
    "align",
    "join",
    "read_cremad_votes",
    "read_emotiontalk",
    "read_label_map",
    "read_predictions",
    "read_ravdess_folds",
    "read_targets",
]

CREMAD_MODALITIES = ("voice", "face")
EMOTIONTALK_MODALITIES = ("words", "voice", "face")
EMOTIONTALK_LABELS = ("angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised")


# How far a row's sum may be from 1: wide enough for files with three decimals and a dozen classes.
_TOLERANCE = 1e-2

LabelMap = Mapping[str, Mapping[str, str]]
"""New names of labels by modality; those under the empty name hold for every file."""


@dataclass(frozen=True)
class ModalityTable:
    """One file: ``ids`` (n), ``labels`` (k), probabilities ``P`` (n, k) with rows of NaN where there is no evidence.

    ``targets`` (n) are the true labels and ``groups`` (n) the speakers, where the file holds them.
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
    """True labels by id, and the group (speaker, video) of each where one was asked for."""

    path: Path
    labels: Mapping[str, str]
    groups: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Predictions:
    """Several modalities on the same rows: P (n, m, k) with NaN for missing evidence.

    ``targets`` (n,) are columns of P, -1 where the true label is unknown; ``groups`` (n,) may not be split.
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
        """The same predictions for some of the rows, given as indices or as a mask."""
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
    """Read one modality: an id column, one column a label, and perhaps the true label and the group.

    The id column is ``id_column``, or the first one named id, clip or name. The column named label, target, emotion or
    sentiment holds the true label. ``logits`` are turned into probabilities by the softmax; ``label_map`` renames
    columns, and columns of one new name are added up. Raises DataError with file, row and column where something does
    not fit.
    """
    modality = modality or path.stem
    table = read_table(path, [c for c in (id_column, group_column) if c])
    ids = _ids(table, path, id_column)
    truth = next((c for c in table.columns if str(c).lower() in LABEL_COLUMNS), None)
    aside = {ids.name, truth, group_column}
    columns = [c for c in table.columns if c not in aside]
    if len(columns) < 2:
        raise DataError(f"{path} needs a column for each of at least two labels; got {_listed(columns)}")
    P = _numbers(table, columns, path)
    _refuse_partial_rows(P, columns, ids, path)
    P = _softmax(P) if logits else _checked(P, ids, path)
    names = tuple(map(str, columns))
    names, P = _renamed(names, P, {**(label_map or {}).get("", {}), **(label_map or {}).get(modality, {})})
    targets = None if truth is None else tuple(table[truth].astype(str))
    groups = tuple(table[group_column].astype(str)) if group_column in table.columns else None
    return ModalityTable(path, modality, tuple(ids), names, P, targets, groups)


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(map(str, names)) or "none"


def _ids(table: pd.DataFrame, path: Path, id_column: str | None) -> pd.Series:
    if id_column is None:
        id_column = next((c for c in table.columns if str(c).lower() in ID_COLUMNS), None)
    listed = _listed(table.columns)
    if id_column is None:
        raise DataError(f"{path} has no column named {', '.join(ID_COLUMNS)}; name it with --id; its columns: {listed}")
    if id_column not in table.columns:
        raise DataError(f"{path} has no column {id_column!r} as --id says; its columns: {listed}")
    ids = table[id_column].astype(str)
    twice = ids[ids.duplicated(keep=False)]
    if len(twice):
        rows = [str(i + 1) for i in np.flatnonzero(ids == twice.iloc[0])]
        raise DataError(f"{path}: the id {twice.iloc[0]!r} stands in the rows {', '.join(rows)}; ids must be unique")
    return ids


def _numbers(table: pd.DataFrame, columns: Sequence[str], path: Path) -> np.ndarray:
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


def _refuse_partial_rows(P: np.ndarray, columns: Sequence[str], ids: pd.Series, path: Path) -> None:
    gaps = np.isnan(P)
    partial = gaps.any(axis=1) & ~gaps.all(axis=1)
    if partial.any():
        row = int(np.flatnonzero(partial)[0])
        name = columns[int(np.flatnonzero(gaps[row])[0])]
        raise DataError(
            f"{path}, row {row + 1} (id {ids.iloc[row]!r}): {name!r} is missing and others are not; "
            "leave all labels of a row empty where there is no evidence"
        )


def _checked(P: np.ndarray, ids: pd.Series, path: Path) -> np.ndarray:
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


def _softmax(L: np.ndarray) -> np.ndarray:
    spoken = ~np.isnan(L).any(axis=1, keepdims=True)
    shifted = np.where(spoken, L, 0.0)
    E = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    return np.where(spoken, E / E.sum(axis=1, keepdims=True), np.nan)


def _renamed(names: tuple[str, ...], P: np.ndarray, renames: Mapping[str, str]) -> tuple[tuple[str, ...], np.ndarray]:
    goals = [renames.get(name, name) for name in names]
    labels = tuple(dict.fromkeys(goals))
    if len(labels) == len(names):
        return labels, P
    transfer = np.zeros((len(names), len(labels)))
    transfer[np.arange(len(names)), [labels.index(goal) for goal in goals]] = 1.0
    return labels, P @ transfer


def read_label_map(path: Path) -> dict[str, dict[str, str]]:
    """Read new names of labels: ``angry = "anger"`` for all files, and the same under ``[voice]`` for one modality.

    Raises DataError where the file is missing or not such a table.
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
    """Read true labels by id from ``label_column``, or the first column named label, target, emotion or sentiment.

    A table of two columns needs no such name. Raises DataError where ids stand twice or columns are not found.
    """
    table = read_table(path, [c for c in (id_column, group_column, label_column) if c])
    ids = _ids(table, path, id_column)
    others = [c for c in table.columns if c not in {ids.name, group_column}]
    if label_column is None:
        only = others[0] if len(others) == 1 else None
        label_column = next((c for c in others if str(c).lower() in LABEL_COLUMNS), only)
    listed = _listed(table.columns)
    if label_column not in table.columns:
        raise DataError(f"{path} has no column named {label_column or 'label'}; its columns: {listed}")
    if group_column is not None and group_column not in table.columns:
        raise DataError(f"{path} has no column {group_column!r} as --group says; its columns: {listed}")
    renames = (label_map or {}).get("", {})
    labels = {i: renames.get(v, v) for i, v in zip(ids, table[label_column].astype(str), strict=True) if v not in GAPS}
    groups = None if group_column is None else dict(zip(ids, table[group_column].astype(str), strict=True))
    return Targets(path, labels, groups)


def join(tables: Sequence[ModalityTable], targets: Targets | None = None) -> Predictions:
    """Join modalities by id; an id that a file lacks is missing evidence there. Rows come as ids first appear.

    True labels and groups come from ``targets``, else from the files themselves; without groups every row is its own.
    Raises DataError where labels do not match, modalities share a name, or no id of ``targets`` is among the
    predictions.
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
    """The same rows with modalities and labels in the order given; a modality that is not there is missing evidence.

    Raises DataError where a modality or label is unknown to the order.
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


def read_ravdess_folds(data: Path, part: str = "test", folds: Sequence[int] | None = None) -> dict[str, Predictions]:
    """Outputs of three published experts on RAVDESS by subject-wise fold; groups are the actors.

    ``part`` "test" is honest: the fold's actors were unseen. "train" are outputs on the rows that the experts were
    fitted on. ``folds`` are numbers, None all that lie in the folder. Raises DataError where there are none,
    ConfigError for unknown ones. Source: Luna-Jimenez et al. 2021, doi:10.3390/s21227665.
    """
    root = next((f for f in (data / "ravdess_posteriors", data) if any(f.glob("fold*/test_*.csv"))), None)
    if root is None:
        raise DataError(f"{data / 'ravdess_posteriors'} does not hold fold0/test_*.csv")
    folders = {int(f.name[4:]): f for f in sorted(root.glob("fold*")) if f.name[4:].isdigit()}
    found = {number: folder for number, folder in folders.items() if any(folder.glob(f"{part}_*.csv"))}
    unknown = [str(number) for number in folds or () if number not in found]
    if unknown:
        raise ConfigError(f"no fold {', '.join(unknown)} in {root}; there are {', '.join(map(str, sorted(found)))}")
    return {f"fold{number}": _read_fold(found[number], part) for number in sorted(found if folds is None else folds)}


def _read_fold(folder: Path, part: str) -> Predictions:
    paths = sorted(folder.glob(f"{part}_*.csv"))
    joined = join([read_predictions(path, modality=path.stem.removeprefix(f"{part}_")) for path in paths])
    actors = np.array([clip.rsplit("-", 1)[-1] for clip in joined.ids])
    return replace(joined, groups=actors)


def read_cremad_votes(data: Path, part: str = "open") -> Predictions:
    """What about ten people each heard and saw in clips of CREMA-D: shares of votes of the modalities voice and face.

    The label is what the actor meant; groups are the actors. A label that nobody named has the probability 0.

    Parameters
    ----------
    data: folder that holds ``cremad_votes/votes_open.csv`` and ``votes_test.csv``, or that folder itself.
    part: "open" or "test", actors of which none is in both.

    Raises
    ------
    DataError: the file is missing or does not fit.

    References
    ----------
    Cao et al. (2014), CREMA-D: crowd-sourced emotional multimodal actors dataset. doi:10.1109/TAFFC.2014.2336244
    """
    path = _place_of(data, "cremad_votes", f"votes_{part}.csv")
    table = read_table(path, ["speaker"])
    first = f"{CREMAD_MODALITIES[0]}_"
    labels = tuple(str(c).removeprefix(first) for c in table.columns if str(c).startswith(first))
    columns = [f"{modality}_{label}" for modality in CREMAD_MODALITIES for label in labels]
    _refuse_missing(table, ["speaker", "label", *(columns or [f"{first}*"])], path)
    counts = _numbers(table, columns, path).reshape(len(table), len(CREMAD_MODALITIES), len(labels))
    wrong = ~(counts >= 0).all(axis=(1, 2))
    if wrong.any():
        raise DataError(f"{path}, row {int(np.flatnonzero(wrong)[0]) + 1}: votes are counts of at least 0")
    total = counts.sum(axis=2, keepdims=True)
    P = np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)
    return _own_table(table, path, CREMAD_MODALITIES, labels, P, table["speaker"].astype(str).to_numpy())


def read_emotiontalk(data: Path, part: str = "dev") -> Predictions:
    """What people judged who had only the words, the voice or the face of Mandarin dialogue: probabilities of 0 or 1.

    The label is the verdict on everything together; groups are the pairs of speakers.

    Parameters
    ----------
    data: folder that holds ``emotiontalk/labels_open.csv`` and ``labels_test.csv``, or that folder itself.
    part: "train", "dev" or "test".

    Raises
    ------
    DataError: the file is missing or does not fit.
    """
    part = split_name(part)
    path = _place_of(data, "emotiontalk", "labels_test.csv" if part == "test" else "labels_open.csv")
    table = read_table(path, ["dialogue", "split", *EMOTIONTALK_MODALITIES])
    _refuse_missing(table, ["dialogue", "label", *EMOTIONTALK_MODALITIES], path)
    if part != "test":
        _refuse_missing(table, ["split"], path)
        table = table[table["split"].astype(str).map(find_split) == part].reset_index(drop=True)
        if table.empty:
            raise DataError(f"{path} holds no row whose split is {part!r}")
    verdicts = table[list(EMOTIONTALK_MODALITIES)].to_numpy(dtype=str)
    labels = EMOTIONTALK_LABELS
    unknown = sorted({*verdicts.ravel(), *table["label"].astype(str)} - {*labels, *GAPS})
    if unknown:
        raise DataError(f"{path}: {str(unknown[0])!r} is none of the labels {', '.join(labels)}")
    P = (verdicts[:, :, None] == np.array(labels)).astype(float)
    P[np.isin(verdicts, GAPS)] = np.nan
    pairs = table["dialogue"].astype(str).str.split("/").str[0].to_numpy()
    return _own_table(table, path, EMOTIONTALK_MODALITIES, labels, P, pairs)


def _place_of(data: Path, folder: str, name: str) -> Path:
    found = next((path for path in (data / folder / name, data / name) if path.is_file()), None)
    if found is None:
        raise DataError(f"{data / folder / name} is missing")
    return found


def _refuse_missing(table: pd.DataFrame, columns: Sequence[str], path: Path) -> None:
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; its columns: {_listed(table.columns)}")


def _own_table(
    table: pd.DataFrame,
    path: Path,
    modalities: tuple[str, ...],
    labels: tuple[str, ...],
    P: np.ndarray,
    groups: np.ndarray,
) -> Predictions:
    """Predictions of one table that holds all modalities, ids, labels and groups."""
    ids = tuple(_ids(table, path, None))
    truth = Targets(path, dict(zip(ids, table["label"].astype(str), strict=True)), dict(zip(ids, groups, strict=True)))
    y, _ = _columns_of(truth, ids, labels)
    return Predictions(ids, modalities, labels, P, y, np.asarray(groups))
