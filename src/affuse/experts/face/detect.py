"""Face detectors: YuNet where its weights are at hand, else OpenCV's Haar cascade."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Protocol

import cv2
import numpy as np

from affuse import weights
from affuse.errors import AssetError
from affuse.experts.face.crop import HAAR_FRAMING, YUNET_FRAMING, Framing
from affuse.experts.face.yunet import YuNetNetwork

__all__ = ["Detections", "FaceDetector", "HaarDetector", "YuNetDetector", "checksums", "default_detector", "suppress"]


_YUNET_LEAST = 64  # pixels; smaller pictures get a black border
_YUNET_SIDE = 480
_LARGEST_ZOOM = 4.0  # beyond that a picture has nothing more to show


@dataclass(frozen=True)
class Detections:
    """Faces in one picture: ``boxes`` (n, 4) x, y, width, height in pixels, ``scores`` (n,) in 0…1, surest first.

    ``landmarks`` (n, 5, 2): the person's right eye, left eye, nose tip, right and left corner of the mouth, x and y in
    pixels; NaN where the detector finds none.
    """

    boxes: np.ndarray
    landmarks: np.ndarray
    scores: np.ndarray

    @classmethod
    def none(cls) -> Detections:
        """No face."""
        return cls(np.empty((0, 4)), np.empty((0, 5, 2)), np.empty(0))

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: np.ndarray | list[int]) -> Detections:
        return Detections(self.boxes[index], self.landmarks[index], self.scores[index])


class FaceDetector(Protocol):
    """Finds faces in RGB uint8 pictures (h, w, 3); a score of 0.5 or more says that it is a face rather than not.

    ``framing`` says how its boxes become the crops that the network reads.
    """

    name: str
    framing: Framing

    def detect(self, image: np.ndarray) -> Detections: ...


class YuNetDetector:
    """YuNet (Wu et al. 2023, doi:10.1007/s11633-023-1423-y), with five landmarks.

    Faces in real clips score about 0.94; the threshold 0.5 keeps blurred ones and those that fill the picture.

    Parameters
    ----------
    path: the network. Raises AssetError where it is none.
    side: pictures are reduced to this length of their longer side in pixels; the smallest face found is about 10 pixels
        wide after that.
    thorough: for stills. Smaller pictures are enlarged to ``side``, at most four times, and all are searched a second
        time at 480, where large faces are seen better: of faces of FER+ as pictures of 320 pixels, 98 % are found
        instead of 95.
    """

    name = "yunet"
    framing = YUNET_FRAMING

    def __init__(self, path: Path, side: int = _YUNET_SIDE, thorough: bool = False) -> None:
        self.path = path
        self.side = side
        self.thorough = thorough
        self._network = YuNetNetwork(path, threshold=0.5, overlap=0.3, most=200)

    def detect(self, image: np.ndarray) -> Detections:
        """Find the faces in an RGB uint8 picture (h, w, 3)."""
        faces = self._search(_resized(image, self.side, self.side if self.thorough else 0))
        if self.thorough:
            faces = np.concatenate([faces, self._search(_resized(image, _YUNET_SIDE, _YUNET_SIDE))])
        return suppress(Detections(faces[:, :4], faces[:, 4:14].reshape(-1, 5, 2), faces[:, 14]))

    def _search(self, resized: tuple[np.ndarray, float]) -> np.ndarray:
        """Faces (n, 15) in a resized picture: box, landmarks and score, in pixels of the original."""
        image, scale = resized
        faces = self._network(_padded(image, _YUNET_LEAST))
        return faces.astype(float) / np.append(np.full(14, scale), 1.0)


class HaarDetector:
    """The frontal Haar cascade that OpenCV brings (Viola & Jones 2001, doi:10.1109/CVPR.2001.990517); no landmarks.

    ``side``: pictures are reduced to this length of their longer side in pixels; the smallest face found is 24 pixels
    wide after that, so small faces are missed. The score is the logistic function of the cascade's last stage sum less
    2.5: with that threshold it found 57 of 58 faces in real clips and gave no false alarm in 51 scenes without faces
    (each at two sizes and mirrored), at 320 or 480 pixels; at 640 pixels it gave one in 7 % of them.
    """

    name = "haar"
    framing = HAAR_FRAMING

    def __init__(self, side: int = 320) -> None:
        self.side = side
        self._lock = Lock()  # a cascade keeps the picture that it searches
        path = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"
        self._cascade = cv2.CascadeClassifier(str(path))
        if self._cascade.empty():
            raise AssetError(f"{path} is missing or broken; install opencv-python-headless again")

    def detect(self, image: np.ndarray) -> Detections:
        """Find the faces in an RGB uint8 picture (h, w, 3)."""
        small, scale = _resized(image, self.side)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        with self._lock:
            boxes, _, sums = self._cascade.detectMultiScale3(
                grey, scaleFactor=1.15, minNeighbors=3, minSize=(24, 24), outputRejectLevels=True
            )
        if len(boxes) == 0:
            return Detections.none()
        scores = 1 / (1 + np.exp(2.5 - np.ravel(sums)))
        found = Detections(np.asarray(boxes, dtype=float) / scale, np.full((len(boxes), 5, 2), np.nan), scores)
        # Weak candidates (a stage sum of 1.5) stay in: they carry a track over a hard moment, but none alone.
        return suppress(found[np.flatnonzero(scores > 0.27)])


def default_detector(detail: float = 1.0) -> FaceDetector:
    """YuNet where its weights are at hand, else the Haar cascade.

    ``detail`` multiplies the size at which pictures are searched; above 1, YuNet searches thoroughly.
    Raises AssetError where YuNet's weights are wrong.
    """
    path = weights.find("yunet")
    if path is None:
        return HaarDetector(round(320 * detail))
    return YuNetDetector(path, round(_YUNET_SIDE * detail), thorough=detail > 1)


def checksums(detector: FaceDetector) -> dict[str, str]:
    """SHA-256 of a detector's weights by its name; empty for one that has no file of its own."""
    return {detector.name: weights.sha256_of(detector.path)} if isinstance(detector, YuNetDetector) else {}


def suppress(found: Detections, overlap: float = 0.4) -> Detections:
    """Keep the surest of detections that share more than ``overlap`` of the smaller one's area; surest first.

    Measured on the smaller box, not by intersection over union: a box around a face and half a shoulder goes too.
    """
    # Ties are broken by place: OpenCV searches in parallel, so its own order is not the same every time.
    order = np.lexsort((found.boxes[:, 1], found.boxes[:, 0], -found.scores))
    kept: list[int] = []
    for i in order:
        if all(_covered(found.boxes[i], found.boxes[j]) <= overlap for j in kept):
            kept.append(int(i))
    return found[kept]


def _covered(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return float(max(0.0, width) * max(0.0, height) / max(1e-9, min(a[2] * a[3], b[2] * b[3])))


def _padded(image: np.ndarray, least: int) -> np.ndarray:
    """The picture with rows and columns of black added below and to the right until both sides reach ``least``."""
    below, right = max(0, least - image.shape[0]), max(0, least - image.shape[1])
    return cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT) if below or right else image


def _resized(image: np.ndarray, most: int, least: int = 0) -> tuple[np.ndarray, float]:
    """The picture with ``least`` to ``most`` pixels on its longer side, and the factor by which it grew."""
    longer = max(image.shape[:2])
    scale = min(float(np.clip(longer, least, most)) / longer, _LARGEST_ZOOM)
    if scale == 1:
        return image, 1.0
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), scale
