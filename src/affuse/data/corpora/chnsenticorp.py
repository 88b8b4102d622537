"""ChnSentiCorp: hotel, book and computer reviews (Tan & Zhang 2008, doi:10.1016/j.eswa.2007.05.028)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from affuse.data.corpora.base import Corpus, Dataset, existing, find_folder, is_called
from affuse.data.corpora.chinese import reviews

__all__ = ["CORPUS", "read_chnsenticorp"]

_FILES = {"train": "train.csv", "dev": "validation.csv", "test": "test.csv"}


def read_chnsenticorp(data: Path, split: str) -> Dataset:
    """Read the reviews of one split."""
    path = existing(find_folder(data, "chnsenticorp", "*.csv") / _FILES[split])
    return reviews("chnsenticorp", pd.read_csv(path), "text")


CORPUS = Corpus("chnsenticorp", read_chnsenticorp, "text", "research use", lies_in=is_called("chnsenticorp"))
