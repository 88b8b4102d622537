"""CPED: utterances of Chinese TV series (Chen et al. 2022, arXiv:2205.14727)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from affuse.data.corpora.base import Corpus, Dataset, existing, find_folder
from affuse.data.corpora.chinese import emotions

__all__ = ["CORPUS", "read_cped"]

# The finer labels by the common one that is nearest; "negative-other" and "positive-other" have none.
_NAMES = {
    "anger": "anger",
    "astonished": "surprise",
    "depress": "sadness",
    "disgust": "disgust",
    "fear": "fear",
    "grateful": "happiness",
    "happy": "happiness",
    "neutral": "neutral",
    "relaxed": "happiness",
    "sadness": "sadness",
    "worried": "fear",
}
_DEV_SERIES = 2  # of those that are open, by number


def read_cped(data: Path, split: str) -> Dataset:
    """Read the utterances of one split whose emotion is among the common ones; groups are the series."""
    folder = find_folder(data, "cped", "dialogues_*.csv")
    table = pd.read_csv(existing(folder / ("dialogues_test.csv" if split == "test" else "dialogues_open.csv")))
    if split != "test":
        dev = table["TV_ID"].isin(sorted(table["TV_ID"].unique())[:_DEV_SERIES])
        table = table[dev if split == "dev" else ~dev]
    table = table[table["Utterance"].notna() & table["Emotion"].isin(list(_NAMES))]
    return emotions("cped", table["Utterance"], table["Emotion"].map(_NAMES), table["TV_ID"])


CORPUS = Corpus("cped", read_cped, "text")
