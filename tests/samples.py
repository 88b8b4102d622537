"""Analyses made by hand for the tests of reports: every number follows from the few written here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from affuse.labels import EKMAN, LabelSpace
from affuse.results import Analysis, Cue, Evidence, Person, Source, Verdict
from affuse.timeline import Segment, Timeline

__all__ = [
    "audio_only",
    "long_video",
    "one_person",
    "own_labels",
    "picture",
    "silent_nobody",
    "text_only",
    "two_persons",
]

MODALITIES = ("face", "voice", "text")
PRIOR = np.full(len(EKMAN), 1 / len(EKMAN))
SIGNS = np.array([-1, -1, -1, 1, -1, 0, 0])  # of the labels of EKMAN
SETTINGS = {
    "window": 3.0,
    "hop": 1.0,
    "experts": {"face": {"name": "face", "sha256": "0" * 64}, "voice": {"name": "voice", "sha256": "1" * 64}},
    "fuser": "sample",
}


def distribution(label: str, top: float, second: str = "neutral") -> np.ndarray:
    """``top`` on one label, most of the rest on another, the last fifth of the rest spread evenly."""
    p = np.full(len(EKMAN), 0.2 * (1 - top) / (len(EKMAN) - 2))
    p[EKMAN.index(label)] = top
    p[EKMAN.index(second)] = 0.8 * (1 - top)
    return p


def verdict(segment: Segment, person: str | None, evidence: Mapping[str, np.ndarray | str]) -> Verdict:
    """Product rule over whatever is present; shares are the log-odds of each modality by itself over an even prior."""
    present = {name: p for name, p in evidence.items() if not isinstance(p, str)}
    absent = {name: Evidence(None, reason) for name, reason in evidence.items() if isinstance(reason, str)}
    if not present:
        return Verdict(segment, person, absent, None, None, None, None)
    fused = np.prod([p**0.6 for p in present.values()], axis=0)
    fused /= fused.sum()
    top = int(np.argmax(fused))
    shares = {name: float(np.log(p[top] / PRIOR[top])) for name, p in present.items()}
    points = {name: float(p[top] - PRIOR[top]) for name, p in present.items()}
    kept = {name: Evidence(p, share=shares[name], points=points[name]) for name, p in present.items()} | absent
    conflict = _divergence(list(present.values())) if len(present) > 1 else None
    return Verdict(
        segment,
        person,
        {name: kept[name] for name in evidence},
        fused,
        EKMAN.labels[top],
        float(fused[top]),
        float(SIGNS @ fused),
        conflict,
        _conflict_text(present) if conflict is not None and conflict > 0.3 else "",
    )


def _divergence(rows: Sequence[np.ndarray]) -> float:
    mean = np.mean(rows, axis=0)
    return float(np.mean([np.sum(p * np.log2(p / mean)) for p in rows]) / np.log2(len(rows)))


def _conflict_text(present: Mapping[str, np.ndarray]) -> str:
    names = {"text": "text says", "face": "face says", "voice": "voice says"}
    return ", ".join(f"{names[name]} {EKMAN.labels[int(np.argmax(p))]}" for name, p in present.items())


FACE = [("happiness", 0.82), ("happiness", 0.74), ("happiness", 0.66), ("neutral", 0.55), ("surprise", 0.62)]
VOICE = [("neutral", 0.62), ("neutral", 0.48), ("sadness", 0.52), ("happiness", 0.6), ("surprise", 0.45)]
TEXT = [("neutral", 0.7), ("sadness", 0.86), ("sadness", 0.8), ("neutral", 0.6), ("surprise", 0.7)]
CUES = ["Well, hello again.", "I lost my job today.", "I am so sad about it.", "Anyway.", "Wait — you did what?"]


def _blend(steps: Sequence[tuple[str, float]], position: float) -> np.ndarray:
    """Between two neighbours of a list of distributions, ``position`` in 0…1 along it."""
    rows = [distribution(label, top, "neutral" if label != "neutral" else "happiness") for label, top in steps]
    at = position * (len(rows) - 1)
    low = min(int(at), len(rows) - 2)
    return rows[low] * (1 - at + low) + rows[low + 1] * (at - low)


def _windows(timeline: Timeline, person: str | None, phase: float = 0.0) -> list[Verdict]:
    result = []
    for i, segment in enumerate(timeline):
        at = (i / max(1, len(timeline) - 1) + phase) % 1.0
        steps = {"face": FACE, "voice": VOICE, "text": TEXT}
        evidence: dict[str, np.ndarray | str] = {name: _blend(row, at) for name, row in steps.items()}
        if 0.5 < at < 0.64:
            evidence["face"] = "no face"
        if 0.56 < at < 0.8:
            evidence["text"] = "no words"
        if 0.56 < at < 0.64:
            evidence["voice"] = "silence"
        result.append(verdict(segment, person, evidence))
    return result


def _summary(windows: Sequence[Verdict], duration: float, person: str | None) -> Verdict:
    evidence: dict[str, np.ndarray | str] = {}
    for name in windows[0].evidence:
        rows = [w.evidence[name].probabilities for w in windows]
        present = [p for p in rows if p is not None]
        evidence[name] = np.mean(present, axis=0) if present else windows[0].evidence[name].reason
    return verdict(Segment(0, duration), person, evidence)


def _person(name: str, duration: float, x: float) -> Person:
    times = np.arange(0, duration, 0.5)
    boxes = np.stack([x + 0.02 * np.sin(times), 0.2 + 0 * times, 0.16 + 0 * times, 0.34 + 0 * times], axis=1)
    return Person(name, times, boxes)


def _cues(duration: float) -> list[Cue]:
    step = duration / len(CUES)
    return [Cue(Segment(i * step + 0.2, (i + 1) * step - 0.3), text, "en") for i, text in enumerate(CUES)]


def _video(name: str, path: Path | None, duration: float, people: Mapping[str, float], hop: float = 1.0) -> Analysis:
    timeline = Timeline.windows(duration, 3.0, hop)
    tracks = {person: _windows(timeline, person, phase) for person, phase in people.items()}
    windows = sorted((w for track in tracks.values() for w in track), key=lambda w: w.segment)
    return Analysis(
        Source(name, path, duration, "video"),
        windows,
        [_summary(track, duration, person) for person, track in tracks.items()],
        [_person(person, duration, 0.1 + 0.5 * i) for i, person in enumerate(people)],
        _cues(duration),
        MODALITIES,
        SETTINGS,
        ["The transcript ends 0.3 s before the recording."],
    )


def one_person(path: Path | None = None, duration: float = 20.0, name: str = "interview.mp4") -> Analysis:
    """A video of one person whose face and words disagree in its first half, with a gap in its middle."""
    return _video(name, path, duration, {"person 1": 0.0})


def two_persons(path: Path | None = None, duration: float = 20.0) -> Analysis:
    """A video of two persons, the second half a recording apart from the first."""
    return _video("two people.mp4", path, duration, {"person 1": 0.0, "person 2": 0.5})


OWN = LabelSpace("own", ("engaged", "frustrated", "bored"))


def own_labels(path: Path | None = None, duration: float = 20.0) -> Analysis:
    """A video judged by labels of somebody's own, of which nobody says what they mean for sentiment."""
    video = _video("lesson.mp4", path, duration, {"person 1": 0.0})
    return replace(
        video,
        verdicts=[_in_own_labels(v) for v in video.verdicts],
        summaries=[_in_own_labels(v) for v in video.summaries],
        labels=OWN,
    )


def _in_own_labels(verdict: Verdict) -> Verdict:
    """Happiness as engaged, sadness as frustrated, all else as bored."""

    def moved(p: np.ndarray | None) -> np.ndarray | None:
        if p is None:
            return None
        engaged, frustrated = p[EKMAN.index("happiness")] + p[EKMAN.index("neutral")], p[EKMAN.index("sadness")]
        return np.array([engaged, frustrated, 1 - engaged - frustrated])

    fused = moved(verdict.fused)
    label = None if fused is None else OWN.labels[int(np.argmax(fused))]
    return replace(
        verdict,
        fused=fused,
        label=label,
        confidence=None if fused is None else float(fused.max()),
        sentiment=None,
        conflict_text="face says engaged, text says frustrated" if verdict.conflict_text else "",
        evidence={name: replace(e, probabilities=moved(e.probabilities)) for name, e in verdict.evidence.items()},
    )


def long_video(minutes: float = 30.0) -> Analysis:
    """A long video of two persons, one window a second."""
    return _video("lecture.mp4", None, 60 * minutes, {"person 1": 0.0, "person 2": 0.4})


def audio_only(path: Path | None = None, duration: float = 12.0) -> Analysis:
    """A sound file with words but no picture."""
    windows = [_without_picture(w) for w in _windows(Timeline.windows(duration), None)]
    source = Source("voice memo.wav", path, duration, "audio")
    summary = _summary(windows, duration, None)
    return Analysis(source, windows, [summary], [], _cues(duration), MODALITIES, SETTINGS)


def _without_picture(window: Verdict) -> Verdict:
    rest = {n: e.reason if e.probabilities is None else e.probabilities for n, e in window.evidence.items()}
    return verdict(window.segment, window.person, rest | {"face": "no picture"})


def picture(path: Path | None = None) -> Analysis:
    """A picture of two faces."""
    absent = {"voice": "no sound", "text": "no words"}
    rows = {"person 1": distribution("happiness", 0.91), "person 2": distribution("surprise", 0.44, "happiness")}
    windows = [verdict(Segment(0, 1), person, {"face": p, **absent}) for person, p in rows.items()]
    boxes = {"person 1": (0.2, 0.01, 0.12, 0.19), "person 2": (0.64, 0.39, 0.12, 0.19)}
    persons = [Person(name, np.array([0.0]), np.array([box])) for name, box in boxes.items()]
    return Analysis(Source("party.jpg", path, 0.0, "picture"), windows, windows, persons, [], MODALITIES, SETTINGS)


def text_only(text: str = "I can't believe it, this is wonderful!") -> Analysis:
    """A single sentence."""
    says = distribution("surprise", 0.58, "happiness")
    window = verdict(Segment(0, 1), None, {"face": "no picture", "voice": "no sound", "text": says})
    cues = [Cue(Segment(0, 1), text, "en")]
    return Analysis(Source("text", None, 0.0, "text"), [window], [window], [], cues, MODALITIES, SETTINGS)


def silent_nobody(duration: float = 4.0) -> Analysis:
    """A silent video without anybody: an answer that says what is absent."""
    absent = {"face": "no face", "voice": "silence", "text": "no transcript"}
    windows = [verdict(segment, None, absent) for segment in Timeline.windows(duration)]
    summary = verdict(Segment(0, duration), None, absent)
    return Analysis(Source("empty.mp4", None, duration, "video"), windows, [summary], [], [], MODALITIES, SETTINGS)


def write_clip(
    path: Path, codec: str = "h264", seconds: float = 6.0, rate: int = 5, size: tuple[int, int] = (96, 64)
) -> Path:
    """A tiny video whose frames grow from dark to bright; every frame is a key frame."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 1
        count = round(seconds * rate)
        for i in range(count):
            picture = np.full((size[1], size[0], 3), round(255 * i / count), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path
