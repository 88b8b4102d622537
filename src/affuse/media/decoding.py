"""Timed frames and samples out of any container, by FFmpeg through PyAV.

All times are seconds on the clock of the recording, which starts where the earliest of its chosen streams starts.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from affuse.budget import DEFAULT_BUDGET, Budget, budget_in_use
from affuse.errors import ConfigError, MediaError
from affuse.media.containers import SAMPLE_RATES, is_taken, open_container

__all__ = [
    "SAMPLE_RATE",
    "TOLERANCE",
    "Chunk",
    "Converter",
    "Damage",
    "GreyConverter",
    "Probe",
    "Shown",
    "chunks",
    "good_frames",
    "is_large",
    "probe",
    "shown_frames",
]

SAMPLE_RATE = 16_000
"""Samples per second of all sound."""

# PyAV types every exception that FFmpeg may raise under this class; some also derive from OSError or ValueError.
_FAILURE = av.error.FFmpegError

# Formats whose header states no duration: FFmpeg guesses it from the bit rate or from the last times that it finds.
_UNSTATED = (
    *("aac", "ac3", "amr", "dts", "eac3", "h264", "hevc", "loas", "m4v", "mp3", "mpegvideo", "truehd"),
    *("mpeg", "mpegts"),
)

# Files up to this size are read through for their duration; of larger ones that state it only the tail is.
_SCAN_BYTES = 8_000_000
_TAIL_SECONDS = 10.0

# A stated duration holds where the data end within this of it: encoders pad the last packet of sound.
_PADDING_SECONDS = 0.25

# Data that end more than this before the stated duration are cut off.
_CUT_OFF_SECONDS = 1.0

# A longer hole between packets is taken for a broken clock (a damaged timestamp, a broadcast's programme change).
_JUMP_SECONDS = 300.0

_SHORTEST_SECONDS = 0.001

# Timestamps of sound jitter by the container's rounding (1 ms in Matroska and FLV); beyond this is a gap or an overlap.
_JITTER = round(0.04 * SAMPLE_RATE)

# A first frame later than this after its stream's stated start means that the start is damaged.
_START_SECONDS = 0.25

_DEFAULT_FRAME_SECONDS = 0.04

TOLERANCE = 1e-6
"""Seconds: two times closer than this are the same. Rounding in a float must not show the frame before."""

# Decoders that can leave out single pictures which no other one refers to, told so from one packet to the next.
_SELECTIVE = frozenset(("h264", "hevc"))

_LARGE = 1_000_000  # pixels: more than 1280 x 720
_SMALL = 200_000  # pixels: less than 640 x 360

# Packets that are looked at ahead to know when the next picture starts; coders put a picture back by 16 at most.
_MOST_AHEAD = 32

# Formats whose first plane is the brightness, a byte a pixel.
_BRIGHTNESS_FIRST = frozenset(
    f"{family}{order}p" for family in ("yuv", "yuvj") for order in ("420", "422", "440", "444")
) | {"nv12", "nv21"}
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
_EXPANDED = np.clip(np.round((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Probe:
    """What was found at the start and the end of a file: stream indices (None = absent), clock and remarks.

    ``origin`` is the time in the file where the recording's clock starts, ``sound_start`` the time on that clock where
    the sound starts; ``aspect`` is a stored pixel's width over its height, ``channels`` counts those of the sound.
    """

    video: int | None = None
    audio: int | None = None
    origin: float = 0.0
    duration: float = 0.0
    aspect: float = 1.0
    notes: tuple[str, ...] = ()
    channels: int = 0
    sound_start: float = 0.0


@dataclass
class Damage:
    """Counts the pieces of one stream that could not be decoded; times in seconds after ``origin``."""

    origin: float = 0.0
    count: int = 0
    first: float | None = None

    def add(self, time: float | None) -> None:
        """Remember one damaged piece that lies near ``time``."""
        self.count += 1
        if self.count == 1 and time is not None:
            self.first = max(0.0, time - self.origin)

    def describe(self, kind: str) -> str:
        """One sentence for the user."""
        if self.count == 1:
            where = "" if self.first is None else f" near {self.first:.1f} s"
            return f"a damaged piece of the {kind}{where} could not be decoded and was left out"
        where = "" if self.first is None else f", the first near {self.first:.1f} s"
        return f"{self.count} damaged pieces of the {kind} could not be decoded and were left out{where}"


class Shown(NamedTuple):
    """A decoded frame and when it is on screen, in seconds."""

    start: float
    end: float
    frame: VideoFrame


class Chunk(NamedTuple):
    """Samples (c, n) float32 of all channels; ``position`` is the first one's place on the clock, in samples."""

    position: int
    samples: np.ndarray


def probe(path: Path, audio_stream: int | None = None, budget: Budget = DEFAULT_BUDGET) -> Probe:
    """Choose the streams of a file, decode the first frame of each and find where they end.

    Raises MediaError where nothing can be decoded or the budget does not suffice, ConfigError where ``audio_stream`` is
    out of range.
    """
    with open_container(path, budget) as container:
        streams, notes = _choose(container, path, audio_stream)
        for stream in streams:
            _check_size(stream, path, budget)
        starts = _first_times(container, [s for s in streams if is_taken(s)], path, budget)
        usable = [s for s in streams if s.index in starts]
        if not usable:
            raise MediaError(f"{path} holds nothing that can be decoded ({_reasons(streams, budget)})")
        notes += [f"the {s.type} was left out: {_reasons([s], budget)}" for s in streams if s not in usable]
        origin = min(_stream_start(s, starts[s.index]) for s in usable)
        duration, cut_off = _measure(container, path, [s.index for s in usable], origin, budget)
        kinds = {s.type: s for s in usable}
        sound = kinds.get("audio")
        return Probe(
            video=kinds["video"].index if "video" in kinds else None,
            audio=None if sound is None else sound.index,
            origin=origin,
            duration=duration,
            aspect=_aspect(kinds["video"]) if "video" in kinds else 1.0,
            notes=(*notes, *cut_off),
            channels=0 if sound is None else sound.codec_context.channels,
            sound_start=0.0 if sound is None else _stream_start(sound, starts[sound.index]) - origin,
        )


def _check_size(stream: Any, path: Path, budget: Budget) -> None:
    """Refuse frames by the size that the header states; the decoder refuses those that turn out larger."""
    if stream.type != "video" or stream.codec_context is None:
        return
    width, height = stream.codec_context.width, stream.codec_context.height
    if why := budget.excess("max_pixels", width * height):
        raise MediaError(f"{path} has frames of {width} x {height} pixels; {why}")


def _choose(container: InputContainer, path: Path, audio_stream: int | None) -> tuple[list[Any], list[str]]:
    # Cover art and chapter thumbnails are streams of type video, but nothing that happens in the recording.
    unmoving = Disposition.attached_pic | Disposition.timed_thumbnails
    videos = [s for s in container.streams.video if not s.disposition & unmoving]
    audios = list(container.streams.audio)
    if not videos and not audios:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "none"
        raise MediaError(f"{path} holds neither video nor sound (streams: {kinds})")
    if audio_stream is not None and not 0 <= audio_stream < len(audios):
        count = "1 audio stream" if len(audios) == 1 else f"{len(audios)} audio streams"
        raise ConfigError(f"{path} has {count}, counted from 0; got audio_stream {audio_stream}")
    chosen: list[Any] = []
    notes = []
    if videos:
        best = container.streams.best("video")
        chosen.append(best if best in videos else videos[0])
    if audios:
        favourite = container.streams.best("audio")
        taken = (
            audio_stream if audio_stream is not None else next((i for i, a in enumerate(audios) if a is favourite), 0)
        )
        chosen.append(audios[taken])
        if audio_stream is None and len(audios) > 1:
            notes.append(f"of {len(audios)} audio streams number {taken} was taken (counted from 0)")
    return chosen, notes


def _reasons(streams: Sequence[Any], budget: Budget) -> str:
    return "; ".join(_reason(s, budget) for s in streams)


def _reason(stream: Any, budget: Budget) -> str:
    codec = stream.codec_context
    if codec is None:
        return f"this FFmpeg has no decoder for its {stream.type} codec"
    if not is_taken(stream):
        return f"its {stream.type} codec ({codec.name}) is none that is read here"
    if stream.type == "audio" and codec.sample_rate and not _is_heard(codec.sample_rate):
        low, high = SAMPLE_RATES
        return f"its audio has {codec.sample_rate:,} samples a second; {low:,} to {high:,} are read"
    damaged = f"its {stream.type} ({codec.name}) is empty or damaged throughout"
    if stream.type == "video" and not codec.width * codec.height:  # what a decoder leaves that refused a size
        return f"{damaged}, or its frames are too large: {budget.named('max_pixels')}"
    return damaged


def _is_heard(rate: int) -> bool:
    return SAMPLE_RATES[0] <= rate <= SAMPLE_RATES[1]


def _first_times(container: InputContainer, streams: Sequence[Any], path: Path, budget: Budget) -> dict[int, float]:
    """Time of the first frame that decodes, by stream index; streams without any are missing."""
    found: dict[int, float] = {}
    if not streams:
        return found
    for packet in _within(_packets(container, streams, Damage()), path, budget):
        if packet.stream_index in found:
            continue
        for frame in _decode(packet, Damage(), budget):
            found.setdefault(packet.stream_index, 0.0 if frame.time is None else frame.time)
        if len(found) == len(streams):
            break
    return found


def _within(packets: Iterable[Any], path: Path, budget: Budget) -> Iterator[Any]:
    """The packets, as long as the budget holds them; raises MediaError at the first one too many."""
    found = {"max_packets": 0, "max_frames": 0}
    for packet in packets:
        if packet.size:  # the flush at the end has none
            found["max_packets"] += 1
            found["max_frames"] += packet.stream.type == "video"
            for name, count in found.items():
                if why := budget.excess(name, count):
                    raise MediaError(f"{path} holds more {name.removeprefix('max_')} than are read; {why}")
        yield packet


def _aspect(stream: Any) -> float:
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 0.25 < aspect < 4.0 else 1.0  # beyond that the file lies


def _stream_start(stream: Any, first: float) -> float:
    if stream.start_time is None:
        return first
    stated = float(stream.start_time * stream.time_base)
    # The first frame is exact (encoder delay is cut away) unless damage has swallowed what came before it.
    return stated if first > stated + _START_SECONDS else first


def _measure(
    container: InputContainer, path: Path, indices: Sequence[int], origin: float, budget: Budget
) -> tuple[float, list[str]]:
    """Duration from ``origin`` to the end of the last packet, and a note where the file states a longer one."""
    stated = None
    if container.duration is not None and container.format.name not in _UNSTATED:
        stated = (container.duration + (container.start_time or 0)) / av.time_base - origin
    latest = origin + budget.max_duration
    end = None
    if stated is not None and container.size > _SCAN_BYTES:
        end = _tail_end(container, indices, stated + origin, latest)
    if end is None:
        with open_container(path, budget) as fresh:
            packets = _packets(fresh, [fresh.streams[i] for i in indices], Damage())
            end, jump = _last_end(_within(packets, path, budget), origin, latest)
        if jump is not None:
            what = f"the times in the file jump from {end - origin:.1f} s to {jump - origin:.1f} s"
            return max(end - origin, _SHORTEST_SECONDS), [f"{what}; what follows was left out"]
    duration = max(end - origin, _SHORTEST_SECONDS)
    notes = []
    if stated is not None and abs(stated - duration) <= _PADDING_SECONDS:
        duration = stated
    elif stated is not None and stated - duration > _CUT_OFF_SECONDS:
        notes = [f"the file states {stated:.1f} s, but its data end at {duration:.1f} s: it is cut off"]
    if why := budget.excess("max_duration", duration):  # counting has ended there
        raise MediaError(f"{path} lasts {max(stated or 0.0, duration):,.1f} s or more; {why}")
    return duration, notes


def _tail_end(container: InputContainer, indices: Sequence[int], stated_end: float, latest: float) -> float | None:
    if stated_end > latest:
        return None  # is it so? Only reading from the beginning tells
    try:
        container.seek(int(max(0.0, stated_end - _TAIL_SECONDS) * av.time_base))
    except _FAILURE:
        return None
    tail = _packets(container, [container.streams[i] for i in indices], Damage())
    end, jump = _last_end(tail, stated_end - _JUMP_SECONDS, latest)
    return end if jump is None and end > stated_end - _CUT_OFF_SECONDS else None


def _ticks(packet: Any) -> int:
    """Duration of a packet in ticks; below 0 for the last one of a short Ogg file, which ends before its samples do."""
    ticks = int(packet.duration or 0)
    return ticks - 2**32 if ticks >= 2**31 else ticks  # FFmpeg gives the difference as an unsigned number


def _last_end(packets: Iterable[Any], origin: float, latest: float) -> tuple[float, float | None]:
    """Time at which the last packet ends (``origin`` where there is none), and where times jump away, if they do.

    Reading ends at the first packet that ends after ``latest``.
    """
    end, jump = origin, None
    played: dict[int, float] = {}  # for streams whose packets have no times
    for packet in packets:
        if packet.size == 0 or packet.is_discard:  # the flush at the end; what an edit list has cut away
            continue
        length = float(_ticks(packet) * packet.time_base) or _packet_seconds(packet)
        at = packet.pts if packet.pts is not None else packet.dts
        start = played.get(packet.stream_index, 0.0) if at is None else float(at * packet.time_base)
        played[packet.stream_index] = start + length
        if start - end > _JUMP_SECONDS:
            jump = start if jump is None else jump
        else:
            end = max(end, start + length)
        if end > latest:
            break
    return end, jump


def _packet_seconds(packet: Any) -> float:
    return _frame_seconds(packet.stream) if packet.stream.type == "video" else 0.0


def _frame_seconds(stream: Any) -> float:
    return float(1 / stream.average_rate) if stream.average_rate else _DEFAULT_FRAME_SECONDS


def _packets(container: InputContainer, streams: Sequence[Any], damage: Damage) -> Iterator[Any]:
    """Demux until the end, or until the demuxer gives up, which counts as damage."""
    last = None
    while True:
        try:
            for packet in container.demux(*streams):
                last = packet.dts if packet.dts is None else float(packet.dts * packet.time_base)
                yield packet
            return
        except IndexError:
            # PyAV knows the streams of the header only and trips over one that begins later (usual in MPEG-TS).
            continue
        except _FAILURE:
            damage.add(last)
            return


def _is_measured(frame: Any, budget: Budget) -> bool:
    if isinstance(frame, AudioFrame):
        return _is_heard(frame.sample_rate)
    return not budget.excess("max_pixels", frame.width * frame.height)


def good_frames(container: InputContainer, stream: Any, budget: Budget | None = None) -> Iterator[Any]:
    """Frames of one stream from where the container stands, without what is damaged."""
    budget = budget_in_use() if budget is None else budget
    for packet in _packets(container, [stream], Damage()):
        yield from _decode(packet, Damage(), budget)


def _decode(packet: Any, damage: Damage, budget: Budget) -> list[Any]:
    """Frames of one packet, without those that the decoder itself calls corrupt or that are too large."""
    at = packet.pts if packet.pts is not None else packet.dts
    time = None if at is None else float(at * packet.time_base)
    try:
        frames = packet.decode()
    except (_FAILURE, EOFError):
        damage.add(time)
        return []
    good = [f for f in frames if not f.is_corrupt and _is_measured(f, budget)]
    if len(good) < len(frames) or packet.is_corrupt:
        damage.add(time)
    return good


@dataclass(frozen=True)
class _Pass:
    """One forward pass over one stream: yields (time, frame, whether something was lost just before)."""

    path: Path
    index: int
    origin: float
    damage: Damage
    budget: Budget
    times: Iterator[float] | None = None  # at which pictures are looked at; at all where None
    others: Iterator[float] | None = None  # at which they are where decoding them is cheap

    def __iter__(self) -> Iterator[tuple[float, Any, bool]]:
        with open_container(self.path, self.budget) as container:
            stream: Any = container.streams[self.index]
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = _threads(stream)
            expected, losses = 0.0, 0
            packets = _within(_packets(container, [stream], self.damage), self.path, self.budget)
            if self.times is not None and stream.codec_context.name in _SELECTIVE:
                codec = stream.codec_context
                large = self.others is None or is_large(codec.width, codec.height)
                times = self.times if large else merge(self.times, self.others or ())
                packets = _only_needed(packets, codec, _Wanted(times, self.origin))
            for packet in packets:
                for frame in _decode(packet, self.damage, self.budget):
                    time = expected if frame.time is None else frame.time - self.origin
                    expected = time + _seconds(frame, stream)
                    yield time, frame, self.damage.count > losses
                    losses = self.damage.count


def _seconds(frame: Any, stream: Any) -> float:
    if isinstance(frame, AudioFrame):
        return frame.samples / frame.sample_rate
    return float(frame.duration * frame.time_base) if frame.duration else _frame_seconds(stream)


def _threads(stream: Any) -> int:
    """How many threads decode. More than cores: they go on while somebody looks at a picture.

    Where a stream is damaged each takes a good picture with it, so small pictures, which are fast, get few.
    """
    if stream.type != "video":
        return 1
    return 6 if stream.codec_context.width * stream.codec_context.height > _SMALL else 2


def is_large(width: int, height: int) -> bool:
    """Whether pictures are so large that decoding takes most of the time."""
    return width * height > _LARGE


class _Wanted:
    """The times, ascending, at which somebody looks at a video, on the recording's clock."""

    def __init__(self, times: Iterator[float], origin: float) -> None:
        self._times = times
        self._origin = origin
        self._known: list[float] = []
        self._over = False

    def within(self, start: float, end: float, no_more_before: float) -> bool:
        """Whether there is one in a stretch of the file's time; none will be asked for that lies before the third."""
        start, end = start - self._origin - TOLERANCE, end - self._origin + TOLERANCE
        while not self._over and (not self._known or self._known[-1] < end):
            time = next(self._times, None)
            self._over = time is None
            self._known += [] if time is None else [time]
        del self._known[: bisect_left(self._known, no_more_before - self._origin - TOLERANCE)]
        place = bisect_left(self._known, start)
        return place < len(self._known) and self._known[place] < end


def _only_needed(packets: Iterable[Any], codec: Any, wanted: _Wanted) -> Iterator[Any]:
    """The packets of a video, before each of which its decoder is told whether to leave out a picture.

    It leaves out those that nobody looks at and no other picture refers to. Where times are missing or run backwards
    nothing is left out any more.
    """
    held: deque[Any] = deque()
    starts: list[int] = []  # of the pictures that are held or were, in order of time
    last: int | None = None
    for packet in packets:
        ends = packet.size == 0
        sure = ends or (packet.dts is not None and packet.pts is not None and packet.dts <= packet.pts)
        if not sure or (not ends and last is not None and packet.dts < last):
            break
        held.append(packet)
        if not ends:
            last = packet.dts
            insort(starts, packet.pts)
        while held and held[0].size and (ends or len(held) > _MOST_AHEAD or _is_settled(starts, held[0].pts, last)):
            yield _told(codec, held.popleft(), starts, wanted)
        if ends:
            codec.skip_frame = "DEFAULT"
            yield held.popleft()
    else:
        return
    codec.skip_frame = "DEFAULT"
    yield from held
    yield packet
    yield from packets


def _is_settled(starts: Sequence[int], start: int, last: int | None) -> bool:
    """Whether the next picture is known: whatever comes has times after ``last``, that of the last packet."""
    after = bisect_right(starts, start)
    return last is not None and after < len(starts) and starts[after] <= last


def _told(codec: Any, packet: Any, starts: list[int], wanted: _Wanted) -> Any:
    after = bisect_right(starts, packet.pts)
    end = float(starts[after] * packet.time_base) if after < len(starts) else np.inf
    needed = wanted.within(float(packet.pts * packet.time_base), end, float(packet.dts * packet.time_base))
    codec.skip_frame = "DEFAULT" if needed else "NONREF"
    del starts[: bisect_left(starts, packet.dts)]
    return packet


def shown_frames(
    path: Path,
    index: int,
    origin: float,
    damage: Damage,
    budget: Budget = DEFAULT_BUDGET,
    times: Iterator[float] | None = None,
    others: Iterator[float] | None = None,
) -> Iterator[Shown]:
    """Every frame of a video stream in order of time; one is on screen until the next one starts.

    Where something was lost in between, a frame stays for its own length only: what came after it is unknown. Where
    ``times`` (ascending) are given, frames on screen at none of them may be missing, and others stay in their stead;
    so may those at ``others``, in a video of large frames (`is_large`).
    """
    held: tuple[float, float, VideoFrame] | None = None
    for time, frame, lost in _Pass(path, index, origin, damage, budget, times, others):
        length = float(frame.duration * frame.time_base) if frame.duration else _DEFAULT_FRAME_SECONDS
        if held is not None:
            start, own, shown = held
            if time <= start:
                continue  # broken timestamps that run backwards
            yield Shown(start, min(time, start + own) if lost else time, shown)
        held = (time, length, frame)
    if held is not None:
        start, own, shown = held
        yield Shown(start, start + own, shown)


class Converter:
    """Turns frames into upright RGB uint8 (h, w, 3) with square pixels, the longer side at most ``max_side``."""

    def __init__(self, aspect: float, max_side: int | None) -> None:
        self._aspect = aspect
        self._max_side = max_side
        self._scaler = VideoReformatter()  # keeps FFmpeg's tables from one frame to the next

    def __call__(self, frame: VideoFrame) -> np.ndarray | None:
        """The picture of a frame, or None where damage made one that FFmpeg cannot convert."""
        width, height = frame.width * self._aspect, float(frame.height)
        scale = 1.0 if self._max_side is None else min(1.0, self._max_side / max(width, height))
        try:
            rgb = self._scaler.reformat(
                frame,
                width=max(1, round(width * scale)),
                height=max(1, round(height * scale)),
                format="rgb24",
                interpolation="AREA" if scale < 1.0 else "BILINEAR",
            )
        except _FAILURE:
            return None
        return np.ascontiguousarray(np.rot90(rgb.to_ndarray(), k=round(frame.rotation / 90)))


class GreyConverter:
    """Turns frames into upright grey uint8 (h, w) with square pixels, the longer side at most ``max_side``.

    Most videos hold the brightness by itself, so that this takes a fraction of the time of a `Converter`.
    """

    def __init__(self, aspect: float, max_side: int) -> None:
        self._aspect = aspect
        self._max_side = max_side
        self._convert = Converter(aspect, max_side)

    def __call__(self, frame: VideoFrame) -> np.ndarray | None:
        """The picture of a frame, or None where damage made one that FFmpeg cannot convert."""
        if frame.format.name not in _BRIGHTNESS_FIRST:
            image = self._convert(frame)
            return None if image is None else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        plane = frame.planes[0]
        grey: np.ndarray
        grey = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        width, height = frame.width * self._aspect, float(frame.height)
        scale = min(1.0, self._max_side / max(width, height))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        if frame.color_range != _FULL_RANGE and not frame.format.name.startswith("yuvj"):
            grey = cv2.LUT(grey, _EXPANDED)
        return np.ascontiguousarray(np.rot90(grey, k=round(frame.rotation / 90)))


def chunks(path: Path, index: int, origin: float, damage: Damage, budget: Budget = DEFAULT_BUDGET) -> Iterator[Chunk]:
    """The sound of an audio stream at 16 kHz, all channels, in pieces of about a second that never overlap.

    Pieces follow each other without a break unless the timestamps jump by more than 40 ms.
    """
    held: list[Chunk] = []
    length = 0
    for piece in _pieces(path, index, origin, damage, budget):
        follows = held and piece.position == held[0].position + length and len(piece.samples) == len(held[0].samples)
        if held and (length >= SAMPLE_RATE or not follows):
            yield _joined(held)
            held, length = [], 0
        held.append(piece)
        length += piece.samples.shape[1]
    if held:
        yield _joined(held)


def _joined(pieces: Sequence[Chunk]) -> Chunk:
    return Chunk(pieces[0].position, np.concatenate([piece.samples for piece in pieces], axis=1))


def _pieces(path: Path, index: int, origin: float, damage: Damage, budget: Budget) -> Iterator[Chunk]:
    """The sound in pieces as long as the codec's frames, each of which takes time to handle."""
    resampler: _Resampler | None = None
    position = 0
    for time, frame, _ in _Pass(path, index, origin, damage, budget):
        at = round(time * SAMPLE_RATE)
        if resampler is None or not resampler.continues(frame, at):
            if resampler is not None:
                yield from _forward(resampler.flush(), position)
                position = max(position, resampler.written)
            resampler = _Resampler(frame, at)
        try:
            pieces = resampler.push(frame)
        except (_FAILURE, ValueError):  # a damaged header makes channels that nobody can mix
            damage.add(origin + time)
            resampler = None
            continue
        yield from _forward(pieces, position)
        position = max(position, resampler.written)
    if resampler is not None:
        yield from _forward(resampler.flush(), position)


def _forward(pieces: Iterable[Chunk], position: int) -> Iterator[Chunk]:
    """Cut away what lies before ``position``, where timestamps have jumped back."""
    for piece in pieces:
        late = max(0, position - piece.position)
        if late < piece.samples.shape[1]:
            yield Chunk(piece.position + late, piece.samples[:, late:])


class _Resampler:
    """Resamples one unbroken run of sound that starts at sample ``start`` of the clock."""

    def __init__(self, frame: AudioFrame, start: int) -> None:
        self._form = _form(frame)
        self._resampler = AudioResampler(format="fltp", layout=frame.layout, rate=SAMPLE_RATE)
        self._start = start
        self._read = 0.0  # samples that went in, counted at 16 kHz
        self.written = start

    def continues(self, frame: AudioFrame, at: int) -> bool:
        """Whether a frame at sample ``at`` follows on what was read, in the same sample format, rate and layout."""
        return _form(frame) == self._form and abs(self._start + self._read - at) <= _JITTER

    def push(self, frame: AudioFrame) -> list[Chunk]:
        self._read += frame.samples * SAMPLE_RATE / frame.sample_rate
        frame.pts = None  # the position is counted, and jittering times would make FFmpeg complain
        return self._collect(self._resampler.resample(frame))

    def flush(self) -> list[Chunk]:
        return self._collect(self._resampler.resample(None))

    def _collect(self, frames: Sequence[AudioFrame | None]) -> list[Chunk]:
        pieces = []
        for frame in frames:
            if frame is None:  # what PyAV gives on a flush where nothing had to be resampled
                continue
            samples = frame.to_ndarray()
            pieces.append(Chunk(self.written, samples))
            self.written += samples.shape[1]
        return pieces


def _form(frame: AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate
