"""Tables on disk: one reader and one writer of CSV, TSV, Parquet and Excel."""

from __future__ import annotations

import csv
import io
import math
import re
import sys
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from affuse.budget import budget_in_use
from affuse.errors import ConfigError, DataError, MissingExtraError
from affuse.files import replacing

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "GAPS",
    "ID_COLUMNS",
    "LABEL_COLUMNS",
    "TABLE_SUFFIXES",
    "check_bytes",
    "check_header",
    "counted",
    "csv_text",
    "guarded",
    "read_table",
    "unguarded",
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

_Row = TypeVar("_Row")

_ROWS_AT_ONCE = 200
_SEPARATORS = {",": "a comma", "\t": "a tab"}

# What a spreadsheet that opens CSV takes for a formula (OWASP, CSV injection), apostrophes before it included; and text
# that it would take for one, but is a number.
_FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def read_table(path: Path, text_columns: Sequence[str] = ()) -> pd.DataFrame:
    """Read a CSV, TSV, Parquet or Excel file.

    Every row of a CSV or TSV file must have as many cells as the header has names. Two exceptions lose nothing: empty
    cells beyond them, and cells left out at the end of a row whose columns are empty in the whole file. The apostrophe
    before text that `write_table` has guarded is taken off.

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
        If the file is missing, empty, not a table, names a column twice, has a row with too many or too few cells, or
        has more rows or bytes than `affuse.budget.budget_in_use` allows.
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
    check_bytes(path, path.stat().st_size)
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


def check_bytes(path: Path, size: int) -> None:
    """Refuse a table that is too large.

    Parameters
    ----------
    path : Path
        The file, for the message.
    size : int
        Its bytes, once it is unpacked.

    Raises
    ------
    DataError
        If `affuse.budget.budget_in_use` allows fewer.

    Examples
    --------
    >>> check_bytes(Path("rows.csv"), 250_000_001)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    affuse.errors.DataError: rows.csv holds a table of 250,000,001 bytes; the limit is 250,000,000 bytes (raise it ...
    """
    if why := budget_in_use().excess("max_table_bytes", size):
        raise DataError(f"{path} holds a table of {size:,} bytes; {why}")


def counted(rows: Iterable[_Row], path: Path) -> Iterator[_Row]:
    """Pass the rows of a table on, the header first, as long as they are not too many.

    Parameters
    ----------
    rows : iterable
        The rows, which may come one at a time.
    path : Path
        The file, for the message.

    Yields
    ------
    object
        The rows.

    Raises
    ------
    DataError
        If `affuse.budget.budget_in_use` allows fewer.

    Examples
    --------
    >>> list(counted([["id"], ["a"]], Path("rows.csv")))
    [['id'], ['a']]
    """
    budget = budget_in_use()
    for number, row in enumerate(rows):
        if why := budget.excess("max_rows", number):  # the header is none
            raise DataError(f"{path} has {number:,} rows or more; {why}")
        yield row


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as the suffix of its file says, whole or not at all.

    Text in CSV and TSV that a spreadsheet would run as a formula, since it begins with ``=``, ``+``, ``-``, ``@``, a
    tab or the end of a line, gets an apostrophe before it, as OWASP advises; numbers stay as they are. `read_table`
    takes it off again. In Excel files such text is stored as text.

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
        separator = "\t" if suffix == ".tsv" else ","
        _write_text(table, part, separator)


def csv_text(table: pd.DataFrame) -> str:
    """A table as the text of a CSV file, as `write_table` writes it.

    Parameters
    ----------
    table : pandas.DataFrame
        As in `write_table`.

    Returns
    -------
    str

    Examples
    --------
    >>> import pandas as pd
    >>> print(csv_text(pd.DataFrame({"id": ["=1+1", "-2"], "x": [-0.5, 0.25]})), end="")
    id,x
    '=1+1,-0.5
    -2,0.25
    """
    text = io.StringIO()
    _write_text(table, text, ",")
    return text.getvalue()


def _write_text(table: pd.DataFrame, place: Any, separator: str) -> None:
    table = _each_text(table, guarded)
    # Python before 3.13 leaves a carriage return without quotes, which ends the row for every reader.
    odd = any(isinstance(cell, str) and "\r" in cell for name in table for cell in (name, *_texts(table[name])))
    quoting = csv.QUOTE_NONNUMERIC if odd else csv.QUOTE_MINIMAL
    table.to_csv(place, index=False, sep=separator, chunksize=_ROWS_AT_ONCE, quoting=quoting)


def _texts(column: pd.Series[Any]) -> Iterable[Any]:
    return column if column.dtype.kind == "O" else ()


def _each_text(table: pd.DataFrame, change: Callable[[Any], Any]) -> pd.DataFrame:
    """A table with ``change`` made to every name of a column and to every cell of those that are not of numbers."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    columns = [table[name] for name in table]
    changed = {
        change(column.name): column
        if is_numeric_dtype(column.dtype) or is_bool_dtype(column.dtype)
        else column.astype(object).map(change)
        for column in columns
    }
    return type(table)(changed, index=table.index)


def guarded(value: Any) -> Any:
    """A cell that no spreadsheet runs as a formula: text that it would run gets an apostrophe before it.

    Parameters
    ----------
    value : object
        A cell.

    Returns
    -------
    object
        As `write_table` writes it into CSV and TSV; `unguarded` takes the apostrophe off.

    Examples
    --------
    >>> guarded("=1+1"), guarded("-2"), guarded(3)
    ("'=1+1", '-2', 3)
    """
    dangerous = isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value)
    return f"'{value}" if dangerous else value


def unguarded(value: Any) -> Any:
    """Take off the apostrophe that `write_table` puts before text which spreadsheets run as a formula.

    Parameters
    ----------
    value : object
        A cell.

    Returns
    -------
    object
        What was written. An apostrophe that was there before got another one, so none is lost.

    Examples
    --------
    >>> unguarded("'=1+1"), unguarded("'tis"), unguarded(3)
    ('=1+1', "'tis", 3)
    """
    return value[1:] if isinstance(value, str) and value.startswith("'") and _FORMULA.match(value) else value


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
    from arro3.core import Table
    from arro3.io import read_parquet

    magic = b"PAR1"
    with path.open("rb") as file:
        head = file.read(len(magic))
        file.seek(-min(len(magic), path.stat().st_size), 2)
        if not head == file.read() == magic:
            raise DataError(f"{path} is not a Parquet file, or not all of it is there")
    try:
        batches = read_parquet(path)
        table = Table.from_batches(_bounded(batches, path), schema=batches.schema)
    except BaseException as error:  # a broken file makes arro3 panic, which is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | DataError):
            raise
        raise DataError(f"{path} is a broken Parquet file: {_first_line(error)}") from error
    return pd.DataFrame({str(name): _column(table.column(name)) for name in table.column_names})


def _bounded(batches: Iterable[Any], path: Path) -> list[Any]:
    """The batches of a Parquet file, which can hold a thousand times the bytes that it has on disk."""
    budget, found, rows, size = budget_in_use(), [], 0, 0
    for batch in batches:
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if why := budget.excess("max_rows", rows):
            raise DataError(f"{path} has {rows:,} rows or more; {why}")
        check_bytes(path, size)
        found.append(batch)
    return found


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
    if _FORMULA.match(text):
        cell.quotePrefix = True  # and after somebody has edited it
    return cell


def _read_excel(path: Path, text_columns: Sequence[str]) -> pd.DataFrame:
    library = _openpyxl()
    lines = io.StringIO(newline="")
    try:
        with zipfile.ZipFile(path) as parts:
            check_bytes(path, sum(part.file_size for part in parts.infolist()))
        book = library.load_workbook(path, read_only=True, data_only=True)
        sheet = book.worksheets[0]
        sheet.reset_dimensions()  # some programs write wrong ones
        width, wide = _copy_rows(counted(sheet.iter_rows(values_only=True), path), lines)
        book.close()
    except DataError:
        raise
    except Exception as error:  # those of openpyxl, zip and XML share no base
        raise DataError(f"{path} is not an Excel file (.xlsx), or not all of it is there") from error
    if wide is not None:
        number, last = wide
        raise DataError(f"{path}: row {number} has a value in column {last}, but the header names {width} columns")
    lines.seek(0)
    return _parsed(lines, path, ",", text_columns)


def _copy_rows(rows: Iterable[Sequence[Any]], lines: io.StringIO) -> tuple[int, tuple[int, int] | None]:
    """Write rows of values as CSV, one at a time, since a million of them as lists would take half a gigabyte.

    Empty rows are left out. Returns the width of the first row, and number and width of the first that is wider.
    """
    width, wide = 0, None
    write = csv.writer(lines, lineterminator="\n").writerow
    for number, row in enumerate(rows, 1):
        cells = _without_end([_excel_text(value) for value in row])
        if not cells:
            continue
        width = width or len(cells)
        if len(cells) > width:
            wide = wide or (number, len(cells))
        write([*cells, *[""] * (width - len(cells))])
    return width, wide


def _without_end(cells: list[str]) -> list[str]:
    """Cells up to the last that is not empty."""
    last = len(cells)
    while last and not cells[last - 1]:
        last -= 1
    return cells[:last]


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
        with path.open(encoding="utf-8-sig", newline="") as file, _long_cells():
            return _parsed(_even(file, path, separator), path, separator, text_columns, guarded=True)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}); save the table as UTF-8 or Parquet") from error
    except csv.Error as error:
        raise DataError(f"{path} is not a table: {_first_line(error)}") from error
    except OSError as error:
        raise DataError(f"{path} is not a table: {_first_line(error)}") from error


@contextmanager
def _long_cells() -> Iterator[None]:
    """Let cells be as long as pandas lets them be: a whole transcript is longer than the limit of ``csv``."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _even(lines: Any, path: Path, separator: str) -> Any:
    """The stream, at its beginning; or another, where rows have cells too many or too few, but nothing is lost by it.

    pandas drops what is too much and fills in what is too little, both without a word.
    """
    rows = csv.reader(lines, delimiter=separator)
    each = counted(rows, path)
    header = next(each, [])
    width, ragged, short = len(header), False, None
    before = rows.line_num
    for row in each:
        if len(row) != width and not _is_blank(row):
            if any(row[width:]):
                names = "1 column" if width == 1 else f"{width} columns"
                raise DataError(
                    f"{path}, line {before + 1}: the row has {len(row)} cells, but the header names {names}; "
                    f"a cell that holds {_SEPARATORS[separator]} needs quotes"
                )
            ragged = True
            if len(row) < width and (short is None or len(row) < short[1]):
                short = before + 1, len(row)
        before = rows.line_num
    lines.seek(0)
    if not ragged:
        return lines
    return _evened(
        [row for row in csv.reader(lines, delimiter=separator) if not _is_blank(row)], path, separator, short
    )


def _is_blank(row: list[str]) -> bool:
    return not row or (len(row) == 1 and not row[0].strip())


def _evened(rows: list[list[str]], path: Path, separator: str, short: tuple[int, int] | None) -> io.StringIO:
    """Rows as wide as the first. Raises DataError where one lacks a column that others have something in.

    ``short`` is the line and the number of cells of the shortest one.
    """
    width = len(rows[0])
    if short is not None and any(any(row[short[1] : width]) for row in rows[1:]):
        line, n = short
        raise DataError(
            f"{path}, line {line}: the row has {n} cells, but the header names {width} columns; "
            "an empty cell stands for a missing value"
        )
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, delimiter=separator, lineterminator="\n")
    writer.writerows([*row[:width], *[""] * (width - len(row))] for row in rows)
    lines.seek(0)
    return lines


def _parsed(lines: Any, path: Path, separator: str, text_columns: Sequence[str], guarded: bool = False) -> pd.DataFrame:
    """The table in a stream of text that stands at its beginning; apostrophes are taken off ``guarded`` text."""
    import pandas as pd

    try:
        header = next(csv.reader(lines, delimiter=separator), [])
        lines.seek(0)
        names = [unguarded(name) for name in header] if guarded else header
        check_header(path, names)
        known = {*names[:1], *text_columns, *(c for c in names if c.lower() in (*ID_COLUMNS, *LABEL_COLUMNS))}
        text = [cell for cell, name in zip(header, names, strict=True) if name in known]
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # raised where cells would be dropped
            table = pd.read_csv(
                lines,
                sep=separator,
                dtype=dict.fromkeys(text, str),
                na_values={name: GAPS for name in header if name not in text},
                keep_default_na=False,
                index_col=False,
                low_memory=False,
            )
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path} is not a table: {_first_line(error)}") from error
    return _each_text(table, unguarded) if guarded else table


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
    twice = sorted(name for name, count in Counter(header).items() if count > 1)
    if twice:
        raise DataError(f"{path} names the column {twice[0]!r} twice")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
