"""EmotionTalk: judgements of people who had only the words, the voice or the face of Mandarin dialogues."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from affuse.data.prediction_sets.files import find_table, predictions_of
from affuse.data.predictions import Predictions
from affuse.data.probability_tables import need_columns
from affuse.data.splits import find_split, split_name
from affuse.errors import DataError
from affuse.tables import GAPS, read_table

__all__ = ["LABELS", "MODALITIES", "read_emotiontalk"]

MODALITIES = ("words", "voice", "face")
LABELS = ("angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised")


def read_emotiontalk(data: Path, split: str = "dev") -> Predictions:
    """Read the judgements as probabilities of 0 or 1.

    The label is the judgement of everything together; groups are the pairs of speakers.

    Parameters
    ----------
    data : Path
        Folder that holds ``emotiontalk/labels_open.csv`` and ``labels_test.csv``, or that folder itself.
    split : str
        "train", "dev" or "test".

    Returns
    -------
    Predictions

    Raises
    ------
    DataError
        If the file is missing or does not fit.
    """
    split = split_name(split)
    path = find_table(data, "emotiontalk", "labels_test.csv" if split == "test" else "labels_open.csv")
    table = read_table(path, ["dialogue", "split", *MODALITIES])
    need_columns(table, ["dialogue", "label", *MODALITIES], path)
    if split != "test":
        need_columns(table, ["split"], path)
        table = table[table["split"].astype(str).map(find_split) == split].reset_index(drop=True)
        if table.empty:
            raise DataError(f"{path} holds no row whose split is {split!r}")
    judged = table[list(MODALITIES)].to_numpy(dtype=str)
    unknown = sorted(set(judged.ravel()) - {*LABELS, *GAPS})
    if unknown:
        raise DataError(f"{path}: {str(unknown[0])!r} is none of the labels {', '.join(LABELS)}")
    P = (judged[:, :, None] == np.array(LABELS)).astype(float)
    P[np.isin(judged, GAPS)] = np.nan
    pairs = table["dialogue"].astype(str).str.split("/").str[0].to_numpy()
    return predictions_of(table, path, MODALITIES, LABELS, P, pairs)
