"""How a service runs: where it listens, who may ask, and how much."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from affuse.budget import SERVICE_BUDGET, Budget
from affuse.errors import ConfigError
from affuse.purpose import Purpose

__all__ = ["Settings", "is_loopback"]

_POSITIVE = (
    "max_upload",
    "max_queue",
    "job_seconds",
    "job_memory",
    "probe_seconds",
    "keep_seconds",
    "upload_pause",
    "head_seconds",
    "max_connections",
    "poll_seconds",
    "lease_seconds",
    "sweep_seconds",
)


@dataclass(frozen=True)
class Settings:
    """All that shapes a service; the server and its workers get the same.

    Parameters
    ----------
    folder : Path
        Where jobs, uploads and results lie; workers share it.
    host, port : str, int
        The address to listen at; any but this machine's own needs a ``token``.
    token : str or None
        What a client must send as ``Authorization: Bearer``; at least 16 ASCII characters without spaces.
    allowed_hosts : tuple of str
        Names by which clients may ask beside ``host``, such as a reverse proxy's.
    trusted_proxies : tuple of str
        Addresses and networks of reverse proxies: their ``X-Forwarded-Proto`` says whether a client came by HTTPS, and
        they may hold any number of connections.
    workers : int
        Worker processes that the server starts; others may join with ``affuse serve --worker``.
    max_upload : int
        Largest upload in bytes.
    budget : Budget
        The most that one recording or table may ask for.
    max_queue : int
        Jobs that may wait; more are refused.
    job_seconds : float
        Time that a job may take, in seconds.
    job_memory : int
        Memory that a job may hold, in bytes.
    probe_seconds : float
        Time in which the length of a recording must be measured, in seconds.
    keep_seconds : float
        How long results are kept, in seconds.
    upload_pause : float
        Seconds without a byte after which an upload is broken off, or an answer that the client does not take.
    head_seconds : float
        Seconds in which a client must send the whole head of a request.
    max_connections : int
        Connections at a time, WebSockets apart; fewer where the process may not open so many files. Beyond them those
        that have waited longest for their request are closed. One address may hold a quarter of them.
    poll_seconds : float
        Longest time between two looks of an idle worker at the waiting jobs; a server wakes its own workers at once.
    lease_seconds : float
        Time without a heartbeat of its worker after which a running job counts as abandoned and is taken again.
    sweep_seconds : float
        Time between two looks for abandoned jobs and for results that are too old.
    private : bool
        Keep nothing but scores.
    keep_uploads : bool
        Keep recordings after their job.
    max_live : int
        Live streams at a time.
    package : str or None
        Folder that ``affuse export`` wrote, whose experts and fuser answer; the shipped ones where None.
    fuser : str or None
        Folder of a fitted fuser that answers instead.
    weights : str or None
        Set of the shipped weights that answers (`affuse.weight_sets`); the one in use where the service starts if None.
    prior : str or None
        What is expected before a recording is seen, a name or the path of a file; the fuser's default where None.
    transcribe : bool
        Recognise the words of recordings without a transcript, and of live streams.
    asr_model : str or None
        Folder of the weights of speech recognition.
    purpose : str or None
        What the service is for, one of `affuse.purpose.PURPOSES`; every answer states it.
    exemption : str or None
        Why people are analysed at work or in education, one of `affuse.purpose.EXEMPTIONS`.
    key_file : str or None
        File with the key under which recordings, results and names are encrypted; they are not where None.
    ray : str or None
        Address of a Ray cluster whose machines analyse ("auto", "local", or as ``ray.init`` takes it); this machine
        where None. Not together with ``key_file``: a cluster holds what it passes on unencrypted.
    readable : tuple of str
        Files and folders that jobs may read beside those of the system, of Python and of affuse.

    Raises
    ------
    ConfigError
        If the values do not fit together, such as a public address without a token, or the purpose is forbidden
        (`affuse.purpose`).

    Examples
    --------
    >>> settings = Settings(Path("jobs"), workers=2)
    >>> settings.results.as_posix()
    'jobs/results'
    >>> Settings(Path("jobs"), host="0.0.0.0")
    Traceback (most recent call last):
    affuse.errors.ConfigError: listening at 0.0.0.0 lets others in; give them a token: --token-file FILE or AFFUSE_TOKEN
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    workers: int = 1
    max_upload: int = 500_000_000
    budget: Budget = SERVICE_BUDGET
    max_queue: int = 100
    job_seconds: float = 3600.0
    job_memory: int = 3_000_000_000
    probe_seconds: float = 120.0
    keep_seconds: float = 86_400.0
    upload_pause: float = 20.0
    head_seconds: float = 10.0
    max_connections: int = 1000
    poll_seconds: float = 0.5
    lease_seconds: float = 10.0
    sweep_seconds: float = 5.0
    private: bool = False
    keep_uploads: bool = False
    max_live: int = 8
    package: str | None = None
    fuser: str | None = None
    weights: str | None = None
    prior: str | None = None
    transcribe: bool = False
    asr_model: str | None = None
    purpose: str | None = None
    exemption: str | None = None
    key_file: str | None = None
    ray: str | None = None
    readable: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        Purpose(self.purpose, self.exemption)
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
        for proxy in self.trusted_proxies:
            _check_network(proxy)
        if self.private and self.keep_uploads:
            raise ConfigError("--private keeps nothing but scores; leave out --keep-uploads")
        if self.ray is not None and self.key_file is not None:
            raise ConfigError(
                "--ray sends recordings through the object store of a cluster, which does not encrypt them and may "
                "write them to disk; leave out --key-file or --ray"
            )
        if self.ray is not None and self.transcribe and self.asr_model is None:
            raise ConfigError(
                "jobs on a Ray cluster have no network to fetch weights by; give --asr-model FOLDER to --transcribe"
            )

    @property
    def uploads(self) -> Path:
        """Folder of recordings that wait for their job, or are in it."""
        return self.folder / "uploads"

    @property
    def results(self) -> Path:
        """Folder with one folder of results a finished job."""
        return self.folder / "results"

    @property
    def staging(self) -> Path:
        """Folder of what the jobs in progress read and write."""
        return self.folder / "staging"

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Settings:
        """Read what `to_json` has written.

        Parameters
        ----------
        values : mapping

        Returns
        -------
        Settings
        """
        tuples = {name: tuple(values[name]) for name in ("allowed_hosts", "trusted_proxies", "readable")}
        return cls(**{**values, **tuples, "folder": Path(values["folder"]), "budget": Budget(**values["budget"])})

    def to_json(self) -> dict[str, Any]:
        """Write the settings for the process of a worker.

        Returns
        -------
        dict of str to object
            Values for JSON.
        """
        return asdict(self) | {"folder": str(self.folder)}

    def make_folders(self) -> None:
        """Make the folders, which nobody but this user can enter.

        Raises
        ------
        ConfigError
            If that is not possible, or if the folder holds files that are not a service's.
        """
        try:
            if self.folder.is_dir() and any(self.folder.iterdir()) and not self.uploads.is_dir():
                raise ConfigError(f"{self.folder} holds other files; choose a new or an empty --folder for the service")
            for folder in (self.folder, self.uploads, self.results, self.staging):
                folder.mkdir(parents=True, exist_ok=True)
                folder.chmod(0o700)
            for leftover in self.folder.glob("queue.db*"):  # of affuse 0.1.0, which had a queue beside the store
                leftover.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{self.folder} cannot hold the jobs ({error.strerror}); choose another --folder"
            ) from error


def _check_network(proxy: str) -> None:
    try:
        ipaddress.ip_network(proxy)
    except ValueError as error:
        raise ConfigError(
            f"a trusted proxy is an address or a network, such as 10.0.0.7 or 10.0.0.0/24; got {proxy!r}"
        ) from error


def is_loopback(host: str) -> bool:
    """Whether only this machine itself can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
