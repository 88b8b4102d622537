"""Limits hold before the work: small files that ask for hours or gigabytes are refused in seconds, in little memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import wave
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from affuse import Analyzer
from affuse.budget import budget_in_use
from affuse.cli.options import with_limits
from affuse.errors import ConfigError, MediaError, TranscriptError
from affuse.media import Budget, Recording, read_transcript
from affuse.media.containers import AUDIO_DECODERS, CONTAINERS, VIDEO_DECODERS, open_container
from affuse.media.pictures import read_picture
from affuse.media.transcript import utterances
from affuse.testing import FakeExpert
from fuzz import makers
from fuzz.harness import Reader

SECONDS = 60.0  # a loaded machine starts Python slowly; the files would take hours
MEGABYTES = 500


def srt(path: Path, seconds: int) -> Path:
    path.write_text(f"1\n00:00:00,000 --> {makers.srt_time(seconds)}\nHello there.\n")
    return path


def stored(name: str, data: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return write


HUGE = makers.png(16_000, 16_000, 1)
DIGITS = "9" * 400
HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a script that makes hours of sound": (
        stored("script.mp4", b"-SE\noff: -\nhum: pink/30 180+5/30\nNOW hum\n+90:00:00 off\n"),
        "no recording in a format that is read here",
    ),
    "frames that last for years": (lambda folder: makers.avi(folder / "clip.avi", 2**31 - 1), "--max-duration"),
    "a picture of 177 million pixels": (stored("large.png", makers.png(13_300, 13_300, 4)), "13300 x 13300 pixels"),
    "a frame of 256 million pixels": (stored("large.mkv", makers.mkv([HUGE], 16_000, 16_000)), "--max-pixels"),
    "a frame that is larger than stated": (stored("lie.mkv", makers.mkv([HUGE], 64, 64)), "--max-pixels"),
    "an index of a billion samples": (stored("index.mov", makers.mp4(1_000_000_000)), "1,000,000,000 packets"),
    "an edit list that repeats the index": (stored("edits.mov", makers.mp4(20_000, edits=20_000)), "--max-packets"),
    "a fragment of a billion samples": (stored("part.mov", makers.mp4(0, fragment=1_000_000_000)), "--max-packets"),
    "sound of one sample a second": (stored("slow.wav", makers.wav(bytes(80_000), 1)), "1 samples a second"),
    "a cue that ends after days": (
        lambda folder: srt(folder / "days.srt", 100_000),
        "line 2: the cue ends at 100,000 s",
    ),
    "a cue that ends after ages": (
        stored("ages.json", b'[{"start": 0, "end": 1e308, "text": "x"}]'),
        r"item 0: the cue ends at 1e\+308 s",
    ),
    "numbers of 400 digits": (
        stored("digits.json", f'[{{"start": {DIGITS}, "end": {DIGITS}, "text": "x"}}]'.encode()),
        "item 0: expected start in seconds",
    ),
    "numbers of 5,000 digits": (stored("long.json", b"[" + b"9" * 5000 + b"]"), "too long to be read"),
    "hours of 400 digits": (
        stored("digits.srt", f"1\n00:00:00,000 --> {DIGITS}:00:00,000\nx\n".encode()),
        "line 2: expected a time like",
    ),
    "a line of dots": (stored("dots.txt", b"Well" + b"." * 300_000 + b"x"), ""),
    "a line of spaces": (stored("spaces.txt", b"a" + b" " * 300_000 + b"x"), ""),
    "a voice without an end": (stored("voice.vtt", b"WEBVTT\n\n00:00.000 --> 00:01.000\n<v" + b" " * 300_000), ""),
    "a wrapped line without an end": (stored("wrapped.txt", b"ab\n" * 200_000), ""),
    "a cue of a million lines": (
        stored("lines.srt", b"1\n00:00:00,000 --> 00:00:01,000\nx\n" + b"\nx" * 400_000),
        "",
    ),
}


@pytest.fixture(scope="module")
def reader():
    with Reader(SECONDS) as found:
        yield found


@pytest.mark.parametrize("name", HOSTILE)
def test_what_asks_for_hours_or_gigabytes_ends_at_once(reader: Reader, tmp_path: Path, name: str) -> None:
    make, sentence = HOSTILE[name]
    answer = reader.read(make(tmp_path))
    assert not answer.trouble
    assert answer.outcome == ("refused" if sentence else "read"), answer.sentence
    assert re.search(sentence, answer.sentence)
    assert answer.megabytes < MEGABYTES


def test_frames_that_grow_are_left_out(tmp_path: Path, reader: Reader) -> None:
    path = stored("grows.mkv", makers.mkv([makers.png(64, 64)] * 2 + [HUGE] * 2, 64, 64))(tmp_path)
    answer = reader.read(path)
    assert (answer.outcome, answer.trouble) == ("read", "")
    assert answer.megabytes < MEGABYTES
    recording = Recording.open(path)
    assert len(list(recording.frames(np.arange(0, recording.duration, 0.04)))) == 2
    assert "2 damaged pieces of the video" in recording.notes[0]


def test_the_command_says_one_sentence_and_ends_with_2(tmp_path: Path) -> None:
    path = HOSTILE["a script that makes hours of sound"][0](tmp_path)
    ended = subprocess.run(
        [sys.executable, "-m", "affuse.cli", "analyze", path.name, "--experts", "voice"],
        capture_output=True, text=True, cwd=tmp_path, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("affuse: script.mp4 is no recording in a format that is read here")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif("AFFUSE_HOSTILE" not in os.environ, reason="AFFUSE_HOSTILE does not name a folder of hostile files")
def test_a_folder_of_hostile_files(reader: Reader) -> None:
    files = [p for p in sorted(Path(os.environ["AFFUSE_HOSTILE"]).iterdir()) if p.suffix not in (".md", ".csv")]
    answers = {path.name: reader.read(path) for path in files}
    assert {name: a.trouble for name, a in answers.items() if a.trouble or a.outcome != "refused"} == {}


# Windows


def windows(path: Path, **lengths: float) -> None:
    Analyzer({"text": FakeExpert("text", {"happiness": 0.8})}, **lengths).analyze(path)


def test_windows_and_their_length_are_bounded(tmp_path: Path) -> None:
    path = srt(tmp_path / "talk.srt", 7200)
    with pytest.raises(ConfigError, match=r"talk\.srt: 72,000 windows of 0\.1 s, .* a longer --hop: .*--max-windows"):
        windows(path, window=0.1, hop=0.1)
    with pytest.raises(ConfigError, match=r"36,001 windows of 3600 s, .* 129,603,600 s together.*--max-window-seconds"):
        windows(path, window=3600.0, hop=0.1)


def test_windows_times_speakers_are_bounded(tmp_path: Path) -> None:
    cues = (f"{i}\n{makers.srt_time(i)} --> {makers.srt_time(i + 1)}\nSpeaker {i}: Hello.\n" for i in range(1000))
    (tmp_path / "crowd.srt").write_text("\n".join(cues))
    with pytest.raises(ConfigError, match=r"998 windows .* too many for 1,000 speakers.*--max-answers"):
        windows(tmp_path / "crowd.srt")


def test_the_limits_are_exact() -> None:
    budget = Budget(max_windows=8, max_window_seconds=24.0, max_answers=16)
    budget.check_windows("x", 10.0, 3.0, 1.0, 2)  # 8 windows of 3 s: 0-3, 1-4, ..., 7-10
    with pytest.raises(ConfigError, match="9 windows"):
        budget.check_windows("x", 11.0, 3.0, 1.0)
    with pytest.raises(ConfigError, match="30 s together"):
        budget.check_windows("x", 10.0, 5.0, 1.0)  # 6 windows of 5 s
    with pytest.raises(ConfigError, match="3 speakers"):
        budget.check_windows("x", 10.0, 3.0, 1.0, 3)


# Raising and lowering


def test_every_limit_has_an_option_of_its_name() -> None:
    given = {limit.name: 7 for limit in fields(Budget)}
    seen: list[Budget] = []

    def command(*, budget: Budget) -> None:
        seen.extend((budget, budget_in_use()))

    limited = with_limits(command)
    limited(**given)
    limited(**dict.fromkeys(given))
    assert seen == [Budget(**given)] * 2 + [Budget()] * 2
    help_ = subprocess.run(
        [sys.executable, "-m", "affuse.cli", "analyze", "--help"],
        capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "200"},
    ).stdout  # fmt: skip
    for limit in fields(Budget):
        assert f"--{limit.name.replace('_', '-')}" in help_
        assert f"({limit.default:g})" in help_ or f"({limit.default:.0f})" in help_


@pytest.mark.parametrize("limit", [limit.name for limit in fields(Budget)])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_limit_must_be_above_0(limit: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{limit} must be more than 0"):
        Budget(**{limit: value})


def test_limits_are_exact_for_recordings(tmp_path: Path) -> None:
    films = makers.seeds(tmp_path)
    assert "clip.avi" in films
    length = Recording.open(tmp_path / "clip.avi").duration
    assert Recording.open(tmp_path / "clip.avi", budget=Budget(max_duration=length + 0.01)).duration == length
    for limit, value, words in (
        ("max_duration", length - 0.04, rf"lasts {length:.1f} s or more"),
        ("max_frames", 7, "more frames than are read"),
        ("max_packets", 5, "more packets than are read"),
    ):
        with pytest.raises(MediaError, match=words) as refused:
            Recording.open(tmp_path / "clip.avi", budget=Budget(**{limit: value}))
        assert f"--{limit.replace('_', '-')}" in str(refused.value)
    with pytest.raises(MediaError, match=r"clip\.avi has frames of 64 x 48 pixels; the limit is 3,071 pixels"):
        Recording.open(tmp_path / "clip.avi", budget=Budget(max_pixels=64 * 48 - 1))
    exact = Budget(max_frames=8, max_pixels=64 * 48, max_packets=100)
    assert len(list(Recording.open(tmp_path / "clip.avi", budget=exact).frames([0.0, 0.2]))) == 2


def test_limits_are_exact_for_pictures(tmp_path: Path) -> None:
    path = stored("small.png", makers.png(30, 20))(tmp_path)
    assert read_picture(path, budget=Budget(max_pixels=600)).shape == (20, 30, 3)
    with pytest.raises(MediaError, match=r"small\.png has 30 x 20 pixels; the limit is 599 pixels"):
        Recording.open(path, budget=Budget(max_pixels=599))


def test_limits_are_exact_for_transcripts(tmp_path: Path) -> None:
    path = srt(tmp_path / "talk.srt", 100)
    size = path.stat().st_size
    assert len(read_transcript(path, budget=Budget(max_duration=100, max_cues=1, max_text=size))) == 1
    with pytest.raises(TranscriptError, match=r"line 2: the cue ends at 100 s; the limit is 99 s"):
        read_transcript(path, budget=Budget(max_duration=99))
    with pytest.raises(TranscriptError, match=rf"talk\.srt has {size} bytes; the limit is {size - 1} bytes"):
        read_transcript(path, budget=Budget(max_text=size - 1))
    path.write_text(path.read_text() * 2 + "\n")
    (tmp_path / "three.txt").write_text("One. Two. Three.")
    (tmp_path / "two.json").write_text(json.dumps([{"start": 0, "end": 1, "text": "a"}] * 2))
    (tmp_path / "two.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:01.000\na\n\n00:01.000 --> 00:02.000\nb\n")
    for name, count in (("three.txt", 3), ("two.json", 2), ("two.vtt", 2)):
        assert len(read_transcript(tmp_path / name, budget=Budget(max_cues=count))) == count
        with pytest.raises(TranscriptError, match=rf"{name}.*--max-cues"):
            read_transcript(tmp_path / name, budget=Budget(max_cues=count - 1))


def test_words_of_many_speakers_take_no_longer_than_their_number() -> None:
    words = [{"word": f"w{i}", "start": i, "end": i + 1, "speaker": f"s{i}"} for i in range(20_000)]
    found = list(utterances(_read(words)))
    assert len(found) == 20_000
    assert [w.speaker for w in found[:2]] == ["s0", "s1"]


def _read(words: list[dict[str, object]]) -> list:
    from affuse.media.transcript import _word

    return [_word("here", word, None, None, Budget()) for word in words]


# What must go on working


def test_long_recordings_open(tmp_path: Path) -> None:
    path = tmp_path / "day.wav"
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(1)
        out.setframerate(8000)
        for _ in range(8):
            out.writeframes(bytes([128]) * (3600 * 8000))
    assert Recording.open(path).duration == pytest.approx(8 * 3600)
    Budget().check_windows("day", 8 * 3600.0, 3.0, 1.0)


@pytest.mark.parametrize("size", [(3840, 2160), (7680, 4320)])
def test_video_of_telephones_opens(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4" if size[0] < 8000 and "mjpeg" not in av.codecs_available else "mjpeg", rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p"
        stream.codec_context.thread_count = 1
        frame = av.VideoFrame.from_ndarray(np.zeros((size[1] * 3 // 2, size[0]), np.uint8), format="yuvj420p")
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    (shown,) = Recording.open(path).frames([0.0], max_side=640)
    assert shown.image.shape == (360, 640, 3)


def test_a_picture_of_fifty_million_pixels_is_read_in_little_memory(tmp_path: Path, reader: Reader) -> None:
    path = stored("phone.png", makers.png(8160, 6120, 4))(tmp_path)
    answer = reader.read(path)
    assert (answer.outcome, answer.trouble) == ("read", "")


def test_a_photograph_with_a_film_at_its_end_has_few_scans(tmp_path: Path) -> None:
    path = tmp_path / "motion.jpg"
    Image.new("RGB", (64, 48)).save(path, progressive=True)
    path.write_bytes(path.read_bytes() + b"\xff\xda\x00\x00" * 1000)
    assert read_picture(path).shape == (48, 64, 3)


def test_a_jpeg_of_many_scans_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scans.jpg"
    Image.new("L", (64, 48)).save(path)
    data = path.read_bytes()
    scan = data[data.index(b"\xff\xda") : data.rindex(b"\xff\xd9")]
    path.write_bytes(data[: data.index(b"\xff\xda")] + scan * 50 + b"\xff\xd9")
    with pytest.raises(MediaError, match=r"scans\.jpg is a JPEG of 50 scans; 30 are the most"):
        list(Recording.open(path).frames([0.0]))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(MediaError, match=r"pipe\.mp4 is not a file"):
        Recording.open(tmp_path / "pipe.mp4")


# The door


def test_the_formats_and_decoders_exist() -> None:
    known = av.formats_available | {part for name in av.formats_available for part in name.split(",")}
    assert {part for name in CONTAINERS for part in name.split(",")} <= known
    assert {"h264", "hevc", "vp9", "mpeg4", "mjpeg"} <= VIDEO_DECODERS & av.codecs_available
    assert {"aac", "flac", "opus", "pcm_s16le", "mp3float"} <= AUDIO_DECODERS & av.codecs_available
    assert not {"sbg", "lavfi", "concat", "hls", "image2", "tty", "ffmetadata"} & set(CONTAINERS)


def test_decoders_that_are_not_taken_are_named(tmp_path: Path) -> None:
    path = stored("odd.mkv", makers.mkv([bytes(64 * 64 * 4)], 64, 64, b"ZMBV"))(tmp_path)
    with pytest.raises(
        MediaError, match=r"odd\.mkv holds nothing .*its video codec \(zmbv\) is none that is read here"
    ):
        Recording.open(path)


def test_nothing_else_opens_media() -> None:
    """Every opening for reading goes through the one door."""
    package = Path(sys.modules["affuse"].__file__ or "").parent
    doors = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"\b(av\.open|Image\.open|cv2\.imread|VideoCapture|imageio|soundfile)\b", path.read_text("utf-8"))
    }
    # Sound of the program's own making is written, and read back, in memory; synthetic clips, and copies for the
    # report, are written.
    own = {"media/blurring.py", "report/proxy.py", "training/augment/sound.py", "testing/synthetic.py"}
    assert doors == {"media/containers.py", "media/pictures.py", *own}


def test_a_decoder_is_told_the_most_pixels(tmp_path: Path) -> None:
    path = stored("lie.mkv", makers.mkv([makers.png(64, 48), makers.png(1000, 1000)], 64, 48))(tmp_path)
    with open_container(path, Budget(max_pixels=100)) as container:
        (stream,) = container.streams.video
        first, second, _ = container.demux(stream)
        assert [(f.width, f.height) for f in first.decode()] == [(64, 48)]  # within the margin for whole blocks
        with pytest.raises(av.error.FFmpegError):
            second.decode()
    small = Budget(max_pixels=64 * 48)
    recording = Recording.open(path, budget=small)
    assert [f.image.shape for f in recording.frames([0.0, 0.04])] == [(48, 64, 3)]
    path.write_bytes(makers.mkv([makers.png(64, 48), makers.png(64, 49)], 64, 48))  # found after decoding
    recording = Recording.open(path, budget=small)
    assert [f.image.shape for f in recording.frames([0.0, 0.04])] == [(48, 64, 3)]
    assert "a damaged piece of the video" in recording.notes[0]
