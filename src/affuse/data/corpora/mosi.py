"""CMU-MOSI: utterances of English video reviews (Zadeh et al. 2016, arXiv:1606.06259)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from affuse.data.corpora.base import Corpus, Dataset, existing, find_folder, holds
from affuse.data.corpora.sst2 import POLARITY

__all__ = ["CORPUS", "read_mosi"]

_FILES = {"train": "train", "dev": "holdout", "test": "test"}


def read_mosi(data: Path, split: str) -> Dataset:
    """Read the transcripts of one split; groups are the videos."""
    path = existing(find_folder(data, "mosi", "*_utterances.csv") / f"{_FILES[split]}_utterances.csv")
    table = pd.read_csv(path)
    return Dataset(
        name="mosi",
        modality="text",
        labels=POLARITY,
        inputs=table["text"].astype(str).tolist(),
        targets=table["label"].to_numpy(dtype=int),
        groups=table["video"].to_numpy(),
        language="en",
    )


CORPUS = Corpus("mosi", read_mosi, "text", "research use", lies_in=holds("*_utterances.csv"))
