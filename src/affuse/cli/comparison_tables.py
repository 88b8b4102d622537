"""What ``affuse compare`` prints: tables of methods, best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from affuse.evaluation.comparison import AUTO
from affuse.evaluation.formatting import ResultTable, interval

if TYPE_CHECKING:
    from rich.console import Console

    from affuse.evaluation.protocol import Protocol

__all__ = ["print_comparison", "print_features"]

_MOST_SUBSETS = 14  # columns that a table can hold
_WIDTH = 140  # characters, where there is no terminal to ask

_Ranked = Sequence[tuple[str, Any]]


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH)


def print_comparison(facts: Mapping[str, Any], protocol: Protocol) -> None:
    """Accuracy with intervals and tests, robustness, and subsets of modalities, best method first."""
    console = _console()
    console.print(
        f"{protocol.name}: {protocol.n_rows} test rows, {len(protocol.labels)} labels; {protocol.note}.",
        soft_wrap=True,
    )
    ranked = sorted(facts["methods"].items(), key=lambda item: -item[1]["accuracy"])
    singles = sorted(facts["single"].items(), key=lambda item: -item[1]["accuracy"])
    console.print("Accuracy: mean over folds; intervals and p by drawing or swapping whole groups")
    console.print(_accuracy_table(ranked, singles).rich())
    console.print(
        "Accuracy with modalities missing (mean over which; half of all at random) or with noise on log-probabilities;"
    )
    console.print("mean change of the confidence when a modality is removed, and share of rows in which it rises")
    console.print(_robustness_table(ranked, singles).rich())
    if 0 < len(ranked[0][1]["subsets"]) <= _MOST_SUBSETS:
        legend = ", ".join(f"{letter} = {name}" for name, letter in _letters(protocol.modalities).items())
        console.print(f"Accuracy when only these modalities are there: {legend}")
        console.print(_subset_table(ranked, facts["single"], protocol.modalities).rich())
    console.print(_verdict(facts), soft_wrap=True)


def _verdict(facts: Mapping[str, Any]) -> str:
    auto, found = facts["auto"], facts["methods"][AUTO]
    low, high = found["difference_ci95"]
    text = (
        f"The automatic choice was {auto['method']}: accuracy {auto['accuracy']:.4f}, {found['difference']:+.4f} "
        f"({low:+.4f} to {high:+.4f}) to {found['best_single']}, the best single modality."
    )
    gaps = found["below_best_remaining"]
    if not gaps:
        return text + " Whatever is missing, it is not below the best modality that remains."
    listed = ", ".join(f"{name.replace('+', ' and ')} ({gap:.4f})" for name, gap in gaps.items())
    return f"{text} It is below the best modality that remains for {listed}."


def _letters(modalities: Sequence[str]) -> dict[str, str]:
    return {name: chr(ord("A") + i) for i, name in enumerate(modalities)}


def _accuracy_table(ranked: _Ranked, singles: _Ranked) -> ResultTable:
    heads = ("accuracy", "95 % interval", "to best single", "p", "p (Holm)", "macro F1", "ECE", "fit s", "ms/1000 rows")
    table = ResultTable(["", *heads])
    for name, facts in ranked:
        table.add(
            name,
            f"{facts['accuracy']:.4f}",
            interval(facts["ci95"]),
            f"{facts['difference']:+.4f}",
            f"{facts['p']:.4f}",
            f"{facts['p_holm']:.4f}",
            f"{facts['macro_f1']:.4f}",
            f"{facts['ece']:.3f}",
            f"{facts['fit_seconds']:.2f}",
            f"{1000 * facts['predict_seconds_per_1000']:.1f}",
        )
    table.add()
    for name, facts in singles:
        figures = (f"{facts['accuracy']:.4f}", interval(facts["ci95"]), "", "", "", f"{facts['macro_f1']:.4f}")
        table.add(f"only {name}", *figures, f"{facts['ece']:.3f}")
    return table


def _robustness_table(ranked: _Ranked, singles: _Ranked) -> ResultTable:
    counts = [count for count in ranked[0][1]["missing"] if count != "0"]
    levels = list(ranked[0][1]["noise"])
    heads = [f"{count} missing" for count in counts] + ["half"] + [f"noise {level}" for level in levels]
    table = ResultTable(["", *heads, "confidence", "rises in"])
    for name, facts in ranked:
        rise = facts["confidence_rise"]
        table.add(
            name,
            *(f"{facts['missing'][count]:.3f}" for count in counts),
            f"{facts['random_half']:.3f}",
            *(f"{facts['noise'][level]:.3f}" for level in levels),
            f"{rise['mean']:+.3f}" if rise else "",
            f"{rise['share']:.1%}" if rise else "",
        )
    table.add()
    for name, facts in singles:
        noise = (f"{facts['noise'][level]:.3f}" for level in levels)
        table.add(f"only {name}", *([""] * (len(counts) + 1)), *noise)
    return table


def _subset_table(ranked: _Ranked, single: Mapping[str, Any], modalities: Sequence[str]) -> ResultTable:
    letters = _letters(modalities)
    subsets = list(ranked[0][1]["subsets"])
    table = ResultTable(["", *("".join(letters[m] for m in subset.split("+")) for subset in subsets)])
    best = (max(single[m]["accuracy"] for m in subset.split("+")) for subset in subsets)
    table.add("best single of these", *(f"{accuracy:.3f}" for accuracy in best))
    table.add()
    for name, facts in ranked:
        table.add(name, *(f"{facts['subsets'][subset]:.3f}" for subset in subsets))
    return table


def print_features(facts: Mapping[str, Any]) -> None:
    """One table, best method first, with what should be known about the rows."""
    console = _console()
    console.print(
        f"{facts['name']}: {facts['rows']} rows of {facts['groups']} groups, {len(facts['labels'])} labels; "
        f"blocks: {', '.join(facts['blocks'])}. Cross-validated over all rows but those of a stated test part; "
        "all that is learned is learned inside the folds, and no group is on both sides.",
        soft_wrap=True,
    )
    for note in facts["notes"]:
        console.print(f"note: {note}", soft_wrap=True)
    console.print(_feature_table(facts).rich())
    best, top = facts["best_single"], max(facts["methods"].items(), key=lambda item: item[1]["accuracy"])
    console.print(
        f"The best single block is {best}; the best of all is {top[0]}, chosen after the fact.", soft_wrap=True
    )


def _feature_table(facts: Mapping[str, Any]) -> ResultTable:
    heads = ("accuracy", "95 % interval", "to best single", "p", "macro F1", "fit s")
    table = ResultTable(["method", "kind", *heads], left=2)
    for name, found in sorted(facts["methods"].items(), key=lambda item: -item[1]["accuracy"]):
        table.add(
            name,
            found["kind"],
            f"{found['accuracy']:.4f}",
            interval(found["ci95"]),
            f"{found['difference']:+.4f}",
            f"{found['p']:.4f}",
            f"{found['macro_f1']:.4f}",
            f"{found['fit_seconds']:.2f}",
        )
    return table
