"""Where a service keeps recordings, results and names on disk: as they are, or encrypted under a key file."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from affuse.encryption import SCRYPT, Sealer, derive_key, new_salt, read_key_file
from affuse.errors import ConfigError, DataError
from affuse.files import write_json
from affuse.service.settings import Settings

__all__ = ["EncryptedStorage", "Storage", "open_storage", "staging_folder"]

_KEY = "key.json"
_FORMAT = "affuse/service-key/1"
_CHECK = "the key of this service"
_MEMORY = Path("/dev/shm")
_YOUNG = 60.0  # seconds


def open_storage(settings: Settings) -> Storage:
    """The storage of a service, whose folders are there.

    Parameters
    ----------
    settings : Settings
        Its folder, and its key file if it has one.

    Returns
    -------
    Storage

    Raises
    ------
    ConfigError
        If the key is missing, wrong or not needed, or this system has no folder in memory.

    Examples
    --------
    >>> settings = Settings(Path("jobs"))
    >>> settings.make_folders()
    >>> open_storage(settings).unseal("Anna", "job 1")
    'Anna'
    """
    described = settings.folder / _KEY
    if settings.key_file is None:
        if described.exists():
            raise ConfigError(f"{settings.folder} is encrypted; give its key: --key-file FILE")
        return Storage(settings)
    key = read_key_file(settings.key_file)
    if not described.exists():
        if (settings.folder / "jobs.db").exists():
            raise ConfigError(f"the jobs in {settings.folder} are not encrypted; choose a new --folder for --key-file")
        _describe_key(described, key)
    return EncryptedStorage(settings, _sealer(described, key))


def _describe_key(path: Path, key: str) -> None:
    salt = new_salt()
    check = Sealer(derive_key(key, salt, SCRYPT)).seal_text(_CHECK, _KEY)
    write_json(path, {"format": _FORMAT, "salt": salt.hex(), "scrypt": SCRYPT, "check": check})


def _sealer(path: Path, key: str) -> Sealer:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        if card["format"] != _FORMAT:
            raise ValueError(f"its format is {card['format']}, and {_FORMAT} is known")
        sealer = Sealer(derive_key(key, bytes.fromhex(card["salt"]), card["scrypt"]))
        check = str(card["check"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} does not say how the key is derived: {error}") from error
    try:
        sealer.open_text(check, _KEY)
    except DataError:
        raise ConfigError(f"the key does not open {path.parent}; give the key that it was made with") from None
    return sealer


class Storage:
    """Files of a service as they are.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @property
    def staging(self) -> Path:
        """Folder with a folder for every worker: what its job reads, and what comes out of it."""
        return self.settings.staging

    def keep(self, source: BinaryIO, name: str) -> None:
        """Copy a stream into the folder of uploads; the file goes again if that fails."""
        path = self.settings.uploads / name
        with _private_file(path) as file:
            self._write(source, file, name)

    def bring(self, name: str, target: Path) -> None:
        """Make an upload readable at another place."""
        path = self.settings.uploads / name
        try:
            os.link(path, target)
        except OSError:  # a file system without links
            shutil.copyfile(path, target)

    def upload_sha256(self, name: str) -> str | None:
        """Checksum of what was uploaded; None where it is not there any more."""
        path = self.settings.uploads / name
        if not path.is_file():
            return None
        sink = _Digest()
        self._read(path, cast(BinaryIO, sink), name)
        return sink.found.hexdigest()

    def keep_results(self, folder: Path, job_id: str) -> None:
        """Move a folder of results to its place, in one step. One that is there already stays."""
        final = self.settings.results / job_id
        if not final.exists():
            os.replace(folder, final)

    def read_result(self, job_id: str, file: str) -> bytes | None:
        """A file of results; None where there is none."""
        path = self.settings.results / job_id / file
        if not path.is_file() or path.is_symlink():
            return None
        content = io.BytesIO()
        self._read(path, content, f"{job_id}/{file}")
        return content.getvalue()

    def seal(self, text: str, job_id: str) -> str:
        """A text as the store of jobs keeps it."""
        return text

    def unseal(self, text: str, job_id: str) -> str:
        """A text that the store of jobs has kept."""
        return text

    def _write(self, source: BinaryIO, target: BinaryIO, name: str) -> None:
        shutil.copyfileobj(source, target)

    def _read(self, path: Path, target: BinaryIO, name: str) -> None:
        with path.open("rb") as file:
            shutil.copyfileobj(file, target)


class EncryptedStorage(Storage):
    """Files of a service encrypted by AES-256-GCM; what must be readable meanwhile lies in memory.

    Parameters
    ----------
    settings : Settings
    sealer : Sealer

    Raises
    ------
    ConfigError
        If this system has no folder in memory.
    """

    def __init__(self, settings: Settings, sealer: Sealer) -> None:
        super().__init__(settings)
        self._sealer = sealer
        self._memory = _folder_in_memory(settings.folder)

    @property
    def staging(self) -> Path:
        """A folder in memory."""
        return self._memory

    def bring(self, name: str, target: Path) -> None:
        """Decrypt an upload into memory. Raises DataError where the file was changed."""
        with _private_file(target) as file:
            self._read(self.settings.uploads / name, file, name)

    def keep_results(self, folder: Path, job_id: str) -> None:
        """Encrypt a folder of results to its place."""
        final = self.settings.results / job_id
        part = final.with_name(f".{job_id}.{os.getpid()}.part")
        try:
            part.mkdir(0o700)
            for path in folder.iterdir():
                with path.open("rb") as source, _private_file(part / path.name) as target:
                    self._write(source, target, f"{job_id}/{path.name}")
            if not final.exists():
                os.replace(part, final)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def seal(self, text: str, job_id: str) -> str:
        """Encrypt a text."""
        return self._sealer.seal_text(text, job_id)

    def unseal(self, text: str, job_id: str) -> str:
        """Decrypt a text. Raises DataError where it was changed."""
        return self._sealer.open_text(text, job_id)

    def _write(self, source: BinaryIO, target: BinaryIO, name: str) -> None:
        self._sealer.seal_file(source, target, name)

    def _read(self, path: Path, target: BinaryIO, name: str) -> None:
        self._sealer.open_file(path, target, name)


class _Digest(io.RawIOBase):
    """A file that only hashes what is written to it."""

    def __init__(self) -> None:
        self.found = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.found.update(data)
        return len(data)


@contextmanager
def _private_file(path: Path) -> Iterator[BinaryIO]:
    """A new file that only this user may read; it goes again if writing it fails."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _folder_in_memory(folder: Path) -> Path:
    """A folder of this user's in a file system that is kept in memory. Raises ConfigError where there is none."""
    if not _is_in_memory(_MEMORY):
        raise ConfigError(
            f"--key-file needs a file system in memory for jobs that run, and {_MEMORY} is none on this system"
        )
    place = _MEMORY / f"affuse-{hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]}-{os.getuid()}"
    with suppress(FileExistsError):
        place.mkdir(0o700)
    found = place.lstat()
    if not place.is_dir() or place.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ConfigError(f"{place} belongs to somebody else; jobs cannot be decrypted there")
    return place


def _is_in_memory(folder: Path) -> bool:
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any(line.split()[1:3] in ([str(folder), "tmpfs"], [str(folder), "ramfs"]) for line in lines)


@contextmanager
def staging_folder(storage: Storage) -> Iterator[Path]:
    """A folder for the jobs of one worker, or for one request; those of processes that were killed are deleted.

    A lock on the folder says that its process lives, since the system takes it off whatever ends the process.
    """
    for other in storage.staging.iterdir():
        if other.stat().st_mtime < time.time() - _YOUNG:  # a newer one may not be locked yet
            with _locked(other) as free:
                if free:
                    shutil.rmtree(other, ignore_errors=True)
    place = Path(tempfile.mkdtemp(dir=storage.staging))
    with _locked(place):
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # deleted by another worker
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except BlockingIOError:
            free = False
        yield free
    finally:
        os.close(descriptor)
