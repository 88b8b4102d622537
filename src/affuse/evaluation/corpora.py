"""Known corpora as labelled recordings for the product."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from affuse.data.corpora import Dataset, load, load_open
from affuse.data.splits import split_name
from affuse.errors import ConfigError
from affuse.evaluation.manifest import Clip, Manifest, common_label

__all__ = ["corpus_manifest", "framed"]

_FACE_SIDE = 192  # pixels: a face as in a picture of a person, four times what FER2013 holds
_BORDER = 64  # pixels
_DARKEST, _LIGHTEST = 64, 192  # grey values of the border, another one a picture


def corpus_manifest(name: str, data: str | Path, split: str = "dev") -> Manifest:
    """One split of a known corpus as labelled recordings.

    Recordings and texts come as they are, but for rows with several emotions at once, which are left out. Grey faces of
    48 x 48 pixels become pictures of a face on a plain ground, so that finding the face is part of what is measured.

    Parameters
    ----------
    name : str
        Name of the corpus (`affuse.data.corpora.names`).
    data : str or Path
        Folder that holds the corpora.
    split : {"train", "dev", "test", "open"}
        Which rows; "open" is everything that is open (`affuse.data.corpora.load_open`), training rows too.

    Returns
    -------
    Manifest

    Raises
    ------
    ConfigError
        If the corpus or split is unknown, or its labels are no emotions.
    DataError
        If files are missing.

    Examples
    --------
    >>> folder = Path("urdu_speech")
    >>> folder.mkdir()
    >>> (folder / "a.wav").touch()
    >>> _ = (folder / "labels_open.csv").write_text("path,label,speaker,sex\\na.wav,anger,Ann,female\\n")
    >>> corpus_manifest("urdu_speech", ".").clips[0].label
    'anger'
    """
    split = split if split == "open" else split_name(split)
    dataset = load_open(name, data) if split == "open" else load(name, data, split)
    labels = [common_label(label) for label in dataset.labels.labels]
    unknown = [own for own, label in zip(dataset.labels.labels, labels, strict=True) if label is None]
    if unknown:
        raise ConfigError(
            f"{name} is labelled with {', '.join(unknown)}, which are no emotions; measure it by --expert"
        )
    # A recording has one label here: rows that show several emotions at once are left out.
    single = np.ones(len(dataset), dtype=bool) if dataset.marks is None else (dataset.marks > 0).sum(axis=1) <= 1
    clips = [_clip(dataset, row, str(labels[dataset.targets[row]])) for row in np.flatnonzero(single).tolist()]
    return Manifest(f"{name}, {split}", clips, tuple(dataset.columns))


def _clip(dataset: Dataset, row: int, label: str) -> Clip:
    about: dict[str, Any] = {
        "where": f"{dataset.name}, row {row + 1}",
        "label": label,
        "columns": {name: str(values[row]) for name, values in dataset.columns.items()},
    }
    item = dataset.inputs[row]
    if isinstance(item, Path):
        return Clip(path=item, person=str(dataset.groups[row]), **about)
    if isinstance(item, str):
        return Clip(text=item, group=str(dataset.groups[row]), **about)
    grey = int(np.random.default_rng(row).integers(_DARKEST, _LIGHTEST))
    return Clip(picture=partial(framed, np.asarray(item), grey), **about)


def framed(face: np.ndarray, grey: int) -> np.ndarray:
    """A grey face (48, 48) uint8 as a picture (320, 320, 3): enlarged to 192 pixels on a border of plain ``grey``."""
    from PIL import Image

    side = _FACE_SIDE + 2 * _BORDER
    picture = np.full((side, side), grey, dtype=np.uint8)
    large = Image.fromarray(face).resize((_FACE_SIDE, _FACE_SIDE), Image.Resampling.BICUBIC)
    picture[_BORDER : _BORDER + _FACE_SIDE, _BORDER : _BORDER + _FACE_SIDE] = np.asarray(large)
    return np.repeat(picture[:, :, None], 3, axis=2)
