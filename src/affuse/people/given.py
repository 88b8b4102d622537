"""Turns of speech that are given: by labels of a transcript, by an RTTM file, or by the two channels of a call."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path, PurePath

import numpy as np

from affuse.errors import TranscriptError
from affuse.experts.voice import MIN_SPEECH, VAD_FRAME, speech_frames
from affuse.files import write_text
from affuse.media import SAMPLE_RATE, Recording, Words
from affuse.media.transcript import decode_text
from affuse.people.turns import Turn
from affuse.people.windows import sliding_max
from affuse.timeline import Segment, Timeline

__all__ = ["channel_turns", "read_rttm", "transcript_turns", "write_rttm"]

# Cues of one speaker that follow each other within this are one turn (seconds).
_CUE_GAP = 1.0

_RTTM_FIELDS = "SPEAKER file channel start duration <NA> <NA> name"

_FRAME = VAD_FRAME / SAMPLE_RATE  # seconds
_BLOCK = 1000 * _FRAME  # seconds of sound that are held at once; the speech detector adapts to each

# What is this much (dB) softer than the other channel is the other one's voice, heard through this microphone.
_CROSSTALK = 10.0
_OWN_FRAMES = 5  # a voice's level is that of its loudest frame around: consonants are soft
_ECHO_FRAMES = 8  # 0.24 s for which the other's voice may come back, from a loudspeaker or the network
_MIN_ONE_SIDED = 0.5  # of the frames with speech; in music and in dual mono the channels are of one loudness
_PAUSE = 0.5  # seconds within a turn
_SHORTEST = 0.2  # seconds; what is shorter is a click or a cough


def transcript_turns(cues: Iterable[Words]) -> tuple[Turn, ...]:
    """Turns by the speakers that a transcript names.

    Neighbouring cues of one speaker are one turn where at most a second lies between them.

    Parameters
    ----------
    cues : iterable of Words
        The words in order of time, as `affuse.Recording.cues` holds them.

    Returns
    -------
    tuple of Turn
        In order of time; empty where no speaker is named.

    Examples
    --------
    >>> cues = [Words(Segment(0, 1), "Hello.", "Anna"), Words(Segment(1, 2), "It rains.", "Anna")]
    >>> transcript_turns(cues)
    (Turn(segment=Segment(start=0, end=2), speaker='Anna', probability=1.0),)
    """
    turns: list[Turn] = []
    last = None
    for cue in cues:
        if cue.speaker is not None:
            if cue.speaker == last and cue.segment.start - turns[-1].segment.end <= _CUE_GAP:
                before = turns.pop().segment
                turns.append(Turn(Segment(before.start, max(before.end, cue.segment.end)), cue.speaker))
            else:
                turns.append(Turn(cue.segment, cue.speaker))
        last = cue.speaker
    return tuple(turns)


def read_rttm(path: str | Path, recording_name: str | None = None) -> tuple[Turn, ...]:
    """Read the turns of an RTTM file (Rich Transcription Time Marked, as diarisation tools write it).

    Lines of type SPEAKER count: ``SPEAKER file channel start duration <NA> <NA> name [confidence] [<NA>]``. Other types
    and comments (``;;``) are skipped.

    Parameters
    ----------
    path : str or Path
        The file.
    recording_name : str, optional
        Which recording's turns to take, by the second field; needed where the file holds several.

    Returns
    -------
    tuple of Turn
        In order of time; a stated confidence is the probability.

    Raises
    ------
    TranscriptError
        If the file cannot be read or a line does not parse (with file and line), or if it holds several recordings
        and none is chosen, or not the chosen one.

    References
    ----------
    NIST (2009), The 2009 (RT-09) Rich Transcription Meeting Recognition Evaluation Plan, appendix A.

    Examples
    --------
    >>> _ = Path("call.rttm").write_text("SPEAKER call 1 0.50 1.25 <NA> <NA> Anna <NA> <NA>\\n")
    >>> read_rttm("call.rttm")
    (Turn(segment=Segment(start=0.5, end=1.75), speaker='Anna', probability=1.0),)
    """
    path = Path(path)
    try:
        text = decode_text(path, path.read_bytes())
    except OSError as error:
        raise TranscriptError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    by_recording: dict[str, list[Turn]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        fields = line.split()
        if fields and fields[0] == "SPEAKER":
            by_recording.setdefault(fields[1] if len(fields) > 1 else "", []).append(
                _turn(f"{path}, line {number}", fields)
            )
    return tuple(sorted(_chosen(path, by_recording, recording_name), key=lambda t: (t.segment, t.speaker)))


def _chosen(path: Path, by_recording: dict[str, list[Turn]], name: str | None) -> list[Turn]:
    if not by_recording:
        raise TranscriptError(f"{path} holds no turns: expected lines like {_RTTM_FIELDS}")
    if name is None and len(by_recording) == 1:
        return next(iter(by_recording.values()))
    found = None if name is None else by_recording.get(name, by_recording.get(PurePath(name).stem))
    if found is not None:
        return found
    known = ", ".join(sorted(by_recording))
    if name is None:
        raise TranscriptError(f"{path} holds turns of several recordings ({known}); say which one is meant")
    raise TranscriptError(f"{path} holds no turns of {name!r}, but of {known}")


def _turn(where: str, fields: list[str]) -> Turn:
    if len(fields) < 8:
        raise TranscriptError(f"{where}: expected {_RTTM_FIELDS}; got {len(fields)} fields")
    start = _seconds(where, "start", fields[3])
    duration = _seconds(where, "duration", fields[4])
    if duration == 0:
        raise TranscriptError(f"{where}: the turn lasts 0 seconds")
    return Turn(Segment(start, start + duration), fields[7], _confidence(where, fields[8:9]))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _seconds(where: str, name: str, text: str) -> float:
    value = _number(text)
    if not (math.isfinite(value) and value >= 0):
        raise TranscriptError(f"{where}: expected the {name} in seconds, a number from 0; got '{text[:60]}'")
    return value


def _confidence(where: str, fields: list[str]) -> float:
    if not fields or fields[0].upper() in ("<NA>", "NA"):
        return 1.0
    value = _number(fields[0])
    if not 0 <= value <= 1:
        raise TranscriptError(f"{where}: expected a confidence within 0 and 1, or <NA>; got '{fields[0][:60]}'")
    return value


def write_rttm(turns: Iterable[Turn], path: str | Path, recording_name: str) -> None:
    """Write turns as an RTTM file, which tools that score or show diarisation read.

    Parameters
    ----------
    turns : iterable of Turn
        What to write; times are rounded to a millisecond, and blanks within names become "_".
    path : str or Path
        Where.
    recording_name : str
        The second field of each line.

    Raises
    ------
    OutputError
        If the file cannot be written.

    Examples
    --------
    >>> write_rttm([Turn(Segment(0.5, 1.75), "person 1", 0.9)], "call.rttm", "call")
    >>> print(Path("call.rttm").read_text().strip())
    SPEAKER call 1 0.500 1.250 <NA> <NA> person_1 0.900 <NA>
    """
    name = _one_field(recording_name)
    lines = [
        f"SPEAKER {name} 1 {t.segment.start:.3f} {max(t.segment.duration, 0.001):.3f} <NA> <NA> "
        f"{_one_field(t.speaker)} {'<NA>' if t.probability == 1 else f'{t.probability:.3f}'} <NA>\n"
        for t in turns
    ]
    write_text(Path(path), "".join(lines))


def _one_field(name: str) -> str:
    return "_".join(name.split()) or "<NA>"


def channel_turns(recording: Recording) -> tuple[Turn, ...]:
    """Turns by the channels of a call: who is on "channel 1", and who on "channel 2".

    A channel speaks where speech is detected in it, unless it is more than 10 dB softer than the other one at that
    moment, which is crosstalk. The sound is decoded as a stream.

    Parameters
    ----------
    recording : Recording
        An open recording.

    Returns
    -------
    tuple of Turn
        In order of time; both may speak at once. Empty where the channels do not tell who speaks: there are not two,
        only one ever speaks, or they are alike (dual mono, music, one stereo microphone).

    Examples
    --------
    >>> channel_turns(Recording.from_text("Hello."))
    ()
    """
    if recording.channels != 2:
        return ()
    spoken, loudness = _frames(recording)
    active = _active(spoken, loudness)
    if not _tell(active):
        return ()
    turns = [
        Turn(Segment(recording.sound_start + first * _FRAME, recording.sound_start + end * _FRAME), f"channel {c + 1}")
        for c in (0, 1)
        for first, end in _stretches(active[:, c], active[:, 1 - c])
    ]
    return tuple(sorted(turns, key=lambda t: (t.segment, t.speaker)))


def _frames(recording: Recording) -> tuple[np.ndarray, np.ndarray]:
    """Whether there is speech, and how loud it is (dB), in every frame and channel: two arrays (n, 2)."""
    starts = np.arange(recording.sound_start, recording.duration, _BLOCK).tolist()
    blocks = Timeline(tuple(Segment(t, t + _BLOCK) for t in starts))
    spoken, loudness = [np.zeros((0, 2), dtype=bool)], [np.zeros((0, 2), dtype=np.float32)]
    for both in recording.channel_sounds(blocks):
        spoken.append(np.stack([speech_frames(samples) for samples in both], axis=1))
        loudness.append(np.stack([_loudness(samples) for samples in both], axis=1))
    return np.concatenate(spoken), np.concatenate(loudness)


def _loudness(samples: np.ndarray) -> np.ndarray:
    n = len(samples) // VAD_FRAME
    power = np.mean(samples[: n * VAD_FRAME].reshape(n, VAD_FRAME).astype(float) ** 2, axis=1)
    return np.asarray(10 * np.log10(power + 1e-12), dtype=np.float32)


def _active(spoken: np.ndarray, loudness: np.ndarray) -> np.ndarray:
    """In which frames each channel speaks itself, (n, 2), from speech and loudness (dB) of its frames, (n, 2)."""

    if len(spoken) == 0:
        return spoken
    own = sliding_max(loudness, _OWN_FRAMES // 2, _OWN_FRAMES // 2)
    # The window of the other channel reaches back, because an echo comes late.
    other = sliding_max(own[:, ::-1], _ECHO_FRAMES, 0)
    return np.asarray(spoken & (own >= other - _CROSSTALK))


def _tell(active: np.ndarray) -> bool:
    """Whether channels tell speakers apart: each speaks alone for a while, and mostly one at a time."""
    alone = active & ~active[:, ::-1]
    enough = alone.sum(axis=0) * _FRAME >= MIN_SPEECH
    return bool(enough.all() and alone.sum() >= _MIN_ONE_SIDED * active.any(axis=1).sum())


def _stretches(active: np.ndarray, other: np.ndarray) -> list[tuple[int, int]]:
    """First frame and end of each turn; short pauses, in which nobody else speaks, are part of it."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
    merged: list[tuple[int, int]] = []
    for first, end in edges.reshape(-1, 2).tolist():
        pause = slice(merged[-1][1], first) if merged else None
        if pause is not None and (pause.stop - pause.start) * _FRAME <= _PAUSE and not other[pause].any():
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((first, end))
    return [(first, end) for first, end in merged if (end - first) * _FRAME >= _SHORTEST]
