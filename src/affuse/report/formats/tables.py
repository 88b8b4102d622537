"""The windows as a table: CSV and Parquet."""

from __future__ import annotations

import csv
from pathlib import Path

from affuse.report.formats.base import Format, Place
from affuse.results import Analysis
from affuse.tables import write_table_part

__all__ = ["FIRST_COLUMNS", "Csv", "Parquet"]

FIRST_COLUMNS = ["start", "end", "person"]
"""The columns by which a table of ours is known."""

_TAIL = 65_536


class Csv(Format):
    """STEM.csv."""

    suffix = ".csv"

    def write(self, analysis: Analysis, part: Path, place: Place) -> None:
        """Write `Analysis.to_frame`."""
        write_table_part(analysis.to_frame(), part, self.suffix)

    def is_replaceable(self, path: Path) -> bool:
        """Whether it begins with our columns."""
        with path.open(encoding="utf-8", newline="") as file:
            return next(csv.reader(file), [])[:3] == FIRST_COLUMNS


class Parquet(Format):
    """STEM.parquet."""

    suffix = ".parquet"

    def write(self, analysis: Analysis, part: Path, place: Place) -> None:
        """Write `Analysis.to_frame`."""
        write_table_part(analysis.to_frame(), part, self.suffix)

    def is_replaceable(self, path: Path) -> bool:
        """Whether its footer, at the end of the file, names a column of ours.

        Reading it with arro3 would end the process where somebody else's file is no Parquet at all.
        """
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            tail = file.read()
        return tail.endswith(b"PAR1") and b"conflict_text" in tail
