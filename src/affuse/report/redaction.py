"""What may be shown of an analysis: `redact` hides faces, words and names, `without_identity` keeps numbers alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from affuse.budget import DEFAULT_BUDGET, Budget
from affuse.errors import OutputError
from affuse.files import replacing
from affuse.report.messages import messages
from affuse.results import Analysis, Evidence, Person, Source, Verdict

__all__ = ["COPY_SUFFIXES", "HIDDEN", "blurred_copy", "redact", "redacting", "without_identity", "without_names"]

HIDDEN = "[hidden]"
"""Stands for the words of every cue."""

COPY_SUFFIXES = {"video": ".redacted.mp4", "picture": ".redacted.jpg"}
"""What the names of blurred copies end in, by the kind of a recording."""

_OWN_NAME = re.compile(r"person \d+|channel \d+|off screen")  # names that affuse gives itself

_REDACTED = (
    "faces are blurred, the sound is left out and words and names of speakers are hidden; names of files stay as they "
    "were, and may name people"
)
_PRIVATE = "only numbers were kept: no pictures, no words, no names"
_NO_REASON = "no evidence"

_STEP = 0.1  # seconds between two pictures in which faces are looked for
_DETAIL = 1.5  # times the size at which an analysis looks for them


def redact(analysis: Analysis, copy: str | Path | None = None) -> Analysis:
    """Hide words and names of an analysis; numbers, times and emotions stay.

    Parameters
    ----------
    analysis : Analysis
        What was found.
    copy : str or Path, optional
        A copy of the recording to show in its place, such as `blurred_copy` writes; none is shown where None.

    Returns
    -------
    Analysis
        Every cue says "[hidden]" at its time. Names that were given are "speaker 1", "speaker 2" and so on. The name of
        the file stays.

    Examples
    --------
    >>> from affuse import Analyzer
    >>> from affuse.testing import FakeExpert
    >>> analysis = Analyzer({"text": FakeExpert("text", {"happiness": 0.8})}).analyze_text("Ann wins!")
    >>> hidden = redact(analysis)
    >>> [cue.text for cue in hidden.cues], hidden.summary.label
    (['[hidden]'], 'happiness')
    """
    names = _names(analysis)
    cues = [replace(c, text=HIDDEN, speaker=names.get(c.speaker or "", c.speaker)) for c in analysis.cues]
    return replace(
        _renamed(analysis, names),
        source=replace(analysis.source, path=None if copy is None else Path(copy)),
        cues=cues,
        notes=(*analysis.notes, _REDACTED),
    )


def without_identity(analysis: Analysis, name: str) -> Analysis:
    """Keep of an analysis what identifies nobody: times, probabilities, sentiments, and persons by number.

    Parameters
    ----------
    analysis : Analysis
        What was found.
    name : str
        What to call the recording instead of its file, such as the hash of its content.

    Returns
    -------
    Analysis
        Without words, names, places of faces, notes, and the path of the recording.

    Examples
    --------
    >>> from affuse import Analyzer
    >>> from affuse.testing import FakeExpert
    >>> analysis = Analyzer({"text": FakeExpert("text", {"happiness": 0.8})}).analyze_text("Ann wins!")
    >>> kept = without_identity(analysis, "recording")
    >>> kept.cues, kept.source.name, kept.summary.label
    ([], 'recording', 'happiness')
    """
    kept = without_names(analysis)
    return replace(
        kept,
        source=Source(name, None, analysis.source.duration, analysis.source.kind),
        verdicts=[_plain(verdict) for verdict in kept.verdicts],
        summaries=[_plain(verdict) for verdict in kept.summaries],
        notes=(_PRIVATE,),
    )


def without_names(analysis: Analysis) -> Analysis:
    """The analysis without words, places of faces and given names: who has one is "speaker 1", "speaker 2" and so on.

    Parameters
    ----------
    analysis : Analysis
        What was found.

    Returns
    -------
    Analysis
        Called "recording", without the checksum of its file. Notes and the path of the recording stay.

    Examples
    --------
    >>> from affuse import Analyzer
    >>> from affuse.testing import FakeExpert
    >>> analysis = Analyzer({"text": FakeExpert("text", {"happiness": 0.8})}).analyze_text("Ann wins!")
    >>> without_names(analysis).source.name
    'recording'
    """
    renamed = _renamed(analysis, _names(analysis))
    return replace(
        renamed,
        source=replace(analysis.source, name="recording", sha256=None),
        cues=[],
        persons=[_placeless(person) for person in renamed.persons],
    )


def _names(analysis: Analysis) -> dict[str, str]:
    """A neutral name for everybody who has a given one, in the order of the persons, the turns and the words."""
    met = [person.id for person in analysis.persons]
    met += [verdict.person for verdict in (*analysis.summaries, *analysis.verdicts) if verdict.person is not None]
    met += [turn.speaker for turn in analysis.turns]
    met += [cue.speaker for cue in analysis.cues if cue.speaker is not None]
    given = [name for name in dict.fromkeys(met) if not _OWN_NAME.fullmatch(name)]
    return {name: f"speaker {number}" for number, name in enumerate(given, start=1)}


def _renamed(analysis: Analysis, names: Mapping[str, str]) -> Analysis:
    def unnamed(verdict: Verdict) -> Verdict:
        person = None if verdict.person is None else names.get(verdict.person, verdict.person)
        return replace(verdict, person=person)

    return replace(
        analysis,
        persons=[replace(person, id=names.get(person.id, person.id)) for person in analysis.persons],
        verdicts=[unnamed(verdict) for verdict in analysis.verdicts],
        summaries=[unnamed(verdict) for verdict in analysis.summaries],
        turns=[replace(turn, speaker=names.get(turn.speaker, turn.speaker)) for turn in analysis.turns],
        settings=_impersonal(analysis.settings),
    )


def _impersonal(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings without the names of those whom an analysis was adapted to."""
    adapted: Sequence[Mapping[str, Any]] = settings.get("adaptation") or ()
    if not adapted:
        return settings
    return {**settings, "adaptation": [{**each, "to": f"person {n}"} for n, each in enumerate(adapted, start=1)]}


def _placeless(person: Person) -> Person:
    times = person.times[[0, -1]] if len(person.times) else person.times
    return replace(person, times=times, boxes=np.full((len(times), 4), np.nan))


def _plain(verdict: Verdict) -> Verdict:
    return replace(verdict, evidence={name: _told(evidence) for name, evidence in verdict.evidence.items()})


def _told(evidence: Evidence) -> Evidence:
    """Evidence whose reason is one of ours: that of an expert of somebody else may say anything."""
    known = not evidence.reason or evidence.reason in _known_reasons()
    return evidence if known else replace(evidence, reason=_NO_REASON)


@cache
def _known_reasons() -> frozenset[str]:
    texts = ((key, text) for key, text in messages("en").items() if key.startswith(("sentence.", "phrase.")))
    return frozenset(text for _, text in texts if "{" not in text)


# --- pictures ---------------------------------------------------------------------------------------------------------


@contextmanager
def redacting(analysis: Analysis, place: Path | None, budget: Budget = DEFAULT_BUDGET) -> Iterator[Analysis]:
    """The redacted analysis, with a blurred copy of its pictures at ``place`` and a suffix of `COPY_SUFFIXES`.

    The copy is removed where what is done with the analysis fails. No copy is made where ``place`` is None, and of a
    recording without pictures. Raises OutputError where another file is in the place of the copy.
    """
    suffix = None if place is None else COPY_SUFFIXES.get(analysis.source.kind)
    if place is None or suffix is None:
        yield redact(analysis)
        return
    copy = blurred_copy(analysis, place.with_name(place.name + suffix), budget)
    try:
        yield redact(analysis, copy)
    except BaseException:
        copy.unlink(missing_ok=True)
        raise


def blurred_copy(analysis: Analysis, path: str | Path, budget: Budget = DEFAULT_BUDGET) -> Path:
    """Write a copy of a video or picture in which all faces that are found are blurred; it has no sound.

    Faces are looked for ten times a second, more thoroughly than for the analysis, and those that the analysis followed
    are blurred as well. Who is not found is not blurred.

    Parameters
    ----------
    analysis : Analysis
        Of a recording that is a file.
    path : str or Path
        The copy: MP4 of a video, JPEG of a picture.
    budget : Budget
        The most that may be read of the recording.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    OutputError
        If the path cannot be written, or another file is there.
    MediaError
        If the recording cannot be read again.

    Examples
    --------
    >>> from affuse import Analyzer
    >>> from affuse.testing import FakeExpert, synthetic
    >>> from PIL import Image
    >>> Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save("empty.png")
    >>> analysis = Analyzer({"text": FakeExpert("text", {"happiness": 0.8})}).analyze("empty.png")
    >>> blurred_copy(analysis, "empty.redacted.jpg").name
    'empty.redacted.jpg'
    """
    from affuse.experts.face.detect import default_detector
    from affuse.media import Recording
    from affuse.media.blurring import is_blurred_copy, write_film, write_picture

    path, source = Path(path), analysis.source.path
    if source is None or analysis.source.kind not in COPY_SUFFIXES:
        raise OutputError(f"{analysis.source.name} has no pictures to blur")
    if path.exists() and not is_blurred_copy(path):
        raise OutputError(f"{path} exists and was not written by affuse; move it away or choose another folder")
    recording, detector = Recording.open(source, budget=budget), default_detector(_DETAIL)
    with replacing(path) as (part,):
        if recording.kind == "picture":
            (frame,) = recording.frames([0.0], max_side=1600)
            own = [box for person in analysis.persons for box in person.boxes]
            write_picture(frame.image, part, np.concatenate([_detected(detector, frame.image), _boxes(own)]))
        else:
            write_film(recording, part, _places(analysis, recording, detector).at)
    return path


def _places(analysis: Analysis, recording: Any, detector: Any) -> Any:
    from affuse.media.blurring import FacePlaces, film_frames

    found = [(float(t), _boxes([box])) for p in analysis.persons for t, box in zip(p.times, p.boxes, strict=True)]
    due = -np.inf
    for frame in film_frames(recording):
        if frame.end > due:
            found.append((frame.start, _detected(detector, frame.image)))
            due = frame.start + _STEP
    places = FacePlaces()
    for time, boxes in sorted(found, key=lambda pair: pair[0]):
        places.add(time, boxes)
    return places


def _detected(detector: Any, image: np.ndarray) -> np.ndarray:
    return np.asarray(detector.detect(image).boxes) / np.tile(image.shape[1::-1], 2)


def _boxes(own: Sequence[np.ndarray]) -> np.ndarray:
    """Boxes (n, 4) of those that are known."""
    known = np.array(own, dtype=float).reshape(-1, 4)
    return known[np.isfinite(known).all(axis=1)]
