"""Enrolling people from recordings, and finding them in others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from affuse import weights
from affuse.errors import ConfigError, MediaError
from affuse.experts.base import ExpertOutput
from affuse.media import SAMPLE_RATE, Recording
from affuse.people.faces import FaceEncoder, SeenFace, read_faces
from affuse.people.gallery import Gallery
from affuse.people.identity import Identity, IdentityModel, Match, join_tracks, shipped_identity
from affuse.people.speaking import Speakers, who_speaks
from affuse.people.turns import Turn
from affuse.people.voices import VoiceEncoder
from affuse.timeline import Segment, Timeline

__all__ = ["Appearance", "Found", "enrol_recordings", "find_people", "read_people"]

_STRETCH = 10.0  # seconds of sound that are embedded together
_MOST_STRETCHES = 12
_SURE = 0.9  # probability of a turn from which a voice is learned
_TURN = 0.5  # seconds; a shorter turn may be a slip of the mouth
_LEAST = 1.0  # seconds of turns; a voice of less says little, and the calibration has met none


@dataclass(frozen=True, eq=False)
class Appearance:
    """One person of a recording.

    Parameters
    ----------
    faces : array of shape (n, 128)
        Embeddings of the face; n is 0 where nobody is seen.
    voices : array of shape (m, 256)
        Embeddings of the voice; m is 0 where it is not heard, or it is not known whose it is.
    span : Segment
        From when until when the person is seen, or the whole recording where nobody is.

    Examples
    --------
    >>> Appearance(np.ones((1, 128)), np.empty((0, 256)), Segment(0.0, 2.0)).identity.voice is None
    True
    """

    faces: np.ndarray
    voices: np.ndarray
    span: Segment

    @property
    def identity(self) -> Identity:
        """Mean face and mean voice."""
        return Identity(*(rows.mean(axis=0) if len(rows) else None for rows in (self.faces, self.voices)))


@dataclass(frozen=True)
class Found:
    """Somebody in a recording, and who it is.

    Parameters
    ----------
    match : Match
        The name, or "unknown".
    span : Segment
        From when until when they are seen, or the whole recording where nobody is.
    evidence : tuple of str
        What was compared: "face", "voice" or both.

    Examples
    --------
    >>> Found(Match("Anna", 0.98, 7.2), Segment(0.0, 2.0), ("face",)).match.name
    'Anna'
    """

    match: Match
    span: Segment
    evidence: tuple[str, ...]


def read_people(
    recording: Recording, faces: FaceEncoder | None = None, voices: VoiceEncoder | None = None
) -> list[Appearance]:
    """Everybody in a recording, tracks of one face joined.

    The voice counts as that of the only person who is seen, or where nobody is seen. Where several people are seen,
    each has the voice that is heard while their mouth moves with the sound. Without the speaker encoder faces are read
    alone.

    Parameters
    ----------
    recording : Recording
    faces : FaceEncoder, optional
        A new one where None.
    voices : VoiceEncoder, optional
        That of the optional weights where None.

    Returns
    -------
    list of Appearance
        The person seen most comes first.

    Raises
    ------
    MissingExtraError
        If there are pictures and the extra ``people`` is not installed.
    AssetError
        If there is nothing but sound, and the speaker encoder is missing.

    Examples
    --------
    >>> read_people(Recording.from_text("nobody is seen or heard in words"))
    []
    """
    persons = _joined(read_faces(recording, faces))
    heard = [np.empty((0, 256))] * max(1, len(persons))
    needed = not recording.has_frames  # then there is nothing else
    if recording.has_sound and (needed or voices or weights.find("speaker") is not None):
        heard = _voices_of(recording, persons, voices or VoiceEncoder())
    if not persons:
        return [Appearance(np.empty((0, 128)), heard[0], recording.span)] if len(heard[0]) else []
    return [
        Appearance(
            np.array([e for face in own for e in face.embeddings]),
            voice,
            Segment(min(f.track.times[0] for f in own), max(f.track.times[-1] for f in own) + 1e-3),
        )
        for own, voice in zip(persons, heard, strict=True)
    ]


def enrol_recordings(
    gallery: Gallery,
    name: str,
    recordings: Sequence[Recording],
    faces: FaceEncoder | None = None,
    voices: VoiceEncoder | None = None,
) -> Appearance:
    """Enrol a person from recordings that show nobody else.

    Parameters
    ----------
    gallery : Gallery
    name : str
    recordings : sequence of Recording
    faces : FaceEncoder, optional
    voices : VoiceEncoder, optional

    Returns
    -------
    Appearance
        What was added, over all recordings.

    Raises
    ------
    ConfigError
        If there is no recording, or one shows more than one person.
    MediaError
        If nobody is seen or heard in one.

    Examples
    --------
    >>> enrol_recordings(Gallery("people"), "Anna", [])
    Traceback (most recent call last):
    ...
    affuse.errors.ConfigError: enrolling needs at least one recording
    """
    if not recordings:
        raise ConfigError("enrolling needs at least one recording")
    parts = []
    for recording in recordings:
        found = read_people(recording, faces, voices)
        if not found:
            raise MediaError(f"{recording.name}: nobody is seen or heard in it")
        if len(found) > 1:
            raise ConfigError(
                f"{recording.name} shows {len(found)} people; enrol {name} from a recording that shows nobody else"
            )
        parts += found
    added = Appearance(
        np.concatenate([part.faces for part in parts]), np.concatenate([part.voices for part in parts]), parts[0].span
    )
    gallery.enrol(name, added.faces, added.voices)
    return added


def find_people(
    gallery: Gallery,
    recording: Recording,
    false_accept_rate: float = 0.01,
    faces: FaceEncoder | None = None,
    voices: VoiceEncoder | None = None,
    model: IdentityModel | None = None,
) -> list[Found]:
    """Who each person of a recording is.

    Parameters
    ----------
    gallery : Gallery
    recording : Recording
    false_accept_rate : float
        How often, at most, a stranger is taken for anybody of the gallery.
    faces : FaceEncoder, optional
    voices : VoiceEncoder, optional
    model : IdentityModel, optional
        The shipped one where None.

    Returns
    -------
    list of Found
        The person seen most comes first.

    Raises
    ------
    ConfigError
        If the rate is out of range, or the gallery is empty or does not open.

    Examples
    --------
    >>> find_people(Gallery("nowhere"), Recording.from_text("hello"))
    Traceback (most recent call last):
    ...
    affuse.errors.ConfigError: nobody is enrolled in nowhere
    """
    model = model or shipped_identity()
    known = {name: person.identity for name, person in gallery.people().items()}
    if not known:
        raise ConfigError(f"nobody is enrolled in {gallery.folder}")
    model.threshold(false_accept_rate)  # refuses a rate that is out of range before anything is decoded
    found = []
    for person in read_people(recording, faces, voices):
        own = person.identity
        evidence = tuple(m for m, part in (("face", own.face), ("voice", own.voice)) if part is not None)
        found.append(Found(model.identify(own, known, false_accept_rate), person.span, evidence))
    return found


def _joined(faces: list[SeenFace]) -> list[list[SeenFace]]:
    """Tracks by person, in the order of the tracks."""
    labels = join_tracks([Identity(face=face.mean) for face in faces], [np.array(f.track.times) for f in faces])
    persons: dict[int, list[SeenFace]] = {}
    for label, face in zip(labels, faces, strict=True):
        persons.setdefault(label, []).append(face)
    return list(persons.values())


def _voices_of(recording: Recording, persons: list[list[SeenFace]], encoder: VoiceEncoder) -> list[np.ndarray]:
    """Embeddings (m, 256) of the voice of everybody who is seen, or of the only one who is heard."""
    if len(persons) < 2:
        return [_voices(recording.sound(_stretches(recording.span)), encoder)]
    speakers = who_speaks(recording, [_output(own, str(i)) for i, own in enumerate(persons)])
    return [_voices(_own_sound(recording, speakers, str(i)), encoder) for i in range(len(persons))]


def _voices(sound: Iterable[np.ndarray], encoder: VoiceEncoder) -> np.ndarray:
    """Embeddings (m, 256) of stretches of sound."""
    embeddings = (encoder.embed(samples) for samples in sound)
    found = list(islice((own for own in embeddings if own is not None), _MOST_STRETCHES))
    return np.array(found).reshape(-1, 256)


def _output(own: list[SeenFace], name: str) -> ExpertOutput:
    """Where a person is seen, as a face expert would say it."""
    times = np.concatenate([face.track.times for face in own])
    boxes = np.concatenate([np.array(face.track.boxes) / np.tile(face.size, 2) for face in own])
    landmarks = np.concatenate([np.array(face.track.landmarks) / face.size for face in own])
    order = np.argsort(times, kind="stable")
    return ExpertOutput(
        np.empty((0, 0)), (), person=name, times=times[order], boxes=boxes[order], landmarks=landmarks[order]
    )


def _own_sound(recording: Recording, speakers: Speakers, name: str) -> Iterator[np.ndarray]:
    """Stretches of about ten seconds of what one person surely says."""
    turns = [turn.segment for turn in speakers.turns(recording.span.end) if _surely(turn, name)]
    waiting: list[np.ndarray] = []
    for samples in recording.sound(Timeline(tuple(turns))) if turns else ():
        waiting.append(samples)
        if sum(map(len, waiting)) >= _STRETCH * SAMPLE_RATE:
            yield np.concatenate(waiting)
            waiting = []
    if sum(map(len, waiting)) >= _LEAST * SAMPLE_RATE:
        yield np.concatenate(waiting)


def _surely(turn: Turn, name: str) -> bool:
    return turn.speaker == name and turn.probability >= _SURE and turn.segment.duration >= _TURN


def _stretches(span: Segment) -> Timeline:
    starts = np.arange(span.start, span.end, _STRETCH)
    return Timeline(tuple(Segment(float(s), min(float(s) + _STRETCH, span.end)) for s in starts))
