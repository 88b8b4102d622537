"""The analysis as JSON, valid under the published schema."""

from __future__ import annotations

import json
from pathlib import Path

from affuse.report.formats.base import Format, Place, head_of
from affuse.results import EARLIER_SCHEMAS, SCHEMA_ID, Analysis

__all__ = ["Document"]


class Document(Format):
    """STEM.json."""

    suffix = ".json"

    def write(self, analysis: Analysis, part: Path, place: Place) -> None:
        """Write the analysis piece by piece."""
        with part.open("w", encoding="utf-8") as file:
            file.writelines(analysis.json_pieces(indent=2))
            file.write("\n")

    def is_replaceable(self, path: Path) -> bool:
        """Whether it holds an analysis."""
        head = head_of(path)
        known = (f'"schema": {json.dumps(version)}' for version in (SCHEMA_ID, *EARLIER_SCHEMAS))
        return head.lstrip().startswith("{") and any(version in head for version in known)
