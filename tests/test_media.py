"""Recordings are generated here: every frame shows its own number in eight black or white bars."""

from __future__ import annotations

import os
import struct
import threading
import tracemalloc
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from affuse.errors import ConfigError, MediaError, TranscriptError
from affuse.media import SAMPLE_RATE, Excerpt, Recording, Watch, decoding
from affuse.media import recording as recording_module
from affuse.timeline import Segment, Timeline

BARS, WIDTH, HEIGHT = 8, 64, 48
MILLISECOND = Fraction(1, 1000)
SRT = "1\n00:00:00,000 --> 00:00:{},000\nHello there.\n"


@dataclass(frozen=True)
class Tone:
    """A sine of ``hertz`` and amplitude 0.5 on every channel."""

    hertz: float
    seconds: float
    start: float = 0.0
    rate: int = 44_100
    channels: int = 1


def bars(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    row = np.repeat([255 * (number >> i & 1) for i in range(BARS)], width // BARS).astype(np.uint8)
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def number_of(image: np.ndarray) -> int:
    bar = image.shape[1] // BARS
    middles = image[image.shape[0] // 2, bar // 2 :: bar, 1]
    return sum(1 << i for i, value in enumerate(middles) if value > 127)


def write(
    path: Path, times: Sequence[float] = (), tones: Sequence[Tone] = (), rotation: int = 0, rate: int = 25, **opts
) -> Path:
    """Encode frames at ``times`` (seconds) and any number of tones, in order of time."""
    with av.open(str(path), "w", options=opts.pop("options", {})) as out:
        video = _video(out, rate, rotation, **opts) if len(times) else None
        sounds = [
            out.add_stream("flac" if path.suffix == ".mkv" else "aac", rate=t.rate, layout=_layout(t)) for t in tones
        ]
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(bars(index % 256), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = round(time * 1000), MILLISECOND
            out.mux(video.encode(frame))
        if video:
            out.mux(video.encode())
        for stream, tone in zip(sounds, tones, strict=True):
            _write_tone(out, stream, tone)
    return path


def _video(out, rate, rotation, codec: str = "mpeg4", keyframes: int = 12, aspect: Fraction | None = None):
    stream = out.add_stream(codec, rate=rate)
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    stream.codec_context.time_base = MILLISECOND
    stream.codec_context.gop_size = keyframes
    stream.codec_context.thread_count = 1
    stream.time_base = MILLISECOND
    if aspect:
        stream.codec_context.sample_aspect_ratio = aspect
    if rotation:
        stream.set_display_rotation(rotation)
    return stream


def _layout(tone: Tone) -> str:
    return "mono" if tone.channels == 1 else "stereo"


def _write_tone(out, stream, tone: Tone) -> None:
    samples = 0.5 * np.sin(2 * np.pi * tone.hertz * np.arange(round(tone.seconds * tone.rate)) / tone.rate)
    for at in range(0, len(samples), 1024):
        block = np.tile(samples[at : at + 1024], (tone.channels, 1)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=_layout(tone))
        frame.sample_rate, frame.time_base = tone.rate, Fraction(1, tone.rate)
        frame.pts = round(tone.start * tone.rate) + at
        resampled = av.AudioResampler(
            format=stream.codec_context.format, layout=_layout(tone), rate=tone.rate
        ).resample(frame)
        for piece in resampled:
            out.mux(stream.encode(piece))
    out.mux(stream.encode())


def write_wav(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE) -> Path:
    with wave.open(str(path), "wb") as out:
        out.setnchannels(samples.shape[1])
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return path


def loudest_hertz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * SAMPLE_RATE / len(samples))


def onset(samples: np.ndarray) -> float:
    return float(np.argmax(np.abs(samples) > 0.1) / SAMPLE_RATE)


def whole(recording: Recording) -> np.ndarray:
    return next(recording.sound(Timeline((recording.span,))))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """Six seconds at 25 pictures a second with a tone of 440 Hz."""
    return write(tmp_path_factory.mktemp("clip") / "clip.mp4", np.arange(150) / 25, [Tone(440, 6.0)])


# Frames


def test_each_time_gets_the_frame_that_is_on_screen(clip):
    recording = Recording.open(clip)
    assert (recording.kind, recording.has_frames, recording.has_sound) == ("video", True, True)
    assert recording.duration == pytest.approx(6.0, abs=0.03)
    times = [0.0, 0.039, 0.04, 0.12, 1.0, 1.0, 3.999, 5.96, 5.99]
    frames = list(recording.frames(times))
    assert [f.time for f in frames] == times
    assert [number_of(f.image) for f in frames] == [0, 0, 1, 3, 25, 25, 99, 149, 149]
    assert frames[0].image.shape == (HEIGHT, WIDTH, 3)
    assert frames[0].image.dtype == np.uint8
    assert recording.notes == ()


def test_nothing_is_on_screen_before_and_after_the_video(clip):
    assert list(Recording.open(clip).frames([-1.0, 6.5, 100.0])) == []


def test_reordered_frames_come_by_time(tmp_path):
    if "libx264" not in av.codecs_available:
        pytest.skip("this FFmpeg has no H.264 encoder")
    path = write(tmp_path / "b.mp4", np.arange(100) / 25, codec="libx264")
    assert [number_of(f.image) for f in Recording.open(path).frames(np.arange(100) / 25)] == list(range(100))


@pytest.fixture(scope="module")
def reordered(tmp_path_factory) -> Path:
    """Frames 0 to 99 in H.264, most of them such that no other frame refers to them, at uneven times."""
    if "libx264" not in av.codecs_available:
        pytest.skip("this FFmpeg has no H.264 encoder")
    times = np.arange(100) / 25 + np.where(np.arange(100) % 3 == 1, 0.017, 0.0)
    return write(tmp_path_factory.mktemp("reordered") / "b.mp4", times, codec="libx264")


@pytest.mark.parametrize("step", [0.04, 0.1, 0.37, 1.7])
def test_frames_that_nobody_looks_at_are_left_out_and_no_others(reordered, step, monkeypatch):
    decoded = []
    good = decoding._decode
    monkeypatch.setattr(decoding, "_decode", lambda *args: [decoded.append(f) or f for f in good(*args)])
    starts = np.arange(100) / 25 + np.where(np.arange(100) % 3 == 1, 0.017, 0.0)
    recording = Recording.open(reordered)
    asked = np.arange(0, 3.95, step).tolist()
    decoded.clear()
    shown = [number_of(frame.image) for frame in recording.frames(asked)]
    assert shown == [int(np.searchsorted(starts, time + 1e-3, side="right")) - 1 for time in asked]
    assert len(decoded) == 100 if step == 0.04 else len(decoded) < (90 if step < 0.3 else 75)


@pytest.mark.parametrize("name", ["clip", "reordered"])
def test_somebody_else_sees_grey_pictures_in_the_same_pass(name, request):
    recording, seen = Recording.open(request.getfixturevalue(name)), {}
    watch = Watch(iter([0.08, 0.5, 1.52, 3.9]), seen.__setitem__, WIDTH)
    frames = list(recording.frames([0.5, 2.0], watch=watch))
    alone = list(recording.frames([0.08, 0.5, 1.52, 3.9]))
    assert [frame.time for frame in frames] == [0.5, 2.0]
    assert list(seen) == [0.08, 0.5, 1.52, 3.9]
    for frame in alone:
        grey = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
        assert np.abs(seen[frame.time].astype(int) - grey).max() <= 3


def test_a_stretch_of_a_recording_is_watched_on_its_own_clock(clip):
    seen = {}
    watch = Watch(iter([0.0, 1.0, 9.0]), seen.__setitem__, WIDTH)
    list(Excerpt(Recording.open(clip), 1.0, 3.0).frames([0.5], watch=watch))
    assert {time: number_of(np.dstack([picture] * 3)) for time, picture in seen.items()} == {0.0: 25, 1.0: 50}


def test_variable_frame_rate(tmp_path):
    starts = [0.0, 0.01, 0.5, 0.52, 2.0, 2.033, 3.7]
    recording = Recording.open(write(tmp_path / "vfr.mkv", starts))
    asked = [0.0, 0.012, 0.499, 0.51, 1.99, 2.0, 2.04, 3.69, 3.7]
    expected = [max(i for i, s in enumerate(starts) if s <= t) for t in asked]
    assert [number_of(f.image) for f in recording.frames(asked)] == expected


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_flag_turns_the_picture_upright(tmp_path, degrees):
    recording = Recording.open(write(tmp_path / "turned.mp4", [0.0, 0.04], rotation=degrees))
    image = next(recording.frames([0.04])).image
    upright = np.rot90(image, -degrees // 90)  # the flag asks for an anticlockwise turn; take it back
    assert upright.shape == (HEIGHT, WIDTH, 3)
    assert number_of(upright) == 1


def test_max_side_shrinks_and_keeps_the_aspect(clip):
    recording = Recording.open(clip)
    small = next(recording.frames([1.0], max_side=32)).image
    assert small.shape == (24, 32, 3)
    assert number_of(small) == 25
    assert next(recording.frames([1.0], max_side=4000)).image.shape == (HEIGHT, WIDTH, 3)


def test_wide_pixels_are_made_square(tmp_path):
    path = write(tmp_path / "dv.mp4", [0.0, 0.04], aspect=Fraction(3, 2))
    image = next(Recording.open(path).frames([0.04])).image
    assert image.shape == (HEIGHT, WIDTH * 3 // 2, 3)
    assert number_of(image) == 1


def test_times_that_run_backwards_are_refused(clip):
    with pytest.raises(ConfigError, match=r"ascend; got 1 s after 2 s"):
        list(Recording.open(clip).frames([0.0, 2.0, 1.0]))
    with pytest.raises(ConfigError, match="max_side"):
        Recording.open(clip).frames([0.0], max_side=0)


# Sound


def test_sound_is_16_khz_and_keeps_pitch_and_level(clip):
    windows = list(Recording.open(clip).sound(Timeline.windows(6.0, window=2.0, hop=0.5)))
    assert [len(w) for w in windows] == [2 * SAMPLE_RATE] * 9
    for window in windows:
        assert window.dtype == np.float32
        assert loudest_hertz(window) == pytest.approx(440, abs=1)
        assert np.sqrt(np.mean(window[4000:-4000] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


def test_sound_of_a_16_khz_file_is_exact_and_overlapping_windows_agree(tmp_path):
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, (5 * SAMPLE_RATE + 123, 1))
    recording = Recording.open(write_wav(tmp_path / "noise.wav", samples))
    assert recording.kind == "audio"
    assert recording.duration == pytest.approx(len(samples) / SAMPLE_RATE, abs=1e-4)
    timeline = Timeline.windows(recording.duration, window=1.3, hop=0.37)
    for segment, got in zip(timeline, recording.sound(timeline), strict=True):
        expected = samples[round(segment.start * SAMPLE_RATE) : round(segment.end * SAMPLE_RATE), 0]
        np.testing.assert_allclose(got, expected, atol=1e-4)


def test_channels_are_averaged(tmp_path):
    left, right = np.full(SAMPLE_RATE, 0.6), np.full(SAMPLE_RATE, -0.2)
    mono = whole(Recording.open(write_wav(tmp_path / "two.wav", np.stack([left, right], 1))))
    np.testing.assert_allclose(mono, 0.2, atol=1e-3)
    tripled = whole(Recording.open(write_wav(tmp_path / "three.wav", np.stack([left, right, right], 1))))
    np.testing.assert_allclose(tripled, 0.2 / 3, atol=1e-3)


def test_one_channel_is_heard_alone(tmp_path):
    left, right = 0.5 * np.sin(np.arange(SAMPLE_RATE) / 20), np.full(SAMPLE_RATE, -0.2)
    recording = Recording.open(write_wav(tmp_path / "two.wav", np.stack([left, right], 1)))
    windows = Timeline((Segment(0.0, 0.5), Segment(0.25, 1.0)))
    assert (recording.channels, recording.sound_start) == (2, 0.0)
    for channel, samples in enumerate((left, right)):
        first, second = recording.sound(windows, channel)
        np.testing.assert_allclose(first, samples[:8000], atol=1e-4)
        np.testing.assert_allclose(second, samples[4000:], atol=1e-4)
    (excerpt,) = Excerpt(recording, 0.25, 0.75).sound(Timeline((Segment(0.0, 0.5),)), 0)
    np.testing.assert_allclose(excerpt, left[4000:12000], atol=1e-4)
    with pytest.raises(ConfigError, match=r"two\.wav has 2 channels, counted from 0; got channel 2"):
        recording.sound(windows, 2)


def test_sound_that_is_kept_is_decoded_once_and_is_the_same(tmp_path, monkeypatch):
    path = write(tmp_path / "two.mkv", tones=[Tone(440, 3.0, channels=2)])
    windows = Timeline((Segment(0.0, 1.5), Segment(0.5, 3.0)))
    recording = Recording.open(path)
    apart = [list(recording.sound(windows, channel)) for channel in (None, 0, 1)]
    passes = []
    monkeypatch.setattr(recording_module, "chunks", lambda *args: passes.append(1) or decoding.chunks(*args))
    with recording.sound_kept():
        kept: list[list[np.ndarray]] = [[], [], []]
        threads = [
            threading.Thread(target=lambda i=i: kept[i].extend(recording.sound(windows, (None, 0, 1)[i])))
            for i in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (excerpt,) = Excerpt(recording, 0.5, 3.0).sound(Timeline((Segment(0.0, 2.5),)))
    assert len(passes) == 1
    for before, after in zip(apart, kept, strict=True):
        for a, b in zip(before, after, strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(excerpt, apart[0][1])
    list(recording.sound(windows))
    assert len(passes) == 2  # nothing is kept any longer


def test_an_error_while_sound_is_kept_is_told_to_all(tmp_path, monkeypatch):
    recording = Recording.open(write_wav(tmp_path / "one.wav", np.zeros((SAMPLE_RATE, 1))))

    def fails(*_):
        raise MediaError("too long")
        yield

    monkeypatch.setattr(recording_module, "chunks", fails)
    with recording.sound_kept():
        for _ in range(2):
            with pytest.raises(MediaError, match="too long"):
                list(recording.sound(Timeline((recording.span,))))


def test_channels_and_start_of_the_sound(tmp_path):
    late = Recording.open(write(tmp_path / "late.mkv", np.arange(50) / 25, [Tone(440, 1.0, start=0.75, channels=2)]))
    assert late.channels == 2
    assert late.sound_start == pytest.approx(0.75, abs=0.002)
    assert Excerpt(late, 0.5, 1.5).sound_start == pytest.approx(0.25, abs=0.002)
    silent = Recording.open(write(tmp_path / "silent.mkv", np.arange(50) / 25))
    assert (silent.channels, silent.sound_start) == (0, 0.0)
    assert [len(w) for w in silent.sound(Timeline((silent.span,)), 1)] == [0]


def test_windows_beyond_the_sound_are_shorter_or_empty(tmp_path):
    path = write(tmp_path / "short.mkv", np.arange(100) / 25, [Tone(440, 1.5, rate=16_000)])
    recording = Recording.open(path)
    assert recording.duration == pytest.approx(4.0, abs=0.05)
    lengths = [len(w) for w in recording.sound(Timeline.windows(4.0, window=1.0, hop=1.0))]
    assert lengths[0] == SAMPLE_RATE
    assert lengths[1] == pytest.approx(SAMPLE_RATE / 2, abs=320)
    assert lengths[2:] == [0, 0]


@pytest.mark.parametrize(("video_start", "sound_start"), [(0.0, 1.0), (1.0, 0.0), (3.0, 5.0)])
def test_frames_and_sound_share_one_clock(tmp_path, video_start, sound_start):
    times = video_start + np.arange(100) / 25
    path = write(tmp_path / "offset.mkv", times, [Tone(440, 3.0, start=sound_start, rate=16_000)])
    recording = Recording.open(path)
    origin = min(video_start, sound_start)
    first, third = (list(recording.frames([t])) for t in (video_start - origin, video_start - origin + 0.08))
    assert (number_of(first[0].image), number_of(third[0].image)) == (0, 2)
    mixed = list(recording.frames([video_start - origin - 0.01, video_start - origin + 0.02]))
    assert [f.time for f in mixed] == [video_start - origin + 0.02]
    window = next(recording.sound(Timeline((Segment(0.0, sound_start - origin + 1.0),))))
    assert len(window) == pytest.approx(SAMPLE_RATE, abs=20)  # only what sounds
    assert onset(window) < 0.002


def test_a_gap_inside_the_sound_is_silence_in_its_place(tmp_path):
    path = tmp_path / "gap.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for start in (0, 3 * SAMPLE_RATE):
            for at in range(start, start + SAMPLE_RATE, 800):
                frame = av.AudioFrame.from_ndarray(np.full((1, 800), 16_384, np.int16), format="s16", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = 16_000, at, Fraction(1, 16_000)
                out.mux(stream.encode(frame))
        out.mux(stream.encode())
    samples = whole(Recording.open(path))
    assert len(samples) == pytest.approx(4 * SAMPLE_RATE, abs=2)
    assert samples[: SAMPLE_RATE - 20].min() == pytest.approx(0.5)
    assert np.all(samples[SAMPLE_RATE + 20 : 3 * SAMPLE_RATE - 20] == 0)
    assert samples[3 * SAMPLE_RATE + 20 :].min() == pytest.approx(0.5)


def test_the_audio_stream_can_be_chosen(tmp_path):
    path = write(tmp_path / "two.mkv", [], [Tone(440, 1.0, rate=16_000), Tone(1000, 1.0, rate=48_000, channels=2)])
    for stream, hertz in ((0, 440), (1, 1000)):
        chosen = Recording.open(path, audio_stream=stream)
        assert loudest_hertz(whole(chosen)) == pytest.approx(hertz, abs=2)
        assert chosen.notes == ()
    assert "of 2 audio streams number" in Recording.open(path).notes[0]
    for stream in (2, -1):
        with pytest.raises(
            ConfigError, match=f"two.mkv has 2 audio streams, counted from 0; got audio_stream {stream}"
        ):
            Recording.open(path, audio_stream=stream)


def test_video_without_sound(tmp_path):
    recording = Recording.open(write(tmp_path / "silent.mp4", np.arange(50) / 25))
    assert (recording.kind, recording.has_sound) == ("video", False)
    assert [len(w) for w in recording.sound(Timeline.windows(2.0, 1.0, 1.0))] == [0, 0]
    with pytest.raises(ConfigError, match="has 0 audio streams"):
        Recording.open(tmp_path / "silent.mp4", audio_stream=0)


def test_sound_without_video_has_no_frames(tmp_path):
    recording = Recording.open(write(tmp_path / "voice.m4a", tones=[Tone(440, 2.0)]))
    assert (recording.kind, recording.has_frames) == ("audio", False)
    assert recording.duration == pytest.approx(2.0, abs=0.05)
    assert list(recording.frames([0.0, 1.0])) == []


def test_cover_art_is_not_video(tmp_path):
    path = tmp_path / "song.mp3"
    Image.fromarray(bars(5)).save(tmp_path / "cover.png")
    with av.open(str(path), "w") as out:
        sound = out.add_stream("mp3", rate=44_100, layout="mono")
        cover = out.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = WIDTH, HEIGHT, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(bars(5), format="rgb24")
        picture.pts = 0
        out.mux(cover.encode(picture))
        out.mux(cover.encode())
        _write_tone(out, sound, Tone(440, 2.0))
    recording = Recording.open(path)
    assert (recording.kind, recording.has_frames, recording.has_sound) == ("audio", False, True)
    assert recording.duration == pytest.approx(2.0, abs=0.1)
    assert loudest_hertz(whole(recording)) == pytest.approx(440, abs=2)


def test_a_stream_without_stated_duration_is_measured(tmp_path):
    path = write(tmp_path / "live.mkv", np.arange(75) / 25, [Tone(440, 2.5, rate=16_000)], options={"live": "1"})
    with av.open(str(path)) as container:
        assert container.duration is None
    assert Recording.open(path).duration == pytest.approx(3.0, abs=0.05)


def test_a_short_ogg_lasts_no_day():
    """FFmpeg gives the duration of its last packet, here -114 ticks, as an unsigned number."""
    from fractions import Fraction
    from types import SimpleNamespace

    from affuse.media.decoding import _last_end

    known = {"size": 1, "is_discard": False, "time_base": Fraction(1, 44100), "stream_index": 0, "dts": None}
    packets = [
        SimpleNamespace(pts=7360, duration=1024, **known),
        SimpleNamespace(pts=8384, duration=2**32 - 114, **known),
    ]
    end, jump = _last_end(packets, 0.0, 28_800.0)
    assert (end, jump) == (pytest.approx(8384 / 44100), None)


def test_the_tail_of_a_large_file_is_measured(clip, monkeypatch):
    monkeypatch.setattr("affuse.media.decoding._SCAN_BYTES", 0)
    assert Recording.open(clip).duration == pytest.approx(6.0, abs=0.03)


def test_a_stream_that_begins_late_does_not_stop_the_others(tmp_path):
    tones = [
        [Tone(440, 15.0)],
        [Tone(440, 2.0, start=15.0), Tone(1000, 2.0, start=15.0)],
        [Tone(440, 50.0, start=17.0)],
    ]
    parts = [write(tmp_path / f"part{i}.ts", [], t).read_bytes() for i, t in enumerate(tones)]
    (tmp_path / "sound.ts").write_bytes(b"".join(parts))
    with av.open(str(tmp_path / "sound.ts")) as container:
        assert len(container.streams) == 1  # the second one lies beyond what FFmpeg looks at when it opens a file
    recording = Recording.open(tmp_path / "sound.ts")
    assert recording.duration == pytest.approx(67.0, abs=0.2)
    assert len(whole(recording)) / SAMPLE_RATE == pytest.approx(67.0, abs=0.2)


# Pictures and texts


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp"])
def test_pictures(tmp_path, suffix):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(bars(0b10010110)).save(path)
    recording = Recording.open(path)
    assert (recording.kind, recording.duration, recording.has_sound) == ("picture", 0.0, False)
    frames = list(recording.frames([0.0, 0.5, 1.0]))
    assert [f.time for f in frames] == [0.0, 0.5]  # a picture fills its nominal second
    assert number_of(frames[0].image) == 0b10010110
    assert next(recording.frames([0.0], max_side=32)).image.shape == (24, 32, 3)


def test_exif_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    Image.fromarray(bars(3)).save(tmp_path / "phone.jpg", exif=exif)
    image = next(Recording.open(tmp_path / "phone.jpg").frames([0.0])).image
    assert image.shape == (WIDTH, HEIGHT, 3)
    assert number_of(np.rot90(image, 1)) == 3


def test_transparent_and_deep_pictures(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert next(Recording.open(tmp_path / "clear.png").frames([0.0])).image.min() == 255
    Image.fromarray(np.full((4, 4), 128 << 8, np.uint16)).save(tmp_path / "deep.png")
    assert np.unique(next(Recording.open(tmp_path / "deep.png").frames([0.0])).image).tolist() == [128]


@pytest.mark.parametrize("suffix", ["gif", "png"])
def test_animations_are_videos(tmp_path, suffix):
    images = [Image.fromarray(bars(i)) for i in range(4)]
    path = tmp_path / f"moving.{suffix}"
    images[0].save(path, save_all=True, append_images=images[1:], duration=[100, 300, 100, 100], loop=0)
    recording = Recording.open(path)
    assert recording.kind == "video"
    assert [number_of(f.image) for f in recording.frames([0.0, 0.15, 0.39, 0.4, 0.5])] == [0, 1, 1, 2, 3]


def test_animated_webp_is_a_picture_with_a_note(tmp_path):
    images = [Image.fromarray(bars(i)) for i in range(2)]
    images[1].save(tmp_path / "a.webp", save_all=True, append_images=images[:1], duration=100)
    recording = Recording.open(tmp_path / "a.webp")
    assert recording.kind == "picture"
    assert "first picture" in recording.notes[0]


def test_bare_text():
    recording = Recording.from_text("I can't believe it! Really.")
    assert (recording.kind, recording.duration, recording.path) == ("text", 0.0, None)
    assert [c.text for c in recording.cues] == ["I can't believe it!", "Really."]
    assert recording.cues[0].segment == Segment(0.0, 19 / 26)
    assert recording.cues[-1].segment.end == recording.span.end == 1.0
    assert (list(recording.frames([0.0])), recording.has_frames, recording.has_sound) == ([], False, False)
    assert [len(w) for w in recording.sound(Timeline((recording.span,)))] == [0]
    with pytest.raises(MediaError, match="text is empty"):
        Recording.from_text(" \n")


def test_a_transcript_alone_is_a_text(tmp_path):
    (tmp_path / "talk.srt").write_text(SRT.format("07"))
    recording = Recording.open(tmp_path / "talk.srt")
    assert (recording.kind, recording.duration, len(recording.cues)) == ("text", 7.0, 1)
    (tmp_path / "note.txt").write_text("So it is.")
    assert Recording.open(tmp_path / "note.txt").duration == 0.0
    with pytest.raises(ConfigError, match="transcript itself"):
        Recording.open(tmp_path / "talk.srt", transcript=tmp_path / "note.txt")
    (tmp_path / "blank.txt").write_text("\n\n")
    with pytest.raises(MediaError, match=r"blank\.txt holds no words"):
        Recording.open(tmp_path / "blank.txt")


def test_transcripts_of_recordings(tmp_path, clip):
    (tmp_path / "fits.srt").write_text(SRT.format("06"))
    assert Recording.open(clip, transcript=tmp_path / "fits.srt").cues[0].text == "Hello there."
    (tmp_path / "long.srt").write_text(SRT.format("09"))
    with pytest.raises(TranscriptError, match=r"long\.srt.*last cue ends at 9\.0 s, the recording lasts 6\.0 s"):
        Recording.open(clip, transcript=tmp_path / "long.srt")
    (tmp_path / "plain.txt").write_text("One two. Three four.")
    recording = Recording.open(clip, transcript=tmp_path / "plain.txt")
    assert recording.cues[-1].segment.end == pytest.approx(recording.duration)
    assert "estimated" in recording.notes[0]
    (tmp_path / "none.srt").write_text("")
    assert Recording.open(clip, transcript=tmp_path / "none.srt").notes == ("the transcript none.srt holds no words",)
    with pytest.raises(TranscriptError, match=r"absent\.srt does not exist"):
        Recording.open(clip, transcript=tmp_path / "absent.srt")


# What is wrong with a file


def test_missing_folder_and_empty(tmp_path):
    with pytest.raises(MediaError, match=r"nowhere\.mp4 does not exist"):
        Recording.open(tmp_path / "nowhere.mp4")
    with pytest.raises(MediaError, match="is a folder, not a recording"):
        Recording.open(tmp_path)
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(MediaError, match=r"empty\.mp4 is empty \(0 bytes\)"):
        Recording.open(tmp_path / "empty.mp4")


def test_a_file_that_vanishes_after_opening(tmp_path):
    recording = Recording.open(write(tmp_path / "gone.mp4", [0.0, 0.04], [Tone(440, 1.0)]))
    (tmp_path / "gone.mp4").unlink()
    with pytest.raises(MediaError, match=r"gone\.mp4"):
        list(recording.frames([0.0]))
    with pytest.raises(MediaError, match=r"gone\.mp4"):
        whole(recording)


@pytest.mark.parametrize("text", ["hello\n", "A long story about feelings. " * 2000])
def test_text_in_disguise(tmp_path, text):
    (tmp_path / "story.mp4").write_text(text)
    with pytest.raises(MediaError, match=r"story\.mp4 "):
        Recording.open(tmp_path / "story.mp4")


def test_a_list_of_other_files_is_refused(tmp_path, clip):
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n{clip}\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.m3u8").write_text(playlist)
    with pytest.raises(MediaError, match=r"list\.m3u8"):
        Recording.open(tmp_path / "list.m3u8")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.ts\n#EXT-X-ENDLIST\n"),
        ("list.mp4", "ffconcat version 1.0\nfile other.ts\n"),
    ],
)
def test_a_list_of_files_opens_none_of_them(tmp_path: Path, name: str, text: str) -> None:
    """Reading the header of a list would open what it names, here a pipe that somebody waits to write into."""
    os.mkfifo(tmp_path / "other.ts")
    (tmp_path / name).write_text(text)
    opened, over = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            try:
                os.close(os.open(tmp_path / "other.ts", os.O_WRONLY | os.O_NONBLOCK))
                opened.set()
            except OSError:
                continue  # nobody reads

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with pytest.raises(MediaError, match="is no recording in a format that is read here, but a text, a list of"):
            Recording.open(tmp_path / name)
    finally:
        over.set()
        watcher.join()
    assert not opened.is_set()


def test_no_streams_of_ours(tmp_path):
    path = write(tmp_path / "clip.mkv", np.arange(5) / 25)
    data = path.read_bytes()
    assert data.count(b"\x83\x81\x01") == 1  # the type of the track: video
    data = data.replace(b"\x83\x81\x01", b"\x83\x81\x11")  # subtitles
    path.write_bytes(data.replace(b"V_MPEG4/ISO/ASP", b"S_TEXT/UTF8\0\0\0\0"))
    with pytest.raises(MediaError, match=r"clip\.mkv holds neither video nor sound \(streams: subtitle\)"):
        Recording.open(path)


def test_subtitles_in_disguise_are_no_recording(tmp_path):
    (tmp_path / "subtitles.mkv").write_text(SRT.format("02"))
    with pytest.raises(MediaError, match=r"subtitles\.mkv is no recording in a format that is read here"):
        Recording.open(tmp_path / "subtitles.mkv")


def _rename_video_codec(path: Path) -> Path:
    data = path.read_bytes()
    assert data.count(b"V_MPEG4/ISO/ASP") == 1
    path.write_bytes(data.replace(b"V_MPEG4/ISO/ASP", b"V_UNHEARD/OF/XX"))
    return path


def test_unsupported_codec(tmp_path):
    odd = _rename_video_codec(write(tmp_path / "odd.mkv", np.arange(25) / 25))
    with pytest.raises(
        MediaError, match=r"odd\.mkv holds nothing that can be decoded \(.*no decoder for its video codec"
    ):
        Recording.open(odd)


def test_unsupported_video_leaves_the_sound(tmp_path):
    odd = _rename_video_codec(write(tmp_path / "odd.mkv", np.arange(25) / 25, [Tone(440, 1.0)]))
    recording = Recording.open(odd)
    assert (recording.kind, recording.has_frames) == ("audio", False)
    assert recording.notes == ("the video was left out: this FFmpeg has no decoder for its video codec",)
    assert loudest_hertz(whole(recording)) == pytest.approx(440, abs=1)


def test_cut_off_in_the_middle_is_analysed_with_a_note(tmp_path):
    path = write(tmp_path / "whole.mp4", np.arange(250) / 25, options={"movflags": "faststart"}, keyframes=5)
    data = path.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: len(data) * 6 // 10])
    recording = Recording.open(cut)
    assert 3.0 < recording.duration < 8.0
    assert recording.notes[0].startswith("the file states 10.0 s, but its data end at")
    numbers = [number_of(f.image) for f in recording.frames(np.arange(0, 10, 0.2))]
    assert numbers == list(range(0, 5 * len(numbers), 5))
    assert len(numbers) == pytest.approx(recording.duration / 0.2, abs=2)


def test_cut_off_before_its_index_is_refused(tmp_path, clip):
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with pytest.raises(MediaError, match=r"cut\.mp4 is damaged, cut off or not a recording"):
        Recording.open(cut)


def test_damage_in_the_middle_is_skipped_and_noted(tmp_path):
    path = write(tmp_path / "clip.mp4", np.arange(250) / 25, keyframes=5)
    with av.open(str(path)) as container:
        spans = [
            (p.pos, p.size) for p in container.demux(video=0) if 100 <= round(25 * (p.pts or 0) * p.time_base) < 150
        ]
    data = bytearray(path.read_bytes())
    for position, size in spans:
        data[position : position + size] = b"\xff" * size
    path.write_bytes(data)
    recording = Recording.open(path)
    frames = {round(f.time, 2): number_of(f.image) for f in recording.frames(np.arange(250) / 25)}
    assert [frames[t] for t in (0.0, 3.8, 8.0, 9.96)] == [0, 95, 200, 249]
    assert 5.0 not in frames  # a stale picture is no evidence
    assert "damaged pieces of the video could not be decoded" in recording.notes[0]
    assert "near 4.0 s" in recording.notes[0]


def test_a_broken_clock_ends_the_recording_with_a_note(tmp_path):
    path = write(tmp_path / "jump.mkv", [*np.arange(50) / 25, *(4000 + np.arange(50) / 25)], keyframes=5)
    recording = Recording.open(path)
    assert recording.duration == pytest.approx(2.0, abs=0.1)
    assert recording.notes[0].startswith("the times in the file jump from 2.0 s to 4000.0 s")


def test_damage_throughout_is_refused(tmp_path):
    path = write(tmp_path / "clip.mp4", np.arange(50) / 25)
    with av.open(str(path)) as container:
        spans = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for position, size in spans:
        data[position : position + size] = b"\xff" * size
    path.write_bytes(data)
    with pytest.raises(
        MediaError, match=r"holds nothing that can be decoded \(its video \(mpeg4\) is empty or damaged"
    ):
        Recording.open(path)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_damaged_pictures(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(MediaError, match=rf"photo\.{suffix} is a damaged picture"):
        list(Recording.open(path).frames([0.0]))


def test_heic_is_named(tmp_path):
    (tmp_path / "phone.heic").write_bytes(struct.pack(">I4s4s", 24, b"ftyp", b"heic") + bytes(64))
    with pytest.raises(MediaError, match=r"phone\.heic is a HEIC picture"):
        Recording.open(tmp_path / "phone.heic")


# Length and real files


def test_memory_does_not_grow_with_length(tmp_path):
    def peak(seconds: int) -> int:
        path = write_looped(tmp_path / f"{seconds}.mkv", seconds)
        tracemalloc.start()
        try:
            recording = Recording.open(path)
            heard = sum(len(w) for w in recording.sound(Timeline.windows(recording.duration, 3.0, 2.0)))
            seen = sum(1 for _ in recording.frames(np.arange(0, seconds, 1.0)))
            assert (heard > 1.4 * seconds * SAMPLE_RATE, seen) == (True, seconds)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(30)  # what is imported and cached once does not count
    short, long = peak(30), peak(600)
    assert long < 1.1 * short + 100_000  # the timeline itself holds one segment every two seconds


def write_looped(path: Path, seconds: int) -> Path:
    """Repeat the packets of one second: a long file without encoding it."""
    second = write(path.with_suffix(".one.mkv"), np.arange(5) / 5, [Tone(440, 1.0, rate=16_000)], rate=5)
    with av.open(str(second)) as source, av.open(str(path), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
        packets = [(p.stream_index, bytes(p), p.pts, p.time_base, p.is_keyframe) for p in source.demux() if p.size]
        for loop in range(seconds):
            for index, data, pts, base, keyframe in sorted(packets, key=lambda p: p[2]):
                packet = av.Packet(data)
                packet.stream, packet.time_base, packet.is_keyframe = streams[index], base, keyframe
                packet.pts = packet.dts = pts + round(loop / base)
                out.mux(packet)
    return path


CLIPS = {  # seconds as ffprobe's container duration states them (and the picture)
    "WolfgangLanger_Pexels.mp4": 19.69,
    "bbaf2n.mpg": 3.0,
    "lrwp9a.mpg": 3.0,
    "multi_face.jpg": 0.0,
    "no_face.mp4": 3.945,
    "obama_speech.mp4": 8.713,
    "pwij3p.mpg": 3.0,
    "single_face.mp4": 2.419,
    "swiz3n.mpg": 3.0,
}


@pytest.mark.parametrize("name", CLIPS)
def test_real_clips(name):
    folder = os.environ.get("AFFUSE_DATA")
    if not folder or not (Path(folder) / "clips" / name).is_file():
        pytest.skip("AFFUSE_DATA does not name a folder with clips")
    recording = Recording.open(Path(folder) / "clips" / name)
    assert recording.duration == pytest.approx(CLIPS[name], abs=0.05)
    times = np.arange(0, recording.span.end - 0.1, 0.25)
    frames = list(recording.frames(times, max_side=160))
    assert [f.time for f in frames] == times.tolist()
    assert all(f.image.std() > 5 for f in frames)
    if recording.kind == "video":
        sound = whole(recording)
        assert len(sound) / SAMPLE_RATE == pytest.approx(recording.duration, abs=0.1)
        assert np.sqrt(np.mean(sound**2)) < 0.5
    assert recording.notes == ()
