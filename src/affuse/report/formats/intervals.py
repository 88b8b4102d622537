"""From windows that overlap to intervals that do not: what annotation tools can hold.

A window shares its time with its neighbours, and a tier of ELAN or Praat holds one annotation at a time. So every
window stands for its cell: the time that is nearer to its own middle than to that of any other window of the person.
With windows of 3 s, one a second, the cells last one second, but for the first and the last one, which reach to the
ends (0 to 2 s). Neighbouring cells of the same emotion are joined into one run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from affuse.data.corrections import tier_name
from affuse.results import Analysis, Verdict

__all__ = [
    "Interval",
    "Run",
    "Tier",
    "cells",
    "one_line",
    "people",
    "runs",
    "tiers",
    "windows_about",
    "without_overlap",
]

_TOUCH = 1e-6  # seconds; see `affuse.timeline`
_DECIMALS = 3  # ELAN counts milliseconds; all formats tell the same times
_JOIN = " / "

# What XML 1.0 cannot hold, and no annotation tool shows.
_UNSEEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, order=True)
class Interval:
    """A stretch of time, in seconds, and its text."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Run:
    """A stretch of one emotion of one person, in seconds; the confidence is the mean over its time."""

    start: float
    end: float
    label: str
    confidence: float


@dataclass(frozen=True)
class Tier:
    """Intervals of one kind about one person; they are in order and do not overlap."""

    kind: str
    person: str | None
    intervals: Sequence[Interval]

    @property
    def name(self) -> str:
        """How annotation tools call it, such as "emotion@Anna"."""
        return tier_name(self.kind, self.person)


def one_line(text: str) -> str:
    """A text on one line, without what cannot be seen."""
    return " ".join(_UNSEEN.sub("", text).split())


def people(analysis: Analysis) -> list[str | None]:
    """Whom the answers are about, the person seen most first; None where nobody is told apart."""
    return list(dict.fromkeys(v.person for v in (*analysis.summaries, *analysis.verdicts)))


def windows_about(analysis: Analysis, person: str | None) -> list[Verdict]:
    """The windows about one person, in order of time."""
    return sorted((v for v in analysis.verdicts if v.person == person), key=lambda v: v.segment)


def cells(windows: Sequence[Verdict]) -> np.ndarray:
    """Start and end of the cell of every window, shape (n, 2); the windows are of one person and in order."""
    middles = np.array([w.segment.middle for w in windows])
    between = (middles[1:] + middles[:-1]) / 2
    starts = np.maximum([w.segment.start for w in windows], [-np.inf, *between])
    ends = np.minimum([w.segment.end for w in windows], [*between, np.inf])
    return np.stack([starts, ends], axis=1)


def runs(analysis: Analysis, person: str | None) -> list[Run]:
    """The emotions of a person one after another; windows without an answer leave a gap."""
    windows = windows_about(analysis, person)
    found: list[Run] = []
    for window, (start, end) in zip(windows, cells(windows).tolist() if windows else (), strict=True):
        if window.label is None or window.confidence is None or end <= start:
            continue
        last = found[-1] if found else None
        if last is not None and last.label == window.label and start - last.end <= _TOUCH:
            before, here = last.end - last.start, end - start
            mean = (before * last.confidence + here * window.confidence) / (before + here)
            found[-1] = replace(last, end=end, confidence=mean)
        else:
            found.append(Run(start, end, window.label, window.confidence))
    return found


def without_overlap(intervals: Sequence[Interval]) -> list[Interval]:
    """Intervals in order, of which each ends before the next one starts; times are rounded to milliseconds.

    The one that starts later cuts the other short. Those that start at the same time become one, with both texts and
    the later end. One without length is given the millisecond that a tier needs, so that no text is lost.
    """
    found: list[Interval] = []
    step = 10.0**-_DECIMALS
    for start, end, text in sorted((round(i.start, _DECIMALS), round(i.end, _DECIMALS), i.text) for i in intervals):
        end = max(end, round(start + step, _DECIMALS))
        last = found[-1] if found else None
        if last is not None and last.start >= start:
            found[-1] = Interval(
                last.start, max(last.end, end), _JOIN.join(filter(None, dict.fromkeys((last.text, text))))
            )
            continue
        if last is not None and last.end > start:
            found[-1] = replace(last, end=start)
        found.append(Interval(start, end, text))
    return found


def tiers(analysis: Analysis) -> list[Tier]:
    """Everything that annotation tools show of an analysis, without empty tiers.

    For each person: ``emotion`` (runs), ``confidence`` and ``sentiment`` (cells), ``conflict``, ``turn`` and ``words``.
    """
    answered = people(analysis)
    heard = dict.fromkeys([*(t.speaker for t in analysis.turns), *(c.speaker for c in analysis.cues)])
    everybody = dict.fromkeys([*answered, *heard])
    found = [Tier(kind, _clean(p), without_overlap(rows)) for p in everybody for kind, rows in _rows(analysis, p)]
    return [tier for tier in found if tier.intervals]


def _clean(person: str | None) -> str | None:
    return None if person is None else one_line(person) or None


def _rows(analysis: Analysis, person: str | None) -> Iterator[tuple[str, list[Interval]]]:
    windows = windows_about(analysis, person)
    spans = cells(windows).tolist() if windows else []
    within = [(start, end, w) for (start, end), w in zip(spans, windows, strict=True) if end > start]
    yield "emotion", [Interval(r.start, r.end, one_line(r.label)) for r in runs(analysis, person)]
    yield "confidence", [Interval(s, e, f"{w.confidence:.2f}") for s, e, w in within if w.confidence is not None]
    yield "sentiment", [Interval(s, e, f"{w.sentiment:+.2f}") for s, e, w in within if w.sentiment is not None]
    yield "conflict", [Interval(s, e, one_line(w.conflict_text)) for s, e, w in within if w.conflict_text]
    spoken = [t.segment for t in analysis.turns if t.speaker == person]
    yield "turn", [Interval(s.start, s.end, one_line(person or "")) for s in spoken]
    said = [c for c in analysis.cues if c.speaker == person]
    yield "words", [Interval(c.segment.start, c.segment.end, one_line(c.text)) for c in said if one_line(c.text)]
