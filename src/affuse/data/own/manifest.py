"""Tables that list people's own data: one row a labelled moment."""

from __future__ import annotations

import csv
import difflib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from affuse.data.cells import cell_text, find_columns, number, time_span
from affuse.data.own.samples import DataOptions, Sample
from affuse.data.own.unchecked import RowProblem, UncheckedData
from affuse.data.splits import find_split
from affuse.errors import DataError, TranscriptError
from affuse.labels import recognise
from affuse.media.transcript import decode_text
from affuse.tables import TABLE_SUFFIXES, check_bytes, check_header, counted, read_table, unguarded

__all__ = ["read_manifest"]

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
_ACTION_UNITS = ("au_*", "au[0-9]*")
_ALIKE = 0.84  # difflib's ratio from which a name counts as misspelt; of "stars" to "start" it is .8


@dataclass(frozen=True)
class _Table:
    """Records by column name, and the rows (counted from 1) whose number of cells is not that of the header."""

    path: Path
    columns: tuple[str, ...]
    records: Sequence[Mapping[str, Any]]
    uneven: Mapping[int, int] = field(default_factory=dict)


def read_manifest(path: Path, modality: str, options: DataOptions) -> UncheckedData:
    """Read the rows of a CSV, TSV, Parquet or Excel table; paths in it are relative to its folder.

    Columns: path, start and end (seconds), text, label or one column of votes or shares a label, speaker, split, and
    for a joint model numeric features. Raises DataError where the file is no such table or lacks a column.
    """
    table = _read(path)
    columns = _columns(table, modality)
    votes = _vote_columns(table, columns)
    if "label" not in columns and not votes and options.unlabelled == "refuse":
        raise _lacking(table, ("label",))
    features = _feature_columns(table, {*columns.values(), *votes}, options) if modality == "joint" else ()
    data = UncheckedData(path.stem, vote_words=votes, column_names=features)
    unused = [name for name in table.columns if name not in {*columns.values(), *votes, *features}]
    if unused:
        data.notes.append(f"columns of {path.name} that are not used: {', '.join(unused)}")
    reader = _RowReader(path, data, columns)
    for row, record in enumerate(table.records, 1):
        reader.add(f"{path.name}, row {row}", record)
    data.problems += [
        RowProblem(
            f"{path.name}, row {row}", f"{cells} cells, but the header names {len(table.columns)} (quotes missing?)"
        )
        for row, cells in table.uneven.items()
    ]
    return data


def _read(path: Path) -> _Table:
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise DataError(f"{path} is no table that can list data; it must end in {', '.join(TABLE_SUFFIXES)}")
    if suffix not in (".csv", ".tsv"):
        frame = read_table(path)
        return _Table(path, tuple(map(str, frame.columns)), frame.to_dict("records"))
    try:
        check_bytes(path, path.stat().st_size)
        return _parse(path, decode_text(path, path.read_bytes()))
    except TranscriptError as error:
        raise DataError(str(error)) from error
    except (csv.Error, OSError) as error:
        raise DataError(f"{path} is not a table: {error}") from error


def _parse(path: Path, text: str) -> _Table:
    """The table of a text with cells as they are written: a label "NA" or a speaker "007" must stay so."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=text.partition("\n")[0].count))
    rows = counted(lines, path)
    header = [name.strip() for name in next(rows, [])]
    check_header(path, header)
    cells = [[unguarded(cell) for cell in line] for line in rows if any(line)]
    if not cells:
        raise DataError(f"{path} holds no rows")
    records = [dict(zip_longest(header, line[: len(header)], fillvalue="")) for line in cells]
    uneven = {row: len(line) for row, line in enumerate(cells, 1) if len(line) != len(header)}
    return _Table(path, tuple(header), records, uneven)


def _columns(table: _Table, modality: str) -> dict[str, str]:
    """The table's name of every column that is there. A name that is nearly one of ours is a mistake, not a remark."""
    written = {name.strip().casefold(): name for name in table.columns}
    found = find_columns(table.columns, _NAMES)
    if not any(role in found for role in _NEEDED[modality]):
        raise _lacking(table, _NEEDED[modality])
    lacking = [role for role in _NAMES if role not in found]
    for name in written.keys() - {name.strip().casefold() for name in found.values()}:
        if near := difflib.get_close_matches(name, lacking, n=1, cutoff=_ALIKE):
            raise DataError(f"{table.path} has a column {written[name]!r}; did you mean {near[0]!r}?")
    return found


def _lacking(table: _Table, roles: Sequence[str]) -> DataError:
    near = [name for role in roles for name in difflib.get_close_matches(role, table.columns, n=1, cutoff=0.6)]
    hint = f" (is it {near[0]!r}?)" if near else ""
    listed = ", ".join(table.columns)
    return DataError(f"{table.path} has no column named {' or '.join(roles)}{hint}; its columns: {listed}")


def _vote_columns(table: _Table, columns: Mapping[str, str]) -> tuple[str, ...]:
    votes = tuple(name for name in table.columns if name not in columns.values() and recognise(name))
    return votes if len(votes) > 1 else ()


def _feature_columns(table: _Table, taken: set[str], options: DataOptions) -> tuple[str, ...]:
    free = [name for name in table.columns if name not in taken]
    chosen = set()
    for pattern in options.columns or _ACTION_UNITS:
        matching = {name for name in free if fnmatch(name.casefold(), pattern.casefold())}
        if options.columns and not matching:
            listed = ", ".join(free) or "none"
            raise DataError(f"{table.path} has no column like {pattern!r}; columns left for features: {listed}")
        chosen |= matching
    return tuple(name for name in free if name in chosen)


class _RowReader:
    """Turns records of a table into samples, and cells that do not fit into problems."""

    def __init__(self, table: Path, data: UncheckedData, columns: Mapping[str, str]) -> None:
        self._folder = table.parent
        self._data = data
        self._columns = columns

    def add(self, where: str, record: Mapping[str, Any]) -> None:
        problems: list[str] = []
        cells = {role: cell_text(record[name]) for role, name in self._columns.items()}
        start, end = _times(cells, problems)
        split = find_split(cells.get("split", ""))
        if split is None and cells.get("split"):
            problems.append(f"unknown split {cells['split']!r}; known: train, dev, test")
        sample = Sample(
            where=where,
            path=self._path(cells.get("path", "")),
            start=start,
            end=end,
            text=cells.get("text") or None,
            distribution=_votes(record, self._data.vote_words, problems),
            speaker=cells.get("speaker") or None,
            split=split or "",
            columns=_features(record, self._data.column_names, problems),
        )
        self._data.samples.append(sample)
        self._data.words.append(cells.get("label", ""))
        self._data.problems += [RowProblem(where, reason) for reason in problems]

    def _path(self, cell: str) -> Path | None:
        if not cell:
            return None
        path = self._folder / cell
        return path if path.exists() or "\\" not in cell else self._folder / cell.replace("\\", "/")


def _times(cells: Mapping[str, str], problems: list[str]) -> tuple[float | None, float | None]:
    """Start and end where they are right; where not, None, so that the file itself is checked all the same."""
    try:
        return time_span(cells)
    except DataError as error:
        problems.append(str(error))
        return None, None


def _votes(record: Mapping[str, Any], names: Sequence[str], problems: list[str]) -> np.ndarray | None:
    if not names:
        return None
    cells = [cell_text(record[name]) for name in names]
    votes = np.array([number(cell or "0") for cell in cells])
    wrong = ~np.isfinite(votes) | (votes < 0)
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        problems.append(f"column {names[i]!r} must hold votes or shares from 0; got {cells[i]!r}")
        return None
    return votes if votes.sum() > 0 else None


def _features(record: Mapping[str, Any], names: Sequence[str], problems: list[str]) -> np.ndarray | None:
    if not names:
        return None
    cells = [cell_text(record[name]) for name in names]
    values = np.array([number(cell) if cell else math.nan for cell in cells])
    for name, cell, value in zip(names, cells, values, strict=True):
        if cell and not math.isfinite(value):
            problems.append(f"column {name!r} must hold numbers; got {cell!r}")
            break
    return values
