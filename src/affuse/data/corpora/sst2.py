"""SST-2: sentences of English film reviews (Socher et al. 2013, aclanthology.org/D13-1170)."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from affuse.data.corpora.base import Corpus, Dataset, existing, find_folder, is_called
from affuse.labels import LabelSpace

__all__ = ["CORPUS", "POLARITY", "read_sst2"]

POLARITY = LabelSpace("polarity", ("negative", "positive"))

_FILES = {"train": "train.tsv", "dev": "dev.tsv", "test": "test.tsv"}


def read_sst2(data: Path, split: str) -> Dataset:
    """Read the sentences of one split."""
    path = existing(find_folder(data, "sst2", "*.tsv") / _FILES[split])
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row]
    return Dataset(
        name="sst2",
        modality="text",
        labels=POLARITY,
        inputs=[row[0] for row in rows],
        targets=np.array([int(row[1]) for row in rows], dtype=int),
        groups=np.arange(len(rows)),
        language="en",
    )


CORPUS = Corpus("sst2", read_sst2, "text", "research use", lies_in=is_called("sst2"))
