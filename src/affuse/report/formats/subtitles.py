"""Subtitles that tell the emotion: SubRip and WebVTT.

Where there are words, each cue shows them behind the emotion of who says them; without any words, the cues are the runs
of the emotions of everybody. The colours are those of the report.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from affuse.labels import LabelSpace
from affuse.report.formats.base import Format, Place
from affuse.report.formats.intervals import Run, one_line, people, runs
from affuse.report.palette import palette
from affuse.results import Analysis, Cue

__all__ = ["SubRip", "WebVtt", "subtitles"]

_SHORTEST = 0.001  # seconds; players drop a cue that ends when it starts
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True, order=True)
class Answer:
    """An emotion and its confidence, and whose it is where that is not who speaks."""

    label: str
    confidence: float
    person: str = ""

    def __str__(self) -> str:
        told = f"{one_line(self.label)} {100 * self.confidence:.0f} %"
        return f"{self.person}: {told}" if self.person else told


@dataclass(frozen=True, order=True)
class Subtitle:
    """What is on the screen: who speaks, the emotions, and the words; each may be missing."""

    start: float
    end: float
    speaker: str = ""
    words: str = ""
    answers: tuple[Answer, ...] = ()


def subtitles(analysis: Analysis) -> list[Subtitle]:
    """The cues in order of time."""
    by_person = {person: runs(analysis, person) for person in people(analysis)}
    said = [_said(cue, by_person) for cue in analysis.cues if one_line(cue.text)]
    shown = said or [
        Subtitle(run.start, run.end, one_line(person or ""), "", (Answer(run.label, run.confidence),))
        for person, own in by_person.items()
        for run in own
    ]
    return sorted(shown)


def _said(cue: Cue, by_person: Mapping[str | None, Sequence[Run]]) -> Subtitle:
    """Words with the emotion of who says them; with everybody's where that is not known.

    Somebody who is heard but has no answers gets none: another person's face says nothing about them.
    """
    start, end = cue.segment.start, max(cue.segment.end, cue.segment.start + _SHORTEST)
    if cue.speaker is None:
        named = len(by_person) > 1
        answers = [_answer(own, start, end, one_line(p or "") if named else "") for p, own in by_person.items()]
    else:  # answers about nobody are about the scene as a whole
        own = by_person.get(cue.speaker, by_person.get(None, ()))
        answers = [_answer(own, start, end, "")]
    found = tuple(answer for answer in answers if answer is not None)
    return Subtitle(start, end, one_line(cue.speaker or ""), one_line(cue.text), found)


def _answer(own: Sequence[Run], start: float, end: float, person: str) -> Answer | None:
    """The emotion that lasts longest within a stretch, with its mean confidence there."""
    seconds: defaultdict[str, float] = defaultdict(float)
    sure: defaultdict[str, float] = defaultdict(float)
    for run in own:
        shared = min(run.end, end) - max(run.start, start)
        if shared > 0:
            seconds[run.label] += shared
            sure[run.label] += shared * run.confidence
    if not seconds:
        return None
    label = max(seconds, key=lambda name: seconds[name])
    return Answer(label, sure[label] / seconds[label], person)


class SubRip(Format):
    """STEM.emotions.srt; not STEM.srt, which is where the words of a recording are looked for."""

    suffix = ".emotions.srt"

    def write(self, analysis: Analysis, part: Path, place: Place) -> None:
        """Write the cues; players know ``<font color>``, and "-->" in words would be taken for a time."""
        colours = palette(analysis.labels.labels).colours
        blocks = []
        for number, cue in enumerate(subtitles(analysis), 1):
            told = [f'<font color="{colours[a.label]}">[{a}]</font>' for a in cue.answers]
            speaker = f"{cue.speaker}:" if cue.speaker else ""
            text = " ".join(piece for piece in (*told, speaker, cue.words) if piece).replace("-->", "→")
            blocks.append(f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{text}\n")
        part.write_text("\n".join(blocks), encoding="utf-8")


class WebVtt(Format):
    """STEM.emotions.vtt."""

    suffix = ".emotions.vtt"

    def write(self, analysis: Analysis, part: Path, place: Place) -> None:
        """Write the cues with a voice and a class, and a style sheet with the colours."""
        names = _classes(analysis.labels)
        used = palette(analysis.labels.labels)
        rules = (
            f"::cue(.{names[n]}) {{ background-color: {c}; color: {used.inks[n]} }}" for n, c in used.colours.items()
        )
        blocks = ["WEBVTT\n", "STYLE\n" + "\n".join(rules) + "\n"]
        for cue in subtitles(analysis):
            voice = f"<v {_escaped(cue.speaker)}>" if cue.speaker else ""
            told = [f"<c.{names[a.label]}>{_escaped(str(a))}</c>" for a in cue.answers]
            text = voice + " ".join(piece for piece in (*told, _escaped(cue.words)) if piece)
            blocks.append(f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{text}\n")
        part.write_text("\n".join(blocks), encoding="utf-8")


def _escaped(text: str) -> str:
    return escape(text, quote=False)


def _classes(labels: LabelSpace) -> dict[str, str]:
    """A class for every label; those that CSS would have to escape are counted instead."""
    return {n: n if _NAME.fullmatch(n) else f"label-{i}" for i, n in enumerate(labels.labels, 1)}


def _clock(seconds: float, point: str) -> str:
    whole = round(1000 * seconds)
    return f"{whole // 3_600_000:02d}:{whole // 60_000 % 60:02d}:{whole // 1000 % 60:02d}{point}{whole % 1000:03d}"
