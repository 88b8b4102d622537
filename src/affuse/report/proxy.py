"""A small copy of a recording that every browser plays: H.264 and AAC in an MP4 of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from heapq import merge
from pathlib import Path
from typing import Any

import numpy as np

from affuse.media.containers import open_container
from affuse.media.decoding import good_frames

__all__ = ["SMOOTH_SECONDS", "Proxy", "write_proxy"]

SMOOTH_SECONDS = 30.0
"""Longer recordings are copied with their key frames alone, which takes a tenth of the time."""

_SIDE = 640  # pixels of the longer side
_MOST_RATE = 12  # pictures a second
_LEAST_SOUND, _MOST_SOUND, _MOST_VIDEO = 24_000, 64_000, 600_000  # bits a second
_PICTURE = 80_000  # bits that a key frame may take; with fewer to spare, fewer are copied
_FULL = 0.9  # of the size that may be used: containers and rate control need some
_SOUND_RATE = 32_000
_CLOCK = Fraction(1, 1000)
_COPIED = ("yuv420p", "yuvj420p")  # what every browser decodes of H.264


@dataclass(frozen=True)
class Proxy:
    """The file, and whether it holds every picture that is needed to look smooth."""

    path: Path
    smooth: bool


def write_proxy(
    source: Path, path: Path, video: int | None, audio: int | None, duration: float, limit: int
) -> Proxy | None:
    """Copy two streams of a recording, by their indices, into ``path``; None where ``limit`` bytes do not do.

    ``duration`` is in seconds; times in the copy are those of the recording's clock. Pictures that are H.264 already
    are taken over as they are.
    """
    from av.error import FFmpegError

    rate = int(8 * _FULL * limit / max(duration, 1.0))  # bits a second
    if rate < (_LEAST_SOUND if video is None else 1.5 * _LEAST_SOUND):
        return None
    sound = max(_LEAST_SOUND, min(_MOST_SOUND, rate // 2)) if audio is not None else 0
    plan = _Plan(source, path, video, audio, sound, min(_MOST_VIDEO, rate - sound), duration <= SMOOTH_SECONDS)
    if plan.is_h264() and source.stat().st_size <= limit:
        try:
            return _checked(plan.run(_Copied), limit)
        except (FFmpegError, ValueError):
            path.unlink(missing_ok=True)  # some streams do not fit into an MP4 as they are
    return _checked(plan.run(_Encoded), limit)


def _checked(made: Proxy, limit: int) -> Proxy | None:
    if made.path.stat().st_size <= limit:
        return made
    made.path.unlink()
    return None


@dataclass
class _Plan:
    source: Path
    path: Path
    video: int | None
    audio: int | None
    sound_rate: int
    video_rate: int
    smooth: bool

    def is_h264(self) -> bool:
        if self.video is None:
            return False
        with open_container(self.source) as container:
            context: Any = container.streams[self.video].codec_context
            return context.name == "h264" and context.pix_fmt in _COPIED

    def run(self, pictures: type[_Copied | _Encoded]) -> Proxy:
        """One pass over each stream, side by side."""
        import av

        options = {"movflags": "+faststart"}
        with ExitStack() as stack:
            sources = [stack.enter_context(open_container(self.source)) for _ in range(2)]
            out = stack.enter_context(av.open(str(self.path), "w", format="mp4", options=options))
            # All streams are there before anything is written.
            parts: list[Iterator[Any]] = []
            if self.video is not None:
                parts.append(pictures(out, sources[0], self.video, self.video_rate, self.smooth).packets())
            if self.audio is not None:
                parts.append(_Sound(out, sources[1], self.audio, self.sound_rate).packets())
            for packet in merge(*parts, key=_time):  # what belongs together lies close together
                out.mux(packet)
        return Proxy(self.path, self.smooth or pictures is _Copied or self.video is None)


def _origin(container: Any) -> float:
    return (container.start_time or 0) / 1_000_000


def _time(packet: Any) -> float:
    at = packet.dts if packet.dts is not None else packet.pts
    return float((at or 0) * packet.time_base)


class _Copied:
    """The pictures as they are, in another container."""

    def __init__(self, out: Any, container: Any, index: int, rate: int, smooth: bool) -> None:
        self.container, self.video = container, container.streams[index]
        self.stream = out.add_stream_from_template(self.video)

    def packets(self) -> Iterator[Any]:
        begin = round(_origin(self.container) / self.video.time_base)
        for packet in self._decodable():
            packet.pts, packet.dts = packet.pts - begin, packet.dts - begin
            packet.stream = self.stream
            yield packet

    def _decodable(self) -> Iterator[Any]:
        """Packets with a time of decoding, which Matroska leaves out at the start."""
        waiting: list[Any] = []
        for packet in self.container.demux(self.video):
            if packet.pts is None:
                continue
            waiting.append(packet)
            if packet.dts is None:
                continue
            step = packet.duration or round(1 / (self.video.average_rate or 25) / self.video.time_base)
            for earlier, late in enumerate(reversed(waiting)):
                late.dts = packet.dts - earlier * step
            yield from waiting
            waiting = []


@dataclass
class _Encoded:
    """The pictures anew, small and upright."""

    out: Any
    container: Any
    index: int
    rate: int
    smooth: bool
    stream: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.video = self.container.streams[self.index]
        self.stream = self.out.add_stream("libx264", rate=_MOST_RATE)
        self.stream.pix_fmt = "yuv420p"
        context = self.stream.codec_context
        context.time_base = _CLOCK
        context.gop_size = 4 * _MOST_RATE if self.smooth else 8
        kilobits = self.rate // 1000
        context.options = {
            "preset": "veryfast",
            "crf": "30",
            "x264-params": f"vbv-maxrate={kilobits}:vbv-bufsize={2 * kilobits}:bframes=0",
        }

    def packets(self) -> Iterator[Any]:
        origin, decoder = _origin(self.container), self.video.codec_context
        decoder.thread_type = "AUTO"
        decoder.skip_frame = "DEFAULT" if self.smooth else "NONKEY"
        step = 1 / _MOST_RATE - 1e-3 if self.smooth else _PICTURE / self.rate
        last = -step
        for frame in good_frames(self.container, self.video):
            time = 0.0 if frame.time is None else max(0.0, frame.time - origin)
            if time < last + step:
                continue
            yield from self.stream.encode(self._small(frame, time))
            last = time
        yield from self.stream.encode()

    def _small(self, frame: Any, time: float) -> Any:
        import av

        wide = frame.width * float(self.video.sample_aspect_ratio or 1)
        scale = min(1.0, _SIDE / max(wide, frame.height))
        turned = frame.rotation % 180 != 0
        size = [max(2, 2 * round(scale * side / 2)) for side in (wide, frame.height)]
        if frame.rotation:
            picture = frame.to_ndarray(width=size[0], height=size[1], format="rgb24")
            small = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(np.rot90(picture, frame.rotation // 90)), format="rgb24"
            ).reformat(format="yuv420p")
        else:
            small = frame.reformat(width=size[0], height=size[1], format="yuv420p")
        if not self.stream.codec_context.is_open:
            self.stream.width, self.stream.height = size[::-1] if turned else size
        small.pts, small.time_base = round(time / _CLOCK), _CLOCK
        small.pict_type = 0
        return small


class _Sound:
    """The sound anew, in one channel."""

    def __init__(self, out: Any, container: Any, index: int, rate: int) -> None:
        self.container, self.audio = container, container.streams[index]
        self.stream = out.add_stream("aac", rate=_SOUND_RATE, layout="mono")
        self.stream.codec_context.bit_rate = rate

    def packets(self) -> Iterator[Any]:
        from av.audio.resampler import AudioResampler

        resampler = AudioResampler("fltp", "mono", _SOUND_RATE)
        begin: int | None = None
        written = 0
        for frame in good_frames(self.container, self.audio):
            if begin is None:
                begin = round(max(0.0, (frame.time or 0.0) - _origin(self.container)) * _SOUND_RATE)
            frame.pts = None
            for piece in resampler.resample(frame):
                piece.pts, piece.time_base = begin + written, Fraction(1, _SOUND_RATE)
                written += piece.samples
                yield from self.stream.encode(piece)
        for piece in resampler.resample(None):
            piece.pts, piece.time_base = (begin or 0) + written, Fraction(1, _SOUND_RATE)
            written += piece.samples
            yield from self.stream.encode(piece)
        yield from self.stream.encode()
