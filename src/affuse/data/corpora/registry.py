"""Corpora by name: those of affuse, and those that other packages register as ``affuse.corpora``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from affuse.data.corpora.base import Corpus, Dataset, existing_folder
from affuse.data.splits import split_name
from affuse.errors import ConfigError, DataError
from affuse.registry import Registry

__all__ = ["CORPORA", "find", "load", "load_open", "names", "recognise"]

CORPORA = Registry(
    "corpus",
    {
        "brighter": "affuse.data.corpora.brighter:CORPUS",
        "brighter_chn": "affuse.data.corpora.brighter:CHINESE",
        "chnsenticorp": "affuse.data.corpora.chnsenticorp:CORPUS",
        "cped": "affuse.data.corpora.cped:CORPUS",
        "emodb": "affuse.data.corpora.emodb:CORPUS",
        "emotiontalk_words": "affuse.data.corpora.emotiontalk:WORDS",
        "ferplus": "affuse.data.corpora.ferplus:CORPUS",
        "ferplus_majority": "affuse.data.corpora.ferplus:MAJORITY",
        "goemotions": "affuse.data.corpora.goemotions:CORPUS",
        "javanese_av": "affuse.data.corpora.javanese:VIDEO",
        "javanese_speech": "affuse.data.corpora.javanese:SPEECH",
        "meld": "affuse.data.corpora.meld:CORPUS",
        "meld_sentiment": "affuse.data.corpora.meld:SENTIMENTS",
        "mosi": "affuse.data.corpora.mosi:CORPUS",
        "online_shopping_10_cats": "affuse.data.corpora.online_shopping:CORPUS",
        "ravdess": "affuse.data.corpora.ravdess:CORPUS",
        "smp2020_ewect": "affuse.data.corpora.smp2020:VIRUS",
        "smp2020_usual": "affuse.data.corpora.smp2020:EVERYDAY",
        "sst2": "affuse.data.corpora.sst2:CORPUS",
        "urdu_speech": "affuse.data.corpora.urdu:CORPUS",
        "waimai_10k": "affuse.data.corpora.waimai:CORPUS",
    },
    group="affuse.corpora",
)


def names(modality: str | None = None) -> list[str]:
    """Names of all corpora that can be loaded, or of those of one modality.

    Parameters
    ----------
    modality : str, optional
        "text", "voice", "face" or "video".

    Returns
    -------
    list of str

    Examples
    --------
    >>> names("face")
    ['ferplus', 'ferplus_majority']
    """
    return [name for name in CORPORA.names() if modality is None or find(name).modality == modality]


def find(name: str) -> Corpus:
    """The corpus of a name.

    Parameters
    ----------
    name : str
        One of `names`.

    Returns
    -------
    Corpus

    Raises
    ------
    ConfigError
        If there is no such corpus.

    Examples
    --------
    >>> find("goemotions").licence
    'Apache-2.0'
    """
    corpus = CORPORA.find(name)
    if not isinstance(corpus, Corpus):
        raise ConfigError(
            f"the entry point {name!r} of the group affuse.corpora must be a Corpus; it is a {type(corpus).__name__}"
        )
    return corpus


def load(name: str, data: str | Path, split: str) -> Dataset:
    """Read one split of a corpus.

    Parameters
    ----------
    name : str
        One of `names`.
    data : str or Path
        Folder that holds the corpora, each in a folder of its own name, or the folder of this corpus.
    split : str
        "train", "dev" or "test"; other usual names such as "valid" are understood.

    Returns
    -------
    Dataset

    Raises
    ------
    ConfigError
        If the corpus or the split is unknown.
    DataError
        If the rows of the split are not in the folder.

    Examples
    --------
    >>> folder = Path("data/sst2")
    >>> folder.mkdir(parents=True)
    >>> _ = (folder / "dev.tsv").write_text("a lovely film\\t1\\n")
    >>> rows = load("sst2", "data", "dev")
    >>> rows.inputs, rows.labels.labels[rows.targets[0]]
    (['a lovely film'], 'positive')
    """
    corpus, split = find(name), split_name(split)
    folder = existing_folder(data)
    dataset = corpus.read(folder, split)
    if len(dataset) == 0:
        raise DataError(f"no rows of the {split} split of {name} lie in {folder}")
    return dataset


def load_open(name: str, data: str | Path) -> Dataset:
    """Read the whole open part of a corpus: everything that is no test, whatever learns from it.

    Parameters
    ----------
    name : str
        One of `names`.
    data : str or Path
        Folder that holds the corpora, or the folder of this one.

    Returns
    -------
    Dataset
        The rows of the splits `Corpus.open_splits`, one after the other.

    Raises
    ------
    ConfigError
        If the corpus is unknown.
    DataError
        If its rows are not in the folder, or its splits do not have the same labels.

    Examples
    --------
    >>> folder = Path("urdu_speech")
    >>> folder.mkdir()
    >>> (folder / "a.wav").touch()
    >>> _ = (folder / "labels_open.csv").write_text("path,label,speaker\\na.wav,anger,Ann\\n")
    >>> len(load_open("urdu_speech", "."))
    1
    """
    parts = [load(name, data, split) for split in find(name).open_splits]
    first = parts[0]
    if any(part.labels != first.labels for part in parts):
        raise DataError(f"the splits of {name} cannot be joined: their labels differ")
    return replace(
        first,
        inputs=[item for part in parts for item in part.inputs],
        targets=np.concatenate([part.targets for part in parts]),
        groups=np.concatenate([part.groups for part in parts]),
        votes=None if first.votes is None else np.concatenate([part.votes for part in parts]),
        columns={key: [value for part in parts for value in part.columns[key]] for key in first.columns},
        marks=None if first.marks is None else np.concatenate([part.marks for part in parts]),
    )


def recognise(folder: Path) -> str | None:
    """The name of the corpus that lies in a folder as it was published.

    Parameters
    ----------
    folder : Path
        An existing folder.

    Returns
    -------
    str or None
        None where no corpus is recognised.

    Examples
    --------
    >>> Path("films").mkdir()
    >>> recognise(Path("films")) is None
    True
    >>> Path("films/train_sent_emo.csv").touch()
    >>> recognise(Path("films"))
    'meld'
    """
    return next((name for name in names() if find(name).lies_in(folder)), None)
