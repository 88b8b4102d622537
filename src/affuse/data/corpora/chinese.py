"""What readers of Chinese texts share."""

from __future__ import annotations

import numpy as np
import pandas as pd

from affuse.data.corpora.base import Dataset
from affuse.data.corpora.sst2 import POLARITY
from affuse.errors import DataError
from affuse.labels import EKMAN

__all__ = ["emotions", "require_train", "reviews"]


def emotions(name: str, texts: pd.Series, labels: pd.Series, groups: pd.Series) -> Dataset:
    """Texts labelled with the seven emotions of `EKMAN`."""
    return Dataset(
        name=name,
        modality="text",
        labels=EKMAN,
        inputs=texts.astype(str).tolist(),
        targets=np.array([EKMAN.index(label) for label in labels], dtype=int),
        groups=groups.to_numpy(),
        language="zh",
    )


def reviews(name: str, table: pd.DataFrame, column: str, groups: np.ndarray | None = None) -> Dataset:
    """Reviews in ``column`` whose column ``label`` is 0 (negative) or 1 (positive)."""
    return Dataset(
        name=name,
        modality="text",
        labels=POLARITY,
        inputs=table[column].fillna("").astype(str).tolist(),
        targets=table["label"].to_numpy(dtype=int),
        groups=np.arange(len(table)) if groups is None else groups,
        language="zh",
    )


def require_train(name: str, split: str) -> None:
    """Raise DataError for any other split of a corpus that has none but train."""
    if split != "train":
        raise DataError(f"{name} has no {split} split; it serves training only")
