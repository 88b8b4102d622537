"""Class probabilities of three published experts on RAVDESS (Luna-Jimenez et al. 2021, doi:10.3390/s21227665)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from affuse.data.predictions import Predictions, join, read_predictions
from affuse.errors import ConfigError, DataError

__all__ = ["read_ravdess_folds"]


def read_ravdess_folds(data: Path, split: str = "test", folds: Sequence[int] | None = None) -> dict[str, Predictions]:
    """Read the outputs by fold of actors; groups are the actors.

    Parameters
    ----------
    data : Path
        Folder that holds ``ravdess_posteriors``, or that folder itself.
    split : {"test", "train"}
        "test" are outputs on actors whom the experts had not seen, "train" those on the rows that they learned from.
    folds : sequence of int, optional
        Numbers of folds; all that lie in the folder where None.

    Returns
    -------
    dict of str to Predictions
        By name of the fold, such as "fold0".

    Raises
    ------
    DataError
        If there are no such files.
    ConfigError
        If a fold is not there.
    """
    root = next((f for f in (data / "ravdess_posteriors", data) if any(f.glob("fold*/test_*.csv"))), None)
    if root is None:
        raise DataError(f"{data / 'ravdess_posteriors'} does not hold fold0/test_*.csv")
    folders = {int(f.name[4:]): f for f in sorted(root.glob("fold*")) if f.name[4:].isdigit()}
    found = {number: folder for number, folder in folders.items() if any(folder.glob(f"{split}_*.csv"))}
    unknown = [str(number) for number in folds or () if number not in found]
    if unknown:
        raise ConfigError(f"no fold {', '.join(unknown)} in {root}; there are {', '.join(map(str, sorted(found)))}")
    return {f"fold{number}": _read_fold(found[number], split) for number in sorted(found if folds is None else folds)}


def _read_fold(folder: Path, split: str) -> Predictions:
    paths = sorted(folder.glob(f"{split}_*.csv"))
    joined = join([read_predictions(path, modality=path.stem.removeprefix(f"{split}_")) for path in paths])
    actors = np.array([clip.rsplit("-", 1)[-1] for clip in joined.ids])
    return replace(joined, groups=actors)
