"""``affuse forget``: every trace of one recording out of results, cache and service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from affuse.cli.options import with_limits
from affuse.errors import ConfigError

__all__ = ["forget"]

_Recording = Annotated[
    str, typer.Argument(help="The recording, or a hash: its SHA-256 or its key in a data set of affuse batch.")
]
_In = Annotated[
    list[Path] | None,
    typer.Option("--in", help="Folder of results or of a service, with all folders in it (default: this folder)."),
]
_Transcript = Annotated[
    Path | None,
    typer.Option(help="Transcript that it was analysed with, where it does not lie beside it."),
]
_Log = Annotated[
    Path | None, typer.Option(help="The retention log (default: retention.log in the first folder of --in).")
]


@with_limits
def forget(
    recording: _Recording,
    folders: _In = None,
    transcript: _Transcript = None,
    log: _Log = None,
    key_file: Annotated[
        Path | None, typer.Option(help="Key file of a service that is encrypted (affuse serve --key-file).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
) -> None:
    """Remove every trace of one recording from results, cache and service; the recording itself stays."""
    from affuse.batch.forgetting import LOG, log_removals, namesakes, target_of
    from affuse.batch.forgetting import forget as forget_results
    from affuse.cli.serve import default_folder
    from affuse.service.forgetting import find_services, forget_jobs

    places = folders or [Path()]
    missing = next((place for place in places if not place.is_dir()), None)
    if missing is not None:
        raise ConfigError(f"{missing} is not a folder; --in names one that affuse wrote results to")
    target = target_of(recording, [] if transcript is None else [transcript])
    others = namesakes(target, places)
    removed = forget_results(target, places, dry_run=dry_run)
    for service in dict.fromkeys([*find_services(places), default_folder()]):
        removed += forget_jobs(service, target, dry_run=dry_run, key_file=key_file)
    for removal in removed:
        typer.echo(f"{'would be removed' if dry_run else 'removed'}: {removal}")
    for path, key in others:
        typer.echo(f"kept: {path} has the same name, but another content or transcript; its hash is {key}", err=True)
    if not removed:
        typer.echo("no trace of the recording was found", err=True)
    elif not dry_run:
        log_removals(log or places[0] / LOG, target, removed)
