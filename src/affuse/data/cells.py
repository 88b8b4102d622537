"""Cells of the tables that people write: columns by their usual names, text, numbers, times and gaps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from affuse.errors import DataError
from affuse.tables import GAPS

__all__ = ["cell_text", "find_columns", "number", "time_span"]

_GAPS = {*(gap.casefold() for gap in GAPS), "n/a", "-"}


def find_columns(written: Sequence[str], names: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The table's own name of every column that is there, by what it holds.

    ``names`` lists what a column may be called, in any case; the first name that is there counts.

    Examples
    --------
    >>> find_columns(["File", "Emotion", "take"], {"path": ("path", "file"), "label": ("label", "emotion")})
    {'path': 'File', 'label': 'Emotion'}
    """
    lower = {name.strip().casefold(): name for name in written}
    found = {what: next((name for name in known if name in lower), None) for what, known in names.items()}
    return {what: lower[name] for what, name in found.items() if name is not None}


def cell_text(value: Any) -> str:
    """A cell as text without the space around it; empty where it says that there is no value.

    Examples
    --------
    >>> cell_text(" sad "), cell_text(3.0), cell_text("n/a"), cell_text(float("nan"))
    ('sad', '3', '', '')
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # whole numbers are read as fractions where some are missing
    text = "" if value is None else str(value).strip()
    return "" if text.casefold() in _GAPS else text


def number(text: str) -> float:
    """A cell as a number; NaN where it is none.

    Examples
    --------
    >>> number("1.5"), number("loud")
    (1.5, nan)
    """
    try:
        return float(text)
    except ValueError:
        return math.nan


def time_span(cells: Mapping[str, str]) -> tuple[float | None, float | None]:
    """Start and end in seconds from the cells "start" and "end"; None where they are empty.

    Raises DataError where one is no number, the start lies before 0 or the end not after the start.

    Examples
    --------
    >>> time_span({"start": "1.5", "end": ""})
    (1.5, None)
    """
    start, end = (_seconds(name, cells.get(name, "")) for name in ("start", "end"))
    if start is not None and start < 0:
        raise DataError(f"start must be 0 s or later; got {start:g}")
    if end is not None and end <= (start or 0.0):
        raise DataError(f"it starts at {start or 0.0:g} s and ends at {end:g} s; it must end after it starts")
    return start, end


def _seconds(name: str, cell: str) -> float | None:
    if not cell:
        return None
    value = number(cell)
    if not math.isfinite(value):
        raise DataError(f"{name} must be seconds, such as 12.5; got {cell!r}")
    return value
