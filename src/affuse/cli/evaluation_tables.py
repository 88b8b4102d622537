"""What ``affuse evaluate`` prints: measures of the product, or of one expert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from affuse.evaluation.formatting import ResultTable, fraction

if TYPE_CHECKING:
    from rich.console import Console

    from affuse.evaluation.product import ExpertEvaluation, ProductEvaluation

__all__ = ["print_expert", "print_product"]

_TOLD = 5  # failures that are printed
_FEW = 10  # groups below which a bootstrap of groups is too sure (Cameron et al. 2008, doi:10.1162/rest.90.3.414)


def print_product(found: ProductEvaluation, view: str) -> None:
    """Measures with intervals, differences, confusion and calibration of whole answers."""
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
    count, groups = found.report["n"], found.report["groups"]
    labels = f"{len(facts['labels'])} labels" + (" (those that occur)" if view == "restricted" else "")
    about = f"{found.name}: {count:,} rows, {labels}; 95 % intervals draw whole {found.unit}s, of {groups:,}"
    console.print(about)
    table = ResultTable(["", "n", "covered", "accuracy", "UAR", "macro F1", "ECE"])
    lines = {**facts["modalities"], "fused": facts["fused"], "best choice": facts["oracle"]}
    for name, own in lines.items():
        table.add(
            name,
            f"{own['n']:,}",
            f"{100 * own['coverage']:.1f} %",
            *(_with_interval(own, key) for key in ("accuracy", "uar", "macro_f1", "ece")),
        )
    console.print(table.rich())
    console.print("best choice: the best possible choice of one modality a row, by somebody who knows the truth")
    if groups < _FEW:
        console.print(f"intervals over fewer than {_FEW} {found.unit}s are narrower than they should be")


def _with_interval(own: Mapping[str, Any], key: str) -> str:
    if own[key] is None:
        return "-"
    interval = own[f"{key}_ci95"]
    value = fraction(own[key])
    # On a line of its own, so that a terminal of 80 columns holds the table.
    return value if interval is None else f"{value}\n{fraction(interval[0])}–{fraction(interval[1])}"


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
    table = ResultTable([name, "n", f"{unit}s", "accuracy", "UAR"], f"fused, by {name}")
    for value, own in broken["values"].items():
        cells = (_with_interval(own, key) for key in ("accuracy", "uar"))
        table.add(value, f"{own['n']:,}", f"{own['groups']:,}", *cells)
    console.print(table.rich())
    console.print(_verdict(broken, unit))
    if broken["too_small"]:
        small = ", ".join(f"{value} {count}" for value, count in broken["too_small"].items())
        console.print(f"left out, with too few rows: {small}", markup=False)
    for pair in broken["pairs"]:
        if pair["p_holm"] < 0.05:
            first, second = pair["values"]
            gap = f"{100 * pair['difference']:+.1f} points (p = {pair['p_holm']:.4f} by Holm)"
            console.print(f"  {first} − {second}: {gap}", markup=False)


def _verdict(broken: Mapping[str, Any], unit: str) -> str:
    how = f"values permuted {broken['dealt']}".replace("groups", f"{unit}s")
    p = f"p = {broken['p_holm']:.4f}, {how}"
    if broken["too_few"]:
        return f"too few {unit}s to tell a difference from chance ({p})"
    if broken["p_holm"] < 0.05:
        return f"the accuracies differ by more than chance ({p})"
    return f"the accuracies do not differ by more than chance explains ({p})"


def _print_confusion(confusion: Sequence[Sequence[int]], labels: Sequence[str], title: str, console: Console) -> None:
    table = ResultTable(["", *(label[:9] for label in labels)], title)
    for label, row in zip(labels, confusion, strict=True):
        table.add(label, *map(str, row))
    console.print(table.rich())


def _print_reliability(bins: Sequence[Mapping[str, float]], console: Console) -> None:
    table = ResultTable(["confidence", "right", "n"], "fused: is a confidence kept?", left=0)
    for own in bins:
        table.add(f"{own['confidence']:.3f}", f"{own['accuracy']:.3f}", f"{own['n']:,}")
    console.print(table.rich())


def _marks_table(found: ExpertEvaluation) -> ResultTable:
    """F1 by language and emotion, and their mean."""
    report = found.report
    emotions = list(dict.fromkeys(label for one in report["languages"].values() for label in one["f1"]))
    title = f"{found.expert} on {found.dataset}, {found.split}: F1, several emotions a row"
    table = ResultTable(["language", "n", "macro_f1", *emotions], title, left=1)
    for language, one in report["languages"].items():
        own = (f"{one['f1'][label]:.3f}" if label in one["f1"] else "" for label in emotions)
        table.add(language, str(one["n"]), f"{one['macro_f1']:.4f}", *own)
    table.add("mean", str(report["n"]), f"{report['macro_f1']:.4f}", *("" for _ in emotions))
    return table


def print_expert(found: ExpertEvaluation) -> None:
    """Measures and confusion of one expert."""
    from rich.console import Console

    console, report = Console(highlight=False), found.report
    if "languages" in report:
        console.print(_marks_table(found).rich())
        return
    keys = ("accuracy", "uar", "macro_f1", "weighted_f1", "ece")
    table = ResultTable(["n", *keys], f"{found.expert} on {found.dataset}, {found.split}", left=0)
    table.add(str(report["n"]), *(f"{report[key]:.4f}" for key in keys))
    console.print(table.rich())
    _print_confusion(report["confusion"], report["labels"], "true label (row) answered as (column)", console)
