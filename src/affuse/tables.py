"""Tables on disk: one reader and one writer of CSV, TSV, Parquet and Excel."""

from __future__ import annotations

import csv
import io
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affuse.errors import ConfigError, DataError, MissingExtraError
from affuse.files import replacing

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "GAPS",
    "ID_COLUMNS",
    "LABEL_COLUMNS",
    "TABLE_SUFFIXES",
    "check_header",
    "read_table",
    "write_table",
    "write_table_part",
]

ID_COLUMNS = ("id", "clip", "name")
"""Columns that name a row; they are read as text."""

LABEL_COLUMNS = ("label", "target", "emotion", "sentiment")
"""Columns that hold the right label; they are read as text."""

GAPS = ("", "nan", "NaN", "NA", "null", "None")
"""Cells that mean "no value" in a column of numbers."""

_PARQUET = (".parquet", ".pq")
_EXCEL = (".xlsx",)
TABLE_SUFFIXES = (".csv", ".tsv", *_PARQUET, *_EXCEL)
"""Suffixes of the files that `read_table` and `write_table` know."""

_LONGEST_EXCEL_TEXT = 32_767  # characters in a cell
_LARGEST_WHOLE = 2**53  # up to which a float holds every whole number

_ROWS_AT_ONCE = 200


def read_table(path: Path, text_columns: Sequence[str] = ()) -> pd.DataFrame:
    """Read a CSV, TSV, Parquet or Excel file.

    Parameters
    ----------
    path : Path
        The file; its suffix says what it is. Of an Excel file the first sheet is read.
    text_columns : sequence of str
        Columns whose cells stay as they are written, beside the first column and those named in `ID_COLUMNS` and
        `LABEL_COLUMNS`: an id "007" stays so. Parquet files state the kind of a column themselves.

    Returns
    -------
    pandas.DataFrame
        Columns of numbers, with NaN for gaps, and columns of text.

    Raises
    ------
    DataError
        If the file is missing, empty, not a table, or names a column twice.
    MissingExtraError
        If it is an Excel file and openpyxl is not installed.

    Examples
    --------
    >>> _ = Path("rows.csv").write_text("id,anger\\n007,0.25\\n")
    >>> read_table(Path("rows.csv")).to_dict("records")
    [{'id': '007', 'anger': 0.25}]
    """
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(f"{path} {state}; a CSV, TSV, Parquet or Excel file is needed")
    suffix = path.suffix.lower()
    if suffix in _PARQUET:
        table = _read_parquet(path)
    elif suffix in _EXCEL:
        table = _read_excel(path, text_columns)
    else:
        table = _read_text(path, text_columns)
    if table.empty:
        raise DataError(f"{path} holds no rows")
    return table


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as the suffix of its file says, whole or not at all.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns of numbers and of text; missing values become empty cells, or nulls in Parquet.
    path : Path
        The file, with one of `TABLE_SUFFIXES`.

    Raises
    ------
    ConfigError
        If the suffix is none of these.
    DataError
        If an Excel file cannot hold a text.
    MissingExtraError
        If it is an Excel file and openpyxl is not installed.
    OutputError
        If the place cannot be written.

    Examples
    --------
    >>> import pandas as pd
    >>> write_table(pd.DataFrame({"id": ["a"], "anger": [0.25]}), Path("rows.csv"))
    >>> Path("rows.csv").read_text()
    'id,anger\\na,0.25\\n'
    """
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise ConfigError(f"{path} must end in {', '.join(TABLE_SUFFIXES)}")
    with replacing(path) as (part,):
        write_table_part(table, part, suffix)


def write_table_part(table: pd.DataFrame, part: Path, suffix: str) -> None:
    """Write a table into one of several files that `affuse.files.replacing` lets appear together.

    Parameters
    ----------
    table : pandas.DataFrame
        As in `write_table`.
    part : Path
        The temporary file; its own suffix does not count.
    suffix : str
        One of `TABLE_SUFFIXES`.

    Examples
    --------
    >>> import pandas as pd
    >>> with replacing(Path("rows.csv"), Path("rows.tsv")) as (comma, tab):
    ...     write_table_part(pd.DataFrame({"id": ["a"], "anger": [0.25]}), comma, ".csv")
    ...     write_table_part(pd.DataFrame({"id": ["a"], "anger": [0.25]}), tab, ".tsv")
    >>> Path("rows.tsv").read_text()
    'id\\tanger\\na\\t0.25\\n'
    """
    if suffix in _PARQUET:
        _write_parquet(table, part)
    elif suffix in _EXCEL:
        _write_excel(table, part)
    else:  # rows at a time, since the text of a long table at once would be megabytes
        table.to_csv(part, index=False, sep="\t" if suffix == ".tsv" else ",", chunksize=_ROWS_AT_ONCE)


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    # arro3 is a fifth of the size of pyarrow, which would be a quarter of everything that affuse installs.
    from arro3.core import Array, DataType, Table
    from arro3.io import write_parquet
    from pandas.api.types import is_numeric_dtype

    columns = {}
    for name in table:
        values = table[name].astype(object).where(table[name].notna(), None).tolist()
        numbers = is_numeric_dtype(table[name].dtype)
        columns[str(name)] = Array(values, DataType.float64() if numbers else DataType.utf8())
    write_parquet(Table.from_pydict(columns), path)


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd  # takes a third of a second, and --help does without
    from arro3.io import read_parquet

    magic = b"PAR1"
    with path.open("rb") as file:
        head = file.read(len(magic))
        file.seek(-min(len(magic), path.stat().st_size), 2)
        if not head == file.read() == magic:
            raise DataError(f"{path} is not a Parquet file, or not all of it is there")
    try:
        table = read_parquet(path).read_all()
    except BaseException as error:  # a broken file makes arro3 panic, which is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise DataError(f"{path} is a broken Parquet file: {_first_line(error)}") from error
    return pd.DataFrame({str(name): _column(table.column(name)) for name in table.column_names})


def _column(column: Any) -> Any:
    try:
        return column.to_numpy()
    except (ValueError, NotImplementedError):  # nulls and categories
        return [value.as_py() for value in column]


def _write_excel(table: pd.DataFrame, path: Path) -> None:
    library = _openpyxl()
    columns = [[str(name), *table[name].astype(object).where(table[name].notna(), None)] for name in table]
    rows = [[_excel_value(library, value) for value in row] for row in zip(*columns, strict=True)]
    book = library.Workbook(write_only=True)
    sheet = book.create_sheet("table")
    for row in rows:
        sheet.append([_text_cell(library, sheet, value) if isinstance(value, str) else value for value in row])
    book.save(path)


def _excel_value(library: Any, value: Any) -> Any:
    if isinstance(value, float) and math.isinf(value):
        return str(value)  # Excel has no infinite numbers
    if isinstance(value, str):
        if len(value) > _LONGEST_EXCEL_TEXT:
            raise DataError(
                f"an Excel cell holds at most {_LONGEST_EXCEL_TEXT} characters; "
                f"a text has {len(value)}; write .csv or .parquet instead"
            )
        if library.cell.cell.ILLEGAL_CHARACTERS_RE.search(value):
            raise DataError(f"an Excel file cannot hold the control characters of {value!r}")
    return value


def _text_cell(library: Any, sheet: Any, text: str) -> Any:
    cell = library.cell.WriteOnlyCell(sheet, text)
    cell.data_type = "s"  # text stays text, also where it begins with "=" as a formula does
    return cell


def _read_excel(path: Path, text_columns: Sequence[str]) -> pd.DataFrame:
    library = _openpyxl()
    try:
        book = library.load_workbook(path, read_only=True, data_only=True)
        sheet = book.worksheets[0]
        sheet.reset_dimensions()  # some programs write wrong ones
        rows = [[_excel_text(value) for value in row] for row in sheet.iter_rows(values_only=True)]
        book.close()
    except Exception as error:  # those of openpyxl, zip and XML share no base
        raise DataError(f"{path} is not an Excel file (.xlsx), or not all of it is there") from error
    rows = [row for row in rows if any(row)]
    width = max((len(row) for row in rows), default=0)
    lines = io.StringIO(newline="")
    csv.writer(lines, lineterminator="\n").writerows([*row, *[""] * (width - len(row))] for row in rows)
    lines.seek(0)
    return _parsed(lines, path, ",", text_columns)


def _excel_text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST_WHOLE:
        value = int(value)  # a spreadsheet keeps the id 7 as 7.0
    return "" if value is None else str(value)


def _openpyxl() -> Any:
    try:
        import openpyxl
        import openpyxl.cell.cell
    except ImportError as error:
        raise MissingExtraError("openpyxl", "excel") from error
    return openpyxl


def _read_text(path: Path, text_columns: Sequence[str]) -> pd.DataFrame:
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _parsed(file, path, separator, text_columns)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}); save the table as UTF-8 or Parquet") from error
    except OSError as error:
        raise DataError(f"{path} is not a table: {_first_line(error)}") from error


def _parsed(lines: Any, path: Path, separator: str, text_columns: Sequence[str]) -> pd.DataFrame:
    """The table in a stream of text that stands at its beginning."""
    import pandas as pd

    try:
        header = next(csv.reader(lines, delimiter=separator), [])
        lines.seek(0)
        check_header(path, header)
        text = {*header[:1], *text_columns, *(c for c in header if c.lower() in (*ID_COLUMNS, *LABEL_COLUMNS))}
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # raised where cells would be dropped
            return pd.read_csv(
                lines,
                sep=separator,
                dtype={name: str for name in header if name in text},
                na_values={name: GAPS for name in header if name not in text},
                keep_default_na=False,
                index_col=False,
                low_memory=False,
            )
    except pd.errors.ParserWarning as error:
        raise DataError(f"{path}: a row has more cells than the header has names ({len(header)})") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, csv.Error) as error:
        raise DataError(f"{path} is not a table: {_first_line(error)}") from error


def check_header(path: Path, header: Sequence[str]) -> None:
    """Raise an error for a table without a header, or with two columns of one name.

    Parameters
    ----------
    path : Path
        The file, for the message.
    header : sequence of str
        Names of the columns.

    Raises
    ------
    DataError
        If no column has a name, or two have the same.

    Examples
    --------
    >>> check_header(Path("rows.csv"), ["id", "anger", "anger"])
    Traceback (most recent call last):
    ...
    affuse.errors.DataError: rows.csv names the column 'anger' twice
    """
    if not any(name.strip() for name in header):
        raise DataError(f"{path} is empty; a table with a header is needed")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{path} names the column {twice[0]!r} twice")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
