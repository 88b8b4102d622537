"""FER+: FER2013 faces with the votes of ten annotators (Barsoum et al. 2016, arXiv:1608.01041)."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import numpy as np

from affuse.data.corpora.base import Corpus, Dataset, existing, find_folder
from affuse.errors import DataError
from affuse.labels import FERPLUS

__all__ = ["CORPUS", "MAJORITY", "read_ferplus", "read_ferplus_majority"]

_FILES = {"train": "train.npz", "dev": "valid.npz", "test": "test.npz"}


def read_ferplus(data: Path, split: str) -> Dataset:
    """Read one split; the target is the label with most votes.

    Rows on which "unknown" or "not a face" wins are left out; a tie goes to the label that comes first. Ambiguous rows
    stay in: `read_ferplus_majority` is the paper's protocol, which leaves them out.
    """
    images, votes = _read(data, split)
    return _dataset("ferplus", images, votes, votes.argmax(axis=1) < len(FERPLUS))


def read_ferplus_majority(data: Path, split: str) -> Dataset:
    """Read the rows of one split on which one emotion has a majority, as the paper's published figures do.

    Single votes are taken for slips and dropped; one emotion must then hold more than half of what is left ("majority"
    in the authors' code).
    """
    images, votes = _read(data, split)
    steady = np.where(votes > 1, votes, 0)
    decided = steady.max(axis=1) > steady.sum(axis=1) / 2
    return _dataset("ferplus_majority", images, votes, decided & (votes.argmax(axis=1) < len(FERPLUS)))


def _read(data: Path, split: str) -> tuple[Any, np.ndarray]:
    """Pictures (n, 48, 48) and votes (n, 10)."""
    path = existing(find_folder(data, "ferplus", "*.npz") / _FILES[split])
    with np.load(path, allow_pickle=False) as arrays:
        images, votes, columns = arrays["images"], arrays["votes"].astype(float), arrays["columns"].tolist()
    if columns[: len(FERPLUS)] != list(FERPLUS.labels):
        raise DataError(f"{path}: expected the columns {', '.join(FERPLUS.labels)}; got {', '.join(columns)}")
    return images, votes


def _dataset(name: str, images: Any, votes: np.ndarray, chosen: np.ndarray) -> Dataset:
    kept = np.flatnonzero(chosen)
    of_emotions = votes[kept, : len(FERPLUS)]
    return Dataset(
        name=name,
        modality="face",
        labels=FERPLUS,
        inputs=images[kept],
        targets=of_emotions.argmax(axis=1),
        groups=kept,  # every picture shows somebody else, as far as known
        votes=of_emotions / of_emotions.sum(axis=1, keepdims=True),
    )


def _has_arrays(folder: Path) -> bool:
    paths = [folder / name for name in _FILES.values()]
    return any(_is_ferplus(path) for path in paths if path.is_file() and is_zipfile(path))


def _is_ferplus(path: Path) -> bool:
    with ZipFile(path) as archive:
        return {"images.npy", "votes.npy", "columns.npy"} <= set(archive.namelist())


CORPUS = Corpus("ferplus", read_ferplus, "face", "FER2013 pictures: research use; FER+ votes: MIT", lies_in=_has_arrays)
MAJORITY = Corpus("ferplus_majority", read_ferplus_majority, "face", CORPUS.licence)
