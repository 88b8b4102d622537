"""``affuse adapt``: the fuser learns from a few labelled recordings of one's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affuse.cli.files import refuse_others
from affuse.cli.options import (
    AsrModel,
    Experts,
    Fuser,
    Hop,
    Json,
    Language,
    Transcribe,
    Window,
    analyzer_of,
    with_limits,
)
from affuse.errors import ConfigError
from affuse.progress import progress_bar

if TYPE_CHECKING:
    from affuse.evaluation.adapting import AdaptedFuser

__all__ = ["adapt"]

_TOLD = 5  # failures that are named
_WORTH = 0.01  # accuracy that twice as many rows must add to be worth asking for

_CHOICES = {
    "unchanged": "the fuser stays as it was: nothing that was learned answers other clips better",
    "recalibrated": "a slope and an offset an emotion, on top of the fuser's answers",
    "stacking": "logistic regression on the modalities beside the fuser's answer",
    "classwise": "reliability by class of the modalities beside the fuser's answer",
}


@with_limits
def adapt(
    manifest: Annotated[
        Path, typer.Option(help="Your labelled clips: path or text, label, and if need be start, end, person, group.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the fuser, to be used with --fuser.")],
    experts: Experts = None,
    fuser: Fuser = None,
    window: Window = None,
    hop: Hop = None,
    language: Language = None,
    transcribe: Transcribe = False,
    asr_model: AsrModel = None,
    as_json: Json = False,
) -> None:
    """Adapt the fuser to your recordings with as few as five labelled clips an emotion."""
    from affuse.evaluation.adapting import adapt as run
    from affuse.evaluation.manifest import read_manifest

    _check_place(out)
    rows = read_manifest(manifest)
    analyzer = analyzer_of(
        experts=experts, window=window, hop=hop, language=language, transcribe=transcribe, asr_model=asr_model,
        fuser=fuser,
    )  # fmt: skip
    with progress_bar(manifest.name) as progress:
        found = run(rows, analyzer, progress=progress)
    found.fuser.write(out)
    if as_json:
        typer.echo(json.dumps(found.to_dict() | {"out": str(out)}))
        return
    _print(found, out)


def _check_place(out: Path) -> None:
    refuse_others(out, "--out")
    if out.suffix in {".csv", ".json"}:
        raise ConfigError(f"--out names a folder; got {out}")


def _print(found: AdaptedFuser, out: Path) -> None:
    from rich.console import Console

    from affuse.evaluation.formatting import ResultTable

    facts, chosen = found.transfer.facts, found.transfer.chosen
    console = Console(highlight=False, soft_wrap=True)
    counts = ", ".join(f"{label} {n}" for label, n in facts["rows_by_label"].items() if n)
    console.print(f"learned from {facts['rows']} clips: {counts}")
    adapted = any("adapted" in own for own in facts["tried"].values())
    table = ResultTable(["", "accuracy", "log loss", *(["persons adapted to"] if adapted else [])])
    for name, own in facts["tried"].items():
        cells = [f"{own['accuracy']:.3f}", f"{own['log_loss']:.3f}"]
        cells += [f"{own['adapted']:.3f}"] if "adapted" in own else []
        table.add(f"{name} *" if name == chosen else name, *cells)
    console.print(f"on clips not learned from ({facts['folds']} folds, no person on both sides):")
    console.print(table.rich())
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
