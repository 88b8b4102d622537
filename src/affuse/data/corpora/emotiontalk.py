"""EmotionTalk: the words of Mandarin dialogues, with the emotion that people gave to the words alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from affuse.data.corpora.base import Corpus, Dataset, existing, find_folder
from affuse.data.corpora.chinese import emotions
from affuse.data.splits import find_split

__all__ = ["WORDS", "read_words"]

_NAMES = {
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "happy": "happiness",
    "neutral": "neutral",
    "sad": "sadness",
    "surprised": "surprise",
}


def read_words(data: Path, split: str) -> Dataset:
    """Read the utterances of one split that have words and a label for them."""
    folder = find_folder(data, "emotiontalk", "labels_*.csv")
    table = pd.read_csv(existing(folder / ("labels_test.csv" if split == "test" else "labels_open.csv")))
    own = table["split"].astype(str).map(find_split) == split
    table = table[own & table["text"].notna() & table["words"].isin(list(_NAMES))]
    return emotions("emotiontalk_words", table["text"], table["words"].map(_NAMES), table["dialogue"])


WORDS = Corpus("emotiontalk_words", read_words, "text")
