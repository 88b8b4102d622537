"""From a detected face to the 48 x 48 grey picture that the expression network learned on."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

__all__ = [
    "CROP_SIZE",
    "HAAR_FRAMING",
    "LARGEST_CROP",
    "YUNET_FRAMING",
    "Framing",
    "crop_face",
    "cut_square",
    "face_square",
    "roll_of",
    "surroundings",
]

CROP_SIZE = 48
LARGEST_CROP = 64
"""Pixels: a square picture up to this size, from a folder or a corpus, is taken for a face crop already."""

_SURROUNDINGS = 2.0  # sides of the crop: hair, neck and collar
_FINER = 4  # times the pixels of the result that a picture of the surroundings keeps while it is cut out


@dataclass(frozen=True)
class Framing:
    """How a detector's box becomes the square that FER2013 shows: forehead to chin, ears cut.

    The square's side is ``scale`` times the geometric mean of the box's width and height; its centre lies ``up`` sides
    above the mean of the landmarks (of the box, for a detector without landmarks), along the face.
    """

    scale: float
    up: float


# Measured on random training pictures of FER+, padded by 24 pixels of their own reflection and doubled in size: medians
# in the coordinates of the 48 x 48 picture. FER2013 was cut out by a cascade like Haar's, hence the near identity
# there: 1,192 boxes with sides of 47.0 around (24.0, 24.0). YuNet: 2,287 boxes of 38 x 50, landmarks around (24.2,
# 27.9); the landmarks' mean scatters less (1.7 and 2.1 pixels) than the box's centre (2.4 and 2.4), and no mix of them
# improves on the box's size.
HAAR_FRAMING = Framing(scale=1.02, up=0.0)
YUNET_FRAMING = Framing(scale=1.10, up=0.08)


def crop_face(
    image: np.ndarray,
    box: np.ndarray,
    landmarks: np.ndarray,
    framing: Framing,
    size: int = CROP_SIZE,
    channels: int = 1,
) -> np.ndarray:
    """Cut a face out of an RGB uint8 picture (h, w, 3), eyes level where they are known.

    Returns grey uint8 (size, size), or RGB (size, size, 3) where ``channels`` is 3. ``box`` (4,) is x, y, width, height
    and ``landmarks`` (5, 2) are x, y, in pixels, NaN where unknown. What lies beyond the edge of the picture repeats
    its last row or column.
    """
    centre, side, roll = face_square(box, landmarks, framing)
    square = cut_square(image, centre, side, roll, size)
    return square if channels == 3 else cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)


def face_square(box: np.ndarray, landmarks: np.ndarray, framing: Framing) -> tuple[np.ndarray, float, float]:
    """The square that `crop_face` cuts out: centre (2,) and side in pixels, roll in radians."""
    side = framing.scale * float(np.sqrt(box[2] * box[3]))
    roll = roll_of(landmarks)
    anchor = landmarks.mean(axis=0) if np.isfinite(landmarks).all() else box[:2] + box[2:] / 2
    return anchor + framing.up * side * np.array([np.sin(roll), -np.cos(roll)]), side, roll


def surroundings(image: np.ndarray, box: np.ndarray, framing: Framing, size: int) -> np.ndarray:
    """A face with hair, neck and collar, upright: RGB uint8 (size, size, 3)."""
    side = _SURROUNDINGS * framing.scale * float(np.sqrt(box[2] * box[3]))
    centre = box[:2] + box[2:] / 2
    part, corner, step = _reduced(image, centre, side, _FINER * size)
    return cut_square(part, (centre - corner) / step, side / step, 0.0, size)


def _reduced(image: np.ndarray, centre: np.ndarray, side: float, least: int) -> tuple[np.ndarray, np.ndarray, int]:
    """The part of a picture around a square, reduced by a whole number so that ``side`` keeps ``least`` pixels.

    Returns the part, where its corner lies (x, y) in pixels of the picture, and the number. Means over whole blocks
    cost a third of turning the square at the picture's own resolution.
    """
    step = max(1, int(side // least))
    if step == 1:
        return image, np.zeros(2), 1
    corner = np.floor(centre - side / 2).astype(int) - 2 * step
    count = int(side // step) + 5
    end = corner + count * step
    height, width = image.shape[:2]
    before, after = np.maximum(0, -corner), np.maximum(0, end - [width, height])
    part = image[max(0, corner[1]) : end[1], max(0, corner[0]) : end[0]]
    borders = int(before[1]), int(after[1]), int(before[0]), int(after[0])
    whole = cv2.copyMakeBorder(part, *borders, cv2.BORDER_REPLICATE) if any(borders) else part
    return cv2.resize(whole, (count, count), interpolation=cv2.INTER_AREA), corner, step


def roll_of(landmarks: np.ndarray) -> float:
    """Angle in radians of the line through the eyes, clockwise as seen; 0 where the eyes are unknown."""
    across = landmarks[1] - landmarks[0]
    return float(np.arctan2(across[1], across[0])) if np.isfinite(across).all() else 0.0


def cut_square(image: np.ndarray, centre: np.ndarray, side: float, roll: float, size: int) -> np.ndarray:
    """Cut a square with ``side`` (pixels) and ``roll`` (radians) around ``centre`` (2,) out of RGB uint8 (h, w, 3).

    Returns uint8 (size, size, 3); what lies beyond the edge of the picture repeats its last row or column.
    """
    # Rotating at the picture's own resolution and averaging areas afterwards avoids the aliasing of a direct warp.
    cut = max(size, round(side))
    zoom = cut / max(side, 1e-6)
    c, s = zoom * np.cos(roll), zoom * np.sin(roll)
    forward = np.array([[c, s, 0.0], [-s, c, 0.0]])
    # Pixel centres lie at whole numbers, the middle of the square between them.
    forward[:, 2] = (cut - 1) / 2 - forward[:, :2] @ (np.asarray(centre, dtype=float) - 0.5)
    straight = cv2.warpAffine(image, forward, (cut, cut), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return straight if cut == size else cv2.resize(straight, (size, size), interpolation=cv2.INTER_AREA)
