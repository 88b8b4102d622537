"""Tables on disk: one reader and one writer of CSV, TSV and Parquet."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affuse.errors import ConfigError, DataError
from affuse.files import replacing

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "GAPS",
    "ID_COLUMNS",
    "LABEL_COLUMNS",
    "PARQUET_SUFFIXES",
    "TABLE_SUFFIXES",
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

_ROWS_AT_ONCE = 200

PARQUET_SUFFIXES = (".parquet", ".pq")
TABLE_SUFFIXES = (".csv", ".tsv", *PARQUET_SUFFIXES)
"""Suffixes of the files that `read_table` and `write_table` know."""


def read_table(path: Path, text_columns: Sequence[str] = ()) -> pd.DataFrame:
    """Read a CSV, TSV or Parquet file.

    Parameters
    ----------
    path : Path
        The file; its suffix says what it is.
    text_columns : sequence of str
        Columns whose cells stay as they are written, beside the first column and those named in `ID_COLUMNS` and
        `LABEL_COLUMNS`: an id "007" stays so.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    DataError
        If the file is missing, empty, not a table, or names a column twice.

    Examples
    --------
    >>> _ = Path("rows.csv").write_text("id,anger\\n007,0.25\\n")
    >>> read_table(Path("rows.csv")).to_dict("records")
    [{'id': '007', 'anger': 0.25}]
    """
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(f"{path} {state}; a CSV, TSV or Parquet file is needed")
    table = _read_parquet(path) if path.suffix.lower() in PARQUET_SUFFIXES else _read_text(path, text_columns)
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
    if suffix in PARQUET_SUFFIXES:
        _write_parquet(table, part)
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


def _read_text(path: Path, text_columns: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file, delimiter=separator), [])
        if not any(name.strip() for name in header):
            raise DataError(f"{path} is empty; a table with a header is needed")
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice:
            raise DataError(f"{path} names the column {twice[0]!r} twice")
        text = {*header[:1], *text_columns, *(c for c in header if c.lower() in (*ID_COLUMNS, *LABEL_COLUMNS))}
        return pd.read_csv(
            path,
            sep=separator,
            encoding="utf-8-sig",
            dtype={name: str for name in header if name in text},
            na_values={name: GAPS for name in header if name not in text},
            keep_default_na=False,
            index_col=False,
            low_memory=False,
        )
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}); save the table as UTF-8 or Parquet") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, csv.Error, OSError) as error:
        raise DataError(f"{path} is not a table: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
