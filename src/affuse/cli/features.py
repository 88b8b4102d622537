"""``affuse features``: which features there are, and their values for files or the rows of a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affuse.cli import completion
from affuse.cli.command import AffuseCommand, epilog
from affuse.cli.files import check_table, refuse_inputs
from affuse.cli.options import FeatureNames, Json, Settings, names_of, with_limits
from affuse.errors import ConfigError
from affuse.progress import progress_bar

if TYPE_CHECKING:
    from affuse.evaluation.formatting import ResultTable

__all__ = ["app"]

app = typer.Typer(help="List and extract features of voices, faces and words.", no_args_is_help=True)


@app.command("list", cls=AffuseCommand, epilog=epilog("features list"))
def list_features(
    modality: Annotated[
        str | None,
        typer.Option(help="Only those that read text, voice or face.", autocompletion=completion.modalities),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a table for a page.")] = False,
    as_json: Json = False,
) -> None:
    """List features by name, with what they read, how many columns there are, their unit and what they need."""
    from affuse.features import names

    if modality not in (None, "text", "voice", "face"):
        raise ConfigError(f"unknown modality {modality!r}; known: text, voice, face")
    rows = [_facts(name) for name in names(modality)]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    elif markdown:
        typer.echo(_table(rows).markdown())
    else:
        from rich.console import Console

        Console().print(_table(rows).rich())


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


def _table(rows: Sequence[dict[str, str]]) -> ResultTable:
    from affuse.evaluation.formatting import ResultTable

    return ResultTable(list(rows[0]), rows=[list(row.values()) for row in rows], left=len(rows[0]))


@app.command(cls=AffuseCommand, epilog=epilog("features extract"))
@with_limits
def extract(
    sources: Annotated[
        list[Path] | None, typer.Argument(help="Recordings, pictures or texts, or folders of them.")
    ] = None,
    features: FeatureNames = None,
    out: Annotated[Path | None, typer.Option(help="Table to write: .csv, .tsv, .parquet or .xlsx.")] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Table with path, start, end, text, label, speaker, split.")
    ] = None,
    settings: Settings = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Measure all anew and keep nothing.")] = False,
) -> None:
    """Write one row of features an item: what it is, the values, and the reason where there are none.

    A vocabulary is learned from the rows of the split "train" where the table states splits, else from all rows.
    --set takes options of the features, such as mfcc.coefficients=20.
    """
    from affuse.data.feature_tables import extract_features
    from affuse.features import FeatureStore
    from affuse.tables import write_table

    out = check_table(out or Path(), "give the table to write with --out; it must end in")
    if (manifest is None) == (not sources):
        raise ConfigError("give either files and folders or --manifest; for example: affuse features extract x.wav …")
    refuse_inputs(out, [manifest, *(sources or [])])
    store = None if no_cache else FeatureStore()
    with progress_bar("features") as progress:
        found = extract_features(
            manifest or sources or [], names_of(features) or [], options=_options(settings or []), store=store,
            progress=progress,
        )  # fmt: skip
    write_table(found.to_frame(), out)
    facts = found.to_dict()
    gaps = ", ".join(f"{name} {n}" for name, n in facts["missing"].items())
    typer.echo(f"written: {out}, {facts['rows']} rows, {facts['columns']} columns; rows without values: {gaps}")


def _options(settings: Sequence[str]) -> dict[str, Any]:
    """Options by dotted name from texts such as "mfcc.coefficients=20"."""
    found = {}
    for setting in settings:
        target, _, value = setting.partition("=")
        if not value or "." not in target:
            raise ConfigError(f"--set takes NAME.OPTION=VALUE of features that are asked for; got {setting!r}")
        found[target] = _value(value)
    return found


def _value(text: str) -> Any:
    """A value as JSON writes it, lists as tuples; anything else is a word."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return tuple(value) if isinstance(value, list) else value
