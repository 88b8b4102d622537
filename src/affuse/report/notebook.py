"""What a notebook shows of an analysis: the answer in a sentence, and the emotions of everybody over time."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

from affuse.errors import MissingExtraError
from affuse.report.formats.intervals import Run, one_line, people, runs
from affuse.report.palette import palette
from affuse.report.plot import new_figure
from affuse.report.sentences import headline, source_name
from affuse.results import Analysis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["as_html", "as_png"]

_WIDTH, _DPI = 9.0, 80  # inches, and dots in one
_ROOM = "position:relative;height:1.6em;margin:2px 0;background:#E9ECEF;border-radius:3px;overflow:hidden"
_CELL = "position:absolute;top:0;bottom:0;overflow:hidden;white-space:nowrap;font-size:0.8em;line-height:2em"


def as_html(analysis: Analysis) -> str:
    """The headline and a strip of emotions for every person, without scripts and without other libraries."""
    spans = [verdict.segment for verdict in analysis.verdicts]
    first, last = (min(s.start for s in spans), max(s.end for s in spans)) if spans else (0.0, 1.0)
    title = f"<b>{escape(source_name(analysis))}</b>: {escape(headline(analysis))}"
    rows = [_row(analysis, person, first, last - first) for person in people(analysis)]
    times = f'<div style="font-size:0.8em">{first:.1f} s – {last:.1f} s</div>'
    return f'<div class="affuse" style="max-width:60em"><div>{title}</div>{"".join(rows)}{times}</div>'


def _row(analysis: Analysis, person: str | None, first: float, length: float) -> str:
    used = palette(analysis.labels.labels)
    pieces = []
    for run in runs(analysis, person):
        colours = f"background:{used.colours[run.label]};color:{used.inks[run.label]}"
        place = f"left:{100 * (run.start - first) / length:.3f}%;width:{100 * (run.end - run.start) / length:.3f}%"
        name = escape(one_line(run.label))
        told = f"{name} {100 * run.confidence:.0f} %, {run.start:.1f}–{run.end:.1f} s"
        pieces.append(f'<div style="{_CELL};{place};{colours}" title="{told}">&nbsp;{name}</div>')
    who = "" if person is None else f'<div style="font-size:0.8em">{escape(one_line(person))}</div>'
    return f'{who}<div style="{_ROOM}">{"".join(pieces)}</div>'


def as_png(analysis: Analysis) -> bytes | None:
    """The same as PNG, for notebooks that become PDF; None without matplotlib.

    A notebook asks for all pictures at once, so this is the strip and not `affuse.plot_timeline`, which takes seconds.
    """
    try:
        figure = _figure(analysis)
    except MissingExtraError:
        return None
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=_DPI)
    return picture.getvalue()


def _figure(analysis: Analysis) -> Figure:
    rows = people(analysis)
    figure = new_figure(_WIDTH, 1.2 + 0.4 * len(rows))
    axis = figure.subplots()
    used = palette(analysis.labels.labels).colours
    for place, person in enumerate(rows):
        for label, own in _by_label(runs(analysis, person)).items():
            spans = [(run.start, run.end - run.start) for run in own]
            axis.broken_barh(spans, (place - 0.4, 0.8), color=used[label], label=label, linewidth=0)
    axis.set_yticks(range(len(rows)), ["" if person is None else one_line(person) for person in rows], parse_math=False)
    axis.set(xlabel="seconds", ylim=(len(rows) - 0.5, -0.5))
    axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{source_name(analysis)}\n{headline(analysis)}", fontsize=10, parse_math=False)
    handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=7, frameon=False)
    return figure


def _by_label(found: Sequence[Run]) -> dict[str, list[Run]]:
    grouped: dict[str, list[Run]] = {}
    for run in found:
        grouped.setdefault(run.label, []).append(run)
    return grouped
