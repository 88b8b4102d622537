"""Sets of predictions by name."""

from __future__ import annotations

from pathlib import Path

from affuse.data.corpora.base import existing_folder
from affuse.data.predictions import Predictions
from affuse.registry import Registry

__all__ = ["PREDICTION_SETS", "load", "names"]

PREDICTION_SETS = Registry(
    "set of predictions",
    {
        "cremad_votes": "affuse.data.prediction_sets.cremad_votes:read_cremad_votes",
        "emotiontalk": "affuse.data.prediction_sets.emotiontalk:read_emotiontalk",
        "ravdess_posteriors": "affuse.data.prediction_sets.ravdess_posteriors:read_ravdess_folds",
    },
    group="affuse.prediction_sets",
)
"""Functions ``(data, split)``, which return `Predictions`, or several by name where a set has folds of its own."""


def names() -> list[str]:
    """Names of all sets.

    Returns
    -------
    list of str

    Examples
    --------
    >>> names()
    ['cremad_votes', 'emotiontalk', 'ravdess_posteriors']
    """
    return PREDICTION_SETS.names()


def load(name: str, data: str | Path, split: str) -> dict[str, Predictions]:
    """Read one split of a set.

    Parameters
    ----------
    name : str
        One of `names`.
    data : str or Path
        Folder that holds the data sets, or the folder of this one.
    split : str
        "train", "dev" or "test".

    Returns
    -------
    dict of str to Predictions
        By name of the fold, or of the split where the set has no folds.

    Raises
    ------
    ConfigError
        If the set or the split is unknown.
    DataError
        If its files are missing or do not fit.

    Examples
    --------
    >>> folder = Path("data/cremad_votes")
    >>> folder.mkdir(parents=True)
    >>> text = "id,speaker,label,voice_sad,voice_happy,face_sad,face_happy\\n1,anna,sad,3,1,2,2\\n"
    >>> _ = (folder / "votes_test.csv").write_text(text)
    >>> load("cremad_votes", "data", "test")["test"].P
    array([[[0.75, 0.25],
            [0.5 , 0.5 ]]])
    """
    read = PREDICTION_SETS.find(name)
    found = read(existing_folder(data), split)
    return found if isinstance(found, dict) else {split: found}
