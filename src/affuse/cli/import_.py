"""``affuse import``: labels that people corrected in ELAN or Label Studio become a manifest."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affuse.cli.files import check_table, refuse_inputs
from affuse.cli.options import Json, with_limits

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["import_"]


@partial(with_limits, names=("max_duration", "max_cues", "max_text", "max_rows"))
def import_(
    files: Annotated[
        list[Path], typer.Argument(help="ELAN files (.eaf), folders of them, or exports of Label Studio as JSON.")
    ],
    out: Annotated[Path, typer.Option(help="The manifest: .csv, .tsv, .parquet or .xlsx.")],
    recording: Annotated[
        Path | None,
        typer.Option(help="The recording, or the folder of the recordings (default: where the files say)."),
    ] = None,
    tier: Annotated[
        str, typer.Option(help="Tiers with the labels, without @NAME; in Label Studio, the name of the labels.")
    ] = "emotion",
    fps: Annotated[
        float | None, typer.Option(help="frameRate of Label Studio's Video tag, for labels of frames (TimelineLabels).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn corrected labels into a manifest for evaluate, adapt and train."""
    check_table(out)
    refuse_inputs(out, [*files, None if recording is None or recording.is_dir() else recording])
    from affuse.data.corrections import import_corrections

    table = import_corrections(files, out, recording, tier, fps)
    counts = {str(label): int(n) for label, n in table["label"].value_counts().items()}
    if as_json:
        typer.echo(json.dumps({"out": str(out), "rows": len(table), "labels": counts}, ensure_ascii=False))
        return
    _print(table, counts, out)


def _print(table: pd.DataFrame, counts: dict[str, int], out: Path) -> None:
    seconds = float((table["end"] - table["start"]).sum())
    told = ", ".join(f"{label} {n}" for label, n in counts.items())
    stretches = "1 labelled stretch" if len(table) == 1 else f"{len(table)} labelled stretches"
    typer.echo(f"{stretches}, {seconds:.1f} s: {told}")
    typer.echo(f"written: {out}")
