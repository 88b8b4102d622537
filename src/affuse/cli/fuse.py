"""``affuse fuse``: probabilities from anybody's models in, one answer a row out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affuse.cli.methods import Inputs, refuse_inputs, refuse_others
from affuse.cli.options import PriorOption
from affuse.errors import ConfigError
from affuse.evaluation import fused_tables

if TYPE_CHECKING:
    import pandas as pd

    from affuse.data.predictions import Predictions
    from affuse.evaluation.fused_tables import Fused

__all__ = ["fuse"]

_SUFFIXES = (".csv", ".tsv", ".parquet")


def fuse(
    files: Annotated[list[Path], typer.Argument(help="Predictions, one CSV, TSV or Parquet file a modality.")],
    labels: Annotated[Path | None, typer.Option(help="Table of true labels by id, to learn from.")] = None,
    group: Annotated[
        str | None, typer.Option(help="Column of --labels that must not be split, such as the speaker.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Fused answers: .csv, .tsv or .parquet (default: printed).")] = None,
    method: Annotated[
        str | None, typer.Option(help="How to fuse (default: auto with --labels, product without).")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Folder to keep the fitted fuser in.")] = None,
    load: Annotated[Path | None, typer.Option(help="Folder of a fuser that --save kept.")] = None,
    adapt: Annotated[
        str,
        typer.Option(help="none, or person: --group names persons, and each one's shift is taken out without labels."),
    ] = "none",
    prior: PriorOption = None,
    id_column: Annotated[
        str | None, typer.Option("--id", help="Column that names the rows (default: the first named id, clip or name).")
    ] = None,
    logits: Annotated[bool, typer.Option("--logits", help="The files hold logits: take their softmax.")] = False,
    label_map: Annotated[
        Path | None,
        typer.Option(
            "--map", help='TOML with new names of labels: angry = "anger"; under [voice] for that file alone.'
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print facts as one JSON object.")] = False,
) -> None:
    """Fuse predictions of several models, joined by id; an id that a file lacks is missing evidence."""
    inputs = Inputs(files, labels, group, id_column, logits, label_map)
    _check_options(inputs, out, method, save, load)
    _check_adapt(adapt, group)
    predictions = inputs.read()
    if load is None:
        fused = fused_tables.fuse(predictions, method, adapt == "person")
    else:
        fused = _loaded(load, predictions)
        fused = fused_tables.adapted(fused) if adapt == "person" else fused
    if prior is not None:
        fused = fused_tables.under_prior(fused, prior)
    table = fused_tables.fused_table(fused)
    if len(predictions.modalities) > fused_tables.MOST_EXPLAINED:
        typer.echo(
            f"shares are left out; they are computed for up to {fused_tables.MOST_EXPLAINED} modalities", err=True
        )
    facts = fused_tables.facts(fused) | {"out": None if out is None else str(out)}
    facts |= {} if load is not None or labels is None else fused_tables.measured(fused)
    if save is not None:
        save_fuser(fused, save)
        facts["saved"] = str(save)
    if out is not None:
        from affuse.tables import write_table

        write_table(table, out)
    _report(facts, table, out, as_json)


def _check_options(inputs: Inputs, out: Path | None, method: str | None, save: Path | None, load: Path | None) -> None:
    if out is not None and out.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"--out must end in {', '.join(_SUFFIXES)}; got {out}")
    if load is not None and (inputs.labels is not None or method is not None or save is not None):
        raise ConfigError("--load brings a fuser that is fitted already; leave out --labels, --method and --save")
    if save is not None and inputs.labels is None:
        raise ConfigError("--save keeps what was learned; give --labels to learn from")
    refuse_inputs(out, inputs)
    refuse_inputs(save, inputs)


def _check_adapt(adapt: str, group: str | None) -> None:
    if adapt not in ("none", "person"):
        raise ConfigError(f"unknown --adapt {adapt!r}; known: none, person")
    if adapt == "person" and group is None:
        raise ConfigError("--adapt person needs to know who each row is about; name the column by --group")


def save_fuser(fused: Fused, folder: Path) -> None:
    """Keep a fuser and the names of its modalities and labels. Raises OutputError where the folder is not ours."""
    from affuse.fusion.named import NamedFuser

    refuse_others(folder, "--save")
    predictions = fused.predictions
    NamedFuser(fused.fuser, predictions.modalities, predictions.labels, fused.method).write(folder)


def _loaded(folder: Path, predictions: Predictions) -> Fused:
    from affuse.data.predictions import align
    from affuse.fusion.named import NamedFuser

    named = NamedFuser.read(folder)
    aligned = align(predictions, named.modalities, named.labels)
    return fused_tables.Fused(named.fuser, named.method, aligned, named.fuser.predict_proba(aligned.P))


def _report(facts: dict[str, Any], table: pd.DataFrame, out: Path | None, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(facts))
        return
    from rich.console import Console

    console = Console(stderr=out is None, highlight=False, soft_wrap=True)
    if out is None:
        sys.stdout.write(table.to_csv(index=False))
        sys.stdout.flush()
    for line in _sentences(facts):
        console.print(line, markup=False)
    if facts.get("cross_validated"):
        console.print(_accuracy_table(facts))
    sys.stdout.flush()


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


def _accuracy_table(facts: dict[str, Any]) -> Any:
    from rich.table import Table

    measured = facts["cross_validated"]
    title = f"accuracy on rows not learned from: {measured['folds']} folds, {measured['groups']} groups never split"
    table = Table("", "accuracy", "95 % interval", "ECE", title=title, title_justify="left")
    rows = [(facts["method"], measured), *((f"only {name}", single) for name, single in measured["single"].items())]
    for name, found in rows:
        low, high = found["ci95"]
        table.add_row(name, f"{found['accuracy']:.4f}", f"{low:.3f} to {high:.3f}", f"{found['ece']:.3f}")
    table.caption = f"to {measured['best_single']}: {measured['difference']:+.4f} (p = {measured['p']:.4f})"
    return table
