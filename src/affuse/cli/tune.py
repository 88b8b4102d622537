"""``affuse tune``: which way to fuse, and with which settings? A search that can be stopped and taken up again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affuse.cli.files import refuse_inputs, refuse_others
from affuse.cli.options import Group, IdColumn, Json, LabelMap, Logits, Methods, Seed, Settings, names_of, with_limits
from affuse.errors import ConfigError
from affuse.lazy import needs_extra
from affuse.progress import progress_bar

if TYPE_CHECKING:
    from affuse.evaluation.formatting import ResultTable

__all__ = ["tune"]

_SHOWN = 10


@with_limits
def tune(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Predictions, one table a modality: CSV, TSV, Parquet or Excel.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Table of true labels by id.")] = None,
    train: Annotated[
        Path | None, typer.Option(help="Search trainings instead: a TOML file of affuse train with a table [search].")
    ] = None,
    changes: Settings = None,
    group: Group = None,
    study: Annotated[Path, typer.Option(help="SQLite file of the study; one that is there is continued.")] = Path(
        "affuse-tune.db"
    ),
    trials: Annotated[int, typer.Option(help="Number of trials to add.", min=1)] = 50,
    folds: Annotated[int, typer.Option("--n-folds", help="Folds of the group-wise cross-validation.", min=2)] = 5,
    metric: Annotated[str, typer.Option(help="What is searched for: accuracy or log_loss.")] = "accuracy",
    methods: Methods = None,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="Report as JSON; with --train the best TOML file (default: best.toml).")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Folder to keep the best fuser in, fitted on all rows.")] = None,
    id_column: IdColumn = None,
    logits: Logits = False,
    label_map: LabelMap = None,
    as_json: Json = False,
) -> None:
    """Search methods and their settings, or trainings (--set changes their file), with Optuna; poor trials stop early.

    Methods are compared by group-wise cross-validation, trainings on what each sets aside to choose by.
    """
    if train is not None:
        if files or labels is not None or save is not None:
            raise ConfigError("--train searches trainings; leave out files of predictions, --labels and --save")
        _tune_training(train, changes or [], study, trials, seed, out or Path("best.toml"))
        return
    if not files or labels is None:
        raise ConfigError("give files of predictions and --labels, or --train with a TOML file")
    for place in (study, out, save):
        refuse_inputs(place, [*files, labels, label_map])
    refuse_others(save, "--save")
    from affuse.evaluation.search import tune as run

    with progress_bar("tune") as progress:
        found = run(
            files, labels, study=study, trials=trials, folds=folds, metric=metric, methods=names_of(methods),
            seed=seed, group=group, id_column=id_column, logits=logits, label_map=label_map, progress=progress,
        )  # fmt: skip
    facts = found.to_dict()
    if save is not None:
        found.fit().write(save)
    if out is not None:
        from affuse.files import write_json

        write_json(out, facts, indent=1)
    _show(facts, study, as_json)


def _tune_training(path: Path, changes: list[str], place: Path, trials: int, seed: int, out: Path) -> None:
    """Search trainings, and write the configuration of the best one."""
    with needs_extra("train"):
        from affuse.training.config import read_config, write_config
        from affuse.training.search import tune_training

        found = tune_training(read_config(path, changes), place, trials, seed)
        write_config(found.best, out)
    chosen = ", ".join(f"{name} = {value}" for name, value in found.parameters.items())
    typer.echo(f"best of {found.trials} trials: {found.monitor} {found.value:.4f} by {chosen}")
    typer.echo(f"written: {out}; train it: affuse train {out}")


def _show(facts: dict[str, Any], study: Path, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(facts))
        return
    from rich.console import Console

    counts = ", ".join(f"{n} {state}" for state, n in facts["trials"].items())
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{facts['metric']} on {facts['rows']} rows, mean of {facts['folds']} folds by group; trials: {counts}"
    )
    console.print(_table(facts).rich())
    console.print("The best of many trials looks better than it is: confirm it on rows that no trial saw.")
    console.print(f"study: {study}")
    sys.stdout.flush()


def _table(facts: dict[str, Any]) -> ResultTable:
    from affuse.evaluation.formatting import ResultTable

    table = ResultTable(["trial", "method", "settings", facts["metric"], "untuned"], left=3)
    for trial in _best_of_each(facts["best_trials"])[:_SHOWN]:
        settings = ", ".join(
            f"{key.rpartition('.')[2]} {value:.4g}" if isinstance(value, float) else f"{key.rpartition('.')[2]} {value}"
            for key, value in trial["parameters"].items()
        )
        untuned = f"{facts['untuned'].get(trial['method'], float('nan')):.4f}"
        table.add(str(trial["number"]), trial["method"], settings, f"{trial['score']:.4f}", untuned)
    return table


def _best_of_each(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first trial of every method; trials come best first."""
    best: dict[str, dict[str, Any]] = {}
    for trial in trials:
        best.setdefault(trial["method"], trial)
    return list(best.values())
