"""What the commands of all recipes and studies share: flags, the folder of a run, and errors as one sentence."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affuse.errors import AffuseError, ConfigError
from affuse.files import write_json

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["data_parser", "errors_as_sentences", "network_weights", "recipe_parser", "start_run"]

_CONFIG = "config.json"


def data_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with ``--data``; ``description`` is the docstring of a module."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the datasets")
    return parser


def recipe_parser(description: str | None, defaults: Any) -> argparse.ArgumentParser:
    """A parser with the flags of every recipe that trains: --data, --out, --epochs, --seed, --threads and --resume.

    ``defaults`` is the configuration of the recipe, or its class.
    """
    parser = data_parser(description)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--epochs", type=int, default=defaults.epochs, help="passes over the data (%(default)s)")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="seed of all that is random (%(default)s)")
    parser.add_argument("--threads", type=int, default=defaults.threads, help="threads of the CPU (%(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out from its last checkpoint")
    return parser


def start_run(out: Path, config: Any, resume: bool) -> None:
    """Make the folder ``out`` of a run and write its configuration, a dataclass, to config.json.

    Raises ConfigError where a run is there already and is not to be resumed, and where the run that is to be resumed
    was started with another configuration.
    """
    path, own = out / _CONFIG, json.loads(json.dumps(asdict(config), default=str))
    if path.is_file():
        if not resume:
            raise ConfigError(f"{out} holds a run already; go on with it by --resume, or name another folder by --out")
        before = json.loads(path.read_text(encoding="utf-8"))
        different = [
            f"{name} {before.get(name)} then, {own[name]} now" for name in own if before.get(name) != own[name]
        ]
        if different:
            raise ConfigError(f"the run in {out} was started with other settings: {'; '.join(different)}")
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, own)


def network_weights(run: Path, checkpoints: str = "checkpoints") -> dict[str, Tensor]:
    """Weights of the network that a finished run trained, averaged where the recipe averages.

    Raises AssetError where the folder ``run`` holds no checkpoint of the loop.
    """
    from affuse.loop import read_weights  # here, since studies without networks use this module too

    state = read_weights(run / checkpoints)
    return {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}


@contextmanager
def errors_as_sentences(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Exit with code 2 and one sentence where affuse raises an error, as the commands of affuse do."""
    try:
        yield
    except AffuseError as error:
        parser.exit(2, f"affuse: {error}\n")
    except KeyboardInterrupt:
        resumable = parser.get_default("resume") is not None  # studies have no --resume
        hint = "; the same command with --resume goes on after the last whole epoch" if resumable else ""
        parser.exit(130, f"stopped{hint}\n")
