"""What people's own data become: labelled moments of recordings, pictures or texts, in train, dev and test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from affuse.data.splits import split_name
from affuse.errors import ConfigError
from affuse.experts.voice import MIN_SPEECH
from affuse.labels import LabelSpace

__all__ = ["MODALITIES", "DataOptions", "Sample", "TrainingData"]

MODALITIES = ("voice", "face", "text", "joint")
"""Modalities of the models that can be trained; "joint" models read several at once."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One labelled moment of a recording, picture or text; what it does not hold is None.

    Parameters
    ----------
    where : str
        What error messages call it, such as "data.csv, row 12" or a path.
    path : Path, optional
        The recording or picture.
    start, end : float, optional
        Where the moment begins and ends in the recording, in seconds; the whole recording where they are None.
    text : str, optional
        The words.
    label : int, optional
        Index in the label space; None where nobody has labelled it.
    distribution : array of shape (k,), optional
        Shares of the annotators' votes, which sum to 1.
    speaker : str, optional
        Who is in it; for texts and films the author, dialogue or video. A speaker belongs to one split.
    split : {"train", "dev", "test", ""}
        Its split; "" while none is stated.
    pixels : array of uint8, shape (height, width), optional
        A grey face crop that is already in memory.
    columns : array of shape (d,), optional
        Numeric features that a table gives beside the recording; NaN where they are missing.
    framed : bool
        Whether the picture is a face crop already, so that no face is searched in it.

    Raises
    ------
    ConfigError
        If ``split`` is no name of a split.

    Examples
    --------
    >>> sample = Sample("films.csv, row 1", text="A lovely film.", label=1, split="validation")
    >>> sample.split
    'dev'
    """

    where: str
    path: Path | None = None
    start: float | None = None
    end: float | None = None
    text: str | None = None
    label: int | None = None
    distribution: np.ndarray | None = None
    speaker: str | None = None
    split: str = "train"
    pixels: np.ndarray | None = None
    columns: np.ndarray | None = None
    framed: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "split", self.split and split_name(self.split))


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The checked samples of one source; `read` makes it.

    Parameters
    ----------
    name : str
        Name of the source.
    modality : str
        One of `MODALITIES`.
    labels : LabelSpace
        The labels that are told apart.
    samples : tuple of Sample
        The rows that can be used, each in a split.
    column_names : tuple of str
        Names of the samples' numeric features (d,).
    notes : tuple of str
        Sentences about how the data were read.

    Examples
    --------
    >>> from affuse.labels import SENTIMENT
    >>> samples = (Sample("row 1", text="Lovely.", label=2), Sample("row 2", text="Dull.", label=0, split="dev"))
    >>> data = TrainingData("films", "text", SENTIMENT, samples)
    >>> [sample.text for sample in data.split("dev")]
    ['Dull.']
    """

    name: str
    modality: str
    labels: LabelSpace
    samples: tuple[Sample, ...]
    column_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def split(self, name: str) -> list[Sample]:
        """The samples of one split, in order.

        Parameters
        ----------
        name : str
            "train", "dev" or "test".

        Returns
        -------
        list of Sample
        """
        known = split_name(name)
        return [sample for sample in self.samples if sample.split == known]


@dataclass(frozen=True)
class DataOptions:
    """How people's own data are read.

    Parameters
    ----------
    folder : Path, optional
        Folder of the known corpora, for a source that is the name of one.
    bad_rows : {"stop", "skip"}
        "stop" lists every bad row and stops, "skip" leaves bad rows out and notes it.
    unlabelled : {"refuse", "keep"}
        Whether a row without a label is a bad one, or kept with the label None.
    columns : tuple of str
        Patterns such as "AU*" for the numeric columns that a joint model reads beside recording and words.
    crops : bool, optional
        Whether pictures are face crops; where None, square ones of at most 64 pixels are.
    dev : float
        Share of the rows to set aside where the data state no dev split; above 0 and at most 0.5.
    seed : int
        Decides which rows those are.
    min_seconds : float
        Shortest clip of a voice, in seconds.

    Raises
    ------
    ConfigError
        If a value is out of range.

    Examples
    --------
    >>> DataOptions(bad_rows="skip", dev=0.1).dev
    0.1
    """

    renamed: ClassVar[Mapping[str, str]] = {"valid": "dev"}
    """Options of older configuration files, by the name that they have now."""

    folder: Path | None = None
    bad_rows: Literal["stop", "skip"] = "stop"
    unlabelled: Literal["refuse", "keep"] = "refuse"
    columns: tuple[str, ...] = ()
    crops: bool | None = None
    dev: float = 0.2
    seed: int = 0
    min_seconds: float = MIN_SPEECH

    def __post_init__(self) -> None:
        if self.bad_rows not in ("stop", "skip"):
            raise ConfigError(f'bad_rows must be "stop" or "skip"; got {self.bad_rows!r}')
        if self.unlabelled not in ("refuse", "keep"):
            raise ConfigError(f'unlabelled must be "refuse" or "keep"; got {self.unlabelled!r}')
        if not 0 < self.dev <= 0.5:
            raise ConfigError(f"dev must be a share above 0 and at most 0.5; got {self.dev:g}")
        if not self.min_seconds > 0:
            raise ConfigError(f"min_seconds must be above 0 seconds; got {self.min_seconds:g}")
