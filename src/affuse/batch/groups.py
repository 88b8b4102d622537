"""Means by group of the user's, with intervals for which whole recordings, or participants, are drawn again."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from affuse.batch.rows import Columns
from affuse.errors import DataError
from affuse.evaluation.intervals import cluster_bootstrap

__all__ = ["GroupMean", "group_means"]


@dataclass(frozen=True)
class GroupMean:
    """Mean of a measure in a group, and its interval; None where one unit alone cannot have any."""

    group: str
    measure: str
    persons: int
    mean: float
    interval: tuple[float, float] | None


def group_means(columns: Columns, own: Mapping[str, str], by: str, unit: str | None = None) -> list[GroupMean]:
    """Means of the shares of every label, the sentiment and the share of windows with conflicts, by group.

    Parameters
    ----------
    columns : mapping of str to (str, list)
        The summaries.
    own : mapping of str to str
        Names of the user's columns in them.
    by : str
        Column of the groups, or "folder", the first one in the names of the recordings.
    unit : str, optional
        Column whose values are drawn as wholes; the recordings where None.

    Returns
    -------
    list of GroupMean
        In order of the groups; persons without an answer do not count.
    """
    groups = _values(columns, own, by)
    units = _values(columns, own, unit) if unit else columns["key" if "key" in columns else "path"][1]
    answered = np.array([bool(n) for n in columns["answered"][1]]) if "answered" in columns else np.zeros(0, bool)
    found = []
    for name in sorted({group for group, there in zip(groups, answered, strict=True) if there}):
        chosen = answered & np.array([group == name for group in groups])
        of = np.array([str(value) for value in units])[chosen]
        for measure, values in _measures(columns).items():
            found.append(_mean(name, measure, values[chosen], of))
    return found


def _values(columns: Columns, own: Mapping[str, str], name: str) -> list[str]:
    if name in own:
        return ["" if value is None else str(value) for value in columns[own[name]][1]]
    return [path.rpartition("/")[0].partition("/")[0] for path in columns["path"][1]]


def _measures(columns: Columns) -> dict[str, np.ndarray]:
    def numbers(name: str) -> np.ndarray:
        return np.array([np.nan if value is None else value for value in columns[name][1]], dtype=float)

    measures = {name: numbers(name) for name in columns if name.startswith("share_") and columns[name][0] == "float"}
    with np.errstate(invalid="ignore", divide="ignore"):
        conflicts = numbers("conflicts") / numbers("windows")
    return {**measures, "sentiment": numbers("sentiment"), "conflicts": conflicts}


def _mean(group: str, measure: str, values: np.ndarray, units: np.ndarray) -> GroupMean:
    there = ~np.isnan(values)
    values, units = values[there], units[there]
    if not len(values):
        return GroupMean(group, measure, 0, float("nan"), None)
    interval: Any = None
    with suppress(DataError):  # of one unit alone
        interval = tuple(round(end, 6) for end in cluster_bootstrap(values, units))
    return GroupMean(group, measure, len(values), round(float(values.mean()), 6), interval)
