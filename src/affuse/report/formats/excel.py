"""The windows as an Excel table."""

from __future__ import annotations

from pathlib import Path

from affuse.lazy import needs_extra
from affuse.report.formats.base import Format, Place
from affuse.report.formats.tables import FIRST_COLUMNS
from affuse.results import Analysis
from affuse.tables import write_table_part

with needs_extra("excel"):
    import openpyxl

__all__ = ["Excel"]


class Excel(Format):
    """STEM.xlsx."""

    suffix = ".xlsx"

    def write(self, analysis: Analysis, part: Path, place: Place) -> None:
        """Write `Analysis.to_frame`; text that looks like a formula stays text."""
        write_table_part(analysis.to_frame(), part, self.suffix)

    def is_replaceable(self, path: Path) -> bool:
        """Whether its first sheet begins with our columns."""
        try:
            book = openpyxl.load_workbook(path, read_only=True)
            first = next(book.worksheets[0].iter_rows(max_row=1, max_col=3, values_only=True), ())
            book.close()
        except Exception:  # those of openpyxl, zip and XML share no base; what cannot be read is not ours
            return False
        return list(first) == FIRST_COLUMNS
