"""The files of results: STEM.json, STEM.csv, STEM.parquet and STEM.html."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from affuse.analysis import SCHEMA_ID, Analysis
from affuse.errors import OutputError
from affuse.report.atomic import replacing
from affuse.report.page import GENERATOR, refuse_input, render_report

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["write_results"]

_FIRST_COLUMNS = ["start", "end", "person"]
_HEAD = 65_536  # bytes that are enough to know our own JSON and HTML by


def write_results(analysis: Analysis, folder: str | Path, stem: str) -> list[Path]:
    """Write STEM.json, STEM.csv, STEM.parquet and STEM.html into ``folder``, all or none; returns their paths.

    Earlier results of affuse are replaced. Raises OutputError where the folder cannot be written, or where a file of
    one of these names is the recording itself or was not written by affuse.
    """
    paths = [Path(folder) / f"{stem}{suffix}" for suffix in _WRITERS]
    for path in paths:
        refuse_input(path, analysis)
        _refuse_foreign(path)
    with replacing(*paths) as parts:
        for part, path in zip(parts, paths, strict=True):
            _WRITERS[path.suffix](analysis, part, path)
    return paths


def _write_json(analysis: Analysis, part: Path, path: Path) -> None:
    part.write_text(analysis.to_json(indent=2) + "\n", encoding="utf-8")


def _write_csv(analysis: Analysis, part: Path, path: Path) -> None:
    analysis.to_frame().to_csv(part, index=False)


def _write_parquet(analysis: Analysis, part: Path, path: Path) -> None:
    _typed(analysis.to_frame()).to_parquet(part, index=False)


def _write_html(analysis: Analysis, part: Path, path: Path) -> None:
    part.write_text(render_report(analysis, path.parent), encoding="utf-8")


# By suffix; the writers get the final path too, since links in a page are relative to it.
_WRITERS: dict[str, Callable[[Analysis, Path, Path], None]] = {
    ".json": _write_json,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".html": _write_html,
}


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Type columns of words as such even where they hold no word, so that the files of a folder fit together."""
    return frame.astype(dict.fromkeys(frame.select_dtypes(exclude="number"), "string"))


def _refuse_foreign(path: Path) -> None:
    try:
        foreign = path.exists() and not _KNOWN[path.suffix](path)
    except (OSError, ValueError) as error:
        foreign = not isinstance(error, PermissionError)
    if foreign:
        raise OutputError(f"{path} exists and was not written by affuse; move it away or choose another folder")


def _known_json(path: Path) -> bool:
    head = _head(path)
    return head.lstrip().startswith("{") and f'"schema": {json.dumps(SCHEMA_ID)}' in head


def _known_csv(path: Path) -> bool:
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file), [])[:3] == _FIRST_COLUMNS


def _known_parquet(path: Path) -> bool:
    from pyarrow import parquet  # slow to import, and only needed where a file is in the way

    return list(parquet.read_schema(path).names)[:3] == _FIRST_COLUMNS


def _known_html(path: Path) -> bool:
    return GENERATOR in _head(path)


def _head(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_HEAD).decode("utf-8", errors="replace")


_KNOWN: dict[str, Callable[[Path], bool]] = {
    ".json": _known_json,
    ".csv": _known_csv,
    ".parquet": _known_parquet,
    ".html": _known_html,
}
