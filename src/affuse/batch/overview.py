"""The page and the tables about many recordings, of a batch and of a folder that was analysed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affuse.batch.groups import GroupMean, group_means
from affuse.batch.page import refuse_foreign_page, write_index
from affuse.batch.rows import FLOAT, TEXT, WHOLE, Columns, answer_rows
from affuse.batch.summary import write_csv
from affuse.errors import OutputError

if TYPE_CHECKING:
    from affuse.results import Analysis

__all__ = ["FolderOverview", "overview_columns", "write_overview"]

_GROUPS = "groups.csv"


def write_overview(
    folder: Path,
    columns: Columns,
    own: Mapping[str, str],
    language: str = "en",
    by: Sequence[str] = (),
    unit: str | None = None,
) -> None:
    """Write index.html and, where there are groups, groups.csv; ``own`` names the user's columns in the summaries."""
    means = {name: group_means(columns, own, name, unit) for name in by if "answered" in columns}
    if means:
        write_csv(_mean_columns([(name, mean) for name, found in means.items() for mean in found]), folder / _GROUPS)
    write_index(folder, columns, list(own.values()), language, means, unit)


def _mean_columns(named: Sequence[tuple[str, GroupMean]]) -> Columns:
    means = [mean for _, mean in named]
    ends = [mean.interval or (None, None) for mean in means]
    return {
        "column": (TEXT, [name for name, _ in named]),
        "group": (TEXT, [mean.group for mean in means]),
        "measure": (TEXT, [mean.measure for mean in means]),
        "persons": (WHOLE, [mean.persons for mean in means]),
        "mean": (FLOAT, [mean.mean if mean.persons else None for mean in means]),
        "low": (FLOAT, [low for low, _ in ends]),
        "high": (FLOAT, [high for _, high in ends]),
    }


def overview_columns(rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, str]) -> Columns:
    """Rows about recordings as columns, in order of their paths; ``kinds`` are those of the columns."""
    ordered = sorted(rows, key=lambda row: (row["path"], row.get("rank", 0)))
    return {name: (kind, [row.get(name) for row in ordered]) for name, kind in {**kinds, "error": TEXT}.items()}


class FolderOverview:
    """Collects the answers about the recordings of a folder, one after another, for summary.csv and index.html.

    Parameters
    ----------
    folder : Path
        Where these two are to be; raises OutputError where others of these names lie there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: list[dict[str, Any]] = []
        self._names: set[str] = set()
        self._kinds: dict[str, str] = {"path": TEXT, "link": TEXT}
        refuse_foreign_page(folder)
        table = folder / "summary.csv"
        if table.exists() and not table.read_text(encoding="utf-8", errors="replace").startswith("path,"):
            raise OutputError(f"{table} exists and was not written by affuse; move it away or choose another folder")

    def add(self, analysis: Analysis, name: str, link: str | None = None) -> None:
        """Take in one analysis, whose report is at ``link``, relative to the folder."""
        kinds, rows = answer_rows(analysis)
        self._names.add(name)
        self._kinds |= kinds
        self._rows += [{"path": name, "link": link, **row} for row in rows]

    def finish(self, names: Mapping[str, Path], failures: Sequence[Exception], language: str = "en") -> None:
        """Take in those of all recordings, by name, that were not analysed, with the failure that names their file."""
        for name, path in names.items():
            if name not in self._names:
                reasons = (str(failure) for failure in failures if path.name in str(failure))
                self._rows.append({"path": name, "error": next(reasons, "it could not be analysed")})
        self.write(language)

    def write(self, language: str = "en") -> None:
        """Write both files. Raises OutputError where the folder cannot be written."""
        columns = overview_columns(self._rows, self._kinds)
        write_csv(columns, self.folder / "summary.csv")
        write_overview(self.folder, columns, {}, language)
