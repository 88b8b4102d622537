"""``affuse bench``: how long does every stage take, and a whole analysis?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from affuse.cli.options import Json, Package, with_limits
from affuse.errors import ConfigError, MediaError

__all__ = ["bench"]

_UNITS = {
    "decode": "second",
    "detect": "picture",
    "face": "crop",
    "voice": "3 s",
    "who speaks": "second",
    "fusion": "window",
}


@with_limits
def bench(
    package: Package = None,
    clip: Annotated[Path | None, typer.Option(help="Recording to analyse (default: a drawn face that speaks).")] = None,
    transcript: Annotated[Path | None, typer.Option(help="Words of --clip.")] = None,
    threads: Annotated[str, typer.Option(help="Numbers of threads to measure with, with commas.")] = "1,2",
    times: Annotated[int, typer.Option(help="How often every stage is measured.", min=5)] = 100,
    analyses: Annotated[int, typer.Option(help="How often the clip is analysed.", min=1)] = 10,
    as_json: Json = False,
) -> None:
    """Measure latency by stage and of a whole analysis, throughput and memory."""
    counts = _counts(threads)
    for path in (clip, transcript):
        if path is not None and not path.is_file():
            raise MediaError(f"{path} is not a file; give a recording that is there")
    if transcript is not None and clip is None:
        raise ConfigError("--transcript holds the words of --clip; give both")
    from affuse.evaluation.speed import Request, measure

    folder, recording, words = (None if p is None else str(p.resolve()) for p in (package, clip, transcript))
    request = Request(folder, recording, words, times, analyses)
    figures = [measure(request, n) for n in counts]
    if as_json:
        typer.echo(json.dumps(figures, indent=2))
        return
    for figure in figures:
        _print(figure)


def _counts(option: str) -> list[int]:
    parts = [part.strip() for part in option.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise ConfigError(f"--threads takes whole numbers above 0 with commas, such as 1,2; got {option!r}")
    return [int(part) for part in parts]


def _print(figures: dict[str, Any]) -> None:
    from rich.console import Console

    from affuse.evaluation.formatting import ResultTable
    from affuse.evaluation.speed import BARS

    clip, threads = figures["clip"], figures["threads"]
    title = f"milliseconds with {threads} thread{'s' if threads > 1 else ''}"
    table = ResultTable(["stage", "per", "p50", "p95", "p99", "cpu", "bar"], title, left=2)
    for stage, row in figures["stages"].items():
        # The bars are about one core; by the time of its processor, a busy machine is judged as an idle one.
        barred = threads == 1 and stage in BARS
        bar = f"{BARS[stage]:g} {'met' if row['cpu'] <= BARS[stage] else 'missed'}" if barred else ""
        unit = _UNITS.get(stage, "sentence")
        table.add(stage, unit, *(f"{row[name]:.2f}" for name in ("p50", "p95", "p99", "cpu")), bar)
    whole = figures["analysis"]
    table.add(
        "analysis", f"{clip['seconds']:g} s", *(f"{whole[name]:.0f}" for name in ("p50", "p95", "p99", "cpu")), ""
    )
    console = Console()
    console.print(table.rich())
    heard = ", ".join(f"{modality} in {n}" for modality, n in figures["heard"].items())
    console.print(
        f"{clip['name']}: {figures['times_real_time']:g} x real time, at most {figures['peak_mb']} MB; "
        f"of {figures['windows']} windows {heard} had evidence",
        highlight=False,
        soft_wrap=True,
    )
