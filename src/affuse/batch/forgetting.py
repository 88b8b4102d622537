"""Taking every trace of one recording out of what affuse wrote about it.

A batch knows its recordings by the hash of their content, and so does the JSON of ``affuse analyze``. Results without
that hash know the name of the file and its duration only, and are found by both; where several have the same, by their
folders as well, which are those of the recordings.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any

from affuse.batch.folders import absolute, transcript_beside
from affuse.batch.page import PAGE, pictures_in, write_index
from affuse.batch.rows import FLOAT, TEXT, Columns
from affuse.batch.sources import possible_keys
from affuse.batch.store import TABLES, arrow_table, lists_of, locked, read_arrow, write_arrow
from affuse.batch.workbook import WORKBOOK, is_workbook, read_workbook, rewrite_workbook
from affuse.errors import AffuseError, ConfigError, MissingExtraError, OutputError
from affuse.files import replacing
from affuse.media.blurring import is_blurred_copy
from affuse.report.formats.base import head_of
from affuse.report.formats.registry import FORMATS
from affuse.report.page import GENERATOR
from affuse.report.redaction import COPY_SUFFIXES
from affuse.tables import guarded, unguarded

__all__ = ["LOG", "Forgotten", "Removal", "forget", "log_removals", "namesakes", "target_of"]

LOG = "retention.log"
"""Name of the log of what was forgotten."""

_SUMMARY, _GROUPS = "summary.csv", "groups.csv"
_HASH = re.compile(r"[0-9a-f]{64}")
_SOURCE = re.compile(r'"source":\s*')
_SAME = 0.01  # seconds by which durations of one recording may differ: tables round them
_SUFFIXES = (
    *(".json", ".csv", ".parquet", ".html", ".xlsx", ".eaf", ".TextGrid", ".labelstudio.json"),
    *(".emotions.srt", ".emotions.vtt", ".labels.txt", *COPY_SUFFIXES.values()),
)
"""What the names of results end in: those of all formats, also where a library to write one is missing."""

_WORDS = frozenset(
    ("path", "link", "key", "person", "kind", "label", "moment_label", "conflict_text", "notes", "purpose", "exemption")
) | {"error"}
"""Columns of a summary that hold words."""

_Told = Mapping[Path, Mapping[str, Mapping[str, Any]]]  # what results say: by folder and stem

_NATIVE = {"zh-CN": "zh"}  # languages of pages by the attribute lang; all others are English


@dataclass(frozen=True)
class Forgotten:
    """A recording that is to be forgotten.

    Parameters
    ----------
    sha256 : str
        What it is called in the log: the checksum of the file, or the hash that was given.
    keys : frozenset of str
        By which a data set of a batch may know it.
    names : frozenset of str
        By which results may know it.
    durations : tuple of float
        Seconds; empty where it is not known.
    file : Path, optional
        The recording itself, which is never removed.
    is_key : bool
        Whether ``sha256`` is the key of a data set, so that the checksum of the file is not known.

    Examples
    --------
    >>> Forgotten("0" * 64, frozenset(), frozenset({"anna.mp4"}), (6.0,)).is_named("anna.mp4", 6.002)
    True
    """

    sha256: str
    keys: frozenset[str]
    names: frozenset[str] = frozenset()
    durations: tuple[float, ...] = ()
    file: Path | None = None
    is_key: bool = False

    def is_source(self, source: Mapping[str, Any]) -> bool:
        """Whether a result is about the recording: by the checksum of the file, or else by name and duration.

        Parameters
        ----------
        source : mapping
            The part "source" of its JSON.

        Returns
        -------
        bool

        Examples
        --------
        >>> Forgotten("0" * 64, frozenset()).is_source({"name": "renamed.mp4", "duration": 6.0, "sha256": "0" * 64})
        True
        """
        told, length = self.tells(source), source.get("duration")
        seconds = float(length) if isinstance(length, int | float) else None
        return self.is_named(str(source.get("name")), seconds) if told is None else told

    def tells(self, source: Mapping[str, Any]) -> bool | None:
        """Whether the checksum in a result is that of the recording; None where one of both is not known.

        Parameters
        ----------
        source : mapping
            The part "source" of its JSON.

        Returns
        -------
        bool or None
        """
        digest = source.get("sha256")
        return None if not isinstance(digest, str) or self.is_key else digest == self.sha256

    def is_named(self, name: str, duration: float | None = None) -> bool:
        """Whether a name, and the duration where both are known, are those of the recording.

        Parameters
        ----------
        name : str
            Name of a file, or a key.
        duration : float, optional
            Seconds.

        Returns
        -------
        bool
        """
        if name in self.keys:
            return True
        as_long = duration is None or not self.durations or any(abs(duration - d) <= _SAME for d in self.durations)
        return name in self.names and as_long

    def is_row(self, row: dict[str, Any]) -> bool:
        """Whether a row of a table of a batch, or of the summary of a folder, is about the recording.

        Parameters
        ----------
        row : dict
            The cells by column.

        Returns
        -------
        bool
        """
        if row.get("key"):  # the content is known, so that a name proves nothing
            return row["key"] in self.keys
        path, length = PurePosixPath(str(row.get("path") or "")), row.get("duration")
        if "key" in row and self.file is not None and not _ends(absolute(self.file).parts, path.parts):
            return False
        return self.is_named(path.name, float(length) if length not in (None, "") else None)


@dataclass(frozen=True)
class Removal:
    """Something that was removed.

    Parameters
    ----------
    what : str
        Its kind, such as "rows of windows" or "files of results".
    place : Path
        The file, or the table that the rows were in.
    count : int
        How many.

    Examples
    --------
    >>> str(Removal("rows of windows", Path("study/part-0.parquet"), 6))
    'rows of windows (6): study/part-0.parquet'
    """

    what: str
    place: Path
    count: int = 1

    def __str__(self) -> str:
        return f"{self.what} ({self.count}): {self.place.as_posix()}"


def target_of(recording: str | Path, transcripts: Sequence[str | Path] = ()) -> Forgotten:
    """What is known of a recording by its file, or by its hash alone.

    Parameters
    ----------
    recording : str or Path
        The file, or 64 hexadecimal digits: its SHA-256, or the key that a data set has for it.
    transcripts : sequence of str or Path
        Transcripts that it was analysed with; the one beside the file is known.

    Returns
    -------
    Forgotten

    Raises
    ------
    ConfigError
        If there is no such file, and it is no hash.

    Examples
    --------
    >>> _ = Path("words.srt").write_text("1\\n00:00:00,000 --> 00:00:02,000\\nI am so happy!\\n")
    >>> sorted(target_of("words.srt").names)
    ['words', 'words.srt']
    """
    from affuse.experts.text import LANGUAGES
    from affuse.media import Recording
    from affuse.weights import sha256_of

    path, given = Path(recording), [Path(each) for each in transcripts]
    if not path.is_file():
        if not _HASH.fullmatch(str(recording).lower()):
            raise ConfigError(
                f"{recording} is neither a file nor a hash; give the recording, or the 64 digits of its SHA-256 or key"
            )
        digest = str(recording).lower()
        return Forgotten(digest, frozenset({digest} | possible_keys(digest, "", given, tuple(LANGUAGES))))
    beside = transcript_beside(path)
    digest = sha256_of(path)
    keys = possible_keys(digest, path.suffix, [*given, *([] if beside is None else [beside])], tuple(LANGUAGES))
    try:
        durations: tuple[float, ...] = (Recording.open(path).duration,)
    except AffuseError:  # it failed when it was analysed as well
        durations = ()
    return Forgotten(digest, frozenset(keys | {digest}), frozenset({path.name, path.stem}), durations, path)


def forget(
    recording: str | Path | Forgotten, folders: Sequence[str | Path] = (".",), *, dry_run: bool = False
) -> list[Removal]:
    """Remove every trace of one recording from folders of results, and what was measured of it from the cache.

    Parameters
    ----------
    recording : str, Path or Forgotten
        The file, its hash, or what `target_of` made of it. The recording itself is not touched.
    folders : sequence of str or Path
        Folders that ``affuse batch`` or ``affuse analyze`` wrote to; they are searched with all folders in them.
    dry_run : bool
        Say what would be removed, and remove nothing.

    Returns
    -------
    list of Removal
        In the order of the folders; empty where there was no trace.

    Raises
    ------
    ConfigError
        If there is no such recording or folder.
    DataError
        If a part of a data set is broken.
    OutputError
        If a folder cannot be written, or a batch is writing to it.

    Examples
    --------
    >>> from affuse.batch import BatchSettings, run
    >>> _ = Path("words.srt").write_text("1\\n00:00:00,000 --> 00:00:02,000\\nI am so happy!\\n")
    >>> done = run(["words.srt"], "study", BatchSettings(experts={"text": "text"}))
    >>> removed = forget("words.srt", ["study"])
    >>> {"rows of summary.csv", "rows of windows"} <= {removal.what for removal in removed}
    True
    >>> forget("words.srt", ["study"])
    []
    """
    target = recording if isinstance(recording, Forgotten) else target_of(recording)
    roots = [Path(folder) for folder in folders]
    for root in roots:
        if not root.is_dir():
            raise ConfigError(f"{root} is not a folder; --in names one that affuse wrote results to")
    places = {root: list(_walk(root)) for root in roots}
    sets = [place for inside in places.values() for place in inside if _is_data_set(place)]
    target = _with_names(target, sets)
    told = {place: _told_in(place) for inside in places.values() for place in inside}
    meant = {place for inside in places.values() for place in _meant(inside, told, target)}  # refuses before all else
    found: list[Removal] = []
    for place in dict.fromkeys(sets):
        found += _forget_rows(place, target, dry_run)
    for place in told:
        own = target if place in meant else replace(target, names=frozenset())
        found += _forget_results(place, told[place], own, dry_run)
        found += _forget_overview(place, told, target, meant, dry_run)
    return found + _forget_measured(target, dry_run)


def namesakes(target: Forgotten, folders: Sequence[str | Path]) -> list[tuple[str, str]]:
    """Recordings of data sets and results that have the name of one, and another content, which `forget` leaves.

    Parameters
    ----------
    target : Forgotten
        The recording.
    folders : sequence of str or Path
        As in `forget`.

    Returns
    -------
    list of (str, str)
        Path and key of each, as the data set has them; path and SHA-256, as results of its name and length have them.
        The recording may have changed since it was analysed, or its transcript, which is part of the key.

    Examples
    --------
    >>> namesakes(Forgotten("0" * 64, frozenset(), frozenset({"anna.mp4"})), ["."])
    []
    """
    found: dict[tuple[str, str], None] = {}
    unknown = replace(target, is_key=True)  # by name and length alone
    for folder in (place for root in folders for place in _walk(Path(root))):
        parts = _parts(folder, "summaries") if _is_data_set(folder) else []
        for row in (row for part in parts for row in _rows(part)[1]):
            name = PurePosixPath(str(row["path"])).name
            if row.get("key") and row["key"] not in target.keys and name in target.names:
                found[str(row["path"]), str(row["key"])] = None
        for stem, source in _told_in(folder).items():
            if target.tells(source) is False and unknown.is_source(source):
                found[(folder / stem).as_posix(), source["sha256"]] = None
    return list(found)


def _walk(root: Path) -> Iterator[Path]:
    """A folder and those in it, without the tables of data sets and what the service holds."""
    for place, folders, _ in os.walk(root):
        here = Path(place)
        hidden = (
            {"configurations", *TABLES} if _is_data_set(here) else {"results", "uploads"} if _is_service(here) else ()
        )
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in hidden)
        yield here


def _is_data_set(folder: Path) -> bool:
    return (folder / "configurations").is_dir()


def _is_service(folder: Path) -> bool:
    return (folder / "jobs.db").is_file()


def _meant(places: Sequence[Path], told: _Told, target: Forgotten) -> set[Path]:
    """The folders of one root whose results are the recording's, of those that hold results of its name and duration.

    Results that state a checksum prove themselves, and do not count here. Raises ConfigError where it cannot be told.
    """
    by_name = replace(target, keys=frozenset(), sha256="")
    found = {place for place in places if any(_stems(place, told[place], by_name))}
    for place in places:
        header, rows = _read_summary(place)
        named = (dict(zip(header, row, strict=False)) for row in rows if "key" not in header)
        unproven = (row for row in named if _proven(place, row, told, target) is None)
        found |= {place / PurePosixPath(str(row["path"])).parent for row in unproven if by_name.is_row(row)}
    if len(found) < 2:
        return found
    own = () if target.file is None else absolute(target.file).parent.parts
    scores = {place: _shared_end(absolute(place).parts, own) for place in found}
    best = max(scores.values())
    if not best:
        listed = ", ".join(sorted(place.as_posix() for place in found))
        raise ConfigError(
            f"results in several folders have the name and the duration of the recording: {listed}; "
            "say by --in which are meant"
        )
    return {place for place, score in scores.items() if score == best}


def _shared_end(one: Sequence[str], other: Sequence[str]) -> int:
    """How many last parts two paths share."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _ends(whole: Sequence[str], end: Sequence[str]) -> bool:
    return _shared_end(whole, end) == len(end)


# --- data sets of a batch ---------------------------------------------------------------------------------------------


def _parts(folder: Path, table: str) -> list[Path]:
    return sorted((folder / table).glob("configuration=*/*.parquet"))


def _rows(part: Path) -> tuple[list[str], list[dict[str, Any]]]:
    columns = lists_of(read_arrow(part))
    return list(columns), [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _with_names(target: Forgotten, sets: Iterable[Path]) -> Forgotten:
    """With the names and durations that data sets have for a recording of which the hash alone is known."""
    if target.file is not None:
        return target
    names, durations, is_key = set(target.names), list(target.durations), target.is_key
    for folder in sets:
        for part in _parts(folder, "summaries"):
            for row in _rows(part)[1]:
                if row.get("key") in target.keys:
                    is_key |= row["key"] == target.sha256
                    name = PurePosixPath(str(row["path"])).name
                    names |= {name, PurePosixPath(name).stem}
                    durations += [] if row.get("duration") is None else [float(row["duration"])]
    return replace(target, names=frozenset(names), durations=tuple(dict.fromkeys(durations)), is_key=is_key)


def _forget_rows(folder: Path, target: Forgotten, dry_run: bool) -> list[Removal]:
    found = []
    with nullcontext() if dry_run else locked(folder):
        for table in TABLES:
            for part in _parts(folder, table):
                if count := _filter_part(part, target, dry_run):
                    found.append(Removal(f"rows of {table}", part, count))
            for leftover in (folder / table).glob("configuration=*/.*.part"):  # of a run that was killed
                if not dry_run:
                    leftover.unlink(missing_ok=True)
    return found


def _filter_part(part: Path, target: Forgotten, dry_run: bool) -> int:
    """Remove the rows of a part; how many they are. A part without rows goes itself."""
    _, rows = _rows(part)
    chosen = [target.is_row(row) for row in rows]
    if not any(chosen) or dry_run:
        return sum(chosen)
    if all(chosen):
        part.unlink()
        return len(chosen)
    from arro3.core import Table

    table, kept = read_arrow(part), [number for number, gone in enumerate(chosen) if not gone]
    columns: Columns = {}
    for name in table.column_names:
        kind = str(table.schema.field(name).type)
        values = [table.column(name)[number].as_py() for number in kept]
        columns[str(name)] = ("int" if "Int" in kind else FLOAT if "Float" in kind else TEXT, values)
    rewritten: Table = arrow_table(columns)
    write_arrow(rewritten, part)
    return sum(chosen)


# --- results of an analysis -------------------------------------------------------------------------------------------


def _forget_results(
    folder: Path, told: Mapping[str, Mapping[str, Any]], target: Forgotten, dry_run: bool
) -> list[Removal]:
    stems = set(_stems(folder, told, target))
    found = []
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        if any(_belongs(path, stem) for stem in stems) and not _is_recording(path, target):
            found.append(Removal("files of results", path))
            if not dry_run:
                _unlink(path)
    return found


def _told_in(folder: Path) -> dict[str, dict[str, Any]]:
    """What JSON and pages in a folder say about their recordings, by what the names of the results begin with."""
    told: dict[str, dict[str, Any]] = {}
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    for path in sorted(files, key=lambda path: (path.suffix != ".json", path.name)):
        source = None if path.stem in told else _source_of(path)
        if source is not None:
            told[path.stem] = source
    return told


def _stems(folder: Path, told: Mapping[str, Mapping[str, Any]], target: Forgotten) -> Iterator[str]:
    """What the names of the results of a recording begin with: told by JSON and HTML, and else by the names alone."""
    yield from (stem for stem, source in told.items() if target.is_source(source))
    for name in target.names | target.keys:
        if name not in told and any(_is_ours(folder / f"{name}{suffix}") for suffix in _SUFFIXES):
            yield name


def _proven(folder: Path, row: Mapping[str, Any], told: _Told, target: Forgotten) -> bool | None:
    """Whether a row of the summary of a folder is about the recording, where results of its name state a checksum."""
    path = PurePosixPath(str(row["path"]))
    beside = told.get(folder / path.parent, {}).values()
    known = [target.tells(source) for source in beside if source.get("name") == path.name]
    return any(known) if known and None not in known else None


def _source_of(path: Path) -> dict[str, Any] | None:
    """Name and duration of the recording that a JSON or a page of affuse is about; None for other files."""
    if path.suffix not in (".json", ".html") or path.name == PAGE or not _is_ours(path):
        return None
    text = head_of(path) if path.suffix == ".json" else path.read_text(encoding="utf-8", errors="replace")
    match = _SOURCE.search(text, max(0, text.find('"analysis":')))
    if match is None:
        return None
    try:
        source, _ = json.JSONDecoder().raw_decode(text, match.end())
    except ValueError:  # a damaged file; its name tells what there is to tell
        return None
    return source if isinstance(source, dict) else None


def _is_ours(path: Path) -> bool:
    """Whether a file of results was written by affuse; a TextGrid or a workbook alone does not tell."""
    try:
        if not path.is_file() or path.name.endswith((".TextGrid", ".xlsx")):
            return False
        if path.suffix == ".eaf":
            return 'AUTHOR="affuse"' in head_of(path)
        if path.name.endswith(tuple(COPY_SUFFIXES.values())):
            return is_blurred_copy(path)
        known = {".json": "json", ".html": "html", ".csv": "csv", ".parquet": "parquet"}.get(path.suffix)
        own_suffix = path.name.endswith((".emotions.srt", ".emotions.vtt", ".labels.txt", ".labelstudio.json"))
        return own_suffix or (known is not None and FORMATS.make(known).is_replaceable(path))
    except (OSError, ValueError):
        return False


def _belongs(path: Path, stem: str) -> bool:
    """Whether a file is one of the results with a stem, or what a killed run left of one."""
    whole = any(path.name == f"{stem}{suffix}" for suffix in _SUFFIXES)
    left = any(path.name.startswith(f".{stem}{suffix}.") for suffix in _SUFFIXES) and path.suffix == ".part"
    return whole or left


def _is_recording(path: Path, target: Forgotten) -> bool:
    return target.file is not None and target.file.exists() and path.samefile(target.file)


def _unlink(path: Path) -> None:
    try:
        path.unlink()
    except OSError as error:
        raise OutputError(f"{path} cannot be removed ({str(error.strerror).lower()})") from error


# --- summary.csv, summary.xlsx and index.html -------------------------------------------------------------------------


def _forget_overview(folder: Path, told: _Told, target: Forgotten, meant: set[Path], dry_run: bool) -> list[Removal]:
    table = folder / _SUMMARY
    header, rows = _read_csv(table)
    chosen = _rows_about(folder, header, rows, told, target, meant)
    book = _forget_in_workbook(folder, any(chosen) or not rows, told, target, meant, dry_run)
    if not any(chosen):
        return book
    found = [Removal(f"rows of {_SUMMARY}", table, sum(chosen)), *book]
    # The means by group were taken over the recording as well; affuse batch takes them anew.
    stale = [path for path in (folder / _GROUPS,) if path.is_file()]
    found += [Removal("means by group", path) for path in stale]
    if not dry_run:
        _rewrite_overview(folder, header, rows, chosen, stale)
    return found


def _rewrite_overview(
    folder: Path, header: Sequence[str], rows: Sequence[Sequence[str]], chosen: Sequence[bool], stale: Sequence[Path]
) -> None:
    """Write summary.csv and the page without the chosen rows, and remove what is stale."""
    table, page = folder / _SUMMARY, folder / PAGE
    kept = [row for row, gone in zip(rows, chosen, strict=True) if not gone]
    if not kept:
        stale = [*stale, table, *([page] if _is_page(page) else [])]
    else:
        with replacing(table) as (part,), part.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(map(guarded, row) for row in (header, *kept))
        if _is_page(page):
            gone = {row[0] for row, is_gone in zip(rows, chosen, strict=True) if is_gone}
            _write_page(folder, header, kept, gone)
    for path in stale:
        _unlink(path)


def _rows_about(
    folder: Path, header: Sequence[str], rows: Sequence[Sequence[Any]], told: _Told, target: Forgotten, meant: set[Path]
) -> list[bool]:
    """Which rows of a summary are about the recording."""
    chosen = []
    for cells in rows:
        row = dict(zip(header, cells, strict=False))
        by_name = "key" in header or folder / PurePosixPath(str(row["path"])).parent in meant
        own = (target if by_name else replace(target, names=frozenset())).is_row(row)
        proven = None if "key" in header else _proven(folder, row, told, target)
        chosen.append(own if proven is None else proven)
    return chosen


def _forget_in_workbook(
    folder: Path, suspected: bool, told: _Told, target: Forgotten, meant: set[Path], dry_run: bool
) -> list[Removal]:
    """Remove the rows of summary.xlsx; without the library to look into it, all of it where it is ``suspected``."""
    book = folder / WORKBOOK
    if not is_workbook(book):
        return []
    try:
        header, rows = read_workbook(book)
    except MissingExtraError:
        if suspected and not dry_run:
            _unlink(book)
        return [Removal("workbooks that cannot be written anew without openpyxl", book)] if suspected else []
    chosen = _rows_about(folder, header, rows, told, target, meant)
    if not any(chosen):
        return []
    if not dry_run:
        kept = [row for row, gone in zip(rows, chosen, strict=True) if not gone]
        rewrite_workbook(book, header, kept) if kept else _unlink(book)
    return [Removal(f"rows of {WORKBOOK}", book, sum(chosen))]


def _read_summary(folder: Path) -> tuple[list[str], list[list[Any]]]:
    """Header and rows of summary.csv, or of the workbook where only that is left."""
    header, rows = _read_csv(folder / _SUMMARY)
    if not header and is_workbook(folder / WORKBOOK):
        with suppress(MissingExtraError):
            return read_workbook(folder / WORKBOOK)
    return header, [list(row) for row in rows]


def _read_csv(table: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a summary; nothing where there is none of ours."""
    if not table.is_file() or not head_of(table).startswith("path,"):
        return [], []
    with table.open(encoding="utf-8", newline="") as file:
        header, *rows = [list(map(unguarded, row)) for row in csv.reader(file)]
    return header, rows


def _is_page(page: Path) -> bool:
    return page.is_file() and GENERATOR in head_of(page)


def _write_page(folder: Path, header: Sequence[str], rows: Sequence[Sequence[str]], gone: set[str]) -> None:
    """Write the page of these rows, with the pictures that it had of them, and none of the names that are gone."""
    old = pictures_in((folder / PAGE).read_text(encoding="utf-8", errors="replace"))
    language = re.search(r'<html lang="([^"]*)"', head_of(folder / PAGE))
    own = header[1 : header.index("key")] if "key" in header else []
    columns: Columns = {}
    for number, name in enumerate(header):
        values = [row[number] for row in rows]
        columns[name] = (TEXT, [value or None for value in values]) if name in _WORDS else _typed(values)
    persons = columns["person"][1] if "person" in columns else [None] * len(rows)
    places = zip(columns["path"][1], persons, strict=True)
    pictures = {number: old[place] for number, place in enumerate(places) if place in old and place[0] not in gone}
    write_index(folder, columns, own, _NATIVE.get(language[1], "en") if language else "en", pictures=pictures)


def _typed(values: Sequence[str]) -> tuple[str, list[Any]]:
    """Numbers where all cells are numbers or empty, else text."""
    read: Callable[[str], Any] = int if all(value.lstrip("-").isdigit() for value in values if value) else float
    try:
        return FLOAT, [read(value) if value else None for value in values]
    except ValueError:
        return TEXT, [value or None for value in values]


# --- the cache and the log --------------------------------------------------------------------------------------------


def _forget_measured(target: Forgotten, dry_run: bool) -> list[Removal]:
    from affuse.features.cache import FeatureStore

    kept = FeatureStore().kept_of(target.sha256)
    if not dry_run:
        for path in kept:
            _unlink(path)
    return [Removal("measurements in the cache", path) for path in kept]


def log_removals(log: str | Path, target: Forgotten, removed: Sequence[Removal]) -> None:
    """Append a line to the retention log: when, the hash of which recording, and how much of what was removed.

    Parameters
    ----------
    log : str or Path
        The file; each line is a JSON object. It never holds a name or a path.
    target : Forgotten
        The recording.
    removed : sequence of Removal
        What was removed.

    Raises
    ------
    OutputError
        If the file cannot be written.

    Examples
    --------
    >>> log_removals("retention.log", Forgotten("0" * 64, frozenset()), [Removal("rows of windows", Path("a"), 6)])
    >>> json.loads(Path("retention.log").read_text())["removed"]
    {'rows of windows': 6}
    """
    counts: dict[str, int] = {}
    for removal in removed:
        counts[removal.what] = counts.get(removal.what, 0) + removal.count
    line = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "sha256": target.sha256,
        "removed": counts,
    }
    try:
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise OutputError(f"{log} cannot be written ({str(error.strerror).lower()}); choose another --log") from error
