"""What commands over fusers share: reading predictions from files, and where results may go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from affuse.data.predictions import ModalityTable, Predictions

__all__ = ["Inputs", "refuse_inputs", "refuse_others"]


@dataclass(frozen=True)
class Inputs:
    """The files of predictions and how to read them, as the options of the command say."""

    files: Sequence[Path]
    labels: Path | None = None
    group: str | None = None
    id_column: str | None = None
    logits: bool = False
    label_map: Path | None = None

    def read(self) -> Predictions:
        """All files joined by id; without ``labels`` no row has a true one. Raises DataError if a file does not fit."""
        from affuse.data.predictions import join, read_label_map, read_predictions, read_targets

        renames = None if self.label_map is None else read_label_map(self.label_map)
        how: dict[str, Any] = {"id_column": self.id_column, "group_column": self.group, "label_map": renames}
        tables = [read_predictions(path, logits=self.logits, **how) for path in self.files]
        if self.labels is not None:
            return join(tables, read_targets(self.labels, **how))
        joined = join([replace(table, targets=None) for table in tables])
        unlabelled = replace(joined, targets=np.full(len(joined), -1))
        return unlabelled if self.group is None else replace(unlabelled, groups=self._groups(tables, joined.ids))

    def _groups(self, tables: Sequence[ModalityTable], ids: Sequence[str]) -> np.ndarray:
        """The group of every id, from the files themselves."""
        known: dict[str, str] = {}
        for table in tables:
            known |= dict(zip(table.ids, table.groups or (), strict=False))
        if not known:
            raise ConfigError(
                f"--group names a column of the table of --labels, or of the files; no file has {self.group!r}"
            )
        return np.array([known.get(name, f"row {number}") for number, name in enumerate(ids, start=1)])

    @property
    def paths(self) -> list[Path]:
        """Every file that is read."""
        return [*self.files, *(path for path in (self.labels, self.label_map) if path is not None)]


def refuse_inputs(out: Path | None, inputs: Inputs) -> None:
    """Raise OutputError where ``out`` is one of the files that are read."""
    if out is not None and out.exists():
        for path in inputs.paths:
            if path.exists() and path.samefile(out):
                raise OutputError(f"{out} is one of the inputs; choose another place for the output")


def refuse_others(folder: Path, option: str) -> None:
    """Raise OutputError where the place for a fuser holds something else; ``option`` is the one that names it."""
    from affuse.fusion.persistence import holds_fuser

    if folder.exists() and not holds_fuser(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists and holds no fuser of affuse; choose another folder for {option}")
