"""A conversation made by hand for the tests of reports: two persons who are seen, and a third who is only heard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import samples
from affuse.people import Turn
from affuse.results import Analysis, Cue, Person, Verdict
from affuse.timeline import Segment

__all__ = ["FirstVersion", "call", "dialogue"]

NAMES = ("person 1", "person 2", "off screen")
SPOKEN = [
    (0.0, 1.5, 0, 0.95, "I lost my job today."),
    (1.5, 3.0, 1, 0.8, "What a surprise!"),
    (3.0, 4.5, 2, 0.9, "Ten seconds, please."),
    (4.5, 5.7, 1, 0.55, "Anyway."),
]
"""Who says what, from when to when in a clip of 6 s, and how sure that is."""


def _turns(duration: float) -> list[Turn]:
    scale = duration / 6
    return [Turn(Segment(scale * a, scale * b), NAMES[who], p) for a, b, who, p, _ in SPOKEN]


def _heard(window: Verdict, turns: Sequence[Turn]) -> Verdict:
    """The same window, in which a person's voice and words count only where the person speaks."""
    shares = [
        (turn.segment.overlap(window.segment), turn.probability) for turn in turns if turn.speaker == window.person
    ]
    spoken = sum(seconds for seconds, _ in shares)
    evidence = {name: e.reason if e.probabilities is None else e.probabilities for name, e in window.evidence.items()}
    if window.person == NAMES[2]:
        evidence["face"] = "not seen"
    if spoken == 0:
        evidence |= {"voice": "somebody else speaks", "text": "somebody else speaks"}
    speaking = sum(seconds * p for seconds, p in shares) / spoken if spoken else 0.0
    return replace(samples.verdict(window.segment, window.person, evidence), speaking=speaking)


def dialogue(path: Path | None = None, duration: float = 6.0) -> Analysis:
    """A video of two persons who speak in turn, once while somebody off screen does; the last turn is not sure."""
    video, turns = samples.two_persons(path, duration), _turns(duration)
    third = [replace(v, person=NAMES[2]) for v in video.verdicts if v.person == NAMES[0]]
    windows = [_heard(v, turns) for v in sorted((*video.verdicts, *third), key=lambda v: v.segment)]
    scale = duration / 6
    return replace(
        video,
        verdicts=windows,
        summaries=[_summary([v for v in windows if v.person == name], duration) for name in NAMES],
        persons=[*video.persons, Person(NAMES[2], np.empty(0), np.empty((0, 4)))],
        cues=[Cue(Segment(scale * a, scale * b), text, "en", NAMES[who]) for a, b, who, _, text in SPOKEN],
        turns=turns,
    )


def _summary(windows: Sequence[Verdict], duration: float) -> Verdict:
    best = max(windows, key=lambda v: v.confidence or 0)
    return replace(best, segment=Segment(0, duration))


def call(path: Path | None = None) -> Analysis:
    """A sound file of two channels, one for each speaker."""
    sound, names = samples.audio_only(path), ("channel 1", "channel 2")
    turns = [Turn(Segment(0, 6), names[0]), Turn(Segment(6, 12), names[1])]
    windows = [_heard(replace(v, person=name), turns) for v in sound.verdicts for name in names]
    cues = [replace(cue, speaker=names[cue.segment.start >= 6]) for cue in sound.cues]
    persons = [Person(name, np.empty(0), np.empty((0, 4))) for name in names]
    summaries = [_summary([v for v in windows if v.person == name], 12) for name in names]
    return replace(sound, verdicts=windows, summaries=summaries, persons=persons, cues=cues, turns=turns)


class FirstVersion(Analysis):
    """An analysis whose document is of version 1, which says nothing of who speaks."""

    def header(self) -> dict[str, Any]:
        known = super().header()
        del known["turns"]
        cues = [{key: value for key, value in cue.items() if key != "speaker"} for cue in known["cues"]]
        return known | {"schema": "affuse/analysis/1", "cues": cues, "summary": [_old(v) for v in known["summary"]]}

    def windows(self) -> Iterator[dict[str, Any]]:
        return (_old(window) for window in super().windows())


def _old(verdict: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in verdict.items() if key != "speaking"}
