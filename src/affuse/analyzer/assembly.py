"""From what was found in one recording to its `Analysis`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from affuse.analyzer.answers import EvidenceFuser
from affuse.analyzer.observation import Observation
from affuse.analyzer.speech import UNSURE, speaker_of
from affuse.experts.base import ExpertOutput
from affuse.media import Words
from affuse.results import Analysis, Cue, Person, Source, Verdict
from affuse.timeline import Timeline
from affuse.weights import sha256_of

__all__ = ["ONE_VOICE", "assemble"]

ONE_VOICE = (
    "all speech was taken for one person's; if several speak, say how many (--speakers) or who speaks when (--turns)"
)
"""Note where nobody is seen, named or counted."""

_AT_ONCE = 4096  # cues; many more take longer each, since they leave the processor's caches
_CONVERSATION = 10.0  # seconds; what is shorter is mostly one utterance


def assemble(found: Observation, fuser: EvidenceFuser, settings: Mapping[str, Any]) -> Analysis:
    """The analysis of what the experts found in one recording; ``settings`` says how it was made."""
    recording, people = found.recording, found.people()
    by_person = [_verdicts(found, fuser, person) for person in people]
    verdicts = [verdict for row in zip(*by_person, strict=True) for verdict in row]
    return Analysis(
        source=Source(recording.name, recording.path, recording.duration, recording.kind, _checksum(recording.path)),
        verdicts=verdicts,
        summaries=[_summary(found, fuser, person) for person in people],
        persons=_persons(people),
        cues=_cues(found, fuser),
        modalities=fuser.modalities,
        settings=settings,
        notes=_notes(found, verdicts, len(people)),
        labels=fuser.labels,
        turns=[] if found.speech is None else found.speech.speakers.turns(recording.span.end),
    )


def _checksum(path: Path | None) -> str | None:
    try:
        return None if path is None else sha256_of(path)
    except OSError:  # it was there when it was read, and is no more
        return None


def _verdicts(found: Observation, fuser: EvidenceFuser, person: Mapping[str, ExpertOutput]) -> list[Verdict]:
    own, cues = found.own(_name(person)), _said_by(found, _name(person))
    words = _words(found.timeline, cues) if "words" in fuser.prior.needs else []
    return fuser.fuse_outputs(person, found.timeline, words, found.recording.duration, own)


def _summary(found: Observation, fuser: EvidenceFuser, person: Mapping[str, ExpertOutput]) -> Verdict:
    everything = " ".join(cue.text for cue in _said_by(found, _name(person)))
    name = _name(person)
    return fuser.summarise(person, found.timeline, everything, found.own(name), found.heard(name))


def _name(person: Mapping[str, ExpertOutput]) -> str | None:
    return next((output.person for output in person.values() if output.person is not None), None)


def _persons(people: Sequence[Mapping[str, ExpertOutput]]) -> list[Person]:
    """Everybody once, with the places of the face where it is seen."""
    own = [(output.person, output) for outputs in people for output in outputs.values() if output.person is not None]
    seen = dict(sorted(own, key=lambda pair: len(pair[1].times)))
    return [Person(person, seen[person].times, seen[person].boxes) for person in dict.fromkeys(name for name, _ in own)]


def _said_by(found: Observation, person: str | None) -> Sequence[Words]:
    """The words of a person; all of them where nothing tells whose they are."""
    if found.speech is None or person is None:
        return found.recording.cues
    return [cue for cue in found.recording.cues if speaker_of(cue, found.speech.speakers) == person]


def _words(timeline: Timeline, cues: Sequence[Words]) -> list[str]:
    """What is said in each window."""
    return [" ".join(c.text for c in cues if c.segment.overlap(segment) > 0) for segment in timeline]


def _cues(found: Observation, fuser: EvidenceFuser) -> list[Cue]:
    reader = fuser.experts.get("text")
    return [
        Cue(
            cue.segment, cue.text, None if reader is None else reader.language_of(cue.text), _speaker(found, cue), *said
        )
        for cue, said in zip(found.recording.cues, _said(found, fuser), strict=True)
    ]


def _said(found: Observation, fuser: EvidenceFuser) -> Sequence[tuple[str | None, float | None, float | None]]:
    """Label, confidence and sentiment of the words of every cue by themselves; None where they say nothing."""
    n = len(found.recording.cues)
    own = [(m, outputs[0]) for m, outputs in found.outputs.items() if n and len(outputs[0].cue_probabilities) == n]
    if not own:
        return [(None, None, None)] * n
    modality, output = own[0]
    first, again = _different(output)
    answers: list[tuple[str | None, float | None, float | None]] = []
    for part in np.split(first, range(_AT_ONCE, len(first), _AT_ONCE)):
        judged = None if output.cue_sentiment is None else output.cue_sentiment[part]
        fused, sentiment = fuser.answer_alone(modality, output.cue_probabilities[part], judged)
        silent = np.isnan(fused).any(axis=1)
        likeliest = fused.argmax(axis=1)
        labels = [None if none else fuser.labels.labels[i] for none, i in zip(silent, likeliest, strict=True)]
        known = [None if none else float(p) for none, p in zip(silent, fused.max(axis=1), strict=True)]
        answers += zip(labels, known, [None if np.isnan(s) else float(s) for s in sentiment], strict=True)
    return [answers[i] for i in again]


def _different(output: ExpertOutput) -> tuple[np.ndarray, list[int]]:
    """Numbers of the cues that are unlike all before them, and which of these each cue is like.

    In hours of speech most words and short sentences come again and again.
    """
    judged = output.cue_sentiment
    said = output.cue_probabilities if judged is None else np.concatenate([output.cue_probabilities, judged], axis=1)
    kinds: dict[bytes, int] = {}
    again = [kinds.setdefault(row.tobytes(), len(kinds)) for row in np.ascontiguousarray(said)]
    return np.unique(again, return_index=True)[1], again


def _speaker(found: Observation, cue: Words) -> str | None:
    return cue.speaker if found.speech is None else speaker_of(cue, found.speech.speakers)


def _notes(found: Observation, verdicts: Sequence[Verdict], n_people: int) -> tuple[str, ...]:
    own = dict.fromkeys(note for outputs in found.outputs.values() for output in outputs for note in output.notes)
    notes = (*found.recording.notes, *own)
    heard = {m for v in verdicts for m, e in v.evidence.items() if e.probabilities is not None}
    shared = [m for m in ("voice", "text") if m in heard]
    if found.one_voice and "voice" in heard and found.recording.duration >= _CONVERSATION:
        return (*notes, ONE_VOICE)
    if n_people < 2 or not shared:
        return notes
    if found.speech is not None:
        return (*notes, *_doubts(verdicts))
    return (
        *notes,
        f"{n_people} persons are seen; {' and '.join(shared)} cannot be told apart by person "
        "and count for each of them",
    )


def _doubts(verdicts: Sequence[Verdict]) -> Sequence[str]:
    """A sentence on the windows in which it is not sure whose voice is heard."""
    heard = [v for v in verdicts if v.speaking]
    unsure = sum(v.speaking is not None and v.speaking < UNSURE for v in heard)
    return [f"in {unsure} of {len(heard)} windows with speech it is not sure whose it is"] if unsure else []
