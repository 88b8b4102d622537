"""The files of results: STEM.json, STEM.csv, STEM.parquet and STEM.html."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

from affuse.errors import OutputError
from affuse.files import replacing
from affuse.report.page import GENERATOR, refuse_input, write_page
from affuse.results import EARLIER_SCHEMAS, SCHEMA_ID, Analysis
from affuse.tables import write_table_part

__all__ = ["write_results"]

_FIRST_COLUMNS = ["start", "end", "person"]
_HEAD = 65_536  # bytes that are enough to know our own JSON and HTML by


def write_results(analysis: Analysis, folder: str | Path, stem: str, language: str = "en") -> list[Path]:
    """Write STEM.json, STEM.csv, STEM.parquet and STEM.html into a folder, all or none.

    Parameters
    ----------
    analysis : Analysis
        What was found.
    folder : str or Path
        Is made where it does not exist. Earlier results of affuse are replaced.
    stem : str
        What the names of the files begin with.
    language : str
        "en" or "zh", of the page; tables and JSON are the same in every language.

    Returns
    -------
    list of Path
        The four files.

    Raises
    ------
    OutputError
        If the folder cannot be written, or if a file of one of these names is the recording itself or was not written
        by affuse.
    ConfigError
        If the language is unknown.

    Examples
    --------
    >>> from affuse import Analyzer
    >>> from affuse.testing import FakeExpert
    >>> analysis = Analyzer({"text": FakeExpert("text", {"happiness": 0.8})}).analyze_text("What a day!")
    >>> [path.name for path in write_results(analysis, "out", "day")]
    ['day.json', 'day.csv', 'day.parquet', 'day.html']
    """
    paths = [Path(folder) / f"{stem}{suffix}" for suffix in _KNOWN]
    for path in paths:
        refuse_input(path, analysis)
        _refuse_foreign(path)
    with replacing(*paths) as (document, table, columns, page):
        with document.open("w", encoding="utf-8") as file:
            file.writelines(analysis.json_pieces(indent=2))
            file.write("\n")
        frame = analysis.to_frame()
        write_table_part(frame, table, ".csv")
        write_table_part(frame, columns, ".parquet")
        with page.open("w", encoding="utf-8") as file:
            write_page(analysis, file, Path(folder), language)  # its links are relative to the folder
    return paths


def _refuse_foreign(path: Path) -> None:
    try:
        foreign = path.exists() and not _KNOWN[path.suffix](path)
    except (OSError, ValueError) as error:
        foreign = not isinstance(error, PermissionError)
    if foreign:
        raise OutputError(f"{path} exists and was not written by affuse; move it away or choose another folder")


def _known_json(path: Path) -> bool:
    head = _head(path)
    known = (f'"schema": {json.dumps(version)}' for version in (SCHEMA_ID, *EARLIER_SCHEMAS))
    return head.lstrip().startswith("{") and any(version in head for version in known)


def _known_csv(path: Path) -> bool:
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file), [])[:3] == _FIRST_COLUMNS


def _known_parquet(path: Path) -> bool:
    # The names of the columns stand in the footer, at the end of the file. Reading it with arro3 would end the process
    # where somebody else's file is no Parquet at all.
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _HEAD))
        tail = file.read()
    return tail.endswith(b"PAR1") and b"conflict_text" in tail


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
