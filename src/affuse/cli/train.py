"""``affuse train``: people's own data in, their own expert out."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affuse.cli import completion
from affuse.cli.options import Corpus, Data, Package, Settings, with_limits
from affuse.errors import ConfigError
from affuse.lazy import needs_extra

if TYPE_CHECKING:
    from affuse.training.config import TrainConfig
    from affuse.training.run import Run

__all__ = ["train"]

_SHOWN = 10  # suggestions


@with_limits
def train(
    config: Annotated[
        Path | None, typer.Argument(help="TOML file that says everything, such as the config.toml of a run.")
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="Your labelled recordings: a table with path, start, end, text, label, speaker, split, or a folder "
            "with labels in the names of files or subfolders."
        ),
    ] = None,
    dataset: Corpus = None,
    data: Data = None,
    modality: Annotated[str | None, typer.Option(help="voice, face, text or joint.")] = None,
    network: Annotated[
        str | None,
        typer.Option(help="Name of the network (default: by modality).", autocompletion=completion.networks),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data at most.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything that is drawn.", min=0)] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run (default: runs/NAME-TIME).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    changes: Settings = None,
    logger: Annotated[str | None, typer.Option(help="csv, tensorboard or wandb, beside the run's own curves.")] = None,
    devices: Annotated[int | None, typer.Option(help="Processes a machine, each on its device.", min=1)] = None,
    nodes: Annotated[int | None, typer.Option(help="Machines, each of which starts this command.", min=1)] = None,
    strategy: Annotated[str | None, typer.Option(help="How devices share the work, such as ddp.")] = None,
    precision: Annotated[str | None, typer.Option(help="Such as bf16-mixed (default: 32-true).")] = None,
    suggest: Annotated[
        int | None, typer.Option(help="Do not train: name this many unlabelled rows to label next.", min=1)
    ] = None,
    package: Package = None,
    recipe: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Train an expert or a joint model on your own data; leaves a package for analyze, evaluate and fuse.

    --set takes any option of the TOML file, such as training.learning_rate=0.001. --suggest asks the expert of
    --package.
    """
    if recipe is not None:
        raise ConfigError(f"--recipe has moved; in a checkout of affuse, run: python -m recipes.{recipe}")
    own = {
        "network.name": network,
        "training.epochs": epochs,
        "training.seed": seed,
        "device.logger": logger,
        "device.devices": devices,
        "device.nodes": nodes,
        "device.strategy": strategy,
        "device.precision": precision,
    }
    source = {"manifest": manifest, "dataset": dataset, "data": data if dataset else None, "modality": modality}
    with needs_extra("train"):
        if resume and suggest is None:
            _resume(out, [config, *source.values(), *own.values(), *(changes or [])])
            return
        from affuse.training.options import make_config

        full = make_config(config, **source, options=own, changes=changes or [])  # type: ignore[arg-type]
        if suggest is not None:
            _suggest(full, package, suggest, out or Path("suggestions.csv"))
        else:
            _train(full, out)


def _train(config: TrainConfig, out: Path | None) -> None:
    from affuse.training.run import train as run

    if out is None and config.device.devices * config.device.nodes > 1:
        raise ConfigError("several processes need to agree on the folder of the run: name it by --out")
    folder = out or Path("runs") / f"{_stem(config)}-{datetime.now():%Y%m%d-%H%M%S}"
    with _interruptible(folder):
        _tell(run(config, folder))


def _resume(out: Path | None, others: Sequence[Any]) -> None:
    from affuse.training.run import resume

    if out is None:
        raise ConfigError("--resume needs --out, the folder of the run to go on with")
    if any(other is not None for other in others):
        raise ConfigError(f"--resume goes on as {out / 'config.toml'} says; leave out what else was given")
    with _interruptible(out):
        _tell(resume(out))


def _stem(config: TrainConfig) -> str:
    return config.name or f"{Path(config.data.source).stem or 'run'}-{config.data.modality}"


@contextmanager
def _interruptible(folder: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        goes_on = (folder / "config.toml").is_file()
        typer.echo(f"stopped; go on by: affuse train --resume --out {folder}" if goes_on else "stopped", err=True)
        raise typer.Exit(130) from None


def _tell(run: Run | None) -> None:
    """What came out, on standard output."""
    if run is None:
        return
    facts = run.facts
    for note in facts["data"]["notes"]:
        typer.echo(f"note: {note}", err=True)
    for part, report in facts["measured"].items():
        interval = report["accuracy_95"]
        told = "" if interval is None else f" (95 % interval {100 * interval[0]:.1f}–{100 * interval[1]:.1f})"
        typer.echo(
            f"{part}: accuracy {100 * report['accuracy']:.1f} %{told}, unweighted average recall "
            f"{100 * report['uar']:.1f} %, of {report['n']} rows"
        )
        for pair in report["most_confused"][:3]:
            typer.echo(f"  {pair}")
    typer.echo(f"package: {run.package}")
    typer.echo(f"use it: affuse analyze --experts {facts['modality']}={run.package} CLIP")
    sys.stdout.flush()


def _suggest(config: TrainConfig, package: Path | None, count: int, out: Path) -> None:
    """Name the unlabelled rows to label next, as a table that becomes a manifest when it is filled in."""
    from affuse.training.low_resource.suggesting import suggest_rows

    if package is None:
        raise ConfigError("--suggest needs --package, the expert that is asked what it does not know")
    suggestions = suggest_rows(config, package, count, out)
    for suggestion in suggestions[:_SHOWN]:
        typer.echo(f"{suggestion.sample.where}: {suggestion.reason}")
    more = f", and {len(suggestions) - _SHOWN} more" if len(suggestions) > _SHOWN else ""
    typer.echo(f"written{more}: {out}; fill in the column label and train on it")
