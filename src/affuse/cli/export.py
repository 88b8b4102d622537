"""``affuse export``: the whole system or one expert as a folder that runs elsewhere, measured against its source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from affuse.cli import completion
from affuse.cli.options import Data, Experts, Fuser, Json, WeightSet, parse_experts, with_limits
from affuse.errors import ConfigError

__all__ = ["export"]


@with_limits
def export(
    package: Annotated[
        str, typer.Argument(help="What to export: a package's folder, or 'shipped' for all that comes with affuse.")
    ] = "shipped",
    to: Annotated[str, typer.Option(help="onnx, onnx-int8 or tensorrt.", autocompletion=completion.targets)] = "onnx",
    out: Annotated[Path | None, typer.Option(help="Folder to write.")] = None,
    experts: Experts = None,
    fuser: Fuser = None,
    weights: WeightSet = None,
    data: Data = None,
    rows: Annotated[int | None, typer.Option(help="Measure on at most so many held-out rows a set.", min=1)] = None,
    clip: Annotated[
        Path | None, typer.Option(help="Recording to time whole analyses on (default: a drawn one).")
    ] = None,
    transcript: Annotated[Path | None, typer.Option(help="Words of --clip.")] = None,
    as_json: Json = False,
) -> None:
    """Write a folder with networks, fuser, checksums, licences and the proof that it answers as its source.

    The datasets of --data calibrate INT8, and the accuracy is measured on their held-out rows.
    """
    if out is None:
        raise ConfigError("where shall it go? Give a folder: affuse export shipped --to onnx --out FOLDER")
    if transcript is not None and clip is None:
        raise ConfigError("--transcript holds the words of --clip; give both")
    from affuse.exporting import export as run  # brings decoders and networks, which --help does without

    chosen = parse_experts(experts)
    facts = run(
        package, out, to, experts=chosen, fuser=fuser, data=data, rows=rows, clip=clip, transcript=transcript,
        weights=weights,
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.markdown import Markdown

    from affuse.exporting.parity import markdown

    console = Console()
    console.print(Markdown(markdown(facts)))
    of = f" (weights: {facts['weights']})" if facts["weights"] else ""
    console.print(f"written: {out}{of}", highlight=False, soft_wrap=True)
