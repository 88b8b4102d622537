"""How far what was exported answers as its source does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse.exporting.inference import answers, datasets_for, evenly

if TYPE_CHECKING:
    from affuse.experts.base import Expert

__all__ = ["FILE", "SCORES", "Difference", "compare", "held_out", "markdown"]

FILE = "parity.json"
SCORES = ("accuracy", "macro_f1")


@dataclass(frozen=True)
class Difference:
    """Two experts about ``n`` fixed inputs: the largest difference of probabilities, and the share of same answers."""

    n: int
    max_difference: float
    same_answers: float


def compare(source: Expert, exported: Expert, clip: Path) -> Difference:
    """Ask both about the same inputs. What one of them cannot judge must be what the other cannot, or differs by 1."""
    P, Q = answers(source, clip), answers(exported, clip)
    silent = np.isnan(P).any(axis=1)
    if (silent != np.isnan(Q).any(axis=1)).any():
        return Difference(len(P), 1.0, float((silent == np.isnan(Q).any(axis=1)).mean()))
    P, Q = P[~silent], Q[~silent]
    if not len(P):
        return Difference(0, 0.0, 1.0)
    same = P.argmax(axis=1) == Q.argmax(axis=1)
    return Difference(len(P), float(np.abs(P - Q).max()), float(same.mean()))


def held_out(
    source: Mapping[str, Any], exported: Mapping[str, Any], changed: set[str], data: Path, rows: int | None
) -> list[dict[str, Any]]:
    """Accuracy and macro-F1 of both on the "dev" rows of every corpus in ``data``, at most ``rows`` of each.

    Experts are given by modality; those that are not ``changed`` are asked once.
    """
    from affuse.evaluation.experts import evaluate_expert

    table = []
    for modality, expert in source.items():
        for corpus in datasets_for(expert, data, "dev"):
            part = evenly(corpus, rows)
            before = evaluate_expert(expert, part)
            after = evaluate_expert(exported[modality], part) if modality in changed else before
            row: dict[str, Any] = {"expert": modality, "dataset": corpus.name, "n": len(part)}
            for name in SCORES:
                if name in before:  # rows that may show several emotions have no accuracy
                    row[name] = {"before": round(before[name], 4), "after": round(after[name], 4)}
            table.append(row)
    return table


def markdown(facts: Mapping[str, Any]) -> str:
    """The facts of parity.json as tables in Markdown."""
    lines = ["| network | numbers | bytes before | after |", "|---|---|---|---|"]
    for name, n in facts["networks"].items():
        size = n["bytes"]
        lines.append(f"| {name} | {n['precision']} | {size['before']:,} | {size['after']:,} |")
    lines += ["", "| expert | fixed inputs | largest difference | same answers | ms an input before | after |"]
    lines.append("|---|---|---|---|---|---|")
    for name, d in facts["fixed_inputs"].items():
        ms = d["milliseconds"]
        lines.append(
            f"| {name} | {d['n']} | {d['max_difference']:.2g} | {100 * d['same_answers']:.1f} % "
            f"| {ms['before']:.2f} | {ms['after']:.2f} |"
        )
    if facts["held_out"]:
        lines += ["", "| held-out rows | n | accuracy before | after | macro-F1 before | after |"]
        lines.append("|---|---|---|---|---|---|")
    for row in facts["held_out"]:
        a, f = row.get("accuracy"), row["macro_f1"]
        accuracy = "– | –" if a is None else f"{100 * a['before']:.2f} % | {100 * a['after']:.2f} %"
        cells = f"{row['expert']}: {row['dataset']} | {row['n']:,} | {accuracy}"
        lines.append(f"| {cells} | {f['before']:.4f} | {f['after']:.4f} |")
    if facts["analysis"]:
        a = facts["analysis"]
        lines += ["", "| whole analysis | ms before | after |", "|---|---|---|"]
        lines.append(f"| {a['clip']}, {a['seconds']:g} s | {a['before']:.0f} | {a['after']:.0f} |")
    return "\n".join([*lines, "", *(f"- {note}" for note in facts["notes"])]).rstrip() + "\n"
