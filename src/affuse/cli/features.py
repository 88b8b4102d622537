"""``affuse features``: which features there are, and their values for files or the rows of a table."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from affuse.errors import ConfigError, OutputError
from affuse.progress import progress_bar

__all__ = ["app"]

app = typer.Typer(help="List and extract features of voices, faces and words.", no_args_is_help=True)

_SUFFIXES = (".csv", ".tsv", ".parquet")


@app.command("list")
def list_features(
    modality: Annotated[str | None, typer.Option(help="Only those that read text, voice or face.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a table for a page.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """List features by name, with what they read, how many columns there are, their unit and what they need."""
    from affuse.features import names

    if modality not in (None, "text", "voice", "face"):
        raise ConfigError(f"unknown modality {modality!r}; known: text, voice, face")
    rows = [_facts(name) for name in names(modality)]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    elif markdown:
        heads = list(rows[0])
        typer.echo(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        for row in rows:
            typer.echo(f"| {' | '.join(row.values())} |")
    else:
        _print_table(rows)


def _facts(name: str) -> dict[str, str]:
    from sklearn.exceptions import NotFittedError

    from affuse.errors import AssetError
    from affuse.features import make

    extractor = make(name)
    try:
        columns = str(len(extractor.get_feature_names_out()))
    except NotFittedError:
        columns = "vocabulary"
    except AssetError:
        columns = "of the network"
    return {
        "name": name,
        "reads": extractor.modality,
        "columns": columns,
        "unit": extractor.unit,
        "needs": f"affuse[{extractor.extra}]" if extractor.extra else "",
        "what": (type(extractor).__doc__ or "").splitlines()[0].partition(": (n")[0].rstrip("."),
    }


def _print_table(rows: Sequence[dict[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows[0])
    for row in rows:
        table.add_row(*row.values())
    Console().print(table)


@app.command()
def extract(
    sources: Annotated[
        list[Path] | None, typer.Argument(help="Recordings, pictures or texts, or folders of them.")
    ] = None,
    name: Annotated[str, typer.Option(help="Names of features, with commas; see: affuse features list.")] = "",
    out: Annotated[Path | None, typer.Option(help="Table to write: .csv, .tsv or .parquet.")] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Table with path, start, end, text, label, speaker, split (CSV, TSV, Parquet).")
    ] = None,
    options: Annotated[
        list[str] | None, typer.Option("--option", help="Option of the features, as mfcc.coefficients=20.")
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Measure all anew and keep nothing.")] = False,
) -> None:
    """Write one row of features an item: what it is, the values, and the reason where there are none.

    A vocabulary is learned from the rows of the split "train" where the table states splits, else from all rows.
    """
    from affuse.data.feature_tables import chosen, feature_table, rows_of_files, rows_of_table
    from affuse.features import FeatureStore

    if out is None or out.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"give the table to write with --out; it must end in {', '.join(_SUFFIXES)}")
    if (manifest is None) == (not sources):
        raise ConfigError("give either files and folders or --manifest; for example: affuse features extract x.wav …")
    extractors = chosen(name, options or [])
    rows = rows_of_files(sources or [], extractors) if manifest is None else rows_of_table(manifest, extractors)
    if out.exists() and any(path.exists() and path.samefile(out) for path in rows.inputs):
        raise OutputError(f"{out} is one of the inputs; choose another place for the output")
    store = None if no_cache else FeatureStore()
    with progress_bar("features") as move:
        step = None if move is None else (lambda name, done, n: move(name, done / n))
        table = feature_table(rows, extractors, store, step)

    from affuse.tables import write_table

    write_table(table, out)
    gaps = [f"{e.name} {int((table[f'{e.name} reason'] != '').sum())}" for e in extractors]
    typer.echo(f"written: {out}, {len(table)} rows, {table.shape[1]} columns; rows without values: {', '.join(gaps)}")
    sys.stdout.flush()
