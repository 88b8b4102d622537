"""``affuse train``: people's own data in, their own expert out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affuse.errors import ConfigError, DataError, MissingExtraError

if TYPE_CHECKING:
    from affuse.training.config import TrainConfig
    from affuse.training.run import Run

__all__ = ["configuration", "train", "training_extra"]

_SHOWN = 10  # suggestions


@dataclass(frozen=True)
class Asked:
    """What options say about the data of a run."""

    manifest: Path | None
    data: Path | None
    corpus: str | None
    modality: str | None


def train(
    config: Annotated[
        Path | None, typer.Argument(help="TOML file that says everything, such as the config.toml of a run.")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Table with path, start, end, text, label, speaker, split (CSV, TSV, Parquet).")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder with labels in the names of files or subfolders, or a known corpus.")
    ] = None,
    corpus: Annotated[str | None, typer.Option(help="Known corpus by name, in the folder --data.")] = None,
    modality: Annotated[str | None, typer.Option(help="voice, face, text or joint.")] = None,
    network: Annotated[str | None, typer.Option(help="Name of the network (default: by modality).")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data at most.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything that is drawn.", min=0)] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run (default: runs/NAME-TIME).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Any option of the TOML file, as training.learning_rate=0.001.")
    ] = None,
    logger: Annotated[str | None, typer.Option(help="csv, tensorboard or wandb, beside the run's own curves.")] = None,
    devices: Annotated[int | None, typer.Option(help="Processes a machine, each on its device.", min=1)] = None,
    nodes: Annotated[int | None, typer.Option(help="Machines, each of which starts this command.", min=1)] = None,
    strategy: Annotated[str | None, typer.Option(help="How devices share the work, such as ddp.")] = None,
    precision: Annotated[str | None, typer.Option(help="Such as bf16-mixed (default: 32-true).")] = None,
    suggest: Annotated[
        int | None, typer.Option(help="Do not train: name this many unlabelled rows to label next.", min=1)
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle that --suggest asks.")] = None,
) -> None:
    """Train an expert or a joint model on your own data; leaves a bundle for analyze, evaluate and fuse."""
    asked = Asked(manifest, data, corpus, modality)
    own = [
        *_pair("network.name", network),
        *_pair("training.epochs", epochs),
        *_pair("training.seed", seed),
        *_pair("device.logger", logger),
        *_pair("device.devices", devices),
        *_pair("device.nodes", nodes),
        *_pair("device.strategy", strategy),
        *_pair("device.precision", precision),
    ]
    with training_extra():
        if suggest is not None:
            _suggest(configuration(config, asked, [*(changes or []), *own]), bundle, suggest, out)
        elif resume:
            _resume(out, [config, *vars(asked).values(), *own, *(changes or [])])
        else:
            _train(configuration(config, asked, [*(changes or []), *own]), out)


def configuration(path: Path | None, asked: Asked, changes: Sequence[str]) -> TrainConfig:
    """From a file, from options, or from a file with options over it.

    Raises ConfigError where neither names the data, or several options do.
    """
    from affuse.training.config import TrainConfig, build, read_config, with_values

    table = _data_table(asked)
    if path is not None:
        return read_config(path, [*(pair for k, v in _flat(table) for pair in _pair(f"data.{k}", v)), *changes])
    if "source" not in table:
        raise ConfigError(
            "what is learned from? Give a TOML file, --manifest FILE, --data FOLDER, or --corpus NAME --data FOLDER; "
            "for example: affuse train --data recordings --modality voice"
        )
    if "modality" not in table:
        raise ConfigError("--modality is needed: voice, face, text or joint")
    return build(TrainConfig, with_values({"data": table}, changes))


@contextmanager
def training_extra() -> Iterator[None]:
    """Turn a missing library of the extra ``train`` into the sentence that names it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if isinstance(error, MissingExtraError) or (error.name or "").startswith("affuse"):
            raise
        raise MissingExtraError(str(error.name), "train") from error


def _data_table(asked: Asked) -> dict[str, Any]:
    if asked.manifest is not None and (asked.data is not None or asked.corpus is not None):
        raise ConfigError("give one of --manifest and --data, not both")
    if asked.corpus is not None and asked.data is None:
        raise ConfigError("--corpus needs --data, the folder that holds the corpora")
    table: dict[str, Any] = {}
    if asked.corpus is not None and asked.data is not None:
        table = {"source": asked.corpus, "reading": {"folder": str(asked.data.resolve())}}
    elif asked.manifest is not None or asked.data is not None:
        source = asked.manifest or asked.data
        assert source is not None
        if not source.exists():
            raise ConfigError(f"{source} does not exist")
        table = {"source": str(source.resolve())}
    return table | ({} if asked.modality is None else {"modality": asked.modality})


def _flat(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _pair(name: str, value: Any) -> list[str]:
    return [] if value is None else [f"{name}={json.dumps(value)}"]  # JSON's texts and numbers are TOML's


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
    typer.echo(f"bundle: {run.bundle}")
    typer.echo(f"use it: affuse analyze --experts {facts['modality']}={run.bundle} CLIP")
    sys.stdout.flush()


def _suggest(config: TrainConfig, place: Path | None, count: int, out: Path | None) -> None:
    """Name the unlabelled rows to label next, as a table that becomes a manifest when it is filled in."""
    from affuse.data.own import read
    from affuse.packages import read_bundle
    from affuse.training.low_resource.active import suggest, write_suggestions

    if place is None:
        raise ConfigError("--suggest needs --bundle, the expert that is asked what it does not know")
    reading = replace(config.data.reading, unlabelled="keep")
    data = read(config.data.source, config.data.modality, reading)
    unlabelled = [sample for sample in data.samples if sample.label is None]
    if not unlabelled:
        raise DataError(f"every row of {data.name} has a label; there is nothing to suggest")
    labelled = [sample for sample in data.part("train") if sample.label is not None]
    table = out or Path("suggestions.csv")
    if table.is_dir() or table.resolve() == Path(config.data.source).resolve():
        raise ConfigError(f"{table} cannot hold the suggestions; name another file by --out")
    suggestions = suggest(read_bundle(place), unlabelled, count, labelled)
    write_suggestions(suggestions, table)
    for suggestion in suggestions[:_SHOWN]:
        typer.echo(f"{suggestion.sample.where}: {suggestion.reason}")
    more = f", and {len(suggestions) - _SHOWN} more" if len(suggestions) > _SHOWN else ""
    typer.echo(f"written{more}: {table}; fill in the column label and train on it")
