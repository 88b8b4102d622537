"""The data set of a batch on disk: parts that appear whole, and finished recordings known from the parts alone.

::

    DIR/configurations/<fingerprint>.json                       options, versions, checksums
    DIR/windows/configuration=<fingerprint>/part-3.parquet      one row a window and person
    DIR/persons/configuration=<fingerprint>/part-3.parquet      one row a person and recording
    DIR/pictures/configuration=<fingerprint>/part-3.parquet     one row a picture of the strongest moment of a person
    DIR/errors/configuration=<fingerprint>/part-0.parquet       one row a recording that could not be analysed
    DIR/contents/configuration=<fingerprint>/part-0.parquet     one row a recording in cloud storage, with what it held
    DIR/summaries/configuration=<fingerprint>/part-0.parquet    one row a person and row of the manifest

A run adds parts with names of their own, "new-…": first the windows and pictures, then the persons of some recordings.
A recording is finished once its persons are there; what was left without persons by a run that was killed goes. At the
end of a run the new parts are merged by the first digit of the keys of the recordings and sorted by key, so that the
bytes do not depend on the order of work. A run that is killed while it merges leaves a recording in two parts at most,
of which the merged one counts, and the next run finishes the merging.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affuse.batch.lease import leased
from affuse.batch.rows import FLOAT, TEXT, WHOLE, Columns
from affuse.batch.storage import is_remote, told, uncached
from affuse.errors import ConfigError, DataError, OutputError
from affuse.files import replacing, write_json

if TYPE_CHECKING:
    from arro3.core import DataType, Table

__all__ = [
    "ERROR_COLUMNS",
    "TABLES",
    "Store",
    "arrow_table",
    "configurations",
    "joined",
    "key_groups",
    "lists_of",
    "locked",
    "read_arrow",
    "refuse_foreign",
]

TABLES = ("windows", "persons", "pictures", "summaries", "errors", "contents")
"""Tables of a data set; the last one is there where recordings lie in cloud storage."""

_BEFORE_PERSONS = ("windows", "pictures")  # whose rows count once those of the persons are there

ERROR_COLUMNS = ("path", "key", "error", "reason")
"""Columns of the errors: recording, key of its content, kind of error, and the reason in one sentence."""

CONTENT_COLUMNS = ("path", "version", "key")
"""Columns of the contents: address of a recording, version that its storage tells, and key of what was in it."""

_DIGITS = "0123456789abcdef"
_MERGE_BYTES = 64_000_000  # of Parquet files that are merged at once, which are some times as large in memory
_LOCK = ".lock"


def arrow_table(columns: Columns) -> Table:
    """An Arrow table of columns with their kinds."""
    from arro3.core import Array, DataType, Table

    types = {TEXT: DataType.utf8(), FLOAT: DataType.float64(), WHOLE: DataType.int64()}
    return Table.from_pydict({name: Array(values, types[kind]) for name, (kind, values) in columns.items()})


def joined(tables: Sequence[Table]) -> Table:
    """Tables below each other, in one batch, so that the same rows make the same file whatever they came from.

    A column that tables of an earlier version lack is empty there.
    """
    from arro3.core import Table

    types = {field.name: field.type for table in tables for field in table.schema}
    batches = [batch for table in tables for batch in _with_columns(table, types).to_batches()]
    return Table.from_batches(batches).combine_chunks()


def _with_columns(table: Table, types: Mapping[str, DataType]) -> Table:
    """A table with these columns in this order, those that it lacks empty."""
    from arro3.core import Array, Table

    if table.column_names == list(types):
        return table
    return Table.from_pydict(
        {
            name: table.column(name).combine_chunks()
            if name in table.column_names
            else Array([None] * table.num_rows, kind)
            for name, kind in types.items()
        }
    )


def read_arrow(path: Path) -> Table:
    """The rows of a part. Raises DataError where it is none."""
    from arro3.io import read_parquet

    try:
        content: bytes = path.read_bytes()
        if content[-4:] != b"PAR1":
            raise DataError(f"{path} is not a Parquet file, or not all of it is there; delete it and run again")
        return read_parquet(BytesIO(content) if is_remote(path) else path).read_all()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or told(error)}") from error


def write_arrow(table: Table, path: Path) -> None:
    """Write a part, whole or not at all."""
    from arro3.io import write_parquet

    with replacing(path) as (part,):
        write_parquet(table, part, compression="zstd(3)")


def lists_of(table: Table) -> dict[str, list[Any]]:
    """The columns of a table as lists, with None for missing values."""
    return {str(name): [value.as_py() for value in table.column(name)] for name in table.column_names}


def key_groups(table: Table) -> Iterator[tuple[str, Table]]:
    """The rows of each recording, which follow each other, with its key."""
    keys = [value.as_py() for value in table.column("key")]
    start = 0
    for end in range(1, len(keys) + 1):
        if end == len(keys) or keys[end] != keys[start]:
            yield keys[start], table.slice(start, end - start)
            start = end


def configurations(folder: Path) -> list[str]:
    """Fingerprints of the configurations that a data set holds."""
    return sorted(path.stem for path in (folder / "configurations").glob("*.json"))


class Store:
    """One configuration of a data set.

    Parameters
    ----------
    folder : Path
        The data set.
    configuration : str
        Fingerprint of the configuration.
    """

    def __init__(self, folder: Path, configuration: str) -> None:
        if not re.fullmatch(r"[0-9a-f]{16}", configuration):
            raise ConfigError(f"a configuration has 16 hexadecimal digits; got {configuration!r}")
        self.folder = folder
        self.configuration = configuration

    # --- files --------------------------------------------------------------------------------------------------------

    def place(self, table: str) -> Path:
        """The folder of a table."""
        return self.folder / table / f"configuration={self.configuration}"

    def parts(self, table: str) -> list[Path]:
        """Files of a table: merged ones first, which count where a recording is in two."""
        return sorted(self.place(table).glob("part-*.parquet")) + self.new_parts(table)

    def new_parts(self, table: str) -> list[Path]:
        """Files of a table that are not merged yet."""
        return sorted(self.place(table).glob("new-*.parquet"))

    @contextmanager
    def opened(self, description: dict[str, Any]) -> Iterator[None]:
        """Be the only run that writes here, and take away what a killed one left half done.

        Raises OutputError where another run writes here, or the folder holds something else.
        """
        refuse_foreign(uncached(self.folder))
        with locked(self.folder):
            uncached(self.folder)
            write_json(self.folder / "configurations" / f"{self.configuration}.json", description)
            self._tidy()
            yield

    def _tidy(self) -> None:
        for table in TABLES:
            for part in self.place(table).glob(".*.part"):
                part.unlink(missing_ok=True)
        committed = {path.name for path in self.new_parts("persons")}
        for table in _BEFORE_PERSONS:
            for path in self.new_parts(table):
                if path.name not in committed:
                    path.unlink()

    # --- rows ---------------------------------------------------------------------------------------------------------

    def add(
        self,
        windows: Sequence[Table],
        persons: Sequence[Table],
        errors: Sequence[dict[str, str]],
        contents: Sequence[dict[str, str]] = (),
        pictures: Sequence[Table] = (),
    ) -> None:
        """Write a part about some recordings. The order makes sure that what counts as finished is complete."""
        name = f"new-{uuid.uuid4().hex}.parquet"
        if contents:
            write_arrow(_text_table(contents, CONTENT_COLUMNS), self.place("contents") / name)
        if errors:
            write_arrow(_text_table(errors, ERROR_COLUMNS), self.place("errors") / name)
        if persons:
            write_arrow(joined(windows), self.place("windows") / name)
            if pictures:
                write_arrow(joined(pictures), self.place("pictures") / name)
            write_arrow(joined(persons), self.place("persons") / name)

    def finished(self) -> set[str]:
        """Keys of the recordings whose results are there."""
        return {key for path in self.parts("persons") for key in lists_of(read_arrow(path).select(["key"]))["key"]}

    def tables(self, table: str) -> Iterator[tuple[str, Table]]:
        """The rows of every recording that is finished, with its key, each once."""
        finished = self.finished() if table in _BEFORE_PERSONS else None
        seen: set[str] = set()
        for path in self.parts(table):
            for key, rows in key_groups(read_arrow(path)):
                if key not in seen and (finished is None or key in finished):
                    seen.add(key)
                    yield key, rows

    def pictured(self) -> set[tuple[str, int]]:
        """Key of the recording and rank of the person of every picture."""
        found: set[tuple[str, int]] = set()
        for _, table in self.tables("pictures"):
            rows = lists_of(table.select(["key", "rank"]))
            found |= set(zip(rows["key"], rows["rank"], strict=True))
        return found

    def pictures(self, wanted: Collection[tuple[str, int]]) -> dict[tuple[str, int], str]:
        """Those of the wanted pictures that there are, JPEG in Base64, by key of the recording and rank of a person."""
        found: dict[tuple[str, int], str] = {}
        keys = {key for key, _ in wanted}
        for key, table in self.tables("pictures"):
            if key in keys:
                rows = lists_of(table)
                found |= {(key, rank): p for rank, p in zip(rows["rank"], rows["picture"], strict=True)}
        return {place: found[place] for place in wanted if place in found}

    def errors(self) -> list[dict[str, str]]:
        """Rows of the errors, each recording once."""
        found: dict[tuple[str, str], dict[str, str]] = {}
        for path in self.parts("errors"):
            columns = lists_of(read_arrow(path))
            for values in zip(*(columns[name] for name in ERROR_COLUMNS), strict=True):
                row = dict(zip(ERROR_COLUMNS, values, strict=True))
                found.setdefault((row["path"], row["key"]), row)
        return list(found.values())

    def contents(self) -> dict[tuple[str, str], str]:
        """Keys of what recordings in cloud storage held, by address and version."""
        found: dict[tuple[str, str], str] = {}
        for path in self.parts("contents"):
            columns = lists_of(read_arrow(path))
            places = zip(columns["path"], columns["version"], strict=True)
            found |= dict(zip(places, columns["key"], strict=True))
        return found

    def replace_contents(self, found: Mapping[tuple[str, str], str]) -> None:
        """Let these be all that is known of what recordings in cloud storage held."""
        old = self.parts("contents")
        rows = [dict(zip(CONTENT_COLUMNS, (*place, found[place]), strict=True)) for place in sorted(found)]
        self._replace("contents", old, _text_table(rows, CONTENT_COLUMNS) if rows else None)

    def replace_errors(self, rows: Iterable[dict[str, str]]) -> None:
        """Let these be all rows of the errors, in order of path and key."""
        old = self.parts("errors")
        ordered = sorted(rows, key=lambda row: (row["path"], row["key"]))
        self._replace("errors", old, _text_table(ordered, ERROR_COLUMNS) if ordered else None)

    def _replace(self, table: str, old: Sequence[Path], new: Table | None) -> None:
        """Let one part be all of a table, in place of older ones; None leaves no part."""
        target = self.place(table) / "part-0.parquet"
        if new is not None:
            write_arrow(new, target)
        for path in old:
            if path != target or new is None:
                path.unlink()

    def write_summaries(self, table: Table) -> None:
        """Let this table be the summaries."""
        write_arrow(table, self.place("summaries") / "part-0.parquet")

    # --- merging ------------------------------------------------------------------------------------------------------

    def merge(self) -> None:
        """Merge new parts into those that are named by the first digit of the keys, sorted by key."""
        persons, before = self.new_parts("persons"), [p for table in _BEFORE_PERSONS for p in self.new_parts(table)]
        if not persons:
            return
        size = sum(path.stat().st_size for path in before)
        step = ceil(len(_DIGITS) / min(len(_DIGITS), max(1, ceil(size / _MERGE_BYTES))))
        for first in range(0, len(_DIGITS), step):
            digits = _DIGITS[first : first + step]
            for table in (*_BEFORE_PERSONS, "persons"):
                self._merge(table, digits)
        for path in [*persons, *before]:
            path.unlink()

    def _merge(self, table: str, digits: str) -> None:
        """Merge the rows of the recordings whose keys begin with some digits."""
        parts = []
        for path in self.new_parts(table):
            rows = read_arrow(path)
            parts.append(_taken(rows, [row for row, key in enumerate(_keys(rows)) if key[0] in digits]))
        if not parts:
            return  # no recording has a picture
        new = joined(parts)
        keys = _keys(new)
        for digit in sorted({key[0] for key in keys}):
            own = [row for row, key in enumerate(keys) if key[0] == digit]
            target = self.place(table) / f"part-{digit}.parquet"
            old = [read_arrow(target)] if target.exists() else []
            if {keys[row] for row in own} - {key for rows in old for key in _keys(rows)}:
                write_arrow(_sorted_by_key([*old, _taken(new, own)]), target)


def _keys(table: Table) -> list[str]:
    return [value.as_py() for value in table.column("key")]


def _taken(table: Table, rows: Sequence[int]) -> Table:
    """Some rows of a table, in one batch; a table for each recording would take forty kilobytes."""
    from arro3.core import Array, DataType, Table

    (batch,) = table.combine_chunks().to_batches()
    return Table.from_batches([batch.take(Array(rows, DataType.uint64()))])


def _sorted_by_key(tables: Sequence[Table]) -> Table:
    """The rows of every recording, each from the first table that has it, in order of the keys."""
    source: dict[str, int] = {}
    chosen: list[tuple[str, int]] = []
    start = 0
    for number, table in enumerate(tables):
        keys = _keys(table)
        chosen += [(key, start + row) for row, key in enumerate(keys) if source.setdefault(key, number) == number]
        start += len(keys)
    return _taken(joined(tables), [row for _, row in sorted(chosen)])


def _text_table(rows: Sequence[dict[str, str]], columns: Sequence[str]) -> Table:
    return arrow_table({name: (TEXT, [row[name] for row in rows]) for name in columns})


def refuse_foreign(folder: Path) -> None:
    """Raise OutputError where a folder holds something else than the data set of a batch, or cannot be reached."""
    try:
        _refuse_foreign(folder)
    except OutputError:
        raise
    except Exception as error:
        if not is_remote(folder):
            raise
        raise OutputError(f"{folder} cannot be reached: {told(error)}") from error


def _refuse_foreign(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} is a file; --out names a folder")
    if not (folder / "configurations").is_dir() and any(path.name != _LOCK for path in folder.iterdir()):
        raise OutputError(f"{folder} exists and holds no data set of affuse batch; choose another folder for --out")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a lock that ends with this process, however it ends; in cloud storage, soon after it."""
    if is_remote(folder):
        with leased(folder / _LOCK):
            yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / _LOCK).open("a")
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written ({str(error.strerror).lower()}); choose another place"
        ) from error
    with file:
        try:
            _lock(file.fileno())
        except OSError as error:
            raise OutputError(f"another run writes to {folder}; wait for its end, or choose another folder") from error
        yield


def _lock(descriptor: int) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        return
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
