"""``affuse fuse``: probabilities from anybody's models in, one answer a row out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affuse.cli import completion
from affuse.cli.files import check_table, refuse_inputs, refuse_others
from affuse.cli.options import (
    AdaptPerson,
    Fuser,
    Group,
    IdColumn,
    Json,
    LabelMap,
    Logits,
    PriorOption,
    with_table_limits,
)
from affuse.errors import ConfigError

if TYPE_CHECKING:
    from affuse.evaluation.formatting import ResultTable
    from affuse.evaluation.fused_tables import FusedPredictions

__all__ = ["fuse"]


@with_table_limits
def fuse(
    files: Annotated[list[Path], typer.Argument(help="Predictions, one table a modality: CSV, TSV, Parquet or Excel.")],
    labels: Annotated[Path | None, typer.Option(help="Table of true labels by id, to learn from.")] = None,
    group: Group = None,
    out: Annotated[
        Path | None, typer.Option(help="Fused answers: .csv, .tsv, .parquet or .xlsx (default: printed).")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="How to fuse (default: auto with --labels, product without).", autocompletion=completion.methods
        ),
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Folder to keep the fitted fuser in.")] = None,
    fuser: Fuser = None,
    adapt: AdaptPerson = "none",
    prior: PriorOption = None,
    id_column: IdColumn = None,
    logits: Logits = False,
    label_map: LabelMap = None,
    as_json: Json = False,
) -> None:
    """Fuse predictions of several models, joined by id; an id that a file lacks is missing evidence."""
    from affuse.evaluation.fused_tables import fuse_tables

    _check(files, labels, out, method, save, fuser, label_map)
    fused = fuse_tables(
        files, labels, method=method, fuser=fuser, adapt=adapt, prior=prior, group=group, id_column=id_column,
        logits=logits, label_map=label_map,
    )  # fmt: skip
    _deliver(fused, out, save, as_json)


def _check(
    files: list[Path],
    labels: Path | None,
    out: Path | None,
    method: str | None,
    save: Path | None,
    fuser: Path | None,
    label_map: Path | None,
) -> None:
    if out is not None:
        check_table(out)
    if fuser is not None and (labels is not None or method is not None or save is not None):
        raise ConfigError("--fuser brings a fuser that is fitted already; leave out --labels, --method and --save")
    if save is not None and labels is None:
        raise ConfigError("--save keeps what was learned; give --labels to learn from")
    for place in (out, save):
        refuse_inputs(place, [*files, labels, label_map])
    refuse_others(save, "--save")


def _deliver(fused: FusedPredictions, out: Path | None, save: Path | None, as_json: bool) -> None:
    from affuse.evaluation.fused_tables import MOST_EXPLAINED
    from affuse.tables import csv_text, write_table

    table = fused.to_frame()
    if len(fused.predictions.modalities) > MOST_EXPLAINED:
        typer.echo(f"shares are left out; they are computed for up to {MOST_EXPLAINED} modalities", err=True)
    facts = fused.to_dict() | {"out": None if out is None else str(out)}
    if save is not None:
        fused.named().write(save)
        facts["saved"] = str(save)
    if out is not None:
        write_table(table, out)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    if out is None:
        sys.stdout.write(csv_text(table))
        sys.stdout.flush()
    _print(facts, to_error=out is None)


def _print(facts: dict[str, Any], to_error: bool) -> None:
    from rich.console import Console

    console = Console(stderr=to_error, highlight=False, soft_wrap=True)
    for line in _sentences(facts):
        console.print(line, markup=False)
    if facts.get("cross_validated"):
        measured = facts["cross_validated"]
        console.print(_accuracy_table(facts["method"], measured).rich())
        console.print(f"to {measured['best_single']}: {measured['difference']:+.4f} (p = {measured['p']:.4f})")


def _sentences(facts: dict[str, Any]) -> list[str]:
    gaps = ", ".join(f"{name} {n}" for name, n in facts["modalities"].items())
    lines = [f"{facts['rows']} rows fused by {facts['chosen']}; rows with evidence: {gaps}"]
    if "adapted_to" in facts:
        lines.append(f"adapted to {facts['adapted_to']} persons, without their labels")
    if facts["without_evidence"]:
        lines.append(f"{facts['without_evidence']} rows have no evidence at all and no answer")
    if facts["out"]:
        lines.append(f"written: {facts['out']}")
    if "saved" in facts:
        lines.append(f"kept: {facts['saved']}")
    if "cross_validated" in facts and facts["cross_validated"] is None:
        lines.append("no accuracy can be given: all labelled rows belong to one group")
    return lines


def _accuracy_table(method: str, measured: dict[str, Any]) -> ResultTable:
    from affuse.evaluation.formatting import ResultTable, interval

    title = f"accuracy on rows not learned from: {measured['folds']} folds, {measured['groups']} groups never split"
    table = ResultTable(["", "accuracy", "95 % interval", "ECE"], title)
    rows = [(method, measured), *((f"only {name}", single) for name, single in measured["single"].items())]
    for name, found in rows:
        table.add(name, f"{found['accuracy']:.4f}", interval(found["ci95"]), f"{found['ece']:.3f}")
    return table
