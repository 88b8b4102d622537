"""waimai_10k: Chinese reviews of food delivery."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from affuse.data.corpora.base import Corpus, Dataset, find_folder, holds
from affuse.data.corpora.chinese import require_train, reviews

__all__ = ["CORPUS", "read_waimai"]


def read_waimai(data: Path, split: str) -> Dataset:
    """Read the reviews; the corpus has no split but train."""
    require_train("waimai_10k", split)
    return reviews("waimai_10k", pd.read_csv(find_folder(data, "waimai_10k", "*.csv") / "waimai_10k.csv"), "review")


CORPUS = Corpus("waimai_10k", read_waimai, "text", lies_in=holds("waimai_10k.csv"), open_splits=("train",))
