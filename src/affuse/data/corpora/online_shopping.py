"""online_shopping_10_cats: Chinese shop reviews of ten categories."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import pandas as pd

from affuse.data.corpora.base import Corpus, Dataset, find_folder, holds
from affuse.data.corpora.chinese import require_train, reviews

__all__ = ["CORPUS", "read_online_shopping"]

_NAME = "online_shopping_10_cats"


def read_online_shopping(data: Path, split: str) -> Dataset:
    """Read the reviews; the corpus has no split but train. Groups are the categories."""
    require_train(_NAME, split)
    folder = find_folder(data, _NAME, "*.zip")
    with ZipFile(folder / f"{_NAME}.zip") as archive, archive.open(f"{_NAME}.csv") as file:
        table = pd.read_csv(file)
    return reviews(_NAME, table, "review", groups=table["cat"].to_numpy())


CORPUS = Corpus(_NAME, read_online_shopping, "text", lies_in=holds(f"{_NAME}.zip"), open_splits=("train",))
