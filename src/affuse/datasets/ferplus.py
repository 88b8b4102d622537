"""FER+: FER2013 faces with the votes of ten annotators (Barsoum et al. 2016, arXiv:1608.01041)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from affuse.datasets.base import Dataset, find_folder, register
from affuse.errors import DataError
from affuse.labels import FERPLUS

__all__ = ["read_ferplus"]


@register("ferplus")
def read_ferplus(data: Path, split: str) -> Dataset:
    """Read ``SPLIT.npz``; the target is the label with most votes.

    Rows on which "unknown" or "not a face" wins are left out, as in the paper; ambiguous rows (no label above half of
    the votes), which the paper's "majority" protocol also drops, stay in. A tie goes to the label that comes first.
    """
    path = find_folder(data, "ferplus", "*.npz") / f"{split}.npz"
    if not path.is_file():
        raise DataError(f"{path} is missing")
    with np.load(path, allow_pickle=False) as arrays:
        images, votes, columns = arrays["images"], arrays["votes"].astype(float), arrays["columns"].tolist()
    if columns[: len(FERPLUS)] != list(FERPLUS.labels):
        raise DataError(f"{path}: expected the columns {', '.join(FERPLUS.labels)}; got {', '.join(columns)}")
    kept = np.flatnonzero(votes.argmax(axis=1) < len(FERPLUS))
    votes = votes[kept, : len(FERPLUS)]
    return Dataset(
        name="ferplus",
        modality="face",
        labels=FERPLUS,
        inputs=images[kept],
        targets=votes.argmax(axis=1),
        groups=kept,  # every picture shows somebody else, as far as known
        votes=votes / votes.sum(axis=1, keepdims=True),
    )
