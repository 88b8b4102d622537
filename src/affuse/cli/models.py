"""``affuse models``: which weights are here, are they the right ones, and where do the optional ones come from?"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from affuse.cli.command import AffuseCommand, epilog
from affuse.cli.options import Json
from affuse.errors import AssetError, ConfigError

__all__ = ["app"]

_WHAT_YES_MEANS = "yes: the licence of the weights allows it. Data without a licence in brackets: none is known here."

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
def licences(as_json: Json = False) -> None:
    """Print what one may do with every file of weights, and what it was learned from."""
    from rich.console import Console

    from affuse import weights
    from affuse.evaluation.formatting import ResultTable

    terms = weights.licences()
    if as_json:
        typer.echo(json.dumps({"weights": [asdict(one) for one in terms]}, ensure_ascii=False))
        return
    table = ResultTable(["name, version, from", "commercial", "licence", "learned from"], left=4)
    for one in terms:
        name = f"{one.name} {one.version}".rstrip() + f"\n  {one.package or one.kind}"
        table.add(name, one.commercial or "not stated", one.licence, "; ".join(one.data) or "not stated")
    drawn = table.rich()
    for column in drawn.columns:
        column.overflow = "fold"  # nothing of a licence may be cut off
    Console().print(drawn)
    typer.echo(_WHAT_YES_MEANS)
