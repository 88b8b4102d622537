"""Who is who, and who speaks: turns of speech, faces and voices that belong to one person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from affuse.lazy import lazy_names

if TYPE_CHECKING:
    from affuse.people.clustering import voices_apart
    from affuse.people.faces import FaceEncoder, SeenFace, read_faces
    from affuse.people.gallery import Gallery, Person
    from affuse.people.given import channel_turns, read_rttm, transcript_turns, write_rttm
    from affuse.people.identity import (
        Identity,
        IdentityModel,
        Match,
        distances,
        join_tracks,
        mean_identity,
        shipped_identity,
    )
    from affuse.people.recognition import Appearance, Found, enrol_recordings, find_people, read_people
    from affuse.people.turns import Turn
    from affuse.people.voices import VoiceEncoder

__all__ = [
    "Appearance",
    "FaceEncoder",
    "Found",
    "Gallery",
    "Identity",
    "IdentityModel",
    "Match",
    "Person",
    "SeenFace",
    "Turn",
    "VoiceEncoder",
    "channel_turns",
    "distances",
    "enrol_recordings",
    "find_people",
    "join_tracks",
    "mean_identity",
    "read_faces",
    "read_people",
    "read_rttm",
    "shipped_identity",
    "transcript_turns",
    "voices_apart",
    "write_rttm",
]

# An analysis needs turns of speech and seldom the rest, which brings SciPy and takes a third of a second.
_HOMES = {
    "Appearance": ".recognition",
    "FaceEncoder": ".faces",
    "Found": ".recognition",
    "Gallery": ".gallery",
    "Identity": ".identity",
    "IdentityModel": ".identity",
    "Match": ".identity",
    "Person": ".gallery",
    "SeenFace": ".faces",
    "Turn": ".turns",
    "VoiceEncoder": ".voices",
    "channel_turns": ".given",
    "distances": ".identity",
    "enrol_recordings": ".recognition",
    "find_people": ".recognition",
    "join_tracks": ".identity",
    "mean_identity": ".identity",
    "read_faces": ".faces",
    "read_people": ".recognition",
    "read_rttm": ".given",
    "shipped_identity": ".identity",
    "transcript_turns": ".given",
    "voices_apart": ".clustering",
    "write_rttm": ".given",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
