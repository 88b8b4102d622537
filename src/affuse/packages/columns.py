"""Numbers that the user brings for recordings: a table with a row a recording, or a row a stretch of one."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np

from affuse.errors import DataError
from affuse.timeline import Segment, Timeline

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KEYS", "FeatureTable"]

KEYS = ("name", "path", "clip", "file", "id")
"""Columns that may say which recording a row is about; the first that is there counts."""


@dataclass(frozen=True)
class FeatureTable:
    """Numbers that a user brings for recordings: a table with a row a recording, or a row a stretch of one.

    A row belongs to the recording whose file it names, with or without folders and suffix, in one of the columns
    `KEYS`. Where there are columns start and end (seconds), it holds for that stretch only.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table.
    source : str
        How messages call it, such as its file name.

    Examples
    --------
    >>> import pandas as pd
    >>> table = FeatureTable(pd.DataFrame({"name": ["a.mp4"], "start": [1.0], "end": [3.0], "AU12": [0.5]}), "aus.csv")
    >>> table.windows("a.mp4", Timeline((Segment(0.0, 2.0), Segment(3.0, 4.0))), ["AU12"])
    array([[0.5],
           [nan]])
    """

    frame: pd.DataFrame
    source: str

    def windows(self, recording: str, timeline: Timeline, names: Sequence[str]) -> np.ndarray:
        """Columns in every window: means of the rows, weighted by the seconds that they share.

        Parameters
        ----------
        recording : str
            Name of its file.
        timeline : Timeline
            The n windows.
        names : sequence of d str
            The columns.

        Returns
        -------
        array of shape (n, d)
            NaN where there is no number.

        Raises
        ------
        DataError
            If the table lacks a column, or a cell is no number.
        """
        columns = [self._numbers(name) for name in names]
        rows = self._rows(recording)
        values = np.stack([column[rows] for column in columns], axis=1)
        if not len(rows):
            return np.full((len(timeline), len(names)), np.nan)
        shared = np.stack([self._shared(int(row), timeline) for row in rows], axis=1)
        here = ~np.isnan(values)
        total = shared @ here
        mean = np.full(total.shape, np.nan)
        np.divide(shared @ np.where(here, values, 0.0), total, out=mean, where=total > 0)
        return mean

    def names(self, recording: str) -> bool:
        """Whether any row belongs to a recording.

        Parameters
        ----------
        recording : str
            Name of its file.

        Returns
        -------
        bool
        """
        return len(self._rows(recording)) > 0

    @property
    def example(self) -> str:
        """How the table names its first recording."""
        return self._keys[0]

    def _rows(self, recording: str) -> np.ndarray:
        """Rows about a recording: those of its whole name, else of its name without suffix, else but for the suffix."""
        stem = PurePath(recording).stem
        levels = (self._names == recording, self._names == stem, self._stems == stem)
        return next((np.flatnonzero(level) for level in levels if level.any()), np.empty(0, dtype=int))

    @cached_property
    def _keys(self) -> list[str]:
        column = next((key for key in KEYS if key in self.frame.columns), None)
        if column is None:
            raise DataError(
                f"{self.source} names no recordings in a column {' or '.join(KEYS)}; its columns: {self._listed}"
            )
        return [PurePath(str(value).replace("\\", "/")).name for value in self.frame[column]]

    @cached_property
    def _names(self) -> np.ndarray:
        return np.array(self._keys)

    @cached_property
    def _stems(self) -> np.ndarray:
        return np.array([PurePath(name).stem for name in self._keys])

    @cached_property
    def _segments(self) -> list[Segment | None]:
        if not {"start", "end"} <= set(self.frame.columns):
            return [None] * len(self.frame)
        rows = zip(self._numbers("start"), self._numbers("end"), strict=True)
        return [self._segment(row, start, end) for row, (start, end) in enumerate(rows, start=1)]

    def _segment(self, row: int, start: float, end: float) -> Segment | None:
        if np.isnan(start) and np.isnan(end):
            return None
        if not 0 <= start < end:  # refuses a single NaN as well
            raise DataError(f"{self.source}, row {row}: a stretch needs 0 <= start < end; got {start:g} to {end:g}")
        return Segment(start, end)

    def _shared(self, row: int, timeline: Timeline) -> np.ndarray:
        segment = self._segments[row]
        return timeline.ends - timeline.starts if segment is None else timeline.overlaps([segment])[:, 0]

    def _numbers(self, name: str) -> np.ndarray:
        """A column as numbers, read once: a table may be about thousands of recordings."""
        if name not in self._known:
            self._known[name] = self._parsed(name)
        return self._known[name]

    @cached_property
    def _known(self) -> dict[str, np.ndarray]:
        return {}

    def _parsed(self, name: str) -> np.ndarray:
        import pandas as pd

        if name not in self.frame.columns:
            near = difflib.get_close_matches(name, map(str, self.frame.columns), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; its columns: {self._listed}"
            raise DataError(f"{self.source} has no column {name!r}{hint}")
        cells = self.frame[name].replace("", None) if self.frame[name].dtype == object else self.frame[name]
        numbers = pd.to_numeric(cells, errors="coerce")
        wrong = np.flatnonzero(numbers.isna() & cells.notna())
        if len(wrong):
            raise DataError(f"{self.source}, row {wrong[0] + 1}: {name} is no number ({cells.iloc[wrong[0]]!r})")
        return numbers.to_numpy(dtype=float)

    @property
    def _listed(self) -> str:
        return ", ".join(map(str, self.frame.columns[:12])) + (", …" if len(self.frame.columns) > 12 else "")
