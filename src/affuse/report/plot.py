"""A figure of an analysis, for papers and notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from affuse.lazy import needs_extra
from affuse.report.formats.intervals import cells
from affuse.report.messages import name_of
from affuse.report.palette import palette
from affuse.report.sentences import headline, windows_of
from affuse.results import Analysis, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["new_figure", "plot_timeline"]


def plot_timeline(analysis: Analysis) -> Figure:
    """Draw the fused answer, every modality and the sentiment over time, for the person seen most.

    The probabilities of the labels are stacked; gaps are windows without evidence, triangles mark conflicts.

    Parameters
    ----------
    analysis : Analysis
        What was found.

    Returns
    -------
    matplotlib.figure.Figure
        One row for the fused answer, one a modality, and one for sentiment.

    Raises
    ------
    MissingExtraError
        Without matplotlib, which is the extra ``plot``.

    Examples
    --------
    >>> from affuse import Analyzer
    >>> from affuse.testing import FakeExpert
    >>> analysis = Analyzer({"text": FakeExpert("text", {"happiness": 0.8})}).analyze_text("What a day!")
    >>> len(plot_timeline(analysis).axes)
    3
    """
    windows = windows_of(analysis, analysis.summary.person)
    rows = ["fused", *analysis.modalities]
    figure = new_figure(10, 1.6 * (len(rows) + 1))
    axes = np.atleast_1d(figure.subplots(len(rows) + 1, sharex=True))
    figure.suptitle(f"{analysis.source.name}\n{headline(analysis)}", fontsize=11, parse_math=False)
    for axis, row in zip(axes, rows, strict=False):
        _stack(axis, cells(windows), _probabilities(analysis, windows, row), analysis)
        axis.set_ylabel(name_of("modality", row))
    _mark_conflicts(axes[0], windows)
    axes[0].set_xlim(windows[0].segment.start, windows[-1].segment.end)
    _sentiment(axes[-1], cells(windows), windows)
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=min(7, len(analysis.labels)),
        frameon=False,
    )
    return figure


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of some inches. Raises MissingExtraError without matplotlib."""
    with needs_extra("plot"):
        from matplotlib.figure import Figure  # not pyplot: no window, no global state
    return Figure(figsize=(width, height), layout="constrained")


def _probabilities(analysis: Analysis, windows: Sequence[Verdict], row: str) -> np.ndarray:
    found = [w.fused if row == "fused" else w.evidence[row].probabilities for w in windows]
    return np.array([np.full(len(analysis.labels), np.nan) if p is None else np.asarray(p, dtype=float) for p in found])


def _stack(axis: Axes, edges: np.ndarray, probabilities: np.ndarray, analysis: Analysis) -> None:
    used = palette(analysis.labels.labels)
    bottom = np.zeros(len(edges))
    width = edges[:, 1] - edges[:, 0]
    for label in used.stack:
        heights, colour = probabilities[:, analysis.labels.index(label)], used.colours[label]
        axis.bar(edges[:, 0], heights, width, bottom, align="edge", color=colour, label=label, linewidth=0)
        bottom = bottom + heights
    axis.set(ylim=(0, 1), yticks=(0, 0.5, 1))
    axis.spines[["top", "right"]].set_visible(False)


def _mark_conflicts(axis: Axes, windows: Sequence[Verdict]) -> None:
    times = [w.segment.middle for w in windows if w.conflict_text]
    if not times:  # an empty line would still claim room in the layout
        return
    axis.plot(times, np.full(len(times), 1.08), "v", color="black", clip_on=False, markersize=5)


def _sentiment(axis: Axes, edges: np.ndarray, windows: Sequence[Verdict]) -> None:
    values = np.array([np.nan if w.sentiment is None else w.sentiment for w in windows], dtype=float)
    axis.axhline(0, color="0.6", linewidth=0.8)
    axis.hlines(values, edges[:, 0], edges[:, 1], color="black", linewidth=1.8)
    axis.set(ylim=(-1.05, 1.05), yticks=(-1, 0, 1), ylabel="sentiment", xlabel="seconds")
    axis.spines[["top", "right"]].set_visible(False)
