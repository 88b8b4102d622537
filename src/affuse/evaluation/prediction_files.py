"""Files of predictions, one a modality, read and joined for fusing and searching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse.errors import ConfigError

if TYPE_CHECKING:
    from affuse.data.predictions import ModalityTable, Predictions

__all__ = ["read_tables"]


def read_tables(
    files: Sequence[str | Path],
    labels: str | Path | None = None,
    *,
    group: str | None = None,
    id_column: str | None = None,
    logits: bool = False,
    label_map: str | Path | None = None,
) -> Predictions:
    """All files joined by id; without ``labels`` no row has a true one. Raises DataError if a file does not fit.

    ``group`` is a column of the labels (or of the files, without labels), ``id_column`` names the rows, ``logits`` says
    that the files hold logits, and ``label_map`` is a TOML file with new names of labels.
    """
    from affuse.data.predictions import join, read_label_map, read_predictions, read_targets

    renames = None if label_map is None else read_label_map(Path(label_map))
    how: dict[str, Any] = {"id_column": id_column, "group_column": group, "label_map": renames}
    tables = [read_predictions(Path(path), logits=logits, **how) for path in files]
    if labels is not None:
        return join(tables, read_targets(Path(labels), **how))
    joined = join([replace(table, targets=None) for table in tables])
    unlabelled = replace(joined, targets=np.full(len(joined), -1))
    return unlabelled if group is None else replace(unlabelled, groups=_groups(tables, joined.ids, group))


def _groups(tables: Sequence[ModalityTable], ids: Sequence[str], group: str) -> np.ndarray:
    """The group of every id, from the files themselves."""
    known: dict[str, str] = {}
    for table in tables:
        known |= dict(zip(table.ids, table.groups or (), strict=False))
    if not known:
        raise ConfigError(f"--group names a column of the table of --labels, or of the files; no file has {group!r}")
    return np.array([known.get(name, f"row {number}") for number, name in enumerate(ids, start=1)])
