"""What was measured once, kept on disk under the content of the item and the settings that it was measured with."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from affuse import weights
from affuse.errors import OutputError
from affuse.features.items import Clip, Item, Measured
from affuse.files import replacing

__all__ = ["FeatureStore", "content_of"]

_OWNER = 16  # digits of the checksum of a file by which its measurements are found again


class FeatureStore:
    """Measurements that are kept in a folder, one file each.

    A file is named by the SHA-256 of item and settings, and what was measured of a file by the beginning of its SHA-256
    as well, so that it can be forgotten. It holds numbers only. One that cannot be read is measured
    again. A folder that cannot be written keeps nothing.

    Parameters
    ----------
    folder : Path, optional
        Where; in the cache of affuse where None (``AFFUSE_CACHE`` moves it).

    Examples
    --------
    >>> sound = 0.1 * np.sin(np.arange(16000)).astype(np.float32)
    >>> store = FeatureStore(Path("measured"))
    >>> store.recall(sound, "settings", lambda item: Measured(np.array([item.max() > 0.09]))).value
    array([ True])
    >>> store.recall(sound, "settings", lambda item: Measured(None, "not asked again")).value
    array([ True])
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = weights.cache_folder() / "features" if folder is None else folder
        self._contents: dict[tuple[Path, int, int], str] = {}

    def recall(self, item: Item, settings: str, measure: Callable[[Item], Measured]) -> Measured:
        """What is kept for an item, measured and kept now where there is nothing yet.

        Parameters
        ----------
        item : str, Path, Clip or array
            Text, a recording, a stretch of one, samples or a picture.
        settings : str
            Everything besides the item that decides what is measured.
        measure : callable
            Measures an item.

        Returns
        -------
        Measured
        """
        content = content_of(item, self._contents)
        key = hashlib.sha256(f"{content}\n{settings}".encode()).hexdigest()
        owner = f"{content.split()[1][:_OWNER]}-" if content.startswith("file ") else ""
        path = self.folder / key[:2] / f"{owner}{key}.npz"
        kept = _read(path)
        if kept is None:
            kept = measure(item)
            _write(path, kept)
        return kept

    def kept_of(self, sha256: str) -> list[Path]:
        """The files that hold what was measured of a recording.

        Parameters
        ----------
        sha256 : str
            Checksum of the recording.

        Returns
        -------
        list of Path
        """
        return sorted(self.folder.glob(f"??/{sha256[:_OWNER]}-*.npz"))


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
        return f"unreadable {path}"  # measuring it will say what is wrong


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
        with replacing(path) as (part,), part.open("wb") as file:
            np.savez(file, value=value, reason=np.array(measured.reason))
    except OutputError:
        return  # a full disk costs time later, never an answer now
