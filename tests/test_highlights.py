"""The moments of a report that are worth a look first, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import samples
from affuse.labels import EKMAN
from affuse.report.highlights import highlights
from affuse.results import Analysis, Cue, Evidence, Source, Verdict
from affuse.timeline import Segment, Timeline


def recording(said: dict[int, tuple[str, float]], sentiment: dict[int, float] | None = None) -> Analysis:
    """Ten minutes of neutral windows, but for those at the given seconds."""
    windows = []
    for i, segment in enumerate(Timeline.windows(600.0)):
        label, p = said.get(i, ("neutral", 0.9))
        fused = np.full(len(EKMAN), (1 - p) / (len(EKMAN) - 1))
        fused[EKMAN.index(label)] = p
        score = (sentiment or {}).get(i, 0.0)
        windows.append(Verdict(segment, None, {"face": Evidence(fused)}, fused, label, p, score))
    return Analysis(Source("talk.mp4", None, 600.0, "video"), windows, windows[:1], (), (), ("face",))


def test_surest_emotions_in_order_of_time_two_of_a_kind_and_far_apart() -> None:
    said = {100: ("anger", 0.9), 101: ("anger", 0.95), 300: ("anger", 0.7), 400: ("anger", 0.6), 200: ("fear", 0.5)}
    found = highlights(recording(said), None)
    # 100 is within 12 s (a fiftieth of the recording) of the surer 101, and 400 would be the third of anger.
    assert [(m.start, m.kind, m.label, m.value) for m in found] == [
        (101.0, "emotion", "anger", 0.95),
        (200.0, "emotion", "fear", 0.5),
        (300.0, "emotion", "anger", 0.7),
    ]


def test_the_largest_change_of_sentiment() -> None:
    falls = {i: 0.4 if i < 300 else -0.4 for i in range(600)}
    (moment,) = highlights(recording({}, falls), None)
    assert (moment.kind, moment.start, round(moment.value, 6)) == ("change", 300.0, -0.8)
    gently = {i: 0.2 if i < 300 else -0.2 for i in range(600)}
    assert highlights(recording({}, gently), None) == []


def test_the_strongest_conflicts() -> None:
    analysis = recording({})
    clash = {50: 0.4, 52: 0.6, 90: 0.5, 400: 0.3}
    windows = [
        replace(w, conflict=clash[i], conflict_text="face says anger, voice says fear") if i in clash else w
        for i, w in enumerate(analysis.verdicts)
    ]
    found = highlights(replace(analysis, verdicts=windows), None)
    assert [(m.start, m.value) for m in found] == [(52.0, 0.6), (90.0, 0.5)]


def test_of_a_text_its_surest_sentences() -> None:
    text = samples.text_only("a")
    kinds = [("anger", 0.5), ("neutral", 0.9), ("fear", 0.6), (None, None), ("anger", 0.8), ("anger", 0.7)]
    cues = [Cue(Segment(i / 6, (i + 1) / 6), str(i), "en", None, *kind) for i, kind in enumerate(kinds)]
    assert [m.cue for m in highlights(replace(text, cues=cues), None)] == [2, 4, 5]
    assert highlights(replace(text, cues=cues[:4]), None) == []  # seen at a glance


def test_short_recordings_have_none() -> None:
    assert highlights(samples.one_person(), "person 1") == []
