"""From X (n, d) with blocks to what a network reads: scales, steps, and the rows of a group in their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affuse.errors import ConfigError, DataError
from affuse.fusion.base import Array, Mask
from affuse.fusion.early.blocks import Layout

__all__ = ["Scaling", "Table", "contexts_of", "cut", "step_counts"]


@dataclass(frozen=True)
class Table:
    """Rows by modality: ``features`` float32 (n, d_m) or (n, t_m, d_m), 0 in gaps; ``present`` (n,) or (n, t_m)."""

    features: Mapping[str, NDArray[np.float32]]
    present: Mapping[str, Mask]

    def __len__(self) -> int:
        return len(next(iter(self.present.values())))

    def select(self, rows: NDArray[np.intp]) -> Table:
        """Some of the rows, by index."""
        return Table(
            {m: values[rows] for m, values in self.features.items()},
            {m: here[rows] for m, here in self.present.items()},
        )

    def available(self) -> Mask:
        """Which modality has any step in which row: (n, m)."""
        return np.stack([here.reshape(len(here), -1).any(axis=1) for here in self.present.values()], axis=1)


@dataclass(frozen=True)
class Scaling:
    """Mean and deviation of every feature of every modality, over the rows and steps of `fit` that have it.

    A modality that is not ``seen`` in `fit` counts as missing ever after: nothing was learned about it.
    """

    means: Mapping[str, Array]
    scales: Mapping[str, Array]
    seen: frozenset[str]

    @staticmethod
    def of(values: Mapping[str, Array]) -> Scaling:
        """Learn from (n, d_m) or (n, t_m, d_m), NaN in gaps."""
        flat = {m: v.reshape(-1, v.shape[-1]) for m, v in values.items()}
        known = {m: v[~np.isnan(v).any(axis=1)] for m, v in flat.items()}
        filled = {m: v if len(v) else np.zeros((1, v.shape[1])) for m, v in known.items()}
        deviations = {m: v.std(axis=0) for m, v in filled.items()}
        scales = {m: np.where(d > 1e-12 * np.abs(filled[m]).max(axis=0), d, 1.0) for m, d in deviations.items()}
        means = {m: v.mean(axis=0) for m, v in filled.items()}
        return Scaling(means, scales, frozenset(m for m, v in known.items() if len(v)))

    def apply(self, values: Mapping[str, Array]) -> Table:
        """Standardise; what is NaN becomes 0 and is marked as missing."""
        present: dict[str, Mask] = {
            m: np.asarray(~np.isnan(v).any(axis=-1) & (m in self.seen)) for m, v in values.items()
        }
        scaled = {m: (v - self.means[m]) / self.scales[m] for m, v in values.items()}
        filled = {m: np.where(present[m][..., None], v, 0.0).astype(np.float32) for m, v in scaled.items()}
        return Table(filled, present)

    def undo(self, modality: str, values: Array) -> Array:
        """Back to the units of X."""
        return np.asarray(values * self.scales[modality] + self.means[modality])


def step_counts(layout: Layout, steps: int | Mapping[str, int] | None) -> dict[str, int]:
    """Steps of every block. Raises ConfigError where a block's columns are no multiple of its steps."""
    wanted = dict.fromkeys(layout, 1) if steps is None else steps
    counts = {name: wanted if isinstance(wanted, int) else wanted.get(name, 1) for name in layout}
    for name, count in counts.items():
        if count < 1 or len(layout[name]) % count:
            raise ConfigError(f"the block {name!r} has {len(layout[name])} columns, which are not {count} steps")
    return counts


def cut(X: Array, layout: Layout, steps: Mapping[str, int] | None) -> dict[str, Array]:
    """Blocks (n, d_m) of X, or with ``steps`` (n, t_m, d_m): the columns of a block hold one step after the other.

    Raises DataError where a block, or a step, is NaN in part.
    """
    values = {name: X[:, columns] for name, columns in layout.items()}
    if steps is not None:
        values = {name: v.reshape(len(X), steps[name], v.shape[1] // steps[name]) for name, v in values.items()}
    for name, v in values.items():
        gaps = np.isnan(v)
        broken = np.argwhere(gaps.any(axis=-1) & ~gaps.all(axis=-1))
        if len(broken):
            where = f"row {broken[0][0]}, block {name!r}" + (f", step {broken[0][1]}" if v.ndim == 3 else "")
            raise DataError(
                f"{where}: {gaps[tuple(broken[0])].sum()} of {v.shape[-1]} features are NaN; a gap is NaN throughout"
            )
    return values


def contexts_of(groups: NDArray[np.generic] | None, n: int) -> list[NDArray[np.intp]]:
    """Rows of every group in their order, groups in order of appearance; every row by itself without groups."""
    if groups is None:
        return [np.array([i], dtype=np.intp) for i in range(n)]
    _, first, index = np.unique(groups, return_index=True, return_inverse=True)
    order = np.argsort(index, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(index))[:-1])
    return [np.asarray(parts[g], dtype=np.intp) for g in np.argsort(first)]
