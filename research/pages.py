"""Tables of a study in a page of the documentation."""

from __future__ import annotations

from pathlib import Path

from affuse.errors import DataError
from affuse.files import write_text

__all__ = ["write_between"]


def write_between(path: Path, name: str, tables: str) -> None:
    """Put ``tables`` between the marks ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->`` of the page ``path``.

    A new page holds nothing else. Raises DataError where the page has no marks.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    page = path.read_text(encoding="utf-8") if path.exists() else f"{begin}\n{end}\n"
    head, found, rest = page.partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise DataError(f"{path} has no lines {begin} and {end} for the tables to stand between; add them")
    write_text(path, f"{head}{begin}\n\n{tables}\n\n{end}{tail}")
