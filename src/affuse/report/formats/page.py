"""The report as a page."""

from __future__ import annotations

from pathlib import Path

from affuse.report.formats.base import Format, Place, head_of
from affuse.report.page import GENERATOR, write_page
from affuse.results import Analysis

__all__ = ["Page"]


class Page(Format):
    """STEM.html."""

    suffix = ".html"

    def write(self, analysis: Analysis, part: Path, place: Place) -> None:
        """Write the page; its links are relative to the folder of the file."""
        with part.open("w", encoding="utf-8") as file:
            write_page(analysis, file, place.path.parent, place.language)

    def is_replaceable(self, path: Path) -> bool:
        """Whether it is a page of affuse."""
        return GENERATOR in head_of(path)
