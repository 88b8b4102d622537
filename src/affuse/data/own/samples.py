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


@dataclass(frozen=True, eq=False)
class Sample:
    """One labelled moment; what it does not hold is None.

    Parameters
    ----------
    where: place for sentences about it, such as "data.csv, row 12" or a path.
    path: the recording or picture, of which ``start`` to ``end`` (seconds) count; all of it where they are None.
    text: the words.
    label: column of the label space; None where nobody has labelled it.
    distribution: annotators' votes as shares (k,) that sum to 1.
    speaker: who is in it (for texts and films the author, dialogue or video); never in two splits.
    split: "train", "dev" or "test"; "" while none is stated.
    pixels: a face crop already in memory, grey uint8 (h, w).
    columns: numeric features (d,) that a table gives beside the recording; NaN where they are missing.
    framed: the picture is a face crop, in which no face is searched.
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
    """The checked samples of one source; ``column_names`` (d,) name their numeric features, ``notes`` are sentences."""

    name: str
    modality: str
    labels: LabelSpace
    samples: tuple[Sample, ...]
    column_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def part(self, split: str) -> list[Sample]:
        """The samples of "train", "dev" or "test", in order."""
        name = split_name(split)
        return [sample for sample in self.samples if sample.split == name]


@dataclass(frozen=True)
class DataOptions:
    """How data are read.

    Parameters
    ----------
    folder: where the known corpora lie, for a source that is the name of one.
    bad_rows: "stop" lists every bad row and stops, "skip" leaves bad rows out and notes it.
    unlabelled: "refuse" takes a row without a label for a bad one, "keep" keeps it with the label None.
    columns: patterns such as "AU*" for the numeric columns that a joint model reads beside recording and words.
    crops: whether pictures are face crops; where None, square ones of at most 64 pixels are.
    dev: share of the rows to set aside where the data state no dev split.
    seed: decides which rows those are.
    min_seconds: shortest clip of a voice.

    Raises ConfigError where a value is out of range.
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
