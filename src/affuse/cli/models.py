"""``affuse models``: which weights are here and in use, are they the right ones, and where do others come from?"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from affuse.cli import completion
from affuse.cli.command import AffuseCommand, epilog
from affuse.cli.options import Json
from affuse.errors import AssetError, ConfigError

__all__ = ["app"]

_WHAT_YES_MEANS = "yes: the licence of the weights allows it. Data without a licence in brackets: none is known here."

app = typer.Typer(help="List, choose, verify and download weights.", no_args_is_help=True)


@app.command(cls=AffuseCommand, epilog=epilog("models use"))
def use(
    chosen: Annotated[
        str, typer.Argument(help="research or commercial.", metavar="SET", autocompletion=completion.weight_sets)
    ],
) -> None:
    """Choose the set of weights that answers from now on, for this user.

    The commercial set learned from data that may be used commercially, and reads less well; --weights and the variable
    AFFUSE_WEIGHTS come before this choice.
    """
    from affuse import weight_sets

    path = weight_sets.use(chosen)
    typer.echo(f"in use from now on: the {chosen} set (kept in {path})")
    if (now := weight_sets.in_use()) != chosen:
        typer.echo(f"affuse: AFFUSE_WEIGHTS says {now}, which comes before it", err=True)


@app.command("list", cls=AffuseCommand, epilog=epilog("models list"))
def list_models() -> None:
    """List shipped and optional weights with size, licence and place."""
    from rich.console import Console

    from affuse import weights
    from affuse.evaluation.formatting import ResultTable

    table = ResultTable(["name", "kind", "bytes", "licence", "place"], left=5)
    entries, sets = weights.manifest(), {terms.name: terms.sets for terms in weights.licences()}
    for name, entry in sorted(entries.items()):
        kind = "shipped" if len(sets[name]) > 1 else f"shipped, {sets[name][0]}"
        table.add(name, kind, f"{entry.bytes:,}", entry.licence, entry.file)
    for name, remotes in sorted(weights.DOWNLOADS.items()):
        place = weights.find(name)
        table.add(name, "optional", f"{remotes[0].bytes:,}", remotes[0].licence, str(place or "not here yet"))
    Console().print(table.rich())


@app.command(cls=AffuseCommand, epilog=epilog("models verify"))
def verify() -> None:
    """Check every file against its SHA-256; exit code 2 where one is wrong."""
    from affuse import weights

    failures = []
    for terms in weights.licences():
        if terms.sets:  # of shipped ones; those of both sets are the same file
            failures += _verified(terms.name, partial(weights.shipped, of_set=terms.sets[0]))
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
    """Print which set of weights is in use, what one may do with every file, and what it was learned from."""
    from rich.console import Console

    from affuse import weight_sets, weights
    from affuse.evaluation.formatting import ResultTable

    terms, chosen = weights.licences(), weight_sets.in_use()
    if as_json:
        facts = [asdict(one) | {"in_use": chosen in one.sets or not one.sets} for one in terms]
        typer.echo(json.dumps({"in_use": chosen, "weights": facts}, ensure_ascii=False))
        return
    table = ResultTable(["name, version, from", "commercial", "licence", "learned from"], left=4)
    for one in terms:
        of = one.package or (f"{one.kind}, {_sets(one.sets, chosen)}" if one.sets else one.kind)
        name = f"{one.name} {one.version}".rstrip() + f"\n  {of}"
        table.add(name, one.commercial or "not stated", one.licence, "; ".join(one.data) or "not stated")
    drawn = table.rich()
    for column in drawn.columns:
        column.overflow = "fold"  # nothing of a licence may be cut off
    Console().print(drawn)
    typer.echo(_WHAT_YES_MEANS)
    typer.echo(f"in use: the {chosen} set; choose by affuse models use, AFFUSE_WEIGHTS or --weights")


def _sets(sets: tuple[str, ...], chosen: str) -> str:
    """The sets that weights belong to, in words."""
    return f"{' and '.join(sets)} set{'s' if len(sets) > 1 else ''}{'' if chosen in sets else ', not in use'}"
