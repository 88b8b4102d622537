"""Recordings and data sets in cloud storage and wherever else fsspec reaches: ``s3://``, ``gs://``, ``memory://``, …

An address is a path of `universal_pathlib`, which has the methods of `pathlib.Path`; credentials come from the
environment, as each kind of storage reads them. What may be there a million times is never asked for one by one:
sizes and versions come from listings of whole folders, whose pages hold a thousand names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from affuse.errors import AffuseError, ConfigError, MediaError, MissingExtraError
from affuse.lazy import needs_extra

__all__ = ["Listed", "Listings", "as_path", "beside", "common_prefix", "fetch", "is_remote", "told", "uncached"]

_ADDRESS = re.compile(r"(?P<kind>[a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_LOCAL = ("file://", "local://")
_UNLISTED = frozenset(("http", "https"))  # a page is no folder
_VERSIONS = ("ETag", "etag", "md5Hash", "generation", "mtime", "LastModified", "last_modified", "updated", "created")
"""What kinds of storage call that which is another one once the content is."""


def is_remote(place: str | Path) -> bool:
    """Whether a place is an address such as ``s3://bucket/clip.mp4`` and no path of this machine.

    Examples
    --------
    >>> is_remote("s3://bucket/clip.mp4"), is_remote("clips/a.mp4"), is_remote("file:///clips/a.mp4")
    (True, False, False)
    """
    text = str(place)
    return not text.startswith(_LOCAL) and _ADDRESS.match(text) is not None


def as_path(place: str | Path) -> Path:
    """The path of a place: `pathlib.Path` on this machine, and else one of `universal_pathlib` with the same methods.

    Raises MissingExtraError or ConfigError where the library of that kind of storage is missing.

    Examples
    --------
    >>> as_path("file:///clips/a.mp4").as_posix()
    '/clips/a.mp4'
    """
    if isinstance(place, Path) or not isinstance(place, str):
        return place
    if not is_remote(place):
        return Path(re.sub("^(file|local)://", "", place))
    with needs_extra("cloud"):
        from upath import UPath
    try:
        path = UPath(place)
        path.fs  # noqa: B018 - imports the library of that storage
    except ImportError as error:
        _refuse_library(place, error)
    except Exception as error:
        raise ConfigError(f"{place} cannot be reached: {told(error)}") from error
    return cast(Path, path)


def _refuse_library(place: str, error: ImportError) -> None:
    kind = str(place).partition(":")[0]
    if kind in ("s3", "s3a"):
        raise MissingExtraError("s3fs", "cloud") from error
    raise ConfigError(f"{place} cannot be reached: {told(error)}") from error


def told(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def beside(folder: Path, name: str) -> Path:
    """What a manifest in a folder means by a name: an address as it is, and else a path from that folder."""
    return as_path(name) if is_remote(name) or name.startswith(_LOCAL) else folder / name


def uncached(path: Path) -> Path:
    """The path, whose storage is asked again for what it has listed before."""
    if is_remote(path):
        cast(Any, path).fs.invalidate_cache()
    return path


def common_prefix(places: Sequence[Path]) -> str:
    """The longest address of a folder that holds all places, with "/" at its end. Raises MediaError without one.

    Examples
    --------
    >>> common_prefix(["s3://b/a/1.wav", "s3://b/a/c/2.wav"])
    's3://b/a/'
    """
    split = [str(place).split("/")[:-1] for place in places]
    shared = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    if len(shared) < 2:
        raise MediaError("recordings in several kinds of storage have no common folder; give a manifest")
    return "/".join(shared) + "/"


# --- listings ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listed:
    """What a listing says of a file: its size in bytes, and a version that changes with the content; "" if unknown."""

    size: int = 0
    version: str = ""


class Listings:
    """Listings of folders, of which each is asked for once."""

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, Listed]] = {}

    def find(self, path: Path) -> Listed | None:
        """What the listing of its folder says of a file; None where it is not there, or the folder cannot be listed."""
        if self.is_page(path):
            return None
        folder, _, name = str(path).rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = _listing(path.parent)
        return self._folders[folder].get(name)

    @staticmethod
    def is_page(path: Path) -> bool:
        """Whether it is on a server that lists nothing."""
        return str(path).partition(":")[0] in _UNLISTED

    def inside(self, folder: Path) -> list[Path]:
        """All files in a folder and those in it. Raises MediaError where it cannot be listed."""
        storage = cast(Any, uncached(folder)).fs
        try:
            found = storage.find(cast(Any, folder).path, detail=True)
        except Exception as error:
            raise MediaError(f"{folder} cannot be read: {told(error)}") from error
        files = self._files(folder, found.values())
        for path, entry in files.items():
            place, _, name = str(path).rpartition("/")
            self._folders.setdefault(place, {})[name] = _listed(entry)
        return list(files)

    def matching(self, pattern: str) -> list[Path]:
        """All files that a pattern matches. Raises MediaError where the storage cannot be read."""
        path = as_path(pattern)
        storage = cast(Any, uncached(path)).fs
        try:
            found = storage.glob(cast(Any, path).path, detail=True)
        except Exception as error:
            raise MediaError(f"{pattern} cannot be read: {told(error)}") from error
        return list(self._files(path, found.values()))

    @staticmethod
    def _files(root: Path, entries: Iterable[Mapping[str, Any]]) -> dict[Path, Mapping[str, Any]]:
        storage = cast(Any, root).fs
        found = (entry for entry in entries if entry.get("type") == "file")
        return {as_path(storage.unstrip_protocol(entry["name"])): entry for entry in found}


def _listing(folder: Path) -> dict[str, Listed]:
    storage = cast(Any, uncached(folder)).fs
    with suppress(Exception):  # without the right to list, recordings are just fetched
        entries = storage.ls(cast(Any, folder).path, detail=True)
        return {str(entry["name"]).rpartition("/")[2]: _listed(entry) for entry in entries if entry["type"] == "file"}
    return {}


def _listed(entry: Mapping[str, Any]) -> Listed:
    version = next((str(entry[name]) for name in _VERSIONS if entry.get(name)), "")
    return Listed(int(entry.get("size") or 0), version)


# --- fetching ---------------------------------------------------------------------------------------------------------


@contextmanager
def fetch(place: str, folder: Path) -> Iterator[Path]:
    """A copy of a file in a folder of this machine, under its own name, which is removed afterwards.

    Raises MediaError where it cannot be fetched, or not all of it has come.
    """
    target = folder / (place.rpartition("/")[2] or "recording")
    try:
        try:
            _download(place, target)
        except AffuseError:
            raise
        except FileNotFoundError as error:
            raise MediaError(f"{place} does not exist") from error
        except Exception as error:  # every kind of storage has its own errors
            raise MediaError(f"{place} could not be downloaded: {told(error)}") from error
        yield target
    finally:
        target.unlink(missing_ok=True)


def _download(place: str, target: Path) -> None:
    path = cast(Any, as_path(place))
    size = path.fs.info(path.path).get("size")
    path.fs.get_file(path.path, str(target))
    if size is not None and target.stat().st_size != size:
        raise OSError(f"{target.stat().st_size} of {size} bytes came")
