"""SMP2020-EWECT: Chinese microblogs about the virus and about everyday life (https://smp2020ewect.github.io)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from affuse.data.corpora.base import Corpus, Dataset, existing, find_folder, holds
from affuse.data.corpora.chinese import require_train
from affuse.labels import SMP2020

__all__ = ["EVERYDAY", "VIRUS", "read_everyday", "read_virus"]

_FILES = {"train": "virus_train.txt", "dev": "virus_eval_labeled.txt", "test": "virus_test_labeled.txt"}
_NAMES = {"angry": "anger", "happy": "happiness", "sad": "sadness"}


def read_virus(data: Path, split: str) -> Dataset:
    """Read the microblogs about the virus."""
    return _microblogs("smp2020_ewect", data, _FILES[split])


def read_everyday(data: Path, split: str) -> Dataset:
    """Read the everyday microblogs; they are no part of the virus task and serve training only."""
    require_train("smp2020_usual", split)
    return _microblogs("smp2020_usual", data, "usual_eval_labeled.txt")


def _microblogs(name: str, data: Path, file: str) -> Dataset:
    path = existing(find_folder(data, "smp2020_ewect", "virus_*.txt", "usual_*.txt") / file)
    rows = json.loads(path.read_text(encoding="utf-8-sig"))
    return Dataset(
        name=name,
        modality="text",
        labels=SMP2020,
        inputs=[row["content"] for row in rows],
        targets=np.array([SMP2020.index(_NAMES.get(row["label"], row["label"])) for row in rows], dtype=int),
        groups=np.arange(len(rows)),
        language="zh",
    )


VIRUS = Corpus("smp2020_ewect", read_virus, "text", "research use", lies_in=holds("virus_*.txt"))
EVERYDAY = Corpus("smp2020_usual", read_everyday, "text", open_splits=("train",))
