"""The mouths of people who are followed: small grey pictures, 25 a second, upright and of one size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from affuse.experts.base import ExpertOutput
from affuse.experts.face.crop import cut_square
from affuse.experts.face.expert import MAX_SIDE
from affuse.media import Recording

__all__ = [
    "EDGE",
    "GAP",
    "LONGEST_GAP",
    "MOUTH_RATE",
    "MOUTH_SIZE",
    "FacePath",
    "cut_mouth",
    "face_points",
    "mouth_between",
    "mouth_times",
    "mouths",
]

MOUTH_RATE = 25
"""Pictures of a mouth a second: at 3 a second the movement of speech cannot be seen."""

MOUTH_SIZE = 28
"""Pixels of the side of such a picture."""

GAP = 1.2
"""Seconds between two sightings of a face over which its place is interpolated."""

LONGEST_GAP = 0.2
"""Seconds between two pictures between which a mouth is taken to move evenly."""

EDGE = 0.34
"""Seconds before its first and after its last sighting for which a face is taken to be there."""

_SIDE = 1.5  # sides of the picture, in distances from the eyes to the mouth
_DOWN = 0.1  # of that distance; the chin moves more than the nose
# Where eyes and mouth lie in a box without landmarks, in shares of its width and height: medians of the landmarks that
# YuNet finds in the boxes of the Haar cascade, in which faces are upright.
_IN_BOX = np.array([[0.32, 0.39], [0.68, 0.39], [0.50, 0.62], [0.34, 0.79], [0.67, 0.79]])


@dataclass(frozen=True)
class FacePath:
    """Where a face is over time.

    Parameters
    ----------
    times : array of shape (m,)
        Seconds at which the face was seen, ascending.
    points : array of shape (m, 5, 2)
        Right eye, left eye, nose tip, right and left corner of the mouth: x and y as fractions of the picture.

    Examples
    --------
    >>> path = FacePath(np.array([0.0, 1.0]), np.stack([np.full((5, 2), 0.2), np.full((5, 2), 0.4)]))
    >>> float(path.at(0.5)[0, 0]), path.at(2.0) is None
    (0.30000000000000004, True)
    """

    times: np.ndarray
    points: np.ndarray

    @classmethod
    def of(cls, output: ExpertOutput) -> FacePath:
        """The path of the person whom an output of a face expert is about.

        Parameters
        ----------
        output : ExpertOutput
            With the boxes of the face, and its landmarks where the detector finds some.

        Returns
        -------
        FacePath
        """
        known = len(output.landmarks) == len(output.times)
        landmarks = output.landmarks if known else np.full((len(output.times), 5, 2), np.nan)
        return cls(output.times, face_points(output.boxes, landmarks))

    def at(self, time: float) -> np.ndarray | None:
        """The points at some time.

        Parameters
        ----------
        time : float
            Seconds.

        Returns
        -------
        array of shape (5, 2), or None
            None where the face was not seen shortly before and after.
        """
        after = int(np.searchsorted(self.times, time))
        if after == 0:
            return self.points[0] if len(self.times) and self.times[0] - time <= EDGE else None
        if after == len(self.times):
            return self.points[-1] if time - self.times[-1] <= EDGE else None
        gap = self.times[after] - self.times[after - 1]
        if gap > GAP:
            return None
        share = (time - self.times[after - 1]) / gap
        return np.asarray(self.points[after - 1] + share * (self.points[after] - self.points[after - 1]))


def face_points(boxes: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Eyes, nose and mouth of faces, guessed from their boxes where they are unknown.

    Parameters
    ----------
    boxes : array of shape (…, 4)
        x, y, width and height.
    landmarks : array of shape (…, 5, 2)
        NaN where unknown.

    Returns
    -------
    array of shape (…, 5, 2)

    Examples
    --------
    >>> face_points(np.array([0.0, 0.0, 1.0, 2.0]), np.full((5, 2), np.nan))[0].tolist()
    [0.32, 0.78]
    """
    guessed = boxes[..., None, :2] + _IN_BOX * boxes[..., None, 2:]
    return np.where(np.isnan(landmarks), guessed, landmarks)


def mouth_times(duration: float) -> np.ndarray:
    """Times of the pictures of a recording.

    Parameters
    ----------
    duration : float
        Of the recording in seconds.

    Returns
    -------
    array of shape (n,)
        Seconds, `MOUTH_RATE` a second.

    Examples
    --------
    >>> mouth_times(0.1).tolist()
    [0.0, 0.04, 0.08]
    """
    return np.arange(int(np.ceil(duration * MOUTH_RATE - 1e-6))) / MOUTH_RATE


def mouths(
    recording: Recording, paths: Sequence[FacePath], size: int = MOUTH_SIZE
) -> Iterator[list[np.ndarray | None]]:
    """Cut the mouths out of a recording, which is decoded once.

    Parameters
    ----------
    recording : Recording
        A video.
    paths : sequence of m FacePath
        Where the faces are.
    size : int
        Pixels of the side of a picture. A larger one shows more around the mouth, at the same scale, as trainings need
        it to draw their own.

    Yields
    ------
    list of m arrays of shape (size, size), uint8, or None
        For every one of `mouth_times`; None where a face is not there, or the picture is lost.
    """
    times = mouth_times(recording.duration)
    number = 0
    for frame in recording.frames(times, max_side=MAX_SIDE):
        now = round(frame.time * MOUTH_RATE)
        while number < now:  # before the first picture, and inside lost stretches
            yield [None] * len(paths)
            number += 1
        yield [cut_mouth(frame.image, path.at(frame.time), size) for path in paths]
        number += 1
    for _ in range(number, len(times)):
        yield [None] * len(paths)


def cut_mouth(image: np.ndarray, points: np.ndarray | None, size: int = MOUTH_SIZE) -> np.ndarray | None:
    """Cut a mouth out of a picture.

    Parameters
    ----------
    image : array of shape (h, w, 3) or (h, w), uint8
        RGB or grey.
    points : array of shape (5, 2), or None
        As `FacePath.at` gives them.
    size : int
        Pixels of the side.

    Returns
    -------
    array of shape (size, size), uint8, or None
        None where there is no face, or where its eyes lie on its mouth.

    Examples
    --------
    >>> points = np.array([[0.4, 0.4], [0.6, 0.4], [0.5, 0.5], [0.42, 0.6], [0.58, 0.6]])
    >>> cut_mouth(np.zeros((240, 320), dtype=np.uint8), points).shape
    (28, 28)
    """
    if points is None:
        return None
    points = points * image.shape[1::-1]
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    down = mouth - eyes
    distance = float(np.hypot(*down))
    if distance < 1:
        return None
    roll = float(np.arctan2(-down[0], down[1]))
    side = _SIDE * distance * size / MOUTH_SIZE
    square = cut_square(image, mouth + _DOWN * down, side, roll, size)
    return square if square.ndim == 2 else cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)


def mouth_between(time: float, times: np.ndarray, mouth: Callable[[int], np.ndarray | None]) -> np.ndarray | None:
    """A mouth at a time at which perhaps no picture was taken, from those before and after it.

    Parameters
    ----------
    time : float
        Seconds.
    times : array of shape (n,)
        When pictures were taken, ascending.
    mouth : callable
        The mouth in the picture of some number, 0 to n - 1; None where it is not there.

    Returns
    -------
    array, or None
        The mean of both, by distance, or the only one. None where they are further away than `LONGEST_GAP`.

    Examples
    --------
    >>> mouths = [np.full((2, 2), 100, dtype=np.uint8), np.full((2, 2), 200, dtype=np.uint8)]
    >>> mouth_between(0.05, np.array([0.04, 0.08]), mouths.__getitem__)[0].tolist()
    [125, 125]
    """
    after = int(np.searchsorted(times, time - 1e-6))
    if after < len(times) and times[after] - time <= 1e-6:
        return mouth(after)
    near = [i for i in (after - 1, after) if 0 <= i < len(times) and abs(times[i] - time) <= LONGEST_GAP]
    found = [mouth(i) for i in near]
    if len(near) < 2:
        return found[0] if found else None
    a, b = found
    if a is None or b is None:
        return b
    if times[after] - times[after - 1] > LONGEST_GAP:
        return None
    share = (time - times[after - 1]) / (times[after] - times[after - 1])
    return cv2.addWeighted(a, 1 - share, b, share, 0.0)
