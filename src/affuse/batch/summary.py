"""The summaries: a row a person and row of the manifest, with the user's own columns."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from affuse.batch.rows import FLOAT, TEXT, WHOLE, Columns
from affuse.batch.sources import Source
from affuse.batch.store import Store, arrow_table, lists_of, read_arrow
from affuse.files import replacing
from affuse.tables import guarded

__all__ = ["own_names", "summarise", "write_csv"]

_FIRST = ("path", "key", "error")


def summarise(
    store: Store, source: Source, keys: Sequence[str], reasons: Mapping[tuple[str, str], str]
) -> tuple[Columns, dict[str, str]]:
    """Write the summaries as Parquet and as summary.csv; return them, and names of the user's own columns in them.

    ``keys`` are those of the items, empty for what could not be read; ``reasons`` why one failed, by name and key.
    """
    kinds = _person_kinds(store)
    own = own_names(source.columns, (*_FIRST, *kinds))
    columns = _summary_columns(store, source, keys, reasons, kinds, own)
    store.write_summaries(arrow_table(columns))
    write_csv(columns, store.folder / "summary.csv")
    return columns, own


def write_csv(columns: Columns, path: Path) -> None:
    """Write columns as a CSV file, whole or not at all; whole numbers stay whole where others are missing.

    Text that a spreadsheet would run as a formula gets an apostrophe before it.
    """
    with replacing(path) as (part,), part.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(map(guarded, columns))
        lines.writerows(zip(*(map(guarded, values) for _, values in columns.values()), strict=True))


def _summary_columns(
    store: Store,
    source: Source,
    keys: Sequence[str],
    reasons: Mapping[tuple[str, str], str],
    kinds: Mapping[str, str],
    own: Mapping[str, str],
) -> Columns:
    """The summaries in order of the names of the recordings; a recording that failed is a row without an answer."""
    wanted = set(keys)
    people = {key: _rows(lists_of(table)) for key, table in store.tables("persons") if key in wanted}
    order = sorted(range(len(keys)), key=lambda number: (source.items[number].name, number))
    rows = []
    for number in order:
        item, key = source.items[number], keys[number]
        first = {"path": item.name, "key": key, "error": reasons.get((item.name, key))}
        first |= {new: item.own[name] for name, new in own.items()}
        rows += [{**first, **row} for row in people.get(key, [{}])]
    all_kinds = {"path": TEXT, **{new: _kind(source, name) for name, new in own.items()}, "key": TEXT, **kinds}
    all_kinds["error"] = TEXT
    return {name: (kind, [row.get(name) for row in rows]) for name, kind in all_kinds.items()}


def own_names(columns: Sequence[str], ours: Sequence[str]) -> dict[str, str]:
    """Names of the user's own columns in the summaries: one that is ours too gets the ending "_manifest".

    Examples
    --------
    >>> own_names(["age", "label"], ["path", "label"])
    {'age': 'age', 'label': 'label_manifest'}
    """
    names: dict[str, str] = {}
    for column in columns:
        new = column
        while new in ours or new in names.values() or (new != column and new in columns):
            new += "_manifest"
        names[column] = new
    return names


def _rows(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _person_kinds(store: Store) -> dict[str, str]:
    """Kinds of the columns of the persons, in their order."""
    kinds: dict[str, str] = {}
    for path in store.parts("persons"):
        for field in read_arrow(path).schema:
            name = str(field.type)
            kinds.setdefault(field.name, WHOLE if "Int" in name else FLOAT if "Float" in name else TEXT)
    return {name: kind for name, kind in kinds.items() if name not in _FIRST}


def _kind(source: Source, column: str) -> str:
    values = [item.own[column] for item in source.items if item.own[column] is not None]
    if values and all(isinstance(value, int) for value in values):
        return WHOLE
    return FLOAT if values and all(isinstance(value, int | float) for value in values) else TEXT
