"""What ``fuse``, ``compare`` and ``tune`` share: reading predictions from files, and methods of fusion by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from affuse.datasets.predictions import Predictions

__all__ = ["AUTO", "Inputs", "fitted_without_labels", "make", "method_names", "refuse_inputs", "rules"]

AUTO = "auto"
# Their `learn` checks a parameter or takes the prior from the labels, which without any is uniform.
_CHECKS_ONLY = ("discounted", "product")


def method_names() -> list[str]:
    """Names of all methods, those of third parties included."""
    from affuse.fusion import registry

    return registry.names()


def make(name: str, **parameters: Any) -> Any:
    """An unfitted fuser by name. Raises ConfigError, with the names there are, for an unknown one."""
    from affuse.fusion import registry

    return registry.make(name, **parameters)


def rules() -> list[str]:
    """Names of the methods that need no true labels: nothing is learned, or only how frequent the labels are."""
    from affuse.fusion import registry
    from affuse.fusion.estimator import Fuser

    return [name for name in registry.names() if name in _CHECKS_ONLY or registry.find(name).learn is Fuser.learn]


def fitted_without_labels(name: str, n_modalities: int, n_classes: int) -> Any:
    """A rule that takes all labels for equally frequent. Raises ConfigError for a method that learns from labels."""
    fuser = make(name)
    if name not in rules():
        raise ConfigError(f"{name} learns from true labels; give --labels, or take one of {', '.join(rules())}")
    silence = np.full((n_classes, n_modalities, n_classes), np.nan)
    return fuser.fit(silence, np.arange(n_classes))


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
        from affuse.datasets.predictions import join, read_label_map, read_predictions, read_targets

        if self.group is not None and self.labels is None:
            raise ConfigError("--group names a column of the table of --labels; give both")
        renames = None if self.label_map is None else read_label_map(self.label_map)
        how: dict[str, Any] = {"id_column": self.id_column, "group_column": self.group, "label_map": renames}
        tables = [read_predictions(path, logits=self.logits, **how) for path in self.files]
        if self.labels is not None:
            return join(tables, read_targets(self.labels, **how))
        joined = join([replace(table, targets=None) for table in tables])
        return replace(joined, targets=np.full(len(joined), -1))

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
