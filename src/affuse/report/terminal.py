"""An analysis in the terminal: a ribbon over time, a table of windows and the answer in a sentence."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from rich import box
from rich.cells import set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from affuse.report.messages import message, messages, name_of, translate
from affuse.report.palette import palette
from affuse.report.sentences import absence_lines, conflict_text, headline, source_name, windows_of
from affuse.results import Analysis, Verdict

__all__ = ["print_analysis"]

_ROWS = 40
_NAME_WIDTH = 9
_OFTEN = 0.5  # of the pictures; who is mostly seen from the front needs no remark


def print_analysis(analysis: Analysis, console: Console, language: str = "en") -> None:
    """Print the answer for every person; without colour and control codes where the console is not a terminal.

    Parameters
    ----------
    analysis : Analysis
        What was found.
    console : rich.console.Console
        Where to print.
    language : str
        "en" or "zh".

    Raises
    ------
    ConfigError
        If the language is unknown.

    Examples
    --------
    >>> from affuse import Analyzer
    >>> from affuse.testing import FakeExpert
    >>> analysis = Analyzer({"text": FakeExpert("text", {"happiness": 0.8})}).analyze_text("What a day!")
    >>> print_analysis(analysis, Console(width=100), "zh")  # doctest: +ELLIPSIS
    文本
    快乐（...%），情感倾向 ...
    ...
    """
    _Printer(analysis, console, language).print()


class _Printer:
    """Prints one analysis in one language."""

    def __init__(self, analysis: Analysis, console: Console, language: str) -> None:
        self.analysis, self.console, self.language = analysis, console, language
        self.say = messages(language)
        self.palette = palette(analysis.labels.labels)

    def print(self) -> None:
        analysis, console = self.analysis, self.console
        console.print(_plain(source_name(analysis, self.language)), style="bold", soft_wrap=True)
        for summary in analysis.summaries:
            windows = windows_of(analysis, summary.person)
            if summary.person is not None and len(analysis.summaries) > 1:
                console.print(Text(f"\n{_safe(translate(summary.person, self.language))}", style="bold"))
            console.print(_plain(headline(analysis, summary, self.language)), style="bold")
            if len(windows) > 1:
                self._print_ribbon(windows)
                self._print_table(windows)
            if summary.fused is not None:
                self._print_shares(summary)
            for sentence in absence_lines(analysis, summary, self.language) if summary.fused is not None else []:
                console.print(_plain(self.say["missing"].format(text=sentence)))
            if summary.head is not None and summary.head.towards_camera < _OFTEN:
                self._remark("head.away", percent=round(100 * (1 - summary.head.towards_camera)))
        for note in analysis.notes:
            console.print(_plain(translate(note, self.language)), style="dim")

    # --- over time ----------------------------------------------------------------------------------------------------

    def _print_ribbon(self, windows: Sequence[Verdict]) -> None:
        ascii_only = self.console.options.ascii_only
        bins = _bins(len(windows), self.console.width - _NAME_WIDTH - 1)
        for row in (*self.analysis.modalities, "fused"):
            line = _row(self.say["terminal.fused"] if row == "fused" else name_of("modality", row, self.language))
            for inside in bins:
                label = self._majority([self._label(windows[i], row) for i in inside])
                line.append_text(self._cell(label, ascii_only))
            self.console.print(line)
        conflicts = [any(windows[i].conflict_text for i in inside) for inside in bins]
        if any(conflicts):
            mark = "^" if ascii_only else "▲"
            line = _row(self._heading("conflict"))
            self.console.print(line.append("".join(mark if conflict else " " for conflict in conflicts)))
        legend = Text(" " * (_NAME_WIDTH + 1))
        for label, letter in self.palette.letters.items():
            legend.append(letter, style=self._style(label)).append(f" {self._name(label)}  ")
        self.console.print(legend)

    def _majority(self, labels: Sequence[str | None]) -> str | None:
        present = [label for label in labels if label is not None]
        return max(self.analysis.labels.labels, key=present.count) if present else None

    def _cell(self, label: str | None, ascii_only: bool) -> Text:
        if label is None:
            return Text("." if ascii_only else "·", style="dim")
        return Text(self.palette.letters[label], style=self._style(label))

    # --- numbers ------------------------------------------------------------------------------------------------------

    def _print_table(self, windows: Sequence[Verdict]) -> None:
        runs = _runs(windows)
        shown = runs[:_ROWS]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column(self._heading("time"), justify="right", no_wrap=True)
        table.add_column(self._heading("label"), no_wrap=True)
        table.add_column(self._heading("confidence"), justify="right", no_wrap=True)
        table.add_column(self._heading("sentiment"), justify="right", no_wrap=True)
        any_conflict = any(run.conflict_text for run in shown)
        table.add_column(self._heading("conflict") if any_conflict else "", overflow="fold")
        for run in shown:
            table.add_row(*self._cells(run))
        self.console.print(table)
        if len(runs) < len(windows):
            self._remark("windows.merged", rows=len(runs), total=len(windows))
        if len(shown) < len(runs):
            self._remark("windows.cut", hidden=len(runs) - len(shown))

    def _heading(self, column: str) -> str:
        return self.say[f"table.{column}"].lower()

    def _remark(self, key: str, **values: int) -> None:
        self.console.print(message(self.language, key, **values), style="dim", highlight=False)

    def _cells(self, run: _Run) -> list[Text]:
        label, confidence, sentiment = run.first.label, run.mean("confidence"), run.mean("sentiment")
        return [
            Text(f"{_time(run.first.segment.start)} - {_time(run.windows[-1].segment.end)}"),
            Text(self._name(label), style=self._style(label)) if label else Text(self.say["no_evidence"], style="dim"),
            Text("" if confidence is None else f"{100 * confidence:.0f} %"),
            Text("" if sentiment is None else f"{sentiment:+.2f}"),
            _plain(conflict_text(run.conflict_text, self.language)),
        ]

    def _print_shares(self, summary: Verdict) -> None:
        """Every modality's Shapley share, behind what it says by itself; before them the prior, where it is known."""
        line = Text()
        if summary.prior is not None:
            line.append(f"{self.say['share.prior']} {100 / (1 + math.exp(-summary.prior)):.0f}")
        for modality in self.analysis.modalities:
            label, points = self._label(summary, modality), summary.evidence[modality].points
            if label is None and points is None:
                continue
            line.append(self.say["conflict.comma"] if line else "")
            line.append(_safe(name_of("modality", modality, self.language)))
            if label is not None:
                line.append(" ").append(self._name(label), style=self._style(label))
            line.append("" if points is None else f" {round(100 * points) or 0:+d}")
        before, after = self.say["shares.line"].split("{shares}")
        self.console.print(Text(before).append_text(line).append(after))

    # --- labels -------------------------------------------------------------------------------------------------------

    def _label(self, verdict: Verdict, row: str) -> str | None:
        if row == "fused":
            return verdict.label
        probabilities = verdict.evidence[row].probabilities
        return None if probabilities is None else self.analysis.labels.labels[int(np.argmax(probabilities))]

    def _name(self, label: str) -> str:
        return _safe(name_of("emotion", label, self.language))

    def _style(self, label: str) -> str:
        return f"{self.palette.inks[label]} on {self.palette.colours[label]}"


def _row(name: str) -> Text:
    """The head of a line of the ribbon: characters of Chinese take two cells."""
    return Text(set_cell_size(_safe(name), _NAME_WIDTH) + " ", no_wrap=True)


def _bins(count: int, width: int) -> list[range]:
    """Split ``count`` windows into at most ``width`` neighbourly groups of nearly equal size."""
    edges = np.linspace(0, count, min(count, max(1, width)) + 1).round().astype(int)
    return [range(a, b) for a, b in pairwise(edges)]


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
