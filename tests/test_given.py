"""Turns that are given: labels of a transcript, RTTM files and the two channels of a call."""

from __future__ import annotations

import tracemalloc
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from affuse.errors import OutputError, TranscriptError
from affuse.media import SAMPLE_RATE, Excerpt, Recording, Words
from affuse.people import Turn, channel_turns, read_rttm, transcript_turns, write_rttm
from affuse.testing import synthetic
from affuse.timeline import Segment


def words(start: float, end: float, speaker: str | None) -> Words:
    return Words(Segment(start, end), "Hm.", speaker)


def test_cues_of_one_speaker_are_one_turn() -> None:
    cues = [
        words(0, 2, "Ann"),
        words(2, 3, "Ann"),
        words(2.5, 2.8, "Ann"),  # a cue within another one must not shorten the turn
        words(4, 5, "Ann"),
        words(4.5, 6, "Ben"),
        words(6, 7, "Ann"),
        words(8.5, 9, "Ann"),
        words(9, 10, None),
        words(10, 11, "Ann"),
    ]
    spans = [(t.segment.start, t.segment.end, t.speaker, t.probability) for t in transcript_turns(cues)]
    assert spans == [
        (0, 5, "Ann", 1.0),
        (4.5, 6, "Ben", 1.0),
        (6, 7, "Ann", 1.0),
        (8.5, 9, "Ann", 1.0),
        (10, 11, "Ann", 1.0),
    ]
    assert transcript_turns([words(0, 1, None)]) == ()


RTTM = """;; made by hand
SPKR-INFO call 1 <NA> <NA> <NA> unknown Ann <NA>

SPEAKER call 1 3.50 1.25 <NA> <NA> Ben 0.75 <NA>
SPEAKER call 1 0 2 <NA> <NA> Ann <NA> <NA>
SPEAKER call 2 3.25 0.5 <NA> <NA> Ann
"""
TURNS = (
    Turn(Segment(0, 2), "Ann"),
    Turn(Segment(3.25, 3.75), "Ann"),
    Turn(Segment(3.5, 4.75), "Ben", 0.75),
)


def test_rttm_is_read(tmp_path: Path) -> None:
    path = tmp_path / "call.rttm"
    path.write_text(RTTM.replace("\n", "\r\n"))
    assert read_rttm(path) == TURNS
    path.write_text(RTTM + "SPEAKER other 1 0 1 <NA> <NA> Cid <NA>\n")
    assert read_rttm(path, "call") == TURNS
    assert read_rttm(path, "other") == (Turn(Segment(0, 1), "Cid"),)
    with pytest.raises(TranscriptError, match=r"call\.rttm holds turns of several recordings \(call, other\)"):
        read_rttm(path)
    with pytest.raises(TranscriptError, match=r"call\.rttm holds no turns of 'third', but of call, other"):
        read_rttm(path, "third")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("SPEAKER call 1 0 2 <NA> <NA>", r"expected SPEAKER file channel .* name; got 7 fields"),
        ("SPEAKER", r"got 1 fields"),
        ("SPEAKER call 1 soon 2 <NA> <NA> Ann", r"expected the start in seconds, a number from 0; got 'soon'"),
        ("SPEAKER call 1 0 -2 <NA> <NA> Ann", r"expected the duration in seconds, a number from 0; got '-2'"),
        ("SPEAKER call 1 0 inf <NA> <NA> Ann", r"expected the duration"),
        ("SPEAKER call 1 1 0 <NA> <NA> Ann", r"the turn lasts 0 seconds"),
        ("SPEAKER call 1 0 1 <NA> <NA> Ann 1.5 <NA>", r"expected a confidence within 0 and 1, or <NA>; got '1\.5'"),
    ],
)
def test_mistakes_in_rttm_name_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "call.rttm"
    path.write_text(f";; a comment\n\n{line}\n")
    with pytest.raises(TranscriptError, match=rf"call\.rttm, line 3: .*{message}"):
        read_rttm(path)


def test_files_without_turns_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.rttm").write_text("hello\n")
    with pytest.raises(TranscriptError, match=r"empty\.rttm holds no turns: expected lines like SPEAKER file"):
        read_rttm(tmp_path / "empty.rttm")
    with pytest.raises(TranscriptError, match=r"absent\.rttm cannot be read: no such file"):
        read_rttm(tmp_path / "absent.rttm")


def test_rttm_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "call.rttm"
    write_rttm(TURNS, path, "my call")
    assert path.read_text().splitlines()[2] == "SPEAKER my_call 1 3.500 1.250 <NA> <NA> Ben 0.750 <NA>"
    assert read_rttm(path, "my_call") == TURNS
    write_rttm([Turn(Segment(1, 2), "person 1")], path, "call")
    assert read_rttm(path) == (Turn(Segment(1, 2), "person_1"),)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_rttm(TURNS, tmp_path / "file" / "call.rttm", "call")


# --- the channels of a call ---

_SPOKEN = ((1.0, 0), (4.5, 1), (8.0, 0), (10.5, 1), (33.0, 1), (36.5, 0))  # start and channel; each lasts 3 s
_SECONDS = 41


def write(path: Path, channels: np.ndarray) -> Recording:
    with wave.open(str(path), "wb") as out:
        out.setnchannels(channels.shape[1])
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE)
        out.writeframes(np.round(np.clip(channels, -1, 1) * 32767).astype("<i2").tobytes())
    return Recording.open(path)


def call(second: float = 1.0) -> np.ndarray:
    """Two voices, each on a channel of its own; the second one is softer by a factor."""
    voices = synthetic.speech(3.0, 120), second * synthetic.speech(3.0, 200)
    channels = np.zeros((_SECONDS * SAMPLE_RATE, 2))
    for start, channel in _SPOKEN:
        at = round(start * SAMPLE_RATE)
        channels[at : at + len(voices[channel]), channel] += voices[channel]
    return channels


def with_crosstalk(channels: np.ndarray, decibels: float, delay: float) -> np.ndarray:
    other = np.roll(channels[:, ::-1], round(delay * SAMPLE_RATE), axis=0)
    noise = np.random.default_rng(0).standard_normal(channels.shape)
    return channels + 10 ** (decibels / 20) * other + 1e-3 * noise


@pytest.mark.parametrize(("decibels", "delay", "second"), [(-90, 0, 1), (-20, 0.05, 1), (-14, 0, 1), (-20, 0.15, 0.3)])
def test_channels_of_a_call(tmp_path: Path, decibels: float, delay: float, second: float) -> None:
    turns = channel_turns(write(tmp_path / "call.wav", with_crosstalk(call(second), decibels, delay)))
    assert {t.speaker for t in turns} == {"channel 1", "channel 2"}
    heard = np.zeros((_SECONDS * 100, 2), dtype=bool)
    for turn in turns:
        heard[round(turn.segment.start * 100) : round(turn.segment.end * 100), int(turn.speaker[-1]) - 1] = True
    said = np.zeros_like(heard)
    for start, channel in _SPOKEN:
        stretch = slice(round(start * 100), round(start * 100) + 300)
        said[stretch, channel] = True
        assert heard[stretch, channel].mean() > 0.8
    assert (heard & ~said).sum() <= 0.05 * said.sum()


def test_both_may_speak_at_once(tmp_path: Path) -> None:
    channels = call()
    at = round(9.5 * SAMPLE_RATE)  # from 9.5 s to 11 s both speak
    channels[at : at + SAMPLE_RATE, 1] = synthetic.speech(1.0, 200)
    turns = channel_turns(write(tmp_path / "call.wav", with_crosstalk(channels, -20, 0.0)))
    at_ten = sorted(t.speaker for t in turns if 10.0 in t.segment)
    assert at_ten == ["channel 1", "channel 2"]


def test_times_are_those_of_the_recording(tmp_path: Path) -> None:
    recording = write(tmp_path / "call.wav", with_crosstalk(call(), -30, 0.0))
    first, second = (turn.segment for turn in channel_turns(recording)[:2])
    assert (first.start, first.end) == (pytest.approx(1.0, abs=0.15), pytest.approx(4.0, abs=0.25))
    late = Recording("late", recording.path, "audio", replace(recording._parts, origin=-1.5, sound_start=1.5))
    assert channel_turns(late)[0].segment == Segment(first.start + 1.5, first.end + 1.5)
    moved = channel_turns(Excerpt(recording, 4.2, 20.0))[0].segment
    assert moved.start == pytest.approx(second.start - 4.2, abs=0.1)
    assert moved.end == pytest.approx(second.end - 4.2, abs=0.1)


def test_channels_that_do_not_tell(tmp_path: Path) -> None:
    mixed = call().sum(axis=1)
    noise = np.random.default_rng(1).standard_normal((len(mixed), 2))
    nobody = {
        "mono": mixed[:, None],
        "dual mono": np.stack([mixed, mixed], 1),
        "one stereo microphone": np.stack([mixed, 0.6 * mixed], 1) + 1e-3 * noise,
        "one channel alone": np.stack([mixed, np.zeros_like(mixed)], 1),
        "nobody": 1e-3 * noise,
        "three": np.stack([mixed, mixed, mixed], 1),
        "chords": _chords(len(mixed)),
    }
    for name, channels in nobody.items():
        assert channel_turns(write(tmp_path / "a.wav", channels)) == (), name


def _chords(n: int) -> np.ndarray:
    """Music of two channels: held chords that change every second, panned a little to either side."""
    time = np.arange(n) / SAMPLE_RATE
    rng = np.random.default_rng(2)
    music = np.zeros((n, 2))
    for start in range(0, n, SAMPLE_RATE):
        stretch = slice(start, start + SAMPLE_RATE)
        for hertz in rng.choice([220, 262, 330, 392, 440, 523], 3, replace=False):
            tone = 0.1 * np.sin(2 * np.pi * hertz * time[stretch])[:, None]
            music[stretch] += tone * rng.uniform(0.5, 1.0, 2)
    return music


def test_a_long_call_is_heard_as_a_stream(tmp_path: Path) -> None:
    recording = write(tmp_path / "long.wav", np.tile(call(), (8, 1)))  # 5 minutes: 42 MB as float32
    tracemalloc.start()
    turns = channel_turns(recording)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(turns) >= 48
    assert peak < 25e6
