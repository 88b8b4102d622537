"""BRIGHTER: Chinese posts with the emotions that annotators saw in them (Muhammad et al. 2025, arXiv:2502.11926)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from affuse.data.corpora.base import Corpus, Dataset, existing, find_folder
from affuse.data.corpora.chinese import emotions

__all__ = ["CORPUS", "read_brighter"]

_NAMES = {
    "anger": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "joy": "happiness",
    "sadness": "sadness",
    "surprise": "surprise",
}


def read_brighter(data: Path, split: str) -> Dataset:
    """Read the posts of one split with a single emotion, or with none, which is neutral."""
    table = pd.read_csv(existing(find_folder(data, "brighter", "*/chn.csv") / split / "chn.csv"))
    marks = table[list(_NAMES)].to_numpy()
    single = marks.sum(axis=1) <= 1
    names = np.array([*_NAMES.values(), "neutral"])
    labels = names[np.where(marks.any(axis=1), marks.argmax(axis=1), len(_NAMES))]
    return emotions("brighter_chn", table["text"][single], pd.Series(labels[single]), table["id"][single])


CORPUS = Corpus("brighter_chn", read_brighter, "text")
