"""Page and table of an evaluation of the product: measures, confusion, reliability, groups, and every row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from affuse.files import replacing
from affuse.report.assets import template
from affuse.tables import write_table_part

__all__ = ["write_evaluation"]

# A bin of confidence with fewer rows says nothing about calibration and is drawn hollow.
_FEWEST = 10

_PLOT = 400  # pixels: side of the reliability diagram's square
_CELL = 64  # pixels: side of a cell of the confusion
_DARK = 0.5  # share from which the number on a cell is white


def write_evaluation(facts: Mapping[str, Any], rows: Iterable[Mapping[str, Any]], folder: str | Path) -> list[Path]:
    """Write evaluation.html, which needs no other file, and rows.csv, one line a recording, into ``folder``.

    Parameters
    ----------
    facts : mapping
        What `affuse.evaluation.ProductEvaluation.to_dict` gives; ``view`` chooses what the page shows, "as_answered" or
        "restricted".
    rows : iterable of mappings
        What `ProductEvaluation.rows` gives.
    folder : path
        Is made where it does not exist. Both files are written, or none.

    Returns
    -------
    list of Path
        The paths of both files.

    Raises
    ------
    OutputError
        Where the folder cannot be written.
    """
    import pandas as pd  # only evaluations need it here

    paths = [Path(folder) / "evaluation.html", Path(folder) / "rows.csv"]
    with replacing(*paths) as (page, table):
        page.write_text(_page(facts), encoding="utf-8")
        write_table_part(pd.DataFrame(list(rows), dtype=object), table, ".csv")  # numbers as they are, not as floats
    return paths


def _page(facts: Mapping[str, Any]) -> str:
    view = facts[facts.get("view", "as_answered")]
    lines = [*view["modalities"].items(), ("fused", view["fused"]), ("best choice", view["oracle"])]
    speaking = [(name, own) for name, own in lines[:-1] if own["n"]]
    return template("evaluation.html.j2", measure=_measure, points=_points).render(
        facts=facts,
        view=view,
        restricted=facts.get("view") == "restricted",
        lines=lines,
        confusions=[(name, own, _confusion(own["confusion"], view["labels"])) for name, own in speaking[::-1]],
        diagrams=[(name, own, _reliability(own["reliability"])) for name, own in speaking[::-1]],
        plot=_PLOT,
        cell=_CELL,
    )


def _measure(own: Mapping[str, Any], name: str) -> str:
    """A measure with its interval, as text."""
    if own[name] is None:
        return "–"
    interval = own[f"{name}_ci95"]
    return f"{own[name]:.3f}" + ("" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})")


def _points(found: Mapping[str, Any]) -> str:
    """A paired difference in percentage points, as text."""
    if found["difference"] is None:
        return "no row on which both answer"
    text = f"{100 * found['difference']:+.1f} points on {found['n']:,} rows"
    if found["ci95"] is None:
        return text
    low, high = (100 * value for value in found["ci95"])
    return f"{text} (95 % {low:+.1f} to {high:+.1f}, p = {found['p']:.4f})"


def _confusion(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Cells of a confusion matrix with their place in it, and how dark they are by the share of the true label."""
    table = np.asarray(counts, dtype=float)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    return [
        {
            "x": column,
            "y": row,
            "share": round(float(share), 3),
            "count": int(table[row, column]),
            "light": bool(share > _DARK),
            "about": f"{labels[row]} answered as {labels[column]}: {int(table[row, column])} ({100 * share:.0f} %)",
        }
        for (row, column), share in np.ndenumerate(shares)
    ]


def _reliability(bins: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Points of a reliability diagram in pixels from its upper left corner."""
    most = max((own["n"] for own in bins), default=1)
    return [
        {
            "x": round(_PLOT * own["confidence"], 1),
            "y": round(_PLOT * (1 - own["accuracy"]), 1),
            "r": round(4 + 8 * (own["n"] / most) ** 0.5, 1),
            "few": own["n"] < _FEWEST,
            "about": f"confidence {own['confidence']:.2f}: {100 * own['accuracy']:.0f} % right of {own['n']:,} rows",
        }
        for own in bins
    ]
