"""The page and the tables about many recordings, of a batch and of a folder that was analysed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from affuse.batch.groups import GroupMean, group_means
from affuse.batch.moments import moment_pictures
from affuse.batch.page import refuse_foreign_page, surest_rows, write_index
from affuse.batch.rows import FLOAT, TEXT, WHOLE, Columns, answer_rows
from affuse.batch.summary import write_csv
from affuse.batch.workbook import refuse_foreign_workbook, write_workbook
from affuse.errors import OutputError

if TYPE_CHECKING:
    from affuse.results import Analysis

__all__ = ["FolderOverview", "PictureSource", "Pictures", "overview_columns", "pictures_of", "write_overview"]

_GROUPS = "groups.csv"


class PictureSource(Protocol):
    """Where pictures are, JPEG in Base64, by key of the recording (in a folder, its name) and rank of the person."""

    def pictured(self) -> set[tuple[str, int]]:
        """Of whom there are pictures."""

    def pictures(self, wanted: Collection[tuple[str, int]]) -> Mapping[tuple[str, int], str]:
        """Those that are wanted and there."""


class Pictures(dict[tuple[str, int], str]):
    """Pictures in memory."""

    def pictured(self) -> set[tuple[str, int]]:
        """Of whom there are pictures."""
        return set(self)

    def pictures(self, wanted: Collection[tuple[str, int]]) -> dict[tuple[str, int], str]:
        """Those that are wanted and there."""
        return {place: self[place] for place in wanted if place in self}


def write_overview(
    folder: Path,
    columns: Columns,
    own: Mapping[str, str],
    language: str = "en",
    by: Sequence[str] = (),
    unit: str | None = None,
    pictures: PictureSource | None = None,
) -> tuple[str, ...]:
    """Write index.html, summary.xlsx and, where there are groups, groups.csv; returns notes about what was not written.

    ``own`` names the user's columns in the summaries; ``pictures`` are of strongest moments.
    """
    means = {name: group_means(columns, own, name, unit) for name in by if "answered" in columns}
    if means:
        write_csv(_mean_columns([(name, mean) for name, found in means.items() for mean in found]), folder / _GROUPS)
    shown = {} if pictures is None else pictures_of(columns, pictures)
    write_index(folder, columns, list(own.values()), language, means, unit, shown)
    note = write_workbook(folder, columns)
    return (note,) if note else ()


def pictures_of(columns: Columns, pictures: PictureSource) -> dict[int, str]:
    """Pictures of the moments that the page shows one of, by number of the row."""
    if "rank" not in columns:
        return {}  # nothing was analysed
    there = pictures.pictured()
    places = zip(columns["key" if "key" in columns else "path"][1], columns["rank"][1], strict=True)
    pictured = {row: place for row, place in enumerate(places) if place in there}
    chosen = {row: pictured[row] for row in surest_rows(columns, pictured)}
    found = pictures.pictures(set(chosen.values()))
    return {row: found[place] for row, place in chosen.items()}


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
    """Collects the answers about the recordings of a folder, one after another, for the tables and the page.

    Parameters
    ----------
    folder : Path
        Where summary.csv, summary.xlsx and index.html are to be; raises OutputError where others of these names lie
        there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: list[dict[str, Any]] = []
        self._names: set[str] = set()
        self._pictures = Pictures()
        self._kinds: dict[str, str] = {"path": TEXT, "link": TEXT}
        refuse_foreign_page(folder)
        refuse_foreign_workbook(folder)
        table = folder / "summary.csv"
        if table.exists() and not table.read_text(encoding="utf-8", errors="replace").startswith("path,"):
            raise OutputError(f"{table} exists and was not written by affuse; move it away or choose another folder")

    def add(self, analysis: Analysis, name: str, link: str | None = None, pictures: bool = False) -> None:
        """Take in one analysis, whose report is at ``link``, relative to the folder.

        With ``pictures`` the page shows whom its moments are about.
        """
        kinds, rows = answer_rows(analysis)
        self._names.add(name)
        self._kinds |= kinds
        self._rows += [{"path": name, "link": link, **row} for row in rows]
        if pictures:
            self._pictures.update({(name, rank): shown for rank, shown in moment_pictures(analysis).items()})

    def finish(self, names: Mapping[str, Path], failures: Sequence[Exception], language: str = "en") -> tuple[str, ...]:
        """Take in those of all recordings, by name, that were not analysed, with the failure that names their file.

        Writes everything; returns notes about what was not written.
        """
        for name, path in names.items():
            if name not in self._names:
                reasons = (str(failure) for failure in failures if path.name in str(failure))
                self._rows.append({"path": name, "error": next(reasons, "it could not be analysed")})
        return self.write(language)

    def write(self, language: str = "en") -> tuple[str, ...]:
        """Write all files; returns notes. Raises OutputError where the folder cannot be written."""
        columns = overview_columns(self._rows, self._kinds)
        write_csv(columns, self.folder / "summary.csv")
        return write_overview(self.folder, columns, {}, language, pictures=self._pictures)
