"""Recordings in folders, and names for their results that never meet."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from affuse.batch.storage import is_remote
from affuse.errors import MediaError

__all__ = [
    "TRANSCRIPTS",
    "Found",
    "absolute",
    "common_parent",
    "each_once",
    "find_in_folder",
    "is_tried",
    "result_names",
    "transcript_beside",
]

TRANSCRIPTS = (".srt", ".vtt", ".txt")
"""Suffixes of a transcript beside a recording. Not JSON: that may be our own results of an earlier run."""

# Files that are plainly no recordings; anything else is tried.
_PASSED_OVER = frozenset(
    {*TRANSCRIPTS, ".json", ".csv", ".tsv", ".parquet", ".xlsx", ".html", ".md", ".pdf", ".toml", ".yaml", ".yml"}
    | {".py", ".sh", ".log", ".rttm", ".eaf", ".pfsx", ".textgrid"}
)


@dataclass(frozen=True)
class Found:
    """A recording, the folder or file that was asked for and led to it, and the transcript that belongs to it."""

    path: Path
    asked: Path
    transcript: Path | None


def find_in_folder(folder: Path, without: Path | None = None) -> tuple[list[Found], int]:
    """Recordings in a folder and the folders in it, in order of their paths, and how many other files there are.

    A transcript with the stem of a recording beside it is taken for its own. What begins with a dot, links to folders
    and the folder ``without`` are left out. Raises MediaError where a folder cannot be read or no recording is found.
    """
    recordings: list[Found] = []
    skipped = 0
    for place, folders, files in os.walk(folder, onerror=_unreadable):
        here = Path(place)
        folders[:] = sorted(n for n in folders if not n.startswith(".") and not _same(here / n, without))
        visible = [here / name for name in sorted(files) if not name.startswith(".") and (here / name).is_file()]
        paths = [path for path in visible if is_tried(path)]
        own = [Found(path, folder, transcript_beside(path)) for path in paths]
        skipped += len(visible) - len(own) - len({found.transcript for found in own} - {None})
        recordings += own
    if not recordings:
        raise MediaError(f"{folder} holds no recordings; give a folder with video, sound or picture files")
    return sorted(recordings, key=lambda found: found.path), skipped


def _same(path: Path, other: Path | None) -> bool:
    return other is not None and other.exists() and path.samefile(other)


def _unreadable(error: OSError) -> None:
    raise MediaError(f"the folder {error.filename} cannot be read: {error.strerror}") from error


def is_tried(path: Path) -> bool:
    """Whether a file of a folder may be a recording."""
    return path.suffix.lower() not in _PASSED_OVER


def transcript_beside(recording: Path) -> Path | None:
    """The transcript beside a recording that has its stem; None where there is none."""
    candidates = (recording.with_suffix(suffix) for suffix in TRANSCRIPTS)
    return next((path for path in candidates if path.is_file() and path != recording), None)


def absolute(path: Path) -> Path:
    """A path from the root without "..", whose links stay: two links to one recording are two recordings."""
    return path if is_remote(path) else Path(os.path.normpath(path.absolute()))


def each_once(found: Sequence[Found]) -> list[Found]:
    """The recordings without those that are named again."""
    first: dict[Path, Found] = {}
    for own in found:
        first.setdefault(absolute(own.path), own)
    return list(first.values())


def common_parent(paths: Sequence[Path]) -> Path:
    """The deepest folder that holds all files. Raises MediaError where there is none, as on two drives."""
    try:
        return Path(os.path.commonpath([absolute(path).parent for path in paths]))
    except ValueError as error:
        raise MediaError("recordings on several drives have no common folder; give one drive at a time") from error


def result_names(found: Sequence[Found]) -> list[Path]:
    """A relative path without suffix for the results of each recording; no two are the same on any file system.

    A recording of a folder has its path in the folder, any other the name of its file. Where two from different places
    would have the same, all have their path below their common parent. Two that differ in their suffix alone keep it;
    what is still equal, or differs in upper and lower case alone, gets a number from the second on.

    Examples
    --------
    >>> def names(*paths):
    ...     return [name.as_posix() for name in result_names([Found(Path(p), Path(p), None) for p in paths])]
    >>> names("a/x.mp4", "b/y.mp4")
    ['x', 'y']
    >>> names("a/x.mp4", "b/x.mp4")
    ['a/x', 'b/x']
    >>> names("x.mp4", "x.wav"), names("x.mp4", "X.mp4")
    (['x.mp4', 'x.wav'], ['x', 'X-2'])
    """
    relative = [Path(f.path.name) if f.asked == f.path else f.path.relative_to(f.asked) for f in found]
    places: dict[str, set[Path]] = {}
    for own, name in zip(found, relative, strict=True):
        root = own.path.parent if own.asked == own.path else own.asked
        places.setdefault(_folded(_stem(name)), set()).add(absolute(root))
    if any(len(folders) > 1 for folders in places.values()):
        parent = common_parent([own.path for own in found])
        relative = [absolute(own.path).relative_to(parent) for own in found]
    same = Counter(str(_stem(name)) for name in set(relative))
    names = [name if same[str(_stem(name))] > 1 else _stem(name) for name in relative]
    # Of a folder there are an index.html and a summary.csv as well.
    taken = {"index", "summary"} if any(own.asked != own.path for own in found) else set()
    return [_free(name, taken) for name in names]


def _stem(path: Path) -> Path:
    return path.with_name(path.stem)


def _folded(path: Path) -> str:
    """A path as file systems compare it that know no upper case, or compose letters."""
    return unicodedata.normalize("NFC", path.as_posix()).casefold()


def _free(name: Path, taken: set[str]) -> Path:
    candidates = (name if number == 1 else name.with_name(f"{name.name}-{number}") for number in count(1))
    free = next(candidate for candidate in candidates if _folded(candidate) not in taken)
    taken.add(_folded(free))
    return free
