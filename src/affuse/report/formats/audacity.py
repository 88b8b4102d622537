"""A label track for Audacity: start, end and emotion, a line each."""

from __future__ import annotations

from pathlib import Path

from affuse.report.formats.base import Format, Place
from affuse.report.formats.intervals import one_line, people, runs
from affuse.results import Analysis

__all__ = ["AudacityLabels"]


class AudacityLabels(Format):
    """STEM.labels.txt. With several persons, the name stands in brackets behind the emotion."""

    suffix = ".labels.txt"

    def write(self, analysis: Analysis, part: Path, place: Place) -> None:
        """Write the runs of everybody in order of time, in seconds with six decimals as Audacity does."""
        found = [
            (r.start, r.end, _text(r.label, person)) for person in people(analysis) for r in runs(analysis, person)
        ]
        lines = (f"{start:.6f}\t{end:.6f}\t{text}\n" for start, end, text in sorted(found))
        part.write_text("".join(lines), encoding="utf-8")


def _text(label: str, person: str | None) -> str:
    return one_line(label if person is None else f"{label} ({person})")
