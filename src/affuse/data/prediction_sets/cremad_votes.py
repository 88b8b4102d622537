"""CREMA-D: votes of people who heard or saw clips of actors (Cao et al. 2014, doi:10.1109/TAFFC.2014.2336244)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from affuse.data.prediction_sets.files import find_table, predictions_of
from affuse.data.predictions import Predictions
from affuse.data.probability_tables import need_columns, numbers
from affuse.data.splits import split_name
from affuse.errors import DataError
from affuse.tables import read_table

__all__ = ["MODALITIES", "read_cremad_votes"]

MODALITIES = ("voice", "face")


def read_cremad_votes(data: Path, split: str = "open") -> Predictions:
    """Read the shares of votes of about ten people each, of the modalities voice and face.

    The label is what the actor meant; groups are the actors. A label that nobody named has the probability 0.

    Parameters
    ----------
    data : Path
        Folder that holds ``cremad_votes/votes_open.csv`` and ``votes_test.csv``, or that folder itself.
    split : str
        "test", or "open" for all other actors; train and dev are other names of "open".

    Returns
    -------
    Predictions

    Raises
    ------
    DataError
        If the file is missing or does not fit.
    """
    part = "test" if split != "open" and split_name(split) == "test" else "open"
    path = find_table(data, "cremad_votes", f"votes_{part}.csv")
    table = read_table(path, ["speaker"])
    first = f"{MODALITIES[0]}_"
    labels = tuple(str(c).removeprefix(first) for c in table.columns if str(c).startswith(first))
    columns = [f"{modality}_{label}" for modality in MODALITIES for label in labels]
    need_columns(table, ["speaker", "label", *(columns or [f"{first}*"])], path)
    counts = numbers(table, columns, path).reshape(len(table), len(MODALITIES), len(labels))
    wrong = ~(counts >= 0).all(axis=(1, 2))
    if wrong.any():
        raise DataError(f"{path}, row {int(np.flatnonzero(wrong)[0]) + 1}: votes are counts of at least 0")
    total = counts.sum(axis=2, keepdims=True)
    P = np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)
    return predictions_of(table, path, MODALITIES, labels, P, table["speaker"].astype(str).to_numpy())
