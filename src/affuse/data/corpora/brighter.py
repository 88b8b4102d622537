"""BRIGHTER: posts in 28 languages with the emotions that annotators saw in them (Muhammad et al. 2025).

arXiv:2502.11926; SemEval-2025 task 11. A row may be marked with several emotions; one without any is neutral.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from affuse.data.corpora.base import Corpus, Dataset, existing, find_folder
from affuse.data.corpora.chinese import emotions

__all__ = ["CORPUS", "LANGUAGES", "MARKS", "read_brighter", "read_marks"]

_COLUMNS = {
    "anger": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "joy": "happiness",
    "sadness": "sadness",
    "surprise": "surprise",
}
MARKS = tuple(_COLUMNS.values())
"""The emotions that a row is marked with, by the common names."""

LANGUAGES = (
    "afr",
    "amh",
    "arq",
    "ary",
    "chn",
    "deu",
    "eng",
    "esp",
    "hau",
    "hin",
    "ibo",
    "kin",
    "mar",
    "orm",
    "pcm",
    "ptbr",
    "ptmz",
    "ron",
    "rus",
    "som",
    "sun",
    "swa",
    "swe",
    "tat",
    "tir",
    "ukr",
    "vmw",
    "yor",
)
"""Its languages, as its files are called: ISO 639-3, but chn, ptbr (of Brazil) and ptmz (of Mozambique)."""


def read_marks(data: Path, split: str, language: str) -> tuple[list[str], np.ndarray]:
    """Posts of one split in one language, and which emotions they are marked with.

    Parameters
    ----------
    data : Path
        Folder that holds the corpora, or the folder of this one.
    split : str
        "train", "dev" or "test".
    language : str
        One of `LANGUAGES`.

    Returns
    -------
    texts : list of n str
    marks : array of int, shape (n, 6)
        Over `MARKS`: 1 seen, 0 not seen, -1 where annotators of the language were not asked.

    Raises
    ------
    DataError
        If the file is missing.
    """
    table = pd.read_csv(existing(find_folder(data, "brighter", "*/chn.csv") / split / f"{language}.csv"))
    marks = table.reindex(columns=list(_COLUMNS)).fillna(-1).to_numpy(dtype=int)
    return table["text"].astype(str).tolist(), marks


def read_brighter(data: Path, split: str) -> Dataset:
    """Read the Chinese posts of one split with a single emotion, or with none, which is neutral."""
    texts, marks = read_marks(data, split, "chn")
    single = (marks > 0).sum(axis=1) <= 1
    names = np.array([*MARKS, "neutral"])
    labels = names[np.where((marks > 0).any(axis=1), marks.argmax(axis=1), len(MARKS))]
    places = np.arange(len(texts))
    return emotions("brighter_chn", pd.Series(texts)[single], pd.Series(labels)[single], pd.Series(places)[single])


CORPUS = Corpus("brighter_chn", read_brighter, "text")
