"""Live streams: the same answers as an analysis of the same seconds, and no client that harms another."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import struct
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import av
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the service is the extra 'serve'")
pytest.importorskip("websockets", reason="the service is the extra 'serve'")
import psutil
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from affuse import Analyzer
from affuse.analyzer import load_experts
from affuse.errors import AssetError, DataError, MediaError
from affuse.experts import ExpertOutput
from affuse.experts.face import Detections, FaceExpert, FaceWatch
from affuse.experts.face.crop import YUNET_FRAMING
from affuse.experts.face.expert import MAX_SIDE, sample_times
from affuse.experts.transcribe import Transcriber, _Weights
from affuse.labels import EKMAN, VOICE, merge_emotions
from affuse.media import SAMPLE_RATE, Frame, Recording, Words
from affuse.media.pictures import decode_picture
from affuse.people.mouths import FacePath, cut_mouth
from affuse.people.speaking import OFF_SCREEN, Speakers, who_speaks
from affuse.people.streaming import SpeakerWatch
from affuse.people.synchrony import WIDTH, SynchronyNetworks
from affuse.service import live
from affuse.service.app import create_app
from affuse.service.security import SUBPROTOCOL
from affuse.service.settings import Settings
from affuse.service.stream import TOO_SLOW, Answer, LiveExperts, Moment, Picture, Sound, Stream, _Speech
from affuse.testing import synthetic
from affuse.timeline import Segment, Timeline
from serving import LocalService, Server

CLIP = Path(__file__).parent.parent / "demo" / "clip.mp4"
PICTURE, SOUND = 1, 2
START = {"type": "start", "language": None, "step": 0.5, "window": 3}


def encoded(image: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind)
    return stream.getvalue()


def binary(kind: int, seconds: float, payload: bytes) -> bytes:
    return struct.pack("<Bd", kind, seconds) + payload


# --- sound ------------------------------------------------------------------------------------------------------------


def chunk(first: int, n: int) -> np.ndarray:
    """``n`` samples whose values tell where they belong: 1, 2, …, from ``first`` on."""
    return np.arange(first, first + n, dtype=np.float32)


def heard(sound: Sound, start: int, end: int) -> list[float]:
    return list(sound.take(Segment(start / SAMPLE_RATE, end / SAMPLE_RATE)))


def test_chunks_become_one_stretch_of_sound() -> None:
    sound = Sound(1.0)
    sound.add(0.0, chunk(0, 1600))
    sound.add(0.1, chunk(1600, 1600))
    assert heard(sound, 0, 3200) == list(range(3200))
    assert heard(sound, 1500, 1700) == list(range(1500, 1700))
    assert heard(sound, -16000, 48000) == list(range(3200))  # shorter where there is no sound


def test_a_clock_that_trembles_makes_no_gaps_and_one_that_leaps_does() -> None:
    sound = Sound(1.0)
    sound.add(0.0, chunk(1, 1600))
    sound.add(0.13, chunk(1601, 1600))  # 30 ms late: still the next
    assert heard(sound, 0, 16000) == list(range(1, 3201))
    sound.add(0.3, chunk(4801, 1600))  # 100 ms late: a gap
    assert heard(sound, 0, 16000) == [*range(1, 3201), *[0.0] * 1600, *range(4801, 6401)]


def test_sound_that_comes_twice_counts_as_it_came_last() -> None:
    sound = Sound(1.0)
    sound.add(0.0, chunk(0, 8000))
    sound.add(0.2, np.full(1600, -1.0, dtype=np.float32))
    assert heard(sound, 0, 16000) == [*range(3200), *[-1.0] * 1600, *range(4800, 8000)]


def test_sound_after_a_gap_as_long_as_the_window_begins_anew() -> None:
    sound = Sound(1.0)
    sound.add(0.0, chunk(0, 1600))
    sound.add(5.0, chunk(7, 1600))
    assert heard(sound, 4 * SAMPLE_RATE, 6 * SAMPLE_RATE) == list(range(7, 1607))


@pytest.mark.parametrize("seed", range(5))
def test_sound_is_what_was_written_to_each_position_last(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sound, written, end, begin = Sound(1.0), dict[int, float](), 0, 0
    for turn in range(60):
        n = int(rng.integers(1, 9000))
        # Further than the tolerated trembling from the end, in the past and in the future, but no whole window away.
        distance = int(rng.choice([rng.integers(-20_000, -801), rng.integers(801, 15_999)]))
        start = end + distance if turn else 0
        samples = rng.standard_normal(n).astype(np.float32)
        sound.add(start / SAMPLE_RATE, samples)
        end = max(end, start + n)
        written |= {p: float(v) for p, v in enumerate(samples, start) if p >= end - SAMPLE_RATE}
        begin = max(end - SAMPLE_RATE, min(begin, start) if start + n > end - SAMPLE_RATE else begin)
        expected = [written.get(p, 0.0) for p in range(begin, end)]
        assert heard(sound, end - SAMPLE_RATE, end) == expected
        written = {p: v for p, v in written.items() if p >= end - SAMPLE_RATE}


# --- pictures ---------------------------------------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    """A PNG that says how large it is and holds nothing else."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    parts = (struct.pack(">I", len(p) - 4) + p + struct.pack(">I", zlib.crc32(p)) for p in (header, data))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def many_scans(image: np.ndarray, repeats: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", progressive=True)
    whole = stream.getvalue()
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * repeats + whole[-2:]


def test_pictures_are_decoded_upright_and_reduced() -> None:
    image = np.zeros((40, 80, 3), dtype=np.uint8)
    image[:, :20] = 255
    np.testing.assert_array_equal(decode_picture(encoded(image), 80, 4000), image)
    assert decode_picture(encoded(image, "WEBP"), 40, 4000).shape == (20, 40, 3)
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(image).save(stream, "JPEG", exif=exif)
    assert decode_picture(stream.getvalue(), 80, 4000).shape == (80, 40, 3)


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        (png_header(3000, 2000), "a picture of 3000 x 2000 pixels; 4,000,000 are the most"),
        (png_header(60000, 60000), "a picture of far more than 4,000,000 pixels"),
        (png_header(30, 20), "a damaged picture"),
        (b"no picture at all", "neither JPEG nor PNG nor WebP"),
        (encoded(np.zeros((20, 20, 3), dtype=np.uint8), "GIF"), "neither JPEG nor PNG nor WebP"),
        (encoded(np.zeros((20, 20, 3), dtype=np.uint8), "JPEG")[:200], "a damaged picture"),
        (many_scans(np.zeros((64, 64, 3), dtype=np.uint8), 50), "scans; 30 are the most"),
    ],
)
def test_pictures_that_would_harm_are_refused(payload: bytes, sentence: str) -> None:
    with pytest.raises(MediaError, match=sentence):
        decode_picture(payload, MAX_SIDE, 4_000_000)


def test_a_progressive_jpeg_as_tools_write_it_is_read() -> None:
    image = np.full((64, 64, 3), 90, dtype=np.uint8)
    assert decode_picture(many_scans(image, 1), MAX_SIDE, 4_000_000).shape == (64, 64, 3)


# --- faces ------------------------------------------------------------------------------------------------------------


class Told:
    """A detector that finds a face wherever a picture is of one of its colours."""

    name = "told"
    framing = YUNET_FRAMING
    colours = (80, 160, 240)

    def detect(self, image: np.ndarray) -> Detections:
        places = [np.argwhere(image[..., 0] == colour) for colour in self.colours]
        found = [(p.min(axis=0), p.max(axis=0) + 1) for p in places if len(p)]
        boxes = np.array([[a[1], a[0], b[1] - a[1], b[0] - a[0]] for a, b in found], dtype=float).reshape(-1, 4)
        return Detections(boxes, np.full((len(boxes), 5, 2), np.nan), np.full(len(boxes), 0.9))


def scene(seconds: float, **places: int) -> Frame:
    """Squares of 40 pixels at the columns ``places``, by their colour."""
    image = np.zeros((100, 300, 3), dtype=np.uint8)
    for colour, column in places.items():
        image[30:70, column : column + 40] = int(colour[1:])
    return Frame(seconds, image)


def where(watch: FaceWatch, end: float) -> list[list[float]]:
    return watch.output(Segment(end - 2.0, end)).boxes.round(3).tolist()


def test_who_is_watched_stays_watched_while_they_are_there() -> None:
    watch = FaceWatch(FaceExpert(Told()), Told(), window=2.0)
    assert watch.output(Segment(-1.0, 1.0)).reasons == ("no picture",)
    for i in range(6):
        watch.look(scene(i * 0.2, c160=200))
    assert where(watch, 1.1) == [[0.667, 0.3, 0.133, 0.4]]
    for i in range(6, 14):  # another one, who would be the first in a picture of both
        watch.look(scene(i * 0.2, c80=10, c160=200))
    assert where(watch, 2.7) == [[0.667, 0.3, 0.133, 0.4]]
    for i in range(14, 20):
        watch.look(scene(i * 0.2, c80=10))
    assert where(watch, 3.9) == []  # still the one of before, who is not in the last picture
    for i in range(20, 28):
        watch.look(scene(i * 0.2, c80=10))
    assert where(watch, 5.5) == [[0.033, 0.3, 0.133, 0.4]]
    assert watch.output(Segment(7.6, 9.6)).reasons == ("no picture",)


def test_a_watch_keeps_no_more_than_its_window() -> None:
    watch = FaceWatch(FaceExpert(Told()), Told(), window=1.0)
    for i in range(40):
        watch.look(scene(i * 0.1, c80=10, c160=100, c240=200))
    held = [len(track.times) for track in watch._tracker.tracks]
    assert held == [11, 11, 11]  # 3.9 s and the ten pictures of the second before
    assert len(watch._rows) == 33
    assert len(watch._samples) == 11
    watch.look(scene(40.0))
    assert watch._tracker.tracks == []
    assert watch._rows == {}
    assert watch.output(Segment(39.5, 40.5)).reasons == ("no face",)


# --- the same answers as an analysis ----------------------------------------------------------------------------------

CUES = """1
00:00:00,500 --> 00:00:02,250
I lost my job today.

2
00:00:03,125 --> 00:00:03,875
I feel terrible.
"""


@pytest.fixture(scope="module")
def lossless(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Four seconds of the demo with nothing lost in coding, so that samples of both ways are equal to the last bit."""
    folder = tmp_path_factory.mktemp("lossless")
    path = folder / "clip.mkv"
    source = Recording.open(CLIP)
    (sound,) = source.sound(Timeline((Segment(0.0, 4.0),)))
    with av.open(str(path), "w") as out:
        video = out.add_stream("ffv1", rate=12)
        video.width, video.height, video.pix_fmt = 480, 360, "bgr0"
        audio = out.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono")
        for i, frame in enumerate(source.frames(np.arange(48) / 12)):
            picture = av.VideoFrame.from_ndarray(frame.image, format="rgb24")
            picture.pts = i
            out.mux(video.encode(picture))
        pcm = (np.clip(sound, -1, 1) * 32767).astype(np.int16)
        for start in range(0, len(pcm), 1600):
            piece = av.AudioFrame.from_ndarray(pcm[None, start : start + 1600], format="s16", layout="mono")
            piece.sample_rate, piece.pts = SAMPLE_RATE, start
            out.mux(audio.encode(piece))
        out.mux(video.encode(None))
        out.mux(audio.encode(None))
    (folder / "clip.srt").write_text(CUES, encoding="utf-8")
    return Recording.open(path, transcript=folder / "clip.srt")


@pytest.fixture(scope="module")
def analyzer() -> Analyzer:
    return Analyzer(load_experts())


@pytest.fixture(scope="module")
def experts() -> LiveExperts:
    return LiveExperts()


def feed(stream: Stream, recording: Recording, timeline: Timeline) -> Iterator[dict[str, Any]]:
    """Send a recording as a client does, and yield what is said about the end of each window."""
    frames = iter(list(recording.frames(sample_times(timeline, 3.0), max_side=MAX_SIDE)))
    (sound,) = recording.sound(Timeline((recording.span,)))
    waiting: Frame | None = next(frames)
    position = 0.0
    for window in timeline:
        while waiting is not None and waiting.time < window.end:
            stream.add_picture(waiting.time, encoded(waiting.image), arrived=waiting.time)
            stream.look(stream.next_pictures())
            waiting = next(frames, None)
        stream.add_sound(position, sound[round(position * SAMPLE_RATE) : round(window.end * SAMPLE_RATE)], window.end)
        position = window.end
        for cue in recording.cues:
            if window.end - 1 < cue.segment.end <= window.end:
                stream.add_words(cue.text, cue.segment.end, cue.segment.duration, window.end)
        yield stream.answer(stream.moment()).verdict.to_dict()


def test_a_stream_says_what_an_analysis_says_about_the_same_window(
    lossless: Recording, analyzer: Analyzer, experts: LiveExperts
) -> None:
    everybody = copy(analyzer)
    everybody.shared_voice = True  # three pictures a second do not show who speaks
    windows = list(everybody.analyze_recording(lossless).windows())
    answers = list(feed(Stream(experts, window=3.0), lossless, Timeline.windows(lossless.duration)))
    assert len(answers) == len(windows) == 2
    for ours, theirs in zip(answers, windows, strict=True):
        assert all(evidence["probabilities"] for evidence in theirs["evidence"].values())
        assert ours | {"person": None} == theirs | {"person": None}


# --- what waits -------------------------------------------------------------------------------------------------------


def times_of(pictures: Sequence[Picture]) -> list[float]:
    return [round(picture.time, 3) for picture in pictures]


def test_newer_pictures_take_the_place_of_those_that_wait(experts: LiveExperts) -> None:
    stream = Stream(experts, window=3.0)
    for i in range(10):
        stream.add_picture(i * 0.1, bytes([i]), arrived=i * 0.1)
    moment = stream.moment()
    assert times_of(moment.pictures) == [0.8, 0.9]
    assert [picture.payload[0] for picture in moment.pictures] == [8, 9]
    assert moment.dropped == 8
    assert moment.arrived == pytest.approx(0.9)
    stream.add_picture(0.5, b"late", arrived=1.0)
    assert stream.next_pictures() == ()
    assert stream.moment().dropped == 9
    stream.add_picture(0.92, b"too soon", arrived=1.0)
    assert stream.next_pictures() == ()
    stream.add_picture(0.94, b"in time", arrived=1.0)
    (picture,) = stream.next_pictures()
    assert picture.payload == b"in time"
    assert stream.next_pictures() == ()
    stream.add_picture(0.95, b"too soon", arrived=1.0)
    assert times_of(stream.moment().pictures) == [0.95]  # a step is about the newest


def test_of_pictures_that_come_too_fast_no_more_are_kept_than_show_a_mouth(experts: LiveExperts) -> None:
    stream, kept = Stream(experts, window=3.0), list[Picture]()
    for i in range(12):
        stream.add_picture(i * 0.01, b"picture", arrived=i * 0.01)
        kept += stream.next_pictures()
    assert times_of(kept) == [0.0, 0.03, 0.06, 0.09]


def test_only_the_last_words_are_kept(experts: LiveExperts) -> None:
    stream = Stream(experts, window=3.0)
    for i in range(1000):
        stream.add_words(f"word {i}", time=i * 0.01, duration=1.0, arrived=i * 0.01)
    assert [cue.text for cue in stream.moment().cues] == [f"word {i}" for i in range(992, 1000)]
    stream.add_sound(30.0, np.zeros(160, dtype=np.float32), arrived=30.0)
    moment = stream.moment()
    assert moment.cues == ()
    assert moment.segment == Segment(27.01, 30.01)


@pytest.mark.parametrize("wrong", [1e9, -1e9, 70.0, -70.0])
def test_times_far_from_the_clock_of_the_stream_are_refused(experts: LiveExperts, wrong: float) -> None:
    stream = Stream(experts, window=3.0)
    stream.add_words("hello", 0.0, 1.0, arrived=5.0)
    with pytest.raises(DataError, match="seconds since"):
        stream.add_picture(wrong, b"", arrived=5.1)


# --- through the socket -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("live") / "service", "--workers", "0", "--max-live", "4") as running:
        with streaming(running):  # the first stream loads the networks
            pass
        yield running
        assert "Traceback" not in running.log


@contextmanager
def streaming(server: Server | LocalService, **options: Any) -> Iterator[ClientConnection]:
    """A stream that is ready."""
    with opened(server) as stream:
        stream.send(json.dumps(START | options))
        message = json.loads(stream.recv(30))
        if message == {"type": "loading"}:
            message = json.loads(stream.recv(60))
        assert message["type"] == "ready", message
        yield stream


def opened(server: Server | LocalService) -> ClientConnection:
    return connect(server.url.replace("http", "ws") + "/v1/live", subprotocols=[SUBPROTOCOL], open_timeout=30)


def stepped(stream: ClientConnection) -> dict[str, Any]:
    message = json.loads(stream.recv(30))
    assert message["type"] == "step", message
    return dict(message)


def refusal(stream: ClientConnection) -> tuple[str, int]:
    """The sentence and the code with which a stream ends, whatever it said before."""
    detail = ""
    try:
        while True:
            message = json.loads(stream.recv(30))
            detail = message.get("detail", detail)
    except ConnectionClosed as closed:
        return detail, closed.rcvd.code if closed.rcvd else 1006


def figure(server: Server, name: str) -> float:
    with urllib.request.urlopen(f"{server.url}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


def wait_for_streams(server: Server, count: int) -> None:
    deadline = time.monotonic() + 20
    while (found := figure(server, "affuse_live_streams")) != count:
        assert time.monotonic() < deadline, f"{found} streams are open; expected {count}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def portrait() -> bytes:
    (frame,) = Recording.open(CLIP).frames([1.0])
    return encoded(frame.image, "JPEG")


def test_words_alone_are_answered(server: Server, analyzer: Analyzer) -> None:
    with streaming(server, language="en") as stream:
        assert stream.subprotocol == SUBPROTOCOL
        sent = time.perf_counter()
        stream.send(json.dumps({"type": "text", "text": "I am so sad about it.", "time": 1.5}))
        step = stepped(stream)
        assert 0 < step["delay_ms"] <= 1000 * (time.perf_counter() - sent)
        stream.send(json.dumps({"type": "stop"}))
        assert refusal(stream) == ("", 1000)
    assert (step["label"], step["time"], step["dropped"]) == ("sadness", 1.5, 0)
    missing = dict.fromkeys(("probabilities", "share", "points", "valence", "arousal", "box"))
    assert step["evidence"]["face"] == {"reason": "no picture", **missing}
    assert step["evidence"]["voice"]["reason"] == "no sound"
    (expected,) = analyzer.analyze_text("I am so sad about it.").windows()
    assert step["evidence"]["text"] == expected["evidence"]["text"]
    for name in ("fused", "confidence", "sentiment", "conflict", "conflict_text"):
        assert step[name] == expected[name]


def test_a_picture_alone_is_answered_with_the_place_of_the_face(server: Server, portrait: bytes) -> None:
    with streaming(server) as stream:
        stream.send(binary(PICTURE, 0.2, portrait))
        step = stepped(stream)
    face = step["evidence"]["face"]
    assert step["evidence"]["text"]["reason"] == "no words"
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    x, y, width, height = (face["box"][name] for name in ("x", "y", "width", "height"))
    assert 0.3 < x < x + width < 0.7
    assert 0.1 < y < y + height < 0.8


def test_sound_through_the_socket_is_judged_as_in_an_analysis(
    server: Server, lossless: Recording, analyzer: Analyzer
) -> None:
    (sound,) = lossless.sound(Timeline((Segment(0.0, 3.0),)))
    samples = np.round(sound * 32768).astype("<i2")
    heard = analyzer.experts["voice"].predict(lossless, Timeline((Segment(0.0, 3.0),)))
    prior = analyzer.prior.frequencies
    expected = analyzer.fuser.fuse(merge_emotions(heard, VOICE)[:, None], ["voice"], prior)[0]
    with streaming(server) as stream:
        for i in range(30):
            stream.send(binary(SOUND, i / 10, samples[i * 1600 : (i + 1) * 1600].tobytes()))
        step = stepped(stream)
        while step["time"] < 3.0:
            step = stepped(stream)
    answer = [step["evidence"]["voice"]["probabilities"][label] for label in EKMAN.labels]
    np.testing.assert_allclose(answer, expected, atol=1e-6)


def test_there_is_at_most_one_answer_a_step_and_it_is_about_the_newest(server: Server, portrait: bytes) -> None:
    steps = []
    with streaming(server, step=0.4) as stream:
        began = time.monotonic()
        for i in range(60):
            stream.send(binary(PICTURE, i * 0.02, portrait))
            time.sleep(max(0.0, began + (i + 1) * 0.02 - time.monotonic()))
        while not steps or steps[-1]["time"] < 59 * 0.02:
            steps.append(stepped(stream))
        took = time.monotonic() - began
    assert 2 <= len(steps) <= took / 0.4 + 1
    assert steps[-1]["dropped"] >= 25  # of pictures 0.02 s apart every other one
    assert [s["time"] for s in steps] == sorted({s["time"] for s in steps})


def test_the_service_counts_answers_and_dropped_pictures(server: Server, portrait: bytes) -> None:
    names = ("affuse_live_delay_seconds_count", "affuse_live_frames_dropped_total")
    before = [figure(server, name) for name in names]
    steps = []
    with streaming(server, step=0.1) as stream:
        for i in range(20):
            stream.send(binary(PICTURE, i * 0.01, portrait))
        while not steps or steps[-1]["time"] < 0.19:
            steps.append(stepped(stream))
    after = [figure(server, name) for name in names]
    assert steps[-1]["dropped"] >= 12  # of pictures 0.01 s apart two of three
    assert [b - a for a, b in zip(before, after, strict=True)] == [len(steps), steps[-1]["dropped"]]


BAD = [
    ([json.dumps({"type": "text", "text": "hello", "time": 0})], "the first message must be", 1008),
    ([b"\x01" + bytes(20)], "the first message must be", 1008),
    (["{"], "Invalid JSON", 1008),
    (["[" * 7000], "Invalid JSON", 1008),
    ([json.dumps({"type": "play"})], "play", 1008),
    ([json.dumps(START | {"step": 0.001})], "start.step: Input should be greater than or equal to 0.1", 1008),
    ([json.dumps(START | {"window": 1e9})], "start.window", 1008),
    ([json.dumps(START | {"widow": 3})], "start.widow: Extra inputs are not permitted", 1008),
    ([json.dumps(START | {"language": "tlh"})], "unknown language 'tlh'; the expert text reads af, am, ", 1008),
    ([json.dumps(START), json.dumps(START)], "the stream has started already", 1008),
    ([json.dumps(START), '{"type": "text", "text": "hello", "time": NaN}'], "text.time", 1008),
    ([json.dumps(START), json.dumps({"type": "text", "text": "   ", "time": 0})], "text.text", 1008),
    ([json.dumps(START), json.dumps({"type": "text", "text": "long " * 200, "time": 0})], "text.text", 1008),
    ([json.dumps(START), "x" * 9000], "8,000 are the most", 1009),
    ([json.dumps(START), b"\x01\x02\x03"], "a binary message is a byte", 1003),
    ([json.dumps(START), binary(3, 0.0, b"data")], "a binary message is a byte", 1003),
    ([json.dumps(START), binary(SOUND, 0.0, b"odd")], "sound is in samples of 16 bits; got 3 bytes", 1003),
    ([json.dumps(START), binary(SOUND, 0.0, bytes(400_000))], "320,000 are the most", 1009),
    ([json.dumps(START), binary(PICTURE, 0.0, bytes(2_000_001))], "2,000,000 are the most", 1009),
    ([json.dumps(START), binary(PICTURE, 0.0, b"garbage" * 1000)], "neither JPEG nor PNG nor WebP", 1003),
    ([json.dumps(START), binary(PICTURE, 0.0, png_header(3000, 2000))], "4,000,000 are the most", 1003),
    ([json.dumps(START), binary(PICTURE, float("nan"), b"data")], "times are seconds", 1008),
    ([json.dumps(START), binary(SOUND, 1e300, bytes(2))], "times are seconds", 1008),
]


@pytest.mark.parametrize(("messages", "sentence", "code"), BAD)
def test_what_does_not_fit_ends_the_stream_with_a_sentence(
    server: Server, messages: list[str | bytes], sentence: str, code: int
) -> None:
    with opened(server) as stream:
        with suppress(ConnectionClosed):
            for message in messages:
                stream.send(message)
        detail, found = refusal(stream)
    assert found == code
    assert sentence in detail


def test_a_message_beyond_all_bounds_is_not_read_to_its_end(server: Server) -> None:
    with streaming(server) as stream:
        with suppress(ConnectionClosed):
            stream.send(binary(PICTURE, 0.0, bytes(50_000_000)))
        # The goodbye is lost where the connection breaks off before all is sent.
        assert refusal(stream)[1] in (1006, 1009)


def test_a_flood_of_messages_ends_the_stream(server: Server) -> None:
    words = json.dumps({"type": "text", "text": "again", "time": 0.0})
    with streaming(server) as stream:
        with suppress(ConnectionClosed):
            for _ in range(2000):
                stream.send(words)
        assert refusal(stream) == ("more than 100 messages a second", 1008)


def test_no_more_streams_than_there_may_be(server: Server) -> None:
    wait_for_streams(server, 0)
    with streaming(server), streaming(server), streaming(server), streaming(server), opened(server) as fifth:
        assert refusal(fifth) == ("4 live streams are the most at a time; try again later", 1013)
    wait_for_streams(server, 0)
    with streaming(server):
        wait_for_streams(server, 1)


def vanish(stream: ClientConnection) -> None:
    """Break the connection off without a goodbye (RST)."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


def test_clients_that_vanish_leave_nothing_behind(server: Server, portrait: bytes) -> None:
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    noise = np.random.default_rng(0).integers(-9000, 9000, 48_000).astype("<i2").tobytes()
    sizes = []
    for turn in range(90):
        with opened(server) as stream:
            stream.send(json.dumps(START))
            for i in range(4):
                stream.send(binary(PICTURE, i * 0.1, portrait))
                stream.send(binary(SOUND, i * 0.1, noise))
            if turn % 3 == 0:
                stream.recv(30)
            if turn % 2:  # in the middle of a message of which only the head has come
                stream.socket.sendall(b"\x82\xff" + struct.pack(">Q", 1_000_000) + b"mask" + bytes(1000))
            vanish(stream)
        if turn % 10 == 9:
            wait_for_streams(server, 0)
            sizes.append(process.memory_info().rss)
    # The heap takes some fifty streams to find its size; whatever a stream left behind would go on growing.
    assert max(sizes[5:]) - sizes[4] < 15e6, [round(size / 1e6) for size in sizes]


def test_a_client_that_does_not_read_harms_nobody(server: Server, portrait: bytes) -> None:
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    with raw_stream(server) as deaf:
        deaf.sendall(frame(1, json.dumps(START | {"step": 0.1}).encode()))
        wait_for_streams(server, 1)
        before = process.memory_info().rss
        for i in range(30):
            deaf.sendall(frame(2, binary(PICTURE, i * 0.05, portrait)))
            time.sleep(0.05)
        with streaming(server) as other:
            other.send(json.dumps({"type": "text", "text": "Is anybody there?", "time": 0.0}))
            assert stepped(other)["label"]
        assert process.memory_info().rss - before < 20e6
    wait_for_streams(server, 0)


@contextmanager
def raw_stream(server: Server) -> Iterator[socket.socket]:
    """The socket of a stream after the handshake, with hardly any room for answers that are not read."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.sendall(
            b"GET /v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert raw.recv(1000).startswith(b"HTTP/1.1 101")
        yield raw


def frame(opcode: int, payload: bytes, last: bool = True) -> bytes:
    """One masked frame; a mask of zeros leaves the payload as it is."""
    return struct.pack("!BBQ", 0x80 * last | opcode, 0xFF, len(payload)) + bytes(4) + payload


START_FRAME = frame(1, json.dumps(START).encode())


@pytest.mark.parametrize(
    ("garbage", "code"),
    [
        (b"\x81\x02{}", 1002),  # without a mask
        (frame(5, b"x"), 1002),  # of no kind
        (frame(0, b"x"), 1002),  # goes on with nothing
        (START_FRAME + frame(2, b"a", last=False) + frame(1, b"b"), 1002),  # two messages into each other
        (b"\x82\xff" + struct.pack(">Q", 2**62) + bytes(4), 1009),
        (np.random.default_rng(0).bytes(5000), 1002),
        (frame(8, b"\x01"), 1002),  # a goodbye of one byte
        (START_FRAME + frame(2, b""), 1003),
        (START_FRAME + frame(8, b"\x03\xe8"), 1000),  # gone before it is ready
    ],
)
def test_garbage_closes_the_stream_and_nothing_else(server: Server, garbage: bytes, code: int) -> None:
    with raw_stream(server) as raw:
        raw.sendall(garbage)
        said = b""
        while len(said.partition(b"\x88")[2]) < 3:  # the length of a goodbye and its code
            more = raw.recv(4096)
            assert more, "the connection ended without a goodbye"
            said += more
    assert struct.unpack(">H", said.partition(b"\x88")[2][1:3]) == (code,)
    wait_for_streams(server, 0)


# --- who speaks -------------------------------------------------------------------------------------------------------


class Heard(NamedTuple):
    """What a client sends: pictures with their times, and sound (n,) at 16 kHz."""

    pictures: list[tuple[float, bytes]]
    sound: np.ndarray


def demo(rate: float, seconds: float, late: float = 0.0) -> Heard:
    """The beginning of the demo; ``late`` seconds give it the sound of another part of it."""
    source = Recording.open(CLIP)
    (whole,) = source.sound(Timeline((source.span,)))
    sound = np.roll(whole, round(late * SAMPLE_RATE))[: round(seconds * SAMPLE_RATE)]
    return Heard([(f.time, encoded(f.image, "JPEG")) for f in source.frames(np.arange(seconds * rate) / rate)], sound)


def converse(stream: ClientConnection, told: Heard, piece: float = 0.1) -> list[dict[str, Any]]:
    """Send piece by piece, each when the answer about the last one is there, so that no machine is too slow.

    No more than two pictures belong in a piece: more do not wait.
    """
    steps, pictures = [], list(told.pictures)
    for number in range(int(len(told.sound) / SAMPLE_RATE / piece + 1e-6)):
        start, end = number * piece, (number + 1) * piece
        while pictures and pictures[0][0] <= end:
            stream.send(binary(PICTURE, *pictures.pop(0)))
        samples = told.sound[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
        stream.send(binary(SOUND, start, np.round(samples * 32767).astype("<i2").tobytes()))
        while not steps or steps[-1]["time"] < end - 1e-6:
            steps.append(stepped(stream))
    return steps


@pytest.fixture(scope="module")
def foreign(server: Server) -> list[dict[str, Any]]:
    """Answers about a face under words of its own that come four seconds late."""
    with streaming(server, step=0.1) as stream:
        return converse(stream, demo(20, 5.0, late=4.0))


def test_a_face_has_the_voice_that_its_mouth_moves_with(server: Server, foreign: list[dict[str, Any]]) -> None:
    with streaming(server, step=0.1) as stream:
        steps = converse(stream, demo(20, 5.0))
    told = [step for step in steps if step["speaking"] is not None]
    assert told[0]["time"] < 2.0
    assert told[-1]["person"] == "person 1"
    names, boxes = ([speaker[name] for speaker in told[-1]["speakers"]] for name in ("name", "box"))
    assert names == ["person 1", "off screen"]
    assert boxes == [told[-1]["evidence"]["face"]["box"], None] != [None, None]
    assert all(0 <= speaker["probability"] <= 1 for step in told for speaker in step["speakers"])
    assert {step["note"] for step in steps} == {None}
    own, others = (np.mean([step["speaking"] for step in s if step["time"] > 2.0]) for s in (steps, foreign))
    assert own > 0.7
    assert others < own - 0.4


def test_a_voice_that_is_not_that_of_the_face_does_not_count(foreign: list[dict[str, Any]]) -> None:
    for step in foreign:
        shares = [step["evidence"][name]["share"] for name in ("face", "voice")]
        if step["speaking"] == 0 and step["time"] > 2.0:
            assert shares[1] is None or shares[1] == 0
            assert shares[1] is not None or step["evidence"]["voice"]["reason"] == "somebody else speaks"
            face = {label: round(p, 4) for label, p in step["evidence"]["face"]["probabilities"].items()}
            assert {label: round(p, 4) for label, p in step["fused"].items()} == face
    assert any(step["speaking"] == 0 for step in foreign if step["time"] > 2.0)


def test_too_few_pictures_are_told_once_and_the_voice_counts_for_the_face(server: Server) -> None:
    with streaming(server, step=0.1) as stream:
        steps = converse(stream, demo(8, 4.0), piece=0.4)
    assert [step["note"] for step in steps if step["note"]] == [TOO_SLOW]
    assert {(step["speaking"], step["speakers"]) for step in steps if step["time"] > 1.5} == {(None, None)}
    assert steps[-1]["evidence"]["voice"]["share"] is not None


@pytest.mark.data
def test_of_two_moving_mouths_the_one_that_is_heard_speaks(server: Server, data: Path) -> None:
    from bench.speakers import read_clips

    left, right = (read_clips(data, f"{actor}-01-01*")[0] for actor in ("01", "05"))
    n = min(len(left.frames), len(right.frames))
    images = [np.concatenate([a, b], axis=1) for a, b in zip(left.frames[:n], right.frames[:n], strict=True)]
    pictures = [(i / 25, encoded(image, "JPEG")) for i, image in enumerate(images)]
    for clip, side in ((left, "left"), (right, "right")):
        with streaming(server, step=0.1) as stream:
            steps = converse(stream, Heard(pictures, clip.samples[: n * 640]), piece=0.08)
        late = [step["speakers"] for step in steps if step["time"] > 1.6]
        found = {"left": [], "right": []}
        for speaker in (speaker for speakers in late for speaker in speakers if speaker["box"] is not None):
            middle = speaker["box"]["x"] + speaker["box"]["width"] / 2
            found["left" if middle < 0.5 else "right"].append(speaker["probability"])
        other = "right" if side == "left" else "left"
        assert len(late) >= 5
        assert np.mean(found[side]) > 0.7 > 0.3 > np.mean(found[other])


@pytest.mark.data
def test_a_face_under_the_voice_of_another_clip_does_not_speak(experts: LiveExperts, data: Path) -> None:
    from bench.speakers import read_clips

    own, other = (read_clips(data, name)[0] for name in ("08-02-03*", "08-01-01*"))
    for clip, low, high in ((own, 0.7, 1.0), (other, 0.0, 0.3)):
        n = min(len(own.frames), len(clip.samples) // 640)
        pictures = [(i / 25, encoded(image, "JPEG")) for i, image in enumerate(own.frames[:n])]
        answers = answered(experts.stream(3.0), Heard(pictures, clip.samples[: n * 640]))
        speaking = answers[-1].verdict.speaking
        assert speaking is not None
        assert low <= speaking <= high


def answered(stream: Stream, told: Heard, start: float = 0.0) -> list[Answer]:
    """Answers about every half second, without a socket; the clock of the client begins with ``start``."""
    answers, pictures = [], list(told.pictures)
    for number in range(int(len(told.sound) / SAMPLE_RATE / 0.5)):
        end = (number + 1) * 0.5
        while pictures and pictures[0][0] <= end:
            time, payload = pictures.pop(0)
            stream.add_picture(start + time, payload, time)
            stream.look(stream.next_pictures())
        samples = told.sound[round((end - 0.5) * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
        stream.add_sound(start + end - 0.5, samples.astype(np.float32), end)
        moment = stream.moment()
        answers.append(stream.answer(moment))
        stream.listen(moment)
    return answers


def test_a_stream_agrees_with_a_recording_about_who_speaks(experts: LiveExperts) -> None:
    stream, recording = experts.stream(3.0), Recording.open(CLIP)
    answered(stream, demo(25, 9.5))
    live, start = stream._speakers.speakers() or (None, 0.0)
    assert live is not None
    assert start == 0
    faces = FaceExpert(experts.detector).read(recording, Timeline.windows(recording.duration))
    whole = who_speaks(recording, faces).probabilities[: len(live.probabilities)]
    assert len(whole) > 70
    assert (live.probabilities.argmax(axis=1) == whole.argmax(axis=1)).mean() > 0.9
    assert np.corrcoef(live.probabilities[:, 0], whole[:, 0])[0, 1] > 0.75


@pytest.mark.parametrize("start", [-60.0, 12_000.0])
def test_the_clock_of_a_client_may_begin_anywhere(experts: LiveExperts, start: float) -> None:
    told = demo(25, 3.0)
    expected, found = (answered(experts.stream(3.0), told, begin)[-1] for begin in (0.0, start))
    assert expected.speakers is not None
    assert found.speakers is not None
    assert [s.name for s in found.speakers] == [s.name for s in expected.speakers]
    np.testing.assert_allclose(
        [s.probability for s in found.speakers], [s.probability for s in expected.speakers], atol=0.02
    )


def test_words_that_are_written_while_nobody_is_heard_count(experts: LiveExperts) -> None:
    told = demo(25, 2.5)
    stream = experts.stream(2.0, "en")
    answered(stream, told._replace(sound=np.full(len(told.sound), 1e-4)))
    stream.add_words("I am so happy today!", 2.4, 1.0, 2.5)
    verdict = stream.answer(stream.moment()).verdict
    assert verdict.evidence["text"].probabilities is not None
    assert verdict.evidence["text"].share is not None
    assert verdict.speaking is None


def test_of_what_is_heard_the_speech_of_one_person_is_taken() -> None:
    speakers = Speakers(
        ("person 1", OFF_SCREEN), np.array([[1.0, 0, 0], [0, 1, 0], [0, 1, 0], [0.8, 0.2, 0]]), step=1.0
    )
    cues = (Words(Segment(12.1, 12.9), "theirs"), Words(Segment(13.2, 13.8), "own"))
    samples = np.arange(2 * SAMPLE_RATE, dtype=np.float32)
    moment = Moment(Segment(11.5, 14.0), (), samples, 12.0, (9.0, samples), cues, 0.0, 0)
    own = _Speech.of(moment, "person 1", (speakers, 10.0))
    np.testing.assert_array_equal(own.samples, samples[SAMPLE_RATE:])
    assert [cue.text for cue in own.cues] == ["own"]
    assert own.own == pytest.approx(0.8)
    for unknown in (_Speech.of(moment, "person 2", (speakers, 10.0)), _Speech.of(moment, "person 1", None)):
        assert (len(unknown.samples), unknown.cues, unknown.own) == (len(samples), cues, None)


def placed(name: str, time: float, x: float = 0.5) -> ExpertOutput:
    """A face that stands upright in the middle of a picture."""
    points = np.array([[x - 0.1, 0.4], [x + 0.1, 0.4], [x, 0.5], [x - 0.08, 0.6], [x + 0.08, 0.6]])
    box = np.array([[x - 0.2, 0.2, 0.4, 0.5]])
    return ExpertOutput(np.zeros((1, 8)), ("",), person=name, times=np.array([time]), boxes=box, landmarks=points[None])


def test_every_picture_of_a_mouth_is_embedded_once_and_as_in_a_recording() -> None:
    images = np.random.default_rng(4).integers(0, 255, (60, 80, 80, 3)).astype(np.uint8)
    networks, watch = SynchronyNetworks(), SpeakerWatch()
    for i, image in enumerate(images):
        watch.see(Frame(i / 25, image), [placed("person 1", i / 25)] if i % 3 == 0 else None)
    (face,) = watch._faces
    path = FacePath.of(placed("", 0.0)).points[0]
    crops = np.stack([cut_mouth(image, path) for image in images])
    known = np.isfinite(face.embeddings[:, 0])
    assert np.flatnonzero(known).tolist() == list(range(face.seen))  # the last ones wait for what comes after them
    assert face.seen >= 44
    whole = networks.of_mouths(crops)[: face.seen]
    assert (face.embeddings[: face.seen] * whole).sum(axis=1).min() > 0.999  # grey is made before the cut, not after
    np.testing.assert_allclose(face.total, face.embeddings[: face.seen].sum(axis=0), atol=1e-3)


def test_between_two_pictures_a_mouth_is_their_mean_and_in_a_gap_nobody_is_seen() -> None:
    watch = SpeakerWatch()
    seen = dict[int, int]()
    watch._add = lambda face, number, crop: seen.update({number: -1 if crop is None else int(crop[14, 14])})  # type: ignore[method-assign]
    for moment, grey in ((0.0, 40), (0.08, 60), (0.16, 100), (0.48, 100), (0.56, 200)):
        watch.see(Frame(moment, np.full((80, 80, 3), grey, dtype=np.uint8)), [placed("person 1", moment)])
    watch.see(Frame(0.88, np.zeros((80, 80, 3), dtype=np.uint8)), [placed("person 1", 0.88)])
    assert [seen[number] for number in range(5)] == [40, 50, 60, 80, 100]
    assert [seen[number] for number in range(5, 12)] == [-1] * 7
    assert [seen[number] for number in range(12, 16)] == [100, 150, 200, -1]


def test_a_watch_for_speakers_keeps_the_last_seconds_alone() -> None:
    watch, draw = SpeakerWatch(), np.random.default_rng(5)
    speech = np.resize(synthetic.speech(seconds=3.0, pitch=130), 5 * SAMPLE_RATE).astype(np.float32)
    held = []
    for i in range(60 * 15):
        time = i / 15
        image = draw.integers(0, 255, (40, 40, 3)).astype(np.uint8)
        watch.see(Frame(time, image), [placed(f"person {i // 30}", time)])
        if i % 15 == 14:
            watch.hear(time - 5.0, speech)
            watch.speakers()
            arrays = [watch._sound, watch._speech, *(face.embeddings for face in watch._faces)]
            waiting = max(len(face.run) + len(face.times) for face in watch._faces) + len(watch._held)
            held.append((sum(array.nbytes for array in arrays), waiting))
    assert max(size for size, _ in held[16:]) == held[16][0]
    assert max(waiting for _, waiting in held) < 30
    speakers, start = watch.speakers() or (None, 0.0)
    assert speakers is not None
    assert 44 < start < 49
    assert len(speakers.names) <= 9
    assert 10 < len(speakers.probabilities) * speakers.step < 15.1


def test_a_lag_needs_to_fit_clearly_better_and_some_seconds_of_speech() -> None:
    watch = SpeakerWatch()
    draw = np.random.default_rng(6)
    watch.see(Frame(0.0, np.zeros((40, 40, 3), dtype=np.uint8)), [placed("person 1", 0.0)])
    heard = draw.normal(size=(375, WIDTH))
    heard /= np.linalg.norm(heard, axis=1, keepdims=True)
    watch._sound[:], watch._speech[:] = heard, 1.0
    watch._faces[0].embeddings[: 375 - 4] = heard[4:]  # what is heard now was seen 4 pictures ago
    for until, lag in ((120, 0), (200, 4)):
        watch._cut, watch._heard = until, until
        watch.speakers()
        assert watch.lag == lag
    watch._faces[0].embeddings[:] = 0.1 * np.roll(heard, 3, axis=0)  # another lag would fit, but hardly better
    watch._cut = watch._heard = 300
    watch.speakers()
    assert watch.lag == 4


# --- who may stream ---------------------------------------------------------------------------------------------------


def test_the_token_comes_as_a_subprotocol_and_is_not_repeated(tmp_path: Path) -> None:
    secret = "a-token-of-enough-letters"
    app = create_app(Settings(tmp_path, token=secret, allowed_hosts=("testserver",)))
    client = TestClient(app)
    with client.websocket_connect("/v1/live", subprotocols=[SUBPROTOCOL, f"token.{secret}"]) as stream:
        assert stream.accepted_subprotocol == SUBPROTOCOL
        stream.send_json({"type": "stop"})
        assert "first message" in stream.receive_json()["detail"]
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/v1/live", subprotocols=[SUBPROTOCOL]):
        pass


def test_a_service_without_live_streams_says_so(tmp_path: Path) -> None:
    client = TestClient(create_app(Settings(tmp_path, max_live=0, allowed_hosts=("testserver",))))
    with client.websocket_connect("/v1/live") as stream:
        assert stream.receive_json()["detail"].startswith("0 live streams are the most")


def refused(app: Any) -> str:
    """What the service says to a client that starts and waits."""
    with TestClient(app).websocket_connect("/v1/live") as stream:
        stream.send_json({"type": "start"})
        assert stream.receive_json() == {"type": "loading"}
        return str(stream.receive_json()["detail"])


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (AssetError("/opt/secret/voice.onnx is missing"), "the experts cannot be loaded; the log of the service tells"),
        (KeyError("/opt/secret"), "an internal error (KeyError); the log tells more"),
    ],
)
def test_defects_are_told_without_the_insides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception, sentence: str
) -> None:
    def fail(self: LiveExperts, *given: Any) -> None:
        raise error

    monkeypatch.setattr(LiveExperts, "__init__", fail)
    said = refused(create_app(Settings(tmp_path, allowed_hosts=("testserver",))))
    assert said.startswith(sentence)
    assert "secret" in caplog.text


def test_a_stream_that_is_closed_under_its_answer_is_no_defect(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    came = iter([{"type": "websocket.connect"}, {"type": "websocket.receive", "text": json.dumps(START)}])

    async def receive() -> dict[str, Any]:
        return next(came)

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "websocket.send":
            raise RuntimeError("closed")  # as uvicorn does

    app = create_app(Settings(tmp_path))
    about = {"path": "/v1/live", "query_string": b"", "headers": [(b"host", b"localhost")], "subprotocols": []}
    asyncio.run(app({"type": "websocket"} | about, receive, send))
    assert caplog.text == ""


def test_who_says_nothing_does_not_keep_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_PATIENCE", 0.2)
    client = TestClient(create_app(Settings(tmp_path, allowed_hosts=("testserver",))))
    with client.websocket_connect("/v1/live") as stream:
        assert stream.receive_json()["detail"] == "nothing came for 0.2 s"


# --- words that are heard ---


class Whisper:
    """Stands in for a recogniser: it hears the same sentence in every piece, and remembers what it was given."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str | None]] = []

    def transcribe(self, audio: np.ndarray, **options: Any) -> tuple[list[Any], None]:
        self.asked.append((len(audio), options["language"]))
        text = " I am so happy today! "
        heard = SimpleNamespace(start=0.2, end=0.9, text=text, words=None, compression_ratio=1.0, avg_logprob=-0.3)
        return [heard], None


def test_sound_is_given_to_a_recogniser_once_and_in_pieces_of_half_a_window(experts: LiveExperts) -> None:
    stream = experts.stream(2.0, None)
    assert stream.unheard() is None
    stream.add_sound(10.0, np.full(SAMPLE_RATE // 2, 0.1, dtype=np.float32), 0.0)
    segment, samples = stream.unheard() or (None, np.empty(0))  # the window began before the stream did
    assert (segment, len(samples)) == (Segment(8.5, 10.5), SAMPLE_RATE // 2)
    stream.add_sound(10.5, np.full(SAMPLE_RATE // 2, 0.2, dtype=np.float32), 0.5)
    assert stream.unheard() is None
    stream.add_sound(11.0, np.full(SAMPLE_RATE // 2, 0.3, dtype=np.float32), 1.0)
    segment, samples = stream.unheard() or (None, np.empty(0))
    assert segment == Segment(10.5, 11.5)
    np.testing.assert_allclose(samples, np.repeat([0.2, 0.3], SAMPLE_RATE // 2), atol=1e-6)


def test_words_of_a_stream_are_recognised(
    make_service: Callable[..., LocalService], monkeypatch: pytest.MonkeyPatch, analyzer: Analyzer
) -> None:
    whisper = Whisper()
    monkeypatch.setattr(Transcriber, "load", lambda self: whisper)
    with streaming(make_service(transcribe=True), language="en", window=2) as stream:
        stream.send(binary(SOUND, 0.0, np.zeros(2 * SAMPLE_RATE, dtype="<i2").tobytes()))
        step = stepped(stream)
        while step["evidence"]["text"]["probabilities"] is None:
            step = stepped(stream)
    assert whisper.asked == [(2 * SAMPLE_RATE, "en")]
    (expected,) = analyzer.analyze_text("I am so happy today!").windows()
    assert step["evidence"]["text"] == expected["evidence"]["text"]


def test_weights_that_do_not_know_the_language_recognise_nothing(
    experts: LiveExperts, monkeypatch: pytest.MonkeyPatch
) -> None:
    transcriber = Transcriber()
    transcriber._loaded = _Weights(Whisper(), english=True)
    monkeypatch.setattr(experts, "transcriber", transcriber)
    assert experts.stream(1.0, "en").transcriber is not None
    chinese = experts.stream(1.0, "zh")
    assert chinese.transcriber is None
    chinese.add_sound(0.0, np.zeros(SAMPLE_RATE, dtype=np.float32), 0.0)
    reason = chinese.answer(chinese.moment()).verdict.evidence["text"].reason
    assert reason.startswith("no weights for speech recognition: those in use know English alone, not 'zh'")


def test_a_stream_says_why_no_words_are_recognised(
    make_service: Callable[..., LocalService], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AFFUSE_WHISPER", raising=False)
    with streaming(make_service(transcribe=True, asr_model=str(tmp_path))) as stream:
        stream.send(binary(SOUND, 0.0, np.zeros(SAMPLE_RATE, dtype="<i2").tobytes()))
        reason = stepped(stream)["evidence"]["text"]["reason"]
    assert reason == f"no weights for speech recognition: the folder {tmp_path.name} holds no model.bin"
