"""``affuse evaluate``: how good is an expert on rows that it never saw?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from affuse.errors import ConfigError
from affuse.evaluating import evaluate_expert

__all__ = ["evaluate"]


def evaluate(
    dataset: Annotated[str, typer.Option(help="Name of the data set, for example ferplus, ravdess or goemotions.")],
    data: Annotated[Path, typer.Option(help="Folder that holds the data sets.", envvar="AFFUSE_DATA")],
    expert: Annotated[
        str | None,
        typer.Option(help="The expert: face, voice, text, an installed one, or the folder of a trained one."),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Folder that affuse export wrote; its expert for the data set is measured.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "valid",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Measure an expert on one split of a data set."""
    if (expert is None) == (bundle is None):
        raise ConfigError("give either --expert or --bundle; for example: affuse evaluate --expert face …")
    from affuse.datasets import load

    rows = load(dataset, data, split)
    report = evaluate_expert(_of_bundle(bundle, rows.modality) if bundle else _named(str(expert)), rows)
    if as_json:
        typer.echo(json.dumps(report))
    else:
        _print(report, f"{expert or bundle} on {dataset}, {split}")


def _named(name: str) -> Any:
    from affuse.experts import load_expert

    return load_expert(name)


def _of_bundle(folder: Path, modality: str) -> Any:
    from affuse.experts.bundle import read_system

    experts = read_system(folder).experts()
    if modality not in experts:
        raise ConfigError(f"{folder} has no expert for {modality}; it has {', '.join(experts)}")
    return experts[modality]


def _print(report: dict[str, Any], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    figures = Table(title=title, title_justify="left")
    for key in ("n", "accuracy", "uar", "macro_f1", "weighted_f1", "ece"):
        figures.add_column(key, justify="right")
    figures.add_row(
        str(report["n"]), *(f"{report[key]:.4f}" for key in ("accuracy", "uar", "macro_f1", "weighted_f1", "ece"))
    )
    console.print(figures)
    confusion = Table(title="true label (row) answered as (column)", title_justify="left")
    confusion.add_column("")
    for label in report["labels"]:
        confusion.add_column(label[:9], justify="right")
    for label, row in zip(report["labels"], report["confusion"], strict=True):
        confusion.add_row(label, *map(str, row))
    console.print(confusion)
