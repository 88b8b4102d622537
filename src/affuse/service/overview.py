"""All finished analyses of a service as one page, tables and one archive."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import PurePosixPath
from typing import Any

from affuse.batch.overview import Pictures, overview_columns, pictures_of
from affuse.batch.page import PAGE, render_index
from affuse.batch.rows import TEXT, Columns
from affuse.batch.workbook import WORKBOOK, workbook_bytes
from affuse.errors import DataError, MissingExtraError
from affuse.service.storage import Storage
from affuse.service.store import Job

__all__ = ["PICTURES", "ROWS", "answers_of", "archive", "columns_of", "index_page", "summary_table"]

ROWS = "rows.json"
"""The file of results that holds a row a person."""

PICTURES = "pictures.json"
"""The file of results that holds pictures of strongest moments, by the rank of the person."""

_FIRST = {"path": TEXT, "link": TEXT, "analysed": TEXT}
_TOLD = ("person", "label", "confidence", "sentiment")
_REPORT = "analysis.html"


def answers_of(job: Job, storage: Storage) -> list[dict[str, Any]]:
    """The answer about every person of a finished job, in short; none of jobs of an earlier version."""
    return [{name: row.get(name) for name in _TOLD} for row in _rows(job, storage)[1]]


def columns_of(jobs: Sequence[Job], storage: Storage, links: Sequence[str | None]) -> Columns:
    """Columns of the page and the table about finished jobs; ``links`` lead to their reports."""
    kinds = dict(_FIRST)
    rows: list[dict[str, Any]] = []
    for job, name, link in zip(jobs, _distinct([job.name for job in jobs]), links, strict=True):
        when = datetime.fromtimestamp(job.finished or job.created, UTC).strftime("%Y-%m-%d %H:%M")
        first: dict[str, Any] = {"path": name, "analysed": when}
        if job.state == "failed":
            rows.append({**first, "error": job.error})
            continue
        own, found = _rows(job, storage)
        kinds |= own
        rows += [{**first, "link": link, **row} for row in found]
    return overview_columns(rows, kinds)


def _rows(job: Job, storage: Storage) -> tuple[dict[str, str], list[dict[str, Any]]]:
    content = storage.read_result(job.id, ROWS) if job.state == "done" else None
    if content is None:
        return {}, []
    read = json.loads(content)
    return read["kinds"], read["rows"]


def index_page(jobs: Sequence[Job], storage: Storage, language: str) -> str:
    """The page about finished jobs, which leads to their reports at the service."""
    columns = columns_of(jobs, storage, [f"{job.id}/report.html" for job in jobs])
    return render_index(columns, ["analysed"], language, pictures=_pictures(columns, jobs, storage))


def _pictures(columns: Columns, jobs: Sequence[Job], storage: Storage) -> dict[int, str]:
    """Pictures by number of the row; there are some where a service keeps recordings."""
    found = Pictures()
    for job, name in zip(jobs, _distinct([job.name for job in jobs]), strict=True):
        content = storage.read_result(job.id, PICTURES) if job.state == "done" else None
        found.update({(name, int(rank)): picture for rank, picture in json.loads(content or b"{}").items()})
    return pictures_of(columns, found)


def summary_table(columns: Columns, suffix: str) -> bytes:
    """The table as a file: .csv or .xlsx."""
    import pandas as pd

    from affuse.tables import csv_text

    told = {name: column for name, column in columns.items() if name != "link"}
    if suffix == ".xlsx":
        return workbook_bytes(told)
    shown = {name: pd.Series(values, dtype=None if kind != TEXT else object) for name, (kind, values) in told.items()}
    return csv_text(pd.DataFrame(shown)).encode()


def archive(jobs: Sequence[Job], storage: Storage, language: str) -> Iterator[bytes]:
    """A ZIP file in pieces, of what `affuse analyze FOLDER` writes: page, table, and the results of every recording."""
    finished = [job for job in jobs if job.state == "done"]
    stems = dict(zip((job.id for job in finished), _distinct([_stem(job.name) for job in finished]), strict=True))
    links = [f"{stems[job.id]}.html" if job.id in stems else None for job in jobs]
    columns = columns_of(jobs, storage, links)
    pieces = _Pieces()
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_DEFLATED) as out:
        pictures = _pictures(columns, jobs, storage)
        out.writestr(PAGE, render_index(columns, ["analysed"], language, pictures=pictures))
        out.writestr("summary.csv", summary_table(columns, ".csv"))
        with suppress(MissingExtraError, DataError):  # without the library, or of more rows than a sheet holds
            out.writestr(WORKBOOK, summary_table(columns, ".xlsx"))
        for job in finished:
            for suffix in (".html", ".json", ".csv"):
                content = storage.read_result(job.id, f"analysis{suffix}")
                if content is not None:  # deleted meanwhile
                    out.writestr(f"{stems[job.id]}{suffix}", content)
                yield pieces.taken()
    yield pieces.taken()


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number behind those that came before; upper and lower case count as the same."""
    taken: set[str] = set()
    found = []
    for name in names:
        numbered = (f"{name} ({number})" for number in count(2))
        found.append(next(free for free in chain((name,), numbered) if free.casefold() not in taken))
        taken.add(found[-1].casefold())
    return found


def _stem(name: str) -> str:
    """What the files of a recording are called; names of clients lead out of no folder."""
    stem = PurePosixPath(name.replace("\\", "/")).name.rpartition(".")[0] or name
    kept = "".join(c if c.isprintable() and c not in '/\\:*?"<>|' else "_" for c in stem).strip(" .")
    return "recording" if kept in ("", "index", "summary") else kept


class _Pieces(io.RawIOBase):
    """What a ZIP file writes, until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._kept = bytearray()
        self._count = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._kept += data
        self._count += len(data)
        return len(data)

    def tell(self) -> int:
        return self._count

    def taken(self) -> bytes:
        data, self._kept = bytes(self._kept), bytearray()
        return data
