"""Whose voice and whose words: what experts hear, told apart by who speaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from affuse.errors import ConfigError
from affuse.experts.base import Expert, ExpertOutput
from affuse.media import SAMPLE_RATE, Recording, Words
from affuse.people.given import channel_turns, transcript_turns
from affuse.people.speaking import OFF_SCREEN, Speakers, who_speaks
from affuse.people.synchrony import Agreement
from affuse.people.turns import Turn
from affuse.timeline import Timeline

__all__ = [
    "MOST_SPEAKERS",
    "SOMEBODY_ELSE",
    "UNSURE",
    "Speech",
    "check_speakers",
    "find_speakers",
    "hears_only",
    "speaker_of",
    "split_speech",
]

UNSURE = 0.6
"""Probability below which an answer says that it is not sure whose voice is heard."""

SOMEBODY_ELSE = "somebody else speaks"
"""Why voice and words say nothing about a person where another one is heard."""

MOST_SPEAKERS = 20
"""Largest number of people whose voices are told apart."""

_LEAST = 1.0  # seconds of speech of somebody off screen that make them a person of their own


@dataclass(frozen=True)
class Speech:
    """Whose voice and whose words are heard in a recording.

    Parameters
    ----------
    speakers : Speakers
        Who speaks when.
    outputs : mapping of str to mapping of str to ExpertOutput
        For every speaker what the experts that hear find in their own speech, by modality.

    Examples
    --------
    >>> from affuse.people.speaking import Speakers
    >>> speakers = Speakers(("Anna",), np.array([[0.9, 0.1]]), step=3.0)
    >>> Speech(speakers, {}).own("Anna", Timeline((Segment(0.0, 3.0),)))
    array([0.9])
    """

    speakers: Speakers
    outputs: Mapping[str, Mapping[str, ExpertOutput]]

    def own(self, name: str, timeline: Timeline) -> np.ndarray:
        """How probable it is that what was taken for a person's speech is theirs.

        Parameters
        ----------
        name : str
            One of the speakers.
        timeline : Timeline
            The n windows.

        Returns
        -------
        array of shape (n,)
            0…1; 0 in windows without such speech.
        """
        return np.array([self.speakers.own(name, segment) for segment in timeline])

    def seconds(self, name: str, timeline: Timeline) -> np.ndarray | None:
        """How long a person is heard in every window.

        Parameters
        ----------
        name : str
            One of the speakers.
        timeline : Timeline
            The n windows.

        Returns
        -------
        array of shape (n,), or None
            None where nobody else speaks, so that all windows count alike.
        """
        if _only_speaker(self.speakers) == name:
            return None
        return np.array([self.speakers.seconds(name, segment) for segment in timeline])


def hears_only(expert: Expert) -> bool:
    """Whether an expert reads sound or words and nothing else, so that what it finds is of whoever speaks."""
    return set(expert.abilities.reads) <= {"sound", "words"}


def check_speakers(count: int | None, shared_voice: bool = False) -> None:
    """Refuse a number of speakers that cannot be used, before anything is decoded.

    Parameters
    ----------
    count : int, optional
        How many people speak; None where it is not known.
    shared_voice : bool
        Whether nobody asks who speaks.

    Raises
    ------
    ConfigError
        If the number is out of range, or there is no use for it.
    AssetError
        If several people speak, and the encoder that tells their voices apart is missing.

    Examples
    --------
    >>> check_speakers(0)
    Traceback (most recent call last):
    ...
    affuse.errors.ConfigError: the number of speakers lies within 1 and 20; got 0
    """
    if count is None:
        return
    if not 1 <= count <= MOST_SPEAKERS:
        raise ConfigError(f"the number of speakers lies within 1 and {MOST_SPEAKERS}; got {count}")
    if shared_voice:
        raise ConfigError("a shared voice counts for everybody; leave out the number of speakers")
    if count > 1:
        from affuse.people.voices import VoiceEncoder  # few recordings need it

        VoiceEncoder().check()


def find_speakers(
    recording: Recording,
    faces: Sequence[ExpertOutput],
    turns: Sequence[Turn] | None = None,
    count: int | None = None,
    agreement: Agreement | None = None,
    by_channel: Callable[[], Sequence[Turn]] | None = None,
) -> tuple[Speakers | None, Mapping[str, str]]:
    """Who speaks in a recording: by turns that are given, by its two channels, by how mouths move, or by the voices.

    Parameters
    ----------
    recording : Recording
        An open recording.
    faces : sequence of ExpertOutput
        One for each person that is seen.
    turns : sequence of Turn, optional
        Turns that are known; those that a transcript names where None, or else those of the channels of a call.
    count : int, optional
        How many people speak. Their voices are told apart where nothing else tells who speaks.
    agreement : Agreement, optional
        Of the faces with the sound, where it was measured while they were found.
    by_channel : callable, optional
        Gives the turns of the channels, where they may be known already.

    Returns
    -------
    speakers : Speakers or None
        None where nothing tells who speaks.
    names : mapping of str to str
        Given names of persons that are seen: of those whose mouth moves with a speaker's turns.

    Raises
    ------
    AssetError
        If voices must be told apart, and the speaker encoder is missing.
    MediaError
        If there is too little speech for so many people.
    """
    given = turns or transcript_turns(recording.cues) or (by_channel or partial(channel_turns, recording))()
    moving = faces and recording.has_sound and recording.has_frames
    seen = who_speaks(recording, faces, agreement=agreement) if moving else None
    if given:
        return Speakers.of_turns(given, recording.span.end), {} if seen is None else _names_of_faces(given, seen)
    if seen is not None or count is None or count < 2:
        return seen, {}
    from affuse.people.clustering import voices_apart  # few recordings need it

    return voices_apart(recording, count), {}


def _names_of_faces(turns: Sequence[Turn], seen: Speakers) -> dict[str, str]:
    """Which face is which speaker: the assignment with most speech, where it is more than half of a speaker's."""
    from scipy.optimize import linear_sum_assignment

    names = list(dict.fromkeys(turn.speaker for turn in turns))
    faces = [name for name in seen.names if name != OFF_SCREEN]
    spoken, lengths = np.zeros((len(names), len(faces))), np.zeros(len(names))
    for turn in turns:
        shares = [float(np.nan_to_num(seen.share(face, turn.segment))) for face in faces]
        spoken[names.index(turn.speaker)] += turn.segment.duration * np.array(shares)
        lengths[names.index(turn.speaker)] += turn.segment.duration
    pairs = zip(*linear_sum_assignment(-spoken), strict=True)
    return {faces[j]: names[i] for i, j in pairs if spoken[i, j] > lengths[i] / 2}


def split_speech(
    experts: Mapping[str, Expert],
    recording: Recording,
    timeline: Timeline,
    outputs: Mapping[str, Sequence[ExpertOutput]],
    speakers: Speakers,
) -> Speech:
    """What the experts that hear find in the speech of every speaker.

    Parameters
    ----------
    experts : mapping of str to Expert
        By modality.
    recording : Recording
        An open recording.
    timeline : Timeline
        The n windows.
    outputs : mapping of str to sequence of ExpertOutput
        What the experts found in the whole recording; used as it is where only one person speaks.
    speakers : Speakers
        Who speaks when.

    Returns
    -------
    Speech
    """
    hearing = {modality: expert for modality, expert in experts.items() if hears_only(expert)}
    alone = _only_speaker(speakers)
    found = {}
    for name in speakers.names:
        if name == alone:
            found[name] = {modality: outputs[modality][0] for modality in hearing}
        else:
            view = SpeechOf(recording, name, speakers)
            found[name] = {m: _read(expert, view, timeline, outputs[m][0]) for m, expert in hearing.items()}
    away = found.get(OFF_SCREEN)
    if away is not None and (
        not _heard(speakers, OFF_SCREEN) or not any(_says_something(own) for own in away.values())
    ):
        del found[OFF_SCREEN]
    return Speech(speakers, found)


def _says_something(output: ExpertOutput) -> bool:
    return bool(np.isfinite(output.probabilities).any())


def _heard(speakers: Speakers, name: str) -> bool:
    return float(speakers.speaks(name).sum() * speakers.step) >= _LEAST


def _only_speaker(speakers: Speakers) -> str | None:
    """The one person who is ever taken to speak for a second or more, if there is only one."""
    heard = [name for name in speakers.names if _heard(speakers, name)]
    return heard[0] if len(heard) == 1 else None


def _read(expert: Expert, view: SpeechOf, timeline: Timeline, whole: ExpertOutput) -> ExpertOutput:
    (output,) = expert.read(view, timeline)[:1]  # type: ignore[arg-type]
    reasons = tuple(
        SOMEBODY_ELSE if own and not all_of_it else own and all_of_it
        for own, all_of_it in zip(output.reasons, whole.reasons, strict=True)
    )
    return replace(output, reasons=reasons, notes=())


class SpeechOf:
    """A recording of which only one speaker is heard; experts see no other difference.

    ``sound`` gives shorter arrays: what others say is left out, not silenced, since experts never learned from gaps.
    """

    def __init__(self, recording: Recording, name: str, speakers: Speakers) -> None:
        self._recording = recording
        self._name = name
        self._speakers = speakers
        self._own = speakers.speaks(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recording, name)

    @property
    def cues(self) -> tuple[Words, ...]:
        """The words that this speaker says."""
        return tuple(cue for cue in self._recording.cues if speaker_of(cue, self._speakers) == self._name)

    def sound(self, timeline: Timeline, channel: int | None = None) -> Iterator[np.ndarray]:
        """The own speech in every window; where a speaker has a channel, of that channel."""
        own = self._name.removeprefix("channel ")
        if channel is None and self._recording.channels == 2 and own != self._name and own.isdigit():
            channel = int(own) - 1
        for segment, samples in zip(timeline, self._recording.sound(timeline, channel), strict=True):
            first = max(segment.start, self._recording.sound_start)
            times = first + (np.arange(len(samples)) + 0.5) / SAMPLE_RATE
            steps = np.minimum((times / self._speakers.step).astype(int), len(self._own) - 1)
            yield samples[self._own[steps]]


def speaker_of(cue: Words, speakers: Speakers) -> str | None:
    """Who says a cue: whoever speaks most of its time; None where nobody is heard."""
    shares = [np.nan_to_num(speakers.share(name, cue.segment)) for name in speakers.names]
    return speakers.names[int(np.argmax(shares))] if max(shares, default=0) > 0 else cue.speaker
