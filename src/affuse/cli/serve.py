"""``affuse serve``: the service, its workers, and workers that join another's service."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affuse.budget import SERVICE_BUDGET, Budget
from affuse.cli.options import (
    AsrModel,
    Exemption,
    Fuser,
    Package,
    PriorOption,
    PurposeOption,
    Transcribe,
    WeightSet,
    with_limits,
)
from affuse.errors import ConfigError
from affuse.lazy import needs_extra
from affuse.weight_sets import chosen_set

if TYPE_CHECKING:
    from affuse.service import Settings

__all__ = ["default_folder", "serve"]

_Host = Annotated[str, typer.Option("--host", help="Address to listen at; any but this machine's own needs a token.")]
_Folder = Annotated[Path | None, typer.Option(help="Where jobs and results lie (default: the user's data folder).")]
_TokenFile = Annotated[
    Path | None, typer.Option(help="File with the token that clients must show (or the variable AFFUSE_TOKEN).")
]
_AllowHost = Annotated[
    list[str] | None, typer.Option(help="Another name that clients ask by, such as a reverse proxy's.")
]
_TrustedProxy = Annotated[
    list[str] | None,
    typer.Option(help="Address or network of a reverse proxy that tells who came by HTTPS (default: this host)."),
]
_Private = Annotated[bool, typer.Option("--private", help="Keep nothing but scores: no names, no words, no boxes.")]
_Worker = Annotated[bool, typer.Option("--worker", help="Be a worker of the service in --folder, and listen nowhere.")]
_KeepUploads = Annotated[bool, typer.Option("--keep-uploads", help="Keep recordings after their job.")]
_KeyFile = Annotated[
    Path | None,
    typer.Option(help="Text file with the key under which recordings, results and names are encrypted on disk."),
]
_Ray = Annotated[
    str | None,
    typer.Option(help="Analyse on a Ray cluster: auto, local, or its ADDRESS (extra cluster).", metavar="ADDRESS"),
]
_AllowRead = Annotated[
    list[Path] | None,
    typer.Option(help="File or folder that jobs may read besides, such as the weights of an expert of your own."),
]


@partial(with_limits, default=SERVICE_BUDGET)
def serve(
    host: _Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.", min=1, max=65535)] = 8000,
    folder: _Folder = None,
    token_file: _TokenFile = None,
    allow_host: _AllowHost = None,
    trusted_proxy: _TrustedProxy = None,
    redis: Annotated[str | None, typer.Option(hidden=True, envvar="AFFUSE_REDIS")] = None,
    workers: Annotated[int, typer.Option(help="Worker processes to start; 0 where others do the work.", min=0)] = 1,
    worker: _Worker = False,
    max_upload: Annotated[int, typer.Option(help="Largest upload in MB.", min=1)] = 500,
    max_queue: Annotated[int, typer.Option(help="Jobs that may wait before new ones are refused.", min=1)] = 100,
    job_seconds: Annotated[float, typer.Option(help="Time a job may take, in seconds.", min=1)] = 3600,
    job_memory: Annotated[int, typer.Option(help="Memory a job may hold, in MB.", min=200)] = 3000,
    keep_hours: Annotated[float, typer.Option(help="How long results stay, in hours.", min=0.01)] = 24,
    max_live: Annotated[int, typer.Option(help="Live streams at a time.", min=0)] = 8,
    package: Package = None,
    fuser: Fuser = None,
    weights: WeightSet = None,
    prior: PriorOption = None,
    transcribe: Transcribe = False,
    asr_model: AsrModel = None,
    purpose: PurposeOption = None,
    exemption: Exemption = None,
    private: _Private = False,
    keep_uploads: _KeepUploads = False,
    key_file: _KeyFile = None,
    ray: _Ray = None,
    allow_read: _AllowRead = None,
    *,
    budget: Budget,  # from the options of LIMITS
) -> None:
    """Serve analyses, fusion and live streams over HTTP, and the page to use them by."""
    _check_installation(redis)
    from affuse.service import Settings

    settings = Settings(
        *(folder or default_folder(), host, port, _token(token_file)),
        allowed_hosts=tuple(allow_host or ()),
        trusted_proxies=tuple(trusted_proxy or Settings.trusted_proxies),
        workers=workers,
        max_upload=max_upload * 1_000_000,
        budget=budget,
        max_queue=max_queue,
        job_seconds=job_seconds,
        job_memory=job_memory * 1_000_000,
        keep_seconds=keep_hours * 3600,
        max_live=max_live,
        package=None if package is None else _checked(package),
        fuser=None if fuser is None else _checked_fuser(fuser),
        weights=_checked_weights(weights, package),
        prior=None if prior is None else _checked_prior(prior),
        transcribe=transcribe,
        asr_model=_place(asr_model),
        purpose=purpose, exemption=exemption, private=private, keep_uploads=keep_uploads,
        key_file=_place(key_file),
        ray=ray,
        readable=tuple(str(path.absolute()) for path in allow_read or ()),
    )  # fmt: skip
    _run(settings, worker)


def _check_installation(redis: str | None) -> None:
    """Raise ConfigError where a Redis server is named, MissingExtraError where the extra is not installed."""
    if redis is not None:
        raise ConfigError(
            "affuse needs no Redis any more: workers find the jobs in --folder; leave out --redis and AFFUSE_REDIS"
        )
    with needs_extra("serve"):
        import fastapi  # noqa: F401


def _place(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


def _checked(package: Path) -> str:
    """The package's place, whose files are the right ones; told now, and not by every job."""
    from affuse.packages import read_system

    return str(read_system(package).folder.absolute())


def _checked_weights(weights: str | None, package: Path | None) -> str | None:
    """The set for all processes of the service, looked up now; None where a package brings its own weights."""
    if package is None:
        return chosen_set(weights)
    if weights is not None:
        raise ConfigError("a package brings its own weights; leave out --weights, or --package")
    return None


def _checked_fuser(folder: Path) -> str:
    from affuse.fusion.named import NamedFuser

    NamedFuser.read(folder).over_emotions()
    return str(folder.absolute())


def _checked_prior(prior: str) -> str:
    from affuse.fusion.priors import NAMES, Prior

    Prior.find(prior)
    return prior if prior in NAMES else str(Path(prior).absolute())


def default_folder() -> Path:
    """Where a service keeps its jobs where nobody says so."""
    from platformdirs import user_data_path

    return user_data_path("affuse") / "service"


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get("AFFUSE_TOKEN") or None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read for the token: {error}") from error


def _run(settings: Settings, worker: bool) -> None:
    from affuse.service import Worker
    from affuse.service import serve as serve_until_stopped

    if worker:
        Worker(settings).run()
    else:
        serve_until_stopped(settings)
