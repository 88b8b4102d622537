"""Corpora of recordings with tables beside them: ``labels_open.csv`` of what is open, ``labels_test.csv`` of the test.

Each table has the columns path, label and speaker, and perhaps more. Where nothing of the open part is learned from,
all of it is ``dev``; otherwise the speakers named in ``dev_speakers`` are ``dev`` and the others ``train``.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from affuse.data.corpora.base import Dataset, existing, find_folder
from affuse.errors import DataError
from affuse.labels import EKMAN, LabelSpace

__all__ = ["read_labelled"]

_TABLES = {"train": "labels_open.csv", "dev": "labels_open.csv", "test": "labels_test.csv"}
_NEEDED = ("path", "label", "speaker")


def read_labelled(
    data: Path,
    name: str,
    split: str,
    modality: str,
    language: str | None = None,
    dev_speakers: frozenset[str] = frozenset(),
) -> Dataset:
    """Read the rows of one split: recordings, labels of `EKMAN` as far as they occur, speakers as groups.

    Raises DataError where the table of the split is missing (``train`` has none without ``dev_speakers``), lacks a
    column, or names a label that is none of `EKMAN`, or a recording that is not there.
    """
    if split == "train" and not dev_speakers:
        raise DataError(f"{name} has no split {split!r}: its open part is 'dev'")
    path = existing(find_folder(data, name, *_TABLES.values()) / _TABLES[split])
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not set(_NEEDED) <= set(rows[0]):
        raise DataError(f"{path} needs rows with the columns {', '.join(_NEEDED)}")
    if dev_speakers and split != "test":
        rows = [row for row in rows if (row["speaker"] in dev_speakers) == (split == "dev")]
    paths = [path.parent / row["path"] for row in rows]
    lost = next((p for p in paths if not p.is_file()), None)
    if lost is not None:
        raise DataError(f"{lost} is missing, which {path.name} names")
    for row in rows:
        EKMAN.index(row["label"])
    found = {row["label"] for row in rows}
    labels = LabelSpace(name, tuple(label for label in EKMAN.labels if label in found))
    return Dataset(
        name=name,
        modality=modality,
        labels=labels,
        inputs=paths,
        targets=np.array([labels.index(row["label"]) for row in rows], dtype=int),
        groups=np.array([row["speaker"] for row in rows]),
        language=language,
        columns={key: [row[key] for row in rows] for key in rows[0] if key not in ("path", "label")},
    )
