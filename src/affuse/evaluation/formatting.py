"""Tables of results, for a terminal, a page of Markdown and a report: one table, several ways to write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

__all__ = ["ResultTable", "fraction", "interval", "measures_frame", "percent", "points", "with_interval"]


@dataclass
class ResultTable:
    """A header and rows of text; an empty row divides the table.

    Parameters
    ----------
    header : sequence of str
        Names of the columns; the first one holds names, the others hold figures.
    title : str
        What the table is about; "" for none.
    rows : list of sequences of str
        May be shorter than the header.
    left : int
        Number of columns that hold words, from the left.
    """

    header: Sequence[str]
    title: str = ""
    rows: list[Sequence[str]] = field(default_factory=list)
    left: int = 1

    def add(self, *cells: str) -> None:
        """Add a row; without cells it divides the table."""
        self.rows.append(cells)

    def markdown(self) -> str:
        """The table as Markdown, without its title."""
        width = len(self.header)
        lines = [self.header, ["---"] * width, *(row for row in self.rows if row)]
        return "\n".join("| " + " | ".join([*line, *[""] * (width - len(line))]) + " |" for line in lines)

    def rich(self) -> Table:
        """The table for a terminal."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        table = Table(box=SIMPLE_HEAD, pad_edge=False, title=self.title or None, title_justify="left")
        for number, name in enumerate(self.header):
            words = number < self.left
            whole = number == 0 or not words or self.left == 1  # a name that was cut could not be typed
            table.add_column(name, no_wrap=whole, justify="left" if words else "right")
        for row in self.rows:
            table.add_row(*row) if row else table.add_section()
        return table


def measures_frame(measures: Mapping[str, Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Measures by method as a table, the best accuracy first; "low" and "high" are the ends of "ci95"."""
    import pandas as pd

    rows = [{"method": name, "low": own["ci95"][0], "high": own["ci95"][1], **own} for name, own in measures.items()]
    table = pd.DataFrame(rows, columns=["method", *columns])
    return table.sort_values("accuracy", ascending=False, ignore_index=True)


def percent(value: float) -> str:
    """0.8404 as 84.0 %."""
    return f"{100 * value:.1f} %"


def fraction(value: float) -> str:
    """0.6318 as .632."""
    text = f"{value:.3f}"
    return text.removeprefix("0") if value < 1 else text


def interval(ends: Sequence[float]) -> str:
    """(0.61, 0.72) as 0.610 to 0.720."""
    return f"{ends[0]:.3f} to {ends[1]:.3f}"


def with_interval(facts: Mapping[str, Any], name: str) -> str:
    """A share with its interval, such as 84.0 % (82.7–85.3)."""
    ends = facts[f"{name}_ci95"]
    return percent(facts[name]) + ("" if ends is None else f" ({100 * ends[0]:.1f}–{100 * ends[1]:.1f})")


def points(difference: Mapping[str, Any]) -> str:
    """A paired difference in points with its interval, such as +3.4 (+1.2 … +5.6)."""
    text = f"{100 * difference['difference']:+.1f}"
    if difference["ci95"] is None:
        return text
    low, high = (100 * value for value in difference["ci95"])
    return f"{text} ({low:+.1f} … {high:+.1f})"
