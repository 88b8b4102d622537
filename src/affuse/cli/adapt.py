"""``affuse adapt``: the fuser learns from a few labelled recordings of one's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affuse.cli.methods import refuse_others
from affuse.cli.options import AsrModel, Fuser, Transcribe
from affuse.errors import ConfigError

if TYPE_CHECKING:
    from affuse.evaluation.adapting import Adapted

__all__ = ["adapt"]

_TOLD = 5  # failures that are named
_WORTH = 0.01  # accuracy that twice as many rows must add to be worth asking for

_CHOICES = {
    "unchanged": "the fuser stays as it was: nothing that was learned answers other clips better",
    "recalibrated": "a slope and an offset an emotion, on top of the fuser's answers",
    "stacking": "logistic regression on the modalities beside the fuser's answer",
    "classwise": "reliability by class of the modalities beside the fuser's answer",
}


def adapt(
    manifest: Annotated[
        Path, typer.Option(help="Your labelled clips: path or text, label, and if need be start, end, person, group.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the fuser, to be used with --fuser.")],
    experts: Annotated[
        str | None, typer.Option(help="Which experts to ask, as for affuse analyze (default: all).")
    ] = None,
    fuser: Fuser = None,
    window: Annotated[float | None, typer.Option(help="Length of a window in seconds (default 3).")] = None,
    hop: Annotated[float | None, typer.Option(help="Seconds from one window to the next (default 1).")] = None,
    language: Annotated[str | None, typer.Option(help="Language of the words, en or zh (default: recognised).")] = None,
    transcribe: Transcribe = False,
    asr_model: AsrModel = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of sentences.")] = False,
) -> None:
    """Adapt the fuser to your recordings with as few as five labelled clips an emotion.

    affuse adapt --manifest mine.csv --out my.fuser

    affuse analyze clip.mp4 --fuser my.fuser
    """
    from affuse.analyzer.analyzer import make_analyzer
    from affuse.cli.analyze import parse_experts, recognise_words
    from affuse.evaluation.adapting import adapt_fuser
    from affuse.evaluation.manifest import read_manifest
    from affuse.progress import progress_bar

    _check_place(out)
    rows = read_manifest(manifest)
    analyzer = make_analyzer(None, parse_experts(experts), window, hop, language, fuser=fuser)
    recognise_words(analyzer, transcribe, asr_model, language)
    with progress_bar(manifest.name) as bar:
        found = adapt_fuser(rows, analyzer, None if bar is None else (lambda share: bar("clips", share)))
    found.transfer.fuser.write(out)
    if as_json:
        typer.echo(json.dumps(found.to_dict() | {"out": str(out)}))
        return
    _print(found, out)


def _check_place(out: Path) -> None:
    refuse_others(out, "--out")
    if out.suffix in {".csv", ".json"}:
        raise ConfigError(f"--out names a folder; got {out}")


def _print(found: Adapted, out: Path) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    facts, chosen = found.transfer.facts, found.transfer.chosen
    console = Console(highlight=False, soft_wrap=True)
    counts = ", ".join(f"{label} {n}" for label, n in facts["rows_by_label"].items() if n)
    console.print(f"learned from {facts['rows']} clips: {counts}")
    adapted = any("adapted" in own for own in facts["tried"].values())
    table = Table("", "accuracy", "log loss", *(["persons adapted to"] if adapted else []), box=box.SIMPLE_HEAD)
    for name, own in facts["tried"].items():
        cells = [f"{own['accuracy']:.3f}", f"{own['log_loss']:.3f}"]
        table.add_row(
            f"{name} *" if name == chosen else name, *cells, f"{own['adapted']:.3f}" if "adapted" in own else ""
        )
    console.print(f"on clips not learned from ({facts['folds']} folds, no person on both sides):")
    console.print(table)
    console.print(f"chosen: {chosen}, {_CHOICES[chosen]} ({100 * facts['gain']:+.1f} points)")
    unseen = [label for label, n in facts["rows_by_label"].items() if n == 0]
    if unseen and chosen != "unchanged":
        console.print(f"no clip shows {', '.join(unseen)}, which this fuser will hardly ever answer")
    console.print(_advice(facts))
    if found.failures:
        console.print(f"{len(found.failures)} clips could not be used:")
        for clip, reason in found.failures[:_TOLD]:
            console.print(f"  {clip.where}: {reason}", markup=False)
    console.print(f"kept: {out}")


def _advice(facts: Mapping[str, Any]) -> str:
    gain = facts["per_doubling"]
    if gain < _WORTH:
        return "the last doubling of the clips added nothing that can be told from chance; more of them may not help"
    return (
        f"the last doubling of the clips added {100 * gain:.0f} points; twice as many, {2 * facts['rows']}, may add "
        "about half of that again"
    )
