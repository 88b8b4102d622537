"""``affuse evaluate``: how good is the product on labelled recordings, or one expert on rows that it never saw?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affuse.cli.options import Adapt, AsrModel, Bundle, Context, Fuser, PriorOption, Transcribe
from affuse.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from affuse.analyzer.analyzer import Analyzer
    from affuse.evaluation.manifest import Manifest
    from affuse.evaluation.product import ProductEvaluation

__all__ = ["evaluate"]

_TOLD = 5  # failures that are printed
_FEW = 10  # groups below which a bootstrap of groups is too sure (Cameron et al. 2008, doi:10.1162/rest.90.3.414)


def evaluate(
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="Your labelled recordings: a table with the columns path or text, label, and if need be start, end, "
            "transcript, person, group and any further one; or a folder with a folder for every emotion."
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Name of a known data set, for example javanese_av, ravdess or ferplus.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder that holds the data sets.", envvar="AFFUSE_DATA")] = None,
    split: Annotated[str, typer.Option(help="train, dev, test, or open.")] = "dev",
    expert: Annotated[
        str | None,
        typer.Option(help="Measure this expert by itself: face, voice, text, an installed one, or a trained folder."),
    ] = None,
    product: Annotated[
        bool, typer.Option("--product", help="With --bundle and --dataset: measure the whole bundle, not its expert.")
    ] = False,
    bundle: Bundle = None,
    experts: Annotated[
        str | None, typer.Option(help="Which experts the product asks, as for affuse analyze (default: all).")
    ] = None,
    fuser: Fuser = None,
    prior: PriorOption = None,
    context: Context = None,
    adapt: Adapt = "none",
    window: Annotated[float | None, typer.Option(help="Length of a window in seconds (default 3).")] = None,
    hop: Annotated[float | None, typer.Option(help="Seconds from one window to the next (default 1).")] = None,
    language: Annotated[str | None, typer.Option(help="Language of the words, en or zh (default: recognised).")] = None,
    transcribe: Transcribe = False,
    asr_model: AsrModel = None,
    by: Annotated[list[str] | None, typer.Option(help="Column to break the answer down by; may be repeated.")] = None,
    restrict: Annotated[
        bool, typer.Option("--restrict", help="Show figures on the condition that the answer is a label that occurs.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with code 2 where a row could not be analysed.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Folder for evaluation.html and rows.csv.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Measure the product on labelled recordings, or one expert on a data set."""
    if (manifest is None) == (dataset is None):
        raise ConfigError("give either --manifest or --dataset; for example: affuse evaluate --manifest clips.csv")
    if dataset is not None and (expert is not None or (bundle is not None and not product)):
        if expert is not None and (bundle is not None or product):
            raise ConfigError("give either --expert, which is measured by itself, or --bundle and --product")
        _evaluate_expert(dataset, _folder(data), expert, bundle, split, as_json)
        return
    if expert is not None:
        raise ConfigError("--expert is measured on a --dataset; with --manifest, name it by --experts MODALITY=EXPERT")
    # Rows are checked before anything heavy is loaded.
    rows = _rows(manifest, dataset, data, split, by or [])
    if bundle is not None and (experts is not None or fuser is not None):
        raise ConfigError("give either --bundle, or --experts and --fuser; a bundle has experts and a fuser")
    from affuse.analyzer.analyzer import make_analyzer
    from affuse.cli.analyze import parse_experts, recognise_words

    chosen = parse_experts(experts)
    analyzer = make_analyzer(bundle, chosen, window, hop, language, fuser=fuser, prior=prior, context=context)
    recognise_words(analyzer, transcribe, asr_model, language)
    found = _evaluate(rows, analyzer, by or [], adapt)
    view = "restricted" if restrict else "as_answered"
    if report is not None:
        from affuse.report.evaluation import write_evaluation

        written = write_evaluation(found.to_dict() | {"view": view}, list(found.rows()), report)
    if as_json:
        typer.echo(json.dumps(found.to_dict() | {"view": view}))
    else:
        _print_product(found, view)
        if report is not None:
            typer.echo(f"written: {', '.join(map(str, written))}")
    if strict and found.failures:
        raise typer.Exit(2)


# --- the product ------------------------------------------------------------------------------------------------------


def _rows(manifest: Path | None, dataset: str | None, data: Path | None, split: str, by: Sequence[str]) -> Manifest:
    from affuse.evaluation.corpora import corpus_manifest
    from affuse.evaluation.manifest import read_manifest

    if manifest is not None:
        return read_manifest(manifest, by)
    assert dataset is not None
    rows = corpus_manifest(dataset, _folder(data), split)
    for name in by:
        rows.column(name)
    return rows


def _folder(data: Path | None) -> Path:
    if data is None:
        raise ConfigError("--dataset needs the folder that holds the data sets: --data DIR or AFFUSE_DATA")
    return data


def _evaluate(rows: Manifest, analyzer: Analyzer, by: Sequence[str], adapt: str) -> ProductEvaluation:
    from affuse.evaluation.product import evaluate_product
    from affuse.progress import progress_bar

    with progress_bar(rows.name) as bar:
        report = None if bar is None else (lambda share: bar("clips", share))
        return evaluate_product(rows, analyzer, by, adapt, progress=report)


def _print_product(found: ProductEvaluation, view: str) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    facts = found.report[view]
    _print_measures(found, facts, view, console)
    for line in _differences(facts):
        console.print(line)
    for name, broken in facts["by"].items():
        _print_broken(name, broken, found.unit, console)
    fused = facts["fused"]
    _print_confusion(fused["confusion"], facts["labels"], "fused: true label (row) answered as (column)", console)
    _print_reliability(fused["reliability"], console)
    if found.failures:
        count = len(found.failures)
        rows = "1 row" if count == 1 else f"{count:,} rows"
        console.print(f"{rows} could not be analysed, and no figure counts what was not:")
        for failure in found.failures[:_TOLD]:
            console.print(f"  {failure.clip.where}: {failure.reason}", markup=False)


def _print_measures(found: ProductEvaluation, facts: Mapping[str, Any], view: str, console: Console) -> None:
    from rich import box
    from rich.table import Table

    count, groups = found.report["n"], found.report["groups"]
    labels = f"{len(facts['labels'])} labels" + (" (those that occur)" if view == "restricted" else "")
    about = f"{found.name}: {count:,} rows, {labels}; 95 % intervals draw whole {found.unit}s, of {groups:,}"
    console.print(about)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in ("n", "covered", "accuracy", "UAR", "macro F1", "ECE"):
        table.add_column(name, justify="right", no_wrap=True)
    lines = {**facts["modalities"], "fused": facts["fused"], "best choice": facts["oracle"]}
    for name, own in lines.items():
        table.add_row(
            name,
            f"{own['n']:,}",
            f"{100 * own['coverage']:.1f} %",
            *(_with_interval(own, key) for key in ("accuracy", "uar", "macro_f1", "ece")),
        )
    console.print(table)
    console.print("best choice: the best possible choice of one modality a row, by somebody who knows the truth")
    if groups < _FEW:
        console.print(f"intervals over fewer than {_FEW} {found.unit}s are narrower than they should be")


def _with_interval(own: Mapping[str, Any], key: str) -> str:
    if own[key] is None:
        return "-"
    interval = own[f"{key}_ci95"]
    value = _fraction(own[key])
    # On a line of its own, so that a terminal of 80 columns holds the table.
    return value if interval is None else f"{value}\n{_fraction(interval[0])}–{_fraction(interval[1])}"


def _fraction(value: float) -> str:
    """0.6318 as .632."""
    text = f"{value:.3f}"
    return text.removeprefix("0") if value < 1 else text


def _differences(facts: Mapping[str, Any]) -> list[str]:
    best = facts["best_single"]
    lines = [_difference(facts["difference"], f"fused − {best}, the best single modality on these very rows")]
    if facts["difference"]["n"] < facts["all_rows_difference"]["n"]:
        lines.append(_difference(facts["all_rows_difference"], f"fused − {best}, where no answer is a wrong one"))
    return lines


def _difference(found: Mapping[str, Any], what: str) -> str:
    if found["difference"] is None:
        return f"{what}: there is no row on which both answer"
    line = f"{what}: {100 * found['difference']:+.1f} points on {found['n']:,} rows"
    if found["ci95"] is None:
        return line
    low, high = (100 * value for value in found["ci95"])
    return f"{line} (95 % {low:+.1f} to {high:+.1f}, p = {found['p']:.4f})"


def _print_broken(name: str, broken: Mapping[str, Any], unit: str, console: Console) -> None:
    from rich.table import Table

    table = Table(title=f"fused, by {name}", title_justify="left")
    table.add_column(name)
    for column in ("n", f"{unit}s", "accuracy", "UAR"):
        table.add_column(column, justify="right", no_wrap=True)
    for value, own in broken["values"].items():
        cells = (_with_interval(own, key) for key in ("accuracy", "uar"))
        table.add_row(value, f"{own['n']:,}", f"{own['groups']:,}", *cells)
    console.print(table)
    console.print(_verdict(broken, unit))
    for pair in broken["pairs"]:
        if pair["p_holm"] < 0.05:
            first, second = pair["values"]
            gap = f"{100 * pair['difference']:+.1f} points (p = {pair['p_holm']:.4f} by Holm)"
            console.print(f"  {first} − {second}: {gap}", markup=False)


def _verdict(broken: Mapping[str, Any], unit: str) -> str:
    how = f"values dealt anew {broken['dealt']}".replace("groups", f"{unit}s")
    p = f"p = {broken['p_holm']:.4f}, {how}"
    if broken["too_few"]:
        return f"too few {unit}s to tell a difference from chance ({p})"
    if broken["p_holm"] < 0.05:
        return f"the accuracies differ by more than chance ({p})"
    return f"the accuracies do not differ by more than chance explains ({p})"


def _print_confusion(confusion: Sequence[Sequence[int]], labels: Sequence[str], title: str, console: Console) -> None:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("")
    for label in labels:
        table.add_column(label[:9], justify="right")
    for label, row in zip(labels, confusion, strict=True):
        table.add_row(label, *map(str, row))
    console.print(table)


def _print_reliability(bins: Sequence[Mapping[str, float]], console: Console) -> None:
    from rich.table import Table

    table = Table(title="fused: is a confidence kept?", title_justify="left")
    for name in ("confidence", "right", "n"):
        table.add_column(name, justify="right")
    for own in bins:
        table.add_row(f"{own['confidence']:.3f}", f"{own['accuracy']:.3f}", f"{own['n']:,}")
    console.print(table)


# --- one expert -------------------------------------------------------------------------------------------------------


def _evaluate_expert(
    dataset: str, data: Path, expert: str | None, bundle: Path | None, split: str, as_json: bool
) -> None:
    from affuse.data.corpora import load
    from affuse.evaluation.experts import evaluate_expert

    rows = load(dataset, data, split)
    report = evaluate_expert(_of_bundle(bundle, rows.modality) if bundle else _named(str(expert)), rows)
    if as_json:
        typer.echo(json.dumps(report))
    else:
        _print(report, f"{expert or bundle} on {dataset}, {split}")


def _named(name: str) -> Any:
    from affuse.packages import load_expert

    return load_expert(name)


def _of_bundle(folder: Path, modality: str) -> Any:
    from affuse.packages import read_system

    experts = read_system(folder).experts()
    if modality not in experts:
        raise ConfigError(f"{folder} has no expert for {modality}; it has {', '.join(experts)}")
    return experts[modality]


def _print(report: dict[str, Any], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    figures = Table(title=title, title_justify="left")
    for key in ("n", "accuracy", "uar", "macro_f1", "weighted_f1", "ece"):
        figures.add_column(key, justify="right")
    figures.add_row(
        str(report["n"]), *(f"{report[key]:.4f}" for key in ("accuracy", "uar", "macro_f1", "weighted_f1", "ece"))
    )
    console.print(figures)
    _print_confusion(report["confusion"], report["labels"], "true label (row) answered as (column)", console)
