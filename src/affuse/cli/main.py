"""The application: commands, and the one place where errors become a sentence and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any

import typer

from affuse import __version__
from affuse.cli import (
    adapt,
    analyze,
    batch,
    bench,
    compare,
    consent,
    evaluate,
    export,
    features,
    federate,
    forget,
    fuse,
    import_,
    models,
    notice,
    people,
    serve,
    train,
    tune,
)
from affuse.cli.command import AffuseCommand, epilog
from affuse.errors import AffuseError

__all__ = ["app", "main"]

app = typer.Typer(
    name="affuse",
    help="What people feel in a recording, fused from face, voice and words.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_schema() -> None:
    """Print the JSON Schema of an analysis."""
    import json

    from affuse.report.schema import schema

    typer.echo(json.dumps(schema(), indent=2))


_COMMANDS: dict[str, Callable[..., None]] = {
    "adapt": adapt.adapt,
    "analyze": analyze.analyze,
    "batch": batch.batch,
    "bench": bench.bench,
    "compare": compare.compare,
    "evaluate": evaluate.evaluate,
    "export": export.export,
    "forget": forget.forget,
    "fuse": fuse.fuse,
    "import": import_.import_,
    "notice": notice.notice,
    "schema": _print_schema,
    "serve": serve.serve,
    "train": train.train,
    "tune": tune.tune,
}
for _name, _function in _COMMANDS.items():
    app.command(_name, cls=AffuseCommand, epilog=epilog(_name))(_function)
app.add_typer(consent.app, name="consent")
app.add_typer(features.app, name="features")
app.add_typer(federate.app, name="federate")
app.add_typer(models.app, name="models")
app.add_typer(people.app, name="people")


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


@cache
def _command() -> Any:
    """All commands with their options, which take a moment to make and are the same in every call."""
    return typer.main.get_command(app)


def main() -> None:
    """Run a command; what affuse raises on purpose becomes one sentence on standard error and exit code 2.

    So does what the system says of a file, such as that its name is too long or its folder may not be entered.
    """
    try:
        _command()(prog_name="affuse")
    except AffuseError as error:
        print(f"affuse: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None:
            raise
        print(f"affuse: {error.filename}: {(error.strerror or str(error)).lower()}", file=sys.stderr)
        sys.exit(2)
