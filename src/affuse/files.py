"""Writing files so that they appear whole or not at all."""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from affuse.errors import OutputError

__all__ = ["replacing", "write_json", "write_text"]


@contextmanager
def replacing(*paths: Path) -> Iterator[list[Path]]:
    """Write files under temporary names; they are renamed on success and removed on failure.

    Parameters
    ----------
    *paths : Path
        Files to write; missing folders are made. Paths of `universal_pathlib` name objects of cloud storage, which are
        written on this machine first and then uploaded, whole or not at all.

    Yields
    ------
    list of Path
        Temporary files to write to, in the order of ``paths`` and in the same folders.

    Raises
    ------
    OutputError
        If a folder cannot be made or written.

    Examples
    --------
    >>> with replacing(Path("answer.txt")) as (part,):
    ...     _ = part.write_text("42")
    >>> Path("answer.txt").read_text()
    '42'
    """
    if not all(isinstance(path, Path) for path in paths):
        with _uploading(paths) as parts:
            yield parts
        return
    # A name of its own for each writer, be it another process or another thread of this one.
    parts = [path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part") for path in paths]
    try:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise OutputError(f"{path} is a folder; the name of a file is needed")
        yield parts
        for part, path in zip(parts, paths, strict=True):
            part.replace(path)
    except OSError as error:
        raise OutputError(_sentence(paths[0], error)) from error
    finally:
        for part in parts:
            _discard(part)


_OBJECT_STORES = frozenset(
    ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "obs", "r2", "memory")
)
"""Storage where an object appears once all of it is there; elsewhere a file is renamed once it is whole."""


@contextmanager
def _uploading(paths: Sequence[Any]) -> Iterator[list[Path]]:
    """The same as `replacing` for paths of storage that fsspec reaches."""
    with tempfile.TemporaryDirectory(prefix="affuse-") as folder:
        parts = [Path(folder) / f"{number}-{path.name}" for number, path in enumerate(paths)]
        yield parts
        for part, path in zip(parts, paths, strict=True):
            try:
                _upload(part, path)
            except Exception as error:  # every kind of storage has its own errors
                reason = " ".join(str(error).split()) or type(error).__name__
                raise OutputError(f"{path} cannot be written: {reason}") from error


def _upload(part: Path, path: Any) -> None:
    storage, target = path.fs, path.path
    if path.protocol in _OBJECT_STORES:
        storage.put_file(str(part), target)
        return
    storage.makedirs(path.parent.path, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part").path
    try:
        storage.put_file(str(part), unfinished)
        storage.mv(unfinished, target)
    finally:
        if storage.exists(unfinished):
            storage.rm_file(unfinished)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all.

    Parameters
    ----------
    path : Path
        Where; missing folders are made.
    text : str
        What.

    Raises
    ------
    OutputError
        If the place cannot be written.

    Examples
    --------
    >>> write_text(Path("notes.txt"), "calm")
    >>> Path("notes.txt").read_text()
    'calm'
    """
    with replacing(path) as (part,):
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    """Write a value as a JSON file, whole or not at all.

    Parameters
    ----------
    path : Path
        Where; missing folders are made.
    value : object
        Dicts, lists, strings, numbers and None.
    indent : int or None
        Spaces of a level; None writes one line.

    Raises
    ------
    OutputError
        If the place cannot be written.

    Examples
    --------
    >>> write_json(Path("facts.json"), {"accuracy": 0.7}, indent=None)
    >>> Path("facts.json").read_text()
    '{"accuracy": 0.7}\\n'
    """
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False) + "\n")


def _sentence(path: Path, error: OSError) -> str:
    culprit = Path(error.filename).parent if error.filename and str(error.filename).endswith(".part") else path
    return (
        f"{culprit} cannot be written ({(error.strerror or str(error)).lower()}); choose another place for the output"
    )


def _discard(part: Path) -> None:
    try:
        part.unlink(missing_ok=True)
    except OSError:
        return  # its folder is not one, or may not be written: then there is nothing of ours in it
