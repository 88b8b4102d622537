"""GoEmotions in Ekman's grouping: English comments (Demszky et al. 2020, arXiv:2005.00547)."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from affuse.data.corpora.base import Corpus, Dataset, existing, find_folder, holds
from affuse.labels import EKMAN

__all__ = ["CORPUS", "read_goemotions"]

_FILES = {"train": "train.tsv", "dev": "dev.tsv", "test": "test.tsv"}
_NAMES = {"joy": "happiness"}


def read_goemotions(data: Path, split: str) -> Dataset:
    """Read the rows of one split that carry a single one of the seven labels."""
    folder = find_folder(data, "goemotions", "ekman/*.tsv") / "ekman"
    path = existing(folder / _FILES[split])
    order = _label_order(folder)
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if "," not in row[1]]
    return Dataset(
        name="goemotions",
        modality="text",
        labels=EKMAN,
        inputs=[row[0] for row in rows],
        targets=np.array([order[int(row[1])] for row in rows], dtype=int),
        groups=np.array([row[2] for row in rows]),
        language="en",
    )


def _label_order(folder: Path) -> list[int]:
    path = folder / "labels.txt"
    # A folder that holds the test part alone may come without the list; this is the order of the published files.
    text = path.read_text(encoding="utf-8") if path.is_file() else "anger disgust fear joy neutral sadness surprise"
    return [EKMAN.index(_NAMES.get(name, name)) for name in text.split()]


CORPUS = Corpus("goemotions", read_goemotions, "text", "Apache-2.0", lies_in=holds("ekman/*.tsv"))
