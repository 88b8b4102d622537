"""From what was found in one recording to its `Analysis`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from affuse.analyzer.answers import EvidenceFuser
from affuse.analyzer.observation import Observation
from affuse.results import Analysis, Cue, Person, Source, Verdict

__all__ = ["assemble"]


def assemble(found: Observation, fuser: EvidenceFuser, settings: Mapping[str, Any]) -> Analysis:
    """The analysis of what the experts found in one recording; ``settings`` says how it was made."""
    recording, people = found.recording, found.people()
    words = _words(found, fuser)
    by_person = [fuser.fuse_outputs(person, found.timeline, words, recording.duration) for person in people]
    verdicts = [verdict for row in zip(*by_person, strict=True) for verdict in row]
    everything = " ".join(cue.text for cue in recording.cues)
    return Analysis(
        source=Source(recording.name, recording.path, recording.duration, recording.kind),
        verdicts=verdicts,
        summaries=[fuser.summarise(person, found.timeline, everything) for person in people],
        persons=[
            Person(output.person, output.times, output.boxes)
            for outputs in people
            for output in outputs.values()
            if output.person is not None
        ],
        cues=_cues(found, fuser),
        modalities=fuser.modalities,
        settings=settings,
        notes=_notes(found, verdicts, len(people)),
        labels=fuser.labels,
    )


def _words(found: Observation, fuser: EvidenceFuser) -> list[str]:
    """What is said in each window; nothing where the prior does not ask."""
    if "words" not in fuser.prior.needs:
        return []
    cues = found.recording.cues
    return [" ".join(c.text for c in cues if c.segment.overlap(segment) > 0) for segment in found.timeline]


def _cues(found: Observation, fuser: EvidenceFuser) -> list[Cue]:
    reader = fuser.experts.get("text")
    return [
        Cue(cue.segment, cue.text, None if reader is None else reader.language_of(cue.text), cue.speaker)
        for cue in found.recording.cues
    ]


def _notes(found: Observation, verdicts: Sequence[Verdict], n_people: int) -> tuple[str, ...]:
    own = dict.fromkeys(note for outputs in found.outputs.values() for output in outputs for note in output.notes)
    notes = (*found.recording.notes, *own)
    heard = {m for v in verdicts for m, e in v.evidence.items() if e.probabilities is not None}
    shared = [m for m in ("voice", "text") if m in heard]
    if n_people < 2 or not shared:
        return notes
    return (
        *notes,
        f"{n_people} persons are seen; {' and '.join(shared)} cannot be told apart by person "
        "and count for each of them",
    )
