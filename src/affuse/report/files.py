"""The files of results: STEM.json, STEM.csv, STEM.parquet and STEM.html."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

from affuse.errors import OutputError
from affuse.files import replacing
from affuse.report.page import GENERATOR, refuse_input, write_page
from affuse.results import SCHEMA_ID, Analysis

__all__ = ["write_results"]

_FIRST_COLUMNS = ["start", "end", "person"]
_HEAD = 65_536  # bytes that are enough to know our own JSON and HTML by


def write_results(analysis: Analysis, folder: str | Path, stem: str) -> list[Path]:
    """Write STEM.json, STEM.csv, STEM.parquet and STEM.html into ``folder``, all or none; returns their paths.

    Earlier results of affuse are replaced. Raises OutputError where the folder cannot be written, or where a file of
    one of these names is the recording itself or was not written by affuse.
    """
    paths = [Path(folder) / f"{stem}{suffix}" for suffix in _WRITERS]
    for path in paths:
        refuse_input(path, analysis)
        _refuse_foreign(path)
    with replacing(*paths) as parts:
        for part, path in zip(parts, paths, strict=True):
            _WRITERS[path.suffix](analysis, part, path)
    return paths


def _write_json(analysis: Analysis, part: Path, path: Path) -> None:
    with part.open("w", encoding="utf-8") as file:
        file.writelines(analysis.json_pieces(indent=2))
        file.write("\n")


def _write_csv(analysis: Analysis, part: Path, path: Path) -> None:
    analysis.to_frame().to_csv(part, index=False, chunksize=200)  # texts of a long table at once would be megabytes


def _write_parquet(analysis: Analysis, part: Path, path: Path) -> None:
    # arro3 is a fifth of the size of pyarrow, which would be a quarter of everything that affuse installs.
    from arro3.core import Array, DataType, Table
    from arro3.io import write_parquet

    frame = analysis.to_frame()
    columns = {}
    for name in frame:
        # A column is typed by what it holds elsewhere, so that files fit together whatever is absent in one of them.
        words = name in ("person", "label") or str(name).endswith(("_reason", "_text"))
        values = frame[name].astype(object).where(frame[name].notna(), None).tolist()
        columns[str(name)] = Array(values, DataType.utf8() if words else DataType.float64())
    write_parquet(Table.from_pydict(columns), part)


def _write_html(analysis: Analysis, part: Path, path: Path) -> None:
    with part.open("w", encoding="utf-8") as file:
        write_page(analysis, file, path.parent)


# By suffix; the writers get the final path too, since links in a page are relative to it.
_WRITERS: dict[str, Callable[[Analysis, Path, Path], None]] = {
    ".json": _write_json,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".html": _write_html,
}


def _refuse_foreign(path: Path) -> None:
    try:
        foreign = path.exists() and not _KNOWN[path.suffix](path)
    except (OSError, ValueError) as error:
        foreign = not isinstance(error, PermissionError)
    if foreign:
        raise OutputError(f"{path} exists and was not written by affuse; move it away or choose another folder")


def _known_json(path: Path) -> bool:
    head = _head(path)
    return head.lstrip().startswith("{") and f'"schema": {json.dumps(SCHEMA_ID)}' in head


def _known_csv(path: Path) -> bool:
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file), [])[:3] == _FIRST_COLUMNS


def _known_parquet(path: Path) -> bool:
    # The names of the columns stand in the footer, at the end of the file. Reading it with arro3 would end the process
    # where somebody else's file is no Parquet at all.
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _HEAD))
        tail = file.read()
    return tail.endswith(b"PAR1") and b"fused_neutral" in tail


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
