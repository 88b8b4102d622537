"""What was measured once, kept on disk under the content of the item and the settings that it was measured with."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from affuse import weights
from affuse.features.base import Clip, Item, Measured

__all__ = ["FeatureStore", "content_of"]


class FeatureStore:
    """Measurements in ``folder``, one file each; that of affuse's cache where None (``AFFUSE_CACHE`` moves it).

    A file is named by the SHA-256 of item and settings, written beside its place and then moved there, and holds
    numbers only. One that cannot be read is measured again. A folder that cannot be written keeps nothing.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = weights.cache_folder() / "features" if folder is None else folder
        self._contents: dict[tuple[Path, int, int], str] = {}

    def recall(self, item: Item, settings: str, measure: Callable[[Item], Measured]) -> Measured:
        """What is kept for ``item`` under ``settings``, measured and kept now where there is nothing yet."""
        key = hashlib.sha256(f"{content_of(item, self._contents)}\n{settings}".encode()).hexdigest()
        path = self.folder / key[:2] / f"{key}.npz"
        kept = _read(path)
        if kept is None:
            kept = measure(item)
            _write(path, kept)
        return kept


def content_of(item: Item, known: dict[tuple[Path, int, int], str] | None = None) -> str:
    """What an item holds, as text: the SHA-256 of its samples, pixels or bytes, with the times of a clip.

    ``known`` remembers files by path, size and time of change, so that many clips of one file read it once.
    """
    if isinstance(item, np.ndarray):
        return f"{item.dtype} {item.shape} {hashlib.sha256(np.ascontiguousarray(item).tobytes()).hexdigest()}"
    if isinstance(item, str):
        return f"text {hashlib.sha256(item.encode()).hexdigest()}"
    clip = item if isinstance(item, Clip) else Clip(item)
    return f"file {_file_digest(clip.path, {} if known is None else known)} {clip.start} {clip.end}"


def _file_digest(path: Path, known: dict[tuple[Path, int, int], str]) -> str:
    try:
        status = path.stat()
        key = (path, status.st_size, status.st_mtime_ns)
        if key not in known:
            known[key] = weights.sha256_of(path)
        return known[key]
    except OSError:
        return f"unreadable {path}"  # whoever measures it says what is wrong


def _read(path: Path) -> Measured | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as parts:
            reason = str(parts["reason"])
            return Measured(None, reason) if reason else Measured(parts["value"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, measured: Measured) -> None:
    value = np.empty(0) if measured.value is None else np.asarray(measured.value)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, value=value, reason=np.array(measured.reason))
        os.replace(part, path)
    except OSError:
        return  # a full disk costs time later, never an answer now
    finally:
        Path(part).unlink(missing_ok=True)
