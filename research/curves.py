"""What a study of attacks found: a table and, where there are curves, what is drawn. Kept as JSON between runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from affuse.evaluation.formatting import ResultTable, percent
from affuse.evaluation.intervals import cluster_bootstrap
from affuse.files import replacing

__all__ = ["Finding", "draw", "of_curves", "share"]

Point = Sequence[float]
"""A share, and both ends of its 95 % interval."""

_COLOURS = ("#A3A8AE", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#E69F00")  # Okabe & Ito (2008)


@dataclass(frozen=True)
class Finding:
    """A table and the curves (by name, a `Point` a strength) that are drawn of it; ``about`` says of how many rows."""

    title: str
    about: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    strength: str = ""
    strengths: Sequence[str] = ()
    curves: Mapping[str, Sequence[Point]] = field(default_factory=dict)

    def markdown(self) -> str:
        """The finding as a part of a page."""
        table = ResultTable(self.header)
        for row in self.rows:
            table.add(*row)
        return f"## {self.title}\n\n{self.about}.\n\n{table.markdown()}\n"


def share(right: np.ndarray, groups: np.ndarray) -> Point:
    """Share of what is right (n,), and its 95 % interval by drawing whole groups (n,).

    Examples
    --------
    >>> share(np.array([True, False]), np.array(["a", "b"]))
    (0.5, 0.0, 1.0)
    """
    return (round(float(right.mean()), 4), *(round(end, 4) for end in cluster_bootstrap(right, groups)))


def of_curves(
    title: str, about: str, strength: str, strengths: Sequence[Any], curves: Mapping[str, Sequence[Point]]
) -> Finding:
    """A finding whose table holds the points of its curves: a row a strength, a column a curve."""
    rows = [
        [str(own), *(f"{percent(p)} ({100 * low:.0f} to {100 * high:.0f})" for p, low, high in points)]
        for own, *points in zip(strengths, *curves.values(), strict=True)
    ]
    return Finding(title, about, [strength, *curves], rows, strength, list(map(str, strengths)), curves)


def draw(found: Mapping[str, Finding], path: Path) -> None:
    """One picture: a panel a finding that has curves; none where none has. Needs matplotlib."""
    from matplotlib.figure import Figure

    shown = [own for own in found.values() if own.curves]
    if not shown:
        return
    figure = Figure(figsize=(3.4 * len(shown), 3.4), layout="constrained")
    for axes, own in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        places = np.arange(len(own.strengths))
        for (name, points), colour in zip(own.curves.items(), _COLOURS, strict=False):
            value, low, high = np.array(points).T
            axes.plot(places, value, marker="o", markersize=3, color=colour, label=name)
            axes.fill_between(places, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.set_xticks(places, own.strengths)
        axes.set_xlabel(own.strength, fontsize=8)
        axes.set_title(own.title.split(",")[0], fontsize=9)
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, frameon=False)
    with replacing(path) as (part,):
        figure.savefig(part, dpi=110, format="png")
