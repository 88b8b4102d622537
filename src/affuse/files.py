"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from affuse.errors import OutputError

__all__ = ["replacing"]


@contextmanager
def replacing(*paths: Path) -> Iterator[list[Path]]:
    """Yield a temporary path beside every one of ``paths``; on success they replace them, on failure they vanish.

    Missing folders are made. Raises OutputError where a folder cannot be made or written.
    """
    parts = [path.with_name(f".{path.name}.{os.getpid()}.part") for path in paths]
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
