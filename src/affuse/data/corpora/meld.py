"""MELD: utterances of TV dialogues (Poria et al. 2019, arXiv:1810.02508)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from affuse.data.corpora.base import Corpus, Dataset, existing, find_folder, holds
from affuse.labels import EKMAN, SENTIMENT, LabelSpace

__all__ = ["CORPUS", "SENTIMENTS", "read_meld", "read_meld_sentiment"]

_FILES = {"train": "train_sent_emo.csv", "dev": "dev_sent_emo.csv", "test": "test_sent_emo.csv"}
_NAMES = {"joy": "happiness"}


def read_meld(data: Path, split: str) -> Dataset:
    """Read the utterances of one split with their seven emotions."""
    return _read(data, split, "Emotion", EKMAN)


def read_meld_sentiment(data: Path, split: str) -> Dataset:
    """Read the utterances of one split with their three sentiments."""
    return _read(data, split, "Sentiment", SENTIMENT)


def _read(data: Path, split: str, column: str, labels: LabelSpace) -> Dataset:
    path = existing(find_folder(data, "meld", "*_sent_emo.csv") / _FILES[split])
    table = pd.read_csv(path)
    return Dataset(
        name="meld" if labels is EKMAN else "meld_sentiment",
        modality="text",
        labels=labels,
        inputs=[_repaired(text) for text in table["Utterance"].astype(str)],
        targets=np.array([labels.index(_NAMES.get(v, v)) for v in table[column].astype(str)], dtype=int),
        groups=table["Dialogue_ID"].to_numpy(),
        language="en",
    )


def _repaired(text: str) -> str:
    """Undo the corpus' broken characters: Windows-1252 punctuation that was read as Latin-1."""
    try:
        return text.encode("latin-1").decode("cp1252")
    except UnicodeError:
        return text


CORPUS = Corpus("meld", read_meld, "text", "GPL-3.0", lies_in=holds("*_sent_emo.csv"))
SENTIMENTS = Corpus("meld_sentiment", read_meld_sentiment, "text", "GPL-3.0")
