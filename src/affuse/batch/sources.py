"""The recordings of a batch, from a manifest, folders, patterns or files; with the columns of the user's own."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affuse.batch.folders import (
    TRANSCRIPTS,
    Found,
    absolute,
    common_parent,
    each_once,
    find_in_folder,
    is_tried,
    transcript_beside,
)
from affuse.batch.storage import Listings, as_path, beside, common_prefix, fetch, is_remote, told
from affuse.errors import ConfigError, DataError, MediaError
from affuse.tables import GAPS, TABLE_SUFFIXES, read_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FOLDER", "TEXTS", "Item", "Source", "content_key", "find_items", "named_by_content", "possible_keys"]

FOLDER = "folder"
"""Groups by the first folder in the names of the recordings, where no column of the user's is called so."""

TEXTS = (".srt", ".vtt", ".txt", ".json")
"""Suffixes that say how a text is read; as in `affuse.media.transcript`, whose package takes seconds to load."""

_ROLES = {"path": ("path", "file", "filename"), "transcript": ("transcript",), "language": ("language",)}
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,14})")
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Item:
    """A recording to analyse: its name in the tables, its files, and the user's own columns."""

    name: str
    path: Path
    transcript: Path | None = None
    language: str | None = None
    own: Mapping[str, Any] = field(default_factory=dict)
    size: int = 0
    version: str = ""
    """Of a recording in cloud storage, with its words: ``size`` in bytes, and what changes with them; "" if unknown."""

    @property
    def is_remote(self) -> bool:
        """Whether it is in cloud storage, or its transcript is."""
        return is_remote(self.path) or (self.transcript is not None and is_remote(self.transcript))


@dataclass(frozen=True)
class Source:
    """All recordings of a batch, the names of the user's own columns, and how many files were no recordings."""

    items: tuple[Item, ...]
    columns: tuple[str, ...] = ()
    skipped: int = 0


def find_items(source: str | Path | Sequence[str | Path], out: Path | None = None) -> Source:
    """The recordings that a manifest lists, that are in folders, that match patterns, or that are named themselves.

    ``out`` is left out where it lies in a folder. Raises ConfigError, DataError or MediaError where there are none.
    """
    asked = [source] if isinstance(source, str | Path) else list(source)
    if not asked:
        raise ConfigError("give a manifest, a folder or recordings; for example: affuse batch clips.csv --out study")
    if len(asked) == 1 and Path(asked[0]).suffix.lower() in TABLE_SUFFIXES:
        return _read_manifest(as_path(asked[0]))
    remote = [is_remote(each) for each in asked]
    if any(remote):
        if not all(remote):
            raise ConfigError(
                "recordings on this machine and in cloud storage go into one run by a manifest that names both"
            )
        return _find_remote([str(each) for each in asked])
    found: list[Found] = []
    skipped = 0
    for each in asked:
        inside, others = _find(each, out)
        found += inside
        skipped += others
    found = each_once(found)
    only = len(asked) == 1 and Path(asked[0]).is_dir()
    root = absolute(Path(asked[0])) if only else common_parent([own.path for own in found])
    items = [Item(absolute(f.path).relative_to(root).as_posix(), f.path, f.transcript) for f in found]
    return Source(tuple(sorted(items, key=lambda item: item.name)), skipped=skipped)


def _find(asked: str | Path, out: Path | None) -> tuple[list[Found], int]:
    path = Path(asked)
    if path.is_dir():
        return find_in_folder(path, without=out)
    if path.exists():
        if path.suffix.lower() in TABLE_SUFFIXES:
            raise ConfigError(f"{path} is a manifest; give it alone, without other recordings")
        return [Found(path, path, transcript_beside(path))], 0
    if not glob.has_magic(str(asked)):
        raise MediaError(f"{path} does not exist; give a manifest, a folder, a pattern or recordings")
    matches = glob.glob(str(asked), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute patterns
    files = [path for path in map(Path, sorted(matches)) if path.is_file()]
    meant = [path for path in files if is_tried(path) or str(asked).endswith(path.suffix)]
    if not meant:
        raise MediaError(f"no recording matches {asked}")
    return [Found(path, path, transcript_beside(path)) for path in meant], len(files) - len(meant)


# --- cloud storage ----------------------------------------------------------------------------------------------------


def _find_remote(asked: Sequence[str]) -> Source:
    """Recordings in folders, of patterns and addresses of cloud storage."""
    listings = Listings()
    items: dict[str, Item] = {}
    skipped = 0
    for each in asked:
        files = _remote_files(each, listings)
        names = {str(path) for path in files}
        recordings = [path for path in files if is_tried(path) or each.endswith(path.suffix)]
        words = {path: _words_beside(path, listings) for path in recordings}
        used = {str(path) for path in words.values() if path is not None} | set(map(str, recordings))
        skipped += len(names - used)
        items |= {str(path): _remote_item("", path, words[path], None, {}, listings) for path in recordings}
        if not recordings:
            raise MediaError(f"{each} holds no recordings; give an address of video, sound or picture files")
    root = asked[0].rstrip("/") + "/" if len(asked) == 1 and asked[0].rstrip("/") not in items else ""
    if not root or glob.has_magic(root):
        root = common_prefix([item.path for item in items.values()])
    named = [replace(item, name=text.removeprefix(root)) for text, item in items.items()]
    return Source(tuple(sorted(named, key=lambda item: item.name)), skipped=skipped)


def _remote_files(asked: str, listings: Listings) -> list[Path]:
    if glob.has_magic(asked):
        return _visible(listings.matching(asked))
    path = as_path(asked.rstrip("/"))
    if listings.find(path) is not None or listings.is_page(path):
        return [path]
    inside = [own for own in listings.inside(path) if str(own) != str(path)]
    if not inside and not path.is_file():
        raise MediaError(
            f"{asked} does not exist, or holds nothing; give a manifest, a folder, a pattern or recordings"
        )
    return _visible(inside) or [path]


def _visible(files: Sequence[Path]) -> list[Path]:
    return [path for path in files if not any(part.startswith(".") for part in str(path).split("/")[3:])]


def _words_beside(recording: Path, listings: Listings) -> Path | None:
    candidates = (recording.with_suffix(suffix) for suffix in TRANSCRIPTS)
    return next((path for path in candidates if path != recording and listings.find(path) is not None), None)


def _remote_item(
    name: str, path: Path, words: Path | None, language: str | None, own: Mapping[str, Any], listings: Listings
) -> Item:
    """An item with size and version as listings tell them."""
    size, versions = 0, [language or ""]
    for each in (path, *(() if words is None else (words,))):
        if is_remote(each):
            found = listings.find(each)
            known = found is not None and found.version != ""
            versions.append(f"{each} {found.size} {found.version}" if found is not None and known else "")
            size += 0 if found is None else found.size
        else:
            versions.append(_local_version(each))
    version = "" if "" in versions[1:] else "\n".join(versions)
    return Item(name, path, words, language, own, size, version)


def _local_version(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{path} {status.st_size} {status.st_mtime_ns}"


# --- manifests --------------------------------------------------------------------------------------------------------


def _read_manifest(path: Path) -> Source:
    table = _table(path)
    found = {role: _column(table, names) for role, names in _ROLES.items()}
    place = found["path"]
    if place is None:
        listed = ", ".join(map(str, table.columns))
        raise DataError(f"{path} has no column path, which names the recordings; its columns: {listed}")
    own = {str(name): _values(table[name]) for name in table if name not in found.values()}
    names, transcripts, languages = (_texts(table, found[role]) for role in ("path", "transcript", "language"))
    items = []
    listings = Listings()
    for row, name in enumerate(names):
        if not name:
            raise DataError(f"{path}, row {row + 1}: the column {place} is empty; it must name a recording")
        recording = beside(path.parent, name)
        words = beside(path.parent, transcripts[row]) if transcripts[row] else None
        if found["transcript"] is None:
            words = _words_beside(recording, listings) if is_remote(recording) else transcript_beside(recording)
        values = {column: cells[row] for column, cells in own.items()}
        named = name if is_remote(name) else Path(name).as_posix()
        item = Item(named, recording, words, languages[row] or None, values)
        if item.is_remote:
            item = _remote_item(named, recording, words, item.language, values, listings)
        items.append(item)
    return Source(tuple(items), tuple(own))


def _table(path: Path) -> pd.DataFrame:
    """A manifest, with its cells as they are written: "007" stays so. Raises DataError or MediaError."""
    if is_remote(path):
        with tempfile.TemporaryDirectory(prefix="affuse-") as folder, fetch(str(path), Path(folder)) as copy:
            try:
                return _table(copy)
            except DataError as error:
                raise DataError(str(error).replace(str(copy), str(path))) from error
    table = read_table(path)
    return read_table(path, [str(name) for name in table.columns])


def _column(table: pd.DataFrame, names: Sequence[str]) -> str | None:
    """The table's own name of the first of some columns that it has, in any case."""
    written = {str(name).strip().casefold(): str(name) for name in table.columns}
    return next((written[name] for name in names if name in written), None)


def _texts(table: pd.DataFrame, column: str | None) -> list[str]:
    if column is None:
        return [""] * len(table)
    return ["" if cell is None or cell != cell else str(cell).strip() for cell in table[column].tolist()]


def _values(cells: pd.Series) -> list[Any]:
    """The cells of a column of the user's: all whole numbers, all numbers, or all text as it is written."""
    texts = [None if cell is None or cell != cell or cell == "" else str(cell) for cell in cells.tolist()]
    numbers = [None if text is None or text.strip() in GAPS else text.strip() for text in texts]
    written = [text for text in numbers if text is not None]
    if written and (all(map(_WHOLE.fullmatch, written)) or _all_whole(cells, written)):
        return [None if text is None else int(float(text)) for text in numbers]
    if written and all(map(_NUMBER.fullmatch, written)):
        return [None if text is None else float(text) for text in numbers]
    return texts


def _all_whole(cells: pd.Series, written: Sequence[str]) -> bool:
    """Whether a column of floats, as Parquet keeps whole numbers with gaps, holds whole numbers alone."""
    return cells.dtype.kind == "f" and all(float(text).is_integer() and abs(float(text)) < 1e15 for text in written)


# --- content ----------------------------------------------------------------------------------------------------------


def content_key(item: Item) -> str:
    """SHA-256 of what is analysed: the recording, its transcript, and the language where the manifest gives one.

    The suffixes count where they say how a file is to be read. Raises MediaError where a file cannot be read.
    """
    words = () if item.transcript is None else (_digest(item.transcript), item.transcript.suffix.lower())
    return _key(_digest(item.path), _kind_of_text(item.path), words, item.language or "")


def possible_keys(
    digest: str, suffix: str = "", transcripts: Sequence[Path] = (), languages: Sequence[str] = ()
) -> set[str]:
    """All keys that `content_key` may have given a recording by its SHA-256: with and without words and a language."""
    words: list[tuple[str, ...]] = [(), *((_digest(path), path.suffix.lower()) for path in transcripts)]
    kind = _kind_of_text(Path(f"recording{suffix}"))
    return {_key(digest, kind, each, language) for each in words for language in ("", *languages)}


def _kind_of_text(path: Path) -> str:
    return path.suffix.lower() if path.suffix.lower() in TEXTS else ""


def _key(digest: str, kind: str, words: tuple[str, ...], language: str) -> str:
    return hashlib.sha256("\n".join((digest, kind, *words, language)).encode()).hexdigest()


def named_by_content(source: Source) -> Source:
    """The recordings by the hashes of their content, without the user's own columns; one that cannot be read by number.

    Examples
    --------
    >>> anna = Item("anna.mp4", Path("missing.mp4"), own={"name": "Anna"})
    >>> named_by_content(Source((anna,), ("name",))).items[0].name
    'unreadable-1'
    """
    items = []
    for number, item in enumerate(source.items, start=1):
        try:
            name = content_key(item)
        except MediaError:  # said in the table of errors, when it is read again
            name = f"unreadable-{number}"
        items.append(replace(item, name=name, own={}))
    return Source(tuple(items), skipped=source.skipped)


def _digest(path: Path) -> str:
    from affuse.weights import sha256_of

    if is_remote(path):
        return _remote_digest(path)
    if path.is_dir():
        raise MediaError(f"{path} is a folder, not a recording")
    if not path.is_file():
        raise MediaError(f"{path} does not exist" if not path.exists() else f"{path} is not a file")
    try:
        return sha256_of(path)
    except OSError as error:
        raise MediaError(
            f"{path} cannot be read: {(error.strerror or os.strerror(error.errno or 0)).lower()}"
        ) from error


def _remote_digest(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise MediaError(f"{path} does not exist") from error
    except Exception as error:  # every kind of storage has its own errors
        raise MediaError(f"{path} could not be downloaded: {told(error)}") from error
