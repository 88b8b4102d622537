"""How a service runs: where it listens, who may ask, and how much."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from affuse.errors import ConfigError

__all__ = ["Settings", "is_loopback"]

_POSITIVE = ("max_upload", "max_duration", "max_queue", "job_seconds", "job_memory", "keep_seconds", "upload_pause")


@dataclass(frozen=True)
class Settings:
    """All that shapes a service; server and workers get the same.

    Parameters
    ----------
    folder: where jobs, uploads and results lie; workers share it.
    host, port: the address to listen at; anything but this machine's own needs a ``token``.
    token: what a client must show, or None.
    allowed_hosts: names by which clients may ask beside ``host``, such as a reverse proxy's.
    redis: URL of a Redis server that carries the queue, or None for the embedded one.
    workers: worker processes that the server starts; others may join with ``affuse serve --worker``.
    max_upload: bytes. max_duration: seconds of a recording. max_queue: jobs that wait before new ones are refused.
    job_seconds: time a job may take. job_memory: bytes of memory it may hold. keep_seconds: how long results stay.
    upload_pause: seconds that a client may send nothing while it uploads.
    private: keep nothing but scores. keep_uploads: keep recordings after their job.
    max_live: live streams at a time.
    bundle: folder that ``affuse export`` wrote, whose experts and fuser answer; the shipped ones where None.
    fuser: folder of a fitted fuser that answers instead. prior: what is expected before a recording is seen, a name or
        the path of a file; the fuser's default where None.
    transcribe: recognise the words of recordings without a transcript, and of live streams.
    asr_model: folder of the weights for that.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    redis: str | None = None
    workers: int = 1
    max_upload: int = 500_000_000
    max_duration: float = 7200.0
    max_queue: int = 100
    job_seconds: float = 3600.0
    job_memory: int = 3_000_000_000
    keep_seconds: float = 86_400.0
    upload_pause: float = 20.0
    private: bool = False
    keep_uploads: bool = False
    max_live: int = 8
    bundle: str | None = None
    fuser: str | None = None
    prior: str | None = None
    transcribe: bool = False
    asr_model: str | None = None

    def __post_init__(self) -> None:
        if not is_loopback(self.host) and not self.token:
            raise ConfigError(
                f"listening at {self.host} lets others in; give them a token: --token-file FILE or AFFUSE_TOKEN"
            )
        if self.token is not None and len(self.token) < 16:
            raise ConfigError("a token needs at least 16 characters; make one: openssl rand -hex 24")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and " " not in self.token):
            raise ConfigError("a token takes ASCII letters, digits and signs only; make one: openssl rand -hex 24")
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be more than 0; got {getattr(self, name):g}")
        if self.private and self.keep_uploads:
            raise ConfigError("--private keeps nothing but scores; leave out --keep-uploads")

    @property
    def uploads(self) -> Path:
        """Folder of recordings that wait for their job, or are in it."""
        return self.folder / "uploads"

    @property
    def results(self) -> Path:
        """Folder with one folder of results a finished job."""
        return self.folder / "results"

    def make_folders(self) -> None:
        """Make the folders, which nobody but this user can enter.

        Raises ConfigError where that is not possible, or where the folder is somebody else's: it holds other things.
        """
        try:
            if self.folder.is_dir() and any(self.folder.iterdir()) and not self.uploads.is_dir():
                raise ConfigError(f"{self.folder} holds other files; choose a new or an empty --folder for the service")
            for folder in (self.folder, self.uploads, self.results):
                folder.mkdir(parents=True, exist_ok=True)
                folder.chmod(0o700)
        except OSError as error:
            raise ConfigError(
                f"{self.folder} cannot hold the jobs ({error.strerror}); choose another --folder"
            ) from error


def is_loopback(host: str) -> bool:
    """Whether only this machine itself can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
