"""An analysis in the terminal: a ribbon over time, a table of windows and the answer in a sentence."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from affuse.labels import EKMAN
from affuse.report.palette import COLOURS, INKS, LETTERS
from affuse.report.words import absence_lines, headline, name_of, strings, windows_of
from affuse.results import Analysis, Verdict

__all__ = ["print_analysis"]

_ROWS = 40
_NAME_WIDTH = 9


def print_analysis(analysis: Analysis, console: Console) -> None:
    """Print the answer for every person; without colour and control codes where the console is not a terminal."""
    console.print(_plain(analysis.source.name), style="bold", soft_wrap=True)
    for summary in analysis.summaries:
        windows = windows_of(analysis, summary.person)
        if summary.person is not None and len(analysis.summaries) > 1:
            console.print(Text(f"\n{_safe(summary.person)}", style="bold"))
        console.print(_plain(headline(analysis, summary)), style="bold")
        if len(windows) > 1:
            _print_ribbon(analysis, windows, console)
            _print_table(windows, console)
        if summary.fused is not None:
            _print_shares(analysis, summary, console)
        for sentence in absence_lines(analysis, summary) if summary.fused is not None else []:
            console.print(Text(f"{strings()['missing']}: ").append(_plain(sentence)))
    for note in analysis.notes:
        console.print(_plain(note), style="dim")


def _print_ribbon(analysis: Analysis, windows: Sequence[Verdict], console: Console) -> None:
    bins = _bins(len(windows), console.width - _NAME_WIDTH - 1)
    marks = "^" if console.options.ascii_only else "▲"
    for row in (*analysis.modalities, "fused"):
        line = Text(f"{_plain(name_of('modality', row)).plain[:_NAME_WIDTH]:<{_NAME_WIDTH}} ", no_wrap=True)
        for inside in bins:
            line.append_text(_cell(_majority([_label(windows[i], row) for i in inside]), console.options.ascii_only))
        console.print(line)
    conflicts = [any(windows[i].conflict_text for i in inside) for inside in bins]
    if any(conflicts):
        cells = "".join(marks if conflict else " " for conflict in conflicts)
        console.print(Text(f"{'conflict':<{_NAME_WIDTH}} {cells}", no_wrap=True))
    legend = Text(" " * (_NAME_WIDTH + 1))
    for label, letter in LETTERS.items():
        legend.append(letter, style=_style(label)).append(f" {label}  ")
    console.print(legend)


def _print_shares(analysis: Analysis, summary: Verdict, console: Console) -> None:
    """Every modality's Shapley share, behind what it says by itself; before them the prior, where it is known."""
    line = Text() if summary.prior is None else Text(f"{strings()['share.prior']} {summary.prior:+.2f}")
    for modality in analysis.modalities:
        label, share = _label(summary, modality), summary.evidence[modality].share
        if label is None and share is None:
            continue
        line.append(", " if line else "").append_text(_plain(name_of("modality", modality)))
        if label is not None:
            line.append(" ").append(label, style=_style(label))
        line.append("" if share is None else f" {share:+.2f}")
    before, after = strings()["shares.line"].split("{shares}")
    console.print(Text(before).append_text(line).append(after))


def _bins(count: int, width: int) -> list[range]:
    """Split ``count`` windows into at most ``width`` neighbourly groups of nearly equal size."""
    edges = np.linspace(0, count, min(count, max(1, width)) + 1).round().astype(int)
    return [range(a, b) for a, b in pairwise(edges)]


def _label(verdict: Verdict, row: str) -> str | None:
    if row == "fused":
        return verdict.label
    probabilities = verdict.evidence[row].probabilities
    return None if probabilities is None else EKMAN.labels[int(np.argmax(probabilities))]


def _majority(labels: Sequence[str | None]) -> str | None:
    present = [label for label in labels if label is not None]
    return max(EKMAN.labels, key=present.count) if present else None


def _cell(label: str | None, ascii_only: bool) -> Text:
    if label is None:
        return Text("." if ascii_only else "·", style="dim")
    return Text(LETTERS[label], style=_style(label))


def _style(label: str) -> str:
    return f"{INKS[label]} on {COLOURS[label]}"


@dataclass(frozen=True)
class _Run:
    windows: tuple[Verdict, ...]

    @property
    def first(self) -> Verdict:
        return self.windows[0]

    def mean(self, name: str) -> float | None:
        values = [getattr(w, name) for w in self.windows if getattr(w, name) is not None]
        return float(np.mean(values)) if values else None

    @property
    def conflict_text(self) -> str:
        return next((w.conflict_text for w in self.windows if w.conflict_text), "")


def _runs(windows: Sequence[Verdict]) -> list[_Run]:
    """Merge neighbours of the same label and conflict; only as far as long recordings need it."""
    if len(windows) <= _ROWS:
        return [_Run((w,)) for w in windows]
    groups: list[list[Verdict]] = []
    for window in windows:
        same = groups and (groups[-1][-1].label, groups[-1][-1].conflict_text) == (window.label, window.conflict_text)
        if same:
            groups[-1].append(window)
        else:
            groups.append([window])
    return [_Run(tuple(group)) for group in groups]


def _print_table(windows: Sequence[Verdict], console: Console) -> None:
    runs = _runs(windows)
    shown = runs[:_ROWS]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("answer", no_wrap=True)
    table.add_column("confidence", justify="right", no_wrap=True)
    table.add_column("sentiment", justify="right", no_wrap=True)
    table.add_column("conflict" if any(run.conflict_text for run in shown) else "", overflow="fold")
    for run in shown:
        table.add_row(*_cells(run))
    console.print(table)
    say = strings()
    if len(runs) < len(windows):
        console.print(say["windows.merged"].format(rows=len(runs), total=len(windows)), style="dim", highlight=False)
    if len(shown) < len(runs):
        console.print(say["windows.cut"].format(hidden=len(runs) - len(shown)), style="dim", highlight=False)


def _cells(run: _Run) -> list[Text]:
    label, confidence, sentiment = run.first.label, run.mean("confidence"), run.mean("sentiment")
    return [
        Text(f"{_time(run.first.segment.start)} - {_time(run.windows[-1].segment.end)}"),
        Text(label, style=_style(label)) if label else Text("no evidence", style="dim"),
        Text("" if confidence is None else f"{100 * confidence:.0f} %"),
        Text("" if sentiment is None else f"{sentiment:+.2f}"),
        _plain(run.conflict_text),
    ]


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{int(minutes)}:{rest:04.1f}"


def _plain(text: str) -> Text:
    return Text(_safe(text))


def _safe(text: str) -> str:
    """Without control characters: a file may be named so that a terminal would obey it."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _commands(c) else c for c in text)


def _commands(character: str) -> bool:
    joiners = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"  # of emoji and of Persian
    return unicodedata.category(character)[0] == "C" and character not in joiners
