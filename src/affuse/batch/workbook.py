"""summary.xlsx: the rows of summary.csv as a workbook, where the library for it is installed."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from affuse.batch.rows import TEXT, Columns
from affuse.errors import DataError, MissingExtraError, OutputError
from affuse.files import replacing
from affuse.tables import write_table_part

__all__ = [
    "MOST_CELLS",
    "MOST_ROWS",
    "WORKBOOK",
    "is_workbook",
    "read_workbook",
    "refuse_foreign_workbook",
    "rewrite_workbook",
    "workbook_bytes",
    "write_workbook",
]

WORKBOOK = "summary.xlsx"

MOST_ROWS = 1_048_575
"""Rows that a sheet of Excel holds below the header."""

MOST_CELLS = 5_000_000
"""Cells that take minutes to write; of more, a run would wait longer for the workbook than it is worth."""

_CREATOR = b"<dc:creator>affuse</dc:creator>"
_PROPERTIES = "docProps/core.xml"
_TIMES = re.compile(rb"(<dcterms:(created|modified)[^>]*>)[^<]*")
_MAKER = re.compile(rb"<dc:creator>[^<]*</dc:creator>")
_LEVEL = 6
_LARGEST_PROPERTIES = 100_000  # bytes


def workbook_bytes(columns: Columns) -> bytes:
    """The workbook of columns: text stays text, and the same rows make the same bytes whenever they are written.

    Raises MissingExtraError without the library, and DataError where a sheet cannot hold the rows.
    """
    import pandas as pd

    count = len(next(iter(columns.values()))[1])
    if count > MOST_ROWS:
        raise DataError(f"there are {count:,} rows, and a sheet of Excel holds {MOST_ROWS:,} below its header")
    if count * len(columns) > MOST_CELLS:
        raise DataError(f"there are {count * len(columns):,} cells, and it is written up to {MOST_CELLS:,}")
    shown = {name: pd.Series(values, dtype=object) for name, (_, values) in columns.items()}
    book = io.BytesIO()
    write_table_part(pd.DataFrame(shown), book, ".xlsx")  # type: ignore[arg-type]  # in memory: it is settled below
    return _settled(book)


def _settled(book: io.BytesIO) -> bytes:
    """The workbook as made by affuse, and without the times at which it was made."""
    settled = io.BytesIO()
    with zipfile.ZipFile(book) as old, zipfile.ZipFile(settled, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as new:
        for part in old.infolist():
            content = old.read(part)
            if part.filename == _PROPERTIES:
                content = _MAKER.sub(_CREATOR, _TIMES.sub(rb"\g<1>1980-01-01T00:00:00Z", content))
            new.writestr(zipfile.ZipInfo(part.filename), content, zipfile.ZIP_DEFLATED)
    return settled.getvalue()


def write_workbook(folder: Path, columns: Columns) -> str:
    """Write summary.xlsx; returns why there is none, which is no error, and empty where there is one.

    Where there is none, one of an earlier time goes, whose rows would be others than those of summary.csv.
    """
    try:
        content = workbook_bytes(columns)
    except (MissingExtraError, DataError) as error:
        if is_workbook(folder / WORKBOOK):
            (folder / WORKBOOK).unlink()
        return f"{WORKBOOK} was not written: {error}; the same rows are in summary.csv"
    with replacing(folder / WORKBOOK) as (part,):
        part.write_bytes(content)
    return ""


def is_workbook(path: Path) -> bool:
    """Whether a file is a workbook of `write_workbook`; needs no library."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file, zipfile.ZipFile(file) as book:
            part = book.getinfo(_PROPERTIES)
            return part.file_size < _LARGEST_PROPERTIES and _CREATOR in book.read(part)
    except (OSError, KeyError, zipfile.BadZipFile):
        return False


def refuse_foreign_workbook(folder: Path) -> None:
    """Raise OutputError where a workbook that affuse did not make lies where ours is to be."""
    path = folder / WORKBOOK
    if path.exists() and not is_workbook(path):
        raise OutputError(f"{path} exists and was not written by affuse; move it away or choose another folder")


def read_workbook(path: Path) -> tuple[list[str], list[list[Any]]]:
    """Header and rows of a workbook of `write_workbook`. Raises MissingExtraError, and DataError for a damaged one."""
    try:
        import openpyxl
    except ImportError as error:
        raise MissingExtraError("openpyxl", "excel") from error
    try:
        book = openpyxl.load_workbook(path, read_only=True)
        header, *rows = [list(row) for row in book.worksheets[0].iter_rows(values_only=True)]
        book.close()
    except Exception as error:  # those of openpyxl, zip and XML share no base
        raise DataError(f"{path} is damaged; move it away and run again") from error
    return [str(name) for name in header], [[*row, *[None] * (len(header) - len(row))] for row in rows]


def rewrite_workbook(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Let these be the rows of a workbook. Raises OutputError."""
    columns: Columns = {name: (TEXT, [row[number] for row in rows]) for number, name in enumerate(header)}
    with replacing(path) as (part,):
        part.write_bytes(workbook_bytes(columns))
