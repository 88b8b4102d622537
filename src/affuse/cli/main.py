"""The application: commands, and the one place where errors become a sentence and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from affuse import __version__
from affuse.cli import adapt, analyze, bench, compare, evaluate, export, features, fuse, models, serve, train, tune
from affuse.errors import AffuseError

__all__ = ["app", "main"]

app = typer.Typer(
    name="affuse",
    help="What people feel in a recording, fused from face, voice and words.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("adapt")(adapt.adapt)
app.command("analyze")(analyze.analyze)
app.command("bench")(bench.bench)
app.command("compare")(compare.compare)
app.command("evaluate")(evaluate.evaluate)
app.command("export")(export.export)
app.command("fuse")(fuse.fuse)
app.command("serve")(serve.serve)
app.command("train")(train.train)
app.command("tune")(tune.tune)
app.add_typer(features.app, name="features")
app.add_typer(models.app, name="models")


@app.command("schema")
def print_schema() -> None:
    """Print the JSON Schema of an analysis."""
    import json

    from affuse.report.schema import schema

    typer.echo(json.dumps(schema(), indent=2))


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"affuse {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run a command; what affuse raises on purpose becomes one sentence on standard error and exit code 2."""
    try:
        app()
    except AffuseError as error:
        print(f"affuse: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # Whoever read our output has gone; standard output must not complain about it again while closing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
