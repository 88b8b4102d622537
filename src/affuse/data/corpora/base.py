"""What a corpus and the rows of one of its splits are, and what readers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from affuse.errors import DataError
from affuse.labels import LabelSpace

__all__ = ["Corpus", "Dataset", "existing", "existing_folder", "find_folder", "holds", "is_called"]


@dataclass(frozen=True)
class Dataset:
    """The labelled rows of one split of a corpus.

    Parameters
    ----------
    name : str
        Name of the corpus.
    modality : str
        What the rows are: "text", "voice", "face" or "video".
    labels : LabelSpace
        The labels that are told apart (k).
    inputs : sequence of length n
        Paths of recordings, texts, or grey images uint8 (48, 48).
    targets : array of int, shape (n,)
        Index of the right label in ``labels``.
    groups : array, shape (n,)
        Speaker, subject or dialogue of each row; a group belongs to one split.
    votes : array, shape (n, k), optional
        Shares of the annotators' votes.
    language : str, optional
        Language code, such as "de".
    columns : mapping of str to sequence of str, optional
        Further facts about each row by name, such as the sex of the speaker.
    marks : array of int, shape (n, 6), optional
        Where a row may show several emotions: over the labels but neutral, 1 seen, 0 not seen, -1 nobody was asked.

    Raises
    ------
    DataError
        If inputs, targets and groups differ in length.

    Examples
    --------
    >>> import numpy as np
    >>> from affuse.labels import SENTIMENT
    >>> rows = Dataset("shop", "text", SENTIMENT, ["good", "bad"], np.array([2, 0]), np.array(["anna", "ben"]))
    >>> len(rows), [rows.labels.labels[target] for target in rows.targets]
    (2, ['positive', 'negative'])
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
    marks: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not len(self.inputs) == len(self.targets) == len(self.groups):
            raise DataError(
                f"{self.name}: {len(self.inputs)} inputs, {len(self.targets)} targets and {len(self.groups)} groups"
            )

    def __len__(self) -> int:
        return len(self.targets)


def _never(folder: Path) -> bool:
    return False


@dataclass(frozen=True)
class Corpus:
    """A corpus that can be loaded by name; register one in `affuse.data.corpora.registry`.

    Parameters
    ----------
    name : str
        Name in lower case, which is also the name of its folder.
    read : callable
        ``read(data, split)`` returns the `Dataset` of a split ("train", "dev" or "test"). ``data`` is the folder that
        holds the corpora, or the folder of this one. It raises DataError where the split is not there.
    modality : str
        What its rows are: "text", "voice", "face" or "video".
    licence : str, optional
        Licence in a few words, which models trained on the corpus state; empty where it is not known.
    lies_in : callable, optional
        ``lies_in(folder)`` is true for a folder that holds the corpus as it was published.
    open_splits : tuple of str
        The splits that make up its open part; fewer where a corpus has no others.

    Examples
    --------
    >>> import numpy as np
    >>> from affuse.labels import SENTIMENT
    >>> def read(data, split):
    ...     return Dataset("shop", "text", SENTIMENT, ["good"], np.array([2]), np.array(["anna"]))
    >>> corpus = Corpus("shop", read, modality="text", licence="CC0")
    >>> len(corpus.read(Path("data"), "train"))
    1
    """

    name: str
    read: Callable[[Path, str], Dataset]
    modality: str
    licence: str = ""
    lies_in: Callable[[Path], bool] = _never
    open_splits: tuple[str, ...] = ("train", "dev")


def holds(pattern: str) -> Callable[[Path], bool]:
    """A test whether a folder has a file like ``pattern``, which no other data would have."""
    return lambda folder: any(folder.glob(pattern))


def is_called(name: str) -> Callable[[Path], bool]:
    """A test whether a folder has this name, for corpora whose files have everyday names."""
    return lambda folder: folder.resolve().name == name


def find_folder(data: Path, name: str, *examples: str) -> Path:
    """The folder of one corpus: ``data/name``, or ``data`` itself.

    Parameters
    ----------
    data : Path
        Folder that holds the corpora, or the folder of this one.
    name : str
        Name of the corpus.
    *examples : str
        Patterns of files, such as "\\*.wav", one of which must lie in the folder.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        If neither folder holds one of the examples.

    Examples
    --------
    >>> folder = Path("data/shop")
    >>> folder.mkdir(parents=True)
    >>> (folder / "reviews.tsv").touch()
    >>> find_folder(Path("data"), "shop", "*.tsv") == find_folder(folder, "shop", "*.tsv") == folder
    True
    """
    for folder in (data / name, data):
        if any(next(folder.glob(example), None) for example in examples):
            return folder
    raise DataError(f"{data / name} does not hold {' or '.join(examples)}")


def existing(path: Path) -> Path:
    """``path`` itself; raises DataError where there is no such file."""
    if not path.is_file():
        raise DataError(f"{path} is missing")
    return path


def existing_folder(data: str | Path) -> Path:
    """``data`` as a path; raises DataError where there is no such folder."""
    folder = Path(data)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; --data names the folder that holds the data sets")
    return folder
