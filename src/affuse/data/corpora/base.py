"""What every corpus reader yields, and how one is found by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from affuse.data.splits import SPLITS, split_name
from affuse.errors import ConfigError, DataError
from affuse.labels import LabelSpace

__all__ = ["SPLITS", "Dataset", "find_folder", "load", "names", "register"]


@dataclass(frozen=True)
class Dataset:
    """Rows of one split: what an expert reads, what it should answer and who is in it.

    ``inputs`` holds n items (paths of recordings, texts or grey images 48 x 48 uint8), ``targets`` (n,) the column
    of the right label, ``groups`` (n,) the speaker, subject or dialogue that must not be split. ``votes`` (n, k), where
    a corpus has them, is the distribution of the annotators' answers. ``columns`` holds n further facts by name, such
    as the speakers' sex.
    """

    name: str
    modality: str
    labels: LabelSpace
    inputs: Sequence[Any]
    targets: np.ndarray
    groups: np.ndarray
    votes: np.ndarray | None = None
    language: str | None = None
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.inputs) == len(self.targets) == len(self.groups):
            raise DataError(
                f"{self.name}: {len(self.inputs)} inputs, {len(self.targets)} targets and {len(self.groups)} groups"
            )

    def __len__(self) -> int:
        return len(self.targets)


Reader = Callable[[Path, str], Dataset]
_READERS: dict[str, Reader] = {}


def register(name: str) -> Callable[[Reader], Reader]:
    """Register a function ``(data folder, split) -> Dataset`` under ``name``."""

    def remember(reader: Reader) -> Reader:
        _READERS[name] = reader
        return reader

    return remember


def names() -> list[str]:
    """Names of all corpora that `load` knows."""
    return sorted(_READERS)


def load(name: str, data: str | Path, split: str) -> Dataset:
    """Read one split of a corpus from ``data``, the folder that holds the corpora.

    Raises ConfigError on an unknown corpus or split, DataError where the split's rows are not in the folder.
    """
    if name not in _READERS:
        raise ConfigError(f"unknown data set {name!r}; known: {', '.join(names())}")
    split = split_name(split)
    folder = Path(data)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; --data names the folder that holds the data sets")
    dataset = _READERS[name](folder, split)
    if len(dataset) == 0:
        raise DataError(f"no rows of the {split} split of {name} lie in {folder}")
    return dataset


def find_folder(data: Path, name: str, *examples: str) -> Path:
    """The folder of one corpus: ``data/name``, or ``data`` itself where it holds one of the ``examples``."""
    for folder in (data / name, data):
        if any(next(folder.glob(example), None) for example in examples):
            return folder
    raise DataError(f"{data / name} does not hold {' or '.join(examples)}")
