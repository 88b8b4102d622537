"""From a sample to the array that a network reads: sound, a face or a moving face."""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np

from affuse.data.own.samples import Sample
from affuse.errors import DataError
from affuse.experts.face.crop import cut_square, face_square
from affuse.experts.face.detect import FaceDetector, default_detector
from affuse.experts.face.expert import STILL_DETAIL
from affuse.media import SAMPLE_RATE, Recording
from affuse.media.pictures import read_picture
from affuse.timeline import Segment, Timeline

__all__ = ["clip", "face_of_still", "picture", "segment_of", "waveform"]

# As the face expert looks at stills and videos, so that a network learns on the crops that it will be given.
_STILL_SIDE = 1920
_MOVING_SIDE = 960

_KEPT_SECONDS = 3600.0  # recordings up to this length stay decoded while rows of them are read (230 MB)

Square = tuple[np.ndarray, float, float]


def segment_of(sample: Sample, recording: Recording) -> Segment:
    """The stretch of ``recording`` that a sample is about."""
    span = recording.span
    return Segment(sample.start or 0.0, span.end if sample.end is None else min(sample.end, span.end))


def waveform(sample: Sample) -> np.ndarray:
    """The sound of a sample.

    Parameters
    ----------
    sample : Sample
        A moment of a recording with sound.

    Returns
    -------
    array of float32, shape (n,)
        Mono samples at 16 kHz, from -1 to 1.

    Raises
    ------
    DataError
        If the sample names no recording.
    MediaError
        If the recording cannot be decoded.

    Examples
    --------
    >>> from affuse.testing import synthetic
    >>> path = synthetic.write_clip(Path("clip.mp4"), seconds=2.0)
    >>> waveform(Sample("row 1", path, start=0.5, end=1.0)).shape
    (8000,)
    """
    recording = _open(sample)
    segment = segment_of(sample, recording)
    if (sample.start is None and sample.end is None) or recording.duration > _KEPT_SECONDS:
        (samples,) = recording.sound(Timeline((segment,)))
        return samples
    assert recording.path is not None
    whole = _whole(recording.path, recording.path.stat().st_mtime_ns)
    return whole[round(segment.start * SAMPLE_RATE) : round(segment.end * SAMPLE_RATE)].copy()


@lru_cache(maxsize=1)
def _whole(path: Path, changed: int) -> np.ndarray:
    """All sound of a recording; rows of one recording usually follow each other."""
    recording = Recording.open(path)
    (samples,) = recording.sound(Timeline((recording.span,)))
    return samples


def picture(sample: Sample, size: int, channels: int) -> np.ndarray:
    """The face of a sample.

    A crop is only resized. Else the largest face is cut out as the face expert does; without one, the centre square.
    Of a video the frame in the middle counts.

    Parameters
    ----------
    sample : Sample
        A picture, or a moment of a video.
    size : int
        Height and width in pixels.
    channels : {1, 3}
        1 for grey, 3 for RGB.

    Returns
    -------
    array of uint8, shape (channels, size, size)

    Raises
    ------
    DataError
        If there is no picture.
    MediaError
        If the file cannot be decoded.

    Examples
    --------
    >>> crop = Sample("row 1", pixels=np.full((48, 48), 128, dtype=np.uint8))
    >>> picture(crop, 64, 1).shape
    (1, 64, 64)
    """
    if sample.pixels is not None:
        return _planes(_cut(_rgb(sample.pixels), None, size), channels)
    recording = _open(sample)
    if recording.kind == "picture":
        assert recording.path is not None
        image = read_picture(recording.path, _STILL_SIDE)
        square = None if sample.framed else face_of_still(recording.path)
    else:
        image = _frame_at(recording, segment_of(sample, recording).middle, sample.where)
        square = None if sample.framed else _face_in(image, _moving_detector())
    return _planes(_cut(image, square, size), channels)


def clip(sample: Sample, frames: int, size: int) -> np.ndarray:
    """The moving face of a sample; a picture is repeated.

    All frames show the same square, so that the face moves in it: the median of the faces found, or the centre
    without any.

    Parameters
    ----------
    sample : Sample
        A moment of a video, or a picture.
    frames : int
        Number of frames, evenly over the time of the sample.
    size : int
        Height and width in pixels.

    Returns
    -------
    array of uint8, shape (3, frames, size, size)
        RGB.

    Raises
    ------
    DataError
        If there is no picture.
    MediaError
        If the file cannot be decoded.

    Examples
    --------
    >>> crop = Sample("row 1", pixels=np.full((48, 48), 128, dtype=np.uint8))
    >>> clip(crop, 8, 64).shape
    (3, 8, 64, 64)
    """
    if sample.pixels is not None:
        return np.repeat(picture(sample, size, 3)[:, None], frames, axis=1)
    recording = _open(sample)
    if recording.kind == "picture":
        return np.repeat(picture(sample, size, 3)[:, None], frames, axis=1)
    segment = segment_of(sample, recording)
    times = segment.start + segment.duration * (np.arange(frames) + 0.5) / frames
    shown = {frame.time: frame.image for frame in recording.frames(times, max_side=_MOVING_SIDE)}
    if not shown:
        raise DataError(f"{sample.where}: {recording.name} shows nothing from {segment.start:.2f} s on")
    square = None if sample.framed else _steady_square(list(shown.values()))
    cut = {time: _cut(image, square, size) for time, image in shown.items()}
    known = np.array(list(cut))
    nearest = [known[np.abs(known - time).argmin()] for time in times]  # a lost frame shows the one next to it
    return np.stack([cut[time] for time in nearest]).transpose(3, 0, 1, 2)


def face_of_still(path: Path) -> Square | None:
    """The square of the largest face in a picture file, in the picture that `picture` reads; None without a face.

    Centre (2,) and side in pixels, roll in radians. Remembered, for detection takes longer than all else.
    """
    return _remembered_face(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1 << 17)
def _remembered_face(path: Path, changed: int) -> Square | None:
    return _face_in(read_picture(path, _STILL_SIDE), _still_detector())


def _face_in(image: np.ndarray, detector: FaceDetector) -> Square | None:
    found = detector.detect(image)
    sure = np.flatnonzero(found.scores >= 0.5)
    if len(sure) == 0:
        return None
    best = sure[found.boxes[sure, 2:].prod(axis=1).argmax()]
    return face_square(found.boxes[best], found.landmarks[best], detector.framing)


def _frame_at(recording: Recording, time: float, where: str) -> np.ndarray:
    frame = next(recording.frames([time], max_side=_MOVING_SIDE), None)
    if frame is None:
        raise DataError(f"{where}: {recording.name} shows nothing at {time:.2f} s")
    return frame.image


def _cut(image: np.ndarray, square: Square | None, size: int) -> np.ndarray:
    return _resized(_centre_square(image), size) if square is None else cut_square(image, *square, size)


@cache
def _still_detector() -> FaceDetector:
    return default_detector(STILL_DETAIL)


@cache
def _moving_detector() -> FaceDetector:
    return default_detector()


def _steady_square(images: list[np.ndarray]) -> Square | None:
    squares = [square for image in images if (square := _face_in(image, _moving_detector())) is not None]
    if not squares:
        return None
    centres, sides, rolls = zip(*squares, strict=True)
    return np.median(centres, axis=0), float(np.median(sides)), float(np.median(rolls))


def _open(sample: Sample) -> Recording:
    if sample.path is None:
        raise DataError(f"{sample.where} names no file")
    return Recording.open(sample.path)


def _rgb(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB) if pixels.ndim == 2 else pixels


def _centre_square(image: np.ndarray) -> np.ndarray:
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    if image.shape[0] == size:
        return image
    shrinks = image.shape[0] > size
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _planes(image: np.ndarray, channels: int) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[None] if channels == 1 else image.transpose(2, 0, 1).copy()
