"""CMU-MOSI: utterances of English video reviews (Zadeh et al. 2016, arXiv:1606.06259)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from affuse.data.corpora.base import Dataset, find_folder, register
from affuse.data.corpora.sst2 import POLARITY
from affuse.errors import DataError

__all__ = ["read_mosi"]

_FILES = {"train": "train", "dev": "holdout", "test": "test"}


@register("mosi")
def read_mosi(data: Path, split: str) -> Dataset:
    """Read the transcripts of one split; groups are the videos."""
    path = find_folder(data, "mosi", "*_utterances.csv") / f"{_FILES[split]}_utterances.csv"
    if not path.is_file():
        raise DataError(f"{path} is missing")
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
