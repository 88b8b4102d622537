"""BRIGHTER: posts in 28 languages with the emotions that annotators saw in them (Muhammad et al. 2025).

arXiv:2502.11926; SemEval-2025 task 11. A row may be marked with several emotions; one without any is neutral.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from affuse.data.corpora.base import Corpus, Dataset, existing, find_folder
from affuse.data.corpora.chinese import emotions
from affuse.errors import DataError
from affuse.labels import EKMAN

__all__ = ["CHINESE", "CORPUS", "LANGUAGES", "MARKS", "read_brighter", "read_brighter_chn", "read_marks"]

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
    """Read the posts of one split in all languages that are there; a row without any mark is neutral.

    The target of a row with several marks is one of them; ``marks`` has all.
    """
    folder = find_folder(data, "brighter", "*/chn.csv")
    here = [language for language in LANGUAGES if (folder / split / f"{language}.csv").is_file()]
    if not here:
        raise DataError(f"no posts of the {split} split of brighter lie in {folder}")
    parts = {language: read_marks(data, split, language) for language in here}
    marks = np.concatenate([found for _, found in parts.values()])
    return Dataset(
        name="brighter",
        modality="text",
        labels=EKMAN,
        inputs=[text for texts, _ in parts.values() for text in texts],
        targets=np.array([EKMAN.index(label) for label in _labels(marks)]),
        groups=np.arange(len(marks)),
        columns={"language": [language for language, (texts, _) in parts.items() for _ in texts]},
        marks=marks,
    )


def read_brighter_chn(data: Path, split: str) -> Dataset:
    """Read the Chinese posts of one split with a single emotion, or with none, which is neutral."""
    texts, marks = read_marks(data, split, "chn")
    single = (marks > 0).sum(axis=1) <= 1
    rows = pd.DataFrame({"text": texts, "label": _labels(marks)})[single]
    return emotions("brighter_chn", rows["text"], rows["label"], pd.Series(rows.index))


def _labels(marks: np.ndarray) -> list[str]:
    """The first mark of every row, or neutral."""
    seen = marks > 0
    places = np.where(seen.any(axis=1), seen.argmax(axis=1), len(MARKS))
    return [(*MARKS, "neutral")[place] for place in places]


CORPUS = Corpus("brighter", read_brighter, "text", "CC BY 4.0")
CHINESE = Corpus("brighter_chn", read_brighter_chn, "text", "CC BY 4.0")
