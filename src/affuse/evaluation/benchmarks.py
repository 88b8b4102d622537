"""Ways to measure that ``affuse compare`` knows: published outputs, CMU-MOSI, what people judged, your own files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse.data.corpora.base import existing_folder
from affuse.data.splits import split_name
from affuse.errors import ConfigError, DataError
from affuse.evaluation.folders import data_folder
from affuse.evaluation.protocol import Fold, PredictionData, Protocol, group_folds, leave_one_part_out, rows_of

if TYPE_CHECKING:
    from types import ModuleType

    from affuse.data.predictions import Predictions

__all__ = ["DATASETS", "dataset_protocol", "manifest_protocol", "predictions_protocol"]

LABELS_ROW = "labels"
_GROUP_FOLDS = 5
_SPLITS = ("dev", "test")


def dataset_protocol(
    name: str, data: str | Path | None, folds: Sequence[int] | None, split: str, seeds: Sequence[int]
) -> Protocol:
    """The protocol of a known dataset of predictions; see `affuse.compare` for the parameters.

    Raises ConfigError for an unknown one, DataError where files are missing.
    """
    if name not in DATASETS:
        raise ConfigError(
            f"unknown data set {name!r}; affuse compare knows {', '.join(DATASETS)}; use --manifest for your own"
        )
    split = split_name(split)
    if split not in _SPLITS:
        raise ConfigError(f"unknown split {split!r}; known: {', '.join(_SPLITS)}")
    return DATASETS[name](existing_folder(data_folder(data)), folds, split, seeds)


def _ravdess_posteriors(data: Path, folds: Sequence[int] | None, split: str, seeds: Sequence[int]) -> Protocol:
    from affuse.data.prediction_sets.ravdess_posteriors import read_ravdess_folds

    parts = read_ravdess_folds(data, "test", folds)
    first = next(iter(parts.values()))
    return Protocol(
        name="ravdess_posteriors",
        modalities=first.modalities,
        labels=first.labels,
        folds=leave_one_part_out({name: rows_of(part) for name, part in parts.items()}),
        note="each fold is fused by what is learned on the other folds' test files; groups are actors",
        alarms=tuple(_alarms_of_train_files(data, parts)),
    )


def _alarms_of_train_files(data: Path, unseen_parts: dict[str, Predictions]) -> list[str]:
    from affuse.data.prediction_sets.ravdess_posteriors import read_ravdess_folds

    try:
        fitted = read_ravdess_folds(data, "train", [int(name.removeprefix("fold")) for name in unseen_parts])
    except ConfigError:  # a folder may hold the test files alone
        return []
    seen, unseen = (
        PredictionData.concatenate([rows_of(part) for part in parts.values()]) for parts in (fitted, unseen_parts)
    )
    with _leaks_as_values() as leaks:
        found = leaks.leak_alarm(seen.P, seen.y, unseen.P, unseen.y, next(iter(unseen_parts.values())).modalities)
    return [f"leak alarm, train files, which are not used: {leak}" for leak in found]


@contextmanager
def _leaks_as_values() -> Iterator[ModuleType]:
    """The leak alarm without its warnings, since what it returns is printed."""
    from affuse.errors import LeakWarning
    from affuse.fusion.trust import leaks

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakWarning)
        yield leaks


def _mosi(data: Path, folds: Sequence[int] | None, split: str, seeds: Sequence[int]) -> Protocol:
    from affuse.evaluation.mosi import read_held_out

    _refuse_folds("mosi", folds)
    found = read_held_out(data, split)
    rows = PredictionData(found.P, found.y, found.groups)
    if split == "test":
        other = read_held_out(data, "dev")
        parts: tuple[Fold, ...] = (Fold("test", PredictionData(other.P, other.y, other.groups), rows),)
        how = "fused by what is learned on the hold-out videos"
    else:
        # The fuser has few held-out rows to learn on; leaving out one video at a time leaves it the most.
        parts = group_folds(rows, len(np.unique(rows.groups)))
        how = "each video is fused by what is learned on the other hold-out videos"
    note = f"experts are fitted on train, {how}; transcripts are read by {found.encoder}; groups are videos"
    alarms = tuple(_alarms_of_features(data, split))
    return Protocol(f"mosi, {split}", found.modalities, found.labels, parts, note, alarms)


def _alarms_of_features(data: Path, split: str) -> list[str]:
    from affuse.evaluation.mosi import read_features

    (X, y, groups), (X_new, y_new, _) = read_features(data, "train"), read_features(data, split)
    with _leaks_as_values() as leaks:
        found = leaks.leak_alarm_features(X, y, groups, X_new, y_new)
    return [f"leak alarm, train features, cross-validated: {leak}" for leak in found]


def _cremad_votes(data: Path, folds: Sequence[int] | None, split: str, seeds: Sequence[int]) -> Protocol:
    from affuse.data.prediction_sets.cremad_votes import read_cremad_votes

    _refuse_folds("cremad_votes", folds)
    known = read_cremad_votes(data, "open")
    rows = rows_of(known)
    if split == "test":
        parts: tuple[Fold, ...] = (Fold("test", rows, rows_of(_same_labels(read_cremad_votes(data, "test"), known))),)
        note = "the votes on the test actors are fused by what is learned on all others; groups are actors"
    else:
        n_splits = min(_GROUP_FOLDS, len(np.unique(rows.groups)))
        parts = group_folds(rows, n_splits, seeds)
        note = f"{n_splits} folds of actors, {len(seeds)} times; labels are what the actors meant, groups are actors"
    return Protocol(f"cremad_votes, {split}", known.modalities, known.labels, parts, note)


def _emotiontalk(data: Path, folds: Sequence[int] | None, split: str, seeds: Sequence[int]) -> Protocol:
    from affuse.data.prediction_sets.emotiontalk import read_emotiontalk

    _refuse_folds("emotiontalk", folds)
    known = read_emotiontalk(data, "train")
    found = read_emotiontalk(data, split)
    parts = (Fold(split, rows_of(known), rows_of(found)),)
    note = "verdicts of single people are fused by what is learned on the train dialogues; groups are pairs of speakers"
    return Protocol(f"emotiontalk, {split}", known.modalities, known.labels, parts, note)


def _refuse_folds(name: str, folds: Sequence[int] | None) -> None:
    if folds is not None:
        raise ConfigError(f"{name} has no numbered folds; leave out --folds")


def _same_labels(predictions: Predictions, known: Predictions) -> Predictions:
    from affuse.data.predictions import align

    return align(predictions, known.modalities, known.labels)


DATASETS: dict[str, Callable[[Path, Sequence[int] | None, str, Sequence[int]], Protocol]] = {
    "ravdess_posteriors": _ravdess_posteriors,
    "mosi": _mosi,
    "cremad_votes": _cremad_votes,
    "emotiontalk": _emotiontalk,
}


def manifest_protocol(path: Path, id_column: str | None, group_column: str | None, seeds: Sequence[int]) -> Protocol:
    """Anybody's predictions: a CSV with the columns modality, path and perhaps fold; the row "labels" names the truth.

    Paths are relative to the manifest. With folds, each is fused by what is learned on the others; without, rows are
    split by group. Raises DataError where the manifest or a file does not fit.
    """
    parts = _parts_of(path, id_column, group_column)
    first = next(iter(parts.values()))
    if len(parts) == 1:
        return predictions_protocol(first, seeds, path.name, group_column or "row")
    folds = leave_one_part_out({name: rows_of(part) for name, part in parts.items()})
    note = "each fold is fused by what is learned on the other folds"
    return Protocol(path.name, first.modalities, first.labels, folds, note)


def predictions_protocol(
    predictions: Predictions, seeds: Sequence[int], name: str = "predictions", unit: str = "group"
) -> Protocol:
    """Labelled rows cross-validated by group, once a seed. Raises DataError where no row has a true label."""
    rows = rows_of(predictions)
    n_splits = min(_GROUP_FOLDS, len(np.unique(rows.groups)))
    folds = group_folds(rows, n_splits, seeds)
    note = f"{n_splits} folds by {unit}, {len(seeds)} times"
    return Protocol(name, predictions.modalities, predictions.labels, folds, note)


def _parts_of(path: Path, id_column: str | None, group_column: str | None) -> dict[str, Predictions]:
    from affuse.data.predictions import align, join, read_predictions, read_targets
    from affuse.tables import read_table

    table = read_table(path, ["modality", "path", "fold"])
    missing = [c for c in ("modality", "path") if c not in table.columns]
    if missing:
        raise DataError(
            f"{path} has no column {missing[0]!r}; a manifest has the columns modality, path and perhaps fold"
        )
    rows = [(str(r.modality), path.parent / str(r.path), str(getattr(r, "fold", ""))) for r in table.itertuples()]
    truth = [place for modality, place, _ in rows if modality == LABELS_ROW]
    if len(truth) != 1:
        raise DataError(
            f"{path} needs one row whose modality is {LABELS_ROW!r}, with the table of true labels; got {len(truth)}"
        )
    targets = read_targets(truth[0], id_column=id_column, group_column=group_column)
    files: dict[str, list[Any]] = {}
    for modality, place, fold in rows:
        if modality != LABELS_ROW:
            found = read_predictions(place, id_column=id_column, group_column=group_column, modality=modality)
            files.setdefault(fold, []).append(found)
    if not files:
        raise DataError(f"{path} names no predictions besides the labels")
    parts = {fold: join(tables, targets) for fold, tables in files.items()}
    modalities = tuple(dict.fromkeys(m for part in parts.values() for m in part.modalities))
    labels = next(iter(parts.values())).labels
    return {fold: align(part, modalities, labels) for fold, part in parts.items()}
