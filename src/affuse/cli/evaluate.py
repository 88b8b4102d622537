"""``affuse evaluate``: how good is the product on labelled recordings, or one expert on rows that it never saw?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affuse.cli import completion
from affuse.cli.options import (
    Adapt,
    AsrModel,
    Context,
    Corpus,
    Data,
    Experts,
    Fuser,
    Hop,
    Json,
    Language,
    Package,
    PriorOption,
    Split,
    Transcribe,
    WeightSet,
    Window,
    analyzer_of,
    with_limits,
)
from affuse.errors import ConfigError
from affuse.progress import progress_bar

if TYPE_CHECKING:
    from affuse.evaluation.product import ProductEvaluation

__all__ = ["evaluate"]

_Manifest = Annotated[
    Path | None,
    typer.Option(
        "--manifest",
        help="Your labelled recordings: a table with the columns path or text, label, and if need be start, end, "
        "transcript, person, group and any further one; or a folder with a folder for every emotion.",
    ),
]


_By = Annotated[
    list[str] | None,
    typer.Option(
        help="Column to break the answer down by; may be repeated. skin_tone is measured where no column says it."
    ),
]


@with_limits
def evaluate(
    manifest: _Manifest = None,
    dataset: Corpus = None,
    data: Data = None,
    split: Split = "dev",
    expert: Annotated[
        str | None,
        typer.Option(
            help="Measure this expert by itself: face, voice, text, an installed one, or a trained folder.",
            autocompletion=completion.experts,
        ),
    ] = None,
    product: Annotated[
        bool, typer.Option("--product", help="With --package and --dataset: measure the whole package, not its expert.")
    ] = False,
    package: Package = None,
    experts: Experts = None,
    fuser: Fuser = None,
    weights: WeightSet = None,
    prior: PriorOption = None,
    context: Context = None,
    adapt: Adapt = "none",
    window: Window = None,
    hop: Hop = None,
    language: Language = None,
    transcribe: Transcribe = False,
    asr_model: AsrModel = None,
    by: _By = None,
    restrict: Annotated[
        bool, typer.Option("--restrict", help="Show figures on the condition that the answer is a label that occurs.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with code 2 where a row could not be analysed.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Folder for evaluation.html and rows.csv.")] = None,
    as_json: Json = False,
) -> None:
    """Measure the product on labelled recordings, or one expert on a known corpus."""
    if (manifest is None) == (dataset is None):
        raise ConfigError("give either --manifest or --dataset; for example: affuse evaluate --manifest clips.csv")
    alone = _expert_alone(manifest, expert, package, product)
    if alone is not None:
        _evaluate_expert(str(dataset), data, split, alone, weights, as_json)
        return
    from affuse.evaluation.product import evaluate as run
    from affuse.evaluation.product import evaluation_rows

    # Rows are checked before anything heavy is loaded.
    rows = evaluation_rows(manifest or dataset, data, split, by or [])
    if package is not None and (experts is not None or fuser is not None):
        raise ConfigError("give either --package, or --experts and --fuser; a package has experts and a fuser")
    analyzer = analyzer_of(
        package=package, experts=experts, window=window, hop=hop, language=language, transcribe=transcribe,
        asr_model=asr_model, fuser=fuser, prior=prior, context=context, weights=weights,
    )  # fmt: skip
    with progress_bar(rows.name) as progress:
        found = run(rows, analyzer=analyzer, by=by or [], adapt=adapt, progress=progress)
    _deliver(found, "restricted" if restrict else "as_answered", report, as_json)
    if strict and found.failures:
        raise typer.Exit(2)


def _deliver(found: ProductEvaluation, view: str, report: Path | None, as_json: bool) -> None:
    """The report, and the measures."""
    facts = found.to_dict() | {"view": view}
    if report is not None:
        from affuse.report.evaluation import write_evaluation

        written = write_evaluation(facts, list(found.rows()), report)
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        from affuse.cli.evaluation_tables import print_product

        print_product(found, view)
        if report is not None:
            typer.echo(f"written: {', '.join(map(str, written))}")


def _expert_alone(manifest: Path | None, expert: str | None, package: Path | None, product: bool) -> str | None:
    """The expert that is measured by itself, None where the product is. Raises ConfigError for a contradiction."""
    if manifest is not None:
        if expert is not None:
            raise ConfigError(
                "--expert is measured on a --dataset; with --manifest, name it by --experts MODALITY=EXPERT"
            )
        return None
    if expert is not None and (package is not None or product):
        raise ConfigError("give either --expert, which is measured by itself, or --package and --product")
    return str(package) if package is not None and not product else expert


def _evaluate_expert(
    dataset: str, data: Path | None, split: str, expert: str, weights: str | None, as_json: bool
) -> None:
    from affuse.cli.evaluation_tables import print_expert
    from affuse.evaluation.product import evaluate as run

    found = run(dataset, expert=expert, data=data, split=split, weights=weights)
    if as_json:
        typer.echo(json.dumps(found.to_dict()))
    else:
        print_expert(found)
