"""Faces for extractors: every item shows one person's face, once in a picture or several times in a film."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from affuse import weights
from affuse.errors import DataError
from affuse.experts.face import Detections, FaceDetector, Framing, YuNetDetector, crop_face, default_detector
from affuse.experts.face.crop import HAAR_FRAMING, LARGEST_CROP, face_square
from affuse.experts.face.expert import STILL_DETAIL
from affuse.features.base import Extractor
from affuse.features.items import Array, Clip, Item, NoEvidenceError
from affuse.features.sound import segment_of
from affuse.media import Recording

__all__ = ["RATE", "Face", "FaceExtractor", "faces_of"]

RATE = 3.0
"""Frames a second that are looked at in a film, as the face expert does."""

_MAX_SIDE = 960  # pixels
_SURE = 0.5  # score


@dataclass(frozen=True)
class Face:
    """One face in an RGB uint8 picture (h, w, 3): ``box`` (4,) and five ``landmarks`` (5, 2) as in `Detections`."""

    image: np.ndarray
    box: np.ndarray
    landmarks: np.ndarray
    framing: Framing

    def crop(self) -> np.ndarray:
        """Grey uint8 picture framed and sized as the face expert reads it."""
        return crop_face(self.image, self.box, self.landmarks, self.framing)

    def square(self) -> tuple[np.ndarray, float]:
        """Centre (2,) and side of its square in pixels, from forehead to chin."""
        centre, side, _ = face_square(self.box, self.landmarks, self.framing)
        return centre, side


def faces_of(item: Item) -> Iterator[Face]:
    """The surest large face of every picture of an item: one of a still, `RATE` a second of a film.

    A square picture of at most 64 pixels is taken for a crop, all of which is the face. Yields nothing where no face is
    found. Raises NoEvidenceError where there is no picture, MediaError where a file is broken, DataError where an array
    is no uint8 picture.
    """
    if isinstance(item, np.ndarray):
        yield from _faces_in(_rgb(item), _detector(STILL_DETAIL))
        return
    clip = item if isinstance(item, Clip) else Clip(Path(item))
    recording = Recording.open(clip.path)
    if not recording.has_frames:
        raise NoEvidenceError("no picture")
    if recording.kind == "picture":
        frame = next(recording.frames([0.0], max_side=2 * _MAX_SIDE))
        yield from _faces_in(frame.image, _detector(STILL_DETAIL))
        return
    segment = segment_of(clip, recording)
    times = np.arange(segment.start, segment.end, 1 / RATE)
    for frame in recording.frames(times.tolist(), max_side=_MAX_SIDE):
        yield from _faces_in(frame.image, _detector(1.0))


def _faces_in(image: np.ndarray, detector: FaceDetector) -> Iterator[Face]:
    height, width = image.shape[:2]
    if height == width <= LARGEST_CROP:
        yield Face(image, np.array([0.0, 0.0, width, height]), np.full((5, 2), np.nan), Framing(1.0, HAAR_FRAMING.up))
        return
    found = detector.detect(image)
    found = found[np.flatnonzero(found.scores >= _SURE)]
    if len(found):
        i = _foremost(found)
        yield Face(image, found.boxes[i], found.landmarks[i], detector.framing)


def _foremost(found: Detections) -> int:
    return int((found.boxes[:, 2] * found.boxes[:, 3]).argmax())


def _rgb(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise DataError(f"a picture is uint8 of shape (h, w) or (h, w, 3); got {image.dtype} of shape {image.shape}")
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image


@cache
def _detector(detail: float) -> FaceDetector:
    return default_detector(detail)


class FaceExtractor(Extractor):
    """Base of what single faces show: a subclass writes `describe`; a film is the mean over its frames with a face."""

    modality: ClassVar[str] = "face"
    libraries: ClassVar[tuple[str, ...]] = ("opencv-python-headless", "numpy")

    def describe(self, face: Face) -> Array:
        """Values (d,) of one face."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it measures")

    def look(self, item: Item) -> Array:
        """Mean (d,) over the faces of an item."""
        seen = [self.describe(face) for face in faces_of(item)]
        if not seen:
            raise NoEvidenceError("no face")
        return np.asarray(np.mean(seen, axis=0))

    def weights(self) -> dict[str, str]:
        """SHA-256 of the detector's weights, on which all crops depend."""
        detector = _detector(1.0)
        return {detector.name: weights.sha256_of(detector.path) if isinstance(detector, YuNetDetector) else "opencv"}
