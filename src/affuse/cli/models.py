"""``affuse models``: which weights are here, are they the right ones, and where do the optional ones come from?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from affuse.cli.command import AffuseCommand, epilog
from affuse.errors import AssetError, ConfigError

__all__ = ["app"]

app = typer.Typer(help="List, verify and download weights.", no_args_is_help=True)


@app.command("list", cls=AffuseCommand, epilog=epilog("models list"))
def list_models() -> None:
    """List shipped and optional weights with size, licence and place."""
    from rich.console import Console

    from affuse import weights
    from affuse.evaluation.formatting import ResultTable

    table = ResultTable(["name", "kind", "bytes", "licence", "place"], left=5)
    for name, entry in sorted(weights.manifest().items()):
        table.add(name, "shipped", f"{entry.bytes:,}", entry.licence, entry.file)
    for name, remotes in sorted(weights.DOWNLOADS.items()):
        place = weights.find(name)
        table.add(name, "optional", f"{remotes[0].bytes:,}", remotes[0].licence, str(place or "not here yet"))
    Console().print(table.rich())


@app.command(cls=AffuseCommand, epilog=epilog("models verify"))
def verify() -> None:
    """Check every file against its SHA-256; exit code 2 where one is wrong."""
    from affuse import weights

    failures = []
    for name in sorted(weights.manifest()):
        failures += _verified(name, weights.shipped)
    for name in sorted(weights.DOWNLOADS):
        failures += _verified(name, weights.find)
    if failures:
        raise AssetError("; ".join(failures))


def _verified(name: str, look_up: Callable[[str], Path | None]) -> list[str]:
    try:
        path = look_up(name)
    except AssetError as error:
        typer.echo(f"{name}: wrong")
        return [str(error)]
    typer.echo(f"{name}: {'right' if path else 'not here (optional)'}")
    return []


@app.command(cls=AffuseCommand, epilog=epilog("models download"))
def download(
    names: Annotated[list[str] | None, typer.Argument(help="Names of optional weights.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Download all optional weights.")] = False,
) -> None:
    """Download optional weights into the cache; each is checked before it is used."""
    from affuse import weights

    if bool(names) == everything:
        raise ConfigError(
            f"name the weights to download, or give --all; optional: {', '.join(sorted(weights.DOWNLOADS))}"
        )
    served = [name for name, remotes in sorted(weights.DOWNLOADS.items()) if any(remote.url for remote in remotes)]
    for name in served if everything else names or []:
        typer.echo(f"{name}: {weights.download(name)}")


@app.command(cls=AffuseCommand, epilog=epilog("models licences"))
def licences() -> None:
    """Print the licence of every file of weights."""
    from affuse import weights

    for name, entry in sorted(weights.manifest().items()):
        typer.echo(f"{name}: {entry.licence}")
    for name, remotes in sorted(weights.DOWNLOADS.items()):
        typer.echo(f"{name}: {remotes[0].licence}")
