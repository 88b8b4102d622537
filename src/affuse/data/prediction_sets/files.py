"""What readers of one table with all modalities share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from affuse.data.predictions import Predictions
from affuse.data.probability_tables import ids_of
from affuse.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["find_table", "predictions_of"]


def find_table(data: Path, folder: str, name: str) -> Path:
    """The file ``name`` in ``data/folder`` or in ``data`` itself. Raises DataError where it is in neither."""
    found = next((path for path in (data / folder / name, data / name) if path.is_file()), None)
    if found is None:
        raise DataError(f"{data / folder / name} is missing")
    return found


def predictions_of(
    table: pd.DataFrame,
    path: Path,
    modalities: tuple[str, ...],
    labels: Sequence[str],
    P: np.ndarray,
    groups: np.ndarray,
) -> Predictions:
    """Predictions P (n, m, k) of one table that has the columns id and label; raises DataError for unknown labels."""
    unknown = sorted({str(label) for label in table["label"]} - set(labels))
    if unknown:
        raise DataError(f"{path}: {unknown[0]!r} is none of the labels {', '.join(labels)}")
    targets = np.array([labels.index(str(label)) for label in table["label"]])
    return Predictions(tuple(ids_of(table, path)), modalities, tuple(labels), P, targets, np.asarray(groups))
