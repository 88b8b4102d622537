"""Chinese words: microblogs, dialogues and posts for emotions, ChnSentiCorp and shop reviews for polarity."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd

from affuse.data.corpora.base import Dataset, find_folder, register
from affuse.data.corpora.sst2 import POLARITY
from affuse.data.splits import split_name
from affuse.errors import DataError
from affuse.labels import EKMAN, SMP2020

__all__ = [
    "read_brighter",
    "read_chnsenticorp",
    "read_cped",
    "read_emotiontalk_words",
    "read_online_shopping",
    "read_smp2020",
    "read_smp2020_usual",
    "read_waimai",
]

_SMP_FILES = {"train": "virus_train.txt", "dev": "virus_eval_labeled.txt", "test": "virus_test_labeled.txt"}
_SMP_NAMES = {"angry": "anger", "happy": "happiness", "sad": "sadness"}
# CPED's finer labels by the common one that is nearest; "negative-other" and "positive-other" have none.
_CPED_NAMES = {
    "anger": "anger",
    "astonished": "surprise",
    "depress": "sadness",
    "disgust": "disgust",
    "fear": "fear",
    "grateful": "happiness",
    "happy": "happiness",
    "neutral": "neutral",
    "relaxed": "happiness",
    "sadness": "sadness",
    "worried": "fear",
}
_TALK_NAMES = {
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "happy": "happiness",
    "neutral": "neutral",
    "sad": "sadness",
    "surprised": "surprise",
}
_BRIGHTER_NAMES = {name: "happiness" if name == "joy" else name for name in ("anger", "disgust", "fear", "joy")}
_BRIGHTER_NAMES |= {"sadness": "sadness", "surprise": "surprise"}
_DEV_SERIES = 2  # of those that are open, by number
_CHN_FILES = {"train": "train.csv", "dev": "validation.csv", "test": "test.csv"}


@register("smp2020_ewect")
def read_smp2020(data: Path, split: str) -> Dataset:
    """Read the microblogs about the virus (SMP2020-EWECT, https://smp2020ewect.github.io)."""
    return _microblogs("smp2020_ewect", data, _SMP_FILES[split])


@register("smp2020_usual")
def read_smp2020_usual(data: Path, split: str) -> Dataset:
    """Read the everyday microblogs of SMP2020-EWECT; they are no part of the virus task and serve training only."""
    _require_train("smp2020_usual", split)
    return _microblogs("smp2020_usual", data, "usual_eval_labeled.txt")


def _microblogs(name: str, data: Path, file: str) -> Dataset:
    path = find_folder(data, "smp2020_ewect", "virus_*.txt", "usual_*.txt") / file
    if not path.is_file():
        raise DataError(f"{path} is missing")
    rows = json.loads(path.read_text(encoding="utf-8-sig"))
    return Dataset(
        name=name,
        modality="text",
        labels=SMP2020,
        inputs=[row["content"] for row in rows],
        targets=np.array([SMP2020.index(_SMP_NAMES.get(row["label"], row["label"])) for row in rows], dtype=int),
        groups=np.arange(len(rows)),
        language="zh",
    )


@register("emotiontalk_words")
def read_emotiontalk_words(data: Path, split: str) -> Dataset:
    """Read the words of EmotionTalk's Mandarin dialogues, with the emotion that people gave to the words alone."""
    folder = find_folder(data, "emotiontalk", "labels_*.csv")
    table = _table(folder, "labels_test.csv" if split == "test" else "labels_open.csv")
    own = table["split"].map(split_name) == split
    table = table[own & table["text"].notna() & table["words"].isin(list(_TALK_NAMES))]
    return _emotions("emotiontalk_words", table["text"], table["words"].map(_TALK_NAMES), table["dialogue"])


@register("cped")
def read_cped(data: Path, split: str) -> Dataset:
    """Read the utterances of CPED (Chen et al. 2022, arXiv:2205.14727) whose emotion is among the common."""
    folder = find_folder(data, "cped", "dialogues_*.csv")
    table = _table(folder, "dialogues_test.csv" if split == "test" else "dialogues_open.csv")
    if split != "test":
        dev = table["TV_ID"].isin(sorted(table["TV_ID"].unique())[:_DEV_SERIES])
        table = table[dev if split == "dev" else ~dev]
    table = table[table["Utterance"].notna() & table["Emotion"].isin(list(_CPED_NAMES))]
    return _emotions("cped", table["Utterance"], table["Emotion"].map(_CPED_NAMES), table["TV_ID"])


@register("brighter_chn")
def read_brighter(data: Path, split: str) -> Dataset:
    """Read BRIGHTER's Chinese posts (Muhammad et al. 2025, arXiv:2502.11926) of a single emotion, or of none."""
    folder = find_folder(data, "brighter", "*/chn.csv")
    table = _table(folder, f"{split}/chn.csv")
    marks = table[list(_BRIGHTER_NAMES)].to_numpy()
    single = marks.sum(axis=1) <= 1
    names = np.array([*_BRIGHTER_NAMES.values(), "neutral"])
    labels = names[np.where(marks.any(axis=1), marks.argmax(axis=1), len(_BRIGHTER_NAMES))]
    return _emotions("brighter_chn", table["text"][single], pd.Series(labels[single]), table["id"][single])


def _table(folder: Path, file: str) -> pd.DataFrame:
    if not (folder / file).is_file():
        raise DataError(f"{folder / file} is missing")
    return pd.read_csv(folder / file)


def _emotions(name: str, texts: pd.Series, labels: pd.Series, groups: pd.Series) -> Dataset:
    return Dataset(
        name=name,
        modality="text",
        labels=EKMAN,
        inputs=texts.astype(str).tolist(),
        targets=np.array([EKMAN.index(label) for label in labels], dtype=int),
        groups=groups.to_numpy(),
        language="zh",
    )


@register("chnsenticorp")
def read_chnsenticorp(data: Path, split: str) -> Dataset:
    """Read the hotel, book and computer reviews of ChnSentiCorp (Tan & Zhang 2008, doi:10.1016/j.eswa.2007.05.028)."""
    path = find_folder(data, "chnsenticorp", "*.csv") / _CHN_FILES[split]
    if not path.is_file():
        raise DataError(f"{path} is missing")
    return _reviews("chnsenticorp", pd.read_csv(path), "text")


@register("waimai_10k")
def read_waimai(data: Path, split: str) -> Dataset:
    """Read the reviews of food delivery; the corpus has no parts but train."""
    _require_train("waimai_10k", split)
    return _reviews("waimai_10k", pd.read_csv(find_folder(data, "waimai_10k", "*.csv") / "waimai_10k.csv"), "review")


@register("online_shopping_10_cats")
def read_online_shopping(data: Path, split: str) -> Dataset:
    """Read the shop reviews of ten categories; the corpus has no parts but train."""
    _require_train("online_shopping_10_cats", split)
    folder = find_folder(data, "online_shopping_10_cats", "*.zip")
    name = "online_shopping_10_cats"
    with ZipFile(folder / f"{name}.zip") as archive, archive.open(f"{name}.csv") as file:
        table = pd.read_csv(file)
    return _reviews("online_shopping_10_cats", table, "review", groups=table["cat"].to_numpy())


def _require_train(name: str, split: str) -> None:
    if split != "train":
        raise DataError(f"{name} has no {split} split; it serves training only")


def _reviews(name: str, table: pd.DataFrame, column: str, groups: np.ndarray | None = None) -> Dataset:
    return Dataset(
        name=name,
        modality="text",
        labels=POLARITY,
        inputs=table[column].fillna("").astype(str).tolist(),
        targets=table["label"].to_numpy(dtype=int),
        groups=np.arange(len(table)) if groups is None else groups,
        language="zh",
    )
