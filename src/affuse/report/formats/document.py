"""The analysis as JSON, valid under the published schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from affuse.report.formats.base import Format, Place, head_of
from affuse.results import EARLIER_SCHEMAS, SCHEMA_ID, Analysis

__all__ = ["Document"]


# With an indent, Python encodes in Python, five times slower.
_encoded = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


class Document(Format):
    """STEM.json: a line for each window, cue, turn and person, and for each entry of the other lists and objects."""

    suffix = ".json"

    def write(self, analysis: Analysis, part: Path, place: Place) -> None:
        """Write `Analysis.to_dict` line by line."""
        with part.open("w", encoding="utf-8") as file:
            file.writelines(_lines(analysis))

    def is_replaceable(self, path: Path) -> bool:
        """Whether it holds an analysis."""
        head = head_of(path)
        known = (f'"schema": {json.dumps(version)}' for version in (SCHEMA_ID, *EARLIER_SCHEMAS))
        return head.lstrip().startswith("{") and any(version in head for version in known)


def _lines(analysis: Analysis) -> Iterator[str]:
    """The object of `Analysis.to_dict` in JSON; the windows are made one by one."""
    gap = "{\n  "
    for name, value in analysis.header().items():
        yield f"{gap}{_encoded(name)}: "
        yield from _entries(value)
        gap = ",\n  "
    yield f'{gap}"windows": '
    yield from _listed("[]", map(_encoded, analysis.windows()))
    yield "\n}\n"


def _entries(value: Any) -> Iterator[str]:
    """A value on one line, or a line for each entry of a list or an object."""
    if isinstance(value, dict):
        return _listed("{}", (f"{_encoded(name)}: {_encoded(entry)}" for name, entry in value.items()))
    return _listed("[]", map(_encoded, value)) if isinstance(value, list) else iter([_encoded(value)])


def _listed(brackets: str, entries: Iterable[str]) -> Iterator[str]:
    """Encoded entries between two brackets, each on a line of its own."""
    gap, end = f"{brackets[0]}\n    ", brackets
    for entry in entries:
        yield gap + entry
        gap, end = ",\n    ", f"\n  {brackets[1]}"
    yield end
