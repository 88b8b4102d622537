"""Labelled recordings to measure the product on: a table that people write, checked before anything is decoded."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse.data.cells import cell_text, find_columns, time_span
from affuse.errors import AffuseError, DataError
from affuse.labels import EKMAN, SYNONYMS, LabelSpace, recognise, to_emotions
from affuse.media import Excerpt, Picture, Recording
from affuse.media.transcript import TRANSCRIPT_SUFFIXES, spread
from affuse.progress import Progress
from affuse.tables import LABEL_COLUMNS, read_table

if TYPE_CHECKING:
    from affuse.analyzer import Analyzer, Observation

__all__ = ["Clip", "Manifest", "common_label", "observe_clips", "read_manifest"]

# What a column may be called, in any case; the first name is the one that sentences use.
_NAMES = {
    "path": ("path", "file", "filename", "clip"),
    "text": ("text", "utterance"),
    "label": LABEL_COLUMNS,
    "start": ("start", "onset"),
    "end": ("end", "offset"),
    "transcript": ("transcript",),
    "person": ("person", "speaker", "actor", "subject"),
    "group": ("group",),
}
_MOST_TOLD = 5  # rows that an error names
_ALIKE = 0.8  # difflib's ratio from which a word counts as a misspelling


@dataclass(frozen=True)
class Clip:
    """One labelled row: a recording, a stretch of one, a text, or a picture that is made when it is its turn.

    Parameters
    ----------
    where : str
        Which row it is, for messages.
    label : str
        One of `affuse.EKMAN`.
    path : Path, optional
        The recording.
    text : str, optional
        The text, where there is no recording.
    picture : callable, optional
        Makes a picture: RGB, uint8 array of shape (height, width, 3).
    start, end : float, optional
        Bounds of the stretch, in seconds.
    transcript : Path or str, optional
        A file with the words, or the words.
    person : str
        Who it is.
    group : str
        What is never split, where that is another unit than the person.
    columns : mapping of str to str
        Cells of its row.

    Examples
    --------
    >>> Clip("row 1", "happiness", text="So glad!").open().kind
    'text'
    """

    where: str
    label: str
    path: Path | None = None
    text: str | None = None
    picture: Callable[[], np.ndarray] | None = field(default=None, repr=False, compare=False)
    start: float | None = None
    end: float | None = None
    transcript: Path | str | None = None
    person: str = ""
    group: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)

    def open(self) -> Recording:
        """The recording to analyse.

        Returns
        -------
        Recording

        Raises
        ------
        MediaError or TranscriptError
            If it cannot be read.
        """
        if self.picture is not None:
            return Picture(self.picture(), self.where)
        if self.path is None:
            return Recording.from_text(self.text or "", self.where)
        file = self.transcript if isinstance(self.transcript, Path) else None
        recording = Recording.open(self.path, transcript=file)
        if self.start is not None or self.end is not None:
            recording = Excerpt(recording, self.start, self.end)
        if isinstance(self.transcript, str):
            recording = recording.with_words(spread(self.transcript, recording.span))
        return recording


@dataclass(frozen=True)
class Manifest:
    """Labelled recordings to measure on, or to adapt to.

    Parameters
    ----------
    name : str
        For messages and tables.
    clips : sequence of Clip
        One a row.
    columns : tuple of str
        Names of columns that the answers can be broken down by.

    Examples
    --------
    >>> clips = [Clip("row 1", "happiness", text="So glad!", person="Ann"), Clip("row 2", "sadness", text="Oh no.")]
    >>> Manifest("two", clips).unit
    'person'
    """

    name: str
    clips: Sequence[Clip]
    columns: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def unit(self) -> str:
        """What intervals draw and tests swap as a whole: "group" or "person" where rows name one, else "row"."""
        if any(clip.group for clip in self.clips):
            return "group"
        return "person" if any(clip.person for clip in self.clips) else "row"

    def column(self, name: str) -> list[str]:
        """Cells of one column.

        Parameters
        ----------
        name : str
            One of ``columns``.

        Returns
        -------
        list of n str
            Empty where a row says nothing.

        Raises
        ------
        DataError
            If there is no such column.
        """
        if name not in self.columns:
            listed = ", ".join(self.columns) or "none"
            raise DataError(f"{self.name} has no column {name!r} to break down by; its columns: {listed}")
        return [clip.columns.get(name, "") for clip in self.clips]


def observe_clips(
    manifest: Manifest, analyzer: Analyzer, progress: Progress | None = None
) -> Iterator[tuple[int, Observation | AffuseError]]:
    """Row of every clip with what the experts find in it, or with what kept it from being read.

    One recording is open at a time. ``progress`` is called with "clips" and the share that is done.
    """
    for row, clip in enumerate(manifest.clips):
        found: Observation | AffuseError
        try:
            found = analyzer.observe(clip.open())
        except AffuseError as error:
            found = error
        if progress is not None:
            progress("clips", (row + 1) / len(manifest))
        yield row, found


def common_label(word: str) -> str | None:
    """The label of `EKMAN` that a word means ("calm" is taken for neutral), None where it means none.

    Examples
    --------
    >>> common_label("Angry"), common_label("calm"), common_label("positive")
    ('anger', 'neutral', None)
    """
    label = recognise(word)
    if label is None or label in ("positive", "negative"):
        return None
    onto = to_emotions(np.ones(1), LabelSpace("word", (label,)))
    return EKMAN.labels[int(onto.argmax())]


def read_manifest(path: str | Path, by: Sequence[str] = ()) -> Manifest:
    """Read labelled recordings from a table, or from a folder with a folder for every emotion.

    Parameters
    ----------
    path : str or Path
        CSV, TSV or Parquet table with the columns ``path`` (relative to the table's folder) or ``text``, ``label``, and
        if need be ``start`` and ``end`` (seconds), ``transcript`` (a file or the words; the words may also stand in
        ``text``), ``person`` and ``group``. Or a folder.
    by : sequence of str
        Further columns that answers will be broken down by; their cells stay as they are written.

    Returns
    -------
    Manifest

    Raises
    ------
    DataError
        If it is no such table, or rows do not fit: the sentence names the first few of them, counted from 1.

    Examples
    --------
    >>> _ = Path("clips.csv").write_text("text,label,speaker\\nSo glad!,joy,Ann\\n")
    >>> found = read_manifest("clips.csv")
    >>> found.clips[0].label, found.clips[0].person
    ('happiness', 'Ann')
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    wanted = [name for names in _NAMES.values() for name in names]
    table = read_table(path, [*wanted, *(name.title() for name in wanted), *by])
    columns = _columns(path, [str(name) for name in table.columns])
    reader = _RowReader(path, columns)
    clips = [reader.read(number, row) for number, row in enumerate(table.to_dict("records"), 1)]
    if reader.problems:
        raise DataError(_sentence(path, reader.problems, len(clips)))
    aside = {columns[role] for role in ("path", "text", "start", "end", "transcript") if role in columns}
    manifest = Manifest(path.name, clips, tuple(str(name) for name in table.columns if name not in aside))
    for name in by:
        manifest.column(name)
    return manifest


def _columns(path: Path, written: Sequence[str]) -> dict[str, str]:
    """The table's own name of every column that is there."""
    found = find_columns(written, _NAMES)
    listed = ", ".join(written)
    if "path" not in found and "text" not in found:
        raise DataError(f"{path} has no column named path or text; its columns: {listed}")
    if "label" not in found:
        raise DataError(f"{path} has no column named label; its columns: {listed}")
    return found


class _RowReader:
    """Turns rows of a table into clips, and cells that do not fit into problems by the row's number."""

    def __init__(self, table: Path, columns: Mapping[str, str]) -> None:
        self.problems: dict[int, str] = {}
        self._table = table
        self._columns = columns

    def read(self, number: int, row: Mapping[Any, Any]) -> Clip:
        cells = {role: cell_text(row[name]) for role, name in self._columns.items()}
        try:
            return self._clip(f"{self._table.name}, row {number}", cells, row)
        except DataError as error:
            self.problems[number] = str(error)
            return Clip("", EKMAN.labels[0])

    def _clip(self, where: str, cells: Mapping[str, str], row: Mapping[Any, Any]) -> Clip:
        path = self._file(cells["path"]) if cells.get("path") else None
        if path is None and not cells.get("text"):
            raise DataError("neither a path nor a text")
        start, end = time_span(cells)
        if path is None and (start, end) != (None, None):
            raise DataError("a text has no start and no end")
        return Clip(
            where=where,
            label=_label(cells.get("label", "")),
            path=path,
            text=cells.get("text") if path is None else None,
            start=start,
            end=end,
            transcript=self._transcript(cells, path),
            person=cells.get("person", ""),
            group=cells.get("group", ""),
            columns={str(name): cell_text(value) for name, value in row.items()},
        )

    def _file(self, cell: str) -> Path:
        path = self._table.parent / cell
        if not path.is_file():
            raise DataError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}")
        return path

    def _transcript(self, cells: Mapping[str, str], path: Path | None) -> Path | str | None:
        if path is None:
            return None
        cell = cells.get("transcript", "")
        if Path(cell).suffix.lower() in TRANSCRIPT_SUFFIXES:
            return self._file(cell)
        return cell or cells.get("text") or None


def _label(word: str) -> str:
    if not word:
        raise DataError("no label")
    label = common_label(word)
    if label is not None:
        return label
    emotions = [synonym for synonym in SYNONYMS if common_label(synonym)]
    near = difflib.get_close_matches(word.casefold(), emotions, n=1, cutoff=_ALIKE)
    hint = f"; did you mean {near[0]!r}?" if near else f"; the answers are {', '.join(EKMAN.labels)}"
    raise DataError(f"the label {word!r} is no emotion that affuse can answer{hint}")


def _sentence(path: Path, problems: Mapping[int, str], rows: int) -> str:
    told = "; ".join(f"row {number}: {problem}" for number, problem in list(problems.items())[:_MOST_TOLD])
    more = f"; and {len(problems) - _MOST_TOLD} more" if len(problems) > _MOST_TOLD else ""
    does = "row does" if len(problems) == 1 else "rows do"
    return f"{path}: {len(problems)} {does} not fit, of {rows}: {told}{more}"


def _read_folder(folder: Path) -> Manifest:
    """Every file in the folders of ``folder`` that bear the name of an emotion; transcripts lie beside their clips."""
    labels = {path: common_label(path.name) for path in sorted(folder.iterdir()) if path.is_dir()}
    clips = [
        Clip(f"{own.name}/{path.name}", label, path=path, transcript=_beside(path))
        for own, label in labels.items()
        if label is not None
        for path in sorted(own.iterdir())
        if path.is_file() and not path.name.startswith(".") and path.suffix.lower() not in TRANSCRIPT_SUFFIXES
    ]
    if not clips:
        raise DataError(f"{folder} is a folder without folders named by emotions (such as {folder.name}/anger)")
    kinds = {clip.path.suffix.lower() for clip in clips if clip.path is not None}
    other = [own.name for own, label in labels.items() if label is None and not own.name.startswith(".")]
    strange = [name for name in other if any(path.suffix.lower() in kinds for path in (folder / name).iterdir())]
    if strange:
        raise DataError(
            f"{folder}: {', '.join(strange)} hold{'s' * (len(strange) == 1)} recordings too, but the name is no "
            f"emotion that affuse can answer; rename or move such folders (the answers are {', '.join(EKMAN.labels)})"
        )
    return Manifest(folder.name, clips)


def _beside(path: Path) -> Path | None:
    return next((p for p in map(path.with_suffix, TRANSCRIPT_SUFFIXES) if p.is_file()), None)
