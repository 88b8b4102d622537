"""Tables that list people's own data: one row a labelled moment."""

from __future__ import annotations

import csv
import difflib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse.datasets.predictions import read_table
from affuse.errors import DataError, TranscriptError
from affuse.labels import recognise
from affuse.media.transcript import decode_text
from affuse.training.data.rows import Problem, Rows, split_name
from affuse.training.data.samples import DataOptions, Sample

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TABLE_SUFFIXES", "read_manifest"]

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq")

# What a column may be called; the first name is the one that sentences use.
_NAMES = {
    "path": ("path", "file", "filename", "file_name", "filepath", "file_path", "clip", "audio", "video", "image"),
    "start": ("start", "begin", "onset"),
    "end": ("end", "stop", "offset"),
    "text": ("text", "sentence", "utterance", "transcript", "content", "review"),
    "label": ("label", "emotion", "sentiment", "target", "class"),
    "speaker": ("speaker", "speaker_id", "subject", "actor", "group"),
    "split": ("split", "partition", "subset", "set"),
}
_NEEDED = {"voice": ("path",), "face": ("path",), "text": ("text",), "joint": ("path", "text")}
_GAPS = {"", "nan", "na", "n/a", "null", "none", "-"}
_ACTION_UNITS = ("au_*", "au[0-9]*")
_ALIKE = 0.8


def read_manifest(path: Path, modality: str, options: DataOptions) -> Rows:
    """Read the rows of a CSV, TSV or Parquet table; paths in it are relative to its folder.

    Columns: path, start and end (seconds), text, label or one column of votes or shares a label, speaker, split, and
    for a joint model numeric features. Raises DataError where the file is no such table or lacks a column.
    """
    table = _read(path)
    columns = _columns(table, path, modality)
    votes = () if "label" in columns and modality == "joint" else _vote_columns(table, columns)
    if "label" not in columns and len(votes) < 2 and options.unlabelled == "refuse":
        raise _lacking(path, table, ("label",))
    features = _feature_columns(table, path, {*columns.values(), *votes}, options) if modality == "joint" else ()
    rows = Rows(path.stem, vote_words=votes, column_names=features)
    reader = _RowReader(path, rows, columns)
    for i, record in enumerate(table.to_dict("records")):
        reader.add(f"{path.name}, row {i + 1}", record)
    return rows


def _read(path: Path) -> pd.DataFrame:
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise DataError(f"{path} is no table that can list data; it must end in {', '.join(TABLE_SUFFIXES)}")
    if path.suffix.lower() in {".parquet", ".pq"}:
        return read_table(path)
    return _parse(path, _decode(path))


def _decode(path: Path) -> str:
    try:
        return decode_text(path, path.read_bytes())
    except TranscriptError as error:
        raise DataError(str(error)) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _parse(path: Path, text: str) -> pd.DataFrame:
    """The table of a text, all cells as they are written (a label "NA" or a speaker "007" must stay so)."""
    import pandas as pd

    first = text.lstrip().partition("\n")[0]
    separator = max(",;\t", key=first.count)
    header = next(csv.reader(io.StringIO(text.lstrip()), delimiter=separator), [])
    if not any(name.strip() for name in header):
        raise DataError(f"{path} is empty; a table with a header is needed")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{path} names the column {twice[0]!r} twice")
    try:
        table = pd.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, index_col=False)
    except (pd.errors.ParserError, csv.Error) as error:
        raise DataError(f"{path} is not a table: {str(error).strip().splitlines()[0]}") from error
    if table.empty:
        raise DataError(f"{path} holds no rows")
    return table


def _columns(table: pd.DataFrame, path: Path, modality: str) -> dict[str, str]:
    """The table's name of every column that is there. A name that is nearly one of ours is a mistake, not a remark."""
    written = {str(name).strip().casefold(): str(name) for name in table.columns}
    found = {}
    for role, names in _NAMES.items():
        name = next((n for n in names if n in written), None)
        if name is not None:
            found[role] = written[name]
    if not any(role in found for role in _NEEDED[modality]):
        raise _lacking(path, table, _NEEDED[modality])
    for name in written.keys() - {n.strip().casefold() for n in found.values()}:
        near = difflib.get_close_matches(name, [role for role in _NAMES if role not in found], n=1, cutoff=_ALIKE)
        if near:
            raise DataError(f"{path} has a column {written[name]!r}; did you mean {near[0]!r}?")
    return found


def _lacking(path: Path, table: pd.DataFrame, roles: Sequence[str]) -> DataError:
    names = [str(name) for name in table.columns]
    near = [n for role in roles for n in difflib.get_close_matches(role, names, n=1, cutoff=0.6)]
    hint = f"; did you mean {near[0]!r} to be it?" if near else ""
    return DataError(f"{path} has no column named {' or '.join(roles)}{hint}; its columns: {', '.join(names)}")


def _vote_columns(table: pd.DataFrame, columns: Mapping[str, str]) -> tuple[str, ...]:
    names = [str(name) for name in table.columns if name not in columns.values()]
    votes = tuple(name for name in names if recognise(name))
    return votes if len(votes) > 1 else ()


def _feature_columns(table: pd.DataFrame, path: Path, taken: Iterable[str], options: DataOptions) -> tuple[str, ...]:
    free = [str(name) for name in table.columns if name not in set(taken)]

    def matching(pattern: str) -> list[str]:
        return [name for name in free if fnmatch(name.casefold(), pattern.casefold())]

    for pattern in options.columns:
        if not matching(pattern):
            raise DataError(
                f"{path} has no column like {pattern!r}; columns left for features: {', '.join(free) or '-'}"
            )
    chosen = {name for pattern in options.columns or _ACTION_UNITS for name in matching(pattern)}
    return tuple(name for name in free if name in chosen)


class _RowReader:
    """Turns records of a table into samples, and cells that do not fit into problems."""

    def __init__(self, table: Path, rows: Rows, columns: Mapping[str, str]) -> None:
        self._folder = table.parent
        self._rows = rows
        self._columns = columns

    def add(self, where: str, record: Mapping[str, Any]) -> None:
        problems: list[str] = []
        cells = {role: _cell(record[name]) for role, name in self._columns.items()}
        start, end = (self._number(cells, role, problems) for role in ("start", "end"))
        if start is not None and start < 0:
            problems.append(f"start must be 0 s or later; got {start:g}")
        if end is not None and (start or 0.0) >= end:
            problems.append(f"the row starts at {start or 0.0:g} s and ends at {end:g} s; it must end after it starts")
        split = split_name(cells.get("split", ""))
        if split is None and cells.get("split"):
            problems.append(f"unknown split {cells['split']!r}; valid splits: train, valid, test")
        sample = Sample(
            where=where,
            path=self._path(cells.get("path", "")),
            start=start,
            end=end,
            text=cells.get("text") or None,
            distribution=_votes(record, self._rows.vote_words, problems),
            speaker=cells.get("speaker") or None,
            split=split or "",
            columns=_features(record, self._rows.column_names, problems),
        )
        self._rows.samples.append(sample)
        self._rows.words.append(cells.get("label", ""))
        self._rows.problems += [Problem(where, reason) for reason in problems]

    def _path(self, cell: str) -> Path | None:
        if not cell:
            return None
        path = self._folder / cell
        return path if path.exists() or "\\" not in cell else self._folder / cell.replace("\\", "/")

    def _number(self, cells: Mapping[str, str], role: str, problems: list[str]) -> float | None:
        cell = cells.get(role, "")
        if not cell:
            return None
        number = _float(cell)
        if not math.isfinite(number):
            problems.append(f"{role} must be seconds, such as 12.5; got {cell!r}")
            return None
        return number


def _cell(value: Any) -> str:
    text = "" if value is None else str(value).strip()
    return "" if text.casefold() in _GAPS else text


def _float(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _votes(record: Mapping[str, Any], names: Sequence[str], problems: list[str]) -> np.ndarray | None:
    if not names:
        return None
    cells = [_cell(record[name]) for name in names]
    votes = np.array([_float(cell or "0") for cell in cells])
    wrong = ~np.isfinite(votes) | (votes < 0)
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        problems.append(f"column {names[i]!r} must hold votes or shares from 0; got {cells[i]!r}")
        return None
    return votes if votes.sum() > 0 else None


def _features(record: Mapping[str, Any], names: Sequence[str], problems: list[str]) -> np.ndarray | None:
    if not names:
        return None
    cells = [_cell(record[name]) for name in names]
    values = np.array([_float(cell) if cell else math.nan for cell in cells])
    for name, cell, value in zip(names, cells, values, strict=True):
        if cell and not math.isfinite(value):
            problems.append(f"column {name!r} must hold numbers; got {cell!r}")
            break
    return values
