"""Pictures and films in which faces are blurred until nobody can be recognised by them."""

from __future__ import annotations

import mmap
from bisect import bisect_right
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame

from affuse.errors import MediaError
from affuse.media.decoding import Converter, Damage, shown_frames
from affuse.media.recording import Recording

__all__ = ["FacePlaces", "FilmFrame", "blurred", "film_frames", "is_blurred_copy", "write_film", "write_picture"]

_MARK = "faces blurred by affuse"  # in the metadata of a copy, by which it is known as ours
_MARGIN = 0.35  # of width and height on each side of a box: hair, chin and ears are outside of a detector's box
_CELLS = 4  # to which the longer side of a face is reduced; too few for anybody, or a detector, to see a face in them
_LARGEST = 1280  # pixels of the longer side of a copy
_EXACT = 1e-6  # pixels by which fractions miss whole ones
_LEAST = 16  # pixels of a side that every encoder takes

_HOLD = 1.0  # seconds before the first and after the last detection of a face in which its place is blurred as well
_GAP = 5.0  # seconds between two detections that may be of one face
_REACH = 1.5  # sides of a face that it may move between two detections, and again in each second between them

_TICKS = 1000  # a second
_ENCODERS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "24", "preset": "veryfast", "bf": "0"},
    "libopenh264": {},
    "libvpx-vp9": {"crf": "36", "b": "0", "deadline": "realtime", "cpu-used": "6"},
}
"""Encoders whose films all current browsers play, with their options; the first that FFmpeg has is taken."""


class FilmFrame(NamedTuple):
    """A picture of a film, RGB uint8 (h, w, 3), upright, and when it is on screen, in seconds."""

    start: float
    end: float
    image: np.ndarray


class FacePlaces:
    """Where faces are over time, from detections at some times; boxes are fractions of the picture.

    Between two detections of a face the smallest rectangle that holds both counts, so that no frame between them shows
    it wherever it moves. Its first and last place count for another second before and after.
    """

    def __init__(self) -> None:
        self._tracks: list[tuple[list[float], list[np.ndarray]]] = []

    def add(self, time: float, boxes: np.ndarray) -> None:
        """Take the detections (n, 4) of one time: x, y, width, height. Times must not run backwards."""
        free = [track for track in self._tracks if time - track[0][-1] <= _GAP]
        for box in boxes:
            near = [(distance, n) for n, track in enumerate(free) if (distance := _distance(track, time, box)) < 1]
            if near:
                times, places = free.pop(min(near)[1])
            else:
                times, places = [], []
                self._tracks.append((times, places))
            times.append(time)
            places.append(np.asarray(box, dtype=float))

    def at(self, time: float) -> np.ndarray:
        """The places (n, 4) to blur at a time."""
        found = []
        for times, places in self._tracks:
            if times[0] - _HOLD <= time <= times[-1] + _HOLD:
                after = bisect_right(times, time)
                found.append(_hull(places[max(0, after - 1)], places[min(after, len(places) - 1)]))
        return np.array(found).reshape(-1, 4)


def _distance(track: tuple[list[float], list[np.ndarray]], time: float, box: np.ndarray) -> float:
    """How far a box is from the last place of a face; 1 is as far as it may have moved since."""
    last = track[1][-1]
    moved = float(np.hypot(*(box[:2] + box[2:] / 2 - last[:2] - last[2:] / 2)))
    reach = _REACH * (1 + time - track[0][-1]) * float(max(*box[2:], *last[2:]))
    return moved / max(reach, 1e-9)


def _hull(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    corner = np.minimum(a[:2], b[:2])
    return np.concatenate([corner, np.maximum(a[:2] + a[2:], b[:2] + b[2:]) - corner])


def blurred(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """A picture RGB uint8 (h, w, 3) in which boxes (n, 4), fractions of it, are blurred with a margin around them.

    What is in a box is averaged over 4 x 4 areas at most, of which no face can be made again.
    """
    image = image.copy()
    height, width = image.shape[:2]
    for x, y, w, h in boxes:
        left, right = _pixels(x, w, width)
        top, bottom = _pixels(y, h, height)
        if right <= left or bottom <= top:
            continue
        size = right - left, bottom - top
        step = max(1, round(max(size) / _CELLS))
        cells = max(1, size[0] // step), max(1, size[1] // step)
        small = cv2.resize(image[top:bottom, left:right], cells, interpolation=cv2.INTER_AREA)
        image[top:bottom, left:right] = cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)
    return image


def _pixels(start: float, length: float, whole: int) -> tuple[int, int]:
    """First pixel and the one after the last of a stretch with its margin; fractions become whole pixels outwards."""
    first, last = (start - _MARGIN * length) * whole, (start + (1 + _MARGIN) * length) * whole
    return int(np.floor(max(0.0, first + _EXACT))), int(np.ceil(min(whole, last - _EXACT)))


def film_frames(recording: Recording, max_side: int = _LARGEST) -> Iterator[FilmFrame]:
    """Every picture of a video, in order of time."""
    parts = recording._parts
    if recording.path is None or parts.video is None:
        return
    convert = Converter(parts.aspect, max_side)
    for start, end, frame in shown_frames(recording.path, parts.video, parts.origin, Damage(), recording.budget):
        image = convert(frame)
        if image is not None:
            yield FilmFrame(start, end, image)


def write_film(recording: Recording, part: Path, places: Callable[[float], np.ndarray]) -> None:
    """Write an MP4 with the pictures of a video, without sound and metadata, on the clock of the recording.

    ``places`` gives the boxes (n, 4) to blur at a time. Raises MediaError where there is no picture to write.
    """
    with av.open(str(part), "w", format="mp4", options={"movflags": "+faststart"}) as film:
        film.metadata["comment"] = _MARK
        pen: _Pen | None = None
        last = FilmFrame(0.0, 0.0, np.empty((0, 0, 3), np.uint8))
        for frame in film_frames(recording):
            # What is on screen until the next picture comes is blurred where faces are now and where they are then.
            image = blurred(frame.image, np.concatenate([places(frame.start), places(frame.end)]))
            if pen is None:
                pen = _Pen(film, image.shape)
                if frame.start > 1 / _TICKS:  # players begin with the first picture, but sound was there before
                    pen.write(0.0, np.zeros_like(image))
            pen.write(frame.start, image)
            last = FilmFrame(frame.start, frame.end, image)
        if pen is None:
            raise MediaError(f"{recording.name} has no picture that can be decoded")
        pen.write(max(last.end, recording.duration) - 1 / 25, last.image)  # so that the copy is as long
        pen.close()


class _Pen:
    """Encodes pictures at times into a film."""

    def __init__(self, film: Any, shape: tuple[int, ...]) -> None:
        self._film = film
        self._size = max(_LEAST, shape[1] // 2 * 2), max(_LEAST, shape[0] // 2 * 2)
        name = _encoder()
        self._stream = film.add_stream(name, rate=25, options=_ENCODERS[name])
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _TICKS)
        self._tick = -1

    def write(self, time: float, image: np.ndarray) -> None:
        """Show a picture from a time on; one that comes within the same tick is left out."""
        tick = round(time * _TICKS)
        if tick <= self._tick:
            return
        self._tick = tick
        if image.shape[1::-1] != self._size:
            image = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)
        frame = VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base = tick, Fraction(1, _TICKS)
        self._film.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what the encoder still holds."""
        self._film.mux(self._stream.encode())


@cache
def _encoder() -> str:
    for name in _ENCODERS:
        try:
            av.codec.Codec(name, "w")
        except ValueError:  # PyAV's UnknownCodecError
            continue
        return name
    raise MediaError(f"this FFmpeg has none of the encoders {', '.join(_ENCODERS)}, so that no video can be written")


def write_picture(image: np.ndarray, part: Path, boxes: np.ndarray) -> None:
    """Write a picture RGB uint8 (h, w, 3) as a JPEG whose boxes (n, 4), fractions of it, are blurred."""
    from PIL import Image

    Image.fromarray(blurred(image, boxes)).save(part, "JPEG", quality=88, comment=_MARK.encode())


def is_blurred_copy(path: Path) -> bool:
    """Whether a file was written by `write_film` or `write_picture`."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(_MARK.encode()) >= 0
