"""The moments of a recording that are worth a look first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from affuse.report.formats.intervals import windows_about
from affuse.results import Analysis, Verdict

__all__ = ["Highlight", "highlights"]

LEAST_SECONDS = 30.0
"""Shorter recordings are seen at a glance, and have none."""

_NEUTRAL = "neutral"
_EMOTIONS, _SAME_LABEL, _CONFLICTS = 6, 2, 2  # at most
_LEAST_SENTENCES = 5
_APART = 10.0, 0.02  # seconds, and share of the recording: the larger one parts two highlights of a kind
_AROUND = 10.0  # seconds whose mean sentiment is compared, before and after
_CHANGE = 0.5  # of sentiment, from -1 to 1


@dataclass(frozen=True)
class Highlight:
    """A moment: ``kind`` is emotion, conflict or change.

    ``start`` and ``end`` are seconds, ``label`` and ``value`` the emotion and its probability, the conflict, or how
    far sentiment changes; ``text`` says who contradicts whom, and ``cue`` is the number of the sentence in a bare text.
    """

    start: float
    end: float
    kind: str
    label: str | None
    value: float
    text: str = ""
    cue: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a page."""
        return asdict(self) | {name: round(float(getattr(self, name)), 3) for name in ("start", "end", "value")}


def highlights(analysis: Analysis, person: str | None) -> list[Highlight]:
    """The surest emotions, the strongest conflicts and the largest change of sentiment of one person, in order of time.

    Parameters
    ----------
    analysis : Analysis
        What was found.
    person : str or None
        One of the persons of its summaries.

    Returns
    -------
    list of Highlight
        Of a bare text, its surest sentences; none of what is seen at a glance.

    Examples
    --------
    >>> from affuse import Analyzer
    >>> from affuse.testing import FakeExpert
    >>> highlights(Analyzer({"text": FakeExpert("text", {"anger": 0.8})}).analyze_text("No!"), None)
    []
    """
    if analysis.source.kind == "text" and not analysis.source.duration:
        return sorted(_sentences(analysis), key=lambda found: found.start)
    if analysis.source.duration < LEAST_SECONDS:
        return []
    windows = windows_about(analysis, person)
    gap = max(_APART[0], _APART[1] * analysis.source.duration)
    found = [*_emotions(map(_felt, windows), gap), *_conflicts(windows, gap), *_change(windows)]
    return sorted(found, key=lambda moment: (moment.start, moment.kind))


def _felt(window: Verdict) -> Highlight:
    segment = window.segment
    return Highlight(segment.start, segment.end, "emotion", window.label, window.confidence or 0.0)


def _sentences(analysis: Analysis) -> Iterator[Highlight]:
    if len(analysis.cues) < _LEAST_SENTENCES:
        return
    said = (
        Highlight(c.segment.start, c.segment.end, "emotion", c.label, c.confidence or 0.0, cue=i)
        for i, c in enumerate(analysis.cues)
    )
    yield from _emotions(said, 0.0)


def _emotions(moments: Iterable[Highlight], gap: float) -> list[Highlight]:
    """The surest that are not neutral: few of one label, and none within ``gap`` seconds of another."""
    chosen: list[Highlight] = []
    felt = [moment for moment in moments if moment.label not in (None, _NEUTRAL)]
    for moment in sorted(felt, key=lambda m: (-round(m.value, 6), m.start)):
        same = sum(other.label == moment.label for other in chosen)
        if same < _SAME_LABEL and _far_from(moment, chosen, gap):
            chosen.append(moment)
        if len(chosen) == _EMOTIONS:
            break
    return chosen


def _conflicts(windows: Sequence[Verdict], gap: float) -> list[Highlight]:
    chosen: list[Highlight] = []
    clashes = [window for window in windows if window.conflict_text]
    for window in sorted(clashes, key=lambda w: (-round(w.conflict or 0.0, 6), w.segment)):
        start, end = window.segment.start, window.segment.end
        moment = Highlight(start, end, "conflict", None, window.conflict or 0.0, window.conflict_text)
        if _far_from(moment, chosen, gap):
            chosen.append(moment)
        if len(chosen) == _CONFLICTS:
            break
    return chosen


def _far_from(moment: Highlight, chosen: Sequence[Highlight], gap: float) -> bool:
    return all(abs(moment.start - other.start) >= gap for other in chosen)


def _change(windows: Sequence[Verdict]) -> list[Highlight]:
    """Where the mean sentiment of the seconds after differs most from that of the seconds before; none if little."""
    known = [window for window in windows if window.sentiment is not None]
    middles = np.array([window.segment.middle for window in known])
    values = np.array([window.sentiment for window in known], dtype=float)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    here = np.arange(len(known))
    first = np.searchsorted(middles, middles - _AROUND)
    last = np.searchsorted(middles, middles + _AROUND, side="right")
    enough = (here - first >= 2) & (last - here >= 2)
    if not enough.any():
        return []
    before = (sums[here] - sums[first]) / np.maximum(1, here - first)
    after = (sums[last] - sums[here]) / np.maximum(1, last - here)
    moved = np.where(enough, after - before, 0.0)
    at = int(np.abs(np.round(moved, 6)).argmax())
    if abs(moved[at]) < _CHANGE:
        return []
    segment = known[at].segment
    return [Highlight(segment.start, segment.end, "change", None, float(moved[at]))]
